"""The bodies of control frames: one msgspec type per kind, encoded by position.

The law here: a body is decoded into its type or refused; sizes are bounded by the type itself, before anything
is built from them. New fields are appended with defaults.
"""

from enum import IntEnum
from typing import Annotated, Any, Final

import msgspec

from dompbus import limits
from dompbus.wire.frame import Frame, FrameError, Kind, Refusal, pack
from dompbus.wire.message import DECODE_ERRORS, encode

__all__ = [
    "BODIES",
    "Goodbye",
    "Hello",
    "Joined",
    "Lost",
    "Nak",
    "Ping",
    "Pong",
    "Refused",
    "Reply",
    "ReplyStatus",
    "Request",
    "Subscribe",
    "Subscribed",
    "Unsubscribe",
    "Welcome",
    "control_frame",
    "decode_body",
]

_U63 = Annotated[int, msgspec.Meta(ge=0, le=limits.SEQ_MAX)]
_Incarnation = Annotated[int, msgspec.Meta(ge=1, le=limits.SEQ_MAX)]  # 0 is nobody's: the host's own commands use it
_Name = Annotated[str, msgspec.Meta(max_length=limits.NAME_BYTES_MAX)]
_Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.TOPIC_BYTES_MAX)]
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Budget = Annotated[int, msgspec.Meta(ge=0, le=limits.REQUEST_TIMEOUT_MAX_NS)]


class _Body(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all control bodies."""


class Subscribe(_Body, frozen=True):
    """Ask for the channel of `pattern`. `epoch` and `seq` (next expected) are set when a subscription resumes."""

    id: _U63
    pattern: _Pattern
    epoch: _U63 = 0
    seq: _U63 = 0


class Subscribed(_Body, frozen=True):
    """The channel's position at the moment of subscription: the first message that belongs to it has `seq`."""

    id: _U63
    epoch: _U63
    seq: _U63
    error: _Text = ""


class Unsubscribe(_Body, frozen=True):
    """End one subscription."""

    id: _U63


class Request(_Body, frozen=True):
    """One call. The peer's incarnation and `number` name it for ever: a repeat gets the same reply.

    `budget_ns` is the time left for it; `attempt` is 1 the first time.
    """

    number: _U63
    service: _Name
    budget_ns: _Budget
    attempt: _U63
    payload: msgspec.Raw


class ReplyStatus(IntEnum):
    """How a request ended at the worker."""

    OK = 0
    FAILED = 1  # payload: [kind, detail] of the service's own exception
    NO_SERVICE = 2
    OVERLOADED = 3
    TIMEOUT = 4  # its deadline had passed before it was started
    DENIED = 5
    SESSION_EXPIRED = 6
    INVALID = 7  # payload: text; the request does not decode into what the service takes


class Reply(_Body, frozen=True):
    """The answer to request `number` of the peer that it is sent to."""

    number: _U63
    status: ReplyStatus
    payload: msgspec.Raw


class Hello(_Body, frozen=True):
    """The first frame of a peer: who it is, and whatever it already wants, so that one round trip is enough.

    `node` is the incarnation of the node that alone can have seen earlier attempts of its requests; 0 if none.
    """

    incarnation: _Incarnation
    name: _Name
    node: _U63 = 0
    subscriptions: Annotated[list[Subscribe], msgspec.Meta(max_length=limits.SUBSCRIPTIONS_PER_PEER_MAX)] = []
    requests: Annotated[list[Request], msgspec.Meta(max_length=limits.REQUESTS_PER_FRAME_MAX)] = []


class Welcome(_Body, frozen=True):
    """The node's answer to `Hello`: who it is and where its other sockets are."""

    incarnation: _U63
    name: _Name
    epoch: _U63
    publish_endpoint: _Text
    control_endpoint: _Text
    subscribed: Annotated[list[Subscribed], msgspec.Meta(max_length=limits.SUBSCRIPTIONS_PER_PEER_MAX)] = []


class Refused(_Body, frozen=True):
    """A frame was not accepted. `kind` is the refused frame's kind where it could be read, else 0."""

    reason: _Text
    detail: _Text
    kind: _U63 = 0


class Goodbye(_Body, frozen=True):
    """The sender is leaving on purpose."""

    reason: _Text = ""


class Joined(_Body, frozen=True):
    """Sent on a peer's private channel once its SUB link is live: the next `seq` of each of its subscriptions."""

    positions: Annotated[list[tuple[_U63, _U63]], msgspec.Meta(max_length=limits.SUBSCRIPTIONS_PER_PEER_MAX)]


class Nak(_Body, frozen=True):
    """Messages `first` to `last` of a subscription did not arrive; please send them again."""

    id: _U63
    epoch: _U63
    first: _U63
    last: _U63


class Lost(_Body, frozen=True):
    """Messages `first` to `last` of a subscription can no longer be sent again."""

    id: _U63
    epoch: _U63
    first: _U63
    last: _U63


class Ping(_Body, frozen=True):
    """Asks for a `Pong` with the same token."""

    token: _U63


class Pong(_Body, frozen=True):
    """Who answers; `known` tells whether it still knows the asking peer."""

    token: _U63
    incarnation: _U63
    known: bool


BODIES: Final[dict[Kind, Any]] = {
    Kind.HELLO: Hello,
    Kind.WELCOME: Welcome,
    Kind.GOODBYE: Goodbye,
    Kind.REFUSED: Refused,
    Kind.SUBSCRIBE: Subscribe,
    Kind.SUBSCRIBED: Subscribed,
    Kind.UNSUBSCRIBE: Unsubscribe,
    Kind.JOINED: Joined,
    Kind.NAK: Nak,
    Kind.LOST: Lost,
    Kind.REQUEST: Request,
    Kind.REPLY: Reply,
    Kind.PING: Ping,
    Kind.PONG: Pong,
}
_KINDS: Final = {body: kind for kind, body in BODIES.items()}
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(body) for kind, body in BODIES.items()}


def control_frame(body: _Body, *, epoch: int = 0, time_ns: int = 0, prefix: bytes = b"") -> bytes:
    """Return the frame that carries `body`."""
    return pack(_KINDS[type(body)], encode(body), epoch=epoch, time_ns=time_ns, prefix=prefix)


def decode_body(frame: Frame) -> Any:
    """Return the typed body of a control frame; raise `FrameError` when it is not one."""
    decoder = _DECODERS.get(frame.kind)
    if decoder is None:
        raise FrameError(Refusal.UNEXPECTED, f"{frame.kind.name} has no typed body")
    try:
        return decoder.decode(frame.body)
    except DECODE_ERRORS as error:
        raise FrameError(Refusal.BODY, f"{frame.kind.name}: {error}") from error
