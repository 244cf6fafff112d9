"""The values of a trade, from the text of one field each, exactly.

The law here: a price or a quantity is positive, finite, plain decimal text and is never turned into a float; a time
is integer nanoseconds. What does not fit raises `ValueError` with the reason as its text.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from dompbus.limits import TIME_NS_MAX

__all__ = ["read_maker", "read_name", "read_number", "read_side", "read_time_ns"]

_PLAIN: Final = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,40})?", re.ASCII)
_ZERO: Final = re.compile(r"[0.]*")
_EXPONENT_MAX: Final = 40  # 128 bits hold 38 digits
_NAME_CHARACTERS_MAX: Final = 128
_ISO: Final = re.compile(r"(\d{4}-?\d\d-?\d\d[T ]\d\d:?\d\d(?::?\d\d)?)(?:[.,](\d{1,9}))?\s?(Z|UTC|[+-]\d\d:?\d\d)?")
_UNIX: Final = re.compile(r"(\d{1,19})(?:\.(\d{1,18}))?", re.ASCII)
# Integer parts below these are seconds, milliseconds and microseconds (until the year 5138); above them nanoseconds.
_UNITS: Final = ((10**11, 9), (10**14, 6), (10**17, 3))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SIDES: Final = {"buy": "buy", "b": "buy", "bid": "buy", "sell": "sell", "s": "sell", "ask": "sell"}
_TRUTH: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def read_number(text: str, what: str) -> str:
    """Give `text` as plain decimal text ("1e-7" becomes "0.0000001"); `what` names it in the error."""
    text = text.strip()
    if _PLAIN.fullmatch(text) is None:
        text = _read_other_number(text, what)
    if _ZERO.fullmatch(text) is not None:
        raise ValueError(f"{what} is zero")
    return text


def read_time_ns(text: str) -> int:
    """Give nanoseconds since 1970 from unix time in s, ms, us or ns (told by its magnitude) or from ISO 8601."""
    text = text.strip()
    if (unix := _UNIX.fullmatch(text)) is not None:
        time_ns = _unix_ns(int(unix[1]), unix[2] or "")
    elif (iso := _ISO.fullmatch(text)) is not None:
        time_ns = _iso_ns(iso[1], iso[2] or "", iso[3] or "Z")
    else:
        raise ValueError(f"time {_shown(text)} is neither unix time nor ISO 8601")
    if not 0 < time_ns <= TIME_NS_MAX:
        raise ValueError(f"time {_shown(text)} is outside 1970..2262")
    return time_ns


def read_side(text: str) -> str:
    """Give "buy" or "sell", the taker's side."""
    try:
        return _SIDES[text.strip().lower()]
    except KeyError:
        raise ValueError(f"side {_shown(text)} is neither buy nor sell") from None


def read_maker(text: str) -> str:
    """Give the taker's side from "is the buyer the maker?": a buyer who makes leaves the taker to sell."""
    try:
        return "sell" if _TRUTH[text.strip().lower()] else "buy"
    except KeyError:
        raise ValueError(f"buyer_maker {_shown(text)} is neither true nor false") from None


def read_name(text: str, what: str) -> str:
    """Give an id or a participant's name: printable, not empty, bounded."""
    text = text.strip()
    if not text:
        raise ValueError(f"{what} is empty")
    if len(text) > _NAME_CHARACTERS_MAX or not text.isprintable():
        raise ValueError(f"{what} {_shown(text)} is not up to {_NAME_CHARACTERS_MAX} printable characters")
    return text


def _read_other_number(text: str, what: str) -> str:
    if not text:
        raise ValueError(f"{what} is empty")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{what} {_shown(text)} is not a number") from None
    if "_" in text or not text.isascii() or not value.is_finite():
        raise ValueError(f"{what} {_shown(text)} is not a number")
    if value < 0:
        raise ValueError(f"{what} {_shown(text)} is negative")
    if (value and not -_EXPONENT_MAX <= value.adjusted() <= _EXPONENT_MAX) or len(text) > 2 * _EXPONENT_MAX:
        raise ValueError(f"{what} {_shown(text)} does not fit 128 bits")
    return format(value, "f") if value else "0"


def _unix_ns(whole: int, fraction: str) -> int:
    digits = next((digits for bound, digits in _UNITS if whole < bound), 0)
    scaled: int = whole * 10**digits  # mypy: an int power may be a float, but digits is not negative
    return scaled + int(fraction[:digits].ljust(digits, "0") or "0")


def _iso_ns(moment: str, fraction: str, zone: str) -> int:
    try:
        parsed = datetime.fromisoformat(moment + ("+00:00" if zone in ("Z", "UTC") else zone))
    except ValueError:
        raise ValueError(f"time {_shown(moment)} does not exist") from None
    return (parsed - _EPOCH) // timedelta(seconds=1) * 10**9 + int(fraction.ljust(9, "0"))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
