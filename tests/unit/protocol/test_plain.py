"""Values in JSON's own types, with nothing left out."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import pathlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given

from ezgraph.protocol.plain import plain
from ezgraph.protocol.settings import EnumValue
from ezgraph.testing import strategies as ours


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    A = "a"


class Bits(enum.Flag):
    A = 1


class Pair(NamedTuple):
    x: int
    y: object


@dataclass
class Point:
    x: float


class Odd:
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (Level.HIGH, 3),
        (Name.A, "a"),
        (Bits.A, 1),
        (EnumValue("m", "E", "A", (1, math.nan)), [1, "NaN"]),
        (True, True),
        (10**400, 10**400),
        (-math.inf, "-Infinity"),
        (bytearray(b"\xff"), "/w=="),
        (memoryview(b"\xff"), "/w=="),
        ("\ud800", "\\ud800"),
        (Pair(1, b""), {"x": 1, "y": ""}),
        (Point(math.nan), {"x": "NaN"}),
        (Point, str(Point)),
        ({3, 1, 2}, [1, 2, 3]),
        (complex(1, math.nan), {"real": 1.0, "imag": "NaN"}),
        (dt.timedelta(days=1), 86400.0),
        (dt.time(1, 2), "01:02:00"),
        (UUID(int=1), str(UUID(int=1))),
        (pathlib.PureWindowsPath("C:/x"), "C:\\x"),
        (Odd(), "odd"),
        (OrderedDict(a=1), {"a": 1}),
        (np.float32(1.5), 1.5),
        (np.array(3), 3),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1.0, np.nan]), [1.0, "NaN"]),
        (np.array([1j]), [{"real": 0.0, "imag": 1.0}]),
        (np.array([b"x"]), ["eA=="]),
        (np.array([None, 1], dtype=object), [None, 1]),
        (np.array([(1, 2.5)], dtype="i4,f8"), [[1, 2.5]]),
        (np.array(["2024-01-01"], dtype="M8[ns]"), ["2024-01-01T00:00:00.000000000"]),
        (np.datetime64("2024-01-01"), "2024-01-01"),
        (np.arange(2_000), list(range(2_000))),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_value_in_plain_types(value: Any, wanted: Any) -> None:
    found = plain(value)

    assert found == wanted
    assert type(found) is type(wanted)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("mapping", "keys"),
    [
        ({1: "a", "1": "b"}, ["1 (int)", "1"]),
        ({1: "a", "1": "b", "1 (int)": "c"}, ["1 (int) (int)", "1", "1 (int)"]),
        ({None: 0, "null": 1}, ["null (NoneType)", "null"]),
        ({(1, 2): 0, 1.5: 1, True: 2}, ["[1, 2]", "1.5", "true"]),
        ({Name.A: 0, Level.HIGH: 1}, ["a", "3"]),
        ({b"x": 0, "eA==": 1}, ["eA== (bytes)", "eA=="]),
        ({"\ud800": 0, "\\ud800": 1}, ["\\ud800 (str)", "\\ud800"]),
    ],
)
def test_keys_become_text_and_stay_apart(mapping: dict[Any, Any], keys: list[str]) -> None:
    assert list(plain(mapping)) == keys
    assert list(plain(mapping).values()) == list(mapping.values())


@given(ours.values)
def test_any_value_of_the_bus_is_valid_json(value: Any) -> None:
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)
