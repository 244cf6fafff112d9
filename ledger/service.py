"""The ledger as a service of a node: its machine behind a journal, its figures counted, its holds expired in time."""

from collections import Counter, defaultdict
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Final

from dompbus.ledger.commands import HEAD_BYTES, Operation, encode_request
from dompbus.ledger.machine import Ledger
from dompbus.ledger.statuses import CreateAccountStatus, CreateTransferStatus
from dompbus.runtime.machine import MachineHost
from dompbus.runtime.node import Node

__all__ = ["SERVICE", "host_ledger"]

SERVICE: Final = "ledger"
_WORDS_PER_RESULT: Final = 4  # u64 timestamp, u32 status, u32 zero


def host_ledger(node: Node, data: Path) -> MachineHost:
    """Serve the ledger kept in `data`/ledger from `node`, which has not started yet. Recovers its state first."""
    ledger = Ledger()
    return node.host_machine(
        SERVICE, ledger, data / "ledger", chore=_expire_what_is_due(ledger), observe=_count_statuses(node)
    )


def _expire_what_is_due(ledger: Ledger) -> Callable[[int], bytes | None]:
    command = encode_request(Operation.EXPIRE)

    def chore(time_ns: int) -> bytes | None:
        due = ledger.next_expiry
        return command if due is not None and due <= time_ns else None

    return chore


def _count_statuses(node: Node) -> Callable[[bytes | memoryview, bytes], None]:
    counters = node.counters
    kinds: dict[int, tuple[defaultdict[str, int], type[IntEnum]]] = {
        Operation.CREATE_ACCOUNTS: (counters.ledger_accounts, CreateAccountStatus),
        Operation.CREATE_TRANSFERS: (counters.ledger_transfers, CreateTransferStatus),
    }

    def observe(command: bytes | memoryview, answer: bytes) -> None:
        kind = kinds.get(command[0]) if len(command) else None
        if kind is None or len(answer) == HEAD_BYTES or (len(answer) - HEAD_BYTES) % (4 * _WORDS_PER_RESULT):
            return
        words = memoryview(answer)[HEAD_BYTES:].cast("I")
        counts, statuses = kind
        for status, count in Counter(words[2::_WORDS_PER_RESULT].tolist()).items():
            counts[statuses(status).name.lower()] += count

    return observe
