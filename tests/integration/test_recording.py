"""A recording through everything: its tables have, row by row, what the journal has."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    Backend,
    ComponentMetadata,
    DynamicSettingsMetadata,
    Event,
    GraphMetadata,
    GraphServer,
    sync,
)
from ezgraph.graph.streams import typed_settings
from ezgraph.protocol.events import SettingsChanged
from ezgraph.protocol.plain import plain
from ezgraph.protocol.settings import SettingsEventType
from ezgraph.settings import (
    INIT_FINAL_COMPONENT_ADDRESS,
    PipelineSettingsEvent,
    SettingsTable,
)
from ezgraph.wire import codec
from tests.integration.conftest import Program

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.integration

RECORDER = Path(__file__).with_name("recorder.py")
NEAR_S = 0.05
UNIT = ComponentMetadata(
    "SYS/U", "A", "m.A", "m.S", (None, {"gain": 1}), DynamicSettingsMetadata(enabled=True)
)
KINDS = {
    SettingsEventType.INITIAL_SETTINGS: "INITIAL",
    SettingsEventType.SETTINGS_UPDATED: "UPDATED",
    SettingsEventType.SETTINGS_REMOVED: "REMOVED",
}


def settings(number: int) -> dict[str, Any]:
    band = {"low": number / 2, "high": float("inf")}
    return {"gain": number, "band": band, "name": f"a,\n{number}"}


class Rig:
    """A broker that restarts on its journal, and the process whose settings change."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.server = GraphServer(backend=url).start()
        self.address = self.server.address
        self.process = sync.ProcessControlClient(self.address)
        self.process.connect()
        self.process.register(["SYS/A", "SYS/B", "SYS/END"])
        self.ctx = sync.GraphContext(self.address)
        self.ctx.open()
        self.ctx.register_metadata(GraphMetadata(components={"SYS/U": replace(UNIT)}))
        for each in ("SYS/B", "SYS/A", "SYS/END"):
            self.process.report_settings_update(each, settings(0))

    def change(self, *numbers: int) -> None:
        for number in numbers:
            unit = "SYS/A" if number % 3 else "SYS/B"
            self.process.report_settings_update(unit, settings(number))

    def restart(self) -> None:
        self.server.stop()
        self.server = GraphServer(backend=self._url).start(self.address)

    def remove(self, unit: str) -> None:
        self.process.update_ownership(removed=[unit])

    def close(self) -> list[Event]:
        """End it; return the changes of settings that its journal has."""
        self.process.close()
        self.ctx.close()
        self.server.stop()
        connected = Backend.from_url(self._url).connect()
        with connected as connection, connection.open_journal() as journal:
            chunk = journal.read(0, max_rows=10_000)
        events = [codec.decode_event(each) for each in chunk.events]
        return [each for each in events if isinstance(each.body, SettingsChanged)]


def rows_of(journal: Iterable[Event], start: int) -> list[tuple[dict[str, Any], float]]:
    """The rows that a recording from seq ``start`` on has by the journal, with their times."""
    last: dict[str, Event] = {}
    rows = []
    for event in journal:
        assert isinstance(event.body, SettingsChanged)
        if event.seq > start:
            rows.append(row_of(event))
        elif event.body.event_type is SettingsEventType.SETTINGS_REMOVED:
            del last[event.body.address]
        else:
            last[event.body.address] = event
    begin = [row_of(event) for _, event in sorted(last.items())]
    return [(row | {"event_type": "INITIAL"}, time) for row, time in begin] + rows


def row_of(event: Event) -> tuple[dict[str, Any], float]:
    assert isinstance(event.body, SettingsChanged)
    shown = {
        "component": event.body.address,
        "event_type": KINDS[event.body.event_type],
        "seq": event.seq,
        "settings": plain(event.body.value.structured_value),
    }
    return shown, event.mono_time


def events_of(rows: Iterable[dict[str, Any]]) -> list[PipelineSettingsEvent]:
    return [
        PipelineSettingsEvent(
            row["seq"], 0.0, row["component"], row["event_type"], row["settings"]
        )
        for row in rows
    ]


def test_tables_have_row_by_row_what_the_journal_has(tmp_path: Path) -> None:
    rig = Rig(f"sqlite:///{tmp_path}/rig.db")
    command = [sys.executable, str(RECORDER), str(rig.address), str(tmp_path)]
    first, second = Program(command), None
    try:
        began = started(first)
        rig.change(*range(1, 15))
        rig.restart()
        rig.remove("SYS/B")
        rig.process.register(["SYS/A", "SYS/END", "SYS/B"])
        rig.change(*range(15, 30))
        written = [first.hear() for _ in range(20)]
        first.kill()
        rig.change(*range(30, 40))
        second = Program(command)
        went_on = started(second)
        rig.change(*range(40, 60))
        rig.restart()
        rig.ctx.register_metadata(GraphMetadata(components={}))
        rig.change(60)
        rig.remove("SYS/END")
        while (said := second.hear())["component"] != "SYS/END":
            assert said["seq"] > went_on
        assert second._process.wait(20) == 0
    finally:
        first.kill()
        if second is not None:
            second.kill()
        journal = rig.close()

    end = said["seq"]
    journal = [each for each in journal if each.seq <= end]
    of_first, of_second = rows_of(journal, began), rows_of(journal, went_on)
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    rows = [json.loads(each["data"]) for each in lines]
    killed_at = len(rows) - len(of_second)
    assert killed_at >= len(written) + 4
    by_journal = of_first[:killed_at] + of_second
    assert rows == [row for row, _ in by_journal]
    for line, (_, mono_time) in zip(lines, by_journal, strict=True):
        assert line["timestamp"] == pytest.approx(mono_time, abs=NEAR_S)
        assert line["table_name"] == "settings_annotations"

    with (tmp_path / "rows.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    beside = by_the_kill(rows, killed_at, [json.loads(each["data"]) for each in cells])
    assert [json.loads(each["data"]) for each in cells] == beside

    table = SettingsTable(events_of(rows[killed_at:]))
    stored = SettingsTable(filter(None, map(typed_settings, after(journal, went_on))))
    compare_tables(table, stored, went_on)

    if (tmp_path / "rows.nwb").exists():
        compare_nwb(tmp_path / "rows.nwb", rows, killed_at, of_second)


def started(program: Any) -> int:
    """Return the seq with which it began, when it has."""
    while (said := program.hear())["component"] != INIT_FINAL_COMPONENT_ADDRESS:
        continue
    seq: int = said["seq"]
    return seq


def by_the_kill(
    rows: list[dict[str, Any]], killed_at: int, found: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what a sink has that is written to after the first one: it may lack the last row."""
    missing = len(rows) - len(found)
    assert missing in (0, 1)
    return rows[: killed_at - missing] + rows[killed_at:]


def after(journal: Iterable[Event], seq: int) -> list[Event]:
    """The last change of each component up to a seq, and all after it."""
    last: dict[str, Event] = {}
    rest = []
    for event in journal:
        assert isinstance(event.body, SettingsChanged)
        if event.seq > seq:
            rest.append(event)
        else:
            last.pop(event.body.address, None)
            if event.body.event_type is not SettingsEventType.SETTINGS_REMOVED:
                last[event.body.address] = event
    return [*last.values(), *rest]


def compare_tables(table: SettingsTable, stored: SettingsTable, start: int) -> None:
    for ours, theirs in zip(table.rows(), stored.rows(), strict=True):
        assert ours.change.seq == theirs.change.seq
        assert ours.change.component == theirs.change.component
        assert plain(ours.values) == plain(theirs.values)
        if ours.change.seq > start:
            assert ours.change.event_type == theirs.change.event_type


def compare_nwb(
    path: Path, rows: list[dict[str, Any]], killed_at: int, of_second: list[Any]
) -> None:
    pynwb = pytest.importorskip("pynwb")
    with pynwb.NWBHDF5IO(str(path), "r") as file:
        content = file.read()
        series = content.acquisition["settings_annotations"]
        told, times = [json.loads(each) for each in series.data[:]], list(series.timestamps[:])
        intervals = content.intervals["settings"].to_dataframe()

    assert told == by_the_kill(rows, killed_at, told)
    of_run = times[-len(of_second) :]
    assert of_run == pytest.approx([time for _, time in of_second], abs=NEAR_S)
    changes = [row for row in told[-len(of_second) :] if row["event_type"] != "INITIAL"]
    tail = intervals.tail(len(changes))
    assert list(tail["seq"]) == [row["seq"] for row in changes]
    assert list(tail["start_time"])[1:] == list(tail["stop_time"])[:-1]
    gains = [row["settings"]["gain"] for row in changes if row["component"] == "SYS/A"]
    assert list(tail[tail["component"] == "SYS/A"]["SYS.A.gain"]) == gains
    assert tail["SYS.END.gain"].isna().tolist() == [*[False] * (len(tail) - 1), True]
