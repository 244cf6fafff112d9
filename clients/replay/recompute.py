"""The books once more, from the input file alone: the other half of the replay's check.

The law here: nothing of the path under test is used. The file is read again with the standard library, the
arithmetic is `decimal` with every rounding trapped, and no ledger, scale or transfer occurs. Only the names (which
column is what, how a symbol splits) are shared, for they are the question and not the answer.
"""

import csv
import json
from collections.abc import Callable, Iterator
from decimal import Context, Decimal, FloatOperation, Inexact, InvalidOperation, localcontext
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from dompbus.clients.replay.diskset import DiskSet
from dompbus.clients.replay.message import MAKER, TAKER
from dompbus.clients.replay.names import split_symbol, symbol_name
from dompbus.clients.replay.trades import Layout, TradeFile

__all__ = ["Books", "Turnover", "recompute"]

_EXACT: Final = Context(prec=400, traps=[Inexact, InvalidOperation, FloatOperation])
_ZERO: Final = Decimal(0)
_BUYS: Final = ("buy", "b", "bid")
_BUYER_TAKES: Final = ("false", "f", "0")


class Turnover(NamedTuple):
    """What one participant gave (debits) and received (credits) of one currency, in whole units."""

    debits: Decimal
    credits: Decimal


class Books(NamedTuple):
    """The outcome: how many different trades, and the turnover by (participant, currency)."""

    trades: int
    turnovers: dict[tuple[str, str], Turnover]


_Seen = Callable[[str, str], bool]  # takes symbol and trade id, notes the trade, says whether it is new


def recompute(file: TradeFile, *, default_symbol: str, quote: str | None = None) -> Books:
    """Compute every participant's turnover from `file`, a trade id counting once however often it stands there.

    Memory grows with participants, not with trades: rising trade ids need no memory, others are kept in a
    temporary database on disk.
    """
    with localcontext(_EXACT):
        try:
            return _recompute(file, default_symbol, quote, _RisingIds())
        except _NotRising:
            with DiskSet() as ids:
                return _recompute(file, default_symbol, quote, lambda symbol, id_: ids.add(f"{symbol} {id_}"))


def _recompute(file: TradeFile, default_symbol: str, quote: str | None, seen: _Seen) -> Books:
    given: dict[tuple[str, str], Decimal] = {}
    received: dict[tuple[str, str], Decimal] = {}
    split = cache(partial(split_symbol, quote=quote))
    trades = 0
    for row in _rows(file.path, file.layout):
        symbol = symbol_name(row.get("symbol", default_symbol))
        if (file.symbol is not None and symbol != file.symbol) or not seen(symbol, row["id"].strip()):
            continue
        trades += 1
        asset, cash = split(symbol)
        buyer, seller = _participants(row)
        quantity = Decimal(row["quantity"].strip())
        value = Decimal(row["price"].strip()) * quantity
        for giver, receiver, currency, amount in ((buyer, seller, cash, value), (seller, buyer, asset, quantity)):
            given[giver, currency] = given.get((giver, currency), _ZERO) + amount
            received[receiver, currency] = received.get((receiver, currency), _ZERO) + amount
    keys = sorted(given.keys() | received.keys())
    return Books(trades, {key: Turnover(given.get(key, _ZERO), received.get(key, _ZERO)) for key in keys})


def _rows(path: Path, layout: Layout) -> Iterator[dict[str, str]]:
    """The text of each record by role."""
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        if layout.json:
            for record in (json.loads(line, parse_float=str, parse_int=str) for line in lines if line.strip()):
                yield {role: str(record[name]) for role, name in layout.columns.items()}
            return
        places = {role: layout.names.index(name) for role, name in layout.columns.items()}
        rows = (row for row in csv.reader(lines, delimiter=layout.delimiter) if len(row) == len(layout.names))
        for row in islice(rows, 1 if layout.header else 0, None):
            yield {role: row[place] for role, place in places.items()}


def _participants(row: dict[str, str]) -> tuple[str, str]:
    if "buyer" in row and "seller" in row:
        return row["buyer"].strip(), row["seller"].strip()
    if "side" in row:
        taker_buys = row["side"].strip().lower() in _BUYS
    else:
        taker_buys = row["buyer_maker"].strip().lower() in _BUYER_TAKES
    return (TAKER, MAKER) if taker_buys else (MAKER, TAKER)


class _NotRising(Exception):
    """The file's trade ids do not rise; what was seen must be remembered after all."""


class _RisingIds:
    """Trade ids that only rise, symbol by symbol: none can come twice."""

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}

    def __call__(self, symbol: str, trade_id: str) -> bool:
        if not (trade_id.isascii() and trade_id.isdigit()) or int(trade_id) <= self._highest.get(symbol, -1):
            raise _NotRising
        self._highest[symbol] = int(trade_id)
        return True
