"""A game server that embeds a node: its loop ticks on a thread of its own, players join by a request and see a stream.

Run it: python examples/game_server.py [--ticks 60]

The game loop owns the world. What players send arrives on the node's thread and is put into a queue; the loop takes it
at the next tick and publishes every position, as one batch a tick. So the world needs no lock.
"""

import argparse
import queue
import threading
import time
from itertools import count

import dompbus

TICK_SECONDS = 1 / 60


class Join(dompbus.Message, tag="join"):
    name: str


class Joined(dompbus.Message, tag="joined"):
    player: int
    topic: str  # where this player sees the world


class Move(dompbus.Message, tag="move"):
    player: int
    dx: int
    dy: int


class Position(dompbus.Message, tag="position"):
    player: int
    x: int
    y: int
    tick: int


class GameServer:
    """One arena."""

    def __init__(self, listen: str) -> None:
        self.node = dompbus.Node(name="arena", listen=listen)
        self.positions: dict[int, tuple[int, int]] = {}
        self._inputs: queue.SimpleQueue[int | Move] = queue.SimpleQueue()
        self._ids = count(1)
        self.node.service("arena.join")(self.join)
        self.node.service("arena.move")(self.move)

    def join(self, request: Join) -> Joined:
        """A service, on the node's thread: quick, and it touches nothing of the world."""
        player = next(self._ids)
        self._inputs.put(player)
        return Joined(player, "arena.positions")

    def move(self, move: Move) -> None:
        self._inputs.put(move)

    def run(self, ticks: int) -> None:
        """The game loop."""
        due = time.monotonic()
        for tick in range(ticks):
            self._take_inputs()
            world = [Position(player, x, y, tick) for player, (x, y) in self.positions.items()]
            if world:
                self.node.publish_many("arena.positions", world)
            due += TICK_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))

    def _take_inputs(self) -> None:
        while not self._inputs.empty():
            match self._inputs.get():
                case Move(player, dx, dy) if player in self.positions:
                    x, y = self.positions[player]
                    self.positions[player] = x + dx, y + dy
                case int(player):
                    self.positions[player] = (0, 0)


def play(url: str, name: str, moves: int, seen: dict[str, tuple[int, int]]) -> None:
    """A player: joins, walks to the right, and waits until the world shows it there."""
    with dompbus.Client(url, name=name) as client:
        me = client.request("arena.join", Join(name), type=Joined)
        with client.subscribe(me.topic, type=Position) as world:
            for _ in range(moves):
                client.request("arena.move", Move(me.player, 1, 0))
            while seen.get(name) != (moves, 0):
                position = world.receive(timeout=2.0)
                if isinstance(position, Position) and position.player == me.player:
                    seen[name] = (position.x, position.y)


def main() -> None:
    parser = argparse.ArgumentParser(description="A ticking arena with two players.")
    parser.add_argument("--ticks", type=int, default=60)
    ticks = parser.parse_args().ticks
    seen: dict[str, tuple[int, int]] = {}
    server = GameServer("tcp://127.0.0.1:0")
    with server.node:
        url = server.node.endpoint
        players = [threading.Thread(target=play, args=(url, name, 10, seen)) for name in ("ann", "bob")]
        for player in players:
            player.start()
        server.run(ticks)
        for player in players:
            player.join()
    for name, (x, y) in sorted(seen.items()):
        print(f"{name} saw itself at {x}, {y}")


if __name__ == "__main__":
    main()
