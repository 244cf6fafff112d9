"""What a node counts: plain integers and fixed buckets, cheap enough for a hot path.

The law here: this module knows nothing of Prometheus, locks or clocks. Each field has one writer (the reactor
thread, or for `journal_*` the commit thread); a scrape reads from another thread and may be one count behind,
never wrong in shape. Labels come from our own enumerations and registered services, never from the wire, so the
number of series is bounded. `dompbus/runtime/metrics.py` gives every field its public name.
"""

from bisect import bisect_left
from collections import defaultdict
from typing import Final

__all__ = ["LATENCY_BOUNDS_NS", "Counters", "Histogram"]

# 50 us doubling up to 3.3 s, then 10 s: 18 bounds, so a quantile read from them is right within a factor of two.
LATENCY_BOUNDS_NS: Final[tuple[int, ...]] = (*(50_000 << i for i in range(17)), 10_000_000_000)


class Histogram:
    """Latencies in fixed exponential buckets; one `observe` is a bisection over 18 integers."""

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_NS) + 1)  # one per bound (inclusive), then everything above
        self.sum_ns = 0

    def observe(self, elapsed_ns: int) -> None:
        """Count one latency, in nanoseconds."""
        self.counts[bisect_left(LATENCY_BOUNDS_NS, elapsed_ns)] += 1
        self.sum_ns += elapsed_ns

    @property
    def count(self) -> int:
        """How many latencies were observed."""
        return sum(self.counts)


class Counters:
    """Everything one node counts. Increment the fields directly: `counters.frames_received += 1`.

    Fields that are dictionaries count by label: `frames_refused[reason]`, `messages_dropped[reason]`,
    `repairs[outcome]`, `requests[service, outcome]`, `ledger_accounts[status]`, `ledger_transfers[status]`.
    `peers`, `streams` and `subscriptions` are gauges: set them.
    """

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "frames_received",
        "frames_refused",
        "frames_sent",
        "gaps",
        "journal_bytes",
        "journal_commit_seconds",
        "journal_commits",
        "ledger_accounts",
        "ledger_transfers",
        "messages_delivered",
        "messages_dropped",
        "messages_published",
        "peers",
        "reactor_busy_ns",
        "reactor_turns",
        "repairs",
        "request_seconds",
        "requests",
        "streams",
        "subscriptions",
    )

    def __init__(self) -> None:
        self.frames_received = 0
        self.frames_sent = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.frames_refused: defaultdict[str, int] = defaultdict(int)
        self.messages_published = 0
        self.messages_delivered = 0
        self.messages_dropped: defaultdict[str, int] = defaultdict(int)
        self.gaps = 0
        self.repairs: defaultdict[str, int] = defaultdict(int)
        self.requests: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.request_seconds: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.peers = 0
        self.streams = 0
        self.subscriptions = 0
        self.reactor_busy_ns = 0
        self.reactor_turns = 0
        self.journal_commits = 0
        self.journal_bytes = 0
        self.journal_commit_seconds = Histogram()
        self.ledger_accounts: defaultdict[str, int] = defaultdict(int)
        self.ledger_transfers: defaultdict[str, int] = defaultdict(int)
