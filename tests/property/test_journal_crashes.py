"""Acknowledged means there: the journal under a lying disk, stopped at every step, filled, failed and rotten."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dompbus.errors import JournalDamaged, StorageError
from dompbus.storage import Journal, Record
from tests.disk import SECTOR, Crash, Disk

DIRECTORY = Path("/journal")
SEGMENT_BYTES = 4096
STORE_ID = bytes(range(16))
PAYLOAD_BYTES = (0, 1, 7, 8, 9, 100, 431, 512, 600, 1500, 3000, 6000)
FAULTS: dict[str, Callable[[Disk], None]] = {"power": Disk.power_loss, "process": Disk.process_crash}


class Load:
    """Writes to a journal on a disk that may fail at any step, and knows what must be there afterwards."""

    def __init__(self, disk: Disk, seed: int) -> None:
        self.disk = disk
        self.random = Random(seed)
        self.submitted: dict[int, Record] = {}
        self.acknowledged = 0

    def open(self) -> Journal:
        return Journal.open(DIRECTORY, files=self.disk, segment_bytes=SEGMENT_BYTES, store_id=STORE_ID)

    def run(self, groups: int) -> None:
        """Groups of a few records, mostly synced, with a clean restart in the middle."""
        for _ in range(2):
            journal = self.open()
            for _ in range(groups // 2):
                self.write(journal)
                if self.random.random() < 0.7:
                    self.acknowledged = journal.sync()
                if self.random.random() < 0.5:
                    journal.settle()
            journal.close()
            self.acknowledged = journal.durable_seq

    def write(self, journal: Journal) -> None:
        group = [self.record(journal.last_seq + 1 + index) for index in range(self.random.randrange(1, 5))]
        for record in group:
            self.submitted[record.seq] = record
        journal.write(group)

    def record(self, seq: int) -> Record:
        # One half is the same when it is written again after a crash: what was cut must not rise again behind it.
        # Zeroes and magic bytes, too: contents must not be mistaken for structure.
        random = self.random if self.random.random() < 0.5 else Random(seq)
        size = random.choice(PAYLOAD_BYTES)
        payload = random.choice([random.randbytes(size), bytes(size), (b"DJR\x01" * 1500)[:size]])
        return Record(seq, random.randrange(4), seq * 1000, random.randrange(2**64), seq, payload)

    def check(self) -> int:
        """Open what is left: all that was acknowledged, nothing that was never submitted, no hole."""
        journal = self.open()
        found = list(journal.records())
        assert [record.seq for record in found] == list(range(1, len(found) + 1))
        assert found == [self.submitted.get(record.seq) for record in found]
        assert len(found) >= self.acknowledged
        assert journal.last_seq == journal.durable_seq == len(found)
        self.submitted = {record.seq: record for record in found}
        self.acknowledged = len(found)
        journal.close()
        return len(found)


def steps_of_a_run(seed: int) -> int:
    disk = Disk(Random(seed))
    Load(disk, seed).run(16)
    return disk.step


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", range(4))
def test_crash_at_every_step(seed: int, fault: str) -> None:
    """Stop at each step of a run in turn; what was acknowledged is there, and the journal goes on from it."""
    steps = steps_of_a_run(seed)
    assert steps > 60
    for step in range(steps):
        disk = Disk(Random(seed * 1_000_003 + step), crash_at=step)
        load = Load(disk, seed)
        with pytest.raises(Crash):
            load.run(16)
        FAULTS[fault](disk)
        load.check()
        load.run(2)
        FAULTS[fault](disk)
        load.check()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_storm_of_crashes(seed: int, short_writes: float) -> None:
    """Crash again and again, also inside recoveries, with short writes: nothing acknowledged is ever lost."""
    random = Random(seed)
    disk = Disk(random, short_writes=short_writes)
    load = Load(disk, seed)
    for _ in range(8):
        disk.crash_at = disk.step + random.randrange(60)
        try:
            load.check()
            load.run(8)
        except Crash:
            random.choice(list(FAULTS.values()))(disk)
    disk.restart()
    load.check()


@pytest.mark.parametrize(
    ("verb", "number"),
    [("write", errno.ENOSPC), ("sync", errno.EIO), ("write", errno.EIO), ("sync_directory", errno.EIO)],
)
def test_error_at_every_step(verb: str, number: int) -> None:
    """Refuse each write or sync in turn: the journal stops, says why, and opens again with all acknowledged."""
    rehearsal = Disk(Random(1))
    Load(rehearsal, 1).run(16)
    places = [step for step, name in enumerate(rehearsal.steps) if name == verb]
    assert places
    told: list[str] = []
    for step in places:
        disk = Disk(Random(step), errors={step: number})
        load = Load(disk, 1)
        try:
            load.run(16)
        except StorageError as error:
            told.append(str(error))
        disk.restart()
        # In the same boot, where the cache may show what the platter never took; then after a loss of power.
        load.check()
        disk.power_loss()
        load.check()
    # All but the marks, which are a help only.
    assert len(told) >= len(places) * 0.5
    assert all(str(DIRECTORY) in text and os.strerror(number) in text for text in told)


def test_stops_for_good_after_an_error() -> None:
    """Once a sync has failed, no later call may claim success: the page cache cannot be trusted."""
    disk = Disk(Random(5))
    load = Load(disk, 5)
    journal = load.open()
    load.write(journal)
    disk.errors = {disk.step: errno.EIO}
    with pytest.raises(StorageError, match="disk may be failing"):
        journal.sync()
    for call in (journal.sync, lambda: journal.write([load.record(journal.last_seq + 1)])):
        with pytest.raises(StorageError, match="stopped earlier"):
            call()
    journal.close()
    disk.locked.clear()
    load.check()


@pytest.mark.parametrize("allocates", [True, False])
def test_disk_runs_full(allocates: bool) -> None:
    """A disk that fills up: a clear error, all acknowledged kept, and it goes on once there is space."""
    for capacity in range(300, 14_000, 700):
        disk = Disk(Random(capacity), capacity=capacity)
        disk.allocates = allocates
        load = Load(disk, 3)
        with pytest.raises(StorageError, match="Free space"):
            load.run(16)
        disk.restart()
        disk.capacity = 1 << 30
        load.check()
        load.run(2)


def settled(seed: int, loss: Callable[[Disk], None], groups: int = 8) -> tuple[Disk, Load, int, int]:
    """A run whose last group was synced and settled, then stopped; where its last segment ends, and how much of it
    had been durable before the last group was written."""
    disk = Disk(Random(seed))
    load = Load(disk, seed)
    load.run(groups)
    journal = load.open()
    before = journal.durable_seq
    load.write(journal)
    load.acknowledged = journal.sync()
    journal.settle()
    end = journal._end
    loss(disk)
    return disk, load, end, before


def test_every_flip_is_found() -> None:
    """Flip one bit of every third byte, after a stop of the process: named, or between groups and without effect."""
    disk, load, end, _before = settled(11, Disk.process_crash)
    paths = sorted(disk.names)
    assert len(paths) > 2
    named = 0
    for path in paths:
        content = bytes(disk.names[path].cache)
        used = end if path == paths[-1] else len(content) - 80
        for place in range(0, min(len(content), used + 200), 3):
            flipped = Disk(Random(place))
            for name, inode in disk.names.items():
                copy = FileCopy(bytes(inode.cache))
                copy.put(flipped, name)
            flipped.flip(path, place * 8 + place % 8)
            checked = Load(flipped, 0)
            checked.submitted, checked.acknowledged = dict(load.submitted), load.acknowledged
            if place < used and not (is_padding(content, place) and not raises(checked)):
                named += 1
                before = {name: bytes(inode.cache) for name, inode in flipped.names.items()}
                with pytest.raises(JournalDamaged) as caught:
                    checked.check()
                assert caught.value.path == str(path)
                assert caught.value.offset <= place
                assert caught.value.seq <= load.acknowledged
                assert before == {name: bytes(inode.cache) for name, inode in flipped.names.items()}
            elif place >= used:
                checked.check()
    assert named > 1000


def is_padding(content: bytes, place: int) -> bool:
    """Whether nothing but zeroes lies from `place` to the end of its sector: it may be what fills up a group's last."""
    return not any(content[place : place // SECTOR * SECTOR + SECTOR])


def raises(load: "Load") -> bool:
    """Whether a journal is found damaged; if it is not, nothing may be missing from it."""
    try:
        load.check()
    except JournalDamaged:
        return True
    return False


class FileCopy:
    """The contents of one file, to be put on another disk as durable."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def put(self, disk: Disk, path: Path) -> None:
        file = disk.open(path, create=True)
        file.inode.cache = bytearray(self.content)
        file.inode.platter = bytearray(self.content)
        disk.sync_directory(path.parent)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(sorted(FAULTS)))
@example(2391649, "power")  # sector 3 on sector 4, when small groups shared one: eleven of seventeen were left
def test_rot_after_a_crash_is_never_served(seed: int, fault: str) -> None:
    """A flip or a misdirected sector: damage is named, or after a loss of power at worst the last group is cut."""
    random = Random(seed)
    disk, load, _end, before_last_group = settled(seed, FAULTS[fault], groups=6)
    path = random.choice(sorted(disk.names))
    inode = disk.names[path]
    if random.random() < 0.5 or len(inode.cache) < 1024:
        disk.flip(path, random.randrange(len(inode.cache) * 8))
    else:
        source, target = (random.randrange(len(inode.cache) // SECTOR) * SECTOR for _ in range(2))
        inode.cache[target : target + SECTOR] = inode.cache[source : source + SECTOR].ljust(SECTOR, b"\0")
        inode.platter = bytearray(inode.cache)
    if fault == "power":
        load.acknowledged = before_last_group
    raises(load)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", [2391649, 7])
def test_every_misdirected_sector(seed: int, fault: str) -> None:
    """Every sector of the last segment in the place of every other: the same promise, without luck."""
    disk, load, _end, before_last_group = settled(seed, FAULTS[fault], groups=6)
    path = max(disk.names)
    inode = disk.names[path]
    content, acknowledged = bytes(inode.cache), load.acknowledged
    sectors = [content[place : place + SECTOR] for place in range(0, len(content), SECTOR)]
    submitted = dict(load.submitted)
    named = 0
    for target in range(len(sectors)):
        for source in {*sectors, bytes(SECTOR)} - {sectors[target]}:
            changed = [*sectors[:target], source.ljust(SECTOR, b"\0"), *sectors[target + 1 :]]
            inode.cache = bytearray(b"".join(changed))
            inode.platter = bytearray(inode.cache)
            load.submitted = dict(submitted)
            load.acknowledged = before_last_group if fault == "power" else acknowledged
            named += raises(load)
            disk.locked.clear()
    assert named > len(sectors)


CHILD = """
import sys
from dompbus.storage import Journal, Record
journal = Journal.open(sys.argv[1], segment_bytes=1 << 16)
print("open", journal.last_seq, flush=True)
while True:
    first = journal.last_seq + 1
    group = [Record(seq, 1, seq, 7, seq, b"%d " % seq * (seq % 97)) for seq in range(first, first + 1 + first % 5)]
    print(journal.append(group) if first % 3 else (journal.write(group), journal.sync())[1], flush=True)
"""


def test_kill_of_a_real_process(tmp_path: Path) -> None:
    """kill -9 a process that appends and reports: every seq it reported is there after each of several rounds."""
    reported = 0
    for turn in range(6):
        command = [sys.executable, "-c", CHILD, str(tmp_path / "j")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        until = time.monotonic() + 0.02 * turn
        while time.monotonic() < until or len(lines) < 3:
            lines.append(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
        child.stdout.close()
        child.wait()
        assert lines[0].startswith("open ")
        assert int(lines[0].split()[1]) >= reported
        reported = max(int(line) for line in lines[1:] if line.endswith("\n"))
        with Journal.open(tmp_path / "j", segment_bytes=1 << 16) as journal:
            found = list(journal.records())
            assert len(found) == journal.last_seq >= reported
            assert all(record.payload == b"%d " % record.seq * (record.seq % 97) for record in found)
            reported = journal.last_seq
