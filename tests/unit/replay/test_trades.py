"""Goal: every shape of trade file that exchanges write is read exactly, and every malformed one is refused in words."""

import os
from pathlib import Path

import pytest

from dompbus.clients.replay.columns import parse_columns
from dompbus.clients.replay.lines import LINE_BYTES_MAX, TradeFileError
from dompbus.clients.replay.message import Trade
from dompbus.clients.replay.trades import TradeFile
from dompbus.errors import ConfigError
from tests.data import recorded

HEADER = b"trade_id,time,price,volume,side\n"
GOOD = b"1,1762795433.5,105433.60000,0.00027625,buy\n"


def _write(tmp_path: Path, content: bytes, name: str = "kraken_xbtusdt_trades.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def _read(path: Path, columns: str | None = None, symbol: str | None = None) -> list[Trade]:
    return list(TradeFile(path, columns=parse_columns(columns), symbol=symbol, default_symbol="XBTUSDT"))


def _refusal(path: Path) -> tuple[int, TradeFileError]:
    handed_out: list[Trade] = []
    with pytest.raises(TradeFileError) as caught:
        handed_out.extend(TradeFile(path))  # extend keeps what came before the error
    assert str(caught.value) == f"{path}:{caught.value.line}: {caught.value.reason}"
    return len(handed_out), caught.value


def test_plain_csv(tmp_path: Path) -> None:
    """Text stays text, the taker buys, numbers count from 1 and lines from the header."""
    trades = _read(_write(tmp_path, HEADER + GOOD + b"2,1762795434,1.5,2,sell\n"))
    assert trades[0] == Trade(
        symbol="XBTUSDT", trade_id="1", time_ns=1762795433_500000000, price="105433.60000", quantity="0.00027625",
        side="buy", buyer="taker", seller="maker", number=1, line=2,
    )  # fmt: skip
    assert (trades[1].buyer, trades[1].seller, trades[1].number, trades[1].line) == ("maker", "taker", 2, 3)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xef\xbb\xbf" + HEADER + GOOD, id="byte order mark"),
        pytest.param((HEADER + GOOD).replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(b"\xef\xbb\xbf" + (HEADER + GOOD).replace(b"\n", b"\r\n"), id="both"),
        pytest.param((HEADER + GOOD).rstrip(b"\n"), id="no newline at the end"),
        pytest.param(b"\n" + HEADER + b"\n" + GOOD + b"  \n\n", id="blank lines"),
        pytest.param((HEADER + GOOD).replace(b",", b";"), id="semicolons"),
        pytest.param((HEADER + GOOD).replace(b",", b"\t"), id="tabs"),
        pytest.param(b"Trade ID,TIMESTAMP,Price,Qty,Taker-Side\n" + GOOD, id="other names"),
        pytest.param(b'"trade_id","time","price","volume","side"\n' + GOOD.replace(b"buy", b'"BUY"'), id="quotes"),
        pytest.param(b"id,T,p,q,m\n" + GOOD.replace(b"buy", b"false"), id="letters and maker flag"),
        pytest.param(b'{"a":1,"T":1762795433500,"p":105433.60000,"q":"0.00027625","m":false}\n', id="JSON lines"),
    ],
)
def test_same_trade_in_every_dress(tmp_path: Path, content: bytes) -> None:
    """Byte order marks, endings, delimiters, names and JSON change nothing about the trade."""
    (trade,) = _read(_write(tmp_path, content))
    assert (trade.trade_id, trade.time_ns) == ("1", 1762795433_500000000)
    assert (trade.price, trade.quantity, trade.buyer) == ("105433.60000", "0.00027625", "taker")


def test_columns_told_and_file_without_header(tmp_path: Path) -> None:
    """Names that nobody could guess are told; numbers count the columns of a file without a header."""
    told = "id=nr, time=when ,price=paid,quantity=much,side=what"
    assert len(_read(_write(tmp_path, b"nr,when,paid,much,what\n" + GOOD), told)) == 1
    assert len(_read(_write(tmp_path, GOOD), "id=1,time=2,price=3,quantity=4,side=5")) == 1
    with pytest.raises(ConfigError, match="write ROLE=NAME"):
        parse_columns("cost=p")


def test_participants_and_symbols(tmp_path: Path) -> None:
    """Buyer and seller columns name the accounts; a symbol column splits the file or selects from it."""
    rows = b"1,1762795433,XBT/USDT,1,2,ann,bob\n2,1762795433,eth-eur,1,2,bob,ann\n"
    path = _write(tmp_path, b"trade_id,time,symbol,price,volume,buyer,seller\n" + rows)
    first, second = _read(path)
    assert (first.symbol, first.buyer, first.seller, first.side) == ("XBTUSDT", "ann", "bob", "")
    assert second.symbol == "ETH-EUR"
    assert [(t.trade_id, t.number, t.line) for t in _read(path, symbol="ETH-EUR")] == [("2", 1, 3)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"2,1762795434,-1,2,buy\n", "price '-1' is negative"),
        (b"2,1762795434,NaN,2,buy\n", "price 'NaN' is not a number"),
        (b"2,1762795434,Infinity,2,buy\n", "price 'Infinity' is not a number"),
        (b"2,1762795434,0.000,2,buy\n", "price is zero"),
        (b"2,1762795434,,2,buy\n", "price is empty"),
        (b"2,1762795434,1_000,2,buy\n", "price '1_000' is not a number"),
        (b"2,1762795434,1e99999999,2,buy\n", "price '1e99999999' does not fit 128 bits"),
        (b"2,1762795434,1,1e-99999999,buy\n", "quantity '1e-99999999' does not fit 128 bits"),
        (b"2,1762795434,1,-0.5,buy\n", "quantity '-0.5' is negative"),
        (b"2,1762795434,1,0,buy\n", "quantity is zero"),
        (b"2,1762795434,1,2,hold\n", "side 'hold' is neither buy nor sell"),
        (b"2,yesterday,1,2,buy\n", "time 'yesterday' is neither unix time nor ISO 8601"),
        (b"2,2025-13-40T00:00:00,1,2,buy\n", "time '2025-13-40T00:00:00' does not exist"),
        (b"2,99999999999999999999,1,2,buy\n", "time '99999999999999999999' is neither"),
        (b",1762795434,1,2,buy\n", "trade id is empty"),
        (b"2\x07,1762795434,1,2,buy\n", "trade id '2\\x07' is not up to 128 printable characters"),
        (b"2,1762795434,1,2\n", "4 fields where there should be 5"),
        (b"2,1762795434,1,2,buy,more\n", "6 fields where there should be 5"),
        (b"2,1762795434,1,", "the last line is cut off (4 fields where there should be 5)"),
        (b"2,1762795434,1,2,b\xff\xfe\n", "not UTF-8 text: byte 0xff at column 19"),
        (b"\x00\x01\x02\x03\n", "holds NUL bytes: this is not text"),
        (b'2,1762795434,1,"2,buy\n3,1762795434,1,2,buy\n', "a quoted field that does not end on its line"),
        (b"2," + b"9" * LINE_BYTES_MAX + b"\n", "a line of more than 65536 bytes"),
        (b"9" * 300_000, "a line of more than 65536 bytes"),
    ],
)
def test_malformed_third_line(tmp_path: Path, bad: bytes, reason: str) -> None:
    """The good line before is handed out, the bad one is named with its line and reason."""
    good, error = _refusal(_write(tmp_path, HEADER + GOOD + bad))
    assert (good, error.line) == (1, 3)
    assert error.reason.startswith(reason)


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"", 1, "the file is empty"),
        (b"\n \n", 1, "the file is empty"),
        (HEADER, 1, "the file ends without a trade"),
        (b"trade_id,time,volume,side\n", 1, "missing column: no price (looked for price, p, px, rate, trade_price)"),
        (b"trade_id,time,price,volume\n", 1, "missing column: no side"),
        (b"\x7fELF\x02\x01\xff\xff", 1, "not UTF-8 text: byte 0xff at column 7"),
        (b"\x1f\x8b\x08\xff\x00", 1, "this is a gzip archive: unpack it first"),
        ((HEADER + GOOD).replace(b"\n", b"\r"), 1, "not CSV: a carriage return within a line; lines must end in LF"),
        (b"id,time,price,price,quantity,side\n", 1, "ambiguous: 2 columns for the price: price, price; rename or"),
        (b"id,time,Price,price,quantity,side\n", 1, "ambiguous: 2 columns for the price: Price, price; name one with"),
        (b"\x1b[31mid,time\n", 1, "missing column: no id (looked for"),
    ],
)
def test_malformed_start(tmp_path: Path, content: bytes, line: int, reason: str) -> None:
    """A file that cannot give a trade says so before anything is published."""
    good, error = _refusal(_write(tmp_path, content))
    assert (good, error.line) == (0, line)
    assert error.reason.startswith(reason)


JSON_GOOD = b'{"id":1,"time":1762795433,"price":"1.5","size":"2","side":"buy"}\n'


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"id":2,"time":1762795433,"size":"2","side":"buy"}\n', "missing column: no 'price' in this record"),
        (b'{"id":2,"time":1762795433,"price":-1.5,"size":"2","side":"buy"}\n', "price '-1.5' is negative"),
        (b'{"id":2,"time":1762795433,"price":null,"size":"2","side":"buy"}\n', "price is empty"),
        (b'{"id":2,"time":1762795433,"price":NaN,"size":"2","side":"buy"}\n', "not JSON"),
        (b'{"id":2,"time":17627954', "the last line is cut off (not JSON"),
        (b"[1,2]\n", "not a JSON object"),
        (b'{"id":true,"time":1762795433,"price":1,"size":2,"side":"buy"}\n', "id is true: a name is text or a number"),
        (b'{"id":[1],"time":1762795433,"price":1,"size":2,"side":"buy"}\n', "id is a list: a name is text or"),
        (b"[" * 60_000 + b"\n", "not JSON"),
    ],
)
def test_malformed_json(tmp_path: Path, bad: bytes, reason: str) -> None:
    """JSON lines are refused as clearly as CSV."""
    good, error = _refusal(_write(tmp_path, JSON_GOOD + bad, "trades.jsonl"))
    assert (good, error.line) == (1, 2)
    assert error.reason.startswith(reason)


def test_missing_file(tmp_path: Path) -> None:
    """A path that is not there, or is a folder, is an error of the same kind."""
    with pytest.raises(TradeFileError, match="cannot be opened: No such file"):
        TradeFile(tmp_path / "nothing.csv")
    with pytest.raises(TradeFileError, match="cannot be opened: Is a directory"):
        TradeFile(tmp_path)


def test_recorded_market() -> None:
    """The recorded trades of Kraken are read without being told anything."""
    trades = _read(recorded("kraken_xbtusdt_trades.csv"))
    assert len(trades) == 1000
    assert (trades[0].trade_id, trades[0].price, trades[0].quantity) == ("10218208", "105433.60000", "0.00027625")
    assert trades[-1].line == 1001


def test_json_names_that_are_no_names(tmp_path: Path) -> None:
    """A boolean as a participant has no spelling that all would agree on: refused, with line and role."""
    bad = b'{"id":1,"time":1762795433,"price":"1.5","size":"2","buyer":"ann","seller":false}\n'
    good, error = _refusal(_write(tmp_path, bad, "trades.jsonl"))
    assert (good, error.line, error.reason) == (0, 1, "seller is false: a name is text or a number")


def test_same_names_told_apart(tmp_path: Path) -> None:
    """Two columns that a guess cannot tell apart can be named."""
    path = _write(tmp_path, b"id,time,Price,price,quantity,side\n1,1762795433,5,7,2,buy\n")
    assert _read(path, "price=price")[0].price == "7"


def test_column_names_are_shown_without_their_commands(tmp_path: Path) -> None:
    """What a terminal would obey is spelled out."""
    _, error = _refusal(_write(tmp_path, b"\x1b[31mred,b\n1,2\n"))
    assert r"the file has: '\x1b[31mred', b." in error.reason


def test_pipe(tmp_path: Path) -> None:
    """A pipe is refused without being opened, which would wait."""
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(TradeFileError, match="needs a regular file: it is read more than once") as caught:
        TradeFile(tmp_path / "pipe.csv")
    assert caught.value.exit_code == 2
