"""`dompbus serve` turns flags into a configuration, says when it is ready and ends when told to."""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from dompbus.clients.cli import serve
from dompbus.clients.cli.logs import start_logging
from dompbus.clients.cli.main import main
from dompbus.config import Config, LogSection


class Node:
    """Stands in for a node that is told to stop as soon as it is ready, or that stands still."""

    name, endpoint, http_address = "n", "tcp://127.0.0.1:1", "127.0.0.1:2"

    def __init__(self, healthy: bool) -> None:
        self.healthy = healthy
        self.closed = False

    def __enter__(self) -> "Node":
        if self.healthy:
            os.kill(os.getpid(), signal.SIGTERM)
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


class Composer(ModuleType):
    """Stands in for dompbus.clients.compose."""

    config: Config
    healthy = True

    def build_node(self, config: Config) -> Node:
        self.config, self.node = config, Node(self.healthy)
        return self.node


@pytest.fixture
def composer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Composer]:
    monkeypatch.chdir(tmp_path)
    composer = Composer("dompbus.clients.compose")
    monkeypatch.setitem(sys.modules, "dompbus.clients.compose", composer)
    monkeypatch.setattr(serve, "HEALTH_POLL_SECONDS", 0.01)
    monkeypatch.setattr(serve, "STALL_SECONDS_MAX", 0.05)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    log = logging.getLogger("dompbus")
    kept = log.handlers[:], log.propagate, log.level
    yield composer
    log.handlers[:], log.propagate = kept[0], kept[1]
    log.setLevel(kept[2])
    for number, handler in before.items():
        signal.signal(number, handler)


def test_flags_override(composer: Composer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each flag reaches its knob; serve's own default for HTTP holds otherwise."""
    flags = ["--data", "d", "--listen", "tcp://127.0.0.1:0", "--name", "x"]
    assert main(["serve", *flags]) == 0
    node = composer.config.node
    assert (node.data, node.listen, node.name) == ("d", "tcp://127.0.0.1:0", "x")
    assert composer.config.http.listen == "127.0.0.1:7480"
    assert composer.node.closed
    ready = "dompbus: node n is ready at tcp://127.0.0.1:1, ledger in d, metrics on http://127.0.0.1:2/metrics\n"
    assert capsys.readouterr().out == ready


def test_ready_line_as_json(composer: Composer, capsys: pytest.CaptureFixture[str]) -> None:
    """For a supervisor: one JSON object with what it needs to connect."""
    Path("s.toml").write_text("[ledger]\nenabled = false\n")
    assert main(["serve", "--json", "--config", "s.toml", "--http", "off"]) == 0
    assert composer.config.http.listen == "off"
    facts = {"event": "ready", "name": "n", "listen": Node.endpoint, "http": Node.http_address, "data": None}
    assert json.loads(capsys.readouterr().out) == facts


def test_a_node_that_stands_still_ends_the_command(composer: Composer, capsys: pytest.CaptureFixture[str]) -> None:
    """A main loop that makes no progress is not waited for: exit code 1, for a supervisor to start anew."""
    composer.healthy = False
    assert main(["serve"]) == 1
    assert "made no progress for 0.05 s" in capsys.readouterr().err
    assert composer.node.closed


@pytest.mark.parametrize(
    "argv", [["--listen", "7400"], ["--listen", "tcp://0.0.0.0:1"], ["--http", "x"], ["--data", ""]]
)
def test_wrong_flags(argv: list[str], composer: Composer, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that is not allowed: exit code 2, the flag named, nothing started."""
    assert main(["serve", *argv]) == 2
    assert capsys.readouterr().err.startswith(f"dompbus: {argv[0]}: ")


def test_log_lines(composer: Composer, capsys: pytest.CaptureFixture[str]) -> None:
    """As text or as one JSON object, at or above the level asked for, never on standard output."""
    log = logging.getLogger("dompbus.test")
    start_logging(LogSection(level="warning"))
    log.info("unseen")
    log.warning("seen %d", 1)
    start_logging(LogSection(level="info", json=True))
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("failed")
    out, err = capsys.readouterr()
    assert out == ""
    text, entry = err.splitlines()
    assert text.endswith("Z WARNING dompbus.test: seen 1")
    parsed = json.loads(entry)
    assert parsed.items() >= {"level": "error", "logger": "dompbus.test", "message": "failed"}.items()
    assert "ValueError: two\nlines" in parsed["trace"]
