"""The blocking client: what a trading engine embeds.

The law here: this file and `aio.py` read alike and behave alike; one conformance suite holds them together.
"""

from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from dompbus.bus.outbox import Receipt
from dompbus.config import Config
from dompbus.ledger.client import LedgerClient
from dompbus.runtime.blocking import BlockingLink, Subscription

__all__ = ["Client"]

_T = TypeVar("_T")


class Client:
    """A client of one node: `with dompbus.Client("tcp://127.0.0.1:7400") as client: ...`

    `timeout` (seconds) is the deadline of calls that name none; by default that of the configuration, 5 s. All methods
    may be called from any thread. There is no background thread: work is done in the thread that waits (one helper
    thread starts when bursts are published, and ends at `close`). Not usable in a forked child: open one there.
    """

    def __init__(
        self, url: str, *, name: str = "client", timeout: float | None = None, config: Config | None = None
    ) -> None:
        self.url = url
        settings = Config.of(config) if timeout is None else Config.of(config, timeouts_request=timeout)
        self._link = BlockingLink(url, settings, name=name)
        self.counters = self._link.counters
        self._publish = self._link.publish

    def publish(self, topic: str, message: Any, *, urgent: bool = False) -> Receipt:
        """Publish one message through the node; returns at once. False receipt: dropped, and why.

        `urgent` sends it, and all that gathered before it, now.
        Raises `InvalidTopic`, `InvalidMessage`, `ClosedError`.
        """
        return self._publish(topic, message, urgent=urgent)

    def publish_many(self, topic: str, messages: Sequence[Any]) -> Receipt:
        """Publish messages of one topic, in order, in as few frames as possible."""
        return self._link.publish_many(topic, messages)

    def flush(self, timeout: float | None = None) -> None:
        """Return when all that was published has been handed to the transport."""
        self._link.flush(timeout)

    @overload
    def subscribe(
        self, pattern: str, *, type: type[_T], delivery: str = ..., timeout: float | None = ...
    ) -> Subscription[_T]: ...
    @overload
    def subscribe(
        self, pattern: str, *, type: Any = ..., delivery: str = ..., timeout: float | None = ...
    ) -> Subscription[Any]: ...
    def subscribe(
        self,
        pattern: str,
        *,
        type: Any = None,
        delivery: str = "reliable",
        timeout: float | None = None,
    ) -> Subscription[Any]:
        """Subscribe to a topic or pattern; iterate over the result. Returns when the node has confirmed.

        `type` is a `Message` class or a union of them; without it, plain values arrive. In the place of what was
        lost stands a `Gap`, in that of a message the type does not cover an `Unknown`.
        Raises `InvalidTopic`, `Unreachable`, `Timeout`.
        """
        return self._link.subscribe(pattern, type=type, delivery=delivery, timeout=timeout)

    @overload
    def request(self, service: str, value: Any = ..., *, type: type[_T], timeout: float | None = ...) -> _T: ...
    @overload
    def request(self, service: str, value: Any = ..., *, type: Any = ..., timeout: float | None = ...) -> Any: ...
    def request(self, service: str, value: Any = None, *, type: Any = None, timeout: float | None = None) -> Any:
        """Ask a service; return its answer decoded into `type`.

        Raises `Timeout`, `Unreachable`, `NoService`, `Overloaded`, `Denied`, `SessionExpired`, `RemoteError`,
        `InvalidMessage`.
        """
        return self._link.request(service, value, type=type, timeout=timeout)

    @cached_property
    def ledger(self) -> LedgerClient:
        """The default book: accounts and transfers of `dompbus.ledger`."""
        return LedgerClient(self._call_ledger)

    def close(self) -> None:
        """Send what is left, say goodbye, close the sockets. Idempotent."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call_ledger(self, payload: bytes, *, query: bool) -> bytes:
        answer: bytes = self._link.request("ledger.query" if query else "ledger", payload, type=bytes)
        return answer
