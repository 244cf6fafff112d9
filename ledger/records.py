"""The fixed little-endian records of the ledger, in TigerBeetle's field order and widths, and their codecs.

Account, Transfer, AccountBalance and AccountFilter are 128 bytes, QueryFilter is 64, a result is 16, an id is 16, a
change event is 144 (time, type, the transfer's record). The law here: what cannot be encoded exactly (negative, too
wide, bool, float) is refused with `InvalidEvent` before a byte leaves, and nothing is ever rounded or truncated.
Packing works on whole batches with the loops in C; a value above 64 bits sends its batch the slower, exact way.
"""

import struct
from collections.abc import Callable, Iterable
from itertools import chain
from operator import index
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import astuple

from dompbus.errors import InvalidEvent
from dompbus.ledger.types import (
    Account,
    AccountBalance,
    AccountFilter,
    AccountFlags,
    ChangeEvent,
    ChangeEventType,
    CreateAccountStatus,
    CreateTransferStatus,
    QueryFilter,
    Transfer,
    TransferFlags,
)

__all__ = [
    "CHANGE_EVENT_BYTES",
    "ID_BYTES",
    "RECORD_BYTES",
    "RESULT_BYTES",
    "Buffer",
    "pack_account_filter",
    "pack_accounts",
    "pack_balances",
    "pack_change_events",
    "pack_ids",
    "pack_query_filter",
    "pack_transfers",
    "unpack_account_filter",
    "unpack_account_results",
    "unpack_accounts",
    "unpack_balances",
    "unpack_change_events",
    "unpack_ids",
    "unpack_query_filter",
    "unpack_transfer_results",
    "unpack_transfers",
]

Buffer = bytes | bytearray | memoryview


class _Numbers(Protocol):
    def __getitem__(self, number: int, /) -> int: ...


RECORD_BYTES: Final = 128  # an account or a transfer
RESULT_BYTES: Final = 16
ID_BYTES: Final = 16
CHANGE_EVENT_BYTES: Final = 144

_LOW_64: Final = 2**64 - 1
# Accounts and transfers have the same widths: six of 128 bits, one of 64, three of 32, two of 16, one of 64.
_WIDE: Final = struct.Struct("<12QQIIIHHQ")
_WIDE_FIELDS: Final = 6
_WIDE_VALUES: Final = 19
_BLOCK_RECORDS: Final = 64  # measured: 190 ns a record; 16 take 320, 256 gain nothing
_RECORD_BITS: Final = (128, 128, 128, 128, 128, 128, 64, 32, 32, 32, 16, 16, 64)
_ACCOUNT_FILTER: Final = struct.Struct("<4QQIH58xQQII")
_ACCOUNT_FILTER_BITS: Final = (128, 128, 64, 32, 16, 64, 64, 32, 32)
_QUERY_FILTER: Final = struct.Struct("<2QQIIH6xQQII")
_QUERY_FILTER_BITS: Final = (128, 64, 32, 32, 16, 64, 64, 32, 32)
_BALANCE: Final = struct.Struct("<8QQ56x")
_RESULT: Final = struct.Struct("<QI4x")
_ID: Final = struct.Struct("<QQ")
_CHANGE_EVENT_HEAD: Final = struct.Struct("<QI4x")


def pack_accounts(accounts: Iterable[Account]) -> bytes:
    """The 128-byte records of accounts, one after the other; `InvalidEvent` names what cannot be encoded."""
    return _pack(accounts, Account)


def pack_transfers(transfers: Iterable[Transfer]) -> bytes:
    """The 128-byte records of transfers, one after the other; `InvalidEvent` names what cannot be encoded."""
    return _pack(transfers, Transfer)


def unpack_accounts(rows: Buffer, *, plain_flags: bool = False) -> list[Account]:
    """Accounts from their records; the length must be a multiple of 128.

    `plain_flags` leaves the flags plain integers, for the machine: bit tests on an `IntFlag` cost a microsecond each.
    """
    flags_of: _Numbers = _PLAIN if plain_flags else _ACCOUNT_FLAGS
    return [
        Account(
            id=a | b << 64,
            debits_pending=c | d << 64,
            debits_posted=e | f << 64,
            credits_pending=g | h << 64,
            credits_posted=i | j << 64,
            user_data_128=k | l << 64,
            user_data_64=m,
            user_data_32=n,
            reserved=o,
            ledger=p,
            code=q,
            flags=flags_of[r],
            timestamp=s,
        )
        for a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s in _WIDE.iter_unpack(rows)  # noqa: E741
    ]


def unpack_transfers(rows: Buffer, *, plain_flags: bool = False) -> list[Transfer]:
    """Transfers from their records; the length must be a multiple of 128. `plain_flags` as in `unpack_accounts`."""
    flags_of: _Numbers = _PLAIN if plain_flags else _TRANSFER_FLAGS
    return [
        Transfer(
            id=a | b << 64,
            debit_account_id=c | d << 64,
            credit_account_id=e | f << 64,
            amount=g | h << 64,
            pending_id=i | j << 64,
            user_data_128=k | l << 64,
            user_data_64=m,
            user_data_32=n,
            timeout=o,
            ledger=p,
            code=q,
            flags=flags_of[r],
            timestamp=s,
        )
        for a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s in _WIDE.iter_unpack(rows)  # noqa: E741
    ]


def pack_ids(ids: Iterable[int]) -> bytes:
    """16 bytes for each id."""
    values = _check_types(list(ids), "id", ("id",))
    try:
        return b"".join([_ID.pack(value & _LOW_64, value >> 64) for value in values])
    except struct.error:
        raise _culprit(values, "id", ("id",), (128,)) from None


def unpack_ids(rows: Buffer) -> list[int]:
    """Ids from 16 bytes each."""
    return [low | high << 64 for low, high in _ID.iter_unpack(rows)]


def unpack_account_results(rows: Buffer) -> list[tuple[int, CreateAccountStatus]]:
    """(timestamp, status) of each event; an unknown status raises `KeyError`."""
    member = _ACCOUNT_STATUSES
    return [(timestamp, member[status]) for timestamp, status in _RESULT.iter_unpack(rows)]


def unpack_transfer_results(rows: Buffer) -> list[tuple[int, CreateTransferStatus]]:
    """(timestamp, status) of each event; an unknown status raises `KeyError`."""
    member = _TRANSFER_STATUSES
    return [(timestamp, member[status]) for timestamp, status in _RESULT.iter_unpack(rows)]


def pack_account_filter(filter: AccountFilter) -> bytes:
    """128 bytes."""
    a, b, c, d, e, f, g, h, i = _checked(filter, AccountFilter, _ACCOUNT_FILTER_BITS)
    return _ACCOUNT_FILTER.pack(a & _LOW_64, a >> 64, b & _LOW_64, b >> 64, c, d, e, f, g, h, i)


def unpack_account_filter(row: Buffer) -> AccountFilter:
    """From 128 bytes."""
    a, b, c, d, e, f, g, h, i, j, k = _ACCOUNT_FILTER.unpack(row)
    return AccountFilter(
        account_id=a | b << 64,
        user_data_128=c | d << 64,
        user_data_64=e,
        user_data_32=f,
        code=g,
        timestamp_min=h,
        timestamp_max=i,
        limit=j,
        flags=k,
    )


def pack_query_filter(filter: QueryFilter) -> bytes:
    """64 bytes."""
    a, b, c, d, e, f, g, h, i = _checked(filter, QueryFilter, _QUERY_FILTER_BITS)
    return _QUERY_FILTER.pack(a & _LOW_64, a >> 64, b, c, d, e, f, g, h, i)


def unpack_query_filter(row: Buffer) -> QueryFilter:
    """From 64 bytes."""
    a, b, c, d, e, f, g, h, i, j = _QUERY_FILTER.unpack(row)
    return QueryFilter(
        user_data_128=a | b << 64,
        user_data_64=c,
        user_data_32=d,
        ledger=e,
        code=f,
        timestamp_min=g,
        timestamp_max=h,
        limit=i,
        flags=j,
    )


def pack_balances(balances: Iterable[AccountBalance]) -> bytes:
    """128 bytes for each balance."""
    rows = []
    for balance in balances:
        a, b, c, d, timestamp = astuple(balance)
        halves = (a & _LOW_64, a >> 64, b & _LOW_64, b >> 64, c & _LOW_64, c >> 64, d & _LOW_64, d >> 64)
        rows.append(_BALANCE.pack(*halves, timestamp))
    return b"".join(rows)


def unpack_balances(rows: Buffer) -> list[AccountBalance]:
    """Balances from 128 bytes each."""
    return [
        AccountBalance(
            debits_pending=a | b << 64,
            debits_posted=c | d << 64,
            credits_pending=e | f << 64,
            credits_posted=g | h << 64,
            timestamp=timestamp,
        )
        for a, b, c, d, e, f, g, h, timestamp in _BALANCE.iter_unpack(rows)
    ]


def pack_change_events(events: Iterable[ChangeEvent]) -> bytes:
    """144 bytes for each event."""
    rows = []
    for event in events:
        rows.append(_CHANGE_EVENT_HEAD.pack(event.timestamp, event.type))
        rows.append(pack_transfers((event.transfer,)))
    return b"".join(rows)


def unpack_change_events(rows: Buffer) -> list[ChangeEvent]:
    """Change events from 144 bytes each."""
    view, events = memoryview(rows), []
    for at in range(0, len(view), CHANGE_EVENT_BYTES):
        timestamp, kind = _CHANGE_EVENT_HEAD.unpack_from(view, at)
        (transfer,) = unpack_transfers(view[at + 16 : at + CHANGE_EVENT_BYTES])
        events.append(ChangeEvent(timestamp=timestamp, type=ChangeEventType(kind), transfer=transfer))
    return events


class _Blocks(dict[int, struct.Struct]):
    """The format of so many records in a row, made when first needed; at most `_BLOCK_RECORDS` of them."""

    def __init__(self, record: str) -> None:
        self._record = record

    def __missing__(self, records: int) -> struct.Struct:
        made = self[records] = struct.Struct("<" + self._record * records)
        return made


class _AccountFlagsOf(dict[int, AccountFlags]):
    """Flags by number, built once: an IntFlag takes a microsecond to compose. At most 2^16 entries."""

    def __missing__(self, number: int) -> AccountFlags:
        flags = self[number] = AccountFlags(number)
        return flags


class _TransferFlagsOf(dict[int, TransferFlags]):
    """The same for transfers."""

    def __missing__(self, number: int) -> TransferFlags:
        flags = self[number] = TransferFlags(number)
        return flags


_WIDE_BLOCKS: Final = _Blocks("12QQIIIHHQ")
_NARROW_BLOCKS: Final = _Blocks("Q8xQ8xQ8xQ8xQ8xQ8xQIIIHHQ")  # for when no 128-bit field needs its upper half
_PLAIN: Final = range(1 << 16)  # each number is its own
_ACCOUNT_FLAGS: Final = _AccountFlagsOf()
_TRANSFER_FLAGS: Final = _TransferFlagsOf()
_ACCOUNT_STATUSES: Final = {int(status): status for status in CreateAccountStatus}
_TRANSFER_STATUSES: Final = {int(status): status for status in CreateTransferStatus}


def _pack(events: Iterable[Account] | Iterable[Transfer], kind: type[Account] | type[Transfer]) -> bytes:
    fields = kind.__struct_fields__
    values = _check_types(_flat(events, kind), "event", fields)
    try:
        return _pack_blocks(values, len(fields), _NARROW_BLOCKS)
    except struct.error:
        pass  # a value above 64 bits, which the wide format takes, or one out of range, which it does not
    try:
        return _pack_blocks(_halved(values, len(fields)), _WIDE_VALUES, _WIDE_BLOCKS)
    except struct.error:
        raise _culprit(values, "event", fields, _RECORD_BITS) from None


def _flat(events: Iterable[Struct], kind: type[Struct]) -> list[int]:
    """The fields of all events in one row; only `kind` will do, because the order of its fields is the record's."""
    listed = events if isinstance(events, list) else list(events)
    if not set(map(type, listed)) <= {kind}:
        at, stranger = next((at, event) for at, event in enumerate(listed) if type(event) is not kind)
        raise InvalidEvent(f"event {at}: expected {kind.__name__}, got {stranger!r} ({type(stranger).__name__})")
    return list(chain.from_iterable(map(astuple, listed)))


def _check_types(values: list[int], noun: str, fields: tuple[str, ...]) -> list[int]:
    """Integers only. A bool is an int to Python, but an amount of True is a mistake."""
    types = set(map(type, values))
    if all(issubclass(kind, int) and kind is not bool for kind in types):
        return values
    width = len(fields)
    return [_as_int(value, f"{noun} {at // width}: {fields[at % width]}") for at, value in enumerate(values)]


def _as_int(value: object, place: str) -> int:
    to_int: Callable[[object], int] = index  # type: ignore[assignment]  # it raises for what has no __index__
    try:
        if isinstance(value, bool):
            raise TypeError
        return to_int(value)  # an integer of NumPy, for example
    except TypeError:
        raise InvalidEvent(f"{place} must be an int, got {value!r} ({type(value).__name__})") from None


def _pack_blocks(values: list[int], width: int, blocks: dict[int, struct.Struct]) -> bytes:
    """Pack records many at a time: one call for a block costs half of what a call for each record does."""
    full, size = blocks[_BLOCK_RECORDS], width * _BLOCK_RECORDS
    whole = len(values) // size * size
    pieces = [full.pack(*values[at : at + size]) for at in range(0, whole, size)]
    rest = values[whole:]
    if rest:
        pieces.append(blocks[len(rest) // width].pack(*rest))
    return b"".join(pieces)


def _halved(values: list[int], width: int) -> list[int]:
    """The same values with each 128-bit one as two of 64 bits, lower half first."""
    count = len(values) // width
    halved = [0] * (count * _WIDE_VALUES)
    for field in range(_WIDE_FIELDS):
        column = values[field::width]
        if max(column) > _LOW_64 or min(column) < 0:
            halved[2 * field + 1 :: _WIDE_VALUES] = [value >> 64 for value in column]
            column = [value & _LOW_64 for value in column]
        halved[2 * field :: _WIDE_VALUES] = column
    for field in range(_WIDE_FIELDS, width):
        halved[_WIDE_FIELDS + field :: _WIDE_VALUES] = values[field::width]
    return halved


def _checked(filter: Struct, kind: type[Struct], bits: tuple[int, ...]) -> list[int]:
    fields = kind.__struct_fields__
    values = _check_types(_flat((filter,), kind), "filter", fields)
    if any(not 0 <= value < 1 << width for value, width in zip(values, bits, strict=True)):
        raise _culprit(values, "filter", fields, bits)
    return values


def _culprit(values: list[int], noun: str, fields: tuple[str, ...], bits: tuple[int, ...]) -> InvalidEvent:
    """The first value out of its range, in words."""
    width = len(fields)
    for at, value in enumerate(values):
        allowed = bits[at % width]
        if not 0 <= value < 1 << allowed:
            place = f"{noun} {at // width}: {fields[at % width]}"
            return InvalidEvent(f"{place} is {value}, allowed is 0 .. 2^{allowed}-1")
    raise AssertionError("struct refused a batch whose values are all in range")
