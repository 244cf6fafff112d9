"""One transfer carried out, exactly: look up, ask the rules in their order, move the money, record, remember the undo.

The law here: an event either changes nothing or changes everything that it should, and what it changed can be undone
from its `Undo` alone, newest first. Both sides of a movement change by the same amount, so the books always balance.
"""

from typing import NamedTuple

from msgspec.structs import replace

from dompbus.ledger import rules
from dompbus.ledger.accounts import AccountBook, AccountState
from dompbus.ledger.holds import Holds, HoldStatus
from dompbus.ledger.log import BURNT, TransferLog
from dompbus.ledger.statuses import TRANSIENT
from dompbus.ledger.statuses import CreateTransferStatus as Status
from dompbus.ledger.types import AccountFlags, Transfer, TransferFlags

__all__ = ["Outcome", "PlainUndo", "TransferDesk", "Undo"]

_LINKED = int(TransferFlags.LINKED)
_PENDING = int(TransferFlags.PENDING)
_POST = int(TransferFlags.POST_PENDING_TRANSFER)
_VOID = int(TransferFlags.VOID_PENDING_TRANSFER)
_CLOSING_DEBIT = int(TransferFlags.CLOSING_DEBIT)
_CLOSING_CREDIT = int(TransferFlags.CLOSING_CREDIT)
_IMPORTED = int(TransferFlags.IMPORTED)
_CLOSED = int(AccountFlags.CLOSED)


class Undo(NamedTuple):
    """How everything was before a transfer; `hold` is what a post or void resolved."""

    transfer: Transfer
    debit: AccountState
    debits_pending: int
    debits_posted: int
    debit_flags: int
    credit: AccountState
    credits_pending: int
    credits_posted: int
    credit_flags: int
    hold: Transfer | None
    newest: int


PlainUndo = tuple[int, AccountState, int, AccountState, int]
"""The same of a plain transfer: its id, the debit account and its debits posted, the credit account and its."""

Outcome = tuple[Status, int, Undo | None]
"""Status and timestamp of the result, and the way back, which only a linked transfer that was carried out needs."""


class TransferDesk:
    """Where transfers are carried out on the accounts, the log and the holds."""

    __slots__ = ("_accounts", "_holds", "_log", "moved_bound")

    def __init__(self, accounts: AccountBook, log: TransferLog, holds: Holds) -> None:
        self._accounts = accounts
        self._log = log
        self._holds = holds
        self.moved_bound = 0  # no balance is above it: the sum of all amounts ever carried out, or less

    def create(self, transfer: Transfer, slot: int, row: int) -> Outcome:
        """Carry out one event; `slot` is the time that its batch gave it, `row` its provisional place in the log."""
        outcome = self._create(transfer, slot, row)
        if outcome[0] in TRANSIENT:
            self._log.burn(transfer.id)
        return outcome

    def undo(self, undo: Undo | PlainUndo) -> None:
        """Take back the newest transfer."""
        if not isinstance(undo, Undo):
            id, debit, debits, credit, credits = undo
            debit.debits_posted, credit.credits_posted = debits, credits
            del self._log.index[id]
            return
        for account in (undo.debit, undo.credit):
            if account.history is not None:
                account.history.pop()
        undo.debit.debits_pending, undo.debit.debits_posted = undo.debits_pending, undo.debits_posted
        undo.credit.credits_pending, undo.credit.credits_posted = undo.credits_pending, undo.credits_posted
        undo.debit.set_flags(undo.debit_flags)
        undo.credit.set_flags(undo.credit_flags)
        self._undo_record(undo)

    def expire(self, hold: Transfer) -> None:
        """Give back what a hold held. The caller has found it due."""
        debit, credit = self._parties(hold)
        self._release(hold, debit, credit)
        self._holds.set(hold, HoldStatus.EXPIRED)

    def _create(self, transfer: Transfer, slot: int, row: int) -> Outcome:
        status = rules.check_identity(transfer)
        if status is not None:
            return status, slot, None
        found = self._log.index.get(transfer.id)
        if found is not None:
            return self._exists(transfer, slot, found)
        if transfer.flags & rules.RESOLVING:
            return self._resolve(transfer, slot, row)
        by_id = self._accounts.by_id
        debit, credit = by_id.get(transfer.debit_account_id), by_id.get(transfer.credit_account_id)
        status = rules.check_shape(transfer) or rules.check_accounts(transfer, debit, credit)
        if status is not None:
            return status, slot, None
        assert debit is not None
        assert credit is not None
        return self._move(transfer, debit, credit, slot, row)

    def _exists(self, transfer: Transfer, slot: int, row: int) -> Outcome:
        if row == BURNT:
            return Status.ID_ALREADY_FAILED, slot, None
        existing = self._log.read(row)
        hold = self._log.get(existing.pending_id) if existing.flags & rules.RESOLVING else None
        status = rules.compare(transfer, existing, hold)
        return status, existing.timestamp if status is Status.EXISTS else slot, None

    def _move(self, transfer: Transfer, debit: AccountState, credit: AccountState, slot: int, row: int) -> Outcome:
        """A transfer that is no post and no void, whose accounts are found."""
        time = transfer.timestamp if transfer.flags & _IMPORTED else slot
        status = None
        if transfer.flags & _IMPORTED:
            status = self._check_regress(transfer) or rules.check_imported(transfer, debit, credit)
        status = status or rules.check_closed(debit, credit)
        if status is not None:
            return status, slot, None
        amount = rules.balanced_amount(transfer, debit, credit)
        status = rules.check_overflows(transfer, amount, debit, credit, time=time)
        status = status or rules.check_limits(amount, debit, credit)
        if status is not None:
            return status, slot, None
        undo = self._undo_of(transfer, debit, credit, None) if transfer.flags & _LINKED else None
        self._apply(transfer, amount, time, debit, credit)
        if amount != transfer.amount:
            self._log.rewrite(row, replace(transfer, amount=amount, timestamp=time))
        self._remember(transfer.id, time, debit, credit, row)
        return Status.CREATED, time, undo

    def _resolve(self, transfer: Transfer, slot: int, row: int) -> Outcome:
        """A post or a void."""
        status = rules.check_resolution_shape(transfer)
        if status is not None:
            return status, slot, None
        hold = self._log.get(transfer.pending_id)
        if hold is None:
            return Status.PENDING_TRANSFER_NOT_FOUND, slot, None
        if not hold.flags & _PENDING:
            return Status.PENDING_TRANSFER_NOT_PENDING, slot, None
        asked = rules.inherit(transfer, hold)
        debit, credit = self._parties(hold)
        status = rules.check_hold(asked, hold, self._holds.status_of[hold.id], time=slot)
        if status is None and transfer.flags & _IMPORTED:
            status = self._check_regress(transfer)
        if status is None and transfer.flags & _POST:
            status = rules.check_closed(debit, credit)
        if status is not None:
            return status, slot, None
        return self._settle(asked, hold, slot, row)

    def _settle(self, asked: Transfer, hold: Transfer, slot: int, row: int) -> Outcome:
        """Post or void a hold that is found open."""
        debit, credit = self._parties(hold)
        recorded = asked if asked.flags & _IMPORTED else replace(asked, timestamp=slot)
        undo = self._undo_of(recorded, debit, credit, hold) if asked.flags & _LINKED else None
        self._release(hold, debit, credit)
        if asked.flags & _POST:
            debit.debits_posted += asked.amount
            credit.credits_posted += asked.amount
            self.moved_bound += asked.amount
        self._holds.set(hold, HoldStatus.POSTED if asked.flags & _POST else HoldStatus.VOIDED)
        self._log.rewrite(row, recorded)
        self._remember(recorded.id, recorded.timestamp, debit, credit, row)
        return Status.CREATED, recorded.timestamp, undo

    def _check_regress(self, transfer: Transfer) -> Status | None:
        if transfer.timestamp <= self._log.newest or self._accounts.exists_at(transfer.timestamp):
            return Status.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        return None

    def _apply(self, transfer: Transfer, amount: int, time: int, debit: AccountState, credit: AccountState) -> None:
        self.moved_bound += amount
        if not transfer.flags & _PENDING:
            debit.debits_posted += amount
            credit.credits_posted += amount
            return
        debit.debits_pending += amount
        credit.credits_pending += amount
        self._holds.open(transfer.id, created=time, timeout=transfer.timeout)
        if not transfer.flags & rules.CLOSING:
            return
        if transfer.flags & _CLOSING_DEBIT:
            debit.set_flags(debit.flags | _CLOSED)
        if transfer.flags & _CLOSING_CREDIT:
            credit.set_flags(credit.flags | _CLOSED)

    def _release(self, hold: Transfer, debit: AccountState, credit: AccountState) -> None:
        """Free what a hold holds, and reopen what it closed."""
        debit.debits_pending -= hold.amount
        credit.credits_pending -= hold.amount
        if hold.flags & _CLOSING_DEBIT:
            debit.set_flags(debit.flags & ~_CLOSED)
        if hold.flags & _CLOSING_CREDIT:
            credit.set_flags(credit.flags & ~_CLOSED)

    def _remember(self, id: int, time: int, debit: AccountState, credit: AccountState, row: int) -> None:
        """Put the transfer, whose bytes are in the log already, where it will be found."""
        self._log.index[id] = row
        self._log.newest = time
        if debit.history is not None:
            debit.remember(time)
        if credit.history is not None:
            credit.remember(time)

    def _parties(self, transfer: Transfer) -> tuple[AccountState, AccountState]:
        by_id = self._accounts.by_id
        return by_id[transfer.debit_account_id], by_id[transfer.credit_account_id]

    def _undo_of(self, transfer: Transfer, debit: AccountState, credit: AccountState, hold: Transfer | None) -> Undo:
        return Undo(
            transfer,
            debit,
            debit.debits_pending,
            debit.debits_posted,
            debit.flags,
            credit,
            credit.credits_pending,
            credit.credits_posted,
            credit.flags,
            hold,
            self._log.newest,
        )

    def _undo_record(self, undo: Undo) -> None:
        del self._log.index[undo.transfer.id]
        self._log.newest = undo.newest
        if undo.hold is not None:
            self._holds.set(undo.hold, HoldStatus.PENDING)
        elif undo.transfer.flags & _PENDING:
            self._holds.forget(undo.transfer.id)
