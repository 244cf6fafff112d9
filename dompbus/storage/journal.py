"""The journal: an append-only file of chained records, the truth that every replicated machine stands on.

The law here: `sync` returns only when every record written before it is on disk, and whatever it has returned for
is there after any crash. After a refused write or sync nothing more is written (the page cache cannot be trusted
then): every later call raises, and the journal must be opened anew.

One thread at a time may write, sync and close; `last_seq`, `durable_seq` and `records` may be used beside it.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dompbus.errors import ClosedError, StorageError
from dompbus.limits import (
    JOURNAL_ALLOCATE_BYTES,
    JOURNAL_SEGMENT_BYTES,
    JOURNAL_SMALL_GROUP_BYTES,
    JOURNAL_ZERO_BYTES,
)
from dompbus.storage.files import Buffer, File, Files, Lock, OsFiles, refusal, write_all
from dompbus.storage.record import (
    COMMAND,
    HEADER_BYTES,
    MARK,
    SECTOR_BYTES,
    Encoded,
    Record,
    encode,
    encode_mark,
    record_bytes,
    sector_gap,
)
from dompbus.storage.scan import Segment, Survey, Tail, Walk, survey
from dompbus.storage.segment import SEGMENT_HEADER_BYTES, STORE_ID_BYTES, SegmentHeader, create_segment, damage

__all__ = ["Journal"]

_ZEROES = bytes(JOURNAL_ZERO_BYTES)
_FIRST_GROUP = SEGMENT_HEADER_BYTES + sector_gap(SEGMENT_HEADER_BYTES)

assert JOURNAL_ZERO_BYTES >= SECTOR_BYTES


class Journal:
    """An open journal, owned by this process. Made by `Journal.open`."""

    def __init__(self, directory: Path, files: Files, lock: Lock, found: Survey, file: File, *, segment_bytes: int):
        self.directory = directory
        self.cut: Tail | None = found.tail
        self._files = files
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._segments = found.segments
        self._seed = found.segments[0].header.seed
        self._checksum = found.checksum
        self._last_seq = found.last_seq
        self._durable_seq = found.last_seq
        self._file = file
        # Where the next group goes: no sector that holds durable data is written again.
        self._end = found.end + sector_gap(found.end)
        self._allocated = self._zeroed = self._end
        self._marked = found.marked and found.tail is None
        self._failure: StorageError | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        files: Files | None = None,
        segment_bytes: int = JOURNAL_SEGMENT_BYTES,
        store_id: bytes | None = None,
    ) -> Self:
        """Own, verify and if need be mend (cut the torn tail of) the journal in a directory, or start one there.

        `store_id` (16 bytes) names a journal that is started; by default it is drawn from the system's entropy.
        Raises `DirectoryLocked`, `JournalDamaged` (and then has changed nothing) or `StorageError`.
        """
        files = files or OsFiles()
        path = Path(directory)
        store_id = os.urandom(STORE_ID_BYTES) if store_id is None else store_id
        if len(store_id) != STORE_ID_BYTES:
            raise ValueError(f"a store id has {STORE_ID_BYTES} bytes, not {len(store_id)}")
        try:
            files.make_directory(path)
            lock = files.lock(path)
        except OSError as cause:
            raise refusal("open the journal in", path, cause) from cause
        try:
            found = survey(path, files, fresh=True)
            found, file = _prepare(path, files, found, store_id)
        except OSError as cause:
            lock.release()
            raise refusal("open the journal in", path, cause) from cause
        except BaseException:
            lock.release()
            raise
        journal = cls(path, files, lock, found, file, segment_bytes=segment_bytes)
        journal.settle()
        return journal

    @property
    def last_seq(self) -> int:
        """The newest record written, durable or not; 0 if there is none."""
        return self._last_seq

    @property
    def durable_seq(self) -> int:
        """The newest record that is on disk."""
        return self._durable_seq

    @property
    def store_id(self) -> bytes:
        """16 bytes that name this journal for as long as it exists; a wiped directory gets new ones."""
        return self._segments[0].header.store_id

    def write(self, group: Sequence[Record]) -> int:
        """Write the records, which must carry on from `last_seq`, as one; returns the bytes written (whole sectors).

        They are durable after the next `sync`. Raises `ValueError` for a record that cannot be one (nothing was
        written then) and `StorageError` if the disk refuses (then the journal is of no further use).
        """
        self._check_usable()
        parts = self._encode(group)
        try:
            self._write_part(parts[0])
            for part in parts[1:]:
                self._start_segment()
                self._write_part(part)
        except OSError as cause:
            raise self._fail("write to", cause) from cause
        except BaseException as interruption:
            self._fail("write to", _interrupted(interruption))
            raise
        return sum(part.size + sector_gap(part.size) for part in parts)

    def sync(self) -> int:
        """Make every record written so far durable; returns `durable_seq`. Raises `StorageError`."""
        self._check_usable()
        try:
            self._sync()
        except OSError as cause:
            raise self._fail("sync", cause) from cause
        except BaseException as interruption:
            self._fail("sync", _interrupted(interruption))
            raise
        return self._durable_seq

    def settle(self) -> None:
        """Note on disk that what was synced is durable: to be called once that is acknowledged, when nothing waits.

        Without the note, rot in what the last sync made durable cannot be told from a torn write and is cut. It costs
        30 us and no sync, holds after a kill -9, and is a help only: it raises nothing for a disk that refuses.
        """
        if not self._marked and self._failure is None and not self._closed and self._durable_seq == self._last_seq:
            self._mark()

    def append(self, group: Sequence[Record]) -> int:
        """Write, sync and settle; returns `durable_seq`."""
        self.write(group)
        durable_seq = self.sync()
        self.settle()
        return durable_seq

    def records(self, from_seq: int = 1) -> Iterator[Record]:
        """The records from `from_seq` to what is the last one now, verified while being read, in bounded memory.

        Raises `JournalDamaged`, `StorageError`.
        """
        last_seq = self._last_seq
        segments = list(self._segments)
        ends = [segment.header.first_seq - 1 for segment in segments[1:]]
        for segment, end in zip(segments, [*ends, last_seq], strict=True):
            until = min(end, last_seq)
            if max(from_seq, segment.header.first_seq) <= until:
                yield from self._read(segment, from_seq, until)

    def close(self) -> None:
        """Sync, leave a tidy file, give the directory back. Closing twice is harmless; raises `StorageError`."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._failure is None:
                self._sync()
                self._trim()
        except OSError as cause:
            raise refusal("close", self._path, cause) from cause
        finally:
            self._file.close()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _path(self) -> Path:
        return self._segments[-1].path

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError(f"the journal in {self.directory} is closed")
        if self._failure is not None:
            raise StorageError(f"the journal in {self.directory} stopped earlier: {self._failure}") from self._failure

    def _fail(self, action: str, cause: OSError) -> StorageError:
        """Stop for good."""
        self._failure = refusal(action, self._path, cause)
        return self._failure

    def _encode(self, group: Sequence[Record]) -> list[Encoded]:
        """The group, cut where a new segment begins; the first part is for the segment at hand and may be empty."""
        parts: list[Encoded] = []
        checksum = self._checksum
        for part in self._divide(group):
            encoded = encode(part, previous=checksum, durable=self._durable_seq, seed=self._seed)
            checksum = encoded.checksum
            parts.append(encoded)
        return parts

    def _divide(self, group: Sequence[Record]) -> list[Sequence[Record]]:
        parts: list[Sequence[Record]] = []
        start, end = 0, self._end
        for index, record in enumerate(group):
            _check_record(record, self._last_seq + 1 + index)
            size = record_bytes(len(record.payload))
            if end + size > self._segment_bytes and end > _FIRST_GROUP:
                parts.append(group[start:index])
                start, end = index, _FIRST_GROUP
            end += size
        parts.append(group[start:])
        return parts

    def _write_part(self, part: Encoded) -> None:
        if not part.size:
            return
        gap = sector_gap(part.size)
        end = self._end + part.size + gap
        self._marked = False
        write_all(self._file, [*part.buffers, _ZEROES[:gap], *self._make_room(end, part.size)], self._end)
        self._end = end
        self._zeroed = max(self._zeroed, end)
        self._checksum = part.checksum
        self._last_seq = part.last_seq

    def _make_room(self, end: int, size: int) -> list[Buffer]:
        """Reserve space in large steps; returns the zeroes to write behind a small group that ends at `end`.

        A sync is dear where it changes what the file system knows of the file: its size, or that a block is in
        use. Blocks that were zeroed before need neither. Figures: ADR 0002.
        """
        need = end + HEADER_BYTES
        if need > self._allocated:
            allocated = max(need, min(need + JOURNAL_ALLOCATE_BYTES, self._segment_bytes))
            if not self._file.allocate(self._allocated, allocated - self._allocated):
                return []
            self._allocated = allocated
        if need <= self._zeroed or size > JOURNAL_SMALL_GROUP_BYTES:
            return []
        self._zeroed = min(end + JOURNAL_ZERO_BYTES, self._allocated)
        return [_ZEROES[: self._zeroed - end]]

    def _sync(self) -> None:
        if self._durable_seq == self._last_seq:
            return
        self._file.sync()
        self._durable_seq = self._last_seq

    def _mark(self) -> None:
        """Lay a mark in the sector behind the last group; the next one overwrites it."""
        mark = encode_mark(durable=self._durable_seq, previous=self._checksum, seed=self._seed)
        try:
            write_all(self._file, [mark], self._end)
        except OSError:
            # A help, not a promise: what stopped it will stop the next write too, and that one will say so.
            return
        self._marked = True

    def _trim(self) -> None:
        """Mark the end and give back the space reserved behind it."""
        if not self._marked:
            self._mark()
        self._file.truncate(self._end + HEADER_BYTES)
        self._file.sync()

    def _start_segment(self) -> None:
        """Finish the segment at hand (all of it durable first) and go on in a new one."""
        self._sync()
        self._trim()
        header = SegmentHeader(self._last_seq + 1, self._checksum, self.store_id)
        path, file = create_segment(self.directory, header, self._files)
        full, self._file = self._file, file
        self._segments.append(Segment(path, header))
        self._end = self._allocated = self._zeroed = _FIRST_GROUP
        self._marked = False
        full.close()

    def _read(self, segment: Segment, from_seq: int, until: int) -> Iterator[Record]:
        try:
            file = self._files.open(segment.path)
            try:
                walk = Walk(segment, file, until=until)
                for record in walk:
                    if record.seq >= from_seq:
                        yield record
            finally:
                file.close()
        except OSError as cause:
            raise refusal("read", segment.path, cause) from cause
        if walk.seq != until:
            raise damage(segment.path, offset=walk.offset, seq=walk.seq + 1, reason=walk.reason)


def _prepare(directory: Path, files: Files, found: Survey, store_id: bytes) -> tuple[Survey, File]:
    """Mend what a crash left, start the first segment if there is none; returns the segment to write to."""
    for path in found.unfinished:
        files.remove(path)
    if not found.segments:
        header = SegmentHeader(1, 0, store_id)
        path, file = create_segment(directory, header, files)
        return found._replace(segments=[Segment(path, header)], end=SEGMENT_HEADER_BYTES), file
    # The name may be there and yet not durable, if the crash came between the rename and the directory's sync.
    files.sync_directory(directory)
    file = files.open(found.segments[-1].path, write=True)
    try:
        if found.tail is not None:
            file.truncate(found.tail.offset)
            file.sync()
    except BaseException:
        file.close()
        raise
    return found, file


def _interrupted(interruption: BaseException) -> OSError:
    """An interruption half-way leaves the file as uncertain as an error of the disk does."""
    return OSError(f"interrupted by {type(interruption).__name__}")


def _check_record(record: Record, seq: int) -> None:
    if record.seq != seq:
        raise ValueError(f"record {record.seq} does not carry on from record {seq - 1}")
    if not COMMAND <= record.kind < MARK:
        raise ValueError(f"record {seq} has kind {record.kind}; allowed are {COMMAND} to {MARK - 1}")
