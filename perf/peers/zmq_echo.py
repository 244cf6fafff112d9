"""Bare DEALER/ROUTER echo: the floor of any request, and the same with one write + fdatasync on the way.

The law here: one request at a time from a blocking caller, so no queue can form; every round trip is timed.
"""

import os
import time
from pathlib import Path
from typing import Any

import zmq

from perf.histogram import encode as encode_histogram
from perf.peers.stage import hear, perform, say

BODY = bytes(40)  # about what the small struct takes when encoded
RECORD = bytes(128)  # one transfer


def server(options: dict[str, Any]) -> None:
    """Answer every request with itself; with a `directory`, write and fdatasync its body there first."""
    socket = zmq.Context().socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    say(ready=True, endpoint=f"tcp://127.0.0.1:{port}")
    if options.get("directory"):
        _serve_durable(socket, Path(options["directory"]) / "echo.log")
    while True:
        socket.send_multipart(socket.recv_multipart())


def _serve_durable(socket: "zmq.Socket[bytes]", path: Path) -> None:
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    while True:
        frames = socket.recv_multipart()
        os.write(file, frames[-1])
        os.fdatasync(file)
        socket.send_multipart(frames)


def client(options: dict[str, Any]) -> None:
    """Send, wait, and time each round trip."""
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(options["endpoint"])
    body = RECORD if options.get("directory") else BODY
    say(ready=True)
    hear()
    _round_trips(socket, body, options["warm"])
    latencies_ns = _round_trips(socket, body, options["count"])
    say(histogram=encode_histogram(latencies_ns))
    hear()


def _round_trips(socket: "zmq.Socket[bytes]", body: bytes, count: int) -> list[int]:
    latencies_ns = []
    clock = time.perf_counter_ns
    for _ in range(count):
        started_ns = clock()
        socket.send(body)
        socket.recv()
        latencies_ns.append(clock() - started_ns)
    return latencies_ns


if __name__ == "__main__":
    perform({"server": server, "client": client})
