"""The closing report of a replay, for people and as JSON.

The law here: amounts are exact decimals and are shown in full; rates are over the time from the first trade's
arrival at the settlement to the last durable booking.
"""

from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, localcontext
from pathlib import Path
from typing import Any, Final

import msgspec

from dompbus.clients.replay.check import AccountLine, Trial, compare, read_accounts, trial_balance
from dompbus.clients.replay.plan import Plan
from dompbus.clients.replay.recompute import recompute
from dompbus.clients.replay.runner import Outcome

__all__ = ["Report", "make_report"]

_EXACT: Final = Context(prec=400, traps=[Inexact])
_PERCENTILES: Final = (50, 90, 99)
_ACCOUNTS_SHOWN_MAX: Final = 24


class Report(msgspec.Struct, frozen=True):
    """What a finished replay did. Latencies in ms, from the reading of a trade to its durable booking."""

    file: str
    topic: str
    trades: int
    booked_now: int
    booked_before: int
    messages: int
    rewinds: int
    seconds: float
    latency_ms: dict[str, float]
    trial: list[Trial]
    accounts: list[AccountLine]
    decimals: int

    @property
    def books_equal(self) -> bool:
        """The check: every account agrees with the recomputation, and every ledger balances."""
        return all(line.agrees for line in self.accounts) and all(trial.balanced for trial in self.trial)

    @property
    def rates(self) -> dict[str, float]:
        """Trades, messages and transfers per second."""
        counts = {"trades": self.trades, "messages": self.messages, "transfers": 2 * self.trades}
        return {name: round(count / self.seconds, 1) if self.seconds > 0 else 0.0 for name, count in counts.items()}

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON document; amounts and ids are strings, because most readers would round them."""
        return {
            "file": self.file,
            "topic": self.topic,
            "trades": self.trades,
            "booked_now": self.booked_now,
            "booked_before": self.booked_before,
            "messages": self.messages,
            "rewinds": self.rewinds,
            "seconds": round(self.seconds, 6),
            "per_second": self.rates,
            "latency_ms": self.latency_ms,
            "decimals": self.decimals,
            "trial_balance": [
                {
                    "currency": trial.currency,
                    "ledger": trial.ledger,
                    "debits": _plain(trial.debits),
                    "credits": _plain(trial.credits),
                    "balanced": trial.balanced,
                }
                for trial in self.trial
            ],
            "accounts": [_account_json(line) for line in self.accounts],
            "books_equal_recomputation": self.books_equal,
        }

    def as_text(self) -> str:
        """The report as lines for a terminal."""
        rates = self.rates
        latency = "  ".join(f"{name} {value:,.2f} ms" for name, value in self.latency_ms.items())
        again = f", {self.rewinds} times asked for again" if self.rewinds else ""
        lines = [
            f"{_shown(Path(self.file).name)} over {self.topic}",
            f"  trades     {self.trades:,} settled in {self.seconds:,.2f} s: {self.booked_now:,} booked now, "
            f"{self.booked_before:,} were booked before",
            f"  messages   {self.messages:,} published{again}",
            "  rates      " + "   ".join(f"{rate:,.0f} {name}/s" for name, rate in rates.items()),
            f"  latency    {latency}   (from the file to durably booked)",
            "  trial balance",
            *_table([(t.currency, _plain(t.debits), _plain(t.credits), _word(t.balanced)) for t in self.trial], _TRIAL),
            "  accounts",
            *self._account_lines(),
            *self._carried_lines(),
            f"books equal an independent recomputation: {'yes' if self.books_equal else 'NO'}",
        ]
        return "\n".join(lines)

    def _account_lines(self) -> list[str]:
        wrong = [line for line in self.accounts if not line.agrees]
        shown = (wrong or self.accounts)[:_ACCOUNTS_SHOWN_MAX]
        rows = [
            (
                line.currency,
                line.participant,
                _plain(_balance(line)),
                "" if line.agrees else f"should be {_should(line)}",
            )
            for line in shown
        ]
        hidden = len(self.accounts) - len(shown)
        return [*_table(rows, _ACCOUNTS), *([f"    ... and {hidden:,} more, see --json"] if hidden else [])]

    def _carried_lines(self) -> list[str]:
        """Say what the accounts hold from trades that are not in this file."""
        carried = [line for line in self.accounts if line.before]
        if not carried:
            return []
        sums = ", ".join(f"{line.participant} {_plain(line.before)} {line.currency}" for line in carried[:4])
        return [f"  of this, carried over from trades that are not in this file: {sums}"]


_TRIAL: Final = ("ledger", "debits", "credits", "")
_ACCOUNTS: Final = ("ledger", "participant", "holds", "")


def make_report(plan: Plan, outcome: Outcome, ledger: Any) -> Report:
    """Read the accounts from `ledger` (a client's), recompute them from the file, and set both side by side."""
    file = plan.open_file()
    settled = outcome.settled
    books = recompute(file, default_symbol=plan.default_symbol, quote=plan.quote)
    accounts = read_accounts(ledger, list(settled.holdings))
    with localcontext(_EXACT):
        lines = compare(accounts, settled, books, plan.scales.decimals)
        trial = trial_balance(lines)
    latencies = settled.latencies
    latency_ms = {f"p{percent}": round(latencies.percentile_ns(percent) / 1e6, 3) for percent in _PERCENTILES}
    return Report(
        file=plan.path,
        topic=plan.pattern(file),
        trades=settled.trades,
        booked_now=settled.booked,
        booked_before=settled.trades - settled.booked,
        messages=outcome.messages,
        rewinds=outcome.rewinds,
        seconds=settled.seconds,
        latency_ms={**latency_ms, "max": round(latencies.max_ns / 1e6, 3)},
        trial=trial,
        accounts=lines,
        decimals=plan.scales.decimals,
    )


def _account_json(line: AccountLine) -> dict[str, Any]:
    return {
        "participant": line.participant,
        "currency": line.currency,
        "ledger": line.ledger,
        "id": line.id,
        "debits": _plain(line.debits),
        "credits": _plain(line.credits),
        "balance": _plain(_balance(line)),
        "carried_over": _plain(line.before),
        "expected_debits": _plain(line.expected_debits),
        "expected_credits": _plain(line.expected_credits),
        "agrees": line.agrees,
    }


def _balance(line: AccountLine) -> Decimal:
    return _EXACT.subtract(line.credits, line.debits)


def _should(line: AccountLine) -> str:
    return (
        f"debits {_plain(line.expected_debits)} credits {_plain(line.expected_credits)}, "
        f"is debits {_plain(line.debits)} credits {_plain(line.credits)}"
    )


def _plain(value: Decimal) -> str:
    """A decimal in full, without trailing zeros and without an exponent."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("", "-0") else text


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _word(balanced: bool) -> str:
    return "balanced" if balanced else "NOT BALANCED"


def _table(rows: Sequence[tuple[str, ...]], columns: tuple[str, ...]) -> list[str]:
    """Aligned lines; amounts to the right, so that their ends can be compared."""
    table = [columns, *rows]
    widths = [max(len(row[place]) for row in table) for place in range(len(columns))]
    amounts = [name in ("debits", "credits", "holds") for name in columns]
    return [
        "    "
        + "  ".join(
            cell.rjust(width) if amount else cell.ljust(width)
            for cell, width, amount in zip(row, widths, amounts, strict=True)
        ).rstrip()
        for row in table
    ]
