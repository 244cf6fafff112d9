"""The node: a peer that publishes, serves, and that others connect to. One thread owns its sockets.

The law here: `NodeCore` decides, the reactor moves bytes, and this module only joins the two. Effects are carried
out in the order that `dompbus.bus.node` gives.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from dompbus import limits
from dompbus.bus.node import Call, NodeCore
from dompbus.bus.publisher import Publisher
from dompbus.config import Config
from dompbus.counters import Counters
from dompbus.errors import DompbusError
from dompbus.replication.machine import Machine
from dompbus.replication.replica import Observe
from dompbus.runtime.blocking import BlockingLink, Subscription
from dompbus.runtime.connection import new_incarnation
from dompbus.runtime.machine import Chore, MachineHost
from dompbus.runtime.publishing import Publish, Publishing, PublishMany
from dompbus.runtime.reactor import Port, Reactor
from dompbus.runtime.services import Handler, Service
from dompbus.runtime.transport import PeerGone, Socket, bind_router, bind_xpub, watch_handshakes

__all__ = ["Node"]

_TICK_NS: Final = 200_000_000  # beacons of channels that have sent; also proves that the loop turns
_STALLED_NS: Final = 3_000_000_000
_HandlerT = TypeVar("_HandlerT", bound=Handler)
_T = TypeVar("_T")
_log: Final = logging.getLogger("dompbus.node")


class Node:
    """A peer on the bus: `with dompbus.Node(name="matching-1", listen="tcp://127.0.0.1:7400") as node: ...`

    Settings are those of `dompbus.config`, as a `Config` or by keyword. Services and machines are registered before
    or after `start`. `epoch` is that of its streams and must rise with each start; by default it is the wall clock's
    nanoseconds. `publish`, `publish_many`, `flush`, `subscribe` and `request` may be called from any thread;
    handlers run on the node's own thread unless they ask for `threads`.
    """

    def __init__(self, config: Config | None = None, *, epoch: int | None = None, **settings: Any) -> None:
        self.config = Config.of(config, **settings)
        self.counters = Counters()
        self.name = self.config.node_name
        self.incarnation = new_incarnation()
        self.endpoint = ""
        self.http_address: str | None = None
        self.failure: DompbusError | None = None
        self._services: dict[str, Service] = {}
        self._machines: dict[str, MachineHost] = {}
        self._reactor = Reactor(self, spin_ns=int(self.config.timeouts.spin * 1e9))
        self._exit = ExitStack()
        self._next_tick_ns = 0
        self._backlogs: dict[bytes, deque[list[bytes]]] = {}  # peer -> what its full queue has not taken, in order
        self._backlog_bytes = 0
        self._self_link: BlockingLink | None = None
        batch, flow = self.config.batch, self.config.flow
        self._publisher = Publisher(
            self.counters,
            epoch=epoch or time.time_ns(),
            batch_messages_max=batch.messages_max,
            batch_bytes_max=batch.bytes_max,
            ring_frames=flow.ring_frames,
            ring_bytes=flow.ring_bytes,
        )
        self._core = NodeCore(
            incarnation=self.incarnation, name=self.name, publisher=self._publisher, counters=self.counters
        )
        self._publishing = Publishing(
            self._publisher,
            self._reactor,
            send=self._send_published,
            wake=self._reactor.wake,
            linger_ns=int(batch.linger * 1e9),
        )
        self.publish: Publish = self._publishing.publish  # bound once: it is the hot path
        self.publish_many: PublishMany = self._publishing.publish_many

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Bind the sockets and begin to serve. Raises `EndpointError` when an endpoint cannot be had."""
        self._reactor.check_usable()
        try:
            self._bind()
            if self.config.http.listen != "off":
                self._serve_http()
        except BaseException:
            self.close()
            raise
        for machine in self._machines.values():
            machine.start(self._reactor, self._core.reply)
        self._reactor.start(f"dompbus-{self.name}")
        return self

    def _serve_http(self) -> None:
        from dompbus.runtime.http import HttpServer
        from dompbus.runtime.metrics import NodeMetrics

        server = HttpServer(
            self.config.http.listen,
            metrics=NodeMetrics(self.counters).render,
            health=lambda: (self.healthy, {"name": self.name}),
            ready=lambda: (self.healthy and self.failure is None, self._readiness()),
        )
        self._exit.callback(server.close)
        self.http_address = server.address

    def _readiness(self) -> dict[str, object]:
        machines = {name: str(host.failure or "serving") for name, host in self._machines.items()}
        return {"name": self.name, "endpoint": self.endpoint, "machines": machines}

    def close(self) -> None:
        """Stop serving: running handlers and commits finish, sockets close. Idempotent."""
        if self._reactor.on_own_thread:
            raise RuntimeError("close() from a handler would wait for itself: call it from another thread")
        with ExitStack() as closing:  # from the last line to the first, all of them, whatever one of them raises
            closing.push(self._exit)
            for machine in self._machines.values():
                closing.callback(machine.close)
            closing.callback(self._reactor.close, self._farewell)
            for machine in self._machines.values():
                closing.callback(machine.stop)
            if self._self_link is not None:
                closing.callback(self._self_link.close)
            for service in self._services.values():
                closing.callback(service.close)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def healthy(self) -> bool:
        """Whether the main loop makes progress."""
        return self._reactor.failure is None and time.monotonic_ns() - self._reactor.turned_ns < _STALLED_NS

    # -- serving -----------------------------------------------------------------------------------------------

    def service(self, name: str, *, threads: int = 0) -> Callable[[_HandlerT], _HandlerT]:
        """Decorator: answer requests to `name` with this function, which takes one annotated parameter.

        By default it runs on the node's own thread, which is fastest and must not block; with `threads=n` it runs
        on n threads of its own. A second function for the same name replaces the first.
        """

        def register(handler: _HandlerT) -> _HandlerT:
            service = Service(name, handler, threads=threads)
            with self._reactor.lock:
                replaced = self._services.get(name)
                self._services[name] = service
                self._core.offer(name)
            if replaced is not None:
                replaced.close()  # without the lock: a handler that still runs may want it
            return handler

        return register

    def host_machine(
        self,
        name: str,
        machine: Machine,
        directory: Path,
        *,
        chore: Chore | None = None,
        observe: Observe | None = None,
    ) -> MachineHost:
        """Serve a deterministic machine from the journal in `directory`, before `start`.

        Recovers its state first, which may take a while. `chore` is asked before each commit and several times a second
        for a command that time has made necessary; `observe` sees each command with its result, for counting.
        Raises `StorageError` and its kinds.
        """
        host = MachineHost(
            name,
            machine,
            directory,
            segment_bytes=self.config.ledger.segment_bytes,
            epoch=self._publisher.epoch,
            counters=self.counters,
            chore=chore,
            observe=observe,
        )
        self._machines[name] = host
        self._core.offer(name, remembers=True)
        self._core.offer(f"{name}.query", remembers=True)
        return host

    def flush(self) -> None:
        """Send what has gathered, now."""
        with self._reactor.lock:
            self._reactor.check_usable()
            self._send_published()

    # -- as a client of itself ---------------------------------------------------------------------------------

    @overload
    def subscribe(
        self, pattern: str, *, type: type[_T], delivery: str = ..., timeout: float | None = ...
    ) -> Subscription[_T]: ...
    @overload
    def subscribe(
        self, pattern: str, *, type: Any = ..., delivery: str = ..., timeout: float | None = ...
    ) -> Subscription[Any]: ...
    def subscribe(
        self, pattern: str, *, type: Any = None, delivery: str = "reliable", timeout: float | None = None
    ) -> Subscription[Any]:
        """Subscribe to what this node carries; see `Client.subscribe`. Iterate on a thread of your own."""
        return self._link().subscribe(pattern, type=type, delivery=delivery, timeout=timeout)

    @overload
    def request(self, service: str, value: Any = ..., *, type: type[_T], timeout: float | None = ...) -> _T: ...
    @overload
    def request(self, service: str, value: Any = ..., *, type: Any = ..., timeout: float | None = ...) -> Any: ...
    def request(self, service: str, value: Any = None, *, type: Any = None, timeout: float | None = None) -> Any:
        """Ask a service of this node; see `Client.request`. Not from a handler, which would wait for itself."""
        return self._link().request(service, value, type=type, timeout=timeout)

    # -- inside ------------------------------------------------------------------------------------------------

    def _link(self) -> BlockingLink:
        if self._reactor.on_own_thread:
            raise RuntimeError("a handler on the node's thread would wait for itself: give the service threads=")
        with self._reactor.lock:
            if self._self_link is None:
                self._self_link = BlockingLink(self._inner_endpoint, self.config, name=f"{self.name}-self")
            return self._self_link

    def _bind(self) -> None:
        endpoints = self.config.node.endpoints()
        queue_frames = self.config.flow.socket_queue_frames
        inner = "memory" if endpoints.listen.startswith("memory://") else "inproc"
        self._inner_endpoint = f"{inner}://dompbus-{self.incarnation:x}"
        router = bind_router(endpoints.listen, self._inner_endpoint, queue_frames=queue_frames)
        self._router = self._add("router", router, self._on_router)
        self.endpoint = router.endpoint
        xpub = bind_xpub(endpoints.publish, queue_frames=queue_frames)
        self._xpub = self._add("xpub", xpub, self._on_xpub)
        control = bind_router(endpoints.control, queue_frames=queue_frames)
        self._control = self._add("control", control, self._on_control)
        self._core.publish_endpoint = xpub.endpoint
        self._core.control_endpoint = control.endpoint

    def _add(self, name: str, socket: Socket, receive: Callable[[list[bytes]], None]) -> Port:
        port = self._reactor.add(name, socket, receive)
        monitor = watch_handshakes(socket)
        if monitor is not None:
            self._reactor.add(f"{name}-handshakes", monitor, self._on_bad_handshake)
        return port

    def _on_router(self, parts: list[bytes]) -> None:
        if len(parts) == 2:
            self._core.receive(parts[0], parts[1], time.monotonic_ns())
        else:
            self.counters.frames_refused["bounds"] += 1

    def _on_xpub(self, parts: list[bytes]) -> None:
        self._core.receive_subscription(parts[0])

    def _on_control(self, parts: list[bytes]) -> None:
        if len(parts) != 2:
            self.counters.frames_refused["bounds"] += 1
            return
        with suppress(PeerGone):
            self._control.send([parts[0], self._core.receive_control(parts[1], time.monotonic_ns())])

    def _on_bad_handshake(self, _parts: list[bytes]) -> None:
        self.counters.frames_refused["handshake"] += 1

    def work(self, now_ns: int) -> int:
        """For the reactor: one lot. Time, calls, everything that is to be sent, then what machines have to store."""
        core = self._core
        while not core.idle:  # first of all, because somebody waits for it
            self._fulfil()
        if self._backlogs:
            self._send_backlogs()
        if now_ns >= self._next_tick_ns:
            self._next_tick_ns = now_ns + _TICK_NS
            core.tick(now_ns)
            self.counters.streams = len(self._publisher.streams)
        if self._publishing.is_due(now_ns):
            core.publish_gathered(time.time_ns())
        self._fulfil()
        for machine in self._machines.values():
            machine.work()
            if machine.failure is not None:
                self.failure = machine.failure
        self.counters.reactor_busy_ns = self._reactor.busy_ns
        self.counters.reactor_turns = self._reactor.turns
        return min(self._next_tick_ns, self._publishing.next_ns)

    def has_work(self) -> bool:
        """For the reactor: whether there is a call to carry out or a frame to send."""
        return not self._core.idle

    def _fulfil(self) -> None:
        effects = self._core.take_effects()
        for call in effects.calls:
            self._call(call)
        for peer, parts in effects.sends:
            self._send(peer, parts)
        self._fan_out(effects.fanouts)

    def _fan_out(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._xpub.send([frame])
            self.counters.frames_sent += 1
            self.counters.bytes_sent += len(frame)

    def _call(self, call: Call) -> None:
        name = call.request.service
        service = self._services.get(name)
        if service is not None:
            service.serve(call, self._core.reply, self._reactor, self.counters)
        elif (machine := self._machines.get(name)) is not None:
            machine.submit(call)
        else:
            self._machines[name.removesuffix(".query")].query(call)

    def _send(self, peer: bytes, parts: list[bytes]) -> None:
        """Send to one peer, or keep it until the peer's queue has room again: an answer is not lost for being late."""
        if peer not in self._backlogs and self._send_now(peer, parts):
            return
        backlog = self._backlogs.setdefault(peer, deque())
        size = len(parts[-1])
        room = limits.PEER_BACKLOG_BYTES_MAX - self._backlog_bytes
        if len(backlog) >= limits.PEER_BACKLOG_FRAMES_MAX or size > room:
            self.counters.messages_dropped["peer_full"] += 1
            return
        backlog.append(parts)
        self._backlog_bytes += size

    def _send_now(self, peer: bytes, parts: list[bytes]) -> bool:
        """Send to one peer; False when its queue is full. What is for a peer that has left is dropped, and counted."""
        try:
            if not self._router.send([peer, *parts]):
                return False
        except PeerGone:
            self.counters.messages_dropped["peer_gone"] += 1
            return True
        self.counters.frames_sent += 1
        self.counters.bytes_sent += len(parts[-1])
        return True

    def _send_backlogs(self) -> None:
        for peer, backlog in list(self._backlogs.items()):
            while backlog and self._send_now(peer, backlog[0]):
                self._backlog_bytes -= len(backlog.popleft()[-1])
            if not backlog:
                del self._backlogs[peer]

    def _send_published(self) -> None:
        """For a publisher's own thread: fan out what was gathered, and nothing else."""
        self._fan_out(self._publisher.frames(time.time_ns()))
        if not self._reactor.on_own_thread and self._xpub.socket.readable():
            self._reactor.wake()  # our send may have silenced the descriptor

    def _farewell(self) -> None:
        if self.endpoint:
            self._core.publish_gathered(time.time_ns())
            self._core.say_goodbye()
            self._fulfil()
