"""One replay: a publishing and a settling process, watched by this one until all is settled.

The law here: whatever happens, both children are gone when `run_replay` returns or raises, and what it returns says
how far the books are settled. Processes and not threads, because reading the file and building transfers are both
bound by the interpreter.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Final, Protocol

import msgspec

from dompbus.clients.replay.board import Board, Cell
from dompbus.clients.replay.lines import TradeFileError
from dompbus.clients.replay.patience import Orphaned
from dompbus.clients.replay.plan import Plan
from dompbus.clients.replay.publisher import Published, publish
from dompbus.clients.replay.settlement import SettlementRefused
from dompbus.clients.replay.settler import Settled, settle
from dompbus.errors import DompbusError

__all__ = ["Outcome", "ReplayFailed", "Watcher", "run_replay"]

_LOOK: Final = 0.05  # s between looks at the board
_END_WAIT: Final = 10.0  # s for a child to end after it was told to; its longest wait is a request's timeout
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ReplayFailed(DompbusError):
    """The replay could not go on. The text says why, what is settled, and whether running it again may help."""

    def __init__(self, text: str, *, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class _Failure(msgspec.Struct, frozen=True):
    """Why a process of the replay failed, as it travels home."""

    text: str
    file: str = ""  # the trade file, when it is at fault, and
    line: int = 0
    exit_code: int = 1
    transient: bool = True  # the same replay may succeed when it is run again


class Outcome(msgspec.Struct, frozen=True):
    """What a replay did, as far as it came."""

    published: Published
    settled: Settled
    messages: int  # published, repeats after a gap or a lost server included
    rewinds: int
    stopped: int  # the signal that ended it early, 0 when it ran to the file's end


class Watcher(Protocol):
    """Shows progress: called every few hundredths of a second with the board."""

    def update(self, board: Board) -> None:
        """Look at the board."""


def run_replay(plan: Plan, watcher: Watcher) -> Outcome:
    """Replay the whole file. Raises `ReplayFailed`, and `TradeFileError` when the file is at fault."""
    plan.open_file()
    context = multiprocessing.get_context("spawn")
    board = Board(context)
    resource_tracker.ensure_running()  # its start unblocks the signals that the start of a child blocks
    with _signals(board) as caught:
        children: list[_Child] = []
        try:
            children.append(_Child(context, "settler", settle, plan, board))
            children.append(_Child(context, "publisher", publish, plan, board))
            _watch(children, board, watcher)
        finally:
            board[Cell.STOP] = 1
            for child in children:
                child.end()
        _raise_failure(children, board)
        return Outcome(
            settled=children[0].result,
            published=children[1].result,
            messages=board[Cell.MESSAGES],
            rewinds=board[Cell.REWINDS],
            stopped=caught[0] if caught and not board.complete else 0,
        )


def _watch(children: "list[_Child]", board: Board, watcher: Watcher) -> None:
    """Return when every child has ended, or when one has failed."""
    while not all(child.ended for child in children):
        watcher.update(board)
        if any(child.failure for child in children):
            return
        time.sleep(_LOOK)
    watcher.update(board)


def _raise_failure(children: "list[_Child]", board: Board) -> None:
    failure = next((child.failure for child in children if child.failure), None)
    if failure is None:
        return
    end = "" if failure.text.endswith(("?", "!")) else "."
    text = f"{failure.text}{end} {board[Cell.SETTLED] + board[Cell.SETTLED_BEYOND]:,} trades are settled"
    if failure.file:
        raise TradeFileError(failure.file, failure.line, text)
    if failure.transient:
        text += "; run it again: nothing is booked twice"
    raise ReplayFailed(text, exit_code=failure.exit_code)


@contextmanager
def _signals(board: Board) -> Iterator[list[int]]:
    """Turn SIGINT, SIGTERM and SIGHUP into a clean stop; yields the signals that came."""
    caught: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        board[Cell.STOP] = 1

    # Who ignores SIGHUP, as nohup does, wants to outlive the terminal.
    heard = [n for n in _SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    """One process of the replay and what it sends back: ("done", result) or ("failed", _Failure)."""

    def __init__(
        self, context: Any, name: str, function: Callable[[Plan, Board], Any], plan: Plan, board: Board
    ) -> None:
        self._name = name
        self._answer: tuple[str, Any] | None = None
        self._connection, theirs = context.Pipe(duplex=False)
        self._process: SpawnProcess = context.Process(
            target=_work, args=(function, plan, board, theirs), name=f"dompbus-{name}", daemon=True
        )
        # Blocked until the child ignores them: a Ctrl-C while it starts would print a trace.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    @property
    def ended(self) -> bool:
        """Whether the answer is there, or never will be."""
        if self._answer is None and self._connection.poll():
            try:
                self._answer = self._connection.recv()
            except EOFError:
                self._process.join(_END_WAIT)
                code = self._process.exitcode
                how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
                self._answer = ("failed", _Failure(f"the {self._name} process died ({how})"))
        return self._answer is not None

    @property
    def failure(self) -> _Failure | None:
        """Why it failed, if it did."""
        return self._answer[1] if self.ended and self._answer and self._answer[0] == "failed" else None

    @property
    def result(self) -> Any:
        """What it returned."""
        assert self._answer is not None
        return self._answer[1]

    def end(self) -> None:
        """Wait for the answer and the end; a child that does not end is killed."""
        deadline = time.monotonic() + _END_WAIT
        while not self.ended and time.monotonic() < deadline:
            self._connection.poll(_LOOK)
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if not self.ended:
            self._answer = ("failed", _Failure(f"the {self._name} process did not end and was killed"))
        self._connection.close()


def _work(function: Callable[[Plan, Board], Any], plan: Plan, board: Board, answer: Connection) -> None:
    """The child's main: signals are the parent's business, errors travel home as text."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    message: tuple[str, Any]
    try:
        message = ("done", function(plan, board))
    except Orphaned:
        return
    except Exception as error:
        message = ("failed", _failure(error, plan, function.__name__))
    with suppress(OSError):  # the parent is gone: there is nobody to tell
        answer.send(message)


def _failure(error: Exception, plan: Plan, name: str) -> _Failure:
    if isinstance(error, TradeFileError):
        return _Failure(error.reason, error.file, error.line)
    if isinstance(error, SettlementRefused):
        file = plan.path if error.line else ""
        return _Failure(str(error).rstrip("."), file, error.line, error.exit_code, transient=False)
    if isinstance(error, DompbusError):
        return _Failure(str(error).rstrip("."))
    return _Failure(f"internal error in the {name} process: {type(error).__name__}: {error}")
