"""Settings in NWB files that pynwb writes and reads back."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph.errors import ConfigError, ContextClosedError, MissingExtraError
from ezgraph.settings import (
    INIT_FINAL_COMPONENT_ADDRESS,
    PipelineSettingsEvent,
    PipelineSettingsEventType,
)
from ezgraph.testing import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies
    pynwb = pytest.importorskip("pynwb", reason="pynwb is not installed (ezgraph[nwb])")

from ezgraph.contrib.nwb import (
    NWBSettingsSink,
    add_annotations,
    add_intervals,
    events_path,
    recover,
)

INITIAL, UPDATED, REMOVED = PipelineSettingsEventType


def event(
    seq: int, at: float, address: str, value: Any, kind: PipelineSettingsEventType = UPDATED
) -> PipelineSettingsEvent:
    return PipelineSettingsEvent(seq, at, address, kind, value)


EVENTS = [
    event(2, 110.0, "SYS/A", {"gain": 1, "on": True, "mode": "fast"}, INITIAL),
    event(3, 109.0, "SYS/B", {"taps": np.array([0.5, 1.5]), "cutoff": 30.0}, INITIAL),
    event(4, 110.0, INIT_FINAL_COMPONENT_ADDRESS, "", INITIAL),
    event(5, 112.0, "SYS/A", {"gain": 2, "on": False, "mode": "slow", "order": 4}),
    event(6, 115.0, "SYS/B", {}, REMOVED),
]


def new_file() -> Any:
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    return pynwb.NWBFile(session_description="a test", identifier="test", session_start_time=start)


def read(path: Path) -> tuple[list[tuple[float, Any]], Any]:
    """The annotations with their times, and the intervals as a data frame."""
    with pynwb.NWBHDF5IO(str(path), "r") as file:
        nwbfile = file.read()
        series = nwbfile.acquisition["settings_annotations"]
        texts = [json.loads(text) for text in series.data[:]]
        return (
            list(zip(series.timestamps[:].tolist(), texts, strict=True)),
            nwbfile.intervals["settings"].to_dataframe(),
        )


def record(path: Path, events: list[PipelineSettingsEvent], closed_at: float) -> None:
    clock = ManualClock(monotonic=closed_at)
    with NWBSettingsSink(path, new_file, zero_s=100.0, clock=clock) as sink:
        for each in events:
            sink.append(each)
        sink.flush()


def test_each_event_is_a_row_of_json_at_its_time(tmp_path: Path) -> None:
    record(tmp_path / "run.nwb", EVENTS, 120.0)

    annotations, _ = read(tmp_path / "run.nwb")

    assert [time for time, _ in annotations] == [10.0, 9.0, 12.0, 15.0]
    assert [told["component"] for _, told in annotations] == ["SYS/A", "SYS/B", "SYS/A", "SYS/B"]
    assert annotations[1][1]["settings"] == {"taps": [0.5, 1.5], "cutoff": 30.0}
    assert annotations[3][1]["event_type"] == "REMOVED"


def test_settings_are_typed_columns_over_intervals(tmp_path: Path) -> None:
    record(tmp_path / "run.nwb", EVENTS, 120.0)

    _, table = read(tmp_path / "run.nwb")

    assert table["start_time"].tolist() == [10.0, 12.0, 15.0]
    assert table["stop_time"].tolist() == [12.0, 15.0, 20.0]
    assert table["seq"].tolist() == [4, 5, 6]
    assert table["component"].tolist() == [INIT_FINAL_COMPONENT_ADDRESS, "SYS/A", "SYS/B"]
    assert table["SYS.A.gain"].tolist() == [1, 2, 2]
    assert table["SYS.A.gain"].dtype == np.int64
    assert table["SYS.A.on"].tolist() == [True, False, False]
    assert table["SYS.A.mode"].tolist() == ["fast", "slow", "slow"]
    np.testing.assert_equal(table["SYS.A.order"].tolist(), [np.nan, 4.0, 4.0])
    np.testing.assert_equal(table["SYS.B.cutoff"].tolist(), [30.0, 30.0, np.nan])
    np.testing.assert_equal(
        np.stack(table["SYS.B.taps"].tolist()), [[0.5, 1.5], [0.5, 1.5], [np.nan, np.nan]]
    )


COLUMNS = [
    ([1, None, 3], [1.0, np.nan, 3.0]),
    ([True, None, False], [1, -1, 0]),
    (["a", None, "c"], ["a", "", "c"]),
    ([1, 2.5, 3], [1.0, 2.5, 3.0]),
    ([1, "x", 3], ["1", '"x"', "3"]),
    ([2**60, None, 1], [str(2**60), "", "1"]),
    ([10**30, 1, 1], [str(10**30), "1", "1"]),
    ([[1, 2], [3], [4]], ["[1, 2]", "[3]", "[4]"]),
    ([{"k": 1}, {"k": 2}, {"k": 3}], None),
    ([b"x", b"y", b"z"], ['"eA=="', '"eQ=="', '"eg=="']),
    ([None, None, None], ["", "", ""]),
    ([float("nan"), 1.0, 2.0], [np.nan, 1.0, 2.0]),
]


@pytest.mark.parametrize(("values", "wanted"), COLUMNS, ids=repr)
def test_a_column_is_as_typed_as_its_values(values: Any, wanted: Any, tmp_path: Path) -> None:
    start = [event(1, 0.0, INIT_FINAL_COMPONENT_ADDRESS, "", INITIAL)]
    changes = [event(n + 2, n + 1.0, "A", {"x": value}) for n, value in enumerate(values)]
    changes += [event(9, 9.0, "A", {"x": values[0], "end": 1})]

    record(tmp_path / "run.nwb", start + changes, 110.0)

    _, table = read(tmp_path / "run.nwb")
    if wanted is None:
        assert table["A.x.k"].tolist()[1:4] == [1.0, 2.0, 3.0]
    else:
        np.testing.assert_equal(table["A.x"].tolist()[1:4], wanted)


def test_names_that_hdf5_or_the_table_take_are_avoided(tmp_path: Path) -> None:
    record(
        tmp_path / "run.nwb",
        [event(1, 1.0, "é", "text"), event(2, 2.0, "id", "a"), event(3, 3.0, "tags", "b")],
        110.0,
    )

    _, table = read(tmp_path / "run.nwb")

    assert table["setting."].tolist() == ["text"] * 3
    assert table["id_"].tolist() == ["", "a", "a"]
    assert table["tags_"].tolist() == ["", "", "b"]


def test_no_events_make_a_file_without_rows(tmp_path: Path) -> None:
    record(tmp_path / "run.nwb", [], 110.0)

    with pynwb.NWBHDF5IO(str(tmp_path / "run.nwb"), "r") as file:
        nwbfile = file.read()
        assert len(nwbfile.intervals["settings"]) == 0
        assert nwbfile.acquisition == {}


def test_a_recording_of_somebody_else_takes_settings_in(tmp_path: Path) -> None:
    nwbfile = new_file()
    add_annotations(nwbfile, EVENTS, zero_s=100.0)
    add_intervals(nwbfile, EVENTS, closed_at=120.0, zero_s=100.0)
    with pynwb.NWBHDF5IO(str(tmp_path / "run.nwb"), "w") as file:
        file.write(nwbfile)

    annotations, table = read(tmp_path / "run.nwb")

    assert (len(annotations), len(table)) == (4, 3)


def test_a_file_is_valid_nwb(tmp_path: Path) -> None:
    record(tmp_path / "run.nwb", EVENTS, 120.0)

    assert pynwb.validate(path=str(tmp_path / "run.nwb")) == []


def test_the_file_can_be_looked_at_before_the_end(tmp_path: Path) -> None:
    sink = NWBSettingsSink(tmp_path / "run.nwb", new_file, clock=ManualClock(monotonic=120.0))
    for each in EVENTS[:4]:
        sink.append(each)
    sink.write()
    before = read(tmp_path / "run.nwb")[1]["stop_time"].tolist()
    sink.append(EVENTS[4])

    sink.close(closed_at=130.0)

    assert before == [112.0, 120.0]
    assert read(tmp_path / "run.nwb")[1]["stop_time"].tolist() == [112.0, 115.0, 130.0]


def test_a_closed_sink_leaves_the_file_alone(tmp_path: Path) -> None:
    sink = NWBSettingsSink(tmp_path / "run.nwb", new_file, clock=ManualClock(monotonic=120.0))
    assert "events=0" in repr(sink)
    sink.close()
    sink.close()

    assert [each.name for each in tmp_path.iterdir()] == ["run.nwb"]
    assert "closed" in repr(sink)
    with pytest.raises(ContextClosedError, match="is written and closed"):
        sink.append(EVENTS[0])
    with pytest.raises(ConfigError, match="exists already; give the recording another name"):
        NWBSettingsSink(tmp_path / "run.nwb", new_file)
    with pytest.raises(ConfigError, match="nothing to recover"):
        recover(tmp_path / "run.nwb", new_file)


KILLED = """
import os, signal, sys
from ezgraph.contrib.nwb import NWBSettingsSink
from ezgraph.settings import PipelineSettingsEvent
sink = NWBSettingsSink(sys.argv[1], lambda: None)
sink.append(PipelineSettingsEvent(1, 1.0, "__init_final__", "INITIAL", ""))
for number in range(2, 20):
    sink.append(PipelineSettingsEvent(number, float(number), "A", "UPDATED", {"x": (number,)}))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.integration
def test_a_crash_loses_at_most_the_open_interval(tmp_path: Path) -> None:
    path = tmp_path / "run.nwb"
    subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, str(path)], timeout=60)
    with events_path(path).open("a") as file:
        file.write('{"seq": 20, "timest')

    assert not path.exists()
    assert recover(path, new_file) == 19

    annotations, table = read(path)
    assert [told["settings"]["x"] for _, told in annotations] == [[n] for n in range(2, 20)]
    assert table["start_time"].tolist() == [float(n) for n in range(1, 20)]
    assert table["stop_time"].tolist() == [*map(float, range(2, 20)), 19.0]
    assert [each.name for each in tmp_path.iterdir()] == ["run.nwb"]


def test_a_new_sink_goes_on_with_the_events_of_a_crash(tmp_path: Path) -> None:
    crashed = NWBSettingsSink(tmp_path / "run.nwb", new_file, zero_s=100.0)
    for each in EVENTS[:4]:
        crashed.append(each)
    crashed.abandon()  # what the end of its program does

    record(tmp_path / "run.nwb", EVENTS[4:], 120.0)

    assert read(tmp_path / "run.nwb")[1]["stop_time"].tolist() == [12.0, 15.0, 20.0]


def test_a_file_that_cannot_be_written_costs_no_events(tmp_path: Path) -> None:
    def fail() -> Any:
        raise OSError("the disk is full")

    sink = NWBSettingsSink(tmp_path / "run.nwb", fail, clock=ManualClock(monotonic=120.0))
    sink.append(EVENTS[0])
    with pytest.raises(OSError, match="the disk is full"):
        sink.close()
    sink.append(EVENTS[3])
    with pytest.raises(OSError, match="the disk is full"), sink:
        pass

    assert events_path(tmp_path / "run.nwb").exists()
    assert recover(tmp_path / "run.nwb", new_file) == 2


def test_without_pynwb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynwb", None)

    with pytest.raises(MissingExtraError, match=r"needs pynwb.*pip install 'ezgraph\[nwb\]'"):
        NWBSettingsSink(tmp_path / "run.nwb", new_file)
    assert list(tmp_path.iterdir()) == []
