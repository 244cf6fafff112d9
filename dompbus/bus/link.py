"""The link: one side's connection to one node, seen from the side that connected.

The law here: whatever was asked for (subscriptions, requests) is kept until it is answered or its time is over, so
that a lost connection or a restarted node is mended by greeting again, with everything still wanted in the greeting.

States: `IDLE` (nothing asked for yet) -> `GREETING` (HELLO sent) -> `READY` (welcomed) -> `GREETING` again when the
node turns out to be another incarnation, to have forgotten us, or to be silent.

Effects are fulfilled in the order in which they are handed out. Plain bytes are a frame for the DEALER socket; the
others have a type of their own.
"""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Any, Final, NamedTuple

import msgspec

from dompbus import limits
from dompbus.bus.outbox import EncodedRun, Outbox
from dompbus.bus.reader import Reader
from dompbus.counters import Counters
from dompbus.errors import ConfigError, InvalidMessage, NoService, Overloaded
from dompbus.topics import check_pattern
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
    Request,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    control_frame,
    decode_body,
)
from dompbus.wire.frame import Frame, FrameError, Kind, Refusal, pack, parse

__all__ = ["Connect", "Control", "Join", "Leave", "LinkCore", "Outstanding", "State"]

_NEVER: Final = 2**63
GREETING_RETRY_NS: Final = 1_000_000_000  # doubled at each attempt; a queued HELLO goes out at reconnection anyway
KEEPALIVE_NS: Final = 20_000_000_000  # well within the time after which a node forgets a silent peer
PROBE_NS: Final = 250_000_000  # a request unanswered for this long makes us ask whether the node is still the same
GREETING_RETRY_MAX_NS: Final = 8_000_000_000
GREETING_SPACING_NS: Final = 250_000_000  # however many signs say that the node has forgotten us


class State(Enum):
    """Where the link stands; the module describes the transitions."""

    IDLE = "idle"
    GREETING = "greeting"
    READY = "ready"
    CLOSED = "closed"


class Control(NamedTuple):
    """Send `frame` on the control socket."""

    frame: bytes


class Connect(NamedTuple):
    """Connect SUB and control sockets to these endpoints, leaving those they were connected to."""

    publish_endpoint: str
    control_endpoint: str


class Join(NamedTuple):
    """Subscribe the SUB socket to these prefixes, in this order."""

    prefixes: list[bytes]


class Leave(NamedTuple):
    """Unsubscribe the SUB socket from this prefix."""

    prefix: bytes


class Outstanding:
    """A request that waits for its reply. `done` calls `notify` once."""

    __slots__ = ("attempt", "deadline_ns", "done", "greeted", "node", "notify", "number", "payload", "reply", "service")

    def __init__(self, number: int, service: str, payload: bytes, deadline_ns: int) -> None:
        self.number = number
        self.service = service
        self.payload = payload
        self.deadline_ns = deadline_ns
        self.attempt = 0
        self.greeted = False  # sent with, or after, the last HELLO
        self.node = 0  # incarnation of the node that it was first sent to; 0: not known
        self.reply: Reply | None = None  # None when done: the deadline passed
        self.done = False
        self.notify: Callable[[], None] | None = None

    def finish(self, reply: Reply | None) -> None:
        """Set the outcome; later ones are ignored."""
        if not self.done:
            self.done = True
            self.reply = reply
            if self.notify is not None:
                self.notify()


class LinkCore:
    """Feed it what arrives and the time; take back frames to send and sockets to connect."""

    def __init__(
        self, *, incarnation: int, name: str, counters: Counters, heartbeat_ns: int, batch_messages_max: int
    ) -> None:
        if len(name) > limits.NAME_BYTES_MAX:
            raise ConfigError(f"a name of {len(name)} characters: at most {limits.NAME_BYTES_MAX} are allowed")
        self.incarnation = incarnation
        self.name = name
        self.counters = counters
        self.state = State.IDLE
        self.due_ns = 0  # `tick` has nothing to do before this
        self.node: Welcome | None = None
        self.outbox = Outbox(counters, batch_messages_max=batch_messages_max, wanted=True)
        self.readers: dict[int, Reader] = {}
        self._by_prefix: dict[bytes, list[Reader]] = {}
        self._requests: OrderedDict[int, Outstanding] = OrderedDict()
        self._deadlines: list[tuple[int, int]] = []  # heap of (deadline_ns, number); answered ones leave lazily
        self._effects: list[Any] = []
        self._heartbeat_ns = heartbeat_ns
        self._heard_ns = 0
        self._ping_ns = 0
        self._probe_ns = 0
        self._asked_ns = 0  # when the requests that wait began to, with none before them
        self._greet_ns = 0  # when to send HELLO (again)
        self._greeted_ns = 0  # when it was last sent
        self._greetings = 0  # sent since the last welcome
        self._next_id = 0
        self._next_number = 0
        self._joins = 0
        self._joined_prefix = b""
        self._publish_seq = 1

    # -- what the user asks for --------------------------------------------------------------------------------

    def subscribe(self, pattern: str, type: Any, now_ns: int) -> Reader:
        """Open a subscription; it is live when `reader.subscribed`, or refused when `reader.error`."""
        check_pattern(pattern)
        if len(self.readers) >= limits.SUBSCRIPTIONS_PER_PEER_MAX:
            raise Overloaded(f"a link holds at most {limits.SUBSCRIPTIONS_PER_PEER_MAX} subscriptions; close some")
        self._next_id += 1
        reader = Reader(self._next_id, pattern, type, self.counters)
        self.readers[reader.id] = reader
        self._by_prefix.setdefault(_prefix(reader), []).append(reader)
        if self.state is State.READY:
            self._send(Subscribe(reader.id, pattern))
        self.begin(now_ns)
        return reader

    def unsubscribe(self, reader: Reader) -> None:
        """Close a subscription."""
        if reader.closed:
            return
        reader.closed = True
        self.readers.pop(reader.id, None)
        prefix = _prefix(reader)
        siblings = self._by_prefix.get(prefix, [])
        if reader in siblings:
            siblings.remove(reader)
        if not siblings:
            self._by_prefix.pop(prefix, None)
            self._effects.append(Leave(prefix))
        if self.state is State.READY:
            self._send(Unsubscribe(reader.id))

    def request(self, service: str, payload: bytes, *, deadline_ns: int, now_ns: int) -> Outstanding:
        """Ask a service; `payload` is one msgpack value."""
        if len(service) > limits.NAME_BYTES_MAX:  # would spoil the greeting that it travels in
            raise NoService(f"no service has a name of {len(service)} characters; at most {limits.NAME_BYTES_MAX}")
        if len(payload) > limits.PAYLOAD_BYTES_MAX:
            raise InvalidMessage(f"a request of {len(payload)} bytes; at most {limits.PAYLOAD_BYTES_MAX} can travel")
        if len(self._requests) >= limits.OUTSTANDING_REQUESTS_MAX:
            raise Overloaded(f"{limits.OUTSTANDING_REQUESTS_MAX} requests are waiting for an answer already")
        self._next_number += 1
        outstanding = Outstanding(self._next_number, service, payload, deadline_ns)
        if not self._requests:
            self._asked_ns = now_ns
        self._requests[outstanding.number] = outstanding
        self._remember_deadline(outstanding)
        self.due_ns = min(self.due_ns, deadline_ns, self._probe_due_ns())
        if self.state is State.READY:
            self._send(self._attempt(outstanding, now_ns))
        self.begin(now_ns)
        return outstanding

    def publish_gathered(self) -> None:
        """Send what the outbox holds, once the node has welcomed us; until then it stays there, within its bound."""
        if self.state is State.READY and not self.outbox.empty:
            self._effects += self._publish_frames(self.outbox.take())

    def forget(self, outstanding: Outstanding) -> None:
        """Stop waiting for a reply; one that still comes is ignored."""
        self._requests.pop(outstanding.number, None)

    def close(self) -> None:
        """Say goodbye, and end every wait for a reply; only effects may be taken afterwards."""
        if self.state is State.READY:
            self._send(Goodbye())
        self.state = State.CLOSED
        while self._requests:
            self._requests.popitem(last=False)[1].finish(None)

    # -- what arrives ------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take one frame from the DEALER or the control socket."""
        self.counters.frames_received += 1
        try:
            frame = parse(data)
            handler = _HANDLERS.get(frame.kind)
            if handler is None:
                raise FrameError(Refusal.UNEXPECTED, f"{frame.kind.name} is not for this side")
            self._heard_ns = now_ns
            handler(self, decode_body(frame), frame, now_ns)
        except FrameError as error:
            self.counters.frames_refused[error.reason] += 1

    def receive_published(self, prefix: bytes, data: memoryview, now_ns: int) -> None:
        """Take one frame of a channel, from the SUB socket or as a repair."""
        self.counters.frames_received += 1
        try:
            frame = parse(data)
            if prefix == self._joined_prefix and frame.kind is Kind.JOINED:
                self._on_joined(decode_body(frame), frame)
            elif frame.kind is Kind.PUBLISH and frame.count:
                self._deliver(prefix, frame, now_ns)
            elif frame.kind is Kind.HEAD:
                for reader in self._by_prefix.get(prefix, ()):
                    reader.reach(frame.epoch, frame.seq)
                    if reader.has_hole:
                        self.due_ns = 0
            else:
                raise FrameError(Refusal.UNEXPECTED, f"{frame.kind.name} on a channel")
            self._heard_ns = now_ns
        except FrameError as error:  # a damaged frame is a lost one: the next shows the hole, and it is repaired
            self.counters.frames_refused[error.reason] += 1

    # -- time --------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Do what is due: repairs, deadlines, heartbeats, greeting again."""
        for reader in self.readers.values():
            if reader.has_hole:
                self._repair(reader, now_ns)
        while (deadline_ns := self._next_deadline_ns()) is not None and deadline_ns <= now_ns:
            self._requests.pop(self._deadlines[0][1]).finish(None)
        if self.state is State.GREETING and now_ns >= self._greet_ns:
            self._hello(now_ns)
        if self.state in (State.GREETING, State.READY):
            self._watch(now_ns)
            self._probe(now_ns)
        next_ns = self.next_ns()
        self.due_ns = _NEVER if next_ns is None else next_ns

    def next_ns(self) -> int | None:
        """When `tick` has something to do, or None."""
        if self.state in (State.IDLE, State.CLOSED):
            return None
        due = [reader.nak_at_ns for reader in self.readers.values()]
        if self.node is not None:
            due.append(self._ping_due_ns())
        if self.state is State.GREETING:
            due.append(self._greet_ns)
        if self._requests and self.state is State.READY:
            due.append(self._probe_due_ns())
        due.append(self._next_deadline_ns())
        return min((at for at in due if at is not None), default=None)

    @property
    def has_effects(self) -> bool:
        """Whether `take_effects` would return something."""
        return bool(self._effects)

    def take_effects(self) -> list[Any]:
        """Hand out what is to be done."""
        effects, self._effects = self._effects, []
        return effects

    def begin(self, now_ns: int) -> None:
        """Greet the node if that has never been done."""
        if self.state is State.IDLE:
            self.greet(now_ns)

    def greet(self, now_ns: int) -> None:
        """Have HELLO sent by the next `tick`, once, with all that is wanted by then."""
        if self.state is State.CLOSED:
            return
        self.due_ns = 0
        if self.state is not State.GREETING:
            self.state, self._greet_ns, self._greetings = State.GREETING, now_ns, 0
        elif self._greetings:  # one is on its way; only a sign that it got lost brings us here
            self._greet_ns = min(self._greet_ns, max(now_ns, self._greeted_ns + GREETING_SPACING_NS))

    def _hello(self, now_ns: int) -> None:
        self._greeted_ns = now_ns
        self._greet_ns = now_ns + min(GREETING_RETRY_NS << self._greetings, GREETING_RETRY_MAX_NS)
        self._greetings = min(self._greetings + 1, 8)
        witness = self._witness()  # before the attempts of this greeting
        requests: list[Request] = []
        room = limits.BODY_BYTES_MAX // 2
        for outstanding in self._requests.values():  # what does not fit into one frame follows the welcome
            room -= len(outstanding.payload)
            outstanding.greeted = False
            if room > 0 and len(requests) < limits.REQUESTS_PER_FRAME_MAX:
                requests.append(self._attempt(outstanding, now_ns))
        wanted = [Subscribe(reader.id, reader.pattern, reader.epoch, reader.seq) for reader in self.readers.values()]
        self._send(Hello(self.incarnation, self.name, witness, wanted, requests))

    # -- kinds of frame ----------------------------------------------------------------------------------------

    def _on_welcome(self, welcome: Welcome, _frame: Frame, now_ns: int) -> None:
        if self.state is not State.GREETING:
            return
        before, self.node = self.node, welcome
        self.state = State.READY
        self._ping_ns = now_ns
        self.due_ns = 0
        if before is None or before.incarnation != welcome.incarnation:
            self._effects.append(Connect(welcome.publish_endpoint, welcome.control_endpoint))
        for subscribed in welcome.subscribed:
            self._begin(subscribed)
        self._join()
        greeted = {subscribed.id for subscribed in welcome.subscribed}
        for reader in self.readers.values():  # opened while the greeting was on its way
            if reader.id not in greeted:
                self._send(Subscribe(reader.id, reader.pattern))
        for outstanding in self._requests.values():
            if not outstanding.greeted:
                self._send(self._attempt(outstanding, now_ns))

    def _on_subscribed(self, subscribed: Subscribed, _frame: Frame, _now_ns: int) -> None:
        self._begin(subscribed)
        self._join()

    def _on_joined(self, joined: Joined, frame: Frame) -> None:
        for id_, seq in joined.positions:
            reader = self.readers.get(id_)
            if reader is not None:
                reader.reach(frame.epoch, seq)
        self.due_ns = 0  # there may be holes to ask for
        self._effects.append(Leave(self._joined_prefix))
        self._joined_prefix = b""

    def _on_lost(self, lost: Lost, _frame: Frame, _now_ns: int) -> None:
        reader = self.readers.get(lost.id)
        if reader is not None:
            reader.lost(lost.epoch, lost.first, lost.last)
            self.due_ns = 0

    def _on_reply(self, reply: Reply, _frame: Frame, _now_ns: int) -> None:
        outstanding = self._requests.pop(reply.number, None)
        if outstanding is not None:
            outstanding.finish(reply)

    def _on_refused(self, refused: Refused, _frame: Frame, now_ns: int) -> None:
        if refused.reason == Refusal.STRANGER and self.state is State.READY:
            self.greet(now_ns)

    def _on_pong(self, pong: Pong, _frame: Frame, now_ns: int) -> None:
        if self.node is None or pong.incarnation != self.node.incarnation or not pong.known:
            self.greet(now_ns)

    def _on_goodbye(self, _goodbye: Goodbye, _frame: Frame, now_ns: int) -> None:
        if self.state is State.READY:
            self.greet(now_ns)

    # -- inside ------------------------------------------------------------------------------------------------

    def _remember_deadline(self, outstanding: Outstanding) -> None:
        heappush(self._deadlines, (outstanding.deadline_ns, outstanding.number))
        if len(self._deadlines) > 2 * limits.OUTSTANDING_REQUESTS_MAX:  # answered ones behind a late one
            self._deadlines = [(waiting.deadline_ns, number) for number, waiting in self._requests.items()]
            heapify(self._deadlines)

    def _next_deadline_ns(self) -> int | None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][1] not in self._requests:
            heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def _begin(self, subscribed: Subscribed) -> None:
        reader = self.readers.get(subscribed.id)
        if reader is None:
            return
        if subscribed.error:
            reader.error = subscribed.error
        else:
            reader.begin(subscribed.epoch, subscribed.seq)
            self.due_ns = 0

    def _join(self) -> None:
        """Listen to every confirmed channel, and last to a private one: when that answers, all are live."""
        prefixes = [prefix for prefix, readers in self._by_prefix.items() if any(r.subscribed for r in readers)]
        if not prefixes:
            return
        if self._joined_prefix:
            self._effects.append(Leave(self._joined_prefix))
        self._joins += 1
        self._joined_prefix = b"@%d/%d\0" % (self.incarnation, self._joins)
        self._effects.append(Join([*prefixes, self._joined_prefix]))

    def _deliver(self, prefix: bytes, frame: Frame, now_ns: int) -> None:
        for reader in self._by_prefix.get(prefix, ()):
            if not reader.subscribed:
                continue
            if not reader.receive(frame) and self.state is State.READY and self.node and frame.epoch > self.node.epoch:
                self.greet(now_ns)
            if reader.has_hole:
                self._repair(reader, now_ns)
                self.due_ns = 0  # until `tick` has worked out when to ask again

    def _repair(self, reader: Reader, now_ns: int) -> None:
        due = reader.nak_due(now_ns)
        if due is not None and self.state is State.READY:
            self._send(Nak(reader.id, reader.epoch, *due))

    def _watch(self, now_ns: int) -> None:
        """Ask for a sign of life after an interval of silence; after three, greet again.

        Now and then also without silence, so that the node does not forget a peer that only listens.
        """
        if self.node is None or now_ns < self._ping_due_ns():
            return
        silence = now_ns - self._heard_ns
        missed = (
            self.state is State.READY
            and self._ping_ns > self._heard_ns
            and silence >= limits.HEARTBEATS_MISSED_MAX * self._heartbeat_ns
        )
        self._ping_ns = now_ns
        self._effects.append(Control(control_frame(Ping(now_ns), epoch=self.incarnation)))
        self._send(Ping(now_ns))  # a node that restarted with other ports hears this one, as a stranger's
        if missed:
            self.greet(now_ns)

    def _ping_due_ns(self) -> int:
        return min(max(self._heard_ns, self._ping_ns) + self._heartbeat_ns, self._ping_ns + KEEPALIVE_NS)

    def _probe(self, now_ns: int) -> None:
        """A request waits: ask for a sign of life on its own link, where a restarted node answers as to a stranger."""
        if self._requests and self.state is State.READY and now_ns >= self._probe_due_ns():
            self._probe_ns = now_ns
            self._send(Ping(now_ns))

    def _probe_due_ns(self) -> int:
        return max(self._heard_ns, self._probe_ns, self._asked_ns) + PROBE_NS

    def _witness(self) -> int:
        """The incarnation of the one node that alone can have seen requests which were sent before; 0 if there is none.

        Asking which node welcomed us last is not enough: what was begun with its predecessor must not be done again.
        """
        begun = {outstanding.node for outstanding in self._requests.values() if outstanding.attempt}
        if not begun:
            return self.node.incarnation if self.node else 0
        return begun.pop() if len(begun) == 1 else 0

    def _attempt(self, outstanding: Outstanding, now_ns: int) -> Request:
        if not outstanding.attempt:
            outstanding.node = self.node.incarnation if self.node else 0
        outstanding.attempt += 1
        outstanding.greeted = True
        budget_ns = min(max(outstanding.deadline_ns - now_ns, 0), limits.REQUEST_TIMEOUT_MAX_NS)
        payload = msgspec.Raw(outstanding.payload)
        return Request(outstanding.number, outstanding.service, budget_ns, outstanding.attempt, payload)

    def _publish_frames(self, runs: list[EncodedRun]) -> list[bytes]:
        frames = []
        for run in runs:  # a run is a batch already; the node regroups them by channel
            body = b"\x91" + run.data
            frames.append(pack(Kind.PUBLISH, body, count=run.length, epoch=self.incarnation, seq=self._publish_seq))
            self._publish_seq += run.length
        self.counters.messages_published += sum(run.length for run in runs)
        return frames

    def _send(self, body: Any) -> None:
        self._effects.append(control_frame(body))


_HANDLERS: Final[dict[Kind, Callable[[LinkCore, Any, Frame, int], None]]] = {
    Kind.REPLY: LinkCore._on_reply,
    Kind.WELCOME: LinkCore._on_welcome,
    Kind.SUBSCRIBED: LinkCore._on_subscribed,
    Kind.LOST: LinkCore._on_lost,
    Kind.REFUSED: LinkCore._on_refused,
    Kind.PONG: LinkCore._on_pong,
    Kind.GOODBYE: LinkCore._on_goodbye,
}


def _prefix(reader: Reader) -> bytes:
    return reader.pattern.encode("ascii") + b"\0"
