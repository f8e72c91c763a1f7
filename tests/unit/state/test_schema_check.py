"""What fits a schema and what does not, and that every question gets an answer in time."""

from __future__ import annotations

import datetime as dt
import enum
import math
import pathlib
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from ezgraph.errors import (
    NotAChoiceError,
    OutOfBoundsError,
    ReadOnlyFieldError,
    SchemaVersionError,
    SettingsRefusedError,
    UnknownFieldError,
    WrongTypeError,
)
from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.protocol.settings import EnumValue
from ezgraph.state.schema_check import MAX_STEPS, check_change

Field = SettingsFieldMetadata


def schema(*fields: Field, **json_schema: Any) -> SettingsSchemaMetadata:
    return SettingsSchemaMetadata("dataclass", "rig.Filter", list(fields), json_schema or None)


def of(node: Any, **definitions: Any) -> SettingsSchemaMetadata:
    """A schema of one field ``x`` with this node."""
    whole = {"properties": {"x": node}, "$defs": definitions}
    return SettingsSchemaMetadata("dataclass", "rig.Filter", [Field("x", "?")], whole)


class Mode(enum.Enum):
    FAST = "fast"


NOTCH = {
    "type": "object",
    "properties": {
        "hz": {"type": "number", "minimum": 0},
        "id": {"type": "integer", "readOnly": True},
        "inner": {"anyOf": [{"$ref": "#/$defs/Notch"}, {"type": "null"}]},
    },
    "required": ["hz"],
    "additionalProperties": False,
}

FITS: list[tuple[Any, Any]] = [
    ({}, object()),
    (True, 1),
    ({"type": "integer"}, 3),
    ({"type": "integer"}, np.int16(3)),
    ({"type": "integer"}, EnumValue("m", "Level", "HIGH", 3)),
    ({"type": "number"}, 3),
    ({"type": "number"}, 3.5),
    ({"type": "number"}, math.nan),
    ({"type": "number"}, np.float32(3.5)),
    ({"type": "boolean"}, True),
    ({"type": "boolean"}, np.bool_(True)),
    ({"type": "string"}, "x"),
    ({"type": "null"}, None),
    ({"type": ["integer", "null"]}, None),
    ({"type": "string", "format": "binary"}, b"x"),
    ({"type": "string", "contentEncoding": "base64"}, b"x"),
    ({"type": "string", "format": "path"}, pathlib.PurePosixPath("/a")),
    ({"type": "string", "format": "path"}, "/a"),
    ({"type": "string", "format": "date-time"}, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    ({"type": "string", "format": "date"}, dt.date(2024, 1, 1)),
    ({"type": "string", "format": "time"}, dt.time(1)),
    ({"type": "string", "format": "duration"}, dt.timedelta(1)),
    ({"type": "string", "format": "uuid"}, UUID(int=1)),
    ({"type": "string", "format": "complex"}, 1 + 2j),
    ({"type": "string", "format": "complex"}, 1.5),
    ({"type": "array"}, [1, "x"]),
    ({"type": "array"}, (1,)),
    ({"type": "array"}, {1}),
    ({"type": "array", "format": "ndarray"}, np.zeros((2, 2))),
    ({"type": "array", "items": {"type": "number"}}, np.arange(3)),
    ({"type": "array", "items": {"type": "number"}}, [1, 2.5]),
    ({"type": "array", "items": {"type": "number", "maximum": 2}}, np.arange(3)),
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}, (1, "x")),
    ({"type": "array", "minItems": 2, "maxItems": 2}, [1, 2]),
    ({"type": "object"}, {"any": {"thing": 1}}),
    ({"type": "object", "additionalProperties": {"type": "number"}}, {1: 2.0, "x": 3}),
    ({"$ref": "#/$defs/Notch"}, {"hz": 1, "inner": {"hz": 2, "inner": None}}),
    ({"enum": ["fast", "slow"]}, "fast"),
    ({"enum": ["fast", "slow"]}, Mode.FAST),
    ({"enum": [[1, 2], None]}, (1, 2)),
    ({"enum": ["eA=="]}, b"x"),
    ({"enum": ["/a"]}, pathlib.PurePosixPath("/a")),
    ({"const": 1}, 1),
    ({"minimum": 0, "maximum": 1}, 0),
    ({"minimum": 0, "maximum": 1}, 1),
    ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
    ({"minimum": 0}, "no number"),
    ({"minLength": 1, "maxLength": 2}, "xy"),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, None),
    ({"oneOf": [{"type": "integer"}, {"type": "null"}]}, 1),
    ({"allOf": [{"minimum": 0}, {"maximum": 2}]}, 1),
    ({"type": "newer than we"}, 1),
]

MISFITS: list[tuple[Any, Any, type[SettingsRefusedError], str]] = [
    ({"type": "integer"}, 3.0, WrongTypeError, "x = 3.0 is of type float; it takes an integer"),
    ({"type": "integer"}, True, WrongTypeError, "it takes an integer"),
    ({"type": "integer"}, "3", WrongTypeError, "x = '3' is of type str; it takes an integer"),
    ({"type": "number"}, None, WrongTypeError, "it takes a number"),
    ({"type": "number"}, False, WrongTypeError, "it takes a number"),
    ({"type": "number"}, np.arange(3), WrongTypeError, "is of type ndarray; it takes a number"),
    ({"type": "boolean"}, 1, WrongTypeError, "it takes true or false"),
    ({"type": "string"}, b"x", WrongTypeError, "it takes text"),
    ({"type": "string"}, 1j, WrongTypeError, "it takes text"),
    ({"type": "string", "format": "complex"}, "1j", WrongTypeError, "it takes a complex number"),
    ({"type": "string", "format": "uuid"}, 1, WrongTypeError, "it takes a UUID"),
    ({"type": "null"}, 0, WrongTypeError, "it takes None"),
    ({"type": ["integer", "null"]}, "x", WrongTypeError, "it takes integer or null"),
    ({"type": "array"}, "text", WrongTypeError, "it takes a list"),
    ({"type": "array", "items": {"type": "number"}}, [1, "x"], WrongTypeError, "x[1] = 'x' is"),
    ({"type": "array", "items": {"type": "integer"}}, np.zeros(2), WrongTypeError, "an array of"),
    ({"type": "array", "prefixItems": [{}, {"type": "string"}]}, (1, 2), WrongTypeError, "x[1] ="),
    ({"type": "object"}, [], WrongTypeError, "it takes a mapping of fields"),
    ({"$ref": "#/$defs/Notch"}, {"hz": "x"}, WrongTypeError, "x.hz = 'x' is"),
    ({"$ref": "#/$defs/Notch"}, {}, WrongTypeError, "x = {} lacks 'hz'"),
    ({"$ref": "#/$defs/Notch"}, {"hz": 1, "q": 2}, UnknownFieldError, "has no field 'x.q'; it has"),
    ({"$ref": "#/$defs/Notch"}, {"hz": -1}, OutOfBoundsError, "x.hz = -1 is out of bounds"),
    ({"enum": ["fast", "slow"]}, "s", NotAChoiceError, "x = 's' is none of 'fast', 'slow'"),
    ({"enum": [1]}, True, NotAChoiceError, "none of 1"),
    ({"enum": [True]}, 1, NotAChoiceError, "none of True"),
    ({"enum": [0]}, np.zeros(2), NotAChoiceError, "none of 0"),
    ({"const": "x"}, "y", NotAChoiceError, "none of 'x'"),
    ({"minimum": 0}, -1, OutOfBoundsError, "x = -1 is out of bounds; it takes at least 0"),
    ({"maximum": 1}, 2, OutOfBoundsError, "at most 1"),
    ({"exclusiveMinimum": 0}, 0, OutOfBoundsError, "above 0"),
    ({"minimum": 0, "exclusiveMaximum": 1}, 1.0, OutOfBoundsError, "at least 0 and below 1"),
    ({"minimum": 0}, math.nan, OutOfBoundsError, "x = nan is out of bounds"),
    ({"maximum": 0}, math.inf, OutOfBoundsError, "x = inf is out of bounds"),
    ({"items": {"maximum": 1}}, np.arange(3), OutOfBoundsError, "at most 1"),
    ({"items": {"maximum": 1}}, np.array([0, np.nan]), OutOfBoundsError, "at most 1"),
    ({"minLength": 2}, "x", OutOfBoundsError, "x = 'x' has 1 items; it takes 2 to any number"),
    ({"minItems": 2, "maxItems": 2}, [1], OutOfBoundsError, "has 1 items; it takes 2"),
    (
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "x",
        WrongTypeError,
        "x = 'x' is of type str; it takes an integer or None",
    ),
    (
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        0,
        OutOfBoundsError,
        "at least 1",
    ),
    ({"allOf": [{"minimum": 0}, {"maximum": 2}]}, 3, OutOfBoundsError, "at most 2"),
]


@pytest.mark.parametrize(("node", "value"), FITS)
def test_a_value_that_fits_is_let_through(node: Any, value: Any) -> None:
    check_change(of(node, Notch=NOTCH), {"x": value})


@pytest.mark.parametrize(("node", "value", "kind", "says"), MISFITS)
def test_a_value_that_does_not_fit_is_refused(
    node: Any, value: Any, kind: type[SettingsRefusedError], says: str
) -> None:
    with pytest.raises(SettingsRefusedError) as refused:
        check_change(of(node, Notch=NOTCH), {"x": value})

    assert type(refused.value) is kind
    assert says in str(refused.value)


# --- places ---

NESTED = of({"$ref": "#/$defs/Notch"}, Notch=NOTCH)


@pytest.mark.parametrize("path", ["x.hz", "x.inner.hz", "x.inner.inner.inner.hz"])
def test_a_field_within_a_field_is_judged_by_its_own_node(path: str) -> None:
    check_change(NESTED, {path: 1.0})
    with pytest.raises(OutOfBoundsError, match=f"{path} = -1 is out of bounds"):
        check_change(NESTED, {path: -1})


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("y", "settings of type rig.Filter has no field 'y'; it has 'x'"),
        ("", "has no field ''"),
        ("x.q", "has no field 'x.q'; it has 'hz', 'id', 'inner'"),
        ("x.hz.deeper", "has no field 'x.hz.deeper'; it has no fields"),
        ("x.inner.q", "it has 'hz', 'id', 'inner'"),
        (1, "has no field 1"),
    ],
)
def test_a_place_that_is_none_is_an_unknown_field(path: Any, says: str) -> None:
    with pytest.raises(UnknownFieldError) as refused:
        check_change(NESTED, {path: 1})

    assert says in str(refused.value)


def test_a_mapping_without_named_fields_has_any() -> None:
    check_change(of({"type": "object"}), {"x.any.thing": object()})
    check_change(of({}), {"x.any.thing": object()})
    check_change(of({"type": "object", "additionalProperties": {"type": "number"}}), {"x.a": 1})
    with pytest.raises(WrongTypeError):
        check_change(of({"additionalProperties": {"type": "number"}}), {"x.a": "x"})
    with pytest.raises(UnknownFieldError, match="it has no fields"):
        check_change(of({"type": "object", "additionalProperties": False}), {"x.a": 1})


@pytest.mark.parametrize("path", ["x.id", "x.inner.id"])
def test_a_read_only_field_is_not_changed(path: str) -> None:
    with pytest.raises(ReadOnlyFieldError, match=f"{path} is read-only"):
        check_change(NESTED, {path: 1})
    with pytest.raises(ReadOnlyFieldError):
        check_change(of({"type": "object", "readOnly": True}), {"x.a": 1})
    with pytest.raises(ReadOnlyFieldError):
        check_change(schema(Field("x", "int", read_only=True)), {"x": 1})


# --- by the list of fields alone ---


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        (Field("x", "int"), 1.5, WrongTypeError),
        (Field("x", "builtins.int"), 1.5, WrongTypeError),
        (Field("x", "int | None"), "x", WrongTypeError),
        (Field("x", "float", bounds=(0, 1)), 2.0, OutOfBoundsError),
        (Field("x", "float", bounds=(None, 1)), 2.0, OutOfBoundsError),
        (Field("x", "rig.Array", bounds=(0, 1)), np.arange(3), OutOfBoundsError),
        (Field("x", "str", choices=["a", "b"]), "c", NotAChoiceError),
    ],
)
def test_without_json_schema_the_list_of_fields_judges(
    field: Field, value: Any, kind: type[SettingsRefusedError]
) -> None:
    with pytest.raises(SettingsRefusedError) as refused:
        check_change(schema(field), {"x": value})

    assert type(refused.value) is kind


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Field("x", "int | None"), None),
        (Field("x", "PrintMode"), "anything"),
        (Field("x", "int | PrintMode"), "anything"),
        (Field("x", "float", bounds=(0, 1)), 1),
        (Field("x", "str", choices=["a"]), EnumValue("m", "E", "A", "a")),
        (Field("x", "str | None", choices=["a"]), None),
    ],
)
def test_what_the_list_of_fields_does_not_forbid_is_left_to_the_owner(
    field: Field, value: Any
) -> None:
    check_change(schema(field), {"x": value})


def test_the_list_of_fields_judges_beside_json_schema() -> None:
    both = replace(of({"type": "number"}), fields=[Field("x", "float", bounds=(0, 1))])

    with pytest.raises(OutOfBoundsError):
        check_change(both, {"x": 2})


# --- several at once ---


def test_several_refusals_for_one_reason_are_told_together() -> None:
    both = schema(Field("x", "int"), Field("y", "int"))

    with pytest.raises(WrongTypeError, match=r"x = 'a' is .*; y = 'b' is "):
        check_change(both, {"x": "a", "y": "b"})


def test_several_refusals_for_several_reasons_are_told_together() -> None:
    both = schema(Field("x", "int"), Field("y", "int"))

    with pytest.raises(SettingsRefusedError) as refused:
        check_change(both, {"x": "a", "z": 1})

    assert type(refused.value) is SettingsRefusedError
    assert "x = 'a'" in str(refused.value)
    assert "no field 'z'" in str(refused.value)


def test_of_many_refusals_some_are_told() -> None:
    with pytest.raises(UnknownFieldError, match="and 80 more") as refused:
        check_change(schema(Field("x", "int")), {str(number): 1 for number in range(100)})

    assert len(str(refused.value)) < 5_000


def test_a_newer_schema_is_not_guessed_at() -> None:
    with pytest.raises(SchemaVersionError, match="has version 99"):
        check_change(replace(of({}), version=99), {"x": 1})


# --- schemas that mean harm ---

LOOP = {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}
BOMB: dict[str, Any] = {
    f"L{level}": {"anyOf": [{"$ref": f"#/$defs/L{level + 1}"}] * 2} for level in range(60)
}
BOMB["L60"] = {"type": "null"}
NONSENSE: list[Any] = [
    None,
    [],
    "x",
    {"$ref": 3},
    {"$ref": "#/$defs/nowhere"},
    {"$ref": "http://example.org/x"},
    {"$ref": "#/$defs/A"},
    {"anyOf": "x", "oneOf": 3, "allOf": None},
    {"anyOf": [], "allOf": [None, 3]},
    {"type": 3, "enum": "x", "minimum": "low", "maxLength": None, "items": 3},
    {"type": [{}, None]},
    {"properties": [], "additionalProperties": 3, "required": "all"},
    {"required": [3, None, []]},
    {"prefixItems": [3, None], "items": []},
]


@pytest.mark.parametrize("node", NONSENSE, ids=repr)
@pytest.mark.parametrize("value", [1, "x", [1], {"a": 1}, {3: 4}, None, np.zeros(2), object()])
def test_nonsense_in_a_schema_is_no_reason_to_fall_over(node: Any, value: Any) -> None:
    for whole in (of(node, **LOOP), replace(of({}), json_schema={"properties": node})):
        for path in ("x", "x.a.b"):
            with suppress(SettingsRefusedError):
                check_change(whole, {path: value})


LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    ("harm", "changes"),
    [
        (of({"$ref": "#/$defs/L0"}, **BOMB), {"x": 1}),
        (of({"$ref": "#/$defs/L0"}, **BOMB), {"x.y": 1}),
        (of({"enum": [LONG + "y"] * 1_000_000}), {"x": LONG}),
        (of({"items": {"minimum": 0}}), {"x": [1] * 1_000_000}),
        (of({"type": "object"}), {"x" + ".y" * 1_000_000: 1}),
        (of({"required": ["x"] * 1_000_000}), {"x": {}}),
        (of({}), {f"x.{number}": 1 for number in range(100_000)}),
    ],
    ids=["options", "a place", "choices", "items", "depth", "required", "fields"],
)
def test_a_check_ends_in_time(harm: SettingsSchemaMetadata, changes: dict[str, Any]) -> None:
    started = time.process_time()
    with pytest.raises(SettingsRefusedError, match=f"takes more than {MAX_STEPS} steps") as refused:
        check_change(harm, changes)

    assert time.process_time() - started < 2
    assert len(str(refused.value)) < 1_000


def test_long_lists_of_plain_values_cost_little() -> None:
    check_change(of({"type": "array", "items": {"type": "number"}}), {"x": [1.0] * 1_000_000})


def test_what_is_long_is_cut_in_the_message() -> None:
    with pytest.raises(UnknownFieldError) as refused:
        check_change(of({}), {LONG: 1})
    assert len(str(refused.value)) < 1_000
    with pytest.raises(WrongTypeError) as refused_type:
        check_change(of({"type": "integer"}), {"x": LONG})
    assert len(str(refused_type.value)) < 1_000
