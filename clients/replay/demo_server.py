"""The demo's server: `dompbus serve` in a process of its own, which does not outlive the demo.

The law here: standard input is a pipe that the demo holds open. When it ends, however the demo ended, the server stops
as on SIGTERM and removes the demo's folder, since nobody else is left to do it.
"""

import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Final

__all__ = ["DATA_NAME", "main"]

DATA_NAME: Final = "data"


def main(folder: Path) -> int:
    """Serve the ledger in `folder` until SIGTERM or the end of standard input; returns the exit code."""
    orphaned = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until `serve` has a better way
    threading.Thread(target=_watch, args=(orphaned,), name="dompbus-demo-watch", daemon=True).start()
    try:
        from dompbus.clients.cli.main import main as dompbus

        data = str(folder / DATA_NAME)
        return dompbus(["serve", "--json", "--http", "off", "--data", data, "--listen", "tcp://127.0.0.1:0"])
    finally:
        if orphaned.is_set():
            shutil.rmtree(folder, ignore_errors=True)


def _watch(orphaned: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    orphaned.set()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
