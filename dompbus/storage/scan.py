"""Reading a journal: every record verified, the good end found, and a torn tail told from damage.

The law here: nothing is handed out that does not verify, and nothing is written. A record that does not verify is

- *damage*, if it had been durable: a later segment exists, or behind it in its segment lies a sound header whose
  `durable` reaches it (a header is written after what it calls durable had reached the disk);
- *a torn tail* otherwise: part of a group whose sync never returned. Its later sectors may well have landed
  before its earlier ones, so sound records behind the tear prove nothing by themselves.
"""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dompbus.errors import StorageError
from dompbus.limits import JOURNAL_READ_BYTES
from dompbus.storage.files import File, Files, OsFiles, refusal
from dompbus.storage.record import (
    ALIGNMENT,
    CHECKSUM_BYTES,
    HEADER_BYTES,
    MAGIC,
    MARK,
    Header,
    Record,
    digest,
    parse_header,
    record_bytes,
    sector_gap,
    unpack_header,
)
from dompbus.storage.segment import SEGMENT_HEADER_BYTES, SegmentHeader, damage, read_segment, segment_paths

__all__ = ["Segment", "Survey", "Tail", "Walk", "survey", "verify"]

_PREVIOUS: Final = Header._fields.index("previous")


class Segment(NamedTuple):
    """One verified file of the journal."""

    path: Path
    header: SegmentHeader


class Tail(NamedTuple):
    """What lies behind the last good record and was never durable."""

    path: Path
    offset: int
    bytes: int  # up to the last byte that is not zero
    seq: int  # of the first record that is not there
    reason: str


class Survey(NamedTuple):
    """What the files hold."""

    segments: list[Segment]
    last_seq: int  # 0: no record yet
    checksum: int  # of the last header: what the next record is chained to
    end: int  # offset behind the last record of the last segment, where the mark or the next record would be
    marked: bool  # a sound mark lies there
    tail: Tail | None
    unfinished: list[Path]  # segments that were never given their name


class Walk:
    """Iterates over the verified records of one segment, in bounded memory; ends at `until` or where they end.

    A record lies right behind the one before, or, as the first of its group, where the next sector begins.
    After the iteration `seq` and `checksum` describe the last good record, `offset` is where the next one should be,
    and `reason` says why it is not there ("" at `until`).
    """

    def __init__(self, segment: Segment, file: File, *, until: int | None = None) -> None:
        self.seq = segment.header.first_seq - 1
        self.checksum = segment.header.previous
        self.offset = SEGMENT_HEADER_BYTES
        self.reason = ""
        self.marked = False
        self._seed = segment.header.seed
        self._file = file
        self._until = until
        self._buffer = b""
        self._base = 0

    def __iter__(self) -> Iterator[Record]:
        while self.seq != self._until:
            records = self._take_run()
            yield from records
            if not records and not self._refill():
                self.reason = self._explain()
                return

    def _take_run(self) -> list[Record]:
        """All sound records in the buffer, in one tight loop: it decides how fast a node starts."""
        records: list[Record] = []
        buffer, seed, until, seq, checksum = self._buffer, self._seed, self._until, self.seq, self.checksum
        size = len(buffer)
        position = self.offset - self._base
        while position + HEADER_BYTES <= size and seq != until:
            header = unpack_header(buffer, position)
            magic, kind, length, found, epoch, timestamp, session, number, _durable, previous, content, own = header
            start = position + HEADER_BYTES
            stop = start + length
            end = stop + -length % ALIGNMENT
            if magic != MAGIC or previous != checksum or found != seq + 1 or kind == MARK:
                gap = self._gap(position, checksum)
                if not gap:
                    break
                position += gap
                continue
            if end > size:
                break
            payload = buffer[start:stop]
            if digest(payload, seed) != content or digest(buffer[position : start - CHECKSUM_BYTES], seed) != own:
                break
            if end != stop and any(buffer[stop:end]):
                break
            records.append(Record(found, epoch, timestamp, session, number, payload, kind))
            seq, checksum, position = found, own, end
        self.seq, self.checksum, self.offset = seq, checksum, self._base + position
        return records

    def _gap(self, position: int, checksum: int) -> int:
        """How far on the next sector begins, if the chain carries on there: a group ended at `position`.

        Nothing depends on what lies between, so rot in it harms nothing. 0: it does not, as far as the buffer goes.
        """
        gap = sector_gap(self._base + position)
        there = position + gap
        if not gap or there + HEADER_BYTES > len(self._buffer):
            return 0
        header = unpack_header(self._buffer, there)
        return gap if header[0] == MAGIC and header[_PREVIOUS] == checksum else 0

    def _refill(self) -> bool:
        """Read on from `offset`; False if what is there is in the buffer already, or the file ends inside it."""
        header = self._header()
        if header is None or header.previous != self.checksum or header.kind == MARK:
            need = sector_gap(self.offset) + HEADER_BYTES
        else:
            need = record_bytes(header.length)
        if self.offset - self._base + need <= len(self._buffer):
            return False
        self._buffer = self._file.read(max(JOURNAL_READ_BYTES, need), self.offset)
        self._base = self.offset
        return len(self._buffer) >= need

    def _explain(self) -> str:
        """Why no record was taken at `offset`, when all that the file has of it is in the buffer."""
        gap = sector_gap(self.offset)
        position = self.offset - self._base
        if not any(self._buffer[position : position + gap]):
            self.offset += gap
        header = self._header()
        if header is None:
            return "the file ends here" if self.offset >= self._file.size() else "there is no sound record header"
        if header.previous != self.checksum:
            return f"record {header.seq:,} is here, and it does not follow the record before it"
        if header.kind == MARK and header.seq == self.seq:
            self.marked = True
            return "the journal ends here"
        if header.seq != self.seq + 1:
            return f"record {header.seq:,} is here"
        return "its payload does not match its checksum, or is cut short"

    def _header(self) -> Header | None:
        position = self.offset - self._base
        return (
            parse_header(self._buffer, position, self._seed) if position + HEADER_BYTES <= len(self._buffer) else None
        )


def verify(directory: str | os.PathLike[str], *, files: Files | None = None) -> Survey:
    """Re-check a journal from its files alone, changing nothing; raises `JournalDamaged`, `StorageError`.

    Beside a running owner it sees the group that is being written as a tail.
    """
    path = Path(directory)
    try:
        found = survey(path, files or OsFiles())
    except OSError as cause:
        raise refusal("read the journal in", path, cause) from cause
    if not found.segments:
        raise StorageError(f"there is no journal in {path}. Is it the right directory?")
    return found


def survey(directory: Path, files: Files, *, fresh: bool = False) -> Survey:
    """Read and verify a whole journal; raises `JournalDamaged`, and `OSError` if the disk does not answer.

    With `fresh` the last segment is first synced and read anew from the disk: after a failed sync of an earlier
    process the cache may show what the disk never took.
    """
    paths, unfinished = segment_paths(directory, files)
    segments: list[Segment] = []
    seq, checksum, end, marked, tail = 0, 0, 0, False, None
    for path in paths:
        file = files.open(path)
        try:
            last = path is paths[-1]
            if fresh and last:
                file.sync()
                file.drop_cache()
            segment = Segment(path, read_segment(path, file))
            _check_succession(segments, segment, seq, checksum)
            walk = Walk(segment, file, until=None if last else int(paths[len(segments) + 1].stem) - 1)
            deque(walk, maxlen=0)
            if last:
                tail = _judge_tail(segment, file, walk)
        finally:
            file.close()
        if walk.reason and not last and not walk.marked:
            raise damage(path, offset=walk.offset, seq=walk.seq + 1, reason=walk.reason)
        segments.append(segment)
        seq, checksum, end, marked = walk.seq, walk.checksum, walk.offset, walk.marked
    return Survey(segments, seq, checksum, end, marked, tail, unfinished)


def _check_succession(before: list[Segment], segment: Segment, seq: int, checksum: int) -> None:
    """The segment must carry on where the ones before it ended."""
    header = segment.header
    reason = ""
    if header.first_seq != seq + 1:
        reason = f"the segment of records {seq + 1:,} to {header.first_seq - 1:,} is missing"
    elif header.previous != checksum:
        reason = "the segment does not follow from the one before it"
    elif before and header.store_id != before[0].header.store_id:
        reason = "the segment belongs to another journal"
    if reason:
        raise damage(segment.path, offset=0, seq=seq + 1, reason=reason)


def _judge_tail(segment: Segment, file: File, walk: Walk) -> Tail | None:
    """What lies behind the end of the last segment; raises `JournalDamaged` if it proves a durable record lost."""
    seq = walk.seq + 1
    start = walk.offset + (HEADER_BYTES if walk.marked else 0)
    last_byte = start
    for base, chunk in _chunks(file, start):
        if _proves_durable(chunk, seq, segment.header.seed):
            raise damage(segment.path, offset=walk.offset, seq=seq, reason=walk.reason)
        if content := chunk.rstrip(b"\0"):
            last_byte = base + len(content)
    if last_byte == start:
        return None
    return Tail(segment.path, walk.offset, last_byte - walk.offset, seq, walk.reason)


def _proves_durable(chunk: bytes, seq: int, seed: int) -> bool:
    """Whether any sound header in the chunk says that `seq` was durable when it was written."""
    position = chunk.find(MAGIC)
    while position >= 0:
        if position % ALIGNMENT == 0 and position + HEADER_BYTES <= len(chunk):
            header = parse_header(chunk, position, seed)
            if header is not None and header.durable >= seq:
                return True
        position = chunk.find(MAGIC, position + 1)
    return False


def _chunks(file: File, offset: int) -> Iterator[tuple[int, bytes]]:
    """The rest of a file, in overlapping pieces so that no header is cut in two."""
    while chunk := file.read(JOURNAL_READ_BYTES + HEADER_BYTES, offset):
        yield offset, chunk
        offset += JOURNAL_READ_BYTES
