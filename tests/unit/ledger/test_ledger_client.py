"""Both clients over a ledger in memory: the same methods, buffers, pages, and nothing sent that is wrong."""

import asyncio

import numpy
import pytest

from dompbus.errors import InvalidEvent, LedgerRefused, ProtocolError
from dompbus.ledger import (
    Account,
    AccountFilter,
    AsyncLedgerClient,
    CreateAccountStatus,
    CreateTransferStatus,
    Ledger,
    LedgerClient,
    QueryFilter,
    Transfer,
    records,
)
from dompbus.ledger.commands import Refusal, encode_answer, encode_refusal
from tests.unit.ledger.worlds import usual

CREATED = CreateTransferStatus.CREATED


class Service:
    """A ledger behind a call; keeps what was sent."""

    def __init__(self):
        self.ledger = Ledger()
        self.sent = []

    def __call__(self, payload, *, query):
        self.sent.append(payload)
        if query:
            return self.ledger.query(payload)
        return self.ledger.apply(payload, self.ledger.last_timestamp + len(payload))

    async def awaited(self, payload, *, query):
        await asyncio.sleep(0)
        return self(payload, query=query)


class Awaited:
    """An `AsyncLedgerClient` that is spoken to as if it were blocking."""

    def __init__(self, call):
        self._client = AsyncLedgerClient(call)

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *args: asyncio.run(method(*args))


@pytest.fixture(params=["blocking", "asyncio"])
def service_and_client(request):
    service = Service()
    client = LedgerClient(service) if request.param == "blocking" else Awaited(service.awaited)
    client.create_accounts([Account(id=1, ledger=1, code=1), Account(id=2, ledger=1, code=1, flags=8)])
    return service, client


def test_every_method(service_and_client):
    """Each method answers what the ledger itself does."""
    service, client = service_and_client
    ledger = service.ledger
    assert client.create_accounts([Account(id=1)])[0][1] is CreateAccountStatus.EXISTS_WITH_DIFFERENT_LEDGER
    results = client.create_transfers([Transfer(**usual(id=n, flags=2, timeout=9)) for n in (0, 1, 2**70)])
    now = ledger.last_timestamp
    assert results == [(now - 2, CreateTransferStatus.ID_MUST_NOT_BE_ZERO), (now - 1, CREATED), (now, CREATED)]
    assert client.lookup_accounts([2, 7, 1]) == ledger.lookup_accounts([2, 7, 1])
    assert client.lookup_transfers([1, 1]) == ledger.lookup_transfers([1, 1])
    by_account, every = AccountFilter(account_id=2, limit=9, flags=3), QueryFilter(limit=9)
    assert client.get_account_transfers(by_account) == ledger.get_account_transfers(by_account) != []
    assert client.get_account_balances(by_account) == ledger.get_account_balances(by_account) != []
    assert client.query_accounts(every) == ledger.query_accounts(every) != []
    assert client.query_transfers(every) == ledger.query_transfers(every) != []
    assert client.get_change_events(every) == ledger.get_change_events(every) != []
    assert client.expire() == 0


def test_nothing_wrong_is_sent(service_and_client):
    """Values out of range, batches out of bounds and odd buffers are refused before anything is sent."""
    service, client = service_and_client
    sent = len(service.sent)
    for method, argument, words in [
        (client.create_transfers, [Transfer(amount=-1)], "event 0: amount is -1"),
        (client.create_transfers, [Transfer(amount=True)], "bool"),
        (client.create_transfers, [Transfer()] * 8_190, "8,190 events, a batch holds at most 8,189"),
        (client.create_transfers, bytes(129), "128 bytes"),
        (client.create_transfers, numpy.zeros((4, 256), "u1")[:, ::2], "with gaps"),
        (client.create_transfers, 5, "got int"),
        (client.create_accounts, [Transfer()], "expected Account"),
        (client.lookup_accounts, [-1], "id 0"),
        (client.query_transfers, QueryFilter(limit=2**32), "limit"),
    ]:
        with pytest.raises(InvalidEvent, match=words):
            method(argument)
    assert client.create_transfers([]) == []
    assert client.create_transfers(b"") == []
    assert client.lookup_accounts([]) == []
    assert len(service.sent) == sent


RECORD = numpy.dtype(
    [
        (name, "<u8", 2)
        for name in ("id", "debit_account_id", "credit_account_id", "amount", "pending_id", "user_data_128")
    ]
    + [("user_data_64", "<u8"), ("user_data_32", "<u4"), ("timeout", "<u4"), ("ledger", "<u4")]
    + [("code", "<u2"), ("flags", "<u2"), ("timestamp", "<u8")]
)


def test_buffers(service_and_client):
    """A NumPy structured array or any buffer of records passes through; so does any iterable of objects."""
    service, client = service_and_client
    rows = numpy.zeros(5, RECORD)
    rows["id"][:, 0] = range(1, 6)
    rows["debit_account_id"][:, 0], rows["credit_account_id"][:, 0] = 1, 2
    rows["amount"][:, 0], rows["ledger"], rows["code"] = 10, 1, 1
    assert [s for _, s in client.create_transfers(rows)] == [CREATED] * 5
    assert service.sent[-1][8:] == rows.tobytes()
    data = records.pack_transfers([Transfer(**usual(id=6))])
    for kind, status in (
        (bytes, CREATED),
        (bytearray, CreateTransferStatus.EXISTS),
        (memoryview, CreateTransferStatus.EXISTS),
    ):
        assert client.create_transfers(kind(data))[0][1] is status
    words = numpy.frombuffer(data, "<u8")
    assert client.create_transfers(words)[0][1] is CreateTransferStatus.EXISTS
    assert client.create_transfers(Transfer(**usual(id=n)) for n in (7,))[0][1] is CREATED
    assert client.create_transfers((Transfer(**usual(id=8)),))[0][1] is CREATED
    assert service.ledger.lookup_accounts([1])[0].debits_posted == 80


def test_pages(service_and_client):
    """What does not fit into one answer is asked for in several; limits mean what they say; order is kept."""
    _, client = service_and_client
    total = 2 * 8_189 + 5
    for first in range(1, total + 1, 8_189):
        batch = [Transfer(**usual(id=n)) for n in range(first, min(first + 8_189, total + 1))]
        assert {s for _, s in client.create_transfers(batch)} == {CREATED}
    assert [t.id for t in client.lookup_transfers(range(1, total + 1))] == list(range(1, total + 1))
    for limit in (8_188, 8_189, 8_190, total + 9):
        expected = list(range(1, min(limit, total) + 1))
        assert [t.id for t in client.query_transfers(QueryFilter(limit=limit))] == expected
    by_account = AccountFilter(account_id=2, limit=total, flags=7)
    assert [t.id for t in client.get_account_transfers(by_account)] == list(range(total, 0, -1))
    assert len(client.get_account_balances(by_account)) == total
    assert len(client.get_change_events(QueryFilter(limit=total, flags=1))) == total


def test_pages_of_one_time(service_and_client):
    """Expiries of one sweep share its time, and still come each once, however many."""
    service, client = service_and_client
    total = 2 * 8_189 + 3
    for first in range(1, total + 1, 8_189):
        ids = range(first, min(first + 8_189, total + 1))
        client.create_transfers([Transfer(**usual(id=n, flags=2, timeout=1)) for n in ids])
    sweep = service.ledger.last_timestamp + 2 * 10**9
    assert service.ledger.expire(timestamp=sweep) == total
    for flags, order in ((0, 1), (1, -1)):
        filter = QueryFilter(timestamp_min=sweep, limit=10**6, flags=flags)
        assert [e.transfer.id for e in client.get_change_events(filter)] == list(range(1, total + 1))[::order]
    assert len(client.get_change_events(QueryFilter(limit=10**6))) == 2 * total


def test_refusals_and_damage():
    """A refusal is `LedgerRefused` with its reason; an answer that is none is a `ProtocolError`."""
    for answer, error, words in [
        (encode_refusal(Refusal.TOO_MANY_EVENTS), LedgerRefused, "too_many_events.*8,189"),
        (b"\0", ProtocolError, "not an answer"),
        (encode_answer(bytes(32)), ProtocolError, "answered 1 events with 32 bytes"),
        (encode_answer(bytes(16)), ProtocolError, "status"),
        (encode_answer(bytes(13)), ProtocolError, "not an answer to CREATE_TRANSFERS"),
    ]:
        client = LedgerClient(lambda payload, *, query, answer=answer: answer)
        with pytest.raises(error, match=words):
            client.create_transfers([Transfer(**usual())])


def test_the_twins_read_alike():
    """Every method of one client is a method of the other."""
    public = {name for name in vars(LedgerClient) if not name.startswith("_")}
    assert public == {name for name in vars(AsyncLedgerClient) if not name.startswith("_")}
    on_the_machine = {name for name in vars(Ledger) if name.startswith(("create", "lookup", "get", "query_"))}
    assert on_the_machine | {"expire"} == public
