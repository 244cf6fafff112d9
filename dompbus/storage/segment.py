"""The segment: one file of a journal, named by its first seq, opened by a header that ties it to the one before.

The law here: a segment gets its name only after its header is on disk, and only after every record before it is.
So a named segment with a bad header is damage, never a torn write, and proves all earlier records durable.
"""

import struct
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from dompbus.errors import JournalDamaged, StorageError
from dompbus.storage.files import File, Files, write_all

__all__ = ["SEGMENT_HEADER_BYTES", "STORE_ID_BYTES", "SegmentHeader", "create_segment", "read_segment", "segment_paths"]

FORMAT_VERSION: Final = 1
STORE_ID_BYTES: Final = 16
_MAGIC: Final = b"DOMPJRNL"
_FIELDS: Final = struct.Struct("<8sIIQQ16sQ")  # magic, version, header bytes, first seq, previous, store, reserved
_CHECKSUM: Final = struct.Struct("<Q")
SEGMENT_HEADER_BYTES: Final = _FIELDS.size + _CHECKSUM.size
_SUFFIX: Final = ".journal"
_UNFINISHED: Final = ".journal.new"
_DIGITS: Final = 20

assert SEGMENT_HEADER_BYTES == 64


class SegmentHeader(NamedTuple):
    """What a segment says of itself."""

    first_seq: int
    previous: int  # checksum of the last record before it; 0 for the first segment
    store_id: bytes

    @property
    def seed(self) -> int:
        """The store's seed for all checksums."""
        return xxh3_64_intdigest(self.store_id)


def segment_paths(directory: Path, files: Files) -> tuple[list[Path], list[Path]]:
    """The segments of a directory in order, and what is left of segments that were never finished."""
    names = files.list(directory)
    segments = [name for name in names if name.endswith(_SUFFIX) and _is_number(name.removesuffix(_SUFFIX))]
    segments.sort(key=lambda name: int(name.removesuffix(_SUFFIX)))
    unfinished = [name for name in names if name.endswith(_UNFINISHED)]
    return [directory / name for name in segments], [directory / name for name in unfinished]


def create_segment(directory: Path, header: SegmentHeader, files: Files) -> tuple[Path, File]:
    """Start a segment so that after a crash it is either whole or not there. Raises `OSError`."""
    path = directory / f"{header.first_seq:0{_DIGITS}d}{_SUFFIX}"
    unfinished = path.with_name(f"{header.first_seq:0{_DIGITS}d}{_UNFINISHED}")
    file = files.open(unfinished, create=True)
    try:
        write_all(file, [_encode(header)], 0)
        file.sync()
        files.rename(unfinished, path)
        files.sync_directory(directory)
    except BaseException:
        file.close()
        raise
    return path, file


def read_segment(path: Path, file: File) -> SegmentHeader:
    """Read and verify the header; raises `JournalDamaged`, or `StorageError` for a format we do not know."""
    data = file.read(SEGMENT_HEADER_BYTES, 0)
    if len(data) < SEGMENT_HEADER_BYTES:
        raise _damaged(path, f"the file ends after {len(data)} bytes, inside its header")
    magic, version, _size, first_seq, previous, store_id, _reserved = _FIELDS.unpack_from(data)
    (checksum,) = _CHECKSUM.unpack_from(data, _FIELDS.size)
    if magic != _MAGIC or checksum != xxh3_64_intdigest(data[: _FIELDS.size]):
        raise _damaged(path, "the segment's header does not match its checksum")
    if version != FORMAT_VERSION:
        raise StorageError(
            f"{path} is written in journal format {version}; this dompbus reads format {FORMAT_VERSION}. "
            "Use the version of dompbus that wrote it, or a newer one."
        )
    if first_seq != int(path.name.removesuffix(_SUFFIX)):
        raise _damaged(path, f"the header belongs to the segment that starts at record {first_seq}")
    return SegmentHeader(first_seq, previous, store_id)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _encode(header: SegmentHeader) -> bytes:
    fields = _FIELDS.pack(
        _MAGIC, FORMAT_VERSION, SEGMENT_HEADER_BYTES, header.first_seq, header.previous, header.store_id, 0
    )
    return fields + _CHECKSUM.pack(xxh3_64_intdigest(fields))


def _damaged(path: Path, reason: str) -> JournalDamaged:
    seq = int(path.name.removesuffix(_SUFFIX))
    return damage(path, offset=0, seq=seq, reason=reason)


def damage(path: Path, *, offset: int, seq: int, reason: str) -> JournalDamaged:
    """The error that names the place and the next step; nothing has been changed on disk."""
    return JournalDamaged(
        f"{path} is damaged at byte {offset:,}, where record {seq:,} should be: {reason}. It had been durable, so "
        "nothing is served from this journal, and no file was changed. Restore the directory from a backup, or move "
        "it away and let this replica copy the data from a healthy one.",
        path=str(path),
        offset=offset,
        seq=seq,
        reason=reason,
    )
