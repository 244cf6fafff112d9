"""Publishing: alone at once, in a burst together, nothing dropped without a receipt and a counter that say so."""

import time
from typing import Any

import msgspec
import pytest

from dompbus import limits
from dompbus.bus.outbox import Outbox
from dompbus.counters import Counters
from dompbus.errors import ClosedError, InvalidMessage, InvalidTopic
from dompbus.runtime.publishing import Publishing
from dompbus.runtime.reactor import Reactor
from dompbus.wire.message import Message

NEVER = 2**63


class Tick(Message, tag="tick"):
    value: Any


class Sender:
    """A publisher whose sending can be held up, and which notes what left."""

    def __init__(self, *, linger_ns: int = 0, batch: int = 8, wanted: bool = True) -> None:
        self.counters = Counters()
        self.outbox = Outbox(self.counters, batch_messages_max=batch, wanted=wanted)
        self.reactor = Reactor(self)
        self.sent: list[list[Any]] = []
        self.woken = 0
        self.blocked = False
        self.publishing = Publishing(
            self.outbox, self.reactor, send=self.send, wake=self.wake, linger_ns=linger_ns, gather_ns=1_000_000_000
        )

    def work(self, now_ns: int) -> int:
        return NEVER

    def has_work(self) -> bool:
        return False

    def wake(self) -> None:
        self.woken += 1

    def send(self) -> None:
        if not self.blocked and self.publishing.is_due(time.monotonic_ns()):
            self.sent += [msgspec.msgpack.decode(run.data)[1] for run in self.outbox.take()]

    @property
    def messages(self) -> list[Any]:
        return [message for run in self.sent for message in run]


@pytest.fixture
def sender(request: pytest.FixtureRequest) -> Sender:
    return opened(request)


def opened(request: pytest.FixtureRequest, **settings: Any) -> Sender:
    sender = Sender(**settings)
    request.addfinalizer(lambda: sender.reactor.close(lambda: None))
    return sender


def test_a_quiet_publisher_sends_at_once(sender: Sender) -> None:
    assert sender.publishing.publish("t", 1).outcome == "queued"
    assert sender.sent == [[1]]
    assert sender.woken == 0


def test_a_burst_gathers_and_full_batches_leave(sender: Sender) -> None:
    sender.publishing.publish("t", 0)
    for number in range(1, 20):
        sender.publishing.publish("t", number)
    assert sender.messages == list(range(len(sender.messages)))
    assert 16 <= len(sender.messages) < 20 or sender.woken == 0
    assert max(map(len, sender.sent)) <= 8
    sender.publishing.publish("t", 20, urgent=True)
    assert sender.messages == list(range(21))


def test_lingering_waits_unless_urgent(request: pytest.FixtureRequest) -> None:
    sender = opened(request, linger_ns=60_000_000_000)
    for number in range(3):
        sender.publishing.publish("t", number)
    assert sender.sent == []
    assert sender.woken == 1
    assert time.monotonic_ns() < sender.publishing.next_ns < NEVER
    sender.publishing.publish("u", "now", urgent=True)
    assert sorted(sender.sent, key=len) == [["now"], [0, 1, 2]]
    for number in range(8):  # a full batch does not linger either
        sender.publishing.publish("t", number)
    assert sender.messages[-8:] == list(range(8))


def test_many_leave_together_in_order(sender: Sender) -> None:
    assert sender.publishing.publish_many("t", range(20))
    assert sender.sent == [list(range(8)), list(range(8, 16)), list(range(16, 20))]
    assert sender.publishing.publish_many("t", [])
    assert len(sender.messages) == 20


@pytest.mark.parametrize("topics", [1, 30])
@pytest.mark.parametrize("many", [False, True])
def test_when_nothing_leaves_memory_is_bounded_and_the_receipt_says_so(sender: Sender, many: bool, topics: int) -> None:
    """The bound holds over all topics together."""
    sender.blocked = True
    accepted = refused = 0
    for turn in range(limits.PENDING_MESSAGES_MAX // 100 + 10 + topics):
        topic = f"t{turn % topics}"
        if many:
            receipt = sender.publishing.publish_many(topic, [Tick(1)] * 100)
            accepted, refused = accepted + 100 * bool(receipt), refused + 100 * (not receipt)
        else:
            for _ in range(100):
                receipt = sender.publishing.publish(topic, Tick(1))
                accepted, refused = accepted + bool(receipt), refused + (not receipt)
    assert not receipt
    assert (receipt.outcome, receipt.reason, receipt.who) == ("dropped", "full", "outbox")
    pending = sum(len(stream.pending) for stream in sender.outbox.streams.values())
    assert pending == accepted == sender.outbox.count_pending()
    uncounted = 100 + 8 * topics  # the first lot, before anybody can know that it will not leave
    assert accepted <= limits.PENDING_MESSAGES_MAX + uncounted
    assert accepted > limits.PENDING_MESSAGES_MAX - 100
    assert sender.counters.messages_dropped == {"outbox_full": refused}
    sender.blocked = False
    sender.publishing.publish("t0", Tick(2), urgent=True)  # dropped too, but it finds that things leave again
    assert len(sender.messages) >= accepted
    assert sender.publishing.publish("t0", Tick(3))


def test_without_listeners_nothing_is_kept(request: pytest.FixtureRequest) -> None:
    sender = opened(request, wanted=False)
    for _ in range(100):
        assert sender.publishing.publish("t", object())
    assert sender.publishing.publish_many("t", [object()])
    assert sender.outbox.empty


def test_mistakes_are_told_and_harm_nothing(sender: Sender) -> None:
    with pytest.raises(InvalidTopic):
        sender.publishing.publish("a..b", 1)
    with pytest.raises(InvalidMessage):
        sender.publishing.publish("t", object())
    with pytest.raises(InvalidMessage):
        sender.publishing.publish_many("t", [1, object(), 2])
    sender.publishing.publish("t", "good", urgent=True)
    assert sender.messages == ["good"]


@pytest.mark.parametrize("wanted", [False, True])
def test_after_closing_everything_is_refused(request: pytest.FixtureRequest, wanted: bool) -> None:
    sender = opened(request, wanted=wanted)
    sender.publishing.publish("t", 1)
    sender.reactor.close(lambda: None)
    for topic in ("t", "new"):
        with pytest.raises(ClosedError):
            sender.publishing.publish(topic, 1)
        with pytest.raises(ClosedError):
            sender.publishing.publish_many(topic, [1])


def test_types_may_mix_on_one_topic(sender: Sender) -> None:
    class Other(Message, tag="other"):
        x: int

    mixed = [Tick(1), Other(2), {"a": 1}, Tick(3), None, Other(4)]
    for message in mixed:
        sender.publishing.publish("t", message)
    sender.publishing.publish_many("t", mixed)
    sender.publishing.publish_many("t", [Tick(5), Tick(6)])
    told = [["tick", 1], ["other", 2], {"a": 1}, ["tick", 3], None, ["other", 4]]
    assert sender.messages == [*told, *told, ["tick", 5], ["tick", 6]]
