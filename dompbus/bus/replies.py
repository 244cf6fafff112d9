"""The reply table: a request that comes twice is carried out once and answered twice.

The law here: for a `(session, number)` that was ever accepted, the answer is the first reply or `EXPIRED`, never a
second execution. Bounded in sessions, in replies per session and in bytes; what is used least recently leaves first.
"""

from collections import OrderedDict
from typing import Final

from dompbus import limits

__all__ = ["EXPIRED", "NEW", "RUNNING", "ReplyTable"]

NEW: Final = "new"
RUNNING: Final = "running"
EXPIRED: Final = "expired"


class _Session:
    __slots__ = ("complete", "forgotten_number", "replies", "running")

    def __init__(self, complete: bool) -> None:
        self.complete = complete  # there cannot have been an earlier entry of this session
        self.replies: OrderedDict[int, bytes] = OrderedDict()
        self.running: set[int] = set()
        self.forgotten_number = 0  # replies up to here may have left the table


class ReplyTable:
    """`begin` a request, `finish` it with its reply."""

    def __init__(self) -> None:
        self._complete = True  # no session has been forgotten yet
        self._sessions: OrderedDict[int, _Session] = OrderedDict()
        self._bytes = 0

    def begin(self, session: int, number: int, attempt: int, *, sole: bool) -> str | bytes:
        """Return `NEW` (now running), `RUNNING`, `EXPIRED`, or the reply that was given before.

        `sole`: every earlier attempt can only have come to this table, so one that it does not know never arrived.
        """
        entry = self._sessions.get(session)
        if entry is None:
            entry = self._open(session)
        else:
            self._sessions.move_to_end(session)
        reply = entry.replies.get(number)
        if reply is not None:
            return reply
        if number in entry.running:
            return RUNNING
        if number <= entry.forgotten_number:  # first attempts arrive in rising order, so this is no first one
            return EXPIRED
        if attempt > 1 and not (sole and entry.complete):
            return EXPIRED
        entry.running.add(number)
        return NEW

    def finish(self, session: int, number: int, reply: bytes) -> None:
        """Keep `reply` for repeats of this request."""
        entry = self._sessions.get(session)
        if entry is None:
            return
        entry.running.discard(number)
        entry.replies[number] = reply
        self._bytes += len(reply)
        if len(entry.replies) > limits.REPLIES_PER_SESSION_MAX:
            self._forget(entry)
        while self._bytes > limits.REPLY_CACHE_BYTES_MAX:
            self._forget_oldest()

    def abandon(self, session: int, number: int) -> None:
        """The request was refused before anything was done: a repeat is a new request."""
        entry = self._sessions.get(session)
        if entry is not None:
            entry.running.discard(number)

    def _open(self, session: int) -> _Session:
        if len(self._sessions) >= limits.SESSIONS_MAX:
            _, old = self._sessions.popitem(last=False)
            self._complete = False
            self._bytes -= sum(map(len, old.replies.values()))
        entry = self._sessions[session] = _Session(self._complete)
        return entry

    def _forget(self, entry: _Session) -> None:
        number, reply = entry.replies.popitem(last=False)
        entry.forgotten_number = max(entry.forgotten_number, number)
        self._bytes -= len(reply)

    def _forget_oldest(self) -> None:
        """Give up one reply of the session that was heard of least recently, and the session with its last."""
        session, entry = next(iter(self._sessions.items()))
        if entry.replies:
            self._forget(entry)
        else:
            del self._sessions[session]
            self._complete = False
