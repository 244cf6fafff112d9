"""Goal: one process owns a data directory, from before its first change to after its last."""

import os
from pathlib import Path

import pytest

from dompbus.clients.compose import build_node
from dompbus.config import Config
from dompbus.errors import DirectoryLocked, StorageError


def _config(data: Path) -> Config:
    return Config.of(data=str(data), listen="inproc://compose")


def test_a_second_node_changes_nothing(tmp_path: Path) -> None:
    """The epoch of a directory that is in use stays as it is; the error names directory and process."""
    data = tmp_path / "data"
    node = build_node(_config(data))
    before = (data / "epoch").read_bytes()
    with pytest.raises(DirectoryLocked, match=f"{data} is in use by process {os.getpid()}"):
        build_node(_config(data))
    assert (data / "epoch").read_bytes() == before
    node.close()
    node.close()
    build_node(_config(data)).close()
    assert (data / "epoch").read_bytes() != before


def test_a_failed_start_gives_the_directory_back(tmp_path: Path) -> None:
    """Damage, and then a repair, in one process: the lock does not outlive the refusal."""
    data = tmp_path / "data"
    build_node(_config(data)).close()
    for name in ("epoch", "ledger"):
        (data / name).rename(tmp_path / name)
        (data / name).write_text("damage")
        with pytest.raises(StorageError, match=str(data / name)):
            build_node(_config(data))
        (data / name).unlink()
        (tmp_path / name).rename(data / name)
        build_node(_config(data)).close()
