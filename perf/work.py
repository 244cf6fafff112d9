"""A work: one thing that is measured, its sides (ours and what stands beside it), its figures and their bars.

The law here: a work is a value. It says what to run and how to judge; `perf.rounds` runs it, `perf.report` prints it.
A new work is one module in `perf/works/` that defines `WORK` and one line in `perf/works/__init__.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from perf.statistics import Bar

__all__ = ["Figure", "Plan", "Sample", "Side", "SideFailed", "Work"]


class SideFailed(Exception):
    """One round of one side gave no valid figures; the text says why (a gap, a crash, a time-out)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much one round does. `count` is in the work's own unit (messages, requests, transfers)."""

    rounds: int
    count: int
    warm: int = 0
    timeout: float = 60.0  # seconds for one round of one side, processes included


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round of one side gave: a value for each figure that the side knows, and encoded HDR histograms."""

    values: Mapping[str, float]
    histograms: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Side:
    """One contestant. `play` runs one round in fresh processes; `missing` says why it cannot run here, or None."""

    name: str
    play: Callable[[Plan], Sample]
    missing: Callable[[], str | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a work reports, in `unit`, and the bars that it must clear (none: shown, not judged)."""

    name: str
    unit: str
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """A named work. Sides run in the order written: ours first, then each of `beside`."""

    name: str
    about: str
    figures: tuple[Figure, ...]
    ours: Side
    beside: tuple[Side, ...]
    full: Plan
    quick: Plan

    def __post_init__(self) -> None:
        """Refuse a bar against a peer that the work does not have: a slip that would otherwise never be judged."""
        names = {side.name for side in self.beside}
        for figure in self.figures:
            for bar in figure.bars:
                if bar.beside is not None and bar.beside not in names:
                    raise ValueError(f"{self.name}: a bar names {bar.beside!r}, which is not one of {sorted(names)}")
