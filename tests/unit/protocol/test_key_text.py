"""Keys as they are typed on the command line, and as they are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph import InvalidKeyError
from ezgraph.protocol.key_text import KeyFilter, key_text, parse_filter

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("", KeyFilter(())),
        ("/", KeyFilter(())),
        ("settings", KeyFilter(("settings",))),
        ("settings/", KeyFilter(("settings",))),
        ("settings/SYS/UNIT_A", KeyFilter(("settings", "SYS/UNIT_A"))),
        ("settings/SYS/", KeyFilter(("settings",), "SYS/")),
        ("settings/100%", KeyFilter(("settings", "100%"))),
        ("settings/100%25", KeyFilter(("settings", "100%"))),
        ("component/a b", KeyFilter(("component", "a b"))),
        ("edge", KeyFilter(("edge",))),
        ("edge/A", KeyFilter(("edge", "A"))),
        ("edge/A/", KeyFilter(("edge", "A"))),
        ("edge/A/B", KeyFilter(("edge", "A", "B"))),
        ("edge/SYS%2FA/B", KeyFilter(("edge", "SYS/A", "B"))),
        ("config/camera/gain", KeyFilter(("config", "camera", "gain"))),
        ("session/%C3%BC", KeyFilter(("session", "ü"))),
    ],
)
def test_a_typed_prefix_means_this_key(typed: str, wanted: KeyFilter) -> None:
    assert parse_filter(typed) == wanted


@pytest.mark.parametrize("typed", ["edge/a/b/c", "edge//b", "/settings", "//", "config//x"])
def test_what_no_key_begins_with_is_refused(typed: str) -> None:
    with pytest.raises(InvalidKeyError):
        parse_filter(typed)


def test_the_refusal_of_a_slash_in_a_topic_says_how_to_write_it() -> None:
    with pytest.raises(InvalidKeyError, match="%2F"):
        parse_filter("edge/SYS/SRC/OUT")


def test_a_slash_at_the_end_means_everything_below() -> None:
    below = parse_filter("settings/SYS/")

    assert below.matches(("settings", "SYS/A"))
    assert below.matches(("settings", "SYS/A/B"))
    assert not below.matches(("settings", "SYS"))
    assert not below.matches(("settings", "SYS2/A"))
    assert not below.matches(("component", "SYS/A"))
    assert str(below) == "settings/SYS/"


def test_without_it_only_the_one_name_is_meant() -> None:
    one = parse_filter("settings/SYS")

    assert one.matches(("settings", "SYS"))
    assert not one.matches(("settings", "SYS/A"))


@given(names)
def test_a_shown_settings_key_can_be_typed_again(address: str) -> None:
    key = ("settings", address)

    shown = key_text(key)

    assert shown.isprintable()
    if not address.endswith("/"):
        assert parse_filter(shown) == KeyFilter(key)


@given(names, names)
def test_a_shown_edge_key_can_be_typed_again(start: str, end: str) -> None:
    key = ("edge", start, end)

    shown = key_text(key)

    assert shown.isprintable()
    assert parse_filter(shown) == KeyFilter(key)
