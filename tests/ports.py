"""Ports for servers that end and come back: free, and outside the range that outgoing connections are given."""

import socket
from random import SystemRandom

__all__ = ["lasting_port"]


def lasting_port() -> int:
    """Give a port that nobody listens at, and that the system gives to nobody by itself."""
    while True:
        port = SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
