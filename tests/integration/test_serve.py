"""`dompbus serve` as a process: it starts, says so, stops cleanly, and names what keeps it from starting."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dompbus
from dompbus.errors import DompbusError
from dompbus.ledger import Account

ROOT = Path(__file__).parents[2]
SECONDS = 20.0


# `ulimit -f` in Python, because shells differ in its unit.
LIMITED = "import resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)); "
SERVE = "from dompbus.clients.cli.main import main; sys.exit(main(sys.argv[2:]))"


class Server:
    """A `dompbus serve` of the test's own, on ports that the system chooses; its files can be limited in size."""

    def __init__(
        self, data: Path, *flags: str, listen: str = "tcp://127.0.0.1:0", file_bytes_max: int = 2**40, **env: str
    ) -> None:
        command = [sys.executable, "-c", LIMITED + SERVE, str(file_bytes_max), "serve", "--json", "--data", str(data)]
        self.process = subprocess.Popen(
            [*command, "--listen", listen, "--http", "127.0.0.1:0", *flags],
            cwd=data.parent if data.parent.is_dir() else ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> dict[str, Any]:
        """Wait for the ready line and return what it says."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(SECONDS), "no ready line"
        line = self.process.stdout.readline()
        assert line, self.refusal()
        return json.loads(line)

    def refusal(self) -> str:
        """Wait for the end and return standard error's last line, the answer to the user."""
        _, err = self.process.communicate(timeout=SECONDS)
        assert "Traceback" not in err
        return err.splitlines()[-1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=SECONDS)
        return self.process.returncode


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[Server] = []

    def begin(*args: Any, data: Path = tmp_path / "data", **settings: Any) -> Server:
        started.append(Server(data, *args, **settings))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate(timeout=SECONDS)


def fetch(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_starts_serves_and_stops(start: Any, tmp_path: Path, number: signal.Signals) -> None:
    """One line when ready, metrics and health over HTTP, exit code 0 soon after a signal, the directory free again."""
    server = start("--name", "one")
    ready = server.ready()
    assert ready["event"] == "ready"
    assert ready["name"] == "one"
    assert ready["data"] == str(tmp_path / "data")
    assert fetch(ready["http"], "/healthz")[0] == 200
    assert fetch(ready["http"], "/readyz")[0] == 200
    assert "dompbus_frames_received_total" in fetch(ready["http"], "/metrics")[1]
    began = time.monotonic()
    assert server.stop(number) == 0
    assert time.monotonic() - began < 5
    again = start()
    again.ready()
    assert again.stop() == 0


def test_keeps_what_it_acknowledged(start: Any) -> None:
    """Accounts are there after SIGTERM and after kill -9; `dompbus ledger` shows them."""
    server = start()
    url = server.ready()["listen"]
    with dompbus.Client(url) as client:
        client.ledger.create_accounts([Account(id=1, ledger=1, code=1)])
    assert server.stop() == 0
    server = start()
    with dompbus.Client(server.ready()["listen"]) as client:
        client.ledger.create_accounts([Account(id=2, ledger=1, code=1)])
    server.stop(signal.SIGKILL)
    server = start()
    url = server.ready()["listen"]
    command = [sys.executable, "-m", "dompbus.clients.cli", "ledger", "accounts", "--json", "--url", url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["1", "2"]


def test_metrics_count_the_work(start: Any) -> None:
    """What a client does shows in /metrics."""
    ready = start().ready()
    with dompbus.Client(ready["listen"]) as client:
        client.ledger.create_accounts([Account(id=1, ledger=1, code=1)])
    _, text = fetch(ready["http"], "/metrics")
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["dompbus_frames_received_total"]) > 0
    assert float(values["dompbus_journal_commits_total"]) > 0
    assert float(values["dompbus_journal_bytes_total"]) > 0


def test_port_in_use(start: Any) -> None:
    """Another program's port: exit code 2, and the endpoint named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start(listen=f"tcp://127.0.0.1:{port}")
        said = server.refusal()
        assert server.process.returncode == 2
        assert said.startswith("dompbus: ")
        assert f"127.0.0.1:{port}" in said
        assert "in use" in said.lower()


def test_http_port_in_use(start: Any) -> None:
    """The same for the port of metrics."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = start("--http", address)
        assert f"cannot serve metrics on {address}: Address already in use" in server.refusal()
        assert server.process.returncode == 2


def test_second_server_on_the_same_directory(start: Any, tmp_path: Path) -> None:
    """One process owns a data directory; the other is told so, and the first is unharmed."""
    first = start()
    ready = first.ready()
    second = start()
    said = second.refusal()
    assert second.process.returncode == 1
    assert str(tmp_path / "data") in said
    assert str(first.process.pid) in said
    assert fetch(ready["http"], "/readyz")[0] == 200


@pytest.mark.parametrize("place", ["file", "below_a_file", "denied"])
def test_unwritable_data_directory(start: Any, tmp_path: Path, place: str) -> None:
    """A data directory that cannot be had is named with the reason."""
    (tmp_path / "file").write_text("not a directory")
    (tmp_path / "denied").mkdir(mode=0o500)
    data = tmp_path / {"file": "file", "below_a_file": "file/data", "denied": "denied/data"}[place]
    if place == "denied" and os.access(tmp_path / "denied", os.W_OK):
        data = Path("/proc/dompbus-data")  # root may write anywhere but here
    server = start(data=data)
    said = server.refusal()
    assert server.process.returncode == 1
    assert said.startswith("dompbus: ")
    assert str(data) in said


def test_no_room_to_start(start: Any, tmp_path: Path) -> None:
    """A disk without room for the first record: a clear error instead of a server."""
    server = start(file_bytes_max=16)
    said = server.refusal()
    assert server.process.returncode == 1
    assert said.startswith("dompbus: ")
    assert str(tmp_path / "data") in said


def test_disk_full_while_serving(start: Any) -> None:
    """When the journal can grow no more, clients get a typed error, readiness says so, the bus goes on, and after a
    restart with room everything that was acknowledged is there."""
    server = start(file_bytes_max=5 << 20)
    ready = server.ready()
    acknowledged = 0
    with dompbus.Client(ready["listen"]) as client:
        error = None
        while error is None and acknowledged < 100_000:
            batch = [Account(id=i, ledger=1, code=1) for i in range(acknowledged + 1, acknowledged + 1001)]
            try:
                client.ledger.create_accounts(batch)
                acknowledged += len(batch)
            except DompbusError as refused:
                error = refused
        assert "StorageError" in str(error)
        assert fetch(ready["http"], "/healthz")[0] == 200
        status, why = fetch(ready["http"], "/readyz")
        assert status == 503
        assert "ledger" in why
        with client.subscribe("still.*", type=Note) as subscription:
            client.publish("still.there", Note(text="yes"))
            client.flush()
            assert subscription.receive(timeout=5.0) == Note(text="yes")
    server.stop()
    assert acknowledged > 0
    with dompbus.Client(start().ready()["listen"]) as client:
        found = client.ledger.lookup_accounts(list(range(acknowledged - 999, acknowledged + 1)))
        assert len(found) == 1000
        assert len(client.ledger.lookup_accounts([1])) == 1


class Note(dompbus.Message, tag="note"):
    text: str


def test_mistakes_in_the_configuration(start: Any, tmp_path: Path) -> None:
    """A wrong key in the file or the environment: exit code 2, its place, and what was meant."""
    (tmp_path / "dompbus.toml").write_text("[batch]\nlingr = 1\n")
    server = start()
    assert server.refusal() == "dompbus: dompbus.toml:2: unknown key 'lingr' in [batch]; did you mean 'linger'?"
    assert server.process.returncode == 2
    (tmp_path / "dompbus.toml").unlink()
    server = start(DOMPBUS_BATCH_LINGR="1")
    assert "unknown variable DOMPBUS_BATCH_LINGR; did you mean 'DOMPBUS_BATCH_LINGER'?" in server.refusal()
    server = start(listen="tcp://0.0.0.0:0")
    assert "insecure = true" in server.refusal()


def test_serves_without_a_ledger(start: Any, tmp_path: Path) -> None:
    """A node that only carries messages touches no disk."""
    ready = start(DOMPBUS_LEDGER_ENABLED="false").ready()
    assert ready["data"] is None
    assert not (tmp_path / "data").exists()
