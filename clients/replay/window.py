"""The two ends of a replay's flow control, as pure bookkeeping.

The laws here. Publishing side (`Window`): a trade is kept until it is known to be settled, at most `limit` are kept,
and after `rewind` every kept trade is handed out again, in order. Settling side (`Watermark`): each number is
accepted once, and the watermark never passes a number that was not accepted.
"""

from collections.abc import Iterable

from dompbus.clients.replay.message import Trade

__all__ = ["Watermark", "Window"]


class Window:
    """The trades that were read and are not yet settled; `number` rises by one from trade to trade."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: list[Trade] = []
        self._next = 0  # of `_kept`, the first that is not handed out (again)

    @property
    def room(self) -> int:
        """How many more trades may be read."""
        return self.limit - len(self._kept)

    @property
    def waiting(self) -> int:
        """How many kept trades `take` would still hand out."""
        return len(self._kept) - self._next

    def put(self, trades: Iterable[Trade]) -> None:
        """Keep trades that were just read."""
        self._kept.extend(trades)
        assert len(self._kept) <= self.limit

    def take(self, count: int) -> list[Trade]:
        """Hand out the next trades to publish, at most `count`."""
        trades = self._kept[self._next : self._next + count]
        self._next += len(trades)
        return trades

    def settle(self, number: int) -> None:
        """Forget everything up to `number`."""
        if self._kept and (done := number - self._kept[0].number + 1) > 0:
            assert done <= len(self._kept)
            del self._kept[:done]
            self._next = max(0, self._next - done)

    def rewind(self) -> None:
        """Hand out everything that is kept once more."""
        self._next = 0


class Watermark:
    """Numbers from 1, accepted in any order; `value` is the highest up to which none is missing."""

    def __init__(self) -> None:
        self.value = 0
        self._beyond: set[int] = set()

    @property
    def has_hole(self) -> bool:
        """Whether something was accepted beyond a missing number."""
        return self.value + 1 not in self._beyond and bool(self._beyond)

    def accept(self, number: int) -> bool:
        """Note `number`; say whether it is new."""
        if number <= self.value or number in self._beyond:
            return False
        self._beyond.add(number)
        return True

    @property
    def beyond(self) -> int:
        """How many were accepted beyond a missing one."""
        return len(self._beyond)

    def withdraw(self, numbers: Iterable[int]) -> None:
        """Take back numbers that were accepted and then not booked; none of them has been moved over."""
        self._beyond.difference_update(numbers)

    def advance(self) -> int:
        """Move over everything accepted without a hole. Call it when all that was accepted is booked."""
        while self.value + 1 in self._beyond:
            self.value += 1
            self._beyond.remove(self.value)
        return self.value
