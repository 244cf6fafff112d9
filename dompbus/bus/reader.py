"""The reader: puts the frames of one subscription back in order, once, and says what is missing.

The law here: what `take` hands out is the channel from the moment of subscription, in order, each message once; a
hole is asked for again, with back-off, and what cannot be filled stands in its place as a `Gap`.
"""

from collections import deque
from typing import Any, Final, NamedTuple

from sortedcontainers import SortedDict

from dompbus import limits
from dompbus.counters import Counters
from dompbus.wire.frame import Frame, FrameError, Refusal
from dompbus.wire.message import Decoder

__all__ = ["Batch", "Gap", "Reader"]

HELD_FRAMES_MAX: Final = limits.SOCKET_QUEUE_FRAMES  # out-of-order frames kept while a hole is being filled
READY_FRAMES_MAX: Final = 4 * limits.SOCKET_QUEUE_FRAMES  # in order, not yet taken by the user
NAK_DELAY_NS: Final = 2_000_000  # doubled at each attempt
NAK_DELAY_MAX_NS: Final = 500_000_000
NAK_ATTEMPTS_MAX: Final = 12  # about three seconds in all, the time in which silence is noticed


class Gap(NamedTuple):
    """Messages `first` to `last` of `topic` (or pattern) were lost for good.

    `last` is None when the publisher restarted: how many messages of the old epoch were lost cannot be known.
    """

    topic: str
    first: int
    last: int | None
    epoch: int


class Batch(NamedTuple):
    """Consecutive messages of one topic as they travelled. `seq` is the channel's number of the first of them."""

    topic: str
    epoch: int
    seq: int
    time_ns: int  # when the publisher sent it, ns since the Unix epoch by its clock
    messages: list[Any]


class Reader:
    """One subscription's position in its channel. Fed with frames and positions; asks for repairs by `nak_due`."""

    __slots__ = (
        "_attempts",
        "_decoder",
        "_held",
        "_known_seq",
        "_nak_ns",
        "_ready",
        "closed",
        "counters",
        "epoch",
        "error",
        "id",
        "pattern",
        "seq",
        "subscribed",
    )

    def __init__(self, id: int, pattern: str, type: Any, counters: Counters) -> None:
        self.id = id
        self.pattern = pattern
        self.counters = counters
        self.epoch = 0
        self.seq = 0  # of the next message in order
        self.subscribed = False
        self.closed = False
        self.error = ""
        self._decoder = Decoder(type)
        self._held: Any = SortedDict()  # seq -> Frame, all beyond a hole; the library has no types
        self._known_seq = 0  # the channel is known to reach up to here (exclusive)
        self._ready: deque[Frame | Gap] = deque()
        self._nak_ns = 0
        self._attempts = 0

    # -- what arrives ------------------------------------------------------------------------------------------

    def begin(self, epoch: int, seq: int) -> None:
        """The publisher has confirmed the subscription: the next message is `seq` of `epoch`."""
        self.subscribed = True
        if epoch == self.epoch:
            self.reach(epoch, seq)
            return
        if self.epoch:  # a new incarnation: what the old one still had for us is unknowable
            self._lose(None)
        self._held.clear()
        self.epoch, self.seq, self._known_seq = epoch, seq, seq

    def receive(self, frame: Frame) -> bool:
        """Take one published frame. Return False when it is of an epoch that `begin` has not announced yet."""
        if frame.epoch != self.epoch:
            if frame.epoch < self.epoch:
                self.counters.frames_refused[Refusal.STALE_EPOCH] += 1
                return True
            return False
        end = frame.seq + frame.count
        if frame.seq == self.seq and not self._held:  # the common case, kept short
            self.seq = end
            self._push(frame)
        elif frame.seq >= self.seq:
            self._held[frame.seq] = frame
            self._drain()
        self._known_seq = max(self._known_seq, end)
        return True

    def reach(self, epoch: int, seq: int) -> None:
        """The channel is known to have reached `seq`: anything below that is missing is a hole."""
        if epoch == self.epoch:
            self._known_seq = max(self._known_seq, seq)

    def lost(self, epoch: int, first: int, last: int) -> None:
        """The publisher can no longer send `first..last`."""
        if epoch == self.epoch and self.has_hole and first <= self.seq <= last:
            self._lose(min(last, self._hole_end() - 1))
            self._drain()

    # -- repair ------------------------------------------------------------------------------------------------

    @property
    def has_hole(self) -> bool:
        """Whether something before the channel's known end has not arrived."""
        return self.subscribed and self.seq < self._known_seq

    def nak_due(self, now_ns: int) -> tuple[int, int] | None:
        """Return the range to ask for now, if any; gives a hole up as a `Gap` after the last attempt."""
        if not self.has_hole:
            self._nak_ns = self._attempts = 0
            return None
        full = len(self._held) >= HELD_FRAMES_MAX
        if now_ns < self._nak_ns and not full:
            return None
        if self._attempts >= NAK_ATTEMPTS_MAX or full:
            self._lose(self._hole_end() - 1)
            self._drain()
            return self.nak_due(now_ns)
        self._nak_ns = now_ns + min(NAK_DELAY_NS << self._attempts, NAK_DELAY_MAX_NS)
        self._attempts += 1
        self.counters.repairs["asked"] += 1
        return self.seq, self._hole_end() - 1

    @property
    def nak_at_ns(self) -> int | None:
        """When `nak_due` wants to be called next, or None."""
        return self._nak_ns if self.has_hole else None

    # -- what the user takes -----------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._ready)

    def take(self) -> list[Batch | Gap]:
        """Hand out the next frame's messages, one batch per topic in it, or a gap. Empty when nothing is there."""
        if not self._ready:
            return []
        item = self._ready.popleft()
        if isinstance(item, Gap):
            return [item]
        try:
            runs = self._decoder.decode(item.body)
            if sum(len(messages) for _, messages in runs) != item.count:
                raise FrameError(Refusal.BODY, f"header counts {item.count} messages, the body does not")
        except FrameError as error:
            self.counters.frames_refused[error.reason] += 1
            return [Gap(self.pattern, item.seq, item.seq + item.count - 1, item.epoch)]
        self.counters.messages_delivered += item.count
        seq = item.seq
        batches: list[Batch | Gap] = []
        for topic, messages in runs:
            batches.append(Batch(topic, item.epoch, seq, item.time_ns, messages))
            seq += len(messages)
        return batches

    # -- inside ------------------------------------------------------------------------------------------------

    def _hole_end(self) -> int:
        """The number of the first message beyond the hole."""
        return int(self._held.peekitem(0)[0]) if self._held else self._known_seq

    def _drain(self) -> None:
        held = self._held
        while held and held.peekitem(0)[0] <= self.seq:
            _, frame = held.popitem(0)
            if frame.seq == self.seq:
                self.seq += frame.count
                self._attempts = 0
                self._push(frame)

    def _push(self, frame: Frame) -> None:
        self._ready.append(frame)
        if len(self._ready) > READY_FRAMES_MAX:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """The user does not keep up: the two oldest entries become one gap, in their place."""
        first, second = self._ready.popleft(), self._ready.popleft()
        for item in (first, second):
            if isinstance(item, Frame):
                self.counters.messages_dropped["slow_reader"] += item.count
        start = first.first if isinstance(first, Gap) else first.seq
        end = second.last if isinstance(second, Gap) else second.seq + second.count - 1
        last = end if first.epoch == second.epoch else None
        self._ready.appendleft(Gap(self.pattern, start, last, first.epoch))

    def _lose(self, last: int | None) -> None:
        self._ready.append(Gap(self.pattern, self.seq, last, self.epoch))
        self.counters.gaps += 1
        self.counters.repairs["lost"] += 1
        self._attempts = 0
        if last is not None:
            self.seq = last + 1
