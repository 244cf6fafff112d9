"""Control bodies: each comes back as it was, types grow by appending, and sizes are bounded by the type."""

from typing import Any

import msgspec
import pytest

from dompbus import limits
from dompbus.wire.bodies import (
    BODIES,
    Goodbye,
    Hello,
    Joined,
    Lost,
    Nak,
    Ping,
    Pong,
    Refused,
    Reply,
    ReplyStatus,
    Request,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    control_frame,
    decode_body,
)
from dompbus.wire.frame import FrameError, Kind, Refusal, pack, parse
from dompbus.wire.message import encode

RAW = msgspec.Raw(encode({"a": [1, 2]}))
REQUEST = Request(7, "risk.check", 10**9, 1, RAW)
SAMPLES: list[Any] = [
    Hello(11, "client", 0, [Subscribe(1, "md.>")], [REQUEST]),
    Welcome(12, "node", 5, "tcp://127.0.0.1:1", "tcp://127.0.0.1:2", [Subscribed(1, 5, 1)]),
    Goodbye("bye"),
    Refused("stranger", "greet first", 13),
    Subscribe(1, "md.*", 5, 6),
    Subscribed(1, 5, 6, "no"),
    Unsubscribe(1),
    Joined([(1, 5), (2, 6)]),
    Nak(1, 5, 6, 9),
    Lost(1, 5, 6, 9),
    REQUEST,
    Reply(7, ReplyStatus.FAILED, RAW),
    Ping(3),
    Pong(3, 12, True),
]


def refusal(kind: Kind, body: bytes) -> Refusal:
    with pytest.raises(FrameError) as caught:
        decode_body(parse(pack(kind, body)))
    return caught.value.reason


@pytest.mark.parametrize("body", SAMPLES, ids=lambda body: type(body).__name__)
def test_each_body_comes_back(body: Any) -> None:
    frame = parse(control_frame(body, epoch=5, time_ns=6))
    assert BODIES[frame.kind] is type(body)
    assert (frame.epoch, frame.time_ns, frame.count) == (5, 6, 1)
    again = decode_body(frame)
    assert encode(again) == encode(body)
    assert type(again) is type(body)


def test_every_kind_but_two_has_a_body_and_a_sample() -> None:
    assert {type(body) for body in SAMPLES} == set(BODIES.values())
    assert set(Kind) - set(BODIES) == {Kind.PUBLISH, Kind.HEAD}
    for kind in (Kind.PUBLISH, Kind.HEAD):
        assert refusal(kind, b"\x90") is Refusal.UNEXPECTED


@pytest.mark.parametrize("body", SAMPLES, ids=lambda body: type(body).__name__)
def test_fields_of_the_future_are_ignored(body: Any) -> None:
    kind = parse(control_frame(body)).kind
    longer = encode([*msgspec.structs.astuple(body), "new", {"x": 1}])
    assert encode(decode_body(parse(pack(kind, longer)))) == encode(body)


def test_missing_fields_take_their_defaults() -> None:
    hello: Hello = decode_body(parse(pack(Kind.HELLO, encode([3, "x"]))))
    assert (hello.incarnation, hello.name, hello.subscriptions, hello.requests) == (3, "x", [], [])
    assert decode_body(parse(pack(Kind.GOODBYE, b"\x90"))) == Goodbye("")


@pytest.mark.parametrize("body", SAMPLES, ids=lambda body: type(body).__name__)
@pytest.mark.parametrize(
    "wrong", [b"", b"\xc1", b"\xc0", b"\x01", b"\x80", b"\x91\xc0", b"\x91\x91\x91\x91", b"\xdd\xff\xff\xff\xff"]
)
def test_other_bytes_are_refused(body: Any, wrong: bytes) -> None:
    assert refusal(parse(control_frame(body)).kind, wrong) is Refusal.BODY


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Kind.PING, [-1]),
        (Kind.PING, [2**63]),
        (Kind.PING, [1.5]),
        (Kind.SUBSCRIBE, [1, ""]),
        (Kind.SUBSCRIBE, [1, "a" * (limits.TOPIC_BYTES_MAX + 1)]),
        (Kind.HELLO, [1, "n" * (limits.NAME_BYTES_MAX + 1)]),
        (Kind.HELLO, [1, "n", 0, [[i, "a"] for i in range(limits.SUBSCRIPTIONS_PER_PEER_MAX + 1)]]),
        (Kind.HELLO, [1, "n", 0, [], [[i, "s", 1, 1, None] for i in range(limits.REQUESTS_PER_FRAME_MAX + 1)]]),
        (Kind.REQUEST, [1, "s", limits.REQUEST_TIMEOUT_MAX_NS + 1, 1, None]),
        (Kind.REQUEST, [1, "s", -1, 1, None]),
        (Kind.REQUEST, [1, "s", 1, 1]),
        (Kind.REPLY, [1, 99, None]),
        (Kind.JOINED, [[[1]]]),
        (Kind.JOINED, [[[i, i] for i in range(limits.SUBSCRIPTIONS_PER_PEER_MAX + 1)]]),
        (Kind.REFUSED, ["r" * 1025, ""]),
    ],
)
def test_values_out_of_bounds_are_refused(kind: Kind, values: list[Any]) -> None:
    assert refusal(kind, encode(values)) is Refusal.BODY
