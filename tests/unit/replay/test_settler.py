"""Goal: whatever bus and server do (lose, repeat, answer late or never), each trade is booked exactly once."""

import multiprocessing
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dompbus.bus.reader import Batch, Gap
from dompbus.clients import blocking
from dompbus.clients.replay.board import Board, Cell
from dompbus.clients.replay.market import write_market
from dompbus.clients.replay.message import Trade
from dompbus.clients.replay.patience import GaveUp
from dompbus.clients.replay.plan import Plan, make_plan
from dompbus.clients.replay.publisher import publish
from dompbus.clients.replay.recompute import recompute
from dompbus.clients.replay.settlement import Scales, SettlementRefused
from dompbus.clients.replay.settler import Settled, settle
from dompbus.errors import NoService, Timeout, Unreachable
from dompbus.ledger import Ledger
from dompbus.ledger.amounts import unscale
from dompbus.wire.message import Unknown

SECOND_NS = 10**9


class World:
    """A ledger that outlives its clients, a script of what the bus delivers, and one of what goes wrong."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.now_ns = SECOND_NS
        self.deliveries: deque[Any] = deque()
        self.faults: deque[tuple[str, Exception]] = deque()  # ("before" or "after" it is carried out, what is raised)
        self.clients = 0
        self.published: list[Trade] = []


class FakeClient:
    """Stands where `Client` stands, on a `World`."""

    world: World

    def __init__(self, _url: str, **_: Any) -> None:
        self.world.clients += 1
        self.ledger = self

    def subscribe(self, _pattern: str, **_: Any) -> "FakeClient":
        return self

    def batches(self, timeout: float) -> Iterator[Any]:
        if not self.world.deliveries:
            raise Timeout(f"nothing for {timeout} s")
        yield self.world.deliveries.popleft()

    def create_accounts(self, accounts: list[Any]) -> Any:
        return self._carry_out("create_accounts", accounts)

    def create_transfers(self, transfers: list[Any]) -> Any:
        return self._carry_out("create_transfers", transfers)

    def lookup_accounts(self, ids: list[int]) -> Any:
        return self.world.ledger.lookup_accounts(ids)

    def publish_many(self, _topic: str, trades: list[Trade]) -> bool:
        self.world.published += trades
        return True

    def flush(self) -> None:
        if self.world.faults:
            raise self.world.faults.popleft()[1]

    def close(self) -> None:
        """Nothing to close."""

    def _carry_out(self, name: str, events: list[Any]) -> Any:
        fault = self.world.faults.popleft() if self.world.faults else ("", None)
        if fault[1] is not None and fault[0] == "before":
            raise fault[1]
        self.world.now_ns += SECOND_NS
        results = getattr(self.world.ledger, name)(events, timestamp=self.world.now_ns)
        if fault[1] is not None:
            raise fault[1]
        return results


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A fresh world behind `Client`."""
    world = World()
    monkeypatch.setattr(FakeClient, "world", world, raising=False)
    monkeypatch.setattr(blocking, "Client", FakeClient)
    return world


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Sixty trades."""
    path = write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=60, seed=5)
    return make_plan("tcp://nowhere:1", path, give_up_after=0.2)


def _board(plan: Plan, total: int | None = None) -> Board:
    board = Board(multiprocessing.get_context("spawn"))
    board[Cell.TOTAL] = len(_trades(plan)) if total is None else total
    board[Cell.PUBLISHED] = board[Cell.TOTAL]
    return board


def _trades(plan: Plan) -> list[Trade]:
    return list(plan.open_file())


def _batch(trades: list[Any]) -> Batch:
    return Batch("md.demo.XBTUSDT", 1, 1, 1, trades)


def _check_books(world: World, plan: Plan, settled: Settled) -> None:
    books = recompute(plan.open_file(), default_symbol=plan.default_symbol)
    held = {
        (holding.participant, holding.currency): (
            unscale(account.debits_posted, 20),
            unscale(account.credits_posted, 20),
        )
        for account in world.ledger.lookup_accounts(list(settled.holdings))
        if (holding := settled.holdings[account.id])
    }
    assert held == {key: tuple(turnover) for key, turnover in books.turnovers.items()}


def test_repeats_strangers_and_holes(world: World, plan: Plan) -> None:
    """Repeats are skipped, other replays and types are left alone, a gap asks for a rewind, order does not matter."""
    trades = _trades(plan)
    stranger = Trade("S", "1", 1, "1", "1", "buy", "a", "b", number=3, run=plan.run + 1)
    world.deliveries += [
        _batch([*trades[:10], stranger, Unknown("other", b"", "")]),
        _batch(trades[5:20]),
        Gap("md.demo.XBTUSDT", 21, 30, 1),
        _batch(trades[30:]),
        _batch(trades[20:40]),
    ]
    board = _board(plan)
    settled = settle(plan, board)
    assert (settled.trades, settled.booked, board[Cell.SETTLED], board[Cell.REWINDS]) == (60, 60, 60, 1)
    assert settled.latencies.count == 60
    _check_books(world, plan, settled)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("calls_before", [0, 1, 2])
def test_answers_that_are_lost(world: World, plan: Plan, when: str, calls_before: int) -> None:
    """A request that fails, carried out or not, is repeated; the books show each trade once, all of this run."""
    trades = _trades(plan)
    world.faults += [("", None)] * calls_before + [(when, Timeout("late")), (when, NoService("starting"))]  # type: ignore[list-item]  # no fault
    world.deliveries += [_batch(trades[:30]), _batch(trades[30:])]
    if calls_before == 0:  # the very first call: there was never a server, so it is an error at once
        with pytest.raises(Timeout):
            settle(plan, _board(plan))
        return
    settled = settle(plan, _board(plan))
    assert (settled.trades, settled.booked) == (60, 60)
    assert set(settled.baseline.values()) == {(0, 0)}
    _check_books(world, plan, settled)


def test_second_run_finds_all_booked(world: World, plan: Plan) -> None:
    """A second run books nothing, knows that nothing was there before but this file, and leaves the books alone."""
    for booked in (25, 35):
        world.deliveries.append(_batch(_trades(plan)[: 25 if booked == 25 else 60]))
        settled = settle(plan, _board(plan, total=25 if booked == 25 else 60))
        assert settled.booked == booked
        assert set(settled.baseline.values()) == {(0, 0)}
    _check_books(world, plan, settled)


def test_repeated_trade_in_a_second_run(world: World, plan: Plan) -> None:
    """A trade id that stands twice in a file is taken off the earlier balances once."""
    path = Path(plan.path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[1], lines[2]]))
    for booked in (62, 0):
        world.deliveries.append(_batch(_trades(plan)))
        settled = settle(plan, _board(plan))
        assert settled.booked == booked
        assert set(settled.baseline.values()) == {(0, 0)}
    _check_books(world, plan, settled)


def test_server_never_there_and_gone_for_good(world: World, plan: Plan) -> None:
    """No ledger, no server, a server that stays away: each has its own words."""
    world.faults.append(("before", NoService("no ledger")))
    with pytest.raises(SettlementRefused, match="keeps no ledger: start it with `dompbus serve --data DIR`"):
        settle(plan, _board(plan))
    world.faults.append(("before", Unreachable("nobody at tcp://nowhere:1")))
    with pytest.raises(Unreachable, match="nobody at"):
        settle(plan, _board(plan))
    world.faults += [("", None)] + [("before", Unreachable("gone"))] * 100  # type: ignore[list-item]  # no fault
    world.deliveries.append(_batch(_trades(plan)))
    with pytest.raises(GaveUp, match=r"stayed away for 0\.2 s; last: gone"):
        settle(plan, _board(plan))


def test_other_content_and_other_decimals(world: World, plan: Plan) -> None:
    """The same trade id at another price, and the same accounts with other decimals, stop the settlement."""
    world.deliveries.append(_batch(_trades(plan)))
    settle(plan, _board(plan))
    path = Path(plan.path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], lines[3].replace(",1054", ",2054"), *lines[4:]]))
    world.deliveries.append(_batch(_trades(plan)))
    with pytest.raises(SettlementRefused, match=r"trade 3 of XBTUSDT: exists_with_different_amount") as caught:
        settle(plan, _board(plan))
    assert (caught.value.line, caught.value.exit_code) == (4, 2)
    other = make_plan(plan.url, path, scales=Scales(4, 8))
    world.deliveries.append(_batch(_trades(other)))
    with pytest.raises(SettlementRefused, match="opened with other decimals than 12"):
        settle(other, _board(other))


def test_a_refused_trade_does_not_hide_the_others(world: World, plan: Plan) -> None:
    """In the middle of a batch one trade contradicts another: all but it are booked, and the board says so."""
    path = Path(plan.path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:31], lines[5].replace(",1054", ",2054"), *lines[31:]]))
    trades = _trades(plan)
    world.deliveries.append(_batch(trades))
    board = _board(plan)
    with pytest.raises(SettlementRefused, match="trade 5 of XBTUSDT: exists_with_different_amount") as caught:
        settle(plan, board)
    assert caught.value.line == 32
    assert (board[Cell.SETTLED], board[Cell.SETTLED_BEYOND]) == (30, 30)


def test_publisher_repeats_what_is_not_settled(world: World, plan: Plan) -> None:
    """A flush that fails sends everything unsettled again, over a new connection; the end is the end of the file."""
    board = _board(plan, total=-1)
    board[Cell.SUBSCRIBED] = 1
    world.faults.append(("before", Timeout("late")))

    class SettlesAtOnce(FakeClient):
        def flush(self) -> None:
            super().flush()
            board[Cell.SETTLED] = self.world.published[-1].number

    blocking.Client = SettlesAtOnce  # type: ignore[assignment,misc]  # monkeypatch of the fixture puts it back
    published = publish(plan, board)
    assert (published.trades, published.error, board[Cell.TOTAL]) == (60, None, 60)
    assert [trade.number for trade in world.published] == list(range(1, 61)) * 2
    assert world.clients == 2


def test_publisher_stops_at_a_bad_line(world: World, plan: Plan) -> None:
    """What cannot be booked is found before it is published, with its line."""
    path = Path(plan.path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:6], "6,1762795433,1,1" + "0" * 30 + ",buy,elm,rowan\n", *lines[6:]]))
    board = _board(plan, total=-1)
    board[Cell.SUBSCRIBED], board[Cell.SETTLED] = 1, 5
    published = publish(plan, board)
    assert published.error is not None
    assert (published.trades, published.error[1], board[Cell.TOTAL]) == (5, 7, 5)
    assert "does not fit 128 bits" in published.error[2]
    assert [trade.number for trade in world.published] == [1, 2, 3, 4, 5]
