"""Requests behave alike with both clients over every transport."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import dompbus
from dompbus.clients.compose import build_node
from dompbus.ledger import Account, CreateAccountStatus, CreateTransferStatus, Transfer
from tests.ports import lasting_port

SECONDS = 20.0


class Order(dompbus.Message, tag="order"):
    symbol: str
    quantity: int


class Verdict(dompbus.Message, tag="verdict"):
    allowed: bool
    order: Order


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Services that fail log it; that is not what is tested here."""
    caplog.set_level(logging.CRITICAL, logger="dompbus")


@pytest.mark.parametrize("threads", [0, 2])
def test_typed_request_and_answer(client: Any, node: dompbus.Node, threads: int) -> None:
    @node.service("risk.check", threads=threads)
    def check(order: Order) -> Verdict:
        assert isinstance(order, Order)
        return Verdict(order.quantity < 10, order)

    assert client.request("risk.check", Order("X", 5), type=Verdict) == Verdict(True, Order("X", 5))
    assert client.request("risk.check", Order("X", 50)) == ["verdict", False, ["order", "X", 50]]
    with pytest.raises(dompbus.InvalidMessage, match=r"risk\.check"):
        client.request("risk.check", {"no": "order"})
    with pytest.raises(dompbus.InvalidMessage, match="not a"):
        client.request("risk.check", Order("X", 5), type=int)


def test_many_requests_one_after_another(client: Any) -> None:
    assert [client.request("echo", number) for number in range(200)] == list(range(200))
    assert client.request("echo") is None


def test_values_of_all_sorts_and_sizes(client: Any) -> None:
    for value in (None, True, -(2**63), 2**64 - 1, 1.5, "ä\0", b"\xff" * 100_000, [1, [2]], {"a": {"b": None}}):
        assert client.request("echo", value) == value
    large = bytes(4_000_000)
    assert client.request("echo", large) == large
    with pytest.raises(dompbus.InvalidMessage, match="at most"):
        client.request("echo", bytes(5_000_000))
    with pytest.raises(dompbus.InvalidMessage, match="object"):
        client.request("echo", object())


def test_an_answer_that_is_too_large_is_an_error_of_the_service(client: Any, node: dompbus.Node) -> None:
    @node.service("large")
    def large(size: int) -> bytes:
        return bytes(size)

    with pytest.raises(dompbus.RemoteError, match="can travel"):
        client.request("large", 5_000_000)
    assert client.request("echo", "well") == "well"


def raising(error: BaseException) -> Any:
    def handler(_value: Any) -> None:
        raise error

    return handler


class Unspeakable(Exception):
    """Its own text fails."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("threads", [0, 1])
def test_whatever_a_service_raises_reaches_the_caller_and_stops_nothing(
    client: Any, node: dompbus.Node, threads: int
) -> None:
    errors = [
        ValueError("no such order"),
        KeyError("k"),
        SystemExit(3),
        ValueError("\udc80"),
        Unspeakable(),
        Exception(),
    ]
    for number, error in enumerate(errors):
        node.service(f"fail{number}", threads=threads)(raising(error))
        with pytest.raises(dompbus.RemoteError) as caught:
            client.request(f"fail{number}", 1)
        assert caught.value.kind == type(error).__name__
    with pytest.raises(dompbus.RemoteError, match=r"^ValueError: no such order$"):
        client.request("fail0", 1)
    node.service("bad-answer", threads=threads)(lambda _value: object())
    with pytest.raises(dompbus.RemoteError, match="InvalidMessage"):
        client.request("bad-answer", 1)
    assert client.request("echo", "well") == "well"
    assert node.healthy


def test_no_such_service(client: Any) -> None:
    with pytest.raises(dompbus.NoService, match="nobody"):
        client.request("nobody", 1)
    with pytest.raises(dompbus.NoService):
        client.request("n" * 200, 1)
    assert client.request("echo", 1) == 1


def test_a_deadline_that_passes(client: Any, node: dompbus.Node) -> None:
    release = threading.Event()
    node.service("slow", threads=1)(lambda _value: release.wait(SECONDS))
    started = time.monotonic()
    with pytest.raises(dompbus.Timeout, match="slow"):
        client.request("slow", 1, timeout=0.05)
    assert 0.04 < time.monotonic() - started < 5
    assert issubclass(dompbus.Timeout, TimeoutError)
    release.set()
    assert client.request("echo", 1) == 1


def test_a_worker_does_not_start_what_is_already_too_late(client: Any, node: dompbus.Node) -> None:
    release, started = threading.Event(), []

    @node.service("slow", threads=1)
    def slow(value: Any) -> None:
        started.append(value)
        release.wait(SECONDS)

    for value in ("first", "too late"):
        with pytest.raises(dompbus.Timeout):
            client.request("slow", value, timeout=0.05)
    passed = time.monotonic() + 0.25  # its time runs from its arrival at the worker, which a busy machine delays
    while time.monotonic() < passed:
        client.request("echo", 1)
    release.set()
    client.request("slow", "last")
    assert started == ["first", "last"]


def test_an_overloaded_service_says_so(client: Any, node: dompbus.Node) -> None:
    release = threading.Event()
    node.service("slow", threads=1)(lambda _value: release.wait(SECONDS))
    node._core.offer("slow", queue_max=1)
    with pytest.raises(dompbus.Timeout):
        client.request("slow", 1, timeout=0.05)
    with pytest.raises(dompbus.Overloaded, match="nothing was carried out"):
        client.request("slow", 2)
    release.set()


def test_a_slow_service_with_threads_holds_up_nobody(client: Any, open_client: Any, node: dompbus.Node) -> None:
    release = threading.Event()
    node.service("slow", threads=1)(lambda value: (release.wait(SECONDS), value)[1])
    other = open_client(node.endpoint)
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(client.request("slow", "late", timeout=SECONDS)))
    waiting.start()
    assert [other.request("echo", number) for number in range(50)] == list(range(50))
    assert answers == []
    release.set()
    waiting.join()
    assert answers == ["late"]


def test_nobody_there(open_client: Any, transport: str) -> None:
    url = {"tcp": "tcp://127.0.0.1:1", "ipc": "ipc:///tmp/dompbus-nobody"}.get(transport, f"{transport}://nobody")
    client = open_client(url, timeout=0.1, config=dompbus.Config.of(timeouts_close=0.05))
    for call in (lambda: client.request("echo", 1), lambda: client.subscribe("t")):
        with pytest.raises(dompbus.Unreachable, match="is it running"):
            call()
    assert client.publish("t", 1)
    with pytest.raises(dompbus.Unreachable):
        client.flush(0.05)


def test_a_node_that_starts_later_is_found(open_client: Any, listen: str, transport: str) -> None:
    if transport == "tcp":
        listen = f"tcp://127.0.0.1:{lasting_port()}"
    client = open_client(listen, timeout=SECONDS)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(client.request("echo", "early")))
    asking.start()
    node = dompbus.Node(listen=listen)
    node.service("echo")(lambda value: value)
    with node:
        asking.join()
    assert answers == ["early"]


def test_one_round_trip_from_nothing_to_answered(open_client: Any, node: dompbus.Node) -> None:
    """The greeting carries the request: the handler runs in the first frame's lot, and one frame goes back for it."""
    frames: list[int] = []
    node.service("count")(lambda _value: frames.append(node.counters.frames_received))
    open_client(node.endpoint).request("count")
    assert frames == [1]


def test_the_ledger(open_client: Any, listen: str, data: Path) -> None:
    config = dompbus.Config.of(listen=listen, data=str(data))
    with build_node(config) as node:
        ledger = open_client(node.endpoint, timeout=SECONDS).ledger
        accounts = [Account(id=number, ledger=1, code=1) for number in (1, 2)]
        assert [status for _, status in ledger.create_accounts(accounts)] == [CreateAccountStatus.CREATED] * 2
        transfers = [Transfer(id=9, debit_account_id=1, credit_account_id=2, amount=2**100, ledger=1, code=1)]
        for expected in (CreateTransferStatus.CREATED, CreateTransferStatus.EXISTS):
            assert [status for _, status in ledger.create_transfers(transfers)] == [expected]
        one, two = ledger.lookup_accounts([1, 2])
        assert (one.debits_posted, two.credits_posted) == (2**100, 2**100)
    with build_node(config) as node:
        [one] = open_client(node.endpoint, timeout=SECONDS).ledger.lookup_accounts([1])
        assert one.debits_posted == 2**100
