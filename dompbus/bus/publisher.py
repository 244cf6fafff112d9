"""The publisher: turns runs into sequenced frames, one channel per subscribed pattern, and keeps them for repair.

The law here: a channel numbers its messages from 1 without holes within the publisher's epoch, and every frame it
ever sent is either in the ring or older than all that is. What is encoded is encoded once, however many channels
carry it.
"""

from collections import deque
from typing import Final, NamedTuple

import msgspec

from dompbus import limits
from dompbus.bus.outbox import EncodedRun, Outbox, Stream
from dompbus.counters import Counters
from dompbus.topics import Pattern
from dompbus.wire.frame import Kind, pack
from dompbus.wire.message import encode

__all__ = ["Channel", "Publisher", "channel_prefix"]

HEAD_PAUSE_MAX: Final = 64  # ticks: a reader that lost tail and beacons learns of it within 13 s
REPAIR_FRAMES_MAX: Final = 64  # per NAK: a reader that needs more asks again, so repair cannot starve the rest


class _Sent(NamedTuple):
    seq: int
    length: int  # in messages
    frame: bytes  # without the channel's prefix


class Channel:
    """All that matches one pattern, as a stream of its own with its own sequence.

    For a plain topic this is the topic's stream. For a pattern it merges the streams that match: the order within
    each topic is kept, and one comparison of numbers finds a loss in any of them.
    """

    __slots__ = (
        "announced_seq",
        "fanned",
        "head_pause",
        "head_wait",
        "pattern",
        "prefix",
        "readers",
        "ring",
        "runs",
        "seq",
    )

    def __init__(self, pattern: Pattern, seq: int) -> None:
        self.pattern = pattern
        self.prefix = channel_prefix(pattern.text)
        self.seq = seq  # of the next message
        self.announced_seq = seq  # readers have been told of everything below
        self.head_pause = 0  # ticks between the next two beacons; 0: nothing was sent yet
        self.head_wait = 0  # ticks until the next one
        self.readers = 0  # subscriptions held by known peers
        self.fanned = False  # some SUB socket listens
        self.ring: deque[_Sent] = deque()
        self.runs: list[EncodedRun] = []


def channel_prefix(pattern: str) -> bytes:
    """What a published frame starts with on PUB/SUB sockets: the pattern and a NUL, so no prefix hides another."""
    return pattern.encode("ascii") + b"\0"


class Publisher(Outbox):
    """A node's outbox with the channels that its subscribers asked for."""

    def __init__(
        self,
        counters: Counters,
        *,
        epoch: int,
        batch_messages_max: int,
        batch_bytes_max: int,
        ring_frames: int,
        ring_bytes: int,
    ) -> None:
        super().__init__(counters, batch_messages_max=batch_messages_max, wanted=False)
        self.epoch = epoch
        self.channels: dict[str, Channel] = {}
        self._batch_bytes_max = min(batch_bytes_max, limits.BODY_BYTES_MAX - 5)  # a list of runs begins with up to 5
        self._ring_frames = ring_frames
        self._ring_bytes_max = ring_bytes
        self._ring_bytes = 0
        self._rotation: deque[Channel] = deque()  # whose ring gives next, when all together hold too many bytes
        self._seq_floor = 1  # above every number a forgotten channel has used: no number names two messages

    # -- channels ----------------------------------------------------------------------------------------------

    def channel(self, pattern: str) -> Channel:
        """Return the channel of `pattern`, opening it on first use. Raises `InvalidTopic`."""
        channel = self.channels.get(pattern)
        if channel is None:
            channel = self.channels[pattern] = Channel(Pattern(pattern), self._seq_floor)
            self._rotation.append(channel)
            for stream in self.streams.values():
                self._attach(stream, channel)
        return channel

    def drop_if_unused(self, channel: Channel) -> None:
        """Forget a channel that nobody reads. A reader that returns later starts in a new one, and is told."""
        if channel.readers or channel.fanned:
            return
        del self.channels[channel.pattern.text]
        self._rotation.remove(channel)
        self._seq_floor = max(self._seq_floor, channel.seq)
        self._ring_bytes -= sum(len(sent.frame) for sent in channel.ring)
        for stream in self.streams.values():
            if channel in stream.channels:
                stream.channels.remove(channel)
                stream.wanted = bool(stream.channels)

    def opened(self, stream: Stream) -> None:
        """Attach the channels whose pattern matches a new stream."""
        for channel in self.channels.values():
            self._attach(stream, channel)

    def _attach(self, stream: Stream, channel: Channel) -> None:
        if channel.pattern.matches(stream.topic):
            stream.channels.append(channel)
            stream.wanted = True

    # -- frames ------------------------------------------------------------------------------------------------

    def frames(self, time_ns: int) -> list[bytes]:
        """Take what was gathered and return the frames to fan out, each with its channel's prefix."""
        touched: dict[int, Channel] = {}
        for run in self.take():
            for channel in run.stream.channels:
                channel.runs.append(run)
                touched[id(channel)] = channel
        frames: list[bytes] = []
        for channel in touched.values():
            self._cut(channel, time_ns, frames)
        return frames

    def heads(self) -> list[bytes]:
        """Return a beacon for each channel that sent since its last one, so that a lost tail is noticed.

        Called at each tick. A silent channel's beacon is repeated at growing distances, as beacons get lost too.
        """
        beacons = []
        for channel in self.channels.values():
            if channel.announced_seq != channel.seq:
                channel.announced_seq = channel.seq
                channel.head_pause = 1
            elif channel.head_wait > 1 or not channel.head_pause:
                channel.head_wait -= 1
                continue
            channel.head_wait = channel.head_pause
            channel.head_pause = min(2 * channel.head_pause, HEAD_PAUSE_MAX)
            beacons.append(pack(Kind.HEAD, b"", count=0, epoch=self.epoch, seq=channel.seq, prefix=channel.prefix))
        return beacons

    def repair(self, channel: Channel, first: int, last: int) -> tuple[list[bytes], tuple[int, int] | None]:
        """Return the frames that hold messages `first..last` and the range that can no longer be sent, if any."""
        oldest = channel.ring[0].seq if channel.ring else channel.seq
        last = min(last, channel.seq - 1)
        lost = (first, min(last, oldest - 1)) if first < oldest and first <= last else None
        frames = [sent.frame for sent in channel.ring if sent.seq <= last and sent.seq + sent.length > first]
        return frames[:REPAIR_FRAMES_MAX], lost

    def _cut(self, channel: Channel, time_ns: int, frames: list[bytes]) -> None:
        """Cut a channel's runs into frames of at most the batch's messages and bytes."""
        runs, channel.runs = channel.runs, []
        part: list[EncodedRun] = []
        count = size = 0
        for run in runs:
            if part and (
                count + run.length > self.batch_messages_max
                or size + len(run.data) > self._batch_bytes_max
                or len(part) >= limits.RUNS_PER_FRAME_MAX
            ):
                frames.append(self._frame(channel, part, count, time_ns))
                part, count, size = [], 0, 0
            part.append(run)
            count += run.length
            size += len(run.data)
        frames.append(self._frame(channel, part, count, time_ns))

    def _frame(self, channel: Channel, runs: list[EncodedRun], count: int, time_ns: int) -> bytes:
        body = b"\x91" + runs[0].data if len(runs) == 1 else encode([msgspec.Raw(run.data) for run in runs])
        frame = pack(Kind.PUBLISH, body, count=count, epoch=self.epoch, seq=channel.seq, time_ns=time_ns)
        self._keep(channel, _Sent(channel.seq, count, frame))
        channel.seq += count
        self.counters.messages_published += count
        return channel.prefix + frame

    def _keep(self, channel: Channel, sent: _Sent) -> None:
        channel.ring.append(sent)
        self._ring_bytes += len(sent.frame)
        if len(channel.ring) > self._ring_frames:
            self._forget_oldest(channel)
        while self._ring_bytes > self._ring_bytes_max:
            self._forget_oldest(self._rotation[0])
            self._rotation.rotate(-1)

    def _forget_oldest(self, channel: Channel) -> None:
        if channel.ring:
            self._ring_bytes -= len(channel.ring.popleft().frame)
