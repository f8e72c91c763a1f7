"""Any schema is read or refused; any value is judged, in bounded steps, as the validator has it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry

from ezgraph.errors import InvalidSchemaError
from ezgraph.state.config_schema import check_schema
from ezgraph.state.config_schema.judge import Judge
from ezgraph.state.config_schema.steps import MAX_STEPS
from ezgraph.testing import strategies as ours

NAMES = st.sampled_from(["a", "b", "ab", "/", "~", "é"])
SMALL = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, -1.0]) | NAMES
VALUES: st.SearchStrategy[Any] = st.recursive(
    SMALL,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
SIZES = st.integers(0, 3)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
PATTERNS = st.sampled_from(["^a", "b$", "[ab]{2}", ""])
REFERENCES = st.sampled_from(["#", "#/$defs/a", "#/$defs/b"])


def words(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return schemas of up to a few words, made of the schemas ``inner``."""
    many = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(NAMES, inner, max_size=3)
    names = st.lists(NAMES, max_size=2, unique=True)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "$ref": REFERENCES,
        "additionalProperties": inner, "allOf": many, "anyOf": many, "const": VALUES,
        "contains": inner, "dependentRequired": st.dictionaries(NAMES, names, max_size=2),
        "dependentSchemas": named, "else": inner, "enum": st.lists(VALUES, max_size=3),
        "exclusiveMaximum": SIZES, "exclusiveMinimum": SIZES, "if": inner, "items": inner,
        "maxContains": SIZES, "maxItems": SIZES, "maxLength": SIZES, "maxProperties": SIZES,
        "maximum": SIZES, "minContains": SIZES, "minItems": SIZES, "minLength": SIZES,
        "minProperties": SIZES, "minimum": SIZES, "multipleOf": st.sampled_from([1, 2, 0.5]),
        "not": inner, "oneOf": many, "pattern": PATTERNS,
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2), "prefixItems": many,
        "properties": named, "propertyNames": inner, "required": names, "then": inner,
        "type": TYPES, "unevaluatedProperties": inner, "uniqueItems": st.booleans(),
    }  # fmt: skip
    return st.lists(st.sampled_from(sorted(kinds)), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({word: kinds[word] for word in chosen})
    )


SCHEMAS = st.recursive(st.booleans() | words(st.booleans()), words, max_leaves=6)
WHOLE = st.builds(
    lambda root, a, b: {**root, "$defs": {"a": a, "b": b}}, words(SCHEMAS), SCHEMAS, SCHEMAS
)


@given(schema=WHOLE, value=VALUES)
@settings(max_examples=200)
def test_the_verdict_is_the_validators_own(schema: dict[str, Any], value: Any) -> None:
    try:
        judge = Judge(schema)
    except InvalidSchemaError:
        assume(False)
        raise

    fits = Draft202012Validator(schema, registry=Registry()).is_valid(value)

    assert (judge.finding(value).message is None) == fits


JUNK_WORDS = st.sampled_from([
    "$ref", "$dynamicRef", "$id", "$schema", "$anchor", "$defs", "anyOf", "allOf", "not", "items",
    "type", "enum", "required", "properties", "patternProperties", "pattern", "dependentRequired",
    "unevaluatedProperties", "uniqueItems", "minimum", "multipleOf", "x",
])  # fmt: skip
JUNK_TEXTS = st.sampled_from(["#", "#/$defs/x", "http://127.0.0.1/x", "(a+)+$", "(", "object", "x"])
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | JUNK_TEXTS | st.binary(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(JUNK_WORDS | JUNK_TEXTS | st.integers(), inner, max_size=4),
    max_leaves=15,
)


@given(schema=JUNK, value=ours.values)
@settings(max_examples=200)
def test_any_schema_is_refused_or_judges_any_value_in_bounded_steps(
    schema: Any, value: Any
) -> None:
    with suppress(InvalidSchemaError):
        check_schema(schema)
        found, again = Judge(schema).finding(value), Judge(schema).finding(value)
        assert found == again
        assert found.steps <= MAX_STEPS
