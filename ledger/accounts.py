"""The accounts as they stand: balances, flags, and the history of those that asked for one.

The law here: accounts are kept in the order of their timestamps, which is the order in which they were created, and
an id, once created, stays (only the roll-back of a broken chain takes the newest ones away again). Checks are made in
the order of ledger R3.
"""

from bisect import bisect_left
from typing import Final

from dompbus.ledger.statuses import CreateAccountStatus as Status
from dompbus.ledger.types import U128_MAX, Account, AccountFlags

__all__ = ["NOBODY", "AccountBook", "AccountState", "History", "is_within_limits"]

History = list[tuple[int, int, int, int, int]]
"""(timestamp, debits pending, debits posted, credits pending, credits posted) after each transfer, oldest first."""

_LIMIT_DEBITS: Final = int(AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS)
_LIMIT_CREDITS: Final = int(AccountFlags.CREDITS_MUST_NOT_EXCEED_DEBITS)
_LIMITS: Final = _LIMIT_DEBITS | _LIMIT_CREDITS
_HISTORY: Final = int(AccountFlags.HISTORY)
_IMPORTED: Final = int(AccountFlags.IMPORTED)
_CLOSED: Final = int(AccountFlags.CLOSED)
_KNOWN: Final = 63
_NEEDS_CARE: Final = -1  # no ledger has this number


class AccountState:
    """One account in the machine. A slotted object and not a struct: the apply loop writes its balances in place.

    `debit_ledger` is the account's ledger when a plain transfer may debit it without further thought (no limit on that
    side, not closed, no history), else -1; `credit_ledger` likewise. One comparison then does for four checks.
    """

    __slots__ = (
        "code",
        "credit_ledger",
        "credits_pending",
        "credits_posted",
        "debit_ledger",
        "debits_pending",
        "debits_posted",
        "flags",
        "history",
        "id",
        "ledger",
        "timestamp",
        "user_data_32",
        "user_data_64",
        "user_data_128",
    )

    def __init__(self, account: Account, timestamp: int) -> None:
        self.id = account.id
        self.debits_pending = account.debits_pending
        self.debits_posted = account.debits_posted
        self.credits_pending = account.credits_pending
        self.credits_posted = account.credits_posted
        self.user_data_128 = account.user_data_128
        self.user_data_64 = account.user_data_64
        self.user_data_32 = account.user_data_32
        self.ledger = account.ledger
        self.code = account.code
        self.timestamp = timestamp
        self.history: History | None = [] if account.flags & _HISTORY else None
        self.set_flags(int(account.flags))

    def set_flags(self, flags: int) -> None:
        """Change the flags and what follows from them."""
        self.flags = flags
        self.debit_ledger = _NEEDS_CARE if flags & (_LIMIT_DEBITS | _CLOSED | _HISTORY) else self.ledger
        self.credit_ledger = _NEEDS_CARE if flags & (_LIMIT_CREDITS | _CLOSED | _HISTORY) else self.ledger

    def remember(self, timestamp: int) -> None:
        """Add the balances of now to the history, which there must be."""
        assert self.history is not None
        self.history.append(
            (timestamp, self.debits_pending, self.debits_posted, self.credits_pending, self.credits_posted)
        )

    def record(self) -> Account:
        """The account as others see it."""
        return Account(
            id=self.id,
            debits_pending=self.debits_pending,
            debits_posted=self.debits_posted,
            credits_pending=self.credits_pending,
            credits_posted=self.credits_posted,
            user_data_128=self.user_data_128,
            user_data_64=self.user_data_64,
            user_data_32=self.user_data_32,
            ledger=self.ledger,
            code=self.code,
            flags=AccountFlags(self.flags),
            timestamp=self.timestamp,
        )


def is_within_limits(debit: AccountState, credit: AccountState, amount: int, ledger: int) -> bool:
    """Whether a plain transfer between these may be carried out and leaves no history: the second glance, when
    `debit_ledger` or `credit_ledger` has said no. The caller has made sure that nothing can overflow."""
    if (debit.flags | credit.flags) & (_CLOSED | _HISTORY) or not debit.ledger == credit.ledger == ledger:
        return False
    if debit.flags & _LIMIT_DEBITS and debit.debits_pending + debit.debits_posted + amount > debit.credits_posted:
        return False
    return not (
        credit.flags & _LIMIT_CREDITS and credit.credits_pending + credit.credits_posted + amount > credit.debits_posted
    )


NOBODY: Final = AccountState(Account(), 0)


class AccountBook:
    """Every account, by id and in order of time."""

    __slots__ = ("by_id", "in_order")

    def __init__(self) -> None:
        self.by_id: dict[int, AccountState] = {}
        self.in_order: list[AccountState] = []

    @property
    def newest(self) -> int:
        """The timestamp of the newest account, or 0."""
        return self.in_order[-1].timestamp if self.in_order else 0

    def create(self, account: Account, slot: int, *, transfer_at_same_time: bool) -> tuple[Status, int]:
        """Carry out one event, whose batch gave it the time `slot`; the status and the timestamp of the result."""
        status = _check_identity(account)
        if status is not None:
            return status, slot
        existing = self.by_id.get(account.id)
        if existing is not None:
            status = _compare(account, existing)
            return status, existing.timestamp if status is Status.EXISTS else slot
        status = _check_shape(account)
        if status is not None:
            return status, slot
        if not account.flags & _IMPORTED:
            return self._add(account, slot)
        if account.timestamp <= self.newest or transfer_at_same_time:
            return Status.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS, slot
        return self._add(account, account.timestamp)

    def add(self, state: AccountState) -> None:
        """Put an account at the end, unchecked: for snapshots."""
        self.by_id[state.id] = state
        self.in_order.append(state)

    def remove_newest(self) -> None:
        """Take back the last creation: for the roll-back of a chain."""
        del self.by_id[self.in_order.pop().id]

    def exists_at(self, timestamp: int) -> bool:
        """Whether an account has this very timestamp."""
        at = bisect_left(self.in_order, timestamp, key=_timestamp)
        return at < len(self.in_order) and self.in_order[at].timestamp == timestamp

    def span(self, timestamp_min: int, timestamp_max: int) -> range:
        """Places in `in_order` with timestamps in these bounds, both inclusive."""
        first = bisect_left(self.in_order, timestamp_min, key=_timestamp)
        return range(first, bisect_left(self.in_order, timestamp_max + 1, key=_timestamp))

    def _add(self, account: Account, timestamp: int) -> tuple[Status, int]:
        self.add(AccountState(account, timestamp))
        return Status.CREATED, timestamp


def _timestamp(state: AccountState) -> int:
    return state.timestamp


def _check_identity(account: Account) -> Status | None:
    if account.reserved:
        return Status.RESERVED_FIELD
    if account.flags & ~_KNOWN:
        return Status.RESERVED_FLAG
    if account.id == 0:
        return Status.ID_MUST_NOT_BE_ZERO
    if account.id == U128_MAX:
        return Status.ID_MUST_NOT_BE_INT_MAX
    return None


def _compare(account: Account, existing: AccountState) -> Status:
    """What an id that exists is answered with; the flags count as they stand now."""
    if account.flags != existing.flags:
        return Status.EXISTS_WITH_DIFFERENT_FLAGS
    if account.user_data_128 != existing.user_data_128:
        return Status.EXISTS_WITH_DIFFERENT_USER_DATA_128
    if account.user_data_64 != existing.user_data_64:
        return Status.EXISTS_WITH_DIFFERENT_USER_DATA_64
    if account.user_data_32 != existing.user_data_32:
        return Status.EXISTS_WITH_DIFFERENT_USER_DATA_32
    if account.ledger != existing.ledger:
        return Status.EXISTS_WITH_DIFFERENT_LEDGER
    if account.code != existing.code:
        return Status.EXISTS_WITH_DIFFERENT_CODE
    return Status.EXISTS


def _check_shape(account: Account) -> Status | None:
    if account.flags & _LIMITS == _LIMITS:
        return Status.FLAGS_ARE_MUTUALLY_EXCLUSIVE
    if account.debits_pending:
        return Status.DEBITS_PENDING_MUST_BE_ZERO
    if account.debits_posted:
        return Status.DEBITS_POSTED_MUST_BE_ZERO
    if account.credits_pending:
        return Status.CREDITS_PENDING_MUST_BE_ZERO
    if account.credits_posted:
        return Status.CREDITS_POSTED_MUST_BE_ZERO
    if account.ledger == 0:
        return Status.LEDGER_MUST_NOT_BE_ZERO
    if account.code == 0:
        return Status.CODE_MUST_NOT_BE_ZERO
    return None
