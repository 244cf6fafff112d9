"""Goal: a malformed file ends `dompbus replay` with file, line, reason and the fate of the good part; exit code 2."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.replay_server import ReplayServer, run_cli

HEADER = b"trade_id,time,price,volume,side\n"
GOOD = b"".join(b"%d,1762795433.5,105433.60,0.00027625,buy\n" % number for number in range(1, 18))
NOBODY = "tcp://127.0.0.1:9"  # no test below needs a server to see that the file is bad


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayServer]:
    """One server for the module."""
    with ReplayServer(tmp_path_factory.mktemp("server")) as running:
        yield running


def _write(tmp_path: Path, content: bytes) -> Path:
    venue = "".join(character for character in tmp_path.name if character.isalnum())  # one of its own per test
    path = tmp_path / f"{venue}_xbtusdt_trades.csv"
    path.write_bytes(content)
    return path


def _check_refusal(path: Path, url: str, line: int, reason: str, fate: str) -> None:
    done = run_cli("replay", str(path), "--to", url)
    assert done.returncode == 2, done
    assert f"dompbus: {path}:{line}: " in done.stderr, done.stderr
    assert reason in done.stderr, done.stderr
    assert fate in done.stderr, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(b"18,1762795433,-1,2,buy\n", "price '-1' is negative", id="negative price"),
        pytest.param(b"18,1762795433,NaN,2,buy\n", "price 'NaN' is not a number", id="NaN price"),
        pytest.param(b"18,1762795433,1,1%s,buy\n" % (b"0" * 30), "does not fit 128 bits", id="quantity of 10^30"),
        pytest.param(b"\x93\x80\xff\xfe\x01\x02\n", "not UTF-8 text: byte 0x93", id="binary garbage"),
        pytest.param(b"18,1762795433,105", "the last line is cut off", id="truncated last line"),
    ],
)
def test_malformed_behind_good_trades(server: ReplayServer, tmp_path: Path, bad: bytes, reason: str) -> None:
    """17 good trades, then a bad line: the 17 are settled, and the message says so."""
    fate = (
        "The 17 trades before it were published and settled; run again after fixing the file: nothing is booked twice"
    )
    _check_refusal(_write(tmp_path, HEADER + GOOD + bad), server.url, 19, reason, fate)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"trade_id,time,volume,side\n1,1,1,buy\n", "missing column: no price", id="missing column"),
        pytest.param(b"\x7fELF\x02\x01\xff\x00", "not UTF-8 text", id="binary garbage"),
    ],
)
def test_malformed_from_the_start(tmp_path: Path, content: bytes, reason: str) -> None:
    """A file that is bad from its first line is refused before a server is asked for."""
    _check_refusal(_write(tmp_path, content), NOBODY, 1, reason, "")


def test_header_alone(server: ReplayServer, tmp_path: Path) -> None:
    """A header without a trade: nothing was published, and that is said."""
    _check_refusal(_write(tmp_path, HEADER), server.url, 1, "the file ends without a trade", "Nothing was published")


def test_fixed_file_goes_on(server: ReplayServer, tmp_path: Path) -> None:
    """After the bad line is mended, with a byte order mark and CRLF as an editor leaves it, nothing is booked twice."""
    path = _write(tmp_path, HEADER + GOOD + b"18,1762795434,oops,2,sell\n")
    assert run_cli("replay", str(path), "--to", server.url).returncode == 2
    fixed = (HEADER + GOOD + b"18,1762795434,100000,2,sell\n").replace(b"\n", b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + fixed)
    done = run_cli("replay", str(path), "--to", server.url, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["trades"], report["booked_before"], report["booked_now"]) == (18, 17, 1)
    assert report["books_equal_recomputation"] is True
    holds = {(line["participant"], line["currency"]): line["balance"] for line in report["accounts"]}
    assert holds["taker", "XBT"] == "-1.99530375"  # 17 * 0.00027625 - 2
    assert holds["taker", "USDT"] == "199504.857456"  # 2 * 100000 - 17 * 105433.60 * 0.00027625
    assert {line["carried_over"] for line in report["accounts"]} == {"0"}


def test_mistakes_in_options(tmp_path: Path) -> None:
    """A wrong option, an unreachable server and a missing file are told apart, without a stack trace."""
    path = _write(tmp_path, HEADER + GOOD)
    for arguments, code, text in [
        (("--columns", "cost=price"), 2, "write ROLE=NAME with one of the roles id, time,"),
        (("--speed", "fast"), 2, "--speed 'fast': give a number from 1e-06 to 1,000,000, or max"),
        (("--speed", "1e-300"), 2, "--speed '1e-300': give a number from 1e-06"),
        (("--to", "foo"), 2, "'foo' is not where a node can be: use tcp://HOST:PORT or ipc://PATH"),
        (("--price-decimals", "20"), 2, "price_decimals is 20: 0 to 19 are possible"),
        ((), 1, "127.0.0.1:9"),
    ]:
        done = run_cli("replay", str(path), "--to", NOBODY, *arguments)
        assert done.returncode == code, done
        assert text in done.stderr
        assert "Traceback" not in done.stderr
    done = run_cli("replay", str(tmp_path / "nothing.csv"), "--to", NOBODY)
    assert (done.returncode, "cannot be opened: No such file" in done.stderr) == (2, True)


def test_contradiction_in_the_file(server: ReplayServer, tmp_path: Path) -> None:
    """A trade id that stands twice with other content is the user's: its line, and all that is settled all the same."""
    path = _write(tmp_path, HEADER + GOOD + b"3,1762795434,1,2,buy\n" + b"18,1762795434,100000,2,sell\n")
    fate = "exists_with_different_amount. This trade id was booked before with other content, from this file or another"
    _check_refusal(path, server.url, 19, fate, "18 trades are settled\n")
    assert "run it again" not in run_cli("replay", str(path), "--to", server.url).stderr


def test_carriage_returns_inside_json(server: ReplayServer, tmp_path: Path) -> None:
    """The check reads the same lines as the replay: a bare CR is white space of JSON, not a line's end."""
    path = _write(tmp_path, b'{"id":1,\r"time":1700000000,"price":1.25,"qty":2,"side":"buy"}\r\n')
    done = run_cli("replay", str(path), "--to", server.url, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["books_equal_recomputation"] is True


def test_pipe_as_a_file(tmp_path: Path) -> None:
    """A pipe cannot be read twice: refused, and not waited for."""
    os.mkfifo(tmp_path / "trades.csv")
    _check_refusal(tmp_path / "trades.csv", NOBODY, 1, "needs a regular file: it is read more than once", "")


def test_escape_sequences_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """Neither a file's content nor its name commands the terminal."""
    path = tmp_path / "\x1b[31mred.csv"
    path.write_bytes(b"\x1b[31mred,\x07,b\n1,2,3\n")
    done = run_cli("replay", str(path), "--to", NOBODY)
    assert done.returncode == 2
    assert r"\x1b[31mred.csv:1: missing column: no id" in done.stderr
    assert r"the file has: '\x1b[31mred', '\x07', b. " in done.stderr
    assert done.stderr.replace("\n", "").isprintable()
