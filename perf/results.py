"""What a run comes to, as plain data: one entry for each figure of a work, kept in `perf/results/` for the next look.

The law here: an entry is JSON with documented keys (docs/perf.md), the same on stdout, on disk and in the table.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from perf.processes import ROOT
from perf.rounds import Course, Run
from perf.statistics import Bar, all_hold, ratio_of, spread_of
from perf.work import Figure

__all__ = ["DIRECTORY", "Entry", "entries_of", "load", "save"]

Entry = dict[str, Any]
DIRECTORY: Final = ROOT / "perf" / "results"
DIGITS: Final = 4


def entries_of(run: Run, machine: str, seen: str, *, quick: bool) -> list[Entry]:
    """Judge every figure of a run. `seen` is the time of the run, ISO 8601."""
    return [{**_entry(run, figure), "machine": machine, "seen": seen, "quick": quick} for figure in run.work.figures]


def save(entries: list[Entry], work: str, directory: Path = DIRECTORY) -> Path:
    """Keep the entries of one work, replacing its last ones at once or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{work}.json"
    with tempfile.NamedTemporaryFile("w", dir=directory, suffix=".tmp", delete=False) as file:
        json.dump(entries, file, indent=2)
    os.replace(file.name, path)
    return path


def load(work: str, directory: Path = DIRECTORY) -> list[Entry]:
    """The entries of a work's last run; none when it has not run here, or when the file is not one of ours."""
    try:
        entries = json.loads((directory / f"{work}.json").read_text())
    except (OSError, ValueError):
        return []
    return entries if isinstance(entries, list) else []


def _entry(run: Run, figure: Figure) -> Entry:
    ours = run.ours.values(figure.name)
    beside = [course for course in run.beside if course.knows(figure.name)]
    ratios = {course.name: ratio_of(ours, course.values(figure.name)) for course in beside}
    bars = [_judge(bar, run, figure) for bar in figure.bars]
    spreads = {course.name: _spread(course, figure.name) for course in [run.ours, *beside]}
    return {
        "work": run.work.name,
        "figure": figure.name,
        "unit": figure.unit,
        "ours": _median(run.ours, figure.name),
        "beside": {course.name: _median(course, figure.name) for course in beside},
        "ratio": {name: None if ratio is None else _round(ratio.of_medians) for name, ratio in ratios.items()},
        "bar": ", ".join(dict.fromkeys(bar["bar"] for bar in bars)) or None,
        "holds": all_hold(bar["holds"] for bar in bars),
        "rounds": run.plan.rounds,
        "bars": bars,
        "spread": spreads,
        "ratio_spread": {name: ratio and [_round(ratio.low), _round(ratio.high)] for name, ratio in ratios.items()},
        "not_here": {course.name: course.missing for course in beside if course.missing},
        "invalid": {course.name: course.failures for course in [run.ours, *run.beside] if course.failures},
    }


def _judge(bar: Bar, run: Run, figure: Figure) -> dict[str, Any]:
    """A peer without one valid round leaves its bar open; ours without one clears no bar that could be judged."""
    ours = run.ours.values(figure.name)
    spread = spread_of(ours)
    holds: bool | None
    if bar.beside is None:
        value = None if spread is None else spread.median
        holds = bar.holds(value) or False
    else:
        theirs = next(course for course in run.beside if course.name == bar.beside).values(figure.name)
        ratio = ratio_of(ours, theirs)
        value = None if ratio is None else ratio.of_medians
        holds = False if spread is None and spread_of(theirs) else bar.holds(value)
    return {"beside": bar.beside, "bar": bar.text, "value": None if value is None else _round(value), "holds": holds}


def _median(course: Course, figure: str) -> float | None:
    spread = spread_of(course.values(figure))
    return None if spread is None else _round(spread.median)


def _spread(course: Course, figure: str) -> list[float] | None:
    spread = spread_of(course.values(figure))
    return None if spread is None else [_round(spread.low), _round(spread.high)]


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
