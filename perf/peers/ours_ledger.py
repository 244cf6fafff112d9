"""Ours: `client.ledger` against a `dompbus serve --data DIR` in another process, ordinary objects.

The law here: a call returns when its batch is in the server's journal (fdatasync), and every result must be `CREATED`.
"""

from collections.abc import Sequence
from typing import Any

import dompbus
from dompbus.ledger import Account, CreateAccountStatus, CreateTransferStatus, Transfer
from perf.peers.books import AMOUNT, CODE, LEDGER, Pair, play
from perf.peers.stage import perform

ACCOUNTS_PER_CALL = 8_189


class OurBooks:
    """A ledger behind a node."""

    def __init__(self, client: dompbus.Client) -> None:
        self._ledger = client.ledger

    def open_accounts(self, count: int) -> None:
        """Create the accounts, as many a call as one batch holds."""
        for first in range(1, count + 1, ACCOUNTS_PER_CALL):
            numbers = range(first, min(first + ACCOUNTS_PER_CALL, count + 1))
            accounts = [Account(id=number, ledger=LEDGER, code=CODE) for number in numbers]
            for _, status in self._ledger.create_accounts(accounts):
                if status is not CreateAccountStatus.CREATED:
                    raise RuntimeError(f"account refused: {status!r}")

    def book(self, first_id: int, pairs: Sequence[Pair]) -> None:
        """Create one transfer a pair in one call."""
        created = CreateTransferStatus.CREATED
        batch = [
            Transfer(
                id=first_id + i,
                debit_account_id=debit,
                credit_account_id=credit,
                amount=AMOUNT,
                ledger=LEDGER,
                code=CODE,
            )
            for i, (debit, credit) in enumerate(pairs)
        ]
        for _, status in self._ledger.create_transfers(batch):
            if status is not created:
                raise RuntimeError(f"transfer refused: {status!r}")


def client(options: dict[str, Any]) -> None:
    """Book through the node at `endpoint`."""
    with dompbus.Client(options["endpoint"], name="perf-client") as caller:
        play(OurBooks(caller), options)


if __name__ == "__main__":
    perform({"client": client})
