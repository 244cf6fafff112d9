"""Whatever strangers send to the three ports of a node is counted and refused, and a good client notices nothing."""

import gc
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any

import psutil
import pytest
import zmq
from xxhash import xxh3_64_intdigest

import dompbus
from dompbus import limits
from dompbus.wire.bodies import BODIES, Hello, Refused, control_frame, decode_body
from dompbus.wire.frame import Kind, pack, parse
from dompbus.wire.message import encode
from tests.vectors.generate import CONTROL

SECONDS = 20.0


class Good:
    """A client on a thread of its own that asks, publishes and listens all the time."""

    def __init__(self, endpoint: str) -> None:
        self.turns = 0
        self.failure: BaseException | None = None
        self._endpoint = endpoint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Good":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(SECONDS)
        assert self.failure is None, self.failure

    def _run(self) -> None:
        try:
            with dompbus.Client(self._endpoint, name="good", timeout=SECONDS) as client:
                subscription = client.subscribe("good.*")
                while not self._stop.is_set():
                    assert client.request("echo", self.turns) == self.turns
                    client.publish("good.t", self.turns)
                    assert subscription.receive(timeout=SECONDS) == self.turns
                    self.turns += 1
        except BaseException as error:
            self.failure = error

    def goes_on(self) -> None:
        """Wait for it to have done more."""
        before = self.turns
        until(lambda: self.turns > before + 3 or self.failure is not None, "the good client")
        assert self.failure is None, self.failure


@pytest.fixture
def node() -> Iterator[dompbus.Node]:
    with dompbus.Node(name="victim", listen="tcp://127.0.0.1:0") as node:
        node.service("echo")(lambda value: value)
        yield node


@pytest.fixture
def good(node: dompbus.Node) -> Iterator[Good]:
    with Good(node.endpoint) as good:
        good.goes_on()
        yield good
        good.goes_on()
    assert node._reactor.failure is None
    assert node.healthy


class Sockets:
    """Plain ZeroMQ sockets, closed at the end."""

    def __init__(self) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._opened: list[Any] = []

    def open(self, kind: int, endpoint: str) -> Any:
        self._opened.append(self._context.socket(kind))
        self._opened[-1].connect(endpoint)
        return self._opened[-1]

    def close(self) -> None:
        for opened in self._opened:
            opened.close(0)
        self._context.term()


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets()
    yield sockets
    sockets.close()


def endpoints(node: dompbus.Node) -> dict[str, str]:
    core = node._core
    return {"router": node.endpoint, "publish": core.publish_endpoint, "control": core.control_endpoint}


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.005)


def refused(node: dompbus.Node, reason: str = "") -> int:
    counts = dict(node.counters.frames_refused)
    return counts.get(reason, 0) if reason else sum(counts.values())


# -- bytes that are no ZMTP --------------------------------------------------------------------------------------


def throw(endpoint: str, data: bytes) -> None:
    """Send raw bytes and wait until the other side has had enough."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as stranger, suppress(OSError):
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(4_096):
            pass


@pytest.mark.parametrize("port", ["router", "publish", "control"])
def test_connections_that_do_not_speak_the_protocol(node: dompbus.Node, good: Good, port: str) -> None:
    """A greeting that cannot be one (ZeroMQ's begin with FF) is a refused handshake, each of them."""
    random = Random(port)
    before = refused(node, "handshake")
    for _ in range(10):  # a length beyond all bounds, where the oldest dialect has one
        throw(endpoints(node)[port], b"\xff\xff" + random.randbytes(7) + b"\x02" + random.randbytes(500))
    for mechanism in (b"NOPE", b"CURVE", b"\xff" * 20):  # ZMTP 3, with a mechanism that is not ours
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32)
        throw(endpoints(node)[port], greeting)
    until(lambda: refused(node, "handshake") == before + 13, "thirteen refusals")
    good.goes_on()


@pytest.mark.parametrize("port", ["router", "publish", "control"])
def test_random_bytes(node: dompbus.Node, good: Good, port: str) -> None:
    """What libzmq takes for its oldest dialect, which had no greeting, reaches the node, and is refused there."""
    random = Random(port)
    before = refused(node)
    for _ in range(60):
        throw(endpoints(node)[port], random.randbytes(random.randrange(1, 3_000)))
    for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20, b"\x16\x03\x01\x02\x00\x01\x00" * 50, b"\0" * 500):
        throw(endpoints(node)[port], text)
    until(lambda: refused(node) > before + 20, "refusals")
    assert set(node.counters.frames_refused) <= {"handshake", "magic", "short", "bounds", "unexpected", "length"}
    assert node.counters.peers == 1
    good.goes_on()


def test_connections_that_say_nothing(node: dompbus.Node, good: Good) -> None:
    silent = []
    for endpoint in endpoints(node).values():
        host, port = endpoint.removeprefix("tcp://").split(":")
        silent += [socket.create_connection((host, int(port)), timeout=SECONDS) for _ in range(20)]
    good.goes_on()
    for connection in silent:
        connection.close()
    good.goes_on()


# -- frames that are none, from peers that do speak ZMTP ---------------------------------------------------------


def crafted(body: bytes = b"\x91\x03", **changes: Any) -> bytes:
    fields = {
        "magic": b"DOMP",
        "version": 1,
        "kind": 15,
        "flags": 0,
        "count": 1,
        "length": len(body),
        "epoch": 0,
        "seq": 0,
        "time_ns": 0,
    }
    head = struct.pack("<4sBBHIIQQQ", *(fields | changes).values())
    return head + struct.pack("<Q", xxh3_64_intdigest(body, xxh3_64_intdigest(head))) + body


MALFORMED = {
    "short": [b"", b"D", crafted()[:47]],
    "magic": [b"\xff" * 60, bytes(48), b"GET / HTTP/1.1\r\n" * 5],
    "version": [crafted(version=0), crafted(version=2)],
    "length": [crafted()[:-1], crafted() + b"x", crafted(length=2**32 - 1), crafted(length=0)],
    "checksum": [crafted()[:-1] + b"\x04", crafted()[:20] + b"\xff" + crafted()[21:]],
    "kind": [crafted(kind=0), crafted(kind=99)],
    "flags": [crafted(flags=1), crafted(flags=0xFFFF)],
    "bounds": [crafted(count=2**32 - 1), crafted(epoch=2**64 - 1), crafted(seq=2**63), crafted(time_ns=2**63)],
}
NO_BODIES = [
    b"",
    b"\xc1",
    b"\xc0",
    b"\x80",
    b"\x91\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 5_000,
]


class Peer:
    """A DEALER that sends what it likes and reads typed answers."""

    def __init__(self, sockets: Sockets, endpoint: str) -> None:
        self.socket = sockets.open(zmq.DEALER, endpoint)

    def tell(self, data: bytes) -> Any:
        self.socket.send(data)
        assert self.socket.poll(int(SECONDS * 1_000)), "no answer"
        frame = parse(self.socket.recv())
        return decode_body(frame)


@pytest.mark.parametrize("port", ["router", "control"])
@pytest.mark.parametrize("greeted", [False, True])
def test_malformed_frames_get_a_typed_refusal(
    node: dompbus.Node, good: Good, sockets: Sockets, port: str, greeted: bool
) -> None:
    peer = Peer(sockets, endpoints(node)[port])
    if greeted and port == "router":
        peer.tell(control_frame(Hello(99, "hostile")))
    for reason, frames in MALFORMED.items():
        for data in frames:
            before = refused(node, reason)
            answer = peer.tell(data)
            assert isinstance(answer, Refused)
            assert (answer.reason, bool(answer.detail)) == (reason, True)
            assert refused(node, reason) == before + 1
    good.goes_on()


def test_bodies_that_do_not_decode(node: dompbus.Node, good: Good, sockets: Sockets) -> None:
    peer = Peer(sockets, node.endpoint)
    peer.tell(control_frame(Hello(99, "hostile")))
    for kind in (Kind.HELLO, Kind.SUBSCRIBE, Kind.UNSUBSCRIBE, Kind.NAK, Kind.REQUEST, Kind.PUBLISH):
        for body in NO_BODIES:
            answer = peer.tell(pack(kind, body))
            assert isinstance(answer, Refused), (kind, body, answer)
            assert (answer.reason, answer.kind) == ("body", kind)
    for runs in ([("a..b", [1])], [("t", 1)], [("t", [1, 2])], [("t", [1])] * (limits.RUNS_PER_FRAME_MAX + 1)):
        assert peer.tell(pack(Kind.PUBLISH, encode(runs))).reason == "body"
    good.goes_on()


def test_kinds_in_the_wrong_place(node: dompbus.Node, good: Good, sockets: Sockets) -> None:
    router, control = Peer(sockets, node.endpoint), Peer(sockets, endpoints(node)["control"])
    for body in CONTROL.values():
        frame = control_frame(body)
        kind = parse(frame).kind
        if kind not in (Kind.HELLO, Kind.PING):
            assert router.tell(frame).reason == "stranger"
        if kind is not Kind.PING:
            assert control.tell(frame).reason == "unexpected"
    router.tell(control_frame(Hello(99, "hostile")))
    served = {Kind.HELLO, Kind.SUBSCRIBE, Kind.UNSUBSCRIBE, Kind.NAK, Kind.REQUEST, Kind.PING, Kind.GOODBYE}
    for body in CONTROL.values():
        kind = parse(control_frame(body)).kind
        if kind not in served:
            answer = router.tell(control_frame(body))
            assert (answer.reason, answer.kind) == ("unexpected", kind)
    assert set(BODIES) >= served
    good.goes_on()


def test_messages_of_a_wrong_number_of_parts(node: dompbus.Node, good: Good, sockets: Sockets) -> None:
    for port in ("router", "control"):
        peer = Peer(sockets, endpoints(node)[port])
        before = refused(node, "bounds")
        for parts in ([b"a", b"b"], [b""] * 10, [b"x"] * 1_000):
            peer.socket.send_multipart(parts)
        until(lambda before=before: refused(node, "bounds") == before + 3, "three refusals")  # type: ignore[misc] # mypy: no default
        assert peer.tell(b"").reason == "short"  # and the next is taken as it is
    good.goes_on()


def test_nonsense_on_the_fan_out(node: dompbus.Node, good: Good, sockets: Sockets) -> None:
    """A SUB listens to whatever it likes; an XSUB may send any bytes upstream."""
    sub, xsub = (sockets.open(kind, endpoints(node)["publish"]) for kind in (zmq.SUB, zmq.XSUB))
    for prefix in (b"", b"\0", b"nobody\0", b"@99/1\0", b"@\0", b"@x/y\0", b"a" * 10_000, "ä".encode()):
        sub.setsockopt(zmq.SUBSCRIBE, prefix)
    random = Random(5)
    before = refused(node)
    for _ in range(200):
        xsub.send(random.randbytes(random.randrange(0, 400)))
    until(lambda: refused(node) >= before + 150, "refusals")
    assert {"stranger", "bounds", "unexpected"} <= set(node.counters.frames_refused)
    good.goes_on()
    assert sub.poll(int(SECONDS * 1_000))  # it did ask for everything
    assert all("good" in channel for channel in node._core.publisher.channels)


def test_a_message_beyond_the_bound_ends_the_connection_not_the_node(
    node: dompbus.Node, good: Good, sockets: Sockets
) -> None:
    peer = Peer(sockets, node.endpoint)
    peer.socket.send(bytes(limits.FRAME_BYTES_MAX + 10_000))
    good.goes_on()
    other = Peer(sockets, node.endpoint)
    assert other.tell(crafted(version=7)).reason == "version"


def test_a_flood_takes_bounded_memory(node: dompbus.Node, good: Good, sockets: Sockets) -> None:
    """Thirty thousand hostile frames a round, of every sort: after the first round the process does not grow."""
    random = Random(1)
    peer = Peer(sockets, node.endpoint)
    peer.tell(control_frame(Hello(99, "hostile")))
    sorts = [data for frames in MALFORMED.values() for data in frames]
    sorts += [pack(Kind.PUBLISH, body) for body in NO_BODIES] + [control_frame(body) for body in CONTROL.values()]
    sorts += [random.randbytes(size) for size in (10, 100, 1_000, 20_000)]

    def flood() -> None:
        before = node.counters.frames_received
        for turn in range(15_000):
            peer.socket.send(sorts[turn % len(sorts)])
            while peer.socket.poll(0):
                peer.socket.recv()
        until(lambda: node.counters.frames_received >= before + 15_000, "the flood to be over")
        gc.collect()

    process = psutil.Process()
    flood()
    flood()
    before = process.memory_info().rss
    flood()
    flood()
    assert process.memory_info().rss - before < 8 * limits.MIB
    good.goes_on()
    assert node.counters.peers <= 3
