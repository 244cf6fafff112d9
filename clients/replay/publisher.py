"""The publishing process: reads the trade file and puts every trade on the bus, as fast as they are settled.

The law here: a trade leaves the window only when the settlement has booked it, so whatever the server, the bus or a
gap loses is published again.
"""

import math
import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from dompbus.clients.replay.board import Board, Cell
from dompbus.clients.replay.lines import TradeFileError
from dompbus.clients.replay.message import Trade
from dompbus.clients.replay.names import topic_of
from dompbus.clients.replay.patience import REQUEST_TIMEOUT, TRANSIENT, Patience
from dompbus.clients.replay.plan import Plan
from dompbus.clients.replay.window import Window
from dompbus.errors import Overloaded

if TYPE_CHECKING:
    from dompbus.clients.blocking import Client

__all__ = ["Published", "publish"]

_CHUNK_TRADES: Final = 256
_IDLE: Final = 0.001  # s between looks at the board when the window is full


class Published(msgspec.Struct, frozen=True):
    """How publishing ended: `error` is (file, line, reason) when the file could not be read to its end."""

    trades: int
    error: tuple[str, int, str] | None = None


def publish(plan: Plan, board: Board) -> Published:
    """Publish the whole file and return when all of it is settled, or when a stop is asked for."""
    publisher = _Publisher(plan, board)
    try:
        return publisher.run()
    finally:
        publisher.close()


class _Publisher:
    def __init__(self, plan: Plan, board: Board) -> None:
        self._plan = plan
        self._board = board
        self._file = plan.open_file(stamped=True)
        self._trades = iter(self._file)
        self._error: TradeFileError | None = None
        self._read = 0
        self._window = Window(plan.window_trades)
        self._rewinds = 0
        self._patience = Patience(board, Cell.PUBLISHER_AWAY_NS, url=plan.url, give_up_after=plan.give_up_after)
        self._client: Client | None = None
        self._pace = None if plan.speed is None else _Pace(plan.speed)
        self._ahead: Trade | None = None  # read, but its time has not come

    def run(self) -> Published:
        board = self._board
        self._patience.sleep_until(math.inf, lambda: board.stopping or board[Cell.SUBSCRIBED] != 0)
        self._connect()
        while not (board.stopping or board.complete):
            self._patience.check_parent()
            self._window.settle(board[Cell.SETTLED])
            self._read_more()
            if board[Cell.REWINDS] != self._rewinds:
                self._rewind()
            if self._window.waiting:
                self._send(self._window.take(_CHUNK_TRADES))
            else:
                self._patience.sleep_until(_IDLE, lambda: False, step=_IDLE)
        error = self._error
        return Published(self._read, None if error is None else (error.file, error.line, error.reason))

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    # -- the file ----------------------------------------------------------------------------------------------

    def _read_more(self) -> None:
        if self._board[Cell.TOTAL] >= 0 or self._window.waiting:
            return
        count = min(self._window.room, _CHUNK_TRADES)
        trades: list[Trade] = []
        try:
            for trade in self._due(count):
                self._check(trade)
                trades.append(trade)
        except TradeFileError as error:
            self._error = error
        self._read += len(trades)
        self._window.put(trades)
        self._board[Cell.BYTES_READ] = self._file.bytes_read
        if self._error is not None or (len(trades) < count and self._ahead is None):
            self._board[Cell.TOTAL] = self._read

    def _check(self, trade: Trade) -> None:
        """Find out before publishing whether a trade can be booked at all, while its line is known."""
        try:
            self._plan.scales.amounts(trade.price, trade.quantity)
        except ValueError as error:
            raise TradeFileError(self._plan.path, trade.line, str(error)) from None

    def _due(self, count: int) -> Iterator[Trade]:
        """Take up to `count` trades from the file, at the recorded pace those whose time has come."""
        if self._pace is None:
            yield from islice(self._trades, count)
            return
        for _ in range(count):
            trade = self._ahead or next(self._trades, None)
            self._ahead = None
            if trade is None:
                return
            if self._pace.wait_ns(trade.time_ns) > 0:
                self._ahead = trade
                return
            yield trade

    # -- the bus -----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        from dompbus.clients.blocking import Client

        while self._client is None and not self._board.stopping:
            try:
                self._client = Client(self._plan.url, name="replay-publisher", timeout=REQUEST_TIMEOUT)
                self._patience.met()
            except TRANSIENT as error:
                self._patience.wait(error)

    def _rewind(self) -> None:
        """The settlement has missed something: publish everything that it has not booked, over a new connection."""
        self._rewinds = self._board[Cell.REWINDS]
        self.close()
        self._connect()
        self._window.settle(self._board[Cell.SETTLED])
        self._window.rewind()

    def _send(self, trades: list[Trade]) -> None:
        if self._client is None:
            return
        try:
            for symbol, of_symbol in _by_symbol(trades).items():
                receipt = self._client.publish_many(topic_of(self._plan.venue, symbol), of_symbol)
                if not receipt:
                    raise Overloaded(f"the bus dropped a batch: {receipt.reason}")
            self._client.flush()
        except TRANSIENT as error:
            self._patience.wait(error)
            self._rewind()
            return
        self._patience.met()
        self._board[Cell.MESSAGES] += len(trades)
        self._board[Cell.PUBLISHED] = max(self._board[Cell.PUBLISHED], trades[-1].number)


class _Pace:
    """The recorded pace, `speed` times over, from the first trade on."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._start_ns = 0
        self._first_ns = 0

    def wait_ns(self, time_ns: int) -> int:
        """How long until the trade that was recorded at `time_ns` is due; zero or less when it is."""
        now_ns = time.monotonic_ns()
        if not self._start_ns:
            self._start_ns, self._first_ns = now_ns, time_ns
        return int((time_ns - self._first_ns) / self._speed) - (now_ns - self._start_ns)


def _by_symbol(trades: list[Trade]) -> dict[str, list[Trade]]:
    groups: dict[str, list[Trade]] = {}
    for trade in trades:
        groups.setdefault(trade.symbol, []).append(trade)
    return groups
