"""`dompbus ledger accounts|transfers|balance`: what a running node's ledger holds.

The law here: results are asked for in pages and printed as they come, so that a long history needs no memory; amounts
and ids are printed exactly. `balance` fails (exit code 1) when debits and credits of a ledger differ.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dompbus.clients.cli.output import print_json, print_json_line, print_table

if TYPE_CHECKING:
    from dompbus.clients.blocking import Client
    from dompbus.ledger.types import Account, Transfer

__all__ = ["app"]

URL_DEFAULT: Final = "tcp://127.0.0.1:7400"
PAGE: Final = 8_000  # records a request: about 1 MiB
_U128_MAX: Final = 2**128 - 1

app = typer.Typer(rich_markup_mode=None)

_Url = Annotated[str, typer.Option("--url", help="The node to ask.")]
_Timeout = Annotated[float, typer.Option("--timeout", min=0.001, max=3600, help="Seconds to wait for an answer.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
_Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", min=1, max=_U128_MAX, help="Only these.")]
_Ledger = Annotated[int, typer.Option("--ledger", min=0, max=2**32 - 1, help="Only this ledger (0: all).")]
_Code = Annotated[int, typer.Option("--code", min=0, max=2**16 - 1, help="Only this code (0: all).")]
_Limit = Annotated[int, typer.Option("--limit", min=0, help="At most so many (0: all).")]
_Newest = Annotated[bool, typer.Option("--newest", help="Newest first.")]

_ACCOUNT_COLUMNS: Final = (
    "id", "ledger", "code", "debits_posted", "credits_posted", "debits_pending", "credits_pending", "flags", "timestamp"
)  # fmt: skip
_TRANSFER_COLUMNS: Final = (
    "id", "debit_account_id", "credit_account_id", "amount", "ledger", "code", "pending_id", "flags", "timestamp"
)  # fmt: skip
_BALANCE_COLUMNS: Final = (
    "ledger", "accounts", "debits_posted", "credits_posted", "debits_pending", "credits_pending", "balanced"
)  # fmt: skip
_TEXT_IN_JSON: Final = frozenset((  # 128 bits
    "id", "debits_pending", "debits_posted", "credits_pending", "credits_posted", "user_data_128",
    "debit_account_id", "credit_account_id", "amount", "pending_id",
))  # fmt: skip


@app.command("accounts")
def accounts_command(
    ids: _Ids = None,
    ledger: _Ledger = 0,
    code: _Code = 0,
    limit: _Limit = 100,
    newest: _Newest = False,
    url: _Url = URL_DEFAULT,
    timeout: _Timeout = 5.0,
    as_json: _Json = False,
) -> None:
    """List accounts with their balances, oldest first."""
    from dompbus.ledger.types import QueryFilter

    with _connect(url, timeout) as client:
        if ids:
            pages: Iterable[Sequence[Account]] = [client.ledger.lookup_accounts(ids)]
        else:
            query = QueryFilter(ledger=ledger, code=code, flags=int(newest))
            pages = _pages(client.ledger.query_accounts, query, limit, newest=newest)
        _print(_ACCOUNT_COLUMNS, pages, as_json)


@app.command("transfers")
def transfers_command(
    ids: _Ids = None,
    account: Annotated[
        int, typer.Option("--account", min=0, max=_U128_MAX, help="Only those of this account, either side.")
    ] = 0,
    ledger: _Ledger = 0,
    code: _Code = 0,
    limit: _Limit = 100,
    newest: _Newest = False,
    url: _Url = URL_DEFAULT,
    timeout: _Timeout = 5.0,
    as_json: _Json = False,
) -> None:
    """List transfers, oldest first."""
    from dompbus.ledger.types import AccountFilter, QueryFilter

    if account and ledger:
        raise typer.BadParameter("--account and --ledger exclude each other: an account is in one ledger")
    with _connect(url, timeout) as client:
        if ids:
            pages: Iterable[Sequence[Transfer]] = [client.ledger.lookup_transfers(ids)]
        elif account:
            sides = AccountFilter(account_id=account, code=code, flags=3 | (newest << 2))
            pages = _pages(client.ledger.get_account_transfers, sides, limit, newest=newest)
        else:
            query = QueryFilter(ledger=ledger, code=code, flags=int(newest))
            pages = _pages(client.ledger.query_transfers, query, limit, newest=newest)
        _print(_TRANSFER_COLUMNS, pages, as_json)


@app.command("balance")
def balance_command(
    ledger: _Ledger = 0,
    url: _Url = URL_DEFAULT,
    timeout: _Timeout = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the trial balance of each ledger: do debits equal credits?"""
    from dompbus.ledger.types import QueryFilter

    totals: dict[int, list[int]] = {}
    with _connect(url, timeout) as client:
        for page in _pages(client.ledger.query_accounts, QueryFilter(ledger=ledger), 0, newest=False):
            _add_up(page, totals)
    rows = [(number, *sums, sums[1] == sums[2] and sums[3] == sums[4]) for number, sums in sorted(totals.items())]
    if as_json:
        print_json([{c: _for_json(c, v) for c, v in zip(_BALANCE_COLUMNS, row, strict=True)} for row in rows])
    else:
        print_table(_BALANCE_COLUMNS, rows)
    if not all(row[-1] for row in rows):
        typer.echo("dompbus: debits and credits differ; do not trust this ledger", err=True)
        raise typer.Exit(1)


def _connect(url: str, timeout: float) -> "Client":
    from dompbus.clients.blocking import Client

    return Client(url, name="dompbus-cli", timeout=timeout)


def _pages(ask: Callable[[Any], Sequence[Any]], query: Any, limit: int, *, newest: bool) -> Iterator[Sequence[Any]]:
    """Pages of `ask(query)` up to `limit` records (0: all), each continuing where the one before ended."""
    import msgspec

    left = limit or _U128_MAX
    while page := ask(msgspec.structs.replace(query, limit=min(left, PAGE))):
        yield page
        left -= len(page)
        edge = page[-1].timestamp
        if not left or (newest and edge == 1):
            return
        query = msgspec.structs.replace(
            query, **({"timestamp_max": edge - 1} if newest else {"timestamp_min": edge + 1})
        )


def _print(columns: Sequence[str], pages: Iterable[Sequence[Any]], as_json: bool) -> None:
    printed = False
    for page in pages:
        if as_json:
            for record in page:
                print_json_line({c: _for_json(c, getattr(record, c)) for c in record.__struct_fields__})
        else:
            print_table(columns, [[getattr(record, c) for c in columns] for record in page])
        printed = True
    if not printed and not as_json:
        print_table(columns, [])


def _for_json(column: str, value: Any) -> Any:
    return str(value) if column in _TEXT_IN_JSON else value


def _add_up(accounts: Iterable["Account"], totals: dict[int, list[int]]) -> None:
    for account in accounts:
        sums = totals.setdefault(account.ledger, [0, 0, 0, 0, 0])
        sums[0] += 1
        sums[1] += account.debits_posted
        sums[2] += account.credits_posted
        sums[3] += account.debits_pending
        sums[4] += account.credits_pending
