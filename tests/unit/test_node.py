"""The node joins core and sockets: it starts whole or not at all, and closes from any state."""

import itertools
import os
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import dompbus
from dompbus.clients.compose import build_node
from dompbus.errors import ClosedError, DirectoryLocked, EndpointError
from dompbus.storage import StateFile

SECONDS = 10.0
ROOT = Path(__file__).parents[2]
_names = itertools.count()


def address() -> str:
    return f"memory://unit-node-{next(_names)}"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_settings_by_keyword_or_config() -> None:
    node = dompbus.Node(name="matching-1", listen=address(), batch_messages_max=7)
    assert (node.name, node.config.batch.messages_max, node.endpoint) == ("matching-1", 7, "")
    node.close()
    with pytest.raises(dompbus.ConfigError, match="lissen"):
        dompbus.Node(lissen=address())


def test_closing_before_starting_and_twice() -> None:
    before = descriptors()
    node = dompbus.Node(listen=address())
    node.close()
    node.close()
    with pytest.raises(ClosedError):
        node.start()
    assert descriptors() == before


def test_a_start_that_fails_leaves_nothing_bound() -> None:
    with dompbus.Node(listen=address()) as node:
        before = descriptors()
        taken = dompbus.Node(listen=address(), publish=node._core.publish_endpoint)
        with pytest.raises(EndpointError, match="in use"):
            taken.start()
        assert descriptors() == before
        with dompbus.Node(listen=taken.config.node.listen):  # its first endpoint is free again
            pass


def test_each_start_is_another_incarnation_with_a_higher_epoch() -> None:
    epochs, incarnations = [], set()
    for _ in range(3):
        with dompbus.Node(listen=address()) as node:
            epochs.append(node._publisher.epoch)
            incarnations.add(node.incarnation)
    assert epochs == sorted(set(epochs))
    assert len(incarnations) == 3


def test_the_epoch_of_a_directory_rises_also_when_the_clock_was_set_back(tmp_path: Path) -> None:
    config = dompbus.Config.of(listen=address(), data=str(tmp_path / "data"))
    with build_node(config) as node:
        first = node._publisher.epoch
    StateFile(tmp_path / "data" / "epoch").write(b"%d" % (first + 10**18))
    with build_node(config) as node:
        assert node._publisher.epoch == first + 10**18 + 1


def test_two_nodes_on_one_directory(tmp_path: Path) -> None:
    config = dompbus.Config.of(listen=address(), data=str(tmp_path / "data"))
    with build_node(config), pytest.raises(DirectoryLocked):
        build_node(config)
    build_node(config).close()


def test_services_may_come_before_and_after_the_start() -> None:
    node = dompbus.Node(listen=address())

    @node.service("early")
    def early(value: Any) -> Any:
        return ["early", value]

    with node:

        @node.service("late", threads=1)
        def late(value: Any) -> Any:
            return ["late", value]

        assert node.request("early", 1) == early(1)
        assert node.request("late", 1) == late(1)
        node.service("early")(lambda value: "replaced")
        assert node.request("early", 1) == "replaced"


def test_a_handler_cannot_wait_for_its_own_thread() -> None:
    with dompbus.Node(listen=address()) as node:
        node.service("asks")(lambda value: node.request("other", value))
        node.service("closes")(lambda value: node.close())
        for name in ("asks", "closes"):
            with pytest.raises(dompbus.RemoteError, match="wait for itself"):
                node.request(name, 1)
        node.service("other")(lambda value: value + 1)
        node.service("asks", threads=1)(lambda value: node.request("other", value))
        assert node.request("asks", 1) == 2


def test_publishing_without_listeners_costs_nothing() -> None:
    with dompbus.Node(listen=address()) as node:
        for number in range(1_000):
            assert node.publish("t", number)
        node.flush()
        assert node.counters.messages_published == 0
        assert node._publisher.empty


def test_a_handler_may_publish_and_the_message_leaves_in_the_same_lot() -> None:
    with dompbus.Node(listen=address()) as node, dompbus.Client(node.endpoint) as client:
        subscription = client.subscribe("fills")
        node.service("order")(lambda value: (node.publish("fills", value), "done")[1])
        assert client.request("order", 5) == "done"
        assert subscription.receive(timeout=SECONDS) == 5


def test_counters_and_health() -> None:
    with dompbus.Node(listen=address(), http_listen="127.0.0.1:0") as node, dompbus.Client(node.endpoint) as client:
        node.service("echo")(lambda value: value)
        subscription = client.subscribe("t")
        node.publish_many("t", [1, 2, 3])
        assert [subscription.receive(timeout=SECONDS) for _ in range(3)] == [1, 2, 3]
        client.request("echo", 1)
        assert node.healthy
        assert (node.counters.peers, node.counters.subscriptions) == (1, 1)
        assert node.counters.messages_published == 3
        assert node.counters.requests["echo", "ok"] == 1
        assert node.counters.request_seconds["echo"].count == 1
        assert client.counters.messages_delivered == 3
        assert node.http_address is not None
        for path in ("healthz", "readyz", "metrics"):
            with urllib.request.urlopen(f"http://{node.http_address}/{path}", timeout=SECONDS) as answer:
                assert answer.status == 200
                assert answer.read()
    assert not node._reactor._ports


def test_a_client_finds_the_successor_of_a_node() -> None:
    """Without waiting for silence: by the goodbye, or by being a stranger there. Subscriptions go on by themselves."""
    where = address()
    with dompbus.Client(where, timeout=SECONDS) as client:
        subscription = None
        for round_ in range(3):
            node = dompbus.Node(listen=where)
            node.service("echo")(lambda value: value)
            with node:
                started = time.monotonic()
                with suppress(dompbus.SessionExpired):  # begun with the predecessor, as far as anybody can know
                    client.request("echo", round_)
                assert client.request("echo", round_) == round_
                assert time.monotonic() - started < 2
                if subscription is None:
                    subscription = client.subscribe("t")
                else:
                    gap = subscription.receive(timeout=SECONDS)
                    assert (gap.last, gap.topic) == (None, "t")
                node.publish("t", round_)
                assert subscription.receive(timeout=SECONDS) == round_


def test_an_idle_node_hardly_runs() -> None:
    with dompbus.Node(listen=address()) as node:
        pause = threading.Event()
        pause.wait(0.1)  # not for anything to happen: for the time itself
        before = node._reactor.turns
        pause.wait(0.5)
        assert node._reactor.turns - before < 10


def test_importing_is_light() -> None:
    """Nothing heavy is loaded before it is used."""
    code = "import sys, dompbus; dompbus.Node; dompbus.Client; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "numpy", "prometheus_client", "rich", "typer", "ssl", "http.server"}
    assert "dompbus.runtime.node" in loaded
