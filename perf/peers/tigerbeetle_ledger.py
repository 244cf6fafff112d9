"""TigerBeetle: its own server binary (one replica) and its ordinary Python client, objects as its documentation shows.

The law here: the binary is the user's (`TIGERBEETLE=path`, or `tigerbeetle` on the PATH); nothing is downloaded.
"""

import importlib
import importlib.util
import os
import shutil
from collections.abc import Sequence
from typing import Any

from perf.peers.books import AMOUNT, CODE, LEDGER, Pair, play
from perf.peers.stage import perform

__all__ = ["binary", "missing"]

ACCOUNTS_PER_CALL = 8_189


def binary() -> str | None:
    """The path of the server binary, if there is one."""
    return shutil.which(os.environ.get("TIGERBEETLE", "tigerbeetle"))


def missing() -> str | None:
    """Say what TigerBeetle needs that is not here, or None."""
    if binary() is None:
        return "no server binary: put `tigerbeetle` on the PATH or set TIGERBEETLE=/path/to/tigerbeetle"
    if importlib.util.find_spec("tigerbeetle") is None:
        return "its Python client is not installed: pip install tigerbeetle"
    return None


class TigerBeetleBooks:
    """A ledger on a TigerBeetle cluster."""

    def __init__(self, address: str) -> None:
        self._api: Any = importlib.import_module("tigerbeetle")  # not a dependency: nothing to check its types against
        self._client: Any = self._api.ClientSync(cluster_id=0, replica_addresses=address)

    def open_accounts(self, count: int) -> None:
        """Create the accounts, as many a call as one message holds."""
        account, created = self._api.Account, self._api.CreateAccountStatus.CREATED
        for first in range(1, count + 1, ACCOUNTS_PER_CALL):
            numbers = range(first, min(first + ACCOUNTS_PER_CALL, count + 1))
            results = self._client.create_accounts([account(id=n, ledger=LEDGER, code=CODE) for n in numbers])
            _require(results, created)

    def book(self, first_id: int, pairs: Sequence[Pair]) -> None:
        """Create one transfer a pair in one call."""
        transfer, created = self._api.Transfer, self._api.CreateTransferStatus.CREATED
        batch = [
            transfer(
                id=first_id + i,
                debit_account_id=debit,
                credit_account_id=credit,
                amount=AMOUNT,
                ledger=LEDGER,
                code=CODE,
            )
            for i, (debit, credit) in enumerate(pairs)
        ]
        _require(self._client.create_transfers(batch), created)


def _require(results: Sequence[Any], created: object) -> None:
    for result in results:
        if result.status != created:
            raise RuntimeError(f"refused: {result.status!r}")


def client(options: dict[str, Any]) -> None:
    """Book through the server at `endpoint`."""
    play(TigerBeetleBooks(options["endpoint"]), options)


if __name__ == "__main__":
    perform({"client": client})
