"""Frames: the bytes that are written are those of the table, and nothing else is taken for a frame."""

import struct

import pytest
from xxhash import xxh3_64_intdigest

from dompbus import limits
from dompbus.errors import ProtocolError
from dompbus.wire.frame import MAGIC, VERSION, Frame, FrameError, Kind, Refusal, pack, parse

FIELDS = {"magic": 0, "version": 4, "kind": 5, "flags": 6, "count": 8, "length": 12, "epoch": 16, "seq": 24, "time": 32}


def header(**changes: int | bytes) -> dict[str, int | bytes]:
    fields: dict[str, int | bytes] = {
        "magic": MAGIC,
        "version": VERSION,
        "kind": Kind.PING,
        "flags": 0,
        "count": 1,
        "length": 3,
        "epoch": 5,
        "seq": 6,
        "time": 7,
    }
    return fields | changes


def build(body: bytes = b"abc", *, checksum: int | None = None, **changes: int | bytes) -> bytes:
    """A frame of any fields with the checksum that belongs to them: written apart from the code under test."""
    head = struct.pack("<4sBBHIIQQQ", *header(**changes).values())
    right = xxh3_64_intdigest(body, seed=xxh3_64_intdigest(head))
    return head + struct.pack("<Q", right if checksum is None else checksum) + body


def reason(data: bytes) -> Refusal:
    with pytest.raises(FrameError) as caught:
        parse(data)
    assert isinstance(caught.value, ProtocolError)
    assert str(caught.value).startswith(caught.value.reason)
    return caught.value.reason


def test_what_is_packed_is_the_documented_table() -> None:
    data = pack(Kind.PING, b"abc", count=1, epoch=5, seq=6, time_ns=7)
    assert data == build()
    assert len(data) == limits.HEADER_BYTES + 3
    assert data[:8] == b"DOMP\x01\x0f\x00\x00"


def test_what_is_packed_is_parsed_again_without_a_copy() -> None:
    data = pack(Kind.PUBLISH, b"body", count=3, epoch=2**63 - 1, seq=2**62, time_ns=2**63 - 1)
    frame = parse(data)
    assert (frame.kind, frame.count, frame.epoch, frame.seq) == (Kind.PUBLISH, 3, 2**63 - 1, 2**62)
    assert frame.time_ns == 2**63 - 1
    assert frame.body == b"body"
    assert frame.body.obj is data


def test_the_prefix_is_outside_the_checksum() -> None:
    assert pack(Kind.HEAD, b"", prefix=b"md.*\0") == b"md.*\0" + pack(Kind.HEAD, b"")


def test_a_view_is_parsed_like_bytes() -> None:
    data = b"prefix\0" + build()
    assert parse(memoryview(data)[7:]).body == b"abc"


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_travels(kind: Kind) -> None:
    assert parse(pack(kind, b"")).kind is kind


def test_numbers_of_kinds_are_for_ever() -> None:
    names = "HELLO WELCOME GOODBYE REFUSED SUBSCRIBE SUBSCRIBED UNSUBSCRIBE JOINED PUBLISH HEAD NAK LOST REQUEST REPLY"
    assert {kind.name: int(kind) for kind in Kind} == {
        name: number for number, name in enumerate([*names.split(), "PING", "PONG"], 1)
    }


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Refusal.SHORT),
        (build()[:47], Refusal.SHORT),
        (build(magic=b"DOMQ"), Refusal.MAGIC),
        (build(magic=b"\0\0\0\0"), Refusal.MAGIC),
        (build(version=0), Refusal.VERSION),
        (build(version=2), Refusal.VERSION),
        (build(version=255), Refusal.VERSION),
        (build(length=2), Refusal.LENGTH),
        (build(length=4), Refusal.LENGTH),
        (build(length=2**32 - 1), Refusal.LENGTH),
        (build()[:-1], Refusal.LENGTH),
        (build() + b"\0", Refusal.LENGTH),
        (build(checksum=0), Refusal.CHECKSUM),
        (build()[:-1] + b"d", Refusal.CHECKSUM),
        (build(kind=0), Refusal.KIND),
        (build(kind=17), Refusal.KIND),
        (build(kind=255), Refusal.KIND),
        (build(flags=1), Refusal.FLAGS),
        (build(flags=0x8000), Refusal.FLAGS),
        (build(count=limits.MESSAGES_PER_FRAME_MAX + 1), Refusal.BOUNDS),
        (build(epoch=2**63), Refusal.BOUNDS),
        (build(seq=2**63), Refusal.BOUNDS),
        (build(seq=2**63 - 2, count=2), Refusal.BOUNDS),
        (build(time=2**64 - 1), Refusal.BOUNDS),
    ],
)
def test_anything_else_is_refused_with_its_reason(data: bytes, expected: Refusal) -> None:
    assert reason(data) is expected


def test_a_body_above_the_bound_is_refused_although_it_came() -> None:
    body = bytes(limits.BODY_BYTES_MAX + 1)
    assert reason(build(body, length=len(body))) is Refusal.LENGTH
    assert parse(build(body[1:], length=len(body) - 1)).count == 1


def test_the_first_reason_in_order_is_given() -> None:
    """The order is the documented one: each is repaired in turn, and the next appears."""
    wrong = {"magic": b"XXXX", "version": 9, "length": 9, "kind": 99, "flags": 9, "count": 2**31}
    order = [Refusal.MAGIC, Refusal.VERSION, Refusal.LENGTH, Refusal.KIND, Refusal.FLAGS, Refusal.BOUNDS]
    for expected in order:
        assert reason(build(**wrong)) is expected
        del wrong[next(iter(wrong))]
    assert reason(build(checksum=1, kind=99, flags=9)) is Refusal.CHECKSUM


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    data = build()
    for position in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(FrameError):
            parse(bytes(damaged))


def test_a_frame_has_no_room_for_more() -> None:
    frame: Frame = parse(build())
    with pytest.raises(AttributeError):
        frame.extra = 1  # type: ignore[attr-defined] # that is the point
