"""Latencies of any number of trades in bounded memory.

The law here: a value is counted in a bucket no wider than 1/64 of it, so a percentile is right within 1.6 %; the
maximum is exact.
"""

from typing import Final

__all__ = ["Latencies"]

_KEPT_BITS: Final = 6


class Latencies:
    """A histogram of nanoseconds with logarithmic buckets, each cut into 64."""

    def __init__(self) -> None:
        self.count = 0
        self.max_ns = 0
        self._buckets: dict[int, int] = {}  # highest value of the bucket -> how many

    def add(self, latency_ns: int, count: int = 1) -> None:
        """Count `count` values of `latency_ns`; below zero (a clock that was set back) counts as zero."""
        value = max(0, latency_ns)
        shift = max(0, value.bit_length() - _KEPT_BITS - 1)
        top = value | ((1 << shift) - 1)
        self._buckets[top] = self._buckets.get(top, 0) + count
        self.count += count
        self.max_ns = max(self.max_ns, value)

    def percentile_ns(self, percent: float) -> int:
        """Give the value that `percent` of all values do not exceed; 0 when there are none."""
        wanted = self.count * percent / 100
        seen = 0
        for top in sorted(self._buckets):
            seen += self._buckets[top]
            if seen >= wanted:
                return min(top, self.max_ns)
        return self.max_ns
