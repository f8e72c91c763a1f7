"""Keys of the configuration as they are typed, patterns of them, and what an entry shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ezgraph.errors import InvalidKeyError
from ezgraph.protocol.config import (
    ConfigEntry,
    as_config_key,
    as_config_match,
    as_config_prefix,
    bus_key,
    config_key_text,
    is_match,
    parse_config_key,
)

TEXTS = {
    "chunker:default": ("chunker", "default"),
    "chunker": ("chunker",),
    "a/b:c": ("a/b", "c"),
    "de%3Afault:x": ("de:fault", "x"),
    "100%25": ("100%",),
    "%253A": ("%3A",),
    "naïve:日本": ("naïve", "日本"),
    "tab%09:nul%00": ("tab\t", "nul\0"),
    "%E2%80%AE": ("\u202e",),
    " : ": (" ", " "),
}


@pytest.mark.parametrize(("text", "key"), TEXTS.items())
def test_a_key_has_one_text_and_the_text_that_key(text: str, key: tuple[str, ...]) -> None:
    assert config_key_text(key) == text
    assert parse_config_key(text) == key
    assert as_config_key(text) == key


@pytest.mark.parametrize("text", ["100%", "%zz:a", "50%2", "%FF"])
def test_an_escape_that_is_none_stays_as_it_was_typed(text: str) -> None:
    assert parse_config_key(text)[0] == text.partition(":")[0]


def test_names_that_are_given_as_they_are_have_no_escapes() -> None:
    assert as_config_key(("a%3Ab", "c:d")) == ("a%3Ab", "c:d")
    assert as_config_key(["a"]) == ("a",)


@pytest.mark.parametrize("key", ["", ":", "a::b", "a:", ":a", (), [], ("a", ""), ("a", 1), 5, None])
def test_a_key_without_a_name_or_with_an_empty_one_is_refused(key: Any) -> None:
    with pytest.raises(InvalidKeyError, match=r"name|segment|no key"):
        as_config_key(key)


def test_a_key_beyond_the_grammar_is_refused_by_its_place_on_the_bus() -> None:
    for key in [("x" * 5_000,), ("x",) * 40, ("\udc80",)]:
        with pytest.raises(InvalidKeyError):
            bus_key("flow", key)
    with pytest.raises(InvalidKeyError):
        bus_key("", ("a",))

    assert bus_key("flow", ("a", "b")) == ("config", "flow", "a", "b")


def test_no_prefix_is_every_keys_prefix() -> None:
    assert as_config_prefix("") == as_config_prefix(()) == ()
    assert as_config_prefix("a:b") == ("a", "b")


@pytest.mark.parametrize(
    ("match", "key", "is_meant"),
    [
        ("*:default", ("chunker", "default"), True),
        ("*:default", ("default",), False),
        ("*:default", ("chunker", "default", "x"), False),
        ("*:default", ("chunker", "default2"), False),
        ("chunk*:default", ("chunker", "default"), True),
        ("chunk*:default", ("chunk", "default"), True),
        ("chunk*:default", ("chun", "default"), False),
        (("*", "default"), ("a:b", "default"), True),
        (("a:b", "*"), ("a:b", "x"), True),
        ("a%3Ab:*", ("a:b", "x"), True),
        ("%2A", ("*",), True),
        ("%2A", ("x",), False),
        ("a%2A*", ("a*b",), True),
        ("a%2A*", ("ab",), False),
        (("%2A",), ("*",), False),
    ],
)
def test_a_pattern_means_keys_of_as_many_names_each_of_which_matches(
    match: Any, key: tuple[str, ...], is_meant: bool
) -> None:
    assert is_match(as_config_match(match), key) is is_meant


@pytest.mark.parametrize("match", ["", "a::b", (), ("a", "")])
def test_a_pattern_with_an_empty_name_is_refused(match: Any) -> None:
    with pytest.raises(InvalidKeyError):
        as_config_match(match)


def test_an_entry_shows_its_key_its_owner_and_itself_as_json() -> None:
    held = ConfigEntry("flow", ("a:b", "c"), {"when": b"\0", "pair": (1, 2)}, 7, "s1", "me", 1e9, 5)
    kept = ConfigEntry("flow", ("a",), None, 8, None, "me", 1e9)

    assert held.key_text == "a%3Ab:c"
    assert (held.is_ephemeral, kept.is_ephemeral) == (True, False)
    assert json.loads(json.dumps(held.to_json())) == {
        "type": "flow",
        "key": ["a:b", "c"],
        "value": {"when": "AA==", "pair": [1, 2]},
        "seq": 7,
        "owner": "s1",
        "author": "me",
        "wall_time": 1e9,
        "created_seq": 5,
    }
