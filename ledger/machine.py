"""The pure ledger: commands in, results out; no disk, no clock, no network.

`Ledger` has two faces over one state: methods that take and give objects, and the `Machine` protocol (`apply`, `query`,
`snapshot`, `restore`, `check_invariants`) that takes and gives bytes. Objects are packed first, so that both run the
very same code. The law here: the same commands with the same timestamps give the same results and the same state,
everywhere and always; a batch whose time is refused changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import xxhash

from dompbus import limits
from dompbus.ledger import batches, invariants, records
from dompbus.ledger.commands import Operation, Refusal, Request, decode_request, encode_answer, encode_refusal
from dompbus.ledger.queries import Queries
from dompbus.ledger.results import Results
from dompbus.ledger.rules import TIME_MAX
from dompbus.ledger.snapshots import State, read_snapshot, write_snapshot
from dompbus.ledger.transfers import Outcome, TransferDesk
from dompbus.ledger.types import (
    Account,
    AccountBalance,
    AccountFilter,
    ChangeEvent,
    CreateAccountStatus,
    CreateTransferStatus,
    QueryFilter,
    Transfer,
    TransferFlags,
)

__all__ = ["Ledger"]

_IMPORTED: Final = int(TransferFlags.IMPORTED)
_FLAGS_AT: Final = 118
_PLAIN_EVENTS_MIN: Final = 4  # below this, making columns costs more than it saves
_ROWS_MAX: Final = limits.LEDGER_EVENTS_PER_BATCH_MAX  # of one answer to a query that came as bytes


class Ledger:
    """A double-entry ledger in the data model of TigerBeetle; times are nanoseconds and are handed in."""

    def __init__(self) -> None:
        self._rows_checked = 0
        self._take(State())

    # -- with objects ------------------------------------------------------------------------------------------
    def create_accounts(self, accounts: Sequence[Account], *, timestamp: int) -> list[tuple[int, CreateAccountStatus]]:
        """Create accounts; (timestamp, status) for each, in order.

        `ValueError` (and nothing happens) when timestamp - len(accounts) is below the last timestamp handed in, and
        `InvalidEvent` when a value does not fit its field.
        """
        rows = records.pack_accounts(accounts)
        return records.unpack_account_results(self._create_accounts(memoryview(rows), timestamp)) if rows else []

    def create_transfers(
        self, transfers: Sequence[Transfer], *, timestamp: int
    ) -> list[tuple[int, CreateTransferStatus]]:
        """Carry out transfers; (timestamp, status) for each, in order. Errors as in `create_accounts`."""
        rows = records.pack_transfers(transfers)
        return records.unpack_transfer_results(self._create_transfers(memoryview(rows), timestamp)) if rows else []

    def expire(self, *, timestamp: int) -> int:
        """Expire every hold that is due by this time; how many. `ValueError` when it is below the last timestamp."""
        self._advance(0, timestamp)
        holds, count = self._state.holds, 0
        while (due := holds.next_due()) is not None and due <= timestamp:
            hold = self._state.log.get(holds.next_due_id())
            assert hold is not None, "a hold has no record"
            self._desk.expire(hold)
            self._state.expiries.append((timestamp, hold.id))
            count += 1
        return count

    def lookup_accounts(self, ids: Iterable[int]) -> list[Account]:
        """The accounts with these ids, in the order asked; the missing are left out."""
        by_id = self._state.accounts.by_id
        return [by_id[id].record() for id in ids if id in by_id]

    def lookup_transfers(self, ids: Iterable[int]) -> list[Transfer]:
        """The transfers with these ids, in the order asked; the missing are left out."""
        return records.unpack_transfers(self._raw(self._rows_of(ids)))

    def get_account_transfers(self, filter: AccountFilter) -> list[Transfer]:
        """The transfers of one account."""
        return self._read(self._queries.account_transfers(filter))

    def get_account_balances(self, filter: AccountFilter) -> list[AccountBalance]:
        """The balances of one account with `HISTORY`, after each of its transfers that match."""
        return self._queries.account_balances(filter)

    def query_accounts(self, filter: QueryFilter) -> list[Account]:
        """The accounts that match."""
        return [account.record() for account in self._queries.accounts(filter)]

    def query_transfers(self, filter: QueryFilter) -> list[Transfer]:
        """The transfers that match."""
        return self._read(self._queries.transfers(filter))

    def get_change_events(self, filter: QueryFilter) -> list[ChangeEvent]:
        """Movements and expiries in order of time; an expiry bears the time of the sweep that made it."""
        return self._queries.change_events(filter)

    @property
    def last_timestamp(self) -> int:
        """The last timestamp handed in; the next batch of N needs at least this plus N."""
        return self._state.last_timestamp

    @property
    def next_expiry(self) -> int | None:
        """When the next hold is due, in nanoseconds, or None: the time to submit an `EXPIRE` command."""
        return self._state.holds.next_due()

    def state_hash(self) -> str:
        """xxh3 (128 bits, hex) over the canonical encoding: equal for equal states, whatever way they came about."""
        digest = xxhash.xxh3_128()
        for chunk in self.snapshot():
            digest.update(chunk)
        return digest.hexdigest()

    # -- with bytes: the Machine protocol ----------------------------------------------------------------------
    def apply(self, command: bytes | memoryview, timestamp: int) -> bytes:
        """Carry out a command (`dompbus.ledger.commands`); the answer, or a refusal. Never raises on bad input."""
        request = decode_request(command)
        if isinstance(request, Refusal):
            return encode_refusal(request)
        carry_out = self._commands.get(request.operation)
        if carry_out is None:
            return encode_refusal(Refusal.UNKNOWN_OPERATION)
        if not self._is_timely(request.event_count, timestamp):
            return encode_refusal(Refusal.TIMESTAMP_REFUSED)
        return encode_answer(carry_out(request, timestamp))

    def query(self, query: bytes | memoryview) -> bytes:
        """Answer a query, or refuse it; at most `LEDGER_EVENTS_PER_BATCH_MAX` rows, whatever its limit says."""
        request = decode_request(query)
        if isinstance(request, Refusal):
            return encode_refusal(request)
        answer = self._answers.get(request.operation)
        return encode_answer(answer(request)) if answer else encode_refusal(Refusal.UNKNOWN_OPERATION)

    def snapshot(self) -> Iterator[bytes]:
        """The whole state, piece by piece; apply nothing while this is being read."""
        return write_snapshot(self._state)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Become what a snapshot says. `ValueError` when it is not whole; then nothing has changed."""
        self._take(read_snapshot(chunks))

    def check_invariants(self) -> None:
        """Raise `AssertionError` if the books are not in order; costs time with accounts, holds and new transfers."""
        self._rows_checked = invariants.check_invariants(self._state, first_row=self._rows_checked)

    # -- for tests ---------------------------------------------------------------------------------------------
    def _set_balances(self, account_id: int, **balances: int) -> None:
        """Write balances that no transfer explains, so that a test need not move 2^128 to reach a limit."""
        account = self._state.accounts.by_id[account_id]
        for name, value in balances.items():
            if name not in AccountBalance.__struct_fields__ or name == "timestamp":
                raise TypeError(f"no balance is called {name!r}")
            setattr(account, name, value)
            self._desk.moved_bound += value
        self._state.balances_set = True

    # -- within ------------------------------------------------------------------------------------------------
    def _take(self, state: State) -> None:
        self._state = state
        self._desk = TransferDesk(state.accounts, state.log, state.holds)
        self._desk.moved_bound = batches.highest_balance(state.accounts)
        self._queries = Queries(state.accounts, state.log, state.expiries)
        self._rows_checked = 0
        self._commands: dict[Operation, Callable[[Request, int], bytes | bytearray]] = {
            Operation.CREATE_ACCOUNTS: self._apply_create_accounts,
            Operation.CREATE_TRANSFERS: self._apply_create_transfers,
            Operation.EXPIRE: self._apply_expire,
        }
        self._answers: dict[Operation, Callable[[Request], bytes]] = {
            Operation.LOOKUP_ACCOUNTS: self._answer_lookup_accounts,
            Operation.LOOKUP_TRANSFERS: self._answer_lookup_transfers,
            Operation.GET_ACCOUNT_TRANSFERS: self._answer_account_transfers,
            Operation.GET_ACCOUNT_BALANCES: self._answer_account_balances,
            Operation.QUERY_ACCOUNTS: self._answer_accounts,
            Operation.QUERY_TRANSFERS: self._answer_transfers,
            Operation.GET_CHANGE_EVENTS: self._answer_change_events,
        }

    def _is_timely(self, count: int, timestamp: int) -> bool:
        return self._state.last_timestamp <= timestamp - count and timestamp <= TIME_MAX

    def _advance(self, count: int, timestamp: int) -> None:
        if not self._is_timely(count, timestamp):
            last = self._state.last_timestamp
            raise ValueError(
                f"timestamp {timestamp} is refused: a batch of {count} needs {last + count} .. 2^63-1, "
                f"because the last timestamp was {last}"
            )
        self._state.last_timestamp = timestamp

    def _create_accounts(self, rows: memoryview, timestamp: int) -> bytearray:
        events = records.unpack_accounts(rows, plain_flags=True)
        self._advance(len(events), timestamp)
        results = Results(len(events), timestamp)
        book, log = self._state.accounts, self._state.log

        def create(_: int, event: Account, slot: int) -> tuple[int, int, bool]:
            return *book.create(event, slot, transfer_at_same_time=log.exists_at(event.timestamp)), True

        batches.run_exact(
            events,
            results,
            statuses=CreateAccountStatus,
            create=create,
            undo=lambda _: book.remove_newest(),
        )
        return results.rows

    def _create_transfers(self, rows: memoryview, timestamp: int) -> bytearray:
        count = len(rows) // records.RECORD_BYTES
        self._advance(count, timestamp)
        results, log = Results(count, timestamp), self._state.log
        imported = int.from_bytes(rows[_FLAGS_AT : _FLAGS_AT + 2], "little") & _IMPORTED
        base = log.open_batch(rows, None if imported else results.first_slot)
        columns = batches.plain_columns(rows) if count >= _PLAIN_EVENTS_MIN else None
        if columns is not None and batches.cannot_overflow(columns, self._desk, self._state.accounts):
            self._run_plain(columns, rows, results, base)
        else:
            self._run_exact(rows, results, base)
        log.close_batch(base, [base + event for event in results.created()] if results.any_failed else None)
        return results.rows

    def _run_plain(self, columns: batches.PlainColumns, rows: memoryview, results: Results, base: int) -> None:
        size, desk = records.RECORD_BYTES, self._desk

        def create(event: int) -> Outcome:
            (transfer,) = records.unpack_transfers(rows[event * size : (event + 1) * size], plain_flags=True)
            return desk.create(transfer, results.slot(event), base + event)

        state = self._state
        batches.run_plain(columns, results, base, accounts=state.accounts, log=state.log, desk=desk, create=create)

    def _run_exact(self, rows: memoryview, results: Results, base: int) -> None:
        desk = self._desk
        batches.run_exact(
            records.unpack_transfers(rows, plain_flags=True),
            results,
            statuses=CreateTransferStatus,
            create=lambda event, transfer, slot: desk.create(transfer, slot, base + event),
            undo=desk.undo,
        )

    def _rows_of(self, ids: Iterable[int]) -> Iterator[int]:
        """The rows of these transfers, without those that do not exist (their rows in the index are below 0)."""
        index = self._state.log.index
        return (row for id in ids if (row := index.get(id, -1)) >= 0)

    def _read(self, rows: Iterable[int]) -> list[Transfer]:
        return records.unpack_transfers(self._raw(rows))

    def _raw(self, rows: Iterable[int]) -> bytes:
        return b"".join(map(self._state.log.raw, rows))

    def _apply_create_accounts(self, request: Request, timestamp: int) -> bytearray | bytes:
        return self._create_accounts(request.rows, timestamp) if request.event_count else b""

    def _apply_create_transfers(self, request: Request, timestamp: int) -> bytearray | bytes:
        return self._create_transfers(request.rows, timestamp) if request.event_count else b""

    def _apply_expire(self, _: Request, timestamp: int) -> bytes:
        return self.expire(timestamp=timestamp).to_bytes(8, "little")

    def _answer_lookup_accounts(self, request: Request) -> bytes:
        return records.pack_accounts(self.lookup_accounts(records.unpack_ids(request.rows)))

    def _answer_lookup_transfers(self, request: Request) -> bytes:
        return self._raw(self._rows_of(records.unpack_ids(request.rows)))

    def _answer_account_transfers(self, request: Request) -> bytes:
        filter = records.unpack_account_filter(request.rows)
        return self._raw(self._queries.account_transfers(filter, skip=request.skip, cap=_ROWS_MAX))

    def _answer_account_balances(self, request: Request) -> bytes:
        filter = records.unpack_account_filter(request.rows)
        return records.pack_balances(self._queries.account_balances(filter, skip=request.skip, cap=_ROWS_MAX))

    def _answer_accounts(self, request: Request) -> bytes:
        filter = records.unpack_query_filter(request.rows)
        found = self._queries.accounts(filter, skip=request.skip, cap=_ROWS_MAX)
        return records.pack_accounts([account.record() for account in found])

    def _answer_transfers(self, request: Request) -> bytes:
        filter = records.unpack_query_filter(request.rows)
        return self._raw(self._queries.transfers(filter, skip=request.skip, cap=_ROWS_MAX))

    def _answer_change_events(self, request: Request) -> bytes:
        filter = records.unpack_query_filter(request.rows)
        return records.pack_change_events(self._queries.change_events(filter, skip=request.skip, cap=_ROWS_MAX))
