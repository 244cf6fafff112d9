"""The public nouns: names, numbers, defaults, explanations, and an import that stays cheap."""

import subprocess
import sys

import pytest

import dompbus.ledger as ledger
from dompbus.ledger import AccountFlags, CreateAccountStatus, CreateTransferStatus, Transfer, TransferFlags


def test_public_names():
    """Everything in `__all__` is there, and nothing else is."""
    for name in ledger.__all__:
        assert getattr(ledger, name).__name__ == name if name != "U128_MAX" else ledger.U128_MAX == 2**128 - 1
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ledger.nonsense


@pytest.mark.parametrize("status", [*CreateAccountStatus, *CreateTransferStatus], ids=lambda s: s.name)
def test_explanations(status):
    """Every status says in one sentence what happened."""
    assert status.explain[0].isupper()
    assert status.explain.endswith(".")
    assert type(status)(int(status)) is status


def test_numbers():
    """The numbers are TigerBeetle's."""
    assert CreateTransferStatus.CREATED == CreateAccountStatus.CREATED == 2**32 - 1
    assert (CreateTransferStatus.EXISTS, CreateTransferStatus.EXCEEDS_CREDITS) == (46, 54)
    assert [int(flag) for flag in AccountFlags] == [1 << n for n in range(6)]
    assert [int(flag) for flag in TransferFlags] == [1 << n for n in range(9)]
    for kind in (CreateAccountStatus, CreateTransferStatus):
        assert len({int(status) for status in kind}) == len(kind)


def test_events_are_values():
    """Fields by keyword, zero by default, unchangeable, equal by value."""
    assert Transfer() == Transfer(id=0, amount=0)
    with pytest.raises(AttributeError):
        Transfer().amount = 1
    with pytest.raises(TypeError):
        Transfer(1)


def test_import_is_cheap():
    """The package brings msgspec and no machine, client, hash or network."""
    code = (
        "import sys, dompbus.ledger; heavy = {'zmq', 'asyncio', 'numpy', 'xxhash', 'dompbus.ledger.machine'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
