"""The ledger: a double-entry machine in the data model of TigerBeetle. This module only re-exports.

What needs more than msgspec (the machine, the clients) is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dompbus.ledger.statuses import CreateAccountStatus, CreateTransferStatus
from dompbus.ledger.types import (
    U128_MAX,
    Account,
    AccountBalance,
    AccountFilter,
    AccountFilterFlags,
    AccountFlags,
    ChangeEvent,
    ChangeEventType,
    QueryFilter,
    QueryFilterFlags,
    Transfer,
    TransferFlags,
)

if TYPE_CHECKING:
    from dompbus.ledger.amounts import scale, unscale
    from dompbus.ledger.client import AsyncLedgerClient, LedgerClient
    from dompbus.ledger.machine import Ledger

__all__ = [
    "U128_MAX",
    "Account",
    "AccountBalance",
    "AccountFilter",
    "AccountFilterFlags",
    "AccountFlags",
    "AsyncLedgerClient",
    "ChangeEvent",
    "ChangeEventType",
    "CreateAccountStatus",
    "CreateTransferStatus",
    "Ledger",
    "LedgerClient",
    "QueryFilter",
    "QueryFilterFlags",
    "Transfer",
    "TransferFlags",
    "scale",
    "unscale",
]

_HOME = {
    "AsyncLedgerClient": "dompbus.ledger.client",
    "Ledger": "dompbus.ledger.machine",
    "LedgerClient": "dompbus.ledger.client",
    "scale": "dompbus.ledger.amounts",
    "unscale": "dompbus.ledger.amounts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
