"""Goal: the report shows amounts in full, says NO when a single unit differs, and the exit code follows."""

import json
from decimal import Decimal

import msgspec
import pytest

from dompbus.clients.replay.check import AccountLine, Trial
from dompbus.clients.replay.command import _print
from dompbus.clients.replay.report import Report

UNIT = Decimal("0.00000000000000000001")
HELD = Decimal("123456789012345678.12345678901234567890")  # 38 digits: more than decimal's default context keeps
LINE = AccountLine(
    participant="ann", currency="USDT", ledger=7, id=str(2**127 + 1), debits=UNIT, credits=HELD, before=Decimal(0),
    expected_debits=UNIT, expected_credits=HELD,
)  # fmt: skip
REPORT = Report(
    file="/somewhere/kraken_xbtusdt_trades.csv", topic="md.kraken.XBTUSDT", trades=1000, booked_now=990,
    booked_before=10, messages=1005, rewinds=1, seconds=0.5, latency_ms={"p50": 1.5, "max": 3.25},
    trial=[Trial("USDT", 7, HELD, HELD)], accounts=[LINE], decimals=20,
)  # fmt: skip


def test_books_agree(capsys: pytest.CaptureFixture[str]) -> None:
    """Every digit is there, in text and in JSON."""
    assert _print(REPORT, as_json=False) == 0
    text = capsys.readouterr().out
    assert "1,000 settled in 0.50 s: 990 booked now, 10 were booked before" in text
    assert "2,000 trades/s   2,010 messages/s   4,000 transfers/s" in text
    assert "ann          123456789012345678.12345678901234567889" in text
    assert text.endswith("books equal an independent recomputation: yes\n")
    assert _print(REPORT, as_json=True) == 0
    (account,) = json.loads(capsys.readouterr().out)["accounts"]
    assert (account["id"], account["balance"]) == (str(2**127 + 1), "123456789012345678.12345678901234567889")


@pytest.mark.parametrize("field", ["debits", "credits"])
def test_one_unit_differs(capsys: pytest.CaptureFixture[str], field: str) -> None:
    """The account is shown with what it should hold."""
    wrong = msgspec.structs.replace(LINE, **{f"expected_{field}": getattr(LINE, field) + 20 * UNIT})
    assert _print(msgspec.structs.replace(REPORT, accounts=[LINE, wrong]), as_json=False) == 1
    text = capsys.readouterr().out
    assert "should be debits" in text
    assert text.endswith("books equal an independent recomputation: NO\n")


def test_ledger_that_does_not_balance(capsys: pytest.CaptureFixture[str]) -> None:
    """Debits that are not credits are a NO as well."""
    off = msgspec.structs.replace(REPORT, trial=[Trial("USDT", 7, HELD, UNIT)])
    assert _print(off, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["books_equal_recomputation"] is False
