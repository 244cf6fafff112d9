"""`publish.latency`: one message at a time, from publish to the handler in another process, TCP loopback.

Open loop at a fixed, modest rate (see `perf.peers.pace`), so nothing is batched and nothing is omitted.
"""

import functools

from perf.histogram import missing
from perf.pairs import latency_of, publish_and_subscribe
from perf.statistics import Bar
from perf.work import Figure, Plan, Sample, Side, Work

__all__ = ["WORK"]

BARE = "bare PUB/SUB"
RATE = 500  # messages a second


def _play(module: str, plan: Plan) -> Sample:
    return latency_of(publish_and_subscribe(module, plan, mode="paced", rate=RATE), 50, 99)


WORK = Work(
    name="publish.latency",
    about=f"one message at a time, {RATE} a second, publish to handler",
    figures=(
        Figure("p50", "us", (Bar("<=", 1.35, BARE),)),
        Figure("p99", "us"),
    ),
    ours=Side("ours", functools.partial(_play, "ours_pubsub"), missing),
    beside=(Side(BARE, functools.partial(_play, "zmq_pubsub"), missing),),
    full=Plan(rounds=9, count=1_000, warm=200),
    quick=Plan(rounds=3, count=400, warm=100, timeout=20),
)
