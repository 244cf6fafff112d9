"""`dompbus config`: what is in force, and where each value came from.

Also the makers of the commented example file (`--defaults`) and of docs/configuration.md (`--markdown`). The law here:
all three are made from the knobs' own declarations, so they cannot say anything else than what is checked.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
import typer

from dompbus.clients.cli.output import print_json, print_line
from dompbus.config import Config, HttpSection, Knob, knobs

__all__ = ["SERVE_BASE", "as_markdown", "as_toml", "config_command"]

SERVE_BASE: Final = Config(http=HttpSection(listen="127.0.0.1:7480"))  # what `dompbus serve` starts from


def config_command(
    config: Annotated[str | None, typer.Option(help="Read this file instead of ./dompbus.toml.")] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Print a commented file with every default.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference, as in the docs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the configuration that `dompbus serve` would use here, and where each value comes from."""
    from dompbus.config_sources import Loaded, load

    if markdown:
        print_line(as_markdown())
        return
    loaded = Loaded(SERVE_BASE, {}, None) if defaults else load(config, base=SERVE_BASE)
    if as_json:
        file = str(loaded.file) if loaded.file else None
        print_json({"file": file, "knobs": {k.path: _describe(k, loaded.config, loaded.sources) for k in knobs()}})
    elif defaults:
        print_line(as_toml(SERVE_BASE))
    else:
        print_line(_in_force(loaded.config, loaded.sources))


def as_toml(config: Config) -> str:
    """A commented dompbus.toml that sets every knob to its value in `config`."""
    lines = ["# dompbus.toml: every knob with its default. Delete what you do not change."]
    for knob, opens in _with_headings():
        if opens:
            lines += ["", f"[{knob.section}]"]
        lines += [f"# {knob.meta.description}", f"# Allowed: {knob.allowed}."]
        lines += [f"{knob.key} = {_literal(_value(knob, config))}"]
    return "\n".join(lines)


def as_markdown() -> str:
    """The text of docs/configuration.md, without a final newline."""
    lines = [_PREAMBLE]
    for knob, opens in _with_headings():
        if opens:
            purpose = (getattr(Config(), knob.section).__doc__ or "").strip()
            lines += ["", f"## [{knob.section}]", purpose, "", _COLUMNS]
        allowed = knob.allowed.replace("|", "\\|")
        lines.append(
            f"| `{knob.key}` | `{_literal(knob.default)}` | {allowed} | `{_literal(knob.example)}` "
            f"| {knob.meta.description} |"
        )
    return "\n".join(lines)


def _in_force(config: Config, sources: dict[str, str]) -> str:
    lines: list[str] = []
    settings = {k: f"{k.key} = {_literal(_value(k, config))}" for k in knobs()}
    width = max(map(len, settings.values()))
    for knob, opens in _with_headings():
        lines += ["", f"[{knob.section}]"] if opens and lines else [f"[{knob.section}]"] if opens else []
        lines.append(f"{settings[knob]:<{width}}  # {sources.get(knob.path, 'default')}")
    return "\n".join(lines)


def _describe(knob: Knob, config: Config, sources: dict[str, str]) -> dict[str, Any]:
    return {
        "value": _value(knob, config),
        "source": sources.get(knob.path, "default"),
        "default": _value(knob, SERVE_BASE),
        "allowed": knob.allowed,
        "env": knob.env,
        "description": knob.meta.description,
    }


def _with_headings() -> Iterator[tuple[Knob, bool]]:
    """Every knob, and whether it is the first of its section."""
    before = ""
    for knob in knobs():
        yield knob, knob.section != before
        before = knob.section


def _value(knob: Knob, config: Config) -> Any:
    return getattr(getattr(config, knob.section), knob.key)


def _literal(value: object) -> str:
    """As TOML writes it; JSON's strings, numbers and booleans are the same."""
    return msgspec.json.encode(value).decode()


_COLUMNS: Final = "| key | default | allowed | example | what it does |\n| --- | --- | --- | --- | --- |"
_PREAMBLE: Final = """\
# Configuration

<!-- Made from dompbus/config.py; after a change there: dompbus config --markdown > docs/configuration.md -->

`dompbus serve` and `dompbus config` read, each over the one before:

1. the defaults below (`dompbus serve` differs in one: `http.listen` is 127.0.0.1:7480),
2. the file given with `--config`, else the one that `DOMPBUS_CONFIG` names, else `./dompbus.toml`,
3. environment variables `DOMPBUS_<SECTION>_<KEY>`, as `DOMPBUS_BATCH_LINGER=0.001`,
4. flags of the command, as `--listen`.

A key, value or `DOMPBUS_` variable that is not understood is refused with its place and what is allowed; nothing starts
with half a configuration. `dompbus config` shows what is in force and where each value came from;
`dompbus config --defaults` prints a commented file to start from.

In Python, `dompbus.Node(...)` takes the same knobs as keywords and reads neither file nor environment: keys of `[node]`
by their own name (`listen=`), all others as `section_key` (`batch_linger=`)."""
