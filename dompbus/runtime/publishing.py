"""Publishing from user threads: when a message leaves at once, and when it waits for company.

The law here: a publisher that is quiet has its message sent at once, in the caller's thread; one that is busy
gathers, and the batch leaves when it is full or when the reactor comes by, whichever is first. There is no fixed
delay unless `linger` asks for one, and `publish` never waits for another thread.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from dompbus import limits
from dompbus.bus.outbox import DROPPED_FULL, QUEUED, Outbox, Receipt, Stream
from dompbus.runtime.reactor import Reactor

__all__ = ["Publishing"]

_BURST_NS: Final = 100_000  # two messages closer than this are a burst: gathering costs less than sending twice


class Publishing:
    """The public `publish` of a node or client, over its outbox.

    `send` sends what has gathered and is called under the reactor's lock; `wake` has some other thread do it soon.
    """

    def __init__(
        self,
        outbox: Outbox,
        reactor: Reactor,
        *,
        send: Callable[[], None],
        wake: Callable[[], None],
        linger_ns: int,
    ) -> None:
        self._outbox = outbox
        self._streams = outbox.streams
        self._batch_messages_max = outbox.batch_messages_max
        self._reactor = reactor
        self._send = send
        self._wake = wake
        self._linger_ns = linger_ns
        self._corked = False  # something waits, and whoever sends it knows
        self._hurry = False  # the next turn sends, whatever `linger` says
        self._sent_ns = 0  # when something was last sent, or began to linger

    def publish(self, topic: str, message: Any, *, urgent: bool = False) -> Receipt:
        """Publish one message; return at once with what became of it.

        `message` is a `Message`, or anything that msgspec encodes. `urgent` sends it, and all before it, now.
        Raises `InvalidTopic`, `InvalidMessage` and `ClosedError`.
        """
        stream = self._streams.get(topic)
        if stream is None:
            stream = self._open(topic)
        if not stream.wanted:
            self._reactor.check_usable()
            return QUEUED
        if len(stream.pending) >= limits.PENDING_MESSAGES_MAX:
            return self._refuse(1)
        size = self._outbox.add(stream, message)
        if size >= self._batch_messages_max or urgent:
            self._send_now()
        elif not self._corked:
            self._cork()
        return QUEUED

    def publish_many(self, topic: str, messages: Sequence[Any]) -> Receipt:
        """Publish messages of one topic, in order, as one batch (or several, when there are very many)."""
        stream = self._streams.get(topic)
        if stream is None:
            stream = self._open(topic)
        if not stream.wanted:
            self._reactor.check_usable()
            return QUEUED
        if len(stream.pending) + len(messages) > limits.PENDING_MESSAGES_MAX:
            return self._refuse(len(messages))
        self._outbox.add_many(stream, messages)
        self._send_now()
        return QUEUED

    def hold_until(self, now_ns: int) -> int | None:
        """For a turn: None when what has gathered is to be sent now, else the time until which it may linger."""
        if self._linger_ns and self._corked and not self._hurry and now_ns < self._sent_ns + self._linger_ns:
            return self._sent_ns + self._linger_ns
        self._corked = self._hurry = False
        if not self._linger_ns:
            self._sent_ns = now_ns
        return None

    def _open(self, topic: str) -> Stream:
        self._reactor.check_usable()
        with self._reactor.lock:
            return self._outbox.open(topic)

    def _send_now(self) -> None:
        """A batch is full: send it in this thread, or leave it to the thread that holds the lock."""
        self._reactor.check_usable()
        self._hurry = True
        if self._reactor.lock.acquire(blocking=False):
            try:
                self._send()
            finally:
                self._reactor.lock.release()
        else:
            self._corked = True
            self._wake()

    def _cork(self) -> None:
        """First message since the last send: send it if things are quiet, else have it sent soon, with company."""
        self._reactor.check_usable()
        now_ns = time.monotonic_ns()
        if self._linger_ns:
            self._sent_ns = now_ns
        elif now_ns - self._sent_ns > _BURST_NS:
            self._send_now()
            return
        self._corked = True
        self._wake()

    def _refuse(self, count: int) -> Receipt:
        """Nothing leaves: the node is not reached, or its thread is held up. Bounded memory comes first."""
        self._outbox.counters.messages_dropped["outbox_full"] += count
        self._send_now()
        return DROPPED_FULL
