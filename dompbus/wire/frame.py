"""The frame: what every socket of the bus carries. A fixed header of 48 bytes, then a msgpack body.

The law here: nothing behind the header is looked at before magic, version, length and checksum have been verified,
and what is unknown (version, kind, flag) is refused with a reason that is counted, never guessed.
The byte table is in docs/protocol.md; tests/vectors/frames.json lets other implementations check themselves.
"""

import struct
from enum import IntEnum, StrEnum
from typing import Final

from xxhash import xxh3_64_intdigest

from dompbus import limits
from dompbus.errors import ProtocolError

__all__ = ["VERSION", "Frame", "FrameError", "Kind", "Refusal", "pack", "parse"]

MAGIC: Final = b"DOMP"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sBBHIIQQQ")  # magic, version, kind, flags, count, length, epoch, seq, time_ns
_SUM: Final = struct.Struct("<Q")
assert _HEAD.size + _SUM.size == limits.HEADER_BYTES


class Kind(IntEnum):
    """What a frame is for; the number is on the wire and never reused."""

    HELLO = 1
    WELCOME = 2
    GOODBYE = 3
    REFUSED = 4
    SUBSCRIBE = 5
    SUBSCRIBED = 6
    UNSUBSCRIBE = 7
    JOINED = 8
    PUBLISH = 9
    HEAD = 10
    NAK = 11
    LOST = 12
    REQUEST = 13
    REPLY = 14
    PING = 15
    PONG = 16


class Refusal(StrEnum):
    """Why a frame was refused; the label of its counter and the word in a `REFUSED` answer."""

    SHORT = "short"
    MAGIC = "magic"
    VERSION = "version"
    LENGTH = "length"
    CHECKSUM = "checksum"
    KIND = "kind"
    FLAGS = "flags"
    BOUNDS = "bounds"
    BODY = "body"
    UNEXPECTED = "unexpected"
    STRANGER = "stranger"
    STALE_EPOCH = "stale_epoch"
    HANDSHAKE = "handshake"
    TOO_MANY = "too_many"


class FrameError(ProtocolError):
    """Bytes that are not a frame this implementation may act on. `reason` says why."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Frame:
    """One verified frame. `body` is a view into the bytes that arrived: msgpack, not yet decoded."""

    __slots__ = ("body", "count", "epoch", "kind", "seq", "time_ns")

    def __init__(self, kind: Kind, count: int, epoch: int, seq: int, time_ns: int, body: memoryview) -> None:
        self.kind = kind
        self.count = count
        self.epoch = epoch
        self.seq = seq
        self.time_ns = time_ns
        self.body = body

    def __repr__(self) -> str:
        return f"Frame({self.kind.name}, count={self.count}, epoch={self.epoch}, seq={self.seq}, {len(self.body)} B)"


def pack(
    kind: Kind, body: bytes, *, count: int = 1, epoch: int = 0, seq: int = 0, time_ns: int = 0, prefix: bytes = b""
) -> bytes:
    """Return the bytes of one frame, after `prefix` (the channel name of published frames, outside the checksum)."""
    assert len(body) <= limits.BODY_BYTES_MAX
    head = _HEAD.pack(MAGIC, VERSION, kind, 0, count, len(body), epoch, seq, time_ns)
    return b"".join((prefix, head, _SUM.pack(_checksum(head, body)), body))


def parse(data: bytes | memoryview) -> Frame:
    """Return the frame in `data`, which must hold exactly one; raise `FrameError` otherwise. Allocates no copy."""
    view = memoryview(data)
    if len(view) < limits.HEADER_BYTES:
        raise FrameError(Refusal.SHORT, f"{len(view)} bytes; a header alone has {limits.HEADER_BYTES}")
    head = view[: _HEAD.size]
    magic, version, kind, flags, count, length, epoch, seq, time_ns = _HEAD.unpack(head)
    if magic != MAGIC:
        raise FrameError(Refusal.MAGIC, f"{bytes(magic)!r} is not {MAGIC!r}")
    if version != VERSION:
        raise FrameError(Refusal.VERSION, f"version {version}; this side speaks {VERSION}")
    if length != len(view) - limits.HEADER_BYTES or length > limits.BODY_BYTES_MAX:
        raise FrameError(Refusal.LENGTH, f"header says {length}, {len(view) - limits.HEADER_BYTES} bytes came")
    body = view[limits.HEADER_BYTES :]
    (checksum,) = _SUM.unpack_from(view, _HEAD.size)
    if checksum != _checksum(head, body):
        raise FrameError(Refusal.CHECKSUM, "header and body do not match their checksum")
    known = _KINDS.get(kind)
    if known is None:
        raise FrameError(Refusal.KIND, f"kind {kind} is unknown")
    if flags:
        raise FrameError(Refusal.FLAGS, f"flags {flags:#06x} are unknown")
    if count > limits.MESSAGES_PER_FRAME_MAX or max(epoch, seq + count, time_ns) > limits.SEQ_MAX:
        raise FrameError(Refusal.BOUNDS, f"count {count}, epoch {epoch}, seq {seq} or time {time_ns} out of bounds")
    return Frame(known, count, epoch, seq, time_ns, body)


_KINDS: Final = {int(kind): kind for kind in Kind}


def _checksum(head: bytes | memoryview, body: bytes | memoryview) -> int:
    """Cover header and body without joining them: the header's hash seeds the body's."""
    return xxh3_64_intdigest(body, xxh3_64_intdigest(head))
