"""The publisher numbers each channel without holes, encodes once, and keeps what it can for repair."""

import itertools
from typing import Any

import msgspec
import pytest

import dompbus.bus.outbox
from dompbus import limits
from dompbus.bus.publisher import REPAIR_FRAMES_MAX, Publisher, channel_prefix
from dompbus.errors import InvalidTopic
from dompbus.wire.frame import Kind, parse
from dompbus.wire.message import Message, encode
from tests.bus_world import EPOCH, new_publisher, numbers


class Blob(Message, tag="b"):
    data: bytes


def publish(publisher: Publisher, topic: str, *messages: Any) -> list[bytes]:
    publisher.add_many(publisher.open(topic), messages)
    return publisher.frames(5)


def told(frames: list[bytes], prefix: bytes) -> list[Any]:
    """All messages of one channel in the order of its frames, as `(topic, message)`."""
    bodies = [parse(memoryview(frame)[len(prefix) :]).body for frame in frames if frame.startswith(prefix)]
    return [(topic, m) for body in bodies for topic, run in msgspec.msgpack.decode(body) for m in run]


def test_frames_carry_epoch_time_prefix_and_numbers_from_one() -> None:
    publisher = new_publisher()
    publisher.channel("a")
    [frame] = publish(publisher, "a", "x", "y")
    assert frame.startswith(b"a\0DOMP")
    parsed = parse(frame[2:])
    assert (parsed.kind, parsed.epoch, parsed.seq, parsed.count, parsed.time_ns) == (Kind.PUBLISH, EPOCH, 1, 2, 5)
    [frame] = publish(publisher, "a", "z")
    assert parse(frame[2:]).seq == 3
    assert publisher.counters.messages_published == 3


def test_numbers_have_no_holes_over_topics_and_batches() -> None:
    publisher = new_publisher()
    publisher.channel("m.*")
    frames: list[bytes] = []
    for size in (1, 9, 4, 0, 7):
        publisher.add_many(publisher.open("m.a"), list(range(size)))
        frames += publish(publisher, "m.b", *range(size // 2))
    expected = 1
    for seq, count in numbers(frames, b"m.*\0"):
        assert seq == expected
        assert 1 <= count <= 4
        expected += count
    assert publisher.channels["m.*"].seq == expected == 1 + 21 + 9


def test_order_within_a_topic_is_kept_in_every_channel() -> None:
    publisher = new_publisher()
    for pattern in ("m.a", "m.*", ">", "x"):
        publisher.channel(pattern)
    frames = publish(publisher, "m.a", *range(10)) + publish(publisher, "m.b", 100) + publish(publisher, "m.a", 10)
    assert told(frames, b"m.a\0") == [("m.a", number) for number in range(11)]
    for prefix in (b"m.*\0", b">\0"):
        merged = told(frames, prefix)
        assert [m for topic, m in merged if topic == "m.a"] == list(range(11))
        assert ("m.b", 100) in merged
    assert told(frames, b"x\0") == []


def test_what_is_encoded_is_encoded_once_however_many_carry_it(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = new_publisher()
    for pattern in ("m.a", "m.*", "m.>", ">", "*.a"):
        publisher.channel(pattern)
    encoded: list[Any] = []

    def counting(value: Any) -> bytes:
        encoded.append(value)
        return encode(value)

    monkeypatch.setattr(dompbus.bus.outbox, "encode", counting)
    assert len(publish(publisher, "m.a", Blob(b"1"), Blob(b"2"))) == 5
    assert len(encoded) == 1


def test_nobody_listens_nothing_is_wanted() -> None:
    publisher = new_publisher()
    stream = publisher.open("a")
    assert not stream.wanted
    channel = publisher.channel("a")
    assert stream.wanted
    assert publisher.open("b").wanted is False
    publisher.channel(">")
    assert publisher.open("b").wanted
    publisher.drop_if_unused(channel)
    assert publisher.open("a").wanted
    publisher.drop_if_unused(publisher.channel(">"))
    assert not publisher.open("a").wanted
    assert publisher.frames(1) == []


def test_a_batch_is_cut_by_messages_and_by_bytes() -> None:
    publisher = new_publisher(batch_messages_max=4, batch_bytes_max=1024)
    publisher.channel(">")
    for topic in "abcdef":
        publisher.add_many(publisher.open(topic), [1])
    assert numbers(publisher.frames(0), b">\0") == [(1, 4), (5, 2)]
    for topic in "abcdef":
        publisher.add_many(publisher.open(topic), [bytes(500)])
    assert numbers(publisher.frames(0), b">\0") == [(7, 2), (9, 2), (11, 2)]
    for topic in "ab":  # one alone above the bound still travels
        publisher.add_many(publisher.open(topic), [bytes(5_000)])
    assert numbers(publisher.frames(0), b">\0") == [(13, 1), (14, 1)]


def test_topics_in_a_frame_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RUNS_PER_FRAME_MAX", 3)
    publisher = new_publisher(batch_messages_max=100)
    publisher.channel(">")
    for number in range(7):
        publisher.add_many(publisher.open(f"t{number}"), [1])
    assert numbers(publisher.frames(0), b">\0") == [(1, 3), (4, 3), (7, 1)]


@pytest.mark.parametrize("spare", range(8))
def test_a_frame_never_exceeds_the_bound_of_a_body(spare: int) -> None:
    """Two runs that fill the largest batch to the last byte: the list around them has a length of its own."""
    publisher = new_publisher(batch_bytes_max=limits.BODY_BYTES_MAX)
    publisher.channel(">")
    half = limits.BODY_BYTES_MAX // 2
    head = len(encode(("a", [bytes(half)]))) - half
    for size in (half, half - 2 * head - spare):
        publisher.add_many(publisher.open(f"{'ab'[size != half]}"), [bytes(size)])
    assert sum(count for _, count in numbers(publisher.frames(0), b">\0")) == 2


def test_unencodable_and_too_large_messages_leave_no_hole() -> None:
    publisher = new_publisher()
    publisher.channel("a")
    class_ = Blob
    bad = class_("\ud800")  # type: ignore[arg-type] # a user's mistake
    frames = publish(publisher, "a", class_(b"1"), bad, class_(b"2")) + publish(
        publisher, "a", class_(bytes(limits.BODY_BYTES_MAX)), class_(b"3")
    )
    assert [message[1] for _, message in told(frames, b"a\0")] == [b"1", b"2", b"3"]
    assert publisher.channels["a"].seq == 4
    assert publisher.counters.messages_dropped == {"unencodable": 1, "too_large": 1}


def test_heads_announce_what_was_sent_and_are_repeated_ever_more_rarely() -> None:
    publisher = new_publisher()
    publisher.channel("a")
    publisher.channel("b")
    assert publisher.heads() == []
    publish(publisher, "a", 1, 2)
    [head] = publisher.heads()
    frame = parse(head[2:])
    assert head.startswith(b"a\0")
    assert (frame.kind, frame.epoch, frame.seq, frame.count) == (Kind.HEAD, EPOCH, 3, 0)
    told_at = [0] + [tick for tick in range(1, 400) if publisher.heads()]
    pauses = [after - before for before, after in itertools.pairwise(told_at)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64]
    publish(publisher, "a", 3)
    assert [bool(publisher.heads()) for _ in range(4)] == [True, True, False, True]


def repaired(publisher: Publisher, first: int, last: int) -> tuple[list[tuple[int, int]], tuple[int, int] | None]:
    frames, lost = publisher.repair(publisher.channels["a"], first, last)
    return [(parse(frame).seq, parse(frame).count) for frame in frames], lost


def test_repair_sends_the_frames_that_hold_the_range() -> None:
    publisher = new_publisher()
    publisher.channel("a")
    sent = publish(publisher, "a", *range(10))
    assert numbers(sent, b"a\0") == [(1, 4), (5, 4), (9, 2)]
    assert repaired(publisher, 1, 4) == ([(1, 4)], None)
    assert repaired(publisher, 4, 5) == ([(1, 4), (5, 4)], None)
    assert repaired(publisher, 6, 6) == ([(5, 4)], None)
    assert repaired(publisher, 9, 2**63 - 1) == ([(9, 2)], None)
    assert repaired(publisher, 11, 20) == ([], None)
    assert publisher.repair(publisher.channels["a"], 1, 1)[0][0] == sent[0][2:]


def test_the_ring_is_bounded_in_frames_and_says_what_it_has_lost() -> None:
    publisher = new_publisher(ring_frames=3, batch_messages_max=2)
    publisher.channel("a")
    publish(publisher, "a", *range(10))
    assert len(publisher.channels["a"].ring) == 3
    assert repaired(publisher, 1, 10) == ([(5, 2), (7, 2), (9, 2)], (1, 4))
    assert repaired(publisher, 2, 3) == ([], (2, 3))
    assert repaired(publisher, 4, 5) == ([(5, 2)], (4, 4))


def test_the_ring_is_bounded_in_bytes_over_all_channels() -> None:
    publisher = new_publisher(ring_bytes=10_000, ring_frames=1_000)
    for pattern in ("a", "b", ">"):
        publisher.channel(pattern)
    for _ in range(50):
        publish(publisher, "a", bytes(300))
        publish(publisher, "b", bytes(300))
        kept = [len(sent.frame) for channel in publisher.channels.values() for sent in channel.ring]
        assert sum(kept) <= 10_000
    assert sum(kept) > 9_000
    for pattern, channel in list(publisher.channels.items()):
        ring = list(channel.ring)
        assert [sent.seq for sent in ring] == list(range(channel.seq - len(ring), channel.seq)), pattern
        publisher.drop_if_unused(channel)
    assert publisher._ring_bytes == 0


def test_one_repair_is_bounded_and_its_rest_is_asked_for_again() -> None:
    publisher = new_publisher(batch_messages_max=1, ring_frames=1_000)
    publisher.channel("a")
    publish(publisher, "a", *range(200))
    frames, lost = repaired(publisher, 1, 200)
    assert frames == [(seq, 1) for seq in range(1, REPAIR_FRAMES_MAX + 1)]
    assert lost is None


def test_a_channel_in_use_is_kept_and_a_forgotten_one_never_reuses_a_number() -> None:
    publisher = new_publisher()
    channel = publisher.channel("a")
    channel.readers = 1
    publisher.drop_if_unused(channel)
    channel.readers, channel.fanned = 0, True
    publisher.drop_if_unused(channel)
    assert publisher.channels == {"a": channel}
    publish(publisher, "a", 1, 2, 3)
    channel.fanned = False
    publisher.drop_if_unused(channel)
    assert publisher.channels == {}
    again = publisher.channel("a")
    assert again.seq == 4
    assert repaired(publisher, 1, 3) == ([], (1, 3))  # a reader that comes back is told
    assert publisher.channel("other").seq == 4


def test_patterns_are_checked_and_prefixes_hide_nothing() -> None:
    publisher = new_publisher()
    with pytest.raises(InvalidTopic):
        publisher.channel("a..b")
    assert publisher.channels == {}
    assert channel_prefix("a.*") == b"a.*\0"
    assert not channel_prefix("ab").startswith(channel_prefix("a"))
