"""The ledger as a client sees it: the methods of `Ledger` without timestamps, blocking and awaited.

Both classes only drive the dialogues of `dompbus.ledger.dialogues` over a callable that carries bytes to the service
and back. The law here: the two read alike, method by method. Every retry is safe: ids make creations idempotent.
"""

from collections.abc import Awaitable, Iterable
from typing import Protocol, TypeVar

from dompbus.ledger import dialogues
from dompbus.ledger.commands import is_query
from dompbus.ledger.dialogues import Dialogue, Rows
from dompbus.ledger.records import Buffer
from dompbus.ledger.types import (
    Account,
    AccountBalance,
    AccountFilter,
    ChangeEvent,
    CreateAccountStatus,
    CreateTransferStatus,
    QueryFilter,
    Transfer,
)

__all__ = ["AsyncCall", "AsyncLedgerClient", "Call", "LedgerClient"]

_Result = TypeVar("_Result")


class Call(Protocol):
    """Carries one request to the ledger service and brings its answer; `query` says whether it only reads."""

    def __call__(self, payload: bytes, /, *, query: bool) -> Buffer:
        """The answer's bytes; raises what the way there raises."""
        ...


class AsyncCall(Protocol):
    """The same, awaited."""

    def __call__(self, payload: bytes, /, *, query: bool) -> Awaitable[Buffer]:
        """The answer's bytes; raises what the way there raises."""
        ...


class LedgerClient:
    """A ledger behind a `Call`.

    All methods raise `InvalidEvent` (a ValueError that names event, field, value and range) before anything is sent,
    `LedgerRefused` when the ledger did not take the request as a whole, and what the call itself raises.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    def create_accounts(self, accounts: Iterable[Account] | Rows) -> list[tuple[int, CreateAccountStatus]]:
        """Create accounts (objects, or a buffer of 128-byte records), at most 8,189; (timestamp, status) each."""
        return self._hold(dialogues.create_accounts(accounts))

    def create_transfers(self, transfers: Iterable[Transfer] | Rows) -> list[tuple[int, CreateTransferStatus]]:
        """Carry out transfers (objects, or a buffer of 128-byte records), at most 8,189; (timestamp, status) each."""
        return self._hold(dialogues.create_transfers(transfers))

    def expire(self) -> int:
        """Expire what is due, now rather than when the service does it by itself; how many holds."""
        return self._hold(dialogues.expire())

    def lookup_accounts(self, ids: Iterable[int]) -> list[Account]:
        """The accounts with these ids, in the order asked; the missing are left out."""
        return self._hold(dialogues.lookup_accounts(ids))

    def lookup_transfers(self, ids: Iterable[int]) -> list[Transfer]:
        """The transfers with these ids, in the order asked; the missing are left out."""
        return self._hold(dialogues.lookup_transfers(ids))

    def get_account_transfers(self, filter: AccountFilter) -> list[Transfer]:
        """The transfers of one account."""
        return self._hold(dialogues.get_account_transfers(filter))

    def get_account_balances(self, filter: AccountFilter) -> list[AccountBalance]:
        """The balances of one account with `HISTORY`, after each of its transfers that match."""
        return self._hold(dialogues.get_account_balances(filter))

    def query_accounts(self, filter: QueryFilter) -> list[Account]:
        """The accounts that match."""
        return self._hold(dialogues.query_accounts(filter))

    def query_transfers(self, filter: QueryFilter) -> list[Transfer]:
        """The transfers that match."""
        return self._hold(dialogues.query_transfers(filter))

    def get_change_events(self, filter: QueryFilter) -> list[ChangeEvent]:
        """Movements and expiries in order of time."""
        return self._hold(dialogues.get_change_events(filter))

    def _hold(self, dialogue: Dialogue[_Result]) -> _Result:
        answer = None
        while True:
            try:
                payload = next(dialogue) if answer is None else dialogue.send(answer)
            except StopIteration as end:
                result: _Result = end.value
                return result
            answer = self._call(payload, query=is_query(payload))


class AsyncLedgerClient:
    """A ledger behind an `AsyncCall`; errors as in `LedgerClient`."""

    def __init__(self, call: AsyncCall) -> None:
        self._call = call

    async def create_accounts(self, accounts: Iterable[Account] | Rows) -> list[tuple[int, CreateAccountStatus]]:
        """Create accounts (objects, or a buffer of 128-byte records), at most 8,189; (timestamp, status) each."""
        return await self._hold(dialogues.create_accounts(accounts))

    async def create_transfers(self, transfers: Iterable[Transfer] | Rows) -> list[tuple[int, CreateTransferStatus]]:
        """Carry out transfers (objects, or a buffer of 128-byte records), at most 8,189; (timestamp, status) each."""
        return await self._hold(dialogues.create_transfers(transfers))

    async def expire(self) -> int:
        """Expire what is due, now rather than when the service does it by itself; how many holds."""
        return await self._hold(dialogues.expire())

    async def lookup_accounts(self, ids: Iterable[int]) -> list[Account]:
        """The accounts with these ids, in the order asked; the missing are left out."""
        return await self._hold(dialogues.lookup_accounts(ids))

    async def lookup_transfers(self, ids: Iterable[int]) -> list[Transfer]:
        """The transfers with these ids, in the order asked; the missing are left out."""
        return await self._hold(dialogues.lookup_transfers(ids))

    async def get_account_transfers(self, filter: AccountFilter) -> list[Transfer]:
        """The transfers of one account."""
        return await self._hold(dialogues.get_account_transfers(filter))

    async def get_account_balances(self, filter: AccountFilter) -> list[AccountBalance]:
        """The balances of one account with `HISTORY`, after each of its transfers that match."""
        return await self._hold(dialogues.get_account_balances(filter))

    async def query_accounts(self, filter: QueryFilter) -> list[Account]:
        """The accounts that match."""
        return await self._hold(dialogues.query_accounts(filter))

    async def query_transfers(self, filter: QueryFilter) -> list[Transfer]:
        """The transfers that match."""
        return await self._hold(dialogues.query_transfers(filter))

    async def get_change_events(self, filter: QueryFilter) -> list[ChangeEvent]:
        """Movements and expiries in order of time."""
        return await self._hold(dialogues.get_change_events(filter))

    async def _hold(self, dialogue: Dialogue[_Result]) -> _Result:
        answer = None
        while True:
            try:
                payload = next(dialogue) if answer is None else dialogue.send(answer)
            except StopIteration as end:
                result: _Result = end.value
                return result
            answer = await self._call(payload, query=is_query(payload))
