"""A disk that lies as real ones do, under the real storage code (`dompbus.storage.files.Files`).

What the process sees (the cache) and what is on the platter are kept apart. Until a sync returns, any subset of the
512-byte sectors written since may be on the platter, in any of their versions, and so may any subset of the changes
to names. `power_loss` decides by the given random generator; `process_crash` keeps all that was written.

Faults are planned by the number of the step (every call that changes something is one): `crash_at`, `errors`.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from dompbus.errors import DirectoryLocked
from dompbus.storage.files import Buffer

SECTOR = 512


class Crash(BaseException):
    """The machine stopped here."""


class Inode:
    """One file: its cached contents, its durable sectors, and all versions that may have reached the platter."""

    def __init__(self) -> None:
        self.cache = bytearray()
        self.platter = bytearray()
        self.versions: dict[int, list[bytes]] = {}
        self.sizes: list[int] = []

    def change(self, start: int, stop: int) -> None:
        """Note that the cache changed from `start` to `stop`."""
        self.sizes.append(len(self.cache))
        for sector in range(start // SECTOR, -(-stop // SECTOR)):
            content = bytes(self.cache[sector * SECTOR : (sector + 1) * SECTOR])
            self.versions.setdefault(sector, []).append(content.ljust(SECTOR, b"\0"))

    def sync(self, random: Random | None = None) -> None:
        """Whatever waits to be written is on the platter; with a random generator, only some of it is.

        Linux counts all of it as written in either case.
        """
        del self.platter[len(self.cache) :]
        self.platter.extend(bytes(len(self.cache) - len(self.platter)))
        for sector in self.versions:
            if random is None or random.random() < 0.5:
                span = slice(sector * SECTOR, (sector + 1) * SECTOR)
                self.platter[span] = self.cache[span]
        self.forget()

    def forget(self) -> None:
        """Nothing waits to be written any more, whether it was written or not."""
        self.versions.clear()
        self.sizes.clear()

    def lose(self, random: Random) -> None:
        """Power is lost: each sector, and the size, is what it was or any version written since."""
        size = random.choice([len(self.platter), *self.sizes])
        content = self.platter.ljust(size, b"\0")
        for sector, versions in self.versions.items():
            if random.random() < 0.5:
                start = sector * SECTOR
                content = content.ljust(start + SECTOR, b"\0")
                content[start : start + SECTOR] = random.choice(versions)
        self.platter = content[:size].ljust(size, b"\0")
        self.cache = bytearray(self.platter)
        self.forget()


@dataclass
class Disk:
    """One disk with everything in it, and the faults planned for it."""

    random: Random = field(default_factory=lambda: Random(0))
    crash_at: int = -1
    errors: dict[int, int] = field(default_factory=dict)  # step -> errno
    short_writes: float = 0.0  # share of the writes that take only a part
    capacity: int = 1 << 40  # bytes

    def __post_init__(self) -> None:
        self.step = 0
        self.steps: list[str] = []
        self.names: dict[Path, Inode] = {}
        self.durable_names: dict[Path, Inode] = {}
        self.name_changes: list[Callable[[dict[Path, Inode]], object]] = []
        self.locked: set[Path] = set()
        self.allocates = True

    # -- Files -----------------------------------------------------------------------------------------------
    def open(self, path: Path, *, create: bool = False, write: bool = False) -> "FakeFile":
        if create:
            self.do("create")
            inode = Inode()
            self.rename_by(lambda names: names.__setitem__(path, inode))
        elif path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return FakeFile(self, self.names[path], writable=create or write)

    def list(self, directory: Path) -> list[str]:
        return sorted(path.name for path in self.names if path.parent == directory)

    def make_directory(self, directory: Path) -> None:
        pass

    def rename(self, source: Path, target: Path) -> None:
        self.do("rename")
        inode = self.names[source]

        def change(names: dict[Path, Inode]) -> None:
            names[target] = inode
            names.pop(source, None)

        self.rename_by(change)

    def remove(self, path: Path) -> None:
        self.do("remove")
        self.rename_by(lambda names: names.pop(path, None))

    def sync_directory(self, directory: Path) -> None:
        self.do("sync_directory")
        self.durable_names = dict(self.names)
        self.name_changes.clear()

    def lock(self, directory: Path) -> "FakeLock":
        if directory in self.locked:
            raise DirectoryLocked(f"{directory} is in use")
        self.locked.add(directory)
        return FakeLock(self, directory)

    # -- faults ----------------------------------------------------------------------------------------------
    def do(self, verb: str) -> None:
        """Count one step, and let it fail if that is planned."""
        step = self.step
        self.step += 1
        self.steps.append(verb)
        if step == self.crash_at:
            raise Crash
        if step in self.errors:
            number = self.errors[step]
            raise OSError(number, os.strerror(number))

    def rename_by(self, change: Callable[[dict[Path, Inode]], object]) -> None:
        change(self.names)
        self.name_changes.append(change)

    def power_loss(self) -> None:
        """The machine stops and starts: what was not synced is there, or not, or in part."""
        for change in self.name_changes:
            if self.random.random() < 0.5:
                change(self.durable_names)
        self.name_changes.clear()
        for inode in {id(inode): inode for inode in self.durable_names.values()}.values():
            inode.lose(self.random)
        self.names = dict(self.durable_names)
        self.restart()

    def process_crash(self) -> None:
        """Only the process stops: the cache is as it was."""
        self.restart()

    def restart(self) -> None:
        self.locked.clear()
        self.crash_at = -1
        self.errors.clear()

    def used(self) -> int:
        return sum(len(inode.cache) for inode in self.names.values())

    def flip(self, path: Path, bit: int) -> None:
        """Rot: one bit of a file changes, on the platter and wherever it is read."""
        inode = self.names[path]
        for content in (inode.cache, inode.platter):
            if bit // 8 < len(content):
                content[bit // 8] ^= 1 << bit % 8


class FakeFile:
    """A file of a `Disk`."""

    def __init__(self, disk: Disk, inode: Inode, *, writable: bool) -> None:
        self.disk = disk
        self.inode = inode
        self.writable = writable

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        assert self.writable
        data = b"".join(buffers)
        failure: BaseException | None = None
        try:
            self.disk.do("write")
        except (Crash, OSError) as error:
            # A write that fails or is cut off by the crash may have got anywhere.
            failure, data = error, data[: self.disk.random.randrange(len(data) + 1)]
        if failure is None and len(data) > 1 and self.disk.random.random() < self.disk.short_writes:
            data = data[: self.disk.random.randrange(1, len(data))]
        grown = max(0, offset + len(data) - len(self.inode.cache))
        free = self.disk.capacity - self.disk.used()
        if grown > free:
            data = data[: max(0, len(data) - (grown - free))]
            if not data:
                failure = failure or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._put(data, offset)
        if failure is not None:
            raise failure
        return len(data)

    def _put(self, data: bytes, offset: int) -> None:
        cache = self.inode.cache
        if data:
            start = min(offset, len(cache))
            cache.extend(bytes(max(0, offset + len(data) - len(cache))))
            cache[offset : offset + len(data)] = data
            self.inode.change(start, offset + len(data))

    def read(self, size: int, offset: int) -> bytes:
        return bytes(self.inode.cache[offset : offset + size])

    def sync(self) -> None:
        try:
            self.disk.do("sync")
        except OSError:
            self.inode.sync(self.disk.random)
            raise
        self.inode.sync()

    def drop_cache(self) -> None:
        """Pages with nothing waiting to be written are read anew from the platter."""
        if not self.inode.versions and not self.inode.sizes:
            self.inode.cache = bytearray(self.inode.platter)

    def allocate(self, offset: int, size: int) -> bool:
        self.disk.do("allocate")
        grown = max(0, offset + size - len(self.inode.cache))
        if not self.disk.allocates or grown > self.disk.capacity - self.disk.used():
            return False
        if grown:
            before = len(self.inode.cache)
            self.inode.cache.extend(bytes(grown))
            self.inode.change(before, before)
        return True

    def truncate(self, size: int) -> None:
        self.disk.do("truncate")
        cache = self.inode.cache
        before = len(cache)
        del cache[size:]
        cache.extend(bytes(size - len(cache)))
        self.inode.change(size // SECTOR * SECTOR, max(before, size))

    def size(self) -> int:
        return len(self.inode.cache)

    def close(self) -> None:
        pass


class FakeLock:
    """The lock of a directory of a `Disk`."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self.disk = disk
        self.directory = directory

    def release(self) -> None:
        self.disk.locked.discard(self.directory)
