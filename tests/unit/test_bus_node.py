"""The node's core: a peer changes only its own state; what is not understood is counted, answered, and does nothing."""

from typing import Any

import msgspec
import pytest

from dompbus import limits
from dompbus.bus import node as module
from dompbus.bus.node import Call, NodeCore
from dompbus.wire.bodies import (
    Goodbye,
    Hello,
    Joined,
    Lost,
    Nak,
    Ping,
    Pong,
    Refused,
    Reply,
    ReplyStatus,
    Request,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    control_frame,
    decode_body,
)
from dompbus.wire.frame import Frame, Kind, Refusal, pack, parse
from dompbus.wire.message import encode
from tests.bus_world import EPOCH, NODE, S, bodies, greet, new_node, numbers, split_repair

NIL = msgspec.Raw(b"\xc0")


def request(
    number: int, service: str = "echo", *, attempt: int = 1, budget_ns: int = S, payload: bytes = b"\xc0"
) -> Request:
    return Request(number, service, budget_ns, attempt, msgspec.Raw(payload))


def tell(node: NodeCore, body: Any, identity: bytes = b"p", now_ns: int = 0) -> list[Any]:
    """Send one control body; return the answers."""
    node.receive(identity, control_frame(body), now_ns)
    return bodies(node.take_effects().sends)


def publish_frame(*runs: tuple[str, list[Any]], count: int | None = None) -> bytes:
    total = sum(len(messages) for _, messages in runs) if count is None else count
    return pack(Kind.PUBLISH, encode(list(runs)), count=total, epoch=5, seq=1)


def fan_out(node: NodeCore) -> list[bytes]:
    node.publish_gathered(1)
    return node.take_effects().fanouts


def refused(answers: list[Any]) -> str:
    [answer] = answers
    assert isinstance(answer, Refused), answer
    assert answer.detail
    return answer.reason


# -- greeting ----------------------------------------------------------------------------------------------------


def test_a_stranger_is_refused_whatever_it_sends() -> None:
    node = new_node()
    for body in (request(1), Subscribe(1, "a"), Unsubscribe(1), Nak(1, 1, 1, 1), Goodbye()):
        assert refused(tell(node, body, b"stranger")) == "stranger"
    node.receive(b"stranger", publish_frame(("a", [1])), 0)
    assert refused(bodies(node.take_effects().sends)) == "stranger"
    assert node.counters.frames_refused == {"stranger": 6}
    assert node.publisher.streams == {}
    assert node.idle


def test_hello_with_all_it_wants_is_answered_in_one_lot() -> None:
    node = new_node()
    wanted = [Subscribe(1, "a"), Subscribe(2, "b.*"), Subscribe(3, "bad..")]
    node.receive(b"p", control_frame(Hello(5, "me", 0, wanted, [request(1), request(2, "none")])), 10)
    effects = node.take_effects()
    welcome, reply = bodies(effects.sends)
    assert isinstance(welcome, Welcome)
    assert (welcome.incarnation, welcome.name, welcome.epoch) == (NODE, "node", EPOCH)
    assert (welcome.publish_endpoint, welcome.control_endpoint) == ("memory://p", "memory://c")
    assert welcome.subscribed[:2] == [Subscribed(1, EPOCH, 1), Subscribed(2, EPOCH, 1)]
    assert "bad.." in welcome.subscribed[2].error
    assert isinstance(reply, Reply)
    assert (reply.number, reply.status) == (2, ReplyStatus.NO_SERVICE)
    [call] = effects.calls
    assert (call.session, call.request.number, call.deadline_ns, call.arrived_ns) == (5, 1, 10 + S, 10)
    assert (node.counters.peers, node.counters.subscriptions) == (1, 2)


def test_greeting_again_replaces_what_was_there_and_keeps_channels_alive() -> None:
    node = new_node()
    greet(node, b"p", 5, "a", "b")
    channel = node.publisher.channels["a"]
    node.receive(b"p", publish_frame(("a", [1, 2])), 0)
    fan_out(node)
    [welcome] = greet(node, b"q", 5, "a")  # the same peer on another connection
    assert welcome.subscribed == [Subscribed(1, EPOCH, 3)]
    assert node.publisher.channels == {"a": channel}
    assert channel.readers == 1
    assert (node.counters.peers, node.counters.subscriptions) == (1, 1)
    assert refused(tell(node, Subscribe(9, "x"), b"p")) == "stranger"


def test_greeting_never_leaves_a_peer_behind() -> None:
    """A connection that takes over another's incarnation: both old entries go."""
    node = new_node()
    for turn in range(50):
        greet(node, b"y", turn * 2 + 1, "a")
        greet(node, b"x", turn * 2 + 2, "a", "b")
        greet(node, b"x", turn * 2 + 1, "a")
    assert len(node._peers) == len(node._by_incarnation) == node.counters.peers == 1
    assert node.publisher.channels["a"].readers == node.counters.subscriptions == 1
    assert list(node.publisher.channels) == ["a"]


def test_peers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEERS_MAX", 2)
    node = new_node()
    greet(node, b"1", 1)
    greet(node, b"2", 2)
    assert refused(greet(node, b"3", 3)) == "too_many"
    assert isinstance(greet(node, b"2", 2)[0], Welcome)
    tell(node, Goodbye(), b"1")
    assert isinstance(greet(node, b"3", 3)[0], Welcome)


def test_silent_peers_are_forgotten_with_all_that_was_theirs() -> None:
    node = new_node()
    for number in range(1, 4):
        greet(node, b"%d" % number, number, "a", f"only.{number}")
    late = module.PEER_SILENCE_MAX_NS - 1
    node.receive(b"2", control_frame(Unsubscribe(99)), late)
    node.tick(late)
    assert node.counters.peers == 3
    node.tick(late + 1)
    assert node.counters.peers == 1
    assert set(node.publisher.channels) == {"a", "only.2"}
    assert refused(tell(node, Subscribe(3, "b"), b"1")) == "stranger"
    assert tell(node, Subscribe(3, "b"), b"2") == [Subscribed(3, EPOCH, 1)]
    node.receive_control(control_frame(Ping(1), epoch=2), 10 * late)  # a beacon is a sign of life like any other
    node.tick(11 * late)
    assert node.counters.peers == 1


def test_goodbye_in_both_directions() -> None:
    node = new_node()
    greet(node, b"p", 5, "a")
    greet(node, b"q", 6)
    assert tell(node, Goodbye(), b"p") == []
    assert node.publisher.channels == {}
    node.say_goodbye()
    [(identity, [frame])] = node.take_effects().sends
    assert identity == b"q"
    assert isinstance(decode_body(parse(frame)), Goodbye)


# -- subscriptions -----------------------------------------------------------------------------------------------


def test_subscribe_and_unsubscribe() -> None:
    node = new_node()
    greet(node)
    assert tell(node, Subscribe(1, "a.*")) == [Subscribed(1, EPOCH, 1)]
    assert tell(node, Subscribe(1, "b")) == [Subscribed(1, EPOCH, 1)]  # the id is taken over
    assert set(node.publisher.channels) == {"b"}
    assert tell(node, Unsubscribe(1)) == tell(node, Unsubscribe(1)) == []
    assert node.publisher.channels == {}
    assert node.counters.subscriptions == 0


@pytest.mark.parametrize("pattern", ["", "a..b", "@5/1", "a b", "ä", "a" * 300])
def test_a_bad_pattern_is_answered_with_what_is_wrong(pattern: str) -> None:
    node = new_node()
    greet(node)
    [answer] = tell(node, Subscribe(1, pattern))
    assert isinstance(answer, Subscribed | Refused)  # too short or long for a pattern at all: refused as a body
    assert answer.error if isinstance(answer, Subscribed) else answer.reason == "body"
    assert node.publisher.channels == {}


def test_subscriptions_of_a_peer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SUBSCRIPTIONS_PER_PEER_MAX", 3)
    node = new_node()
    greet(node)
    answers = [tell(node, Subscribe(number, "a"))[0] for number in range(1, 5)]
    assert [bool(answer.error) for answer in answers] == [False, False, False, True]
    assert node.publisher.channels["a"].readers == 3


def test_a_channel_lives_while_a_socket_listens() -> None:
    node = new_node()
    greet(node, b"p", 5, "a")
    node.receive_subscription(b"\1a\0")
    tell(node, Goodbye())
    assert "a" in node.publisher.channels
    node.receive_subscription(b"\0a\0")
    assert node.publisher.channels == {}


def test_a_prefix_of_nobody_changes_nothing() -> None:
    node = new_node()
    greet(node, b"p", 5, "a")
    node.receive_subscription(b"\1a\0")
    for data in (
        b"\1b\0",
        b"\0b\0",
        b"\0ax",
        b"\1a",
        b"\0a",
        b"\1",
        b"\0",
        b"",
        b"\2a\0",
        b"\xff" * 10,
        b"\1" + b"a" * 999,
    ):
        node.receive_subscription(data)
        assert node.publisher.channels["a"].fanned, data
    assert node.counters.frames_refused == {"bounds": 6, "unexpected": 3}
    assert node.idle


def test_joining_confirms_positions_on_the_private_channel() -> None:
    node = new_node()
    greet(node, b"p", 5, "a", "b")
    node.receive(b"p", publish_frame(("a", [1, 2])), 0)
    fan_out(node)
    node.receive_subscription(b"\1@5/3\0")
    [frame] = node.take_effects().fanouts
    assert frame.startswith(b"@5/3\0")
    parsed = parse(frame[5:])
    assert parsed.epoch == EPOCH
    assert decode_body(parsed) == Joined([(1, 3), (2, 1)])
    assert all(channel.fanned for channel in node.publisher.channels.values())
    node.receive_subscription(b"\0@5/3\0")
    assert node.idle


@pytest.mark.parametrize("name", [b"@6/1", b"@", b"@x/1", b"@-5/1", b"@" + b"9" * 40, b"@\xff/1", b"@5x/1"])
def test_joining_as_nobody_is_counted(name: bytes) -> None:
    node = new_node()
    greet(node, b"p", 5, "a")
    node.receive_subscription(b"\1" + name + b"\0")
    assert node.counters.frames_refused == {"stranger": 1}
    assert node.idle


# -- publishing --------------------------------------------------------------------------------------------------


def test_a_clients_messages_are_fanned_out_in_order() -> None:
    node = new_node()
    greet(node, b"p", 5, "a", ">")
    node.receive(b"p", publish_frame(("a", [1, 2]), ("b", [3]), ("a", [4])), 0)
    assert bodies(node.take_effects().sends) == []
    frames = fan_out(node)
    assert numbers(frames, b"a\0")[-1][0] + numbers(frames, b"a\0")[-1][1] == 4
    merged = [parse(frame[2:]) for frame in frames if frame.startswith(b">\0")]
    runs = [run for frame in merged for run in msgspec.msgpack.decode(frame.body)]
    assert [m for topic, messages in runs if topic == "a" for m in messages] == [1, 2, 4]
    assert [m for topic, messages in runs if topic == "b" for m in messages] == [3]


def test_without_listeners_nothing_is_kept() -> None:
    node = new_node()
    greet(node)
    node.receive(b"p", publish_frame(("a", [1, 2])), 0)
    assert node.publisher.empty
    assert fan_out(node) == []


@pytest.mark.parametrize(
    "frame",
    [
        publish_frame(("a", [1]), count=2),
        publish_frame(("a", [1, 2]), count=1),
        publish_frame(("a..b", [1])),
        publish_frame(("a.*", [1])),
        publish_frame(("a" * 256, [1])),
        pack(Kind.PUBLISH, b"\xc1"),
        pack(Kind.PUBLISH, encode([("a", 1)])),
        pack(Kind.PUBLISH, encode([("a", {"x": 1})])),
        pack(Kind.PUBLISH, encode([["a"]])),
        pack(Kind.PUBLISH, b"\x91\x92\xa1a\xdd\xff\xff\xff\xff"),
        publish_frame(*[("a", [1])] * (limits.RUNS_PER_FRAME_MAX + 1)),
    ],
)
def test_a_publish_that_is_none_is_refused_whole(frame: bytes) -> None:
    node = new_node()
    greet(node, b"p", 5, ">")
    node.receive(b"p", frame, 0)
    assert refused(bodies(node.take_effects().sends)) == "body"
    assert fan_out(node) == []


def test_heads_are_announced_at_each_tick() -> None:
    node = new_node()
    greet(node, b"p", 5, "a")
    node.receive(b"p", publish_frame(("a", [1])), 0)
    fan_out(node)
    node.tick(1)
    [head] = node.take_effects().fanouts
    assert parse(head[2:]).kind is Kind.HEAD


# -- repair ------------------------------------------------------------------------------------------------------


def test_a_nak_is_answered_with_the_frames_for_that_peer_only() -> None:
    node = new_node(ring_frames=2)
    greet(node, b"p", 5, "a")
    greet(node, b"q", 6, "a")
    for start in (1, 5, 9):
        node.receive(b"q", publish_frame(("a", list(range(start, start + 4)))), 0)
        fan_out(node)
    node.receive(b"p", control_frame(Nak(1, EPOCH, 3, 6)), 0)
    effects = node.take_effects()
    assert effects.fanouts == []
    assert {identity for identity, _ in effects.sends} == {b"p"}
    lost, repair = bodies(effects.sends)
    assert lost == Lost(1, EPOCH, 3, 4)
    assert isinstance(repair, Frame)
    assert (repair.kind, repair.seq, repair.count) == (Kind.PUBLISH, 5, 4)
    assert split_repair(effects.sends[1][1][0])[0] == b"a\0"
    assert node.counters.repairs == {"sent": 1}


def test_a_nak_of_another_epoch_is_lost_for_good() -> None:
    node = new_node()
    greet(node, b"p", 5, "a")
    assert tell(node, Nak(1, EPOCH - 1, 3, 6)) == [Lost(1, EPOCH - 1, 3, 6)]


@pytest.mark.parametrize("nak", [Nak(9, EPOCH, 1, 1), Nak(1, EPOCH, 2, 1)])
def test_a_nak_for_nothing_is_refused(nak: Nak) -> None:
    node = new_node()
    greet(node, b"p", 5, "a")
    assert refused(tell(node, nak)) == "unexpected"


def test_a_ping_on_the_main_socket_shows_that_the_link_is_known() -> None:
    node = new_node()
    assert refused(tell(node, Ping(3))) == "stranger"
    greet(node)
    assert tell(node, Ping(3)) == [Pong(3, NODE, True)]


# -- requests ----------------------------------------------------------------------------------------------------


def calls(node: NodeCore, body: Request, identity: bytes = b"p") -> tuple[list[Call], list[Any]]:
    node.receive(identity, control_frame(body), 0)
    effects = node.take_effects()
    return effects.calls, bodies(effects.sends)


def test_a_request_is_carried_out_once_and_its_repeats_get_the_same_reply() -> None:
    node = new_node()
    greet(node)
    [call], answers = calls(node, request(1, payload=b"\x07"))
    assert (bytes(call.request.payload), answers) == (b"\x07", [])
    assert calls(node, request(1, attempt=2)) == ([], [])  # it runs: its reply will come
    node.reply(call, ReplyStatus.OK, b"\x01")
    [first] = bodies(node.take_effects().sends)
    assert (first.number, first.status, bytes(first.payload)) == (1, ReplyStatus.OK, b"\x01")
    for attempt in (1, 2, 3):
        [], [again] = calls(node, request(1, attempt=attempt))
        assert encode(again) == encode(first)
    assert node.counters.requests == {("echo", "ok"): 1}


def test_a_reply_follows_its_peer_to_another_connection() -> None:
    node = new_node()
    greet(node)
    [call], _ = calls(node, request(1))
    greet(node, b"other", 5)
    node.reply(call, ReplyStatus.OK, b"\x01")
    [(identity, _)] = node.take_effects().sends
    assert identity == b"other"


def test_a_reply_to_a_peer_that_left_is_kept_for_its_return() -> None:
    node = new_node()
    greet(node)
    [call], _ = calls(node, request(1))
    tell(node, Goodbye())
    node.reply(call, ReplyStatus.OK, b"\x01")
    assert node.idle
    greet(node)
    [], [reply] = calls(node, request(1, attempt=2))
    assert reply.status is ReplyStatus.OK


def test_an_unknown_service_is_answered_and_a_later_one_is_not_spoiled() -> None:
    node = new_node()
    greet(node)
    [], [reply] = calls(node, request(1, "none"))
    assert reply.status is ReplyStatus.NO_SERVICE
    node.offer("none")
    [call], [] = calls(node, request(2, "none"))
    assert call.request.number == 2


def test_a_full_queue_is_told_and_nothing_was_done() -> None:
    node = new_node()
    node.offer("slow", queue_max=2)
    greet(node)
    running = [calls(node, request(number, "slow"))[0][0] for number in (1, 2)]
    [], [reply] = calls(node, request(3, "slow"))
    assert reply.status is ReplyStatus.OVERLOADED
    node.reply(running[0], ReplyStatus.OK, b"\xc0")
    node.take_effects()
    [call], [] = calls(node, request(3, "slow", attempt=1))  # refused before anything was done: it is new again
    assert call.request.number == 3


def test_a_retry_that_began_elsewhere_is_session_expired() -> None:
    """After a restart nobody knows whether the first attempt was carried out: never a silent second execution."""
    node = new_node()
    old_node = 66
    hello = Hello(5, "me", old_node, [], [request(1, attempt=2), request(2, attempt=1)])
    node.receive(b"p", control_frame(hello), 0)
    effects = node.take_effects()
    assert [call.request.number for call in effects.calls] == [2]
    _, reply = bodies(effects.sends)
    assert (reply.number, reply.status) == (1, ReplyStatus.SESSION_EXPIRED)


def test_a_retry_whose_first_attempt_got_lost_on_the_way_here_is_carried_out() -> None:
    node = new_node()
    hello = Hello(5, "me", NODE, [], [request(1, attempt=2)])
    node.receive(b"p", control_frame(hello), 0)
    assert [call.request.number for call in node.take_effects().calls] == [1]


def test_a_service_that_remembers_by_itself_is_asked_each_time() -> None:
    node = new_node()
    node.offer("ledger", remembers=True)
    greet(node)
    for attempt in (1, 2):
        [call], [] = calls(node, request(1, "ledger", attempt=attempt))
        node.reply(call, ReplyStatus.OK, b"\xc0")
        assert len(node.take_effects().sends) == 1


# -- what is not understood --------------------------------------------------------------------------------------

WRONG_PLACE = [
    Welcome(1, "n", 1, "", ""),
    Subscribed(1, 1, 1),
    Joined([]),
    Lost(1, 1, 1, 1),
    Reply(1, ReplyStatus.OK, NIL),
    Pong(1, 1, True),
    Refused("body", "x"),
]


@pytest.mark.parametrize("body", WRONG_PLACE, ids=lambda body: type(body).__name__)
def test_a_kind_in_the_wrong_place_is_refused_with_its_number(body: Any) -> None:
    node = new_node()
    greet(node)
    [answer] = tell(node, body)
    assert (answer.reason, answer.kind) == ("unexpected", int(parse(control_frame(body)).kind))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Refusal.SHORT),
        (bytes(48), Refusal.MAGIC),
        (pack(Kind.PING, b"\x91\x01")[:-1], Refusal.LENGTH),
        (pack(Kind.PING, b"\x91\x01")[:-1] + b"\x02", Refusal.CHECKSUM),
        (pack(Kind.HELLO, b"\xc1"), Refusal.BODY),
    ],
)
def test_what_is_no_frame_is_counted_and_answered_also_to_strangers(data: bytes, reason: Refusal) -> None:
    node = new_node()
    node.receive(b"stranger", data, 0)
    [(identity, parts)] = node.take_effects().sends
    assert identity == b"stranger"
    assert refused(bodies([(identity, parts)])) == reason
    assert node.counters.frames_refused == {reason: 1}
    answer = node.receive_control(data, 0)
    expected = Refusal.UNEXPECTED if reason is Refusal.BODY else reason
    assert decode_body(parse(answer)).reason == expected
    assert node.counters.peers == 0


def test_the_control_socket_answers_pings_and_knows_who_asks() -> None:
    node = new_node()
    greet(node, b"p", 5)
    for incarnation, known in ((5, True), (6, False)):
        pong = node.receive_control(control_frame(Ping(3), epoch=incarnation), 0)
        assert decode_body(parse(pong)) == Pong(3, NODE, known)
    answer = node.receive_control(control_frame(Hello(5, "me")), 0)
    assert decode_body(parse(answer)).reason == "unexpected"
    answer = node.receive_control(pack(Kind.PING, b"\xc1"), 0)
    assert decode_body(parse(answer)).reason == "body"
