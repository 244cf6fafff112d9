"""The public names of what a node counts, and their exposition for Prometheus.

The law here: `METRICS` is the one table that the exposition and docs/metrics.md are made from, and a name, once
published, keeps its meaning. Reading costs the hot paths nothing: values are taken from `Counters` at scrape time,
through a registry of the node's own, so that several nodes can live in one process. prometheus_client is imported
at the first scrape.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from dompbus.counters import LATENCY_BOUNDS_NS, Counters, Histogram

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

__all__ = ["METRICS", "Metric", "NodeMetrics", "document"]

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One metric family: its public name and how to read it from `Counters`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    read: Callable[[Counters], Any]  # a number or Histogram; with labels, a mapping from label value(s) to one


METRICS: Final[tuple[Metric, ...]] = (
    Metric("dompbus_frames_received_total", "counter", "Frames taken from sockets.", (), lambda c: c.frames_received),
    Metric("dompbus_frames_sent_total", "counter", "Frames handed to sockets.", (), lambda c: c.frames_sent),
    Metric("dompbus_received_bytes_total", "counter", "Bytes of frames received.", (), lambda c: c.bytes_received),
    Metric("dompbus_sent_bytes_total", "counter", "Bytes of frames sent.", (), lambda c: c.bytes_sent),
    Metric(
        "dompbus_frames_refused_total",
        "counter",
        "Frames refused because they break the protocol, by reason.",
        ("reason",),
        lambda c: c.frames_refused,
    ),
    Metric(
        "dompbus_messages_published_total",
        "counter",
        "Messages accepted for publishing.",
        (),
        lambda c: c.messages_published,
    ),
    Metric(
        "dompbus_messages_delivered_total",
        "counter",
        "Messages handed to subscriptions of this node.",
        (),
        lambda c: c.messages_delivered,
    ),
    Metric(
        "dompbus_messages_dropped_total",
        "counter",
        "Messages not delivered, by reason.",
        ("reason",),
        lambda c: c.messages_dropped,
    ),
    Metric("dompbus_gaps_total", "counter", "Gaps reported to subscriptions of this node.", (), lambda c: c.gaps),
    Metric(
        "dompbus_repairs_total",
        "counter",
        "Asked-for repairs of gaps, by outcome.",
        ("outcome",),
        lambda c: c.repairs,
    ),
    Metric(
        "dompbus_requests_total",
        "counter",
        "Requests to services of this node, by service and outcome.",
        ("service", "outcome"),
        lambda c: c.requests,
    ),
    Metric(
        "dompbus_request_seconds",
        "histogram",
        "From a request's arrival to its reply, by service.",
        ("service",),
        lambda c: c.request_seconds,
    ),
    Metric("dompbus_peers", "gauge", "Clients and nodes known to be connected.", (), lambda c: c.peers),
    Metric("dompbus_streams", "gauge", "Streams that this node publishes.", (), lambda c: c.streams),
    Metric("dompbus_subscriptions", "gauge", "Subscriptions that this node serves.", (), lambda c: c.subscriptions),
    Metric(
        "dompbus_reactor_busy_seconds_total",
        "counter",
        "Time the reactor spent working; its rate is the load of the node's one thread.",
        (),
        lambda c: c.reactor_busy_ns / 1e9,
    ),
    Metric(
        "dompbus_reactor_turns_total",
        "counter",
        "Turns of the reactor; frames per turn is the size of the batches that form.",
        (),
        lambda c: c.reactor_turns,
    ),
    Metric(
        "dompbus_journal_commits_total",
        "counter",
        "Group commits that reached the disk.",
        (),
        lambda c: c.journal_commits,
    ),
    Metric(
        "dompbus_journal_commit_seconds",
        "histogram",
        "Duration of one group commit, fdatasync included.",
        (),
        lambda c: c.journal_commit_seconds,
    ),
    Metric("dompbus_journal_bytes_total", "counter", "Bytes written to the journal.", (), lambda c: c.journal_bytes),
    Metric(
        "dompbus_ledger_accounts_total",
        "counter",
        "Accounts asked to be created, by status.",
        ("status",),
        lambda c: c.ledger_accounts,
    ),
    Metric(
        "dompbus_ledger_transfers_total",
        "counter",
        "Transfers asked to be created, by status.",
        ("status",),
        lambda c: c.ledger_transfers,
    ),
)


class NodeMetrics:
    """The metrics of one node, ready to be scraped."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._registry: CollectorRegistry | None = None

    def render(self) -> bytes:
        """The exposition in Prometheus' text format 0.0.4. Safe to call from any thread."""
        from prometheus_client.exposition import generate_latest

        if self._registry is None:
            self._registry = self._new_registry()
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Any]:
        """The families with their values of this moment, as prometheus_client's registry asks for them."""
        for metric in METRICS:
            yield _family(metric, metric.read(self._counters))

    def _new_registry(self) -> "CollectorRegistry":
        from prometheus_client.gc_collector import GCCollector
        from prometheus_client.process_collector import ProcessCollector
        from prometheus_client.registry import CollectorRegistry

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        return registry


def _family(metric: Metric, value: Any) -> Any:
    from prometheus_client import metrics_core

    families: Mapping[str, Any] = {
        "counter": metrics_core.CounterMetricFamily,
        "gauge": metrics_core.GaugeMetricFamily,
        "histogram": metrics_core.HistogramMetricFamily,
    }
    family = families[metric.kind](metric.name, metric.help, labels=metric.labels)
    for labels, number in _samples(metric, value):
        if isinstance(number, Histogram):
            family.add_metric(labels, *_buckets(number))
        else:
            family.add_metric(labels, number)
    return family


def _samples(metric: Metric, value: Any) -> Iterable[tuple[tuple[str, ...], Any]]:
    if not metric.labels:
        return [((), value)]
    # The copy is one C call: the writer's thread cannot add a key while it is made.
    return [(key if isinstance(key, tuple) else (key,), number) for key, number in sorted(value.copy().items())]


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets by upper bound in seconds, and the sum."""
    counts = list(histogram.counts)
    bounds = [*(repr(bound / 1e9) for bound in LATENCY_BOUNDS_NS), "+Inf"]
    return list(zip(bounds, accumulate(counts), strict=True)), histogram.sum_ns / 1e9


def document() -> str:
    """The text of docs/metrics.md."""
    bounds = ", ".join(f"{bound / 1e9:g}" for bound in LATENCY_BOUNDS_NS)
    rows = (
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels) or '-'} | {m.help} |"
        for m in METRICS
    )
    return "\n".join((_PREAMBLE.format(bounds=bounds), *rows, ""))


_PREAMBLE: Final = """\
# Metrics

<!-- Made from dompbus/runtime/metrics.py; after a change there: python -m dompbus.runtime.metrics > docs/metrics.md -->

`dompbus serve` answers on one HTTP port (`http.listen`, 127.0.0.1:7480 by default; off in a node embedded in your own
program unless you set it):

| path | answer |
| --- | --- |
| `/metrics` | the table below in Prometheus' text format, with the usual `process_*` and `python_gc_*` |
| `/healthz` | 200 while the node's main loop makes progress, else 503: restart the process |
| `/readyz` | 200 while the node can serve, else 503: send it no traffic, but leave it running |

The two health answers carry a JSON object that says why.

Names keep their meaning between versions. Histograms have the buckets (seconds) {bounds}.

| name | kind | labels | meaning |
| --- | --- | --- | --- |"""


if __name__ == "__main__":
    print(document(), end="")
