"""R11: filters, order, limits, bounds, balance history and change events."""

import pytest

from dompbus.ledger import Account, AccountBalance, AccountFilter, ChangeEventType, QueryFilter, Transfer
from tests.unit.ledger.worlds import CREATED, INT_MAX, open_world, usual


@pytest.fixture(scope="module")
def world():
    """Transfers 1 .. 6 between account 1 (with history) and 2, 3; ids tell the order."""
    world = open_world()
    world.accounts(Account(id=3, ledger=1, code=2, flags=8, user_data_64=5), Account(id=4, ledger=2, code=1))
    changes = [
        {"credit_account_id": 3},
        {"debit_account_id": 3, "credit_account_id": 1, "amount": 4, "code": 2},
        {"user_data_128": 2**100, "user_data_64": 6, "user_data_32": 7},
        {"credit_account_id": 3, "flags": 2, "timeout": 1},
        {"credit_account_id": 3, "flags": 2, "code": 9},
        {"id": 6, "flags": 4, "pending_id": 5, "amount": 3, "code": 0, "credit_account_id": 3},
    ]
    for n, change in enumerate(changes, 1):
        world.now -= 10**9 - 100  # a hundred nanoseconds a batch
        assert world.one(**{"id": n, **change}) is CREATED
    world.now += 2 * 10**9
    assert world.ledger.expire(timestamp=world.now) == 1
    return world


def time_of(world, id):
    return world.ledger.lookup_transfers([id])[0].timestamp


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"account_id": 1}, [1, 2, 3, 4, 5, 6]),
        ({"account_id": 1, "flags": 1}, [1, 3, 4, 5, 6]),
        ({"account_id": 1, "flags": 2}, [2]),
        ({"account_id": 1, "flags": 7}, [6, 5, 4, 3, 2, 1]),
        ({"account_id": 1, "flags": 5, "limit": 2}, [6, 5]),
        ({"account_id": 3, "limit": 3}, [1, 2, 4]),
        ({"account_id": 3, "code": 9}, [5, 6]),
        ({"account_id": 1, "code": 2}, [2]),
        ({"account_id": 1, "user_data_128": 2**100}, [3]),
        ({"account_id": 1, "user_data_64": 6, "user_data_32": 8}, []),
        ({"account_id": 77}, []),
        ({"account_id": 0}, []),
        ({"account_id": INT_MAX}, []),
        ({"account_id": 1, "limit": 0}, []),
        ({"account_id": 1, "flags": 0}, []),
        ({"account_id": 1, "flags": 4}, []),
        ({"account_id": 1, "flags": 8 | 3}, []),
        ({"account_id": 1, "timestamp_min": 2**63}, []),
        ({"account_id": 1, "timestamp_max": 2**63}, []),
        ({"account_id": 1, "timestamp_min": 2, "timestamp_max": 1}, []),
    ],
)
def test_account_transfers(world, filter, found):
    """Fields ANDed, sides ORed, order before limit; an invalid filter finds nothing."""
    filter = AccountFilter(**{"limit": 100, "flags": 3, **filter})
    assert [t.id for t in world.ledger.get_account_transfers(filter)] == found


def test_time_bounds(world):
    """Bounds are inclusive."""
    low, high = time_of(world, 2), time_of(world, 4)
    for flags, expected in ((3, [2, 3, 4]), (7, [4, 3, 2])):
        filter = AccountFilter(account_id=1, timestamp_min=low, timestamp_max=high, limit=9, flags=flags)
        assert [t.id for t in world.ledger.get_account_transfers(filter)] == expected
    filter = QueryFilter(timestamp_min=low, timestamp_max=high, limit=9)
    assert [t.id for t in world.ledger.query_transfers(filter)] == [2, 3, 4]
    filter = QueryFilter(timestamp_min=low + 1, timestamp_max=high - 1, limit=9)
    assert [t.id for t in world.ledger.query_transfers(filter)] == [3]


def test_balances(world):
    """One entry for each transfer of an account with HISTORY, posts too, expiries not; filtered like transfers."""
    filter = AccountFilter(account_id=3, limit=9, flags=3)
    rows = [(0, 0, 0, 10), (0, 4, 0, 10), (0, 4, 10, 10), (0, 4, 20, 10), (0, 4, 10, 13)]
    expected = [
        AccountBalance(
            debits_pending=a, debits_posted=b, credits_pending=c, credits_posted=d, timestamp=time_of(world, id)
        )
        for (a, b, c, d), id in zip(rows, (1, 2, 4, 5, 6), strict=True)
    ]
    assert world.ledger.get_account_balances(filter) == expected
    reversed_debits = AccountFilter(account_id=3, limit=9, flags=5)
    assert world.ledger.get_account_balances(reversed_debits) == [expected[1]]
    assert world.ledger.get_account_balances(AccountFilter(account_id=1, limit=9, flags=3)) == []
    assert world.ledger.get_account_balances(AccountFilter(account_id=3, limit=0, flags=3)) == []


@pytest.mark.parametrize(
    ("filter", "accounts", "transfers"),
    [
        ({}, [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]),
        ({"flags": 1}, [4, 3, 2, 1], [6, 5, 4, 3, 2, 1]),
        ({"ledger": 2}, [4], []),
        ({"ledger": 1, "code": 2}, [3], [2]),
        ({"limit": 2}, [1, 2], [1, 2]),
        ({"flags": 1, "limit": 1}, [4], [6]),
        ({"user_data_64": 5}, [3], []),
        ({"user_data_64": 6}, [], [3]),
        ({"flags": 2}, [], []),
        ({"limit": 0}, [], []),
        ({"timestamp_min": 2**63 - 1}, [], []),
        ({"timestamp_max": 1}, [], []),
        ({"timestamp_min": 2, "timestamp_max": 1}, [], []),
    ],
)
def test_queries(world, filter, accounts, transfers):
    """The same filter over accounts and over transfers."""
    filter = QueryFilter(**{"limit": 100, **filter})
    assert [a.id for a in world.ledger.query_accounts(filter)] == accounts
    assert [t.id for t in world.ledger.query_transfers(filter)] == transfers


def test_change_events(world):
    """Movements and expiries in order of time; an expiry bears the sweep's time."""
    events = world.ledger.get_change_events(QueryFilter(limit=99))
    kinds = ["SINGLE_PHASE"] * 3 + ["TWO_PHASE_PENDING"] * 2 + ["TWO_PHASE_POSTED", "TWO_PHASE_EXPIRED"]
    assert [(e.type, e.transfer.id) for e in events] == [
        (ChangeEventType[kind], id) for kind, id in zip(kinds, (1, 2, 3, 4, 5, 6, 4), strict=True)
    ]
    assert events[-1].timestamp == world.now
    assert [e.timestamp for e in events[:-1]] == [e.transfer.timestamp for e in events[:-1]]
    assert world.ledger.get_change_events(QueryFilter(limit=99, flags=1)) == events[::-1]
    assert world.ledger.get_change_events(QueryFilter(limit=2, timestamp_min=events[5].timestamp)) == events[5:]
    assert world.ledger.get_change_events(QueryFilter(limit=99, timestamp_max=events[5].timestamp)) == events[:6]
    assert world.ledger.get_change_events(QueryFilter(limit=99, code=9)) == events[4:6]
    assert world.ledger.get_change_events(QueryFilter(limit=99, flags=2)) == []


def test_the_index_catches_up():
    """What is created after a query is found by the next."""
    world = open_world()
    filter = AccountFilter(account_id=1, limit=10, flags=3)
    for n in range(1, 4):
        world.one(id=n)
        assert [t.id for t in world.ledger.get_account_transfers(filter)] == list(range(1, n + 1))
    world.statuses(Transfer(**usual(id=4, flags=1)), Transfer(**usual(id=5, code=0)), Transfer(**usual(id=6)))
    assert [t.id for t in world.ledger.get_account_transfers(filter)] == [1, 2, 3, 6]
