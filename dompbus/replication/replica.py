"""The replica: gives commands their order and time, and applies them once they are durable.

The law here: a command is applied after its record is on disk and never before; what a query sees is durable. A
client's request is carried out once: its repeat gets the reply of the first, also after a restart, because the
record names `(session, number)` and replay rebuilds the table of replies.

The shell stores the group from `take_group` (write, then sync) and reports `stored`; one group is out at a time,
and whatever arrives meanwhile is the next.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from dompbus import limits
from dompbus.bus.replies import EXPIRED, NEW, RUNNING, ReplyTable
from dompbus.errors import MachineFailed
from dompbus.replication.machine import Machine
from dompbus.storage.record import Record
from dompbus.wire.bodies import ReplyStatus

__all__ = ["Answer", "Observe", "Replica"]

CHORES: Final = 0  # the session of the host itself; no peer's incarnation is 0
Observe = Callable[[bytes | memoryview, bytes], None]  # command and result, for counting
GROUP_BYTES_MAX: Final = 8 * limits.MIB  # one write; bounds how long the first of a group waits for the last


class Answer(NamedTuple):
    """The result of a command, for whoever submitted it; with another status than OK, nothing was done now."""

    context: Any
    result: bytes
    status: ReplyStatus = ReplyStatus.OK


class _Submitted(NamedTuple):
    context: Any
    session: int
    number: int
    command: bytes | memoryview


class Replica:
    """One machine behind one log."""

    def __init__(self, machine: Machine, *, epoch: int, observe: Observe | None = None) -> None:
        self.machine = machine
        self.chore_waits = False
        self.applied_seq = 0
        self._epoch = epoch
        self._observe = observe
        self._timestamp = 0
        self._replies = ReplyTable()
        self._waiting: list[_Submitted] = []
        self._group: deque[tuple[_Submitted, Record]] = deque()

    def recover(self, records: Iterable[Record]) -> None:
        """Apply what the log holds; call before anything is submitted."""
        for record in records:
            if record.session != CHORES:
                self._replies.begin(record.session, record.number, 1, sole=True)
            self._apply(record)
            self._epoch = max(self._epoch, record.epoch)

    def submit(
        self, session: int, number: int, attempt: int, command: bytes | memoryview, context: Any
    ) -> Answer | None:
        """Take a command. Returns its answer at once if it was carried out before, else None: it will come."""
        known = self._replies.begin(session, number, attempt, sole=True)
        if isinstance(known, bytes):
            return Answer(context, known)
        if known == EXPIRED:
            return Answer(context, b"", ReplyStatus.SESSION_EXPIRED)
        if known == RUNNING:
            return None  # its answer goes to the session, wherever that is by then
        assert known == NEW
        if len(self._waiting) >= limits.SERVICE_QUEUE_MAX:
            self._replies.abandon(session, number)
            return Answer(context, b"", ReplyStatus.OVERLOADED)
        self._waiting.append(_Submitted(context, session, number, command))
        return None

    def submit_chore(self, command: bytes) -> None:
        """Take a command of the host's own, such as one that time makes necessary; nobody waits for its answer."""
        self.chore_waits = True
        self._waiting.append(_Submitted(None, CHORES, 0, command))

    def take_group(self, now_ns: int) -> list[Record] | None:
        """The next records to store, stamped; None while a group is out or nothing waits."""
        if self._group or not self._waiting:
            return None
        size = 0
        taken = 0
        for submitted in self._waiting:
            size += len(submitted.command)
            if taken and size > GROUP_BYTES_MAX:
                break
            taken += 1
        chosen, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._group.extend((submitted, self._record(submitted, at, now_ns)) for at, submitted in enumerate(chosen, 1))
        return [record for _, record in self._group]

    def stored(self) -> Iterator[Answer]:
        """The group is durable: apply it, command by command, and give each answer. Raises `MachineFailed`."""
        while self._group:
            submitted, record = self._group[0]
            result = self._apply(record)
            self._group.popleft()
            yield Answer(submitted.context, result)

    def abandon(self) -> list[Any]:
        """The disk or the machine failed: return the contexts of everything that will never be answered."""
        contexts = [submitted.context for submitted, _ in self._group]
        contexts += [submitted.context for submitted in self._waiting]
        self._group.clear()
        self._waiting.clear()
        return contexts

    def query(self, query: bytes | memoryview) -> bytes:
        """Ask the machine; it holds nothing that is not durable."""
        return self.machine.query(query)

    def _record(self, submitted: _Submitted, at: int, now_ns: int) -> Record:
        # At least one tick for each byte: a machine can give every event in the command a time of its own.
        self._timestamp = max(now_ns, self._timestamp + max(1, len(submitted.command)))
        return Record(
            seq=self.applied_seq + at,
            epoch=self._epoch,
            timestamp=self._timestamp,
            session=submitted.session,
            number=submitted.number,
            payload=submitted.command,
        )

    def _apply(self, record: Record) -> bytes:
        assert record.seq == self.applied_seq + 1
        try:
            result = self.machine.apply(record.payload, record.timestamp)
        except Exception as error:  # it must not, but users' machines will; nothing after this can be trusted
            raise MachineFailed(
                f"the machine raised {type(error).__name__}: {error} at command {record.seq} "
                f"(session {record.session}, number {record.number}); a machine answers, it does not raise"
            ) from error
        self.applied_seq = record.seq
        self._timestamp = record.timestamp
        if record.session == CHORES:
            self.chore_waits = False
        else:
            self._replies.finish(record.session, record.number, result)
        if self._observe is not None:
            self._observe(record.payload, result)
        return result
