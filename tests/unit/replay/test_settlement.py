"""Goal: a trade becomes exactly one linked chain, with ids that depend on the market's names and nothing else."""

import pytest

from dompbus.clients.replay.message import Trade
from dompbus.clients.replay.settlement import (
    ASSET_LEG_CODE,
    CASH_LEG_CODE,
    Holding,
    Scales,
    Settlement,
    SettlementRefused,
    account_id,
    booked,
    ledger_number,
    transfer_id,
)
from dompbus.ledger.types import CreateTransferStatus, Transfer, TransferFlags

TRADE = Trade(
    symbol="XBTUSDT", trade_id="7", time_ns=1_762_795_433_971_744_500, price="105433.60000", quantity="0.00027625",
    side="buy", buyer="taker", seller="maker",
)  # fmt: skip


def _settlement() -> Settlement:
    return Settlement("kraken", scales=Scales())


def test_chain() -> None:
    """Cash leaves the buyer, the asset leaves the seller; each leg carries the other's amount."""
    usdt, xbt = ledger_number("USDT"), ledger_number("XBT")
    cash, asset = 29_12603200 * 10**12, 27625 * 10**12
    assert _settlement().chain(TRADE) == (
        Transfer(
            id=transfer_id("kraken", "XBTUSDT", "7", "cash"),
            debit_account_id=account_id("kraken", "taker", "USDT"),
            credit_account_id=account_id("kraken", "maker", "USDT"),
            amount=cash, user_data_128=asset, user_data_64=TRADE.time_ns, ledger=usdt, code=CASH_LEG_CODE,
            flags=TransferFlags.LINKED,
        ),
        Transfer(
            id=transfer_id("kraken", "XBTUSDT", "7", "asset"),
            debit_account_id=account_id("kraken", "maker", "XBT"),
            credit_account_id=account_id("kraken", "taker", "XBT"),
            amount=asset, user_data_128=cash, user_data_64=TRADE.time_ns, ledger=xbt, code=ASSET_LEG_CODE,
        ),
    )  # fmt: skip


def test_accounts_are_named_once() -> None:
    """Four accounts of a first trade, none of the next; each carries the decimals of its units."""
    settlement = _settlement()
    settlement.chain(TRADE)
    accounts = settlement.take_new_accounts()
    assert [settlement.holdings[account.id] for account in accounts] == [
        Holding("taker", "USDT", ledger_number("USDT")),
        Holding("maker", "USDT", ledger_number("USDT")),
        Holding("maker", "XBT", ledger_number("XBT")),
        Holding("taker", "XBT", ledger_number("XBT")),
    ]
    assert {account.user_data_32 for account in accounts} == {20}
    settlement.chain(TRADE)
    assert settlement.take_new_accounts() == []


def test_ids_are_pinned() -> None:
    """These numbers stand in ledgers out there: whoever changes them books every old trade a second time."""
    assert transfer_id("kraken", "XBTUSDT", "7", "cash") == 0x58A2ACB082302C4FD0A7A85D3F4986A8
    assert account_id("kraken", "taker", "USDT") == 0xE6DC16636FA16A2A3CFA75B7F7498E63
    assert (ledger_number("USD"), ledger_number("1"), ledger_number("ZZZZZZ")) == (43_526, 2, 37**6 - 1)
    assert 37**6 <= ledger_number("WRAPPED-BTC") < 2**32


@pytest.mark.parametrize(
    ("price", "quantity", "reason"),
    [
        ("1", "1" + "0" * 30, "does not fit 128 bits"),
        ("1" + "0" * 30, "1", "does not fit 128 bits"),
        ("10000000000", "10000000000", "does not fit 128 bits"),
        ("0.00000000001", "1", "has more than 10 decimals"),
        ("1", "0.00000000001", "has more than 10 decimals"),
    ],
)
def test_amounts_that_do_not_fit(price: str, quantity: str, reason: str) -> None:
    """What is not exact in 128 bits is refused in words, never rounded."""
    with pytest.raises(ValueError, match=reason):
        Scales().amounts(price, quantity)


def test_scales() -> None:
    """The two scales are the user's; the ledger counts with their sum."""
    assert Scales(2, 8).amounts("105433.60", "0.00027625") == (291260320000, 2762500)
    assert Scales(0, 0).amounts("340282366920938463463374607431768211455", "1") == (2**128 - 1, 1)
    with pytest.raises(ValueError, match="price_decimals is 20: 0 to 19"):
        Scales(20, 0)


@pytest.mark.parametrize(
    ("cash", "asset", "outcome"),
    [
        ("CREATED", "CREATED", True),
        ("EXISTS", "LINKED_EVENT_FAILED", False),
    ],
)
def test_booked(cash: str, asset: str, outcome: bool) -> None:
    """Booked now, or found booked."""
    assert booked(TRADE, CreateTransferStatus[cash], CreateTransferStatus[asset]) is outcome


@pytest.mark.parametrize(
    ("cash", "asset", "reason"),
    [
        ("EXISTS_WITH_DIFFERENT_AMOUNT", "LINKED_EVENT_FAILED", "exists_with_different_amount. This trade id was"),
        ("LINKED_EVENT_FAILED", "OVERFLOWS_CREDITS_POSTED", "overflows_credits_posted"),
        ("LINKED_EVENT_FAILED", "EXISTS", "exists"),
        ("CREATED", "EXISTS", "created"),
    ],
)
def test_refused(cash: str, asset: str, reason: str) -> None:
    """Every other outcome names the trade and what the ledger said."""
    with pytest.raises(SettlementRefused, match=f"trade 7 of XBTUSDT: {reason}"):
        booked(TRADE, CreateTransferStatus[cash], CreateTransferStatus[asset])
