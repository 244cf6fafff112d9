"""How commands print: a plain table for people, one JSON document for programs.

The law here: standard output carries the answer and nothing else, and a number is never rounded. 128-bit integers
are strings in JSON, because most readers of JSON would round them.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["print_json", "print_json_line", "print_line", "print_table"]


def print_json(document: Any) -> None:
    """Print one JSON document, indented for a terminal and on one line for a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    print_line(json.dumps(document, indent=indent, ensure_ascii=False))


def print_json_line(document: Any, *, flush: bool = False) -> None:
    """Print one JSON document on one line; lists that may be long are printed so, object by object."""
    print(json.dumps(document, ensure_ascii=False), flush=flush)


def print_line(text: str) -> None:
    """Print at once, so that whoever waits for a line gets it."""
    print(text, flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns, numbers to the right; the header alone when there are no rows."""
    table = [tuple(_cell(value) for value in row) for row in rows]
    numeric = [bool(table) and all(_is_number(row[i]) for row in table) for i in range(len(columns))]
    widths = [max([len(name), *(len(row[i]) for row in table)]) for i, name in enumerate(columns)]
    lines = []
    for row in [tuple(columns), *table]:
        cells = (cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric, strict=True))
        lines.append("  ".join(cells).rstrip())
    print("\n".join(lines))


def _cell(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _is_number(text: str) -> bool:
    return text.lstrip("-").isdigit()
