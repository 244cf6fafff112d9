"""What many rounds come to: median, spread, ratio, and whether a bar holds. Pure functions, no clock, no process.

The law here: a ratio is the ratio of the medians; the spread beside it is that of the ratios taken round by round,
because both sides of one round met the same weather. A bar that could not be judged is `None`, never `True`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

__all__ = ["Bar", "Ratio", "Spread", "all_hold", "ratio_of", "spread_of"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What our figure must be: `limit` times the figure of `beside`, or `limit` itself where `beside` is None."""

    sense: Literal["<=", ">="]
    limit: float
    beside: str | None = None

    def holds(self, value: float | None) -> bool | None:
        """Judge a ratio (or, without `beside`, a figure). None: there is nothing to judge."""
        if value is None:
            return None
        return value >= self.limit if self.sense == ">=" else value <= self.limit

    @property
    def text(self) -> str:
        """The short form that stands in tables and JSON, such as `>= 2.5`."""
        return f"{self.sense} {self.limit}"


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds and how far they lay apart, in the figure's own unit."""

    median: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours divided by theirs: of the medians, and the lowest and highest of the single rounds."""

    of_medians: float
    low: float
    high: float


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """Sum up the rounds that gave a value; None when none did."""
    valid = [value for value in values if value is not None]
    if not valid:
        return None
    return Spread(median(valid), min(valid), max(valid), len(valid))


def ratio_of(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Ratio | None:
    """Compare two sides that ran in turn; item i of both is round i. None when one side has no valid value."""
    our_spread, their_spread = spread_of(ours), spread_of(theirs)
    if our_spread is None or their_spread is None or their_spread.median <= 0:
        return None
    of_medians = our_spread.median / their_spread.median
    by_round = [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None and b > 0]
    return Ratio(of_medians, min(by_round, default=of_medians), max(by_round, default=of_medians))


def all_hold(verdicts: Iterable[bool | None]) -> bool | None:
    """One verdict from many: a bar that fails decides, then one that could not be judged; None when there is no bar."""
    seen = list(verdicts)
    if False in seen:
        return False
    return None if not seen or None in seen else True
