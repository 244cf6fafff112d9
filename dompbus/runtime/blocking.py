"""The blocking face of a link: subscriptions to iterate and requests to wait for, from any thread.

The law here: no thread of its own. Whoever waits pumps the reactor; what arrives for others is kept for them. A wait
can be interrupted (KeyboardInterrupt) and taken up again without losing a message.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from dompbus.bus.link import LinkCore, State
from dompbus.bus.outbox import Receipt
from dompbus.bus.reader import Batch, Gap, Reader
from dompbus.config import Config
from dompbus.counters import Counters
from dompbus.errors import ClosedError, DompbusError, InvalidTopic, Timeout, Unreachable
from dompbus.runtime.answers import check_delivery, interpret
from dompbus.runtime.link import Link
from dompbus.runtime.publishing import Publishing
from dompbus.runtime.reactor import Reactor
from dompbus.wire.message import encode_value

__all__ = ["BlockingLink", "Subscription", "new_incarnation", "new_link_core"]


class Subscription:
    """Messages of one pattern, in order: `for message in subscription`. Close it, or use it in a `with`."""

    def __init__(self, link: "BlockingLink", reader: Reader) -> None:
        self.pattern = reader.pattern
        self._link = link
        self._reader = reader
        self._batches: deque[Batch | Gap] = deque()
        self._items: deque[Any] = deque()

    def receive(self, timeout: float | None = None) -> Any:
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

    def __iter__(self) -> Iterator[Any]:
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
    """A link in a reactor of its own without a thread, with the calls that a user waits in."""

    def __init__(self, url: str, config: Config, *, name: str, incarnation: int | None = None) -> None:
        self.url = url
        self.counters = Counters()
        self._config = config
        self._core = new_link_core(config, self.counters, name, incarnation)
        self._reactor = Reactor(self, spin_ns=int(config.timeouts.spin * 1e9))
        self._flusher = _Flusher(self._reactor, self._is_settled)
        self._publishing = Publishing(
            self._core.outbox,
            self._reactor,
            send=self._turn,
            wake=self._flusher.wake,
            linger_ns=int(config.batch.linger * 1e9),
        )
        self._link = Link(url, self._core, self._reactor, queue_frames=config.flow.socket_queue_frames)
        self.publish: Callable[..., Receipt] = self._publishing.publish  # bound once: the hot path
        self.publish_many: Callable[..., Receipt] = self._publishing.publish_many

    def flush(self, timeout: float | None = None) -> None:
        """Return when everything published has been handed to the transport; raise `Timeout` or `Unreachable`."""
        self._publishing.hurry()
        if not self._reactor.wait(self._sent_all, self._deadline_ns(timeout)):
            raise self._no_answer(f"{self.url} has not taken what was published")

    def subscribe(
        self,
        pattern: str,
        *,
        type: Any = None,
        delivery: str = "reliable",
        timeout: float | None = None,
    ) -> Subscription:
        """Subscribe; returns when the node has confirmed, so that nothing published afterwards is missed."""
        check_delivery(delivery)
        deadline_ns = self._deadline_ns(timeout)
        with self._reactor.lock:
            self._reactor.check_usable()
            reader = self._core.subscribe(pattern, type, time.monotonic_ns())
        try:
            if not self._reactor.wait(lambda: reader.subscribed or bool(reader.error), deadline_ns):
                raise self._no_answer(f"no answer from {self.url} to the subscription of {pattern!r}")
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
        deadline_ns = self._deadline_ns(timeout)
        with self._reactor.lock:
            self._reactor.check_usable()
            outstanding = self._core.request(service, payload, deadline_ns=deadline_ns, now_ns=time.monotonic_ns())
        try:
            self._reactor.wait(lambda: outstanding.done)
        except BaseException:
            self._core.forget(outstanding)
            raise
        if outstanding.reply is None:
            raise self._no_answer(f"no answer from {service!r} at {self.url} in time; it may have been carried out")
        return interpret(outstanding, type)

    def close(self) -> None:
        """Send what is left, say goodbye, close. Idempotent."""
        if self._reactor.closed:
            return
        if not self._core.outbox.empty or (self._core.state is State.READY and not self._link.clear):
            with suppress(DompbusError):
                self.flush(self._config.timeouts.close)
        self._reactor.close(self._farewell)
        self._flusher.join()

    # -- inside ------------------------------------------------------------------------------------------------

    def work(self, now_ns: int) -> int:
        """For the reactor: send what is asked for and what was published, unless it may linger."""
        if not self._core.outbox.empty:
            self._core.begin(now_ns)
        if self._publishing.is_due(now_ns) and self._link.clear:
            self._core.publish_gathered()
        return min(self._link.work(now_ns), self._publishing.next_ns)

    def has_work(self) -> bool:
        """For the reactor: whether there is something to send."""
        return self._core.has_effects

    def _turn(self) -> None:
        self._reactor.turn()
        if not self._sent_all():  # not welcomed yet, or the socket is full: somebody has to stay
            self._flusher.wake()

    def _is_settled(self) -> bool:
        return not self._publishing.gathering and self._sent_all()

    def _sent_all(self) -> bool:
        return self._core.outbox.empty and self._link.clear

    def _farewell(self) -> None:
        self._core.close()
        self._link.work(time.monotonic_ns())

    def _deadline_ns(self, timeout: float | None) -> int:
        seconds = self._config.timeouts.request if timeout is None else timeout
        return time.monotonic_ns() + int(seconds * 1e9)

    def _no_answer(self, what: str) -> DompbusError:
        if self._core.node is None:
            return Unreachable(f"no node answers at {self.url}: is it running, and is the address right?")
        return Timeout(what)


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


def new_incarnation() -> int:
    """Return a number that no other start of a node or client has: 63 random bits. (`secrets` would load OpenSSL.)"""
    return int.from_bytes(os.urandom(8)) >> 1 or 1


def new_link_core(config: Config, counters: Counters, name: str, incarnation: int | None = None) -> LinkCore:
    """Return the core of a link with an incarnation of its own."""
    return LinkCore(
        incarnation=incarnation or new_incarnation(),
        name=name,
        counters=counters,
        heartbeat_ns=int(config.timeouts.heartbeat_interval * 1e9),
        batch_messages_max=config.batch.messages_max,
    )
