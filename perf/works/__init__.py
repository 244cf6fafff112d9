"""Every work that there is, in the order in which they are listed and run."""

from perf.work import Work
from perf.works import (
    bus_throughput,
    ledger_objects,
    ledger_single,
    node_footprint,
    publish_latency,
    request_blocking,
)

__all__ = ["WORKS"]

WORKS: tuple[Work, ...] = (
    bus_throughput.WORK,
    request_blocking.WORK,
    publish_latency.WORK,
    ledger_objects.WORK,
    ledger_single.WORK,
    node_footprint.WORK,
)
