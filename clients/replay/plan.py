"""What one replay is asked to do: a plain value that crosses to the publishing and the settling process."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from dompbus.clients.replay.names import guess_market, symbol_name, topic_of, venue_name
from dompbus.clients.replay.settlement import Scales
from dompbus.clients.replay.trades import TradeFile
from dompbus.errors import ConfigError, EndpointError

__all__ = ["Plan", "make_plan"]

_RUN_MASK: Final = 2**63 - 1
_PORT_MAX: Final = 65_535
_REMOTE: Final = re.compile(r"tcp://[^\s/@]+:([0-9]{1,5})|ipc://.+", re.DOTALL)  # what another process can reach


class Plan(msgspec.Struct, frozen=True):
    """One replay. `symbol` is set when the user gave it; `default_symbol` stands for a file without that column."""

    url: str
    path: str
    venue: str
    default_symbol: str
    run: int
    symbol: str | None = None
    quote: str | None = None
    columns: dict[str, str] = {}
    speed: float | None = None  # times the recorded pace; None is as fast as it goes
    scales: Scales = Scales()
    window_trades: int = 4_096  # published and not yet settled
    give_up_after: float = 60.0  # seconds without the server

    def open_file(self, *, stamped: bool = False) -> TradeFile:
        """Open the trade file; `stamped` trades carry when they were read. Raises `TradeFileError`."""
        clock_ns: Callable[[], int] = time.time_ns if stamped else int
        return TradeFile(
            self.path,
            columns=self.columns,
            symbol=self.symbol,
            default_symbol=self.default_symbol,
            run=self.run,
            clock_ns=clock_ns,
        )

    def pattern(self, file: TradeFile) -> str:
        """The topic, or the pattern over all symbols, on which the trades of `file` travel."""
        return topic_of(self.venue, file.single_symbol or "*")


def make_plan(
    url: str,
    path: Path,
    *,
    venue: str | None = None,
    symbol: str | None = None,
    quote: str | None = None,
    **rest: object,
) -> Plan:
    """Complete what the user gave with what the file's name tells. Raises `ConfigError`, `EndpointError`."""
    _check_url(url)
    guessed_venue, guessed_symbol = guess_market(path)
    try:
        given = None if symbol is None else symbol_name(symbol)
        cash = None if quote is None else symbol_name(quote)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return Plan(
        url=url,
        path=str(path),
        venue=guessed_venue if venue is None else venue_name(venue),
        default_symbol=given or guessed_symbol,
        run=time.time_ns() & _RUN_MASK,
        symbol=given,
        quote=cash,
        **rest,  # type: ignore[arg-type]  # the remaining fields by their own names
    )


def _check_url(url: str) -> None:
    match = _REMOTE.fullmatch(url)
    if match is None or not 0 < int(match[1] or 1) <= _PORT_MAX:
        raise EndpointError(f"{url!r} is not where a node can be: use tcp://HOST:PORT or ipc://PATH")
