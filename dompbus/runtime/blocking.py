"""The blocking face of a link: subscriptions to iterate and requests to wait for, from any thread.

The law here: no thread of its own. Whoever waits pumps the reactor; what arrives for others is kept for them. A wait
can be interrupted (KeyboardInterrupt) and taken up again without losing a message.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from dompbus.bus.reader import Batch, Gap, Reader
from dompbus.config import Config
from dompbus.errors import ClosedError, DompbusError, InvalidTopic, Timeout
from dompbus.runtime.answers import check_delivery, interpret
from dompbus.runtime.connection import Connection
from dompbus.runtime.publishing import Publish, PublishMany
from dompbus.runtime.reactor import Reactor
from dompbus.wire.message import Unknown, encode_value

__all__ = ["BlockingLink", "Subscription"]

_T = TypeVar("_T")


class Subscription(Generic[_T]):
    """Messages of one pattern, in order: `for message in subscription`. Close it, or use it in a `with`."""

    def __init__(self, link: "BlockingLink", reader: Reader) -> None:
        self.pattern = reader.pattern
        self._link = link
        self._reader = reader
        self._batches: deque[Batch | Gap] = deque()
        self._items: deque[_T | Unknown] = deque()

    def receive(self, timeout: float | None = None) -> _T | Gap | Unknown:
        """Return the next message (or `Gap`, or `Unknown`); raise `Timeout` when none came in `timeout` seconds."""
        while True:
            with suppress(IndexError):  # asked and taken in one step: another thread may be receiving too
                return self._items.popleft()
            batch = self._next_batch(timeout)
            if isinstance(batch, Gap):
                return batch
            self._items.extend(batch.messages)

    def batches(self, timeout: float | None = None) -> Iterator[Batch | Gap]:
        """Iterate over batches as they travelled, with topic, epoch, seq and time; fastest. Ends when closed.

        Raises `Timeout` when none came in `timeout` seconds. Messages of a batch that `receive` has begun are not
        repeated.
        """
        while True:
            try:
                yield self._next_batch(timeout)
            except ClosedError:
                return

    def __iter__(self) -> Iterator[_T | Gap | Unknown]:
        while self._items:
            yield self._items.popleft()
        for batch in self.batches():
            if isinstance(batch, Gap):
                yield batch
            else:
                yield from batch.messages

    def close(self) -> None:
        """Unsubscribe; iterations end."""
        self._link.unsubscribe(self._reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_batch(self, timeout: float | None) -> Batch | Gap:
        while True:
            with suppress(IndexError):
                return self._batches.popleft()
            self._batches.extend(self._link.take(self._reader, timeout))


class BlockingLink:
    """A connection without a thread of its own, with the calls that a user waits in."""

    def __init__(self, url: str, config: Config, *, name: str) -> None:
        self._connection = connection = Connection(
            url, config, name=name, send=self._turn, wake=self._wake, spin_ns=int(config.timeouts.spin * 1e9)
        )
        self.url = url
        self.counters = connection.counters
        self._core = connection.core
        self._reactor = connection.reactor
        self._flusher = _Flusher(self._reactor, self._is_settled)
        self.publish: Publish = connection.publishing.publish  # bound once: the hot path
        self.publish_many: PublishMany = connection.publishing.publish_many

    def flush(self, timeout: float | None = None) -> None:
        """Return when everything published has been handed to the transport; raise `Timeout` or `Unreachable`."""
        connection = self._connection
        connection.publishing.hurry()
        if not self._reactor.wait(connection.has_sent_all, connection.deadline_ns(timeout)):
            raise connection.no_answer(f"{self.url} has not taken what was published")

    def subscribe(
        self, pattern: str, *, type: Any = None, delivery: str = "reliable", timeout: float | None = None
    ) -> Subscription[Any]:
        """Subscribe; returns when the node has confirmed, so that nothing published afterwards is missed."""
        check_delivery(delivery)
        deadline_ns = self._connection.deadline_ns(timeout)
        with self._reactor.lock:
            self._reactor.check_usable()
            reader = self._core.subscribe(pattern, type, time.monotonic_ns())
        try:
            if not self._reactor.wait(lambda: reader.subscribed or bool(reader.error), deadline_ns):
                raise self._connection.no_answer(f"no answer from {self.url} to the subscription of {pattern!r}")
            if reader.error:
                raise InvalidTopic(reader.error)
        except BaseException:
            self.unsubscribe(reader)
            raise
        return Subscription(self, reader)

    def unsubscribe(self, reader: Reader) -> None:
        """End a subscription; those who wait for it see the end."""
        with self._reactor.lock:
            if not self._reactor.closed:
                self._core.unsubscribe(reader)
                self._reactor.turn()
                self._reactor.wake()  # whoever waits for this subscription looks again
            reader.closed = True

    def take(self, reader: Reader, timeout: float | None) -> list[Batch | Gap]:
        """Wait for the next of a subscription. Raises `Timeout`, and `ClosedError` when it was closed."""
        if not reader.ready:
            deadline_ns = None if timeout is None else time.monotonic_ns() + int(timeout * 1e9)
            if not self._reactor.wait(lambda: reader.ready or reader.closed, deadline_ns):
                raise Timeout(f"nothing on {reader.pattern!r} for {timeout} s")
        with self._reactor.lock:
            batches = reader.take()
        if not batches and reader.closed:
            raise ClosedError(f"the subscription of {reader.pattern!r} is closed")
        return batches

    def request(self, service: str, value: Any, *, type: Any = None, timeout: float | None = None) -> Any:
        """Ask a service and wait for its answer; see `Client.request`."""
        payload = encode_value(value)
        deadline_ns = self._connection.deadline_ns(timeout)
        with self._reactor.lock:
            self._reactor.check_usable()
            outstanding = self._core.request(service, payload, deadline_ns=deadline_ns, now_ns=time.monotonic_ns())
        try:
            self._reactor.wait(lambda: outstanding.done)
        except BaseException:
            self._core.forget(outstanding)
            raise
        if outstanding.reply is None:
            raise self._connection.no_answer(
                f"no answer from {service!r} at {self.url} in time; it may have been carried out"
            )
        return interpret(outstanding, type)

    def close(self) -> None:
        """Send what is left, say goodbye, close. Idempotent."""
        if self._reactor.closed:
            return
        if self._connection.should_flush:
            with suppress(DompbusError):  # what is lost is counted, and said, by the farewell
                self.flush(self._connection.config.timeouts.close)
        self._reactor.close(self._connection.farewell)
        self._flusher.join()

    def _wake(self) -> None:
        self._flusher.wake()

    def _turn(self) -> None:
        self._reactor.turn()
        if not self._connection.has_sent_all():  # not welcomed yet, or the socket is full: somebody has to stay
            self._flusher.wake()

    def _is_settled(self) -> bool:
        return not self._connection.publishing.gathering and self._connection.has_sent_all()


class _Flusher:
    """Sends what a burst of `publish` has gathered when no other call comes by. Its thread starts when first needed."""

    def __init__(self, reactor: Reactor, is_settled: Callable[[], bool]) -> None:
        self._reactor = reactor
        self._is_settled = is_settled
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have it flush soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="dompbus-flush", daemon=True)
            self._thread.start()
        self._asked.set()

    def join(self) -> None:
        """Wait for its end, after the reactor was closed."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._asked.set()
            self._thread.join()

    def _run(self) -> None:
        with suppress(ClosedError):
            while True:
                self._asked.wait()
                self._asked.clear()
                self._reactor.wait(self._is_settled)
