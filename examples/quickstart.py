"""dompbus in one process: publish and subscribe, ask a service, book money. Run it: python examples/quickstart.py"""

import tempfile
from pathlib import Path

import dompbus
from dompbus.ledger import Account, CreateTransferStatus, Transfer, scale, unscale
from dompbus.ledger.service import host_ledger

CENTS = 2  # decimals of the ledger's unit
EURO = 978  # the ledger's number; any will do
BANK, ANN = 1, 2


class Trade(dompbus.Message, tag="trade"):
    symbol: str
    price: str
    quantity: str


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        node = dompbus.Node(name="quickstart", listen="tcp://127.0.0.1:0")
        host_ledger(node, Path(directory))

        @node.service("quote")
        def quote(symbol: str) -> str:
            return {"XBTUSDT": "64123.9"}.get(symbol, "unknown")

        with node, dompbus.Client(node.endpoint) as client:
            # Publish and subscribe: in order, once, and a Gap where something was lost for good.
            trades = client.subscribe("md.kraken.*", type=Trade)
            node.publish("md.kraken.XBTUSDT", Trade("XBTUSDT", "64123.9", "0.25"))
            print("received:", trades.receive(timeout=1.0))

            # Ask a service: with a deadline that travels along.
            print("answered:", client.request("quote", "XBTUSDT", type=str, timeout=1.0))

            # Book money: durable when the answer is here, and safe to repeat.
            client.ledger.create_accounts([Account(id=id, ledger=EURO, code=1) for id in (BANK, ANN)])
            pay = Transfer(
                id=1, debit_account_id=BANK, credit_account_id=ANN, amount=scale("12.50", CENTS), ledger=EURO, code=1
            )
            ((_, first),) = client.ledger.create_transfers([pay])
            ((_, again),) = client.ledger.create_transfers([pay])
            assert (first, again) == (CreateTransferStatus.CREATED, CreateTransferStatus.EXISTS)
            (ann,) = client.ledger.lookup_accounts([ANN])
            print("booked:  ", unscale(ann.credits_posted, CENTS), "EUR, once, though it was sent twice")


if __name__ == "__main__":
    main()
