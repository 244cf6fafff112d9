"""Every error that a user of dompbus can meet, in one tree.

The law here: an error names its cause and, where there is one, the next step. Outcomes that are part of
normal business (a refused transfer, a full queue) are values, not exceptions; see `ledger/types.py` and `Receipt`.
"""

__all__ = [
    "ClosedError",
    "ConfigError",
    "Denied",
    "DirectoryLocked",
    "DompbusError",
    "EndpointError",
    "InvalidAmount",
    "InvalidEvent",
    "InvalidMessage",
    "InvalidTopic",
    "JournalDamaged",
    "LedgerRefused",
    "MachineFailed",
    "NoService",
    "Overloaded",
    "ProtocolError",
    "RemoteError",
    "RequestError",
    "SessionExpired",
    "StorageError",
    "Timeout",
    "Unreachable",
]


class DompbusError(Exception):
    """Root of every error that dompbus raises on purpose."""


class ConfigError(DompbusError):
    """The configuration names a key or value that is not allowed; the text says which, where, and what is."""


class InvalidTopic(DompbusError, ValueError):
    """A topic or pattern that breaks the grammar of `dompbus.topics`."""


class InvalidMessage(DompbusError, TypeError):
    """A message that cannot be encoded, or a type that cannot be decoded into."""


class EndpointError(DompbusError):
    """An endpoint that cannot be bound or connected: bad syntax, port in use, unknown transport."""


class InvalidAmount(DompbusError, ValueError):
    """A decimal that the ledger cannot hold exactly: too many decimals, negative, NaN, infinite or too large."""


class InvalidEvent(DompbusError, ValueError):
    """An account, transfer, id or filter that cannot be encoded; the text names its index, field, value and range."""


class LedgerRefused(DompbusError):
    """The ledger did not take a request as a whole (malformed, too large, out of its time). Nothing was carried out."""


class ClosedError(DompbusError):
    """The client or node was used after `close()`, or in a process forked from its own."""


class ProtocolError(DompbusError):
    """A peer sent something that the protocol does not allow. Counted and refused, never guessed."""


class StorageError(DompbusError):
    """The disk refused: not writable, full, or an I/O error. What was acknowledged before is safe."""


class DirectoryLocked(StorageError):
    """Another process owns this data directory."""


class JournalDamaged(StorageError):
    """A journal holds a record that was once durable and no longer verifies. Nothing is served from it."""

    def __init__(self, message: str, *, path: str = "", offset: int = 0, seq: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset
        self.seq = seq
        self.reason = reason


class MachineFailed(DompbusError):
    """A state machine broke its contract by raising. It is no longer served; the node and other machines go on."""


class RequestError(DompbusError):
    """Root of what can go wrong with one request."""


class Timeout(RequestError, TimeoutError):
    """The deadline passed with no answer. The request may or may not have been carried out."""


class Unreachable(RequestError, ConnectionError):
    """No node answers at the URL. Is it running, and is the address right?"""


class NoService(RequestError):
    """No node that can be reached offers a service of this name."""


class Overloaded(RequestError):
    """The worker's queue is full. Nothing was carried out; try again later or elsewhere."""


class Denied(RequestError):
    """The key in use is not allowed to do this."""


class SessionExpired(RequestError):
    """The worker no longer remembers this session, so it cannot tell a retry from a new request. Not carried out."""


class RemoteError(RequestError):
    """The service's own code failed. `kind` is the exception's class name there, `detail` its text."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail
