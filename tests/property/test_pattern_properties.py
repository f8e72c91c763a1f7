"""One expression for many patterns means the same keys as the patterns one by one."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from ezgraph.protocol.patterns import KeyPattern, NamePattern, matcher

TEXTS = st.text(alphabet="ab/%*\0\n.é", max_size=3)
NAMES = st.builds(NamePattern, TEXTS, st.booleans())
PATTERNS = st.lists(st.lists(NAMES, max_size=3).map(tuple).map(KeyPattern), max_size=6)
KEYS = st.lists(TEXTS, max_size=4).map(tuple)


def exactly(*texts: str) -> KeyPattern:
    return KeyPattern(tuple(NamePattern(text, is_open=False) for text in texts))


@given(patterns=PATTERNS, key=KEYS)
@example(patterns=[exactly("a\0b")], key=("a", "b"))
@example(patterns=[exactly("a", "b")], key=("a\0b",))
@example(patterns=[exactly("a", "b")], key=("a\0b", "c"))
@example(patterns=[KeyPattern(())], key=())
@example(patterns=[exactly("")], key=())
@example(patterns=[], key=("a",))
def test_the_matcher_agrees_with_the_patterns(
    patterns: list[KeyPattern], key: tuple[str, ...]
) -> None:
    assert matcher(patterns)(key) == any(pattern.matches(key) for pattern in patterns)
