"""R5, R7, R8, R9: holds, limits, balancing, expiry and closing."""

import pytest

from dompbus.ledger import Account, CreateTransferStatus, Transfer
from tests.unit.ledger.worlds import CREATED, INT_MAX, open_world, usual

T = CreateTransferStatus
PENDING, POST, VOID, BALANCING_DEBIT, BALANCING_CREDIT, CLOSING_DEBIT, CLOSING_CREDIT = 2, 4, 8, 16, 32, 64, 128
NOTHING = {"debit_account_id": 0, "credit_account_id": 0, "ledger": 0, "code": 0}


def resolve(flags, **change):
    amount = 0 if flags & VOID else INT_MAX
    return {"id": 2, "pending_id": 1, "flags": flags, "amount": amount, **NOTHING, **change}


def held(**change):
    """A world with hold 1 of 10."""
    world = open_world()
    assert world.one(id=1, flags=PENDING, user_data_128=7, user_data_64=8, user_data_32=9, **change) is CREATED
    return world


@pytest.mark.parametrize(
    ("change", "posted", "recorded"),
    [
        (resolve(POST), 10, 10),
        (resolve(POST, amount=10), 10, 10),
        (resolve(POST, amount=4), 4, 4),
        (resolve(POST, amount=0), 0, 0),
        (resolve(VOID), 0, 10),
        (resolve(VOID, amount=10), 0, 10),
    ],
)
def test_resolutions(change, posted, recorded):
    """R5: a post moves its amount and frees the rest, a void frees all; what is recorded is what happened."""
    world = held()
    assert world.balances(1) == (10, 0, 0, 0)
    assert world.balances(2) == (0, 0, 10, 0)
    assert world.one(**change) is CREATED
    assert world.balances(1) == (0, posted, 0, 0)
    assert world.balances(2) == (0, 0, 0, posted)
    (transfer,) = world.ledger.lookup_transfers([2])
    assert (transfer.debit_account_id, transfer.credit_account_id, transfer.ledger, transfer.code) == (1, 2, 1, 1)
    assert (transfer.user_data_128, transfer.user_data_64, transfer.user_data_32) == (7, 8, 9)
    assert (transfer.amount, transfer.timeout, transfer.pending_id) == (recorded, 0, 1)
    assert (transfer.flags, transfer.timestamp) == (change["flags"], world.now)
    world.ledger.check_invariants()


def test_a_hold_is_resolved_once():
    """R5: whatever resolved it, nothing resolves it again."""
    for flags, status in ((POST, T.PENDING_TRANSFER_ALREADY_POSTED), (VOID, T.PENDING_TRANSFER_ALREADY_VOIDED)):
        world = held()
        assert world.one(**resolve(flags)) is CREATED
        for again in (POST, VOID):
            assert world.one(**resolve(again, id=3)) is status


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, T.EXISTS),
        ({"amount": 4}, T.EXISTS),
        ({"debit_account_id": 1, "user_data_128": 7, "ledger": 1}, T.EXISTS),
        ({"flags": VOID}, T.EXISTS_WITH_DIFFERENT_FLAGS),
        ({"pending_id": 99, "timeout": 1}, T.EXISTS_WITH_DIFFERENT_PENDING_ID),
        ({"timeout": 1, "debit_account_id": 2}, T.EXISTS_WITH_DIFFERENT_TIMEOUT),
        ({"debit_account_id": 2, "amount": 5}, T.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID),
        ({"credit_account_id": 1}, T.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID),
        ({"amount": INT_MAX, "user_data_128": 1}, T.EXISTS_WITH_DIFFERENT_AMOUNT),
        ({"user_data_128": 1}, T.EXISTS_WITH_DIFFERENT_USER_DATA_128),
        ({"user_data_64": 1}, T.EXISTS_WITH_DIFFERENT_USER_DATA_64),
        ({"user_data_32": 1}, T.EXISTS_WITH_DIFFERENT_USER_DATA_32),
        ({"ledger": 2, "code": 3}, T.EXISTS_WITH_DIFFERENT_LEDGER),
        ({"code": 3}, T.EXISTS_WITH_DIFFERENT_CODE),
    ],
)
def test_retried_resolution(change, status):
    """R5: a retry is compared after the same inheritance."""
    world = held()
    assert world.one(**resolve(POST, amount=4)) is CREATED
    assert world.one(**{**resolve(POST, amount=4), **change}) is status


def test_resolution_in_the_same_batch():
    """A hold can be resolved by a later event of its own batch."""
    world = open_world()
    statuses = world.statuses(
        Transfer(**usual(id=5, code=0)),
        Transfer(**usual(id=1, flags=PENDING)),
        Transfer(**usual(**resolve(POST, amount=3))),
        Transfer(**usual(**resolve(VOID, id=3))),
    )
    assert statuses == [T.CODE_MUST_NOT_BE_ZERO, CREATED, CREATED, T.PENDING_TRANSFER_ALREADY_POSTED]
    assert world.balances(1) == (0, 3, 0, 0)
    assert [t.amount for t in world.ledger.lookup_transfers([1, 2])] == [10, 3]


def limited_world():
    """Account 3 may not be overdrawn and has 100; account 4 may not be overpaid and owes 100."""
    world = open_world()
    world.accounts(Account(id=3, ledger=1, code=1, flags=2), Account(id=4, ledger=1, code=1, flags=4))
    changes = [{"id": 1, "credit_account_id": 3}, {"id": 2, "debit_account_id": 4, "credit_account_id": 1}]
    assert world.statuses(*(Transfer(**usual(amount=100, **change)) for change in changes)) == [CREATED] * 2
    return world


@pytest.mark.parametrize("padding", [0, 5])
def test_limits(padding):
    """R7: pending counts against the flagged account, the other side only gives when posted."""
    spends = [
        {"debit_account_id": 3, "amount": 60},
        {"debit_account_id": 3, "amount": 40},
        {"debit_account_id": 3, "amount": 1},
    ]
    for side in ("debit", "credit"):
        world = limited_world()
        events = [Transfer(**usual(id=700 + n)) for n in range(padding)]
        for n, change in enumerate([{**spends[0], "flags": 0 if padding else PENDING}, *spends[1:]]):
            fields = usual(**{**change, "id": 10 + n})
            if side == "credit":
                fields.update(debit_account_id=2, credit_account_id=4)
            events.append(Transfer(**fields))
        status = T.EXCEEDS_CREDITS if side == "debit" else T.EXCEEDS_DEBITS
        assert world.statuses(*events)[padding:] == [CREATED, CREATED, status]
        assert (
            world.one(id=20, **({"debit_account_id": 3} if side == "debit" else {"credit_account_id": 4}), amount=0)
            is CREATED
        )


def test_limits_count_earlier_holds():
    """R7: what is held leaves less to spend, also for the loop of plain transfers."""
    world = limited_world()
    assert world.one(id=10, debit_account_id=3, amount=60, flags=PENDING) is CREATED
    assert world.one(id=11, debit_account_id=2, credit_account_id=4, amount=60, flags=PENDING) is CREATED
    spends = [(3, 2, 40), (3, 2, 1), (2, 4, 40), (2, 4, 1), (3, 4, 0), (1, 2, 5)]
    events = [
        Transfer(**usual(id=20 + n, debit_account_id=debit, credit_account_id=credit, amount=amount))
        for n, (debit, credit, amount) in enumerate(spends)
    ]
    assert world.statuses(*events) == [CREATED, T.EXCEEDS_CREDITS, CREATED, T.EXCEEDS_DEBITS, CREATED, CREATED]


def test_pending_credit_gives_nothing():
    """R7: a pending credit cannot be spent."""
    world = open_world()
    world.accounts(Account(id=3, ledger=1, code=1, flags=2))
    assert world.one(id=1, credit_account_id=3, flags=PENDING) is CREATED
    assert world.one(id=2, debit_account_id=3, credit_account_id=1) is T.EXCEEDS_CREDITS


@pytest.mark.parametrize(
    ("flags", "asked", "recorded"),
    [
        (BALANCING_DEBIT, INT_MAX, 70),
        (BALANCING_DEBIT, 20, 20),
        (BALANCING_CREDIT, INT_MAX, 40),
        (BALANCING_DEBIT | BALANCING_CREDIT, INT_MAX, 40),
        (BALANCING_DEBIT | PENDING, 71, 70),
        (BALANCING_DEBIT, 0, 0),
    ],
)
def test_balancing(flags, asked, recorded):
    """R7: the amount is clamped to the head-room, also on accounts without a limit; a retry asks for at least that."""
    world = open_world()
    world.accounts(*(Account(id=n, ledger=1, code=1) for n in (3, 4)))
    world.transfers(
        Transfer(**usual(id=1, credit_account_id=3, amount=100)),
        Transfer(**usual(id=2, debit_account_id=3, credit_account_id=1, amount=30, flags=PENDING)),
        Transfer(**usual(id=3, debit_account_id=4, credit_account_id=1, amount=40)),
    )
    change = {"id": 9, "debit_account_id": 3, "credit_account_id": 4, "flags": flags}
    assert world.one(**change, amount=asked) is CREATED
    assert world.ledger.lookup_transfers([9])[0].amount == recorded
    assert world.one(**change, amount=recorded) is T.EXISTS
    assert world.one(**change, amount=recorded + 1) is T.EXISTS
    if recorded:
        assert world.one(**change, amount=recorded - 1) is T.EXISTS_WITH_DIFFERENT_AMOUNT


def test_balancing_without_room():
    """R7: no head-room is an amount of 0, and still created."""
    world = open_world()
    assert world.one(id=1) is CREATED
    assert world.one(id=2, flags=BALANCING_DEBIT) is CREATED
    assert world.ledger.lookup_transfers([2])[0].amount == 0


def test_expiry():
    """R8: due at timestamp + timeout; only `expire` sweeps, in order; a post at that time is refused before it."""
    world = open_world()
    world.transfers(*(Transfer(**usual(id=n, flags=PENDING, timeout=t)) for n, t in ((1, 9), (2, 5), (3, 5), (4, 0))))
    made = {t.id: t.timestamp for t in world.ledger.lookup_transfers([1, 2, 3, 4])}
    due = made[2] + 5 * 10**9
    assert world.ledger.next_expiry == due
    on_time = Transfer(**usual(**resolve(POST, id=20, pending_id=3)))
    late = Transfer(**usual(**resolve(POST, id=21, pending_id=2)))
    assert [s for _, s in world.ledger.create_transfers([late], timestamp=due)] == [T.PENDING_TRANSFER_EXPIRED]
    assert world.balances(1)[0] == 40
    assert [s for _, s in world.ledger.create_transfers([on_time], timestamp=due + 1)] == [T.PENDING_TRANSFER_EXPIRED]
    assert world.ledger.expire(timestamp=due + 1) == 2
    assert world.ledger.expire(timestamp=due + 1) == 0
    assert world.balances(1) == (20, 0, 0, 0)
    world.now = due + 4 * 10**9
    assert world.ledger.expire(timestamp=world.now) == 1
    assert world.ledger.next_expiry is None
    assert world.one(**resolve(VOID, id=22, pending_id=1)) is T.PENDING_TRANSFER_EXPIRED
    assert world.one(**resolve(POST, id=23, pending_id=4)) is CREATED
    world.ledger.check_invariants()


def test_a_rolled_back_hold_leaves_no_deadline():
    """R2, R8: an id that was rolled back with its chain and is taken again expires by its new time alone."""
    world = open_world()
    first = Transfer(**usual(id=1, flags=1 | PENDING, timeout=3))
    assert world.statuses(first, Transfer(**usual(id=2, code=0)))[0] is T.LINKED_EVENT_FAILED
    old = world.now + 3 * 10**9
    assert world.one(id=1, flags=PENDING, timeout=9) is CREATED
    assert world.ledger.next_expiry == world.now + 9 * 10**9
    assert world.ledger.expire(timestamp=old) == 0
    assert world.ledger.expire(timestamp=world.now + 9 * 10**9) == 1


def test_post_just_before_expiry():
    """R8: a nanosecond earlier it is still a hold."""
    world = held(timeout=1)
    due = world.ledger.next_expiry
    (result,) = world.ledger.create_transfers([Transfer(**usual(**resolve(POST)))], timestamp=due - 1)
    assert result == (due - 1, CREATED)
    assert world.ledger.expire(timestamp=due) == 0
    assert world.ledger.next_expiry is None


def test_closing():
    """R9: closing needs a hold; a closed account takes nothing but voids; voiding the closing transfer reopens it."""
    world = held()
    assert world.one(id=5, flags=PENDING | CLOSING_DEBIT, amount=0) is CREATED
    assert world.account(1).flags == 32
    assert world.one(id=6) is T.DEBIT_ACCOUNT_ALREADY_CLOSED
    assert world.one(id=7, debit_account_id=2, credit_account_id=1) is T.CREDIT_ACCOUNT_ALREADY_CLOSED
    assert world.one(**resolve(POST, id=8)) is T.DEBIT_ACCOUNT_ALREADY_CLOSED
    assert world.one(**resolve(POST, id=9, pending_id=5)) is T.DEBIT_ACCOUNT_ALREADY_CLOSED
    assert world.one(**resolve(VOID, id=10)) is CREATED
    assert world.one(**resolve(VOID, id=11, pending_id=5)) is CREATED
    assert world.account(1).flags == 0
    assert world.one(id=12) is CREATED


def test_closing_both_sides_expires_open():
    """R8, R9: expiry works on closed accounts and reopens what the expiring transfer closed."""
    world = held(timeout=1)
    assert world.one(id=5, flags=PENDING | CLOSING_DEBIT | CLOSING_CREDIT, timeout=1) is CREATED
    assert world.ledger.expire(timestamp=world.ledger.next_expiry) == 1
    assert [world.account(n).flags for n in (1, 2)] == [32, 32]
    assert world.balances(1) == (10, 0, 0, 0)
    assert world.ledger.expire(timestamp=world.ledger.next_expiry) == 1
    assert [world.account(n).flags for n in (1, 2)] == [0, 0]
    assert world.balances(1) == (0, 0, 0, 0)


def test_closing_counts_as_a_different_flag():
    """R3: an account that a transfer closed differs from the one that was created."""
    world = open_world()
    world.one(id=5, flags=PENDING | CLOSING_DEBIT)
    statuses = [s.name for _, s in world.accounts(*(Account(id=1, ledger=1, code=1, flags=f) for f in (0, 32)))]
    assert statuses == ["EXISTS_WITH_DIFFERENT_FLAGS", "EXISTS"]


def test_created_closed():
    """R9: an account created closed takes nothing."""
    world = open_world()
    world.accounts(Account(id=3, ledger=1, code=1, flags=32))
    assert world.one(id=1, debit_account_id=3) is T.DEBIT_ACCOUNT_ALREADY_CLOSED
    assert world.one(id=2, credit_account_id=3, flags=PENDING) is T.CREDIT_ACCOUNT_ALREADY_CLOSED


def test_many_resolved_holds_leave_the_queue():
    """The expiry queue does not grow with holds that were resolved in time."""
    world = open_world()
    for n in range(20):
        ids = range(1 + 200 * n, 101 + 200 * n)
        world.transfers(*(Transfer(**usual(id=i, flags=PENDING, timeout=60)) for i in ids))
        world.transfers(*(Transfer(**usual(**resolve(VOID, id=i + 100, pending_id=i))) for i in ids))
    assert len(world.ledger._state.holds._queue) < 1_200
    assert world.ledger.next_expiry is None
