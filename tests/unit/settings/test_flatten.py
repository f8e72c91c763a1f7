"""Columns and cells as recordings made elsewhere have them, to the letter."""

from __future__ import annotations

import enum
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.settings import (
    Settings,
    flatten_component_settings,
    flatten_ez_settings,
    sanitize_settings_column_name,
    sanitize_settings_value,
)


class Mode(enum.Enum):
    FAST = "fast"
    RANGE = (1, 2)
    NESTED = pathlib.PurePosixPath("/data")


@dataclass(frozen=True)
class Notch:
    hz: float = 50.0
    q: Any = None


class Inner(Settings):
    a: int = 1


class S(Settings):
    a: object = 1
    b: object = None


class Theirs:
    """As ezmsg's settings look from outside."""

    gain: float

    def __init__(self, gain: float) -> None:
        self.gain = gain


EZMSG = type("Settings", (), {"__module__": "ezmsg.core.settings"})
TheirSettings = type("TheirSettings", (Theirs, EZMSG), {})


def same(found: Any, wanted: Any) -> bool:
    """Equal in type, and for arrays in dtype, shape and content."""
    if type(found) is not type(wanted):
        return False
    if isinstance(wanted, np.ndarray):
        alike = (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        return alike and bool(np.array_equal(found, wanted))
    return bool(found == wanted)


# --- flattening ---


@pytest.mark.parametrize(
    ("settings", "prefix", "wanted"),
    [
        (S(1, 2), "", {"S.a": 1, "S.b": 2}),
        (S(1, 2), "p", {"p.a": 1, "p.b": 2}),
        (S(Inner(), 2), "", {"S.a.a": 1, "S.b": 2}),
        (S(Notch(1.0), 2), "", {"S.a.hz": 1.0, "S.a.q": None, "S.b": 2}),
        (S({"x": {"y": 1}, 2: [3]}), "", {"S.a.x.y": 1, "S.a.2": [3], "S.b": None}),
        (S([{"x": 1}], (Notch(),)), "", {"S.a": [{"x": 1}], "S.b": (Notch(),)}),
        (S({}, {"x": {}}), "", {}),
        (S(Notch, None), "", {"S.a": Notch, "S.b": None}),
        (TheirSettings(2.0), "", {"TheirSettings.gain": 2.0}),
    ],
)
def test_settings_are_flattened_to(settings: Any, prefix: str, wanted: dict[str, Any]) -> None:
    flat = flatten_ez_settings(settings, prefix)

    assert flat == wanted
    assert list(flat) == list(wanted)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (S(1, "x"), {"SYS.A.S.a": 1, "SYS.A.S.b": "x"}),
        (Notch(1.0), {"SYS.A.hz": 1.0, "SYS.A.q": "None"}),
        ({"a": {"b": 1}, "é x": 2}, {"SYS.A.a.b": 1, "SYS.A.x": 2}),
        (3, {"SYS.A.value": 3}),
        (None, {"SYS.A.value": "None"}),
        ({}, {}),
        (SettingsSnapshotValue(None, "text", {"a": 1}), {"SYS.A.a": 1}),
        (SettingsSnapshotValue(None, {"r": 1}, {}), {}),
        (SettingsSnapshotValue(None, {"r": {"s": 1}}, None), {"SYS.A.r.s": 1}),
        (SettingsSnapshotValue(b"opaque", "Filter(1)"), {"SYS.A.value": "Filter(1)"}),
        (SettingsSnapshotValue(), {"SYS.A.value": ""}),
    ],
)
def test_a_component_has_the_columns(value: Any, wanted: dict[str, Any]) -> None:
    assert flatten_component_settings("SYS/A", value) == wanted


def test_a_name_without_anything_safe_is_its_dot() -> None:
    assert flatten_component_settings("A", {"é": 1}) == {"A.": 1}


def test_a_wrapper_without_text_shows_itself() -> None:
    class Wrapper:
        structured_value = None

        def __str__(self) -> str:
            return "a wrapper"

    assert flatten_component_settings("A", Wrapper()) == {"A.value": "a wrapper"}


# --- names ---


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("SYS/A.S.a", "SYS.A.S.a"),
        ("/_x", "._x"),
        ("é", "."),
        ("_x_", "x"),
        ("", "setting"),
        ("___", "setting"),
        ("2x", "setting_2x"),
        ("a b--c", "a.b.c"),
        ("a..b", "a.b"),
        ("Ω1", ".1"),
    ],
)
def test_a_column_is_named(name: str, wanted: str) -> None:
    assert sanitize_settings_column_name(name) == wanted


# --- cells ---

OBJECTS = np.array([1, "x", None], dtype=object)
CELLS: list[tuple[Any, Any]] = [
    (None, "None"),
    (Mode.FAST, "fast"),
    (Mode.RANGE, np.array([1, 2])),
    (Mode.NESTED, "/data"),
    (pathlib.Path("/a/b"), "/a/b"),
    (np.float32(1.5), 1.5),
    (np.int8(3), 3),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.arange(3), np.arange(3)),
    (OBJECTS, np.array(["1", "x", "None"], dtype="<U21")),
    (True, True),
    (3, 3),
    (1.5, 1.5),
    ("x", "x"),
    (b"x", b"x"),
    (Notch(1.0), '{"hz": 1.0, "q": "None"}'),
    (S(Notch(), 2), '{"a": "{\\"hz\\": 50.0, \\"q\\": \\"None\\"}", "b": 2}'),
    ({"m": {"n": 1}, "arr": np.arange(3)}, '{"m": "{\\"n\\": 1}", "arr": "[0 1 2]"}'),
    ({1: (1, 2)}, '{"1": "[1 2]"}'),
    ({}, "{}"),
    ({"x": float("nan")}, '{"x": NaN}'),
    ({3, 1, 2}, np.array([1, 2, 3])),
    (frozenset({10, 9}), np.array([10, 9])),
    ([[1], [2, 3]], '["[1]", "[2 3]"]'),
    ([1, None], np.array(["1", "None"], dtype="<U21")),
    ([], np.array([], dtype=np.float64)),
    ((), np.array([], dtype=np.float64)),
    ([True, 2], np.array([1, 2])),
    ([1, 2.5], np.array([1.0, 2.5])),
    (["a", "bcd"], np.array(["a", "bcd"])),
    ([b"a", b"bcd"], np.array([b"a", b"bcd"])),
    ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
    ([10**30, 1], "[1000000000000000000000000000000, 1]"),
    ([{"a": 1}, {}], np.array(['{"a": 1}', "{}"])),
    (range(3), np.arange(3)),
    (bytearray(b"x"), "bytearray(b'x')"),
    (1 + 2j, "(1+2j)"),
    (Notch, str(Notch)),
]


@pytest.mark.parametrize(("value", "wanted"), CELLS, ids=lambda each: type(each).__name__)
def test_a_cell_holds(value: Any, wanted: Any) -> None:
    found = sanitize_settings_value(value)

    assert same(found, wanted), repr(found)


def test_an_array_is_not_copied() -> None:
    array = np.arange(3)

    assert sanitize_settings_value(array) is array
