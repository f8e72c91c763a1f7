"""The state: what each event makes true; history and live set fold to the same."""

from __future__ import annotations

from itertools import count
from uuid import UUID

import pytest

from ezgraph.errors import UnknownComponentError, UnknownFieldError
from ezgraph.protocol.events import (
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
    PauseChanged,
    ProcessClosed,
    ProcessOpened,
    ProcessUnitsChanged,
    SessionClosed,
    SessionOpened,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
    slot_of,
)
from ezgraph.protocol.fingerprints import fingerprint
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata, GraphMetadata
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.protocol.snapshot import Edge, SnapshotProcess, SnapshotSession
from ezgraph.state.graph import GraphState

P1, P2 = UUID(int=1), UUID(int=2)
SESSION = Source(session_id="s1", client="s1", program="demo", host="rig", pid=7)
INITIAL, UPDATED, REMOVED = SettingsEventType
FIRST_WALL_S = 1_700_000_000.0


def component(address: str) -> ComponentMetadata:
    return ComponentMetadata(
        address, address, "m.A", "m.S", (None, {"gain": 1}), DynamicSettingsMetadata(enabled=True)
    )


def value(gain: int) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, {"gain": gain}, {"gain": gain})


def initial(address: str, gain: int = 1) -> SettingsChanged:
    return SettingsChanged(address, INITIAL, SettingsLayer.INITIAL, value(gain))


def live(address: str, gain: int, process: UUID = P1) -> SettingsChanged:
    return SettingsChanged(address, UPDATED, SettingsLayer.LIVE, value(gain), process)


def removed(address: str, gain: int) -> SettingsChanged:
    return SettingsChanged(address, REMOVED, SettingsLayer.LIVE, value(gain))


def numbered(*bodies: Body, source: Source = SESSION) -> list[Event]:
    """Events of one each, from seq 1 on."""
    return [
        Event(
            1, seq, seq - 1, seq, seq, FIRST_WALL_S + seq, float(seq), key_of(body), source, 1, body
        )
        for seq, body in zip(count(1), bodies, strict=False)
    ]


def after(*bodies: Body, source: Source = SESSION) -> GraphState:
    state = GraphState()
    for event in numbered(*bodies, source=source):
        state.apply(event)
    return state


def test_a_new_state_is_empty() -> None:
    snapshot = GraphState().snapshot()

    assert (snapshot.seq, snapshot.epoch, snapshot.graph) == (0, 0, {})
    assert (snapshot.sessions, snapshot.processes, snapshot.settings) == ({}, {}, {})
    assert not snapshot.paused


def test_an_event_moves_seq_and_epoch() -> None:
    state = after(PauseChanged(paused=True), PauseChanged(paused=False))

    assert (state.epoch, state.seq) == (1, 2)


def test_a_session_opens_and_closes() -> None:
    opened = after(SessionOpened("s1", 6.0))
    entry = opened.sessions["s1"]
    assert (entry.source, entry.opened_seq, entry.opened_wall) == (SESSION, 1, FIRST_WALL_S + 1)
    assert entry.ttl_s == 6.0

    closed = after(SessionOpened("s1", 6.0), SessionClosed("s1", EndReason.CLOSED))
    assert closed.sessions == {}


def test_a_process_opens_takes_units_and_closes() -> None:
    bodies: list[Body] = [
        ProcessOpened(P1, 6.0),
        ProcessUnitsChanged(P1, ["B", "A"], ["B", "A"], []),
    ]
    state = after(*bodies)
    assert state.snapshot().processes == {P1: SnapshotProcess(P1, 7, "rig", ["A", "B"])}
    assert state.unit_owner == {"A": P1, "B": P1}

    state = after(*bodies, ProcessUnitsChanged(P1, ["A"], [], ["B"]))
    assert state.unit_owner == {"A": P1}

    state = after(
        *bodies, ProcessUnitsChanged(P1, [], [], ["A", "B"]), ProcessClosed(P1, EndReason.LOST)
    )
    assert (state.processes, state.unit_owner) == ({}, {})


def test_edges_have_owners_and_go_with_the_last() -> None:
    state = after(
        SessionOpened("s1", 6.0),
        EdgeConnected("a", "b", "s1", topology_changed=True),
        EdgeConnected("a", "b", None, topology_changed=False),
    )
    assert state.snapshot().edge_owners == {Edge("a", "b"): ["persistent", "s1"]}
    assert state.edges_of("s1") == [Edge("a", "b")]

    state.apply(numbered(EdgeDisconnected("a", "b", "s1", topology_changed=False))[0])
    assert state.snapshot().edge_owners == {Edge("a", "b"): ["persistent"]}

    state.apply(numbered(EdgeDisconnected("a", "b", None, topology_changed=True))[0])
    assert state.snapshot().graph == {}


def test_components_belong_to_their_session() -> None:
    bodies: list[Body] = [
        SessionOpened("s1", 6.0),
        GraphRegistered("s1", 2, "SYS"),
        ComponentRegistered("s1", component("SYS/B")),
        ComponentRegistered("s1", component("SYS/A")),
    ]
    state = after(*bodies)
    metadata = GraphMetadata(2, "SYS", {"SYS/A": component("SYS/A"), "SYS/B": component("SYS/B")})
    assert state.metadata_of("s1") == metadata
    assert list(metadata.components) == ["SYS/A", "SYS/B"]
    assert state.snapshot().sessions == {"s1": SnapshotSession([], metadata)}
    assert state.components["SYS/A"].session_id == "s1"

    state = after(*bodies, ComponentRemoved("s1", "SYS/A"), GraphRemoved("s1"))
    assert state.metadata_of("s1") is None
    assert state.components.keys() == {"SYS/B"}


def test_settings_are_by_address_and_the_last_change_counts() -> None:
    state = after(
        ProcessOpened(P1, 6.0),
        initial("B"),
        initial("A"),
        live("B", 2),
    )
    assert state.effective_settings() == {"A": value(1), "B": value(2)}
    assert list(state.effective_settings()) == ["A", "B"]
    assert [event.component_address for event in state.last_settings_changes()] == ["A", "B"]
    assert state.processes[P1].live == {"B"}

    state = after(initial("A"), removed("A", 1))
    assert (state.settings, state.last_settings_changes()) == ({}, [])


def test_a_process_knows_which_of_its_live_values_are_effective() -> None:
    state = after(
        ProcessOpened(P1, 6.0), ProcessOpened(P2, 6.0), live("A", 1), live("B", 1), live("A", 2, P2)
    )
    assert state.processes[P1].live == {"B"}
    assert state.processes[P2].live == {"A"}

    state = after(ProcessOpened(P1, 6.0), live("A", 1), initial("A"))
    assert state.processes[P1].live == set()


def test_the_last_changes_carry_who_and_when() -> None:
    reported = SettingsChanged("A", UPDATED, SettingsLayer.LIVE, value(2), P1, 12.5)
    source = Source(process_id=P1)

    _, event = after(initial("B"), reported, source=source).last_settings_changes()

    assert (event.seq, event.timestamp, event.wall_time) == (2, 12.5, FIRST_WALL_S + 2)
    assert (event.source_process_id, event.source_session_id) == (P1, None)
    assert event.event_type is UPDATED


def test_pausing_is_state() -> None:
    assert after(PauseChanged(paused=True)).snapshot().paused
    assert not after(PauseChanged(paused=True), PauseChanged(paused=False)).snapshot().paused


HISTORY: list[Body] = [
    SessionOpened("s1", 6.0),
    ProcessOpened(P1, 6.0),
    ProcessOpened(P2, 6.0),
    SessionOpened("s2", 6.0),
    EdgeConnected("a", "b", "s1", topology_changed=True),
    EdgeConnected("a", "b", "s2", topology_changed=False),
    EdgeConnected("b", "c", None, topology_changed=True),
    GraphRegistered("s1", 1, "SYS"),
    ComponentRegistered("s1", component("A")),
    initial("A"),
    ComponentRegistered("s1", component("B")),
    initial("B"),
    ProcessUnitsChanged(P1, ["A", "B"], ["A", "B"], []),
    live("A", 2),
    live("B", 3),
    PauseChanged(paused=True),
    EdgeDisconnected("a", "b", "s1", topology_changed=False),
    ProcessUnitsChanged(P1, ["A"], [], ["B"]),
    SettingsChanged("B", UPDATED, SettingsLayer.INITIAL, value(1)),
    EdgeDisconnected("b", "c", None, topology_changed=True),
    GraphRegistered("s1", 1, "NEW"),
    ComponentRegistered("s1", component("A")),
    SettingsChanged("A", INITIAL, SettingsLayer.LIVE, value(2), P1),
    ProcessClosed(P2, EndReason.EXPIRED),
    EdgeDisconnected("a", "b", "s2", topology_changed=True),
    SessionClosed("s2", EndReason.CLOSED),
    PauseChanged(paused=False),
    ConfigValueSet("flow", ("a", "b"), {"gain": 1}, None, 7),
    ConfigValueSet("flow", ("a",), None, "s1", 1),
    ConfigSchemaSet("flow", {"type": "object"}),
    ConfigValueSet("flow", ("a", "b"), {"gain": 2}, "s1", 7),
    ConfigValueDeleted("flow", ("a",), "s1"),
    ConfigSchemaSet("flow", None),
    ConfigValueDeleted("flow", ("a", "b"), "s1"),
]


@pytest.mark.parametrize("length", range(len(HISTORY) + 1))
def test_the_live_events_fold_to_the_same_state_as_the_whole_history(length: int) -> None:
    history = numbered(*HISTORY[:length])
    state = GraphState()
    live_events: dict[tuple[str, ...], Event] = {}
    for event in history:
        state.apply(event)
        slot, filled = slot_of(event.body)
        live_events.pop(slot, None)
        if filled:
            live_events[slot] = event

    folded = GraphState.fold(live_events.values(), epoch=state.epoch, seq=state.seq)

    assert folded.fingerprint() == state.fingerprint()
    assert folded.snapshot() == state.snapshot()


def test_a_fingerprint_tells_any_difference() -> None:
    prints = {after(*HISTORY[:length]).fingerprint() for length in range(len(HISTORY) + 1)}

    assert len(prints) == len(HISTORY) + 1


def test_a_fingerprint_sees_owners_values_and_sources() -> None:
    def of(owner: str | None, gain: int, pid: int) -> str:
        bodies: list[Body] = [
            SessionOpened("s1", 6.0),
            EdgeConnected("a", "b", owner, topology_changed=True),
            initial("A", gain),
        ]
        return after(*bodies, source=Source(session_id="s1", pid=pid)).fingerprint()

    assert of("s1", 1, 7) == of("s1", 1, 7)
    assert len({of("s1", 1, 7), of(None, 1, 7), of("s1", 2, 7), of("s1", 1, 8)}) == 4


def test_a_state_shows_how_much_it_holds() -> None:
    assert repr(after(*HISTORY[:16])) == (
        "<GraphState epoch=1 seq=16 sessions=2 processes=2 edges=2 components=2 settings=2>"
    )
    assert repr(after(*HISTORY[:29])).endswith("settings=2 config=2>")


def test_a_fingerprint_without_configuration_is_what_it_was_before_there_was_any() -> None:
    put = ConfigValueSet("flow", ("a",), 1)
    plain, had = after(PauseChanged(paused=True)), after(put, ConfigValueDeleted("flow", ("a",)))
    assert plain.seq == 1

    known = fingerprint(
        "ezgraph.state", [1, 1, True, {}, {}, {}, {}, {}, {}]
    )

    assert plain.fingerprint() == known
    assert had.fingerprint() == fingerprint(
        "ezgraph.state", [1, 2, False, {}, {}, {}, {}, {}, {}]
    )


# --- one setting ---


def test_a_setting_is_told_by_its_dotted_path() -> None:
    state = GraphState()
    nested = {"gain": 2, "notch": {"frequency": 50.0, "taps": (1, 2)}}
    changed = SettingsChanged(
        "SYS/A", UPDATED, SettingsLayer.LIVE, SettingsSnapshotValue(None, nested, nested)
    )
    bodies: list[Body] = [SessionOpened("s1", 6.0), registered("SYS/B"), changed]
    for seq, body in enumerate(bodies, 1):
        state.apply(
            Event(1, seq, seq - 1, seq, seq, 1.0, 0.0, key_of(body), SESSION, None, body)
        )

    assert state.setting("SYS/A", "gain") == 2
    assert state.setting("SYS/A", "notch.frequency") == 50.0
    assert state.setting("SYS/A", "notch") == nested["notch"]
    assert state.settings_of("SYS/A").structured_value == nested
    assert state.setting("SYS/B", "gain") == 1  # as its metadata says, for nobody has changed it
    assert state.snapshot().settings["SYS/A"].field("notch.taps") == (1, 2)


@pytest.mark.parametrize(
    ("address", "path", "kind", "says"),
    [
        ("SYS/C", "gain", UnknownComponentError, r"no settings at 'SYS/C'.*there are SYS/B"),
        ("SYS/B", "volume", UnknownFieldError, r"no field 'volume'.*there are gain"),
        ("SYS/B", "gain.left", UnknownFieldError, r"in 'gain' has no fields, it is 1"),
        ("SYS/B", "", UnknownFieldError, "no field ''"),
    ],
)
def test_a_setting_that_is_not_there_is_an_error_that_names_what_is(
    address: str, path: str, kind: type[Exception], says: str
) -> None:
    state = GraphState()
    bodies: list[Body] = [SessionOpened("s1", 6.0), registered("SYS/B")]
    for seq, body in enumerate(bodies, 1):
        state.apply(
            Event(1, seq, seq - 1, seq, seq, 1.0, 0.0, key_of(body), SESSION, None, body)
        )

    with pytest.raises(kind, match=says):
        state.setting(address, path)


def test_where_there_are_no_settings_at_all_it_says_so() -> None:
    with pytest.raises(UnknownComponentError, match="there are none at all"):
        GraphState().settings_of("SYS/A")


def registered(address: str) -> ComponentRegistered:
    return ComponentRegistered("s1", component(address))
