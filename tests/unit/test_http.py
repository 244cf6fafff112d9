"""The HTTP port answers three paths, survives bad clients and goes away cleanly."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from dompbus.errors import EndpointError
from dompbus.runtime import http
from dompbus.runtime.http import HttpServer


class Node:
    """Stands in for a node: what its checks say can be set."""

    def __init__(self) -> None:
        self.healthy, self.ready = True, True
        self.broken = False

    def metrics(self) -> bytes:
        if self.broken:
            raise RuntimeError("no metrics today")
        return b"up 1\n"

    def serve(self, listen: str = "127.0.0.1:0") -> HttpServer:
        return HttpServer(
            listen,
            metrics=self.metrics,
            health=lambda: (self.healthy, {"silent_seconds": 0.1}),
            ready=lambda: (self.ready, {}),
        )


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def server(node: Node) -> Iterator[HttpServer]:
    server = node.serve()
    yield server
    server.close()


def get(server: HttpServer, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{server.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def raw(server: HttpServer, sent: bytes) -> bytes:
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_pages(server: HttpServer) -> None:
    """Each path has its answer; a query string changes nothing."""
    assert get(server, "/metrics") == (200, "up 1\n")
    assert get(server, "/metrics?x=1") == (200, "up 1\n")
    status, body = get(server, "/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok", "silent_seconds": 0.1})
    assert get(server, "/readyz")[0] == 200


def test_failing_checks_answer_503_apart(server: HttpServer, node: Node) -> None:
    """Health and readiness are different questions."""
    node.ready = False
    assert (get(server, "/healthz")[0], get(server, "/readyz")[0]) == (200, 503)
    node.healthy = False
    status, body = get(server, "/healthz")
    assert (status, json.loads(body)["status"]) == (503, "failing")


def test_unknown_path_and_method(server: HttpServer) -> None:
    """The answer says what there is; other methods are refused."""
    status, body = get(server, "/")
    assert status == 404
    assert "/metrics, /healthz, /readyz" in body
    assert get(server, "/metrics", "POST")[0] == 405
    assert get(server, "/metrics", "HEAD") == (200, "")


def test_a_failing_page_is_an_answer(server: HttpServer, node: Node) -> None:
    """An error in a callback reaches whoever asked and leaves the server up."""
    node.broken = True
    assert get(server, "/metrics") == (500, "RuntimeError: no metrics today\n")
    assert get(server, "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x00\xff\x16\x03" * 40 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
    ],
    ids=["binary", "long", "version", "path", "not_ascii", "headers"],
)
def test_malformed_requests_are_refused(server: HttpServer, sent: bytes, status: bytes) -> None:
    """Garbage is answered with what is wrong, and the port stays up."""
    assert raw(server, sent).startswith(b"HTTP/1.1 " + status)
    assert get(server, "/healthz")[0] == 200


def test_too_many_connections_are_turned_away(server: HttpServer) -> None:
    """Idle connections cannot use up more than CONNECTIONS_MAX threads, and free their place when they end."""
    host, port = server.address.split(":")
    held = [socket.create_connection((host, int(port)), timeout=5) for _ in range(http.CONNECTIONS_MAX)]
    try:
        assert raw(server, b"") == b""
        assert threading.active_count() < http.CONNECTIONS_MAX + 10
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: answers(server))


def test_a_trickling_connection_is_ended(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte now and then cannot hold a thread for ever."""
    monkeypatch.setattr(http, "CONNECTION_SECONDS_MAX", 0.1)
    assert raw(server, b"GET /me") == b""


def test_close_is_clean_and_idempotent(node: Node) -> None:
    """After close nobody listens, open connections end, and the port is free again."""
    server = node.serve()
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"GET /me")
        assert get(server, "/healthz")[0] == 200  # so the one before has been accepted
        start = time.monotonic()
        server.close()
        server.close()
        assert connection.recv(1) == b""
        assert time.monotonic() - start < http.READ_SECONDS_MAX / 2
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
    node.serve(server.address).close()


def test_port_in_use_and_bad_addresses(server: HttpServer, node: Node) -> None:
    """The error names the address, the cause and the next step."""
    with pytest.raises(EndpointError, match=rf"on {server.address}: Address already in use\. Set http\.listen"):
        node.serve(server.address)
    with pytest.raises(EndpointError, match=r"no-such-host\.invalid:80"):
        node.serve("no-such-host.invalid:80")
    with pytest.raises(EndpointError):
        node.serve("127.0.0.1:99999")


def test_ipv6(node: Node) -> None:
    """An IPv6 address is written in brackets, both ways."""
    try:
        server = node.serve("[::1]:0")
    except EndpointError as error:
        assert "Cannot assign requested address" in str(error) or "not supported" in str(error)  # noqa: PT017
        return
    assert get(server, "/readyz")[0] == 200
    server.close()


def answers(server: HttpServer) -> bool:
    try:
        return get(server, "/healthz")[0] == 200
    except OSError:
        return False


def wait_until(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
