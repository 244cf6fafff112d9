"""The harness end to end: one quick work in real processes, its JSON, and nothing left behind."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

pytest.importorskip("hdrh", reason="the extra [perf] is not installed")

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"work", "figure", "unit", "ours", "beside", "ratio", "bar", "holds", "rounds", "machine"}
MARK = "PERF_TEST_MARK"
ECHO = "bare DEALER/ROUTER echo"


def heirs(mark: str) -> list[int]:
    """The processes that inherited a mark in their environment."""
    return [p.pid for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get(MARK) == mark]


def test_request_blocking_gives_both_figures_and_leaves_no_process() -> None:
    """Shape of the JSON, both sides measured, no round invalid, progress on stderr only."""
    mark = uuid.uuid4().hex
    env = {**os.environ, MARK: mark}
    command = [sys.executable, "-m", "perf", "request.blocking", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    assert [(entry["work"], entry["figure"]) for entry in entries] == [("request.blocking", f) for f in ("p50", "p99")]
    for entry in entries:
        assert set(entry) >= KEYS
        assert entry["invalid"] == {}
        assert (entry["unit"], entry["bar"]) == ("us", "<= 1.35")
        assert 1 < entry["ours"] < 1e6
        assert 1 < entry["beside"][ECHO] < 1e6
        assert isinstance(entry["holds"], bool)
    assert f"round 1/{entries[0]['rounds']}" in done.stderr
    assert heirs(mark) == []
