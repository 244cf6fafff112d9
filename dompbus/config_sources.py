"""Where a configuration comes from: defaults, file, environment and flags, each over the one before.

The law here: nothing is read that is not understood. An unknown key, section or DOMPBUS_ variable is refused with
its name, its place (file and line) and the nearest known name, so that a typing error never runs as a default.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from dompbus import limits
from dompbus.config import ENV_PREFIX, Config, Draft, Knob, did_you_mean, knobs
from dompbus.errors import ConfigError

__all__ = ["FILE_NAME", "Loaded", "load"]

FILE_NAME: Final = "dompbus.toml"
_ENV_OTHER: Final = frozenset({"DOMPBUS_CONFIG", "DOMPBUS_DATA"})  # the file to read; recorded data for the tests
# Kubernetes puts these into every container beside a Service named "dompbus"; they are not ours to refuse.
_ENV_KUBERNETES: Final = re.compile(r"DOMPBUS_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


class Loaded(NamedTuple):
    """A configuration and, for each knob by its path, where its value came from."""

    config: Config
    sources: dict[str, str]
    file: Path | None  # the file that was read, if any


def load(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, tuple[str, object]] | None = None,
    base: Config | None = None,
) -> Loaded:
    """Read the configuration in force: `base` (or the defaults), then file, environment and flags.

    The file is `path`, else the one DOMPBUS_CONFIG names, else ./dompbus.toml if there is one. `flags` maps a
    knob's path to the flag's name and value, as `{"node.listen": ("--listen", "tcp://…")}`. Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    named = path or environ.get("DOMPBUS_CONFIG")
    file = Path(named) if named else Path(FILE_NAME)
    draft = Draft()
    found = bool(named) or file.is_file()
    if found:
        _read_file(file, draft)
    _read_environment(environ, draft)
    by_path = {k.path: k for k in knobs()}
    for knob_path, (flag, value) in (flags or {}).items():
        draft.set(by_path[knob_path], value, flag)
    return Loaded(draft.build(base or Config()), draft.sources, file if found else None)


def _read_file(file: Path, draft: Draft) -> None:
    text = _file_text(file)
    tables = _parse(file, text)
    sections: dict[str, dict[str, Knob]] = {}
    for knob in knobs():
        sections.setdefault(knob.section, {})[knob.key] = knob
    for name, table in tables.items():
        if name not in sections:
            raise ConfigError(f"{file}:{_line(text, '', name)}: unknown {_stray(name, table, sections)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{file}:{_line(text, '', name)}: {name} is a section: write [{name}] and its keys below")
        for key, value in table.items():
            place = f"{file}:{_line(text, name, key)}"
            if key not in sections[name]:
                raise ConfigError(f"{place}: unknown key {key!r} in [{name}]{did_you_mean(key, sections[name])}")
            draft.set(sections[name][key], value, place)


def _file_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(limits.MIB + 1)
        if len(raw) > limits.MIB:
            raise ConfigError(f"{file} is larger than 1 MiB, so it is not a {FILE_NAME}")
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot read {file}: {reason}. Check the path, or start without --config") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text, so it is not a {FILE_NAME}") from None


def _parse(file: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error), re.DOTALL)
        place, cause = (f"{file}:{where[2]}:{where[3]}", where[1]) if where else (str(file), str(error))
        raise ConfigError(f"{place}: not valid TOML: {cause}") from None
    except RecursionError:
        raise ConfigError(f"{file}: not a {FILE_NAME}: its values are nested too deeply") from None


def _stray(name: str, value: object, sections: Mapping[str, Mapping[str, Knob]]) -> str:
    """What to say of a top-level name that is no section: often it is a key whose section was forgotten."""
    if isinstance(value, dict):
        return f"section [{name}]{did_you_mean(name, sections)}"
    homes = [f"[{section}]" for section, keys in sections.items() if name in keys]
    return f"key {name!r} outside of any section" + (f"; it belongs in {' or '.join(homes)}" if homes else "")


def _line(text: str, section: str, key: str) -> int:
    """The line of `section.key`, or of the section, or 1: found by searching, which is enough for a message."""
    current, best = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        if header:
            current = header[1].strip("\"'")
            if current in (section, key):
                best = number
        found = re.match(r"\s*[\"']?([^\"'=\s]+)[\"']?\s*=", line)
        if found and (current, found[1]) in ((section, key), ("", f"{section}.{key}")):
            return number
    return best


def _read_environment(environ: Mapping[str, str], draft: Draft) -> None:
    known = {k.env: k for k in knobs()}
    for name in _ours(environ):
        if name not in known:
            raise ConfigError(f"environment: unknown variable {name}{_near(name, [*known, *_ENV_OTHER])}")
        draft.set(known[name], environ[name], f"environment {name}", text=True)


def _near(name: str, known: list[str]) -> str:
    """The end of an error about a variable. What all of them begin with does not make two of them alike."""
    import difflib

    bare = [each.removeprefix(ENV_PREFIX) for each in known]
    close = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), bare, n=1, cutoff=0.75)
    return f"; did you mean {ENV_PREFIX + close[0]!r}?" if close else "; `dompbus config --json` names them all"


def _ours(environ: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in _ENV_OTHER and not _ENV_KUBERNETES.fullmatch(name):
            yield name
