"""TOML: what is written reads back, and nothing that is read takes long or ends unexpectedly."""

from __future__ import annotations

import time
import tomllib
from datetime import UTC, datetime, timedelta, timezone

import pytest

from ezgraph.errors import ConfigError, KeyFileError
from ezgraph.toml_text import (
    MAX_BYTES,
    MAX_DOTTED_PARTS,
    Table,
    dump_toml,
    parse_toml,
    unknown_field,
)

WHERE = "rig.toml"


def test_values_come_first_and_each_table_has_its_head() -> None:
    written = dump_toml(
        {
            "t": {"inner": {"x": 1}, "flag": True},
            "name": "a",
            "many": ["b", "c"],
            "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        }
    )

    assert written.splitlines() == [
        'name = "a"',
        'many = ["b", "c"]',
        "at = 2026-01-02T03:04:05Z",
        "[t]",
        "flag = true",
        "[t.inner]",
        "x = 1",
    ]


@pytest.mark.parametrize(
    "text", ['"', "\\", "\x00\x1f\x7f\x85", "a\r\nb", "\u2028\u202e", "\U0001f600\U000e0001", "é"]
)
def test_texts_and_names_of_any_characters_read_back(text: str) -> None:
    table = {text: {text: text}}

    written = dump_toml(table)

    assert tomllib.loads(written) == table
    assert all(line.isprintable() for line in written.split("\n"))


def test_an_empty_name_and_an_empty_table_read_back() -> None:
    table: Table = {"": "x", "empty": {}, "outer": {"inner": {}}}

    assert tomllib.loads(dump_toml(table)) == table


def test_a_moment_is_written_in_utc() -> None:
    there = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=timezone(timedelta(hours=2)))

    assert tomllib.loads(dump_toml({"at": there})) == {"at": there}


def test_a_lone_surrogate_cannot_be_written() -> None:
    with pytest.raises(ConfigError, match=r"lone surrogate U\+D800"):
        dump_toml({"a": "x\ud800"})


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a = ", "no valid TOML"),
        (b"a = '\xff'", "not UTF-8 text, from byte 5"),
        (b"a = " + b"[" * 100_000, "nested too deep"),
        (b"a = " + b"1" * 5_000, "no valid TOML"),
        (b"a = 2026-02-30T00:00:00Z", "no valid TOML"),
        (b"#" * (MAX_BYTES + 1), f"at most {MAX_BYTES}"),
        (b"\n\n" + b".".join([b"a"] * 500_000), "more than 32 parts in line 3"),
        (b"[" + b" . ".join([b"'a'"] * 100_000) + b"]", "parts in line 1"),
        (b"x = {" + b".".join([b'"\\""'] * 100_000) + b" = 1}", "parts in line 1"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(raw: bytes, said: str) -> None:
    before = time.monotonic()

    with pytest.raises(KeyFileError, match=said) as refused:
        parse_toml(raw, WHERE, error=KeyFileError)

    assert time.monotonic() - before < 2
    assert str(refused.value).startswith(WHERE)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None or refused.value.__suppress_context__


@pytest.mark.parametrize(
    "line",
    [b"a" * 1000, b'"' * 999, b"\\\"" * 500, b' \\"' * 300, b"'a.", b"- " * 500, b'"a"a' * 250],
)
def test_a_large_file_of_anything_is_judged_in_time(line: bytes) -> None:
    before = time.monotonic()

    with pytest.raises(ConfigError):
        parse_toml(b"x = " + line * (MAX_BYTES // len(line) - 1), WHERE)

    assert time.monotonic() - before < 5


def test_a_key_of_as_many_parts_as_allowed_is_read() -> None:
    key = ".".join(["a"] * MAX_DOTTED_PARTS)

    assert parse_toml(f"{key} = 1".encode(), WHERE)["a"]


def test_an_unknown_field_comes_with_the_nearest() -> None:
    assert unknown_field(WHERE, "rad", ("read", "run")).startswith(
        "rig.toml has the unknown field 'rad'; did you mean 'read'? Known are read, run"
    )
    assert "did you mean" not in unknown_field(WHERE, "zzz", ("read", "run"))
