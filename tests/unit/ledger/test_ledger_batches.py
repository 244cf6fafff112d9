"""R1, R2, R6, R10: times, chains, burnt ids and results of a batch."""

import pytest

from dompbus.ledger import Account, AccountFilter, CreateAccountStatus, CreateTransferStatus, Ledger, Transfer
from tests.unit.ledger.worlds import CREATED, START, full_world, open_world, usual

A, T = CreateAccountStatus, CreateTransferStatus
FAILED, OPEN = T.LINKED_EVENT_FAILED, T.LINKED_EVENT_CHAIN_OPEN


def batch(*changes):
    """Transfers with ids 1, 2, ... that are in order but for these changes."""
    return [Transfer(**usual(**{"id": n, **change})) for n, change in enumerate(changes, 1)]


def test_times():
    """R1: event i of N at T gets T-N+i+1, and a failed one uses its up."""
    world = open_world()
    results = world.ledger.create_transfers(batch({}, {"code": 0}, {}), timestamp=START + 10**12)
    last = START + 10**12
    assert results == [(last - 2, CREATED), (last - 1, T.CODE_MUST_NOT_BE_ZERO), (last, CREATED)]
    assert [t.timestamp for t in world.ledger.lookup_transfers([1, 2, 3])] == [last - 2, last]


def test_time_must_not_regress():
    """A batch whose T-N is below the last timestamp is a ValueError and changes nothing; an empty batch gives []."""
    ledger = Ledger()
    ledger.create_accounts([Account(id=1, ledger=1, code=1)], timestamp=100)
    before = ledger.state_hash()
    events = [Account(id=n, ledger=1, code=1) for n in (2, 3)]
    for timestamp in (0, 101, 2**63):
        with pytest.raises(ValueError, match="timestamp"):
            ledger.create_accounts(events, timestamp=timestamp)
    with pytest.raises(ValueError, match="timestamp"):
        ledger.expire(timestamp=99)
    assert ledger.create_accounts([], timestamp=0) == []
    assert ledger.create_transfers([], timestamp=0) == []
    assert ledger.state_hash() == before
    assert ledger.create_accounts(events, timestamp=102) == [(101, A.CREATED), (102, A.CREATED)]
    assert ledger.expire(timestamp=102) == 0
    ledger.expire(timestamp=2**63 - 3)
    transfers = [Transfer(id=n, debit_account_id=1, credit_account_id=2, ledger=1, code=1) for n in (1, 2)]
    assert ledger.create_transfers(transfers, timestamp=2**63 - 1)[1] == (2**63 - 1, CREATED)


def test_first_timestamp_is_one():
    """R1: a fresh ledger takes a batch of N at N."""
    ledger = Ledger()
    assert ledger.create_accounts([Account(id=1, ledger=1, code=1)], timestamp=1) == [(1, A.CREATED)]


LINK, BAD, WRONG = {"flags": 1}, {"ledger": 9}, T.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS
CHAINS = {
    "whole": ([LINK, LINK, {}], [CREATED] * 3),
    "first fails": ([{**LINK, **BAD}, LINK, {}, {}], [WRONG, FAILED, FAILED, CREATED]),
    "middle fails": ([LINK, {**LINK, **BAD}, LINK, {}], [FAILED, WRONG, FAILED, FAILED]),
    "last fails": ([LINK, LINK, BAD, {}], [FAILED, FAILED, WRONG, CREATED]),
    "two chains": ([LINK, BAD, LINK, {}], [FAILED, WRONG, CREATED, CREATED]),
    "whole, then a failure": ([LINK, {}, BAD, {}], [CREATED, CREATED, WRONG, CREATED]),
    "open": ([{}, LINK, LINK], [CREATED, FAILED, OPEN]),
    "open and broken": ([LINK, {**LINK, **BAD}, LINK], [FAILED, WRONG, OPEN]),
    "open and itself wrong": ([LINK, {**LINK, **BAD}], [FAILED, OPEN]),
    "open alone": ([LINK], [OPEN]),
    "first code stays": ([LINK, {**LINK, **BAD}, {"debit_account_id": 99}], [FAILED, WRONG, FAILED]),
    "a brought time": ([LINK, {"timestamp": 7}], [FAILED, T.TIMESTAMP_MUST_BE_ZERO]),
    "an imported one": ([LINK, {"flags": 256, "timestamp": 7}], [FAILED, T.IMPORTED_EVENT_NOT_EXPECTED]),
}


@pytest.mark.parametrize("padding", [0, 6])  # with padding the fast loop takes the batch
@pytest.mark.parametrize("name", CHAINS)
def test_chains(name, padding):
    """R2: a chain succeeds or fails as one; nothing of a broken one remains. The balances tell."""
    changes, expected = CHAINS[name]
    world = open_world()
    events = [Transfer(**usual(id=1_000 + n)) for n in range(padding)] + batch(*changes)
    assert world.statuses(*events)[padding:] == expected
    created = padding + expected.count(CREATED)
    assert world.balances(1) == (0, 10 * created, 0, 0)
    assert len(world.ledger.lookup_transfers(range(1, 5))) == created - padding
    world.ledger.check_invariants()


def test_account_chain():
    """R2: chains of accounts are rolled back too."""
    world = open_world()
    events = [Account(id=7, ledger=1, code=1, flags=1), Account(id=8, ledger=1), Account(id=9, ledger=1, code=1)]
    times, statuses = zip(*world.accounts(*events), strict=True)
    assert statuses == (A.LINKED_EVENT_FAILED, A.CODE_MUST_NOT_BE_ZERO, A.CREATED)
    assert times == (world.now - 2, world.now - 1, world.now)
    assert [a.id for a in world.ledger.lookup_accounts([7, 8, 9])] == [9]


def test_later_members_see_earlier_ones():
    """R2: what a chain has done counts within it, and is undone with it."""
    world = full_world()
    spend = {"debit_account_id": 17, "amount": 10}
    fund = {"credit_account_id": 17, "amount": 10, "flags": 1}
    events = [Transfer(**usual(**{"id": 200 + n, **c})) for n, c in enumerate([fund, {**spend, "flags": 1}, spend])]
    assert world.statuses(*events) == [FAILED, FAILED, T.EXCEEDS_CREDITS]
    assert world.balances(17) == (0, 0, 0, 0)
    again = [Transfer(**usual(**{"id": 300 + n, **c})) for n, c in enumerate([fund, spend])]
    assert world.statuses(*again) == [CREATED, CREATED]
    assert world.balances(17) == (0, 10, 0, 10)


def test_exists_breaks_a_chain():
    """R2, R10: a retry within a chain breaks it; `exists` tells the original's time, even one rolled back with it."""
    world = open_world()
    events = [Transfer(**usual(id=1, flags=1)), Transfer(**usual(id=1, flags=1)), Transfer(**usual(id=2))]
    assert world.transfers(*events) == [(world.now - 2, FAILED), (world.now - 2, T.EXISTS), (world.now, FAILED)]
    assert world.ledger.lookup_transfers([1, 2]) == []


def test_roll_back_of_everything():
    """R2: holds, their resolutions, closings, history and imported times are taken back with their chain."""
    world = open_world()
    world.accounts(Account(id=3, ledger=1, code=1, flags=8), Account(id=4, ledger=1, code=1))
    world.transfers(
        Transfer(**usual(id=1, flags=2, timeout=5)), Transfer(**usual(id=2, flags=2 | 64, debit_account_id=4))
    )
    due = world.ledger.next_expiry
    changes = [
        {"id": 10, "debit_account_id": 3, "flags": 1},
        {"id": 11, "flags": 1 | 2, "timeout": 3},
        {"id": 12, "flags": 1 | 2 | 128, "credit_account_id": 3},
        {"id": 13, "flags": 1 | 4, "pending_id": 1, "amount": 4},
        {"id": 14, "flags": 1 | 8, "pending_id": 2, "debit_account_id": 4},
        {"id": 15, "code": 0},
    ]
    failed = [FAILED] * 5 + [T.CODE_MUST_NOT_BE_ZERO]
    assert world.statuses(*(Transfer(**usual(**change)) for change in changes)) == failed
    assert world.ledger.lookup_transfers(range(10, 16)) == []
    assert world.account(4).flags == 32
    assert world.account(3).flags == 8
    assert world.ledger.next_expiry == due
    assert world.ledger.get_account_balances(AccountFilter(account_id=3, limit=9, flags=3)) == []
    world.ledger.check_invariants()
    assert world.one(id=16, flags=4, pending_id=1, amount=4) is CREATED


def test_imported_member_keeps_its_time():
    """R10: an imported member that was carried out before its chain broke reports the time it brought."""
    world = open_world()
    events = [
        Transfer(**usual(id=1, flags=257, timestamp=START + 2 * 10**9)),
        Transfer(**usual(id=2, flags=257, timestamp=START + 3 * 10**9, code=0)),
        Transfer(**usual(id=3, flags=256, timestamp=START + 4 * 10**9)),
    ]
    now = START + 10**12
    assert world.ledger.create_transfers(events, timestamp=now) == [
        (START + 2 * 10**9, FAILED),
        (now - 1, T.CODE_MUST_NOT_BE_ZERO),
        (now, FAILED),
    ]
    retry = Transfer(**usual(id=4, flags=256, timestamp=START + 2 * 10**9))
    assert world.ledger.create_transfers([retry], timestamp=now + 1)[0] == (retry.timestamp, CREATED)


def test_imported_after_its_slot():
    """R2: an imported time after the event's own slot, but before the batch's, is legal."""
    world = open_world()
    now = START + 10**12
    events = [Transfer(**usual(id=n, flags=256, timestamp=now - 4 + n)) for n in (1, 2, 3)]
    events[0] = Transfer(**usual(id=1, flags=256, timestamp=now - 2))
    events[1] = Transfer(**usual(id=2, flags=256, timestamp=now - 1))
    assert [s for _, s in world.ledger.create_transfers(events, timestamp=now)] == [
        CREATED,
        CREATED,
        T.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS,
    ]


def test_mixtures():
    """R2: event 0 decides whether a batch is imported."""
    world = open_world()
    imported = Transfer(**usual(id=1, flags=256, timestamp=START + 10**10))
    plain = Transfer(**usual(id=2))
    now = START + 10**12
    statuses = [s for _, s in world.ledger.create_transfers([imported, plain], timestamp=now)]
    assert statuses == [CREATED, T.IMPORTED_EVENT_EXPECTED]
    world.now = now
    assert world.statuses(plain, imported) == [CREATED, T.IMPORTED_EVENT_NOT_EXPECTED]


TRANSIENT = {
    T.DEBIT_ACCOUNT_NOT_FOUND: {"debit_account_id": 999},
    T.CREDIT_ACCOUNT_NOT_FOUND: {"credit_account_id": 999},
    T.PENDING_TRANSFER_NOT_FOUND: {"flags": 4, "pending_id": 999},
    T.EXCEEDS_CREDITS: {"debit_account_id": 17},
    T.EXCEEDS_DEBITS: {"credit_account_id": 18},
    T.DEBIT_ACCOUNT_ALREADY_CLOSED: {"debit_account_id": 5},
    T.CREDIT_ACCOUNT_ALREADY_CLOSED: {"credit_account_id": 6},
}


@pytest.mark.parametrize("status", TRANSIENT, ids=lambda s: s.name)
def test_transient_failures_burn(status):
    """R6: the id of a transient failure never works again, and the burn outlives its chain's roll-back."""
    for chained in (False, True):
        world = full_world()
        first = [Transfer(**usual(id=500, flags=1))] if chained else []
        assert world.statuses(*first, Transfer(**usual(**TRANSIENT[status])))[-1] is status
        assert world.one() is T.ID_ALREADY_FAILED
        assert world.one(id=500) is CREATED
        assert world.ledger.lookup_transfers([100]) == []


def test_lasting_failures_do_not_burn():
    """R6: only the transient ones burn; a corrected event may take the same id."""
    world = full_world()
    for status, change in [
        (T.CODE_MUST_NOT_BE_ZERO, {"code": 0}),
        (T.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS, {"ledger": 9}),
        (T.OVERFLOWS_DEBITS_POSTED, {"debit_account_id": 13}),
        (T.PENDING_TRANSFER_ALREADY_POSTED, {"flags": 4, "pending_id": 52}),
    ]:
        assert status not in TRANSIENT
        assert world.one(**change) is status
    assert world.one() is CREATED


def test_retry():
    """R10: a repeated batch answers `exists` with the original times, however often."""
    world = open_world()
    events = [Transfer(**usual(id=n)) for n in range(1, 6)]
    times = [time for time, _ in world.transfers(*events)]
    for _ in range(2):
        assert world.transfers(*events) == [(time, T.EXISTS) for time in times]
    assert world.balances(1) == (0, 50, 0, 0)
    accounts = world.accounts(Account(id=1, ledger=1, code=1))
    assert accounts == [(world.account(1).timestamp, A.EXISTS)]


def test_duplicate_within_a_batch():
    """An id twice in one batch: the second is a retry of the first."""
    world = open_world()
    events = [Transfer(**usual(id=n)) for n in (1, 2, 3, 4, 2, 5)]
    results = world.transfers(*events)
    assert results[4] == (results[1][0], T.EXISTS)
    assert world.balances(2) == (0, 0, 0, 50)


def test_ids_are_two_spaces():
    """R10: an account and a transfer may have the same id."""
    world = open_world()
    assert world.one(id=1) is CREATED
    assert world.ledger.lookup_accounts([1, 9, 2, 1]) == [world.account(n) for n in (1, 2, 1)]
    assert [t.id for t in world.ledger.lookup_transfers([9, 1, 1])] == [1, 1]


def test_large_ids_and_amounts_are_exact():
    """128 bits throughout, in the fast loop too."""
    world = open_world()
    high = 2**128 - 2
    world.accounts(Account(id=high, ledger=1, code=1), Account(id=2**64, ledger=1, code=1))
    amounts = [2**120 + 1, 2**64, 2**64 - 1, 3, 2**127]
    changes = [
        {"id": high - n, "debit_account_id": high, "credit_account_id": 2**64, "amount": a}
        for n, a in enumerate(amounts)
    ]
    assert world.statuses(*(Transfer(**usual(**change)) for change in changes)) == [CREATED] * 5
    assert world.balances(high) == (0, sum(amounts), 0, 0)
    assert world.one(id=5, debit_account_id=high, amount=2**127) is T.OVERFLOWS_DEBITS_POSTED
    assert world.statuses(*(Transfer(**usual(id=10 + n, amount=2**127)) for n in range(5))) == [
        CREATED,
        *[T.OVERFLOWS_DEBITS_POSTED] * 4,
    ]
    world.ledger.check_invariants()
