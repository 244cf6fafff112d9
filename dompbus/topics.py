"""Topics and patterns: the names under which messages travel.

A topic is a dotted path such as `md.kraken.XBTUSDT`. A pattern may hold `*`, which stands for exactly one level,
and may end in `>`, which stands for one or more further levels. Both are ASCII, so that their length in
characters is their length on the wire, and neither may hold NUL, which ends a name there.
"""

import re
from typing import NewType

from dompbus import limits
from dompbus.errors import InvalidTopic

__all__ = ["Pattern", "Topic", "check_pattern", "check_topic"]

Topic = NewType("Topic", str)

_LEVEL = r"[A-Za-z0-9_:/+=-]+"
_TOPIC = re.compile(rf"{_LEVEL}(?:\.{_LEVEL})*", re.ASCII)
_PATTERN = re.compile(rf"(?:(?:{_LEVEL}|\*)\.)*(?:{_LEVEL}|\*|>)", re.ASCII)
_ALLOWED = "levels of letters, digits and _ : / + = - joined by dots"


def check_topic(topic: str) -> Topic:
    """Return `topic` as it is, or raise `InvalidTopic` saying what is wrong with it."""
    _check(topic, _TOPIC, "topic", _ALLOWED)
    return Topic(topic)


def check_pattern(pattern: str) -> str:
    """Return `pattern` as it is, or raise `InvalidTopic`. Every topic is also a pattern, which matches itself."""
    _check(pattern, _PATTERN, "pattern", f"{_ALLOWED}; `*` for one level, a final `>` for the rest")
    return pattern


class Pattern:
    """A checked pattern, ready to be matched against many topics."""

    __slots__ = ("_match", "exact", "text")

    def __init__(self, text: str) -> None:
        self.text = check_pattern(text)
        self.exact = "*" not in text and ">" not in text
        self._match = re.compile(_expression(text), re.ASCII)

    def matches(self, topic: str) -> bool:
        """Whether `topic` (already checked) falls under this pattern."""
        return topic == self.text if self.exact else self._match.fullmatch(topic) is not None

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def _expression(pattern: str) -> str:
    words = {"*": r"[^.]+", ">": r".+"}
    return r"\.".join(words.get(level, re.escape(level)) for level in pattern.split("."))


def _check(text: str, grammar: re.Pattern[str], what: str, allowed: str) -> None:
    if not isinstance(text, str):
        raise InvalidTopic(f"a {what} is text, not {type(text).__name__}")
    if len(text) > limits.TOPIC_BYTES_MAX:
        raise InvalidTopic(f"{what} of {len(text)} characters: at most {limits.TOPIC_BYTES_MAX} are allowed")
    if grammar.fullmatch(text) is None:
        raise InvalidTopic(f"{text!r} is not a {what}: {allowed}")
    if text.count(".") >= limits.TOPIC_LEVELS_MAX:
        raise InvalidTopic(f"{what} {text!r} has more than {limits.TOPIC_LEVELS_MAX} levels")
