"""Over any network: what is published arrives once and in order or is named as a gap; requests are done at most once.

`tests/simulated_bus.py` is the network. A failing seed is printed by hypothesis; add it with `@example`.
"""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dompbus.bus.reader import Gap
from dompbus.wire.bodies import ReplyStatus
from tests.bus_world import MS, S
from tests.simulated_bus import Bus

PATTERNS = [["t.a", "t.*"], [">"], ["t.b", "u", "t.b"]]
TOPICS = ["t.a", "t.b", "u"]
seeds = st.integers(0, 2**32)


def live(bus: Bus, *, seconds: float, restarts: int = 0) -> None:
    """Publish and ask at random for some time, then let the network heal and everything settle."""
    random = bus.random
    end = bus.now_ns + int(seconds * S)
    moments = sorted(random.sample(range(1, 100), restarts))
    steps = 120
    for step in range(steps):
        bus.run(bus.now_ns + random.randrange(1, 2 * int(seconds * S) // steps))
        bus.publish(random.choice(TOPICS), random.choice([1, 1, 1, 3, 9]))
        if random.random() < 0.3:
            random.choice(bus.peers).request(step)
        if moments and step * 100 >= moments[0] * steps:
            moments.pop(0)
            bus.restart()
    bus.run(max(end, bus.now_ns))
    bus.loss = 0.0
    bus.run(bus.now_ns + 40 * S)  # beyond every back-off; nothing more is sent, so beacons have to show the tail


def check_readers(bus: Bus) -> list[Gap]:
    return [gap for peer in bus.peers for reader in peer.readers for gap in bus.check(peer, reader)]


def check_requests(bus: Bus) -> int:
    """Each ended, none was carried out twice; return how many were answered with their echo."""
    assert all(times == 1 for times in bus.executed.values())
    answered = 0
    for peer in bus.peers:
        for outstanding in peer.asked:
            assert outstanding.done
            reply = outstanding.reply
            if reply is not None and reply.status is ReplyStatus.OK:
                assert (peer.link.incarnation, outstanding.number) in bus.executed
                assert bytes(reply.payload) == bytes(outstanding.payload)
                answered += 1
            else:
                assert reply is None or reply.status is ReplyStatus.SESSION_EXPIRED
    return answered


@settings(max_examples=25)
@given(seed=seeds)
def test_over_a_perfect_network_everything_arrives(seed: int) -> None:
    bus = Bus(seed, loss=0.0, patterns=PATTERNS)
    live(bus, seconds=2)
    assert check_readers(bus) == []
    assert check_requests(bus) == sum(len(peer.asked) for peer in bus.peers)


@settings(max_examples=40)
@given(seed=seeds, loss=st.floats(0.0, 0.12))
@example(seed=1, loss=0.1)
def test_over_a_bad_network_everything_is_repaired(seed: int, loss: float) -> None:
    """With a ring that holds all, no message is given up: twelve attempts do not all fail."""
    bus = Bus(seed, loss=loss, patterns=PATTERNS)
    live(bus, seconds=3)
    assert check_readers(bus) == []
    check_requests(bus)


@settings(max_examples=40)
@given(seed=seeds, loss=st.floats(0.0, 0.6), ring_frames=st.sampled_from([1, 4, 4_096]))
def test_over_a_terrible_network_nothing_is_lost_in_silence(seed: int, loss: float, ring_frames: int) -> None:
    bus = Bus(seed, loss=loss, patterns=PATTERNS, ring_frames=ring_frames)
    live(bus, seconds=3)
    assert all(gap.last is not None for gap in check_readers(bus))
    check_requests(bus)


@settings(max_examples=40)
@given(seed=seeds, loss=st.floats(0.0, 0.3), restarts=st.integers(1, 4))
@example(seed=1, loss=0.08203125, restarts=1)  # begun with one node, expired at the next, and almost done there
def test_over_restarts_each_loss_of_unknown_size_is_named(seed: int, loss: float, restarts: int) -> None:
    bus = Bus(seed, loss=loss, patterns=PATTERNS, ring_frames=64)
    live(bus, seconds=8, restarts=restarts)
    check_readers(bus)
    check_requests(bus)
    for peer in bus.peers:
        assert peer.link.node is not None
        assert peer.link.node.incarnation == bus.node.incarnation


def test_the_simulation_is_deterministic() -> None:
    """The same seed gives the same run, or a failing one could not be looked at."""
    runs = []
    for _ in range(2):
        bus = Bus(7, loss=0.2, patterns=PATTERNS)
        live(bus, seconds=1, restarts=1)
        runs.append((bus.published, [peer.given for peer in bus.peers], bus.executed, bus.now_ns))
    assert runs[0] == runs[1]
    assert len(runs[0][0]) > 100


def test_the_simulation_can_fail() -> None:
    """A bus whose repairs never arrive does lose messages, and the check sees it."""
    bus = Bus(7, loss=0.2, patterns=[["t.a"]])
    bus.run(5 * S)
    bus.node.publisher.repair = lambda channel, first, last: ([], None)  # type: ignore[method-assign] # broken on purpose
    live(bus, seconds=1)
    assert check_readers(bus)
    assert bus.now_ns > 10 * MS
