"""Topics and patterns: what is allowed, and what a pattern matches."""

import pytest

from dompbus import limits
from dompbus.errors import DompbusError, InvalidTopic
from dompbus.topics import Pattern, check_pattern, check_topic

GOOD_TOPICS = [
    "a",
    "md.kraken.XBTUSDT",
    "a_b.c-d",
    "BTC/USD",
    "x.1:2+3=4",
    "a" * limits.TOPIC_BYTES_MAX,
    "a.b." * 7 + "c",
]
BAD_TOPICS = [
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "a b",
    "a\0b",
    "a\n",
    "\n",
    "ä",
    "a.\N{ARABIC-INDIC DIGIT ONE}",
    "@1/2",
    "a.*",
    "a.>",
    "a#",
    "a" * (limits.TOPIC_BYTES_MAX + 1),
    ".".join("a" * (limits.TOPIC_LEVELS_MAX + 1)),
]


@pytest.mark.parametrize("topic", GOOD_TOPICS)
def test_good_topics_pass_and_match_themselves(topic: str) -> None:
    assert check_topic(topic) == topic
    assert check_pattern(topic) == topic
    assert Pattern(topic).exact
    assert Pattern(topic).matches(topic)


@pytest.mark.parametrize("topic", BAD_TOPICS)
def test_bad_topics_are_refused_with_a_reason(topic: str) -> None:
    with pytest.raises(InvalidTopic, match="topic"):
        check_topic(topic)


@pytest.mark.parametrize("what", [None, 3, b"a", ["a"]])
def test_only_text_is_a_topic(what: object) -> None:
    with pytest.raises(InvalidTopic, match=f"not {type(what).__name__}"):
        check_topic(what)  # type: ignore[arg-type] # that is the point
    assert issubclass(InvalidTopic, (DompbusError, ValueError))


@pytest.mark.parametrize("pattern", ["*", ">", "a.*", "*.a", "*.*.*", "a.>", "*.>", "md.*.XBTUSDT", "a.*.>"])
def test_good_patterns_pass(pattern: str) -> None:
    assert check_pattern(pattern) == pattern
    assert not Pattern(pattern).exact


@pytest.mark.parametrize("pattern", ["", ">.a", "a.>.b", "a*", "*a", "a>", "a.**", "**", "a.>>", "a.>\n", "@*", "a..>"])
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidTopic, match="pattern"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.bb", "axb", "b.a"]),
        ("a.*", ["a.b", "a.c-d"], ["a", "a.b.c", "b.a", "aa.b"]),
        ("*", ["a", "BTC/USD"], ["a.b"]),
        ("*.b", ["a.b", "b.b"], ["b", "a.a.b", "a.bb"]),
        ("a.>", ["a.b", "a.b.c", "a.b.c.d"], ["a", "aa.b", "b.a"]),
        (">", ["a", "a.b", "a.b.c"], []),
        ("a.*.c.>", ["a.b.c.d", "a.x.c.d.e"], ["a.b.c", "a.b.b.c.d"]),
        ("a+b.*", ["a+b.c"], ["aab.c", "ab.c"]),
    ],
)
def test_what_a_pattern_matches(pattern: str, matching: list[str], other: list[str]) -> None:
    """`*` is exactly one level, a final `>` one or more; everything else is itself, never a regular expression."""
    assert [topic for topic in matching + other if Pattern(pattern).matches(topic)] == matching
