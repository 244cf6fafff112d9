"""Publishing from user threads: when a message leaves at once, and when it waits for company.

The law here: a publisher that is quiet has its message sent at once, in the caller's thread. One in a burst gathers:
a full batch leaves in the caller's thread too, and what is left over when the burst ends leaves within a millisecond,
through the thread that pumps, which looks once a millisecond while the burst lasts (a wake-up for each batch would cost
more than the batch). There is no other delay unless `linger` asks for one. Adding to a batch takes no lock (each step
is one atomic operation of the interpreter); sending one does.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from dompbus import limits
from dompbus.bus.outbox import DROPPED_FULL, QUEUED, Outbox, Receipt, Stream
from dompbus.runtime.reactor import Reactor

__all__ = ["GATHER_NS", "Publish", "PublishMany", "Publishing"]

_BURST_NS: Final = 20_000  # messages closer than this are a burst: about what it costs to send one by itself
GATHER_NS: Final = 1_000_000
_NEVER: Final = 2**63


class Publish(Protocol):
    """`publish(topic, message, urgent=False)`: see `Publishing.publish`."""

    def __call__(self, topic: str, message: Any, *, urgent: bool = False) -> Receipt:
        """Publish one message."""
        ...


class PublishMany(Protocol):
    """`publish_many(topic, messages)`: see `Publishing.publish_many`."""

    def __call__(self, topic: str, messages: Sequence[Any]) -> Receipt:
        """Publish messages of one topic."""
        ...


class Publishing:
    """The public `publish` of a node or client, over its outbox.

    `send` sends what has gathered, in this thread and under the reactor's lock. `wake` has the thread that pumps take
    a turn, in which it asks `is_due` and `next_ns`. `gather_ns` is how long the rest of a burst may wait for that.
    """

    def __init__(
        self,
        outbox: Outbox,
        reactor: Reactor,
        *,
        send: Callable[[], None],
        wake: Callable[[], None],
        linger_ns: int,
        gather_ns: int = GATHER_NS,
    ) -> None:
        self._outbox = outbox
        self._streams = outbox.streams
        self._batch_messages_max = outbox.batch_messages_max
        self._reactor = reactor
        self._send = send
        self._wake = wake
        self._linger_ns = linger_ns
        self._gather_ns = linger_ns or gather_ns
        self._corked = False  # something gathers, and the thread that pumps knows
        self._until_ns = 0  # ... until then
        self._busy = False  # a batch has left since that thread last looked: the burst goes on
        self._hurry = False  # the next turn sends, whatever the time
        self._stalled = False  # what was to be sent could not be: no node has welcomed us, or its queue is full
        self._held = 0  # messages that wait since then, about
        self._sent_ns = 0  # when something was last sent

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
        if self._stalled and not self._has_room(1):
            return self._refuse(1)
        if message.__class__ is not stream.kind:  # a comparison costs 28 ns, `isinstance` 85
            message = self._outbox.prepare(stream, message)
        pending.append(message)
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
        if self._stalled and not self._has_room(len(messages)):
            return self._refuse(len(messages))
        self._outbox.add_many(stream, messages)
        self._send_now()
        return QUEUED

    def hurry(self) -> None:
        """Have the next turn send what has gathered."""
        self._hurry = True

    def is_due(self, now_ns: int) -> bool:
        """For a turn: whether what has gathered is to be sent in it."""
        if self._corked and now_ns >= self._until_ns:
            if self._linger_ns or not (self._busy or not self._outbox.empty):
                self._corked = False
            self._until_ns = now_ns + self._gather_ns
            self._busy = False
        elif self._corked and not self._hurry:
            return False
        self._hurry = False
        return True

    @property
    def gathering(self) -> bool:
        """Whether a burst goes on, so that somebody has to pump."""
        return self._corked

    @property
    def next_ns(self) -> int:
        """When the thread that pumps has to look again, at the latest (monotonic ns)."""
        return self._until_ns if self._corked else _NEVER

    def _open(self, topic: str) -> Stream:
        self._reactor.check_usable()
        with self._reactor.lock:
            return self._outbox.open(topic)

    def _send_now(self) -> None:
        """Send in this thread."""
        self._reactor.check_usable()
        with self._reactor.lock:
            self._hurry = self._busy = True
            self._send()
            self._stalled = not self._outbox.empty
        self._sent_ns = time.monotonic_ns()

    def _cork(self) -> None:
        """Nothing gathers yet: send this message by itself if things are quiet, else begin to gather."""
        self._reactor.check_usable()
        now_ns = time.monotonic_ns()
        if not self._linger_ns and now_ns - self._sent_ns > _BURST_NS:
            self._send_now()
            return
        self._until_ns = now_ns + self._gather_ns
        self._corked = True
        self._wake()

    def _has_room(self, count: int) -> bool:
        """While nothing leaves: whether so many more messages fit into the bound, over all topics together."""
        if self._outbox.empty:
            self._stalled, self._held = False, 0
            return True
        if self._held + count > limits.PENDING_MESSAGES_MAX:  # as far as we counted; some may have left since
            self._held = self._outbox.count_pending()
        self._held += count
        if self._held > limits.PENDING_MESSAGES_MAX:
            self._held -= count
            return False
        return True

    def _refuse(self, count: int) -> Receipt:
        """Nothing leaves: the node is not reached, or its thread is held up. Bounded memory comes first."""
        self._outbox.counters.messages_dropped["outbox_full"] += count
        self._send_now()
        return DROPPED_FULL
