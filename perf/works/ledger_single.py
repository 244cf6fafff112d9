"""`ledger.single`: one durable transfer a call, from a blocking caller that waits for each.

Beside the peers stands the floor that no durable service can go below: a bare echo that writes and syncs on the way.
Closed loop: with one caller that waits for its answer no queue can form.
"""

import functools
from collections.abc import Callable
from typing import Any

from perf.booking import book_with_ours, book_with_sqlite, book_with_tigerbeetle
from perf.histogram import missing
from perf.pairs import latency_of, request_and_reply
from perf.peers import tigerbeetle_ledger
from perf.processes import free_directory
from perf.statistics import Bar
from perf.work import Figure, Plan, Sample, Side, Work

__all__ = ["WORK"]

TIGERBEETLE = "TigerBeetle"


def _play(book: Callable[..., dict[str, Any]], plan: Plan) -> Sample:
    return latency_of(book(plan, batch=1, latencies=True), 50, 99)


def _echo(plan: Plan) -> Sample:
    with free_directory() as directory:
        return latency_of(request_and_reply("zmq_echo", plan, directory=directory), 50, 99)


def _tigerbeetle_missing() -> str | None:
    return tigerbeetle_ledger.missing() or missing()


WORK = Work(
    name="ledger.single",
    about="one durable transfer a call, round trip",
    figures=(
        Figure("p50", "us", (Bar("<=", 1.0, TIGERBEETLE),)),
        Figure("p99", "us", (Bar("<=", 0.25, TIGERBEETLE),)),
    ),
    ours=Side("ours", functools.partial(_play, book_with_ours), missing),
    beside=(
        Side("echo+fdatasync", _echo, missing),
        Side("SQLite", functools.partial(_play, book_with_sqlite), missing),
        Side(TIGERBEETLE, functools.partial(_play, book_with_tigerbeetle), _tigerbeetle_missing),
    ),
    full=Plan(rounds=9, count=500, warm=50),
    quick=Plan(rounds=3, count=150, warm=20, timeout=20),
)
