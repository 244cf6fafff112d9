"""A small file that is replaced as one: after any crash it holds either what was before or what is new.

The law here: `write` returns when the new contents *and* the name are on disk; `read` hands out nothing whose
checksum does not match. For what a process must not forget and must not half know: its name, its epoch.
"""

import os
from pathlib import Path

from xxhash import xxh3_64_hexdigest

from dompbus.errors import StorageError
from dompbus.limits import STATE_FILE_BYTES_MAX
from dompbus.storage.files import Files, OsFiles, refusal, write_all

__all__ = ["StateFile"]

_MAGIC = b"dompbus-state 1 "
_CHECKSUM_BYTES = 16
_HEADER_BYTES = len(_MAGIC) + _CHECKSUM_BYTES + 1


class StateFile:
    """One atomically replaced file. Its first line is a checksum of the rest, which is kept as given."""

    def __init__(self, path: str | os.PathLike[str], *, files: Files | None = None) -> None:
        self.path = Path(path)
        self._files = files or OsFiles()

    def read(self) -> bytes | None:
        """What was last written, or None if nothing ever was. Raises `StorageError`, also when it is damaged."""
        try:
            file = self._files.open(self.path)
        except FileNotFoundError:
            return None
        except OSError as cause:
            raise refusal("read", self.path, cause) from cause
        try:
            content = file.read(_HEADER_BYTES + STATE_FILE_BYTES_MAX + 1, 0)
        except OSError as cause:
            raise refusal("read", self.path, cause) from cause
        finally:
            file.close()
        data = content[_HEADER_BYTES:]
        if content[:_HEADER_BYTES] != _header(data):
            raise StorageError(
                f"{self.path} does not match its checksum: it was damaged or changed by hand. "
                "Restore it from a backup, or move it away to start without it."
            )
        return data

    def write(self, data: bytes) -> None:
        """Replace the contents, durably. Raises `StorageError`, and `ValueError` over `STATE_FILE_BYTES_MAX`."""
        if len(data) > STATE_FILE_BYTES_MAX:
            raise ValueError(f"a state file holds {STATE_FILE_BYTES_MAX:,} bytes at most, not {len(data):,}")
        try:
            self._replace(data)
        except OSError as cause:
            raise refusal("write", self.path, cause) from cause

    def _replace(self, data: bytes) -> None:
        unfinished = self.path.with_name(self.path.name + ".new")
        self._files.make_directory(self.path.parent)
        file = self._files.open(unfinished, create=True)
        try:
            write_all(file, [_header(data), data], 0)
            file.sync()
        finally:
            file.close()
        self._files.rename(unfinished, self.path)
        self._files.sync_directory(self.path.parent)


def _header(data: bytes) -> bytes:
    return _MAGIC + xxh3_64_hexdigest(data).encode("ascii") + b"\n"
