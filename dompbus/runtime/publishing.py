"""Publishing from user threads: when a message leaves at once, and when it waits for company.

The law here: a publisher that is quiet has its message sent at once, in the caller's thread; one that is busy
gathers, and the batch leaves when it is full or when the reactor comes by, whichever is first. There is no fixed
delay unless `linger` asks for one. Adding to a batch takes no lock (each step is one atomic operation of the
interpreter); sending one does.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from dompbus import limits
from dompbus.bus.outbox import DROPPED_FULL, QUEUED, Outbox, Receipt, Stream
from dompbus.runtime.reactor import Reactor
from dompbus.wire.message import Message, encode_raw

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
        self._stalled = False  # what was to be sent could not be: no node has welcomed us, or its queue is full
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
        pending = stream.pending
        if self._stalled and len(pending) >= limits.PENDING_MESSAGES_MAX:
            return self._refuse(1)
        pending.append(message if isinstance(message, Message) else encode_raw(message))
        if not stream.dirty:
            self._outbox.mark(stream)
        if urgent or len(pending) >= self._batch_messages_max:
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
        if self._stalled and len(stream.pending) + len(messages) > limits.PENDING_MESSAGES_MAX:
            return self._refuse(len(messages))
        self._outbox.add_many(stream, messages)
        self._send_now()
        return QUEUED

    def hold_until(self, now_ns: int) -> int | None:
        """For a turn: None when what has gathered is to be sent now, else the time until which it may linger."""
        if self._linger_ns and self._corked and not self._hurry and now_ns < self._sent_ns + self._linger_ns:
            return self._sent_ns + self._linger_ns
        self._hurry = False
        if self._linger_ns:
            self._corked = False
        return None

    def uncork(self, now_ns: int) -> None:
        """For whoever `wake` wakes, before it sends: the next burst has to wake it again."""
        if not self._linger_ns:
            self._corked = False
            self._sent_ns = now_ns

    def _open(self, topic: str) -> Stream:
        self._reactor.check_usable()
        with self._reactor.lock:
            return self._outbox.open(topic)

    def _send_now(self) -> None:
        """Send in this thread. A burst stays corked: what follows this batch is for the thread that was woken."""
        self._reactor.check_usable()
        with self._reactor.lock:
            self._hurry = True
            self._send()
            self._stalled = not self._outbox.empty
        if not self._linger_ns:
            self._sent_ns = time.monotonic_ns()

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
