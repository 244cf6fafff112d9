"""Goal: settlement and independent recomputation agree on every file, to the last digit, and find each fault."""

import json
from collections import Counter
from decimal import Context, Decimal, localcontext
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dompbus.clients.replay.check import compare, trial_balance
from dompbus.clients.replay.latency import Latencies
from dompbus.clients.replay.market import write_market
from dompbus.clients.replay.recompute import Turnover, recompute
from dompbus.clients.replay.settlement import Scales, Settlement
from dompbus.clients.replay.settler import Settled
from dompbus.clients.replay.trades import TradeFile
from dompbus.ledger.types import Account
from tests.data import recorded

SCALES = Scales()
EXACT = Context(prec=400)
HEADER = "trade_id,time,symbol,price,volume,side,buyer,seller\n"

_decimals = st.decimals(min_value="0.0000000001", max_value=10**6, places=10).map(lambda value: format(value, "f"))
_houses = st.lists(st.sampled_from(["ann", "bob", "cy", "dee"]), min_size=2, max_size=2, unique=True)
_trades = st.lists(
    st.tuples(
        st.sampled_from(["XBTUSDT", "eth/usdt", "ETH-XBT"]),
        _decimals,
        _decimals,
        st.sampled_from(["buy", "s"]),
        _houses,
    ),
    min_size=1,
    max_size=30,
)


def _settled(file: TradeFile, scales: Scales = SCALES) -> tuple[dict[int, Account], Settled]:
    """Book a file by the settlement's own arithmetic, every trade id once, without a ledger."""
    settlement = Settlement("test", scales=scales)
    debits: Counter[int] = Counter()
    credits: Counter[int] = Counter()
    legs = {leg.id: leg for trade in file for leg in settlement.chain(trade)}
    for leg in legs.values():
        debits[leg.debit_account_id] += leg.amount
        credits[leg.credit_account_id] += leg.amount
    accounts = {
        id_: Account(id=id_, debits_posted=debits[id_], credits_posted=credits[id_]) for id_ in settlement.holdings
    }
    baseline = dict.fromkeys(accounts, (0, 0))
    return accounts, Settled(0, 0, settlement.holdings, baseline, 1.0, Latencies())


def _agree(file: TradeFile, scales: Scales = SCALES, default_symbol: str = "XBTUSDT") -> bool:
    accounts, settled = _settled(file, scales)
    books = recompute(file, default_symbol=default_symbol)
    with localcontext(EXACT):
        lines = compare(accounts, settled, books, scales.decimals)
        assert all(trial.balanced for trial in trial_balance(lines))
        assert all(trial.debits for trial in trial_balance(lines))
    return all(line.agrees for line in lines)


@settings(max_examples=60, deadline=None)
@given(rows=_trades, as_json=st.booleans(), named=st.booleans())
def test_settlement_equals_recomputation(
    rows: list[tuple[str, str, str, str, list[str]]],
    as_json: bool,
    named: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Any market, CSV or JSON, with or without names: both ways give the same debits and credits."""
    path = tmp_path_factory.mktemp("market") / ("trades.jsonl" if as_json else "trades.csv")
    records = []
    for number, (symbol, price, quantity, side, (buyer, seller)) in enumerate(rows, start=1):
        record = {
            "id": str(number),
            "time": "1762795433",
            "pair": symbol,
            "price": price,
            "size": quantity,
            "side": side,
        }
        records.append({**record, "buyer": buyer, "seller": seller} if named else record)
    if as_json:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        lines = [",".join(records[0])] + [",".join(record.values()) for record in records]
        path.write_text("\n".join(lines) + "\n")
    assert _agree(TradeFile(path))


def test_recorded_market_agrees() -> None:
    """The recorded trades settle to what the recomputation says."""
    assert _agree(TradeFile(recorded("kraken_xbtusdt_trades.csv"), default_symbol="XBTUSDT"))


def test_turnover_by_hand(tmp_path: Path) -> None:
    """Three trades, calculated on paper: the recomputation is right, and not only equal to something."""
    path = tmp_path / "trades.csv"
    path.write_text(
        HEADER
        + "1,1762795433,XBTUSDT,100.5,2,buy,ann,bob\n"
        + "2,1762795434,XBTUSDT,99,0.5,sell,bob,ann\n"
        + "3,1762795435,XBTUSDT,0.0000000001,0.0000000001,buy,ann,bob\n"
    )
    books = recompute(TradeFile(path), default_symbol="X")
    assert books.trades == 3
    assert books.turnovers == {
        ("ann", "USDT"): Turnover(Decimal("201.00000000000000000001"), Decimal("49.5")),
        ("ann", "XBT"): Turnover(Decimal("0.5"), Decimal("2.0000000001")),
        ("bob", "USDT"): Turnover(Decimal("49.5"), Decimal("201.00000000000000000001")),
        ("bob", "XBT"): Turnover(Decimal("2.0000000001"), Decimal("0.5")),
    }


@pytest.mark.parametrize("ids", ["1 2 2 3", "3 1 2 1", "a b a c", "07 7 07 8"])
def test_trade_ids_count_once(tmp_path: Path, ids: str) -> None:
    """A repeated trade is one trade, whether ids rise, fall or are words."""
    path = tmp_path / "trades.csv"
    path.write_text(HEADER + "".join(f"{id_},1762795433,XBTUSDT,2,3,buy,ann,bob\n" for id_ in ids.split()))
    assert recompute(TradeFile(path), default_symbol="X").trades == 3
    assert _agree(TradeFile(path))


def test_carriage_return_inside_json(tmp_path: Path) -> None:
    """Lines end where the replay's lines end."""
    path = tmp_path / "trades.jsonl"
    path.write_bytes(b'{"id":1,\r"time":1762795433,"price":"2","size":"3","side":"buy"}\r\n')
    file = TradeFile(path, default_symbol="XBTUSDT")
    assert recompute(file, default_symbol="XBTUSDT").trades == 1
    assert _agree(file)


@pytest.mark.parametrize("side", ["debits_posted", "credits_posted"])
def test_one_unit_too_much_is_found(tmp_path: Path, side: str) -> None:
    """One unit of 10^-20 on one side of one account turns the check to NO."""
    file = TradeFile(write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=50), default_symbol="XBTUSDT")
    accounts, settled = _settled(file)
    books = recompute(file, default_symbol="XBTUSDT")
    id_ = next(iter(accounts))
    accounts[id_] = msgspec.structs.replace(accounts[id_], **{side: getattr(accounts[id_], side) + 1})
    with localcontext(EXACT):
        lines = compare(accounts, settled, books, 20)
    assert sum(not line.agrees for line in lines) == 1
    with localcontext(EXACT):
        assert not all(trial.balanced for trial in trial_balance(lines))


def test_an_account_that_is_missing_is_found(tmp_path: Path) -> None:
    """An account that the settlement never opened is a difference, not an omission."""
    file = TradeFile(write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=50), default_symbol="XBTUSDT")
    accounts, settled = _settled(file)
    lost = next(iter(accounts))
    holdings = {id_: holding for id_, holding in settled.holdings.items() if id_ != lost}
    settled = msgspec.structs.replace(settled, holdings=holdings)
    with localcontext(EXACT):
        lines = compare(accounts, settled, recompute(file, default_symbol="XBTUSDT"), 20)
    assert [line.agrees for line in lines].count(False) == 1


def test_made_up_market_is_deterministic(tmp_path: Path) -> None:
    """The same seed gives the same bytes, another seed another market; both can be read and settled."""
    one, same, other = (
        write_market(tmp_path / f"{name}_xbtusdt_trades.csv", trades=300, seed=seed).read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == same != other
    assert _agree(TradeFile(tmp_path / "a_xbtusdt_trades.csv", default_symbol="XBTUSDT"))
