"""Opening, sharing and closing: nothing is left behind, and what is closed says so."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dompbus

SECONDS = 20.0
ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.005)


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dompbus")]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- closing -----------------------------------------------------------------------------------------------------


def test_a_closed_client_says_so(node: dompbus.Node, open_client: Any) -> None:
    client = open_client(node.endpoint)
    subscription = client.subscribe("t")
    client.close()
    client.close()
    for call in (
        lambda: client.request("echo", 1),
        lambda: client.subscribe("t"),
        lambda: client.publish("t", 1),
        lambda: client.publish_many("t", [1]),
        client.flush,
        lambda: subscription.receive(timeout=1),
    ):
        with pytest.raises(dompbus.ClosedError, match="closed"):
            call()
    assert list(subscription) == []
    subscription.close()


def test_what_had_arrived_can_still_be_taken_after_closing(node: dompbus.Node, open_client: Any) -> None:
    client = open_client(node.endpoint)
    subscription = client.subscribe("t")
    node.publish_many("t", [1, 2, 3])
    assert subscription.receive(timeout=SECONDS) == 1
    client.close()
    assert list(subscription) == [2, 3]


@pytest.mark.parametrize("how", ["subscription", "client"])
def test_closing_ends_an_iteration_that_waits_on_another_thread(node: dompbus.Node, open_client: Any, how: str) -> None:
    client = open_client(node.endpoint)
    subscription = client.subscribe("t")
    got: list[Any] = []
    reading = threading.Thread(target=lambda: got.extend(subscription))
    reading.start()
    node.publish("t", "one")
    until(lambda: got == ["one"] or not reading.is_alive(), "the message")
    started = time.monotonic()
    (subscription if how == "subscription" else client).close()
    reading.join(SECONDS)
    assert not reading.is_alive()
    assert time.monotonic() - started < 0.5  # woken, not found at the next heartbeat


def test_closing_ends_a_request_that_waits(node: dompbus.Node, open_client: Any) -> None:
    release = threading.Event()
    node.service("slow", threads=1)(lambda _value: release.wait(SECONDS))
    client = open_client(node.endpoint)
    client.request("echo", 1)
    outcome: list[str] = []

    def ask() -> None:
        try:
            client.request("slow", 1, timeout=SECONDS)
        except dompbus.DompbusError as error:
            outcome.append(type(error).__name__)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: node._core._services["slow"].waiting == 1, "the request")
    client.close()
    asking.join(SECONDS)
    release.set()
    assert outcome == ["ClosedError"]


def test_a_node_that_closes_while_asked_says_so_or_nothing(listen: str, open_client: Any) -> None:
    """Requests for a service with threads go on coming in while the node closes: no fault of its own."""
    node = dompbus.Node(listen=listen).start()
    node.service("work", threads=2)(lambda value: value)
    client = open_client(node.endpoint, timeout=0.5)
    client.request("work", 0)
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                client.request("work", 1, timeout=0.2)
            except dompbus.RequestError:
                stop.set()

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    node.close()
    for thread in asking:
        thread.join(SECONDS)
    assert node._reactor.failure is None


def test_a_closed_node_says_so(listen: str) -> None:
    node = dompbus.Node(listen=listen).start()
    node.close()
    node.close()
    for call in (lambda: node.publish("t", 1), lambda: node.publish_many("t", [1]), node.flush, node.start):
        with pytest.raises(dompbus.ClosedError):
            call()


def test_nothing_is_left_behind(listen: str, open_client: Any) -> None:
    """No thread, and no more descriptors after ten lives than after two."""

    def live() -> None:
        with dompbus.Node(listen=listen) as node:
            node.service("work", threads=2)(lambda value: value)
            client = open_client(node.endpoint, timeout=SECONDS)
            subscription = client.subscribe("t")
            for number in range(300):
                client.publish("t", number)
            assert [subscription.receive(timeout=SECONDS) for _ in range(300)] == list(range(300))
            assert client.request("work", 1) == 1
            client.close()

    live()
    live()
    until(lambda: our_threads() == [], f"threads: {our_threads()}")
    before = descriptors()
    for _ in range(5):
        live()
    assert our_threads() == []
    until(lambda: descriptors() <= before, f"{descriptors()} descriptors, {before} before")


def test_an_address_in_use_is_a_clear_error_and_leaves_nothing(node: dompbus.Node) -> None:
    before = descriptors()
    with pytest.raises(dompbus.EndpointError, match="in use"):
        dompbus.Node(listen=node.endpoint).start()
    until(lambda: descriptors() <= before, "descriptors of the failed start")


# -- sharing -----------------------------------------------------------------------------------------------------


def test_threads_share_one_client(client: Any, node: dompbus.Node) -> None:
    """Three ask, two iterate and one publishes, all with the same client, at once."""
    subscriptions = [client.subscribe("t"), client.subscribe("t")]
    got: list[list[Any]] = [[], []]
    failures: list[BaseException] = []
    count = 150

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        return threading.Thread(target=run)

    def ask(base: int) -> None:
        for number in range(count):
            assert client.request("echo", base + number, timeout=SECONDS) == base + number

    def read(at: int) -> None:
        while len(got[at]) < count:
            got[at].append(subscriptions[at].receive(timeout=SECONDS))

    def publish() -> None:
        for number in range(count):
            assert client.publish("t", number)

    threads = [guarded(lambda base=base: ask(base)) for base in (0, 10_000, 20_000)]  # type: ignore[misc] # mypy: no default
    threads += [guarded(lambda at=at: read(at)) for at in (0, 1)]  # type: ignore[misc] # as above
    threads.append(guarded(publish))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * SECONDS)
    assert failures == []
    assert got == [list(range(count))] * 2


def test_threads_share_one_subscription(client: Any, node: dompbus.Node) -> None:
    """Each message goes to one of them."""
    subscription = client.subscribe("t")
    got: list[Any] = []
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while True:
                got.append(subscription.receive(timeout=SECONDS))
        except dompbus.ClosedError:
            pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(500):
        node.publish_many("t", [number, -number])
    until(lambda: len(got) == 1_000 or bool(failures), "all messages")
    subscription.close()
    for thread in threads:
        thread.join(SECONDS)
    assert failures == []
    assert sorted(got) == sorted([*range(500), *range(0, -500, -1)])


# -- asyncio only ------------------------------------------------------------------------------------------------


def test_cancelled_waits_harm_nobody(node: dompbus.Node) -> None:
    release = threading.Event()
    node.service("slow", threads=1)(lambda value: (release.wait(SECONDS), value)[1])

    async def main() -> None:
        async with dompbus.AsyncClient(node.endpoint, timeout=SECONDS) as client:
            subscription = await client.subscribe("t")
            doomed = [
                asyncio.create_task(client.request("slow", 1)),
                asyncio.create_task(subscription.receive()),
                asyncio.create_task(client.request("echo", 2)),
            ]
            survivor = asyncio.create_task(client.request("slow", "kept"))
            await asyncio.sleep(0)
            for task in doomed:
                task.cancel()
            outcomes = await asyncio.gather(*doomed, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            release.set()
            assert await survivor == "kept"
            node.publish("t", "after")
            assert await subscription.receive(SECONDS) == "after"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await subscription.receive()
            node.publish("t", "again")
            assert await subscription.receive(SECONDS) == "again"
            assert client._core._requests == {}

    asyncio.run(main())


def test_one_frame_carries_all_that_tasks_ask_for_together(node: dompbus.Node) -> None:
    """Two subscriptions and two requests from nothing: one HELLO, before anything else is sent."""
    received: list[int] = []
    node.service("count")(lambda _value: received.append(node.counters.frames_received))

    async def main() -> None:
        async with dompbus.AsyncClient(node.endpoint, timeout=SECONDS) as client:
            core = client._core
            core.subscribe("a", None, 0)
            core.subscribe("b", None, 0)
            await asyncio.gather(client.request("count"), client.request("count"))
            assert all(reader.subscribed for reader in core.readers.values())

    asyncio.run(main())
    assert received[0] == 1
    assert len(received) == 2


def test_async_with_and_async_for(node: dompbus.Node) -> None:
    async def main() -> None:
        async with dompbus.AsyncClient(node.endpoint, timeout=SECONDS) as client:
            async with client.subscribe("t") as subscription:
                node.publish_many("t", [1, 2])
                got = []
                async for message in subscription:
                    got.append(message)
                    if len(got) == 2:
                        await subscription.close()
                assert got == [1, 2]
            with pytest.raises(RuntimeError, match="event loop"):
                await asyncio.to_thread(asyncio.run, client.request("echo", 1))

    asyncio.run(main())


def test_closing_ends_every_task_that_waits(node: dompbus.Node) -> None:
    release = threading.Event()
    node.service("slow", threads=1)(lambda _value: release.wait(SECONDS))

    async def main() -> None:
        client = dompbus.AsyncClient(node.endpoint, timeout=SECONDS)
        subscription = await client.subscribe("t")
        tasks = [asyncio.create_task(client.request("slow", 1)), asyncio.create_task(subscription.receive())]
        await client.request("echo", 1)
        await client.close()
        async with asyncio.timeout(SECONDS):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [dompbus.ClosedError] * 2

    asyncio.run(main())
    release.set()


# -- forks -------------------------------------------------------------------------------------------------------

FORK = """
import asyncio, os, sys, dompbus
url = sys.argv[1]
kind = sys.argv[2]

def refused(call):
    try:
        call()
    except dompbus.ClosedError as error:
        return "another process" in str(error)
    return False

if kind == "blocking":
    client = dompbus.Client(url, timeout=20.0)
    assert client.request("echo", 1) == 1
    subscription = client.subscribe("t")
    child = os.fork()
    if child == 0:
        calls = [lambda: client.request("echo", 1), lambda: client.subscribe("u"), lambda: client.publish("t", 1),
                 lambda: client.publish_many("t", [1]), lambda: subscription.receive(1.0)]
        good = all(refused(call) for call in calls)
        client.close()
        with dompbus.Client(url, timeout=20.0) as own:
            good = good and own.request("echo", 2) == 2
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.request("echo", 3) == 3
    client.publish("t", 4)
    assert subscription.receive(20.0) == 4
    client.close()
else:
    async def main():
        client = dompbus.AsyncClient(url, timeout=20.0)
        assert await client.request("echo", 1) == 1
        child = os.fork()
        if child == 0:
            try:
                await client.request("echo", 1)
            except dompbus.ClosedError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert await client.request("echo", 3) == 3
        await client.close()
    asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_a_forked_child_is_told_to_open_its_own(kind: str) -> None:
    with dompbus.Node(listen="tcp://127.0.0.1:0") as node:
        node.service("echo")(lambda value: value)
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, node.endpoint, kind],
            cwd=ROOT,
            capture_output=True,
            check=False,
            text=True,
            timeout=SECONDS,
        )
    assert (done.returncode, done.stderr) == (0, "")
