"""The rules of transfers: what is refused and in which order (ledger R4, R5, R7), as pure functions.

The law here: each function returns the status of the first rule that is broken, in the documented order, or None; the
functions' own order is the one in which `dompbus.ledger.transfers` asks them. Nothing here changes anything.
"""

from typing import Final

from dompbus.ledger.accounts import AccountState
from dompbus.ledger.holds import HoldStatus, expires_at
from dompbus.ledger.statuses import CreateTransferStatus as Status
from dompbus.ledger.types import U128_MAX, AccountFlags, Transfer, TransferFlags

__all__ = [
    "BALANCING",
    "CLOSING",
    "RESOLVING",
    "TIME_MAX",
    "balanced_amount",
    "check_accounts",
    "check_closed",
    "check_hold",
    "check_identity",
    "check_imported",
    "check_limits",
    "check_overflows",
    "check_resolution_shape",
    "check_shape",
    "compare",
    "inherit",
]

TIME_MAX: Final = 2**63 - 1
RESOLVING: Final = int(TransferFlags.POST_PENDING_TRANSFER | TransferFlags.VOID_PENDING_TRANSFER)
BALANCING: Final = int(TransferFlags.BALANCING_DEBIT | TransferFlags.BALANCING_CREDIT)
CLOSING: Final = int(TransferFlags.CLOSING_DEBIT | TransferFlags.CLOSING_CREDIT)
_PENDING: Final = int(TransferFlags.PENDING)
_VOID: Final = int(TransferFlags.VOID_PENDING_TRANSFER)
_BALANCING_DEBIT: Final = int(TransferFlags.BALANCING_DEBIT)
_BALANCING_CREDIT: Final = int(TransferFlags.BALANCING_CREDIT)
_KNOWN: Final = 511
_CLOSED: Final = int(AccountFlags.CLOSED)
_LIMIT_DEBITS: Final = int(AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS)
_LIMIT_CREDITS: Final = int(AccountFlags.CREDITS_MUST_NOT_EXCEED_DEBITS)
_SECOND_NS: Final = 10**9


def check_identity(transfer: Transfer) -> Status | None:
    """The flags and the id by themselves."""
    if transfer.flags & ~_KNOWN:
        return Status.RESERVED_FLAG
    if transfer.id == 0:
        return Status.ID_MUST_NOT_BE_ZERO
    if transfer.id == U128_MAX:
        return Status.ID_MUST_NOT_BE_INT_MAX
    return None


def compare(transfer: Transfer, existing: Transfer, hold: Transfer | None) -> Status:
    """What an id that exists is answered with; `hold` is what `existing` resolved, if it is a post or void."""
    if transfer.flags != existing.flags:
        return Status.EXISTS_WITH_DIFFERENT_FLAGS
    if transfer.pending_id != existing.pending_id:
        return Status.EXISTS_WITH_DIFFERENT_PENDING_ID
    if transfer.timeout != existing.timeout:
        return Status.EXISTS_WITH_DIFFERENT_TIMEOUT
    asked = transfer if hold is None else inherit(transfer, hold)
    if asked.debit_account_id != existing.debit_account_id:
        return Status.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID
    if asked.credit_account_id != existing.credit_account_id:
        return Status.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID
    if asked.amount != existing.amount and not (asked.flags & BALANCING and asked.amount > existing.amount):
        return Status.EXISTS_WITH_DIFFERENT_AMOUNT
    if asked.user_data_128 != existing.user_data_128:
        return Status.EXISTS_WITH_DIFFERENT_USER_DATA_128
    if asked.user_data_64 != existing.user_data_64:
        return Status.EXISTS_WITH_DIFFERENT_USER_DATA_64
    if asked.user_data_32 != existing.user_data_32:
        return Status.EXISTS_WITH_DIFFERENT_USER_DATA_32
    if asked.ledger != existing.ledger:
        return Status.EXISTS_WITH_DIFFERENT_LEDGER
    if asked.code != existing.code:
        return Status.EXISTS_WITH_DIFFERENT_CODE
    return Status.EXISTS


def check_shape(transfer: Transfer) -> Status | None:
    """The fields of a transfer that is no post and no void, by themselves."""
    if transfer.debit_account_id == 0:
        return Status.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO
    if transfer.debit_account_id == U128_MAX:
        return Status.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX
    if transfer.credit_account_id == 0:
        return Status.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO
    if transfer.credit_account_id == U128_MAX:
        return Status.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX
    if transfer.debit_account_id == transfer.credit_account_id:
        return Status.ACCOUNTS_MUST_BE_DIFFERENT
    if transfer.pending_id:
        return Status.PENDING_ID_MUST_BE_ZERO
    if transfer.timeout and not transfer.flags & _PENDING:
        return Status.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
    if transfer.flags & CLOSING and not transfer.flags & _PENDING:
        return Status.CLOSING_TRANSFER_MUST_BE_PENDING
    if transfer.ledger == 0:
        return Status.LEDGER_MUST_NOT_BE_ZERO
    if transfer.code == 0:
        return Status.CODE_MUST_NOT_BE_ZERO
    return None


def check_accounts(transfer: Transfer, debit: AccountState | None, credit: AccountState | None) -> Status | None:
    """The accounts exist and all is in one ledger."""
    if debit is None:
        return Status.DEBIT_ACCOUNT_NOT_FOUND
    if credit is None:
        return Status.CREDIT_ACCOUNT_NOT_FOUND
    if debit.ledger != credit.ledger:
        return Status.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER
    if transfer.ledger != debit.ledger:
        return Status.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS
    return None


def check_imported(transfer: Transfer, debit: AccountState, credit: AccountState) -> Status | None:
    """An imported transfer, after its time has been found not to regress."""
    if transfer.timestamp <= debit.timestamp:
        return Status.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT
    if transfer.timestamp <= credit.timestamp:
        return Status.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT
    if transfer.timeout:
        return Status.IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO
    return None


def check_closed(debit: AccountState, credit: AccountState) -> Status | None:
    """Both accounts are open."""
    if debit.flags & _CLOSED:
        return Status.DEBIT_ACCOUNT_ALREADY_CLOSED
    if credit.flags & _CLOSED:
        return Status.CREDIT_ACCOUNT_ALREADY_CLOSED
    return None


def balanced_amount(transfer: Transfer, debit: AccountState, credit: AccountState) -> int:
    """The amount asked for, clamped to the head-room where a balancing flag says so (R7)."""
    amount = transfer.amount
    if transfer.flags & _BALANCING_DEBIT:
        amount = min(amount, max(0, debit.credits_posted - debit.debits_posted - debit.debits_pending))
    if transfer.flags & _BALANCING_CREDIT:
        amount = min(amount, max(0, credit.debits_posted - credit.credits_posted - credit.credits_pending))
    return amount


def check_overflows(
    transfer: Transfer, amount: int, debit: AccountState, credit: AccountState, *, time: int
) -> Status | None:
    """No sum leaves its 128 bits, no expiry its 63."""
    if transfer.flags & _PENDING:
        if debit.debits_pending + amount > U128_MAX:
            return Status.OVERFLOWS_DEBITS_PENDING
        if credit.credits_pending + amount > U128_MAX:
            return Status.OVERFLOWS_CREDITS_PENDING
    if debit.debits_posted + amount > U128_MAX:
        return Status.OVERFLOWS_DEBITS_POSTED
    if credit.credits_posted + amount > U128_MAX:
        return Status.OVERFLOWS_CREDITS_POSTED
    if debit.debits_pending + debit.debits_posted + amount > U128_MAX:
        return Status.OVERFLOWS_DEBITS
    if credit.credits_pending + credit.credits_posted + amount > U128_MAX:
        return Status.OVERFLOWS_CREDITS
    if time + transfer.timeout * _SECOND_NS > TIME_MAX:
        return Status.OVERFLOWS_TIMEOUT
    return None


def check_limits(amount: int, debit: AccountState, credit: AccountState) -> Status | None:
    """The limits of the flagged accounts; pending counts against them, but gives none."""
    if debit.flags & _LIMIT_DEBITS and debit.debits_pending + debit.debits_posted + amount > debit.credits_posted:
        return Status.EXCEEDS_CREDITS
    if credit.flags & _LIMIT_CREDITS and credit.credits_pending + credit.credits_posted + amount > credit.debits_posted:
        return Status.EXCEEDS_DEBITS
    return None


def check_resolution_shape(transfer: Transfer) -> Status | None:
    """The fields of a post or void, by themselves."""
    both = transfer.flags & RESOLVING == RESOLVING
    if both or transfer.flags & (_PENDING | BALANCING | CLOSING):
        return Status.FLAGS_ARE_MUTUALLY_EXCLUSIVE
    if transfer.pending_id == 0:
        return Status.PENDING_ID_MUST_NOT_BE_ZERO
    if transfer.pending_id == U128_MAX:
        return Status.PENDING_ID_MUST_NOT_BE_INT_MAX
    if transfer.pending_id == transfer.id:
        return Status.PENDING_ID_MUST_BE_DIFFERENT
    if transfer.timeout:
        return Status.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
    return None


def inherit(transfer: Transfer, hold: Transfer) -> Transfer:
    """A post or void with what it leaves open taken from the hold; this is what is recorded."""
    whole = 0 if transfer.flags & _VOID else U128_MAX
    return Transfer(
        id=transfer.id,
        debit_account_id=transfer.debit_account_id or hold.debit_account_id,
        credit_account_id=transfer.credit_account_id or hold.credit_account_id,
        amount=hold.amount if transfer.amount == whole else transfer.amount,
        pending_id=transfer.pending_id,
        user_data_128=transfer.user_data_128 or hold.user_data_128,
        user_data_64=transfer.user_data_64 or hold.user_data_64,
        user_data_32=transfer.user_data_32 or hold.user_data_32,
        ledger=transfer.ledger or hold.ledger,
        code=transfer.code or hold.code,
        flags=transfer.flags,
        timestamp=transfer.timestamp,
    )


def check_hold(asked: Transfer, hold: Transfer, status: HoldStatus, *, time: int) -> Status | None:
    """A post or void, after `inherit`, against its hold; `time` is the event's slot, also when it is imported."""
    if asked.debit_account_id != hold.debit_account_id:
        return Status.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID
    if asked.credit_account_id != hold.credit_account_id:
        return Status.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID
    if asked.ledger != hold.ledger:
        return Status.PENDING_TRANSFER_HAS_DIFFERENT_LEDGER
    if asked.code != hold.code:
        return Status.PENDING_TRANSFER_HAS_DIFFERENT_CODE
    if asked.amount > hold.amount:
        return Status.EXCEEDS_PENDING_TRANSFER_AMOUNT
    if asked.flags & _VOID and asked.amount < hold.amount:
        return Status.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT
    return _check_unresolved(hold, status, time)


def _check_unresolved(hold: Transfer, status: HoldStatus, time: int) -> Status | None:
    if status is HoldStatus.POSTED:
        return Status.PENDING_TRANSFER_ALREADY_POSTED
    if status is HoldStatus.VOIDED:
        return Status.PENDING_TRANSFER_ALREADY_VOIDED
    due = expires_at(hold)
    if status is HoldStatus.EXPIRED or (due is not None and due <= time):
        return Status.PENDING_TRANSFER_EXPIRED
    return None
