"""Goal: `dompbus demo trading` and `dompbus replay` show a market settled and checked, and leave nothing behind."""

import json
import signal
import subprocess
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from dompbus.clients.replay.market import write_market
from tests.data import recorded
from tests.replay_server import CLI, ReplayServer, environment, run_cli


def _leftovers(folder: Path) -> list[str]:
    """Processes that were started for a demo in this temporary folder."""
    return [p.info["name"] for p in psutil.process_iter(["name", "cmdline"]) if str(folder) in str(p.info["cmdline"])]


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command, no input: 2,000 made-up trades are settled and the books agree; no process or folder stays."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = run_cli("demo", "trading", "--trades", "2000", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["trades"], report["booked_now"]) == (2000, 2000)
    assert report["books_equal_recomputation"] is True
    assert all(trial["balanced"] and Decimal(trial["debits"]) > 0 for trial in report["trial_balance"])
    assert sum(Decimal(line["balance"]) for line in report["accounts"]) == 0
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["max"]
    assert _leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_demo_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """A signal as soon as the server is ready: no process and no folder stays."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [*CLI, "demo", "trading", "--trades", "3000", "--speed", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    ) as process:
        assert process.stderr is not None
        while "is ready at" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert _leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_demo_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of the demo alone: its server and both processes end by themselves, say nothing, and the folder goes."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [*CLI, "demo", "trading", "--trades", "3000", "--speed", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as demo:
        assert demo.stderr is not None
        while "replay: " not in demo.stderr.readline():  # both processes are at work
            assert demo.poll() is None
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 3
        demo.kill()
        _, errors = demo.communicate(timeout=30)  # ends when the last of them has closed its standard error
    assert "Traceback" not in errors
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert list(tmp_path.iterdir()) == []


def test_demo_with_a_file(tmp_path: Path) -> None:
    """A file of the user's own; the report for people ends with the check."""
    path = write_market(tmp_path / "mine_ethusdt_trades.csv", trades=200, seed=9)
    done = run_cli("demo", "trading", str(path))
    assert done.returncode == 0, done.stderr
    assert "over md.mine.ETHUSDT" in done.stdout
    assert "200 settled" in done.stdout
    assert done.stdout.endswith("books equal an independent recomputation: yes\n")


def test_recorded_market_through_the_command(tmp_path: Path) -> None:
    """`dompbus replay` of the recorded trades against `dompbus serve`, twice: the second time all of it is there."""
    path = recorded("kraken_xbtusdt_trades.csv")
    with ReplayServer(tmp_path / "server") as server:
        first = run_cli("replay", str(path), "--to", server.url, "--json")
        again = run_cli("replay", str(path), "--to", server.url, "--json")
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    one, two = json.loads(first.stdout), json.loads(again.stdout)
    assert (one["booked_now"], one["booked_before"]) == (1000, 0)
    assert (two["booked_now"], two["booked_before"]) == (0, 1000)
    assert one["accounts"] == two["accounts"]
    assert one["topic"] == "md.kraken.XBTUSDT"
