"""The bookkeeping that every ledger contestant does: the same accounts, the same transfers, the same clock around them.

The law here: building the objects (or rows) is part of the time, drawing the account numbers is not; every transfer
must have been carried out and be on the disk before its call returns, or the round is invalid.
"""

import random
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from perf.histogram import encode as encode_histogram
from perf.peers.stage import hear, say

__all__ = ["ACCOUNTS", "AMOUNT", "CODE", "LEDGER", "Books", "Pair", "play"]

ACCOUNTS: Final = 10_000  # as TigerBeetle's own benchmark
AMOUNT: Final = 10
LEDGER: Final = 700
CODE: Final = 1

Pair = tuple[int, int]  # debit account, credit account


class Books(Protocol):
    """One ledger as its users use it. Both methods return when all is durable, and raise when anything was refused."""

    def open_accounts(self, count: int) -> None:
        """Open the accounts 1 .. count."""

    def book(self, first_id: int, pairs: Sequence[Pair]) -> None:
        """Build and book one transfer a pair, with ids from `first_id`, in one durable batch."""


def play(books: Books, options: dict[str, Any]) -> None:
    """Open accounts, warm up, wait for the cue, book in batches of `batch`, and report the time or the latencies."""
    books.open_accounts(ACCOUNTS)
    batch, warm = options["batch"], options["warm"]
    draw = random.Random(1)
    pairs = [_pair(draw) for _ in range(warm + options["count"])]
    _book(books, pairs[:warm], first_id=1, batch=batch)
    say(ready=True)
    hear()
    started_ns = time.perf_counter_ns()
    latencies_ns = _book(books, pairs[warm:], first_id=1 + warm, batch=batch)
    seconds = (time.perf_counter_ns() - started_ns) / 1e9
    say(seconds=seconds, histogram=encode_histogram(latencies_ns) if options["latencies"] else None)
    hear()


def _pair(draw: random.Random) -> Pair:
    debit, credit = draw.sample(range(1, ACCOUNTS + 1), 2)
    return debit, credit


def _book(books: Books, pairs: Sequence[Pair], *, first_id: int, batch: int) -> list[int]:
    latencies_ns = []
    for start in range(0, len(pairs), batch):
        part = pairs[start : start + batch]
        started_ns = time.perf_counter_ns()
        books.book(first_id + start, part)
        latencies_ns.append(time.perf_counter_ns() - started_ns)
    return latencies_ns
