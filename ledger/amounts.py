"""Exact conversion between decimals as people write them and the whole numbers that the ledger keeps.

The law here: no float anywhere, and nothing is rounded. What does not fit exactly (too many decimals, NaN, infinity,
negative, beyond 128 bits) is refused with `InvalidAmount`, which names the value and the reason.
"""

from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from typing import Final

from dompbus.errors import InvalidAmount
from dompbus.ledger.types import U128_MAX

__all__ = ["DECIMALS_MAX", "scale", "unscale"]

DECIMALS_MAX: Final = 38  # 10^38 is the last power of ten below 2^128
_DIGITS_MAX: Final = 39  # digits of 2^128-1
_TEXT_MAX: Final = 200  # no amount needs more; bounds the work that one field of a file can cause
_EXACT: Final = Context(prec=2 * _DIGITS_MAX, traps=[Inexact, InvalidOperation])


def scale(value: str | Decimal | int, decimals: int) -> int:
    """`value` times 10^decimals, exactly: `scale("1.25", 2)` is 125. Trailing zeros beyond `decimals` are no harm."""
    _check_decimals(decimals)
    number = _as_decimal(value)
    if not number.is_finite():
        raise InvalidAmount(f"{value!r} is not a finite number")
    if number.is_signed() and number:
        raise InvalidAmount(f"{value!r} is negative; an amount is not, its direction is in the accounts")
    if not number:
        return 0
    if number.adjusted() + decimals >= _DIGITS_MAX:
        raise InvalidAmount(f"{value!r} with {decimals} decimals does not fit into 128 bits")
    return _whole(number, value, decimals)


def unscale(amount: int, decimals: int) -> Decimal:
    """`amount` divided by 10^decimals, exactly, with just that many decimals: `unscale(125, 2)` is Decimal("1.25")."""
    _check_decimals(decimals)
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise InvalidAmount(f"expected an int, got {amount!r} ({type(amount).__name__})")
    sign = 1 if amount < 0 else 0  # a balance, debits less credits, may be negative
    return Decimal((sign, tuple(map(int, str(abs(amount)))), -decimals))


def _check_decimals(decimals: int) -> None:
    if not 0 <= decimals <= DECIMALS_MAX:
        raise InvalidAmount(f"decimals is {decimals}, allowed is 0 .. {DECIMALS_MAX}")


def _as_decimal(value: str | Decimal | int) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _TEXT_MAX or not text.isascii() or "_" in text:  # Decimal would read 1_000 and other digits
            raise InvalidAmount(f"{value[:40]!r} is not a decimal number")
        try:
            return Decimal(text)
        except InvalidOperation:
            raise InvalidAmount(f"{value!r} is not a decimal number") from None
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    raise InvalidAmount(f"expected text, Decimal or int, got {value!r} ({type(value).__name__}); a float is not exact")


def _whole(number: Decimal, value: object, decimals: int) -> int:
    """The scaled number, when it is whole and fits."""
    if number.adjusted() + decimals < 0:  # below one unit; a huge negative exponent is caught here too
        raise InvalidAmount(f"{value!r} has more than {decimals} decimals")
    try:
        scaled = _EXACT.scaleb(number, decimals).to_integral_exact(context=_EXACT)
    except DecimalException:
        raise InvalidAmount(f"{value!r} has more than {decimals} decimals") from None
    amount = int(scaled)
    if amount > U128_MAX:
        raise InvalidAmount(f"{value!r} with {decimals} decimals does not fit into 128 bits")
    return amount
