"""Every schema and value get an answer; what is made here agrees with what pydantic makes."""

from contextlib import suppress
from dataclasses import field, make_dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ezgraph.errors import SettingsRefusedError
from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.settings import Setting, settings_schema
from ezgraph.settings.schema import DIALECT
from ezgraph.state.schema_check import check_change
from ezgraph.testing import strategies as ours

WORDS = [
    "$ref", "anyOf", "oneOf", "allOf", "type", "format", "enum", "const", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems",
    "items", "prefixItems", "properties", "additionalProperties", "required", "readOnly", "x", "a",
]  # fmt: skip
NAMES = [
    "integer", "number", "string", "boolean", "null", "array", "object", "path", "uuid", "ndarray",
    "#/$defs/x", "#/$defs/a", "x", "a",
]  # fmt: skip

nodes = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=15,
)
paths = st.lists(st.sampled_from(["x", "a", "b", ""]), min_size=1, max_size=4).map(".".join)


@given(nodes, nodes, ours.values, paths)
@settings(max_examples=400)
def test_any_schema_judges_any_value(node: Any, other: Any, value: Any, path: str) -> None:
    whole = {"properties": {"x": node}, "$defs": {"x": node, "a": other}}
    field_of = SettingsFieldMetadata("x", "float", bounds=(0, None), choices=[1, "a"])

    for json_schema in (whole, node if isinstance(node, dict) else None):
        with suppress(SettingsRefusedError):
            check_change(SettingsSchemaMetadata("?", "?", [field_of], json_schema), {path: value})


simple = st.sampled_from([int, float, str, bool, None, Literal["a", "b"], Literal[1]])
hints: st.SearchStrategy[Any] = st.recursive(
    simple,
    lambda inner: inner.map(lambda each: list.__class_getitem__(each))
    | inner.map(lambda each: dict.__class_getitem__((str, each)))
    | st.tuples(inner, inner).map(lambda pair: tuple.__class_getitem__(pair))
    | st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1] if pair[0] else None),
    max_leaves=4,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.sampled_from(["a", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)


def verdict(schema: SettingsSchemaMetadata, value: Any) -> type[Exception] | None:
    try:
        check_change(schema, {"x": value})
    except SettingsRefusedError as refused:
        return type(refused)
    return None


@given(hints, st.lists(json_values, min_size=5, max_size=5))
@settings(max_examples=150)
def test_a_dataclass_takes_what_pydantic_says_it_takes(hint: Any, values: list[Any]) -> None:
    pydantic = pytest.importorskip("pydantic")
    kind = make_dataclass("Kind", [("x", hint)])
    made_here = settings_schema(kind)
    theirs = {"$schema": DIALECT, **pydantic.TypeAdapter(kind).json_schema()}
    made_there = SettingsSchemaMetadata("pydantic", "Kind", made_here.fields, theirs)

    for value in values:
        assert verdict(made_here, value) is verdict(made_there, value)


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-7, 7) | st.floats(-7, 7))
def test_bounds_are_bounds(low: int, high: int, value: float) -> None:
    marked: Any = Annotated[float, Setting(bounds=(low, high))]
    schema = settings_schema(make_dataclass("Kind", [("x", marked, field(default=0.0))]))

    assert (verdict(schema, value) is None) == (low <= value <= high)
