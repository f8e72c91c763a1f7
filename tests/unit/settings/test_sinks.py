"""Rows in files that a crash leaves readable."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.errors import ContextClosedError
from ezgraph.settings import (
    INIT_FINAL_COMPONENT_ADDRESS,
    CSVSink,
    JSONLinesSink,
    PipelineSettingsEvent,
    PipelineSettingsEventType,
)

if TYPE_CHECKING:
    from pathlib import Path

INITIAL = PipelineSettingsEventType.INITIAL


@dataclass
class Point:
    """Something that is no settings event, and can be written all the same."""

    columns: dict[str, Any] | None = field(default_factory=lambda: {"x": 1})
    timestamp: float = 0.5
    table_name: str = "points"

    def flatten_for_table(self) -> dict[str, Any] | None:
        return self.columns


EVENTS = [
    PipelineSettingsEvent(1, 0.5, "SYS/A", INITIAL, {"x": math.nan, "s": 'a,"b"\nc'}),
    PipelineSettingsEvent(2, 1.5, "SYS/Ω", INITIAL, {"x": [1, 2]}),
    PipelineSettingsEvent(2, 1.5, INIT_FINAL_COMPONENT_ADDRESS, INITIAL, ""),
]


def of_json(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_events_are_lines_of_json_and_the_sentinel_is_none(tmp_path: Path) -> None:
    with JSONLinesSink(tmp_path / "rows.jsonl") as sink:
        for each in EVENTS:
            sink.append(each)
        sink.flush()

    found = of_json(tmp_path / "rows.jsonl")
    assert [(each["timestamp"], each["table_name"]) for each in found] == [
        (0.5, "settings_annotations"),
        (1.5, "settings_annotations"),
    ]
    assert json.loads(found[0]["data"])["settings"] == {"x": "NaN", "s": 'a,"b"\nc'}


def test_events_are_lines_of_csv_below_the_names_of_the_columns(tmp_path: Path) -> None:
    with CSVSink(tmp_path / "rows.csv") as sink:
        for each in EVENTS:
            sink.append(each)
        sink.flush()

    found = of_csv(tmp_path / "rows.csv")
    assert list(found[0]) == ["timestamp", "table_name", "data"]
    assert len(found) == 2
    assert json.loads(found[1]["data"])["component"] == "SYS/Ω"


CELLS = {
    "text": 'a,"b"\nc;\r\n',
    "number": 1.5,
    "yes": True,
    "none": None,
    "nan": math.nan,
    "list": [1, "x"],
    "bytes": b"\xff",
}


def test_anything_with_a_table_and_a_time_is_a_row(tmp_path: Path) -> None:
    with CSVSink(tmp_path / "rows.csv") as in_csv, JSONLinesSink(tmp_path / "rows") as in_json:
        for sink in (in_csv, in_json):
            sink.append(Point(CELLS))

    (cells,) = of_csv(tmp_path / "rows.csv")
    (line,) = of_json(tmp_path / "rows")
    assert cells == {
        "timestamp": "0.5",
        "table_name": "points",
        "text": CELLS["text"],
        "number": "1.5",
        "yes": "true",
        "none": "",
        "nan": "NaN",
        "list": '[1, "x"]',
        "bytes": "/w==",
    }
    assert (line["text"], line["yes"], line["none"], line["nan"]) == (
        CELLS["text"],
        True,
        None,
        "NaN",
    )


def test_a_column_named_as_one_of_ours_stands_beside_it(tmp_path: Path) -> None:
    point = Point({"timestamp": 7, "timestamp_": 8})
    with CSVSink(tmp_path / "rows.csv") as in_csv, JSONLinesSink(tmp_path / "rows") as in_json:
        in_csv.append(point)
        in_json.append(point)

    assert of_json(tmp_path / "rows") == [
        {"timestamp": 0.5, "table_name": "points", "timestamp__": 7, "timestamp_": 8}
    ]
    assert of_csv(tmp_path / "rows.csv")[0]["timestamp__"] == "7"


def test_a_new_column_loses_no_old_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with CSVSink(path) as sink:
        sink.append(Point({"a": 'x\n"y"'}))
        sink.append(Point({"b": 2}))
        sink.append(Point({"a": 3, "c": "z" * 200_000}))

    assert [list(each.values())[2:] for each in of_csv_of_any_size(path)] == [
        ['x\n"y"', "", ""],
        ["", "2", ""],
        ["3", "", "z" * 200_000],
    ]
    assert os.listdir(tmp_path) == ["rows.csv"]


def of_csv_of_any_size(path: Path) -> list[dict[str, str]]:
    before = csv.field_size_limit(1 << 20)
    try:
        return of_csv(path)
    finally:
        csv.field_size_limit(before)


def test_a_file_is_gone_on_with(tmp_path: Path) -> None:
    for kind, name in ((CSVSink, "rows.csv"), (JSONLinesSink, "rows")):
        for number in range(3):
            with kind(tmp_path / name) as sink:
                sink.append(Point({"x": number, f"only{number}": 1}))

    assert [each["x"] for each in of_csv(tmp_path / "rows.csv")] == ["0", "1", "2"]
    assert [each["x"] for each in of_json(tmp_path / "rows")] == [0, 1, 2]


@pytest.mark.parametrize("kind", [CSVSink, JSONLinesSink])
def test_whatever_part_of_the_last_row_was_written_the_others_are_there(
    kind: type[CSVSink | JSONLinesSink], tmp_path: Path
) -> None:
    path = tmp_path / "rows"
    read = of_csv if kind is CSVSink else of_json
    texts, ends = ['one\n"1"', 'two, "\n"', '\n"\n""\n'], []
    with kind(path) as sink:
        for text in texts:
            sink.append(Point({"x": text}))
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    assert [each["x"] for each in read(path)] == texts

    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with kind(path) as sink:
            sink.append(Point({"x": "after"}))
        there = sum(end <= size for end in ends)
        assert [each["x"] for each in read(path)] == [*texts[:there], "after"]


@pytest.mark.parametrize("kind", [CSVSink, JSONLinesSink])
def test_a_closed_sink_says_so(kind: type[CSVSink | JSONLinesSink], tmp_path: Path) -> None:
    sink = kind(tmp_path / "rows")
    assert str(tmp_path / "rows") in repr(sink)

    sink.close()
    sink.close()

    assert "closed" in repr(sink)
    with pytest.raises(ContextClosedError, match="is closed; open it again"):
        sink.append(Point())
    with pytest.raises(ContextClosedError, match="is closed; open it again"):
        sink.flush()


KILLED = """
import os, signal, sys
from ezgraph.settings import CSVSink, JSONLinesSink, PipelineSettingsEvent
sinks = [CSVSink(sys.argv[1]), JSONLinesSink(sys.argv[2])]
for number in range(50):
    for sink in sinks:
        sink.append(PipelineSettingsEvent(number, 0.0, "A", "UPDATED", {"x": number}))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.integration
def test_a_killed_program_loses_no_row_it_appended(tmp_path: Path) -> None:
    paths = [tmp_path / "rows.csv", tmp_path / "rows"]

    subprocess.run([sys.executable, "-c", KILLED, *map(str, paths)], check=False, timeout=60)

    for found in (of_csv(paths[0]), of_json(paths[1])):
        assert [json.loads(each["data"])["seq"] for each in found] == list(range(50))
