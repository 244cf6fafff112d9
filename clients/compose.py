"""Whole systems from parts: a node with its ledger, in a process of its own or inside yours."""

import time
from pathlib import Path
from typing import Any

from dompbus.clients.blocking import Client
from dompbus.config import Config
from dompbus.ledger.service import host_ledger
from dompbus.runtime.connection import new_incarnation
from dompbus.runtime.node import Node
from dompbus.storage import Lock, OsFiles, StateFile
from dompbus.storage.files import refusal

__all__ = ["Embedded", "build_node", "embedded"]


def build_node(config: Config) -> Node:
    """Return a node that serves the ledger from the data directory of `config`, recovered and ready to start.

    Raises `DirectoryLocked`, `JournalDamaged`, `StorageError`.
    """
    if not config.ledger.enabled:
        return Node(config)
    data = Path(config.node.data)
    lock = _lock(data)  # first of all: another process's epoch is not ours to count up
    try:
        node = _Owner(config, lock, epoch=_next_epoch(data))
    except BaseException:
        lock.release()
        raise
    try:
        host_ledger(node, data)
    except BaseException:
        node.close()
        raise
    return node


class _Owner(Node):
    """A node that owns its data directory until everything else of it is closed."""

    def __init__(self, config: Config, lock: Lock, *, epoch: int) -> None:
        super().__init__(config, epoch=epoch)
        self._exit.callback(lock.release)


def _lock(data: Path) -> Lock:
    files = OsFiles()
    try:
        files.make_directory(data)
        return files.lock(data)
    except OSError as cause:
        raise refusal("lock", data, cause) from cause


def _next_epoch(data: Path) -> int:
    """Return an epoch above every one that this directory has seen, and note it. The clock may have been set back."""
    state = StateFile(data / "epoch")
    seen = int(state.read() or b"0")
    epoch = max(time.time_ns(), seen + 1)
    state.write(b"%d" % epoch)
    return epoch


class Embedded(Client):
    """A client that has a whole node to itself, in this process. `node` is that node, for services of your own."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.endpoint, name="embedded", config=node.config)
        self.node = node

    def close(self) -> None:
        """Close the client, then the node: what was acknowledged is on disk."""
        super().close()
        self.node.close()


def embedded(data: str | Path = "data", **settings: Any) -> Embedded:
    """A whole one-node system in this process: `with dompbus.embedded(data="./data") as client: ...`

    The node keeps its ledger in `data`, has no network port unless `listen` names one, and ends with the client.
    Settings are those of `Node`. Raises what `build_node` raises.
    """
    settings.setdefault("listen", f"inproc://dompbus-embedded-{new_incarnation():x}")
    return Embedded(build_node(Config.of(data=str(data), **settings)).start())
