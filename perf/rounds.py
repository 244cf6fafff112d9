"""Runs a work: every side once a round, in turn (A B A B ...), and keeps what each round gave.

The law here: a side that is not here is named with its reason; a round that failed is kept as a failure with its
reason. Nothing is dropped, nothing is repeated until it looks better.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from perf.work import Plan, Sample, Side, SideFailed, Work

__all__ = ["Course", "Run", "run"]

Progress = Callable[[str], None]


@dataclass(slots=True)
class Course:
    """One side's rounds: item i is round i, None where that round failed. `missing` is set when none was tried."""

    name: str
    missing: str | None = None
    samples: list[Sample | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def values(self, figure: str) -> list[float | None]:
        """One figure of every round."""
        return [None if sample is None else sample.values.get(figure) for sample in self.samples]

    def knows(self, figure: str) -> bool:
        """Whether the figure is this side's business; a side that gave no valid round is taken to know all."""
        valid = [sample for sample in self.samples if sample is not None]
        return not valid or any(figure in sample.values for sample in valid)

    def histograms(self, name: str) -> list[str]:
        """One encoded histogram of every round that has it."""
        return [sample.histograms[name] for sample in self.samples if sample and name in sample.histograms]


@dataclass(slots=True)
class Run:
    """All that one run of a work gave."""

    work: Work
    plan: Plan
    ours: Course
    beside: list[Course]


def run(work: Work, plan: Plan, progress: Progress) -> Run:
    """Run `plan.rounds` rounds of every side that is here."""
    sides = [work.ours, *work.beside]
    courses = [Course(side.name, side.missing()) for side in sides]
    for course in courses:
        if course.missing:
            progress(f"{work.name}: {course.name} is not here: {course.missing}")
    for number in range(1, plan.rounds + 1):
        for side, course in zip(sides, courses, strict=True):
            if course.missing is None:
                outcome = _play(side, plan, course, number)
                progress(f"{work.name} round {number}/{plan.rounds}  {side.name}: {outcome}")
    return Run(work, plan, courses[0], courses[1:])


def _play(side: Side, plan: Plan, course: Course, number: int) -> str:
    try:
        sample = side.play(plan)
    except SideFailed as failure:
        course.samples.append(None)
        first, *rest = str(failure).splitlines()
        course.failures.append(f"round {number}: " + "; ".join([first, *rest[-1:]]))
        return f"invalid: {failure}"
    course.samples.append(sample)
    return ", ".join(f"{name} {value:.4g}" for name, value in sample.values.items())
