"""The memory transport: ROUTER, DEALER, XPUB and SUB between threads of one process, without ZeroMQ.

The law here: the same meaning as the ZeroMQ sockets (order per pair, bounded queues, a full one makes a send False,
a DEALER may connect before the other side binds). Names are process-wide. For tests and for the simulator.
"""

import socket
import threading
from collections import deque
from itertools import count
from typing import Final

from dompbus.errors import EndpointError

__all__ = ["Dealer", "MemorySocket", "PeerGone", "Router", "Sub", "XPub"]

_lock: Final = threading.RLock()  # over the registry and every queue: simple, and fast enough for its purpose
_bound: Final[dict[str, "MemorySocket"]] = {}
_waiting: Final[dict[str, list["MemorySocket"]]] = {}
_identities: Final = count(1)


class PeerGone(Exception):
    """The peer that a router is to send to is not connected (any more)."""


class MemorySocket:
    """An inbox with a descriptor that is readable while something is in it."""

    def __init__(self, queue_frames: int) -> None:
        self.endpoint = ""
        self.closed = False
        self._queue_frames = queue_frames
        self._inbox: deque[list[bytes]] = deque()
        self._signalled = False
        self._reader, self._writer = socket.socketpair()

    def fileno(self) -> int:
        """Descriptor to poll."""
        return self._reader.fileno()

    def readable(self) -> bool:
        """Whether `recv` would return something."""
        return bool(self._inbox)

    def recv(self) -> list[bytes] | None:
        """Return the next message's parts, or None."""
        with _lock:
            parts = self._inbox.popleft() if self._inbox else None
            if not self._inbox and self._signalled:
                self._signalled = False
                self._reader.recv(1)
            return parts

    def send(self, parts: list[bytes]) -> bool:
        """Hand over one message; False when a queue is full. A router raises `PeerGone` for a peer that has left."""
        raise AssertionError("this kind of socket does not send")

    def bind(self, endpoint: str) -> None:
        """Take the name."""
        with _lock:
            if endpoint in _bound:
                self.close()
                raise EndpointError(f"{endpoint} is in use in this process: choose another name")
            _bound[endpoint] = self
            self.endpoint = self.endpoint or endpoint
            for peer in _waiting.pop(endpoint, []):
                self.attach(peer)
                peer.attach(self)

    def connect(self, endpoint: str) -> None:
        """Connect to the name, now or when it is bound."""
        with _lock:
            self.endpoint = endpoint
            self._meet()

    def attach(self, peer: "MemorySocket") -> None:
        """The other side is there."""

    def detach(self, peer: "MemorySocket") -> None:
        """The other side has closed."""

    def subscribe(self, prefix: bytes) -> None:
        """SUB only."""

    def unsubscribe(self, prefix: bytes) -> None:
        """SUB only."""

    def push(self, parts: list[bytes], *, waited: bool = False) -> bool:
        """Put one message into the inbox, if there is room, or it has `waited` within its sender's bound."""
        with _lock:
            if self.closed or (len(self._inbox) >= self._queue_frames and not waited):
                return False
            self._inbox.append(parts)
            if not self._signalled:
                self._signalled = True
                self._writer.send(b"\0")
            return True

    def close(self) -> None:
        """Leave the registry; peers notice."""
        with _lock:
            if self.closed:
                return
            self.closed = True
            for name in [name for name, holder in _bound.items() if holder is self]:
                del _bound[name]
            if self in _waiting.get(self.endpoint, []):
                _waiting[self.endpoint].remove(self)
            self._leave()
            self._reader.close()
            self._writer.close()

    def _meet(self) -> None:
        peer = _bound.get(self.endpoint)
        if peer is None:
            _waiting.setdefault(self.endpoint, []).append(self)
        else:
            peer.attach(self)
            self.attach(peer)

    def _leave(self) -> None:
        """Tell the peers."""


class Router(MemorySocket):
    """Many dealers, each by an identity."""

    def __init__(self, queue_frames: int) -> None:
        super().__init__(queue_frames)
        self.dealers: dict[bytes, Dealer] = {}

    def attach(self, peer: MemorySocket) -> None:
        assert isinstance(peer, Dealer)
        self.dealers[peer.identity] = peer

    def detach(self, peer: MemorySocket) -> None:
        assert isinstance(peer, Dealer)
        self.dealers.pop(peer.identity, None)

    def send(self, parts: list[bytes]) -> bool:
        with _lock:
            dealer = self.dealers.get(parts[0])
            if dealer is None:
                raise PeerGone
            return dealer.push(parts[1:])

    def _leave(self) -> None:
        for dealer in list(self.dealers.values()):
            dealer.detach(self)


class Dealer(MemorySocket):
    """One connection to a router. What is sent before the other side is there waits, as with ZeroMQ."""

    def __init__(self, queue_frames: int) -> None:
        super().__init__(queue_frames)
        self.identity = b"m%d" % next(_identities)
        self._router: MemorySocket | None = None
        self._outgoing: deque[list[bytes]] = deque()

    def attach(self, peer: MemorySocket) -> None:
        self._router = peer
        while self._outgoing:  # each side's queue has its own bound, so all of it fits
            peer.push([self.identity, *self._outgoing.popleft()], waited=True)

    def detach(self, peer: MemorySocket) -> None:
        self._router = None
        if not self.closed:
            _waiting.setdefault(self.endpoint, []).append(self)

    def send(self, parts: list[bytes]) -> bool:
        with _lock:
            if self._router is not None:
                return self._router.push([self.identity, *parts])
            if len(self._outgoing) >= self._queue_frames:
                return False
            self._outgoing.append(list(parts))
            return True

    def _leave(self) -> None:
        if self._router is not None:
            self._router.detach(self)


class XPub(MemorySocket):
    """Fan-out by prefix; a subscriber whose queue is full misses the message."""

    def __init__(self, queue_frames: int) -> None:
        super().__init__(queue_frames)
        self.subs: list[Sub] = []

    def attach(self, peer: MemorySocket) -> None:
        assert isinstance(peer, Sub)
        self.subs.append(peer)
        for prefix in sorted(peer.prefixes):
            self.push([b"\1" + prefix])

    def detach(self, peer: MemorySocket) -> None:
        assert isinstance(peer, Sub)
        self.subs.remove(peer)
        for prefix in sorted(peer.prefixes):
            self.push([b"\0" + prefix])

    def send(self, parts: list[bytes]) -> bool:
        with _lock:
            for sub in self.subs:
                if parts[0].startswith(tuple(sub.prefixes)):
                    sub.push(parts)
            return True

    def _leave(self) -> None:
        for sub in list(self.subs):
            sub.detach(self)


class Sub(MemorySocket):
    """Listens to prefixes of one XPUB."""

    def __init__(self, queue_frames: int) -> None:
        super().__init__(queue_frames)
        self.prefixes: set[bytes] = set()
        self._xpub: MemorySocket | None = None

    def attach(self, peer: MemorySocket) -> None:
        self._xpub = peer

    def detach(self, peer: MemorySocket) -> None:
        self._xpub = None
        if not self.closed:
            _waiting.setdefault(self.endpoint, []).append(self)

    def subscribe(self, prefix: bytes) -> None:
        with _lock:
            if prefix not in self.prefixes:
                self.prefixes.add(prefix)
                if self._xpub is not None:
                    self._xpub.push([b"\1" + prefix])

    def unsubscribe(self, prefix: bytes) -> None:
        with _lock:
            if prefix in self.prefixes:
                self.prefixes.discard(prefix)
                if self._xpub is not None:
                    self._xpub.push([b"\0" + prefix])

    def _leave(self) -> None:
        if self._xpub is not None:
            self._xpub.detach(self)
