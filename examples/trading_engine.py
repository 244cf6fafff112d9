"""A strategy as a client of a venue: it hears trades, asks for a risk check, and books what it buys and sells.

Run it: python examples/trading_engine.py [--trades 2000]

The venue is a node of its own here, so that one command shows everything: it publishes a random walk, answers
`risk.check`, and keeps the ledger. A real strategy is the class below and `dompbus.Client("tcp://venue:7400")`.

The books are kept from the venue's side: what a participant receives is credited, what it gives is debited. The
strategy's accounts may not be overdrawn, so the ledger itself refuses what it cannot pay for.
"""

import argparse
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import dompbus
from dompbus.ledger import (
    Account,
    AccountFlags,
    CreateTransferStatus,
    LedgerClient,
    Transfer,
    TransferFlags,
    scale,
    unscale,
)
from dompbus.ledger.service import host_ledger

USDT, XBT = 1, 2  # ledgers
DECIMALS = {USDT: 8, XBT: 4}  # prices have 4 decimals and quantities 4, so price x quantity is exact
VENUE_USDT, VENUE_XBT, OUR_USDT, OUR_XBT = 1, 2, 11, 12  # accounts
CAPITAL, LEG = 1, 2  # codes of transfers
TOPIC = "md.venue.XBTUSDT"


class Trade(dompbus.Message, tag="trade"):
    price: str


class Order(dompbus.Message, tag="order"):
    side: str
    price: str
    quantity: str


class Verdict(dompbus.Message, tag="verdict"):
    ok: bool
    reason: str = ""


class Strategy:
    """Buys when the last price is above its average of twenty trades, sells when it is below."""

    def __init__(self, client: dompbus.Client) -> None:
        self.client = client
        self.prices: deque[int] = deque(maxlen=20)
        self.holding = False
        self.next_id = 1
        self.outcomes: dict[str, int] = {}

    def on_trade(self, trade: Trade) -> None:
        price = scale(trade.price, 4)
        self.prices.append(price)
        average = sum(self.prices) / len(self.prices)
        if len(self.prices) == 20 and (price > average) != self.holding:
            self.act(Order("sell" if self.holding else "buy", trade.price, "0.01"))

    def act(self, order: Order) -> None:
        verdict = self.client.request("risk.check", order, type=Verdict, timeout=1.0)
        outcome = self.book(order) if verdict.ok else verdict.reason
        self.outcomes[f"{order.side}: {outcome}"] = self.outcomes.get(f"{order.side}: {outcome}", 0) + 1

    def book(self, order: Order) -> str:
        """One chain of two legs: both are carried out or neither is."""
        cash = scale(order.price, 4) * scale(order.quantity, 4)
        cash_leg, asset_leg = (OUR_USDT, VENUE_USDT), (VENUE_XBT, OUR_XBT)  # (debit, credit) of a purchase
        if order.side == "sell":
            cash_leg, asset_leg = cash_leg[::-1], asset_leg[::-1]
        legs = [
            _transfer(self.next_id, cash_leg, cash, USDT, LEG, TransferFlags.LINKED),
            _transfer(self.next_id + 1, asset_leg, scale(order.quantity, 4), XBT, LEG),
        ]
        self.next_id += 2  # chosen before sending: the same batch may be sent again after a time-out
        statuses = [status for _, status in self.client.ledger.create_transfers(legs)]
        status = next(status for status in statuses if status is not CreateTransferStatus.LINKED_EVENT_FAILED)
        if status is CreateTransferStatus.CREATED:
            self.holding = order.side == "buy"
        return status.name


@contextmanager
def venue(directory: Path) -> Iterator[dompbus.Node]:
    """A node that keeps the ledger and checks orders."""
    node = dompbus.Node(name="venue", listen="tcp://127.0.0.1:0")
    host_ledger(node, directory)

    @node.service("risk.check")
    def check(order: Order) -> Verdict:
        return Verdict(True) if scale(order.price, 4) < scale("100.5", 4) else Verdict(False, "PRICE_OUT_OF_BAND")

    with node:
        yield node


def open_books(ledger: LedgerClient) -> None:
    """Accounts, and 1 USDT of capital for the strategy."""
    bound = AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS
    ledger.create_accounts(
        [
            Account(id=VENUE_USDT, ledger=USDT, code=1),
            Account(id=VENUE_XBT, ledger=XBT, code=1),
            Account(id=OUR_USDT, ledger=USDT, code=2, flags=bound),
            Account(id=OUR_XBT, ledger=XBT, code=2, flags=bound),
        ]
    )
    ledger.create_transfers([_transfer(10**12, (VENUE_USDT, OUR_USDT), scale("1", DECIMALS[USDT]), USDT, CAPITAL)])


def publish_market(node: dompbus.Node, count: int) -> None:
    """A random walk that begins at 100."""
    random, price = Random(3), 1_000_000
    for _ in range(count):
        price += random.randint(-1_000, 1_000)
        node.publish(TOPIC, Trade(str(unscale(price, 4))))


def trade_a_day(node: dompbus.Node, client: dompbus.Client, count: int) -> Strategy:
    """Let the strategy hear `count` trades; half a second of silence ends the day."""
    strategy = Strategy(client)
    with client.subscribe("md.venue.*", type=Trade) as trades, suppress(dompbus.Timeout):
        threading.Thread(target=publish_market, args=(node, count)).start()
        while True:
            trade = trades.receive(timeout=0.5)
            if isinstance(trade, dompbus.Gap):
                strategy.prices.clear()  # what the average stood on is no longer known
            else:
                strategy.on_trade(trade)
    return strategy


def _transfer(id: int, sides: tuple[int, int], amount: int, ledger: int, code: int, flags: int = 0) -> Transfer:
    debit, credit = sides
    return Transfer(
        id=id, debit_account_id=debit, credit_account_id=credit, amount=amount, ledger=ledger, code=code, flags=flags
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A strategy on the bus, its trades in the ledger.")
    parser.add_argument("--trades", type=int, default=2_000)
    count = parser.parse_args().trades
    with (
        tempfile.TemporaryDirectory() as directory,
        venue(Path(directory)) as node,
        dompbus.Client(node.endpoint, name="strategy") as client,
    ):
        open_books(client.ledger)
        strategy = trade_a_day(node, client, count)
        for outcome, times in sorted(strategy.outcomes.items()):
            print(f"{times:6} x {outcome}")
        for account in client.ledger.lookup_accounts([OUR_USDT, OUR_XBT]):
            held = unscale(account.credits_posted - account.debits_posted, DECIMALS[account.ledger])
            print(f"{held:>14} {'USDT' if account.ledger == USDT else 'XBT'}")


if __name__ == "__main__":
    main()
