"""What becomes of each event of a batch: one member per outcome, with TigerBeetle's numbers and words.

The law here: a status is a value, never an exception, and `status.explain` says in one plain sentence what happened
and, where there is one, what to do. The members stand in the order in which the rules are checked (ledger R2-R5):
of two rules that an event breaks, the one that stands first here is the one reported.
"""

from enum import IntEnum

__all__ = ["TRANSIENT", "CreateAccountStatus", "CreateTransferStatus"]


class _Status(IntEnum):
    """An integer that carries its explanation."""

    explain: str

    def __new__(cls, value: int, explain: str) -> "_Status":
        member = int.__new__(cls, value)
        member._value_ = value
        member.explain = explain
        return member


class CreateAccountStatus(_Status):
    """The outcome of one event of `create_accounts`."""

    CREATED = 0xFFFFFFFF, "The account was created."
    LINKED_EVENT_CHAIN_OPEN = 2, "The last event of the batch is linked, so its chain has no end."
    LINKED_EVENT_FAILED = 1, "Another event of the same chain failed, so this one was not carried out."
    IMPORTED_EVENT_EXPECTED = 22, "The batch began with an imported event, so all of its events must be imported."
    IMPORTED_EVENT_NOT_EXPECTED = 23, "The batch began with an event that is not imported, so none of it may be."
    IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE = 24, "An imported timestamp must lie in 1 .. 2^63-1."
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE = 25, "An imported timestamp must be in the past of the batch."
    TIMESTAMP_MUST_BE_ZERO = 3, "The ledger gives the timestamp; leave it zero."
    RESERVED_FIELD = 4, "The field `reserved` must be zero."
    RESERVED_FLAG = 5, "A flag bit that has no meaning is set."
    ID_MUST_NOT_BE_ZERO = 6, "The id must not be zero."
    ID_MUST_NOT_BE_INT_MAX = 7, "The id must not be 2^128-1."
    EXISTS_WITH_DIFFERENT_FLAGS = 15, "An account with this id exists, with different flags."
    EXISTS_WITH_DIFFERENT_USER_DATA_128 = 16, "An account with this id exists, with a different user_data_128."
    EXISTS_WITH_DIFFERENT_USER_DATA_64 = 17, "An account with this id exists, with a different user_data_64."
    EXISTS_WITH_DIFFERENT_USER_DATA_32 = 18, "An account with this id exists, with a different user_data_32."
    EXISTS_WITH_DIFFERENT_LEDGER = 19, "An account with this id exists, in a different ledger."
    EXISTS_WITH_DIFFERENT_CODE = 20, "An account with this id exists, with a different code."
    EXISTS = 21, "This very account exists already; creating it again changes nothing."
    FLAGS_ARE_MUTUALLY_EXCLUSIVE = 8, "An account can have a limit on its debits or on its credits, not on both."
    DEBITS_PENDING_MUST_BE_ZERO = 9, "A new account starts with debits_pending zero."
    DEBITS_POSTED_MUST_BE_ZERO = 10, "A new account starts with debits_posted zero."
    CREDITS_PENDING_MUST_BE_ZERO = 11, "A new account starts with credits_pending zero."
    CREDITS_POSTED_MUST_BE_ZERO = 12, "A new account starts with credits_posted zero."
    LEDGER_MUST_NOT_BE_ZERO = 13, "The ledger must not be zero."
    CODE_MUST_NOT_BE_ZERO = 14, "The code must not be zero."
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS = (
        26,
        "An imported timestamp must be newer than every account's and equal to no transfer's.",
    )


class CreateTransferStatus(_Status):
    """The outcome of one event of `create_transfers`."""

    CREATED = 0xFFFFFFFF, "The transfer was carried out."
    LINKED_EVENT_CHAIN_OPEN = 2, "The last event of the batch is linked, so its chain has no end."
    LINKED_EVENT_FAILED = 1, "Another event of the same chain failed, so this one was not carried out."
    IMPORTED_EVENT_EXPECTED = 56, "The batch began with an imported event, so all of its events must be imported."
    IMPORTED_EVENT_NOT_EXPECTED = 57, "The batch began with an event that is not imported, so none of it may be."
    IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE = 58, "An imported timestamp must lie in 1 .. 2^63-1."
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE = 59, "An imported timestamp must be in the past of the batch."
    TIMESTAMP_MUST_BE_ZERO = 3, "The ledger gives the timestamp; leave it zero."
    RESERVED_FLAG = 4, "A flag bit that has no meaning is set."
    ID_MUST_NOT_BE_ZERO = 5, "The id must not be zero."
    ID_MUST_NOT_BE_INT_MAX = 6, "The id must not be 2^128-1."
    EXISTS_WITH_DIFFERENT_FLAGS = 36, "A transfer with this id exists, with different flags."
    EXISTS_WITH_DIFFERENT_PENDING_ID = 40, "A transfer with this id exists, with a different pending_id."
    EXISTS_WITH_DIFFERENT_TIMEOUT = 44, "A transfer with this id exists, with a different timeout."
    EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID = 37, "A transfer with this id exists, from a different debit account."
    EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID = 38, "A transfer with this id exists, to a different credit account."
    EXISTS_WITH_DIFFERENT_AMOUNT = 39, "A transfer with this id exists, with a different amount."
    EXISTS_WITH_DIFFERENT_USER_DATA_128 = 41, "A transfer with this id exists, with a different user_data_128."
    EXISTS_WITH_DIFFERENT_USER_DATA_64 = 42, "A transfer with this id exists, with a different user_data_64."
    EXISTS_WITH_DIFFERENT_USER_DATA_32 = 43, "A transfer with this id exists, with a different user_data_32."
    EXISTS_WITH_DIFFERENT_LEDGER = 67, "A transfer with this id exists, in a different ledger."
    EXISTS_WITH_DIFFERENT_CODE = 45, "A transfer with this id exists, with a different code."
    EXISTS = 46, "This very transfer was carried out already; sending it again changes nothing."
    ID_ALREADY_FAILED = 68, "This id failed before for a reason that could have passed; take a new id to try again."
    FLAGS_ARE_MUTUALLY_EXCLUSIVE = (
        7,
        "A post or void cannot be combined with its opposite or with pending, balancing or closing.",
    )
    PENDING_ID_MUST_NOT_BE_ZERO = 14, "A post or void names the transfer that it resolves in pending_id."
    PENDING_ID_MUST_NOT_BE_INT_MAX = 15, "The pending_id must not be 2^128-1."
    PENDING_ID_MUST_BE_DIFFERENT = 16, "The pending_id must not be the transfer's own id."
    DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO = 8, "The debit_account_id must not be zero."
    DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX = 9, "The debit_account_id must not be 2^128-1."
    CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO = 10, "The credit_account_id must not be zero."
    CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX = 11, "The credit_account_id must not be 2^128-1."
    ACCOUNTS_MUST_BE_DIFFERENT = 12, "The debit account and the credit account must not be the same."
    PENDING_ID_MUST_BE_ZERO = 13, "Only a post or void has a pending_id."
    TIMEOUT_RESERVED_FOR_PENDING_TRANSFER = 17, "Only a pending transfer has a timeout."
    CLOSING_TRANSFER_MUST_BE_PENDING = 64, "Only a pending transfer can close an account."
    LEDGER_MUST_NOT_BE_ZERO = 19, "The ledger must not be zero."
    CODE_MUST_NOT_BE_ZERO = 20, "The code must not be zero."
    DEBIT_ACCOUNT_NOT_FOUND = 21, "There is no account with the debit_account_id; this id is spent."
    CREDIT_ACCOUNT_NOT_FOUND = 22, "There is no account with the credit_account_id; this id is spent."
    ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER = 23, "The debit account and the credit account are in different ledgers."
    TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS = 24, "The transfer names another ledger than its accounts."
    PENDING_TRANSFER_NOT_FOUND = 25, "There is no transfer with the pending_id; this id is spent."
    PENDING_TRANSFER_NOT_PENDING = 26, "The transfer named by pending_id is not a pending one."
    PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID = 27, "The pending transfer has another debit account."
    PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID = 28, "The pending transfer has another credit account."
    PENDING_TRANSFER_HAS_DIFFERENT_LEDGER = 29, "The pending transfer is in another ledger."
    PENDING_TRANSFER_HAS_DIFFERENT_CODE = 30, "The pending transfer has another code."
    EXCEEDS_PENDING_TRANSFER_AMOUNT = 31, "The amount is greater than the pending transfer's."
    PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT = 32, "A void takes back the whole amount (or says zero); this is less."
    PENDING_TRANSFER_ALREADY_POSTED = 33, "The pending transfer has been posted already."
    PENDING_TRANSFER_ALREADY_VOIDED = 34, "The pending transfer has been voided already."
    PENDING_TRANSFER_EXPIRED = 35, "The pending transfer has expired."
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS = (
        60,
        "An imported timestamp must be newer than every transfer's and equal to no account's.",
    )
    IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT = 61, "The debit account is not older than this transfer."
    IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT = 62, "The credit account is not older than this transfer."
    IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO = 63, "An imported pending transfer has no timeout."
    DEBIT_ACCOUNT_ALREADY_CLOSED = 65, "The debit account is closed; this id is spent."
    CREDIT_ACCOUNT_ALREADY_CLOSED = 66, "The credit account is closed; this id is spent."
    OVERFLOWS_DEBITS_PENDING = 47, "The debit account's pending debits would exceed 128 bits."
    OVERFLOWS_CREDITS_PENDING = 48, "The credit account's pending credits would exceed 128 bits."
    OVERFLOWS_DEBITS_POSTED = 49, "The debit account's posted debits would exceed 128 bits."
    OVERFLOWS_CREDITS_POSTED = 50, "The credit account's posted credits would exceed 128 bits."
    OVERFLOWS_DEBITS = 51, "The debit account's pending and posted debits together would exceed 128 bits."
    OVERFLOWS_CREDITS = 52, "The credit account's pending and posted credits together would exceed 128 bits."
    OVERFLOWS_TIMEOUT = 53, "The transfer would expire beyond the end of time (2^63-1 nanoseconds)."
    EXCEEDS_CREDITS = 54, "The debit account's debits would exceed its posted credits; this id is spent."
    EXCEEDS_DEBITS = 55, "The credit account's credits would exceed its posted debits; this id is spent."


TRANSIENT = frozenset(
    {
        CreateTransferStatus.DEBIT_ACCOUNT_NOT_FOUND,
        CreateTransferStatus.CREDIT_ACCOUNT_NOT_FOUND,
        CreateTransferStatus.PENDING_TRANSFER_NOT_FOUND,
        CreateTransferStatus.EXCEEDS_CREDITS,
        CreateTransferStatus.EXCEEDS_DEBITS,
        CreateTransferStatus.DEBIT_ACCOUNT_ALREADY_CLOSED,
        CreateTransferStatus.CREDIT_ACCOUNT_ALREADY_CLOSED,
    }
)
"""Failures that depend on the state and could pass later: they burn the transfer's id for ever (R6)."""
