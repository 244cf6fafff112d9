"""A made-up market for the demo, for no recorded data comes with the product.

The law here: the same seed gives the same file, byte for byte. The price is a random walk on its tick grid, sizes
are mostly small and sometimes large, and six houses trade with each other.
"""

from pathlib import Path
from random import Random
from typing import Final

__all__ = ["MARKET_FILE_NAME", "write_market"]

MARKET_FILE_NAME: Final = "demo_xbtusdt_trades.csv"
_HOUSES: Final = ("alder", "birch", "cedar", "elm", "hazel", "rowan")
_START_NS: Final = 1_762_795_200 * 10**9  # 2025-11-10 17:20 UTC
_START_TICKS: Final = 1_054_336  # of 0.1
_LOWEST_TICKS: Final = 10_000
_GAP_NS_MEAN: Final = 40_000_000
_LARGE_ONE_IN: Final = 50


def write_market(path: Path, *, trades: int, seed: int = 1) -> Path:
    """Write `trades` trades of XBT/USDT as CSV, with buyer and seller, and give `path` back."""
    random = Random(seed)
    time_ns, ticks = _START_NS, _START_TICKS
    with path.open("w", encoding="ascii", newline="") as file:
        file.write("trade_id,time,price,volume,side,buyer,seller\n")
        for number in range(1, trades + 1):
            time_ns += int(random.expovariate(1 / _GAP_NS_MEAN)) + 1
            ticks = max(_LOWEST_TICKS, ticks + random.choice((-3, -2, -1, -1, 0, 0, 0, 1, 1, 2, 3)))
            units = int(random.expovariate(1 / (50_000_000 if random.randrange(_LARGE_ONE_IN) == 0 else 500_000))) + 1
            buyer, seller = random.sample(_HOUSES, 2)
            side = random.choice(("buy", "sell"))
            file.write(
                f"{number},{time_ns // 10**9}.{time_ns % 10**9:09d},{ticks // 10}.{ticks % 10},"
                f"{units // 10**8}.{units % 10**8:08d},{side},{buyer},{seller}\n"
            )
    return path
