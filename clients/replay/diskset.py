"""A set of texts or integers that may outgrow memory.

The law here: members live in a private database that SQLite keeps in a nameless temporary file and removes when the
set is closed; memory holds SQLite's page cache and nothing else.
"""

import sqlite3

__all__ = ["DiskSet"]


class DiskSet:
    """Remembers members until closed. Use as a context manager."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("BEGIN")
        self._database.execute("CREATE TABLE members (member PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> "DiskSet":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, member: str | int) -> bool:
        """Add `member`; say whether it is new."""
        return self._database.execute("INSERT OR IGNORE INTO members VALUES (?)", (member,)).rowcount == 1

    def close(self) -> None:
        """Forget everything and give the disk back."""
        self._database.close()
