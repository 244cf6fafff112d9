"""Goal: what the documentation says is so: its examples run, its links lead somewhere, its tables are the code's."""

import re
import shlex
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import pytest
import typer.main
import zmq
from xxhash import xxh3_64_intdigest

import dompbus
from dompbus import limits
from dompbus.bus.link import LinkCore
from dompbus.bus.node import NodeCore
from dompbus.bus.publisher import Publisher
from dompbus.clients.cli.main import app
from dompbus.counters import Counters
from dompbus.wire.bodies import BODIES, Hello, ReplyStatus, control_frame
from dompbus.wire.frame import Kind, Refusal, pack

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path, info: str) -> list[tuple[int, str]]:
    """(line, text) of each fenced block with this info string; the line is that of its first line of text."""
    text = page.read_text()
    # All fences are matched, so that ends pair with their begins.
    fences = re.finditer(r"^```(.*)\n((?:.*\n)*?)^```$", text, re.MULTILINE)
    return [(text.count("\n", 0, fence.start()) + 2, fence[2]) for fence in fences if fence[1] == info]


class _QuietClient:
    """What a page means by a client that is connected already; on this one nothing is ever said."""

    def subscribe(self, pattern: str, *, type: Any) -> list[Any]:
        return []


LEANS_ON = {"docs/replay.md": {"client": _QuietClient()}}


# -- examples ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")], ids=_id)
def test_the_python_blocks_of_a_page_run_as_one_program(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page", **LEANS_ON.get(_id(page), {})}
    for line, block in _blocks(page, "python"):
        exec(compile("\n" * (line - 1) + block, str(page), "exec"), names)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["quickstart.py"], "12.50 EUR, once"),
        (["trading_engine.py", "--trades", "300"], "buy: "),
        (["game_server.py", "--ticks", "30"], "ann saw itself at 10, 0\nbob saw itself at 10, 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_example_runs(arguments: list[str], says: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / arguments[0]), *arguments[1:]]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert says in done.stdout


def test_every_example_is_run() -> None:
    there = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert there == {"quickstart.py", "trading_engine.py", "game_server.py"}
    lines = (ROOT / "examples" / "quickstart.py").read_text().splitlines()
    assert len(lines) < 60, "the quickstart fits on one screen"


# -- links and commands ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"https?:", link)]
    missing = [link for link in links if not _target_exists(page, link)]
    assert missing == []


def _target_exists(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if anchor and target.is_file():
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        return anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return target.exists()


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md") if page.name != "index.md"]
    assert [str(page) for page in pages if f"({page})" not in index] == []


def _commands() -> list[tuple[str, list[str]]]:
    """(page, words) of each `dompbus ...` in a plain block or between backticks."""
    found = []
    for page in PAGES:
        text = page.read_text()
        fenced = [line for _, block in _blocks(page, "") for line in block.splitlines()]
        inline = re.findall(r"`((?:\.venv/bin/)?dompbus [^`\n]*)`", text)
        for line in (*fenced, *inline):
            command = re.match(r"(?:\.venv/bin/|\$ )?dompbus (?P<rest>(?![:(]).*)", line.strip())
            if command is not None and "=" not in line.split("dompbus", 1)[0]:
                rest = re.split(r"\s#|\s>\s|\s\|", command["rest"])[0]
                found.append((_id(page), shlex.split(rest.replace("$URL", "tcp://x:1").replace("NAME", "name"))))
    return found


def test_commands_shown_exist_with_their_options() -> None:
    commands = [(page, words) for page, words in _commands() if words and re.fullmatch(r"[a-z-]+", words[0])]
    assert len(commands) >= 10
    unknown = [f"{page}: dompbus {shlex.join(words)}" for page, words in commands if not _is_known(words)]
    assert unknown == []


def _is_known(words: list[str]) -> bool:
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "resolve_command") and not words[0].startswith("-"):
        context = command.make_context("dompbus", [], resilient_parsing=True)
        if words[0] not in command.list_commands(context):
            return False
        _, command, words = command.resolve_command(context, words)
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    return all(word.partition("=")[0] in options for word in words if word.startswith("--"))


def test_make_targets_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line for page in PAGES for _, block in _blocks(page, "") for line in block.splitlines()]
    inline = [text for page in PAGES for text in re.findall(r"`([^`\n]+)`", page.read_text())]
    shown = {found[1] for text in (*lines, *inline) if (found := re.match(r"make ([a-z-]+)", text))}
    assert shown - targets == set()
    assert {"demo", "test"} <= shown


# -- the map -----------------------------------------------------------------------------------------------------
def _mapped() -> list[str]:
    """Paths named by the tree in ARCHITECTURE.md, folders with a slash at the end."""
    paths, parents = [], [""]
    tree = next(block for _, block in _blocks(ROOT / "ARCHITECTURE.md", "") if block.startswith("dompbus/ "))
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        path = parents[depth] + line.split()[0]
        paths.append(path)
        if path.endswith("/"):
            parents[depth + 1 :] = [path]
    return paths


def test_what_the_map_names_is_there() -> None:
    assert [path for path in _mapped() if not (ROOT / path).exists()] == []


def test_the_map_names_every_package_and_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    mapped = set(_mapped())
    homes = [name.replace(".", "/") + "/" for name in project["packages"]]
    packages = [re.sub(r"^dompbus/(brokers|clients|ledger|sessions)/", r"\1/", home) for home in homes]
    assert [home for home in packages if home not in mapped] == []
    in_detail = [home for home in packages if home.count("/") == 1 or home.startswith("dompbus/")]  # not clients/cli/*
    modules = [
        str(module.relative_to(ROOT))
        for home in in_detail
        for module in (ROOT / home).glob("*.py")
        if module.name != "__init__.py"
    ]
    assert sorted(set(modules) - mapped) == []


def test_paths_named_in_the_map_s_text_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md))`", text))
    assert len(named) > 20
    assert [name for name in named if not any((ROOT / start / name).exists() for start in ("", "dompbus"))] == []


# -- the protocol's tables ---------------------------------------------------------------------------------------
def _rows(heading: str) -> list[list[str]]:
    """Cells of the first table behind a heading."""
    section = PROTOCOL.split(f"\n{heading}", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table[0].splitlines()[2:]]


def test_the_header_table_is_the_header() -> None:
    rows = _rows("## 2. Frames")[:-1]
    widths = [int(row[1]) for row in rows]
    assert [int(row[0]) for row in rows] == [sum(widths[:at]) for at in range(len(widths))]
    assert sum(widths) == limits.HEADER_BYTES
    frame = pack(Kind.PUBLISH, b"\x90", count=3, epoch=5, seq=7, time_ns=9)
    field = {row[2]: frame[int(row[0]) : int(row[0]) + int(row[1])] for row in rows}
    expected = {
        "version": 1,
        "kind": Kind.PUBLISH,
        "flags": 0,
        "count": 3,
        "length": 1,
        "epoch": 5,
        "seq": 7,
        "time_ns": 9,
    }
    assert {name: int.from_bytes(field[name], "little") for name in expected} == expected


def test_the_table_of_kinds_is_the_code_s() -> None:
    rows = [row for row in _rows("## 4. Kinds") if row[0]]
    assert {row[1].strip("`"): int(row[0]) for row in rows} == {kind.name: int(kind) for kind in Kind}
    described = {row[1].strip("`"): re.sub(r" = [^,]*", "", row[4]) for row in rows}
    for kind, body in BODIES.items():
        fields = [field.name for field in msgspec.structs.fields(body)]
        named = re.sub(r"\[.*?\]+", "", described[kind.name])
        assert [part.split()[0] for part in named.split(",")] == fields, kind.name


def test_the_defaults_of_bodies_are_the_code_s() -> None:
    rows = {row[1].strip("`"): row[4] for row in _rows("## 4. Kinds") if row[0]}
    for kind, body in BODIES.items():
        optional = [field.name for field in msgspec.structs.fields(body) if not field.required]
        assert re.findall(r"(\w+) [^,]*? = ", rows[kind.name]) == optional, kind.name


def _documented(sender: str, *sockets: str) -> set[str]:
    """Names of the kinds that section 4 lets `sender` (N or P) send on any of these sockets."""
    rows = [row for row in _rows("## 4. Kinds") if sender in row[2].split(", ")]
    return {row[1].strip("`") for row in rows if set(sockets) & set(re.split(r", | \(", row[3]))}


def _fresh_node() -> NodeCore:
    """A node's core that knows the peer 7."""
    counters = Counters()
    bounds = {"batch_messages_max": 1, "batch_bytes_max": 1024, "ring_frames": 1, "ring_bytes": 1024}
    publisher = Publisher(counters, epoch=1, **bounds)
    node = NodeCore(incarnation=1, name="node", publisher=publisher, counters=counters)
    node.receive(b"peer", control_frame(Hello(7, "peer")), 0)
    return node


def test_the_sockets_in_the_table_of_kinds_are_those_where_the_code_takes_them() -> None:
    """A frame of each kind, without a body: whoever refuses it for its body, or not at all, has a place for it."""
    taken: dict[str, set[str]] = {"main": set(), "control": set(), "link": set(), "channel": set()}
    for kind in Kind:
        frame = pack(kind, b"")
        counted = {}
        (node := _fresh_node()).receive(b"peer", frame, 0)
        counted["main"] = node.counters
        (node := _fresh_node()).receive_control(frame, 0)
        counted["control"] = node.counters
        for name in ("link", "channel"):
            counters = counted[name] = Counters()
            link = LinkCore(incarnation=7, name="", counters=counters, heartbeat_ns=1, batch_messages_max=1)
            if name == "link":
                link.receive(frame, 0)
            else:
                link.receive_published(b"", memoryview(frame), 0)
        for name, counters in counted.items():
            if not counters.frames_refused[Refusal.UNEXPECTED]:
                taken[name].add(kind.name)
    assert taken["main"] == _documented("P", "main")
    assert taken["control"] == _documented("P", "control")
    assert taken["link"] == _documented("N", "main", "control") - {"PUBLISH"}  # that one is a repair: as on a channel
    assert taken["channel"] == _documented("N", "PUB/SUB")


def test_refusals_and_statuses_are_the_code_s() -> None:
    assert [row[0].strip("`") for row in _rows("### 2.1 Receiving")] == [str(reason) for reason in Refusal]
    statuses = re.findall(r"^\| (\d) \| `([A-Z_]+)` \|", PROTOCOL.split("## 7. Requests")[1], re.MULTILINE)
    assert statuses == [(str(int(status)), status.name) for status in ReplyStatus]


def test_the_bounds_are_the_code_s() -> None:
    for _, value, name in _rows("## 8. Bounds"):
        number = int(re.sub(r"\D", "", value))
        assert getattr(limits, name.strip("`")) == number, name


def test_the_bounds_in_the_types_are_named() -> None:
    hello = {field.name: field.type for field in msgspec.structs.fields(BODIES[Kind.HELLO])}
    assert get_args(hello["subscriptions"])[1].max_length == limits.SUBSCRIPTIONS_PER_PEER_MAX == 4_096
    assert get_args(hello["requests"])[1].max_length == limits.REQUESTS_PER_FRAME_MAX == 1_024
    assert "hold at most 4,096 elements, lists of requests 1,024" in PROTOCOL


# -- a second implementation -------------------------------------------------------------------------------------
def _frame(kind: int, body: Any, *, version: int = 1, count: int = 1, epoch: int = 0) -> bytes:
    """Written from section 2 of the page, not from the code."""
    data = msgspec.msgpack.encode(body)
    head = struct.pack("<4sBBHIIQQQ", b"DOMP", version, kind, 0, count, len(data), epoch, 0, 0)
    return head + struct.pack("<Q", xxh3_64_intdigest(data, seed=xxh3_64_intdigest(head))) + data


class _Heard(NamedTuple):
    kind: int
    epoch: int
    seq: int
    body: Any


def _hear(socket: "zmq.Socket[bytes]") -> _Heard:
    """The next frame, without the prefix that it may have; checked as section 2.1 says."""
    assert socket.poll(5_000), "nothing came"
    data = b"".join(socket.recv_multipart())
    data = data[data.index(b"DOMP") :]
    _, version, kind, flags, _, length, epoch, seq, _, checksum = struct.unpack_from("<4sBBHIIQQQQ", data)
    assert (version, flags, length) == (1, 0, len(data) - 48)
    assert checksum == xxh3_64_intdigest(data[48:], seed=xxh3_64_intdigest(data[:40]))
    return _Heard(kind, epoch, seq, msgspec.msgpack.decode(data[48:]) if length else None)


def test_an_implementation_written_from_the_page_is_understood() -> None:
    with zmq.Context() as context, dompbus.Node(name="node", listen="tcp://127.0.0.1:0") as node:
        node.service("echo")(lambda value: value)
        with context.socket(zmq.DEALER) as main, context.socket(zmq.SUB) as sub, context.socket(zmq.DEALER) as control:
            main.connect(node.endpoint)
            main.send(_frame(13, [1, "echo", 10**9, 1, "early"]))
            assert _hear(main).body[0] == "stranger"
            main.send(_frame(1, [7, "raw", 0, [[1, "md.>"]], [[1, "echo", 10**9, 1, "hello"]]]))
            _, _, epoch, publish_endpoint, control_endpoint, subscribed = _hear(main).body
            assert subscribed == [[1, epoch, 1, ""]]
            assert _hear(main).body == [1, 0, "hello"]  # one round trip for all of it

            node.publish("md.a", "missed")  # before the SUB link is up
            node.flush()
            sub.connect(publish_endpoint)
            sub.subscribe(b"md.>\0")
            sub.subscribe(b"@7/1\0")
            assert _hear(sub) == _Heard(8, epoch, 0, [[[1, 2]]])
            main.send(_frame(11, [1, epoch, 1, 1]))
            assert _hear(main) == _Heard(9, epoch, 1, [["md.a", ["missed"]]])

            main.send(_frame(9, [["md.b", ["x", "y"]]], count=2, epoch=7))
            assert _hear(sub) == _Heard(9, epoch, 2, [["md.b", ["x", "y"]]])
            assert _hear(sub) == _Heard(10, epoch, 4, None)

            main.send(_frame(13, [1, "echo", 10**9, 2, "repeated, and not carried out again"]))
            assert _hear(main).body == [1, 0, "hello"]
            main.send(_frame(1, [7, "raw"], version=2))
            assert _hear(main).body[0] == "version"
            control.connect(control_endpoint)
            control.send(_frame(15, [123], epoch=7))
            assert _hear(control).body == [123, node.incarnation, True]
            main.send(_frame(15, [124]))
            assert _hear(main).body == [124, node.incarnation, True]


def test_the_witness_decides_whether_an_unknown_repetition_is_carried_out() -> None:
    """Section 7: with `node` 0 a repetition is refused, with the incarnation of this node it is carried out."""
    with zmq.Context() as context, dompbus.Node(name="node", listen="tcp://127.0.0.1:0") as node:
        node.service("echo")(lambda value: value)
        with context.socket(zmq.DEALER) as main:
            main.connect(node.endpoint)
            main.send(_frame(1, [0, "nobody"]))
            assert _hear(main).body[0] == "body"
            for witness in (0, node.incarnation ^ 1):
                main.send(_frame(1, [8, "raw", witness, [], [[2, "echo", 10**9, 2, "again"]]]))
                assert _hear(main).kind == 2
                assert _hear(main).body == [2, 6, None]
            main.send(_frame(1, [8, "raw", node.incarnation, [], [[2, "echo", 10**9, 3, "again"]]]))
            assert _hear(main).kind == 2
            assert _hear(main).body == [2, 0, "again"]


# -- words -------------------------------------------------------------------------------------------------------
