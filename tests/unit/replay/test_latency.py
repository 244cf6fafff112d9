"""Goal: percentiles within 1.6 % and an exact maximum, from any number of values in little memory."""

import random

from dompbus.clients.replay.latency import Latencies


def test_against_sorted_values() -> None:
    """Every percentile is at least the true one and at most 1/64 above it."""
    rng = random.Random(7)
    values = sorted(int(rng.lognormvariate(13, 2)) for _ in range(20_000))
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    for percent in (1, 50, 90, 99, 99.9, 100):
        exact = values[max(0, round(len(values) * percent / 100) - 1)]
        assert exact <= latencies.percentile_ns(percent) <= exact * (1 + 1 / 64) + 1
    assert latencies.max_ns == values[-1]


def test_edges() -> None:
    """Nothing is zero; a clock that was set back counts as zero."""
    latencies = Latencies()
    assert latencies.percentile_ns(50) == 0
    latencies.add(-5, count=3)
    assert (latencies.percentile_ns(99), latencies.max_ns, latencies.count) == (0, 0, 3)
