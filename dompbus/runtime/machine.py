"""The shell around a replica: its journal, and the thread that writes and syncs it.

The law here: the reactor's thread decides and applies, the commit thread only writes and syncs, one group at a time.
An error of the disk, or a machine that raises, ends the machine's service with an answer to everybody who waits: what
the page cache or the state holds then cannot be trusted. The node goes on.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from dompbus.bus.node import Call
from dompbus.counters import Counters
from dompbus.errors import MachineFailed, StorageError
from dompbus.replication.machine import Machine
from dompbus.replication.replica import Observe, Replica
from dompbus.runtime.reactor import Reactor
from dompbus.storage import Journal, Record
from dompbus.wire.bodies import ReplyStatus
from dompbus.wire.message import DECODE_ERRORS, encode

__all__ = ["MachineHost"]

_payload_decoder: Final = msgspec.msgpack.Decoder(memoryview)
_log: Final = logging.getLogger("dompbus.machine")

Respond = Callable[[Call, ReplyStatus, bytes], None]
Chore = Callable[[int], bytes | None]  # wall time in ns -> a command that the machine needs by now, or None


class MachineHost:
    """One machine served by this node, from the journal in `directory`.

    Requests to the service `name` are commands, those to `<name>.query` are queries; payloads are msgpack `bin`.
    """

    def __init__(
        self,
        name: str,
        machine: Machine,
        directory: Path,
        *,
        segment_bytes: int,
        epoch: int,
        counters: Counters,
        chore: Chore | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.name = name
        self.machine = machine
        self.failure: StorageError | MachineFailed | None = None
        self._counters = counters
        self._journal = Journal.open(directory, segment_bytes=segment_bytes)
        self._chore = chore
        self._replica = Replica(machine, epoch=epoch, observe=observe)
        self._groups: queue.SimpleQueue[list[Record] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if self._journal.cut is not None:
            _log.warning("%s: cut a torn tail that was never acknowledged: %s", directory, self._journal.cut)
        try:
            self._replica.recover(self._journal.records())
        except BaseException:
            self._journal.close()
            raise

    def start(self, reactor: Reactor, respond: Respond) -> None:
        """Begin to serve: `respond` answers a call, and is used on the reactor's thread only."""
        self._reactor = reactor
        self._respond = respond
        self._thread = threading.Thread(target=self._commit, name=f"dompbus-commit-{self.name}", daemon=True)
        self._thread.start()

    def submit(self, call: Call) -> None:
        """Take a command; its answer comes once it is durable."""
        command = self._payload(call)
        if command is None:
            return
        if self.failure is not None:
            self._fail(call, self.failure)
            return
        answer = self._replica.submit(call.session, call.request.number, call.request.attempt, command, call)
        if answer is not None:
            self._respond(call, answer.status, encode(answer.result))

    def query(self, call: Call) -> None:
        """Answer a query at once."""
        query = self._payload(call)
        if query is None:
            return
        try:
            answer = self._replica.query(query)
        except Exception as error:  # a user's machine; asking has changed nothing, so it goes on
            _log.warning("a query of the machine %r failed: %s: %s", self.name, type(error).__name__, error)
            self._fail(call, error)
        else:
            self._finish(call, answer)

    def work(self) -> None:
        """After each lot: hand the commit thread what has gathered."""
        if self.failure is None:
            time_ns = time.time_ns()
            if self._chore is not None and not self._replica.chore_waits and (command := self._chore(time_ns)):
                self._replica.submit_chore(command)
            group = self._replica.take_group(time_ns)
            if group is not None:
                self._groups.put(group)

    def stop(self) -> None:
        """Let the group that is out reach the disk; begin no other."""
        if self._thread is not None:
            self._groups.put(None)
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Give the journal back. Its directory is free afterwards."""
        self.stop()
        self._journal.close()

    def _commit(self) -> None:
        """The commit thread."""
        while (group := self._groups.get()) is not None:
            started_ns = time.monotonic_ns()
            try:
                written = self._journal.write(group)
                self._journal.sync()
            except BaseException as error:  # whatever it is, nobody would be told otherwise
                unknown = StorageError(f"the commit thread failed: {error!r}")
                self.failure = error if isinstance(error, StorageError) else unknown
                self._reactor.call(self._stop)
                return
            self._counters.journal_commit_seconds.observe(time.monotonic_ns() - started_ns)
            self._counters.journal_commits += 1
            self._counters.journal_bytes += written
            self._reactor.call(self._stored)
            self._journal.settle()

    def _stored(self) -> None:
        try:
            for answer in self._replica.stored():
                if answer.context is not None:
                    self._finish(answer.context, answer.result)
        except MachineFailed as error:
            self.failure = error
            self._stop()

    def _finish(self, call: Call, result: bytes) -> None:
        self._counters.request_seconds[call.request.service].observe(time.monotonic_ns() - call.arrived_ns)
        self._respond(call, ReplyStatus.OK, encode(result))

    def _stop(self) -> None:
        assert self.failure is not None
        _log.error("the machine %r stops: %s", self.name, self.failure)
        for call in self._replica.abandon():
            if call is not None:
                self._fail(call, self.failure)

    def _fail(self, call: Call, error: Exception) -> None:
        self._respond(call, ReplyStatus.FAILED, encode((type(error).__name__, str(error))))

    def _payload(self, call: Call) -> memoryview | None:
        try:
            return _payload_decoder.decode(call.request.payload)
        except DECODE_ERRORS:
            self._respond(call, ReplyStatus.INVALID, encode(f"{self.name} takes a msgpack bin as its payload"))
            return None
