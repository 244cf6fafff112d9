"""Decimals to whole numbers and back, exactly or not at all."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dompbus.errors import InvalidAmount
from dompbus.ledger import scale, unscale

MAX = 2**128 - 1


@pytest.mark.parametrize(
    ("value", "decimals", "scaled"),
    [
        ("1.25", 2, 125),
        (" 1.2500000 ", 2, 125),
        ("1e3", 0, 1000),
        ("1E-7", 8, 10),
        ("-0", 2, 0),
        ("0e-9999999", 2, 0),
        (Decimal("0.1"), 1, 1),
        (5, 3, 5000),
        (str(MAX), 0, MAX),
        ("3.40282366920938463463374607431768211455", 38, MAX),
        ("0.1" + "0" * 150, 3, 100),
        (Decimal("1" + "0" * 100 + "e-100"), 2, 100),
    ],
)
def test_scale(value, decimals, scaled):
    """Exact, whatever the notation; trailing zeros are no decimals."""
    assert scale(value, decimals) == scaled


@pytest.mark.parametrize(
    ("value", "decimals", "words"),
    [
        ("1.255", 2, "more than 2 decimals"),
        ("1." + "0" * 150 + "1", 3, "more than 3 decimals"),
        ("1e-999999999999", 2, "more than 2 decimals"),
        (str(MAX + 1), 0, "128 bits"),
        ("1e999999999999", 2, "128 bits"),
        (10**30, 12, "128 bits"),
        ("-1", 2, "negative"),
        ("nan", 2, "finite"),
        ("-sNaN", 2, "finite"),
        ("Infinity", 2, "finite"),
        ("", 2, "not a decimal"),
        ("1,5", 2, "not a decimal"),
        ("1_000", 2, "not a decimal"),
        ("\u0661", 2, "not a decimal"),
        ("9" * 300, 2, "not a decimal"),
        (1.5, 2, "a float is not exact"),
        (True, 2, "bool"),
        (None, 2, "NoneType"),
        ("1", -1, "decimals is -1"),
        ("1", 39, "decimals is 39"),
    ],
)
def test_refused(value, decimals, words):
    """What does not fit exactly is refused, with the value and the reason."""
    with pytest.raises(InvalidAmount, match=words):
        scale(value, decimals)


@given(st.integers(0, MAX), st.integers(0, 38))
def test_round_trip(amount, decimals):
    """Every amount comes back, with just so many decimals."""
    number = unscale(amount, decimals)
    assert scale(number, decimals) == scale(str(number), decimals) == amount
    assert -number.as_tuple().exponent == decimals


def test_unscale():
    """A balance may be negative; a bool or float is no amount."""
    assert str(unscale(-5, 2)) == "-0.05"
    for value in (True, 1.5):
        with pytest.raises(InvalidAmount):
            unscale(value, 2)
