"""Services: user functions that answer requests, run in the reactor's turn or on threads of their own.

The law here: a request whose deadline has passed is not started; whatever a handler raises becomes a typed answer,
and nothing a handler does can stop the node.
"""

import inspect
import logging
import time
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dompbus import limits
from dompbus.bus.node import Call
from dompbus.counters import Counters
from dompbus.errors import InvalidMessage
from dompbus.runtime.reactor import Reactor
from dompbus.wire.bodies import ReplyStatus
from dompbus.wire.message import DECODE_ERRORS, encode, encode_value

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["Handler", "Service"]

Handler = Callable[[Any], Any]
Respond = Callable[[Call, ReplyStatus, bytes], None]
_SLOW_NS: Final = 50_000_000  # an inline handler that takes longer delays everybody: say so
_log: Final = logging.getLogger("dompbus.service")


class Service:
    """One handler. With `threads=0` it runs in the reactor's turn: fastest, and it must not block."""

    def __init__(self, name: str, handler: Handler, *, threads: int = 0) -> None:
        self.name = name
        self._handler = handler
        self._decode = _decoder_for(handler)
        self._pool = _pool(name, threads) if threads else None

    def serve(self, call: Call, respond: Respond, reactor: Reactor, counters: Counters) -> None:
        """Carry out one call and answer it, now or from a thread."""
        if self._pool is None:
            status, payload = self._run(call)
            counters.request_seconds[self.name].observe(time.monotonic_ns() - call.arrived_ns)
            respond(call, status, payload)
        else:
            try:
                self._pool.submit(self._serve_on_thread, call, respond, reactor, counters)
            except RuntimeError:  # the pool is closed, and the node is about to be
                respond(call, ReplyStatus.OVERLOADED, b"\xc0")

    def _serve_on_thread(self, call: Call, respond: Respond, reactor: Reactor, counters: Counters) -> None:
        status, payload = self._run(call)

        def answer() -> None:
            counters.request_seconds[self.name].observe(time.monotonic_ns() - call.arrived_ns)
            respond(call, status, payload)

        reactor.call(answer)

    def close(self) -> None:
        """Let running handlers finish; drop those that have not started."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, call: Call) -> tuple[ReplyStatus, bytes]:
        started_ns = time.monotonic_ns()
        if started_ns >= call.deadline_ns:
            return ReplyStatus.TIMEOUT, b"\xc0"
        try:
            return self._carry_out(call)
        except BaseException as error:  # a user's code may raise anything, SystemExit too; it belongs to the caller
            kind, text = type(error).__name__, _text_of(error)
            _log.warning("service %s failed: %s: %s", self.name, kind, text, exc_info=_log.isEnabledFor(logging.DEBUG))
            return ReplyStatus.FAILED, encode((kind, text))
        finally:
            elapsed_ns = time.monotonic_ns() - started_ns
            if self._pool is None and elapsed_ns > _SLOW_NS:
                _log.warning("service %s held up the node for %d ms: give it threads=", self.name, elapsed_ns // 10**6)

    def _carry_out(self, call: Call) -> tuple[ReplyStatus, bytes]:
        try:
            argument = self._decode(call.request.payload)
        except DECODE_ERRORS as error:
            return ReplyStatus.INVALID, encode(f"{self.name}: {error}"[:1024])
        answer = self._handler(argument)
        try:
            payload = encode_value(answer)
        except InvalidMessage as error:
            return ReplyStatus.FAILED, encode(("InvalidMessage", f"the answer of {self.name}: {_text_of(error)}"))
        if len(payload) > limits.PAYLOAD_BYTES_MAX:
            large = f"the answer of {self.name} has {len(payload)} bytes; at most {limits.PAYLOAD_BYTES_MAX} can travel"
            return ReplyStatus.FAILED, encode(("InvalidMessage", large))
        return ReplyStatus.OK, payload


def _text_of(error: BaseException) -> str:
    """The error's text, made fit to travel: it may hold lone surrogates, or fail itself."""
    try:
        return str(error)[:4096].encode("utf-8", "backslashreplace").decode()
    except Exception:
        return "its text cannot be had"


def _pool(name: str, threads: int) -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor  # 4 MiB that a node without slow services does not need

    return ThreadPoolExecutor(threads, thread_name_prefix=f"dompbus-{name}")


def _decoder_for(handler: Handler) -> Callable[[Any], Any]:
    """Decode into the type that the handler's one parameter is annotated with, or into plain values."""
    parameters = list(inspect.signature(handler).parameters.values())
    if len(parameters) != 1:
        name = getattr(handler, "__name__", "the handler")
        raise TypeError(f"{name} takes {len(parameters)} parameters; a service handler takes one, the request")
    wanted = typing.get_type_hints(handler).get(parameters[0].name, Any)
    try:
        return msgspec.msgpack.Decoder(wanted).decode
    except (TypeError, ValueError) as error:
        raise InvalidMessage(f"cannot decode requests into {wanted!r}: {error}") from error
