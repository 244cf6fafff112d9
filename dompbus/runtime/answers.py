"""What a reply means to the caller: a value, or one of the typed errors. Shared by the blocking and asyncio faces."""

from typing import Any, Final

import msgspec

from dompbus.bus.link import Outstanding
from dompbus.errors import (
    Denied,
    InvalidMessage,
    NoService,
    Overloaded,
    RemoteError,
    RequestError,
    SessionExpired,
    Timeout,
)
from dompbus.wire.bodies import Reply, ReplyStatus
from dompbus.wire.message import DECODE_ERRORS

__all__ = ["check_delivery", "interpret"]

_detail: Final = msgspec.msgpack.Decoder(tuple[str, str])
_DELIVERIES: Final = ("reliable",)


def check_delivery(delivery: str) -> None:
    """Raise `ValueError` for a delivery that this version does not offer."""
    if delivery not in _DELIVERIES:
        raise ValueError(f"delivery {delivery!r} is not offered by this version; it offers {', '.join(_DELIVERIES)}")


def interpret(outstanding: Outstanding, wanted: Any) -> Any:
    """Return the answer decoded into `wanted` (None: plain values), or raise what it says."""
    reply = outstanding.reply
    assert reply is not None
    if reply.status is not ReplyStatus.OK:
        raise _error(reply, outstanding.service)
    try:
        return msgspec.msgpack.decode(reply.payload, type=Any if wanted is None else wanted)
    except DECODE_ERRORS as error:
        raise InvalidMessage(f"the answer of {outstanding.service!r} is not a {wanted!r}: {error}") from error


def _error(reply: Reply, service: str) -> RequestError | InvalidMessage:
    match reply.status:
        case ReplyStatus.NO_SERVICE:
            return NoService(f"no service {service!r} at this node")
        case ReplyStatus.OVERLOADED:
            return Overloaded(f"the queue of {service!r} is full; nothing was carried out")
        case ReplyStatus.TIMEOUT:
            return Timeout(f"the deadline passed before {service!r} started; nothing was carried out")
        case ReplyStatus.DENIED:
            return Denied(f"not allowed to request {service!r}")
        case ReplyStatus.SESSION_EXPIRED:
            return SessionExpired(
                f"the node at which {service!r} was asked has restarted or forgotten this session: "
                "the first attempt may have been carried out, this one was not"
            )
        case ReplyStatus.INVALID:
            return InvalidMessage(f"{service!r} refused the request: {_text(reply)}")
        case _:
            return RemoteError(*_kind_and_detail(reply))


def _text(reply: Reply) -> str:
    try:
        return msgspec.msgpack.decode(reply.payload, type=str)
    except DECODE_ERRORS:
        return "no reason given"


def _kind_and_detail(reply: Reply) -> tuple[str, str]:
    try:
        return _detail.decode(reply.payload)
    except DECODE_ERRORS:
        return "Error", "the service failed and its reason cannot be read"
