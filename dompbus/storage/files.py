"""The file system as the journal sees it: the few calls it makes, and what each promises about a crash.

The law here: nothing is durable before `File.sync` (its contents) and `Files.sync_directory` (its name) have
returned; between them any part of it may be on disk. Calls raise plain `OSError`; the code above turns it into
a `StorageError` with `refusal`. `OsFiles` is the real disk; tests put a lying one under the same code.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from dompbus.errors import DirectoryLocked, StorageError

__all__ = ["Buffer", "File", "Files", "Lock", "OsFiles", "refusal", "write_all"]

Buffer: TypeAlias = bytes | memoryview

BUFFERS_PER_WRITE_MAX = 1024  # IOV_MAX on Linux
LOCK_NAME = "LOCK"
_PID_BYTES_MAX = 32
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class File(Protocol):
    """One open file, read and written at given offsets."""

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        """Write the buffers one after the other; returns how many bytes were taken, which may be fewer."""
        ...

    def read(self, size: int, offset: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end of the file."""
        ...

    def sync(self) -> None:
        """Return once contents and size are on disk (fdatasync)."""
        ...

    def drop_cache(self) -> None:
        """Forget clean cached contents, so that the next read shows what the disk holds."""
        ...

    def allocate(self, offset: int, size: int) -> bool:
        """Reserve space and grow the file over it, reading as zeroes; False if that cannot be had."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def size(self) -> int:
        """How long the file is, in bytes."""
        ...

    def close(self) -> None:
        """Give the file back; does not sync."""
        ...


class Lock(Protocol):
    """The ownership of one directory."""

    def release(self) -> None:
        """Give it up."""
        ...


class Files(Protocol):
    """The directory operations under the journal."""

    def open(self, path: Path, *, create: bool = False, write: bool = False) -> File:
        """Open a file for reading, or for both with `write`; `create` starts an empty one."""
        ...

    def list(self, directory: Path) -> list[str]:
        """The names in a directory, sorted."""
        ...

    def make_directory(self, directory: Path) -> None:
        """Create it and its parents, durably; nothing if it is there."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its name in one step, replacing what had it."""
        ...

    def remove(self, path: Path) -> None:
        """Take a name away."""
        ...

    def sync_directory(self, directory: Path) -> None:
        """Return once the names in a directory are on disk."""
        ...

    def lock(self, directory: Path) -> Lock:
        """Own the directory until release or the end of the process; raises `DirectoryLocked`."""
        ...


class OsFile:
    """A file of the operating system."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        """See `File.write`."""
        return os.pwritev(self._fd, buffers, offset)

    def read(self, size: int, offset: int) -> bytes:
        """See `File.read`."""
        data = os.pread(self._fd, size, offset)
        while len(data) < size and (more := os.pread(self._fd, size - len(data), offset + len(data))):
            data += more
        return data

    def sync(self) -> None:
        """See `File.sync`."""
        os.fdatasync(self._fd)

    def drop_cache(self) -> None:
        """See `File.drop_cache`."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def allocate(self, offset: int, size: int) -> bool:
        """See `File.allocate`."""
        try:
            os.posix_fallocate(self._fd, offset, size)
        except OSError as cause:
            if cause.errno in (*_FULL, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                return False
            raise
        return True

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        os.ftruncate(self._fd, size)

    def size(self) -> int:
        """See `File.size`."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """See `File.close`."""
        os.close(self._fd)


class OsLock:
    """An flock on the file LOCK of a directory; the system drops it when the process ends, however it ends."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Give it up; the file stays, since removing it would let two owners lock two files of one name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsFiles:
    """The file system of the operating system."""

    def open(self, path: Path, *, create: bool = False, write: bool = False) -> OsFile:
        """See `Files.open`."""
        flags = os.O_RDWR if write or create else os.O_RDONLY
        if create:
            flags |= os.O_CREAT | os.O_TRUNC
        return OsFile(os.open(path, flags | os.O_CLOEXEC, 0o640))

    def list(self, directory: Path) -> list[str]:
        """See `Files.list`."""
        return sorted(os.listdir(directory))

    def make_directory(self, directory: Path) -> None:
        """See `Files.make_directory`."""
        if directory.is_dir():
            return
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        for path in missing:
            self.sync_directory(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        """See `Files.rename`."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """See `Files.remove`."""
        os.unlink(path)

    def sync_directory(self, directory: Path) -> None:
        """See `Files.sync_directory`."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, directory: Path) -> OsLock:
        """See `Files.lock`."""
        path = directory / LOCK_NAME
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, _PID_BYTES_MAX, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise _locked(directory, owner) from None
        except OSError:
            os.close(fd)
            raise
        _sign(fd)
        return OsLock(fd)


def write_all(file: File, buffers: Sequence[Buffer], offset: int) -> int:
    """Write every byte of the buffers from `offset` on, however short the single writes; returns the end."""
    for start in range(0, len(buffers), BUFFERS_PER_WRITE_MAX):
        rest = list(buffers[start : start + BUFFERS_PER_WRITE_MAX])
        missing = sum(map(len, rest))
        while missing:
            taken = file.write(rest, offset)
            if taken <= 0:
                raise OSError(errno.EIO, "the system took no byte of a write")
            offset += taken
            missing -= taken
            if missing:
                rest = _after(rest, taken)
    return offset


def refusal(action: str, path: Path, cause: OSError) -> StorageError:
    """The error for a user when the system refused to `action` (a verb) `path`: what, why, and the next step."""
    reason = cause.strerror or str(cause) or type(cause).__name__
    return StorageError(f"cannot {action} {path}: {reason}. {_next_step(cause)}")


def _next_step(cause: OSError) -> str:
    if cause.errno in _FULL:
        return "Free space on that file system and start again; nothing that was acknowledged is lost."
    if cause.errno in _DENIED:
        return "Make it writable for this user, or choose another data directory."
    if cause.errno in (errno.ENOTDIR, errno.EEXIST):
        return "A file is in the way: choose a data directory."
    if cause.errno == errno.EIO:
        return "The disk may be failing: look at the system's log, and start again once the disk is trusted."
    return "Put the cause right and start again; nothing that was acknowledged is lost."


def _locked(directory: Path, owner: str) -> DirectoryLocked:
    who = f"process {owner}" if owner.isdigit() else "another process"
    return DirectoryLocked(f"{directory} is in use by {who}. Stop it first, or choose another data directory.")


def _sign(fd: int) -> None:
    # The process id only helps a reader; on a full disk the lock holds without it.
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    except OSError:
        return


def _after(buffers: Sequence[Buffer], taken: int) -> list[Buffer]:
    """What is left of the buffers behind the first `taken` bytes."""
    for index, buffer in enumerate(buffers):
        if taken < len(buffer):
            return [buffer[taken:], *buffers[index + 1 :]]
        taken -= len(buffer)
    return []
