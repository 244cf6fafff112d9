"""pyzmq PUB/SUB by hand, as its users write it: bare bytes, one msgspec struct a frame, or many structs a frame.

The law here: nothing may be lost, so both high-water marks are off and the publisher waits for the subscription
(XPUB, as the guide's node coordination does). Two plain sends are used rather than `send_multipart`: measured 2-3 x
faster with small messages, since slower sends let libzmq's I/O thread fall asleep between any two of them.
"""

import struct
import time
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from perf.histogram import encode as encode_histogram
from perf.peers.pace import open_loop
from perf.peers.stage import PRICE, QUANTITY, SYMBOL, TOPIC, hear, perform, say

TOPIC_FRAME = TOPIC.encode()
STAMP = struct.Struct("<q24x")  # a time and room for the rest of the small struct


class Trade(msgspec.Struct, array_like=True, gc=False):
    """The small struct, with msgspec's documented options for speed."""

    symbol: str
    price: float
    quantity: float
    time: int


def publisher(options: dict[str, Any]) -> None:
    """Bind, wait for the subscription, then publish as told: first to warm up, then measured."""
    socket = zmq.Context().socket(zmq.XPUB)
    socket.sndhwm = 0
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    say(ready=True, endpoint=f"tcp://127.0.0.1:{port}")
    socket.recv()  # the subscription
    say(subscribed=True)
    publish = PUBLISH[options["mode"]]
    hear()
    publish(socket, options["warm"], options)
    hear()
    started_ns = time.monotonic_ns()
    publish(socket, options["count"], options)
    say(started_ns=started_ns)
    hear()


def subscriber(options: dict[str, Any]) -> None:
    """Receive every message, decoded and handed to Python code, and say when the last one came."""
    socket = zmq.Context().socket(zmq.SUB)
    socket.rcvhwm = 0
    socket.connect(options["endpoint"])
    socket.subscribe(TOPIC_FRAME)
    say(ready=True)
    receive = RECEIVE[options["mode"]]
    receive(socket, options["warm"], options)
    say(warmed=True)
    say(**receive(socket, options["count"], options))
    hear()


# -- throughput ------------------------------------------------------------------------------------------------
def _publish_structs(socket: "zmq.Socket[bytes]", count: int, options: dict[str, Any]) -> None:
    encode, send, more = msgspec.msgpack.Encoder().encode, socket.send, zmq.SNDMORE
    for index in range(count):
        body = encode(Trade(SYMBOL, PRICE, QUANTITY, index))
        send(TOPIC_FRAME, more)
        send(body)


def _receive_structs(socket: "zmq.Socket[bytes]", count: int, options: dict[str, Any]) -> dict[str, Any]:
    decode, receive = msgspec.msgpack.Decoder(Trade).decode, socket.recv
    for index in range(count):
        receive()
        if decode(receive()).time != index:
            return {"error": f"message {index} is missing"}
    return {"finished_ns": time.monotonic_ns()}


def _publish_batches(socket: "zmq.Socket[bytes]", count: int, options: dict[str, Any]) -> None:
    encode, send, more, size = msgspec.msgpack.Encoder().encode, socket.send, zmq.SNDMORE, options["batch"]
    for first in range(0, count, size):
        body = encode([Trade(SYMBOL, PRICE, QUANTITY, index) for index in range(first, min(first + size, count))])
        send(TOPIC_FRAME, more)
        send(body)


def _receive_batches(socket: "zmq.Socket[bytes]", count: int, options: dict[str, Any]) -> dict[str, Any]:
    decode, receive = msgspec.msgpack.Decoder(list[Trade]).decode, socket.recv
    index = 0
    while index < count:
        receive()
        for trade in decode(receive()):
            if trade.time != index:
                return {"error": f"message {index} is missing"}
            index += 1
    return {"finished_ns": time.monotonic_ns()}


def _publish_bytes(socket: "zmq.Socket[bytes]", count: int, options: dict[str, Any]) -> None:
    send, more, body = socket.send, zmq.SNDMORE, STAMP.pack(0)
    for _ in range(count):
        send(TOPIC_FRAME, more)
        send(body)


def _receive_bytes(socket: "zmq.Socket[bytes]", count: int, options: dict[str, Any]) -> dict[str, Any]:
    receive = socket.recv
    for _ in range(count):
        receive()
        receive()
    return {"finished_ns": time.monotonic_ns()}


# -- latency ---------------------------------------------------------------------------------------------------
def _publish_paced(socket: "zmq.Socket[bytes]", count: int, options: dict[str, Any]) -> None:
    def publish(origin_ns: int) -> None:
        socket.send(TOPIC_FRAME, zmq.SNDMORE)
        socket.send(STAMP.pack(origin_ns))

    open_loop(publish, count=count, rate=options["rate"])


def _receive_paced(socket: "zmq.Socket[bytes]", count: int, options: dict[str, Any]) -> dict[str, Any]:
    receive, latencies_ns = socket.recv, []
    for _ in range(count):
        receive()
        (origin_ns,) = STAMP.unpack(receive())
        latencies_ns.append(time.monotonic_ns() - origin_ns)
    return {"histogram": encode_histogram(latencies_ns)}


Publish = Callable[["zmq.Socket[bytes]", int, dict[str, Any]], None]
Receive = Callable[["zmq.Socket[bytes]", int, dict[str, Any]], dict[str, Any]]
PUBLISH: dict[str, Publish] = {
    "structs": _publish_structs,
    "batches": _publish_batches,
    "bytes": _publish_bytes,
    "paced": _publish_paced,
}
RECEIVE: dict[str, Receive] = {
    "structs": _receive_structs,
    "batches": _receive_batches,
    "bytes": _receive_bytes,
    "paced": _receive_paced,
}

if __name__ == "__main__":
    perform({"publisher": publisher, "subscriber": subscriber})
