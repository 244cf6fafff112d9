"""Whole systems from parts: a node with its ledger, in a process of its own or inside yours."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dompbus.clients.blocking import Client
from dompbus.config import Config
from dompbus.ledger.service import host_ledger
from dompbus.runtime.node import Node

__all__ = ["build_node", "embedded"]


def build_node(config: Config) -> Node:
    """Return a node that serves the ledger from the data directory of `config`, recovered and ready to start.

    Raises `DirectoryLocked`, `JournalDamaged`, `StorageError`.
    """
    node = Node(config)
    try:
        if config.ledger.enabled:
            host_ledger(node, Path(config.node.data))
    except BaseException:
        node.close()
        raise
    return node


@contextmanager
def embedded(data: str | Path = "data", **settings: Any) -> Iterator[Client]:
    """A whole one-node system in this process: `with dompbus.embedded(data="./data") as client: ...`

    The node keeps its ledger in `data`, has no network port unless `listen` names one, and ends with the block.
    Settings are those of `Node`.
    """
    settings.setdefault("listen", f"inproc://dompbus-embedded-{secrets.token_hex(4)}")
    config = Config.of(data=str(data), **settings)
    with build_node(config) as node, Client(node.endpoint, name="embedded") as client:
        yield client
