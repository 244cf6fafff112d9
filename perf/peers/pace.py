"""The open loop: calls at a fixed rate whatever the callee does, each told the moment from which its latency counts.

The law here: no coordinated omission. A call that starts late because an earlier one held the loop up counts from when
it was due; one that starts late only because the timer woke late counts from its start, for a timer is not judged.
"""

import time
from collections.abc import Callable

__all__ = ["open_loop"]


def open_loop(call: Callable[[int], None], *, count: int, rate: float) -> None:
    """Call `call(origin_ns)` `count` times, `rate` times a second; times are CLOCK_MONOTONIC, one for all processes."""
    period_ns = int(1e9 / rate)
    due_ns = time.monotonic_ns()
    for _ in range(count):
        due_ns += period_ns
        behind_ns = time.monotonic_ns() - due_ns
        if behind_ns < 0:
            time.sleep(-behind_ns / 1e9)
            call(time.monotonic_ns())
        else:
            call(due_ns)
