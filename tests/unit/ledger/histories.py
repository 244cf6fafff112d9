"""Random batches that aim at the rules: retries with one field changed, resolutions of real holds, amounts at a bound.

Everything follows from the seed and from the model's state, so a failing seed replays exactly.
"""

import random

from dompbus.ledger import Account, Transfer
from tests.unit.ledger.naive_model import INT_MAX, fields

SECOND = 10**9
START = 5 * 10**18  # late enough that a timeout of 2^32-1 seconds overflows
TRANSFER_FLAGS = [0, 0, 0, 0, 2, 2, 2, 2, 16, 32, 48, 18, 34, 66, 130, 194, 64, 128]
ACCOUNT_FLAGS = [0, 0, 0, 0, 2, 4, 8, 10, 6, 32]


class Histories:
    """Makes the next batch for a model."""

    def __init__(self, seed, model):
        self.random = random.Random(seed)
        self.model = model
        self.now = START

    def step(self):
        """(method, arguments): one command."""
        rnd = self.random
        self.now += rnd.choice([0, 0, 1, 5, SECOND // 2, SECOND])
        kind = rnd.random()
        if kind < 0.08:
            return "expire", None, self.now
        size = rnd.choice([1, 1, 2, 3, 4, 6, 9])
        self.now += size
        imported = rnd.random() < 0.15
        if kind < 0.25:
            return "create_accounts", self._batch(self._account, size, imported, 16), self.now
        return "create_transfers", self._batch(self._transfer, size, imported, 256), self.now

    def _batch(self, make, size, imported, flag):
        rnd = self.random
        batch, newest = [], 0
        kind = "transfers" if make == self._transfer else "accounts"
        for n in range(size):
            event = make()
            if rnd.random() < 0.3 and (n < size - 1 or rnd.random() < 0.1):
                event["flags"] |= 1
            if (rnd.random() < 0.97) == imported:
                event["flags"] |= flag
                newest = newest or max((x["timestamp"] for x in self.model.state[kind].values()), default=self.now - 40)
                newest += rnd.choice([-1, 0, 1, 1, 1])
                event["timestamp"] = rnd.choice([newest] * 8 + [0, self.now, self.now - 1, 2**63, *self._times()])
            elif rnd.random() < 0.02:
                event["timestamp"] = 1
            batch.append((Account if kind == "accounts" else Transfer)(**event))
        return batch

    def _times(self):
        everything = [*self.model.state["accounts"].values(), *self.model.state["transfers"].values()]
        return [self.random.choice(everything)["timestamp"]] if everything else []

    def _spoil(self, event, names, chance):
        """Change one field, sometimes."""
        if self.random.random() < chance:
            name = self.random.choice(names)
            other = event[name] + 1 if event[name] < 2**32 - 1 else event[name] // 2
            event[name] = self.random.choice([0, 1, 2, other])
        return event

    def _account(self):
        rnd, accounts = self.random, self.model.state["accounts"]
        if accounts and rnd.random() < 0.4:
            event = dict(rnd.choice(list(accounts.values())))
            event.update(timestamp=0, debits_pending=0, debits_posted=0, credits_pending=0, credits_posted=0)
        else:
            event = fields(Account(id=rnd.randint(1, 12), ledger=rnd.choice([1, 1, 1, 2]), code=1))
            event["flags"] = rnd.choice(ACCOUNT_FLAGS)
        if rnd.random() < 0.04:
            event["flags"] |= 1 << rnd.randint(0, 15)
        names = [name for name in event if name not in ("flags", "timestamp")]
        event = self._spoil(event, names, 0.4)
        return self._spoil(event, ["id"], 0.03) | ({"id": INT_MAX} if rnd.random() < 0.02 else {})

    def _transfer(self):
        rnd, transfers = self.random, self.model.state["transfers"]
        kind = rnd.random()
        if transfers and kind < 0.15:
            event = {**rnd.choice(list(transfers.values())), "timestamp": 0}
            if event["flags"] & 12 and rnd.random() < 0.5:
                event.update(amount=INT_MAX if event["flags"] & 4 else 0, debit_account_id=0, ledger=0)
            chance = 0.7
        elif self.model.state["holds"] and kind < 0.5:
            event, chance = self._resolution(), 0.35
        else:
            event, chance = self._movement(), 0.25
        if rnd.random() < 0.03:
            event["flags"] |= 1 << rnd.randint(0, 15)
        names = [name for name in event if name not in ("flags", "timestamp")]
        event = self._spoil(event, names, chance)
        if rnd.random() < 0.02:
            event[rnd.choice(["id", "debit_account_id", "credit_account_id", "pending_id"])] = INT_MAX
        return event

    def _resolution(self):
        rnd = self.random
        hold = self.model.state["transfers"][rnd.choice(list(self.model.state["holds"]))]
        flags = rnd.choice([4, 4, 8, 8, 12, 6])
        amounts = [INT_MAX, INT_MAX, hold["amount"], hold["amount"] // 2] if flags & 4 else [0, 0, hold["amount"], 1]
        event = fields(Transfer(id=rnd.randint(1, 10**6), pending_id=hold["id"], flags=flags))
        event["amount"] = rnd.choice(amounts)
        for name in ("debit_account_id", "credit_account_id", "ledger", "code"):
            event[name] = rnd.choice([0, hold[name]])
        if rnd.random() < 0.05:
            event["pending_id"] = event["id"]
        return event

    def _movement(self):
        rnd = self.random
        accounts = list(self.model.state["accounts"]) or [1]
        event = fields(
            Transfer(
                id=rnd.choice([rnd.randint(1, 60), rnd.randint(1, 10**6)]),
                debit_account_id=rnd.choice([*accounts, *accounts, 99]),
                credit_account_id=rnd.choice([*accounts, *accounts, 99]),
                amount=rnd.choice([0, 1, 2, 5, 10, 50] * 4 + [INT_MAX, INT_MAX - 3, INT_MAX // 2, 2**127]),
                ledger=rnd.choice([1, 1, 1, 1, 2]),
                code=1,
                flags=rnd.choice(TRANSFER_FLAGS),
            )
        )
        if event["amount"] > 2**100:
            event["flags"] = rnd.choice([0, 2])
        if event["flags"] & 2:
            event["timeout"] = rnd.choice([0, 0, 1, 2, 2**32 - 1])
        return event
