"""Results for people: a table on stdout, progress on stderr.

The law here: every absolute figure stands beside the machine that it was seen on, and every side that is not here or
failed is named below the table with its reason.
"""

import sys
from collections.abc import Iterable
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from perf.results import Entry
from perf.work import Work

__all__ = ["print_list", "print_results", "progress", "unjudged"]

HEADINGS: Final = ("", "median", "rounds", "ours / theirs", "rounds", "bar", "")
WIDTH_ELSEWHERE: Final = 130  # columns where stdout is no terminal
VERDICT: Final = {True: "[green]holds[/]", False: "[red]does not hold[/]", None: "[yellow]not judged[/]"}


def progress(text: str) -> None:
    """Say on stderr what is going on."""
    Console(stderr=True, highlight=False).print(escape(text), soft_wrap=True)


def print_results(entries: list[Entry]) -> None:
    """Print one table of all entries and what is to be known about them."""
    console = _console()
    console.print(_table(entries))
    for line in dict.fromkeys(_remarks(entries)):
        console.print(escape(line), soft_wrap=True)
    for machine in dict.fromkeys(str(entry["machine"]) for entry in entries):
        console.print(f"seen on {escape(machine)}", soft_wrap=True)


def print_list(works: Iterable[tuple[Work, list[Entry]]]) -> None:
    """Print every work, what it measures, and what its last run gave."""
    console = _console()
    seen: list[Entry] = []
    for work, entries in works:
        fate = f"last run {entries[0]['seen']}" if entries else "has not run here yet"
        console.print(f"[bold]{escape(work.name)}[/]  {escape(work.about)}  [dim]({escape(fate)})[/]", soft_wrap=True)
        seen += entries
    if seen:
        print_results(seen)
    console.print("run with: python -m perf NAME ... | all  [--quick] [--check] [--json] [--plot]", soft_wrap=True)


def unjudged(entries: list[Entry]) -> list[str]:
    """Name every bar that nothing could be said about."""
    return [f"{_name(entry)}: {_bar_text(bar)}" for entry in entries for bar in entry["bars"] if bar["holds"] is None]


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE)


def _table(entries: list[Entry]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True)
    for entry in entries:
        title = f"[bold]{escape(_name(entry))}[/], {escape(entry['unit'])}"
        ours = f"[bold]{_number(entry['ours'])}[/]"
        table.add_row(title, ours, _range(entry["spread"]["ours"]), "", "", *_bar_cells(entry, None))
        for peer in entry["beside"]:
            table.add_row(f"  {escape(peer)}", *_peer_cells(entry, peer))
    return table


def _peer_cells(entry: Entry, peer: str) -> list[str]:
    verdict = _bar_cells(entry, peer)
    value = entry["beside"][peer]
    if value is None:
        return ["not here" if peer in entry["not_here"] else "-", "", "", "", *verdict]
    ratio = [_number(entry["ratio"][peer]), _range(entry["ratio_spread"][peer])]
    return [_number(value), _range(entry["spread"][peer]), *ratio, *verdict]


def _bar_cells(entry: Entry, peer: str | None) -> tuple[str, str]:
    bar = _bar_for(entry, peer)
    return (bar["bar"], VERDICT[bar["holds"]]) if bar else ("", "")


def _bar_for(entry: Entry, peer: str | None) -> dict[str, Any] | None:
    return next((bar for bar in entry["bars"] if bar["beside"] == peer), None)


def _remarks(entries: list[Entry]) -> Iterable[str]:
    for entry in entries:
        for peer, reason in entry["not_here"].items():
            yield f"{entry['work']}: {peer} is not here: {reason}"
        for side, failures in entry["invalid"].items():
            for failure in failures:
                yield f"{entry['work']}: {side}, {failure}"


def _bar_text(bar: dict[str, Any]) -> str:
    return f"{bar['bar']} x {bar['beside']}" if bar["beside"] else str(bar["bar"])


def _name(entry: Entry) -> str:
    return f"{entry['work']} {entry['figure']}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _range(bounds: list[float] | None) -> str:
    return f"{_number(bounds[0])} .. {_number(bounds[1])}" if bounds else ""
