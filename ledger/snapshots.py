"""A ledger's whole state as bytes: canonical, so that equal states have equal bytes and equal hashes.

Layout (little-endian): a head (magic, version, whether test balances were set, last timestamp, six counts), then the
accounts and the transfers as 128-byte records, the burnt ids in rising order (16 bytes), the status of each hold in
the order of creation (id, u64), the balance history (account id, five fields), the expiries (time, id). The law here:
only what commands determine is in it; indexes and queues are built anew. Chunks may be cut anywhere on the way.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from dompbus.ledger.accounts import AccountBook, AccountState, History
from dompbus.ledger.holds import Holds, HoldStatus
from dompbus.ledger.log import TransferLog
from dompbus.ledger.queries import Expiry
from dompbus.ledger.records import RECORD_BYTES, pack_accounts, pack_ids, unpack_accounts, unpack_ids

__all__ = ["State", "read_snapshot", "write_snapshot"]

_MAGIC: Final = b"DOMPLEDG"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sII7Q")
_HOLD: Final = struct.Struct("<QQQ")
_HISTORY: Final = struct.Struct("<QQQ8Q")
_EXPIRY: Final = struct.Struct("<QQQ")
_CHUNK_ROWS: Final = 8_192  # 1 MiB of records
_LOW_64: Final = 2**64 - 1


class State:
    """What a ledger is made of."""

    __slots__ = ("accounts", "balances_set", "expiries", "holds", "last_timestamp", "log")

    def __init__(self) -> None:
        self.accounts = AccountBook()
        self.log = TransferLog()
        self.holds = Holds()
        self.expiries: list[Expiry] = []  # in order of time, and of carrying out
        self.last_timestamp = 0
        self.balances_set = False  # a test wrote balances that no transfer explains


def write_snapshot(state: State) -> Iterator[bytes]:
    """The state, piece by piece; the state must not change while this is being read."""
    accounts, log = state.accounts.in_order, state.log
    yield _HEAD.pack(
        _MAGIC,
        _VERSION,
        state.balances_set,
        state.last_timestamp,
        len(accounts),
        len(log),
        len(log.burnt),
        len(state.holds.status_of),
        sum(len(account.history or ()) for account in accounts),
        len(state.expiries),
    )
    for at in range(0, len(accounts), _CHUNK_ROWS):
        yield pack_accounts([account.record() for account in accounts[at : at + _CHUNK_ROWS]])
    yield from log.chunks(_CHUNK_ROWS)
    yield pack_ids(sorted(log.burnt))
    yield b"".join(_HOLD.pack(*_halves(id), status) for id, status in state.holds.status_of.items())
    for account in accounts:
        if account.history:
            yield b"".join(_pack_history(account.id, account.history))
    yield b"".join(_EXPIRY.pack(time, *_halves(id)) for time, id in state.expiries)


def read_snapshot(chunks: Iterable[bytes]) -> State:
    """The state from its bytes; `ValueError` when they are not a whole snapshot."""
    source = _Source(chunks)
    magic, version, balances_set, last, accounts, transfers, burnt, holds, history, expiries = _HEAD.unpack(
        source.take(_HEAD.size)
    )
    if magic != _MAGIC or version != _VERSION:
        raise ValueError(f"not a ledger snapshot of version {_VERSION}")
    state = State()
    state.last_timestamp, state.balances_set = last, bool(balances_set)
    for account in unpack_accounts(source.take(accounts * RECORD_BYTES)):
        state.accounts.add(AccountState(account, account.timestamp))
    state.log.restore(source.take(transfers * RECORD_BYTES))
    for id in unpack_ids(source.take(burnt * 16)):
        state.log.burn(id)
    _read_holds(state, source.take(holds * _HOLD.size))
    _read_history(state, source.take(history * _HISTORY.size))
    for time, low, high in _EXPIRY.iter_unpack(source.take(expiries * _EXPIRY.size)):
        state.expiries.append((time, low | high << 64))
    source.finish()
    return state


class _Source:
    """Bytes taken from chunks, whatever the chunks' sizes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = bytearray()

    def take(self, size: int) -> bytearray:
        """The next `size` bytes. Memory grows with what has come, not with what a damaged head claims."""
        while len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise ValueError(f"ledger snapshot is cut short: {size - len(self._rest)} bytes are missing")
            self._rest += chunk
        taken = self._rest[:size]
        del self._rest[:size]
        return taken

    def finish(self) -> None:
        """Nothing may follow."""
        if self._rest or any(self._chunks):
            raise ValueError("ledger snapshot has bytes after its end")


def _pack_history(account_id: int, history: History) -> Iterator[bytes]:
    for timestamp, a, b, c, d in history:
        yield _HISTORY.pack(*_halves(account_id), timestamp, *_halves(a), *_halves(b), *_halves(c), *_halves(d))


def _read_history(state: State, rows: bytearray) -> None:
    for low, high, timestamp, a, b, c, d, e, f, g, h in _HISTORY.iter_unpack(rows):
        account = state.accounts.by_id.get(low | high << 64)
        if account is None or account.history is None:
            raise ValueError(f"ledger snapshot has a history of account {low | high << 64}, which keeps none")
        account.history.append((timestamp, a | b << 64, c | d << 64, e | f << 64, g | h << 64))


def _read_holds(state: State, rows: bytearray) -> None:
    for low, high, status in _HOLD.iter_unpack(rows):
        hold = state.log.get(low | high << 64)
        if hold is None:
            raise ValueError(f"ledger snapshot has a hold {low | high << 64} without its transfer")
        state.holds.set(hold, HoldStatus(status))


def _halves(number: int) -> tuple[int, int]:
    return number & _LOW_64, number >> 64
