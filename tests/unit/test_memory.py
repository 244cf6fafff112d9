"""The memory transport means what ZeroMQ's sockets mean: order, bounds, early connects, reconnects."""

import itertools
import os
import select
from collections.abc import Iterator

import pytest

from dompbus.errors import EndpointError
from dompbus.runtime import memory
from dompbus.runtime.memory import Dealer, MemorySocket, PeerGone, Router, Sub, XPub

_names = itertools.count()


@pytest.fixture
def name() -> str:
    return f"memory://unit-{next(_names)}"


@pytest.fixture
def router(name: str) -> Iterator[Router]:
    router = Router(4)
    router.bind(name)
    yield router
    router.close()


@pytest.fixture
def dealer(router: Router) -> Iterator[Dealer]:
    dealer = Dealer(4)
    dealer.connect(router.endpoint)
    yield dealer
    dealer.close()


def drain(socket: MemorySocket) -> list[list[bytes]]:
    messages = []
    while socket.readable():
        parts = socket.recv()
        assert parts is not None
        messages.append(parts)
    assert socket.recv() is None
    return messages


def is_readable(socket: MemorySocket) -> bool:
    return bool(select.select([socket.fileno()], [], [], 0)[0])


def test_there_and_back_in_order(router: Router, dealer: Dealer) -> None:
    assert dealer.send([b"1"])
    assert dealer.send([b"2"])
    assert drain(router) == [[dealer.identity, b"1"], [dealer.identity, b"2"]]
    assert router.send([dealer.identity, b"3"])
    assert drain(dealer) == [[b"3"]]


def test_the_descriptor_is_readable_while_something_is_there(router: Router, dealer: Dealer) -> None:
    assert not is_readable(router)
    for number in range(3):
        dealer.send([b"%d" % number])
    for _ in range(3):
        assert is_readable(router)
        router.recv()
    assert not is_readable(router)
    assert router.recv() is None
    dealer.send([b"again"])
    assert is_readable(router)


def test_queues_are_bounded_and_who_left_is_said_to_be_gone(router: Router, dealer: Dealer) -> None:
    assert [dealer.send([b"x"]) for _ in range(6)] == [True] * 4 + [False] * 2
    assert len(drain(router)) == 4
    assert [router.send([dealer.identity, b"y"]) for _ in range(5)] == [True] * 4 + [False]
    for who in (b"nobody", dealer.identity):
        dealer.close()
        with pytest.raises(PeerGone):
            router.send([who, b"z"])
    assert not dealer.push([b"x"])


def test_a_dealer_may_connect_before_anybody_binds(request: pytest.FixtureRequest, name: str) -> None:
    dealers = [Dealer(4) for _ in range(3)]
    for dealer in dealers:
        request.addfinalizer(dealer.close)
        dealer.connect(name)
        assert [dealer.send([b"%d" % number]) for number in range(5)] == [True] * 4 + [False]
    router = Router(4)
    request.addfinalizer(router.close)
    router.bind(name)
    arrived = drain(router)
    for dealer in dealers:
        assert [text for who, text in arrived if who == dealer.identity] == [b"0", b"1", b"2", b"3"]


def test_dealers_come_back_when_the_name_is_bound_again(
    router: Router, dealer: Dealer, request: pytest.FixtureRequest
) -> None:
    name = router.endpoint
    router.close()
    assert dealer.send([b"while away"])
    second = Router(4)
    request.addfinalizer(second.close)
    second.bind(name)
    assert drain(second) == [[dealer.identity, b"while away"]]
    assert second.send([dealer.identity, b"hello"])
    assert drain(dealer) == [[b"hello"]]


def test_a_name_is_bound_once(router: Router) -> None:
    other = Router(4)
    with pytest.raises(EndpointError, match="in use"):
        other.bind(router.endpoint)
    assert other.closed
    assert not router.closed


def test_fan_out_by_prefix(request: pytest.FixtureRequest, name: str) -> None:
    xpub, one, two = XPub(8), Sub(8), Sub(2)
    for socket in (xpub, one, two):
        request.addfinalizer(socket.close)
    one.subscribe(b"a\0")
    one.connect(name)  # before it is bound
    xpub.bind(name)
    two.connect(name)
    two.subscribe(b"a\0")
    two.subscribe(b"b\0")
    two.subscribe(b"b\0")
    assert drain(xpub) == [[b"\1a\0"], [b"\1a\0"], [b"\1b\0"]]
    for message in (b"a\0first", b"b\0second", b"ab\0nobody", b"a\0third"):
        assert xpub.send([message])
    assert drain(one) == [[b"a\0first"], [b"a\0third"]]
    assert drain(two) == [[b"a\0first"], [b"b\0second"]]  # its queue was full at the third
    two.unsubscribe(b"b\0")
    two.unsubscribe(b"b\0")
    one.close()
    assert drain(xpub) == [[b"\0b\0"], [b"\0a\0"]]
    xpub.send([b"b\0unheard"])
    assert drain(two) == []


def test_subscribers_come_back_too(request: pytest.FixtureRequest, name: str) -> None:
    first, second, sub = XPub(8), XPub(8), Sub(8)
    for socket in (first, second, sub):
        request.addfinalizer(socket.close)
    first.bind(name)
    sub.connect(name)
    sub.subscribe(b"a\0")
    first.close()
    second.bind(name)
    assert drain(second) == [[b"\1a\0"]]
    second.send([b"a\0x"])
    assert drain(sub) == [[b"a\0x"]]


def test_closing_leaves_no_name_and_no_descriptor(name: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sockets: list[MemorySocket] = [Router(4), Dealer(4), Dealer(4)]
    sockets[0].bind(name)
    sockets[1].connect(name)
    sockets[2].connect(name + "-other")
    for socket in sockets:
        socket.close()
        socket.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert name not in memory._bound
    assert not memory._waiting.get(name)
    assert not memory._waiting.get(name + "-other")
