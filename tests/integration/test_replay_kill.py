"""Goal: kill -9 in the middle of a replay, of the server or of the replay, changes nothing in the books."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from dompbus.clients.blocking import Client
from dompbus.clients.replay.board import Board, Cell
from dompbus.clients.replay.market import write_market
from dompbus.clients.replay.plan import Plan, make_plan
from dompbus.clients.replay.report import Report, make_report
from dompbus.clients.replay.runner import run_replay
from tests.data import recorded_or_none
from tests.replay_server import CLI, ReplayServer, environment

KILLS = 10  # in each of two replays
MARKET_TRADES = 100_000
PACED_SECONDS = 26.0  # over which the recorded trades are spread


class Killer:
    """Watches a replay; kills the server a random moment after the settlement has moved, and starts it again."""

    def __init__(self, server: ReplayServer, *, kills: int, delay_max: float, seed: int) -> None:
        self._rng = random.Random(seed)
        self._server = server
        self._delay_max = delay_max
        self._kills_max = kills
        self._seen = 0
        self._due: float | None = None
        self.kills = 0

    def update(self, board: Board) -> None:
        """Called every few hundredths of a second."""
        if self.kills == self._kills_max:
            return
        if self._due is None and board[Cell.SETTLED] > self._seen:
            self._due = time.monotonic() + self._rng.uniform(0, self._delay_max)
        if self._due is not None and time.monotonic() >= self._due:
            assert not board.complete, f"the replay was over before kill {self.kills + 1}: make it longer"
            self._server.kill()
            self._server.start()
            self._seen, self._due = board[Cell.SETTLED], None
            self.kills += 1


class Bystander:
    """Watches and does nothing."""

    def update(self, board: Board) -> None:
        """Do nothing."""


def _report(plan: Plan, watcher: Killer | Bystander) -> Report:
    outcome = run_replay(plan, watcher)
    assert (outcome.stopped, outcome.published.error) == (0, None)
    with Client(plan.url, name="test") as client:
        return make_report(plan, outcome, client.ledger)


def _uninterrupted(path: Path, folder: Path) -> Report:
    with ReplayServer(folder) as server:
        return _report(make_plan(server.url, path), Bystander())


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [20_251_110])
def test_kill_during_the_recorded_market(tmp_path: Path, seed: int) -> None:
    """The recorded trades, paced, with ten kills at random moments: the books are those of a run without any."""
    path = recorded_or_none("kraken_xbtusdt_trades.csv")
    path = path or write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=1_000)
    _replay_with_kills(tmp_path, path, seed=seed, pace_seconds=PACED_SECONDS, delay_max=0.8)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [7_400])
def test_kill_at_full_speed(tmp_path: Path, seed: int) -> None:
    """Batches of thousands on their way, with ten kills: nothing twice, nothing missing."""
    path = write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=MARKET_TRADES, seed=seed)
    _replay_with_kills(tmp_path, path, seed=seed, pace_seconds=None, delay_max=0.2)


def _replay_with_kills(tmp_path: Path, path: Path, *, seed: int, pace_seconds: float | None, delay_max: float) -> None:
    print(f"seed {seed}")
    expected = _uninterrupted(path, tmp_path / "calm")
    with ReplayServer(tmp_path / "killed") as server:
        plan = make_plan(server.url, path)
        times = [trade.time_ns for trade in plan.open_file()]
        speed = None if pace_seconds is None else (times[-1] - times[0]) / 1e9 / pace_seconds
        killer = Killer(server, kills=KILLS, delay_max=delay_max, seed=seed)
        report = _report(make_plan(server.url, path, speed=speed), killer)
    assert killer.kills == KILLS
    assert report.rewinds > 0, "no kill was felt"
    assert report.trades == report.booked_now == len(times)
    assert report.accounts == expected.accounts
    assert report.books_equal
    assert expected.books_equal


@contextmanager
def _replaying(url: str, path: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [*CLI, "replay", str(path), "--to", url, *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    try:
        yield process
    finally:
        with process:
            process.kill()


def _wait_until_booked(url: str, path: Path, trades: int) -> None:
    """Poll the ledger until the trade at that place of the file is booked."""
    from dompbus.clients.replay.settlement import transfer_id

    wanted = next(trade for trade in make_plan(url, path).open_file() if trade.number == trades)
    id_ = transfer_id("demo", wanted.symbol, wanted.trade_id, "cash")
    deadline = time.monotonic() + 30
    with Client(url, name="test") as client:
        while not client.ledger.lookup_transfers([id_]):
            assert time.monotonic() < deadline, f"trade {trades} was not booked"


@pytest.mark.slow
def test_replay_killed_and_started_again(tmp_path: Path) -> None:
    """kill -9 of the replay itself: its children leave, and a second run from the start completes the same books."""
    path = write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=30_000, seed=3)
    expected = _uninterrupted(path, tmp_path / "calm")
    with ReplayServer(tmp_path / "server") as server:
        with _replaying(server.url, path) as process:
            _wait_until_booked(server.url, path, 2_000)
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) >= 2
            process.kill()
            _, alive = psutil.wait_procs(children, timeout=15)
            assert alive == [], "a child of the killed replay goes on without it"
        report = _report(make_plan(server.url, path), Bystander())
    assert report.accounts == expected.accounts
    assert report.booked_before >= 2_000
    assert report.booked_now + report.booked_before == 30_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end the replay cleanly, and it says what is settled."""
    path = write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=5_000, seed=4)
    with ReplayServer(tmp_path / "server") as server, _replaying(server.url, path, "--speed", "2") as process:
        _wait_until_booked(server.url, path, 1)
        os.kill(process.pid, number)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert output == ""
    assert f"stopped by {number.name}: " in errors
    assert "trades are settled. Run it again to go on: nothing is booked twice" in errors
    assert "Traceback" not in errors


def test_server_that_stays_away(tmp_path: Path) -> None:
    """A server that does not come back is waited for, said so, and given up with exit code 1."""
    path = write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=5_000, seed=5)
    with (
        ReplayServer(tmp_path / "server") as server,
        _replaying(server.url, path, "--speed", "2", "--give-up-after", "2") as process,
    ):
        _wait_until_booked(server.url, path, 1)
        server.kill()
        _, errors = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "server gone, waiting since" in errors
    assert f"the server at {server.url} stayed away for 2 s" in errors
    assert "run it again: nothing is booked twice" in errors
    assert "Traceback" not in errors


def test_ledger_with_other_trades(tmp_path: Path) -> None:
    """A second file of the same venue adds to the accounts; its check knows what was there before."""
    first = write_market(tmp_path / "demo_xbtusdt_trades.csv", trades=300, seed=6)
    lines = write_market(tmp_path / "more.csv", trades=500, seed=6).read_text().splitlines(keepends=True)
    second = tmp_path / "demo_xbtusdt_more_trades.csv"
    second.write_text("".join(lines[:1] + lines[201:]))  # 100 of its trades are in the first file too
    with ReplayServer(tmp_path / "server") as server:
        _report(make_plan(server.url, first), Bystander())
        report = _report(make_plan(server.url, second), Bystander())
    assert (report.trades, report.booked_before, report.booked_now) == (300, 100, 200)
    assert report.books_equal
    assert any(line.before for line in report.accounts)
    assert "carried over from trades that are not in this file" in report.as_text()
    json.dumps(report.as_json())
