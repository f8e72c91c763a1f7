"""Keys and slots of events: where each kind is published, and what makes it irrelevant."""

from __future__ import annotations

from typing import get_args
from uuid import UUID

import pytest

from ezgraph.protocol.events import (
    AccessRefused,
    Body,
    ComponentRegistered,
    ComponentRemoved,
    ConfigSchemaSet,
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
    EndReason,
    Event,
    GraphRegistered,
    GraphRemoved,
    GraphServed,
    GraphWithdrawn,
    HistoryCompacted,
    NodeAnnounced,
    NodeWithdrawn,
    PartitionsWritten,
    PauseChanged,
    ProcessClosed,
    ProcessOpened,
    ProcessTakenOver,
    ProcessUnitsChanged,
    RecordingDeleted,
    RecordingWritten,
    SessionClosed,
    SessionOpened,
    SessionTakenOver,
    SettingsChanged,
    SettingsLayer,
    SettingsOwed,
    SettingsSettled,
    SnapshotFrozen,
    Source,
    StateRestored,
    StoredDeleted,
    TagRemoved,
    TagSet,
    key_of,
    slot_of,
)
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue

P = UUID(int=7)
COMPONENT = ComponentMetadata(
    "SYS/A", "A", "m.A", "m.S", (None, ""), DynamicSettingsMetadata(enabled=False)
)
PRINT = Fingerprint.from_string("a graph")
VALUE = SettingsSnapshotValue(None, {"gain": 1}, {"gain": 1})


def settings(event_type: SettingsEventType) -> SettingsChanged:
    return SettingsChanged("SYS/A", event_type, SettingsLayer.INITIAL, VALUE)


# body, key, slot, whether the slot is filled by it
KINDS: list[tuple[Body, tuple[str, ...], tuple[str, ...], bool]] = [
    (SessionOpened("s", 6.0), ("session", "s"), ("session", "s"), True),
    (SessionTakenOver("s", 6.0, "h", 1, 0.0), ("session", "s"), ("session", "s"), True),
    (ProcessTakenOver(P, 6.0, "h", 1, 0.0), ("process", str(P)), ("process", str(P)), True),
    (HistoryCompacted(9), ("control", "history"), ("control", "history"), False),
    (AccessRefused("bob", "Connect", "forbidden", "no"), ("audit", "bob"), ("audit", "bob"), False),
    (SessionClosed("s", EndReason.CLOSED), ("session", "s"), ("session", "s"), False),
    (ProcessOpened(P, 6.0), ("process", str(P)), ("process", str(P)), True),
    (ProcessClosed(P, EndReason.EXPIRED), ("process", str(P)), ("process", str(P)), False),
    (
        ProcessUnitsChanged(P, ["A"], ["A"], []),
        ("process", str(P)),
        ("process", str(P), "units"),
        True,
    ),
    (
        ProcessUnitsChanged(P, [], [], ["A"]),
        ("process", str(P)),
        ("process", str(P), "units"),
        False,
    ),
    (
        EdgeConnected("a", "b", "s", topology_changed=True),
        ("edge", "a", "b"),
        ("edge", "a", "b", "s"),
        True,
    ),
    (
        EdgeConnected("a", "b", None, topology_changed=False),
        ("edge", "a", "b"),
        ("edge", "a", "b", ""),
        True,
    ),
    (
        EdgeDisconnected("a", "b", "s", topology_changed=True),
        ("edge", "a", "b"),
        ("edge", "a", "b", "s"),
        False,
    ),
    (GraphRegistered("s", 1, None), ("graph", "s"), ("graph", "s"), True),
    (GraphRemoved("s"), ("graph", "s"), ("graph", "s"), False),
    (
        ComponentRegistered("s", COMPONENT),
        ("component", "SYS/A"),
        ("component", "SYS/A"),
        True,
    ),
    (ComponentRemoved("s", "SYS/A"), ("component", "SYS/A"), ("component", "SYS/A"), False),
    (
        settings(SettingsEventType.INITIAL_SETTINGS),
        ("settings", "SYS/A"),
        ("settings", "SYS/A"),
        True,
    ),
    (
        settings(SettingsEventType.SETTINGS_UPDATED),
        ("settings", "SYS/A"),
        ("settings", "SYS/A"),
        True,
    ),
    (
        settings(SettingsEventType.SETTINGS_REMOVED),
        ("settings", "SYS/A"),
        ("settings", "SYS/A"),
        False,
    ),
    (
        ConfigValueSet("flow", ("a", "b"), None, "s"),
        ("config", "flow", "a", "b"),
        ("config", "flow", "a", "b"),
        True,
    ),
    (
        ConfigValueDeleted("flow", ("a", "b"), "s"),
        ("config", "flow", "a", "b"),
        ("config", "flow", "a", "b"),
        False,
    ),
    (ConfigSchemaSet("flow", {}), ("config", "flow"), ("config", "flow"), True),
    (ConfigSchemaSet("flow", None), ("config", "flow"), ("config", "flow"), False),
    (
        GraphServed("run", "r", "s", "i", ["h:1"]),
        ("node", "run", "r"),
        ("node", "run", "r", "s"),
        True,
    ),
    (
        GraphWithdrawn("run", "r", "s", is_last=True),
        ("node", "run", "r"),
        ("node", "run", "r", "s"),
        False,
    ),
    (
        NodeAnnounced("run", "n", ["a", 1], 2, "Node"),
        ("node", "run", "n"),
        ("node", "run", "n"),
        True,
    ),
    (NodeWithdrawn("run", "n"), ("node", "run", "n"), ("node", "run", "n"), False),
    (PauseChanged(paused=True), ("control", "pause"), ("control", "pause"), True),
    (PauseChanged(paused=False), ("control", "pause"), ("control", "pause"), False),
    (
        SnapshotFrozen("rig", PRINT, 1, 7),
        ("snapshot", "rig", str(PRINT)),
        ("snapshot", "rig", str(PRINT)),
        False,
    ),
    (TagSet("rig", "best", PRINT, 7), ("tag", "rig", "best"), ("tag", "rig", "best"), False),
    (TagRemoved("rig", "best"), ("tag", "rig", "best"), ("tag", "rig", "best"), False),
    (PartitionsWritten("raw", PRINT, 3), ("partitions", "raw"), ("partitions", "raw"), False),
    (
        RecordingWritten("rig", "raw", 1, 7),
        ("recording", "rig", "raw"),
        ("recording", "rig", "raw"),
        False,
    ),
    (
        RecordingDeleted("rig", "raw", 1),
        ("recording", "rig", "raw"),
        ("recording", "rig", "raw"),
        False,
    ),
    (
        StoredDeleted("graph", "rig", PRINT),
        ("snapshot", "rig", str(PRINT)),
        ("snapshot", "rig", str(PRINT)),
        False,
    ),
    (
        StoredDeleted("partitions", "raw", PRINT),
        ("partitions", "raw"),
        ("partitions", "raw"),
        False,
    ),
    (
        StateRestored("rig", PRINT, 1, 0, 2, 0),
        ("snapshot", "rig", str(PRINT)),
        ("snapshot", "rig", str(PRINT)),
        False,
    ),
    (SettingsOwed("SYS/A", VALUE), ("owed", "SYS/A"), ("owed", "SYS/A"), True),
    (SettingsSettled("SYS/A"), ("owed", "SYS/A"), ("owed", "SYS/A"), False),
]


def test_every_kind_of_event_is_in_the_table_below() -> None:
    assert {type(body) for body, *_ in KINDS} == set(get_args(Body))


@pytest.mark.parametrize(("body", "key", "slot", "filled"), KINDS)
def test_a_body_has_a_key_and_a_slot(
    body: Body, key: tuple[str, ...], slot: tuple[str, ...], filled: bool
) -> None:
    assert key_of(body) == key
    assert slot_of(body) == (slot, filled)


@pytest.mark.parametrize("body", [body for body, *_ in KINDS])
def test_the_room_of_a_slot_is_the_first_segment_of_the_key(body: Body) -> None:
    slot, _ = slot_of(body)

    assert slot[0] == key_of(body)[0]


def test_what_ends_something_clears_the_slot_that_its_beginning_filled() -> None:
    pairs: list[tuple[Body, Body]] = [
        (SessionOpened("s", 6.0), SessionClosed("s", EndReason.LOST)),
        (ProcessOpened(P, 6.0), ProcessClosed(P, EndReason.LOST)),
        (GraphRegistered("s", 1, "R"), GraphRemoved("s")),
        (ComponentRegistered("s", COMPONENT), ComponentRemoved("s", "SYS/A")),
        (
            EdgeConnected("a", "b", None, topology_changed=True),
            EdgeDisconnected("a", "b", None, topology_changed=True),
        ),
        (PauseChanged(paused=True), PauseChanged(paused=False)),
        (ConfigValueSet("flow", ("a",), 1, "s"), ConfigValueDeleted("flow", ("a",))),
        (ConfigSchemaSet("flow", {}), ConfigSchemaSet("flow", None)),
        (SettingsOwed("SYS/A", VALUE), SettingsSettled("SYS/A", "vetoed")),
        (
            GraphServed("run", "r", "s", "i", ["h:1"]),
            GraphWithdrawn("run", "r", "s", is_last=False),
        ),
        (NodeAnnounced("run", "n", [], 0, "Node"), NodeWithdrawn("run", "n")),
    ]

    for begin, end in pairs:
        assert slot_of(begin) == (slot_of(end)[0], True)
        assert not slot_of(end)[1]


def test_two_owners_of_one_edge_have_two_slots_under_one_key() -> None:
    one = EdgeConnected("a", "b", "s1", topology_changed=True)
    two = EdgeConnected("a", "b", None, topology_changed=False)

    assert key_of(one) == key_of(two)
    assert slot_of(one) != slot_of(two)


def test_an_event_is_of_the_kind_of_its_body() -> None:
    body = PauseChanged(paused=True)

    event = Event(1, 5, 4, 5, 5, 1.0, 2.0, key_of(body), Source(), None, body)

    assert event.kind == "PauseChanged"
