"""Medians, spreads, ratios and verdicts: the arithmetic that every bar is judged by."""

import pytest

from perf.statistics import Bar, all_hold, ratio_of, spread_of


def test_spread_is_the_median_and_the_extremes_of_the_valid_rounds() -> None:
    """A failed round (None) takes no part; no valid round gives no spread."""
    spread = spread_of([5.0, None, 1.0, 2.0])
    assert spread is not None
    assert (spread.median, spread.low, spread.high, spread.rounds) == (2.0, 1.0, 5.0, 3)
    assert spread_of([None, None]) is None


def test_ratio_is_of_the_medians_and_its_spread_of_single_rounds() -> None:
    """One slow round of both sides moves neither the ratio nor its spread."""
    ratio = ratio_of([10.0, 1.0, 12.0], [5.0, 0.5, 4.0])
    assert ratio is not None
    assert ratio.of_medians == pytest.approx(10.0 / 4.0)
    assert (ratio.low, ratio.high) == (pytest.approx(2.0), pytest.approx(3.0))


def test_ratio_skips_rounds_that_only_one_side_finished() -> None:
    """Pairs with a hole are no pairs; the medians use what is there."""
    ratio = ratio_of([None, 4.0], [1.0, None])
    assert ratio is not None
    assert (ratio.of_medians, ratio.low, ratio.high) == (4.0, 4.0, 4.0)
    assert ratio_of([None], [1.0]) is None
    assert ratio_of([1.0], [None]) is None
    assert ratio_of([1.0], [0.0]) is None


@pytest.mark.parametrize(
    ("bar", "value", "verdict"),
    [
        (Bar(">=", 2.5, "x"), 2.5, True),
        (Bar(">=", 2.5, "x"), 2.49, False),
        (Bar("<=", 1.35, "x"), 1.35, True),
        (Bar("<=", 1.35, "x"), 1.36, False),
        (Bar("<=", 40.0), None, None),
    ],
)
def test_a_bar_includes_its_limit_and_does_not_judge_nothing(
    bar: Bar, value: float | None, verdict: bool | None
) -> None:
    """Both senses, at and beyond the limit."""
    assert bar.holds(value) is verdict


def test_verdicts_add_up_to_the_worst() -> None:
    """A failure outweighs an open bar, which outweighs those that hold; no bar is no verdict."""
    assert all_hold([True, True]) is True
    assert all_hold([True, None]) is None
    assert all_hold([None, False, True]) is False
    assert all_hold([]) is None
