"""The asyncio client: the same calls, awaited.

The law here: no thread, no `zmq.asyncio`: the loop watches one descriptor, and a turn of the reactor does the rest.
This file and `blocking.py` read alike and behave alike; one conformance suite holds them together.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import suppress
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from dompbus.bus.outbox import Receipt
from dompbus.bus.reader import Batch, Gap, Reader
from dompbus.config import Config
from dompbus.errors import ClosedError, DompbusError, InvalidTopic, Timeout
from dompbus.ledger.client import AsyncLedgerClient
from dompbus.runtime.answers import check_delivery, interpret
from dompbus.runtime.connection import Connection
from dompbus.wire.message import Unknown, encode_value

__all__ = ["AsyncClient", "AsyncSubscription"]

_T = TypeVar("_T")


class AsyncSubscription(Generic[_T]):
    """Messages of one pattern, in order: `async for message in await client.subscribe(...)`."""

    def __init__(self, client: "AsyncClient", reader: Reader) -> None:
        self.pattern = reader.pattern
        self._client = client
        self._reader = reader
        self._batches: deque[Batch | Gap] = deque()
        self._items: deque[_T | Unknown] = deque()

    async def receive(self, timeout: float | None = None) -> _T | Gap | Unknown:
        """Return the next message (or `Gap`, or `Unknown`); raise `Timeout` when none came in `timeout` seconds."""
        while True:
            with suppress(IndexError):  # asked and taken in one step: another task may be receiving too
                return self._items.popleft()
            batch = await self._next_batch(timeout)
            if isinstance(batch, Gap):
                return batch
            self._items.extend(batch.messages)

    async def batches(self, timeout: float | None = None) -> AsyncIterator[Batch | Gap]:
        """Iterate over batches as they travelled, with topic, epoch, seq and time; fastest. Ends when closed.

        Raises `Timeout` when none came in `timeout` seconds. Messages of a batch that `receive` has begun are not
        repeated.
        """
        while True:
            try:
                batch = await self._next_batch(timeout)
            except ClosedError:
                return
            yield batch

    async def __aiter__(self) -> AsyncIterator[_T | Gap | Unknown]:
        while self._items:
            yield self._items.popleft()
        async for batch in self.batches():
            if isinstance(batch, Gap):
                yield batch
            else:
                for message in batch.messages:
                    yield message

    async def close(self) -> None:
        """Unsubscribe; iterations end."""
        self._client._unsubscribe(self._reader)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _next_batch(self, timeout: float | None) -> Batch | Gap:
        while True:
            with suppress(IndexError):
                return self._batches.popleft()
            self._batches.extend(await self._client._take(self._reader, timeout))


class AsyncClient:
    """A client of one node: `async with dompbus.AsyncClient("tcp://127.0.0.1:7400") as client: ...`

    `timeout` (seconds) is the deadline of calls that name none; by default that of the configuration, 5 s.
    Belongs to the event loop in which it is first used.
    Every await may be cancelled without harm to the others.
    """

    def __init__(
        self, url: str, *, name: str = "client", timeout: float | None = None, config: Config | None = None
    ) -> None:
        self.url = url
        settings = Config.of(config) if timeout is None else Config.of(config, timeouts_request=timeout)
        self._connection = Connection(
            url,
            settings,
            name=name,
            send=self._turn,
            wake=self._wake,
            gather_ns=0,  # what one pass of the loop publishes leaves in the next
        )
        self.counters = self._connection.counters
        self._core = self._connection.core
        self._reactor = self._connection.reactor
        self._publishing = self._connection.publishing
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: dict[asyncio.Future[None], Callable[[], bool]] = {}

    async def publish(self, topic: str, message: Any, *, urgent: bool = False) -> Receipt:
        """Publish one message through the node; returns at once. False receipt: dropped, and why."""
        self._attach()
        return self._publishing.publish(topic, message, urgent=urgent)

    async def publish_many(self, topic: str, messages: Sequence[Any]) -> Receipt:
        """Publish messages of one topic, in order, in as few frames as possible."""
        self._attach()
        return self._publishing.publish_many(topic, messages)

    async def flush(self, timeout: float | None = None) -> None:
        """Return when all that was published has been handed to the transport."""
        self._publishing.hurry()
        if not await self._wait(self._connection.has_sent_all, self._seconds(timeout)):
            raise self._connection.no_answer(f"{self.url} has not taken what was published")

    @overload
    def subscribe(
        self, pattern: str, *, type: type[_T], delivery: str = ..., timeout: float | None = ...
    ) -> "_Subscribing[_T]": ...
    @overload
    def subscribe(
        self, pattern: str, *, type: Any = ..., delivery: str = ..., timeout: float | None = ...
    ) -> "_Subscribing[Any]": ...
    def subscribe(
        self,
        pattern: str,
        *,
        type: Any = None,
        delivery: str = "reliable",
        timeout: float | None = None,
    ) -> "_Subscribing[Any]":
        """Subscribe to a topic or pattern: `async for message in await client.subscribe(...)`.

        Resolves when the node has confirmed. For `type`, `Gap` and `Unknown` see `Client.subscribe`.
        """
        check_delivery(delivery)
        return _Subscribing(lambda: self._subscribe(pattern, type, self._seconds(timeout)))

    @overload
    async def request(self, service: str, value: Any = ..., *, type: type[_T], timeout: float | None = ...) -> _T: ...
    @overload
    async def request(self, service: str, value: Any = ..., *, type: Any = ..., timeout: float | None = ...) -> Any: ...
    async def request(
        self,
        service: str,
        value: Any = None,
        *,
        type: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Ask a service; return its answer decoded into `type`. Errors as `Client.request`."""
        payload = encode_value(value)
        loop = self._attach()
        now_ns = time.monotonic_ns()
        deadline_ns = now_ns + int(self._seconds(timeout) * 1e9)
        outstanding = self._core.request(service, payload, deadline_ns=deadline_ns, now_ns=now_ns)
        answered: asyncio.Future[None] = loop.create_future()
        outstanding.notify = partial(_resolve, answered)
        self._turn()
        try:
            await answered
        except asyncio.CancelledError:
            self._core.forget(outstanding)
            raise
        if outstanding.reply is None:
            self._reactor.check_usable()
            raise self._connection.no_answer(
                f"no answer from {service!r} at {self.url} in time; it may have been carried out"
            )
        return interpret(outstanding, type)

    @cached_property
    def ledger(self) -> AsyncLedgerClient:
        """The default book: accounts and transfers of `dompbus.ledger`."""
        return AsyncLedgerClient(self._call_ledger)

    async def close(self) -> None:
        """Send what is left, say goodbye, close the sockets. Idempotent."""
        if self._reactor.closed:
            return
        if self._connection.should_flush:
            with suppress(DompbusError):  # what is lost is counted, and said, by the farewell
                await self.flush(self._connection.config.timeouts.close)
        if self._loop is not None:
            self._loop.remove_reader(self._reactor.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._reactor.close(self._connection.farewell)
        self._release()

    async def __aenter__(self) -> Self:
        self._attach()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _attach(self) -> asyncio.AbstractEventLoop:
        """Have the running loop watch our descriptor, on first use."""
        self._reactor.check_usable()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            loop.add_reader(self._reactor.fileno(), self._turn)
        elif self._loop is not loop:
            raise RuntimeError("an AsyncClient belongs to the event loop in which it was first used")
        return loop

    def _turn(self) -> None:
        """Pump, set the timer for what comes next, and tell those whose wait is over."""
        self._reactor.poll()
        next_ns = self._reactor.turn()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_ns is not None and self._loop is not None:
            delay = max(0.0, (next_ns - time.monotonic_ns()) / 1e9)
            self._timer = self._loop.call_later(delay, self._turn)
        self._release()

    def _wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """What a burst of `publish` has asked for: send what gathered in this pass of the loop."""
        if not self._reactor.closed:
            self._turn()

    def _release(self) -> None:
        for future, ready in list(self._waiters.items()):
            if not future.done() and (self._reactor.closed or ready()):
                future.set_result(None)

    async def _wait(self, ready: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until `ready()`; False when the time passed first."""
        loop = self._attach()
        self._turn()
        if ready():
            return True
        future: asyncio.Future[None] = loop.create_future()
        self._waiters[future] = ready
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            del self._waiters[future]
        self._reactor.check_usable()
        return True

    async def _subscribe(self, pattern: str, type: Any, seconds: float) -> AsyncSubscription[Any]:
        self._attach()
        reader = self._core.subscribe(pattern, type, time.monotonic_ns())
        try:
            if not await self._wait(lambda: reader.subscribed or bool(reader.error), seconds):
                raise self._connection.no_answer(f"no answer from {self.url} to the subscription of {pattern!r}")
            if reader.error:
                raise InvalidTopic(reader.error)
        except BaseException:
            self._unsubscribe(reader)
            raise
        return AsyncSubscription(self, reader)

    def _unsubscribe(self, reader: Reader) -> None:
        if not self._reactor.closed:
            self._core.unsubscribe(reader)
            self._turn()
        reader.closed = True
        self._release()

    async def _take(self, reader: Reader, seconds: float | None) -> list[Batch | Gap]:
        if not reader.ready and not await self._wait(lambda: reader.ready or reader.closed, seconds):
            raise Timeout(f"nothing on {reader.pattern!r} for {seconds} s")
        batches = reader.take()
        if not batches and reader.closed:
            raise ClosedError(f"the subscription of {reader.pattern!r} is closed")
        return batches

    def _seconds(self, timeout: float | None) -> float:
        return self._connection.seconds(timeout)

    async def _call_ledger(self, payload: bytes, *, query: bool) -> bytes:
        answer: bytes = await self.request("ledger.query" if query else "ledger", payload, type=bytes)
        return answer


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Subscribing(Generic[_T]):
    """What `subscribe` returns: await it, or use it in `async with`."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._begin = begin
        self._subscription: AsyncSubscription[_T] | None = None

    def __await__(self) -> Generator[Any, None, AsyncSubscription[_T]]:
        subscription: AsyncSubscription[_T] = yield from self._begin().__await__()
        return subscription

    async def __aenter__(self) -> AsyncSubscription[_T]:
        self._subscription = await self
        return self._subscription

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._subscription is not None:
            await self._subscription.close()
