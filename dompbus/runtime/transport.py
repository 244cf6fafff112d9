"""Transports: the four kinds of socket that the bus uses, over ZeroMQ or over memory.

The law here: a socket is non-blocking, is touched under its reactor's lock only, and never raises for what a peer
did; what could not be handed over is the return value. Endpoints are `tcp://host:port` (port 0: chosen by the
system), `ipc://path`, `inproc://name` and `memory://name`.
"""

import errno
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import zmq

from dompbus import limits
from dompbus.errors import EndpointError
from dompbus.runtime import memory
from dompbus.runtime.memory import PeerGone

__all__ = [
    "PeerGone",
    "Socket",
    "bind_router",
    "bind_xpub",
    "connect_dealer",
    "connect_sub",
    "reachable_endpoint",
    "watch_handshakes",
]

_COPY_BYTES_MAX: Final = 64 * limits.KIB  # above this pyzmq gains by not copying; measured by its authors and here
_TCP: Final = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]/]+):(?P<port>\d+|\*)")
_SCHEMES: Final = ("tcp", "ipc", "inproc", "memory")
# Plain integers: pyzmq's enumerations cost 2 us at each use.
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_SNDMORE: Final = int(zmq.SNDMORE | zmq.NOBLOCK)
_EVENT: Final = struct.Struct("=HI")  # a monitor's first part: event, value
_HANDSHAKE_IVL_MS: Final = 5_000
_REBIND_NS: Final = 500_000_000  # libzmq gives an address back some time after `close` has returned
_CLOSE_LINGER_MS: Final = 500  # lets a goodbye and last replies leave; bounds how long closing takes


class Socket(Protocol):
    """What the reactor needs of a socket, whatever carries it."""

    endpoint: str

    def fileno(self) -> int:
        """Descriptor that becomes readable (edge-triggered) when there may be something to do."""
        ...

    def readable(self) -> bool:
        """Whether `recv` would return something."""
        ...

    def recv(self) -> list[bytes] | None:
        """Return the parts of the next message, or None."""
        ...

    def send(self, parts: list[bytes]) -> bool:
        """Hand over one message; False when the queue is full. A router raises `PeerGone` for a peer that has left."""
        ...

    def subscribe(self, prefix: bytes) -> None:
        """SUB only: listen to a prefix."""
        ...

    def unsubscribe(self, prefix: bytes) -> None:
        """SUB only: stop listening to a prefix."""
        ...

    def close(self) -> None:
        """Close; what was handed over still leaves, within half a second."""
        ...


class _ZmqSocket:
    """A ZeroMQ socket in non-blocking use."""

    def __init__(self, kind: int, *, queue_frames: int) -> None:
        self.endpoint = ""
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        self._socket = socket
        socket.setsockopt(zmq.LINGER, _CLOSE_LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, queue_frames)
        socket.setsockopt(zmq.RCVHWM, queue_frames)
        socket.setsockopt(zmq.MAXMSGSIZE, limits.FRAME_BYTES_MAX + limits.TOPIC_BYTES_MAX + 1)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_IVL_MS)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        socket.setsockopt(zmq.IPV6, 1)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._routed = kind == zmq.ROUTER
        self._get = socket.get
        self._recv = socket.recv
        self._send = socket.send

    def bind(self, endpoint: str) -> None:
        give_up_ns = time.monotonic_ns() + _REBIND_NS
        while (refusal := self._try_to_bind(endpoint)) is not None:
            if refusal.errno != errno.EADDRINUSE or time.monotonic_ns() >= give_up_ns:
                self._socket.close(0)
                raise EndpointError(_why_not_bound(endpoint, refusal)) from refusal
            time.sleep(0.01)
        bound = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.endpoint = self.endpoint or _public_endpoint(endpoint, bound)

    def _try_to_bind(self, endpoint: str) -> zmq.ZMQError | None:
        if endpoint.startswith("ipc://") and _is_served(endpoint.removeprefix("ipc://")):
            return zmq.ZMQError(errno.EADDRINUSE)
        try:
            self._socket.bind(_zmq_endpoint(endpoint))
        except zmq.ZMQError as error:
            return error
        return None

    def connect(self, endpoint: str) -> None:
        try:
            self._socket.connect(_zmq_endpoint(endpoint))
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise EndpointError(f"cannot connect to {endpoint}: {error}") from error
        self.endpoint = endpoint

    def fileno(self) -> int:
        return int(self._socket.getsockopt(zmq.FD))

    def readable(self) -> bool:
        return self._get(_EVENTS) & _POLLIN != 0  # type: ignore[operator] # an int, for this option

    def recv(self) -> list[bytes] | None:
        try:
            first: bytes = self._recv(_NOBLOCK)
            if not self._routed:  # one part a message on every other kind; more would be refused one by one
                return [first]
            frame = self._recv(_NOBLOCK, False)
            parts = [first, frame.bytes]
            while frame.more:  # no peer of ours sends more; taken apart from the next message, and refused
                frame = self._recv(_NOBLOCK, False)
                parts.append(frame.bytes)
        except zmq.Again:
            return None
        return parts

    def send(self, parts: list[bytes]) -> bool:
        data = parts[-1]
        try:
            if len(parts) == 2:
                self._send(parts[0], _SNDMORE)
            self._send(data, _NOBLOCK, len(data) < _COPY_BYTES_MAX)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise PeerGone from error
            raise
        return True

    def subscribe(self, prefix: bytes) -> None:
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)

    def unsubscribe(self, prefix: bytes) -> None:
        self._socket.setsockopt(zmq.UNSUBSCRIBE, prefix)

    def monitor(self) -> "HandshakeMonitor":
        """Watch this bound socket for peers that do not speak ZMTP."""
        return HandshakeMonitor(self._socket)

    def close(self) -> None:
        self._socket.close()


class HandshakeMonitor:
    """Receives one message for each connection that was refused because it does not speak the transport's protocol.

    Judged by the socket's own events: a failed handshake, or a connection that was dropped without having finished
    one. A peer that merely left early is none: ordinary clients that end quickly do so.
    """

    _FAILED: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    _LEFT: Final = (errno.ECONNRESET, errno.EPIPE)

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        self.endpoint = "monitor"
        self._watched = watched
        self._socket = watched.get_monitor_socket(
            self._FAILED
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_ACCEPTED
            | zmq.EVENT_DISCONNECTED
        )
        self._greeting: deque[int] = deque()  # descriptors accepted whose handshake has not ended, oldest first

    def fileno(self) -> int:
        return int(self._socket.getsockopt(zmq.FD))

    def readable(self) -> bool:
        return self._socket.get(_EVENTS) & _POLLIN != 0  # type: ignore[operator] # an int, for this option

    def recv(self) -> list[bytes] | None:
        while self.readable():
            event, value = _EVENT.unpack_from(self._socket.recv_multipart(zmq.NOBLOCK)[0])
            if self._is_refusal(event, value):
                return [b"refused"]
        return None

    def _is_refusal(self, event: int, value: int) -> bool:
        """Follow one event; `value` is the descriptor of a connection accepted or ended, the reason of a failure."""
        if event == zmq.EVENT_ACCEPTED:
            self._greeting.append(value)
            return False
        if event == zmq.EVENT_DISCONNECTED:  # with no word on its handshake: its bytes were not of this protocol
            silent = value in self._greeting
            if silent:
                self._greeting.remove(value)
            return silent
        if self._greeting:  # the other events do not say whose they are; the oldest will do for a count
            self._greeting.popleft()
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            return value not in self._LEFT
        return bool(event & self._FAILED)

    def send(self, parts: list[bytes]) -> bool:
        raise AssertionError("a monitor only listens")

    def subscribe(self, prefix: bytes) -> None:
        raise AssertionError("a monitor has no channels")

    unsubscribe = subscribe

    def close(self) -> None:
        self._watched.disable_monitor()
        self._socket.close(0)


def bind_router(endpoint: str, *more: str, queue_frames: int = limits.SOCKET_QUEUE_FRAMES) -> Socket:
    """Open a socket that many DEALERs connect to, at one endpoint or several; messages are `[peer, part, ...]`."""
    return _bind(zmq.ROUTER, memory.Router, queue_frames, endpoint, *more)


def bind_xpub(endpoint: str, *, queue_frames: int = limits.SOCKET_QUEUE_FRAMES) -> Socket:
    """Open a socket that fans out to many SUBs; it receives their subscriptions as `1/0 + prefix`."""
    return _bind(zmq.XPUB, memory.XPub, queue_frames, endpoint)


def connect_dealer(endpoint: str, *, queue_frames: int = limits.SOCKET_QUEUE_FRAMES) -> Socket:
    """Open a socket to a node's ROUTER. Returns at once; the transport connects, and reconnects, by itself."""
    return _connect(endpoint, zmq.DEALER, memory.Dealer, queue_frames)


def connect_sub(endpoint: str, *, queue_frames: int = limits.SOCKET_QUEUE_FRAMES) -> Socket:
    """Open a socket to a node's XPUB, with no subscription yet."""
    return _connect(endpoint, zmq.SUB, memory.Sub, queue_frames)


def reachable_endpoint(endpoint: str, via: str) -> str:
    """Return `endpoint` as the peer that was reached `via` sees it: a wildcard host becomes that peer's host."""
    match, known = _TCP.fullmatch(endpoint), _TCP.fullmatch(via)
    if match is None or known is None or match["host"] not in ("*", "0.0.0.0", "[::]"):  # noqa: S104 - comparing
        return endpoint
    return f"tcp://{known['host']}:{match['port']}"


def watch_handshakes(sock: Socket) -> Socket | None:
    """Return a socket that receives a message for each connection that did not speak ZMTP, where there is such."""
    return sock.monitor() if isinstance(sock, _ZmqSocket) else None


def _bind(kind: int, in_memory: Callable[[int], memory.MemorySocket], queue_frames: int, *endpoints: str) -> Socket:
    of_memory = _scheme(endpoints[0]) == "memory"
    sock = in_memory(queue_frames) if of_memory else _ZmqSocket(kind, queue_frames=queue_frames)
    for endpoint in endpoints:
        sock.bind(endpoint)
    return sock


def _connect(endpoint: str, kind: int, in_memory: Callable[[int], memory.MemorySocket], queue_frames: int) -> Socket:
    socket = in_memory(queue_frames) if _scheme(endpoint) == "memory" else _ZmqSocket(kind, queue_frames=queue_frames)
    socket.connect(endpoint)
    return socket


def _scheme(endpoint: str) -> str:
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in _SCHEMES or not rest:
        hint = "this libzmq has it, but dompbus does not use it yet" if scheme in ("epgm", "norm", "pgm") else ""
        allowed = "tcp://host:port, ipc://path, inproc://name or memory://name"
        raise EndpointError(f"{endpoint!r} is not an endpoint: use {allowed}{'; ' + hint if hint else ''}")
    if scheme == "tcp" and _TCP.fullmatch(endpoint) is None:
        raise EndpointError(f"{endpoint!r} is not an endpoint: use tcp://host:port, such as tcp://127.0.0.1:7400")
    return scheme


def _is_served(path: str) -> bool:
    """Whether somebody listens at this Unix socket: libzmq would take it away from him without a word."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _zmq_endpoint(endpoint: str) -> str:
    return re.sub(r":0$", ":*", endpoint) if endpoint.startswith("tcp://") else endpoint


def _public_endpoint(asked: str, bound: str) -> str:
    """The bound endpoint, with the wildcard host kept as a wildcard for the peer to fill in."""
    match, real = _TCP.fullmatch(asked), _TCP.fullmatch(bound)
    return f"tcp://{match['host']}:{real['port']}" if match is not None and real is not None else bound


def _why_not_bound(endpoint: str, error: zmq.ZMQError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{endpoint} is in use by another process: stop it, or listen elsewhere (port 0 picks a free one)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"not allowed to listen at {endpoint}: choose a port above 1023 or a path that is writable"
    if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
        return f"cannot listen at {endpoint}: this machine has no such address"
    return f"cannot listen at {endpoint}: {error}"
