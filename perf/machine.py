"""The machine that figures were seen on, in one line: absolute figures mean nothing without it."""

import os
import platform
from pathlib import Path

__all__ = ["machine", "other_load"]


def machine() -> str:
    """Say processor, cores, memory, kernel, Python and libzmq."""
    import zmq

    cores = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [
        f"{cores} x {_processor()}",
        f"{memory_gib:.0f} GiB",
        f"{platform.system()} {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
        f"libzmq {zmq.zmq_version()}",
    ]
    return ", ".join(parts)


def other_load() -> str | None:
    """Say that the machine was busy before we began, when it was: ratios bear it, single rounds suffer."""
    cores, (load, _, _) = len(os.sched_getaffinity(0)), os.getloadavg()
    if load < cores / 2:
        return None
    return f"this machine is busy with something else (load {load:.1f} on {cores} cores): expect wide spreads"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
