"""`node.footprint`: what an idle node weighs and how long the package and the command line take to start.

The bars are absolute, as the design gives them. Beside them stands a bare interpreter, which no Python program can
go below. Bytecode is warmed by one round that does not count.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from perf.processes import ROOT, Cast, free_directory
from perf.servers import CLI, serve
from perf.statistics import Bar
from perf.work import Figure, Plan, Sample, Side, SideFailed, Work

__all__ = ["WORK"]

SETTLE_SECONDS = 1.0  # start-up's own garbage and the first beacons are over by then
IMPORT = "import time; t = time.perf_counter(); import dompbus{}; print(time.perf_counter() - t)"
NAMES = "; dompbus.Node; dompbus.Client; dompbus.Message"
IDLE = [sys.executable, "-c", "print('tcp://', flush=True); input()"]


def _ours(plan: Plan) -> Sample:
    with free_directory() as directory, Cast(plan.timeout) as cast:
        child, _ = serve(cast, directory)
        rss = _settled_rss_mib(child.pid)
    return Sample(
        {
            "idle RSS": rss,
            "import": _median_of(plan, [sys.executable, "-c", IMPORT.format("")], printed=True),
            "import with names": _median_of(plan, [sys.executable, "-c", IMPORT.format(NAMES)], printed=True),
            "--help": _median_of(plan, [*CLI, "--help"]),
        }
    )


def _python(plan: Plan) -> Sample:
    with Cast(plan.timeout) as cast:
        child = cast.command(IDLE, name="python")
        child.hear_line()
        rss = _settled_rss_mib(child.pid)
    return Sample({"idle RSS": rss, "--help": _median_of(plan, [sys.executable, "-c", "pass"])})


def _settled_rss_mib(pid: int) -> float:
    time.sleep(SETTLE_SECONDS)
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SideFailed("the process ended before its memory could be read")


def _median_of(plan: Plan, command: Sequence[str], *, printed: bool = False) -> float:
    """Run `command` in `count` fresh processes; the median of their wall time, or of the seconds that they print."""
    seconds = [_seconds(plan, command, printed=printed) for _ in range(plan.warm + plan.count)]
    return median(seconds[plan.warm :])


def _seconds(plan: Plan, command: Sequence[str], *, printed: bool) -> float:
    started = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=plan.timeout)
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        raise SideFailed(f"exit code {error.returncode}: {' '.join(last)}") from error
    except subprocess.TimeoutExpired as error:
        raise SideFailed(f"gave no answer in {plan.timeout:g} s") from error
    return float(done.stdout) if printed else time.perf_counter() - started


WORK = Work(
    name="node.footprint",
    about="an idle `dompbus serve`, the import, the command line",
    figures=(
        Figure("idle RSS", "MiB", (Bar("<=", 40.0),)),
        Figure("import", "s", (Bar("<=", 0.15),)),
        Figure("import with names", "s"),
        Figure("--help", "s", (Bar("<=", 0.3),)),
    ),
    ours=Side("ours", _ours),
    beside=(Side("bare Python", _python),),
    full=Plan(rounds=3, count=5, warm=1),
    quick=Plan(rounds=2, count=2, warm=1, timeout=20),
)
