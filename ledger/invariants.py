"""What must hold in every ledger at every moment; a breach is our own error and stops the machine.

The law here: debits equal credits in each ledger, pending and posted apart; the open holds are what is pending; no
limit is breached; timestamps are unique and rising; every id is known once.
"""

from collections import defaultdict
from itertools import pairwise

from dompbus.ledger.accounts import AccountState
from dompbus.ledger.holds import HoldStatus
from dompbus.ledger.log import column_u64
from dompbus.ledger.records import RECORD_BYTES
from dompbus.ledger.snapshots import State
from dompbus.ledger.types import U128_MAX, AccountFlags, TransferFlags

__all__ = ["check_invariants"]


def check_invariants(state: State, *, first_row: int = 0) -> int:
    """Raise `AssertionError` on a breach. Rows before `first_row` were checked before; returns the next such row.

    Costs time in proportion to the accounts, the holds and the new rows.
    """
    for account in state.accounts.in_order:
        _check_account(account)
    if not state.balances_set:
        _check_limits(state)
        _check_balance(state)
        _check_holds(state)
    _check_times(state, first_row)
    _check_index(state)
    return len(state.log)


def _check_account(account: AccountState) -> None:
    debits, credits = (
        account.debits_pending + account.debits_posted,
        account.credits_pending + account.credits_posted,
    )
    parts = (account.debits_pending, account.debits_posted, account.credits_pending, account.credits_posted)
    assert min(parts) >= 0, f"account {account.id}: a balance is negative: {parts}"
    assert max(debits, credits) <= U128_MAX, f"account {account.id}: a balance has left its 128 bits: {parts}"


def _check_limits(state: State) -> None:
    for account in state.accounts.in_order:
        if account.flags & AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS:
            over = account.debits_pending + account.debits_posted - account.credits_posted
            assert over <= 0, f"account {account.id}: its debits exceed its posted credits by {over}"
        if account.flags & AccountFlags.CREDITS_MUST_NOT_EXCEED_DEBITS:
            over = account.credits_pending + account.credits_posted - account.debits_posted
            assert over <= 0, f"account {account.id}: its credits exceed its posted debits by {over}"


def _check_balance(state: State) -> None:
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for account in state.accounts.in_order:
        sums[account.ledger][0] += account.debits_pending - account.credits_pending
        sums[account.ledger][1] += account.debits_posted - account.credits_posted
    for ledger, (pending, posted) in sums.items():
        assert pending == 0, f"ledger {ledger}: pending debits less pending credits is {pending}"
        assert posted == 0, f"ledger {ledger}: posted debits less posted credits is {posted}"


def _check_holds(state: State) -> None:
    held: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for id, status in state.holds.status_of.items():
        if status is HoldStatus.PENDING:
            hold = state.log.get(id)
            assert hold is not None, f"hold {id} has no record"
            assert hold.flags & TransferFlags.PENDING, f"hold {id} is of a transfer that is not pending"
            held[hold.debit_account_id][0] += hold.amount
            held[hold.credit_account_id][1] += hold.amount
    for account in state.accounts.in_order:
        pending = [account.debits_pending, account.credits_pending]
        assert pending == held[account.id], f"account {account.id}: pending {pending}, held {held[account.id]}"


def _check_times(state: State, first_row: int) -> None:
    log, accounts = state.log, state.accounts.in_order
    first = max(0, first_row - 1)
    with memoryview(log.rows) as view, view[first * RECORD_BYTES :] as rows:
        times = column_u64(rows, RECORD_BYTES // 8 - 1)
    assert all(older < newer for older, newer in pairwise(times)), "the transfers' timestamps do not rise"
    assert all(a.timestamp < b.timestamp for a, b in pairwise(accounts)), "the accounts' timestamps do not rise"
    assert min([*times[:1], *(a.timestamp for a in accounts[:1])], default=1) > 0, "a record has no timestamp"
    shared = set(times).intersection(account.timestamp for account in accounts)
    assert not shared, f"an account and a transfer share the timestamp {min(shared)}"
    newest = max([log.newest, state.accounts.newest, *times[-1:]])
    assert newest <= state.last_timestamp, f"a record's time {newest} is after the last batch's {state.last_timestamp}"
    assert all(a[0] <= b[0] for a, b in pairwise(state.expiries)), "the expiries' times do not rise"


def _check_index(state: State) -> None:
    """Ids of created and of burnt transfers, and the two impossible ones, are all that is indexed."""
    expected = len(state.log) + len(state.log.burnt) + 2
    assert len(state.log.index) == expected, f"{len(state.log.index)} ids are indexed, {expected} are known"
    assert len(state.accounts.by_id) == len(state.accounts.in_order), "accounts by id and in order differ"
