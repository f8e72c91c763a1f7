"""One settings change as a message of plain JSON values that can say exactly what was set."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import pathlib
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

import ezgraph
from ezgraph.protocol.settings import EnumValue, settings_value
from ezgraph.settings import (
    INIT_FINAL_COMPONENT_ADDRESS,
    PipelineSettingsEvent,
    PipelineSettingsEventType,
)

UPDATED = PipelineSettingsEventType.UPDATED


class Mode(enum.Enum):
    FAST = "fast"


VALUES: dict[str, Any] = {
    "array": np.arange(2_000, dtype=">i2").reshape(2, 1_000),
    "nan": [math.nan, math.inf, -math.inf],
    "bytes": b"\x00\xff",
    "mode": Mode.FAST,
    "path": pathlib.PurePosixPath("/data"),
    "window": (1, 2),
    "z": 1 + 2j,
    "when": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    "by_channel": {1: 0.5, "1": 1.5, (2, 3): 2.5},
    "stamps": np.array(["2024-01-01", "NaT"], dtype="M8[ns]"),
}


def event(value: Any, structured: Any = None, address: str = "SYS/A") -> PipelineSettingsEvent:
    return PipelineSettingsEvent(7, 1.5, address, UPDATED, value, structured)


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_it_is_the_event_that_ezgraph_offers() -> None:
    assert ezgraph.PipelineSettingsEvent is PipelineSettingsEvent
    assert ezgraph.PipelineSettingsEventType is PipelineSettingsEventType


def test_the_types_of_events_are_texts() -> None:
    assert [str(each.value) for each in PipelineSettingsEventType] == [
        "INITIAL",
        "UPDATED",
        "REMOVED",
    ]
    assert PipelineSettingsEventType.INITIAL == "INITIAL"
    assert INIT_FINAL_COMPONENT_ADDRESS == "__init_final__"


def test_what_is_not_given_is_as_agreed() -> None:
    made = PipelineSettingsEvent(1, 2.0, "A", UPDATED, {"x": 1})

    assert (made.structured_value, made.source_session_id) == (None, None)
    assert made.table_name == "settings_annotations"


def test_everything_in_it_is_plain_json() -> None:
    made = event(VALUES, VALUES)

    assert made.structured_value == made.repr_value
    assert strict(json.dumps(asdict(made), allow_nan=False)) == asdict(made)
    assert made.structured_value == {
        "array": VALUES["array"].tolist(),
        "nan": ["NaN", "Infinity", "-Infinity"],
        "bytes": "AP8=",
        "mode": "fast",
        "path": "/data",
        "window": [1, 2],
        "z": {"real": 1.0, "imag": 2.0},
        "when": "2024-01-01T00:00:00+00:00",
        "by_channel": {"1 (int)": 0.5, "1": 1.5, "[2, 3]": 2.5},
        "stamps": ["2024-01-01T00:00:00.000000000", "NaT"],
    }


def copied(made: PipelineSettingsEvent) -> PipelineSettingsEvent:
    return PipelineSettingsEvent(**json.loads(json.dumps(asdict(made))))


@pytest.mark.parametrize("as_copy", [False, True])
def test_the_values_come_back_as_they_were_also_from_a_copy(as_copy: bool) -> None:
    made = event("shown", VALUES)

    found = (copied(made) if as_copy else made).native()

    array, nan = found.pop("array"), found.pop("nan")
    stamps = found.pop("stamps")
    assert found == {key: VALUES[key] for key in found}
    assert found["mode"] is Mode.FAST
    assert [*found, "array", "nan", "stamps"] == sorted(
        VALUES, key=[*found, "array", "nan", "stamps"].index
    )
    assert (array.dtype, array.tobytes()) == (VALUES["array"].dtype, VALUES["array"].tobytes())
    assert math.isnan(nan[0])
    assert stamps.tobytes() == VALUES["stamps"].tobytes()


def test_a_copy_equals_the_event() -> None:
    made = event(VALUES, VALUES)

    assert copied(made) == made
    assert copied(copied(made)) == made


def test_plain_settings_are_held_once() -> None:
    made = event({"a": 1, "b": [1.5, "x", None, True]})

    assert made.exact is None
    assert made.native() == {"a": 1, "b": [1.5, "x", None, True]}


def test_new_settings_do_not_keep_the_old_exact_ones() -> None:
    made = event({}, {"a": (1, 2)})

    changed = replace(made, structured_value={"a": (3, 4)})
    moved = replace(made, seq=8)

    assert changed.native() == {"a": (3, 4)}
    assert moved.native() == {"a": (1, 2)}


@pytest.mark.parametrize(
    ("shown", "structured", "native"),
    [
        ({"r": (1,)}, {"s": (2,)}, {"s": (2,)}),
        ({"r": (1,)}, {}, {}),
        ({"r": (1,)}, None, {"r": (1,)}),
        ("Filter(1)", None, "Filter(1)"),
    ],
)
def test_the_settings_are_the_structured_ones_even_if_empty(
    shown: Any, structured: Any, native: Any
) -> None:
    made = event(shown, structured)

    assert made.native() == native
    row = made.flatten_for_table()
    assert row is not None
    assert strict(row["data"])["settings"] == (
        json.loads(json.dumps(native)) if isinstance(native, dict) else native
    )


def test_a_snapshot_value_makes_an_event() -> None:
    value = settings_value({"mode": Mode.FAST})

    made = event(value.repr_value, value.structured_value)

    assert made.structured_value == {"mode": "fast"}
    assert made.native() == {"mode": Mode.FAST}


def test_a_member_of_an_enum_elsewhere_is_its_value_and_stays_whole() -> None:
    member = EnumValue("elsewhere", "Mode", "FAST", "fast")

    made = event({"mode": member})

    assert made.repr_value == {"mode": "fast"}
    assert made.native() == {"mode": member}


def test_what_the_bus_does_not_carry_is_text() -> None:
    made = event({}, {"kind": object, "a": (1,)})

    assert made.structured_value == {"kind": str(object), "a": [1]}
    assert made.native() == made.structured_value


def test_a_row_is_one_column_of_json() -> None:
    made = event(VALUES)

    row = made.flatten_for_table()

    assert row is not None
    assert list(row) == ["data"]
    content = strict(row["data"])
    assert list(content) == ["component", "event_type", "seq", "settings"]
    assert (content["component"], content["event_type"], content["seq"]) == ("SYS/A", "UPDATED", 7)
    assert content["settings"]["array"] == VALUES["array"].tolist()
    assert content["settings"]["nan"] == ["NaN", "Infinity", "-Infinity"]
    assert "..." not in row["data"]


def test_the_sentinel_is_no_row() -> None:
    assert event("", None, INIT_FINAL_COMPONENT_ADDRESS).flatten_for_table() is None
