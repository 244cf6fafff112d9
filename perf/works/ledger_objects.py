"""`ledger.objects`: durable transfers a second with the ordinary client and objects, in batches of 8,189.

What is timed: building the objects, sending, carrying out, journal on the disk, reading every result.
"""

import functools
from collections.abc import Callable
from typing import Any

from perf.booking import book_with_ours, book_with_sqlite, book_with_tigerbeetle
from perf.peers import tigerbeetle_ledger
from perf.statistics import Bar
from perf.work import Figure, Plan, Sample, Side, Work

__all__ = ["WORK"]

BATCH = 8_189
SQLITE = "SQLite"
TIGERBEETLE = "TigerBeetle"


def _play(book: Callable[..., dict[str, Any]], plan: Plan) -> Sample:
    report = book(plan, batch=BATCH, latencies=False)
    return Sample({"transfers": plan.count / report["seconds"] / 1e3})


WORK = Work(
    name="ledger.objects",
    about="durable transfers a second, objects, batches of 8,189",
    figures=(Figure("transfers", "k/s", (Bar(">=", 5.0, SQLITE), Bar(">=", 5.0, TIGERBEETLE))),),
    ours=Side("ours", functools.partial(_play, book_with_ours)),
    beside=(
        Side(SQLITE, functools.partial(_play, book_with_sqlite)),
        Side(TIGERBEETLE, functools.partial(_play, book_with_tigerbeetle), tigerbeetle_ledger.missing),
    ),
    full=Plan(rounds=5, count=25 * BATCH, warm=2 * BATCH),
    quick=Plan(rounds=3, count=4 * BATCH, warm=BATCH, timeout=20),
)
