"""Publish and subscribe behave alike with both clients over every transport."""

import time
from collections.abc import Callable
from typing import Any

import pytest

import dompbus
from dompbus import Gap, Unknown
from dompbus.bus.reader import Batch

SECONDS = 20.0


class Trade(dompbus.Message, tag="trade"):
    symbol: str
    price: str


class Quote(dompbus.Message, tag="quote"):
    symbol: str
    bid: float


def take(subscription: Any, count: int) -> list[Any]:
    return [subscription.receive(timeout=SECONDS) for _ in range(count)]


def nothing_on(subscription: Any) -> bool:
    with pytest.raises(dompbus.Timeout):
        subscription.receive(timeout=0.02)
    return True


def test_a_topic_and_its_messages(client: Any, node: dompbus.Node) -> None:
    """What is published after `subscribe` has returned is received, by node and by client, in the order of each."""
    a = client.subscribe("t.a", type=Trade)
    assert a.pattern == "t.a"
    assert client.publish("t.a", Trade("X", "1")).outcome == "queued"
    assert take(a, 1) == [Trade("X", "1")]
    assert node.publish("t.a", Trade("X", "2"))
    assert node.publish("t.b", Trade("X", "3"))
    assert take(a, 1) == [Trade("X", "2")]
    assert nothing_on(a)


def test_patterns(client: Any, node: dompbus.Node) -> None:
    one, rest, exact = client.subscribe("m.*"), client.subscribe("m.>"), client.subscribe("m.a")
    for topic in ("m.a", "m.b", "m.a.c", "x"):
        node.publish(topic, topic)
    node.publish("m.z", "last")
    assert take(one, 3) == ["m.a", "m.b", "last"]
    assert take(rest, 4) == ["m.a", "m.b", "m.a.c", "last"]
    assert take(exact, 1) == ["m.a"]
    assert nothing_on(exact)


def test_two_readers_of_one_pattern_get_everything_each(client: Any, open_client: Any, node: dompbus.Node) -> None:
    other = open_client(node.endpoint)
    readers = [client.subscribe("t"), client.subscribe("t"), other.subscribe("t")]
    node.publish_many("t", list(range(10)))
    assert [take(reader, 10) for reader in readers] == [list(range(10))] * 3


def test_types_unknown_and_untyped(client: Any, node: dompbus.Node) -> None:
    typed = client.subscribe("t", type=Trade)
    both = client.subscribe("t", type=Trade | Quote)
    plain = client.subscribe("t")
    node.publish_many("t", [Trade("X", "1"), Quote("X", 2.0), {"free": [1, None, b"x"]}])
    trade, unknown, free = take(typed, 3)
    assert trade == Trade("X", "1")
    assert isinstance(unknown, Unknown)
    assert unknown.tag == "quote"
    assert isinstance(free, Unknown)
    assert take(both, 2) == [Trade("X", "1"), Quote("X", 2.0)]
    assert take(plain, 3) == [["trade", "X", "1"], ["quote", "X", 2.0], {"free": [1, None, b"x"]}]


def test_batches_show_topic_epoch_number_and_time(client: Any, node: dompbus.Node) -> None:
    subscription = client.subscribe("t")
    before = time.time_ns()
    node.publish_many("t", [1, 2, 3])
    node.publish_many("t", [4])
    batches = subscription.batches(timeout=SECONDS)
    first, second = next(batches), next(batches)
    assert isinstance(first, Batch)
    assert (first.topic, first.seq, first.messages) == ("t", 1, [1, 2, 3])
    assert (second.seq, second.messages, second.epoch) == (4, [4], first.epoch)
    assert before <= first.time_ns <= second.time_ns <= time.time_ns()
    with pytest.raises(dompbus.Timeout):
        next(subscription.batches(timeout=0.02))


@pytest.mark.parametrize("way", ["publish", "publish_many", "node"])
def test_fifty_thousand_in_order(way: str, open_client: Any, node: dompbus.Node) -> None:
    count, batch = 50_000, 500
    if way == "publish":
        count = 10_000  # one await each with the asyncio client, here from another thread
    reader, writer = open_client(node.endpoint), open_client(node.endpoint)
    subscription = reader.subscribe("t")
    if way == "publish":
        publish_each(writer, count)
    else:
        publish_many = node.publish_many if way == "node" else writer.publish_many
        for start in range(0, count, batch):
            assert publish_many("t", range(start, start + batch))
    expected = 0
    for item in subscription.batches(timeout=SECONDS):
        assert isinstance(item, Batch), item
        assert item.seq == expected + 1
        assert item.messages == list(range(expected, expected + len(item.messages)))
        expected += len(item.messages)
        if expected == count:
            break
    assert expected == count


def publish_each(client: Any, count: int) -> None:
    """One call a message, inside the loop where there is one."""
    if isinstance(client, dompbus.Client):
        for number in range(count):
            assert client.publish("t", number)
        return

    async def publish() -> None:
        for number in range(count):
            assert await client.asynchronous.publish("t", number)

    client.run(publish())


def test_urgent_overtakes_lingering_and_takes_along_what_came_before(
    listen: str, open_client: Callable[..., Any]
) -> None:
    config = dompbus.Config.of(batch_linger=1.0)
    with dompbus.Node(listen=listen) as node:
        subscription = open_client(node.endpoint).subscribe("t")
        writer = open_client(node.endpoint, config=config)
        writer.subscribe("x")  # welcomed
        for round_ in range(3):
            writer.publish("t", [round_, "telemetry"])
            started = time.monotonic()
            writer.publish("t", [round_, "cancel"], urgent=True)
            assert take(subscription, 2) == [[round_, "telemetry"], [round_, "cancel"]]
            assert time.monotonic() - started < 0.9


def test_publishing_before_any_answer_and_closing_at_once_loses_nothing(
    client: Any, open_client: Any, node: dompbus.Node
) -> None:
    subscription = client.subscribe("t")
    for number in range(5):
        writer = open_client(node.endpoint)
        writer.publish("t", number)
        writer.close()
    assert sorted(take(subscription, 5)) == list(range(5))


def test_flush_returns_when_all_was_handed_over(client: Any, open_client: Any, node: dompbus.Node) -> None:
    subscription = client.subscribe("t")
    writer = open_client(node.endpoint)
    for number in range(1_000):
        writer.publish("t", number)
    writer.flush(SECONDS)
    assert take(subscription, 1_000) == list(range(1_000))


def drop_frames(node: dompbus.Node, monkeypatch: pytest.MonkeyPatch, which: Callable[[int], bool]) -> None:
    """Have the node's XPUB lose published frames by their number."""
    socket = node._xpub.socket
    send, sent = socket.send, [0]

    def lossy(parts: list[bytes]) -> bool:
        sent[0] += 1
        return which(sent[0]) or send(parts)

    monkeypatch.setattr(socket, "send", lossy)


def test_what_the_transport_loses_is_repaired(client: Any, node: dompbus.Node, monkeypatch: pytest.MonkeyPatch) -> None:
    subscription = client.subscribe("t")
    drop_frames(node, monkeypatch, lambda number: number % 3 != 0)
    for number in range(60):
        node.publish_many("t", [number])
    assert take(subscription, 60) == list(range(60))
    assert client.counters.repairs["asked"] > 0
    assert node.counters.repairs["sent"] > 0
    assert client.counters.gaps == 0


def test_what_can_no_longer_be_repaired_is_a_gap_in_its_place(
    client: Any, node: dompbus.Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = client.subscribe("t")
    node.publish_many("t", ["first"])
    assert take(subscription, 1) == ["first"]
    channel = node._core.publisher.channels["t"]
    with node._reactor.lock:
        drop_frames(node, monkeypatch, lambda number: number <= 2)
        node.publish_many("t", ["lost", "lost"])
        node.publish_many("t", ["lost"])
        channel.ring.clear()
    node.publish_many("t", ["next"])
    gap, following = take(subscription, 2)
    assert (gap.topic, gap.first, gap.last) == ("t", 2, 4)
    assert isinstance(gap, Gap)
    assert following == "next"
    assert client.counters.gaps == 1


def test_wrong_names_and_values_are_refused_at_once(client: Any, node: dompbus.Node) -> None:
    with pytest.raises(dompbus.InvalidTopic):
        client.subscribe("a..b")
    with pytest.raises(dompbus.InvalidTopic):
        client.publish("a.*", 1)
    with pytest.raises(dompbus.InvalidMessage):
        client.publish("a", object())
    with pytest.raises(dompbus.InvalidMessage):
        client.publish_many("a", [1, object()])
    with pytest.raises(dompbus.InvalidMessage):
        client.subscribe("a", type=dict[list[int], int] | list[int] | tuple[int, ...])
    with pytest.raises(ValueError, match="reliable"):
        client.subscribe("a", delivery="sometimes")
    subscription = client.subscribe("a")
    client.publish("a", "still well")
    assert take(subscription, 1) == ["still well"]


def test_a_closed_subscription_ends_its_iteration_and_frees_the_node(client: Any, node: dompbus.Node) -> None:
    subscription = client.subscribe("t")
    node.publish_many("t", [1, 2])
    iterator = iter(subscription)
    assert [next(iterator), next(iterator)] == [1, 2]
    subscription.close()
    assert list(iterator) == []
    assert list(subscription) == []
    with pytest.raises(dompbus.ClosedError):
        subscription.receive(timeout=1)
    with client.subscribe("u") as other:
        node.publish("u", 1)
        assert take(other, 1) == [1]
    client.request("echo", 1)
    deadline = time.monotonic() + SECONDS
    while node._core.publisher.channels:
        assert time.monotonic() < deadline
        client.request("echo", 1)
    assert node.counters.subscriptions == 0


def test_many_subscriptions(client: Any, node: dompbus.Node) -> None:
    subscriptions = [client.subscribe(f"t.{number}") for number in range(60)]
    for number in range(60):
        node.publish(f"t.{number}", number)
    assert [subscription.receive(timeout=SECONDS) for subscription in subscriptions] == list(range(60))


def test_a_node_is_a_client_of_itself(listen: str) -> None:
    with dompbus.Node(listen=listen) as node:
        node.service("twice", threads=1)(lambda value: value * 2)
        subscription = node.subscribe("t.*")
        node.publish("t.a", "mine")
        assert subscription.receive(timeout=SECONDS) == "mine"
        assert node.request("twice", 21, timeout=SECONDS) == 42
