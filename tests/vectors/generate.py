"""Makes frames.json: frames with what they mean, and bytes that are none with the refusal they deserve.

`pytest tests/unit/test_vectors.py --rewrite` writes the file anew. Everything is fixed, so the same code gives the
same file; a change in it is a change of the protocol. Damaged frames are built here byte by byte.
"""

import json
import struct
from pathlib import Path
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_intdigest

from dompbus import limits
from dompbus.wire import bodies
from dompbus.wire.frame import Kind, Refusal, pack, parse
from dompbus.wire.message import encode

__all__ = ["PATH", "render"]

PATH: Final = Path(__file__).with_name("frames.json")
EPOCH: Final = 1_735_689_600_000_000_000
TIME_NS: Final = 1_735_689_601_234_567_890
REQUEST: Final = bodies.Request(42, "risk.check", 500_000_000, 1, msgspec.Raw(encode(["order", "XBTUSDT", "0.5"])))

CONTROL: Final[dict[str, Any]] = {
    "hello, nothing wanted": bodies.Hello(7, "client"),
    "hello with a subscription and a request": bodies.Hello(
        7, "client", 9, [bodies.Subscribe(1, "md.kraken.*", EPOCH, 17)], [REQUEST]
    ),
    "welcome": bodies.Welcome(
        9, "node", EPOCH, "tcp://127.0.0.1:7401", "tcp://*:7402", [bodies.Subscribed(1, EPOCH, 17)]
    ),
    "goodbye": bodies.Goodbye("the node is closing"),
    "refused": bodies.Refused("stranger", "no HELLO from this peer; greet first", 13),
    "subscribe": bodies.Subscribe(2, "md.>"),
    "subscribed": bodies.Subscribed(2, EPOCH, 1),
    "subscription refused": bodies.Subscribed(3, EPOCH, 0, "'a..b' is not a pattern"),
    "unsubscribe": bodies.Unsubscribe(2),
    "joined": bodies.Joined([(1, 17), (2, 1)]),
    "nak": bodies.Nak(1, EPOCH, 17, 20),
    "lost": bodies.Lost(1, EPOCH, 17, 18),
    "request": REQUEST,
    "reply": bodies.Reply(42, bodies.ReplyStatus.OK, msgspec.Raw(encode(True))),
    "reply of a service that failed": bodies.Reply(
        43, bodies.ReplyStatus.FAILED, msgspec.Raw(encode(["ValueError", "no such order"]))
    ),
    "ping": bodies.Ping(3),
    "pong": bodies.Pong(3, 9, True),
}
PUBLISHED: Final = encode([("md.kraken.XBTUSDT", [["trade", "1.5", "2"], ["trade", "1.6", "1"]]), ("md.kraken.X", [7])])


def _valid() -> list[dict[str, Any]]:
    frames = {name: bodies.control_frame(body) for name, body in CONTROL.items()}
    frames["ping of a known peer"] = bodies.control_frame(bodies.Ping(4), epoch=7)
    frames["joined on its channel"] = bodies.control_frame(bodies.Joined([(1, 17)]), epoch=EPOCH)
    frames["published, two topics"] = pack(Kind.PUBLISH, PUBLISHED, count=3, epoch=EPOCH, seq=17, time_ns=TIME_NS)
    frames["published, empty text and nil"] = pack(Kind.PUBLISH, encode([("t", ["", None])]), count=2, epoch=1, seq=1)
    frames["head"] = pack(Kind.HEAD, b"", count=0, epoch=EPOCH, seq=20)
    frames["greatest numbers"] = pack(
        Kind.HEAD, b"", count=0, epoch=limits.EPOCH_MAX, seq=limits.SEQ_MAX, time_ns=limits.TIME_NS_MAX
    )
    frames["fields of a later version at the end"] = pack(Kind.PING, encode([3, "new", {"x": 1}]))
    return [_described(name, data) for name, data in frames.items()]


def _described(name: str, data: bytes) -> dict[str, Any]:
    frame = parse(data)
    return {
        "name": name,
        "hex": data.hex(),
        "kind": frame.kind.name,
        "count": frame.count,
        "epoch": frame.epoch,
        "seq": frame.seq,
        "time_ns": frame.time_ns,
        "body": msgspec.msgpack.decode(frame.body) if frame.body else None,
    }


def _built(body: bytes = b"\x91\x03", checksum_change: int = 0, **changes: Any) -> bytes:
    fields = {
        "magic": b"DOMP",
        "version": 1,
        "kind": 15,
        "flags": 0,
        "count": 1,
        "length": len(body),
        "epoch": 0,
        "seq": 0,
        "time_ns": 0,
    }
    head = struct.pack("<4sBBHIIQQQ", *(fields | changes).values())
    return head + struct.pack("<Q", xxh3_64_intdigest(body, xxh3_64_intdigest(head)) ^ checksum_change) + body


def _invalid() -> list[dict[str, str]]:
    good = _built()
    cases: list[tuple[str, Refusal, bytes]] = [
        ("nothing", Refusal.SHORT, b""),
        ("half a header", Refusal.SHORT, good[:24]),
        ("a header but for one byte", Refusal.SHORT, good[:47]),
        ("text", Refusal.MAGIC, b"GET / HTTP/1.1\r\nHost: localhost:7400\r\nAccept: */*\r\n\r\n"),
        ("zeroes", Refusal.MAGIC, bytes(64)),
        ("version 0", Refusal.VERSION, _built(version=0)),
        ("version 2", Refusal.VERSION, _built(version=2)),
        ("truncated", Refusal.LENGTH, good[:-1]),
        ("a byte too many", Refusal.LENGTH, good + b"\0"),
        ("a length of 4 GiB", Refusal.LENGTH, _built(length=2**32 - 1)),
        ("a changed body", Refusal.CHECKSUM, good[:-1] + b"\x04"),
        ("a changed header", Refusal.CHECKSUM, good[:16] + b"\x01" + good[17:]),
        ("a changed checksum", Refusal.CHECKSUM, _built(checksum_change=1)),
        ("kind 0", Refusal.KIND, _built(kind=0)),
        ("kind 17", Refusal.KIND, _built(kind=17)),
        ("a flag", Refusal.FLAGS, _built(flags=1)),
        ("the last flag", Refusal.FLAGS, _built(flags=0x8000)),
        ("too many messages", Refusal.BOUNDS, _built(count=limits.MESSAGES_PER_FRAME_MAX + 1)),
        ("an epoch of 64 bits", Refusal.BOUNDS, _built(epoch=2**63)),
        ("a seq of 64 bits", Refusal.BOUNDS, _built(seq=2**63)),
        ("a seq beyond the last", Refusal.BOUNDS, _built(kind=9, seq=2**63 - 2, count=2)),
        ("a time of 64 bits", Refusal.BOUNDS, _built(time_ns=2**64 - 1)),
        ("ping without a body", Refusal.BODY, _built(b"")),
        ("ping with a byte of no meaning", Refusal.BODY, _built(b"\xc1")),
        ("ping with a map", Refusal.BODY, _built(b"\x80")),
        ("ping without its token", Refusal.BODY, _built(b"\x90")),
        ("ping with a negative token", Refusal.BODY, _built(b"\x91\xff")),
        ("ping with a token of 64 bits", Refusal.BODY, _built(b"\x91\xcf" + b"\xff" * 8)),
        (
            "hello that claims 2^32-1 subscriptions",
            Refusal.BODY,
            _built(b"\x94\x01\xa1n\x00\xdd\xff\xff\xff\xff", kind=1),
        ),
        ("hello with a name of 129 characters", Refusal.BODY, _built(encode([1, "n" * 129]), kind=1)),
        ("subscribe with an empty pattern", Refusal.BODY, _built(encode([1, ""]), kind=5)),
        ("reply of an unknown status", Refusal.BODY, _built(encode([1, 99, None]), kind=14)),
        (
            "request with a budget above one hour",
            Refusal.BODY,
            _built(encode([1, "s", 3_600 * 10**9 + 1, 1, None]), kind=13),
        ),
    ]
    return [{"name": name, "hex": data.hex(), "refusal": str(refusal)} for name, refusal, data in cases]


def render() -> str:
    """The whole file."""
    document = {
        "about": "Test vectors of the dompbus protocol; see docs/protocol.md. Bodies are shown as decoded MessagePack.",
        "version": 1,
        "valid": _valid(),
        "invalid": _invalid(),
    }
    return json.dumps(document, indent=1) + "\n"
