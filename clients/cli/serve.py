"""`dompbus serve`: one node with its ledger, until it is told to stop.

The law here: standard output carries one line, when the node is ready; the log goes to standard error. SIGTERM and
SIGINT end it cleanly with exit code 0: what was acknowledged is on disk, sockets are closed, the directory is free.
"""

import signal
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dompbus.clients.cli.config import SERVE_BASE
from dompbus.clients.cli.output import print_json_line, print_line
from dompbus.errors import DompbusError

if TYPE_CHECKING:
    from dompbus.config import Config
    from dompbus.runtime.node import Node

__all__ = ["serve_command"]

HEALTH_POLL_SECONDS: Final = 0.5
STALL_SECONDS_MAX: Final = 30.0  # no command of the ledger takes as long
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)
_FLAGS: Final = {"data": "node.data", "listen": "node.listen", "http": "http.listen", "name": "node.name"}


def serve_command(
    data: Annotated[str | None, typer.Option(help="Directory of everything durable.")] = None,
    listen: Annotated[str | None, typer.Option(help="Endpoint for clients, as tcp://127.0.0.1:7400.")] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT of /metrics, /healthz, /readyz, or off.")] = None,
    name: Annotated[str | None, typer.Option(help="Lasting name of this node.")] = None,
    config: Annotated[str | None, typer.Option(help="Read this file instead of ./dompbus.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ready line, and the log, as JSON.")] = False,
) -> None:
    """Run a node with its ledger until SIGTERM or Ctrl-C."""
    from dompbus.clients.cli.logs import start_logging
    from dompbus.clients.compose import build_node
    from dompbus.config import LogSection
    from dompbus.config_sources import load

    given = {"data": data, "listen": listen, "http": http, "name": name}
    flags = {_FLAGS[flag]: (f"--{flag}", value) for flag, value in given.items() if value is not None}
    settings = load(config, flags=flags, base=SERVE_BASE).config
    start_logging(LogSection(level=settings.log.level, json=settings.log.json or as_json))
    stop = _stop_on_signals()
    with build_node(settings) as node:
        _announce(node, settings, as_json)
        _wait(node, stop)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def asked(*_: object) -> None:
        stop.set()
        for number in _STOPS:
            signal.signal(number, signal.SIG_DFL)  # whoever asks twice does not want to wait

    for number in _STOPS:
        signal.signal(number, asked)
    return stop


def _announce(node: "Node", settings: "Config", as_json: bool) -> None:
    facts: dict[str, Any] = {
        "name": node.name,
        "listen": node.endpoint,
        "http": node.http_address,
        "data": settings.node.data if settings.ledger.enabled else None,
    }
    if as_json:
        print_json_line({"event": "ready", **facts}, flush=True)
        return
    http = f", metrics on http://{facts['http']}/metrics" if facts["http"] else ""
    kept = f", ledger in {facts['data']}" if facts["data"] else ""
    print_line(f"dompbus: node {facts['name']} is ready at {facts['listen']}{kept}{http}")


def _wait(node: "Node", stop: threading.Event) -> None:
    """Until a signal comes. Raises DompbusError when the node's main loop stands still, for a supervisor to act on.

    A ledger that lost its disk does not end the node: it answers with errors, /readyz says so, and the bus goes on.
    """
    alive_s = time.monotonic()
    while not stop.wait(HEALTH_POLL_SECONDS):
        if node.healthy:
            alive_s = time.monotonic()
        elif time.monotonic() - alive_s > STALL_SECONDS_MAX:
            raise DompbusError(
                f"the node's main loop made no progress for {STALL_SECONDS_MAX:g} s, so this server ends; its log says"
                " why. What was acknowledged is on disk; start it again"
            )
