"""The published test vectors are what this implementation does. `--rewrite` makes the file anew."""

import json
from typing import Any

import msgspec
import pytest

from dompbus.wire.bodies import BODIES, decode_body
from dompbus.wire.frame import FrameError, Kind, Refusal, pack, parse
from tests.vectors.generate import PATH, render

VECTORS: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {"valid": [], "invalid": []}


def test_the_file_is_what_the_code_makes(rewrite: bool) -> None:
    if rewrite:
        PATH.write_text(render())
    assert PATH.read_text() == render()


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["name"])
def test_valid(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    frame = parse(data)
    assert {name: getattr(frame, name) for name in ("count", "epoch", "seq", "time_ns")}.items() <= vector.items()
    assert frame.kind.name == vector["kind"]
    assert (msgspec.msgpack.decode(frame.body) if frame.body else None) == vector["body"]
    if frame.kind in BODIES:
        assert isinstance(decode_body(frame), BODIES[frame.kind])
    again = pack(
        frame.kind, bytes(frame.body), count=frame.count, epoch=frame.epoch, seq=frame.seq, time_ns=frame.time_ns
    )
    assert again == data


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["name"])
def test_invalid(vector: dict[str, str]) -> None:
    with pytest.raises(FrameError) as caught:
        decode_body(parse(bytes.fromhex(vector["hex"])))
    assert caught.value.reason == vector["refusal"]


def test_every_kind_and_every_refusal_that_bytes_can_earn_is_there() -> None:
    assert {vector["kind"] for vector in VECTORS["valid"]} == {kind.name for kind in Kind}
    of_state = {"unexpected", "stranger", "stale_epoch", "handshake", "too_many"}
    assert {vector["refusal"] for vector in VECTORS["invalid"]} == {str(reason) for reason in Refusal} - of_state
