"""Goal: names of markets are guessed as a person would, and always fit a topic."""

from pathlib import Path

import pytest

from dompbus.clients.replay.names import guess_market, split_symbol, symbol_name, topic_of, venue_name
from dompbus.errors import ConfigError
from dompbus.topics import check_topic


@pytest.mark.parametrize(
    ("name", "market"),
    [
        ("kraken_xbtusdt_trades.csv", ("kraken", "XBTUSDT")),
        ("BTCUSDT-trades-2025-11-10.csv", ("local", "BTCUSDT")),
        ("Binance.ETHEUR.aggTrades.jsonl", ("local", "BINANCE")),
        ("coinbase-BTC.csv", ("coinbase", "BTC")),
        ("trades.csv", ("local", "UNKNOWN")),
        ("2025-11-10.csv", ("local", "UNKNOWN")),
        ("§$%.csv", ("local", "UNKNOWN")),
    ],
)
def test_guess(name: str, market: tuple[str, str]) -> None:
    """File names as exchanges and people write them."""
    assert guess_market(Path("/somewhere") / name) == market
    check_topic(topic_of(*market))


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("XBTUSDT", ("XBT", "USDT")),
        ("BTCUSD", ("BTC", "USD")),
        ("ETHBTC", ("ETH", "BTC")),
        ("ETH-EUR", ("ETH", "EUR")),
        ("EUR_USD", ("EUR", "USD")),
        ("AAPL", ("AAPL", "CASH")),
        ("USDT", ("USDT", "CASH")),
    ],
)
def test_split(symbol: str, pair: tuple[str, str]) -> None:
    """The asset and what it is paid with."""
    assert split_symbol(symbol) == pair


def test_split_told() -> None:
    """A quote that the user names wins, whether the symbol ends in it or not."""
    assert split_symbol("BTCPLN", quote="PLN") == ("BTC", "PLN")
    assert split_symbol("AAPL", quote="USD") == ("AAPL", "USD")


def test_levels() -> None:
    """What the topic grammar does not allow is left out; nothing left is an error."""
    assert (symbol_name("xbt/usdt"), venue_name("My Venue!")) == ("XBTUSDT", "myvenue")
    with pytest.raises(ValueError, match="symbol '//'"):
        symbol_name("//")
    with pytest.raises(ConfigError, match="--venue"):
        venue_name("")
