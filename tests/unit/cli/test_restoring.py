"""What a restore would change, and who is in the way, on paper."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from ezgraph.cli.looking_back.restoring import Told
from ezgraph.cli.paper import Pipe
from ezgraph.protocol.events import (
    Body,
    Event,
    ProcessOpened,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.protocol.replies import RestoreReport
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.protocol.snapshot import Edge
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    import pytest

OWNER = UUID(int=7)
SCHEMA = SettingsSchemaMetadata(
    "dataclass", "lab.Filter", [SettingsFieldMetadata("cutoff", "float", unit="Hz")]
)
DRY = RestoreReport(
    seq=12,
    name="rig",
    fingerprint=Fingerprint.of("a rig"),
    dry_run=True,
    edges_added=[Edge("A", "B")],
    edges_removed=[Edge("A", "C")],
    settings=[
        ("FILTER", {"cutoff": 30.0, "notch.hz": 50, "label": "new"}, str(OWNER)),
        ("GONE", {"gain": 2}, None),
    ],
    config_set=[("flow", "a:b")],
    config_deleted=[("flow", "c:d")],
    not_restored=[("component X", "its program is not there")],
    tag="good",
)


def before() -> GraphState:
    state = GraphState()
    held = {"cutoff": 20.0, "notch": {"hz": 60}}
    value = SettingsSnapshotValue(None, held, held, SCHEMA)
    updated = SettingsEventType.SETTINGS_UPDATED
    change = SettingsChanged("FILTER", updated, SettingsLayer.LIVE, value)
    rig = Source(program="rig.py", host="lab1", pid=7, process_id=OWNER)
    bodies: tuple[Body, ...] = (ProcessOpened(OWNER, 6.0), change)
    for seq, body in enumerate(bodies, start=1):
        state.apply(Event(1, seq, seq - 1, seq, seq, 0.0, 0.0, key_of(body), rig, None, body))
    return state


def lines(report: RestoreReport, capsys: pytest.CaptureFixture[str]) -> list[str]:
    Told(report, before()).write(Pipe())
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_a_dry_run_says_what_would_change_from_what_to_what(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert lines(DRY, capsys) == [
        "to restore rig@good would change settings of 2 components, edges +1 -1, 2 config entries",
        "",
        "settings",
        "FILTER  made by rig.py[7]@lab1",
        "cutoff    20.0 -> 30.0 Hz",
        "notch.hz  60 -> 50",
        "label     absent -> 'new'",
        "GONE  nobody runs it now; its next program is handed them",
        "gain  absent -> 2",
        "",
        "edges",
        "+ A -> B  (becomes persistent)",
        "- A -> C",
        "",
        "config",
        "~ flow a:b",
        "- flow c:d",
        "",
        "stays as it is",
        "component X",
        "its program is not there",
        "",
        "nothing has changed yet; --yes does it",
    ]


def test_what_stands_in_the_way_is_named_with_whose_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hum = "50 Hz is where\x1b[2J the mains hum"
    report = RestoreReport(
        1, "rig", Fingerprint.of("a rig"), dry_run=True,
        cannot=[("edge A -> D", "another session holds it", "session s1 (view.py)"),
                ("settings of X", "gain is read-only", "")],
        vetoed=[("FILTER", "process 7 (rig.py on lab1, pid 7)", hum)],
    )

    shown = lines(report, capsys)

    assert not Told(replace(report, cannot=[])).is_possible
    assert not Told(replace(report, vetoed=[])).is_possible
    assert shown[0].endswith("would change nothing")
    assert shown[2:] == [
        "stands in the way",
        "edge A -> D (session s1 (view.py))",
        "another session holds it",
        "settings of X",
        "gain is read-only",
        "",
        "refused by those who were asked",
        "FILTER, process 7 (rig.py on lab1, pid 7)",
        r"50 Hz is where\x1b[2J the mains hum",
        "",
        "nothing has changed",
    ]


def test_what_was_done_says_who_has_not_made_it_so_yet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = replace(DRY, dry_run=False, owed=["GONE"], refused=[("FILTER", "no more")])

    shown = lines(done, capsys)

    assert shown[0].startswith("rig@good is restored: settings of 2 components")
    assert shown[-7:-4] == ["refused when it was to be made", "FILTER", "no more"]
    assert shown[-3:] == ["not made so yet", "GONE", "its program has not reported it yet"]


def test_where_nothing_differs_nothing_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    same = RestoreReport(1, "rig", Fingerprint.of("a rig"), dry_run=True, tag="good")

    assert Told(same).is_possible
    assert lines(same, capsys) == ["everything is as in rig@good"]
