"""The one typed configuration: every knob, its default and what is allowed.

Each knob is declared once, as a field whose `Meta` carries description, unit and example; validation, environment
names, `dompbus config` and docs/configuration.md are all made from that declaration. The law here: a value that is
not allowed is refused with its name, its place and what is, and nothing listens beyond this machine unless that was
written down. `dompbus/config_sources.py` reads files and the environment.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from dompbus import limits
from dompbus.errors import ConfigError

__all__ = [
    "ENV_PREFIX",
    "BatchSection",
    "Config",
    "Draft",
    "Endpoints",
    "FlowSection",
    "HttpSection",
    "Knob",
    "LedgerSection",
    "LogSection",
    "NodeSection",
    "TimeoutsSection",
    "did_you_mean",
    "knobs",
]

ENV_PREFIX: Final = "DOMPBUS_"
_HOST: Final = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.\-]+|\*)"
# A Unix socket's path ends at 107 bytes, and derived endpoints add a suffix.
_ENDPOINT: Final = rf"tcp://{_HOST}:[0-9]{{1,5}}|ipc://.{{1,90}}|(?:inproc|memory)://.{{1,200}}"
_ENDPOINT_TEXT: Final = "tcp://HOST:PORT (port 0: the system chooses), ipc://PATH, inproc://NAME or memory://NAME"


def _knob(description: str, example: object, *, unit: str = "", allowed: str = "", **constraint: Any) -> Meta:
    return Meta(description=description, examples=[example], extra={"unit": unit, "allowed": allowed}, **constraint)


class Endpoints(NamedTuple):
    """What a node binds: the ROUTER that clients are told about, the XPUB for fan-out, the control ROUTER."""

    listen: str
    publish: str
    control: str


class NodeSection(Struct, frozen=True, kw_only=True):
    """Who this node is and where it listens."""

    name: Annotated[
        str,
        _knob(
            "Lasting name of the node; empty means the name of the machine.",
            "matching-1",
            allowed=f"up to {limits.NAME_BYTES_MAX} letters, digits, '_', '.', '-'",
            pattern=rf"^[A-Za-z0-9_.\-]{{0,{limits.NAME_BYTES_MAX}}}\Z",
        ),
    ] = ""
    listen: Annotated[
        str,
        _knob(
            "The endpoint that clients and peers are given; requests and replies travel here.",
            "ipc:///run/dompbus/node",
            allowed=_ENDPOINT_TEXT,
            pattern=rf"^(?:{_ENDPOINT})\Z",
        ),
    ] = "tcp://127.0.0.1:7400"
    publish: Annotated[
        str,
        _knob(
            "The endpoint of the fan-out; empty derives it from `listen` (tcp: same host, port chosen by the system)."
            " Clients learn it when they connect. Set it where a firewall wants fixed ports.",
            "tcp://127.0.0.1:7401",
            allowed=_ENDPOINT_TEXT + ", or empty",
            pattern=rf"^(?:{_ENDPOINT})?\Z",
        ),
    ] = ""
    control: Annotated[
        str,
        _knob(
            "The endpoint of control traffic, which bulk data must not delay; empty derives it likewise.",
            "tcp://127.0.0.1:7402",
            allowed=_ENDPOINT_TEXT + ", or empty",
            pattern=rf"^(?:{_ENDPOINT})?\Z",
        ),
    ] = ""
    data: Annotated[
        str,
        _knob(
            "Directory of everything durable; one process owns it at a time.",
            "/var/lib/dompbus",
            allowed="the path of a directory, which is created when missing",
            min_length=1,
        ),
    ] = "data"
    insecure: Annotated[
        bool,
        _knob(
            "Allow listening beyond this machine although connections are neither authenticated nor encrypted."
            " Only for networks where every host is trusted.",
            True,
        ),
    ] = False

    def endpoints(self) -> Endpoints:
        """The three endpoints to bind, with empty ones derived from `listen`."""
        publish = self.publish or _derived(self.listen, "publish")
        return Endpoints(self.listen, publish, self.control or _derived(self.listen, "control"))


class BatchSection(Struct, frozen=True, kw_only=True):
    """When a batch is closed. Batches form by themselves under load; these only bound them."""

    messages_max: Annotated[
        int,
        _knob(
            "A frame is sent at this many messages. More saves little beyond 256 and adds latency.",
            1024,
            unit="messages",
            ge=1,
            le=limits.MESSAGES_PER_FRAME_MAX,
        ),
    ] = limits.BATCH_MESSAGES_DEFAULT
    bytes_max: Annotated[
        int,
        _knob(
            "A frame is sent at this size, whatever the number of messages.",
            262144,
            unit="bytes",
            ge=limits.KIB,
            le=limits.BODY_BYTES_MAX,
        ),
    ] = limits.BATCH_BYTES_DEFAULT
    linger: Annotated[
        float,
        _knob(
            "How long a message may wait for company. 0 sends what has gathered at once; 0.001 trades a millisecond"
            " of latency for larger frames at moderate load.",
            0.001,
            unit="seconds",
            ge=0.0,
            le=1.0,
        ),
    ] = 0.0


class FlowSection(Struct, frozen=True, kw_only=True):
    """What is kept for readers that fall behind; these bound the node's memory."""

    ring_frames: Annotated[
        int,
        _knob(
            "Frames of each channel (a subscribed topic or pattern) kept for the repair of gaps.",
            4096,
            unit="frames",
            ge=1,
            le=65_536,
        ),
    ] = limits.RING_FRAMES_DEFAULT
    ring_bytes: Annotated[
        int,
        _knob(
            "Memory for repair, all streams of one publisher together; the oldest frames leave first.",
            16777216,
            unit="bytes",
            ge=limits.KIB,
            le=limits.RING_BYTES_MAX,
        ),
    ] = limits.RING_BYTES_MAX
    socket_queue_frames: Annotated[
        int,
        _knob(
            "Frames that may wait in one peer's socket (ZeroMQ's high-water mark) before a slow reader's messages are"
            " dropped and counted.",
            10000,
            unit="frames",
            ge=1,
            le=1_000_000,
        ),
    ] = limits.SOCKET_QUEUE_FRAMES


class TimeoutsSection(Struct, frozen=True, kw_only=True):
    """How long things may take."""

    heartbeat_interval: Annotated[
        float,
        _knob(
            "How long a peer may be silent before it is asked for a sign of life;"
            f" one silent for {limits.HEARTBEATS_MISSED_MAX} of them is taken for dead."
            " Shorter notices sooner and mistakes a stalled machine for a dead one more often.",
            0.25,
            unit="seconds",
            ge=0.01,
            le=60.0,
        ),
    ] = limits.HEARTBEAT_INTERVAL
    request: Annotated[
        float,
        _knob(
            "Deadline of a request that names none.",
            0.5,
            unit="seconds",
            ge=0.001,
            le=limits.REQUEST_TIMEOUT_MAX_NS / 1e9,
        ),
    ] = 5.0
    spin: Annotated[
        float,
        _knob(
            "How long a thread that has just had something to do looks for more before it sleeps. Being found awake"
            " halves the latency of a round trip; 0 saves processor time where latency does not matter.",
            0.0,
            unit="seconds",
            ge=0.0,
            le=0.1,
        ),
    ] = 0.000_1
    close: Annotated[
        float,
        _knob("How long closing waits for frames still on their way out.", 5.0, unit="seconds", ge=0.0, le=60.0),
    ] = 1.0


class LedgerSection(Struct, frozen=True, kw_only=True):
    """The ledger service of `dompbus serve`."""

    enabled: Annotated[bool, _knob("Serve the ledger from the data directory.", False)] = True
    segment_bytes: Annotated[
        int,
        _knob(
            "The journal starts a new file at this size.",
            268435456,
            unit="bytes",
            ge=2 * limits.RECORD_BYTES_MAX,
            le=1024 * limits.MIB,
        ),
    ] = limits.JOURNAL_SEGMENT_BYTES


class HttpSection(Struct, frozen=True, kw_only=True):
    """The port of /metrics, /healthz and /readyz."""

    listen: Annotated[
        str,
        _knob(
            "Where metrics and health are served over HTTP. `dompbus serve` uses 127.0.0.1:7480 unless told otherwise;"
            " a node embedded in a program serves none unless told so.",
            "127.0.0.1:9100",
            allowed='HOST:PORT (port 0: the system chooses), or "off"',
            pattern=rf"^(?:off|{_HOST}:[0-9]{{1,5}})\Z",
        ),
    ] = "off"


class LogSection(Struct, frozen=True, kw_only=True):
    """What is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _knob("The least severe entries that are written.", "debug"),
    ] = "info"
    json: Annotated[bool, _knob("One JSON object a line instead of text.", True)] = False


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be tuned, by section. Make one with `load`, or with `Config.of` from keywords."""

    node: NodeSection = NodeSection()
    batch: BatchSection = BatchSection()
    flow: FlowSection = FlowSection()
    timeouts: TimeoutsSection = TimeoutsSection()
    ledger: LedgerSection = LedgerSection()
    http: HttpSection = HttpSection()
    log: LogSection = LogSection()

    @staticmethod
    def of(base: "Config | None" = None, **settings: object) -> "Config":
        """`base` (or the defaults) with keyword settings over it, all checked; neither file nor environment is read.

        Keys of [node] go by their own name (`name=`, `listen=`), all others by `section_key`
        (`batch_linger=`, `http_listen=`). Raises ConfigError.
        """
        base = base or Config()
        draft = Draft()
        for knob in knobs():  # a Config built by hand has not been checked: constructors of Structs do not
            draft.set(knob, getattr(getattr(base, knob.section), knob.key), "Config")
        known = {k.keyword: k for k in knobs()}
        for keyword, value in settings.items():
            if keyword not in known:
                raise ConfigError(f"unknown setting {keyword!r}{did_you_mean(keyword, known)}")
            draft.set(known[keyword], value, f"setting {keyword}=")
        return draft.build(base)

    @property
    def node_name(self) -> str:
        """The node's name, with an empty one replaced by the machine's."""
        return self.node.name or os.uname().nodename[: limits.NAME_BYTES_MAX] or "node"


class Knob(NamedTuple):
    """One key of the configuration and all that is known about it."""

    section: str
    key: str
    type: Any  # the annotation with its Meta, as msgspec.convert takes it
    default: Any
    meta: Meta

    @property
    def path(self) -> str:
        """`section.key`, as errors and `dompbus config` name it."""
        return f"{self.section}.{self.key}"

    @property
    def env(self) -> str:
        """The environment variable that overrides it."""
        return f"{ENV_PREFIX}{self.section}_{self.key}".upper()

    @property
    def keyword(self) -> str:
        """The keyword of `Config.of` and `Node` that sets it."""
        return self.key if self.section == "node" else f"{self.section}_{self.key}"

    @property
    def unit(self) -> str:
        """The unit of its value, or nothing."""
        return str((self.meta.extra or {}).get("unit", ""))

    @property
    def example(self) -> Any:
        """A value that would be accepted."""
        return (self.meta.examples or [self.default])[0]

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        text = (self.meta.extra or {}).get("allowed") or self._allowed_by_type()
        return f"{text} {self.unit}".rstrip()

    def _allowed_by_type(self) -> str:
        kind = self.type.__origin__
        if kind is bool:
            return "true or false"
        if get_origin(kind) is Literal:
            return "one of " + ", ".join(f'"{member}"' for member in get_args(kind))
        noun = "a whole number" if kind is int else "a number"
        return f"{noun} from {self.meta.ge:.10g} to {self.meta.le:.10g}"


@cache
def knobs() -> tuple[Knob, ...]:
    """Every knob, in the order of declaration."""
    return tuple(
        Knob(section.name, field.name, field.type, field.default, field.type.__metadata__[0])
        for section in msgspec.structs.fields(Config)
        for field in msgspec.structs.fields(section.type)
    )


class Draft:
    """Values gathered from the sources, each converted and checked as it arrives."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {}
        self.sources: dict[str, str] = {}

    def set(self, knob: Knob, raw: object, place: str, *, text: bool = False) -> None:
        """Take `raw` for `knob`; `text` when it is a string that stands for another type."""
        try:
            value = msgspec.convert(raw, knob.type, strict=not text)
        except msgspec.ValidationError:
            raise ConfigError(_refusal(knob, raw, place)) from None
        self.values.setdefault(knob.section, {})[knob.key] = value
        self.sources[knob.path] = place

    def build(self, base: Config) -> Config:
        """The finished Config over `base`; raises ConfigError when values contradict each other."""
        sections = {s: msgspec.structs.replace(getattr(base, s), **values) for s, values in self.values.items()}
        config = msgspec.structs.replace(base, **sections)
        _check_ports(config, self.sources)
        _check_loopback(config, self.sources)
        _check_sizes(config, self.sources)
        return config


def _refusal(knob: Knob, raw: object, place: str) -> str:
    shown = repr(raw)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    example = msgspec.json.encode(knob.example).decode()
    default = msgspec.json.encode(knob.default).decode()
    return (
        f"{place}: {knob.path} cannot be {shown}. Allowed: {knob.allowed}. Default: {default}; for example: {example}"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, else all of them."""
    import difflib

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "; known are " + ", ".join(known)


# -- relations between knobs -------------------------------------------------------------------------------------
def _listening(config: Config) -> Iterator[tuple[str, str]]:
    """(path, value) of everything that is bound to the network."""
    for key in ("listen", "publish", "control"):
        if getattr(config.node, key).startswith("tcp://"):
            yield f"node.{key}", getattr(config.node, key)
    if config.http.listen != "off":
        yield "http.listen", config.http.listen


def _check_ports(config: Config, sources: Mapping[str, str]) -> None:
    for path, value in _listening(config):
        if int(value.rpartition(":")[2]) > 65_535:
            raise ConfigError(f"{_place(sources, path)}{path} = {value!r}: a port is a number from 0 to 65535")


def _check_loopback(config: Config, sources: Mapping[str, str]) -> None:
    if config.node.insecure:
        return
    for path, value in _listening(config):
        host = value.removeprefix("tcp://").rpartition(":")[0]
        if not re.fullmatch(r"localhost|127(\.[0-9]{1,3}){3}|\[::1\]", host):
            raise ConfigError(
                f"{_place(sources, path)}{path} = {value!r} listens beyond this machine, and nothing here is"
                " authenticated or encrypted. Listen on 127.0.0.1, or write insecure = true in [node]"
                " (DOMPBUS_NODE_INSECURE=true) if every host that can reach it is trusted"
            )


def _check_sizes(config: Config, sources: Mapping[str, str]) -> None:
    if config.batch.bytes_max > config.flow.ring_bytes:
        raise ConfigError(
            f"{_place(sources, 'batch.bytes_max')}batch.bytes_max ({config.batch.bytes_max}) is above flow.ring_bytes"
            f" ({config.flow.ring_bytes}), so no frame could be kept for repair. Lower the one or raise the other"
        )


def _place(sources: Mapping[str, str], path: str) -> str:
    return f"{sources[path]}: " if path in sources else ""


def _derived(listen: str, role: str) -> str:
    """The endpoint of `role` beside `listen`: another port of the same host, or another name."""
    if listen.startswith("tcp://"):
        return listen.rpartition(":")[0] + ":0"
    return f"{listen}.{role}"
