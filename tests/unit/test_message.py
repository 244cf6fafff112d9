"""Messages: types evolve, and a reader never fails on what it does not know."""

import tracemalloc
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from dompbus import limits
from dompbus.errors import InvalidMessage
from dompbus.wire.frame import FrameError, Refusal
from dompbus.wire.message import Decoder, Message, Unknown, encode, encode_value


class Trade(Message, tag="trade"):
    symbol: str
    price: str
    quantity: str


class TradeOfTomorrow(Message, tag="trade"):
    symbol: str
    price: str
    quantity: str
    venue: str = "unknown"
    flags: int = 0


class Quote(Message, tag="quote"):
    symbol: str
    bid: float
    ask: float


class Untagged(Message):
    x: int


TRADE = Trade("XBTUSDT", "1.5", "2")


def runs(*messages: object, topic: str = "t") -> memoryview:
    return memoryview(encode([(topic, list(messages))]))


def decoded(wanted: object, *messages: object) -> list[object]:
    [(topic, result)] = Decoder(wanted).decode(runs(*messages))
    assert topic == "t"
    return list(result)


def test_a_message_travels_as_an_array_that_begins_with_its_tag() -> None:
    assert msgspec.msgpack.decode(encode(TRADE)) == ["trade", "XBTUSDT", "1.5", "2"]
    assert msgspec.msgpack.decode(encode(Untagged(1))) == ["Untagged", 1]


def test_messages_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TRADE.price = "2"  # type: ignore[misc] # that is the point


def test_typed_untyped_and_unions() -> None:
    assert decoded(Trade, TRADE, TRADE) == [TRADE, TRADE]
    assert decoded(None, TRADE, 1, {"a": 2}) == [["trade", "XBTUSDT", "1.5", "2"], 1, {"a": 2}]
    assert decoded(Trade | Quote, TRADE, Quote("X", 1.0, 2.0)) == [TRADE, Quote("X", 1.0, 2.0)]
    assert decoded(dict[str, int], {"a": 1}) == [{"a": 1}]


def test_old_readers_ignore_new_fields_and_new_readers_fill_them_in() -> None:
    assert decoded(Trade, TradeOfTomorrow("X", "1", "2", "kraken", 7)) == [Trade("X", "1", "2")]
    assert decoded(TradeOfTomorrow, Trade("X", "1", "2")) == [TradeOfTomorrow("X", "1", "2", "unknown", 0)]


def test_an_unknown_tag_reaches_the_reader_in_its_place() -> None:
    quote = Quote("X", 1.0, 2.0)
    first, unknown, last = decoded(Trade, TRADE, quote, TRADE)
    assert (first, last) == (TRADE, TRADE)
    assert isinstance(unknown, Unknown)
    assert (unknown.tag, unknown.raw) == ("quote", encode(quote))
    assert "quote" in unknown.reason


@pytest.mark.parametrize(
    ("message", "tag"),
    [
        (["trade", 1, 2, 3], "trade"),
        (["trade"], "trade"),
        ({"type": "other"}, "other"),
        (17, None),
        ([], None),
        ([1], None),
    ],
)
def test_whatever_does_not_fit_is_unknown(message: object, tag: str | None) -> None:
    [unknown] = decoded(Trade, message)
    assert isinstance(unknown, Unknown)
    assert (unknown.tag, unknown.raw) == (tag, encode(message))


@pytest.mark.parametrize(
    "raw",
    [
        b"\xa1\xff",  # text that is none
        b"\x81\x80\xc0",  # a map as the key of a map
        b"\xc7\x0c\xff" + b"\xff" * 12,  # a time of which there is none
        b"\x91" * 100_000 + b"\xc0",  # deeper than the stack
    ],
)
def test_bytes_that_no_value_has_are_unknown_too(raw: bytes) -> None:
    body = memoryview(b"\x91\x92\xa1t\x92\x01" + raw)
    try:
        [(_, [good, unknown])] = Decoder(None).decode(body)
    except FrameError as error:  # so deep that not even its end can be found
        assert error.reason is Refusal.BODY  # noqa: PT017 - either outcome is right
    else:
        assert good == 1
        assert unknown.raw == raw


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\xc0", b"\x91", b"\x91\xc0", b"\x91\x92\x01\x90", b"\x91\x92\xa1t\xc0"]
)
def test_what_is_no_list_of_runs_is_refused(body: bytes) -> None:
    for wanted in (None, Trade):
        with pytest.raises(FrameError) as caught:
            Decoder(wanted).decode(memoryview(body))
        assert caught.value.reason is Refusal.BODY


@pytest.mark.parametrize(
    "body", [b"\xdd\xff\xff\xff\xff", b"\x91\x92\xa1t\xdd\xff\xff\xff\xff", b"\x91\x92\xa1t\x91\xdf\xff\xff\xff\xff"]
)
def test_a_length_that_was_only_claimed_allocates_nothing(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            Decoder(None).decode(memoryview(body))
        assert tracemalloc.get_traced_memory()[1] < 64 * limits.KIB
    finally:
        tracemalloc.stop()


def test_runs_and_messages_in_a_frame_are_bounded() -> None:
    fits = encode([("t", [0] * limits.MESSAGES_PER_FRAME_MAX)])
    assert len(Decoder(None).decode(memoryview(fits))[0][1]) == limits.MESSAGES_PER_FRAME_MAX
    for body in (
        encode([("t", [0] * (limits.MESSAGES_PER_FRAME_MAX + 1))]),
        encode([("t", [0])] * (limits.RUNS_PER_FRAME_MAX + 1)),
    ):
        with pytest.raises(FrameError):
            Decoder(None).decode(memoryview(body))


def test_special_values_travel_as_documented() -> None:
    assert encode(Decimal("1.50")) == encode("1.50")
    uuid = UUID(int=1)
    assert encode(uuid) == encode(str(uuid))
    assert decoded(datetime, datetime.fromisoformat("2025-01-01T00:00:00+00:00"))[0] == datetime.fromisoformat(
        "2025-01-01T00:00:00+00:00"
    )


@pytest.mark.parametrize("value", [object(), 2**64, {1, object()}, "\ud800", lambda: None])
def test_what_has_no_encoding_is_named(value: object) -> None:
    with pytest.raises(InvalidMessage, match=type(value).__name__):
        encode_value(value)


def test_a_value_that_holds_itself_has_no_encoding() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidMessage):
        encode_value(loop)


def test_a_type_that_cannot_be_decoded_into_is_refused_when_it_is_given() -> None:
    with pytest.raises(InvalidMessage, match="cannot decode into"):
        Decoder(dict[list[int], int] | list[int] | tuple[int, ...])
