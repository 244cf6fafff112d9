"""How one round of a ledger work is conducted, for each contestant: its server, its client, its directory on a disk.

The law here: every round starts from empty books on the same disk, removed afterwards.
"""

from typing import Any

from perf.processes import Cast, free_directory
from perf.servers import serve, serve_tigerbeetle
from perf.work import Plan

__all__ = ["book_with_ours", "book_with_sqlite", "book_with_tigerbeetle"]

Report = dict[str, Any]


def book_with_ours(plan: Plan, *, batch: int, latencies: bool) -> Report:
    """Ours: `dompbus serve` and a client process."""
    with free_directory() as directory, Cast(plan.timeout) as cast:
        _, endpoint = serve(cast, directory)
        return _book(cast, "ours_ledger", plan, batch=batch, latencies=latencies, endpoint=endpoint)


def book_with_sqlite(plan: Plan, *, batch: int, latencies: bool) -> Report:
    """SQLite: one process, as it is used."""
    with free_directory() as directory, Cast(plan.timeout) as cast:
        return _book(cast, "sqlite_ledger", plan, batch=batch, latencies=latencies, directory=directory)


def book_with_tigerbeetle(plan: Plan, *, batch: int, latencies: bool) -> Report:
    """TigerBeetle: one replica and a client process."""
    with free_directory() as directory, Cast(plan.timeout) as cast:
        address = serve_tigerbeetle(cast, directory)
        return _book(cast, "tigerbeetle_ledger", plan, batch=batch, latencies=latencies, endpoint=address)


def _book(cast: Cast, module: str, plan: Plan, **options: Any) -> Report:
    client = cast.role(module, "client", count=plan.count, warm=plan.warm, **options)
    client.hear()  # accounts are open, warmed up
    client.say(cue="measure")
    return client.hear()
