"""Servers that are programs of their own: `dompbus serve` and `tigerbeetle start`, each over a directory of its own.

The law here: a server listens on loopback, on a port that the system chose, and ends with the cast that it is part of.
"""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from perf.peers import tigerbeetle_ledger
from perf.processes import Cast, Child
from perf.work import SideFailed

__all__ = ["CLI", "serve", "serve_tigerbeetle"]

# What the console script `dompbus` does, also in a checkout that is not installed.
CLI: Final = [sys.executable, "-c", "import sys; from dompbus.clients.cli.main import main; sys.exit(main())"]
FORMAT_SECONDS_MAX: Final = 60


def serve(cast: Cast, directory: str) -> tuple[Child, str]:
    """Start `dompbus serve` with its defaults on free ports; give the process and its endpoint."""
    ports = ["--listen", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0"]
    child = cast.command([*CLI, "serve", "--json", "--data", directory, *ports], name="dompbus serve")
    return child, str(child.hear()["listen"])


def serve_tigerbeetle(cast: Cast, directory: str) -> str:
    """Format and start a cluster of one; give its address. A replica that is not up yet is waited for by the client."""
    binary = tigerbeetle_ledger.binary()
    if binary is None:
        raise SideFailed("the TigerBeetle binary has gone")
    data = str(Path(directory) / "0_0.tigerbeetle")
    options = ["--cluster=0", "--replica=0", "--replica-count=1"]
    try:
        subprocess.run([binary, "format", *options, data], check=True, capture_output=True, timeout=FORMAT_SECONDS_MAX)
    except (OSError, subprocess.SubprocessError) as error:
        raise SideFailed(f"tigerbeetle format: {error}") from error
    address = f"127.0.0.1:{_free_port()}"
    cast.command([binary, "start", f"--addresses={address}", data], name="tigerbeetle start")
    return address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
