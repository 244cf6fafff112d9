"""Plots: the percentile scale, and a clear word when matplotlib is not installed."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("hdrh", reason="the extra [perf] is not installed")

from perf.histogram import encode
from perf.plot import PERCENTILES, MissingPlotter, curve, plot
from perf.rounds import Course, Run
from perf.statistics import Bar
from perf.work import Figure, Plan, Sample, Side, Work

PLAN = Plan(rounds=1, count=1)


def latency_run() -> Run:
    """One round of ours with a histogram."""
    sample = Sample({"p50": 1.0}, {"latency": encode([1_000] * 10)})
    work = Work("a.work", "", (Figure("p50", "us", (Bar("<=", 1.0),)),), Side("ours", lambda _: sample), (), PLAN, PLAN)
    return Run(work, PLAN, Course("ours", samples=[sample]), [])


def test_the_scale_counts_nines() -> None:
    """Ten steps a nine, up to 99.9 %; latencies in microseconds."""
    assert [round(PERCENTILES[index], 3) for index in (0, 10, 20, 30)] == [0.0, 90.0, 99.0, 99.9]
    nines, latencies_us = curve([encode([100_000] * 10)])
    assert nines[-1] == pytest.approx(3.0)
    assert latencies_us == pytest.approx([100.0] * 31, rel=0.002)


def test_without_matplotlib_the_way_to_get_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no trace: one sentence."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPlotter, match="pip install"):
        plot(latency_run(), tmp_path)
    assert list(tmp_path.iterdir()) == []
