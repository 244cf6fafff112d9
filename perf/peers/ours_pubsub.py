"""Ours: a `Node` publishes, a `Client` in another process subscribes and iterates; the plain typed API.

The law here: every message is looked at in order, and a `Gap` (or anything else that is no `Trade`) fails the round.
Queues are opened as far as those of the peers are, so that a burst at full speed is late rather than dropped.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

import dompbus
from perf.histogram import encode as encode_histogram
from perf.peers.pace import open_loop
from perf.peers.stage import PRICE, QUANTITY, SYMBOL, TOPIC, hear, perform, say

QUEUE_FRAMES: Final = 1_000_000


class Trade(dompbus.Message, tag="trade"):
    """The small struct; `time` is its number in throughput works and its origin in latency works."""

    symbol: str
    price: float
    quantity: float
    time: int


def publisher(options: dict[str, Any]) -> None:
    """Listen, wait for the cue, then publish as told: first to warm up, then measured."""
    listen = "tcp://127.0.0.1:0"
    with dompbus.Node(name="perf-publisher", listen=listen, flow_socket_queue_frames=QUEUE_FRAMES) as node:
        say(ready=True, endpoint=node.endpoint)
        say(subscribed=True)  # `subscribe` returns when the node has acknowledged it: nothing to wait for here
        publish = PUBLISH[options["mode"]]
        hear()
        publish(node, options["warm"], options)
        hear()
        started_ns = time.monotonic_ns()
        publish(node, options["count"], options)
        say(started_ns=started_ns)
        hear()


def subscriber(options: dict[str, Any]) -> None:
    """Iterate over the subscription, typed, and say when the last message came."""
    settings = dompbus.Config.of(flow_socket_queue_frames=QUEUE_FRAMES)
    with dompbus.Client(options["endpoint"], name="perf-subscriber", config=settings) as client:
        messages = iter(client.subscribe(TOPIC, type=Trade))
        say(ready=True)
        receive = _receive_paced if options["mode"] == "paced" else _receive_counted
        receive(messages, options["warm"])
        say(warmed=True)
        say(**receive(messages, options["count"]))
        hear()


def _publish_single(node: dompbus.Node, count: int, options: dict[str, Any]) -> None:
    publish = node.publish
    for index in range(count):
        while not publish(TOPIC, Trade(SYMBOL, PRICE, QUANTITY, index)):
            node.flush()  # the outbox is full and says so: make room, then try again
    node.flush()


def _publish_many(node: dompbus.Node, count: int, options: dict[str, Any]) -> None:
    size = options["batch"]
    for first in range(0, count, size):
        trades = [Trade(SYMBOL, PRICE, QUANTITY, index) for index in range(first, min(first + size, count))]
        while not node.publish_many(TOPIC, trades):
            node.flush()
    node.flush()


def _publish_paced(node: dompbus.Node, count: int, options: dict[str, Any]) -> None:
    def publish(origin_ns: int) -> None:
        _require(node.publish(TOPIC, Trade(SYMBOL, PRICE, QUANTITY, origin_ns)))

    open_loop(publish, count=count, rate=options["rate"])


def _require(receipt: dompbus.Receipt) -> None:
    if not receipt:
        raise RuntimeError(f"a message was dropped: {receipt}")


def _receive_counted(messages: Iterator[Any], count: int) -> dict[str, Any]:
    for index, message in zip(range(count), messages, strict=False):
        if type(message) is not Trade or message.time != index:
            return {"error": f"expected message {index}, got {message!r}"}
    return {"finished_ns": time.monotonic_ns()}


def _receive_paced(messages: Iterator[Any], count: int) -> dict[str, Any]:
    latencies_ns = []
    for _, message in zip(range(count), messages, strict=False):
        now_ns = time.monotonic_ns()
        if type(message) is not Trade:
            return {"error": f"expected a trade, got {message!r}"}
        latencies_ns.append(now_ns - message.time)
    return {"histogram": encode_histogram(latencies_ns)}


PUBLISH = {"publish": _publish_single, "publish_many": _publish_many, "paced": _publish_paced}

if __name__ == "__main__":
    perform({"publisher": publisher, "subscriber": subscriber})
