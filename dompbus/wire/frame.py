"""The frame: what every socket of the bus carries. A fixed header of 48 bytes, then a msgpack body.

The law here: nothing behind the header is looked at before magic, version, length and checksum have been verified,
and what is unknown (version, kind, flag) is refused with a reason that is counted, never guessed.
The byte table is in docs/protocol.md; tests/vectors/frames.json lets other implementations check themselves.
"""

import struct
from enum import IntEnum, StrEnum
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from dompbus import limits
from dompbus.errors import ProtocolError

__all__ = ["REPAIR_MARK", "VERSION", "Frame", "FrameError", "Kind", "Refusal", "pack", "parse"]

MAGIC: Final = b"DOMP"
VERSION: Final = 1
REPAIR_MARK: Final = b"\0"  # before a channel's frame that is sent again on the DEALER link; no magic begins so
_HEAD: Final = struct.Struct("<4sBBHIIQQQ")  # magic, version, kind, flags, count, length, epoch, seq, time_ns
_SUM: Final = struct.Struct("<Q")  # xxh3_64 of the body, seeded with that of the header before it: covers both
_HEADER: Final = struct.Struct(_HEAD.format + "Q")
assert _HEADER.size == _HEAD.size + _SUM.size == limits.HEADER_BYTES
assert limits.EPOCH_MAX == limits.SEQ_MAX == limits.TIME_NS_MAX == 2**63 - 1


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


class Frame(msgspec.Struct, gc=False):
    """One verified frame. `body` is a view into the bytes that arrived: msgpack, not yet decoded."""

    kind: Kind
    count: int
    epoch: int
    seq: int
    time_ns: int
    body: memoryview


def pack(
    kind: Kind, body: bytes, *, count: int = 1, epoch: int = 0, seq: int = 0, time_ns: int = 0, prefix: bytes = b""
) -> bytes:
    """Return the bytes of one frame, after `prefix` (the channel name of published frames, outside the checksum)."""
    assert len(body) <= limits.BODY_BYTES_MAX
    head = _HEAD.pack(MAGIC, VERSION, kind, 0, count, len(body), epoch, seq, time_ns)
    return b"".join((prefix, head, _SUM.pack(xxh3_64_intdigest(body, xxh3_64_intdigest(head))), body))


def parse(data: bytes | memoryview) -> Frame:
    """Return the frame in `data`, which must hold exactly one; raise `FrameError` otherwise. Allocates no copy."""
    view = memoryview(data)
    size = len(view) - limits.HEADER_BYTES
    if size < 0:
        raise FrameError(Refusal.SHORT, f"{len(view)} bytes; a header alone has {limits.HEADER_BYTES}")
    magic, version, kind, flags, count, length, epoch, seq, time_ns, checksum = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise FrameError(Refusal.MAGIC, f"{bytes(magic)!r} is not {MAGIC!r}")
    if version != VERSION:
        raise FrameError(Refusal.VERSION, f"version {version}; this side speaks {VERSION}")
    if length != size or length > limits.BODY_BYTES_MAX:
        raise FrameError(Refusal.LENGTH, f"header says {length}, {size} bytes came")
    body = view[limits.HEADER_BYTES :]
    if checksum != xxh3_64_intdigest(body, xxh3_64_intdigest(view[: _HEAD.size])):
        raise FrameError(Refusal.CHECKSUM, "header and body do not match their checksum")
    known = _KINDS.get(kind)
    if known is None:
        raise FrameError(Refusal.KIND, f"kind {kind} is unknown")
    if flags:
        raise FrameError(Refusal.FLAGS, f"flags {flags:#06x} are unknown")
    if (epoch | seq | time_ns) >> 63 or count > limits.MESSAGES_PER_FRAME_MAX or seq + count > limits.SEQ_MAX:
        raise FrameError(Refusal.BOUNDS, f"count {count}, epoch {epoch}, seq {seq} or time {time_ns} out of bounds")
    return Frame(known, count, epoch, seq, time_ns, body)


_KINDS: Final = {int(kind): kind for kind in Kind}
