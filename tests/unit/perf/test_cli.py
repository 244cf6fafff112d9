"""The harness's command line: which works a name means, and what its exit code says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import perf.cli
import perf.results
from perf.statistics import Bar
from perf.work import Figure, Plan, Sample, Side, Work
from perf.works import WORKS


def work(name: str, limit: float) -> Work:
    """Ours is twice the peer."""
    plan = Plan(rounds=1, count=1)
    ours, peer = Side("ours", lambda _: Sample({"rate": 2.0})), Side("peer", lambda _: Sample({"rate": 1.0}))
    return Work(name, "", (Figure("rate", "M/s", (Bar(">=", limit, "peer"),)),), ours, (peer,), plan, plan)


@pytest.fixture
def two_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One work whose bar holds and one whose bar does not, results kept apart from the real ones."""
    monkeypatch.setattr(perf.cli, "WORKS", (work("good.one", 2.0), work("bad.one", 2.1)))
    monkeypatch.setattr(perf.cli, "save", lambda entries, name: perf.results.save(entries, name, tmp_path))
    monkeypatch.setattr(perf.cli, "load", lambda name: perf.results.load(name, tmp_path))


def test_names_groups_and_all() -> None:
    """A group is what stands before a dot; no work is chosen twice."""
    assert [w.name for w in perf.cli.select(["ledger", "ledger.single"])] == ["ledger.objects", "ledger.single"]
    assert perf.cli.select(["all"]) == list(WORKS)
    with pytest.raises(LookupError, match="'ledg'"):
        perf.cli.select(["ledg"])


@pytest.mark.usefixtures("two_works")
def test_check_fails_when_a_bar_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with --check only, and the work is named."""
    assert perf.cli.main(["good.one", "--check"]) == 0
    assert perf.cli.main(["bad.one"]) == 0
    assert perf.cli.main(["all", "--check"]) == 1
    assert "does not hold: bad.one rate" in capsys.readouterr().err


@pytest.mark.usefixtures("two_works")
def test_json_is_one_list_and_is_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    """What a run prints as JSON is what the list prints afterwards."""
    assert perf.cli.main(["all", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [(entry["work"], entry["holds"]) for entry in entries] == [("good.one", True), ("bad.one", False)]
    assert perf.cli.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == entries


@pytest.mark.usefixtures("two_works")
def test_tables_name_every_side(capsys: pytest.CaptureFixture[str]) -> None:
    """The list before any run, a run, and the list after it; a mistake exits 2 and says what there is."""
    assert perf.cli.main([]) == 0
    assert "has not run here yet" in capsys.readouterr().out
    assert perf.cli.main(["all"]) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in ("good.one", "peer", "holds", "does not hold", "seen on"))
    assert perf.cli.main(["nonsense"]) == 2
    assert "good.one" in capsys.readouterr().err


def test_real_works_have_ours_figures_and_plans() -> None:
    """Every registered work can be run quickly, and a renamed peer cannot slip past its bar."""
    for each in WORKS:
        assert each.ours.name == "ours"
        assert each.figures
        assert each.quick.rounds <= each.full.rounds
        assert replace(each).name == each.name  # constructing checks the bars
