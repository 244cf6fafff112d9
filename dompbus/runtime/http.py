"""One HTTP port for operators: /metrics, /healthz, /readyz. Nothing of the bus passes here.

The law here: whatever a client of this port does, the node is not held up and memory stays bounded: at most
CONNECTIONS_MAX connections of at most CONNECTION_SECONDS_MAX each, short request lines, no request bodies, one
answer a connection. Handlers run on their own threads and only read. `http.server` would do the same at the price of
two more MiB in every node (it loads email and ssl), of the 40 that an idle one may take.
"""

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from socketserver import StreamRequestHandler, TCPServer, ThreadingMixIn
from typing import Any, ClassVar, Final

import msgspec

from dompbus.errors import EndpointError

__all__ = ["Check", "HttpServer"]

Check = Callable[[], tuple[bool, Mapping[str, object]]]
_Pages = Mapping[str, Callable[[], tuple[int, str, bytes]]]

CONNECTIONS_MAX: Final = 16  # a scraper and a few probes; more are turned away at once
CONNECTION_SECONDS_MAX: Final = 10.0
READ_SECONDS_MAX: Final = 5.0
REQUEST_LINE_BYTES_MAX: Final = 2048
HEADERS_MAX: Final = 64
HEADER_BYTES_MAX: Final = 8192
POLL_SECONDS: Final = 0.25  # how soon `close` and the connection clock are noticed

_REQUEST_LINE: Final = re.compile(rb"(?P<method>[A-Z]{1,16}) (?P<path>/[^ ?]*)(\?[^ ]*)? HTTP/1\.[0-9]\r?\n")
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_TEXT: Final = "text/plain; charset=utf-8"
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


class _Handler(StreamRequestHandler):
    """Reads one request, answers it, ends the connection."""

    pages: ClassVar[_Pages]
    timeout = READ_SECONDS_MAX

    def handle(self) -> None:
        """Called on the connection's own thread."""
        line = self.rfile.readline(REQUEST_LINE_BYTES_MAX + 1)
        if not line.endswith(b"\n"):
            if line:  # else nothing was sent: a probe that only looked whether the port is open
                self._answer(414 if len(line) > REQUEST_LINE_BYTES_MAX else 400)
            return
        # Headers are read and not looked at: closing with bytes unread would reset the connection under the answer.
        for _ in range(HEADERS_MAX):
            if self.rfile.readline(HEADER_BYTES_MAX).strip() == b"":
                self._answer_request(line)
                return
        self._answer(431)

    def _answer_request(self, line: bytes) -> None:
        request = _REQUEST_LINE.fullmatch(line)
        if request is None:
            self._answer(400)
        elif request["method"] not in (b"GET", b"HEAD"):
            self._answer(405)
        else:
            path = request["path"].decode("ascii", "replace")
            self._answer(*self._page(path), with_body=request["method"] == b"GET")

    def _page(self, path: str) -> tuple[int, str, bytes]:
        page = self.pages.get(path)
        if page is None:
            return 404, _TEXT, f"Here are: {', '.join(self.pages)}\n".encode()
        try:
            return page()
        except Exception as error:  # the node's trouble is the answer, not the end of this server
            _log.exception("cannot answer %s", path)
            return 500, _TEXT, f"{type(error).__name__}: {error}\n".encode()

    def _answer(self, status: int, kind: str = _TEXT, body: bytes = b"", *, with_body: bool = True) -> None:
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        self.wfile.write(head.encode() + (body if with_body else b""))
        _log.debug("%s asked, answered %d", self.client_address, status)


def _report(check: Check) -> tuple[int, str, bytes]:
    good, details = check()
    body = {"status": "ok" if good else "failing", **details}
    return 200 if good else 503, "application/json", msgspec.json.encode(body) + b"\n"


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
