"""Fingerprints: equal content gives equal ones, on any host, in any order, in any run."""

from __future__ import annotations

import datetime as dt
import enum
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

import ezgraph
from ezgraph.protocol.events import EdgeConnected, Source
from ezgraph.protocol.fingerprints import canonical, content_hash, fingerprint

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


def test_the_canonical_encoding_is_as_described() -> None:
    size = (1).to_bytes(8, "big")
    assert canonical(None) == b"n"
    assert canonical(True) == b"t"
    assert canonical(1) == b"i" + size + b"1"
    assert canonical("a") == b"s" + size + b"a"
    assert canonical(b"a") == b"b" + size + b"a"
    assert canonical(1.0) == b"d\x3f\xf0\0\0\0\0\0\0"
    assert canonical([None]) == b"l" + size + b"n"
    assert canonical({None: None}) == b"m" + (2).to_bytes(8, "big") + b"nn"


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
        "from ezgraph.protocol.fingerprints import fingerprint\n"
        "print(fingerprint('test', {'a': {'x', 'y', 'z', 1}, 'b': [1.5, None, b'q']}))"
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
