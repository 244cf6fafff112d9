"""Messages: what users publish, and how a reader gets them back typed.

The law here: a reader never fails on a message it does not know. Types carry their tag on the wire; new fields are
appended with defaults, so old readers ignore them and new readers fill them in; anything else arrives as `Unknown`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, dataclass_transform

import msgspec

from dompbus import limits
from dompbus.errors import InvalidMessage
from dompbus.wire.frame import FrameError, Refusal

__all__ = [
    "DECODE_ERRORS",
    "ENCODE_ERRORS",
    "Decoder",
    "Message",
    "Run",
    "Unknown",
    "encode",
    "encode_raw",
    "encode_value",
]


if TYPE_CHECKING:
    # Type checkers do not let an unmarked subclass of a frozen Struct be frozen too; this says that it is.
    @dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
    class Message:
        """Base of published types."""

        def __init_subclass__(
            cls,
            *,
            tag: str | int | bool | Callable[[str], str | int] | None = None,
            kw_only: bool = False,
            array_like: bool = True,
            gc: bool = False,
            rename: Any = None,
            omit_defaults: bool = False,
        ) -> None: ...
else:

    class Message(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
        """Base of published types: `class Trade(Message, tag="trade")`. The tag defaults to the class name.

        Frozen, because it may be encoded after `publish` has returned. Fields travel by position: evolve a type by
        appending fields that have defaults, never by reordering or removing.
        """


class Unknown(msgspec.Struct, frozen=True):
    """A message that the reader's type does not cover. `raw` is its msgpack, `reason` what did not fit."""

    tag: str | None
    raw: bytes
    reason: str


Run = tuple[str, Any]  # topic, list of messages: consecutive messages of one topic in a frame

# What msgspec raises on bytes that are not what they should be, however they are wrong; found by fuzzing.
DECODE_ERRORS: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
ENCODE_ERRORS: Final = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)

encode: Final = msgspec.msgpack.Encoder(decimal_format="string", uuid_format="canonical").encode

_RUNS: Final = msgspec.Meta(max_length=limits.RUNS_PER_FRAME_MAX)
_MESSAGES: Final = msgspec.Meta(max_length=limits.MESSAGES_PER_FRAME_MAX)
_raw_runs: Final = msgspec.msgpack.Decoder(Annotated[list[tuple[str, Annotated[list[msgspec.Raw], _MESSAGES]]], _RUNS])
_any: Final = msgspec.msgpack.Decoder()


def encode_value(value: Any) -> bytes:
    """Encode one request, answer or message; raise `InvalidMessage` naming the type that has no encoding."""
    try:
        return encode(value)
    except ENCODE_ERRORS as error:
        raise InvalidMessage(f"cannot encode {type(value).__name__}: {error}") from error


def encode_raw(value: Any) -> msgspec.Raw:
    """The same, ready to be part of something larger."""
    return msgspec.Raw(encode_value(value))


class Decoder:
    """Decodes the body of a published frame into runs of `(topic, [message, ...])` for one subscription's type.

    `type` is a `Message` class, a union of them, any other type that msgspec decodes, or None for plain Python
    values. The whole frame is decoded in one call; only a frame that holds a surprise is taken apart.
    """

    __slots__ = ("_one", "_runs")

    def __init__(self, type: Any = None) -> None:
        wanted = Any if type is None else type
        try:
            messages: Any = Annotated[list[wanted], _MESSAGES]  # type: ignore[valid-type] # built at run time
            runs: Any = Annotated[list[tuple[str, messages]], _RUNS]
            self._runs: msgspec.msgpack.Decoder[list[Run]] = msgspec.msgpack.Decoder(runs)
            self._one = msgspec.msgpack.Decoder(wanted)
        except (TypeError, ValueError) as error:
            raise InvalidMessage(f"cannot decode into {type!r}: {error}") from error

    def decode(self, body: memoryview) -> list[Run]:
        """Return the runs of `body`. Raises `FrameError` only when the body is no list of runs at all."""
        try:
            return self._runs.decode(body)
        except DECODE_ERRORS:
            return self._decode_one_by_one(body)

    def _decode_one_by_one(self, body: memoryview) -> list[Run]:
        try:
            runs = _raw_runs.decode(body)
        except DECODE_ERRORS as error:
            raise FrameError(Refusal.BODY, f"not a list of runs: {error}") from error
        return [(topic, [self._decode_message(raw) for raw in messages]) for topic, messages in runs]

    def _decode_message(self, raw: msgspec.Raw) -> Any:
        try:
            return self._one.decode(raw)
        except DECODE_ERRORS as error:
            return Unknown(_tag_of(raw), bytes(raw), str(error))


def _tag_of(raw: msgspec.Raw) -> str | None:
    try:
        value = _any.decode(raw)
    except DECODE_ERRORS:
        return None
    if isinstance(value, list) and value and isinstance(value[0], str):
        return value[0]
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        return str(value["type"])
    return None
