"""The open loop: origins follow the schedule, not the callee."""

import itertools
import time

from perf.peers.pace import open_loop


def test_calls_that_an_earlier_call_delayed_count_from_when_they_were_due() -> None:
    """A callee that blocks for ten periods shows as latency of those that waited, a period apart."""
    origins: list[int] = []

    def call(origin_ns: int) -> None:
        origins.append(origin_ns)
        if len(origins) == 1:
            blocked_until_ns = time.monotonic_ns() + 10_000_000
            while time.monotonic_ns() < blocked_until_ns:
                pass

    open_loop(call, count=6, rate=1_000)
    assert [later - earlier for earlier, later in itertools.pairwise(origins[1:])] == [1_000_000] * 4
