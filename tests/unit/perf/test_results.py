"""From rounds to entries: what is judged, what stays open, what is said about sides that are not here or failed."""

from pathlib import Path

import pytest

from perf.report import unjudged
from perf.results import Entry, entries_of, load, save
from perf.rounds import run
from perf.statistics import Bar
from perf.work import Figure, Plan, Sample, Side, SideFailed, Work

PLAN = Plan(rounds=3, count=1)


def side(name: str, *outcomes: float | None, missing: str | None = None) -> Side:
    """A side that gives these values in turn; None is a failed round."""
    remaining = list(outcomes)

    def play(_: Plan) -> Sample:
        value = remaining.pop(0)
        if value is None:
            raise SideFailed("a gap\n  traceback\nGapError: 7..9")
        return Sample({"rate": value})

    return Side(name, play, lambda: missing)


def entry_of(ours: Side, *beside: Side, bars: tuple[Bar, ...]) -> Entry:
    """Run a work of one figure."""
    work = Work("a.work", "", (Figure("rate", "M/s", bars),), ours, beside, PLAN, PLAN)
    (entry,) = entries_of(run(work, PLAN, lambda _: None), "a machine", "now", quick=False)
    return entry


def test_a_bar_is_judged_by_the_ratio_of_the_medians() -> None:
    """Documented keys, medians of both sides, ratio and verdict."""
    entry = entry_of(side("ours", 5, 6, 7), side("peer", 2, 2, 3), bars=(Bar(">=", 2.5, "peer"),))
    expected = {
        "work": "a.work",
        "figure": "rate",
        "unit": "M/s",
        "ours": 6,
        "beside": {"peer": 2},
        "ratio": {"peer": 3},
    }
    assert expected.items() <= entry.items()
    assert (entry["bar"], entry["holds"], entry["rounds"], entry["machine"]) == (">= 2.5", True, 3, "a machine")
    assert entry["spread"] == {"ours": [5, 7], "peer": [2, 3]}


def test_sides_run_in_turn() -> None:
    """A B A B, not A A B B."""
    order: list[str] = []

    def player(name: str) -> Side:
        return Side(name, lambda _: order.append(name) or Sample({"rate": 1.0}))

    entry_of(player("ours"), player("peer"), bars=())
    assert order == ["ours", "peer"] * 3


def test_a_peer_that_is_not_here_is_named_and_leaves_its_bar_open() -> None:
    """Neither skipped nor counted as held, and it is said which bar that was; a bar that fails still decides."""
    absent = side("absent", missing="not installed")
    bars = (Bar(">=", 2.0, "peer"), Bar(">=", 5.0, "absent"))
    entry = entry_of(side("ours", 5, 5, 5), side("peer", 1, 1, 1), absent, bars=bars)
    assert entry["not_here"] == {"absent": "not installed"}
    assert entry["beside"] == {"peer": 1, "absent": None}
    assert entry["holds"] is None
    assert [bar["holds"] for bar in entry["bars"]] == [True, None]
    assert unjudged([entry]) == ["a.work rate: >= 5.0 x absent"]
    failing = entry_of(side("ours", 1, 1, 1), side("peer", 1, 1, 1), absent, bars=bars)
    assert failing["holds"] is False


def test_a_failed_round_is_reported_and_takes_no_part() -> None:
    """The first and the last line of what went wrong are kept."""
    entry = entry_of(side("ours", 6, None, 6), side("peer", 2, 2, 2), bars=(Bar(">=", 2.5, "peer"),))
    assert (entry["ours"], entry["holds"]) == (6, True)
    assert entry["invalid"] == {"ours": ["round 2: a gap; GapError: 7..9"]}


@pytest.mark.parametrize("bar", [Bar(">=", 2.5, "peer"), Bar("<=", 9.0)])
def test_ours_without_a_valid_round_clears_no_bar(bar: Bar) -> None:
    """A crash of ours must not pass as "not judged"."""
    entry = entry_of(side("ours", None, None, None), side("peer", 2, 2, 2), bars=(bar,))
    assert entry["holds"] is False


def test_a_side_that_does_not_know_a_figure_is_not_in_it() -> None:
    """Such as a bare interpreter, which has no import time of the package."""
    other = Side("other", lambda _: Sample({"another": 1.0}))
    assert entry_of(side("ours", 1, 1, 1), other, bars=())["beside"] == {}


def test_a_bar_against_nobody_is_refused() -> None:
    """A slip in a name would otherwise never be judged."""
    with pytest.raises(ValueError, match="'peeer'"):
        entry_of(side("ours"), side("peer"), bars=(Bar(">=", 1.0, "peeer"),))


def test_entries_survive_the_disk(tmp_path: Path) -> None:
    """What is saved is loaded; what is missing or no list of ours is nothing."""
    entries = [entry_of(side("ours", 1, 1, 1), bars=())]
    save(entries, "a.work", tmp_path)
    assert load("a.work", tmp_path) == entries
    assert load("another", tmp_path) == []
    (tmp_path / "broken.json").write_text("{")
    assert load("broken", tmp_path) == []
