"""The journal on a real disk: what goes in comes out, torn is cut, damage is named, and every refusal is clear."""

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from dompbus.errors import ClosedError, DirectoryLocked, JournalDamaged, StorageError
from dompbus.limits import MIB, RECORD_BYTES_MAX
from dompbus.storage import COMMAND, Journal, Record, verify
from dompbus.storage.files import Buffer, OsFile
from dompbus.storage.record import (
    HEADER_BYTES,
    SECTOR_BYTES,
    encode,
    encode_mark,
    parse_header,
    record_bytes,
    sector_gap,
)
from tests.disk import Disk

STORE_ID = b"0123456789abcdef"
FIRST_GROUP = SECTOR_BYTES  # the segment's header has the sector before to itself


def records(first: int, last: int, payload: bytes = b"hello, journal") -> list[Record]:
    return [Record(seq, 3, 1_000 + seq, 2**64 - 1, seq * 7, payload) for seq in range(first, last + 1)]


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.journal"))


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def abandon(journal: Journal) -> None:
    """Leave the journal as a killed process does: no last sync, nothing tidied."""
    journal._file.close()
    journal._lock.release()
    journal._closed = True


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    """Every field and byte survives a restart, whatever the size and kind of buffer."""
    payloads = [b"", b"x", bytes(7), os.urandom(8), os.urandom(100_003), os.urandom(RECORD_BYTES_MAX)]
    group = [Record(seq, 2**63, 5, 0, 2**64 - 1, payload, seq) for seq, payload in enumerate(payloads, 1)]
    with Journal.open(tmp_path) as journal:
        assert (journal.last_seq, journal.durable_seq, journal.cut) == (0, 0, None)
        size = sum(record_bytes(len(payload)) for payload in payloads)
        assert journal.write(group) == size + sector_gap(size)
        assert (journal.last_seq, journal.durable_seq) == (6, 0)
        assert list(journal.records()) == group
        assert journal.sync() == journal.durable_seq == 6
        assert journal.append([Record(7, 1, 1, 1, 1, memoryview(b"view"))]) == 7
    with Journal.open(tmp_path) as journal:
        assert [bytes(record.payload) for record in journal.records()] == [*payloads, b"view"]
        assert list(journal.records(3))[:4] == group[2:]
        assert list(journal.records(8)) == []
        assert journal.cut is None


def test_segments(tmp_path: Path) -> None:
    """A full segment is followed by one named by its first seq; reading crosses them from any record on."""
    with Journal.open(tmp_path, segment_bytes=1448) as journal:
        journal.append(records(1, 25))
        for first in range(26, 50, 3):
            journal.append(records(first, first + 2))
        store_id = journal.store_id
        assert len(segments(tmp_path)) == 7
    assert [int(path.stem) for path in segments(tmp_path)] == [1, 10, 19, 26, 32, 38, 44]
    assert all(path.stat().st_size <= 3 * SECTOR_BYTES + HEADER_BYTES for path in segments(tmp_path))
    found = verify(tmp_path)
    assert (found.last_seq, len(found.segments), found.tail, found.marked) == (49, 7, None, True)
    with Journal.open(tmp_path, segment_bytes=1448) as journal:
        assert journal.store_id == store_id
        for first in (1, 9, 10, 11, 30, 49):
            assert list(journal.records(first)) == records(first, 49)


def test_a_record_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    """The size of a segment is a wish, the record's a fact."""
    with Journal.open(tmp_path, segment_bytes=1448) as journal:
        journal.append(records(1, 3, bytes(5000)))
        assert len(segments(tmp_path)) == 3
        assert list(journal.records()) == records(1, 3, bytes(5000))


def test_reading_while_writing(tmp_path: Path) -> None:
    """A reader sees the records that were there when it began, also across a new segment."""
    with Journal.open(tmp_path, segment_bytes=1448) as journal:
        journal.append(records(1, 5))
        reader = journal.records()
        assert next(reader) == records(1, 1)[0]
        journal.append(records(6, 40))
        assert list(reader) == records(2, 5)


@pytest.mark.parametrize(
    "bad",
    [
        Record(5, 1, 1, 1, 1, b""),
        Record(1, -1, 1, 1, 1, b""),
        Record(1, 1, 1, 2**64, 1, b""),
        Record(1, 1, 1, 1, 1, b"", 0),
        Record(1, 1, 1, 1, 1, b"", 255),
        Record(1, 1, 1, 1, 1, bytes(RECORD_BYTES_MAX + 1)),
    ],
)
def test_a_record_that_cannot_be_one(tmp_path: Path, bad: Record) -> None:
    """Refused before a byte is written; the journal stays usable."""
    with Journal.open(tmp_path) as journal:
        with pytest.raises(ValueError, match="record"):
            journal.write([bad])
        assert journal.append(records(1, 2)) == 2


def test_the_preallocated_end_is_clean(tmp_path: Path) -> None:
    """Zeroes behind the last record are no tear; a closed journal has given them back."""
    journal = Journal.open(tmp_path)
    journal.append(records(1, 3))
    assert segments(tmp_path)[0].stat().st_size > MIB
    abandon(journal)
    with Journal.open(tmp_path) as journal:
        assert journal.cut is None
        assert journal.last_seq == 3
    assert segments(tmp_path)[0].stat().st_size == FIRST_GROUP + SECTOR_BYTES + HEADER_BYTES


def test_a_torn_tail_is_cut_and_reported(tmp_path: Path) -> None:
    """A group that was never synced and is there in part: cut from its first gap on, though later records verify."""
    journal = Journal.open(tmp_path)
    journal.append(records(1, 2))
    large = os.urandom(20_000)  # beyond the size behind which zeroes are laid: nothing but the cut removes the rest
    journal.write(records(3, 6, large))
    abandon(journal)
    place = FIRST_GROUP + SECTOR_BYTES  # record 3
    patch(segments(tmp_path)[0], place + 20, bytes(30))
    tail = verify(tmp_path).tail
    assert tail is not None
    with Journal.open(tmp_path) as journal:
        assert journal.cut == tail
        assert (tail.path, tail.offset, tail.seq) == (segments(tmp_path)[0], place, 3)
        assert 3 * record_bytes(20_000) < tail.bytes <= 4 * record_bytes(20_000)
        assert "no sound record header" in tail.reason
        assert list(journal.records()) == records(1, 2)
        # The same record again, to the bit: what was cut behind it must not rise from the dead.
        journal.write(records(3, 3, large))
        abandon(journal)
    assert verify(tmp_path).last_seq == 3


@pytest.mark.parametrize("place", [10, 85], ids=["header", "payload"])
@pytest.mark.parametrize("settled", [True, False])
def test_damage_is_named_and_nothing_is_changed(tmp_path: Path, place: int, settled: bool) -> None:
    """A durable record that rots: a mark or a later group proves that it had been durable."""
    journal = Journal.open(tmp_path)
    journal.append(records(1, 4)) if settled else (journal.write(records(1, 4)), journal.sync())
    if not settled:
        journal.write(records(5, 5))
    abandon(journal)
    path = segments(tmp_path)[0]
    offset = FIRST_GROUP + 3 * record_bytes(14)  # record 4
    patch(path, offset + place, b"\xff")
    before = path.read_bytes()
    for opening in (lambda: Journal.open(tmp_path), lambda: verify(tmp_path)):
        with pytest.raises(JournalDamaged, match="Restore the directory from a backup") as caught:
            opening()
        assert (caught.value.path, caught.value.offset, caught.value.seq) == (str(path), offset, 4)
        assert caught.value.reason in str(caught.value)
    assert path.read_bytes() == before


HARMS: list[Callable[[bytes, bytes], bytes]] = [
    lambda _there, _elsewhere: bytes(SECTOR_BYTES),
    lambda _there, elsewhere: elsewhere,
    lambda there, _elsewhere: bytes([there[0] ^ 1]) + there[1:],
    lambda there, _elsewhere: there[:-1] + bytes([there[-1] ^ 1]),
]


SMALL_GROUPS = [(0,), (1, 1, 1), (512,), (1500,), (9, 9, 9, 9), (431,), (40,), (7, 600), (16, 16)]


def small_groups(disk: Disk) -> Journal:
    """A journal of nine synced groups, most far smaller than a sector."""
    journal = Journal.open(Path("/j"), files=disk, store_id=STORE_ID)
    for group in SMALL_GROUPS:
        first = journal.last_seq + 1
        journal.write([Record(first + index, 1, 1, 1, 1, b"7" * size) for index, size in enumerate(group)])
        journal.sync()
    return journal


@pytest.mark.parametrize("settled", [True, False], ids=["closed", "power loss before the mark"])
def test_one_bad_sector_hides_no_more_than_the_last_group(settled: bool) -> None:
    """Each sector in turn zeroed, misdirected, flipped: damage is named, or nothing but the last sync's is cut."""
    cut: list[int] = []
    named = 0
    for sector in range(20):
        for harm in HARMS:
            disk = Disk()
            journal = small_groups(disk)
            before = sum(map(len, SMALL_GROUPS[:-1]))
            journal.close() if settled else disk.power_loss()
            disk.restart()
            disk.locked.clear()
            (inode,) = disk.names.values()
            place, other = sector * SECTOR_BYTES, (sector + 3) % 10 * SECTOR_BYTES
            there = bytes(inode.cache[place : place + SECTOR_BYTES])
            if not any(there):
                continue
            elsewhere = bytes(inode.cache[other : other + SECTOR_BYTES])
            inode.cache[place : place + SECTOR_BYTES] = harm(there, elsewhere)[: len(there)]
            inode.platter = bytearray(inode.cache)
            try:
                found = list(Journal.open(Path("/j"), files=disk).records())
            except JournalDamaged:
                named += 1
            else:
                assert [record.seq for record in found] == list(range(1, len(found) + 1))
                assert len(found) >= (journal.durable_seq if settled else before)
                cut.append(journal.durable_seq - len(found))
    assert named > 40
    assert bool(sum(cut)) is not settled


def test_a_small_group_has_its_sector_to_itself(tmp_path: Path) -> None:
    """The seed that showed it: one bad sector below many small groups must not take the headers of all of them."""
    journal = Journal.open(tmp_path)
    for seq in range(1, 6):
        journal.write(records(seq, seq, b""))
        journal.sync()
    abandon(journal)
    path = segments(tmp_path)[0]
    patch(path, FIRST_GROUP + SECTOR_BYTES, bytes(SECTOR_BYTES))  # record 2
    with pytest.raises(JournalDamaged) as caught:
        Journal.open(tmp_path)
    assert (caught.value.seq, caught.value.offset) == (2, FIRST_GROUP + SECTOR_BYTES)


def test_rot_between_groups_harms_nothing(tmp_path: Path) -> None:
    """The rest of a group's last sector is not data: the chain is followed over it."""
    with Journal.open(tmp_path) as journal:
        journal.append(records(1, 2))
        journal.append(records(3, 3))
    patch(segments(tmp_path)[0], FIRST_GROUP + 2 * record_bytes(14) + 100, b"rot")
    with Journal.open(tmp_path) as journal:
        assert (journal.last_seq, journal.cut) == (3, None)
        journal.append(records(4, 4))
    with Journal.open(tmp_path) as journal:
        assert list(journal.records()) == records(1, 4)


def test_groups_without_sectors_of_their_own_are_read(tmp_path: Path) -> None:
    """A chain without gaps, and with a mark inside a sector, is the same journal; it is carried on with gaps."""
    with Journal.open(tmp_path, store_id=STORE_ID) as journal:
        seed = journal._seed
    path = segments(tmp_path)[0]
    encoded = encode(records(1, 9), previous=0, durable=0, seed=seed)
    mark = encode_mark(durable=9, previous=encoded.checksum, seed=seed)
    path.write_bytes(path.read_bytes()[:64] + b"".join(map(bytes, encoded.buffers)) + mark)
    assert (verify(tmp_path).last_seq, verify(tmp_path).marked) == (9, True)
    for seq in (10, 11):
        with Journal.open(tmp_path) as journal:
            assert journal.cut is None
            journal.append(records(seq, seq))
            assert list(journal.records()) == records(1, seq)


def test_damage_under_a_running_journal_is_not_served(tmp_path: Path) -> None:
    """Records are verified again when they are read, not only when the journal is opened."""
    with Journal.open(tmp_path) as journal:
        journal.append(records(1, 4))
        patch(segments(tmp_path)[0], FIRST_GROUP + record_bytes(14) + 85, b"\xff")
        reader = journal.records()
        assert next(reader).seq == 1
        with pytest.raises(JournalDamaged, match=r"record 2 .*payload does not match"):
            next(reader)


def test_a_record_of_another_past_is_found(tmp_path: Path) -> None:
    """A sound record in the right place that is not the one the next was chained to."""
    for name, payload in (("one", b"first story"), ("two", b"other story")):
        with Journal.open(tmp_path / name, store_id=STORE_ID) as journal:
            journal.append([*records(1, 1), *records(2, 2, payload), *records(3, 3)])
    start, size = FIRST_GROUP + record_bytes(14), record_bytes(11)
    other = segments(tmp_path / "two")[0].read_bytes()[start : start + size]
    patch(segments(tmp_path / "one")[0], start, other)
    with pytest.raises(JournalDamaged, match="record 3 is here, and it does not follow"):
        Journal.open(tmp_path / "one")


def drop_middle(paths: list[Path]) -> None:
    paths[1].unlink()


def drop_first(paths: list[Path]) -> None:
    paths[0].unlink()


def shorten_middle(paths: list[Path]) -> None:
    os.truncate(paths[1], FIRST_GROUP + 236)


def shorten_header(paths: list[Path]) -> None:
    os.truncate(paths[2], 30)


def swap(paths: list[Path]) -> None:
    shutil.copy(paths[1], paths[2])


def zero_header(paths: list[Path]) -> None:
    patch(paths[2], 0, bytes(64))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (drop_middle, "segment of records 10 to 18 is missing"),
        (drop_first, "segment of records 1 to 9 is missing"),
        (shorten_middle, "where record 12 should be"),
        (shorten_header, "inside its header"),
        (swap, "belongs to the segment that starts at record 10"),
        (zero_header, "header does not match its checksum"),
    ],
)
def test_segments_missing_or_mixed_up(tmp_path: Path, harm: Callable[[list[Path]], None], words: str) -> None:
    """Whole files lost, cut or exchanged are damage, and said to be what they are."""
    with Journal.open(tmp_path, segment_bytes=1448) as journal:
        journal.append(records(1, 22))
    harm(segments(tmp_path))
    with pytest.raises(JournalDamaged, match=words):
        Journal.open(tmp_path)


def test_a_segment_of_another_journal(tmp_path: Path) -> None:
    """A file with the right name from elsewhere does not follow."""
    for name in ("one", "two"):
        with Journal.open(tmp_path / name, segment_bytes=1448) as journal:
            journal.append(records(1, 22))
    shutil.copy(segments(tmp_path / "two")[1], segments(tmp_path / "one")[1])
    with pytest.raises(JournalDamaged, match="does not follow"):
        Journal.open(tmp_path / "one")


def test_a_store_id_of_the_wrong_length(tmp_path: Path) -> None:
    """Refused before anything is made."""
    with pytest.raises(ValueError, match="16 bytes"):
        Journal.open(tmp_path / "j", store_id=b"short")
    assert not (tmp_path / "j").exists()


def test_a_format_of_the_future(tmp_path: Path) -> None:
    """Not damage: the text says which version is needed."""
    Journal.open(tmp_path).close()
    path = segments(tmp_path)[0]
    fields = bytearray(path.read_bytes()[:56])
    fields[8] = 9
    patch(path, 0, bytes(fields) + xxh3_64_intdigest(bytes(fields)).to_bytes(8, "little"))
    with pytest.raises(StorageError, match="journal format 9"):
        Journal.open(tmp_path)


def test_left_over_beginnings_are_removed(tmp_path: Path) -> None:
    """A crash while a segment was being made leaves nothing behind."""
    Journal.open(tmp_path).close()
    (tmp_path / "00000000000000000007.journal.new").write_bytes(b"half a head")
    (tmp_path / "something of the user's").write_bytes(b"untouched")
    Journal.open(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000000000000000001.journal",
        "LOCK",
        "something of the user's",
    ]


def test_one_owner(tmp_path: Path) -> None:
    """A second journal on the directory is refused with the owner's pid; after a close it may have it."""
    with Journal.open(tmp_path), pytest.raises(DirectoryLocked, match=f"process {os.getpid()}"):
        Journal.open(tmp_path)
    Journal.open(tmp_path).close()


def test_a_failed_open_gives_the_lock_back(tmp_path: Path) -> None:
    """Damage is reported each time, not "in use" from the second time on."""
    with Journal.open(tmp_path) as journal:
        journal.append(records(1, 3))
    patch(segments(tmp_path)[0], 0, b"?")
    for _ in range(2):
        with pytest.raises(JournalDamaged):
            Journal.open(tmp_path)


def test_use_after_close(tmp_path: Path) -> None:
    """A closed journal says so; closing twice is harmless, and close makes durable what was written."""
    journal = Journal.open(tmp_path)
    journal.write(records(1, 2))
    journal.close()
    journal.close()
    with pytest.raises(ClosedError):
        journal.write(records(3, 3))
    with pytest.raises(ClosedError):
        journal.sync()
    assert verify(tmp_path).last_seq == 2


def test_an_interruption_stops_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a write leaves the file uncertain: passed on, and no further write is accepted."""

    def interrupt(_self: OsFile, _buffers: Sequence[Buffer], _offset: int) -> int:
        raise KeyboardInterrupt

    journal = Journal.open(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(OsFile, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            journal.write(records(1, 1))
    with pytest.raises(StorageError, match="interrupted by KeyboardInterrupt"):
        journal.write(records(1, 1))
    journal.close()
    assert verify(tmp_path).last_seq == 0


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "choose another data directory"), (errno.ENOSPC, "Free space"), (errno.EIO, "disk may be failing")],
)
def test_an_open_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    """Path, cause and next step (tests may run as root, so the refusal is played)."""

    def refuse(*_args: object, **_options: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(StorageError, match=words) as caught:
            Journal.open(tmp_path / "j")
    assert str(tmp_path / "j") in str(caught.value)
    assert os.strerror(number) in str(caught.value)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """A data directory that is no directory."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="A file is in the way"):
            Journal.open(path)
    with pytest.raises(StorageError, match="no journal"):
        verify(tmp_path)
    with pytest.raises(StorageError, match="No such file"):
        verify(tmp_path / "nothing")


def test_large_payloads_are_not_copied() -> None:
    """A payload of a megabyte is passed to the system as the object it came in."""
    large = os.urandom(MIB + 3)
    encoded = encode([*records(1, 2), *records(3, 3, large), *records(4, 5)], previous=0, durable=0, seed=9)
    assert encoded.buffers[1] is large
    assert len(encoded.buffers) == 3
    assert sum(map(len, encoded.buffers)) == encoded.size


def test_layout_of_a_record() -> None:
    """The bytes on disk are fixed; a change here needs a new format version."""
    encoded = encode([Record(1, 2, 3, 4, 5, b"abc")], previous=6, durable=7, seed=8)
    (data,) = encoded.buffers
    assert data.hex(" ", 8) == (
        "444a520103000000 0100000000000000 0200000000000000 0300000000000000 0400000000000000 0500000000000000 "
        "0700000000000000 0600000000000000 " + data[64:80].hex(" ", 8) + " 6162630000000000"
    )
    header = parse_header(data, 0, 8)
    assert header is not None
    assert (header.kind, header.length, header.seq, header.durable, header.previous) == (COMMAND, 3, 1, 7, 6)
    assert header.checksum == encoded.checksum
    assert parse_header(data, 0, 9) is None
