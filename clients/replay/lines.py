"""Lines of a file that may be of any size and hold anything.

The law here: at most one line is in memory, no line is longer than `LINE_BYTES_MAX`, and whatever is not UTF-8 text
is refused with the file, the line and the reason. A byte order mark and CRLF endings are not errors.
"""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from dompbus.errors import DompbusError

__all__ = ["LINE_BYTES_MAX", "Lines", "TradeFileError"]

LINE_BYTES_MAX: Final = 64 * 1024  # a trade takes about 100 bytes; csv's own bound on one field is 128 KiB
_READ_BYTES: Final = 1024 * 1024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PACKED: Final = {b"\x1f\x8b": "gzip", b"PK": "zip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}


class TradeFileError(DompbusError):
    """A trade file that cannot be read further. Its text is `file:line: reason`."""

    exit_code = 2  # a mistake in what was handed in, for the command line

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(file, line, reason)
        self.file = file
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class Lines:
    """Iterates over the decoded lines of `path`, endings included. `number` is the line last handed out, from 1.

    `ended` says whether that line had its newline: a last line without one may have been cut off. Raises
    `TradeFileError`. Use as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.number = 0
        self.bytes_read = 0
        self.ended = True
        try:
            mode = path.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe would wait, and take from it
                raise TradeFileError(self.name, 1, "needs a regular file: it is read more than once")
            self._file: IO[bytes] = path.open("rb", buffering=_READ_BYTES)
        except OSError as error:
            raise TradeFileError(self.name, 1, f"cannot be opened: {error.strerror}") from error

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        while raw := self._read():
            self.number += 1
            self.bytes_read += len(raw)
            if len(raw) > LINE_BYTES_MAX:
                raise self.error(f"a line of more than {LINE_BYTES_MAX} bytes: this is not a file of trades")
            self.ended = raw.endswith(b"\n")
            yield self._decode(raw)

    def error(self, reason: str) -> TradeFileError:
        """Make the error for the line last handed out."""
        return TradeFileError(self.name, max(1, self.number), reason)

    def _read(self) -> bytes:
        try:
            return self._file.readline(LINE_BYTES_MAX + 1)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}") from error

    def _decode(self, raw: bytes) -> str:
        if self.number == 1:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise self.error(_why_not_text(raw, error, first=self.number == 1)) from None
        if "\0" in text:
            raise self.error("holds NUL bytes: this is not text")
        return text


def _why_not_text(raw: bytes, error: UnicodeDecodeError, *, first: bool) -> str:
    for magic, name in _PACKED.items():
        if first and raw.startswith(magic):
            return f"this is a {name} archive: unpack it first"
    return f"not UTF-8 text: byte 0x{raw[error.start]:02x} at column {error.start + 1}"
