"""Patience with a server that went away: how long to wait, how often to try, and when to give up.

The law here: a replay that once had its server waits for it at most `give_up_after` seconds on end; one that never
reached it fails at once, for then the address is the likelier culprit.
"""

import os
import time
from collections.abc import Callable
from typing import Final

from dompbus.clients.replay.board import Board, Cell
from dompbus.errors import (
    ClosedError,
    DompbusError,
    NoService,
    Overloaded,
    SessionExpired,
    Timeout,
    Unreachable,
)

__all__ = ["REQUEST_TIMEOUT", "TRANSIENT", "GaveUp", "Orphaned", "Patience"]

# Errors after which the same thing may be tried again: nothing here says that the request itself was wrong.
TRANSIENT: Final = (Timeout, Unreachable, Overloaded, SessionExpired, NoService, ClosedError)
# How long one request may take before it is repeated, which is safe. Three times the longest commit seen here, and
# shorter than the silence after which a client notices by itself that its node was replaced.
REQUEST_TIMEOUT: Final = 1.5
_PAUSE_MIN: Final = 0.05  # s
_PAUSE_MAX: Final = 1.0


class GaveUp(DompbusError):
    """The server stayed away for longer than the replay was told to wait."""


class Orphaned(DompbusError):
    """The process that started this one is gone."""


class Patience:
    """Counts how long the server is away. `cell` is where the board shows it."""

    def __init__(self, board: Board, cell: Cell, *, url: str, give_up_after: float) -> None:
        self._board = board
        self._cell = cell
        self._url = url
        self._give_up_after = give_up_after
        self._pause = _PAUSE_MIN
        self._met = False
        self._parent = os.getppid()

    def met(self) -> None:
        """The server answered."""
        self._met = True
        self._pause = _PAUSE_MIN
        self._board[self._cell] = 0

    def wait(self, error: DompbusError) -> None:
        """Sleep before the next attempt after `error`. Raises `GaveUp`, or `error` when there was never a server."""
        if not self._met:
            raise error
        now_ns = time.monotonic_ns()
        away_ns = self._board[self._cell] or now_ns
        self._board[self._cell] = away_ns
        if now_ns - away_ns > self._give_up_after * 1e9:
            raise GaveUp(f"the server at {self._url} stayed away for {self._give_up_after:g} s; last: {error}")
        self.sleep(self._pause)
        self._pause = min(2 * self._pause, _PAUSE_MAX)

    def sleep(self, seconds: float) -> None:
        """Sleep, but end at once when a stop is asked for. Raises `Orphaned`."""
        self.sleep_until(seconds, lambda: self._board.stopping)

    def sleep_until(self, seconds: float, done: Callable[[], bool], *, step: float = 0.02) -> None:
        """Sleep until `done()` or `seconds` have passed. Raises `Orphaned`."""
        end = time.monotonic() + seconds
        while not done() and (left := end - time.monotonic()) > 0:
            self.check_parent()
            time.sleep(min(step, left))

    def check_parent(self) -> None:
        """Raise `Orphaned` when the parent is gone, so that nobody is left behind publishing."""
        if os.getppid() != self._parent:
            raise Orphaned("the replay that started this process is gone")
