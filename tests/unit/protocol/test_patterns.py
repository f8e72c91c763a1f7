"""Patterns of keys, as roles name them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph.errors import InvalidKeyError
from ezgraph.names import MAX_SEGMENTS
from ezgraph.protocol.patterns import EVERY_KEY, KeyPattern, NamePattern, parse_pattern

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
patterns = st.builds(
    KeyPattern,
    st.lists(
        st.one_of(
            st.builds(NamePattern, names, st.just(False)),
            st.builds(NamePattern, st.one_of(st.just(""), names), st.just(True)),
        ),
        max_size=4,
    ).map(tuple),
)


@pytest.mark.parametrize(
    ("typed", "inside", "outside"),
    [
        ("/", [(), ("settings",), ("edge", "A", "B")], []),
        ("settings", [("settings", "A")], [("setting", "A"), ("settings2", "A")]),
        ("settings/", [("settings", "A")], [("component", "A")]),
        ("settings/RIG", [("settings", "RIG")], [("settings", "RIG/A"), ("settings",)]),
        ("settings/RIG/", [("settings", "RIG/A")], [("settings", "RIG"), ("settings", "RIG2")]),
        ("settings/RIG*", [("settings", "RIG"), ("settings", "RIG2")], [("settings", "R")]),
        ("edge/A", [("edge", "A", "B")], [("edge", "AB", "B"), ("edge", "B", "A")]),
        ("edge/*/REC", [("edge", "A", "REC")], [("edge", "REC", "A"), ("edge", "A")]),
        ("edge/*/RIG%2F*", [("edge", "A", "RIG/IN")], [("edge", "A", "RIG")]),
        ("config/camera/g*", [("config", "camera", "gain", "x")], [("config", "camera")]),
        ("settings/%2A", [("settings", "*")], [("settings", "A")]),
    ],
)
def test_a_pattern_means_these_keys(
    typed: str, inside: list[tuple[str, ...]], outside: list[tuple[str, ...]]
) -> None:
    pattern = parse_pattern(typed)

    assert [key for key in inside if not pattern.matches(key)] == []
    assert [key for key in outside if pattern.matches(key)] == []


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "empty pattern"),
        ("edge/A*B/C", "'*' inside the name"),
        ("edge//B", "empty name"),
        ("/settings", "empty name"),
        ("config/" + "/".join("x" * 1 for _ in range(MAX_SEGMENTS)), "at most 32"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(typed: str, why: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        parse_pattern(typed)

    assert why in str(caught.value)


@given(patterns)
def test_a_pattern_is_shown_as_it_is_typed(pattern: KeyPattern) -> None:
    assert parse_pattern(str(pattern)) == pattern


@given(patterns, st.lists(names, max_size=5).map(tuple), st.lists(names, max_size=2))
def test_what_begins_with_a_key_that_is_meant_is_meant(
    pattern: KeyPattern, key: tuple[str, ...], more: list[str]
) -> None:
    if pattern.matches(key):
        assert pattern.matches((*key, *more))


@given(patterns, st.lists(names, max_size=5).map(tuple), st.integers(0, 5))
def test_a_prefix_of_a_key_that_is_meant_is_touched(
    pattern: KeyPattern, key: tuple[str, ...], depth: int
) -> None:
    if pattern.matches(key):
        assert pattern.touches(key[:depth])
    if len(key) >= len(pattern.names):
        assert pattern.touches(key) == pattern.matches(key)


def test_every_key_is_the_pattern_without_names() -> None:
    assert str(EVERY_KEY) == "/"
    assert EVERY_KEY.matches(())
    assert EVERY_KEY.touches(("anything",))


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(typed: str) -> None:
    try:
        pattern = parse_pattern(typed)
    except InvalidKeyError:
        return
    assert parse_pattern(str(pattern)) == pattern
