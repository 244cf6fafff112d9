"""The reply table: one execution for each request that was ever accepted, within bounds."""

import pytest

from dompbus import limits
from dompbus.bus.replies import EXPIRED, NEW, RUNNING, ReplyTable


def begin(table: ReplyTable, session: int, number: int, attempt: int = 1, *, sole: bool = True) -> str | bytes:
    return table.begin(session, number, attempt, sole=sole)


def done(table: ReplyTable, session: int, number: int, reply: bytes = b"r") -> None:
    assert begin(table, session, number) == NEW
    table.finish(session, number, reply)


def test_a_repeat_gets_the_first_reply() -> None:
    table = ReplyTable()
    assert begin(table, 1, 1) == NEW
    assert begin(table, 1, 1, 2) == RUNNING
    assert begin(table, 1, 1, 1) == RUNNING  # the network may double a frame
    table.finish(1, 1, b"first")
    assert begin(table, 1, 1, 2) == b"first"
    assert begin(table, 1, 1, 1) == b"first"
    assert begin(table, 2, 1) == NEW
    assert begin(table, 1, 2) == NEW


def test_a_retry_whose_first_attempt_may_have_gone_elsewhere_is_expired() -> None:
    table = ReplyTable()
    assert begin(table, 1, 1, 2, sole=False) == EXPIRED
    assert begin(table, 1, 2, 2, sole=True) == NEW  # every earlier attempt can only have come here: it never arrived
    assert begin(table, 1, 3, 1, sole=False) == NEW


def test_what_was_refused_before_anything_was_done_is_new_again() -> None:
    table = ReplyTable()
    assert begin(table, 1, 1) == NEW
    table.abandon(1, 1)
    assert begin(table, 1, 1, 2) == NEW
    table.abandon(9, 9)


def test_replies_of_a_session_are_bounded_and_the_forgotten_are_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 32
    monkeypatch.setattr(limits, "REPLIES_PER_SESSION_MAX", count)
    table = ReplyTable()
    for number in range(1, count + 11):
        done(table, 1, number)
    for number in range(1, 11):
        assert begin(table, 1, number, 2) == EXPIRED
        assert begin(table, 1, number, 1) == EXPIRED  # a doubled first attempt, come very late
    assert begin(table, 1, 11, 2) == b"r"
    assert begin(table, 1, count + 11) == NEW


def test_a_long_one_is_not_forgotten_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPLIES_PER_SESSION_MAX", 32)
    table = ReplyTable()
    assert begin(table, 1, 1) == NEW
    for number in range(2, 100):
        done(table, 1, number)
    assert begin(table, 1, 1, 2) == RUNNING
    table.finish(1, 1, b"at last")
    assert begin(table, 1, 1, 3) == b"at last"


def test_sessions_are_bounded_and_the_one_unheard_of_longest_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 3)
    table = ReplyTable()
    for session in (1, 2, 3):
        done(table, session, 1)
    assert begin(table, 1, 1, 2) == b"r"  # heard of: 2 is the oldest now
    done(table, 4, 1)
    assert begin(table, 1, 1, 2) == b"r"
    assert begin(table, 2, 1, 2) == EXPIRED
    assert len(table._sessions) == 3


def test_once_a_session_was_forgotten_no_retry_of_an_unknown_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 2)
    table = ReplyTable()
    done(table, 1, 1)
    done(table, 2, 1)
    assert begin(table, 1, 2, 2) == NEW
    assert begin(table, 3, 1, 2) == EXPIRED
    assert begin(table, 2, 1, 2) == EXPIRED


def test_bytes_are_bounded_over_all_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPLY_CACHE_BYTES_MAX", 1_000)
    table = ReplyTable()
    for session in range(1, 31):
        for number in range(1, 4):
            done(table, session, number, bytes(100))
            held = [reply for entry in table._sessions.values() for reply in entry.replies.values()]
            assert sum(map(len, held)) == table._bytes <= 1_000
    assert begin(table, 30, 3, 2) == bytes(100)
    assert begin(table, 1, 1, 2) == EXPIRED


def test_a_reply_to_a_forgotten_session_is_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 1)
    table = ReplyTable()
    assert begin(table, 1, 1) == NEW
    assert begin(table, 2, 1) == NEW
    table.finish(1, 1, b"r")
    assert table._bytes == 0
    assert begin(table, 1, 1, 2) == EXPIRED
