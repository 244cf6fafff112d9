"""A node is killed and started again at the same address: clients go on by themselves, and nothing is done twice."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dompbus
from dompbus import Gap
from tests.ports import lasting_port

ROOT = Path(__file__).parents[2]
SECONDS = 20.0
ALERT = dompbus.Config.of(timeouts_heartbeat_interval=0.1)  # silence is noticed in three of them

NODE = """
import itertools, sys, threading, dompbus

node = dompbus.Node(name="restarted", listen=sys.argv[1])
journal = open(sys.argv[2], "a", buffering=1)

@node.service("echo")
def echo(value):
    journal.write(f"echo {value}\\n")
    return value

@node.service("hang", threads=2)
def hang(value):
    journal.write(f"hang {value}\\n")
    threading.Event().wait()

with node:
    print(node.endpoint, flush=True)
    for number in itertools.count():
        node.publish("tick", number)
        threading.Event().wait(0.001)
"""


class Server:
    """The node as a process; its journal says what was carried out."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.endpoint = f"tcp://127.0.0.1:{lasting_port()}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODE, self.endpoint, str(self.journal)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == self.endpoint

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=SECONDS)

    def carried_out(self) -> list[str]:
        return self.journal.read_text().splitlines()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.005)


def check_restarts(items: list[Any], restarts: int) -> None:
    """Numbers that rise by one, with one gap of unknown length for each restart, after which they begin anew."""
    lives: list[list[int]] = [[]]
    for item in items:
        if isinstance(item, Gap):
            assert (item.topic, item.last) == ("tick", None)
            assert item.first > 0
            lives.append([])
        else:
            lives[-1].append(item)
    assert len(lives) == restarts + 1
    for life in lives:
        assert life == list(range(life[0], life[0] + len(life)))
        assert life


def test_a_blocking_subscription_goes_on(server: Server) -> None:
    with dompbus.Client(server.endpoint, timeout=SECONDS, config=ALERT) as client:
        subscription = client.subscribe("tick")
        items: list[Any] = []
        for _ in range(2):
            items += [subscription.receive(timeout=SECONDS) for _ in range(50)]
            server.kill()
            server.start()
            while not isinstance(items[-1], Gap):
                items.append(subscription.receive(timeout=SECONDS))
        items += [subscription.receive(timeout=SECONDS) for _ in range(50)]
        check_restarts(items, 2)
        assert client.request("echo", "after") == "after"


def test_an_asyncio_subscription_goes_on(server: Server) -> None:
    async def main() -> None:
        async with dompbus.AsyncClient(server.endpoint, timeout=SECONDS, config=ALERT) as client:
            items: list[Any] = []
            restarts = 0
            async for item in await client.subscribe("tick"):
                items.append(item)
                restarts += isinstance(item, Gap)
                if len(items) in (50, 150):
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                if restarts == 2 and len(items) > 250:
                    break
            check_restarts(items, 2)
            assert await client.request("echo", "after") == "after"

    asyncio.run(main())


def test_requests_that_were_begun_are_expired_and_not_done_again(server: Server) -> None:
    """Both clients; the journal shows that each was carried out once at the most."""
    outcomes: dict[str, str] = {}

    def blocking() -> None:
        with dompbus.Client(server.endpoint, timeout=SECONDS) as client:
            try:
                client.request("hang", "blocking")
            except dompbus.DompbusError as error:
                outcomes["blocking"] = type(error).__name__

    async def awaited() -> None:
        async with dompbus.AsyncClient(server.endpoint, timeout=SECONDS) as client:
            try:
                await client.request("hang", "asyncio")
            except dompbus.DompbusError as error:
                outcomes["asyncio"] = type(error).__name__

    threads = [threading.Thread(target=blocking), threading.Thread(target=lambda: asyncio.run(awaited()))]
    for thread in threads:
        thread.start()
    until(lambda: server.journal.exists() and len(server.carried_out()) == 2, "both requests")
    server.kill()
    server.start()
    for thread in threads:
        thread.join(SECONDS)
    assert outcomes == {"blocking": "SessionExpired", "asyncio": "SessionExpired"}
    assert sorted(server.carried_out()) == ["hang asyncio", "hang blocking"]


def test_requests_made_while_the_node_is_down_are_answered_or_expired_once_it_is_back(server: Server) -> None:
    with dompbus.Client(server.endpoint, timeout=SECONDS) as client:
        assert client.request("echo", "before") == "before"
        server.kill()
        outcomes: list[Any] = []

        def ask(number: int) -> None:
            try:
                outcomes.append(client.request("echo", number))
            except dompbus.SessionExpired:
                outcomes.append("expired")

        asking = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
        for thread in asking:
            thread.start()
        server.start()
        for thread in asking:
            thread.join(SECONDS)
        assert len(outcomes) == 3
        assert set(outcomes) <= {0, 1, 2, "expired"}
        assert client.request("echo", "after") == "after"
    done = server.carried_out()
    assert len(done) == len(set(done))
    assert {f"echo {outcome}" for outcome in outcomes if outcome != "expired"} <= set(done)


def test_what_is_published_while_the_node_is_down_arrives_once_it_is_back(server: Server) -> None:
    """A writer that has never been welcomed keeps what it was given, within its bound."""
    server.kill()
    with dompbus.Client(server.endpoint, timeout=SECONDS) as writer, dompbus.Client(server.endpoint) as client:
        server.start()
        subscription = client.subscribe("t", timeout=SECONDS)
        for number in range(100):
            assert writer.publish("t", number)
        writer.flush(SECONDS)
        assert [subscription.receive(timeout=SECONDS) for _ in range(100)] == list(range(100))
