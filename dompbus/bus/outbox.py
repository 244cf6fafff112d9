"""The outbox: gathers published messages per topic and encodes them as runs, one call per batch.

The law here: `add_many`, or an append to a stream's `pending` and then `mark`, may be done from any thread and takes
no lock (each step is one atomic operation of the interpreter); `take` and `relay` belong to whoever holds the node's
lock. A message is handed out exactly once, in the order of its adding within its topic.
"""

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from dompbus import limits
from dompbus.counters import Counters
from dompbus.errors import InvalidMessage
from dompbus.topics import Topic, check_topic
from dompbus.wire.message import ENCODE_ERRORS, Message, encode, encode_raw

__all__ = ["DROPPED_FULL", "QUEUED", "EncodedRun", "Outbox", "Receipt", "Stream"]


class Receipt(msgspec.Struct, frozen=True):
    """What became of one `publish`: outcome `queued`, `stored` or `dropped`, and for a drop, why and where.

    False in a condition when the message was dropped.
    """

    outcome: str
    reason: str = ""
    who: str = ""


class _Dropped(Receipt, frozen=True):
    """A kind of its own, so that asking the other kind whether it is true costs no call."""

    def __bool__(self) -> bool:
        return False


_log: Final = logging.getLogger("dompbus.publish")
QUEUED: Final = Receipt("queued")
DROPPED_FULL: Final = _Dropped("dropped", "full", "outbox")


class Stream:
    """One topic of this publisher: the messages gathered since the last `take`."""

    __slots__ = ("channels", "dirty", "kind", "pending", "topic", "wanted")

    def __init__(self, topic: Topic, *, wanted: bool) -> None:
        self.topic = topic
        self.pending: list[Any] = []
        self.kind: type | None = None  # the `Message` class seen last: such a message may be appended as it is
        self.dirty = False
        self.wanted = wanted  # False: nobody listens, so publishing costs nothing
        self.channels: list[Any] = []  # of the node's publisher; a client's outbox leaves it empty


class EncodedRun(NamedTuple):
    """Consecutive messages of one topic, encoded as `[topic, [message, ...]]`."""

    stream: Stream
    length: int  # in messages
    data: bytes


class Outbox:
    """Gathers messages by topic. `batch_messages_max` bounds a run, `batch_bytes_max` is where frames are cut."""

    def __init__(self, counters: Counters, *, batch_messages_max: int, wanted: bool) -> None:
        self.counters = counters
        self.batch_messages_max = batch_messages_max
        self.streams: dict[str, Stream] = {}
        self._wanted = wanted
        self._dirty: deque[Stream] = deque()
        self._relayed: list[EncodedRun] = []

    def open(self, topic: str) -> Stream:
        """Return the stream of `topic`, opening it on first use. Raises `InvalidTopic`."""
        stream = self.streams.get(topic)
        if stream is None:
            checked = check_topic(topic)
            if len(self.streams) >= limits.STREAMS_MAX:
                raise ValueError(f"this publisher has {limits.STREAMS_MAX} topics open, which is the limit")
            stream = self.streams.setdefault(topic, Stream(checked, wanted=self._wanted))
            self.opened(stream)
        return stream

    def opened(self, stream: Stream) -> None:
        """Hook: a stream was opened. The node's publisher attaches channels here."""

    def add_many(self, stream: Stream, messages: Sequence[Any]) -> None:
        """Gather messages of one topic in one step."""
        if set(map(type, messages)) != {stream.kind}:
            messages = [self.prepare(stream, message) for message in messages]
        stream.pending.extend(messages)
        if not stream.dirty:
            self.mark(stream)

    def prepare(self, stream: Stream, message: Any) -> Any:
        """Return what to append to `stream.pending`: a `Message` as it is, anything else encoded, as it may change."""
        if isinstance(message, Message):
            stream.kind = type(message)
            return message
        raw = encode_raw(message)
        size = len(memoryview(raw))
        if size >= limits.BODY_BYTES_MAX - limits.TOPIC_BYTES_MAX:
            raise InvalidMessage(f"a message of {size} bytes; at most {limits.BODY_BYTES_MAX} can travel")
        return raw

    def mark(self, stream: Stream) -> None:
        """Note that something was appended to `stream.pending`; after the append, unless `stream.dirty` is set."""
        stream.dirty = True
        self._dirty.append(stream)

    def relay(self, stream: Stream, messages: msgspec.Raw, count: int) -> None:
        """Gather a run that a client has already encoded, behind what this topic has gathered so far."""
        self._encode_pending(stream, self._relayed)
        self._relayed.append(EncodedRun(stream, count, encode((stream.topic, messages))))

    def count_pending(self) -> int:
        """How many messages are gathered, over all topics."""
        return sum(len(stream.pending) for stream in tuple(self._dirty))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._dirty and not self._relayed

    def take(self) -> list[EncodedRun]:
        """Hand out all that was gathered, encoded."""
        runs, self._relayed = self._relayed, []
        dirty = self._dirty
        for _ in range(len(dirty)):
            self._encode_pending(dirty.popleft(), runs)
        return runs

    def _encode_pending(self, stream: Stream, runs: list[EncodedRun]) -> None:
        stream.dirty = False  # before looking: an append after this line marks the stream again
        pending = stream.pending
        size = len(pending)
        messages = pending[:size]
        del pending[:size]
        step = self.batch_messages_max
        for start in range(0, size, step):
            self._encode(stream, messages[start : start + step] if size > step else messages, runs)

    def _encode(self, stream: Stream, messages: list[Any], runs: list[EncodedRun]) -> None:
        try:
            data = encode((stream.topic, messages))
        except ENCODE_ERRORS:
            data = b""
        if data and len(data) < limits.BODY_BYTES_MAX:
            runs.append(EncodedRun(stream, len(messages), data))
        elif len(messages) > 1:  # one of them cannot travel: find it, keep the others
            half = len(messages) // 2
            self._encode(stream, messages[:half], runs)
            self._encode(stream, messages[half:], runs)
        else:
            reason = "too_large" if data else "unencodable"
            self.counters.messages_dropped[reason] += 1
            _log.error("a message on %s was dropped, as it is %s: %.200r", stream.topic, reason, messages[0])
