"""Where the recorded data lies that some tests replay. None of it ships with the product.

`DOMPBUS_DATA` names the folder; without it, a folder of data beside the checkout is tried.
"""

import os
from pathlib import Path

import pytest

__all__ = ["recorded", "recorded_or_none"]


def recorded(name: str) -> Path:
    """Give the path of a recorded file, or skip the test that asks."""
    path = recorded_or_none(name)
    if path is None:
        pytest.skip(f"no recorded data {name!r}: set DOMPBUS_DATA to its folder")
    return path


def recorded_or_none(name: str) -> Path | None:
    """Give the path of a recorded file, or None where it is absent."""
    folder = os.environ.get("DOMPBUS_DATA")
    path = (Path(folder) if folder else Path(__file__).resolve().parents[2] / "shared" / "data") / name
    return path if path.is_file() else None
