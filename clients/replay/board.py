"""The board: a few counters in shared memory by which the processes of one replay see each other's progress.

The law here: each cell has one writer (named beside it) and only ever holds a whole 64-bit integer, so it is read
without a lock. The market itself never takes this way: trades travel on the bus and nowhere else.
"""

from ctypes import c_int64
from enum import IntEnum
from multiprocessing.context import SpawnContext
from typing import Any

__all__ = ["Board", "Cell"]


class Cell(IntEnum):
    """What stands on the board."""

    STOP = 0  # parent: 1 asks for a clean stop
    SUBSCRIBED = 1  # settler: 1 once it listens
    SETTLED = 2  # settler: every trade up to this number is durably booked
    REWINDS = 3  # settler: how often it asked for everything unsettled again
    SETTLER_AWAY_NS = 4  # settler: since when it misses the server (monotonic clock), 0 when it does not
    PUBLISHED = 5  # publisher: the highest number it has published
    MESSAGES = 6  # publisher: messages published, repeats included
    BYTES_READ = 7  # publisher: of the file
    TOTAL = 8  # publisher: how many trades there are, -1 until the file's end (or first error) is reached
    PUBLISHER_AWAY_NS = 9  # publisher: as SETTLER_AWAY_NS
    SETTLED_BEYOND = 10  # settler: how many trades behind the first that is not booked are booked


class Board:
    """Get and set cells: `board[Cell.SETTLED]`. Made by the parent, handed to both children at their start."""

    def __init__(self, context: SpawnContext) -> None:
        self._cells: Any = context.RawArray(c_int64, len(Cell))
        self[Cell.TOTAL] = -1

    def __getitem__(self, cell: Cell) -> int:
        return int(self._cells[cell])

    def __setitem__(self, cell: Cell, value: int) -> None:
        self._cells[cell] = value

    @property
    def stopping(self) -> bool:
        """Whether a clean stop was asked for."""
        return self[Cell.STOP] != 0

    @property
    def complete(self) -> bool:
        """Whether the end of the file is known and everything before it is settled."""
        return 0 <= self[Cell.TOTAL] <= self[Cell.SETTLED]
