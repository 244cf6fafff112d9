"""The reader: in order, once, and what is missing is asked for, filled, or named in its place."""

from typing import Any

import pytest

from dompbus.bus import reader as module
from dompbus.bus.reader import Batch, Gap, Reader
from dompbus.counters import Counters
from dompbus.wire.frame import Kind, pack, parse
from dompbus.wire.message import Message, Unknown, encode
from tests.bus_world import EPOCH, MS, S, published


class Tick(Message, tag="tick"):
    value: int


def begun(seq: int = 1, type: Any = None, epoch: int = EPOCH) -> Reader:
    reader = Reader(1, "t", type, Counters())
    reader.begin(epoch, seq)
    return reader


def items(reader: Reader) -> list[Any]:
    """All that can be taken: messages, and gaps in their place."""
    result: list[Any] = []
    while taken := reader.take():
        for item in taken:
            result += [item] if isinstance(item, Gap) else item.messages
    return result


def gap(first: int, last: int | None, epoch: int = EPOCH) -> Gap:
    return Gap("t", first, last, epoch)


def test_frames_in_order_come_out_as_batches_with_their_place() -> None:
    reader = begun()
    assert reader.subscribed
    assert not reader.ready
    assert reader.receive(published("a", "b", seq=1, time_ns=7))
    assert reader.receive(published("c", seq=3))
    assert reader.ready
    assert reader.take() == [Batch("t", EPOCH, 1, 7, ["a", "b"])]
    assert reader.take() == [Batch("t", EPOCH, 3, 9, ["c"])]
    assert reader.take() == []
    assert not reader.has_hole
    assert reader.counters.messages_delivered == 3


def test_a_frame_of_several_topics_is_one_batch_each() -> None:
    reader = begun()
    body = encode([("x", [1, 2]), ("y", [3]), ("x", [4])])
    reader.receive(parse(pack(Kind.PUBLISH, body, count=4, epoch=EPOCH, seq=1)))
    assert [(b.topic, b.seq, b.messages) for b in reader.take() if isinstance(b, Batch)] == [
        ("x", 1, [1, 2]),
        ("y", 3, [3]),
        ("x", 4, [4]),
    ]


def test_types_and_unknown() -> None:
    reader = begun(type=Tick)
    reader.receive(published(Tick(1), "other", Tick(2), seq=1))
    first, unknown, last = items(reader)
    assert (first, last) == (Tick(1), Tick(2))
    assert isinstance(unknown, Unknown)


def test_what_was_sent_before_the_subscription_is_not_its() -> None:
    reader = begun(seq=5)
    reader.receive(published("old", seq=4))
    reader.receive(published("new", seq=5))
    assert items(reader) == ["new"]


def test_a_duplicate_is_dropped_wherever_it_comes() -> None:
    reader = begun()
    first, second, third = (published(text, seq=seq) for seq, text in enumerate("abc", 1))
    for frame in (first, first, third, third, second, second, third, first):
        assert reader.receive(frame)
    assert items(reader) == ["a", "b", "c"]
    assert not reader.has_hole


def test_out_of_order_frames_wait_for_the_hole_to_be_filled() -> None:
    reader = begun()
    for seq in (4, 2, 3):
        reader.receive(published(seq, seq=seq))
    assert items(reader) == []
    assert reader.nak_due(0) == (1, 1)
    reader.receive(published(1, seq=1))
    assert items(reader) == [1, 2, 3, 4]
    assert not reader.has_hole
    assert reader.nak_due(10 * S) is None
    assert reader.nak_at_ns is None


def test_each_hole_is_asked_for_in_turn_with_back_off() -> None:
    reader = begun()
    reader.receive(published(3, seq=3))
    reader.receive(published(6, seq=6))
    now = 1_000 * MS
    assert reader.nak_due(now) == (1, 2)
    delays = []
    for _ in range(6):
        assert reader.nak_due(now) is None
        due = reader.nak_at_ns
        assert due is not None
        assert reader.nak_due(due - 1) is None
        delays.append(due - now)
        now = due
        assert reader.nak_due(now) == (1, 2)
    assert delays == [module.NAK_DELAY_NS << attempt for attempt in range(6)]
    reader.receive(published(1, 2, seq=1))
    assert items(reader) == [1, 2, 3]
    assert reader.nak_due(reader.nak_at_ns or 0) == (4, 5)
    assert reader.counters.repairs["asked"] == 8


def test_the_pause_between_attempts_has_a_bound_and_so_have_the_attempts() -> None:
    """What is never filled stands in its place as a gap, after about the time in which silence is noticed."""
    reader = begun()
    reader.receive(published(5, seq=5))
    now, asked, pauses = 0, 0, []
    while reader.has_hole:
        asked += reader.nak_due(now) is not None
        at = reader.nak_at_ns
        if at is not None:
            pauses.append(at - now)
            now = at
    assert asked == module.NAK_ATTEMPTS_MAX
    assert max(pauses) == module.NAK_DELAY_MAX_NS
    assert 1 * S < now < 5 * S
    assert items(reader) == [gap(1, 4), 5]
    assert reader.counters.gaps == 1
    assert reader.counters.repairs["lost"] == 1


def test_a_tail_is_known_from_heads_and_positions() -> None:
    reader = begun()
    reader.reach(EPOCH, 4)
    assert reader.nak_due(0) == (1, 3)
    reader.reach(EPOCH, 2)  # an older beacon changes nothing
    reader.receive(published(1, seq=1))
    assert reader.nak_due(S) == (2, 3)
    reader.reach(EPOCH + 1, 50)
    reader.reach(EPOCH - 1, 50)
    assert reader.nak_due(2 * S) == (2, 3)
    reader.begin(EPOCH, 6)  # a second confirmation in the same epoch: the position moves on, nothing is skipped
    reader.receive(published(2, 3, seq=2))
    assert reader.nak_due(3 * S) == (4, 5)
    assert items(reader) == [1, 2, 3]


def test_what_the_publisher_has_lost_is_a_gap_in_its_place() -> None:
    reader = begun()
    reader.receive(published(1, seq=1))
    reader.receive(published(6, seq=6))
    reader.lost(EPOCH, 2, 3)
    assert reader.nak_due(0) == (4, 5)
    reader.receive(published(4, 5, seq=4))
    assert items(reader) == [1, gap(2, 3), 4, 5, 6]


def test_lost_reaches_no_further_than_the_hole() -> None:
    reader = begun()
    reader.receive(published(3, seq=3))
    reader.lost(EPOCH, 1, 2**63 - 1)
    assert items(reader) == [gap(1, 2), 3]


@pytest.mark.parametrize("range_", [(0, 2**63 - 1), (1, 1), (2, 2), (0, 0)])
def test_lost_without_a_hole_is_no_gap(range_: tuple[int, int]) -> None:
    """A doubled or made-up LOST must not show a gap that ends before it begins."""
    for reader in (begun(), begun(seq=2), Reader(1, "t", None, Counters())):
        reader.lost(reader.epoch, *range_)
        reader.lost(EPOCH - 1, *range_)
        assert items(reader) == []
        assert reader.counters.gaps == 0
    reader = begun()
    reader.receive(published(3, seq=3))
    reader.lost(EPOCH, 2, 2)  # its beginning is not ours: what comes first may still be sent
    assert reader.nak_due(0) == (1, 2)


def test_a_lower_epoch_is_refused_and_counted() -> None:
    """A paused or replaced publisher that wakes up cannot move a price."""
    reader = begun()
    assert reader.receive(published("stale", seq=1, epoch=EPOCH - 1))
    assert reader.counters.frames_refused == {"stale_epoch": 1}
    assert items(reader) == []
    assert reader.seq == 1


def test_a_higher_epoch_waits_for_its_announcement() -> None:
    reader = begun()
    assert not reader.receive(published("early", seq=1, epoch=EPOCH + 1))
    assert items(reader) == []


def test_a_new_epoch_is_a_gap_of_unknown_length() -> None:
    reader = begun()
    reader.receive(published(1, seq=1))
    reader.receive(published(3, seq=3))  # held for ever: message 2 died with the old epoch
    reader.begin(EPOCH + 1, 8)
    reader.receive(published(8, seq=8, epoch=EPOCH + 1))
    reader.receive(published("late", seq=2))
    assert items(reader) == [1, gap(2, None), 8]
    assert not reader.has_hole
    assert reader.counters.frames_refused == {"stale_epoch": 1}


def test_what_is_held_beyond_a_hole_is_bounded_at_every_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the next attempt is not due yet: a hole before a flood must not hold the flood."""
    monkeypatch.setattr(module, "HELD_FRAMES_MAX", 10)
    reader = begun()
    most = 0
    for seq in range(2, 100):
        reader.receive(published(seq, seq=seq))
        if reader.has_hole:
            reader.nak_due(0)
        most = max(most, len(reader._held))
    assert most <= 10
    assert items(reader) == [gap(1, 1), *range(2, 100)]


def test_a_slow_user_costs_bounded_memory_and_is_told_what_he_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READY_FRAMES_MAX", 5)
    reader = begun()
    for seq in range(1, 41, 2):
        reader.receive(published(seq, seq + 1, seq=seq))
        assert len(reader._ready) <= 5
    assert items(reader) == [gap(1, 32), *range(33, 41)]
    assert reader.counters.messages_dropped == {"slow_reader": 32}


def test_a_slow_user_across_a_restart_is_told_that_the_count_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READY_FRAMES_MAX", 3)
    reader = begun()
    reader.receive(published(1, seq=1))
    reader.begin(EPOCH + 1, 1)
    for seq in range(1, 9):
        reader.receive(published(seq, seq=seq, epoch=EPOCH + 1))
    assert items(reader) == [gap(1, None), 7, 8]


@pytest.mark.parametrize(
    "frame",
    [
        pack(Kind.PUBLISH, b"\xc1", count=2, epoch=EPOCH, seq=1),
        pack(Kind.PUBLISH, encode([("t", [1, 2, 3])]), count=2, epoch=EPOCH, seq=1),
        pack(Kind.PUBLISH, encode([("t", [1])]), count=2, epoch=EPOCH, seq=1),
        pack(Kind.PUBLISH, encode([]), count=2, epoch=EPOCH, seq=1),
    ],
)
def test_a_body_that_is_none_is_counted_and_stands_as_a_gap(frame: bytes) -> None:
    reader = begun()
    reader.receive(parse(frame))
    reader.receive(published("next", seq=3))
    assert items(reader) == [gap(1, 2), "next"]
    assert reader.counters.frames_refused == {"body": 1}
    assert reader.counters.messages_delivered == 1
