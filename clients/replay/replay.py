"""A whole replay as one call: run it, check the books, and say what became of everything.

The law here: a result is returned only when the file was read to its end and all of it is settled; every other end
is an error that tells how far the books are settled and that the same replay may be run again.
"""

import signal
import sys

from dompbus.clients.replay.lines import TradeFileError
from dompbus.clients.replay.plan import Plan
from dompbus.clients.replay.progress import show_progress
from dompbus.clients.replay.report import Report, make_report
from dompbus.clients.replay.runner import Outcome, run_replay
from dompbus.errors import DompbusError

__all__ = ["ReplayStopped", "replay"]


class ReplayStopped(DompbusError):
    """A signal ended the replay early, cleanly. The text says what is settled."""

    def __init__(self, text: str, *, signal_number: int) -> None:
        super().__init__(text)
        self.exit_code = 128 + signal_number  # as shells have it


def replay(plan: Plan) -> Report:
    """Replay `plan.path` over the bus at `plan.url` into its ledger and check the books.

    Raises `TradeFileError` (whose reason tells the fate of the trades before the bad line), `ReplayFailed`,
    `ReplayStopped`, or what a client raises when the server is not there to be asked for the balances.
    """
    file = plan.open_file()
    with show_progress(file.bytes_total, give_up_after=plan.give_up_after) as watcher:
        outcome = run_replay(plan, watcher)
    _raise_early_end(outcome)
    print("replay: settled; now checking the books against the file", file=sys.stderr, flush=True)
    from dompbus.clients.blocking import Client

    with Client(plan.url, name="replay-report") as client:
        return make_report(plan, outcome, client.ledger)


def _raise_early_end(outcome: Outcome) -> None:
    settled = f"{outcome.settled.trades:,}"
    if outcome.published.error is not None:
        file, line, reason = outcome.published.error
        raise TradeFileError(file, line, f"{reason}. {_fate(outcome)}")
    if outcome.stopped:
        name = signal.Signals(outcome.stopped).name
        raise ReplayStopped(
            f"stopped by {name}: {settled} trades are settled. Run it again to go on: nothing is booked twice",
            signal_number=outcome.stopped,
        )


def _fate(outcome: Outcome) -> str:
    good, settled = outcome.published.trades, outcome.settled.trades
    if not good:
        return "Nothing was published"
    trades = "The trade before it was" if good == 1 else f"The {good:,} trades before it were"
    state = "settled" if settled >= good else f"settled up to number {settled:,}"
    return f"{trades} published and {state}; run again after fixing the file: nothing is booked twice"
