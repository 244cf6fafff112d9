"""One HTTP port for operators: /metrics, /healthz, /readyz. Nothing of the bus passes here.

The law here: whatever a client of this port does, the node is not held up and memory stays bounded: at most
CONNECTIONS_MAX connections of at most CONNECTION_SECONDS_MAX each, short request lines, no request bodies, one
answer a connection. Handlers run on their own threads and only read.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, ClassVar, Final

from dompbus.errors import EndpointError

__all__ = ["Check", "HttpServer"]

Check = Callable[[], tuple[bool, Mapping[str, object]]]
_Pages = Mapping[str, Callable[[], tuple[int, str, bytes]]]

CONNECTIONS_MAX: Final = 16  # a scraper and a few probes; more are turned away at once
CONNECTION_SECONDS_MAX: Final = 10.0
READ_SECONDS_MAX: Final = 5.0
REQUEST_LINE_BYTES_MAX: Final = 2048
POLL_SECONDS: Final = 0.25  # how soon `close` and the connection clock are noticed

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_log = logging.getLogger("dompbus.http")


class HttpServer:
    """Serves metrics and health on a thread of its own, from construction until `close`.

    `listen` is HOST:PORT (port 0: chosen by the system, see `address`). `metrics` gives the exposition; `health`
    says whether the node's main loop makes progress, `ready` whether it can serve, each with details for a reader.
    The three are called from this server's threads. Raises EndpointError when the port cannot be bound.
    """

    def __init__(self, listen: str, *, metrics: Callable[[], bytes], health: Check, ready: Check) -> None:
        pages: _Pages = {
            "/metrics": lambda: (200, _METRICS_TYPE, metrics()),
            "/healthz": lambda: _report(health),
            "/readyz": lambda: _report(ready),
        }
        self._server = _bind(listen, pages)
        host, port = self._server.server_address[:2]
        text = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        self.address = f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="dompbus-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end every connection. Idempotent; returns within POLL_SECONDS or so."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.end_connections(older_than=0.0)


class _Server(ThreadingMixIn, TCPServer):
    # Not http.server.HTTPServer: its server_bind asks DNS for the host's name, which can take seconds.
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int], pages: _Pages) -> None:
        self.address_family = family
        self._since: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, type("_Handler", (_Handler,), {"pages": pages}))

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Turn the connection away when there are too many."""
        with self._lock:
            if len(self._since) >= CONNECTIONS_MAX:
                return False
            self._since[request] = time.monotonic()
        return True

    def shutdown_request(self, request: Any) -> None:
        """Called once for each connection, however it ended."""
        with self._lock:
            self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called by serve_forever at each poll: end connections that trickle."""
        self.end_connections(older_than=CONNECTION_SECONDS_MAX)

    def end_connections(self, *, older_than: float) -> None:
        """Shut down connections open for longer; their threads then see the end of the stream."""
        limit = time.monotonic() - older_than
        with self._lock:
            old = [request for request, since in self._since.items() if since <= limit]
            for request in old:
                with suppress(OSError):  # it may have ended by itself meanwhile
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is the client's affair: note it, print nothing."""
        _log.debug("connection from %s ended early", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    pages: ClassVar[_Pages]
    raw_requestline: bytes
    server_version = "dompbus"
    sys_version = ""
    timeout = READ_SECONDS_MAX

    def parse_request(self) -> bool:
        """Refuse long request lines before anything is made of them."""
        if len(self.raw_requestline) > REQUEST_LINE_BYTES_MAX:
            self.requestline = self.command = ""
            self.request_version = "HTTP/1.0"
            self.send_error(414)
            return False
        return super().parse_request()

    def do_GET(self) -> None:
        """Answer with a page, or say which pages there are."""
        page = self.pages.get(self.path.partition("?")[0])
        if page is None:
            self._answer(404, "text/plain; charset=utf-8", b"Here are: " + ", ".join(self.pages).encode() + b"\n")
            return
        try:
            status, kind, body = page()
        except Exception as error:
            _log.exception("cannot answer %s", self.path)
            status, kind, body = 500, "text/plain; charset=utf-8", f"{type(error).__name__}: {error}\n".encode()
        self._answer(status, kind, body)

    do_HEAD = do_GET

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """To the log, not to standard error."""
        _log.debug("%s " + format, self.address_string(), *args)


def _report(check: Check) -> tuple[int, str, bytes]:
    good, details = check()
    body = {"status": "ok" if good else "failing", **details}
    return 200 if good else 503, "application/json", json.dumps(body).encode() + b"\n"


def _bind(listen: str, pages: _Pages) -> _Server:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    host = "0.0.0.0" if host == "*" else host  # noqa: S104  # only when the user wrote it; config.py guards it
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return _Server(found[0][0], (found[0][4][0], int(port)), pages)  # type: ignore[arg-type]  # an AF_INET* address
    except (OSError, OverflowError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EndpointError(
            f"cannot serve metrics on {listen}: {reason}. Set http.listen to another HOST:PORT, or to off"
        ) from None
