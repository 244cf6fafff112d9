"""The record: how one command lies in a journal, byte by byte.

A record is a header of 80 bytes, the payload as received, and zeroes up to the next multiple of 8. The header's
checksum covers the header, the payload's checksum in it, and the checksum of the header before: one flipped bit
anywhere, or one record missing, and the chain does not close. Both are xxh3_64, seeded by the store, so that
records of another journal (or a payload that imitates a record) never verify here.

The law: a record names in `durable` a seq that was known to be on disk before the record was written. Every group of
records begins in a sector of its own, so that no single bad sector takes a group and all that proves it durable.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest as digest

from dompbus.limits import JOURNAL_JOIN_BYTES, RECORD_BYTES_MAX, SEQ_MAX
from dompbus.storage.files import Buffer

__all__ = [
    "ALIGNMENT",
    "CHECKSUM_BYTES",
    "COMMAND",
    "HEADER_BYTES",
    "MAGIC",
    "MARK",
    "SECTOR_BYTES",
    "Encoded",
    "Header",
    "Record",
    "digest",
    "encode",
    "encode_mark",
    "parse_header",
    "record_bytes",
    "sector_gap",
    "unpack_header",
]

MAGIC: Final = b"DJR"
ALIGNMENT: Final = 8
SECTOR_BYTES: Final = 512  # what a disk writes as one, and what a misdirected or unreadable place takes along
COMMAND: Final = 1  # kinds 1..254 are the caller's
MARK: Final = 255  # no record: says after a sync that everything up to `seq` is durable; the next group overwrites it

_HEADER: Final = struct.Struct("<3sBI9Q")
_FIELDS: Final = struct.Struct("<3sBI8Q")  # without the header's own checksum
_CHECKSUM: Final = struct.Struct("<Q")
HEADER_BYTES: Final = _HEADER.size
CHECKSUM_BYTES: Final = _CHECKSUM.size
_PADDING: Final = tuple(bytes(-length % ALIGNMENT) for length in range(ALIGNMENT))

assert HEADER_BYTES == _FIELDS.size + CHECKSUM_BYTES == 80
assert HEADER_BYTES % ALIGNMENT == SECTOR_BYTES % ALIGNMENT == 0


class Record(msgspec.Struct, frozen=True, gc=False):
    """One command in the journal. `session` and `number` are the client's, `timestamp` is the primary's, in ns.

    `payload` is kept as it is: to be written it may be a view of contiguous bytes, read from a journal it is `bytes`.
    """

    seq: int  # from 1, without holes
    epoch: int
    timestamp: int
    session: int  # unsigned 64 bits, as is number
    number: int
    payload: Buffer
    kind: int = COMMAND


class Header(NamedTuple):
    """A header as it lies on disk, its own checksum verified."""

    magic: bytes
    kind: int
    length: int
    seq: int
    epoch: int
    timestamp: int
    session: int
    number: int
    durable: int
    previous: int
    payload_checksum: int
    checksum: int


class Encoded(NamedTuple):
    """Records ready to be written as one."""

    buffers: list[Buffer]
    size: int
    checksum: int  # of the last header: what the next record is chained to
    last_seq: int


def encode(records: Sequence[Record], *, previous: int, durable: int, seed: int) -> Encoded:
    """Encode records that follow the header with checksum `previous`.

    Small payloads are gathered, large ones are passed on without a copy. Raises `ValueError` for a payload
    over `RECORD_BYTES_MAX` or a field out of its range.
    """
    buffers: list[Buffer] = []
    small: list[Buffer] = []
    size = 0
    for record in records:
        payload = record.payload
        header, previous = _encode_header(record, len(payload), previous, durable, seed)
        padding = _PADDING[len(payload) % ALIGNMENT]
        small.append(header)
        if len(payload) >= JOURNAL_JOIN_BYTES:
            buffers += (b"".join(small), payload)
            small = [padding] if padding else []
        else:
            small += (payload, padding)
        size += HEADER_BYTES + len(payload) + len(padding)
    if small:
        buffers.append(b"".join(small))
    return Encoded(buffers, size, previous, records[-1].seq if records else 0)


def encode_mark(*, durable: int, previous: int, seed: int) -> bytes:
    """The mark that is left behind the last record after a sync."""
    record = Record(seq=durable, epoch=0, timestamp=0, session=0, number=0, payload=b"", kind=MARK)
    return _encode_header(record, 0, previous, durable, seed)[0]


def unpack_header(buffer: bytes, position: int) -> tuple[bytes, int, int, int, int, int, int, int, int, int, int, int]:
    """The fields of a `Header`, not verified."""
    return _HEADER.unpack_from(buffer, position)


def parse_header(buffer: bytes, position: int, seed: int) -> Header | None:
    """The header at `position` (80 bytes must be there), or None when there is no sound one."""
    header = Header._make(_HEADER.unpack_from(buffer, position))
    if header.magic != MAGIC or header.length > RECORD_BYTES_MAX:
        return None
    own = digest(buffer[position : position + HEADER_BYTES - CHECKSUM_BYTES], seed)
    return header if own == header.checksum else None


def record_bytes(payload_bytes: int) -> int:
    """How many bytes a record with such a payload takes."""
    return HEADER_BYTES + payload_bytes + -payload_bytes % ALIGNMENT


def sector_gap(offset: int) -> int:
    """How many bytes there are from `offset` to where the next sector begins; 0 if it begins there."""
    return -offset % SECTOR_BYTES


def _encode_header(record: Record, length: int, previous: int, durable: int, seed: int) -> tuple[bytes, int]:
    if length > RECORD_BYTES_MAX:
        raise ValueError(f"record {record.seq} has {length:,} bytes, the limit is {RECORD_BYTES_MAX:,}")
    if not 0 <= record.seq <= SEQ_MAX:
        raise ValueError(f"seq {record.seq} is out of range")
    payload_checksum = digest(record.payload, seed)
    try:
        fields = _FIELDS.pack(
            MAGIC,
            record.kind,
            length,
            record.seq,
            record.epoch,
            record.timestamp,
            record.session,
            record.number,
            durable,
            previous,
            payload_checksum,
        )
    except struct.error as cause:
        raise ValueError(f"record {record.seq} has a field out of range: {cause}") from None
    checksum = digest(fields, seed)
    return fields + _CHECKSUM.pack(checksum), checksum
