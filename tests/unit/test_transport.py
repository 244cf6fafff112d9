"""Endpoints are checked with clear words, and the sockets behave alike over ZeroMQ and memory."""

import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dompbus.errors import EndpointError
from dompbus.runtime.memory import PeerGone
from dompbus.runtime.transport import (
    Socket,
    bind_router,
    bind_xpub,
    connect_dealer,
    connect_sub,
    reachable_endpoint,
    watch_handshakes,
)

SECONDS = 10.0
_names = itertools.count()


@pytest.fixture(params=["tcp", "ipc", "inproc", "memory"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    folder = Path("/tmp") / f"dompbus-{os.getpid()}-{next(_names)}"
    name = f"transport-{next(_names)}"
    yield {"tcp": "tcp://127.0.0.1:0", "ipc": f"ipc://{folder}"}.get(request.param, f"{request.param}://{name}")
    folder.unlink(missing_ok=True)


def received(sock: Socket) -> list[bytes]:
    """The next message, when it has come."""
    deadline = time.monotonic() + SECONDS
    while not sock.readable():
        assert time.monotonic() < deadline, "nothing came"
        select.select([sock.fileno()], [], [], 0.01)
    parts = sock.recv()
    assert parts is not None
    return parts


def closed_at_end(request: pytest.FixtureRequest, *sockets: Socket) -> None:
    for sock in sockets:
        request.addfinalizer(sock.close)


def test_router_and_dealer(request: pytest.FixtureRequest, endpoint: str) -> None:
    router = bind_router(endpoint)
    dealer = connect_dealer(router.endpoint)
    closed_at_end(request, router, dealer)
    assert not router.readable()
    assert router.recv() is None
    assert dealer.send([b"hello"])
    identity, data = received(router)
    assert data == b"hello"
    assert router.send([identity, b"x" * 100_000])
    assert received(dealer) == [b"x" * 100_000]
    with pytest.raises(PeerGone):
        router.send([b"nobody", b"lost"])
    if endpoint.startswith("tcp"):
        assert router.endpoint != endpoint
        assert router.endpoint.startswith("tcp://127.0.0.1:")
    else:
        assert router.endpoint == endpoint


def test_xpub_and_sub(request: pytest.FixtureRequest, endpoint: str) -> None:
    xpub = bind_xpub(endpoint)
    sub = connect_sub(xpub.endpoint)
    closed_at_end(request, xpub, sub)
    sub.subscribe(b"a\0")
    assert received(xpub) == [b"\1a\0"]
    xpub.send([b"b\0no"])
    xpub.send([b"a\0yes"])
    assert received(sub) == [b"a\0yes"]
    sub.unsubscribe(b"a\0")
    assert received(xpub) == [b"\0a\0"]


def test_a_full_queue_says_false(request: pytest.FixtureRequest, endpoint: str) -> None:
    if not endpoint.startswith(("inproc", "memory")):
        endpoint = f"inproc://full-{next(_names)}"  # elsewhere the system's buffers take part
    router = bind_router(endpoint, queue_frames=2)
    dealer = connect_dealer(router.endpoint, queue_frames=2)
    closed_at_end(request, router, dealer)
    sent = 0
    while dealer.send([b"x"]):
        sent += 1
        assert sent < 100
    assert 2 <= sent <= 5


def test_two_endpoints_of_one_router(request: pytest.FixtureRequest) -> None:
    inner = f"inproc://inner-{next(_names)}"
    router = bind_router("tcp://127.0.0.1:0", inner)
    dealers = [connect_dealer(router.endpoint), connect_dealer(inner)]
    closed_at_end(request, router, *dealers)
    assert router.endpoint.startswith("tcp://127.0.0.1:")
    for dealer in dealers:
        dealer.send([b"hello"])
        identity, _ = received(router)
        assert router.send([identity, b"back"])
        assert received(dealer) == [b"back"]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "tcp",
        "tcp://",
        "127.0.0.1:7400",
        "http://x:1",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:port",
        "udp://x:1",
        "epgm://x:1",
        "norm://1",
    ],
)
@pytest.mark.parametrize("opening", [bind_router, bind_xpub, connect_dealer, connect_sub])
def test_what_is_no_endpoint_is_named_with_what_is_one(opening: Callable[[str], Socket], wrong: str) -> None:
    with pytest.raises(EndpointError, match=r"is not an endpoint: use tcp://") as caught:
        opening(wrong)
    assert repr(wrong) in str(caught.value)


def test_why_an_endpoint_cannot_be_had_is_said(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(EndpointError, match="in use by another process: stop it, or listen elsewhere"),
    ):
        bind_router(f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    with pytest.raises(EndpointError, match="no such address"):
        bind_router("tcp://192.0.2.1:0")
    with pytest.raises(EndpointError, match="cannot listen at ipc"):
        bind_router("ipc:///nowhere/at/all/socket")


def test_an_ipc_path_that_is_served_is_not_taken_away_and_a_dead_one_is(request: pytest.FixtureRequest) -> None:
    path = Path("/tmp") / f"dompbus-{os.getpid()}-{next(_names)}"
    request.addfinalizer(lambda: path.unlink(missing_ok=True))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(EndpointError, match="in use"):
            bind_router(f"ipc://{path}")
    assert path.exists()  # its owner died without removing it
    closed_at_end(request, bind_router(f"ipc://{path}"))


@pytest.mark.parametrize(
    ("endpoint", "via", "expected"),
    [
        ("tcp://*:5", "tcp://10.0.0.1:4", "tcp://10.0.0.1:5"),
        ("tcp://0.0.0.0:5", "tcp://node.example:4", "tcp://node.example:5"),
        ("tcp://[::]:5", "tcp://[fe80::1]:4", "tcp://[fe80::1]:5"),
        ("tcp://10.0.0.2:5", "tcp://10.0.0.1:4", "tcp://10.0.0.2:5"),
        ("tcp://*:5", "inproc://x", "tcp://*:5"),
        ("ipc://x", "tcp://10.0.0.1:4", "ipc://x"),
        ("nonsense", "tcp://10.0.0.1:4", "nonsense"),
    ],
)
def test_a_wildcard_host_means_the_host_that_was_reached(endpoint: str, via: str, expected: str) -> None:
    assert reachable_endpoint(endpoint, via) == expected


def test_a_wildcard_stays_one_when_bound(request: pytest.FixtureRequest) -> None:
    router = bind_router("tcp://*:0")
    closed_at_end(request, router)
    assert router.endpoint.startswith("tcp://*:")
    assert router.endpoint != "tcp://*:0"


def test_connections_that_do_not_speak_the_protocol_are_counted_and_no_others(request: pytest.FixtureRequest) -> None:
    router = bind_router("tcp://127.0.0.1:0")
    monitor = watch_handshakes(router)
    assert monitor is not None
    dealer = connect_dealer(router.endpoint)
    closed_at_end(request, router, monitor, dealer)
    dealer.send([b"hello"])
    received(router)
    port = int(router.endpoint.rpartition(":")[2])
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"\xff" + b"GET / HTTP/1.1\r\n\r\n" * 10)
            stranger.settimeout(SECONDS)
            with suppress(ConnectionResetError):
                while stranger.recv(1_000):
                    pass
    assert [received(monitor) for _ in range(3)] == [[b"refused"]] * 3
    assert monitor.recv() is None
    assert watch_handshakes(bind_memory(request)) is None


def bind_memory(request: pytest.FixtureRequest) -> Socket:
    sock = bind_router(f"memory://monitor-{next(_names)}")
    closed_at_end(request, sock)
    return sock
