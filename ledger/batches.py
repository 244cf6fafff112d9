"""How a batch is carried out: event by event, with linked chains that succeed or fail as one (ledger R2).

Two loops. `run_exact` takes any batch and asks every rule. `run_plain` takes a batch of transfers whose columns show
that it holds nothing but plain and linked transfers; it does in one pass what most events need and hands each event
that is not clearly fine to the exact way. The law here: both loops give the same results and leave the same state
(tests/property/test_ledger.py runs them side by side), and nothing remains of a broken chain.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from dompbus.ledger.accounts import NOBODY, AccountBook, is_within_limits
from dompbus.ledger.log import TransferLog, column_u128
from dompbus.ledger.records import RECORD_BYTES
from dompbus.ledger.results import Results
from dompbus.ledger.rules import TIME_MAX
from dompbus.ledger.statuses import CreateAccountStatus, CreateTransferStatus
from dompbus.ledger.transfers import Outcome, PlainUndo, TransferDesk, Undo
from dompbus.ledger.types import U128_MAX, Account, AccountFlags, Transfer, TransferFlags

__all__ = ["PlainColumns", "cannot_overflow", "highest_balance", "plain_columns", "run_exact", "run_plain"]

_LINKED: Final = 1
_FAILED: Final = int(CreateTransferStatus.LINKED_EVENT_FAILED)
_CHAIN_OPEN: Final = int(CreateTransferStatus.LINKED_EVENT_CHAIN_OPEN)
_CREATED: Final = int(CreateTransferStatus.CREATED)
assert int(CreateAccountStatus.LINKED_EVENT_FAILED) == _FAILED
assert int(CreateAccountStatus.LINKED_EVENT_CHAIN_OPEN) == _CHAIN_OPEN
assert int(AccountFlags.LINKED) == int(TransferFlags.LINKED) == _LINKED

_Event = TypeVar("_Event", Account, Transfer)
_Back = TypeVar("_Back")
_Statuses = type[CreateAccountStatus] | type[CreateTransferStatus]


def run_exact(
    events: Sequence[_Event],
    results: Results,
    *,
    statuses: _Statuses,
    create: Callable[[int, _Event, int], tuple[int, int, _Back | None]],
    undo: Callable[[_Back], None],
) -> None:
    """Carry out a batch event by event.

    `create(event number, event, slot)` answers (status, timestamp, what `undo` needs to take back a linked event).
    """
    imported_flag = int(AccountFlags.IMPORTED if statuses is CreateAccountStatus else TransferFlags.IMPORTED)
    imported, last_time = events[0].flags & imported_flag, results.slot(len(events) - 1)
    chain: list[_Back] = []
    broken = False
    for at, event in enumerate(events):
        linked, back = event.flags & _LINKED, None
        if linked and at == len(events) - 1:
            status, time = _CHAIN_OPEN, results.slot(at)
        elif broken:
            status, time = _FAILED, results.slot(at)
        else:
            refused = _check_time(event, event.flags & imported_flag, imported, last_time, statuses)
            status, time, back = (refused, results.slot(at), None) if refused else create(at, event, results.slot(at))
        if status == _CREATED:
            results.created_at(at, time)
            if linked:
                assert back is not None, "a linked event was carried out and left no way back"
                chain.append(back)
        else:
            results.fail(at, status, time)
            _break_chain(chain, at, results, undo)
        broken = bool(linked) and (broken or status != _CREATED)
        if not linked:
            chain.clear()


class PlainColumns(NamedTuple):
    """The columns of a batch that has nothing but plain and linked transfers."""

    ids: list[int]
    debit_account_ids: list[int]
    credit_account_ids: list[int]
    amounts: list[int]
    ledgers: list[int]
    linked: bytes


def plain_columns(rows: memoryview) -> PlainColumns | None:
    """The columns, if every event has no flag but `linked`, a code, and zeros where a plain transfer has them."""
    count = len(rows) // RECORD_BYTES
    flags_low, code_low = rows[118::128].tobytes(), rows[116::128].tobytes()
    if flags_low.translate(None, b"\0\1") or flags_low[-1] or any(rows[119::128].tobytes()):
        return None  # a flag, or an open chain at the end
    if 0 in code_low and 0 in rows.cast("H")[58::64].tolist():
        return None
    words, zeros = rows.cast("Q"), bytes(8 * count)
    if any(words[word::16].tobytes() != zeros for word in (8, 9, 15)):  # pending_id, timestamp
        return None
    if rows.cast("I")[27::32].tobytes() != zeros[: 4 * count]:  # timeout
        return None
    ledgers = rows.cast("I")[28::32].tolist()
    ids, debits, credits, amounts = (column_u128(rows, word) for word in (0, 2, 4, 6))
    return PlainColumns(ids, debits, credits, amounts, ledgers, flags_low)


def run_plain(
    columns: PlainColumns,
    results: Results,
    base: int,
    *,
    accounts: AccountBook,
    log: TransferLog,
    desk: TransferDesk,
    create: Callable[[int], Outcome],
) -> None:
    """Carry out a batch of plain transfers; `create(event number)` is the exact way for one of them.

    The caller has made sure that no balance can overflow. The inlined part is the whole of R4 for an event with known,
    open, unlimited accounts without history in its own ledger and a fresh id: everything else goes to `create`.
    """
    by_id, index = accounts.by_id, log.index
    chain: list[Undo | PlainUndo] = []
    broken = 0
    undo: Undo | PlainUndo | None
    for row, (id, debit_id, credit_id, amount, ledger, linked) in enumerate(zip(*columns, strict=True), base):
        if broken:
            results.fail(row - base, _FAILED)
            broken = linked
            continue
        try:
            debit, credit = by_id[debit_id], by_id[credit_id]
        except KeyError:
            debit = credit = NOBODY
        if (
            debit is credit
            or id in index
            or (
                (debit.debit_ledger != ledger or credit.credit_ledger != ledger)
                and not is_within_limits(debit, credit, amount, ledger)
            )
        ):
            status, time, undo = create(row - base)
            if status != _CREATED:
                results.fail(row - base, status, time)
                _break_chain(chain, row - base, results, desk.undo)
                broken = linked
                continue
        else:
            debits, credits = debit.debits_posted, credit.credits_posted
            debit.debits_posted, credit.credits_posted = debits + amount, credits + amount
            index[id] = row
            undo = None
            if linked:
                undo = (id, debit, debits, credit, credits)
        if linked:
            assert undo is not None, "a linked transfer was carried out and left no way back"
            chain.append(undo)
        elif chain:
            chain.clear()


def cannot_overflow(columns: PlainColumns, desk: TransferDesk, accounts: AccountBook) -> bool:
    """Whether no balance can leave its 128 bits, whatever of this batch is carried out. Raises the desk's bound."""
    total = sum(columns.amounts)
    if desk.moved_bound + total > U128_MAX:
        desk.moved_bound = highest_balance(accounts)
        if desk.moved_bound + total > U128_MAX:
            return False
    desk.moved_bound += total
    return True


def highest_balance(accounts: AccountBook) -> int:
    """The highest that any account has on one side, pending and posted together."""
    return max(
        (max(a.debits_pending + a.debits_posted, a.credits_pending + a.credits_posted) for a in accounts.in_order),
        default=0,
    )


def _break_chain(chain: list[_Back], at: int, results: Results, undo: Callable[[_Back], None]) -> None:
    """Take back the members before event `at`, newest first; each keeps the timestamp that it had been given."""
    for back in reversed(chain):
        undo(back)
    for member in range(at - len(chain), at):
        results.fail(member, _FAILED)
    chain.clear()


def _check_time(
    event: Account | Transfer, imported: int, imported_expected: int, last_time: int, statuses: _Statuses
) -> int | None:
    """The part of R2 that looks at the batch as a whole: imported or not, and the timestamp that was brought."""
    if imported != imported_expected:
        return statuses.IMPORTED_EVENT_EXPECTED if imported_expected else statuses.IMPORTED_EVENT_NOT_EXPECTED
    if not imported:
        return statuses.TIMESTAMP_MUST_BE_ZERO if event.timestamp else None
    if not 1 <= event.timestamp <= TIME_MAX:
        return statuses.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE
    return statuses.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE if event.timestamp >= last_time else None
