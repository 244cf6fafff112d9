"""The machine's host: what goes wrong in the disk, the commit thread or the machine is told to everybody who waits."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import dompbus
from dompbus.errors import DirectoryLocked, MachineFailed, StorageError
from dompbus.runtime.machine import MachineHost


class Counting:
    """Counts commands; raises on `boom`, in commands and in queries."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, command: bytes | memoryview, timestamp: int) -> bytes:
        if bytes(command) == b"boom":
            raise ValueError("a bug in the machine")
        self.count += 1
        return b"%d" % self.count

    def query(self, query: bytes | memoryview) -> bytes:
        if bytes(query) == b"boom":
            raise ValueError("a bug in the query")
        return b"%d" % self.count

    def snapshot(self) -> Iterable[bytes]:
        return [b"%d" % self.count]

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.count = int(b"".join(chunks))

    def check_invariants(self) -> None:
        assert self.count >= 0


Served = tuple[dompbus.Node, MachineHost, dompbus.Client]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    opened: list[Any] = []

    def serve(**settings: Any) -> Served:
        node = dompbus.Node(listen=f"memory://{uuid4().hex}", **settings)
        opened.append(node)
        host = node.host_machine("count", Counting(), tmp_path / "count")
        node.start()
        client = dompbus.Client(node.endpoint, timeout=10)
        opened.append(client)
        return node, host, client

    yield serve
    for one in reversed(opened):
        one.close()


def test_commands_are_durable_and_counted_again_after_a_restart(served: Callable[..., Served]) -> None:
    node, _, client = served()
    assert [client.request("count", b"x", type=bytes) for _ in range(3)] == [b"1", b"2", b"3"]
    assert client.request("count.query", b"", type=bytes) == b"3"
    assert node.counters.request_seconds["count"].count == 3
    with pytest.raises(DirectoryLocked):
        served()
    node.close()
    _, _, client = served()
    assert client.request("count", b"x", type=bytes) == b"4"


def test_a_machine_that_raises_ends_its_service_and_nothing_else(served: Callable[..., Served]) -> None:
    node, host, client = served()
    node.service("echo")(lambda value: value)
    assert client.request("count", b"x", type=bytes) == b"1"
    with pytest.raises(dompbus.RemoteError, match="a bug in the machine"):
        client.request("count", b"boom", type=bytes)
    with pytest.raises(dompbus.RemoteError, match="MachineFailed"):
        client.request("count", b"x", type=bytes)
    assert isinstance(host.failure, MachineFailed)
    assert client.request("echo", 5) == 5
    assert node.healthy
    assert node.failure is host.failure
    node.close()
    with pytest.raises(MachineFailed, match=r"command 2 .* a machine answers"):
        served()


def test_a_query_that_raises_is_the_askers_affair(served: Callable[..., Served]) -> None:
    _, host, client = served()
    with pytest.raises(dompbus.RemoteError, match="a bug in the query"):
        client.request("count.query", b"boom", type=bytes)
    assert client.request("count", b"x", type=bytes) == b"1"
    assert host.failure is None


@pytest.mark.parametrize("error", [StorageError("the disk is full"), MemoryError("no memory"), ValueError("a bug")])
def test_whatever_ends_the_commit_thread_is_told(
    served: Callable[..., Served], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _, host, client = served()
    assert client.request("count", b"x", type=bytes) == b"1"

    def refuse(_group: object) -> int:
        raise error

    monkeypatch.setattr(host._journal, "write", refuse)
    for _ in range(2):
        with pytest.raises(dompbus.RemoteError, match=str(error)):
            client.request("count", b"x", type=bytes)
    assert client.request("count.query", b"", type=bytes) == b"1"  # what is durable can still be asked for


def test_answers_wait_for_a_peer_whose_queue_is_full(served: Callable[..., Served]) -> None:
    """A group commit answers thousands at once; a queue of 16 frames must delay answers and not lose them."""
    node, _, _ = served(flow_socket_queue_frames=16)

    async def ask() -> list[bytes]:
        config = dompbus.Config.of(flow_socket_queue_frames=16)
        async with dompbus.AsyncClient(node.endpoint, timeout=30, config=config) as client:
            return await asyncio.gather(*(client.request("count", b"x", type=bytes) for _ in range(1_000)))

    answers = asyncio.run(ask())
    assert sorted(map(int, answers)) == list(range(1, 1_001))
    assert node.counters.messages_dropped["peer_full"] == 0


def test_closing_goes_on_whatever_one_part_raises(
    served: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, host, client = served(http_listen="127.0.0.1:0")
    client.request("count", b"x", type=bytes)
    release = host._journal.close

    def fail() -> None:
        release()
        raise StorageError("no space left")

    monkeypatch.setattr(host._journal, "close", fail)
    with pytest.raises(StorageError, match="no space"):
        node.close()
    monkeypatch.undo()
    with pytest.raises(dompbus.ClosedError):
        node.flush()
    import threading

    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("dompbus")] == []
