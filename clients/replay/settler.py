"""The settling process: reads the market's topic from the bus and books every trade in the ledger.

The law here: a trade counts as settled when the ledger has said so, and only then. Whatever fails on the way is done
again with the same ids, so that it cannot be booked twice; whatever does not arrive is asked for again.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from dompbus.bus.reader import Batch
from dompbus.clients.replay.baseline import Baseline
from dompbus.clients.replay.board import Board, Cell
from dompbus.clients.replay.latency import Latencies
from dompbus.clients.replay.message import Trade
from dompbus.clients.replay.patience import REQUEST_TIMEOUT, TRANSIENT, Patience
from dompbus.clients.replay.plan import Plan
from dompbus.clients.replay.settlement import Holding, Settlement, SettlementRefused, booked
from dompbus.clients.replay.window import Watermark
from dompbus.errors import NoService, Timeout
from dompbus.ledger.client import LedgerClient
from dompbus.ledger.types import Account, CreateAccountStatus, CreateTransferStatus, Transfer
from dompbus.limits import LEDGER_EVENTS_PER_BATCH_MAX

if TYPE_CHECKING:
    from dompbus.clients.blocking import Client

__all__ = ["Settled", "settle"]

_T = TypeVar("_T")
_TRADES_PER_BATCH_MAX: Final = LEDGER_EVENTS_PER_BATCH_MAX // 2  # a chain is never cut
_WAIT: Final = 0.2  # s for the first trade of a batch
_SILENCE: Final = 1.0  # s without anything arriving, while something is published and not settled


class Settled(msgspec.Struct, frozen=True):
    """How settling ended. `baseline` is what each account held before, by id, as (debits, credits) in units."""

    trades: int  # every number up to this is booked
    booked: int  # of these, by this run
    holdings: dict[int, Holding]
    baseline: dict[int, tuple[int, int]]
    seconds: float  # from the first trade's arrival to the last booking
    latencies: Latencies


def settle(plan: Plan, board: Board) -> Settled:
    """Settle until the whole file is, or a stop is asked for."""
    settler = _Settler(plan, board)
    try:
        return settler.run()
    finally:
        settler.close()


class _Stopped(Exception):
    """A stop was asked for while the server was away."""


class _Settler:
    def __init__(self, plan: Plan, board: Board) -> None:
        self._plan = plan
        self._board = board
        self._pattern = plan.pattern(plan.open_file())
        self._settlement = Settlement(plan.venue, scales=plan.scales, quote=plan.quote)
        self._baseline = Baseline(0)
        self._watermark = Watermark()
        self._latencies = Latencies()
        self._patience = Patience(board, Cell.SETTLER_AWAY_NS, url=plan.url, give_up_after=plan.give_up_after)
        self._client: Client | None = None
        self._subscription: Any = None
        self._booked = 0
        self._heard_ns = self._first_ns = self._last_ns = 0

    def run(self) -> Settled:
        board = self._board
        try:
            self._call(self._begin)
            board[Cell.SUBSCRIBED] = 1
            while not (board.stopping or board.complete):
                self._patience.check_parent()
                self._step()
        except _Stopped:
            pass
        return Settled(
            trades=self._watermark.value,
            booked=self._booked,
            holdings=self._settlement.holdings,
            baseline=self._baseline.before,
            seconds=(self._last_ns - self._first_ns) / 1e9,
            latencies=self._latencies,
        )

    def close(self) -> None:
        self._baseline.close()
        self._disconnect()

    def _step(self) -> None:
        trades = self._gather()
        now_ns = time.monotonic_ns()
        if trades:
            self._heard_ns = now_ns
            self._first_ns = self._first_ns or now_ns
            self._book(trades)
        elif self._board[Cell.PUBLISHED] <= self._watermark.value:
            self._heard_ns = now_ns  # nothing is on its way
        elif now_ns - self._heard_ns > _SILENCE * 1e9:
            self._call(self._connect)
            self._ask_again()
            self._heard_ns = time.monotonic_ns()

    # -- the server --------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._connect()
        try:
            # An account without an id is refused, and its answer tells the ledger's time: what exists from before
            # that was booked by an earlier run.
            self._baseline = Baseline(self._create([Account()])[0][0])
        except NoService:
            raise SettlementRefused(
                f"the node at {self._plan.url} keeps no ledger: start it with `dompbus serve --data DIR`", exit_code=1
            ) from None

    def _connect(self) -> None:
        from dompbus.clients.blocking import Client

        self._disconnect()
        self._client = Client(self._plan.url, name="replay-settler", timeout=REQUEST_TIMEOUT)
        self._subscription = self._client.subscribe(self._pattern, type=Trade)

    def _disconnect(self) -> None:
        self._subscription = None
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ledger(self) -> LedgerClient:
        assert self._client is not None
        return self._client.ledger

    def _lookup(self, ids: list[int]) -> list[Account]:
        return self._ledger().lookup_accounts(ids)

    def _create(self, accounts: list[Account]) -> list[tuple[int, CreateAccountStatus]]:
        return self._ledger().create_accounts(accounts)

    def _post(self, transfers: list[Transfer]) -> list[tuple[int, CreateTransferStatus]]:
        return self._ledger().create_transfers(transfers)

    def _call(self, function: Callable[[], _T]) -> _T:
        """Do something that needs the server, again and again until it is there. Raises `GaveUp`, `_Stopped`."""
        while True:
            try:
                result = function()
            except TRANSIENT as error:
                self._patience.wait(error)
                if self._board.stopping:
                    raise _Stopped from None
            else:
                self._patience.met()
                return result

    # -- from the bus ------------------------------------------------------------------------------------------

    def _gather(self) -> list[Trade]:
        """Wait a moment for trades, then take all that is there, up to a ledger batch."""
        trades: list[Trade] = []
        wait = _WAIT
        while len(trades) < _TRADES_PER_BATCH_MAX:
            try:
                item = next(self._subscription.batches(timeout=wait))
            except Timeout:
                break
            if isinstance(item, Batch):
                trades += [trade for trade in item.messages if self._is_ours(trade)]
            else:
                self._ask_again()
            wait = 0.0
        return trades

    def _is_ours(self, trade: object) -> bool:
        return isinstance(trade, Trade) and trade.run == self._plan.run and self._watermark.accept(trade.number)

    def _ask_again(self) -> None:
        """Have everything published again that is not settled."""
        self._board[Cell.REWINDS] += 1

    # -- into the ledger ---------------------------------------------------------------------------------------

    def _book(self, trades: Sequence[Trade]) -> None:
        """Book whole chains, in batches that the ledger takes, and move the watermark behind them."""
        unbooked = {trade.number for trade in trades}
        try:
            for start in range(0, len(trades), _TRADES_PER_BATCH_MAX):
                self._book_batch(trades[start : start + _TRADES_PER_BATCH_MAX], unbooked)
        finally:
            self._watermark.withdraw(unbooked)
            self._board[Cell.SETTLED] = self._watermark.advance()
            self._board[Cell.SETTLED_BEYOND] = self._watermark.beyond

    def _book_batch(self, trades: Sequence[Trade], unbooked: set[int]) -> None:
        """Book `trades` and take the numbers of those that are booked out of `unbooked`. One that is refused does not
        hide what became of the others: its error comes when all results are looked at.
        """
        transfers = self._chains(trades)
        self._open_accounts()
        results = self._call(partial(self._post, transfers))
        now_ns = time.time_ns()
        refusal: SettlementRefused | None = None
        for place, trade in enumerate(trades):
            (timestamp, cash_status), (_, asset_status) = results[2 * place : 2 * place + 2]
            try:
                now = booked(trade, cash_status, asset_status)
            except SettlementRefused as error:
                refusal = refusal or error
                continue
            if now or not self._baseline.exists(transfers[2 * place : 2 * place + 2], timestamp):
                self._booked += 1  # if not now, then by this run all the same, whose answer was lost
            unbooked.discard(trade.number)
            self._latencies.add(now_ns - trade.read_ns)
        self._last_ns = time.monotonic_ns()
        if refusal is not None:
            raise refusal

    def _chains(self, trades: Sequence[Trade]) -> list[Transfer]:
        transfers: list[Transfer] = []
        for trade in trades:
            try:
                transfers += self._settlement.chain(trade)
            except ValueError as error:  # the publisher checks this first; the bus may carry what it did not write
                raise SettlementRefused(f"trade {trade.trade_id}: {error}", line=trade.line) from None
        return transfers

    def _open_accounts(self) -> None:
        """Create the accounts that were named for the first time, having noted what they held before."""
        accounts = self._settlement.take_new_accounts()
        for start in range(0, len(accounts), LEDGER_EVENTS_PER_BATCH_MAX):
            part = accounts[start : start + LEDGER_EVENTS_PER_BATCH_MAX]
            ids = [account.id for account in part]
            self._baseline.meet(ids, self._call(partial(self._lookup, ids)))
            results = self._call(partial(self._create, part))
            for account, (_, status) in zip(part, results, strict=True):
                self._check_account(account, status)

    def _check_account(self, account: Account, status: CreateAccountStatus) -> None:
        if status in (CreateAccountStatus.CREATED, CreateAccountStatus.EXISTS):
            return
        holding = self._settlement.holdings[account.id]
        reason = status.name.lower()
        if status is CreateAccountStatus.EXISTS_WITH_DIFFERENT_USER_DATA_32:
            reason = (
                f"it was opened with other decimals than {account.user_data_32}: "
                "give the --price-decimals and --quantity-decimals of the first replay"
            )
        raise SettlementRefused(f"the ledger refused the {holding.currency} account of {holding.participant}: {reason}")
