"""The ledger as a `Machine`: commands, queries, snapshots and hashes as bytes."""

import pytest

from dompbus import limits
from dompbus.errors import ProtocolError
from dompbus.ledger import Account, AccountFilter, CreateTransferStatus, Ledger, QueryFilter, Transfer, records
from dompbus.ledger.commands import (
    Operation,
    Refusal,
    decode_answer,
    encode_answer,
    encode_refusal,
    encode_request,
    is_query,
)
from tests.unit.ledger.worlds import full_world, open_world, usual


def test_command_round_trip():
    """A batch of packed records gives packed results; a look-up gives the records back."""
    ledger = Ledger()
    accounts = records.pack_accounts([Account(id=n, ledger=1, code=1, user_data_128=2**90) for n in (1, 2)])
    answer = ledger.apply(encode_request(Operation.CREATE_ACCOUNTS, accounts), 10)
    assert answer == bytes(8) + b"".join(t.to_bytes(8, "little") + b"\xff\xff\xff\xff\0\0\0\0" for t in (9, 10))
    transfer = Transfer(**usual(id=2**100, flags=2, timeout=1))
    assert ledger.apply(encode_request(Operation.CREATE_TRANSFERS, records.pack_transfers([transfer])), 20)[0] == 0
    rows = decode_answer(
        ledger.query(encode_request(Operation.LOOKUP_TRANSFERS, records.pack_ids([5, 2**100]))),
        Operation.LOOKUP_TRANSFERS,
    )
    assert records.unpack_transfers(rows) == ledger.lookup_transfers([2**100])
    rows = decode_answer(ledger.apply(encode_request(Operation.EXPIRE), 20 + 10**9), Operation.EXPIRE)
    assert bytes(rows) == (1).to_bytes(8, "little")


REFUSED = {
    "empty": (b"", Refusal.MALFORMED),
    "cut head": (bytes([147, 0, 0]), Refusal.MALFORMED),
    "unknown": (bytes(8), Refusal.UNKNOWN_OPERATION),
    "reserved bytes": (bytes([147, 1, 0, 0, 0, 0, 0, 0]), Refusal.MALFORMED),
    "skip in a command": (encode_request(Operation.CREATE_TRANSFERS, skip=1), Refusal.MALFORMED),
    "cut row": (encode_request(Operation.CREATE_TRANSFERS, bytes(127)), Refusal.MALFORMED),
    "rows for expire": (encode_request(Operation.EXPIRE, bytes(8)), Refusal.MALFORMED),
    "a query": (encode_request(Operation.LOOKUP_ACCOUNTS, bytes(16)), Refusal.UNKNOWN_OPERATION),
    "too many": (encode_request(Operation.CREATE_TRANSFERS, bytes(128 * 8190)), Refusal.TOO_MANY_EVENTS),
    "too late": (encode_request(Operation.CREATE_TRANSFERS, bytes(128 * 3)), Refusal.TIMESTAMP_REFUSED),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    """A refused command says why and changes nothing."""
    world = open_world()
    payload, refusal = REFUSED[name]
    before, now = world.ledger.state_hash(), world.now + 2
    assert world.ledger.apply(payload, now) == encode_refusal(refusal)
    assert world.ledger.state_hash() == before


def test_refused_queries():
    """A command is no query, a filter has one size."""
    ledger = Ledger()
    for payload, refusal in (
        (encode_request(Operation.EXPIRE), Refusal.UNKNOWN_OPERATION),
        (encode_request(Operation.QUERY_ACCOUNTS, bytes(128)), Refusal.MALFORMED),
        (encode_request(Operation.GET_ACCOUNT_TRANSFERS, bytes(64)), Refusal.MALFORMED),
        (encode_request(Operation.LOOKUP_ACCOUNTS, bytes(16 * 8190)), Refusal.TOO_MANY_EVENTS),
    ):
        assert ledger.query(payload) == encode_refusal(refusal)


def test_is_query():
    """Commands are told from queries by their first byte."""
    commands = {Operation.CREATE_ACCOUNTS, Operation.CREATE_TRANSFERS, Operation.EXPIRE}
    for operation in Operation:
        assert is_query(encode_request(operation)) is (operation not in commands)
    assert is_query(b"")
    assert is_query(memoryview(b"\xff"))


def test_damaged_answers():
    """What no ledger can have sent is a protocol error."""
    for answer in (b"", bytes(7), b"\0\1" + bytes(6), encode_answer(bytes(15)), bytes([99]) + bytes(7)):
        with pytest.raises(ProtocolError):
            decode_answer(answer, Operation.CREATE_TRANSFERS)


def test_empty_batches_change_nothing():
    """A creation of nothing has no results and takes no time."""
    world = open_world()
    before = world.ledger.state_hash()
    for operation in (Operation.CREATE_ACCOUNTS, Operation.CREATE_TRANSFERS):
        assert world.ledger.apply(encode_request(operation), world.now + 1) == bytes(8)
    assert world.ledger.state_hash() == before


def test_query_answers_are_bounded():
    """An answer has at most one batch of rows; `skip` gives the rest."""
    ledger, rows_max, now = Ledger(), limits.LEDGER_EVENTS_PER_BATCH_MAX, 10
    ledger.create_accounts([Account(id=n, ledger=1, code=1) for n in (1, 2)], timestamp=now)
    for first in (1, rows_max + 1):
        now += rows_max
        batch = [Transfer(**usual(id=n)) for n in range(first, first + rows_max)]
        assert ledger.create_transfers(batch, timestamp=now)[-1][1] is CreateTransferStatus.CREATED
    by_account = records.pack_account_filter(AccountFilter(account_id=1, limit=10**6, flags=3))
    by_query = records.pack_query_filter(QueryFilter(limit=10**6))
    for operation, filter in (
        (Operation.GET_ACCOUNT_TRANSFERS, by_account),
        (Operation.QUERY_TRANSFERS, by_query),
        (Operation.GET_CHANGE_EVENTS, by_query),
    ):
        unpack = records.unpack_change_events if operation is Operation.GET_CHANGE_EVENTS else records.unpack_transfers
        for skip, count in ((0, rows_max), (rows_max, rows_max), (2 * rows_max - 3, 3), (2 * rows_max, 0)):
            rows = decode_answer(ledger.query(encode_request(operation, filter, skip=skip)), operation)
            found = [getattr(item, "transfer", item).id for item in unpack(rows)]
            assert found == list(range(skip + 1, skip + count + 1))
    assert len(ledger.query_transfers(QueryFilter(limit=10**6))) == 2 * rows_max


def test_snapshot():
    """A restored ledger is equal, goes on equally, and does not depend on how the snapshot was cut."""
    world = full_world()
    world.accounts(Account(id=40, ledger=1, code=1, flags=8))
    world.transfers(*(Transfer(**usual(id=900 + n, credit_account_id=40, timeout=n, flags=2)) for n in range(3)))
    data = b"".join(world.ledger.snapshot())
    for size in (1, 7, 4096, len(data)):
        copy = Ledger()
        copy.restore(data[at : at + size] for at in range(0, len(data), size))
        assert copy.state_hash() == world.ledger.state_hash()
        assert copy.next_expiry == world.ledger.next_expiry
    filter = AccountFilter(account_id=40, limit=9, flags=3)
    assert copy.get_account_balances(filter) == world.ledger.get_account_balances(filter)
    every = QueryFilter(limit=99)
    assert copy.get_change_events(every) == world.ledger.get_change_events(every)
    copy.check_invariants()
    now = world.now + 10**10
    events = [Transfer(**usual(id=n)) for n in (60, 901, 1000)]
    for ledger in (copy, world.ledger):
        ledger.expire(timestamp=now - 100)
        assert [s.name for _, s in ledger.create_transfers(events, timestamp=now)] == [
            "ID_ALREADY_FAILED",
            "EXISTS_WITH_DIFFERENT_FLAGS",
            "CREATED",
        ]
    assert copy.state_hash() == world.ledger.state_hash()


def test_snapshots_are_canonical():
    """Equal states have equal bytes: burnt ids come in one order, whatever the order of burning."""
    hashes = set()
    for ids in ([9, 1], [1, 9]):  # a set of these two keeps the order of their coming
        world = open_world()
        for id in ids:
            world.one(id=id, debit_account_id=999)
        hashes.add(world.ledger.state_hash())
    assert len(hashes) == 1


def test_damaged_snapshots():
    """A snapshot that is not whole is a ValueError, and the ledger stays as it was."""
    world = full_world()
    data = b"".join(world.ledger.snapshot())
    before = world.ledger.state_hash()
    for damaged in (b"", data[:50], data[:-1], data + b"x", b"X" + data[1:]):
        with pytest.raises(ValueError, match="snapshot"):
            world.ledger.restore([damaged])
    assert world.ledger.state_hash() == before


def test_state_hash_tells_states_apart():
    """Any difference that a command can make shows in the hash."""
    hashes = set()
    changes = [
        {},
        {"amount": 11},
        {"flags": 2},
        {"flags": 2, "timeout": 1},
        {"user_data_128": 1},
        {"debit_account_id": 9},
    ]
    for change in changes:
        world = open_world()
        world.one(**change)
        hashes.add(world.ledger.state_hash())
        world.ledger.expire(timestamp=world.now + 5)
        hashes.add(world.ledger.state_hash())
    assert len(hashes) == 2 * len(changes)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ledger: setattr(ledger._state.accounts.by_id[1], "debits_posted", 1),
        lambda ledger: setattr(ledger._state.accounts.by_id[2], "credits_pending", 3),
        lambda ledger: setattr(ledger._state.accounts.by_id[1], "debits_pending", -1),
        lambda ledger: ledger._state.accounts.in_order.reverse(),
        lambda ledger: ledger._state.log.index.pop(7),
        lambda ledger: ledger._state.log.rows.__setitem__(slice(120, 128), bytes(8)),
        lambda ledger: ledger._state.log.rows.__setitem__(slice(128 + 120, 256), bytes(7) + b"\x7f"),
        lambda ledger: ledger._state.accounts.by_id[1].set_flags(2),
    ],
)
def test_invariants_see(spoil):
    """A ledger that has been tampered with does not pass."""
    world = open_world()
    world.statuses(Transfer(**usual(id=7)), Transfer(**usual(id=8, flags=2)))
    world.ledger.check_invariants()
    world.ledger._rows_checked = 0
    spoil(world.ledger)
    with pytest.raises(AssertionError):
        world.ledger.check_invariants()
