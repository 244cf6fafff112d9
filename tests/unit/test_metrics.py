"""What is counted is exposed under its documented name, exactly."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dompbus.counters import LATENCY_BOUNDS_NS, Counters, Histogram
from dompbus.runtime.metrics import METRICS, NodeMetrics, document

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def exposed(counters: Counters) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(NodeMetrics(counters).render().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_docs_name_what_is_exposed() -> None:
    """docs/metrics.md is the table; python -m dompbus.runtime.metrics > docs/metrics.md makes it anew."""
    assert DOCS.read_text() == document()
    rendered = NodeMetrics(Counters()).render().decode()
    for metric in METRICS:
        family = metric.name.removesuffix("_total")
        assert f"# TYPE {metric.name} {metric.kind}\n" in rendered or f"# TYPE {family} {metric.kind}\n" in rendered
        assert f"| `{metric.name}` | {metric.kind} |" in document()
    ours = {line.split()[2] for line in rendered.splitlines() if line.startswith("# TYPE dompbus_")}
    assert len(ours) == len(METRICS)


def touch(counters: Counters, field: str) -> None:
    """Change one field, whatever its shape."""
    value = getattr(counters, field)
    if isinstance(value, Histogram):
        value.observe(1)
    elif isinstance(value, int):
        setattr(counters, field, 7_000_000_000)
    elif field == "request_seconds":
        value["x"].observe(1)
    else:
        value[("x", "y") if field == "requests" else "x"] += 3


def test_every_field_of_counters_is_exposed_once() -> None:
    """Each field appears under a name of its own, so nothing is counted that nobody can read."""
    untouched = {name: value for name, value in exposed(Counters()).items() if name[0].startswith("dompbus_")}
    seen: set[str] = set()
    for field in Counters.__slots__:
        counters = Counters()
        touch(counters, field)
        samples = {name: value for name, value in exposed(counters).items() if name[0].startswith("dompbus_")}
        changed = {name[0] for name, value in samples.items() if untouched.get(name) != value}
        assert changed, f"{field} is not exposed"
        assert not changed & seen
        seen |= changed


def test_labels_and_values() -> None:
    """A count by label keeps its labels apart."""
    counters = Counters()
    counters.frames_refused["checksum"] += 3
    counters.requests["ledger", "ok"] += 2
    counters.requests["ledger", "overloaded"] += 1
    counters.reactor_busy_ns = 1_500_000_000
    found = exposed(counters)
    assert found["dompbus_frames_refused_total", (("reason", "checksum"),)] == 3
    assert found["dompbus_requests_total", (("outcome", "ok"), ("service", "ledger"))] == 2
    assert found["dompbus_requests_total", (("outcome", "overloaded"), ("service", "ledger"))] == 1
    assert found["dompbus_reactor_busy_seconds_total", ()] == 1.5


@pytest.mark.parametrize(
    ("elapsed_ns", "bound"), [(0, 5e-05), (50_000, 5e-05), (50_001, 1e-04), (10**10, 10.0), (10**10 + 1, float("inf"))]
)
def test_histogram_buckets_are_inclusive_and_cumulative(elapsed_ns: int, bound: float) -> None:
    """A latency counts in its own bucket and all above, as Prometheus has it."""
    counters = Counters()
    counters.journal_commit_seconds.observe(elapsed_ns)
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in exposed(counters).items()
        if name == "dompbus_journal_commit_seconds_bucket"
    }
    assert len(buckets) == len(LATENCY_BOUNDS_NS) + 1
    assert all(value == (le >= bound) for le, value in buckets.items())


def test_histogram_counts_and_sums() -> None:
    """Count and sum are those of what was observed."""
    histogram = Histogram()
    for elapsed_ns in (1, 10, 10**12):
        histogram.observe(elapsed_ns)
    assert (histogram.count, histogram.sum_ns) == (3, 10**12 + 11)


def test_nodes_in_one_process_do_not_mix() -> None:
    """Each node has a registry of its own."""
    one, two = Counters(), Counters()
    one.peers = 5
    assert exposed(one)["dompbus_peers", ()] == 5
    assert exposed(two)["dompbus_peers", ()] == 0
