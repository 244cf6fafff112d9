"""What a client sends to a ledger and what comes back, as bytes: operations, refusals, and the results of a batch.

A request is 8 bytes of head (the operation, three zero bytes, u32 `skip`) and then rows of one size, so that the rows
stay aligned; `skip` is for queries only and leaves out that many rows of the answer. An answer is 8 bytes of head (the
refusal, or 0, and seven zero bytes) and then rows. The law here: any bytes at all decode to a `Request` or to a
`Refusal`, and a refused request has changed nothing. Operations have TigerBeetle's numbers.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from dompbus import limits
from dompbus.errors import ProtocolError
from dompbus.ledger.records import CHANGE_EVENT_BYTES, ID_BYTES, RECORD_BYTES, RESULT_BYTES, Buffer

__all__ = [
    "ANSWER_ROW_BYTES",
    "HEAD_BYTES",
    "Operation",
    "Refusal",
    "Request",
    "decode_answer",
    "decode_request",
    "encode_answer",
    "encode_refusal",
    "encode_request",
    "is_query",
]

HEAD_BYTES: Final = 8
_REQUEST_HEAD: Final = struct.Struct("<B3sI")
_ANSWER_HEAD: Final = struct.Struct("<B7x")
_COUNT_BYTES: Final = 8


class Operation(IntEnum):
    """The first byte of a request."""

    EXPIRE = 128
    GET_CHANGE_EVENTS = 137
    LOOKUP_ACCOUNTS = 140
    LOOKUP_TRANSFERS = 141
    GET_ACCOUNT_TRANSFERS = 142
    GET_ACCOUNT_BALANCES = 143
    QUERY_ACCOUNTS = 144
    QUERY_TRANSFERS = 145
    CREATE_ACCOUNTS = 146
    CREATE_TRANSFERS = 147


class Refusal(IntEnum):
    """Why a request was not taken as a whole; the first byte of such an answer."""

    explain: str

    def __new__(cls, value: int, explain: str) -> "Refusal":
        """Made here only: the members below."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.explain = explain
        return member

    MALFORMED = 1, "The request's length or its reserved bytes do not fit its operation."
    UNKNOWN_OPERATION = 2, "There is no such operation, or it is a query where a command belongs (or the reverse)."
    TOO_MANY_EVENTS = 3, f"A request holds at most {limits.LEDGER_EVENTS_PER_BATCH_MAX:,} events; send several."
    TIMESTAMP_REFUSED = 4, "The batch's time is before the ledger's last, or beyond 2^63-1 nanoseconds."


class Request(NamedTuple):
    """A request that is well formed; `rows` is a view of the bytes it came in."""

    operation: Operation
    skip: int
    rows: memoryview
    event_count: int


_COMMAND_ROW_BYTES: Final = {
    Operation.EXPIRE: 0,
    Operation.CREATE_ACCOUNTS: RECORD_BYTES,
    Operation.CREATE_TRANSFERS: RECORD_BYTES,
}
_ACCOUNT_FILTER_BYTES: Final = 128
_QUERY_FILTER_BYTES: Final = 64
_FILTER_BYTES: Final = {
    Operation.GET_CHANGE_EVENTS: _QUERY_FILTER_BYTES,
    Operation.GET_ACCOUNT_TRANSFERS: _ACCOUNT_FILTER_BYTES,
    Operation.GET_ACCOUNT_BALANCES: _ACCOUNT_FILTER_BYTES,
    Operation.QUERY_ACCOUNTS: _QUERY_FILTER_BYTES,
    Operation.QUERY_TRANSFERS: _QUERY_FILTER_BYTES,
}
_LOOKUPS: Final = frozenset({Operation.LOOKUP_ACCOUNTS, Operation.LOOKUP_TRANSFERS})
_REFUSALS: Final = {int(refusal): refusal for refusal in Refusal}
_OPERATIONS: Final = {int(operation): operation for operation in Operation}

ANSWER_ROW_BYTES: Final = {
    Operation.EXPIRE: _COUNT_BYTES,
    Operation.CREATE_ACCOUNTS: RESULT_BYTES,
    Operation.CREATE_TRANSFERS: RESULT_BYTES,
    Operation.GET_CHANGE_EVENTS: CHANGE_EVENT_BYTES,
    Operation.LOOKUP_ACCOUNTS: RECORD_BYTES,
    Operation.LOOKUP_TRANSFERS: RECORD_BYTES,
    Operation.GET_ACCOUNT_TRANSFERS: RECORD_BYTES,
    Operation.GET_ACCOUNT_BALANCES: RECORD_BYTES,
    Operation.QUERY_ACCOUNTS: RECORD_BYTES,
    Operation.QUERY_TRANSFERS: RECORD_BYTES,
}
"""The size of one row of an answer; `EXPIRE` answers with one row, the u64 number of holds that expired."""

assert HEAD_BYTES + limits.LEDGER_EVENTS_PER_BATCH_MAX * CHANGE_EVENT_BYTES <= limits.BODY_BYTES_MAX


def is_query(payload: Buffer) -> bool:
    """Whether a request only reads. Bytes that are no request at all count as a query: they change nothing."""
    return not payload or payload[0] not in _COMMAND_NUMBERS


_COMMAND_NUMBERS: Final = frozenset(map(int, _COMMAND_ROW_BYTES))


def encode_request(operation: Operation, rows: Buffer = b"", *, skip: int = 0) -> bytes:
    """Head and rows in one piece; `rows` is any contiguous buffer and is copied once."""
    return b"".join((_REQUEST_HEAD.pack(operation, b"\0\0\0", skip), rows))


def decode_request(payload: Buffer) -> Request | Refusal:
    """The request in these bytes, or why there is none."""
    if len(payload) < HEAD_BYTES:
        return Refusal.MALFORMED
    number, reserved, skip = _REQUEST_HEAD.unpack_from(payload)
    operation = _OPERATIONS.get(number)
    if operation is None:
        return Refusal.UNKNOWN_OPERATION
    if reserved != b"\0\0\0":
        return Refusal.MALFORMED
    rows = memoryview(payload)[HEAD_BYTES:]
    count = _row_count(operation, len(rows))
    if isinstance(count, Refusal):
        return count
    if skip and operation not in _FILTER_BYTES:
        return Refusal.MALFORMED
    return Request(operation, skip, rows, count)


def encode_answer(rows: Buffer) -> bytes:
    """An answer that is no refusal."""
    return b"".join((_ANSWER_HEAD.pack(0), rows))


def encode_refusal(refusal: Refusal) -> bytes:
    """An answer that says that nothing was done, and why."""
    return _ANSWER_HEAD.pack(refusal)


def decode_answer(answer: Buffer, operation: Operation) -> memoryview | Refusal:
    """The rows of an answer to `operation`, or the refusal; `ProtocolError` when it can be neither."""
    if len(answer) < HEAD_BYTES or any(answer[1:HEAD_BYTES]):
        raise ProtocolError("not an answer of a ledger: its head is damaged")
    if answer[0]:
        return _refusal(answer[0])
    rows = memoryview(answer)[HEAD_BYTES:]
    if len(rows) % ANSWER_ROW_BYTES[operation]:
        raise ProtocolError(f"not an answer to {operation.name}: {len(rows)} bytes of rows")
    return rows


def _refusal(number: int) -> Refusal:
    if number not in _REFUSALS:
        raise ProtocolError(f"the ledger refused for a reason that this version does not know: {number}")
    return _REFUSALS[number]


def _row_count(operation: Operation, size: int) -> int | Refusal:
    """How many events or ids; a filter counts as one."""
    if operation in _FILTER_BYTES:
        return 1 if size == _FILTER_BYTES[operation] else Refusal.MALFORMED
    row_bytes = ID_BYTES if operation in _LOOKUPS else _COMMAND_ROW_BYTES[operation]
    if not row_bytes:
        return Refusal.MALFORMED if size else 0
    count, odd = divmod(size, row_bytes)
    if odd:
        return Refusal.MALFORMED
    return Refusal.TOO_MANY_EVENTS if count > limits.LEDGER_EVENTS_PER_BATCH_MAX else count
