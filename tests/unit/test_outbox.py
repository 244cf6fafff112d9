"""The outbox hands out every message exactly once, in order within its topic, and loses only what cannot travel."""

import threading
from typing import Any

import msgspec
import pytest

from dompbus import limits
from dompbus.bus.outbox import DROPPED_FULL, QUEUED, EncodedRun, Outbox, Receipt, Stream
from dompbus.counters import Counters
from dompbus.errors import InvalidMessage, InvalidTopic
from dompbus.wire.message import Message, encode


class Tick(Message, tag="tick"):
    value: Any


def new_outbox(batch_messages_max: int = 4) -> Outbox:
    return Outbox(Counters(), batch_messages_max=batch_messages_max, wanted=True)


def add(outbox: Outbox, stream: Stream, message: Message) -> None:
    """As `publish` does it for a lone message."""
    stream.pending.append(message)
    if not stream.dirty:
        outbox.mark(stream)


def told(runs: list[EncodedRun]) -> list[tuple[str, list[Any]]]:
    result = [msgspec.msgpack.decode(run.data) for run in runs]
    assert [len(messages) for _, messages in result] == [run.length for run in runs]
    assert [topic for topic, _ in result] == [run.stream.topic for run in runs]
    return [(topic, messages) for topic, messages in result]


def test_a_receipt_is_false_when_dropped() -> None:
    assert QUEUED
    assert Receipt("stored")
    assert not DROPPED_FULL
    assert (DROPPED_FULL.reason, DROPPED_FULL.who) == ("full", "outbox")


def test_messages_leave_by_topic_in_order_cut_at_the_batch() -> None:
    outbox = new_outbox()
    a, b = outbox.open("a"), outbox.open("b")
    outbox.add_many(a, range(4))
    add(outbox, a, Tick(4))
    outbox.add_many(b, [Tick(1), {"x": 2}])
    outbox.add_many(a, (5,))
    assert not outbox.empty
    assert told(outbox.take()) == [("a", [0, 1, 2, 3]), ("a", [["tick", 4], 5]), ("b", [["tick", 1], {"x": 2}])]
    assert outbox.empty
    assert outbox.take() == []


def test_a_message_of_no_known_type_is_encoded_at_once() -> None:
    """Because its user may change it after `publish` has returned."""
    outbox = new_outbox()
    value = [1]
    outbox.add_many(outbox.open("a"), [value])
    value.append(2)
    assert told(outbox.take()) == [("a", [[1]])]
    with pytest.raises(InvalidMessage):
        outbox.add_many(outbox.open("a"), [1, object()])
    assert outbox.take() == []  # nothing of the refused lot stayed


def test_relayed_runs_stand_behind_what_their_topic_gathered_before() -> None:
    outbox = new_outbox()
    a, b = outbox.open("a"), outbox.open("b")
    outbox.add_many(a, [1])
    outbox.relay(a, msgspec.Raw(encode([2, 3])), 2)
    outbox.add_many(a, [4])
    outbox.relay(b, msgspec.Raw(encode([9])), 1)
    outbox.relay(a, msgspec.Raw(encode([5])), 1)
    assert [run for run in told(outbox.take()) if run[0] == "a"] == [
        ("a", [1]),
        ("a", [2, 3]),
        ("a", [4]),
        ("a", [5]),
    ]
    assert outbox.empty


@pytest.mark.parametrize("bad", [Tick(object()), Tick(2**70), Tick("\ud800")])
@pytest.mark.parametrize("position", [0, 1, 3])
def test_one_that_cannot_be_encoded_does_not_take_the_others_along(bad: Tick, position: int) -> None:
    outbox = new_outbox(batch_messages_max=8)
    messages: list[Any] = [Tick(number) for number in range(4)]
    messages[position] = bad
    outbox.add_many(outbox.open("a"), messages)
    travelled = [message for _, run in told(outbox.take()) for message in run]
    assert travelled == [["tick", number] for number in range(4) if number != position]
    assert outbox.counters.messages_dropped == {"unencodable": 1}


def test_one_that_is_too_large_does_not_take_the_others_along() -> None:
    outbox = new_outbox()
    outbox.add_many(outbox.open("a"), [Tick(1), Tick(bytes(limits.BODY_BYTES_MAX)), Tick(2)])
    assert [m for _, run in told(outbox.take()) for m in run] == [["tick", 1], ["tick", 2]]
    assert outbox.counters.messages_dropped == {"too_large": 1}


def test_a_batch_that_is_too_large_together_travels_in_parts() -> None:
    outbox = new_outbox()
    outbox.add_many(outbox.open("a"), [Tick(bytes(limits.BODY_BYTES_MAX // 3))] * 4)
    runs = outbox.take()
    assert sum(run.length for run in runs) == 4
    assert all(len(run.data) < limits.BODY_BYTES_MAX for run in runs)
    assert not outbox.counters.messages_dropped


def test_topics_are_checked_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = new_outbox()
    with pytest.raises(InvalidTopic):
        outbox.open("a.*")
    assert outbox.streams == {}
    monkeypatch.setattr(limits, "STREAMS_MAX", 2)
    assert outbox.open("a") is outbox.open("a")
    outbox.open("b")
    with pytest.raises(ValueError, match="2 topics open"):
        outbox.open("c")


def test_adding_from_threads_while_another_takes_loses_and_doubles_nothing() -> None:
    outbox = new_outbox(batch_messages_max=64)
    streams = [outbox.open(f"t{number}") for number in range(3)]
    count, threads = 4_000, []
    for name in range(2):
        for stream in streams:

            def publish(name: int = name, stream: Stream = stream) -> None:
                for number in range(0, count, 2):
                    add(outbox, stream, Tick((name, number)))
                    outbox.add_many(stream, [Tick((name, number + 1))])

            threads.append(threading.Thread(target=publish))
    for thread in threads:
        thread.start()
    got: list[tuple[str, list[Any]]] = []
    while any(thread.is_alive() for thread in threads):
        got += told(outbox.take())
    for thread in threads:
        thread.join()
    got += told(outbox.take())
    for stream in streams:
        for name in range(2):
            mine = [number for topic, run in got if topic == stream.topic for _, (who, number) in run if who == name]
            assert mine == list(range(count))
