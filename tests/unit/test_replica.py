"""The replica: nothing is applied before it is stored, and nothing is carried out twice, also after a restart."""

from collections.abc import Iterable
from typing import Any

import pytest

from dompbus import limits
from dompbus.errors import MachineFailed
from dompbus.replication import replica as module
from dompbus.replication.replica import Answer, Replica
from dompbus.storage.record import Record
from dompbus.wire.bodies import ReplyStatus


class Tape:
    """A machine that remembers what it was told, and answers with the count."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, int]] = []

    def apply(self, command: bytes | memoryview, timestamp: int) -> bytes:
        self.told.append((bytes(command), timestamp))
        return b"%d" % len(self.told)

    def query(self, query: bytes | memoryview) -> bytes:
        return b"%d:" % len(self.told) + bytes(query)

    def snapshot(self) -> Iterable[bytes]:
        return []

    def restore(self, chunks: Iterable[bytes]) -> None:
        raise NotImplementedError

    def check_invariants(self) -> None:
        pass


def new_replica(log: Iterable[Record] = (), epoch: int = 3) -> tuple[Replica, Tape]:
    tape = Tape()
    replica = Replica(tape, epoch=epoch)
    replica.recover(log)
    return replica, tape


def store(replica: Replica, now_ns: int = 0) -> tuple[list[Record], list[Answer]]:
    """Take a group and store it."""
    group = replica.take_group(now_ns)
    assert group is not None
    return group, list(replica.stored())


def test_a_command_is_applied_after_it_is_stored_and_never_before() -> None:
    replica, tape = new_replica()
    assert replica.submit(1, 1, 1, b"one", "first") is None
    assert tape.told == []
    group = replica.take_group(100)
    assert group is not None
    assert [(r.seq, r.epoch, r.timestamp, r.session, r.number, r.payload) for r in group] == [(1, 3, 100, 1, 1, b"one")]
    assert tape.told == []
    assert replica.query(b"q") == b"0:q"
    assert list(replica.stored()) == [Answer("first", b"1")]
    assert tape.told == [(b"one", 100)]
    assert replica.query(b"q") == b"1:q"


def test_one_group_is_out_at_a_time_and_the_rest_is_the_next() -> None:
    replica, tape = new_replica()
    assert replica.take_group(0) is None
    replica.submit(1, 1, 1, b"a", "a")
    assert len(replica.take_group(0) or []) == 1
    for number in (2, 3):
        replica.submit(1, number, 1, b"b", number)
    assert replica.take_group(0) is None
    assert len(list(replica.stored())) == 1
    assert list(replica.stored()) == []
    group, answers = store(replica)
    assert [record.seq for record in group] == [2, 3]
    assert [answer.context for answer in answers] == [2, 3]
    assert len(tape.told) == replica.applied_seq == 3


def test_a_group_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_BYTES_MAX", 100)
    replica, _ = new_replica()
    for number, size in enumerate([60, 60, 30, 200, 10], 1):
        replica.submit(1, number, 1, bytes(size), number)
    sizes = []
    while (group := replica.take_group(0)) is not None:
        sizes.append([len(record.payload) for record in group])
        assert len(list(replica.stored())) == len(group)
    assert sizes == [[60], [60, 30], [200], [10]]
    assert limits.RECORD_BYTES_MAX <= 8 * limits.MIB


def test_timestamps_rise_by_at_least_the_commands_length_whatever_the_clock_does() -> None:
    replica, tape = new_replica()
    clock = [1_000, 1_000, 500, 0, 10_000, 10_001]
    sizes = [10, 1, 300, 0, 7, 2_000]
    for number, (now, size) in enumerate(zip(clock, sizes, strict=True), 1):
        replica.submit(1, number, 1, bytes(size), None)
        replica.submit(2, number, 1, bytes(size), None)
        store(replica, now)
    previous = 0
    for command, timestamp in tape.told:
        assert timestamp >= previous + max(1, len(command))
        previous = timestamp
    assert (tape.told[0][1], tape.told[8][1]) == (1_000, 10_000)


def test_a_repeat_is_not_done_again_and_gets_the_first_reply() -> None:
    """While the first attempt is on its way, its answer will reach the session, so a repeat has none of its own."""
    replica, tape = new_replica()
    replica.submit(1, 1, 1, b"a", "original")
    assert replica.submit(1, 1, 2, b"a", "while waiting") is None
    replica.take_group(0)
    assert replica.submit(1, 1, 3, b"a", "while out") is None
    assert list(replica.stored()) == [Answer("original", b"1")]
    assert replica.submit(1, 1, 4, b"a", "after") == Answer("after", b"1")
    assert len(tape.told) == 1


def test_recovery_rebuilds_state_table_and_order() -> None:
    replica, tape = new_replica()
    log: list[Record] = []
    for number in range(1, 6):
        replica.submit(number % 2, number, 1, b"c%d" % number, None) if number % 2 else replica.submit(
            9, number, 1, b"c%d" % number, None
        )
        log += store(replica, 1_000 * number)[0]
    again, tape_again = new_replica(log, epoch=2)
    assert tape_again.told == tape.told
    assert again.applied_seq == 5
    assert again.submit(1, 3, 2, b"c3", "repeat") == Answer("repeat", b"3")
    again.submit(1, 6, 1, b"new", "new")
    [record] = again.take_group(0) or []
    assert (record.seq, record.epoch) == (6, 3)  # never a lower epoch than the log has seen
    assert record.timestamp >= log[-1].timestamp + 3
    assert list(again.stored()) == [Answer("new", b"6")]


def test_a_request_that_was_never_stored_is_carried_out_when_repeated_after_a_restart() -> None:
    replica, _ = new_replica()
    replica.submit(1, 1, 1, b"a", None)
    log = store(replica)[0]
    replica.submit(1, 2, 1, b"lost", None)
    replica.take_group(0)
    again, tape = new_replica(log)
    assert again.submit(1, 2, 2, b"lost", "retry") is None
    assert store(again)[1] == [Answer("retry", b"2")]
    assert [command for command, _ in tape.told] == [b"a", b"lost"]


def test_what_the_table_has_forgotten_is_expired_and_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 1)
    replica, tape = new_replica()
    for session in (1, 2):
        replica.submit(session, 1, 1, b"a", None)
        store(replica)
    assert replica.submit(1, 1, 2, b"a", "late") == Answer("late", b"", ReplyStatus.SESSION_EXPIRED)
    assert replica.take_group(0) is None
    assert len(tape.told) == 2


def test_chores_are_stored_and_applied_like_commands_and_answered_to_nobody() -> None:
    replica, tape = new_replica()
    replica.submit_chore(b"expire")
    assert replica.chore_waits
    [record], [answer] = store(replica)
    assert (record.session, answer.context) == (0, None)
    assert not replica.chore_waits
    again, tape_again = new_replica([record])
    assert tape_again.told == tape.told
    assert not again.chore_waits


def test_every_command_is_seen_once_by_the_observer_also_in_recovery() -> None:
    seen: list[tuple[bytes, bytes]] = []
    log = [Record(seq=1, epoch=1, timestamp=5, session=1, number=1, payload=b"a")]
    replica = Replica(Tape(), epoch=1, observe=lambda command, result: seen.append((bytes(command), result)))
    replica.recover(log)
    replica.submit(1, 2, 1, b"b", None)
    replica.submit(1, 2, 2, b"b", None)
    store(replica)
    assert seen == [(b"a", b"1"), (b"b", b"2")]


def test_when_the_disk_fails_everybody_who_waits_is_named() -> None:
    replica, tape = new_replica()
    replica.submit(1, 1, 1, b"a", "out")
    replica.take_group(0)
    replica.submit(1, 2, 1, b"b", "waiting")
    replica.submit_chore(b"c")
    assert replica.abandon() == ["out", "waiting", None]
    assert replica.abandon() == []
    assert tape.told == []


def test_a_log_with_a_hole_is_a_fault_of_ours() -> None:
    record: Any = Record(seq=2, epoch=1, timestamp=5, session=1, number=1, payload=b"a")
    with pytest.raises(AssertionError):
        new_replica([record])


def test_what_waits_is_bounded_and_the_refused_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERVICE_QUEUE_MAX", 2)
    replica, tape = new_replica()
    assert [replica.submit(1, number, 1, b"x", number) for number in (1, 2)] == [None, None]
    assert replica.submit(1, 3, 1, b"x", 3) == Answer(3, b"", ReplyStatus.OVERLOADED)
    assert [answer.context for answer in store(replica)[1]] == [1, 2]
    assert replica.submit(1, 3, 2, b"x", "again") is None
    assert [answer.context for answer in store(replica)[1]] == ["again"]
    assert len(tape.told) == 3


def test_a_machine_that_raises_is_named_with_the_command() -> None:
    """What was answered before stays answered; everything from there on is abandoned."""
    replica, tape = new_replica()
    apply = tape.apply
    replica.machine.apply = lambda command, at: apply(command, at) if command != b"bad" else 1 // 0  # type: ignore
    for number, command in enumerate([b"good", b"bad", b"never"], 1):
        replica.submit(7, number, 1, command, number)
    replica.take_group(0)
    answers = []
    with pytest.raises(MachineFailed, match=r"ZeroDivisionError.*command 2 \(session 7, number 2\)"):
        answers.extend(list(replica.stored()))
    assert answers == []
    assert replica.abandon() == [2, 3]
    assert [command for command, _ in tape.told] == [b"good"]
