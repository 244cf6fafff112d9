"""Where the transfers are kept: 128-byte records in the order of their timestamps, and an index of their ids.

The law here: a record, once its batch is closed, never changes, and its row number is its rank in time (an imported
transfer must be newer than every other, so appending keeps the order). While a batch is open its records stand
provisionally at the end, failed ones among them; closing keeps the created ones and closes the gaps. Everything that
knows how records are stored is in this module, so that it can move to disk.
"""

import struct
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from dompbus.ledger.records import RECORD_BYTES, Buffer, pack_transfers, unpack_transfers
from dompbus.ledger.types import U128_MAX, Transfer

__all__ = ["BURNT", "TransferLog", "column_u64", "column_u128"]

assert sys.byteorder == "little", "the ledger reads its records' columns as native words"

BURNT: Final = -1  # stands in the index for an id that failed for ever (R6)
_NEVER: Final = -2  # stands in the index for the two ids that no transfer can have
_U64: Final = struct.Struct("<Q")
_TIMESTAMP_AT: Final = RECORD_BYTES - 8
_WORDS: Final = RECORD_BYTES // 8


class TransferLog:
    """Every transfer, by id, by row and in order of time."""

    __slots__ = ("burnt", "index", "newest", "rows")

    def __init__(self) -> None:
        self.rows = bytearray()
        self.index: dict[int, int] = {0: _NEVER, U128_MAX: _NEVER}
        self.burnt: set[int] = set()
        self.newest = 0  # the timestamp of the newest transfer, or 0

    def __len__(self) -> int:
        return len(self.rows) // RECORD_BYTES

    def get(self, id: int) -> Transfer | None:
        """The transfer with this id, its flags a plain integer."""
        row = self.index.get(id, _NEVER)
        return self.read(row) if row >= 0 else None

    def read(self, row: int) -> Transfer:
        """The transfer in this row, its flags a plain integer."""
        return unpack_transfers(self.raw(row), plain_flags=True)[0]

    def raw(self, row: int) -> bytes:
        """The 128 bytes of this row."""
        return bytes(self.rows[row * RECORD_BYTES : (row + 1) * RECORD_BYTES])

    def timestamp(self, row: int) -> int:
        """The timestamp of the transfer in this row."""
        (timestamp,) = _U64.unpack_from(self.rows, row * RECORD_BYTES + _TIMESTAMP_AT)
        return int(timestamp)

    def burn(self, id: int) -> None:
        """Never let a transfer with this id be created."""
        self.burnt.add(id)
        self.index[id] = BURNT

    def exists_at(self, timestamp: int) -> bool:
        """Whether a transfer has this very timestamp."""
        row = self.first_row(timestamp)
        return row < len(self) and self.timestamp(row) == timestamp

    def first_row(self, timestamp: int) -> int:
        """The first row whose timestamp is not below this one."""
        return bisect_left(range(len(self)), timestamp, key=self.timestamp)

    def open_batch(self, rows: Buffer, first_timestamp: int | None) -> int:
        """Put the records of a batch at the end, provisionally; the row of the first one.

        Stamps them with `first_timestamp` and the numbers that follow, or leaves the stamps alone when it is None.
        """
        base = len(self)
        self.rows += rows
        if first_timestamp is not None:
            count = len(rows) // RECORD_BYTES
            stamps = struct.pack(f"<{count}Q", *range(first_timestamp, first_timestamp + count))
            with memoryview(self.rows) as view, view.cast("Q") as words:
                words[(base + 1) * _WORDS - 1 :: _WORDS] = memoryview(stamps).cast("Q")
        return base

    def rewrite(self, row: int, transfer: Transfer) -> None:
        """Record something else than what came in (a clamped amount, inherited fields), while the batch is open."""
        self.rows[row * RECORD_BYTES : (row + 1) * RECORD_BYTES] = pack_transfers((transfer,))

    def close_batch(self, base: int, kept: Sequence[int] | None) -> None:
        """End the batch that began at row `base`: keep all of it (None), or only these rows, in rising order."""
        if kept is not None:
            body = self._runs(kept)
            del self.rows[base * RECORD_BYTES :]
            self.rows += body
            self._index_rows(base)
        self.newest = self.timestamp(len(self) - 1) if self.rows else 0

    def restore(self, rows: bytearray) -> None:
        """Take over the records of a snapshot."""
        self.rows = rows
        self._index_rows(0)
        self.newest = self.timestamp(len(self) - 1) if rows else 0

    def chunks(self, rows_per_chunk: int) -> Iterator[bytes]:
        """All records, piece by piece."""
        step = rows_per_chunk * RECORD_BYTES
        for at in range(0, len(self.rows), step):
            yield bytes(self.rows[at : at + step])

    def _runs(self, kept: Sequence[int]) -> bytes:
        """The bytes of these rows; neighbours are copied in one piece."""
        pieces = []
        for _, run in groupby(enumerate(kept), key=lambda pair: pair[1] - pair[0]):
            first, *rest = (row for _, row in run)
            pieces.append(self.rows[first * RECORD_BYTES : (first + len(rest) + 1) * RECORD_BYTES])
        return b"".join(pieces)

    def _index_rows(self, base: int) -> None:
        with memoryview(self.rows) as view, view[base * RECORD_BYTES :] as tail:
            ids = column_u128(tail, 0)
        self.index.update(zip(ids, range(base, base + len(ids)), strict=True))


def column_u64(rows: memoryview, word: int) -> list[int]:
    """One 64-bit word of every record: a strided view, so no object but the numbers is made."""
    return rows.cast("Q")[word::_WORDS].tolist()


def column_u128(rows: memoryview, word: int) -> list[int]:
    """One 128-bit field of every record, given the first of its two 64-bit words."""
    words = rows.cast("Q")
    low = words[word::_WORDS].tolist()
    high = words[word + 1 :: _WORDS]
    if high.tobytes() == bytes(8 * len(low)):
        return low
    return [a | b << 64 for a, b in zip(low, high.tolist(), strict=True)]
