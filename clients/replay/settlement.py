"""Settlement: what one trade means for the books. Pure: a trade in, one linked chain of two transfers out.

The laws here. Direction: a participant's account is the venue's debt to the participant, so a credit is received and
a debit is given, and what a participant holds is credits less debits. The cash leg debits the buyer and credits the
seller by price * quantity; the asset leg debits the seller and credits the buyer by quantity. Ids come from the
market's names alone, so that booking a trade again finds it booked. Every ledger counts in units of
10^-(price decimals + quantity decimals), where the product of price and quantity is exact.

Codes: account 1 is a participant's account; transfer 1 is a cash leg, transfer 2 an asset leg. Each leg carries the
other leg's amount in `user_data_128` and the trade's time in `user_data_64`: a cash leg that `exists` proves its
asset leg too. An account carries its decimals in `user_data_32`: a run with other scales is refused, not mixed in.
"""

from typing import Final, NamedTuple

import msgspec
import xxhash

from dompbus.clients.replay.message import Trade
from dompbus.clients.replay.names import split_symbol
from dompbus.errors import DompbusError
from dompbus.ledger.amounts import scale
from dompbus.ledger.types import Account, CreateTransferStatus, Transfer, TransferFlags

__all__ = [
    "ACCOUNT_CODE", "ASSET_LEG_CODE", "CASH_LEG_CODE", "Holding", "Scales", "Settlement", "SettlementRefused",
    "account_id", "booked", "ledger_number", "transfer_id",
]  # fmt: skip

ACCOUNT_CODE: Final = 1
CASH_LEG_CODE: Final = 1
ASSET_LEG_CODE: Final = 2
_AMOUNT_MAX: Final = 2**128 - 1
_ID_MAX: Final = 2**128 - 1
_DECIMALS_MAX: Final = 19  # of price or quantity: together 38 digits are all that 128 bits hold
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LINKED: Final = int(TransferFlags.LINKED)
_PLAIN_CHARACTERS_MAX: Final = 40
_SPELLED_CHARACTERS_MAX: Final = 6
_SPELLED_MAX: Final = 37**_SPELLED_CHARACTERS_MAX  # 2,565,726,409: the rest of 32 bits is for longer names


class SettlementRefused(DompbusError):
    """The ledger does not take a trade. Nothing of it is booked, and what was booked before stays.

    Trying again would not help. `line` is that of the trade in its file, 0 when it is not a trade's doing.
    """

    def __init__(self, text: str, *, line: int = 0, exit_code: int = 2) -> None:
        super().__init__(text)
        self.line = line
        self.exit_code = exit_code  # for the command line: 2 is a mistake in what was handed in


class Scales(msgspec.Struct, frozen=True):
    """How many decimals prices and quantities may have; the ledger counts with the sum of both."""

    price_decimals: int = 10
    quantity_decimals: int = 10

    def __post_init__(self) -> None:
        for name in ("price_decimals", "quantity_decimals"):
            if not 0 <= getattr(self, name) <= _DECIMALS_MAX:
                raise ValueError(f"{name} is {getattr(self, name)}: 0 to {_DECIMALS_MAX} are possible")

    @property
    def decimals(self) -> int:
        """Decimals of every amount in the ledger."""
        return self.price_decimals + self.quantity_decimals

    def amounts(self, price: str, quantity: str) -> tuple[int, int]:
        """Give (cash, asset) in the ledger's units. Raises `ValueError` for what is not exact or not 128 bits."""
        units = _scale(quantity, self.quantity_decimals, "quantity")
        cash = _scale(price, self.price_decimals, "price") * units
        asset = units * 10**self.price_decimals
        if cash > _AMOUNT_MAX or asset > _AMOUNT_MAX:
            raise ValueError(
                f"quantity {quantity} at price {price} does not fit 128 bits in units of 10^-{self.decimals}"
            )
        return cash, asset


class Holding(NamedTuple):
    """What an account is for: one participant's units of one currency."""

    participant: str
    currency: str
    ledger: int


class Settlement:
    """Books the trades of one venue. `holdings` names every account met so far, by id."""

    def __init__(self, venue: str, *, scales: Scales, quote: str | None = None) -> None:
        self.venue = venue
        self.scales = scales
        self.holdings: dict[int, Holding] = {}
        self._quote = quote
        self._ids: dict[tuple[str, str], int] = {}  # (participant, currency) -> account id
        self._markets: dict[str, _Market] = {}
        self._new: list[int] = []

    def chain(self, trade: Trade) -> tuple[Transfer, Transfer]:
        """Give the linked cash leg and asset leg of `trade`. Raises `ValueError` when its amounts do not fit."""
        cash, asset = self.scales.amounts(trade.price, trade.quantity)
        market = self._markets.get(trade.symbol) or self._open_market(trade.symbol)
        cash_leg = Transfer(
            id=transfer_id(self.venue, trade.symbol, trade.trade_id, "cash"),
            debit_account_id=self._account(trade.buyer, market.cash),
            credit_account_id=self._account(trade.seller, market.cash),
            amount=cash, user_data_128=asset, user_data_64=trade.time_ns,
            ledger=market.cash_ledger, code=CASH_LEG_CODE, flags=_LINKED,
        )  # fmt: skip
        asset_leg = Transfer(
            id=transfer_id(self.venue, trade.symbol, trade.trade_id, "asset"),
            debit_account_id=self._account(trade.seller, market.asset),
            credit_account_id=self._account(trade.buyer, market.asset),
            amount=asset, user_data_128=cash, user_data_64=trade.time_ns,
            ledger=market.asset_ledger, code=ASSET_LEG_CODE,
        )  # fmt: skip
        return cash_leg, asset_leg

    def take_new_accounts(self) -> list[Account]:
        """Give the accounts that `chain` named for the first time since the last call: create them before booking."""
        accounts = [
            Account(id=id_, ledger=self.holdings[id_].ledger, code=ACCOUNT_CODE, user_data_32=self.scales.decimals)
            for id_ in self._new
        ]
        self._new.clear()
        return accounts

    def _account(self, participant: str, currency: str) -> int:
        id_ = self._ids.get((participant, currency))
        if id_ is None:
            id_ = account_id(self.venue, participant, currency)
            self._ids[participant, currency] = id_
            self.holdings[id_] = Holding(participant, currency, ledger_number(currency))
            self._new.append(id_)
        return id_

    def _open_market(self, symbol: str) -> "_Market":
        asset, cash = split_symbol(symbol, quote=self._quote)
        market = _Market(cash, ledger_number(cash), asset, ledger_number(asset))
        for number, currency in ((market.cash_ledger, cash), (market.asset_ledger, asset)):
            clash = next((h for h in self.holdings.values() if h.ledger == number and h.currency != currency), None)
            if clash is not None:
                raise SettlementRefused(f"{currency} and {clash.currency} share ledger number {number}: rename one")
        self._markets[symbol] = market
        return market


class _Market(NamedTuple):
    cash: str
    cash_ledger: int
    asset: str
    asset_ledger: int


def account_id(venue: str, participant: str, currency: str) -> int:
    """Give the 128-bit id of a participant's account at a venue."""
    return _id("account", venue, participant, currency)


def transfer_id(venue: str, symbol: str, trade_id: str, leg: str) -> int:
    """Give the 128-bit id of one leg ("cash" or "asset") of a trade."""
    return _id("transfer", venue, symbol, trade_id, leg)


def ledger_number(currency: str) -> int:
    """Give a currency's ledger: up to 6 letters and digits are spelled as digits of base 37, longer names hashed."""
    if len(currency) <= _SPELLED_CHARACTERS_MAX and all(character in _DIGITS for character in currency):
        number = 0
        for character in currency:
            number = number * 37 + _DIGITS.index(character) + 1
        return number
    return _SPELLED_MAX + xxhash.xxh3_64_intdigest(currency.encode()) % (2**32 - _SPELLED_MAX)


def booked(trade: Trade, cash: CreateTransferStatus, asset: CreateTransferStatus) -> bool:
    """Say whether the chain of `trade` was booked now (True) or before (False), from the statuses of its two legs.

    A chain that was booked before answers `exists` for its first leg, which breaks the chain, so that the second is
    not looked at. Raises `SettlementRefused` for every other outcome.
    """
    if cash is CreateTransferStatus.CREATED and asset is CreateTransferStatus.CREATED:
        return True
    if cash is CreateTransferStatus.EXISTS and asset is CreateTransferStatus.LINKED_EVENT_FAILED:
        return False
    status = asset if cash is CreateTransferStatus.LINKED_EVENT_FAILED else cash
    raise SettlementRefused(
        f"the ledger refused trade {trade.trade_id} of {trade.symbol}: {status.name.lower()}"
        + (_DIFFERENT if status.name.startswith("EXISTS_WITH_DIFFERENT") else ""),
        line=trade.line,
    )


_DIFFERENT: Final = ". This trade id was booked before with other content, from this file or another"


def _id(*parts: str) -> int:
    digest: int = xxhash.xxh3_128_intdigest("\x1f".join(("dompbus.replay", *parts)).encode())
    return digest if 0 < digest < _ID_MAX else 1  # 0 and the maximum are not ids


def _scale(text: str, decimals: int, what: str) -> int:
    """`scale`, with a shorter way (6 times faster) for the plain text that trade files are made of."""
    whole, _, fraction = text.partition(".")
    if len(text) <= _PLAIN_CHARACTERS_MAX and len(fraction) <= decimals and text.isascii():
        digits = whole + fraction
        if digits.isdigit():
            units: int = int(digits) * 10 ** (decimals - len(fraction))  # mypy: a power may be a float
            return units
    try:
        return scale(text, decimals)
    except (ValueError, DompbusError) as error:
        raise ValueError(f"{what} {text} cannot be booked with {decimals} decimals: {error}") from None
