"""Files of configuration in the layout of today and the one before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph.cli.configuration.layout import ConfigFile, read_layout, written
from ezgraph.errors import ConfigError
from ezgraph.protocol.config import ConfigEntry, config_key_text, parse_config_key
from ezgraph.testing import strategies as ours
from ezgraph.wire import values

DEFAULT = {"topics": {"input": "a"}, "parameters": {"size": 100}}
FAST = {"topics": {"input": "b"}}
SPLIT = {
    ("active-flow", ("chunker", "default")): DEFAULT,
    ("active-flow", ("chunker", "fast")): FAST,
    ("active-flow", ("embedder", "default")): DEFAULT,
    ("prompt", ("system",)): '"be brief"',
}
BLOBS: dict[str, Any] = {
    "active-flow": {
        "chunker": json.dumps({"default": DEFAULT, "fast": FAST}),
        "embedder": {"default": DEFAULT},
        "idle": "{}",
    },
    "prompt": {"system": '"be brief"'},
}


def entry(kind: str, key: tuple[str, ...], value: object) -> ConfigEntry:
    return ConfigEntry(kind, key, value, seq=1, owner=None, author="rig.py", wall_time=0.0)


@pytest.mark.parametrize("document", [
    BLOBS,
    {"config": BLOBS},
    {"version": 7, "config": BLOBS},
])  # fmt: skip
def test_blobs_of_the_old_layout_are_split_into_keys(document: Any) -> None:
    assert read_layout(document, "f") == ConfigFile(SPLIT, {}, blobs=3)


def test_the_new_layout_is_read_with_and_without_its_head() -> None:
    by_text: dict[str, dict[str, Any]] = {}
    for (kind, key), value in SPLIT.items():
        by_text.setdefault(kind, {})[config_key_text(key)] = value

    assert read_layout(by_text, "f") == ConfigFile(SPLIT, {})
    whole = {"ezgraph_config": 1, "values": by_text, "schemas": {"prompt": {"type": "string"}}}
    assert read_layout(whole, "f") == ConfigFile(SPLIT, {"prompt": {"type": "string"}})


@pytest.mark.parametrize("document", [
    {"prompt": {"system:a": 1, "system:%61": 2}},
    {"ezgraph_config": 1, "values": {"prompt": {"system:a": 1, "system:%61": 2}}},
    {"active-flow": {"chunker:fast": 1, "chunke%72:fast": 2}},
    {"active-flow": {"chunker": {"fast": 1}, "chunke%72": {"slow": 1, "fast": 2}}},
])  # fmt: skip
def test_a_key_that_is_spelled_in_two_ways_is_refused_and_no_value_is_lost(document: Any) -> None:
    with pytest.raises(ConfigError, match="by another spelling of its key; keep one"):
        read_layout(document, "f")


def test_a_type_that_is_named_is_split_too() -> None:
    document = {"variants": {"chunker": {"default": 1}}, "plain": {"chunker": {"default": 1}}}

    found = read_layout(document, "f", ["variants"]).values

    assert found == {
        ("variants", ("chunker", "default")): 1,
        ("plain", ("chunker",)): {"default": 1},
    }


def test_a_name_of_a_processor_or_variant_may_have_any_character() -> None:
    document = {"active-flow": {"a%3Ab": {"x:y/z": 1}}}

    assert read_layout(document, "f").values == {("active-flow", ("a:b", "x:y/z")): 1}


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (
            {"active-flow": {"chunker": {"default": 1}, "embedder:default": 2}},
            "mixes layouts: active-flow: chunker is a blob of all variants, of the old one, and "
            "active-flow: embedder:default is one variant",
        ),
        (
            {"active-flow": {"embedder:default": 2}, "flows-active": {"chunker": "{}"}},
            "mixes layouts: flows-active: chunker is a blob",
        ),
        ({"config": BLOBS, "values": {}}, "mixes layouts: all of the old one stands under 'conf"),
        ({"config": BLOBS, "ezgraph_config": 1}, "mixes layouts: 'ezgraph_config' is of the new"),
        ({"ezgraph_config": 2}, "version 2"),
        ({"ezgraph_config": 1, "keys": {}}, "'keys' is unknown"),
        ({"ezgraph_config": 1, "values": {"t": {"a": {"$bytes": "?"}}}}, "f: values: t: a"),
        ({"ezgraph_config": 1, "schemas": {"t": 5}}, "f: schemas: t"),
        ({"ezgraph_config": 1, "schemas": {"": {}}}, "f: schemas"),
        (None, "f should be a mapping"),
        ([1], "f should be a mapping"),
        ({"active-flow": 5}, "f: active-flow should be a mapping"),
        ({5: {}}, "the name 5 is no text"),
        ({"t": {5: 1}}, "f: t: the name 5 is no text"),
        ({"t": {"a::b": 1}}, "f: t: a::b"),
        ({"t": {"": 1}}, "f: t: "),
        ({"t": {":".join("a" * 40): 1}}, "f: t: a:a"),
        ({"": {"a": 1}}, "f: : a"),
        ({"t": {"a": {1j: object()}}}, "f: t: a"),
        ({"active-flow": {"chunker": 5}}, "f: active-flow: chunker should be a blob of variants"),
        ({"active-flow": {"chunker": "[1]"}}, "f: active-flow: chunker should be a blob"),
        ({"active-flow": {"chunker": "{"}}, "chunker (a blob of variants) is no JSON: line 1"),
        ({"active-flow": {"chunker": '{"a": 1, "a": 2}'}}, "the name 'a' is there 2 times"),
        ({"active-flow": {"chunker": {"": 1}}}, "f: active-flow: chunker"),
        ({"active-flow": {"chunker": {5: 1}}}, "f: active-flow: chunker: the name 5 is no text"),
    ],
)
def test_what_is_of_no_layout_or_of_both_is_refused_and_says_where(
    document: Any, what: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_layout(document, "f")

    assert what in str(caught.value)
    assert len(str(caught.value)) < 400


names = st.text(min_size=1, max_size=4)
places = st.tuples(names, st.lists(names, min_size=1, max_size=3).map(tuple))


@given(st.dictionaries(places, ours.values, max_size=5), st.dictionaries(names, st.just({})))
def test_what_is_exported_is_what_is_imported_in_an_order_that_is_always_the_same(
    given_values: dict[tuple[str, tuple[str, ...]], Any], schemas: dict[str, Any]
) -> None:
    carried = {place: values.unpack(values.pack(each)) for place, each in given_values.items()}
    entries = [entry(kind, key, value) for (kind, key), value in carried.items()]

    text = json.dumps(written(entries, schemas))
    found = read_layout(json.loads(text), "f")

    assert text == json.dumps(written(reversed(entries), schemas))
    assert found.values.keys() == carried.keys()
    assert {p: values.pack(v) for p, v in found.values.items()} == {
        p: values.pack(v) for p, v in carried.items()
    }
    assert found.schemas == schemas
    assert all(parse_config_key(config_key_text(key)) == key for _, key in carried)
