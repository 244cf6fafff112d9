"""A small world for the rule tables: accounts in two ledgers, closed, limited, full ones, and a few transfers."""

from dompbus.ledger import Account, CreateTransferStatus, Ledger, Transfer, TransferFlags

INT_MAX = 2**128 - 1
START = 5 * 10**18  # late enough that a timeout of 2^32-1 seconds goes beyond 2^63-1
CREATED = CreateTransferStatus.CREATED


class World:
    """A ledger and a clock that goes on by one second a batch."""

    def __init__(self):
        self.ledger = Ledger()
        self.now = START

    def accounts(self, *accounts):
        self.now += 10**9
        return self.ledger.create_accounts(list(accounts), timestamp=self.now)

    def transfers(self, *transfers):
        self.now += 10**9
        return self.ledger.create_transfers(list(transfers), timestamp=self.now)

    def one(self, **fields):
        """The status of one transfer, which has these fields beside the usual ones."""
        return self.statuses(Transfer(**usual(**fields)))[0]

    def statuses(self, *transfers):
        return [status for _, status in self.transfers(*transfers)]

    def account(self, id):
        return self.ledger.lookup_accounts([id])[0]

    def balances(self, id):
        """Debits pending and posted, credits pending and posted."""
        a = self.account(id)
        return a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted


def usual(**fields):
    """The fields of a transfer that is in order, with some replaced; flags are added."""
    return {"id": 100, "debit_account_id": 1, "credit_account_id": 2, "amount": 10, "ledger": 1, "code": 1, **fields}


def open_world():
    """Accounts 1 and 2 in ledger 1."""
    world = World()
    world.accounts(*(Account(id=n, ledger=1, code=1) for n in (1, 2)))
    return world


def full_world(*, nearly_full=True):
    """Everything that the tables break rules against; see the comments.

    Without the nearly full accounts nothing can overflow, so that the loop of plain transfers takes its batches.
    """
    world = open_world()
    ledger_two = (Account(id=n, ledger=2, code=1) for n in (3, 4))
    closed = (Account(id=n, ledger=1, code=1, flags=32) for n in (5, 6))
    roomy = (Account(id=n, ledger=1, code=1) for n in range(11, 17))
    limited = (Account(id=17, ledger=1, code=1, flags=2), Account(id=18, ledger=1, code=1, flags=4))
    world.accounts(*ledger_two, *closed, *roomy, *limited)
    if nearly_full:
        _fill(world)
    hold = TransferFlags.PENDING
    assert world.statuses(
        Transfer(**usual(id=50)),  # exists
        Transfer(**usual(id=51, flags=hold, code=7)),  # open hold
        Transfer(**usual(id=52, flags=hold)),  # posted
        Transfer(**usual(id=53, flags=hold)),  # voided
        Transfer(**usual(id=54, flags=hold, timeout=1)),  # expired
        Transfer(
            **usual(id=55, flags=hold | TransferFlags.CLOSING_DEBIT, debit_account_id=4, credit_account_id=3, ledger=2)
        ),
        Transfer(**usual(id=57, flags=hold, debit_account_id=3, credit_account_id=4, ledger=2)),
    ) == [CREATED] * 6 + [CreateTransferStatus.CREDIT_ACCOUNT_ALREADY_CLOSED]
    assert world.one(id=60, debit_account_id=999) == CreateTransferStatus.DEBIT_ACCOUNT_NOT_FOUND  # burnt
    resolve = {"amount": 0, "debit_account_id": 0, "credit_account_id": 0, "ledger": 0, "code": 0}
    post, void = TransferFlags.POST_PENDING_TRANSFER, TransferFlags.VOID_PENDING_TRANSFER
    assert (
        world.statuses(
            Transfer(**usual(id=70, pending_id=52, flags=post, **(resolve | {"amount": INT_MAX}))),
            Transfer(**usual(id=71, pending_id=53, flags=void, **resolve)),
        )
        == [CREATED] * 2
    )
    world.now += 10**9
    assert world.ledger.expire(timestamp=world.now) == 1
    return world


def _fill(world):
    """Accounts 11 to 16 have one kind of balance each that is nearly 2^128."""
    names = ["debits_pending", "credits_pending", "debits_posted", "credits_posted"]
    for id, name in zip(range(11, 15), names, strict=True):
        world.ledger._set_balances(id, **{name: INT_MAX - 5})
    world.ledger._set_balances(15, debits_pending=INT_MAX // 2, debits_posted=INT_MAX // 2)
    world.ledger._set_balances(16, credits_pending=INT_MAX // 2, credits_posted=INT_MAX // 2)
