"""The message of a replay: one trade, as it travels on `md.<venue>.<symbol>`.

The law here: price and quantity stay text from the file to the ledger, so that nothing is ever rounded. The market's
own fields come first; behind them stand those that let a settlement consumer see what it missed and how long it took.
"""

from dompbus.wire.message import Message

__all__ = ["MAKER", "TAKER", "Trade"]

TAKER = "taker"  # the participants of a file that does not say who traded
MAKER = "maker"


class Trade(Message, tag="trade"):
    """One execution. `side` is the taker's ("buy" or "sell", "" when the file names buyer and seller instead).

    `number` counts the trades of one replay from 1 without holes, `line` is where the trade stands in the file, and
    `run` tells one replay from another that speaks on the same topic. `read_ns` is when the publisher took the trade
    from the file, in ns since 1970: where the latency of a replay begins.
    """

    symbol: str
    trade_id: str
    time_ns: int  # since 1970, UTC
    price: str
    quantity: str
    side: str
    buyer: str
    seller: str
    number: int = 0
    line: int = 0
    run: int = 0
    read_ns: int = 0
