"""The holds: what became of each pending transfer, and which are due to expire.

The law here: a hold is resolved at most once: posted, voided or expired. A hold with a timeout is due at
timestamp + timeout * 10^9, in the order (expiry, creation). The queue is a heap that may hold entries of holds that
were resolved since; an entry counts only while `_deadlines` names it.
"""

from enum import IntEnum
from heapq import heapify, heappop, heappush
from typing import Final

from dompbus.ledger.types import Transfer

__all__ = ["HoldStatus", "Holds", "expires_at"]

_SECOND_NS: Final = 10**9
_STALE_MIN: Final = 1_024  # stale heap entries worth a rebuild

Deadline = tuple[int, int]


class HoldStatus(IntEnum):
    """What became of a pending transfer."""

    PENDING = 1
    POSTED = 2
    VOIDED = 3
    EXPIRED = 4


def expires_at(transfer: Transfer) -> int | None:
    """When this recorded pending transfer is due, in nanoseconds, or None when it waits for ever."""
    return transfer.timestamp + transfer.timeout * _SECOND_NS if transfer.timeout else None


class Holds:
    """Every pending transfer's status, by id, in the order of creation."""

    __slots__ = ("_deadlines", "_queue", "status_of")

    def __init__(self) -> None:
        self.status_of: dict[int, HoldStatus] = {}
        self._deadlines: dict[int, Deadline] = {}  # only of open holds with a timeout
        self._queue: list[tuple[int, int, int]] = []  # (expiry, creation, id)

    def open(self, id: int, *, created: int, timeout: int) -> None:
        """A pending transfer was recorded."""
        self.status_of[id] = HoldStatus.PENDING
        if timeout:
            self._await(id, created + timeout * _SECOND_NS, created)

    def forget(self, id: int) -> None:
        """A pending transfer's creation was rolled back."""
        del self.status_of[id]
        self._deadlines.pop(id, None)

    def set(self, transfer: Transfer, status: HoldStatus) -> None:
        """Resolve a hold, or (in a roll-back, or from a snapshot) open it again."""
        self.status_of[transfer.id] = status
        due = expires_at(transfer)
        if due is None:
            return
        if status is HoldStatus.PENDING:
            self._await(transfer.id, due, transfer.timestamp)
        else:
            self._deadlines.pop(transfer.id, None)
            self._drop_stale()

    def next_due(self) -> int | None:
        """When the next hold expires, or None."""
        while self._queue:
            due, created, id = self._queue[0]
            if self._deadlines.get(id) == (due, created):
                return due
            heappop(self._queue)
        return None

    def next_due_id(self) -> int:
        """The hold that expires next; there must be one."""
        assert self.next_due() is not None
        return self._queue[0][2]

    def _await(self, id: int, due: int, created: int) -> None:
        self._deadlines[id] = (due, created)
        heappush(self._queue, (due, created, id))

    def _drop_stale(self) -> None:
        """Keep the queue within twice what is open. A roll-back pushes its entry anew, so none is lost."""
        if len(self._queue) > 2 * len(self._deadlines) + _STALE_MIN:
            self._queue = [(due, created, id) for id, (due, created) in self._deadlines.items()]
            heapify(self._queue)
