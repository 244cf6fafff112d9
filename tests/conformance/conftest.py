"""One suite for both clients over all transports: `client` opens clients, `node` serves them.

The asyncio client runs in a loop on a thread of its own; `AwaitedClient` gives it the blocking client's calls, and
adds nothing.
"""

import asyncio
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dompbus
from dompbus.clients.aio import AsyncSubscription

_names = itertools.count()
TRANSPORTS = ["tcp", "ipc", "inproc", "memory"]
SECONDS = 20.0  # for whatever must happen; never waited for when all is well


class AwaitedSubscription:
    """An `AsyncSubscription`, called from outside its loop."""

    def __init__(self, client: "AwaitedClient", subscription: AsyncSubscription) -> None:
        self.pattern = subscription.pattern
        self._client = client
        self._run = client.run
        self._subscription = subscription

    def receive(self, timeout: float | None = None) -> Any:
        return self._run(self._subscription.receive(timeout))

    def batches(self, timeout: float | None = None) -> Iterator[Any]:
        return self._iterate(self._subscription.batches(timeout))

    def __iter__(self) -> Iterator[Any]:
        return self._iterate(self._subscription.__aiter__())

    def close(self) -> None:
        self._run(self._subscription.close())

    def __enter__(self) -> "AwaitedSubscription":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _iterate(self, iterator: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(iterator, StopIteration)

        async def remaining() -> list[Any]:
            return [item async for item in iterator]

        if self._client.closed:  # a loop of its own for what is left: its end would end the iterator
            yield from self._run(remaining())
        else:
            while (item := self._run(following())) is not StopIteration:
                yield item


class AwaitedLedger:
    """The asyncio ledger client, called from outside its loop."""

    def __init__(self, client: "AwaitedClient", ledger: Any) -> None:
        self._run = client.run
        self._ledger = ledger

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **named: self._run(getattr(self._ledger, name)(*args, **named))


class AwaitedClient:
    """An `AsyncClient` in a loop of its own, called from outside."""

    def __init__(self, url: str, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-loop")
        self._thread.start()

        async def opened() -> dompbus.AsyncClient:
            return dompbus.AsyncClient(url, **settings)

        try:
            self.asynchronous = self.run(opened())
        except BaseException:
            self._end()
            raise
        self.counters = self.asynchronous.counters

    @property
    def closed(self) -> bool:
        """Whether the loop has ended with the client."""
        return self._loop.is_closed()

    def run(self, awaitable: Any) -> Any:
        """Have the loop do it, and wait."""
        if self.closed:  # see what the client says
            return asyncio.run(awaitable)
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result(SECONDS)

    def publish(self, topic: str, message: Any, *, urgent: bool = False) -> dompbus.Receipt:
        return self.run(self.asynchronous.publish(topic, message, urgent=urgent))

    def publish_many(self, topic: str, messages: Any) -> dompbus.Receipt:
        return self.run(self.asynchronous.publish_many(topic, messages))

    def flush(self, timeout: float | None = None) -> None:
        self.run(self.asynchronous.flush(timeout))

    def subscribe(self, pattern: str, **settings: Any) -> AwaitedSubscription:
        async def subscribed() -> AsyncSubscription:
            return await self.asynchronous.subscribe(pattern, **settings)

        return AwaitedSubscription(self, self.run(subscribed()))

    def request(self, service: str, value: Any = None, **settings: Any) -> Any:
        return self.run(self.asynchronous.request(service, value, **settings))

    @property
    def ledger(self) -> AwaitedLedger:
        return AwaitedLedger(self, self.asynchronous.ledger)

    def close(self) -> None:
        if not self.closed:
            try:
                self.run(self.asynchronous.close())
            finally:
                self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def __enter__(self) -> "AwaitedClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def listen(transport: str) -> Iterator[str]:
    """An endpoint nobody uses."""
    with tempfile.TemporaryDirectory(prefix="dompbus") as folder:  # a socket's path must be short
        name = f"test-{os.getpid()}-{next(_names)}"
        yield {"tcp": "tcp://127.0.0.1:0", "ipc": f"ipc://{folder}/s"}.get(transport, f"{transport}://{name}")


@pytest.fixture
def node(listen: str) -> Iterator[dompbus.Node]:
    """A node with an `echo`, at that endpoint."""
    with dompbus.Node(name="node", listen=listen) as node:
        node.service("echo")(echo)
        yield node


@pytest.fixture(params=["blocking", "asyncio"])
def open_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens clients of one kind; closes them at the end."""
    opened: list[Any] = []

    def open_(url: str, **settings: Any) -> Any:
        opened.append((dompbus.Client if request.param == "blocking" else AwaitedClient)(url, **settings))
        return opened[-1]

    yield open_
    for client in reversed(opened):
        client.close()


@pytest.fixture
def client(node: dompbus.Node, open_client: Callable[..., Any]) -> Any:
    """One client of the node."""
    return open_client(node.endpoint, timeout=SECONDS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory."""
    return tmp_path / "data"


def echo(value: Any) -> Any:
    return value
