"""The link's core: what was asked for is kept until it is answered or its time is over, whatever happens."""

from typing import Any

import msgspec
import pytest

from dompbus import limits
from dompbus.bus import link as module
from dompbus.bus.link import Connect, Control, Join, Leave, LinkCore, Outstanding, State
from dompbus.bus.reader import Gap, Reader
from dompbus.errors import ConfigError, InvalidMessage, InvalidTopic, NoService, Overloaded
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
from dompbus.wire.frame import Kind, pack, parse
from dompbus.wire.message import encode
from tests.bus_world import EPOCH, MS, NODE, S, new_link

NIL = msgspec.Raw(b"\xc0")


def effects(link: LinkCore, now_ns: int) -> list[Any]:
    """Tick, and give what is to be done: sent frames as their bodies (PUBLISH as frame), the rest as it is."""
    if now_ns >= link.due_ns:
        link.tick(now_ns)
    assert link.due_ns <= (link.next_ns() or 2**63)  # or something would be done late
    result: list[Any] = []
    for effect in link.take_effects():
        if isinstance(effect, bytes | Control):
            frame = parse(effect if isinstance(effect, bytes) else effect.frame)
            result.append(frame if frame.kind is Kind.PUBLISH else decode_body(frame))
        else:
            result.append(effect)
    return result


def hear(link: LinkCore, body: Any, now_ns: int = 0, *, epoch: int = 0) -> None:
    link.receive(control_frame(body, epoch=epoch), now_ns)


def welcome(*subscribed: Subscribed, incarnation: int = NODE, epoch: int = EPOCH) -> Welcome:
    return Welcome(incarnation, "node", epoch, f"memory://p{incarnation}", "memory://c", list(subscribed))


def ready(*patterns: str, seq: int = 1) -> tuple[LinkCore, list[Reader]]:
    """A link that was welcomed, with these subscriptions confirmed at `seq`."""
    link = new_link()
    readers = [link.subscribe(pattern, None, 0) for pattern in patterns]
    link.begin(0)
    effects(link, 0)
    hear(link, welcome(*(Subscribed(reader.id, EPOCH, seq) for reader in readers)))
    effects(link, 0)
    assert link.state is State.READY
    return link, readers


def ask(link: LinkCore, number: int = 0, *, deadline_ns: int = 10 * S, now_ns: int = 0) -> Outstanding:
    return link.request("echo", encode(number), deadline_ns=deadline_ns, now_ns=now_ns)


def deliver(link: LinkCore, prefix: bytes, *messages: Any, seq: int, epoch: int = EPOCH, now_ns: int = 0) -> None:
    body = encode([(prefix[:-1].decode(), list(messages))])
    frame = pack(Kind.PUBLISH, body, count=len(messages), epoch=epoch, seq=seq)
    link.receive_published(prefix, memoryview(frame), now_ns)


def of_type(effects: list[Any], wanted: Any) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, wanted)]


# -- one round trip ----------------------------------------------------------------------------------------------


def test_one_hello_carries_all_that_was_asked_for_in_the_same_lot() -> None:
    link = new_link()
    assert link.state is State.IDLE
    assert link.next_ns() is None
    assert effects(link, 0) == []
    first, second = link.subscribe("a", None, 5), link.subscribe("b.*", None, 5)
    one = ask(link, 7, deadline_ns=S + 5, now_ns=5)
    [hello] = effects(link, 5)
    assert isinstance(hello, Hello)
    assert (hello.incarnation, hello.name, hello.node) == (5, "link", 0)
    assert hello.subscriptions == [Subscribe(first.id, "a"), Subscribe(second.id, "b.*")]
    [request] = hello.requests
    assert (request.number, request.service, request.budget_ns, request.attempt) == (one.number, "echo", S, 1)
    assert bytes(request.payload) == encode(7)
    assert effects(link, 6) == []


def test_the_welcome_makes_it_ready_connects_and_joins_in_that_order() -> None:
    link = new_link()
    reader = link.subscribe("a", None, 0)
    effects(link, 0)
    hear(link, welcome(Subscribed(reader.id, EPOCH, 3)))
    assert link.state is State.READY
    assert (reader.subscribed, reader.seq, reader.epoch) == (True, 3, EPOCH)
    assert effects(link, 0) == [Connect("memory://p77", "memory://c"), Join([b"a\0", b"@5/1\0"])]


def test_what_was_asked_for_while_the_greeting_travelled_follows_the_welcome() -> None:
    link = new_link()
    link.begin(0)
    [hello] = effects(link, 0)
    assert (hello.subscriptions, hello.requests) == ([], [])
    reader, one = link.subscribe("a", None, 1), ask(link, now_ns=1)
    assert effects(link, 2) == []
    hear(link, welcome(), 3)
    sent = effects(link, 3)
    assert of_type(sent, Subscribe) == [Subscribe(reader.id, "a")]
    assert [(request.number, request.attempt) for request in of_type(sent, Request)] == [(one.number, 1)]
    hear(link, Subscribed(reader.id, EPOCH, 1), 4)
    assert effects(link, 4) == [Join([b"a\0", b"@5/1\0"])]


def test_a_greeting_never_grows_beyond_a_frame() -> None:
    link = new_link()
    waiting = [link.request("echo", encode(bytes(limits.MIB)), deadline_ns=S, now_ns=0) for _ in range(5)]
    waiting += [ask(link, deadline_ns=S) for _ in range(limits.REQUESTS_PER_FRAME_MAX)]
    link.tick(0)
    [hello] = link.take_effects()
    assert len(hello) < limits.FRAME_BYTES_MAX
    greeted = decode_body(parse(hello)).requests
    assert [request.number for request in greeted] == [1]
    hear(link, welcome())
    numbers = [request.number for request in of_type(effects(link, 0), Request)]
    assert numbers == [outstanding.number for outstanding in waiting[1:]]  # in rising order


def test_an_unanswered_greeting_is_repeated_with_back_off() -> None:
    link = new_link()
    ask(link, deadline_ns=100 * S)
    now, pauses, attempts = 0, [], []
    for _ in range(6):
        [hello] = effects(link, now)
        attempts.append(hello.requests[0].attempt)
        due = link.next_ns()
        assert due is not None
        assert effects(link, due - 1) == []
        pauses.append(due - now)
        now = due
    assert pauses == [1 * S, 2 * S, 4 * S, 8 * S, 8 * S, 8 * S]
    assert attempts == [1, 2, 3, 4, 5, 6]


# -- subscriptions -----------------------------------------------------------------------------------------------


def test_messages_reach_every_reader_of_their_channel() -> None:
    link, (a, same, b) = ready("a", "a", "b")
    deliver(link, b"a\0", 1, 2, seq=1)
    assert [reader.ready for reader in (a, same, b)] == [True, True, False]
    deliver(link, b"c\0", 1, seq=1)  # a channel of nobody here
    deliver(link, b"", 1, seq=1)
    assert link.counters.frames_refused == {}


def test_joining_shows_what_was_missed_before_the_socket_was_live() -> None:
    link, [a] = ready("a")
    frame = control_frame(Joined([(a.id, 4), (99, 7)]), epoch=EPOCH)
    link.receive_published(b"@5/1\0", memoryview(frame), 5)
    assert effects(link, 5) == [Leave(b"@5/1\0"), Nak(a.id, EPOCH, 1, 3)]
    link.receive_published(b"@5/1\0", memoryview(frame), 6)  # not ours any more
    assert link.counters.frames_refused == {"unexpected": 1}


def test_a_second_subscription_joins_anew_and_leaves_the_older_private_channel() -> None:
    link, _ = ready("a")
    second = link.subscribe("b", None, 1)
    assert effects(link, 1) == [Subscribe(second.id, "b")]
    hear(link, Subscribed(second.id, EPOCH, 1), 2)
    assert effects(link, 2) == [Leave(b"@5/1\0"), Join([b"a\0", b"b\0", b"@5/2\0"])]


def test_a_hole_is_asked_for_at_once_and_again_when_due() -> None:
    link, [a] = ready("a")
    deliver(link, b"a\0", 3, seq=3, now_ns=100)
    assert effects(link, 100) == [Nak(a.id, EPOCH, 1, 2)]
    due = link.next_ns()
    assert due is not None
    assert effects(link, due - 1) == []
    assert effects(link, due) == [Nak(a.id, EPOCH, 1, 2)]
    hear(link, Lost(a.id, EPOCH, 1, 1), due)
    deliver(link, b"a\0", 2, seq=2, now_ns=due)
    assert a.take() == [Gap("a", 1, 1, EPOCH)]
    hear(link, Lost(99, EPOCH, 1, 1), due)
    assert not a.has_hole


def test_a_head_shows_a_lost_tail() -> None:
    link, [a] = ready("a")
    link.receive_published(b"a\0", memoryview(pack(Kind.HEAD, b"", count=0, epoch=EPOCH, seq=4)), 5)
    assert effects(link, 5) == [Nak(a.id, EPOCH, 1, 3)]


def test_a_refused_pattern_is_told_to_its_reader() -> None:
    link = new_link()
    with pytest.raises(InvalidTopic):
        link.subscribe("a..b", None, 0)
    reader = link.subscribe("a", None, 0)
    effects(link, 0)
    hear(link, welcome(Subscribed(reader.id, EPOCH, 0, "not today")))
    assert (reader.error, reader.subscribed) == ("not today", False)
    assert of_type(effects(link, 0), Join) == []


def test_unsubscribing_leaves_the_channel_with_its_last_reader() -> None:
    link, (a, same) = ready("a", "a")
    link.unsubscribe(a)
    assert effects(link, 0) == [Unsubscribe(a.id)]
    link.unsubscribe(a)
    assert effects(link, 0) == []
    link.unsubscribe(same)
    assert effects(link, 0) == [Leave(b"a\0"), Unsubscribe(same.id)]
    assert (a.closed, same.closed, link.readers) == (True, True, {})
    hear(link, Subscribed(a.id, EPOCH, 9))


def test_subscriptions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SUBSCRIPTIONS_PER_PEER_MAX", 2)
    link, _ = ready("a", "b")
    with pytest.raises(Overloaded, match="2 subscriptions"):
        link.subscribe("c", None, 0)


# -- requests ----------------------------------------------------------------------------------------------------


def test_a_reply_ends_its_request_once() -> None:
    link, _ = ready()
    told: list[int] = []
    one = ask(link)
    one.notify = lambda: told.append(1)
    hear(link, Reply(one.number, ReplyStatus.OK, NIL))
    hear(link, Reply(one.number, ReplyStatus.FAILED, NIL))
    hear(link, Reply(999, ReplyStatus.OK, NIL))
    assert one.done
    assert one.reply is not None
    assert one.reply.status is ReplyStatus.OK
    assert told == [1]
    assert effects(link, 20 * S)[0] is not None
    assert one.reply.status is ReplyStatus.OK


def test_a_deadline_ends_its_request_without_a_reply() -> None:
    link, _ = ready()
    late, early = ask(link, deadline_ns=2 * S), ask(link, deadline_ns=500 * MS)
    hear(link, Pong(1, NODE, True), 400 * MS)  # or it would probe before that
    link.tick(400 * MS)
    assert link.next_ns() == 500 * MS
    link.tick(500 * MS - 1)
    assert not early.done
    link.tick(500 * MS)
    assert (early.done, early.reply, late.done) == (True, None, False)
    hear(link, Reply(early.number, ReplyStatus.OK, NIL))
    assert early.reply is None


def test_a_deadline_holds_before_any_welcome() -> None:
    link = new_link()
    one = ask(link, deadline_ns=300 * MS)
    effects(link, 0)
    assert link.next_ns() == 300 * MS
    link.tick(300 * MS)
    assert one.done
    assert link.next_ns() == S  # greeting goes on


def test_a_forgotten_request_is_not_resent_and_its_reply_is_ignored() -> None:
    link, _ = ready()
    one = ask(link)
    link.forget(one)
    link.forget(one)
    hear(link, Reply(one.number, ReplyStatus.OK, NIL))
    assert not one.done
    link.greet(0)
    assert of_type(effects(link, 0), Hello)[0].requests == []


def test_the_budget_that_travels_is_what_is_left_within_its_bound() -> None:
    link, _ = ready()
    for deadline_ns, now_ns, budget_ns in (
        (5 * S, 2 * S, 3 * S),
        (S, 2 * S, 0),
        (2**62, 0, limits.REQUEST_TIMEOUT_MAX_NS),
    ):
        ask(link, deadline_ns=deadline_ns, now_ns=now_ns)
        [frame] = link.take_effects()
        assert decode_body(parse(frame)).budget_ns == budget_ns


def test_requests_are_bounded_in_number_size_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    link, _ = ready()
    with pytest.raises(InvalidMessage, match="at most"):
        link.request("echo", bytes(limits.PAYLOAD_BYTES_MAX + 1), deadline_ns=S, now_ns=0)
    with pytest.raises(NoService, match="at most 128"):
        link.request("e" * 129, b"\xc0", deadline_ns=S, now_ns=0)
    monkeypatch.setattr(limits, "OUTSTANDING_REQUESTS_MAX", 2)
    ask(link)
    ask(link)
    with pytest.raises(Overloaded, match="2 requests"):
        ask(link)
    with pytest.raises(ConfigError, match="at most 128"):
        new_link(name="n" * 129)


def test_the_largest_request_travels() -> None:
    link, _ = ready()
    link.request("e" * 128, bytes(limits.PAYLOAD_BYTES_MAX), deadline_ns=2**62, now_ns=0)
    [send] = link.take_effects()
    assert len(send) <= limits.FRAME_BYTES_MAX


def test_deadlines_of_answered_requests_take_bounded_memory() -> None:
    """Behind one that waits for long, a million answered ones must not pile up."""
    link, _ = ready()
    first = ask(link, deadline_ns=100 * S)
    for _ in range(3 * limits.OUTSTANDING_REQUESTS_MAX):
        one = ask(link, deadline_ns=200 * S)
        hear(link, Reply(one.number, ReplyStatus.OK, NIL))
        link.take_effects()
    assert len(link._deadlines) <= 2 * limits.OUTSTANDING_REQUESTS_MAX + 1
    link.tick(100 * S)
    assert first.done


# -- losing and finding the node ---------------------------------------------------------------------------------


def assert_greets_again(link: LinkCore, now_ns: int, *, request: Outstanding, reader: Reader) -> None:
    [hello] = of_type(effects(link, now_ns), Hello)
    assert [(r.number, r.attempt) for r in hello.requests] == [(request.number, 2)]
    assert hello.subscriptions == [Subscribe(reader.id, reader.pattern, reader.epoch, reader.seq)]
    assert hello.node == NODE


@pytest.mark.parametrize(
    "sign",
    [Refused("stranger", "greet first"), Pong(1, NODE + 1, True), Pong(1, NODE, False), Goodbye("closing")],
    ids=lambda body: type(body).__name__,
)
def test_signs_that_the_node_has_forgotten_us_make_it_greet_again(sign: Any) -> None:
    link, [reader] = ready("a")
    deliver(link, b"a\0", 1, 2, seq=1)
    one = ask(link, deadline_ns=60 * S)
    effects(link, 1)
    hear(link, sign, 5)
    assert link.state is State.GREETING
    assert_greets_again(link, 5, request=one, reader=reader)
    hear(link, sign, 6)  # however many signs come
    hear(link, sign, 7)
    assert of_type(effects(link, 8), Hello) == []


@pytest.mark.parametrize("sign", [Refused("body", "x"), Pong(1, NODE, True), Refused("unexpected", "x", 13)])
def test_other_answers_are_no_such_sign(sign: Any) -> None:
    link, _ = ready("a")
    hear(link, sign, 5)
    assert link.state is State.READY
    assert of_type(effects(link, 5), Hello) == []


def test_silence_is_asked_about_then_greeted() -> None:
    link, [reader] = ready("a")
    one = ask(link, deadline_ns=60 * S)
    effects(link, 0)
    now, greeted = 0, 0
    pings = []
    while not greeted and now < 10 * S:
        due = link.next_ns()
        assert due is not None
        assert due > now
        now = due
        link.tick(now)
        if link.state is State.GREETING:
            greeted = now
        else:
            pings += [e for e in link.take_effects() if isinstance(e, Control)]
    assert len(pings) == 2
    assert parse(pings[0].frame).epoch == 5
    assert isinstance(decode_body(parse(pings[0].frame)), Ping)
    assert greeted == 3 * S
    assert_greets_again(link, now, request=one, reader=reader)


def test_a_request_that_waits_probes_its_own_link() -> None:
    """A connection that was lost and made again is a stranger's there, which the control socket cannot show."""
    link, [reader] = ready("a")
    one = ask(link, deadline_ns=60 * S)
    effects(link, 0)
    assert link.next_ns() == module.PROBE_NS
    assert effects(link, module.PROBE_NS - 1) == []
    [probe] = effects(link, module.PROBE_NS)
    assert isinstance(probe, Ping)
    hear(link, Pong(probe.token, NODE, True), module.PROBE_NS + 1)
    assert link.state is State.READY
    assert isinstance(effects(link, 2 * module.PROBE_NS + 1)[0], Ping)
    hear(link, Refused("stranger", "greet first", int(Kind.PING)), 2 * module.PROBE_NS + 2)
    assert_greets_again(link, 2 * module.PROBE_NS + 2, request=one, reader=reader)


def test_any_traffic_is_a_sign_of_life() -> None:
    link, _ = ready("a")
    for turn in range(1, 30):
        now = turn * S // 2
        deliver(link, b"a\0", turn, seq=turn, now_ns=now)
        assert effects(link, now) == []
    hear(link, Pong(1, NODE, True), 16 * S)
    assert effects(link, 16 * S) == []
    link.receive(b"rubbish", 18 * S)  # is none
    assert of_type(effects(link, 18 * S), Ping)


def test_the_same_node_is_not_connected_again_another_is() -> None:
    link, [reader] = ready("a")
    link.greet(1)
    effects(link, 1)
    hear(link, welcome(Subscribed(reader.id, EPOCH, 1)), 2)
    assert of_type(effects(link, 2), Connect) == []
    link.greet(3)
    effects(link, 3)
    hear(link, welcome(Subscribed(reader.id, EPOCH + 1, 1), incarnation=78, epoch=EPOCH + 1), 4)
    assert effects(link, 4) == [Connect("memory://p78", "memory://c"), Leave(b"@5/2\0"), Join([b"a\0", b"@5/3\0"])]
    assert reader.take() == [Gap("a", 1, None, EPOCH)]


def test_a_frame_of_a_newer_epoch_makes_it_greet() -> None:
    link, [reader] = ready("a")
    deliver(link, b"a\0", "new", seq=1, epoch=EPOCH + 1, now_ns=5)
    assert link.state is State.GREETING
    deliver(link, b"a\0", "old", seq=1, epoch=EPOCH - 1, now_ns=5)
    assert link.counters.frames_refused == {"stale_epoch": 1}
    assert reader.take() == []


def test_a_welcome_that_nobody_waits_for_is_ignored() -> None:
    link, [reader] = ready("a")
    hear(link, welcome(Subscribed(reader.id, EPOCH + 5, 1), incarnation=99))
    assert link.node is not None
    assert link.node.incarnation == NODE
    assert reader.epoch == EPOCH


# -- publishing --------------------------------------------------------------------------------------------------


def test_what_is_published_waits_for_the_welcome_and_then_leaves_in_order() -> None:
    link = new_link()
    stream = link.outbox.open("a")
    link.outbox.add_many(stream, list(range(6)))
    link.begin(0)
    link.publish_gathered()
    assert of_type(effects(link, 0), Hello)
    assert not link.outbox.empty
    hear(link, welcome())
    link.publish_gathered()
    frames = effects(link, 0)[1:]
    assert [(frame.seq, frame.count, frame.epoch) for frame in frames] == [(1, 4, 5), (5, 2, 5)]
    assert msgspec.msgpack.decode(frames[0].body) == [["a", [0, 1, 2, 3]]]
    assert link.outbox.empty
    assert link.counters.messages_published == 6


# -- the end, and nonsense ---------------------------------------------------------------------------------------


def test_close_says_goodbye_and_ends_every_wait() -> None:
    link, _ = ready("a")
    told: list[int] = []
    one = ask(link)
    one.notify = lambda: told.append(1)
    link.take_effects()
    link.close()
    assert link.state is State.CLOSED
    assert effects(link, 0) == [Goodbye()]
    assert (one.done, one.reply, told) == (True, None, [1])
    assert link.next_ns() is None
    link.greet(1)
    link.tick(100 * S)
    assert link.take_effects() == []


def test_close_before_any_welcome_is_silent() -> None:
    link = new_link()
    one = ask(link)
    link.close()
    assert effects(link, 0) == []
    assert one.done


@pytest.mark.parametrize(
    "kind", [Kind.HELLO, Kind.SUBSCRIBE, Kind.NAK, Kind.REQUEST, Kind.PING, Kind.PUBLISH, Kind.HEAD, Kind.JOINED]
)
def test_kinds_that_are_not_for_this_side_are_counted(kind: Kind) -> None:
    link, _ = ready("a")
    link.receive(pack(kind, b"\x90"), 0)
    assert link.counters.frames_refused == {"unexpected": 1}
    assert effects(link, 0) == []


@pytest.mark.parametrize("kind", [Kind.WELCOME, Kind.REPLY, Kind.PING, Kind.JOINED])
def test_kinds_that_have_no_place_on_a_channel_are_counted(kind: Kind) -> None:
    link, _ = ready("a")
    link.receive_published(b"a\0", memoryview(pack(kind, b"\x90")), 0)
    link.receive_published(b"a\0", memoryview(b"rubbish"), 0)
    assert link.counters.frames_refused == {"unexpected": 1, "short": 1}


def test_a_published_frame_without_messages_is_refused() -> None:
    link, [reader] = ready("a")
    link.receive_published(b"a\0", memoryview(pack(Kind.PUBLISH, b"\x90", count=0, epoch=EPOCH, seq=1)), 0)
    assert link.counters.frames_refused == {"unexpected": 1}
    assert not reader.ready


def witness(link: LinkCore, now_ns: int) -> int:
    link.greet(now_ns)
    [hello] = of_type(effects(link, now_ns), Hello)
    return int(hello.node)


def test_a_greeting_names_the_node_that_alone_can_have_seen_its_requests() -> None:
    """What was begun with its predecessor must not be done again, whoever welcomed us last."""
    link, _ = ready()
    assert witness(link, 0) == NODE
    hear(link, welcome(), 0)
    old = ask(link)
    effects(link, 0)
    assert witness(link, 1) == NODE
    hear(link, welcome(incarnation=78), 2)
    assert witness(link, 3) == NODE  # still, though 78 has welcomed us
    hear(link, welcome(incarnation=78), 4)
    ask(link)
    effects(link, 4)
    assert witness(link, 5) == 0  # there is none
    hear(link, Reply(old.number, ReplyStatus.SESSION_EXPIRED, NIL), 6)
    hear(link, welcome(incarnation=78), 8)
    assert witness(link, 9) == 78


def test_a_request_begun_before_any_welcome_has_no_witness() -> None:
    link = new_link()
    ask(link)
    assert of_type(effects(link, 0), Hello)[0].node == 0
    hear(link, welcome(), 1)
    assert witness(link, 2) == 0
