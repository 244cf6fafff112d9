"""What can be asked of a ledger: transfers and balances of an account, accounts, transfers, change events (R11).

The law here: asking changes nothing that counts, and answers the same on every replica. Filter fields are ANDed, zero
means any, time bounds are inclusive, order comes before limit, and an invalid filter has an empty answer. The rows of
each account are found through an index that catches up when it is asked, so that transfers do not pay for it.
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Final, TypeVar

from dompbus.ledger.accounts import AccountBook, AccountState
from dompbus.ledger.log import TransferLog, column_u128
from dompbus.ledger.records import RECORD_BYTES, unpack_transfers
from dompbus.ledger.rules import TIME_MAX
from dompbus.ledger.types import (
    U128_MAX,
    AccountBalance,
    AccountFilter,
    AccountFilterFlags,
    ChangeEvent,
    ChangeEventType,
    QueryFilter,
    QueryFilterFlags,
    Transfer,
    TransferFlags,
)

__all__ = ["AccountIndex", "Expiry", "Queries", "RowFilter"]

_Item = TypeVar("_Item")
Expiry = tuple[int, int]
"""(time of the sweep, id of the hold)."""

_FIELDS: Final = struct.Struct("<QQQI4xIH")  # user_data_128 in halves, user_data_64, user_data_32, ledger, code
_FIELDS_AT: Final = 80
_DEBITS: Final = int(AccountFilterFlags.DEBITS)
_CREDITS: Final = int(AccountFilterFlags.CREDITS)
_ACCOUNT_REVERSED: Final = int(AccountFilterFlags.REVERSED)
_QUERY_REVERSED: Final = int(QueryFilterFlags.REVERSED)
_INDEX_STEP: Final = 65_536  # rows whose columns are in memory at once while the index catches up


class RowFilter:
    """The fields of a filter that are compared with a transfer's record; `ledger` is 0 for an account's filter."""

    __slots__ = ("_any", "_wanted")

    def __init__(self, filter: AccountFilter | QueryFilter) -> None:
        ledger = filter.ledger if isinstance(filter, QueryFilter) else 0
        self._wanted = (filter.user_data_128, filter.user_data_64, filter.user_data_32, ledger, filter.code)
        self._any = not any(self._wanted)

    def select(self, log: TransferLog, rows: Iterable[int]) -> Iterator[int]:
        """Those of the rows that match."""
        return iter(rows) if self._any else (row for row in rows if self._matches(log.rows, row))

    def matches_account(self, account: AccountState) -> bool:
        """Whether an account matches."""
        fields = (
            account.user_data_128,
            account.user_data_64,
            account.user_data_32,
            account.ledger,
            account.code,
        )
        return all(not wanted or wanted == has for wanted, has in zip(self._wanted, fields, strict=True))

    def _matches(self, rows: bytearray, row: int) -> bool:
        low, high, *rest = _FIELDS.unpack_from(rows, row * RECORD_BYTES + _FIELDS_AT)
        fields = (low | high << 64, *rest)
        return all(not wanted or wanted == has for wanted, has in zip(self._wanted, fields, strict=True))


class AccountIndex:
    """The rows that debit and that credit each account, in order, as far as it has read the log."""

    __slots__ = ("_credits", "_debits", "_rows_read")

    def __init__(self) -> None:
        self._debits: dict[int, array[int]] = {}
        self._credits: dict[int, array[int]] = {}
        self._rows_read = 0

    def rows(self, log: TransferLog, account_id: int, *, debits: bool, credits: bool) -> list[Sequence[int]]:
        """The rows of one account, each side by itself; no row is on both."""
        self._catch_up(log)
        sides = (self._debits if debits else {}), (self._credits if credits else {})
        return [side[account_id] for side in sides if account_id in side]

    def _catch_up(self, log: TransferLog) -> None:
        while self._rows_read < len(log):
            last = min(self._rows_read + _INDEX_STEP, len(log))
            with memoryview(log.rows) as view, view[self._rows_read * RECORD_BYTES : last * RECORD_BYTES] as part:
                debit_ids, credit_ids = column_u128(part, 2), column_u128(part, 4)
            for side, ids in ((self._debits, debit_ids), (self._credits, credit_ids)):
                for row, id in enumerate(ids, self._rows_read):
                    if id not in side:
                        side[id] = array("Q")
                    side[id].append(row)
            self._rows_read = last


class Queries:
    """The questions, over the accounts, the log and the expiries of one ledger."""

    __slots__ = ("_accounts", "_expiries", "_index", "_log")

    def __init__(self, accounts: AccountBook, log: TransferLog, expiries: list[Expiry]) -> None:
        self._accounts = accounts
        self._log = log
        self._expiries = expiries
        self._index = AccountIndex()

    def account_transfers(self, filter: AccountFilter, *, skip: int = 0, cap: int | None = None) -> list[int]:
        """The rows of an account's transfers; `skip` leaves out the first ones, `cap` bounds the limit."""
        if not _is_valid_account_filter(filter):
            return []
        sides = self._index.rows(
            self._log,
            filter.account_id,
            debits=bool(filter.flags & _DEBITS),
            credits=bool(filter.flags & _CREDITS),
        )
        first, last = self._rows_between(filter)
        parts = [side[bisect_left(side, first) : bisect_left(side, last)] for side in sides]
        if filter.flags & _ACCOUNT_REVERSED:
            rows = merge(*(reversed(part) for part in parts), reverse=True)
        else:
            rows = merge(*parts)
        return _page(RowFilter(filter).select(self._log, rows), filter.limit, skip, cap)

    def account_balances(self, filter: AccountFilter, *, skip: int = 0, cap: int | None = None) -> list[AccountBalance]:
        """The balances of an account with a history, after each of the transfers that match."""
        account = self._accounts.by_id.get(filter.account_id)
        if account is None or account.history is None:
            return []
        history = account.history
        balances = []
        for row in self.account_transfers(filter, skip=skip, cap=cap):
            at = bisect_left(history, self._log.timestamp(row), key=lambda entry: entry[0])
            timestamp, a, b, c, d = history[at]
            balances.append(
                AccountBalance(
                    debits_pending=a, debits_posted=b, credits_pending=c, credits_posted=d, timestamp=timestamp
                )
            )
        return balances

    def accounts(self, filter: QueryFilter, *, skip: int = 0, cap: int | None = None) -> list[AccountState]:
        """The accounts that match."""
        if not _is_valid_query_filter(filter):
            return []
        span = self._accounts.span(filter.timestamp_min, filter.timestamp_max or TIME_MAX)
        in_order, wanted = self._accounts.in_order, RowFilter(filter)
        places = reversed(span) if filter.flags & _QUERY_REVERSED else span
        matching = (at for at in places if wanted.matches_account(in_order[at]))
        return [in_order[at] for at in _page(matching, filter.limit, skip, cap)]

    def transfers(self, filter: QueryFilter, *, skip: int = 0, cap: int | None = None) -> list[int]:
        """The rows of the transfers that match."""
        if not _is_valid_query_filter(filter):
            return []
        span = range(*self._rows_between(filter))
        rows = reversed(span) if filter.flags & _QUERY_REVERSED else span
        return _page(RowFilter(filter).select(self._log, rows), filter.limit, skip, cap)

    def change_events(self, filter: QueryFilter, *, skip: int = 0, cap: int | None = None) -> list[ChangeEvent]:
        """Movements and expiries in order of time; at the same time movements come before expiries."""
        if not _is_valid_query_filter(filter):
            return []
        reverse = bool(filter.flags & _QUERY_REVERSED)
        wanted = RowFilter(filter)
        log, span, places = self._log, range(*self._rows_between(filter)), self._expiries_between(filter)
        rows = wanted.select(log, reversed(span) if reverse else span)
        moved = ((log.timestamp(row), 0, row) for row in rows)
        expired = (
            (self._expiries[place][0], 1 + place, row)
            for place in (reversed(places) if reverse else places)
            for row in wanted.select(log, (log.index[self._expiries[place][1]],))
        )
        page = _page(merge(moved, expired, reverse=reverse), filter.limit, skip, cap)
        return [self._change_event(time, order, row) for time, order, row in page]

    def _rows_between(self, filter: AccountFilter | QueryFilter) -> tuple[int, int]:
        """First row in the filter's time, and the one after the last."""
        last = self._log.first_row(filter.timestamp_max + 1) if filter.timestamp_max else len(self._log)
        return self._log.first_row(filter.timestamp_min), last

    def _expiries_between(self, filter: QueryFilter) -> range:
        last = filter.timestamp_max or TIME_MAX
        return range(bisect_left(self._expiries, (filter.timestamp_min, 0)), bisect_left(self._expiries, (last + 1, 0)))

    def _change_event(self, time: int, order: int, row: int) -> ChangeEvent:
        (transfer,) = unpack_transfers(self._log.raw(row))
        kind = ChangeEventType.TWO_PHASE_EXPIRED if order else _type_of_movement(transfer)
        return ChangeEvent(timestamp=time, type=kind, transfer=transfer)


def _type_of_movement(transfer: Transfer) -> ChangeEventType:
    if transfer.flags & TransferFlags.PENDING:
        return ChangeEventType.TWO_PHASE_PENDING
    if transfer.flags & TransferFlags.POST_PENDING_TRANSFER:
        return ChangeEventType.TWO_PHASE_POSTED
    if transfer.flags & TransferFlags.VOID_PENDING_TRANSFER:
        return ChangeEventType.TWO_PHASE_VOIDED
    return ChangeEventType.SINGLE_PHASE


def _page(matching: Iterable[_Item], limit: int, skip: int, cap: int | None) -> list[_Item]:
    size = limit if cap is None else min(limit, cap)
    return list(islice(matching, skip, skip + size))


def _is_valid_account_filter(filter: AccountFilter) -> bool:
    sides = filter.flags & (_DEBITS | _CREDITS)
    return (
        0 < filter.account_id < U128_MAX
        and bool(sides)
        and not filter.flags & ~(_DEBITS | _CREDITS | _ACCOUNT_REVERSED)
        and _has_valid_bounds(filter)
    )


def _is_valid_query_filter(filter: QueryFilter) -> bool:
    return not filter.flags & ~_QUERY_REVERSED and _has_valid_bounds(filter)


def _has_valid_bounds(filter: AccountFilter | QueryFilter) -> bool:
    low, high = filter.timestamp_min, filter.timestamp_max
    return filter.limit > 0 and 0 <= low <= TIME_MAX and 0 <= high <= TIME_MAX and (high == 0 or low <= high)
