"""Fingerprints: equal content gives equal ones, on any host, in any order, in any run."""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
from collections import OrderedDict
from dataclasses import FrozenInstanceError, dataclass, field
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pytest

import ezgraph
from ezgraph.errors import InvalidValueError
from ezgraph.protocol.events import EdgeConnected, Source
from ezgraph.protocol.fingerprints import (
    Fingerprint,
    canonical,
    content_hash,
    fingerprint,
    named,
    named_with,
)
from ezgraph.protocol.settings import EnumValue
from ezgraph.protocol.tagged import from_tagged

ROOT = Path(ezgraph.__file__).parents[1]


class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


@dataclass
class Settings:
    gain: float
    name: str


@dataclass
class Other:
    gain: float
    name: str


def test_a_fingerprint_is_32_hexadecimal_digits() -> None:
    found = fingerprint("test", {"a": 1})

    assert len(found) == 32
    assert bytes.fromhex(found)


def part(tag: bytes, *content: bytes) -> bytes:
    """The form of every part with a length, written down once more."""
    joined = b"".join(content)
    return tag + struct.pack(">Q", len(joined)) + joined


def text(value: str) -> bytes:
    return part(b"s", value.encode())


def number(value: int) -> bytes:
    return part(b"i", str(value).encode())


DESCRIBED: list[tuple[Any, bytes]] = [
    (None, b"n"),
    (True, b"t"),
    (False, b"f"),
    (-17, b"i\0\0\0\0\0\0\0\x03-17"),
    (1.0, b"d\x3f\xf0\0\0\0\0\0\0"),
    (-math.nan, b"d\x7f\xf8\0\0\0\0\0\0"),
    (-1j, b"c\x80\0\0\0\0\0\0\0\xbf\xf0\0\0\0\0\0\0"),
    ("Ö", b"s\0\0\0\0\0\0\0\x02\xc3\x96"),
    (b"a", part(b"b", b"a")),
    (bytearray(b"a"), part(b"b", b"a")),
    (memoryview(b"a"), part(b"b", b"a")),
    (UUID(int=1), part(b"u", bytes(15), b"\1")),
    ([None, ()], part(b"l", b"n", part(b"l"))),
    ({"b": 1, "a": None}, part(b"m", text("a"), b"n", text("b"), number(1))),
    (MappingProxyType({"a": 1}), part(b"m", text("a"), number(1))),
    ({2, 10}, part(b"S", number(2), number(10))),
    (dt.date(2026, 11, 22), part(b"D", text("date"), text("2026-11-22"), number(0))),
    (dt.time(2, 30, fold=1), part(b"D", text("time"), text("02:30:00"), number(1))),
    (dt.timedelta(-1, 5, 7), part(b"T", number(-1), number(5), number(7))),
    (pathlib.PurePosixPath("/a"), part(b"p", text("posix"), text("/a"))),
    (pathlib.PureWindowsPath("C:/a"), part(b"p", text("windows"), text("C:\\a"))),
    (Mode.FAST, part(b"e", text("Mode"), text("fast"))),
    (
        np.array([1, 2], "<i2"),
        part(b"a", text("<i2"), part(b"l", number(2)), part(b"b", b"\1\0\2\0")),
    ),
    (np.float32(0), part(b"a", text("<f4"), part(b"l"), part(b"b", bytes(4)))),
    (Settings(1.0, "a"), part(b"o", text("Settings"), b"d\x3f\xf0\0\0\0\0\0\0", text("a"))),
]


@pytest.mark.parametrize(("value", "encoding"), DESCRIBED)
def test_the_canonical_encoding_is_as_described(value: object, encoding: bytes) -> None:
    assert canonical(value) == encoding
    hashed = hashlib.blake2b(encoding, digest_size=16, person=b"ezgraph.value").digest()
    assert Fingerprint.of(value).digest == hashed


VECTORS = json.loads(Path(__file__).with_name("fingerprint_vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: str(each["value"])[:40])
def test_every_vector_comes_out_as_it_is_written(vector: dict[str, Any]) -> None:
    value = from_tagged(vector["value"])

    assert canonical(value).hex() == vector["encoding"]
    assert str(Fingerprint.of(value)) == vector["fingerprint"]


def test_the_vectors_have_every_tag_of_plain_values() -> None:
    tags = {bytes.fromhex(vector["encoding"])[:1] for vector in VECTORS}

    assert b"".join(sorted(tags)) == b"DSTabcdefilmnpstu"


@dataclass(frozen=True)
class Named:
    gain: float = 1.0
    label: str = ""
    parts: list[str] = field(default_factory=list)
    seen: int = field(default=0, compare=False)


@dataclass(frozen=True)
class WithMore(Named):
    unit: str = "Hz"


def test_what_is_stored_is_spelled_by_the_names_of_its_fields_without_defaults() -> None:
    assert named(Named()) == part(b"k", text("Named"))
    assert named(Named(2.0, parts=["a"], seen=9)) == part(
        b"k",
        text("Named"),
        text("gain"),
        b"d\x40\0\0\0\0\0\0\0",
        text("parts"),
        part(b"l", text("a")),
    )
    assert named([Named(label="x")]) == part(
        b"l", part(b"k", text("Named"), text("label"), text("x"))
    )


def test_a_field_added_later_with_a_default_leaves_the_fingerprint_as_it_is() -> None:
    earlier = named(Named(2.0))
    later = named(WithMore(2.0))

    assert later == earlier.replace(text("Named"), text("WithMore")).replace(
        struct.pack(">Q", len(earlier) - 9), struct.pack(">Q", len(later) - 9), 1
    )


def test_fields_can_be_taken_for_something_else() -> None:
    assert named_with(Named(2.0, "x"), {"label": "y"}) == named(Named(2.0, "y"))
    assert named_with(Named(2.0, "x"), {"gain": 1.0}) == named(Named(1.0, "x"))


def test_an_enum_member_is_the_same_where_it_is_known_and_where_it_is_not() -> None:
    assert canonical(Mode.FAST) == canonical(EnumValue("m", "Outer.Mode", "FAST", "fast"))


def test_a_subclass_counts_as_what_it_is_a_subclass_of() -> None:
    class Text(str):
        __slots__ = ()

    assert canonical(Text("a")) == canonical("a")
    assert canonical(np.float64(1.5)) == canonical(1.5)
    assert canonical(np.complex128(1j)) == canonical(1j)
    assert canonical(OrderedDict(a=1)) == canonical({"a": 1})


class Anything:
    pass


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Anything(), "Anything has no fingerprint"),
        ({"a": [Decimal(1)]}, "Decimal has no fingerprint"),
        (np.array([None]), "holds Python objects"),
        (ENDLESS, "holds itself"),
        ([10**5000], "an integer has no fingerprint"),
        (Mode, "has no fingerprint"),
    ],
)
def test_what_has_no_canonical_encoding_is_refused(value: object, says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        Fingerprint.of(value)


@pytest.mark.parametrize("domain", ["", "x" * 17, "a\0", "ö" * 9])
def test_a_domain_has_1_to_16_bytes(domain: str) -> None:
    with pytest.raises(InvalidValueError, match="no domain"):
        Fingerprint.of(1, domain)


# --- the value ---


def fp(number: int) -> Fingerprint:
    return Fingerprint(number.to_bytes(16, "big"))


def test_a_fingerprint_is_a_value() -> None:
    one = Fingerprint.from_string("a")

    assert one == Fingerprint.of("a", "ezgraph.text")
    assert str(one) == one.digest.hex()
    assert Fingerprint.from_hex(str(one)) == Fingerprint.from_hex(str(one).upper()) == one
    assert len({one, Fingerprint.from_string("a"), Fingerprint.from_string("b")}) == 2
    assert repr(one) == f"<Fingerprint {one}>"
    assert sorted([fp(2), Fingerprint.empty(), fp(1)]) == [Fingerprint.empty(), fp(1), fp(2)]
    with pytest.raises(FrozenInstanceError):
        one.digest = b""  # type: ignore[misc]


def test_parts_combine_in_any_order_and_grouping() -> None:
    parts = [Fingerprint.from_string(each) for each in "abcd"]
    whole = parts[0].combine(*parts[1:])

    for head, *tail in permutations(parts):
        assert head.combine(*tail) == whole
    a, b, c, d = parts
    assert a.combine(b.combine(c), d) == a.combine(b).combine(c.combine(d)) == whole
    assert whole not in parts


def test_two_equal_parts_never_cancel_out() -> None:
    for each in (Fingerprint.from_string("a"), fp(1), fp(1 << 127), fp((1 << 128) - 2)):
        twice = each.combine(each)
        assert not twice.is_identity
        assert twice != each
        assert twice.combine(fp(5)) != fp(5)
        assert each.combine(each, each) != each


def test_identity_leaves_others_as_they_are_and_empty_takes_all() -> None:
    one, identity, empty = fp(7), Fingerprint.identity(), Fingerprint.empty()

    assert (identity.is_identity, identity.is_empty) == (True, False)
    assert (empty.is_identity, empty.is_empty) == (False, True)
    assert one.combine(identity) == identity.combine(one) == one == one.combine()
    assert one.combine(empty).is_empty
    assert empty.combine(one, identity).is_empty
    assert str(empty) == "empty"
    assert Fingerprint.from_hex("empty") == empty


@pytest.mark.parametrize("digest", [b"x", bytes(15), bytes(17), "a" * 16, None, b"\xff" * 16])
def test_what_is_no_digest_is_refused(digest: Any) -> None:
    with pytest.raises(InvalidValueError, match="is no fingerprint"):
        Fingerprint(digest)


@pytest.mark.parametrize("text", ["", "abc", "g" * 32, "0" * 31, "0" * 33, 5, None, "ff" * 16])
def test_what_shows_no_fingerprint_is_refused(text: Any) -> None:
    with pytest.raises(InvalidValueError, match="is no fingerprint"):
        Fingerprint.from_hex(text)


def test_only_fingerprints_combine() -> None:
    with pytest.raises(InvalidValueError, match="is no Fingerprint"):
        fp(1).combine("a")  # type: ignore[arg-type]


def test_the_order_of_mappings_and_sets_does_not_matter() -> None:
    forward = {"a": 1, "b": {"c": 2, "d": 3}, ("e", 1): {1, 2, 3}}
    backward = {("e", 1): {3, 2, 1}, "b": {"d": 3, "c": 2}, "a": 1}

    assert fingerprint("test", forward) == fingerprint("test", backward)


def test_the_order_of_lists_matters() -> None:
    assert fingerprint("test", [1, 2]) != fingerprint("test", [2, 1])


DIFFERENT: list[Any] = [
    None,
    False,
    True,
    0,
    1,
    -1,
    2**64,
    0.0,
    -0.0,
    1.0,
    math.inf,
    math.nan,
    "",
    "1",
    "n",
    b"",
    b"1",
    [],
    [[]],
    [1],
    ["1"],
    {},
    {1: 1},
    {"1": 1},
    {1: "1"},
    set(),
    {1},
    Mode.FAST,
    Mode.SLOW,
    "fast",
    Settings(1.0, "a"),
    Settings(1.0, "b"),
    Other(1.0, "a"),
    {"gain": 1.0, "name": "a"},
    UUID(int=1),
    UUID(int=2),
    dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    dt.date(2020, 1, 1),
    np.array([1, 2], "<i4"),
    np.array([1, 2], ">i4"),
    np.array([1, 2], "<i8"),
    np.array([[1, 2]], "<i4"),
    np.array([1.0, 2.0]),
    [["a"], "b"],
    ["a", ["b"]],
    ["ab"],
    ["a", "b"],
]


def test_different_content_has_different_fingerprints() -> None:
    seen: dict[str, object] = {}
    for value in DIFFERENT:
        found = fingerprint("test", value)
        assert found not in seen, (value, seen.get(found))
        seen[found] = value


def test_there_is_one_nan() -> None:
    assert fingerprint("test", math.nan) == fingerprint("test", -math.nan)


def test_the_layout_of_an_array_in_memory_does_not_matter() -> None:
    array = np.arange(6).reshape(2, 3)

    assert fingerprint("test", array) == fingerprint("test", np.asfortranarray(array))
    assert fingerprint("test", array[:, ::2]) == fingerprint("test", array[:, ::2].copy())


def test_field_names_of_a_structured_array_count() -> None:
    one = np.zeros(2, dtype=[("gain", "<f8")])
    two = np.zeros(2, dtype=[("cutoff", "<f8")])

    assert fingerprint("test", one) != fingerprint("test", two)


def test_domains_are_apart() -> None:
    assert fingerprint("one", 1) != fingerprint("two", 1)


def test_a_fingerprint_is_the_same_in_another_process_with_another_hash_seed() -> None:
    program = (
        "from ezgraph import Fingerprint\n"
        "print(Fingerprint.of({'a': {'x', 'y', 'z', 1}, 'b': [1.5, None, b'q']}, 'test'))"
    )
    ours = fingerprint("test", {"b": [1.5, None, b"q"], "a": {1, "z", "y", "x"}})

    for seed in ("1", "2"):
        theirs = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert theirs.stdout.strip() == ours


def test_known_content_has_the_fingerprint_it_always_had() -> None:
    assert fingerprint("vector", None) == "3e5458fc55c094db44d711e947575f83"
    value = {"b": [1, 2.5, "x", b"y", None, True], "a": (1, {"n"}), 3: UUID(int=3)}
    assert fingerprint("vector", value) == "bd91fde4ec5ca9f3aa8c71932116f6f6"
    body = EdgeConnected("a", "b", "s1", topology_changed=True)
    assert (
        fingerprint("vector", [body, Source(session_id="s1", pid=3)])
        == "c9def6b00c4c60ab687476d469b1b69a"
    )
    assert content_hash(b"blob").hex() == "58dde394d2d5bf553142228cf44686e2"


@pytest.mark.parametrize("value", DIFFERENT)
def test_a_fingerprint_does_not_depend_on_how_often_one_asks(value: object) -> None:
    assert fingerprint("test", value) == fingerprint("test", value)
