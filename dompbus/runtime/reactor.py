"""The reactor: drains the sockets that are ready, lets the cores work on the whole lot, sends what they want sent.

The law here: sockets and cores are touched under `lock` only, and nobody waits for a socket while holding it. Who
pumps is whoever waits: a node has a thread that does nothing else; a blocking client has none, so the caller that
waits pumps (one at a time, the others are told when something came); an asyncio client is called by its loop when
`fileno()` becomes readable.

What a message costs here was measured: a wake-up 50 us and more, asking a ZeroMQ socket whether it is readable 4 us,
receiving 1 us. So a port is looked at only when its descriptor fired or after we have used it ourselves (which may
have silenced the descriptor); a caller whose answer has come returns before anything else is done; and who has just
had something to do looks on for a moment (`spin`), giving way to others, before it sleeps.
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
from typing import Final, Protocol

from dompbus.errors import ClosedError
from dompbus.runtime.transport import Socket

__all__ = ["Port", "Reactor", "Worker"]

_DRAIN_FRAMES_MAX: Final = 512  # per port and round, so that no socket starves the others
_NEVER: Final = 2**63
_log: Final = logging.getLogger("dompbus.reactor")
_give_way: Final = getattr(os, "sched_yield", lambda: None)
_forks = 0  # rises in every child process: what was opened before belongs to the parent


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Worker(Protocol):
    """The cores' side of a reactor."""

    def work(self, now_ns: int) -> int:
        """Act on what has arrived and on time; return when to be called again at the latest (monotonic ns)."""
        ...

    def has_work(self) -> bool:
        """Whether `work` would do something now, whatever the time."""
        ...


class Port:
    """One socket in the reactor, and who gets what arrives on it."""

    __slots__ = ("fd", "look", "name", "receive", "socket")

    def __init__(self, name: str, sock: Socket, receive: Callable[[list[bytes]], None]) -> None:
        self.name = name
        self.socket = sock
        self.fd = sock.fileno()
        self.receive = receive
        self.look = True  # something may be there that the descriptor will not announce (again)

    def send(self, parts: list[bytes]) -> bool:
        """Send now; False when nobody took it."""
        self.look = True
        return self.socket.send(parts)

    def drain(self, frames_max: int) -> bool:
        """Pass on what has arrived, at most so much; return whether anything had."""
        readable, recv, receive = self.socket.readable, self.socket.recv, self.receive
        for received in range(frames_max):
            parts = recv() if readable() else None
            if parts is None:
                self.look = False
                return received > 0
            receive(parts)
        return True


class Reactor:
    """Pumps a set of ports on behalf of a worker. After activity it spins for at most `spin_ns` before it sleeps."""

    def __init__(self, worker: Worker, *, spin_ns: int = 0) -> None:
        self.lock = threading.RLock()
        self.busy_ns = 0
        self.turns = 0
        self.failure: Exception | None = None
        self.turned_ns = time.monotonic_ns()  # when a turn last ended: for health
        self.closed = False
        self._worker = worker
        self._spin_ns = spin_ns
        self._spin_until_ns = 0
        self._changed = threading.Condition(self.lock)
        self._followers = 0  # threads that wait for the one that pumps
        self._ports: list[Port] = []
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._awake = False
        self._leader: int | None = None  # the thread that waits for the sockets
        self._until_ns = 0  # how long it does
        self._next_ns = 0  # when the worker wants to be called
        self._calls: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._forks = _forks

    # -- ports -------------------------------------------------------------------------------------------------

    def add(self, name: str, sock: Socket, receive: Callable[[list[bytes]], None]) -> Port:
        """Pump this socket from now on."""
        with self.lock:
            port = Port(name, sock, receive)
            self._ports.append(port)
            self._selector.register(port.fd, selectors.EVENT_READ, port)
            return port

    def remove(self, port: Port) -> None:
        """Stop pumping this socket and close it."""
        with self.lock:
            self._ports.remove(port)
            self._selector.unregister(port.fd)
            port.socket.close()

    def fileno(self) -> int:
        """A descriptor that is readable when `poll` and `turn` have something to do. For event loops."""
        return self._selector.fileno()

    # -- pumping -----------------------------------------------------------------------------------------------

    def turn(self) -> int | None:
        """Do all there is to do; return the monotonic time in ns at which there is more, or None. Takes the lock."""
        with self.lock:
            if self.closed:
                return None
            started_ns = now_ns = time.monotonic_ns()
            self._drain_wake()
            frames_max = 1  # a lone message is acted on before we ask for a second: that question costs 4 us
            progress, again = False, True
            while again:
                received = self._drain(frames_max)
                frames_max = _DRAIN_FRAMES_MAX
                ran = self._run_calls()
                self._next_ns = self._worker.work(now_ns)
                again = received or ran or bool(self._calls) or self._worker.has_work()
                progress |= again
                now_ns = time.monotonic_ns()
            self._tell(progress)
            if progress:
                self._spin_until_ns = now_ns + self._spin_ns
            self.turned_ns = now_ns
            self.busy_ns += now_ns - started_ns
            self.turns += 1
            return None if self._next_ns >= _NEVER else self._next_ns

    def wait(self, ready: Callable[[], bool], deadline_ns: int | None = None) -> bool:
        """Pump, or wait for whoever pumps, until `ready()`; False when the deadline (monotonic ns) passed first.

        For a reactor without a thread of its own.
        """
        assert self._thread is None
        deadline_ns = _NEVER if deadline_ns is None else deadline_ns
        with self.lock:
            self._spin_until_ns = time.monotonic_ns() + self._spin_ns
            frames_max, act, woken = 1, True, False
            while True:
                self.check_usable()
                now_ns = time.monotonic_ns()
                if act or now_ns >= self._next_ns or self._worker.has_work():
                    self._next_ns = self._worker.work(now_ns)
                    self._tell(False)
                if ready():
                    return True
                act = False
                if self._drain(frames_max):
                    frames_max, woken = _DRAIN_FRAMES_MAX, False
                    self._tell(True)
                elif woken:  # for something else than a message: a socket takes frames again, or somebody asks
                    act, woken = True, False
                elif now_ns >= deadline_ns:
                    return False
                elif self._leader is None:
                    self._lead(min(deadline_ns, self._next_ns))
                    frames_max, woken = 1, True
                else:
                    self._follow(deadline_ns, now_ns)

    def poll(self) -> None:
        """Look which sockets are ready, without waiting; for event loops, before `turn`."""
        with self.lock:
            if not self.closed:
                self._mark(self._selector.select(0))

    def call(self, action: Callable[[], None]) -> None:
        """Run `action` in the next turn, under the lock. From any thread."""
        self._calls.append(action)
        self.wake()

    def wake(self) -> None:
        """Have the pumping thread take a turn soon. From any thread, without the lock."""
        if not self._awake:
            self._awake = True
            with suppress(OSError):  # full: it will wake anyway; closed: nobody is there to wake
                self._wake_writer.send(b"\0")

    def start(self, name: str) -> None:
        """Give the reactor a thread of its own."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def on_own_thread(self) -> bool:
        """Whether the caller runs on the reactor's thread, where waiting would wait for itself."""
        return self._thread is threading.current_thread()

    def check_usable(self) -> None:
        """Raise `ClosedError` after `close`, or in a process that was forked from the owner."""
        if self._forks != _forks:
            raise ClosedError("this client or node was opened in another process: open one after the fork")
        if self.closed:
            raise ClosedError("this client or node is closed")
        if self.failure is not None:
            raise ClosedError(f"this client or node stopped after a fault of its own: {self.failure!r}")

    def close(self, farewell: Callable[[], None]) -> None:
        """Run `farewell` under the lock, close all ports, end the thread. Idempotent; not from the own thread."""
        if self._forks != _forks:
            return  # a forked child must not touch its parent's sockets
        with self.lock:
            if self.closed:
                return
            self._run_calls()
            farewell()
            self.closed = True
            while self._ports:  # newest first: a monitor before the socket that it watches
                port = self._ports.pop()
                self._selector.unregister(port.fd)
                port.socket.close()
            self._changed.notify_all()
            self._awake = False
            self.wake()
            while self._leader is not None and self._thread is None:  # it must not find its selector closed
                self._follow(_NEVER, 0)
        if self._thread is not None:
            self._thread.join()
        with self.lock:
            self._selector.close()
            self._wake_reader.close()
            self._wake_writer.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _drain(self, frames_max: int) -> bool:
        """Drain the ports that may hold something; return whether anything came."""
        received = False
        for port in self._ports:
            if port.look and port.drain(frames_max):
                received = True
        return received

    def _run_calls(self) -> bool:
        ran = bool(self._calls)
        while self._calls:
            self._calls.popleft()()
        return ran

    def _tell(self, progress: bool) -> None:
        """After acting for everybody: those who wait may be ready, and the one that pumps may have slept too long."""
        if progress and self._followers:
            self._changed.notify_all()
        if self._leader not in (None, threading.get_ident()) and (progress or self._next_ns < self._until_ns):
            self.wake()

    def _follow(self, deadline_ns: int, now_ns: int) -> None:
        """Wait until the one that pumps has something to tell."""
        self._followers += 1
        try:
            self._changed.wait(None if deadline_ns >= _NEVER else (deadline_ns - now_ns) / 1e9)
        finally:
            self._followers -= 1

    def _lead(self, until_ns: int) -> None:
        """Wait for the sockets, with the lock released meanwhile. Entered and left holding the lock once."""
        self._leader = threading.get_ident()
        self._until_ns = until_ns
        self.lock.release()
        try:
            events = self._spin(min(until_ns, self._spin_until_ns))
            if not events:
                timeout = None if until_ns >= _NEVER else max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
                events = self._selector.select(timeout)
        finally:
            self.lock.acquire()
            self._leader = None
            if self._followers and self._thread is None:
                self._changed.notify_all()  # whoever still waits may lead now
        self._mark(events)
        if self._thread is None:
            self._drain_wake()

    def _spin(self, until_ns: int) -> list[tuple[selectors.SelectorKey, int]]:
        """Look on for a moment: to be found awake saves the sender 50 us and us as much, at each end of a link."""
        while time.monotonic_ns() < until_ns:
            events = self._selector.select(0)
            if events:
                return events
            _give_way()
        return []

    def _mark(self, events: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, _ in events:
            if key.data is not None:
                key.data.look = True

    def _drain_wake(self) -> bool:
        if not self._awake:
            return False
        self._awake = False
        with suppress(OSError):
            while self._wake_reader.recv(64):
                pass
        return True

    def _run(self) -> None:
        try:
            with self.lock:
                while not self.closed:
                    next_ns = self.turn()
                    self._lead(_NEVER if next_ns is None else next_ns)
        except Exception as error:  # a fault of ours: say so to everybody who waits, instead of hanging them
            _log.exception("the reactor stopped")
            with self.lock:
                self.failure = error
                self._changed.notify_all()
