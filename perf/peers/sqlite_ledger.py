"""SQLite as a ledger, in process: a balance row an account, a journal row a transfer, one durable commit a batch.

The law here: WAL with synchronous=FULL, so that a commit is on the disk when it returns, and foreign keys on, so that a
transfer to an account that does not exist is refused, as every other contestant refuses it.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.peers.books import AMOUNT, CODE, LEDGER, Pair, play
from perf.peers.stage import perform

SCHEMA = """
CREATE TABLE account (
    id INTEGER PRIMARY KEY, ledger INTEGER NOT NULL, code INTEGER NOT NULL,
    debits INTEGER NOT NULL DEFAULT 0, credits INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE transfer (
    id INTEGER PRIMARY KEY,
    debit_account INTEGER NOT NULL REFERENCES account, credit_account INTEGER NOT NULL REFERENCES account,
    amount INTEGER NOT NULL CHECK (amount >= 0), ledger INTEGER NOT NULL, code INTEGER NOT NULL
);
"""


class SqliteBooks:
    """A ledger in one SQLite file."""

    def __init__(self, directory: str) -> None:
        self._database = sqlite3.connect(Path(directory) / "ledger.sqlite", isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -65536"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(SCHEMA)

    def open_accounts(self, count: int) -> None:
        """Insert the accounts in one commit."""
        rows = [(number, LEDGER, CODE) for number in range(1, count + 1)]
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("INSERT INTO account (id, ledger, code) VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def book(self, first_id: int, pairs: Sequence[Pair]) -> None:
        """Insert the journal rows and add to the balances, each by one executemany, in one commit."""
        rows = [(first_id + i, debit, credit, AMOUNT, LEDGER, CODE) for i, (debit, credit) in enumerate(pairs)]
        run = self._database.executemany
        self._database.execute("BEGIN IMMEDIATE")
        run("INSERT INTO transfer VALUES (?, ?, ?, ?, ?, ?)", rows)
        run("UPDATE account SET debits = debits + ? WHERE id = ?", [(row[3], row[1]) for row in rows])
        run("UPDATE account SET credits = credits + ? WHERE id = ?", [(row[3], row[2]) for row in rows])
        self._database.execute("COMMIT")


def client(options: dict[str, Any]) -> None:
    """Book into a fresh file in `directory`."""
    play(SqliteBooks(options["directory"]), options)


if __name__ == "__main__":
    perform({"client": client})
