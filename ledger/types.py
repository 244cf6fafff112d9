"""The ledger's nouns: accounts, transfers, balances, filters and change events, in TigerBeetle's words and order.

The law here: these are plain values. Every field is an unsigned integer (128 bits for ids, amounts and user_data_128,
64 for user_data_64 and timestamps in nanoseconds, 32 for user_data_32, timeout in seconds and ledger, 16 for code and
flags), defaults to zero and is given by keyword. The order of the fields is the order of the 128-byte record, which
`dompbus.ledger.records` depends on. msgspec structs, because a slotted class takes five times as long to build.
"""

from enum import IntEnum, IntFlag
from typing import Final

import msgspec

from dompbus.ledger.statuses import CreateAccountStatus, CreateTransferStatus

__all__ = [
    "U128_MAX",
    "Account",
    "AccountBalance",
    "AccountFilter",
    "AccountFilterFlags",
    "AccountFlags",
    "ChangeEvent",
    "ChangeEventType",
    "CreateAccountStatus",
    "CreateTransferStatus",
    "QueryFilter",
    "QueryFilterFlags",
    "Transfer",
    "TransferFlags",
]

U128_MAX: Final = 2**128 - 1


class AccountFlags(IntFlag):
    """What an account is bound by."""

    NONE = 0
    LINKED = 1
    DEBITS_MUST_NOT_EXCEED_CREDITS = 2
    CREDITS_MUST_NOT_EXCEED_DEBITS = 4
    HISTORY = 8
    IMPORTED = 16
    CLOSED = 32


class TransferFlags(IntFlag):
    """What a transfer does beyond moving its amount."""

    NONE = 0
    LINKED = 1
    PENDING = 2
    POST_PENDING_TRANSFER = 4
    VOID_PENDING_TRANSFER = 8
    BALANCING_DEBIT = 16
    BALANCING_CREDIT = 32
    CLOSING_DEBIT = 64
    CLOSING_CREDIT = 128
    IMPORTED = 256


class AccountFilterFlags(IntFlag):
    """Which side of the account to list, and in what order."""

    NONE = 0
    DEBITS = 1
    CREDITS = 2
    REVERSED = 4


class QueryFilterFlags(IntFlag):
    """In what order to list."""

    NONE = 0
    REVERSED = 1


class ChangeEventType(IntEnum):
    """What kind of movement a change event tells of."""

    SINGLE_PHASE = 0
    TWO_PHASE_PENDING = 1
    TWO_PHASE_POSTED = 2
    TWO_PHASE_VOIDED = 3
    TWO_PHASE_EXPIRED = 4


class Account(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One account; the balances and the timestamp are the ledger's to write."""

    id: int = 0
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    reserved: int = 0
    ledger: int = 0
    code: int = 0
    flags: int = 0
    timestamp: int = 0


class Transfer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One movement of `amount` from the debit account to the credit account; `timeout` is in seconds."""

    id: int = 0
    debit_account_id: int = 0
    credit_account_id: int = 0
    amount: int = 0
    pending_id: int = 0
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    timeout: int = 0
    ledger: int = 0
    code: int = 0
    flags: int = 0
    timestamp: int = 0


class AccountBalance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The balances of an account right after the transfer with this timestamp."""

    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    timestamp: int = 0


class AccountFilter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which transfers (or balances) of one account; zero means any, time bounds are inclusive."""

    account_id: int = 0
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    code: int = 0
    timestamp_min: int = 0
    timestamp_max: int = 0
    limit: int = 0
    flags: int = 0


class QueryFilter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which accounts, transfers or change events; zero means any, time bounds are inclusive."""

    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    ledger: int = 0
    code: int = 0
    timestamp_min: int = 0
    timestamp_max: int = 0
    limit: int = 0
    flags: int = 0


class ChangeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One movement, or the expiry of a hold; `transfer` is the record as it stands (of an expiry: the hold's)."""

    timestamp: int
    type: ChangeEventType
    transfer: Transfer
