"""Settings as columns over time."""

from __future__ import annotations

import csv
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph.errors import MissingExtraError
from ezgraph.protocol.settings import SettingsChangedEvent, SettingsEventType, settings_value
from ezgraph.settings import (
    INIT_FINAL_COMPONENT_ADDRESS,
    PipelineSettingsEvent,
    SettingsTable,
)
from ezgraph.settings.table import kind_of

if TYPE_CHECKING:
    from pathlib import Path

INITIAL, UPDATED, REMOVED = SettingsEventType


def event(
    seq: int, address: str, value: Any, kind: SettingsEventType = UPDATED
) -> SettingsChangedEvent:
    return SettingsChangedEvent(
        seq, kind, address, 1_700_000_000.0 + seq, f"s{seq}", None, settings_value(value)
    )


EVENTS = [
    event(1, "SYS/A", {"gain": 1, "on": True, "mode": "fast"}, INITIAL),
    event(3, "SYS/B", {"gain": 0.5, "taps": np.arange(2)}, INITIAL),
    event(4, "SYS/A", {"gain": 2, "on": False, "mode": "slow", "notch": {"hz": 50.0}}),
    event(6, "SYS/B", {"gain": 1, "taps": None}),
    event(7, "SYS/A", {"gain": 2, "on": False, "mode": "slow"}, REMOVED),
]


def test_a_row_says_what_every_setting_is_from_then_on() -> None:
    table = SettingsTable(EVENTS)

    rows = list(table.rows())

    assert len(table) == len(rows) == 5
    assert [row.change.seq for row in rows] == [1, 3, 4, 6, 7]
    assert rows[0].values == {"SYS.A.gain": 1, "SYS.A.on": True, "SYS.A.mode": "fast"}
    assert list(rows[1].values) == [*rows[0].values, "SYS.B.gain", "SYS.B.taps"]
    assert rows[2].values["SYS.A.notch.hz"] == 50.0
    assert rows[2].values["SYS.B.gain"] == 0.5
    assert rows[3].values["SYS.B.gain"] == 1
    assert rows[4].values == {"SYS.B.gain": 1, "SYS.B.taps": None}
    assert rows[0].change.head == {
        "seq": 1,
        "timestamp": 1_700_000_001.0,
        "component": "SYS/A",
        "event_type": "INITIAL",
        "source_session_id": "s1",
    }


def test_a_column_has_the_type_of_all_its_values() -> None:
    columns = {each.name: each for each in SettingsTable(EVENTS).columns}

    assert {name: each.kind for name, each in columns.items()} == {
        "SYS.A.gain": "int",
        "SYS.A.on": "bool",
        "SYS.A.mode": "text",
        "SYS.A.notch.hz": "float",
        "SYS.B.gain": "float",
        "SYS.B.taps": "object",
    }
    assert columns["SYS.A.notch.hz"].path == ("SYS/A", "notch", "hz")
    assert all(each.has_gaps for each in columns.values())


def test_a_setting_that_was_always_there_has_no_gaps() -> None:
    table = SettingsTable([event(1, "A", {"x": 1, "y": 1}), event(2, "A", {"x": 2})])

    assert [(each.name, each.has_gaps) for each in table.columns] == [("A.x", False), ("A.y", True)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False], "bool"),
        ([1, 2], "int"),
        ([1, 2.5], "float"),
        ([math.nan], "float"),
        (["a"], "text"),
        ([1, True], "object"),
        ([1, "a"], "object"),
        ([None], "object"),
        ([10**30], "object"),
        ([1.5, 10**30], "object"),
        ([np.float64(1)], "object"),
        ([], "object"),
    ],
)
def test_the_kind_of_values(values: list[Any], kind: str) -> None:
    assert kind_of(values) == kind


def test_rows_stand_in_order_of_seq_whatever_came_first() -> None:
    assert [row.change.seq for row in SettingsTable(reversed(EVENTS)).rows()] == [1, 3, 4, 6, 7]


def test_pipeline_events_make_the_same_table() -> None:
    names = {INITIAL: "INITIAL", UPDATED: "UPDATED", REMOVED: "REMOVED"}
    of_pipeline = [
        PipelineSettingsEvent(
            each.seq,
            each.timestamp,
            each.component_address,
            names[each.event_type],  # type: ignore[arg-type]
            each.value.repr_value,
            each.value.structured_value,
            each.source_session_id,
        )
        for each in EVENTS
    ]
    sentinel = PipelineSettingsEvent(3, 0.0, INIT_FINAL_COMPONENT_ADDRESS, "INITIAL", "")  # type: ignore[arg-type]

    table = SettingsTable([*of_pipeline, sentinel])

    assert list(table.csv_lines()) == list(SettingsTable(EVENTS).csv_lines())
    assert table.columns == SettingsTable(EVENTS).columns


def test_settings_without_structure_are_one_column_of_text() -> None:
    table = SettingsTable([event(1, "A", object), event(2, "A", {"value": 1})])

    assert [each.name for each in table.columns] == ["A", "A.value"]
    assert next(table.rows()).values == {"A": repr(object)}


def test_no_two_settings_share_a_column() -> None:
    table = SettingsTable(
        [
            event(1, "A/B", {"c": 1, "c.d": 2, "c_": 3}),
            event(2, "A.B", {"c": {"d": 4}, 1: 5, "1": 6}),
            event(3, "seq", 7),
        ]
    )

    last = list(table.rows())[-1].values

    assert len({each.name for each in table.columns}) == 7
    assert sorted(map(str, last.values())) == ["1", "2", "3", "4", "5", "6", "7"]


def test_csv_has_a_line_for_each_change(tmp_path: Path) -> None:
    SettingsTable(EVENTS).to_csv(tmp_path / "table.csv")

    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert list(rows[0])[:6] == [
        "seq",
        "timestamp",
        "component",
        "event_type",
        "source_session_id",
        "SYS.A.gain",
    ]
    assert [row["SYS.A.on"] for row in rows] == ["true", "true", "false", "false", ""]
    assert [row["SYS.B.taps"] for row in rows] == ["", "[0, 1]", "[0, 1]", "", ""]


def test_json_lines_hold_the_settings_by_column(tmp_path: Path) -> None:
    SettingsTable(EVENTS).to_json_lines(tmp_path / "table.jsonl")

    rows = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text().splitlines()]

    assert [row["seq"] for row in rows] == [1, 3, 4, 6, 7]
    assert rows[1]["settings"]["SYS.B.taps"] == [0, 1]
    assert rows[4]["settings"] == {"SYS.B.gain": 1, "SYS.B.taps": None}


def test_a_table_of_nothing() -> None:
    table = SettingsTable([])

    assert list(table.csv_lines()) == ["seq,timestamp,component,event_type,source_session_id\n"]
    assert list(table.json_lines()) == []
    assert "0 rows" in repr(table)


def test_pandas_gets_columns_with_types() -> None:
    pandas = pytest.importorskip("pandas")

    frame = SettingsTable(EVENTS).to_pandas()

    assert list(frame["seq"]) == [1, 3, 4, 6, 7]
    assert {name: str(frame[name].dtype) for name in frame.columns[5:]} == {
        "SYS.A.gain": "Int64",
        "SYS.A.on": "boolean",
        "SYS.A.mode": "string",
        "SYS.A.notch.hz": "Float64",
        "SYS.B.gain": "Float64",
        "SYS.B.taps": "object",
    }
    assert frame["SYS.A.gain"].tolist()[:4] == [1, 1, 2, 2]
    assert frame["SYS.A.gain"][4] is pandas.NA
    assert frame["SYS.B.taps"][1].tolist() == [0, 1]
    assert len(SettingsTable([]).to_pandas()) == 0


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)

    with pytest.raises(MissingExtraError, match=r"needs pandas.*pip install 'ezgraph\[pandas\]'"):
        SettingsTable(EVENTS).to_pandas()
