"""Goal: flow control loses no trade, repeats what is not settled, and never passes a hole."""

import random

from dompbus.clients.replay.message import Trade
from dompbus.clients.replay.window import Watermark, Window


def _trades(first: int, last: int) -> list[Trade]:
    return [
        Trade(
            symbol="S", trade_id=str(n), time_ns=1, price="1", quantity="1", side="buy", buyer="a", seller="b", number=n
        )
        for n in range(first, last + 1)
    ]


def _numbers(trades: list[Trade]) -> list[int]:
    return [trade.number for trade in trades]


def test_window_keeps_until_settled() -> None:
    """Room is what is not kept; settled trades leave; a rewind hands out the rest again, in order."""
    window = Window(5)
    window.put(_trades(1, 5))
    assert (window.room, window.waiting) == (0, 5)
    assert _numbers(window.take(3)) == [1, 2, 3]
    window.settle(2)
    assert (window.room, window.waiting) == (2, 2)
    window.put(_trades(6, 7))
    assert _numbers(window.take(9)) == [4, 5, 6, 7]
    window.rewind()
    assert _numbers(window.take(2)) == [3, 4]
    window.settle(6)
    assert _numbers(window.take(9)) == [7]
    window.settle(1)  # an old look at the board changes nothing
    assert window.room == 4


def test_watermark() -> None:
    """Each number once; the watermark stops before a hole and jumps when it is filled."""
    mark = Watermark()
    assert [mark.accept(number) for number in (1, 2, 2, 4)] == [True, True, False, True]
    assert mark.advance() == 2
    assert [mark.accept(number) for number in (1, 4, 3)] == [False, False, True]
    assert mark.advance() == 4


def test_lossy_bus() -> None:
    """Over a bus that loses, repeats and reorders, everything is accepted exactly once in the end."""
    for seed in range(20):
        rng = random.Random(seed)
        window, mark, unread, accepted = Window(16), Watermark(), _trades(1, 200), []
        for _ in range(10_000):
            if mark.value == 200:
                break
            window.settle(mark.value)
            fresh, unread = unread[: window.room], unread[window.room :]
            window.put(fresh)
            if not window.waiting:
                window.rewind()
            arriving = [trade for trade in window.take(8) if rng.random() > 0.2] * rng.choice((1, 2))
            rng.shuffle(arriving)
            accepted += [trade.number for trade in arriving if mark.accept(trade.number)]
            mark.advance()
        assert sorted(accepted) == list(range(1, 201)), f"seed {seed}"


def test_watermark_withdraws() -> None:
    """What was accepted and not booked is a hole again, and may come again."""
    mark = Watermark()
    assert all(mark.accept(number) for number in (1, 2, 3, 4))
    mark.withdraw([3])
    assert (mark.advance(), mark.beyond) == (2, 1)
    assert mark.accept(3)
    assert (mark.advance(), mark.beyond) == (4, 0)
