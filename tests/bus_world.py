"""Cores without sockets, for tests: time is a number, frames are read back, nothing waits."""

from typing import Any

from dompbus.bus.link import LinkCore
from dompbus.bus.node import NodeCore
from dompbus.bus.publisher import Publisher
from dompbus.counters import Counters
from dompbus.wire.bodies import BODIES, Hello, Subscribe, control_frame, decode_body
from dompbus.wire.frame import REPAIR_MARK, Frame, Kind, pack, parse
from dompbus.wire.message import encode

__all__ = [
    "EPOCH",
    "MS",
    "NODE",
    "S",
    "bodies",
    "greet",
    "new_link",
    "new_node",
    "new_publisher",
    "numbers",
    "published",
    "split_repair",
]

EPOCH = 1_000
NODE = 77  # the node's incarnation
MS = 1_000_000
S = 1_000_000_000


def new_publisher(counters: Counters | None = None, **settings: Any) -> Publisher:
    """A publisher with a small ring and batches of at most four."""
    defaults: dict[str, Any] = {
        "epoch": EPOCH,
        "batch_messages_max": 4,
        "batch_bytes_max": 65_536,
        "ring_frames": 16,
        "ring_bytes": 1 << 20,
    }
    return Publisher(counters or Counters(), **(defaults | settings))


def new_node(counters: Counters | None = None, *, incarnation: int = NODE, **settings: Any) -> NodeCore:
    """A node's core with a service `echo` and its endpoints known."""
    counters = counters or Counters()
    publisher = new_publisher(counters, **settings)
    node = NodeCore(incarnation=incarnation, name="node", publisher=publisher, counters=counters)
    node.publish_endpoint, node.control_endpoint = "memory://p", "memory://c"
    node.offer("echo")
    return node


def new_link(incarnation: int = 5, **settings: Any) -> LinkCore:
    """A link's core with a heartbeat of one second."""
    defaults: dict[str, Any] = {"name": "link", "counters": Counters(), "heartbeat_ns": S, "batch_messages_max": 4}
    return LinkCore(incarnation=incarnation, **(defaults | settings))


def greet(node: NodeCore, identity: bytes = b"p", incarnation: int = 5, *patterns: str, now_ns: int = 0) -> list[Any]:
    """Greet from a peer that wants these patterns, with ids from 1; return what the node answers, decoded."""
    wanted = [Subscribe(at, pattern) for at, pattern in enumerate(patterns, 1)]
    node.receive(identity, control_frame(Hello(incarnation, "peer", 0, wanted)), now_ns)
    return bodies(node.take_effects().sends)


def bodies(sends: list[tuple[bytes, list[bytes]]]) -> list[Any]:
    """What frames on the ROUTER say: typed bodies, and published frames (repairs) as `Frame`."""
    frames = [parse(split_repair(data)[1] if data.startswith(REPAIR_MARK) else data) for _, [data] in sends]
    return [decode_body(frame) if frame.kind in BODIES else frame for frame in frames]


def split_repair(data: bytes) -> tuple[bytes, memoryview]:
    """A repair as the DEALER gets it: channel's prefix and frame."""
    end = data.index(b"\0", len(REPAIR_MARK)) + 1
    return data[len(REPAIR_MARK) : end], memoryview(data)[end:]


def published(*messages: Any, seq: int, epoch: int = EPOCH, topic: str = "t", time_ns: int = 9) -> Frame:
    """One published frame of one topic, as it arrives."""
    body = encode([(topic, list(messages))])
    return parse(pack(Kind.PUBLISH, body, count=len(messages), epoch=epoch, seq=seq, time_ns=time_ns))


def numbers(frames: list[bytes], prefix: bytes) -> list[tuple[int, int]]:
    """`(seq, count)` of each frame of one channel among fanned out frames."""
    parsed = [parse(memoryview(frame)[len(prefix) :]) for frame in frames if frame.startswith(prefix)]
    return [(frame.seq, frame.count) for frame in parsed]
