"""Values of configuration types are judged by JSON Schemas that anybody may have written."""

from __future__ import annotations

import datetime as dt
import enum
import socket
import subprocess
import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from ezgraph.errors import InvalidSchemaError, LimitError, UnsupportedError
from ezgraph.state.config_schema import (
    Violation,
    check_schema,
    judged_together,
    violation,
)
from ezgraph.state.config_schema.document import (
    _FACTS,
    _MANY,
    _NAMED,
    _ONE,
    MAX_DEPTH,
    MAX_NODES,
    MAX_PATTERNS,
    MAX_SCHEMAS,
)
from ezgraph.state.config_schema.judge import Judge
from ezgraph.state.config_schema.steps import MAX_STEPS
from ezgraph.state.config_schema.words import Validator

if TYPE_CHECKING:
    from collections.abc import Callable

VARIANT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "topics": {"type": "object", "additionalProperties": {"type": "string"}},
        "parameters": {
            "type": "object",
            "properties": {"gain": {"type": "number", "minimum": 0}, "mode": {"enum": ["a", "b"]}},
            "required": ["gain"],
        },
    },
    "required": ["topics"],
}


def message_of(schema: dict[str, Any], value: object) -> str:
    found = violation(schema, value)
    return str(found) if found else ""


# --- what is wrong, and where ---


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({}, "", "'topics' is a required property"),
        ({"topics": {"in": 5}}, "/topics/in", "5 is not of type 'string'"),
        ({"topics": {}, "parameters": {"gain": -1}}, "/parameters/gain", "-1 is less than the"),
        (
            {"topics": {}, "parameters": {"gain": 1, "mode": "c"}},
            "/parameters/mode",
            "'c' is not one of ['a', 'b']",
        ),
    ],
)
def test_a_violation_says_what_is_wrong_and_where(value: Any, path: str, message: str) -> None:
    found = violation(VARIANT, value)

    assert found is not None
    assert found.path == path
    assert found.message.startswith(message)


def test_a_value_that_fits_is_no_violation() -> None:
    assert violation(VARIANT, {"topics": {"in": "x"}, "parameters": {"gain": 2}}) is None


def test_a_path_is_a_json_pointer() -> None:
    found = violation({"properties": {"a/b~c": {"items": {"type": "null"}}}}, {"a/b~c": [None, 1]})

    assert found == Violation("/a~1b~0c/1", "1 is not of type 'null'")


def test_of_alternatives_the_one_that_came_furthest_is_told() -> None:
    schema = {"anyOf": [{"type": "null"}, {"properties": {"gain": {"type": "number"}}}]}

    assert message_of(schema, {"gain": "loud"}) == "at /gain: 'loud' is not of type 'number'"


def test_a_message_is_one_short_line_however_large_the_value() -> None:
    value = {"x\n" * 1000: ["y" * 10_000] * 100, "b": 10**3000}
    schema = {"anyOf": [{"const": ["z" * 10_000] * 20}, {"enum": ["z" * 10_000] * 5}]}

    message = message_of(schema, value)

    assert message
    assert len(message) <= 300
    assert "\n" not in message


# --- values that JSON does not have ---


class Mode(enum.Enum):
    FAST = "fast"


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ((1, 2), {"type": "array", "items": {"type": "integer"}, "minItems": 2}),
        ({3, 1, 2}, {"const": [1, 2, 3]}),
        (np.arange(3), {"const": [0, 1, 2]}),
        (np.float32(0.5), {"const": 0.5}),
        (b"abc", {"const": "YWJj"}),
        (dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC), {"type": "string", "format": "date-time"}),
        (dt.date(2026, 5, 1), {"type": "string", "format": "date"}),
        (dt.time(12, 30), {"type": "string", "format": "time"}),
        (dt.timedelta(seconds=2), {"const": 2}),
        (Mode.FAST, {"enum": ["fast"]}),
        (UUID(int=1), {"type": "string", "format": "uuid"}),
        (PurePosixPath("/a"), {"const": "/a"}),
        ({1: "a"}, {"required": ["1"]}),
        (1 + 2j, {"const": {"real": 1, "imag": 2}}),
    ],
)
def test_a_value_is_judged_in_its_plain_json_form(value: Any, schema: dict[str, Any]) -> None:
    assert violation(schema, value) is None
    assert violation({"not": schema}, value) is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_no_number(value: float) -> None:
    assert message_of({"type": "number", "minimum": 0}, value).endswith("not of type 'number'")


def test_true_is_not_one_and_one_is_one_point_zero() -> None:
    assert violation({"const": 1}, 1.0) is None
    assert violation({"enum": [1]}, True) is not None
    assert violation({"uniqueItems": True}, [1, True, "1"]) is None
    assert violation({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]) is not None


def test_multiples_are_those_of_the_decimals_as_written() -> None:
    assert violation({"multipleOf": 0.1}, 0.3) is None
    assert violation({"multipleOf": 0.1}, 0.35) is not None
    assert violation({"multipleOf": 0.5}, 10**3000) is None


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("date-time", "2026-05-01T12:00:00Z", "2026-05-01"),
        ("date", "2026-05-01", "2026-13-01"),
        ("time", "12:30:00", "25:00"),
        ("ipv4", "127.0.0.1", "127.0.0.256"),
        ("ipv6", "::1", ":::1"),
        ("uuid", "00000000-0000-0000-0000-000000000001", "1" * 2000),
    ],
)
def test_formats_are_judged_the_same_whatever_else_is_installed(
    form: str, good: str, bad: str
) -> None:
    assert violation({"format": form}, good) is None
    assert violation({"format": form}, bad) is not None
    assert violation({"format": f"x-{form}"}, bad) is None


def test_unevaluated_is_what_no_schema_that_holds_has_judged() -> None:
    schema = {
        "$defs": {"base": {"properties": {"id": {"type": "string"}}}},
        "allOf": [{"$ref": "#/$defs/base"}],
        "anyOf": [{"properties": {"a": {"type": "string"}}}, {"patternProperties": {"^b": True}}],
        "if": {"required": ["c"]},
        "then": {"properties": {"c": True}},
        "else": {"properties": {"d": True}},
        "dependentSchemas": {"id": {"properties": {"e": True}}},
        "unevaluatedProperties": False,
    }

    assert violation(schema, {"id": "x", "a": "y", "b1": 1, "c": 1, "e": 1}) is None
    assert "'a' may not be there" in message_of(schema, {"id": "x", "a": 5})
    assert "'d' may not be there" in message_of(schema, {"c": 1, "d": 1})
    assert "'e' may not be there" in message_of(schema, {"e": 1})
    items = {
        "prefixItems": [True],
        "contains": {"type": "null"},
        "unevaluatedItems": {"type": "integer"},
    }
    assert violation(items, ["x", None, 2]) is None
    assert message_of(items, ["x", None, "y"]).startswith("at /2: ")


# --- schemas that cannot be used ---


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        (5, "a schema is a mapping"),
        ({"type": "nope"}, "at '/type' 'nope'"),
        ({"properties": {"x": {"minimum": "3"}}}, "at '/properties/x/minimum' '3' is not of type"),
        ({"items": [{}]}, "at '/items'"),
        ({"properties": {"x": 5}}, "at '/properties/x'"),
        ({"allOf": []}, "at '/allOf'"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "at '/$schema'"),
        ({"$schema": 7}, "at '/$schema'"),
        ({"not": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "at '/not/$schema'"),
        ({"not": {"$id": "http://127.0.0.1/other"}}, "at '/not/$id'"),
        ({"$dynamicRef": "#x"}, "use $ref"),
        ({"$ref": "#/$defs/gone"}, "refers to no schema in this document"),
        ({"$ref": "#/const", "const": {"type": "string"}}, "refers to no schema"),
        ({"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}, "the anchor 'x' is there"),
        ({"$ref": "#"}, "refers to itself"),
        ({"$defs": {"a": {"not": {"$ref": "#"}}}, "anyOf": [{"$ref": "#/$defs/a"}]}, "refers to"),
        ({"pattern": "(?=a)b"}, "at '/pattern' the pattern '(?=a)b'"),
        ({"patternProperties": {r"(a)\1": {}}}, "no back references"),
        ({"pattern": "(((a{100}){100}){100}){100}"}, "the pattern"),
        ({"pattern": "a" * 1001}, "at most 1000"),
        ({"enum": [float("nan")]}, "nan is no JSON number"),
        ({"const": b"x"}, "a bytes is no JSON value"),
        ({"properties": {5: {}}}, "the name 5 is no text"),
        ({"required": ["a", 1]}, "a list of texts"),
        ({"type": ["null"] * 8}, "there are 7 types"),
        ({"dependentRequired": {"a": [{}]}}, "at '/dependentRequired/a/required'"),
        ({"enum": list(range(MAX_NODES))}, "too large"),
        ({"title": "x" * 300_000}, "too large"),
        ({"anyOf": [{}] * MAX_SCHEMAS}, f"more than {MAX_SCHEMAS:,} schemas"),
        ({"patternProperties": {f"a{i}": True for i in range(MAX_PATTERNS + 1)}}, "patterns"),
        ({"patternProperties": {rf"\pL{i}\pN": True for i in range(99)}}, "instructions"),
        (nested(MAX_DEPTH), "nested deeper"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_and_says_where(schema: Any, what: str) -> None:
    with pytest.raises(InvalidSchemaError) as caught:
        check_schema(schema)

    assert what in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "schema",
    [
        {},
        VARIANT,
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "http://lab/flows"},
        {"$anchor": "x", "properties": {"a": {"$ref": "#x"}}},
        {"$defs": {"a/b c": True}, "$ref": "#/$defs/a~1b%20c"},
        {"title": "t", "default": 1, "examples": [1], "x-ours": {"$ref": "http://127.0.0.1/"}},
        {"enum": ({"$ref": "http://127.0.0.1/"},)},
        nested(MAX_DEPTH - 1),
    ],
)
def test_a_schema_that_can_be_used_passes(schema: Any) -> None:
    check_schema(schema)


def test_no_reference_is_ever_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        for word in ("$ref", "$schema", "$dynamicRef"):
            for wrap in (dict, lambda inner: {"properties": {"a": inner}}):
                schema = wrap({word: f"http://127.0.0.1:{port}/schema.json"})
                with pytest.raises(InvalidSchemaError):
                    check_schema(schema)

        with pytest.raises(BlockingIOError):
            server.accept()


# --- bounded work: steps, not seconds ---


def doubled(levels: int) -> dict[str, Any]:
    """Two to the power of ``levels`` ways to the last definition."""
    definitions: dict[str, Any] = {"a0": {"type": "object"}}
    for level in range(1, levels + 1):
        below = {"$ref": f"#/$defs/a{level - 1}"}
        definitions[f"a{level}"] = {"allOf": [below, below]}
    return {"$defs": definitions, "$ref": f"#/$defs/a{levels}"}


def doubled_unevaluated(levels: int) -> dict[str, Any]:
    return {**doubled(levels), "unevaluatedProperties": False}


DEEP: dict[str, Any] = {}
for _ in range(60):
    DEEP = {"a": DEEP}

TREE = {"$defs": {"t": {"allOf": [{"properties": {"a": {"$ref": "#/$defs/t"}}}] * 2}}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubled(40), {}),
        (doubled_unevaluated(40), {}),
        ({**TREE, "$ref": "#/$defs/t"}, DEEP),
        ({"items": {"anyOf": [*[{"minimum": 1}] * 400, True]}}, [0] * 1000),
        ({"items": {"oneOf": [*[False] * 900, True]}}, [0] * 1000),
        ({"items": {"items": {}}}, [[0] * 300] * 300),
        ({"items": {"enum": [list(range(5000))]}}, [list(range(5000))] * 100),
        ({"uniqueItems": True}, [[[0] * 100] * 100] * 100),
        ({"uniqueItems": True}, [index * (2**61 - 1) for index in range(90_000)]),
        ({"pattern": "(a|b)*a(a|b){400}c"}, "ab" * 100_000),
        ({"patternProperties": {"(a|b)*a(a|b){400}c": {}}}, {"ab" * 20_000: 1}),
        ({"propertyNames": {"pattern": "(a|b)*a(a|b){400}c"}}, {"ab" * 20_000: 1}),
        ({"items": {"contains": {"minimum": 1}, "minContains": 0}}, [[0] * 200] * 200),
        ({}, np.zeros(1_000_000)),
        ({}, [0] * 1_000_000),
    ],
)
def test_what_would_take_too_long_is_a_violation_after_bounded_steps(
    schema: dict[str, Any], value: Any
) -> None:
    found = Judge(schema).finding(value)

    assert found.message is not None
    assert "too much to judge" in found.message
    assert found.path == ""


def test_a_pattern_that_backtracks_takes_no_more_than_its_text() -> None:
    judge = Judge({"pattern": "(a+)+$", "additionalProperties": False})

    short, long = judge.finding("a" * 1_000 + "b"), judge.finding("a" * 100_000 + "b")

    assert short.message is not None
    assert long.message is not None
    assert long.steps <= 101 * short.steps


def test_steps_grow_with_the_value_and_are_the_same_again() -> None:
    judge = Judge({"items": {"type": "integer"}})

    once, again, more = (judge.finding(list(range(size))).steps for size in (1000, 1000, 5000))

    assert once == again
    assert once < more < 6 * once < MAX_STEPS


def test_a_value_nested_as_deep_as_the_bus_carries_is_judged() -> None:
    assert violation({"properties": {"a": {"properties": {"a": {"type": "object"}}}}}, DEEP) is None


def test_the_answer_is_the_same_however_deep_the_caller_stands() -> None:
    judge = Judge({"anyOf": [{"type": "null"}, {"items": {"$ref": "#"}}]})
    value: list[Any] = []
    for _ in range(90):
        value = [value]

        assert deep(300, lambda: judge.finding(value)) == judge.finding(value)  # noqa: B023


def deep(frames: int, call: Callable[[], Any]) -> Any:
    return deep(frames - 1, call) if frames else call()


def test_one_judgement_does_not_spend_the_steps_of_another() -> None:
    schema = {"items": {"type": "integer"}}

    results = [violation(schema, list(range(10_000))) for _ in range(10)]

    assert results == [None] * 10


def test_what_one_command_has_judged_shares_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ezgraph.state.config_schema.MAX_STEPS_TOGETHER", 3 * MAX_STEPS)
    schema, value = {"items": {"type": "integer"}}, list(range(10_000))
    cost = Judge(schema).finding(value).steps
    many = 3 * MAX_STEPS // cost

    with judged_together():
        assert [violation(schema, value) for _ in range(many)] == [None] * many
        with pytest.raises(LimitError, match="share them between several changes"):
            violation(schema, value)
    with judged_together():
        assert violation(schema, value) is None
        assert violation(schema, "x" * 10) is None
        too_much = violation(doubled(40), {})
    assert too_much is not None  # by itself, however much is left for others


def test_a_schema_is_read_once_as_long_as_it_is_the_same_object() -> None:
    schema: dict[str, Any] = {"type": "string"}
    other: dict[str, Any] = {"type": "null"}

    assert violation(schema, "a") is None
    assert violation(other, "a") is not None
    schema["type"] = "null"
    assert violation(schema, "a") is None  # a schema given must not be changed
    assert violation(dict(schema), "a") is not None


def test_every_word_of_the_standard_is_judged_but_dynamic_references() -> None:
    words = Draft202012Validator.VALIDATORS.keys() - {"$dynamicRef"}

    assert words == Validator.VALIDATORS.keys()
    assert words - {"$ref"} <= _ONE | _MANY | _NAMED | _FACTS


# --- without the extra ---


@pytest.mark.parametrize("missing", ["jsonschema", "re2", "referencing"])
def test_without_the_validator_the_error_names_the_extra(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("ezgraph.state.config_schema.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)

    for ask in (check_schema, lambda schema: violation(dict(schema), {})):
        with pytest.raises(UnsupportedError, match=r"pip install 'ezgraph\[jsonschema\]'"):
            ask(VARIANT)


def test_the_validator_is_loaded_when_it_is_needed_and_not_before() -> None:
    code = (
        "import sys, ezgraph, ezgraph.state.config_schema as judge\n"
        "assert not {'jsonschema', 're2'} & sys.modules.keys()\n"
        "judge.check_schema({})\n"
        "assert 'jsonschema' in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
