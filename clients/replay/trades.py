"""An exchange's trade file as a stream of `Trade` messages: CSV or JSON lines, whatever its size.

The law here: one record is in memory at a time; the first thing that is wrong with the file raises `TradeFileError`
with file, line and reason, and every trade before it has been handed out.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from dompbus.clients.replay.columns import MissingColumn, find_columns
from dompbus.clients.replay.lines import Lines, TradeFileError
from dompbus.clients.replay.message import MAKER, TAKER, Trade
from dompbus.clients.replay.names import symbol_name
from dompbus.clients.replay.values import read_maker, read_name, read_number, read_side, read_time_ns

__all__ = ["Layout", "TradeFile"]

_DELIMITERS: Final = ",;\t|"
_JSON_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")
_NUMBER: Final = re.compile(r"[0-9]+")
_NAME_ROLES: Final = ("id", "symbol", "buyer", "seller")
_OPEN_QUOTE: Final = "a quoted field that does not end on its line"


class Layout(msgspec.Struct, frozen=True):
    """How to read a file: its kind, and for each role the column's name as the file writes it."""

    json: bool
    columns: dict[str, str]
    delimiter: str = ","
    names: tuple[str, ...] = ()  # of all CSV columns, in order; "1", "2", ... when the file has no header
    header: bool = True


class TradeFile:
    """The trades of `path`, in the file's order. Every iteration reads the file again from its start.

    `columns` maps roles to column names (see `parse_columns`), the rest is guessed. `symbol` stands for files that
    have no such column; of a file that has one, it selects the trades of that symbol. `clock_ns` stamps each trade's
    `read_ns`. The constructor reads the first record and raises `TradeFileError` when the file can never give a trade.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        columns: Mapping[str, str] | None = None,
        symbol: str | None = None,
        default_symbol: str = "UNKNOWN",
        run: int = 0,
        clock_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self.path = Path(path)
        self.layout = read_layout(self.path, columns or {})
        self.symbol = None if symbol is None else symbol_name(symbol)
        self.bytes_total = self.path.stat().st_size
        self._default_symbol = self.symbol or symbol_name(default_symbol)
        self._run = run
        self._clock_ns = clock_ns
        self._lines: Lines | None = None
        self.single_symbol = self.symbol or (None if "symbol" in self.layout.columns else self._default_symbol)

    def __iter__(self) -> Iterator[Trade]:
        with Lines(self.path) as lines:
            self._lines = lines
            build = _Builder(self.layout, self._default_symbol, self._run, self._clock_ns)
            number = 0
            for record in _records(lines, self.layout):
                try:
                    trade = build(record, number + 1, lines.number)
                except ValueError as error:
                    raise lines.error(_doubt(str(error), lines)) from None
                if self.symbol is None or trade.symbol == self.symbol:
                    number += 1
                    yield trade
            if number == 0:
                raise lines.error(self._why_empty(lines))

    @property
    def bytes_read(self) -> int:
        """How far the latest iteration has come, of `bytes_total`."""
        return 0 if self._lines is None else self._lines.bytes_read

    def _why_empty(self, lines: Lines) -> str:
        if self.symbol is not None and "symbol" in self.layout.columns:
            return f"the file ends without a trade of {self.symbol}"
        return "the file ends without a trade"


class _Builder:
    """Turns the record of one line into a `Trade`."""

    def __init__(self, layout: Layout, default_symbol: str, run: int, clock_ns: Callable[[], int]) -> None:
        place: Callable[[str], Any] = (lambda name: name) if layout.json else layout.names.index
        keys = {role: place(name) for role, name in layout.columns.items()}
        self._id, self._time, self._price, self._quantity = (keys[role] for role in ("id", "time", "price", "quantity"))
        self._symbol, self._buyer, self._seller = (keys.get(role) for role in ("symbol", "buyer", "seller"))
        self._side = keys.get("side", keys.get("buyer_maker"))
        self._read_side = read_side if "side" in keys else read_maker
        self._named = self._buyer is not None and self._seller is not None
        self._default_symbol = default_symbol
        self._run = run
        self._clock_ns = clock_ns

    def __call__(self, record: Any, number: int, line: int) -> Trade:
        """Raise `ValueError` with the reason when a field is wrong."""
        side = "" if self._side is None else self._read_side(record[self._side])
        buyer, seller = self._participants(record, side)
        return Trade(
            symbol=self._default_symbol if self._symbol is None else symbol_name(record[self._symbol]),
            trade_id=read_name(record[self._id], "trade id"),
            time_ns=read_time_ns(record[self._time]),
            price=read_number(record[self._price], "price"),
            quantity=read_number(record[self._quantity], "quantity"),
            side=side, buyer=buyer, seller=seller, number=number, line=line, run=self._run,
            read_ns=self._clock_ns(),
        )  # fmt: skip

    def _participants(self, record: Any, side: str) -> tuple[str, str]:
        if not self._named:
            return (TAKER, MAKER) if side == "buy" else (MAKER, TAKER)
        buyer, seller = read_name(record[self._buyer], "buyer"), read_name(record[self._seller], "seller")
        if buyer == seller:
            raise ValueError(f"buyer and seller are both {buyer!r}: a settlement needs two accounts")
        return buyer, seller


def read_layout(path: Path, told: Mapping[str, str]) -> Layout:
    """Look at the first record of `path`: CSV or JSON lines, and which column is what. Raises `TradeFileError`."""
    with Lines(path) as lines:
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            raise TradeFileError(lines.name, 1, "the file is empty")
        try:
            if first.lstrip().startswith(("{", "[")) or path.suffix.lower() in _JSON_SUFFIXES:
                record = _parse_json(first, lines)
                return Layout(json=True, columns=find_columns(list(record), told))
            return _csv_layout(first, told)
        except MissingColumn as error:
            raise lines.error(str(error)) from None
        except csv.Error as error:
            raise lines.error(_not_csv(error)) from None


def _csv_layout(first: str, told: Mapping[str, str]) -> Layout:
    delimiter = max(_DELIMITERS, key=first.count)
    fields = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    if told and all(_NUMBER.fullmatch(name) for name in told.values()):
        names = tuple(str(place) for place in range(1, len(fields) + 1))
        return Layout(False, find_columns(names, told), delimiter, names, header=False)
    return Layout(False, find_columns(fields, told), delimiter, tuple(fields))


def _records(lines: Lines, layout: Layout) -> Iterator[Any]:
    return _json_records(lines, layout) if layout.json else _csv_records(lines, layout)


def _csv_records(lines: Lines, layout: Layout) -> Iterator[list[str]]:
    expected = len(layout.names)
    rows = csv.reader(iter(lines), delimiter=layout.delimiter, strict=True)
    skip = layout.header
    start = 1
    try:
        for row in rows:
            if lines.number > start:
                raise TradeFileError(lines.name, start, _OPEN_QUOTE)
            start += 1
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if skip:
                skip = False
            elif len(row) == expected:
                yield row
            else:
                reason = f"{len(row)} fields where there should be {expected}"
                raise lines.error(_cut_off(reason, lines) if len(row) < expected else _doubt(reason, lines))
    except csv.Error as error:
        raise TradeFileError(lines.name, start, _OPEN_QUOTE if lines.number > start else _not_csv(error)) from None


def _json_records(lines: Lines, layout: Layout) -> Iterator[dict[str, str]]:
    needed = tuple(layout.columns.values())
    names = [(role, layout.columns[role]) for role in _NAME_ROLES if role in layout.columns]
    for line in lines:
        if not line.strip():
            continue
        record = _parse_json(line, lines)
        missing = next((name for name in needed if name not in record), None)
        if missing is not None:
            raise lines.error(f"missing column: no {missing!r} in this record")
        for role, name in names:
            if isinstance(record[name], bool | dict | list):
                raise lines.error(f"{role} is {_json_kind(record[name])}: a name is text or a number")
        yield {name: _text(record[name]) for name in needed}


_decode_json: Final = msgspec.json.Decoder(float_hook=str).decode  # floats stay the text they are


def _parse_json(line: str, lines: Lines) -> dict[str, Any]:
    try:
        record = _decode_json(line)
    except (msgspec.DecodeError, RecursionError) as error:
        hint = " (one record a line is needed; this looks like an array)" if line.lstrip().startswith("[") else ""
        raise lines.error(_cut_off(f"not JSON: {error}{hint}", lines)) from None
    if not isinstance(record, dict):
        raise lines.error("not a JSON object: one {...} a line is needed")
    return record


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else "" if value is None else str(value)


def _json_kind(value: Any) -> str:
    return _text(value) if isinstance(value, bool) else "an object" if isinstance(value, dict) else "a list"


def _not_csv(error: csv.Error) -> str:
    if "new-line" in str(error):  # csv's words are for whoever opens files in Python
        return "not CSV: a carriage return within a line; lines must end in LF or CRLF, not in CR alone"
    return f"not CSV: {error}"


def _doubt(reason: str, lines: Lines) -> str:
    return reason if lines.ended else f"{reason} (this last line has no line end: was the file cut off?)"


def _cut_off(reason: str, lines: Lines) -> str:
    return reason if lines.ended else f"the last line is cut off ({reason})"
