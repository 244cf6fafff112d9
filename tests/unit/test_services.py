"""Services: what is too late is not started, and nothing that a handler does can stop the node."""

import logging
import threading
import time
from typing import Any

import msgspec
import pytest

from dompbus import limits
from dompbus.bus.node import Call
from dompbus.counters import Counters
from dompbus.errors import InvalidMessage
from dompbus.runtime.services import Service
from dompbus.wire.bodies import ReplyStatus, Request
from dompbus.wire.message import Message, encode

SECONDS = 10.0


class Order(Message, tag="order"):
    quantity: int


class Strict(Message, tag="strict"):
    """Its construction fails in a way of its own."""

    x: int

    def __post_init__(self) -> None:
        raise KeyError("never")


class InTurn:
    """Stands in for the reactor: calls run when asked to."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.called = threading.Event()

    def call(self, action: Any) -> None:
        self.calls.append(action)
        self.called.set()


def call(value: Any = None, *, raw: bytes | None = None, late: bool = False) -> Call:
    now = time.monotonic_ns()
    payload = msgspec.Raw(encode(value) if raw is None else raw)
    return Call(1, Request(1, "s", 10**9, 1, payload), now - 1 if late else now + 10**12, now)


def served(service: Service, request: Call) -> tuple[ReplyStatus, Any]:
    """Serve it, on whatever thread; return the one answer."""
    answers: list[tuple[ReplyStatus, bytes]] = []
    reactor = InTurn()

    def respond(answered: Call, status: ReplyStatus, payload: bytes) -> None:
        assert answered is request
        answers.append((status, payload))

    counters = Counters()
    service.serve(request, respond, reactor, counters)  # type: ignore[arg-type] # all that it uses
    if service._pool is not None and not answers:
        assert reactor.called.wait(SECONDS)
        assert answers == []  # answers belong to the reactor's thread
        reactor.calls.pop()()
        assert counters.request_seconds["s"].count == 1
    [(status, payload)] = answers
    return status, msgspec.msgpack.decode(payload)


@pytest.fixture(params=[0, 2])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def make(request: pytest.FixtureRequest, threads: int) -> Any:
    def make(handler: Any) -> Service:
        service = Service("s", handler, threads=threads)
        request.addfinalizer(service.close)
        return service

    return make


def test_the_request_arrives_in_the_annotated_type(make: Any) -> None:
    def check(order: Order) -> bool:
        return order == Order(5)

    assert served(make(check), call(Order(5))) == (ReplyStatus.OK, True)
    status, text = served(make(check), call({"not": "an order"}))
    assert status is ReplyStatus.INVALID
    assert text.startswith("s: ")
    assert served(make(lambda anything: anything), call({"a": [1]})) == (ReplyStatus.OK, {"a": [1]})
    assert served(make(lambda anything: anything), call(raw=b"\xc1"))[0] is ReplyStatus.INVALID
    assert served(make(lambda anything: anything), call(raw=b"\x81\x80\xc0"))[0] is ReplyStatus.INVALID


def test_what_is_too_late_is_not_started(make: Any) -> None:
    started: list[Any] = []
    assert served(make(started.append), call(1, late=True)) == (ReplyStatus.TIMEOUT, None)
    assert started == []


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyError("k"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()]
)
def test_whatever_is_raised_becomes_an_answer(
    make: Any, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(_value: Any) -> None:
        raise error

    assert served(make(failing), call()) == (ReplyStatus.FAILED, [type(error).__name__, str(error)])
    assert "service s failed" in caplog.text


def test_texts_that_cannot_travel_are_made_fit(make: Any) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def surrogate(_value: Any) -> None:
        raise ValueError("caf\udce9")

    def mute(_value: Any) -> None:
        raise Mute

    def long(_value: Any) -> None:
        raise ValueError("x" * 10**6)

    assert served(make(surrogate), call()) == (ReplyStatus.FAILED, ["ValueError", "caf\\udce9"])
    assert served(make(mute), call())[1][0] == "Mute"
    assert len(served(make(long), call())[1][1]) == 4096


def test_answers_that_cannot_travel_are_a_failure_of_the_service(make: Any) -> None:
    status, (kind, text) = served(make(lambda _value: object()), call())
    assert (status, kind) == (ReplyStatus.FAILED, "InvalidMessage")
    assert "the answer of s" in text

    def large(size: int) -> bytes:
        return bytes(size)

    status, (kind, text) = served(make(large), call(limits.PAYLOAD_BYTES_MAX))
    assert (status, kind) == (ReplyStatus.FAILED, "InvalidMessage")
    assert "can travel" in text
    assert served(make(large), call(limits.PAYLOAD_BYTES_MAX - 5))[0] is ReplyStatus.OK


def test_a_type_that_fails_in_its_own_way_is_a_failure(make: Any) -> None:
    def check(strict: Strict) -> None:
        raise AssertionError("never reached")

    assert served(make(check), call(raw=encode(["strict", 1])))[1][0] == "KeyError"


def test_handlers_take_one_parameter() -> None:
    with pytest.raises(TypeError, match="takes 2 parameters"):
        Service("s", lambda a, b: None)  # type: ignore[misc, arg-type] # that is the point

    def handler(value: dict[list[int], int] | list[int] | tuple[int, ...]) -> None: ...

    with pytest.raises(InvalidMessage, match="cannot decode requests into"):
        Service("s", handler)


def test_what_comes_while_the_pool_closes_is_refused_and_may_be_tried_elsewhere() -> None:
    service = Service("s", lambda value: value, threads=1)
    service.close()
    assert served(service, call()) == (ReplyStatus.OVERLOADED, None)


def test_a_handler_that_holds_up_the_node_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dompbus.runtime.services._SLOW_NS", 0)
    with caplog.at_level(logging.WARNING, logger="dompbus.service"):
        served(Service("s", lambda value: value), call())
    assert "held up the node" in caplog.text
    assert "threads=" in caplog.text
