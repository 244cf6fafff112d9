"""A real `dompbus serve` that the replay's tests start, kill and start again on the same data and address."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

__all__ = ["CLI", "ROOT", "ReplayServer", "environment", "run_cli"]

ROOT = Path(__file__).resolve().parents[1]
_START_WAIT = 30.0
CLI = [sys.executable, "-m", "dompbus.clients.cli"]


def environment() -> dict[str, str]:
    """Let a child in any folder find this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run_cli(*arguments: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    """Run the real command to its end."""
    return subprocess.run(
        [*CLI, *arguments], check=False, capture_output=True, text=True, timeout=timeout, env=environment()
    )


class ReplayServer:
    """Use as a context manager. The first start takes a free port, later ones the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = "tcp://127.0.0.1:0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ReplayServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start and wait until it says that it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [*CLI, "serve", "--json", "--http", "off", "--data", "data", "--listen", self.url]
        with (self.folder / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment(), stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        alarm = threading.Timer(_START_WAIT, self._process.kill)
        alarm.start()
        line = self._process.stdout.readline()
        alarm.cancel()
        if not line:
            self.kill()
            raise AssertionError(f"the server did not start: {(self.folder / 'serve.log').read_text()[-2000:]}")
        self.url = json.loads(line)["listen"]

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            assert self._process.stdout is not None
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process.stdout.close()
            self._process = None
