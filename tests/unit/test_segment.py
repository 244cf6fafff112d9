"""Goal: only what is a segment is taken for one."""

from pathlib import Path

from dompbus.storage import OsFiles
from dompbus.storage.segment import segment_paths


def test_strange_names_are_left_alone(tmp_path: Path) -> None:
    """Digits of other kinds, which `int` refuses, do not make a segment."""
    for name in ("00000000000000000001.journal", "\u00b25.journal", "x.journal", "2.journal.new", "\u0665.journal"):
        (tmp_path / name).touch()
    segments, unfinished = segment_paths(tmp_path, OsFiles())
    assert [path.name for path in segments] == ["00000000000000000001.journal"]
    assert [path.name for path in unfinished] == ["2.journal.new"]
