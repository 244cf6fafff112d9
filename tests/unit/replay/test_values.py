"""Goal: one field of text becomes one exact value, whatever notation an exchange uses."""

import pytest

from dompbus.clients.replay.values import read_maker, read_number, read_side, read_time_ns


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1762795433", 1762795433_000000000),
        ("1762795433.9717445", 1762795433_971744500),
        ("1762795433.1234567899", 1762795433_123456789),
        ("1762795433971", 1762795433_971000000),
        ("1762795433971.5", 1762795433_971500000),
        ("1762795433971744", 1762795433_971744000),
        ("1762795433971744512", 1762795433_971744512),
        ("2025-11-10T17:23:53.971744512Z", 1762795433_971744512),
        ("2025-11-10 17:23:53", 1762795433_000000000),
        ("2025-11-10 17:23:53.5 UTC", 1762795433_500000000),
        ("2025-11-10T18:23:53,25+01:00", 1762795433_250000000),
        ("20251110T172353Z", 1762795433_000000000),
    ],
)
def test_time(text: str, time_ns: int) -> None:
    """Seconds, milliseconds, microseconds, nanoseconds and ISO 8601 all mean the same moment."""
    assert read_time_ns(text) == time_ns


@pytest.mark.parametrize("text", ["0", "-5", "9223372036854775808", "1969-12-31T00:00:00Z", "", "nan"])
def test_time_refused(text: str) -> None:
    """Times before 1970 or beyond 63 bits are no times."""
    with pytest.raises(ValueError, match=r"^time "):
        read_time_ns(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("1.50", "1.50"), (" 7 ", "7"), ("1e-7", "0.0000001"), ("2.5E3", "2500"), ("+3", "3"), (".5", "0.5"), ("5.", "5")],
)
def test_number(text: str, plain: str) -> None:
    """Digits are kept as they are, other notations become plain decimals."""
    assert read_number(text, "price") == plain


def test_sides() -> None:
    """The buyer who makes leaves the taker to sell."""
    assert [read_side(text) for text in ("Buy", "b", "SELL", "ask")] == ["buy", "buy", "sell", "sell"]
    assert [read_maker(text) for text in ("true", "0", "False")] == ["sell", "buy", "buy"]
