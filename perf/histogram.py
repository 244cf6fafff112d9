"""Latencies as HDR histograms: from a list of nanoseconds to text that crosses a pipe, and back.

The law here: values are nanoseconds, kept to three significant digits between 100 ns and a minute; anything longer
is recorded as a minute, never dropped.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from perf.work import SideFailed

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

__all__ = ["HIGHEST_NS", "LOWEST_NS", "encode", "merge", "missing", "percentile_us"]

LOWEST_NS: Final = 100
HIGHEST_NS: Final = 60 * 10**9
DIGITS: Final = 3


def missing() -> str | None:
    """Say how to get the histogram package when it is not installed, else None."""
    try:
        import hdrh.histogram  # noqa: F401  -- only whether it is there
    except ImportError:
        return "the package hdrhistogram is not installed: pip install 'dompbus[perf]'"
    return None


def encode(latencies_ns: Iterable[int]) -> str:
    """Record every latency and give the histogram's compressed text (HdrHistogram's own V2 format)."""
    histogram = _new()
    for latency_ns in latencies_ns:
        histogram.record_value(min(max(latency_ns, LOWEST_NS), HIGHEST_NS))
    return str(histogram.encode().decode("ascii"))


def merge(texts: Iterable[str]) -> "HdrHistogram":
    """Add up the histograms of several rounds."""
    total = _new()
    for text in texts:
        total.decode_and_add(text.encode("ascii"))
    return total


def percentile_us(text: str, percentile: float) -> float:
    """Give one percentile (0..100) of an encoded histogram in microseconds."""
    return float(merge([text]).get_value_at_percentile(percentile)) / 1e3


def _new() -> "HdrHistogram":
    reason = missing()
    if reason is not None:
        raise SideFailed(reason)
    from hdrh.histogram import HdrHistogram

    return HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
