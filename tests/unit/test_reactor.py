"""The reactor: whoever waits pumps, everybody is told, and nobody waits for a socket that is gone."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from dompbus.errors import ClosedError
from dompbus.runtime.memory import Dealer, Router
from dompbus.runtime.reactor import Reactor

SECONDS = 10.0
NEVER = 2**63


class Worker:
    """Counts its calls; wants to be called at `next_ns`."""

    def __init__(self) -> None:
        self.calls = 0
        self.next_ns = NEVER
        self.todo: list[Callable[[], None]] = []
        self.broken: Exception | None = None

    def work(self, now_ns: int) -> int:
        self.calls += 1
        if self.broken is not None:
            raise self.broken
        while self.todo:
            self.todo.pop(0)()
        if now_ns >= self.next_ns:
            self.next_ns = NEVER
        return self.next_ns

    def has_work(self) -> bool:
        return bool(self.todo)


class World:
    """A reactor with one port, and the other end of it."""

    def __init__(self, name: str) -> None:
        self.worker = Worker()
        self.reactor = Reactor(self.worker)
        self.router = Router(1_000)
        self.router.bind(name)
        self.got: list[bytes] = []
        self.dealer = Dealer(1_000)
        self.dealer.connect(name)
        self.port = self.reactor.add("router", self.router, lambda parts: self.got.append(parts[1]))

    def close(self) -> None:
        self.reactor.close(lambda: None)
        self.dealer.close()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(f"memory://reactor-{request.node.name}")
    yield world
    world.close()


def soon() -> int:
    return time.monotonic_ns() + int(SECONDS * 1e9)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.001)


def test_a_turn_passes_on_what_has_come_and_works(world: World) -> None:
    for number in range(5):
        world.dealer.send([b"%d" % number])
    assert world.reactor.turn() is None
    assert world.got == [b"0", b"1", b"2", b"3", b"4"]
    assert world.worker.calls >= 1
    assert world.reactor.turns == 1
    world.worker.next_ns = due = soon()
    assert world.reactor.turn() == due


def test_a_wait_pumps_until_it_is_ready(world: World) -> None:
    threading.Timer(0.02, lambda: world.dealer.send([b"late"])).start()
    assert world.reactor.wait(lambda: world.got == [b"late"], soon())
    assert world.reactor.wait(lambda: True)


def test_a_wait_ends_at_its_deadline(world: World) -> None:
    started = time.monotonic()
    assert not world.reactor.wait(lambda: False, time.monotonic_ns() + 30_000_000)
    assert 0.02 < time.monotonic() - started < 5
    assert not world.reactor.wait(lambda: False, time.monotonic_ns() - 1)


def test_a_wait_does_what_is_due_meanwhile(world: World) -> None:
    world.worker.next_ns = time.monotonic_ns() + 10_000_000
    assert world.reactor.wait(lambda: world.worker.next_ns == NEVER, soon())


def test_threads_that_wait_are_served_by_the_one_that_pumps(world: World) -> None:
    """Each waits for its own message, whoever receives it."""
    waiting = [
        threading.Thread(target=lambda at=at: world.reactor.wait(lambda: b"%d" % at in world.got, soon()))
        for at in range(6)
    ]
    for thread in waiting:
        thread.start()
    for number in (3, 5, 0, 1, 4, 2):
        world.dealer.send([b"%d" % number])
    for thread in waiting:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_calls_run_in_the_next_turn_whoever_pumps(world: World) -> None:
    done: list[str] = []
    world.reactor.call(lambda: done.append(threading.current_thread().name))
    assert done == []
    world.reactor.turn()
    assert done == [threading.current_thread().name]
    world.reactor.start("pump")
    world.reactor.call(lambda: done.append(threading.current_thread().name))
    until(lambda: len(done) == 2)
    assert done[1] == "pump"


def test_a_reactor_with_a_thread_pumps_by_itself(world: World) -> None:
    world.reactor.start("pump")
    assert not world.reactor.on_own_thread
    for number in range(2_000):
        while not world.dealer.send([b"%d" % number]):
            pass
    until(lambda: len(world.got) == 2_000)
    assert world.got == [b"%d" % number for number in range(2_000)]


def test_closing_ends_every_wait_at_once(world: World) -> None:
    outcomes: list[str] = []

    def wait() -> None:
        try:
            world.reactor.wait(lambda: False)
        except ClosedError:
            outcomes.append("closed")

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    farewells: list[str] = []
    started = time.monotonic()
    world.reactor.close(lambda: farewells.append("bye"))
    world.reactor.close(lambda: farewells.append("twice"))
    for thread in threads:
        thread.join(SECONDS)
    assert outcomes == ["closed"] * 4
    assert farewells == ["bye"]
    assert time.monotonic() - started < 1
    assert world.router.closed
    with pytest.raises(ClosedError):
        world.reactor.check_usable()
    assert world.reactor.turn() is None
    world.reactor.wake()


def test_closing_while_threads_wait_never_harms_them(request: pytest.FixtureRequest) -> None:
    """The selector must outlive whoever sleeps on it: tried many times, with threads going to sleep just then."""
    faults: list[BaseException] = []

    def wait(world: World) -> None:
        try:
            with suppress(ClosedError):
                while True:
                    world.reactor.wait(lambda: False, time.monotonic_ns() + 200_000)
        except BaseException as error:
            faults.append(error)

    for turn in range(30):
        world = World(f"memory://reactor-closing-{turn}")
        threads = [threading.Thread(target=wait, args=(world,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        world.close()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
    assert faults == []


def test_a_fault_of_ours_is_told_to_everybody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.reactor.start("pump")
    world.worker.broken = ValueError("a bug")
    world.reactor.wake()
    until(lambda: world.reactor.failure is not None)
    with pytest.raises(ClosedError, match="a bug"):
        world.reactor.check_usable()
    assert isinstance(world.reactor.failure, ValueError)
    assert "the reactor stopped" in caplog.text


def test_a_removed_port_is_closed_and_no_longer_read(world: World) -> None:
    world.dealer.send([b"x"])
    world.reactor.remove(world.port)
    assert world.router.closed
    world.reactor.turn()
    assert world.got == []


def test_a_descriptor_for_event_loops(world: World) -> None:
    import selectors

    with selectors.DefaultSelector() as loop:
        loop.register(world.reactor.fileno(), selectors.EVENT_READ)
        assert loop.select(0) == []
        world.dealer.send([b"x"])
        assert loop.select(SECONDS)
        world.reactor.poll()
        world.reactor.turn()
        assert world.got == [b"x"]


def test_nothing_is_left_behind(request: pytest.FixtureRequest) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(3):
        world: Any = World(f"memory://reactor-left-{turn}")
        world.reactor.start("pump")
        world.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert [thread for thread in threading.enumerate() if thread.name == "pump"] == []
