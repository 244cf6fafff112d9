"""The node's core: peers, subscriptions and requests at the side that others connect to.

The law here: what a peer sends changes only that peer's own state and what it is allowed to reach; a frame that is
not understood is counted and answered with a typed refusal, and nothing else happens.

Effects are fulfilled in this order: `calls` first (their replies join the same lot), then `sends`, then `fanouts`.
"""

from collections import OrderedDict
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from dompbus import limits
from dompbus.bus.publisher import Channel, Publisher
from dompbus.bus.replies import EXPIRED, NEW, RUNNING, ReplyTable
from dompbus.counters import Counters
from dompbus.errors import InvalidTopic
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
from dompbus.wire.frame import REPAIR_MARK, Frame, FrameError, Kind, Refusal, parse
from dompbus.wire.message import DECODE_ERRORS

__all__ = ["Call", "Effects", "NodeCore"]

PEER_SILENCE_MAX_NS: Final = 60 * 10**9  # a caller's-thread client is silent while its user computes; then it re-greets
PRIVATE: Final = b"@"  # first byte of a peer's private channel; no topic or pattern may hold it

_OUTCOMES: Final = {status: status.name.lower() for status in ReplyStatus}
_relay_decoder: Final = msgspec.msgpack.Decoder(
    Annotated[list[tuple[str, msgspec.Raw]], msgspec.Meta(max_length=limits.RUNS_PER_FRAME_MAX)]
)


class Call(NamedTuple):
    """A request that was accepted and is to be carried out; answer it with `NodeCore.reply`.

    `session` is the incarnation of the peer that asks; with `request.number` it names the call.
    """

    session: int
    request: Request
    deadline_ns: int
    arrived_ns: int


class Effects(NamedTuple):
    """What the shell has to do, in the order that the module describes."""

    calls: list[Call]
    sends: list[tuple[bytes, list[bytes]]]  # peer, parts
    fanouts: list[bytes]


class _Peer:
    __slots__ = ("identity", "incarnation", "name", "returning", "seen_ns", "subscriptions")

    def __init__(self, identity: bytes, hello: Hello, now_ns: int, *, returning: bool) -> None:
        self.identity = identity
        self.incarnation = hello.incarnation
        self.name = hello.name
        self.returning = returning  # earlier attempts of its requests can only have come to this incarnation
        self.seen_ns = now_ns
        self.subscriptions: dict[int, Channel] = {}


class _Service:
    __slots__ = ("queue_max", "remembers", "waiting")

    def __init__(self, queue_max: int, remembers: bool) -> None:
        self.queue_max = queue_max
        self.remembers = remembers  # has its own table of replies and its own queue, as a machine behind a log
        self.waiting = 0


class NodeCore:
    """Feed it what arrives; take back calls to carry out and frames to send."""

    def __init__(self, *, incarnation: int, name: str, publisher: Publisher, counters: Counters) -> None:
        self.incarnation = incarnation
        self.name = name
        self.publisher = publisher
        self.counters = counters
        self.publish_endpoint = ""
        self.control_endpoint = ""
        self._peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self._by_incarnation: dict[int, _Peer] = {}
        self._services: dict[str, _Service] = {}
        self._replies = ReplyTable()
        self._calls: list[Call] = []
        self._sends: list[tuple[bytes, list[bytes]]] = []
        self._fanouts: list[bytes] = []
        self._handlers: Final[dict[Kind, Any]] = {
            Kind.REQUEST: self._on_request,
            Kind.PUBLISH: self._on_publish,
            Kind.SUBSCRIBE: self._on_subscribe,
            Kind.UNSUBSCRIBE: self._on_unsubscribe,
            Kind.NAK: self._on_nak,
            Kind.PING: self._on_ping,
            Kind.GOODBYE: self._on_goodbye,
        }

    # -- what arrives ------------------------------------------------------------------------------------------

    def receive(self, identity: bytes, data: bytes, now_ns: int) -> None:
        """Take one frame that arrived on the ROUTER socket."""
        counters = self.counters
        counters.frames_received += 1
        counters.bytes_received += len(data)
        frame: Frame | None = None
        try:
            frame = parse(data)
            peer = self._peers.get(identity)
            if frame.kind is Kind.HELLO:
                self._on_hello(identity, decode_body(frame), now_ns)
            elif peer is None:
                raise FrameError(Refusal.STRANGER, "no HELLO from this peer; greet first")
            else:
                peer.seen_ns = now_ns
                handler = self._handlers.get(frame.kind)
                if handler is None:
                    raise FrameError(Refusal.UNEXPECTED, f"{frame.kind.name} is not for this socket")
                handler(peer, frame, now_ns)
        except FrameError as error:
            self._refuse(identity, frame, error)

    def receive_control(self, data: bytes, now_ns: int) -> bytes:
        """Take one frame from the control socket; return the frame that answers it, for whoever sent it."""
        self.counters.frames_received += 1
        try:
            frame = parse(data)
            if frame.kind is not Kind.PING:
                raise FrameError(Refusal.UNEXPECTED, f"{frame.kind.name} is not for the control socket")
            ping: Ping = decode_body(frame)
        except FrameError as error:
            self.counters.frames_refused[error.reason] += 1
            return control_frame(Refused(error.reason, error.detail[:1024]))
        peer = self._by_incarnation.get(frame.epoch)
        if peer is not None:
            peer.seen_ns = now_ns
        return control_frame(Pong(ping.token, self.incarnation, peer is not None))

    def receive_subscription(self, data: bytes) -> None:
        """Take one message of the XPUB socket: a SUB somewhere began (1) or ended (0) to listen to a prefix."""
        if len(data) < 3 or data[0] > 1 or data[-1] or len(data) > limits.TOPIC_BYTES_MAX + 2:
            self.counters.frames_refused[Refusal.BOUNDS if data[:1] in (b"\0", b"\1") else Refusal.UNEXPECTED] += 1
            return
        began, name = data[0] == 1, data[1:-1]
        if name.startswith(PRIVATE):
            if began:
                self._on_join(name, data[1:])
            return
        channel = self.publisher.channels.get(name.decode("ascii", "replace"))
        if channel is not None:
            channel.fanned = began
            self.publisher.drop_if_unused(channel)

    # -- what the shell asks for -------------------------------------------------------------------------------

    def offer(self, service: str, *, queue_max: int = limits.SERVICE_QUEUE_MAX, remembers: bool = False) -> None:
        """Accept requests for `service` from now on."""
        offered = self._services.setdefault(service, _Service(queue_max, remembers))
        offered.queue_max, offered.remembers = queue_max, remembers  # offered again: what waits goes on waiting

    def reply(self, call: Call, status: ReplyStatus, payload: bytes) -> None:
        """Answer a call; a repeat of the request will get the same answer."""
        request = call.request
        service = self._services[request.service]
        if not service.remembers:
            service.waiting -= 1
        frame = control_frame(Reply(request.number, status, msgspec.Raw(payload)))
        peer = self._by_incarnation.get(call.session)  # it may have come back on another connection meanwhile
        if peer is not None:
            self._send(peer, frame)
        self.counters.requests[request.service, _OUTCOMES[status]] += 1
        if not service.remembers:
            self._replies.finish(call.session, request.number, frame)

    def tick(self, now_ns: int) -> None:
        """Forget peers that were silent for long, and announce how far each channel has come."""
        self._fanouts += self.publisher.heads()
        for peer in [peer for peer in self._peers.values() if now_ns - peer.seen_ns >= PEER_SILENCE_MAX_NS]:
            self._forget(peer)

    def say_goodbye(self) -> None:
        """Tell every peer that this node is leaving."""
        frame = control_frame(Goodbye("the node is closing"))
        self._sends += [(identity, [frame]) for identity in self._peers]

    def publish_gathered(self, time_ns: int) -> None:
        """Fan out what the publisher holds, in frames stamped `time_ns`."""
        if not self.publisher.empty:
            self._fanouts += self.publisher.frames(time_ns)

    def take_effects(self) -> Effects:
        """Hand out what is to be done."""
        effects = Effects(self._calls, self._sends, self._fanouts)
        self._calls, self._sends, self._fanouts = [], [], []
        return effects

    @property
    def idle(self) -> bool:
        """Whether `take_effects` would return nothing."""
        return not (self._calls or self._sends or self._fanouts)

    # -- kinds of frame ----------------------------------------------------------------------------------------

    def _on_hello(self, identity: bytes, hello: Hello, now_ns: int) -> None:
        old = [self._by_incarnation.get(hello.incarnation), self._peers.get(identity)]  # the same one, as a rule
        if not any(old) and len(self._peers) >= limits.PEERS_MAX:
            raise FrameError(Refusal.TOO_MANY, f"this node has {limits.PEERS_MAX} peers, which is its limit")
        peer = _Peer(identity, hello, now_ns, returning=hello.node == self.incarnation)
        subscribed = [self._subscribe(peer, subscribe) for subscribe in hello.subscriptions]
        for gone in filter(None, old):  # after the new subscriptions, so that channels both hold live on
            self._forget(gone)
        self._peers[identity] = self._by_incarnation[hello.incarnation] = peer
        self.counters.peers = len(self._peers)
        welcome = Welcome(
            self.incarnation,
            self.name,
            self.publisher.epoch,
            self.publish_endpoint,
            self.control_endpoint,
            subscribed,
        )
        self._send(peer, control_frame(welcome))
        for request in hello.requests:
            self._accept(peer, request, now_ns)

    def _on_subscribe(self, peer: _Peer, frame: Frame, _now_ns: int) -> None:
        self._send(peer, control_frame(self._subscribe(peer, decode_body(frame))))

    def _subscribe(self, peer: _Peer, subscribe: Subscribe) -> Subscribed:
        epoch = self.publisher.epoch
        if len(peer.subscriptions) >= limits.SUBSCRIPTIONS_PER_PEER_MAX:
            return Subscribed(subscribe.id, epoch, 0, f"more than {limits.SUBSCRIPTIONS_PER_PEER_MAX} subscriptions")
        self._unsubscribe(peer, subscribe.id)
        try:
            channel = self.publisher.channel(subscribe.pattern)
        except InvalidTopic as error:
            return Subscribed(subscribe.id, epoch, 0, str(error)[:1024])
        channel.readers += 1
        peer.subscriptions[subscribe.id] = channel
        self.counters.subscriptions += 1
        return Subscribed(subscribe.id, epoch, channel.seq)

    def _on_unsubscribe(self, peer: _Peer, frame: Frame, _now_ns: int) -> None:
        unsubscribe: Unsubscribe = decode_body(frame)
        self._unsubscribe(peer, unsubscribe.id)

    def _unsubscribe(self, peer: _Peer, id: int) -> None:
        channel = peer.subscriptions.pop(id, None)
        if channel is not None:
            channel.readers -= 1
            self.counters.subscriptions -= 1
            self.publisher.drop_if_unused(channel)

    def _on_join(self, name: bytes, prefix: bytes) -> None:
        """A peer's private channel `@<incarnation>/<n>` is live: so are all it subscribed to before, on that link."""
        incarnation = name[1:].partition(b"/")[0]
        peer = self._by_incarnation.get(int(incarnation)) if incarnation.isdigit() and len(incarnation) < 20 else None
        if peer is None:
            self.counters.frames_refused[Refusal.STRANGER] += 1
            return
        positions = [(id_, channel.seq) for id_, channel in peer.subscriptions.items()]
        for channel in peer.subscriptions.values():
            channel.fanned = True
        self._fanouts.append(control_frame(Joined(positions), epoch=self.publisher.epoch, prefix=prefix))

    def _on_publish(self, peer: _Peer, frame: Frame, _now_ns: int) -> None:
        try:
            runs = _relay_decoder.decode(frame.body)
            counted = [(self.publisher.open(topic), raw, _array_length(raw)) for topic, raw in runs]
        except DECODE_ERRORS as error:
            raise FrameError(Refusal.BODY, f"PUBLISH: {error}") from error
        if sum(count for _, _, count in counted) != frame.count:
            raise FrameError(Refusal.BODY, f"PUBLISH: header counts {frame.count} messages, the body does not")
        for stream, raw, count in counted:
            if stream.wanted and count:
                self.publisher.relay(stream, raw, count)

    def _on_nak(self, peer: _Peer, frame: Frame, _now_ns: int) -> None:
        nak: Nak = decode_body(frame)
        channel = peer.subscriptions.get(nak.id)
        if channel is None or nak.first > nak.last:
            raise FrameError(Refusal.UNEXPECTED, "NAK for a subscription or range that does not exist")
        if nak.epoch != self.publisher.epoch:
            self._send(peer, control_frame(Lost(nak.id, nak.epoch, nak.first, nak.last)))
            return
        frames, lost = self.publisher.repair(channel, nak.first, nak.last)
        if lost is not None:
            self._send(peer, control_frame(Lost(nak.id, nak.epoch, *lost)))
        self._sends += [(peer.identity, [REPAIR_MARK + channel.prefix + data]) for data in frames]
        self.counters.repairs["sent"] += len(frames)

    def _on_request(self, peer: _Peer, frame: Frame, now_ns: int) -> None:
        self._accept(peer, decode_body(frame), now_ns)

    def _on_ping(self, peer: _Peer, frame: Frame, _now_ns: int) -> None:
        ping: Ping = decode_body(frame)
        self._send(peer, control_frame(Pong(ping.token, self.incarnation, True)))

    def _on_goodbye(self, peer: _Peer, _frame: Frame, _now_ns: int) -> None:
        self._forget(peer)

    # -- requests ----------------------------------------------------------------------------------------------

    def _accept(self, peer: _Peer, request: Request, now_ns: int) -> None:
        service = self._services.get(request.service)
        if service is None:
            self._answer(peer, request, ReplyStatus.NO_SERVICE)
            return
        call = Call(peer.incarnation, request, now_ns + request.budget_ns, now_ns)
        if service.remembers:  # it knows its repeats, and the bound of its queue, better than we do
            self._calls.append(call)
            return
        known = self._replies.begin(peer.incarnation, request.number, request.attempt, sole=peer.returning)
        if isinstance(known, bytes):
            self._send(peer, known)
        elif known == EXPIRED:
            self._answer(peer, request, ReplyStatus.SESSION_EXPIRED)
        elif known == NEW and service.waiting >= service.queue_max:
            self._replies.abandon(peer.incarnation, request.number)
            self._answer(peer, request, ReplyStatus.OVERLOADED)
        elif known == NEW:
            service.waiting += 1
            self._calls.append(call)
        else:
            assert known == RUNNING  # its reply will come to the same session

    def _answer(self, peer: _Peer, request: Request, status: ReplyStatus) -> None:
        self.counters.requests["", _OUTCOMES[status]] += 1
        self._send(peer, control_frame(Reply(request.number, status, msgspec.Raw(b"\xc0"))))

    # -- inside ------------------------------------------------------------------------------------------------

    def _send(self, peer: _Peer, frame: bytes) -> None:
        self._sends.append((peer.identity, [frame]))

    def _refuse(self, identity: bytes, frame: Frame | None, error: FrameError) -> None:
        self.counters.frames_refused[error.reason] += 1
        refused = Refused(error.reason, error.detail[:1024], frame.kind if frame is not None else 0)
        self._sends.append((identity, [control_frame(refused)]))

    def _forget(self, peer: _Peer) -> None:
        for id_ in list(peer.subscriptions):
            self._unsubscribe(peer, id_)
        self._peers.pop(peer.identity, None)
        self._by_incarnation.pop(peer.incarnation, None)
        self.counters.peers = len(self._peers)


def _array_length(raw: msgspec.Raw) -> int:
    """Read the length of a msgpack array from its first bytes; raise `ValueError` when it is none."""
    view = memoryview(raw)
    first = view[0]
    if 0x90 <= first <= 0x9F:
        return first - 0x90
    if first in (0xDC, 0xDD):
        return int.from_bytes(view[1 : 3 if first == 0xDC else 5], "big")
    raise ValueError("a run holds no array of messages")
