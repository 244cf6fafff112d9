"""`dompbus config` shows what is in force, and its documents say what the code does."""

import json
from pathlib import Path

import pytest

from dompbus.clients.cli.config import SERVE_BASE, as_markdown, as_toml
from dompbus.clients.cli.main import main
from dompbus.config import knobs
from dompbus.config_sources import load

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_docs_are_made_from_the_knobs() -> None:
    """docs/configuration.md is what `dompbus config --markdown` prints."""
    assert (ROOT / "docs" / "configuration.md").read_text() == as_markdown() + "\n"


def test_the_shipped_example_is_accepted() -> None:
    """deploy/dompbus.toml is a file that `dompbus serve` would take."""
    assert load(ROOT / "deploy" / "dompbus.toml", environ={}).sources


def test_defaults_make_a_file_that_changes_nothing() -> None:
    """The commented file sets every knob, to what it would be anyway."""
    Path("dompbus.toml").write_text(as_toml(SERVE_BASE))
    loaded = load(environ={}, base=SERVE_BASE)
    assert loaded.config == SERVE_BASE
    assert set(loaded.sources) == {knob.path for knob in knobs()}


def test_in_force_with_sources(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is TOML, with where its value came from."""
    Path("dompbus.toml").write_text("[node]\nname = 'a'\n")
    monkeypatch.setenv("DOMPBUS_BATCH_LINGER", "0.25")
    assert main(["config"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert 'name = "a" # dompbus.toml:2' in lines
    assert "linger = 0.25 # environment DOMPBUS_BATCH_LINGER" in lines
    assert 'listen = "127.0.0.1:7480" # default' in lines
    assert len(lines) == len(knobs()) + 7 * 2 - 1
    Path("dompbus.toml").write_text("\n".join(lines))
    monkeypatch.delenv("DOMPBUS_BATCH_LINGER")
    assert load(environ={}).config.batch.linger == 0.25


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs."""
    Path("other.toml").write_text("[node]\nname = 'a'\n")
    assert main(["config", "--json", "--config", "other.toml"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == "other.toml"
    assert len(document["knobs"]) == len(knobs())
    assert document["knobs"]["node.name"].items() >= {"value": "a", "source": "other.toml:2", "default": ""}.items()


def test_mistake_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong key: exit code 2, one line with its place."""
    Path("dompbus.toml").write_text("[node]\nlsten = 'x'\n")
    assert main(["config"]) == 2
    assert capsys.readouterr().err == "dompbus: dompbus.toml:2: unknown key 'lsten' in [node]; did you mean 'listen'?\n"
