"""What is always true of settings as columns, as bytes and as messages."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ezgraph.protocol.commands import Command, ReportSettings
from ezgraph.protocol.events import Event, SettingsChanged, SettingsLayer, Source, key_of
from ezgraph.protocol.plain import plain
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue, settings_value
from ezgraph.settings import (
    PipelineSettingsEvent,
    PipelineSettingsEventType,
    column_names,
    decode_settings,
    encode_settings,
    flatten_component_settings,
    sanitize_settings_column_name,
    sanitize_settings_value,
)
from ezgraph.settings.columns import leaves
from ezgraph.testing import strategies as ours
from ezgraph.wire import codec

slow = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
SAFE = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")

names = st.text(max_size=8) | st.text("_/.9aé", max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
)
trees = st.recursive(
    scalars | st.lists(scalars, max_size=3),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
keys = st.one_of(
    st.text(max_size=4),
    st.integers(),
    st.tuples(st.integers(), st.text(max_size=2)),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False),
    st.binary(max_size=3),
)
native_settings = st.dictionaries(keys, ours.values | st.floats(), max_size=5)


def same(one: Any, other: Any) -> bool:
    """Equal in type and content; NaN is NaN; arrays in dtype, shape, order and bytes."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes("A")) == (
            other.dtype,
            other.shape,
            other.tobytes("A"),
        )
    if isinstance(one, float):
        return math.copysign(1, one) == math.copysign(1, other) and (
            one == other or (math.isnan(one) and math.isnan(other))
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(map(type, one)) == list(map(type, other)) and all(
            map(same, one.values(), other.values())
        )
    return bool(one == other)


# --- as given ---


def column_name(name: str) -> str:
    """The rule, one character after the other."""
    found = ""
    for character in name:
        if character in SAFE:
            found += character
        elif not found.endswith("."):
            found += "."
    while found.startswith("_"):
        found = found[1:]
    while found.endswith("_"):
        found = found[:-1]
    if not found:
        return "setting"
    return "setting_" + found if found[0] in "0123456789" else found


@given(names)
def test_a_column_name_follows_the_rule(name: str) -> None:
    assert sanitize_settings_column_name(name) == column_name(name)


def flat(value: Any, prefix: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        inner = ((f"{prefix}.{key}" if prefix else key, item) for key, item in value.items())
        return [pair for key, item in inner for pair in flat(item, key)]
    return [(prefix or "value", value)]


@given(trees)
def test_every_leaf_has_its_column_unless_another_takes_its_name(tree: Any) -> None:
    wanted = {column_name(f"SYS/A.{key}"): item for key, item in dict(flat(tree, "")).items()}

    found = flatten_component_settings("SYS/A", tree)
    wrapped = flatten_component_settings("SYS/A", SettingsSnapshotValue(None, "", {"x": tree}))

    assert list(found) == list(wanted)
    for name, item in wanted.items():
        np.testing.assert_equal(found[name], sanitize_settings_value(item))
    assert list(wrapped) == list(flatten_component_settings("SYS/A", {"x": tree}))


@given(st.booleans() | st.integers() | st.floats() | st.text() | st.binary())
def test_plain_scalars_are_cells_as_they_are(value: Any) -> None:
    assert sanitize_settings_value(value) is value


@given(
    st.lists(st.integers(-(2**31), 2**31), min_size=1)
    | st.lists(st.floats(), min_size=1)
    | st.lists(st.booleans(), min_size=1)
    | st.lists(st.text(), min_size=1)
    | st.lists(st.binary(), min_size=1)
    | st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2), min_size=1)
)
def test_sequences_that_numpy_takes_are_its_arrays(items: list[Any]) -> None:
    wanted = np.asarray(items)

    for given_as in (list, tuple):
        found = sanitize_settings_value(given_as(items))
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


@given(st.dictionaries(names | st.integers(), st.integers() | st.text() | st.booleans()))
def test_mappings_are_json_with_keys_as_text(mapping: dict[Any, Any]) -> None:
    wanted = json.dumps({str(key): item for key, item in mapping.items()})

    assert sanitize_settings_value(mapping) == wanted


@given(st.sets(st.integers(-50, 50), min_size=1))
def test_sets_are_in_order_of_their_text(members: set[int]) -> None:
    assert sanitize_settings_value(members).tolist() == sorted(members, key=repr)


# --- without loss ---


@given(native_settings)
@settings(parent=slow, max_examples=300)
@example({1: "int", "1": "text", (1, 2): {(3,): None}})
@example({"a": {1, (2, 3)}, "b": frozenset({dt.date(2024, 1, 1)}), "c": [math.nan, -0.0]})
def test_settings_come_back_as_they_were(value: dict[Any, Any]) -> None:
    assert same(decode_settings(encode_settings(value)), value)


@given(native_settings)
@slow
def test_settings_come_back_as_they_were_from_command_and_event(value: dict[Any, Any]) -> None:
    command = ReportSettings("SYS/A", settings_value(value))
    body = SettingsChanged(
        "SYS/A", SettingsEventType.SETTINGS_UPDATED, SettingsLayer.LIVE, command.value
    )
    event = Event(1, 7, 6, 7, 7, 1.0, 1.0, key_of(body), Source(), None, body)

    encoded = codec.encode_event(event)
    asked: Any = codec.decode(codec.encode(command), Command)
    told: Any = codec.decode_event(encoded.event)
    live: Any = codec.decode_live_event(encoded.live, encoded.blobs)

    for found in (asked.value, told.body.value, live.body.value):
        assert same(found.structured_value, value)
        assert same(found.repr_value, value)


@given(st.lists(st.lists(st.text("/.:ab_é9", min_size=1, max_size=3), min_size=1, max_size=3)))
def test_no_two_columns_share_a_name(paths: list[list[str]]) -> None:
    addresses = [tuple(path) for path in paths]

    found = column_names(addresses)

    assert set(found) == set(addresses)
    assert len(set(found.values())) == len(found)
    assert found == column_names(reversed(addresses))
    assert all(sanitize_settings_column_name(name) == name for name in found.values())


@given(st.lists(st.text("/.:ab_", max_size=3)), st.lists(st.text("/.:ab_", max_size=3)))
def test_names_given_before_stay_whatever_comes(before: list[str], later: list[str]) -> None:
    known = column_names(before)

    found = column_names(later, known)

    assert found.items() >= known.items()
    assert len(set(found.values())) == len(found)


def put_together(found: dict[Any, Any]) -> Any:
    if () in found:
        return found[()]
    tree: dict[Any, Any] = {}
    for path, value in found.items():
        place = tree
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
    return tree


@given(st.dictionaries(names | st.integers(), trees, max_size=4))
def test_leaves_hold_all_there_is(tree: dict[Any, Any]) -> None:
    assert same(put_together(leaves(tree)), tree)


# --- as messages ---


@given(native_settings)
@settings(parent=slow, max_examples=200)
def test_an_event_is_plain_json_and_gives_the_values_back(value: dict[Any, Any]) -> None:
    made = PipelineSettingsEvent(1, 0.0, "A", PipelineSettingsEventType.INITIAL, "", value)

    row = made.flatten_for_table()

    assert same(made.native(), value)
    assert row is not None
    assert json.loads(row["data"])["settings"] == made.structured_value == plain(value)
    assert "NaN" not in json.dumps(made.structured_value, allow_nan=False).replace('"NaN"', "")
    assert made.structured_value is not None
    assert len(made.structured_value) == len(value)
