"""JSON and YAML from anybody: read as they mean, or refused with the place."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph.cli.configuration.document import MAX_BYTES, MAX_NODES, parse_document
from ezgraph.errors import ConfigError, MissingExtraError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: on\nb: no\nc: 2026-05-01\nd: 12:30:45\ne: 1_000\nf: =", {
            "a": "on", "b": "no", "c": "2026-05-01", "d": "12:30:45", "e": "1_000", "f": "="
        }),
        ("[10, 010, 0x1F, 0o17, -3, +4]", [10, 10, 31, 15, -3, 4]),
        ("[1.5, 1e3, .5, -.inf, 1.5.3]", [1.5, 1000.0, 0.5, -math.inf, "1.5.3"]),
        ("a: null\nb: ~\nc:\nd: true\ne: False", {
            "a": None, "b": None, "c": None, "d": True, "e": False
        }),
        ("active-flow:\n  chunker:default:\n    gain: 2", {
            "active-flow": {"chunker:default": {"gain": 2}}
        }),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x", {
            "a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}, "c": {"p": 1, "q": 2}
        }),
        ("a: !!binary YWJj", {"a": b"abc"}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)  # fmt: skip
def test_plain_yaml_means_what_it_would_in_json(text: str, value: Any) -> None:
    assert parse_document(text.encode(), "flows.yaml") == value


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
))  # fmt: skip
def test_what_json_writes_is_read_as_it_was(value: Any) -> None:
    import json

    assert parse_document(json.dumps(value).encode(), "flows.json") == value


@pytest.mark.parametrize(("where", "text", "value"), [
    ("-", '{"a": 1}', {"a": 1}),
    ("flows", "  [1]", [1]),
    ("flows", "a: 1", {"a": 1}),
    ("FLOWS.YML", "{a: 1}", {"a": 1}),
])  # fmt: skip
def test_the_form_follows_from_the_name_else_from_the_first_character(
    where: str, text: str, value: Any
) -> None:
    assert parse_document(text.encode(), where) == value


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("where", "text", "what"),
    [
        ("f.json", '{"a": 1, "b": 2, "a": 3}', "the name 'a' is there 2 times"),
        ("f.json", '{"x": {"a": 1, "a": 3}}', "the name 'a' is there 2 times"),
        ("f.json", '{"a":\n 1,}', "f.json is no JSON: line 2"),
        ("f.json", '{"a": NaN}', "NaN is no JSON"),
        ("f.json", '{"a": 1e999}', "too large for a float"),
        ("f.json", f'{{"a": {"9" * 5000}}}', "f.json cannot be read"),
        ("f.json", "[" * 100_000, "nested too deep"),
        ("f.json", "", "no JSON"),
        ("f.yaml", "a: 1\nb: 2\na: 3", "line 3, column 1: the name 'a' is there twice"),
        ("f.yaml", "a: {x: 1, x: 2}", "the name 'x' is there twice"),
        ("f.yaml", "a: [", "f.yaml is no YAML that is read here: line"),
        ("f.yaml", "a: 1\n---\nb: 2", "line 2, column 1: a second document begins"),
        ("f.yaml", "a: &x [*x]", "stands within what it names"),
        ("f.yaml", "a: *x", "undefined alias"),
        ("f.yaml", "? [1]\n: 2", "unhashable"),
        ("f.yaml", "!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("f.yaml", "[" * 1000 + "]" * 1000, "nested deeper than 128"),
        ("f.yaml", bomb(30), f"more than {MAX_NODES:,} values"),
        ("f.yaml", merges(60), f"more than {MAX_NODES:,} values"),
        ("f.yaml", f"a: {'9' * 5000}", "f.yaml cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_says_where(where: str, text: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document(text.encode(), where)

    assert what in str(caught.value)
    assert where in str(caught.value)


def test_bytes_that_are_no_text_or_too_many_are_refused() -> None:
    with pytest.raises(ConfigError, match="not UTF-8 text, from byte 2 on"):
        parse_document(b"a:\xff", "f.yaml")
    with pytest.raises(ConfigError, match="at most"):
        parse_document(bytes(MAX_BYTES + 1), "f.yaml")


def test_without_the_extra_json_is_read_and_yaml_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)

    assert parse_document(b"{}", "f.json") == {}
    with pytest.raises(MissingExtraError, match=r"pip install 'ezgraph\[yaml\]'"):
        parse_document(b"a: 1", "f.yaml")


@given(st.text(alphabet="ab:-[]{}&*!<>,\n 1'\"?|#%", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for where in ("f.yaml", "f.json"):
        with suppress(ConfigError):
            parse_document(text.encode(), where)
