"""`bus.throughput`: typed pub/sub of one small struct, one publisher process, one subscriber process, TCP loopback.

What is timed: from the first publish to the last message in the hands of the subscriber's Python code; the struct is
built anew for every message on every side. `publish` is one call a message, `publish_many` one call for 256.
"""

import functools

from perf.pairs import publish_and_subscribe, throughput_of
from perf.statistics import Bar
from perf.work import Figure, Plan, Sample, Side, Work

__all__ = ["WORK"]

ONE_A_FRAME = "pyzmq+msgspec"
MANY_A_FRAME = "pyzmq+msgspec, 256 a frame"
BARE = "bare pyzmq"
BATCH = 256


def _by_hand(mode: str, plan: Plan) -> Sample:
    report = publish_and_subscribe("zmq_pubsub", plan, mode=mode, batch=BATCH)
    rate = throughput_of(report, plan.count)
    return Sample({"publish": rate, "publish_many": rate})


def _ours(plan: Plan) -> Sample:
    single = publish_and_subscribe("ours_pubsub", plan, mode="publish")
    many = publish_and_subscribe("ours_pubsub", plan, mode="publish_many", batch=BATCH)
    return Sample({"publish": throughput_of(single, plan.count), "publish_many": throughput_of(many, plan.count)})


WORK = Work(
    name="bus.throughput",
    about="typed reliable pub/sub, messages a second",
    figures=(
        Figure("publish", "M/s", (Bar(">=", 2.5, ONE_A_FRAME),)),
        Figure("publish_many", "M/s"),
    ),
    ours=Side("ours", _ours),
    beside=(
        Side(ONE_A_FRAME, functools.partial(_by_hand, "structs")),
        Side(MANY_A_FRAME, functools.partial(_by_hand, "batches")),
        Side(BARE, functools.partial(_by_hand, "bytes")),
    ),
    full=Plan(rounds=5, count=300_000, warm=20_000),
    quick=Plan(rounds=3, count=40_000, warm=5_000, timeout=20),
)
