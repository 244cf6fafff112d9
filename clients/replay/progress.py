"""Progress of a replay on standard error: a bar on a terminal, a plain line now and then elsewhere.

The law here: nothing is written to standard output, which belongs to the report.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from dompbus.clients.replay.board import Board, Cell

if TYPE_CHECKING:
    from dompbus.clients.replay.runner import Watcher

__all__ = ["show_progress"]

_LINE_EVERY: Final = 2.0  # s
_AWAY_SHOWN_AFTER: Final = 0.3  # s: shorter absences are not worth a word


@contextmanager
def show_progress(bytes_total: int, *, give_up_after: float) -> "Iterator[Watcher]":
    """Yield a watcher that shows how far the reading (by bytes) and the settling (by trades) have come."""
    words = _Words(give_up_after)
    if not sys.stderr.isatty():
        yield _Lines(words, bytes_total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(words, progress, progress.add_task("starting", total=max(1, bytes_total)))


class _Words:
    """What there is to say about a board."""

    def __init__(self, give_up_after: float) -> None:
        self._give_up_after = give_up_after

    def state(self, board: Board) -> str:
        """One line."""
        away = self.away(board)
        settled, published = board[Cell.SETTLED], board[Cell.PUBLISHED]
        return f"{settled:,} trades settled, {published - settled:,} on their way" + (f"; {away}" if away else "")

    def away(self, board: Board) -> str:
        """How long the server is gone, if it is."""
        since_ns = max(board[Cell.SETTLER_AWAY_NS], board[Cell.PUBLISHER_AWAY_NS])
        seconds = (time.monotonic_ns() - since_ns) / 1e9 if since_ns else 0.0
        if seconds < _AWAY_SHOWN_AFTER:
            return ""
        return f"server gone, waiting since {seconds:.0f} s (--give-up-after {self._give_up_after:g})"


class _Bar:
    def __init__(self, words: _Words, progress: Any, task: Any) -> None:
        self._words = words
        self._progress = progress
        self._task = task

    def update(self, board: Board) -> None:
        """Move the bar by what is read, less the share of it that is not settled yet."""
        published = max(1, board[Cell.PUBLISHED])
        done = board[Cell.BYTES_READ] * min(board[Cell.SETTLED], published) / published
        self._progress.update(self._task, completed=done, description=self._words.state(board))


class _Lines:
    def __init__(self, words: _Words, bytes_total: int) -> None:
        self._words = words
        self._bytes_total = max(1, bytes_total)
        self._next = time.monotonic() + _LINE_EVERY
        self._was_away = False

    def update(self, board: Board) -> None:
        """Write a line every few seconds, and at once when the server goes or returns."""
        away = bool(self._words.away(board))
        now = time.monotonic()
        if away == self._was_away and now < self._next:
            return
        back = "; the server is back" if self._was_away and not away else ""
        self._was_away, self._next = away, now + _LINE_EVERY
        share = 100 * board[Cell.BYTES_READ] // self._bytes_total
        print(f"replay: {share} % read, {self._words.state(board)}{back}", file=sys.stderr, flush=True)
