"""The shell of a link: the DEALER, SUB and control sockets to one node, driven by a `LinkCore`.

The law here: effects are carried out in the order in which the core hands them out; what a socket does not take is
kept for DEALER until it does, and lost on the control socket, where the next beacon makes up for it.
"""

import time
from collections import deque
from typing import Any

from dompbus import limits
from dompbus.bus.link import Connect, Control, Join, Leave, LinkCore
from dompbus.runtime.reactor import Port, Reactor
from dompbus.runtime.transport import connect_dealer, connect_sub, reachable_endpoint
from dompbus.wire.frame import REPAIR_MARK

__all__ = ["Link"]


class Link:
    """One connection to one node, within a reactor."""

    def __init__(self, url: str, core: LinkCore, reactor: Reactor, *, queue_frames: int) -> None:
        self.url = url
        self.core = core
        self._reactor = reactor
        self._queue_frames = queue_frames
        self._main = reactor.add("dealer", connect_dealer(url, queue_frames=queue_frames), self._on_main)
        self._sub: Port | None = None
        self._control: Port | None = None
        self._joined: set[bytes] = set()
        self._backlog: deque[bytes] = deque()  # in order; bounded by what the core lets be outstanding

    @property
    def clear(self) -> bool:
        """Whether everything handed over so far was taken, so that more may be published."""
        return not self._backlog

    def work(self, now_ns: int) -> int:
        """Let the core do what is due and carry out its effects; return when it wants to be called again."""
        core, backlog = self.core, self._backlog
        while backlog and self._main.send([backlog[0]]):
            backlog.popleft()
        if now_ns >= core.due_ns:
            core.tick(now_ns)
        for effect in core.take_effects():
            if effect.__class__ is not bytes:
                self._fulfil(effect)
            elif backlog or not self._main.send([effect]):
                backlog.append(effect)
        return core.due_ns

    def _on_main(self, parts: list[bytes]) -> None:
        data = parts[0]
        if data[:1] == REPAIR_MARK:
            self._on_channel(data, len(REPAIR_MARK))
        else:
            self.core.receive(data, time.monotonic_ns())

    def _on_published(self, parts: list[bytes]) -> None:
        self._on_channel(parts[0], 0)

    def _on_channel(self, data: bytes, start: int) -> None:
        end = data.find(b"\0", start, start + limits.TOPIC_BYTES_MAX + 1) + 1
        self.core.receive_published(data[start:end], memoryview(data)[end:], time.monotonic_ns())

    def _on_control(self, parts: list[bytes]) -> None:
        self.core.receive(parts[0], time.monotonic_ns())

    def _fulfil(self, effect: Any) -> None:
        if isinstance(effect, Control):
            if self._control is not None:
                self._control.send([effect.frame])
        elif isinstance(effect, Join):
            self._join(effect.prefixes)
        elif isinstance(effect, Leave):
            self._leave(effect.prefix)
        elif isinstance(effect, Connect):
            self._connect(effect)

    def _connect(self, effect: Connect) -> None:
        for port in (self._sub, self._control):
            if port is not None:
                self._reactor.remove(port)
        self._joined.clear()
        publish = reachable_endpoint(effect.publish_endpoint, self.url)
        control = reachable_endpoint(effect.control_endpoint, self.url)
        self._sub = self._reactor.add("sub", connect_sub(publish, queue_frames=self._queue_frames), self._on_published)
        self._control = self._reactor.add("control", connect_dealer(control, queue_frames=64), self._on_control)

    def _join(self, prefixes: list[bytes]) -> None:
        for prefix in prefixes:
            if self._sub is not None and prefix not in self._joined:
                self._joined.add(prefix)
                self._sub.socket.subscribe(prefix)
                self._sub.look = True

    def _leave(self, prefix: bytes) -> None:
        if self._sub is not None and prefix in self._joined:
            self._joined.discard(prefix)
            self._sub.socket.unsubscribe(prefix)
            self._sub.look = True
