"""What a ledger client says and hears, without I/O: each method is a generator that yields requests and takes answers.

The law here: nothing is sent that cannot be encoded (`InvalidEvent` comes first), a batch of creations is never cut in
two (a batch is the unit of order and of its chains), and a look-up or query that is larger than one answer is asked
for page by page, so that its limit means what it says. Both clients in `dompbus.ledger.client` drive these generators.
"""

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from dompbus import limits
from dompbus.errors import InvalidEvent, LedgerRefused, ProtocolError
from dompbus.ledger import records
from dompbus.ledger.commands import Operation, Refusal, decode_answer, encode_request
from dompbus.ledger.records import Buffer
from dompbus.ledger.types import (
    Account,
    AccountBalance,
    AccountFilter,
    AccountFilterFlags,
    ChangeEvent,
    CreateAccountStatus,
    CreateTransferStatus,
    QueryFilter,
    QueryFilterFlags,
    Transfer,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer as Rows

__all__ = [
    "Dialogue",
    "Rows",
    "create_accounts",
    "create_transfers",
    "expire",
    "get_account_balances",
    "get_account_transfers",
    "get_change_events",
    "lookup_accounts",
    "lookup_transfers",
    "query_accounts",
    "query_transfers",
]

_Item = TypeVar("_Item")
_Timed = TypeVar("_Timed", Account, Transfer, AccountBalance, ChangeEvent)
_Filter = TypeVar("_Filter", AccountFilter, QueryFilter)
Dialogue = Generator[bytes, Buffer, _Item]
"""Yields the bytes of a request, is sent the bytes of its answer, and returns the result."""

# A buffer of 128-byte records: bytes, or for example a C-contiguous NumPy structured array. Python 3.11 can only ask.
if not TYPE_CHECKING:
    Rows = object

_ROWS_MAX: Final = limits.LEDGER_EVENTS_PER_BATCH_MAX


def create_accounts(accounts: Iterable[Account] | Rows) -> Dialogue[list[tuple[int, CreateAccountStatus]]]:
    """(timestamp, status) of each account, in order."""
    rows = yield from _create(Operation.CREATE_ACCOUNTS, _rows_of(accounts, records.pack_accounts))
    return _statuses(records.unpack_account_results, rows)


def create_transfers(transfers: Iterable[Transfer] | Rows) -> Dialogue[list[tuple[int, CreateTransferStatus]]]:
    """(timestamp, status) of each transfer, in order."""
    rows = yield from _create(Operation.CREATE_TRANSFERS, _rows_of(transfers, records.pack_transfers))
    return _statuses(records.unpack_transfer_results, rows)


def expire() -> Dialogue[int]:
    """Expire what is due; how many holds."""
    rows = yield from _ask(Operation.EXPIRE)
    return int.from_bytes(rows, "little")


def lookup_accounts(ids: Iterable[int]) -> Dialogue[list[Account]]:
    """The accounts with these ids, in the order asked; the missing are left out."""
    return (yield from _lookup(Operation.LOOKUP_ACCOUNTS, ids, records.unpack_accounts))


def lookup_transfers(ids: Iterable[int]) -> Dialogue[list[Transfer]]:
    """The transfers with these ids, in the order asked; the missing are left out."""
    return (yield from _lookup(Operation.LOOKUP_TRANSFERS, ids, records.unpack_transfers))


def get_account_transfers(filter: AccountFilter) -> Dialogue[list[Transfer]]:
    """The transfers of one account."""
    ask = Operation.GET_ACCOUNT_TRANSFERS
    return (yield from _pages(ask, filter, records.pack_account_filter, records.unpack_transfers))


def get_account_balances(filter: AccountFilter) -> Dialogue[list[AccountBalance]]:
    """The balances of one account with `HISTORY`, after each of its transfers that match."""
    ask = Operation.GET_ACCOUNT_BALANCES
    return (yield from _pages(ask, filter, records.pack_account_filter, records.unpack_balances))


def query_accounts(filter: QueryFilter) -> Dialogue[list[Account]]:
    """The accounts that match."""
    ask = Operation.QUERY_ACCOUNTS
    return (yield from _pages(ask, filter, records.pack_query_filter, records.unpack_accounts))


def query_transfers(filter: QueryFilter) -> Dialogue[list[Transfer]]:
    """The transfers that match."""
    ask = Operation.QUERY_TRANSFERS
    return (yield from _pages(ask, filter, records.pack_query_filter, records.unpack_transfers))


def get_change_events(filter: QueryFilter) -> Dialogue[list[ChangeEvent]]:
    """Movements and expiries in order of time."""
    ask = Operation.GET_CHANGE_EVENTS
    return (yield from _pages(ask, filter, records.pack_query_filter, records.unpack_change_events))


def _ask(operation: Operation, rows: Buffer = b"", *, skip: int = 0) -> Dialogue[memoryview]:
    answer = decode_answer((yield encode_request(operation, rows, skip=skip)), operation)
    if isinstance(answer, Refusal):
        raise LedgerRefused(f"{operation.name.lower()} was refused ({answer.name.lower()}): {answer.explain}")
    return answer


def _create(operation: Operation, rows: Buffer) -> Dialogue[memoryview]:
    count = len(rows) // records.RECORD_BYTES
    if count > _ROWS_MAX:
        raise InvalidEvent(
            f"the batch has {count:,} events, a batch holds at most {_ROWS_MAX:,}: "
            "send several, and cut where no chain of linked events is cut"
        )
    if not count:
        return memoryview(b"")
    results = yield from _ask(operation, rows)
    if len(results) != count * records.RESULT_BYTES:
        raise ProtocolError(f"the ledger answered {count} events with {len(results)} bytes of results")
    return results


def _lookup(operation: Operation, ids: Iterable[int], unpack: Callable[[Buffer], list[_Item]]) -> Dialogue[list[_Item]]:
    rows = memoryview(records.pack_ids(ids))
    found: list[_Item] = []
    step = _ROWS_MAX * records.ID_BYTES
    for at in range(0, len(rows), step):
        found += unpack((yield from _ask(operation, rows[at : at + step])))
    return found


def _pages(
    operation: Operation,
    filter: _Filter,
    pack: Callable[[_Filter], bytes],
    unpack: Callable[[Buffer], list[_Timed]],
) -> Dialogue[list[_Timed]]:
    """Ask until the limit is reached or nothing is left. What is created meanwhile may or may not be in later pages."""
    found: list[_Timed] = []
    skip = 0
    while True:
        page = unpack((yield from _ask(operation, pack(filter), skip=skip)))
        found += page
        if len(page) < _ROWS_MAX or len(page) >= filter.limit:
            return found
        filter, skip = _after(filter, page, skip)


def _after(filter: _Filter, page: list[_Timed], skip: int) -> tuple[_Filter, int]:
    """The filter that goes on where a page ended: from its last time on, less what has been seen of that time."""
    last = page[-1].timestamp
    seen = sum(item.timestamp == last for item in page)
    flag = AccountFilterFlags.REVERSED if isinstance(filter, AccountFilter) else QueryFilterFlags.REVERSED
    bound = "timestamp_max" if filter.flags & flag else "timestamp_min"
    if seen == len(page) and getattr(filter, bound) == last:
        seen += skip
    return replace(filter, limit=filter.limit - len(page), **{bound: last}), seen


def _rows_of(events: Iterable[_Item] | Rows, pack: Callable[[Iterable[_Item]], bytes]) -> Buffer:
    """The records of a batch: packed from objects, or as they are in a buffer."""
    if isinstance(events, list | tuple):
        return pack(events)
    try:
        view = memoryview(events)  # type: ignore[arg-type]  # asking is how to find out
    except TypeError:
        return _pack_iterable(events, pack)
    if not view.c_contiguous or view.nbytes % records.RECORD_BYTES:
        raise InvalidEvent(
            f"a buffer of events must be C-contiguous records of {records.RECORD_BYTES} bytes; "
            f"this one has {view.nbytes} bytes{'' if view.c_contiguous else ' with gaps'}"
        )
    # Some formats (NumPy's structured ones) cannot be cast to bytes in place; those cost a copy.
    return view.cast("B") if view.format in _CASTABLE else view.tobytes()


def _pack_iterable(events: object, pack: Callable[[Iterable[_Item]], bytes]) -> bytes:
    if not isinstance(events, Iterable):
        raise InvalidEvent(f"expected a sequence of events or a buffer of records, got {type(events).__name__}")
    return pack(events)


def _statuses(unpack: Callable[[Buffer], list[_Item]], rows: memoryview) -> list[_Item]:
    try:
        return unpack(rows)
    except KeyError as unknown:
        raise ProtocolError(f"the ledger answered with a status that this version does not know: {unknown}") from None


_CASTABLE: Final = frozenset("cbBhHiIlLqQnNfd?")
