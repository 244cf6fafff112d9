"""The trading demo: a server of its own, a replay into it, and nothing left behind.

The law here: the server is a real `dompbus serve` in a process of its own, on a port that the system chose, with its
data in a temporary directory. Both are gone when `run_demo` ends, and when this process is killed in it.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import dompbus.errors
from dompbus.clients.replay.demo_server import DATA_NAME
from dompbus.clients.replay.market import MARKET_FILE_NAME, write_market
from dompbus.clients.replay.plan import make_plan
from dompbus.clients.replay.replay import replay
from dompbus.clients.replay.report import Report
from dompbus.errors import DompbusError

__all__ = ["ServerFailed", "run_demo", "serving"]

_START_WAIT: Final = 20.0  # s until the server says that it is ready
_END_WAIT: Final = 5.0  # s for the server to end when it is told to
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class ServerFailed(DompbusError):
    """The demo's server did not start. The text carries what it said."""


def run_demo(file: Path | None = None, *, trades: int = 20_000, seed: int = 1, speed: float | None = None) -> Report:
    """Replay `file`, or a made-up market of `trades` trades, through a server that lives as long as this call."""
    # The server is first of all: from then on the folder goes even if this process is killed.
    with _cleaning_up_on_signals(), _folder() as folder, serving(folder) as url:
        _say(f"a server with its ledger in {folder}/{DATA_NAME} is ready at {url}")
        if file is None:
            _say(f"making up a market of {trades:,} trades (seed {seed})")
            file = write_market(folder / MARKET_FILE_NAME, trades=trades, seed=seed)
        return replay(make_plan(url, file.absolute(), speed=speed))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run `dompbus serve` with its data under `folder`; yields its URL. Raises `ServerFailed`."""
    command = [sys.executable, "-m", "dompbus.clients.replay.demo_server", str(folder)]
    log = folder / "serve.log"
    with log.open("wb") as errors:
        # Its own session: Ctrl-C is for the replay, which ends first and then tells the server. Its own folder, so
        # that no dompbus.toml of the user's has a say.
        server = subprocess.Popen(  # noqa: S603  -- our own interpreter, our own arguments
            command,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.PIPE,  # ends when this process does
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    with server:
        try:
            yield _ready_url(server, log)
        finally:
            _end(server)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dompbus-demo-") as folder:
        yield Path(folder)


@contextmanager
def _cleaning_up_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, so that server and folder go too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # Who ignores a signal, as nohup does SIGHUP, goes on ignoring it.
    before = {n: signal.signal(n, leave) for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ready_url(server: "subprocess.Popen[bytes]", log: Path) -> str:
    assert server.stdout is not None
    alarm = threading.Timer(_START_WAIT, server.kill)  # a server that says nothing ends the readline below
    alarm.start()
    try:
        line = server.stdout.readline()
    finally:
        alarm.cancel()
    try:
        return str(json.loads(line)["listen"])
    except (ValueError, KeyError, TypeError):
        said = log.read_text(errors="replace").strip() or "nothing"
        raise ServerFailed(f"the demo's server did not start; it said: {said[-500:]}") from None


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(_END_WAIT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _environment() -> dict[str, str]:
    """Let the server find this very package, installed or not."""
    root = str(Path(dompbus.errors.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)
