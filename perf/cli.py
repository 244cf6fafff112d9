"""The command line of the harness: which works, how thorough, and what the caller gets to see.

The law here: results go to stdout, progress to stderr; exit 1 means that a bar does not hold (`--check`), exit 2 that
the command line was wrong, and a bar that could not be judged is said, not counted as held.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Sequence

from perf.machine import machine, other_load
from perf.plot import MissingPlotter, plot
from perf.report import print_list, print_results, progress, unjudged
from perf.results import Entry, entries_of, load, save
from perf.rounds import run
from perf.work import Work
from perf.works import WORKS

__all__ = ["main", "select"]

ALL = "all"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the works named on the command line, or list all of them; give the exit code."""
    options = _parser().parse_args(arguments)
    if not options.works:
        return _list(as_json=options.json)
    try:
        works = select(options.works)
    except LookupError as error:
        progress(f"perf: {error.args[0]}")
        return 2
    warning = other_load()
    if warning:
        progress(f"perf: {warning}")
    try:
        entries = [entry for work in works for entry in _measure(work, quick=options.quick, plots=options.plot)]
    except KeyboardInterrupt:
        progress("perf: interrupted; the works that had finished are kept in perf/results/")
        return 130
    if options.json:
        json.dump(entries, sys.stdout, indent=2)
        print()
    else:
        print_results(entries)
    return _check(entries) if options.check else 0


def select(names: Sequence[str]) -> list[Work]:
    """Find the works that the names mean: a whole name, a group (`ledger`), or `all`. Raises LookupError."""
    chosen: list[Work] = []
    for name in names:
        found = [work for work in WORKS if name in (ALL, work.name) or work.name.startswith(f"{name}.")]
        if not found:
            known = ", ".join(work.name for work in WORKS)
            raise LookupError(f"no work is called {name!r}; there are: {known}, a group of them ('ledger'), or 'all'")
        chosen += [work for work in found if work not in chosen]
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m perf", description="dompbus side by side with what a user would pick instead, on this machine."
    )
    parser.add_argument(
        "works", nargs="*", metavar="WORK", help="a work, a group such as 'ledger', or 'all'; none: list"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar does not hold")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds (under 15 s a work; noisier)")
    parser.add_argument("--plot", action="store_true", help="write percentile plots to perf/results/*.svg")
    return parser


def _list(*, as_json: bool) -> int:
    last = [(work, load(work.name)) for work in WORKS]
    if as_json:
        json.dump([entry for _, entries in last for entry in entries], sys.stdout, indent=2)
        print()
    else:
        print_list(last)
    return 0


def _measure(work: Work, *, quick: bool, plots: bool) -> list[Entry]:
    result = run(work, work.quick if quick else work.full, progress)
    seen = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entries = entries_of(result, machine(), seen, quick=quick)
    save(entries, work.name)
    if plots:
        try:
            for path in plot(result):
                progress(f"{work.name}: wrote {path}")
        except MissingPlotter as error:
            progress(f"{work.name}: no plot: {error}")
    return entries


def _check(entries: list[Entry]) -> int:
    for text in unjudged(entries):
        progress(f"not judged: {text}")
    failed = [f"{entry['work']} {entry['figure']}" for entry in entries if entry["holds"] is False]
    for name in failed:
        progress(f"does not hold: {name}")
    return 1 if failed else 0
