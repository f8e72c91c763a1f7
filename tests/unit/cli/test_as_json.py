"""Any value of the bus as JSON."""

from __future__ import annotations

import datetime as dt
import enum
import json
import pathlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph import Edge
from ezgraph.cli import as_json
from ezgraph.protocol.events import EdgeConnected, Event, Source
from ezgraph.protocol.settings import EnumValue


class _Mode(enum.Enum):
    FAST = "fast"


@dataclass(frozen=True)
class _Point:
    x: float
    y: bytes


def _strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"\x00\xff", "AP8="),
        (bytearray(b"ab"), "YWI="),
        (float("nan"), "NaN"),
        ([float("inf"), float("-inf")], ["Infinity", "-Infinity"]),
        (np.array([[1.0, float("nan")]]), [[1.0, "NaN"]]),
        (np.float64(1.5), 1.5),
        (np.int32(7), 7),
        (np.array(b"ab"), "YWI="),
        ((1, (2,)), [1, [2]]),
        ({3, 1}, [1, 3]),
        (1 + 2j, {"real": 1.0, "imag": 2.0}),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.timedelta(seconds=90), 90.0),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/data"), "/data"),
        (_Mode.FAST, "fast"),
        (_Point(1.0, b""), {"x": 1.0, "y": ""}),
        (Edge("a", "b"), {"from_topic": "a", "to_topic": "b"}),
        ({1: "one", (1, 2): "pair", None: 0}, {"1": "one", "[1, 2]": "pair", "null": 0}),
        (10**30, 10**30),
        ({1: "one", "1": "text"}, {"1 (int)": "one", "1": "text"}),
        (EnumValue("rig", "Mode", "FAST", 1), 1),
    ],
)
def test_a_value_becomes_this_json(value: object, wanted: object) -> None:
    assert _strict(as_json.dumps(value)) == wanted


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    )
)
def test_every_value_becomes_valid_json_on_one_line(value: object) -> None:
    dumped = as_json.dumps(value)

    _strict(dumped)
    assert "\n" not in dumped


def test_an_event_keeps_its_numbers_its_source_and_its_body() -> None:
    body = EdgeConnected("a", "b", None, topology_changed=True)
    source = Source(program="rig.py", host="lab")
    event = Event(1, 7, 6, 7, 7, 1.5, 2.5, ("edge", "a", "b"), source, 3, body)

    shown = _strict(as_json.dumps(as_json.event(event)))

    assert (shown["seq"], shown["kind"], shown["key"]) == (7, "EdgeConnected", ["edge", "a", "b"])
    assert shown["time"] == "1970-01-01T00:00:01.500000+00:00"
    assert shown["source"]["program"] == "rig.py"
    assert shown["body"]["owner"] is None
