"""A configuration is either understood in full or refused with its place and what is allowed."""

from pathlib import Path

import msgspec
import pytest

from dompbus import limits
from dompbus.config import Config, FlowSection, HttpSection, NodeSection, knobs
from dompbus.config_sources import load
from dompbus.errors import ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str | bytes, name: str = "dompbus.toml") -> Path:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(text: str | bytes = "", environ: dict[str, str] | None = None) -> str:
    written(text)
    with pytest.raises(ConfigError) as caught:
        load(environ=environ or {})
    return str(caught.value)


def test_defaults_without_any_source() -> None:
    """Nothing written down gives the defaults, and says so."""
    loaded = load(environ={})
    assert loaded == (Config(), {}, None)


def test_each_source_overrides_the_one_before() -> None:
    """Default, file, environment, flag: the later wins, and its place is remembered."""
    written("[batch]\nmessages_max = 2\nbytes_max = 2048\nlinger = 0.5\n[node]\nname = 'f'\n")
    loaded = load(
        environ={"DOMPBUS_BATCH_BYTES_MAX": "4096", "DOMPBUS_NODE_NAME": "e", "DOMPBUS_LOG_JSON": "true"},
        flags={"node.name": ("--name", "g")},
    )
    batch = loaded.config.batch
    assert (batch.messages_max, batch.bytes_max, batch.linger) == (2, 4096, 0.5)
    assert (loaded.config.node.name, loaded.config.log.json) == ("g", True)
    assert loaded.sources == {
        "batch.messages_max": "dompbus.toml:2",
        "batch.bytes_max": "environment DOMPBUS_BATCH_BYTES_MAX",
        "batch.linger": "dompbus.toml:4",
        "node.name": "--name",
        "log.json": "environment DOMPBUS_LOG_JSON",
    }


def test_file_named_by_environment_and_by_argument() -> None:
    """DOMPBUS_CONFIG names the file; an argument names it more strongly."""
    written("[node]\nname = 'one'\n", "one.toml")
    written("[node]\nname = 'two'\n", "two.toml")
    environ = {"DOMPBUS_CONFIG": "one.toml", "DOMPBUS_DATA": "/elsewhere"}
    assert load(environ=environ).config.node.name == "one"
    assert load("two.toml", environ=environ).config.node.name == "two"


def test_file_from_another_system() -> None:
    """A byte order mark and CRLF line ends are not mistakes, and do not shift lines."""
    written("\ufeff[node]\r\n# a comment\r\nname = 'a'\r\n")
    loaded = load(environ={})
    assert (loaded.config.node.name, loaded.sources["node.name"]) == ("a", "dompbus.toml:3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[batch]\n\nmesages_max = 3\n",
         "dompbus.toml:3: unknown key 'mesages_max' in [batch]; did you mean 'messages_max'"),
        ("[node]\n[bacth]\n", "dompbus.toml:2: unknown section [bacth]; did you mean 'batch'?"),
        ("linger = 1\n", "dompbus.toml:1: unknown key 'linger' outside of any section; it belongs in [batch]"),
        ("listen = 'x'\n", "it belongs in [node] or [http]"),
        ("node = 3\n", "dompbus.toml:1: node is a section: write [node] and its keys below"),
        ("[log]\nlevel = 'loud'\n", "dompbus.toml:2: log.level cannot be 'loud'. Allowed: one of \"debug\", \"info\""),
        ("[batch]\nmessages_max = 0\n", "messages_max cannot be 0. Allowed: a whole number from 1 to 65536 messages"),
        ("[batch]\nmessages_max = true\n", "batch.messages_max cannot be True"),
        ("[batch]\nmessages_max = '5'\n", "batch.messages_max cannot be '5'"),
        ("[batch]\nlinger = nan\n", "batch.linger cannot be nan. Allowed: a number from 0 to 1 seconds"),
        ("[batch]\nlinger = 1e9\n", "batch.linger cannot be 1000000000.0"),
        ("[log]\njson = 1\n", "log.json cannot be 1. Allowed: true or false"),
        ("[node]\nlisten = '127.0.0.1:7400'\n", "dompbus.toml:2: node.listen cannot be '127.0.0.1:7400'. Allowed: tcp://HOST"),
        ("[node]\nlisten = \"tcp://127.0.0.1:1\\n\"\n", "node.listen cannot be"),
        ("[node]\nlisten = 'tcp://127.0.0.1:65536'\n", "a port is a number from 0 to 65535"),
        ("[node]\nname = 'no spaces'\n", "node.name cannot be 'no spaces'"),
        ("[node]\nlisten = 3\n[node\n", "dompbus.toml:3:"),
        ("[node]\nname = 'a'\nname = 'b'\n", "not valid TOML"),
        (b"\x00\xff\xfe", "dompbus.toml is not UTF-8 text"),
        (b"#" * (limits.MIB + 1), "larger than 1 MiB"),
        ("a = " + "[" * 100_000 + "\n", "dompbus.toml: not a dompbus.toml: its values are nested too deeply"),
        ("[batch]\nbytes_max = 4096\n[flow]\nring_bytes = 2048\n", "dompbus.toml:2: batch.bytes_max (4096) is above"),
    ],
)  # fmt: skip
def test_file_refused_with_place_and_what_is_allowed(text: str | bytes, expected: str) -> None:
    """Each kind of mistake in a file is named with its line."""
    assert expected in refusal(text)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DOMPBUS_NODE_LISTN", "x", "unknown variable DOMPBUS_NODE_LISTN; did you mean 'DOMPBUS_NODE_LISTEN'?"),
        ("DOMPBUS_FOO", "x", "unknown variable DOMPBUS_FOO; `dompbus config --json` names them all"),
        ("DOMPBUS_BATCH_LINGER", "soon", "environment DOMPBUS_BATCH_LINGER: batch.linger cannot be 'soon'"),
        ("DOMPBUS_BATCH_LINGER", "nan", "batch.linger cannot be 'nan'"),
        ("DOMPBUS_LOG_JSON", "maybe", "log.json cannot be 'maybe'. Allowed: true or false"),
        ("DOMPBUS_CONFIG", "nowhere.toml", "cannot read nowhere.toml: No such file or directory"),
        ("DOMPBUS_CONFIG", ".", "cannot read .: Is a directory"),
    ],
)
def test_environment_refused_with_name_and_what_is_allowed(name: str, value: str, expected: str) -> None:
    """Each kind of mistake in the environment is named with its variable."""
    assert expected in refusal(environ={name: value})


def test_kubernetes_service_variables_are_not_ours() -> None:
    """A Service named dompbus puts these into every container beside it; they must not stop a start."""
    names = ("DOMPBUS_SERVICE_HOST", "DOMPBUS_SERVICE_PORT", "DOMPBUS_SERVICE_PORT_HTTP", "DOMPBUS_PORT",
             "DOMPBUS_PORT_7400_TCP", "DOMPBUS_PORT_7400_TCP_ADDR")  # fmt: skip
    assert load(environ=dict.fromkeys(names, "tcp://10.0.0.1:7400")).sources == {}


@pytest.mark.parametrize("key", ["listen", "publish", "control"])
@pytest.mark.parametrize("host", ["0.0.0.0", "*", "10.1.2.3", "[::]", "example.org", "127.0.0.1.example.org"])
def test_listening_beyond_this_machine_must_be_written_down(key: str, host: str) -> None:
    """Without keys, an address that others can reach needs insecure = true."""
    text = f"[node]\n{key} = 'tcp://{host}:7400'\n"
    said = refusal(text)
    assert "dompbus.toml:2: " in said
    assert "insecure = true" in said
    written(text + "insecure = true\n")
    assert getattr(load(environ={}).config.node, key) == f"tcp://{host}:7400"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "[::1]"])
def test_listening_on_this_machine_needs_nothing(host: str) -> None:
    """Loopback in each of its spellings is always allowed, for HTTP too."""
    assert Config.of(listen=f"tcp://{host}:0", http_listen=f"{host}:0").http.listen == f"{host}:0"


def test_http_beyond_this_machine_must_be_written_down() -> None:
    """Metrics are as readable as messages."""
    with pytest.raises(ConfigError, match=r"http\.listen = '0\.0\.0\.0:9100' listens beyond this machine"):
        Config.of(http_listen="0.0.0.0:9100")


@pytest.mark.parametrize(
    ("listen", "publish"),
    [
        ("tcp://127.0.0.1:7400", "tcp://127.0.0.1:0"),
        ("tcp://[::1]:7400", "tcp://[::1]:0"),
        ("ipc:///run/a", "ipc:///run/a.publish"),
        ("inproc://a", "inproc://a.publish"),
        ("memory://a", "memory://a.publish"),
    ],
)
def test_endpoints_left_empty_are_derived(listen: str, publish: str) -> None:
    """One URL is enough: the others lie beside it, unless they are given."""
    node = NodeSection(listen=listen, control="inproc://c")
    assert node.endpoints() == (listen, publish, "inproc://c")


def test_settings_by_keyword() -> None:
    """[node] by bare name, the rest as section_key, checked like a file."""
    config = Config.of(name="a", batch_linger=0.001)
    assert (config.node_name, config.batch.linger) == ("a", 0.001)
    assert Config.of(config, flow_ring_frames=7) == msgspec.structs.replace(config, flow=FlowSection(ring_frames=7))
    with pytest.raises(ConfigError, match="unknown setting 'batch_lingr'; did you mean 'batch_linger'"):
        Config.of(batch_lingr=1)
    with pytest.raises(ConfigError, match=r"setting batch_linger=: batch\.linger cannot be -1"):
        Config.of(batch_linger=-1)


def test_config_built_by_hand_is_checked_when_used() -> None:
    """Constructors of Structs check nothing, so `Config.of` does."""
    with pytest.raises(ConfigError, match=r"http\.listen cannot be 'nonsense'"):
        Config.of(Config(http=HttpSection(listen="nonsense")))


def test_node_without_name_takes_the_machines() -> None:
    """There is always a name."""
    assert Config().node_name


@pytest.mark.parametrize("knob", knobs(), ids=lambda knob: knob.path)
def test_every_knob_is_described_and_its_default_and_example_are_allowed(knob) -> None:
    """What the documentation shows is what the check accepts."""
    assert knob.meta.description
    assert knob.allowed
    assert msgspec.convert(knob.default, knob.type) == knob.default
    assert msgspec.convert(knob.example, knob.type) == knob.example
    assert knob.example != knob.default


def test_environment_names_do_not_collide() -> None:
    """Section and key are joined with an underscore, which keys contain too."""
    assert len({knob.env for knob in knobs()}) == len({knob.keyword for knob in knobs()}) == len(knobs())
