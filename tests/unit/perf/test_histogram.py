"""Latencies keep their percentiles on the way through a histogram's text."""

import pytest

pytest.importorskip("hdrh", reason="the extra [perf] is not installed")

from perf.histogram import HIGHEST_NS, encode, merge, percentile_us


def test_percentiles_are_kept_to_three_digits() -> None:
    """1 .. 1000 us evenly: p50 is 500 us, p99 990 us."""
    text = encode(range(1_000, 1_001_000, 1_000))
    assert percentile_us(text, 50) == pytest.approx(500, rel=0.002)
    assert percentile_us(text, 99) == pytest.approx(990, rel=0.002)


def test_what_is_out_of_range_is_counted_at_the_edge() -> None:
    """Nothing is dropped: the tail is what a latency histogram is for."""
    merged = merge([encode([0]), encode([10 * HIGHEST_NS])])
    assert merged.get_total_count() == 2
    assert merged.get_value_at_percentile(100) == pytest.approx(HIGHEST_NS, rel=0.002)
