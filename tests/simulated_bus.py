"""A node and its clients over a network that loses, doubles, delays and reorders frames. Time is virtual.

ZeroMQ's own subscription commands arrive reliably and in order, as TCP carries them; every frame of ours is at risk.
A restart of the node loses all that was on its way to it. What the old node had sent may still arrive afterwards.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

import msgspec

from dompbus.bus.link import Connect, Control, Join, Leave, LinkCore, Outstanding
from dompbus.bus.node import Call
from dompbus.bus.reader import Batch, Gap, Reader
from dompbus.wire.bodies import ReplyStatus
from dompbus.wire.frame import REPAIR_MARK, Kind, parse
from dompbus.wire.message import encode
from tests.bus_world import EPOCH, MS, NODE, S, new_link, new_node, split_repair

__all__ = ["Bus", "Peer"]

TICK_NS = 200 * MS
Position = tuple[str, int, int]  # channel, epoch, seq


class Peer:
    """One client: its core, the prefixes its SUB socket has sent, and what its user was given."""

    def __init__(self, bus: "Bus", number: int, patterns: list[str]) -> None:
        self.bus = bus
        self.identity = b"peer%d" % number
        self.link: LinkCore = new_link(100 + number, name=f"peer{number}")
        self.connected = 0  # the node that SUB and control sockets are connected to
        self.readers = [self.link.subscribe(pattern, None, 0) for pattern in patterns]
        self.given: dict[int, list[Batch | Gap]] = {reader.id: [] for reader in self.readers}
        self.asked: list[Outstanding] = []

    def request(self, value: int) -> None:
        """Ask the node to echo a number within two seconds."""
        now = self.bus.now_ns
        outstanding = self.link.request("echo", encode(value), deadline_ns=now + 2 * S, now_ns=now)
        self.asked.append(outstanding)

    def work(self) -> None:
        """What the shell does in a turn."""
        link = self.link
        if self.bus.now_ns >= link.due_ns:
            link.tick(self.bus.now_ns)
        assert link.due_ns <= (link.next_ns() or link.due_ns)
        for effect in link.take_effects():
            self._fulfil(effect)
        for reader in self.readers:
            while taken := reader.take():
                self.given[reader.id] += taken

    def receive(self, data: bytes) -> None:
        """One message from the node's ROUTER or control socket."""
        if data.startswith(REPAIR_MARK):
            self.link.receive_published(*split_repair(data), self.bus.now_ns)
        else:
            self.link.receive(data, self.bus.now_ns)

    def receive_published(self, data: bytes) -> None:
        """One message from the node's XPUB."""
        end = data.index(b"\0") + 1
        self.link.receive_published(data[:end], memoryview(data)[end:], self.bus.now_ns)

    def _fulfil(self, effect: Any) -> None:
        bus, generation = self.bus, self.bus.generation
        match effect:
            case bytes():
                bus.carry(lambda: bus.to_router(generation, self, effect))
            case Control(frame):
                generation = self.connected
                bus.carry(lambda: bus.to_control(generation, self, frame))
            case Connect():
                self.connected = self.link.node.incarnation - NODE if self.link.node else 0
            case Join(prefixes):
                for prefix in prefixes:
                    bus.command(self, b"\1" + prefix)
            case Leave(prefix):
                bus.command(self, b"\0" + prefix)


class Bus:
    """Everything, and the truth about what was published and what was carried out."""

    def __init__(self, seed: int, *, loss: float, patterns: list[list[str]], ring_frames: int = 4_096) -> None:
        self.random = Random(seed)
        self.loss = loss
        self.now_ns = 0
        self.generation = -1
        self.ring_frames = ring_frames
        self.published: dict[Position, tuple[str, int]] = {}  # (topic, message)
        self.executed: dict[tuple[int, int], int] = {}  # (session, number) -> times
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._commands_ns: dict[bytes, int] = {}  # when the last subscription command of a peer arrives
        self._next = count(1)
        self.restart()
        self.peers = [Peer(self, number, wanted) for number, wanted in enumerate(patterns)]
        self._tick()

    # -- what happens ------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Another incarnation of the node takes the address, with the next epoch."""
        self.generation += 1
        self.node = new_node(
            incarnation=NODE + self.generation, epoch=EPOCH + self.generation, ring_frames=self.ring_frames
        )
        self._sockets: dict[bytes, set[bytes]] = {}  # peer -> prefixes, as XPUB knows them

    def publish(self, topic: str, size: int) -> None:
        """The node publishes the next numbers."""
        publisher = self.node.publisher
        publisher.add_many(publisher.open(topic), [next(self._next) for _ in range(size)])
        self.node.publish_gathered(self.now_ns)
        self._node_effects()

    def run(self, until_ns: int) -> None:
        """Let time pass, event by event."""
        while True:
            for peer in self.peers:
                peer.work()
            due = [peer.link.due_ns for peer in self.peers]
            if self._heap:
                due.append(self._heap[0][0])
            if min(due) > until_ns:
                break
            self.now_ns = max(self.now_ns, min(due))
            while self._heap and self._heap[0][0] <= self.now_ns:
                heappop(self._heap)[2]()
        self.now_ns = until_ns

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        """Do something at a time."""
        heappush(self._heap, (time_ns, next(self._order), action))

    # -- the network -------------------------------------------------------------------------------------------

    def carry(self, deliver: Callable[[], None]) -> None:
        """A frame on its way: lost, doubled, early or late."""
        copies = 0 if self.random.random() < self.loss else 2 if self.random.random() < self.loss / 2 else 1
        for _ in range(copies):
            slow = self.random.random() < self.loss / 4
            self.at(self.now_ns + self.random.randrange(50_000, 400 * MS if slow else 3 * MS), deliver)

    def command(self, peer: Peer, data: bytes) -> None:
        """A subscription command: reliable and in order."""
        generation = peer.connected
        arrives = max(self.now_ns + self.random.randrange(50_000, 3 * MS), self._commands_ns.get(peer.identity, 0))
        self._commands_ns[peer.identity] = arrives
        self.at(arrives, lambda: self._on_command(generation, peer, data))

    def to_router(self, generation: int, peer: Peer, data: bytes) -> None:
        """A frame arrives at the ROUTER that it was sent to, if that still exists."""
        if generation == self.generation:
            self.node.receive(peer.identity, data, self.now_ns)
            self._node_effects()

    def to_control(self, generation: int, peer: Peer, data: bytes) -> None:
        """A frame arrives at the control socket."""
        if generation == self.generation:
            answer = self.node.receive_control(data, self.now_ns)
            self.carry(lambda: peer.receive(answer))

    def _on_command(self, generation: int, peer: Peer, data: bytes) -> None:
        if generation != self.generation:
            return
        prefixes = self._sockets.setdefault(peer.identity, set())
        before = {prefix for known in self._sockets.values() for prefix in known}
        (prefixes.add if data[0] else prefixes.discard)(data[1:])
        after = {prefix for known in self._sockets.values() for prefix in known}
        if before != after:  # XPUB passes on the first and the last only
            self.node.receive_subscription(data)
            self._node_effects()

    def _node_effects(self) -> None:
        while not self.node.idle:
            effects = self.node.take_effects()
            for call in effects.calls:
                self._execute(call)
            for identity, [data] in effects.sends:
                peer = next(peer for peer in self.peers if peer.identity == identity)
                self.carry(lambda peer=peer, data=data: peer.receive(data))
            for data in effects.fanouts:
                self._fan_out(data)

    def _fan_out(self, data: bytes) -> None:
        end = data.index(b"\0") + 1
        frame = parse(memoryview(data)[end:])
        if frame.kind is Kind.PUBLISH:
            channel, seq = data[: end - 1].decode(), frame.seq
            for topic, messages in msgspec.msgpack.decode(frame.body):
                for message in messages:
                    assert (channel, frame.epoch, seq) not in self.published, "a number names one message"
                    self.published[channel, frame.epoch, seq] = (topic, message)
                    seq += 1
        for peer in self.peers:
            if data[:end] in self._sockets.get(peer.identity, ()):
                self.carry(lambda peer=peer: peer.receive_published(data))

    def _execute(self, call: Call) -> None:
        key = (call.session, call.request.number)
        self.executed[key] = self.executed.get(key, 0) + 1
        node = self.node
        payload = bytes(call.request.payload)
        self.at(self.now_ns + self.random.randrange(MS, 50 * MS), lambda: self._answer(node, call, payload))

    def _answer(self, node: Any, call: Call, payload: bytes) -> None:
        if node is self.node:
            node.reply(call, ReplyStatus.OK, payload)
            self._node_effects()

    def _tick(self) -> None:
        self.node.tick(self.now_ns)
        self._node_effects()
        self.at(self.now_ns + TICK_NS, self._tick)

    # -- what must hold ----------------------------------------------------------------------------------------

    def check(self, peer: Peer, reader: Reader) -> Iterator[Gap]:
        """Everything this reader was given is the channel, in order, once; yield the gaps."""
        given = peer.given[reader.id]
        place: tuple[int, int] | None = None
        for item in given:
            first = item.first if isinstance(item, Gap) else item.seq
            if place is not None:
                assert (item.epoch, first) == place or (item.epoch > place[0] and place[1] < 0), (place, item)
            if isinstance(item, Gap):
                assert item.last is None or item.last >= item.first
                place = (item.epoch, -1 if item.last is None else item.last + 1)
                yield item
                continue
            for seq, message in enumerate(item.messages, item.seq):
                assert self.published[reader.pattern, item.epoch, seq] == (item.topic, message)
            place = (item.epoch, item.seq + len(item.messages))
        channel = self.node.publisher.channels[reader.pattern]
        if place is not None and place[1] >= 0:
            assert place == (self.node.publisher.epoch, channel.seq)
        assert (reader.epoch, reader.seq) == (self.node.publisher.epoch, channel.seq)
