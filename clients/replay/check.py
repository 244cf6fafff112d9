"""The check at the end of a replay: what the ledger holds against what the input file says.

The law here: the left side is read from the ledger, the right side is computed by `recompute` from the file; they
meet only here, as exact decimals, on both the debits and the credits of every account.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from dompbus.clients.replay.recompute import Books, Turnover
from dompbus.clients.replay.settler import Settled
from dompbus.ledger.amounts import unscale
from dompbus.ledger.types import Account
from dompbus.limits import LEDGER_EVENTS_PER_BATCH_MAX

__all__ = ["AccountLine", "Trial", "compare", "read_accounts", "trial_balance"]

_NOTHING = Turnover(Decimal(0), Decimal(0))


class AccountLine(msgspec.Struct, frozen=True):
    """One account in whole units: what the ledger holds, what the file says, and what was there before."""

    participant: str
    currency: str
    ledger: int
    id: str
    debits: Decimal
    credits: Decimal
    before: Decimal  # credits less debits that no trade of this file explains
    expected_debits: Decimal
    expected_credits: Decimal

    @property
    def agrees(self) -> bool:
        """Whether the ledger holds exactly what it should."""
        return (self.debits, self.credits) == (self.expected_debits, self.expected_credits)


class Trial(msgspec.Struct, frozen=True):
    """One ledger's trial balance over the replay's accounts."""

    currency: str
    ledger: int
    debits: Decimal
    credits: Decimal

    @property
    def balanced(self) -> bool:
        """Whether debits equal credits."""
        return self.debits == self.credits


def read_accounts(ledger: Any, ids: list[int]) -> dict[int, Account]:
    """Look accounts up in as many requests as it takes; those that do not exist are missing."""
    accounts: list[Account] = []
    for start in range(0, len(ids), LEDGER_EVENTS_PER_BATCH_MAX):
        accounts += ledger.lookup_accounts(ids[start : start + LEDGER_EVENTS_PER_BATCH_MAX])
    return {account.id: account for account in accounts}


def compare(accounts: Mapping[int, Account], settled: Settled, books: Books, decimals: int) -> list[AccountLine]:
    """Set ledger and recomputation side by side, account by account, in the order of currency and participant.

    An account that only the recomputation knows is a line too, with nothing in the ledger. Call it, and
    `trial_balance`, in a decimal context that does not round.
    """
    known = {(holding.participant, holding.currency): id_ for id_, holding in settled.holdings.items()}
    lines = []
    for participant, currency in sorted(known.keys() | books.turnovers.keys(), key=lambda key: (key[1], key[0])):
        id_ = known.get((participant, currency), 0)
        account = accounts.get(id_, Account())
        before = [unscale(units, decimals) for units in settled.baseline.get(id_, (0, 0))]
        expected = books.turnovers.get((participant, currency), _NOTHING)
        lines.append(
            AccountLine(
                participant=participant,
                currency=currency,
                ledger=settled.holdings[id_].ledger if id_ else 0,
                id=str(id_),
                debits=unscale(account.debits_posted, decimals),
                credits=unscale(account.credits_posted, decimals),
                before=before[1] - before[0],
                expected_debits=before[0] + expected.debits,
                expected_credits=before[1] + expected.credits,
            )
        )
    return lines


def trial_balance(lines: list[AccountLine]) -> list[Trial]:
    """Add the accounts up by ledger."""
    trials: dict[str, Trial] = {}
    for line in lines:
        sums = trials.get(line.currency, Trial(line.currency, line.ledger, Decimal(0), Decimal(0)))
        trials[line.currency] = msgspec.structs.replace(
            sums, debits=sums.debits + line.debits, credits=sums.credits + line.credits
        )
    return list(trials.values())
