"""The file system under the journal, and the small files that are replaced as one."""

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from dompbus.errors import DirectoryLocked, StorageError
from dompbus.limits import STATE_FILE_BYTES_MAX
from dompbus.storage import OsFiles, StateFile
from dompbus.storage.files import BUFFERS_PER_WRITE_MAX, Buffer, OsFile, write_all
from tests.disk import Crash, Disk


class Slow(OsFile):
    """Takes a few bytes at a time."""

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        return super().write([b"".join(buffers)[:5]], offset)


class Deaf(OsFile):
    """Takes nothing and does not say why."""

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        return 0


@pytest.mark.parametrize("kind", [OsFile, Slow])
def test_write_all(tmp_path: Path, kind: type[OsFile]) -> None:
    """Every byte is written, with more buffers than the system takes at once, and however short its writes."""
    buffers = [b"", *(b"%d," % number for number in range(BUFFERS_PER_WRITE_MAX + 500)), b""]
    file = kind(os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT))
    whole = b"".join(buffers)
    assert write_all(file, buffers, 3) == 3 + len(whole)
    assert file.read(1 << 20, 3) == whole
    file.close()


def test_write_all_gives_up(tmp_path: Path) -> None:
    """A system that takes no byte is an error, not an endless loop."""
    file = Deaf(os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT))
    with pytest.raises(OSError, match="no byte"):
        write_all(file, [b"x"], 0)
    file.close()


def test_allocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reserved space reads as zeroes; a file system that cannot reserve is told from one that fails."""
    file = OsFiles().open(tmp_path / "x", create=True)
    assert file.allocate(0, 5000)
    assert file.size() == 5000
    assert file.read(9000, 0) == bytes(5000)

    answers = [errno.ENOSPC, errno.EOPNOTSUPP, errno.EIO]

    def refuse(_fd: int, _offset: int, _size: int) -> None:
        number = answers.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert not file.allocate(0, 9000)
    assert not file.allocate(0, 9000)
    with pytest.raises(OSError, match="Input/output"):
        file.allocate(0, 9000)
    file.close()


def test_make_directory(tmp_path: Path) -> None:
    """Parents are made, too; what is there stays."""
    files = OsFiles()
    files.make_directory(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "kept").write_text("x")
    files.make_directory(tmp_path / "a" / "b")
    assert files.list(tmp_path / "a" / "b") == ["kept"]


def test_lock_names_its_owner_and_ends_with_it(tmp_path: Path) -> None:
    """Held by another process: refused with its pid. Killed: free at once."""
    code = (
        f"import pathlib, dompbus.storage as s; l = s.OsFiles().lock(pathlib.Path({str(tmp_path)!r})); print(); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(DirectoryLocked, match=f"in use by process {child.pid}"):
            OsFiles().lock(tmp_path)
        child.kill()
    lock = OsFiles().lock(tmp_path)
    (tmp_path / "LOCK").write_text("garbled")
    with pytest.raises(DirectoryLocked, match="another process"):
        OsFiles().lock(tmp_path)
    lock.release()
    lock.release()
    OsFiles().lock(tmp_path).release()


def test_state_file(tmp_path: Path) -> None:
    """Nothing at first, then what was written last; bounded."""
    state = StateFile(tmp_path / "new" / "epoch")
    assert state.read() is None
    for data in (b"7", b"", bytes(range(256)), b"x" * STATE_FILE_BYTES_MAX):
        state.write(data)
        assert state.read() == data
    with pytest.raises(ValueError, match="at most"):
        state.write(b"x" * (STATE_FILE_BYTES_MAX + 1))
    assert os.listdir(tmp_path / "new") == ["epoch"]


@pytest.mark.parametrize("content", [b"", b"dompbus-state 1 ", b"7", b"dompbus-state 1 0000000000000000\n7"])
def test_damaged_state_file(tmp_path: Path, content: bytes) -> None:
    """Anything that does not verify is refused with the file's name."""
    (tmp_path / "epoch").write_bytes(content)
    with pytest.raises(StorageError, match="does not match its checksum") as caught:
        StateFile(tmp_path / "epoch").read()
    assert str(tmp_path / "epoch") in str(caught.value)


def test_state_file_cannot_be_written(tmp_path: Path) -> None:
    """A clear error, and what was there before stays."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="A file is in the way"):
        StateFile(tmp_path / "file" / "epoch").write(b"1")
    with pytest.raises(StorageError, match="Is a directory"):
        StateFile(tmp_path).read()


def test_state_file_survives_a_crash_at_every_step() -> None:
    """Either the old or the new contents after any crash; what was acknowledged is there."""
    for seed in range(40):
        for step in range(30):
            disk = Disk(Random(seed), crash_at=step, short_writes=0.3)
            state = StateFile("/state/epoch", files=disk)
            acknowledged = 0
            try:
                for value in range(1, 4):
                    state.write(b"%d" % value * 600)
                    acknowledged = value
            except Crash:
                disk.power_loss()
            data = state.read()
            allowed = [b"%d" % value * 600 for value in (acknowledged, acknowledged + 1)]
            assert data in allowed or (data is None and acknowledged == 0)
