"""Names of a market: venue, symbol, its two currencies, and the topic that its trades travel on.

The law here: the same file and options always give the same names, for account and transfer ids are made from them.
"""

import re
from pathlib import Path
from typing import Final

from dompbus.errors import ConfigError

__all__ = ["VENUE_UNKNOWN", "guess_market", "split_symbol", "symbol_name", "topic_of", "venue_name"]

VENUE_UNKNOWN: Final = "local"
_NAME_CHARACTERS_MAX: Final = 64
_SEPARATORS: Final = re.compile(r"[-_/: .]+")
_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_-]+")
# Longest first, so that BTCUSDT ends in USDT and not in a currency called T.
_QUOTES: Final = (
    "FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USDE",
    "USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "NZD", "TRY", "BRL", "KRW", "DAI", "BTC", "XBT", "ETH", "BNB",
)  # fmt: skip
_WORDS: Final = frozenset(("trades", "trade", "aggtrades", "ticks", "tick", "data", "history", "hist", "executions"))


def symbol_name(text: str) -> str:
    """Give a symbol as one topic level: upper case, without what the grammar does not allow ("XBT/USDT": XBTUSDT)."""
    name = _NOT_ALLOWED.sub("", text).upper()
    if not 0 < len(name) <= _NAME_CHARACTERS_MAX:
        raise ValueError(f"symbol {text[:60]!r} is not 1 to {_NAME_CHARACTERS_MAX} letters, digits, - and _")
    return name


def venue_name(text: str) -> str:
    """Give a venue as one topic level: lower case, without what the grammar does not allow."""
    name = _NOT_ALLOWED.sub("", text).lower()
    if not 0 < len(name) <= _NAME_CHARACTERS_MAX:
        raise ConfigError(f"--venue {text[:60]!r}: use 1 to {_NAME_CHARACTERS_MAX} letters, digits, - and _")
    return name


def guess_market(path: Path) -> tuple[str, str]:
    """Guess (venue, symbol) from a file name such as `kraken_xbtusdt_trades.csv` or `BTCUSDT-trades-2025-11-10.csv`."""
    stem = path.name.split(".")[0]
    words = [_NOT_ALLOWED.sub("", word) for word in _SEPARATORS.split(stem)]
    words = [word for word in words if word and not word.isdigit() and word.lower() not in _WORDS]
    if len(words) >= 2:
        return venue_name(words[0][:_NAME_CHARACTERS_MAX]), symbol_name(words[1][:_NAME_CHARACTERS_MAX])
    return VENUE_UNKNOWN, symbol_name(words[0][:_NAME_CHARACTERS_MAX]) if words else "UNKNOWN"


def split_symbol(symbol: str, *, quote: str | None = None) -> tuple[str, str]:
    """Give (asset, cash currency) of a symbol: XBTUSDT is (XBT, USDT), ETH-EUR is (ETH, EUR), AAPL is (AAPL, CASH).

    `quote` names the cash currency where the symbol does not end in a known one.
    """
    parts = [part for part in _SEPARATORS.split(symbol) if part]
    if quote is None and len(parts) == 2:
        return parts[0], parts[1]
    whole = "".join(parts)
    for cash in (quote,) if quote is not None else _QUOTES:
        if whole.endswith(cash) and len(whole) > len(cash):
            return whole[: -len(cash)], cash
    return whole, quote or "CASH"


def topic_of(venue: str, symbol: str) -> str:
    """Give the topic of a market's trades."""
    return f"md.{venue}.{symbol}"
