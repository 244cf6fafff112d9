"""Which column of a trade file holds what: guessed from the names that exchanges use, or told by the user.

The law here: a guess is made once, from the header or the first record, and every role that the replay needs has a
column or the file is refused with the names that were looked for and those that are there.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from dompbus.errors import ConfigError

__all__ = ["ROLES", "MissingColumn", "find_columns", "parse_columns"]

# Names are compared in lower case with `_` for blanks and dashes. Single letters, which exchanges use in their
# streams, are compared as they are: `T` is Binance's trade time and `t` its trade id.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "id": ("trade_id", "id", "tid", "agg_trade_id", "tradeid", "aggtradeid", "exec_id", "execid", "match_id", "a", "i"),
    "time": ("time", "timestamp", "ts", "datetime", "date", "trade_time", "transact_time", "exec_time", "T", "t"),
    "price": ("price", "p", "px", "rate", "trade_price"),
    "quantity": ("quantity", "volume", "qty", "size", "amount", "q", "v", "base_volume", "trade_quantity"),
    "side": ("side", "taker_side", "aggressor_side", "S"),
    "buyer_maker": ("is_buyer_maker", "buyer_maker", "isbuyermaker", "m"),
    "symbol": ("symbol", "pair", "instrument", "market", "product_id", "instrument_id", "s"),
    "buyer": ("buyer", "buyer_id", "buyer_account"),
    "seller": ("seller", "seller_id", "seller_account"),
}
ROLES: Final = tuple(_NAMES)
_NEEDED: Final = ("id", "time", "price", "quantity")


class MissingColumn(Exception):
    """A role has no column in the file, or more than one. The text says what was looked for and what there is."""


def parse_columns(text: str | None) -> dict[str, str]:
    """Read `id=trade_id,price=p` into role -> column name. Raises `ConfigError` for a role that does not exist."""
    columns: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        role, _, name = (piece.strip() for piece in part.partition("="))
        if role not in _NAMES or not name:
            raise ConfigError(f"--columns {part.strip()!r}: write ROLE=NAME with one of the roles {', '.join(ROLES)}")
        columns[role] = name
    return columns


def find_columns(there: Sequence[str], told: Mapping[str, str]) -> dict[str, str]:
    """Give role -> name as it is written in the file, for every role that has a column among `there`.

    `told` wins over guessing. Raises `MissingColumn`.
    """
    found = {role: name for role in ROLES if (name := _find(role, there, told)) is not None}
    for role in _NEEDED:
        if role not in found:
            raise MissingColumn(_missing(role, there))
    if not ("side" in found or "buyer_maker" in found or {"buyer", "seller"} <= found.keys()):
        raise MissingColumn(_missing("side", there))
    return found


def _find(role: str, there: Sequence[str], told: Mapping[str, str]) -> str | None:
    if role in told:
        if told[role] not in there:
            raise MissingColumn(f"no column {told[role]!r} for the {role}; the file has: {_listed(there)}")
        return _only(role, [name for name in there if name == told[role]])
    taken = set(told.values())
    plain: dict[str, list[str]] = {}
    for name in there:
        if name not in taken:
            plain.setdefault(_plain(name), []).append(name)
    return next((_only(role, plain[alias]) for alias in _NAMES[role] if alias in plain), None)


def _only(role: str, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    way = f"name one with --columns {role}=NAME" if len(set(names)) == len(names) else "rename or remove one"
    raise MissingColumn(f"ambiguous: {len(names)} columns for the {role}: {_listed(names)}; {way}")


def _plain(name: str) -> str:
    return name if len(name) == 1 else name.lower().replace(" ", "_").replace("-", "_")


def _missing(role: str, there: Sequence[str]) -> str:
    looked = ", ".join(_NAMES[role])
    return (
        f"missing column: no {role} (looked for {looked}); the file has: {_listed(there)}. "
        f"Name it with --columns {role}=NAME"
    )


def _listed(there: Sequence[str]) -> str:
    shown = ", ".join(name[:40] if name.isprintable() else repr(name[:40]) for name in there[:20])
    return shown + (", ..." if len(there) > 20 else "") if there else "nothing"
