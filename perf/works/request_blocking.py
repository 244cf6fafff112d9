"""`request.blocking`: one typed request at a time from a blocking caller, answered by another process, TCP loopback.

What stands beside it is a bare DEALER/ROUTER echo that neither encodes nor decodes. Closed loop: with one caller that
waits for its answer no queue can form.
"""

import functools

from perf.histogram import missing
from perf.pairs import latency_of, request_and_reply
from perf.statistics import Bar
from perf.work import Figure, Plan, Sample, Side, Work

__all__ = ["WORK"]

ECHO = "bare DEALER/ROUTER echo"


def _play(module: str, plan: Plan) -> Sample:
    return latency_of(request_and_reply(module, plan), 50, 99)


WORK = Work(
    name="request.blocking",
    about="one blocking request and its answer, round trip",
    figures=(
        Figure("p50", "us", (Bar("<=", 1.35, ECHO),)),
        Figure("p99", "us", (Bar("<=", 1.35, ECHO),)),
    ),
    ours=Side("ours", functools.partial(_play, "ours_request"), missing),
    beside=(Side(ECHO, functools.partial(_play, "zmq_echo"), missing),),
    full=Plan(rounds=15, count=1_500, warm=300),
    quick=Plan(rounds=5, count=500, warm=150, timeout=20),
)
