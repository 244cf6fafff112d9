"""Records: TigerBeetle's layout byte for byte, round trips, and refusals that name the culprit."""

import struct

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dompbus.errors import InvalidEvent
from dompbus.ledger import (
    Account,
    AccountBalance,
    AccountFilter,
    AccountFlags,
    ChangeEvent,
    ChangeEventType,
    QueryFilter,
    Transfer,
    TransferFlags,
    records,
)

u16, u32, u64, u128 = (st.one_of(st.integers(0, 3), st.integers(0, 2**n - 1)) for n in (16, 32, 64, 128))
WIDTHS = {"code": u16, "flags": u16, "ledger": u32, "user_data_32": u32, "timeout": u32, "reserved": u32, "limit": u32}
WIDTHS |= {"user_data_64": u64, "timestamp": u64, "timestamp_min": u64, "timestamp_max": u64}


def any_of(kind, **widths):
    return st.builds(kind, **{name: {**WIDTHS, **widths}.get(name, u128) for name in kind.__struct_fields__})


transfers = any_of(Transfer)


def test_layout():
    """Each field stands where TigerBeetle has it."""
    transfer = Transfer(
        id=1 | 2 << 64,
        debit_account_id=3,
        credit_account_id=4,
        amount=5 << 64,
        pending_id=6,
        user_data_128=7,
        user_data_64=8,
        user_data_32=9,
        timeout=10,
        ledger=11,
        code=12,
        flags=TransferFlags.PENDING,
        timestamp=13,
    )
    words = (1, 2, 3, 0, 4, 0, 0, 5, 6, 0, 7, 0, 8)
    assert records.pack_transfers([transfer]) == struct.pack("<13QIIIHHQ", *words, 9, 10, 11, 12, 2, 13)
    account = Account(id=1, debits_pending=2, credits_posted=3, user_data_32=4, reserved=5, ledger=6, code=7, flags=8)
    words = (1, 0, 2, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0)
    assert records.pack_accounts([account]) == struct.pack("<13QIIIHHQ", *words, 4, 5, 6, 7, 8, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(transfers, max_size=70), st.lists(any_of(Account), max_size=3))
def test_round_trips(some_transfers, accounts):
    """What is packed comes back, whatever the widths and the number."""
    assert records.unpack_transfers(records.pack_transfers(some_transfers)) == some_transfers
    assert records.unpack_accounts(records.pack_accounts(accounts)) == accounts


@settings(max_examples=60, deadline=None)
@given(
    any_of(AccountFilter, flags=u32), any_of(QueryFilter, flags=u32), any_of(AccountBalance), transfers, st.lists(u128)
)
def test_other_round_trips(account_filter, query_filter, balance, transfer, ids):
    """Filters, balances, change events and ids too."""
    assert records.unpack_account_filter(records.pack_account_filter(account_filter)) == account_filter
    assert records.unpack_query_filter(records.pack_query_filter(query_filter)) == query_filter
    assert records.unpack_balances(records.pack_balances([balance] * 2)) == [balance] * 2
    event = ChangeEvent(timestamp=5, type=ChangeEventType.TWO_PHASE_EXPIRED, transfer=transfer)
    assert records.unpack_change_events(records.pack_change_events([event] * 2)) == [event] * 2
    assert records.unpack_ids(records.pack_ids(ids)) == ids


def test_many_records():
    """Blocks and rests of blocks, narrow and wide."""
    for high in (0, 2**64):
        events = [Transfer(id=high + n, amount=n, code=1) for n in range(200)]
        assert records.unpack_transfers(records.pack_transfers(events)) == events


def test_flags_come_back_as_flags():
    """Flags are members again, so that `in` works and they print as words."""
    (account,) = records.unpack_accounts(records.pack_accounts([Account(flags=10)]))
    assert AccountFlags.HISTORY in account.flags
    assert repr(account.flags).startswith("<AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS|HISTORY")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("amount", -1, "event 1: amount is -1, allowed is 0 .. 2\\^128-1"),
        ("amount", 2**128, "event 1: amount is 3402823.*, allowed is 0 .. 2\\^128-1"),
        ("ledger", 2**32, "event 1: ledger is 4294967296, allowed is 0 .. 2\\^32-1"),
        ("code", 65_536, "event 1: code is 65536, allowed is 0 .. 2\\^16-1"),
        ("user_data_64", 2**64, "event 1: user_data_64 is"),
        ("timestamp", -5, "event 1: timestamp is -5"),
        ("amount", True, r"event 1: amount must be an int, got True \(bool\)"),
        ("amount", 1.0, r"event 1: amount must be an int, got 1.0 \(float\)"),
        ("id", "7", r"event 1: id must be an int, got '7' \(str\)"),
        ("code", None, r"event 1: code must be an int, got None"),
        ("amount", numpy.float64(3), "event 1: amount must be an int"),
        ("amount", numpy.bool_(True), "event 1: amount must be an int"),
    ],
)
def test_refusals_name_the_culprit(field, value, words):
    """ValueError with the event's index, field, value and range, for narrow and for wide batches."""
    for first in (1, 2**100):
        with pytest.raises(InvalidEvent, match=words):
            records.pack_transfers([Transfer(id=first), Transfer(**{"id": 2, field: value})])
    assert issubclass(InvalidEvent, ValueError)


def test_refused_kinds():
    """Only transfers are transfers; ids and filters are checked too."""
    with pytest.raises(InvalidEvent, match=r"event 1: expected Transfer, got .*Account"):
        records.pack_transfers([Transfer(), Account()])
    with pytest.raises(InvalidEvent, match="id 1: id is -1"):
        records.pack_ids([1, -1])
    with pytest.raises(InvalidEvent, match="id 0: id must be an int"):
        records.pack_ids([True])
    with pytest.raises(InvalidEvent, match=r"filter 0: limit is -1, allowed is 0 .. 2\^32-1"):
        records.pack_query_filter(QueryFilter(limit=-1))
    with pytest.raises(InvalidEvent, match="expected AccountFilter"):
        records.pack_account_filter(QueryFilter())


def test_integers_of_numpy():
    """Other integers are taken for what they are."""
    event = Transfer(id=numpy.uint64(5), amount=numpy.int32(7))
    assert records.unpack_transfers(records.pack_transfers([event])) == [Transfer(id=5, amount=7)]
