"""Child processes that run one role of one side, spoken to in JSON lines over their stdin and stdout.

The law here: every read has a deadline, and a `Cast` leaves no process behind: each child leads its own process group,
which is ended when the cast closes, and kills itself (SIGALRM) should the parent be gone by then.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from perf.work import SideFailed

__all__ = ["ROOT", "Cast", "Child", "free_directory"]

ROOT: Final = Path(__file__).resolve().parent.parent
LINE_BYTES_MAX: Final = 1 << 20
STDERR_LINES_SHOWN: Final = 12
GRACE_SECONDS: Final = 2.0


class Child:
    """One child process. `say` writes a message to it, `hear` reads one from it."""

    def __init__(self, command: list[str], *, name: str, deadline: float) -> None:
        self.name = name
        self.deadline = deadline
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  -- lives as long as the child; closed in `end`
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if not key.startswith("DOMPBUS_")},  # defaults only
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )
        self._buffer = b""

    @property
    def pid(self) -> int:
        """The process id, also that of its group."""
        return self._process.pid

    def say(self, **message: Any) -> None:
        """Send one message; raises SideFailed when the child is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SideFailed(self._obituary("ended early")) from None

    def hear(self) -> dict[str, Any]:
        """Wait for one message; raises SideFailed when the child ends, reports an error or the deadline passes."""
        message = json.loads(self.hear_line())
        if "error" in message:
            raise SideFailed(f"{self.name}: {message['error']}")
        return dict(message)

    def hear_line(self) -> str:
        """Wait for one line of the child's stdout, whatever it says."""
        while b"\n" not in self._buffer:
            self._buffer += self._read()
            if len(self._buffer) > LINE_BYTES_MAX:
                raise SideFailed(f"{self.name} wrote a line of more than {LINE_BYTES_MAX} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace")

    def end(self) -> None:
        """End the child and everything that it started: asked first, then killed."""
        for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._stderr.close()

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, self.deadline - time.monotonic())):
                raise SideFailed(self._obituary("gave no answer in time"))
        chunk = os.read(self._process.stdout.fileno(), 65_536)
        if not chunk:
            raise SideFailed(self._obituary("ended early"))
        return chunk

    def _obituary(self, fate: str) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").splitlines()
        return "\n".join([f"{self.name} {fate}", *lines[-STDERR_LINES_SHOWN:]])


class Cast:
    """The processes of one round of one side; leaving the `with` block ends them all."""

    def __init__(self, timeout: float) -> None:
        self.deadline = time.monotonic() + timeout
        self._timeout = timeout
        self._children: list[Child] = []

    def role(self, module: str, role: str, **options: Any) -> Child:
        """Start `python -m perf.peers.<module> <role> <options>`; it must say `ready` before anything else."""
        arguments = json.dumps({"timeout": self._timeout, **options})
        return self.command([sys.executable, "-m", f"perf.peers.{module}", role, arguments], name=f"{module} {role}")

    def command(self, command: list[str], *, name: str) -> Child:
        """Start any command, to be ended with the others."""
        child = Child(command, name=name, deadline=self.deadline)
        self._children.append(child)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for child in reversed(self._children):
            child.end()


def free_directory() -> tempfile.TemporaryDirectory[str]:
    """A directory on a real disk for durable works, removed with its context: /tmp may be memory, where fsync is free.

    `PERF_DIRECTORY` chooses another place; the default is `perf/results/`, beside the figures.
    """
    parent = Path(os.environ.get("PERF_DIRECTORY", ROOT / "perf" / "results"))
    parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="work-", dir=parent)
