"""The results of one batch as it is carried out: 16-byte rows (u64 timestamp, u32 status, u32 zero), one per event.

The law here: every event starts out as created at its slot T-N+i+1; only what differs is written. So a batch that
succeeds as a whole costs no work per event.
"""

import struct
from typing import Final

from dompbus.ledger.records import RESULT_BYTES
from dompbus.ledger.statuses import CreateAccountStatus, CreateTransferStatus

__all__ = ["Results"]

_CREATED: Final = int(CreateTransferStatus.CREATED)
assert _CREATED == CreateAccountStatus.CREATED
_RESULT: Final = struct.Struct("<QI4x")
_TIMESTAMP: Final = struct.Struct("<Q")


class Results:
    """The rows, and whether any of them is a failure."""

    __slots__ = ("any_failed", "count", "first_slot", "rows")

    def __init__(self, count: int, timestamp: int) -> None:
        self.count = count
        self.first_slot = timestamp - count + 1
        self.any_failed = False
        self.rows = bytearray(count * RESULT_BYTES)
        with memoryview(self.rows) as view, view.cast("Q") as words:
            slots = struct.pack(f"<{count}Q", *range(self.first_slot, timestamp + 1))
            words[0::2] = memoryview(slots).cast("Q")
            words[1::2] = memoryview(_TIMESTAMP.pack(_CREATED) * count).cast("Q")

    def slot(self, event: int) -> int:
        """The time that the batch gave to this event."""
        return self.first_slot + event

    def fail(self, event: int, status: int, timestamp: int | None = None) -> None:
        """This event was not carried out, or was taken back; the timestamp stays as it is unless one is given."""
        self.any_failed = True
        at = event * RESULT_BYTES
        if timestamp is None:
            (timestamp,) = _TIMESTAMP.unpack_from(self.rows, at)
        _RESULT.pack_into(self.rows, at, timestamp, status)

    def created_at(self, event: int, timestamp: int) -> None:
        """This event was carried out at another time than its slot: an imported one."""
        _TIMESTAMP.pack_into(self.rows, event * RESULT_BYTES, timestamp)

    def created(self) -> list[int]:
        """The events that were carried out, in order."""
        with memoryview(self.rows) as view, view.cast("Q") as words:
            statuses = words[1::2].tolist()
        return [event for event, status in enumerate(statuses) if status == _CREATED]
