"""A connection: one link with its reactor and its publishing; what both faces, blocking and asyncio, stand on.

The law here: the order of a turn. What was published is gathered into frames first, then the link sends those and all
else that its core wants sent; the reactor is told when to come back.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Final

from dompbus.bus.link import LinkCore, State
from dompbus.config import Config
from dompbus.counters import Counters
from dompbus.errors import DompbusError, Timeout, Unreachable
from dompbus.runtime.link import Link
from dompbus.runtime.publishing import GATHER_NS, Publishing
from dompbus.runtime.reactor import Reactor

__all__ = ["Connection", "new_incarnation"]

_log: Final = logging.getLogger("dompbus.client")


class Connection:
    """One link to one node. `send` has what was published sent now; `wake` has somebody pump soon."""

    def __init__(
        self,
        url: str,
        config: Config,
        *,
        name: str,
        send: Callable[[], None],
        wake: Callable[[], None],
        gather_ns: int = GATHER_NS,
        spin_ns: int = 0,
    ) -> None:
        self.url = url
        self.config = config
        self.counters = Counters()
        self.core = LinkCore(
            incarnation=new_incarnation(),
            name=name,
            counters=self.counters,
            heartbeat_ns=int(config.timeouts.heartbeat_interval * 1e9),
            batch_messages_max=config.batch.messages_max,
        )
        self.reactor = Reactor(self, spin_ns=spin_ns)
        self.publishing = Publishing(
            self.core.outbox,
            self.reactor,
            send=send,
            wake=wake,
            linger_ns=int(config.batch.linger * 1e9),
            gather_ns=gather_ns,
        )
        self._link = Link(url, self.core, self.reactor, queue_frames=config.flow.socket_queue_frames)

    # -- for the reactor ---------------------------------------------------------------------------------------

    def work(self, now_ns: int) -> int:
        """Send what is asked for and what was published, unless it may linger."""
        if not self.core.outbox.empty:
            self.core.begin(now_ns)
        if self.publishing.is_due(now_ns) and self._link.clear:
            self.core.publish_gathered()
        return min(self._link.work(now_ns), self.publishing.next_ns)

    def has_work(self) -> bool:
        """Whether there is something to send."""
        return self.core.has_effects

    # -- for the faces -----------------------------------------------------------------------------------------

    def has_sent_all(self) -> bool:
        """Whether everything published was handed to the transport."""
        return self.core.outbox.empty and self._link.clear

    @property
    def should_flush(self) -> bool:
        """Whether closing now would lose something that could still be sent."""
        return not self.core.outbox.empty or (self.core.state is State.READY and not self._link.clear)

    def farewell(self) -> None:
        """Say goodbye; for `Reactor.close`. What was published and never taken is counted as dropped."""
        self.core.close()
        self._link.work(time.monotonic_ns())
        lost = sum(run.length for run in self.core.outbox.take())
        if lost:
            self.counters.messages_dropped["closed"] += lost
            _log.warning("%d published messages were lost: %s was closed before it took them", lost, self.url)

    def seconds(self, timeout: float | None) -> float:
        """The time that a call has which names `timeout`, or none."""
        return self.config.timeouts.request if timeout is None else timeout

    def deadline_ns(self, timeout: float | None) -> int:
        """The same as a point in (monotonic) time."""
        return time.monotonic_ns() + int(self.seconds(timeout) * 1e9)

    def no_answer(self, what: str) -> DompbusError:
        """The error for a wait that was in vain: nobody is there, or somebody did not do `what`."""
        if self.core.node is None:
            return Unreachable(f"no node answers at {self.url}: is it running, and is the address right?")
        return Timeout(what)


def new_incarnation() -> int:
    """Return a number that no other start of a node or client has: 63 random bits. (`secrets` would load OpenSSL.)"""
    return int.from_bytes(os.urandom(8)) >> 1 or 1
