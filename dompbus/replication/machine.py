"""What a deterministic state machine has to offer to be driven by a log: users plug in their own.

The law here: a machine has no clock, no I/O and no entropy; the same commands with the same timestamps give the same
state and the same answers, byte for byte, on every replica and at every replay.
"""

from collections.abc import Iterable
from typing import Protocol

__all__ = ["Machine"]


class Machine(Protocol):
    """A deterministic state machine: commands in, results out."""

    def apply(self, command: bytes | memoryview, timestamp: int) -> bytes:
        """Carry out a command and return its result. Never raises on bad input: the result says what is wrong.

        `timestamp` (ns) rises from command to command by at least the command's length in bytes, so a machine may
        give each of up to `len(command)` events in it a time of its own, ending at `timestamp`.
        """
        ...

    def query(self, query: bytes | memoryview) -> bytes:
        """Answer a question about the state, changing nothing. Never raises on bad input."""
        ...

    def snapshot(self) -> Iterable[bytes]:
        """The whole state, in chunks that `restore` takes."""
        ...

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state by a snapshot's."""
        ...

    def check_invariants(self) -> None:
        """Raise AssertionError when the state contradicts itself."""
        ...
