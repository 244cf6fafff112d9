"""`dompbus ledger` prints what the ledger holds, exactly and page by page."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dompbus.clients.cli import ledger as cli
from dompbus.clients.cli.main import main
from dompbus.ledger.types import Account, AccountFilter, QueryFilter, Transfer

BIG = 2**127 + 1


class Books:
    """Stands in for a client and its ledger: keeps the filters it was asked with."""

    def __init__(self, accounts: Sequence[Account], transfers: Sequence[Transfer] = ()) -> None:
        self.accounts, self.transfers = accounts, transfers
        self.ledger = self
        self.asked: list[Any] = []
        self.page = 10**9  # what the server gives at most

    def __enter__(self) -> "Books":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def _answer(self, records: Sequence[Any], query: Any, keep: Callable[[Any], bool], *, newest: bool) -> list[Any]:
        self.asked.append(query)
        low, high = query.timestamp_min, query.timestamp_max or 2**63
        found = [r for r in records if low <= r.timestamp <= high and query.code in (0, r.code) and keep(r)]
        return (found[::-1] if newest else found)[: min(query.limit, self.page)]

    def query_accounts(self, query: QueryFilter) -> list[Any]:
        return self._answer(self.accounts, query, lambda r: query.ledger in (0, r.ledger), newest=query.flags == 1)

    def query_transfers(self, query: QueryFilter) -> list[Any]:
        return self._answer(self.transfers, query, lambda r: query.ledger in (0, r.ledger), newest=query.flags == 1)

    def get_account_transfers(self, query: AccountFilter) -> list[Any]:
        assert query.flags & 3 == 3
        one = query.account_id
        return self._answer(
            self.transfers, query, lambda r: one in (r.debit_account_id, r.credit_account_id), newest=query.flags == 7
        )

    def lookup_accounts(self, ids: Sequence[int]) -> list[Any]:
        return [a for i in ids for a in self.accounts if a.id == i]

    def lookup_transfers(self, ids: Sequence[int]) -> list[Any]:
        return [t for i in ids for t in self.transfers if t.id == i]


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    books = Books(
        [
            Account(id=1, ledger=1, code=7, debits_posted=BIG, timestamp=1),
            Account(id=2, ledger=1, code=7, credits_posted=BIG, timestamp=2),
            Account(id=BIG, ledger=2, code=8, debits_posted=5, credits_posted=5, timestamp=3),
        ],
        [
            Transfer(id=i, debit_account_id=1, credit_account_id=2, amount=i, ledger=1, timestamp=i)
            for i in range(10, 15)
        ],
    )
    monkeypatch.setattr(cli, "_connect", lambda url, timeout: books)
    return books


def run(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> list[str]:
    assert main(["ledger", *argv]) == code
    return capsys.readouterr().out.splitlines()


def ids(lines: Sequence[str]) -> list[str]:
    return [json.loads(line)["id"] for line in lines]


def test_accounts_as_table(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    """128-bit balances in full, numbers to the right."""
    lines = run(capsys, "accounts")
    assert lines[0].split()[:4] == ["id", "ledger", "code", "debits_posted"]
    assert lines[1].split()[:4] == ["1", "1", "7", str(BIG)]
    assert len({len(line) for line in lines}) == 1
    assert books.closed


def test_accounts_as_json_lines(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    """128-bit integers are strings, all fields are there."""
    first = json.loads(run(capsys, "accounts", "--json")[0])
    assert first["debits_posted"] == str(BIG)
    assert first["ledger"] == 1
    assert set(first) == set(Account.__struct_fields__)


def test_accounts_filtered_and_looked_up(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    """By ledger, by code, by id, newest first, at most so many."""
    assert ids(run(capsys, "accounts", "--json", "--ledger", "2")) == [str(BIG)]
    assert ids(run(capsys, "accounts", "--json", "--code", "7", "--newest")) == ["2", "1"]
    assert ids(run(capsys, "accounts", "--json", "--limit", "1")) == ["1"]
    assert ids(run(capsys, "accounts", "--json", str(BIG), "1", "99")) == [str(BIG), "1"]
    assert run(capsys, "accounts", "99")[0].split()[0] == "id"


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("limit", [0, 3])
@pytest.mark.parametrize("page", [1, 2, 5])
def test_transfers_page_by_page(
    books: Books, newest: bool, limit: int, page: int, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """However small the pages of the server, each record comes once and in order."""
    books.page = page
    lines = run(capsys, "transfers", "--json", "--limit", str(limit), *(["--newest"] if newest else []))
    expected = [str(10 + i) for i in range(5)]
    assert ids(lines) == (expected[::-1] if newest else expected)[: limit or None]
    assert all(0 < query.limit <= cli.PAGE for query in books.asked)


def test_transfers_of_an_account(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    """Either side counts; a ledger beside it is a mistake."""
    assert len(ids(run(capsys, "transfers", "--json", "--account", "2", "--newest"))) == 5
    assert run(capsys, "transfers", "--json", "--account", "3") == []
    run(capsys, "transfers", "--account", "2", "--ledger", "1", code=2)
    assert ids(run(capsys, "transfers", "--json", "12")) == ["12"]


def test_balance(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a ledger, sums exact."""
    books.page = 1
    lines = [line.split() for line in run(capsys, "balance")]
    assert lines[1:] == [["1", "2", str(BIG), str(BIG), "0", "0", "yes"], ["2", "1", "5", "5", "0", "0", "yes"]]
    document = json.loads(run(capsys, "balance", "--json", "--ledger", "2")[0])
    assert document[0].items() >= {"ledger": 2, "debits_posted": "5", "balanced": True}.items()


def test_balance_that_does_not_balance_fails(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    """The command's exit code is the check."""
    books.accounts = [Account(id=1, ledger=3, debits_posted=1, timestamp=1)]
    assert run(capsys, "balance", code=1)[1].endswith("no")


def test_ids_are_checked(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    """Zero, negative and too large ids are the user's mistake."""
    for wrong in ("0", str(2**128), "x"):
        run(capsys, "accounts", wrong, code=2)
