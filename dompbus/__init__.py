"""dompbus: the message bus that trading engines and game servers embed.

Names are imported when first used, so that `import dompbus` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dompbus.bus.outbox import Receipt as Receipt
    from dompbus.bus.reader import Batch as Batch
    from dompbus.bus.reader import Gap as Gap
    from dompbus.clients.aio import AsyncClient as AsyncClient
    from dompbus.clients.blocking import Client as Client
    from dompbus.clients.compose import embedded as embedded
    from dompbus.config import Config as Config
    from dompbus.errors import ClosedError as ClosedError
    from dompbus.errors import ConfigError as ConfigError
    from dompbus.errors import Denied as Denied
    from dompbus.errors import DirectoryLocked as DirectoryLocked
    from dompbus.errors import DompbusError as DompbusError
    from dompbus.errors import EndpointError as EndpointError
    from dompbus.errors import InvalidAmount as InvalidAmount
    from dompbus.errors import InvalidEvent as InvalidEvent
    from dompbus.errors import InvalidMessage as InvalidMessage
    from dompbus.errors import InvalidTopic as InvalidTopic
    from dompbus.errors import JournalDamaged as JournalDamaged
    from dompbus.errors import LedgerRefused as LedgerRefused
    from dompbus.errors import MachineFailed as MachineFailed
    from dompbus.errors import NoService as NoService
    from dompbus.errors import Overloaded as Overloaded
    from dompbus.errors import ProtocolError as ProtocolError
    from dompbus.errors import RemoteError as RemoteError
    from dompbus.errors import RequestError as RequestError
    from dompbus.errors import SessionExpired as SessionExpired
    from dompbus.errors import StorageError as StorageError
    from dompbus.errors import Timeout as Timeout
    from dompbus.errors import Unreachable as Unreachable
    from dompbus.runtime.node import Node as Node
    from dompbus.wire.message import Message as Message
    from dompbus.wire.message import Unknown as Unknown

__version__: Final = "0.1.0"

_HOMES: Final = {
    "dompbus.bus.outbox": ("Receipt",),
    "dompbus.bus.reader": ("Batch", "Gap"),
    "dompbus.clients.aio": ("AsyncClient",),
    "dompbus.clients.blocking": ("Client",),
    "dompbus.clients.compose": ("embedded",),
    "dompbus.config": ("Config",),
    "dompbus.errors": (
        "ClosedError",
        "ConfigError",
        "Denied",
        "DirectoryLocked",
        "DompbusError",
        "EndpointError",
        "InvalidMessage",
        "ProtocolError",
        "LedgerRefused",
        "MachineFailed",
        "InvalidEvent",
        "InvalidAmount",
        "InvalidTopic",
        "JournalDamaged",
        "NoService",
        "Overloaded",
        "RemoteError",
        "RequestError",
        "SessionExpired",
        "StorageError",
        "Timeout",
        "Unreachable",
    ),
    "dompbus.runtime.node": ("Node",),
    "dompbus.wire.message": ("Message", "Unknown"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncClient",
    "Batch",
    "Client",
    "ClosedError",
    "Config",
    "ConfigError",
    "Denied",
    "DirectoryLocked",
    "DompbusError",
    "EndpointError",
    "Gap",
    "InvalidAmount",
    "InvalidEvent",
    "InvalidMessage",
    "InvalidTopic",
    "JournalDamaged",
    "LedgerRefused",
    "MachineFailed",
    "Message",
    "NoService",
    "Node",
    "Overloaded",
    "ProtocolError",
    "Receipt",
    "RemoteError",
    "RequestError",
    "SessionExpired",
    "StorageError",
    "Timeout",
    "Unknown",
    "Unreachable",
    "embedded",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'dompbus' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
