"""Ours: a `Node` that offers an echo service, and a blocking `Client` in another process that asks it; typed both ways.

The law here: the answer is decoded and the struct is built anew for every request, as an application would.
"""

import time
from typing import Any

import dompbus
from perf.histogram import encode as encode_histogram
from perf.peers.stage import PRICE, QUANTITY, SYMBOL, hear, perform, say


class Order(dompbus.Message, tag="order"):
    """The small struct."""

    symbol: str
    price: float
    quantity: float
    time: int


def server(options: dict[str, Any]) -> None:
    """Answer every order with itself until the harness is gone."""
    with dompbus.Node(name="perf-server", listen="tcp://127.0.0.1:0") as node:

        @node.service("perf.echo")
        def echo(order: Order) -> Order:
            return order

        say(ready=True, endpoint=node.endpoint)
        hear()


def client(options: dict[str, Any]) -> None:
    """Ask, wait, and time each round trip."""
    with dompbus.Client(options["endpoint"], name="perf-client") as caller:
        say(ready=True)
        hear()
        _round_trips(caller, options["warm"])
        latencies_ns = _round_trips(caller, options["count"])
        say(histogram=encode_histogram(latencies_ns))
        hear()


def _round_trips(caller: dompbus.Client, count: int) -> list[int]:
    latencies_ns = []
    clock = time.perf_counter_ns
    for index in range(count):
        started_ns = clock()
        answer = caller.request("perf.echo", Order(SYMBOL, PRICE, QUANTITY, index), type=Order)
        latencies_ns.append(clock() - started_ns)
        if answer.time != index:
            raise RuntimeError(f"the answer to request {index} was {answer!r}")
    return latencies_ns


if __name__ == "__main__":
    perform({"server": server, "client": client})
