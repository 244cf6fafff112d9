"""The reactor: drains all sockets that are ready, lets the cores work on the whole lot, sends what they want sent.

The law here: sockets and cores are touched under `lock` only, and nobody waits for a socket while holding it. Who
pumps is whoever waits: a node has a thread that does nothing else; a blocking client has none, so the caller that
waits pumps (one at a time, the others are told when something came); an asyncio client is called by its loop when
`fileno()` becomes readable.
"""

import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from dompbus.errors import ClosedError
from dompbus.runtime.transport import Socket

__all__ = ["Port", "Reactor"]

_DRAIN_FRAMES_MAX: Final = 512  # per port and round, so that no socket starves the others
_NEVER: Final = 2**63
_log: Final = logging.getLogger("dompbus.reactor")


class Port:
    """One socket in the reactor, and who gets what arrives on it."""

    __slots__ = ("fd", "name", "receive", "socket", "touched")

    def __init__(self, name: str, sock: Socket, receive: Callable[[list[bytes]], None]) -> None:
        self.name = name
        self.socket = sock
        self.fd = sock.fileno()
        self.receive = receive
        self.touched = False  # sent on since it was last looked at: that may have silenced its descriptor

    def send(self, parts: list[bytes]) -> bool:
        """Send now; False when nobody took it."""
        self.touched = True
        return self.socket.send(parts)

    def drain(self) -> int:
        """Pass on what has arrived; return how many messages that was."""
        sock, receive = self.socket, self.receive
        received = 0
        while received < _DRAIN_FRAMES_MAX and sock.readable():
            parts = sock.recv()
            if parts is None:
                break
            receive(parts)
            received += 1
        self.touched = received >= _DRAIN_FRAMES_MAX
        return received


class Reactor:
    """Pumps a set of ports. `work(now_ns)` is called after each lot and returns when it wants to be called again."""

    def __init__(self, work: Callable[[int], int | None]) -> None:
        self.lock = threading.RLock()
        self.busy_ns = 0
        self.turns = 0
        self.failure: Exception | None = None
        self.turned_ns = time.monotonic_ns()  # when a turn last ended: for health
        self._changed = threading.Condition(self.lock)
        self._work = work
        self._ports: list[Port] = []
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._awake = False
        self._leader: int | None = None
        self._next_ns = 0
        self._until_ns = 0
        self._calls: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._pid = os.getpid()

    # -- ports -------------------------------------------------------------------------------------------------

    def add(self, name: str, sock: Socket, receive: Callable[[list[bytes]], None]) -> Port:
        """Pump this socket from now on."""
        with self.lock:
            port = Port(name, sock, receive)
            self._ports.append(port)
            self._selector.register(port.fd, selectors.EVENT_READ)
            return port

    def remove(self, port: Port) -> None:
        """Stop pumping this socket and close it."""
        with self.lock:
            self._ports.remove(port)
            self._selector.unregister(port.fd)
            port.socket.close()

    def fileno(self) -> int:
        """A descriptor that is readable when `turn` has something to do. For event loops."""
        return self._selector.fileno()

    # -- pumping -----------------------------------------------------------------------------------------------

    def turn(self) -> int | None:
        """Do all there is to do; return the monotonic time in ns at which there is more, or None. Takes the lock."""
        with self.lock:
            if self._closed:
                return None
            started_ns = time.monotonic_ns()
            self._drain_wake()
            progress = self._drain(self._ports)
            while True:
                progress |= self._run_calls()
                next_ns = self._work(time.monotonic_ns())
                touched = [port for port in self._ports if port.touched]
                if not self._drain(touched) and not self._calls:
                    break
                progress = True
            self._next_ns = _NEVER if next_ns is None else next_ns
            if progress:
                self._changed.notify_all()
            if self._leader not in (None, threading.get_ident()) and (progress or self._next_ns < self._until_ns):
                self.wake()
            self.turned_ns = time.monotonic_ns()
            self.busy_ns += self.turned_ns - started_ns
            self.turns += 1
            return next_ns

    def wait(self, ready: Callable[[], bool], deadline_ns: int | None = None) -> bool:
        """Pump, or wait for whoever pumps, until `ready()`; False when the deadline (monotonic ns) passed first."""
        with self.lock:
            if self._thread is not None:
                self.wake()
            while True:
                self.check_usable()
                if self._thread is None:
                    self.turn()
                if ready():
                    return True
                now_ns = time.monotonic_ns()
                if deadline_ns is not None and now_ns >= deadline_ns:
                    return False
                if self._thread is None and self._leader is None:
                    self._lead(min(deadline_ns or _NEVER, self._next_ns))
                else:
                    self._changed.wait(None if deadline_ns is None else (deadline_ns - now_ns) / 1e9)

    def call(self, action: Callable[[], None]) -> None:
        """Run `action` in the next turn, under the lock. From any thread."""
        self._calls.append(action)
        self.wake()

    def wake(self) -> None:
        """Have the pumping thread take a turn soon. From any thread, without the lock."""
        if not self._awake:
            self._awake = True
            with suppress(BlockingIOError, OSError):  # full: it will wake anyway; closed: nobody is there to wake
                self._wake_writer.send(b"\0")

    def start(self, name: str) -> None:
        """Give the reactor a thread of its own."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def on_own_thread(self) -> bool:
        """Whether the caller runs on the reactor's thread, where waiting would wait for itself."""
        return self._thread is threading.current_thread()

    def check_usable(self) -> None:
        """Raise `ClosedError` after `close`, or in a process that was forked from the owner."""
        if self._closed:
            raise ClosedError("this client or node is closed")
        if self.failure is not None:
            raise ClosedError(f"this client or node stopped after a fault of its own: {self.failure!r}")
        if os.getpid() != self._pid:
            raise ClosedError("this client or node was opened in another process: open one after the fork")

    def close(self, farewell: Callable[[], None]) -> None:
        """Run `farewell` under the lock, close all ports, end the thread. Idempotent; not from the own thread."""
        if os.getpid() != self._pid:
            return  # a forked child must not touch its parent's sockets
        with self.lock:
            if self._closed:
                return
            self._run_calls()
            farewell()
            self._closed = True
            while self._ports:  # newest first: a monitor before the socket that it watches
                port = self._ports.pop()
                self._selector.unregister(port.fd)
                port.socket.close()
            self._changed.notify_all()
            self._awake = False
            self.wake()
        if self._thread is not None:
            self._thread.join()
        with self.lock:
            self._selector.close()
            self._wake_reader.close()
            self._wake_writer.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _drain(self, ports: list[Port]) -> bool:
        """Drain these ports until they are quiet; return whether anything came."""
        received = False
        for port in ports:
            if port.drain():
                received = True
        return received

    def _run_calls(self) -> bool:
        ran = bool(self._calls)
        while self._calls:
            self._calls.popleft()()
        return ran

    def _lead(self, until_ns: int) -> None:
        """Wait for the sockets, with the lock released meanwhile. Entered and left holding the lock once."""
        self._leader = threading.get_ident()
        self._until_ns = until_ns
        self.lock.release()
        try:
            timeout = None if until_ns >= _NEVER else max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
            self._selector.select(timeout)
        finally:
            self.lock.acquire()
            self._leader = None
            if self._thread is None:
                self._changed.notify_all()  # whoever still waits may lead now

    def _drain_wake(self) -> None:
        if self._awake:
            self._awake = False
            with suppress(BlockingIOError):
                while self._wake_reader.recv(64):
                    pass

    def _run(self) -> None:
        try:
            with self.lock:
                while not self._closed:
                    next_ns = self.turn()
                    self._lead(_NEVER if next_ns is None else next_ns)
        except Exception as error:  # a fault of ours: say so to everybody who waits, instead of hanging them
            _log.exception("the reactor stopped")
            with self.lock:
                self.failure = error
                self._changed.notify_all()
