"""The commands `dompbus replay` and `dompbus demo trading`: options in, report out.

The law here: no work is done in this module. Exit codes: 0 the books agree, 1 they do not or the replay failed, 2 a
mistake in the file or the options, 128 + n ended by signal n.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dompbus.errors import ConfigError

if TYPE_CHECKING:
    from dompbus.clients.replay.report import Report

__all__ = ["demo_command", "replay_command"]

_SPEED_MIN: Final = 1e-6  # a second of the market takes 12 days
_SPEED_MAX: Final = 1e6

_Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")]
_Speed = Annotated[str, typer.Option(help="Times the recorded pace, or max.")]


def replay_command(
    file: Annotated[Path, typer.Argument(help="Trades as CSV or JSON lines.", show_default=False)],
    to: Annotated[str, typer.Option(help="URL of a node with a ledger, as tcp://127.0.0.1:7400.", show_default=False)],
    speed: _Speed = "max",
    columns: Annotated[
        str | None, typer.Option(help="Name columns that are not guessed: id=NAME,price=NAME,... (numbers: no header).")
    ] = None,
    venue: Annotated[str | None, typer.Option(help="Venue; guessed from the file's name.")] = None,
    symbol: Annotated[
        str | None, typer.Option(help="Symbol; guessed. Selects, if the file has a column for it.")
    ] = None,
    quote: Annotated[str | None, typer.Option(help="Cash currency, where the symbol does not tell.")] = None,
    price_decimals: Annotated[int, typer.Option(help="Most decimals of a price.")] = 10,
    quantity_decimals: Annotated[int, typer.Option(help="Most decimals of a quantity.")] = 10,
    window: Annotated[int, typer.Option(min=1, max=1_000_000, help="Trades published and not yet settled.")] = 4_096,
    give_up_after: Annotated[float, typer.Option(min=0, help="Seconds to wait for a server that went away.")] = 60.0,
    as_json: _Json = False,
) -> int:
    """Publish a trade file on the bus, settle it in the ledger, and check the books.

    Each trade travels on md.VENUE.SYMBOL; a consumer of that topic books it as one chain of a cash leg and an asset
    leg. Ids come from the trades, so running it again, after a crash or not, books nothing twice.
    """
    from dompbus.clients.replay.columns import parse_columns
    from dompbus.clients.replay.plan import make_plan
    from dompbus.clients.replay.replay import replay
    from dompbus.clients.replay.settlement import Scales

    try:
        scales = Scales(price_decimals, quantity_decimals)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    plan = make_plan(
        to,
        file,
        venue=venue,
        symbol=symbol,
        quote=quote,
        columns=parse_columns(columns),
        speed=_parse_speed(speed),
        scales=scales,
        window_trades=window,
        give_up_after=give_up_after,
    )
    return _print(replay(plan), as_json)


def demo_command(
    file: Annotated[Path | None, typer.Argument(help="Trades to replay; without it, a market is made up.")] = None,
    trades: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many, when made up.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of the made-up market; the same seed gives the same market.")] = 1,
    speed: _Speed = "max",
    as_json: _Json = False,
) -> int:
    """Replay a market over the bus into a ledger, all on this machine, and check the books.

    Starts a server with a ledger in a temporary directory, a publishing and a settling process, and removes
    everything when done.
    """
    from dompbus.clients.replay.demo import run_demo

    return _print(run_demo(file, trades=trades, seed=seed, speed=_parse_speed(speed)), as_json)


def _parse_speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not _SPEED_MIN <= speed <= _SPEED_MAX:
        raise ConfigError(f"--speed {text!r}: give a number from {_SPEED_MIN:g} to {_SPEED_MAX:,.0f}, or max")
    return speed


def _print(report: "Report", as_json: bool) -> int:
    from dompbus.clients.cli.output import print_json, print_line

    if as_json:
        print_json(report.as_json())
    else:
        print_line(report.as_text())
    return 0 if report.books_equal else 1
