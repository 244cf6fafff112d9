"""How commands print: a plain table for people, one JSON document for programs.

The law here: standard output carries the answer and nothing else, and a number is never rounded. 128-bit integers
are strings in JSON, because most readers of JSON would round them.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dompbus.errors import DompbusError

__all__ = ["AnswerLost", "finish", "print_json", "print_json_line", "print_line", "print_table", "printable"]


class AnswerLost(DompbusError):
    """Standard output does not take the answer. The text says why."""


def print_json(document: Any) -> None:
    """Print one JSON document, indented for a terminal and on one line for a pipe."""
    print_line(_json(document, indent=2 if sys.stdout.isatty() else None))


def print_json_line(document: Any, *, flush: bool = False) -> None:
    """Print one JSON document on one line; lists that may be long are printed so, object by object."""
    _write(_json(document), flush=flush)


def print_line(text: str) -> None:
    """Print at once, so that whoever waits for a line gets it."""
    _write(text, flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns, numbers to the right; the header alone when there are no rows."""
    table = [tuple(_cell(value) for value in row) for row in rows]
    numeric = [bool(table) and all(_is_number(row[i]) for row in table) for i in range(len(columns))]
    widths = [max([len(name), *(len(row[i]) for row in table)]) for i, name in enumerate(columns)]
    lines = []
    for row in [tuple(columns), *table]:
        cells = (cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric, strict=True))
        lines.append("  ".join(cells).rstrip())
    _write("\n".join(lines))


def finish() -> None:
    """Hand over what is still buffered. Raises `AnswerLost`, as all that print do."""
    with _losing():
        sys.stdout.flush()


def _write(text: str, *, flush: bool = False) -> None:
    with _losing():
        print(text, flush=flush)


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # a reader who has enough is no failure
        raise
    except OSError as error:
        raise AnswerLost(f"cannot write the answer: {error.strerror}") from error


def printable(text: str) -> str:
    """`text` with whatever a terminal would obey, and what cannot be encoded, spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _json(document: Any, indent: int | None = None) -> str:
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    plain = text.replace("\n", "") if indent else text
    return text if plain.isprintable() else json.dumps(document, indent=indent)


def _cell(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _is_number(text: str) -> bool:
    return text.lstrip("-").isdigit()
