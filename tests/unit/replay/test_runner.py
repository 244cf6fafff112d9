"""Goal: what a process of the replay reports reaches the user as the right error, and a lost parent is not one."""

import signal
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import Any

import pytest

from dompbus.clients.replay.board import Board, Cell
from dompbus.clients.replay.lines import TradeFileError
from dompbus.clients.replay.market import write_market
from dompbus.clients.replay.plan import Plan, make_plan
from dompbus.clients.replay.runner import ReplayFailed, _Child, _raise_failure, _signals, _work
from dompbus.clients.replay.settlement import SettlementRefused
from dompbus.errors import EndpointError, Unreachable


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan("tcp://nowhere:1", write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=3))


@pytest.fixture(autouse=True)
def _own_signals() -> Any:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class _Answered:
    """Stands for a process that has answered."""

    def __init__(self, failure: Any) -> None:
        self.failure = failure


def _raised(error: Exception, plan: Plan) -> Exception:
    """What the user gets when a process fails with `error`, 5 trades being settled and 2 more behind a hole."""
    context = get_context("spawn")
    board = Board(context)
    board[Cell.SETTLED], board[Cell.SETTLED_BEYOND] = 5, 2
    ours, theirs = context.Pipe(duplex=False)

    def fail(_plan: Plan, _board: Board) -> None:
        raise error

    _work(fail, plan, board, theirs)
    with ours, theirs, pytest.raises((ReplayFailed, TradeFileError)) as caught:
        _raise_failure([_Answered(ours.recv()[1])], board)  # type: ignore[list-item]  # all that is looked at
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (Unreachable("gone."), 1, "gone. 7 trades are settled; run it again: nothing is booked twice"),
        (ZeroDivisionError("oops"), 1, "internal error in the fail process: ZeroDivisionError: oops. 7 trades are"),
        (SettlementRefused("other decimals"), 2, "other decimals. 7 trades are settled"),
        (SettlementRefused("keeps no ledger", exit_code=1), 1, "keeps no ledger. 7 trades are settled"),
    ],
)
def test_failures(error: Exception, code: int, text: str, plan: Plan) -> None:
    """Only what may pass by itself is to be run again; a mistake of the user's has exit code 2."""
    raised = _raised(error, plan)
    assert isinstance(raised, ReplayFailed)
    assert raised.exit_code == code
    assert str(raised).startswith(text)
    assert ("run it again" in str(raised)) is not isinstance(error, SettlementRefused)


def test_failures_of_the_file(plan: Plan) -> None:
    """They name file and line, whichever process found them."""
    for error in (TradeFileError(plan.path, 9, "bad"), SettlementRefused("bad", line=9)):
        raised = _raised(error, plan)
        assert str(raised) == f"{plan.path}:9: bad. 7 trades are settled"
        assert raised.exit_code == 2  # type: ignore[attr-defined]  # of TradeFileError


def test_nobody_to_tell(plan: Plan) -> None:
    """A process whose parent was killed ends without a word."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    ours.close()
    with theirs:
        _work(lambda _plan, _board: 1, plan, Board(context), theirs)


def test_hangup_is_a_clean_stop_unless_ignored() -> None:
    """A closed terminal stops a replay; `nohup` keeps it."""
    board = Board(get_context("spawn"))
    with _signals(board) as caught:
        signal.raise_signal(signal.SIGHUP)
    assert (caught, board.stopping) == ([signal.SIGHUP], True)
    board = Board(get_context("spawn"))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with _signals(board) as caught:
        signal.raise_signal(signal.SIGHUP)
    assert (caught, board.stopping) == ([], False)


@pytest.mark.parametrize(
    "url", ["foo", "tcp://x", "tcp://x:0", "tcp://x:65536", "inproc://x", "memory://x", "ipc://", ""]
)
def test_urls_that_no_process_can_reach(url: str) -> None:
    """Refused before anything is read."""
    with pytest.raises(EndpointError, match="is not where a node can be"):
        make_plan(url, Path("no-such-file.csv"))


def blocked(_plan: Plan, _board: Board) -> set[int]:
    """What a process of the replay was started with."""
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])}


def test_a_process_is_started_with_signals_blocked(plan: Plan) -> None:
    """Ctrl-C reaches the whole group: a process that is still importing must not die of it with a trace."""
    context = get_context("spawn")
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    child = _Child(context, "test", blocked, plan, Board(context))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    child.end()
    assert child.failure is None
    assert child.result >= {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
