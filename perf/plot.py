"""Percentile plots: latency against percentile, one line a side, as SVG in `perf/results/`.

The law here: a plot shows the histograms of all rounds of one run together, so that the tail is not averaged away.
"""

import importlib
from pathlib import Path
from typing import Any, Final

from perf.histogram import merge
from perf.results import DIRECTORY
from perf.rounds import Run

__all__ = ["PERCENTILES", "MissingPlotter", "curve", "plot"]

# Evenly spaced in "nines", as HdrHistogram's own plots are: 0, 50, 90, 99, 99.9 % lie at equal distances.
PERCENTILES: Final = tuple(100 * (1 - 10 ** (-nines / 10)) for nines in range(31))


class MissingPlotter(Exception):
    """matplotlib is not installed; the text says how to get it."""


def plot(run: Run, directory: Path = DIRECTORY) -> list[Path]:
    """Draw what the run has histograms of; gives the files written (none for a work without latencies)."""
    names = {name for sample in run.ours.samples if sample for name in sample.histograms}
    return [_draw(run, name, directory / f"{run.work.name}.{name}.svg") for name in sorted(names)]


def curve(histograms: list[str]) -> tuple[list[float], list[float]]:
    """The merged histogram as (number of nines, latency in microseconds)."""
    merged = merge(histograms)
    nines = [index / 10 for index in range(len(PERCENTILES))]
    return nines, [merged.get_value_at_percentile(percentile) / 1e3 for percentile in PERCENTILES]


def _draw(run: Run, name: str, path: Path) -> Path:
    figure, axes = _canvas()
    for course in [run.ours, *run.beside]:
        histograms = course.histograms(name)
        if histograms:
            axes.plot(*curve(histograms), label=course.name, linewidth=2 if course is run.ours else 1)
    axes.set_xticks([0, 0.301, 1, 2, 3], ["0", "50", "90", "99", "99.9"])
    axes.set(title=run.work.name, xlabel="percentile", ylabel=f"{name}, us", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _canvas() -> tuple[Any, Any]:
    try:
        canvas: Any = importlib.import_module("matplotlib.figure")  # not a dependency: no types to check against
    except ImportError:
        raise MissingPlotter("matplotlib is not installed: pip install matplotlib") from None
    figure = canvas.Figure(figsize=(8, 5), layout="constrained")
    return figure, figure.add_subplot()
