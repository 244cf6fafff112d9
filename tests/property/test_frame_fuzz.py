"""Whatever bytes arrive: only `FrameError` inside, nothing escapes from a core, and memory stays bounded."""

import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from dompbus import limits
from dompbus.bus.link import LinkCore
from dompbus.bus.node import NodeCore
from dompbus.wire.bodies import BODIES, Subscribed, Welcome, control_frame, decode_body
from dompbus.wire.frame import FrameError, Kind, Refusal, pack, parse
from dompbus.wire.message import Decoder, Message, Unknown, encode
from tests.bus_world import EPOCH, NODE, greet, new_link, new_node
from tests.vectors.generate import CONTROL

EXAMPLES = 300


class Trade(Message, tag="trade"):
    symbol: str
    price: float
    extra: dict[str, int] | None = None


numbers = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2, EPOCH, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
leaves = st.none() | st.booleans() | numbers | st.integers(-(2**63), -1) | st.floats() | st.text() | st.binary()
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)
msgpack = values.map(encode)
heads = st.sampled_from(
    [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 2_000]
)
bodies = msgpack | st.binary(max_size=200) | heads | st.builds(lambda a, b: a[:-1] + b, msgpack, st.binary(max_size=8))
runs = st.lists(st.tuples(st.sampled_from(["t", "a.b", "", "a..b", "*"]), st.lists(values, max_size=4)), max_size=4)
published_bodies = runs.map(encode) | bodies


@st.composite
def any_frame(draw: st.DrawFn) -> bytes:
    """A frame whose checksum holds, of any kind with any body and any numbers."""
    kind = draw(st.sampled_from(Kind))
    body = draw(published_bodies if kind is Kind.PUBLISH else bodies)
    count = draw(st.integers(0, 5) | st.integers(0, limits.MESSAGES_PER_FRAME_MAX))
    return pack(kind, body, count=count, epoch=draw(numbers), seq=draw(numbers), time_ns=draw(numbers))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid frame with some bytes changed, cut or added; its checksum made right again or not."""
    data = bytearray(control_frame(draw(st.sampled_from(list(CONTROL.values())))))
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    data = data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data + draw(st.binary(max_size=9))
    if len(data) >= limits.HEADER_BYTES and draw(st.booleans()):
        data[12:16] = (len(data) - limits.HEADER_BYTES).to_bytes(4, "little")
        head, body = bytes(data[:40]), bytes(data[48:])
        data[40:48] = xxh3_64_intdigest(body, xxh3_64_intdigest(head)).to_bytes(8, "little")
    return bytes(data)


anything = any_frame() | mutated() | st.binary(max_size=300)


def living_node() -> NodeCore:
    node = new_node()
    greet(node, b"p", 5, "t", "a.*", ">")
    return node


def living_link() -> LinkCore:
    link = new_link()
    readers = [link.subscribe("t", Trade, 0), link.subscribe("a.*", None, 0)]
    link.request("echo", b"\xc0", deadline_ns=10**12, now_ns=0)
    link.tick(0)
    subscribed = [Subscribed(reader.id, EPOCH, 1) for reader in readers]
    link.receive(control_frame(Welcome(NODE, "node", EPOCH, "memory://p", "memory://c", subscribed)), 0)
    link.take_effects()
    return link


@settings(max_examples=EXAMPLES)
@given(anything)
def test_parse_and_decode_body(data: bytes) -> None:
    try:
        frame = parse(data)
        body = decode_body(frame)
    except FrameError as error:
        assert error.reason in Refusal  # noqa: PT017 - either outcome is right
        assert error.detail  # noqa: PT017 - as above
    else:
        assert isinstance(body, BODIES[frame.kind])


@settings(max_examples=EXAMPLES)
@given(published_bodies, st.sampled_from([None, Trade, int, dict[str, Trade], Trade | None]))
def test_decode_published(body: bytes, wanted: Any) -> None:
    try:
        decoded = Decoder(wanted).decode(memoryview(body))
    except FrameError as error:
        assert error.reason is Refusal.BODY  # noqa: PT017 - as above
        return
    for topic, messages in decoded:
        assert isinstance(topic, str)
        for message in messages:
            assert wanted is not Trade or isinstance(message, Trade | Unknown)


@settings(max_examples=EXAMPLES)
@given(st.lists(st.tuples(st.sampled_from([b"p", b"stranger"]), anything), min_size=1, max_size=8))
def test_node_receive(frames: list[tuple[bytes, bytes]]) -> None:
    node = living_node()
    for now, (identity, data) in enumerate(frames):
        node.receive(identity, data, now)
        node.publish_gathered(now)
        node.tick(now)
        effects = node.take_effects()
        for call in effects.calls:
            assert call.request.service == "echo"
        for _, [answer] in effects.sends:
            assert answer[:1] == b"\0" or parse(answer)
        refused = node.counters.frames_refused
        assert set(refused) <= set(Refusal)
    assert node.counters.frames_received == len(frames) + 1
    assert len(node._peers) == len(node._by_incarnation) <= 1 + len(frames)


@settings(max_examples=EXAMPLES)
@given(anything, st.binary(max_size=40) | st.binary(max_size=20).map(lambda tail: b"\1@" + tail))
def test_node_control_and_subscriptions(data: bytes, command: bytes) -> None:
    node = living_node()
    answer = node.receive_control(data, 0)
    assert parse(answer).kind in (Kind.PONG, Kind.REFUSED)
    decode_body(parse(answer))
    node.receive_subscription(command)
    node.take_effects()
    assert set(node.publisher.channels) == {"t", "a.*", ">"}


@settings(max_examples=EXAMPLES)
@given(
    st.lists(st.tuples(st.sampled_from([b"t\0", b"a.*\0", b"x\0", b"", b"@5/1\0"]), anything), min_size=1, max_size=8)
)
def test_link_receive_and_receive_published(frames: list[tuple[bytes, bytes]]) -> None:
    link = living_link()
    for at, (prefix, data) in enumerate(frames):
        now = at * 10**8
        link.receive(data, now)
        link.receive_published(prefix, memoryview(data), now)
        link.tick(now)
        for reader in link.readers.values():
            while reader.take():
                pass
        for effect in link.take_effects():
            if isinstance(effect, bytes):
                assert parse(effect)
    link.greet(10**10)  # whatever they told it, it can greet again
    link.tick(10**10)
    [hello] = [
        parse(effect)
        for effect in link.take_effects()
        if isinstance(effect, bytes) and parse(effect).kind is Kind.HELLO
    ]
    decode_body(hello)


def test_a_flood_of_nonsense_takes_bounded_memory() -> None:
    """Ten thousand frames of every sort, at both sides: what stays is a few counters."""
    node, link = living_node(), living_link()
    sorts = [control_frame(body) for body in CONTROL.values()]
    sorts += [data[:-1] for data in sorts] + [data[:-1] + b"\xc1" for data in sorts] + [bytes(100), b"\xff" * 60]
    sorts += [pack(Kind.PUBLISH, b"\xdd\xff\xff\xff\xff", count=9, epoch=EPOCH, seq=seq) for seq in (1, 5, 2**62)]
    sorts += [pack(Kind.HEAD, b"", count=0, epoch=EPOCH + turn, seq=2**63 - 1) for turn in range(3)]

    def flood(rounds: int) -> None:
        for turn in range(rounds):
            for data in sorts:
                node.receive(b"flood", data, turn)
                node.receive_control(data, turn)
                node.receive_subscription(data)
                link.receive(data, turn)
                link.receive_published(b"t\0", memoryview(data), turn)
            node.tick(turn)
            link.tick(turn)
            for call in node.take_effects().calls:
                node._services[call.request.service].waiting -= 1
            link.take_effects()
            for reader in link.readers.values():
                while reader.take():
                    pass

    flood(20)
    tracemalloc.start()
    flood(100)
    before = tracemalloc.get_traced_memory()[0]
    flood(100)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200 * limits.KIB
