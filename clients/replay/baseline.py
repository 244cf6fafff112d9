"""What the accounts held before a replay began, so that its check can tell this file's trades from others.

The law here: before = (balances when an account is first met) less (this file's trades that were booked by an earlier
run). A trade that `exists` with a timestamp up to `start` was booked earlier; a later one was booked by this run, even
when the answer to that booking was lost. A trade id that stands in the file twice counts once.
"""

from collections.abc import Iterable

from dompbus.clients.replay.diskset import DiskSet
from dompbus.ledger.types import Account, Transfer

__all__ = ["Baseline"]


class Baseline:
    """Feed it accounts as they are met and transfers that turn out to exist; read `before`."""

    def __init__(self, start: int) -> None:
        self.start = start  # the ledger's time when the replay began
        self._debits: dict[int, int] = {}
        self._credits: dict[int, int] = {}
        self._earlier: DiskSet | None = None

    def meet(self, ids: Iterable[int], found: Iterable[Account]) -> None:
        """Note the balances of accounts before this run books on them; those not `found` do not exist yet."""
        for id_ in ids:
            self._debits[id_] = self._credits[id_] = 0
        for account in found:
            self._debits[account.id] = account.debits_posted
            self._credits[account.id] = account.credits_posted

    def exists(self, chain: Iterable[Transfer], timestamp: int) -> bool:
        """Note a chain that the ledger knew already, since `timestamp`; say whether that is before this run."""
        if timestamp > self.start:
            return False
        if self._earlier is None:
            self._earlier = DiskSet()
        if self._earlier.add(timestamp):
            for transfer in chain:
                self._debits[transfer.debit_account_id] -= transfer.amount
                self._credits[transfer.credit_account_id] -= transfer.amount
        return True

    @property
    def before(self) -> dict[int, tuple[int, int]]:
        """(debits, credits) of each account that no trade of this file explains."""
        return {id_: (debits, self._credits[id_]) for id_, debits in self._debits.items()}

    def close(self) -> None:
        """Give the disk back."""
        if self._earlier is not None:
            self._earlier.close()
            self._earlier = None
