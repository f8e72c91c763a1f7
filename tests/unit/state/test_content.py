"""The content of a state: what it comes to as a graph, and what a change of it costs."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ezgraph.errors import InvalidValueError
from ezgraph.protocol import fingerprint_tree
from ezgraph.protocol.events import (
    Body,
    ComponentRegistered,
    ComponentRemoved,
    EdgeConnected,
    EdgeDisconnected,
    EndReason,
    Event,
    PauseChanged,
    ProcessOpened,
    SessionClosed,
    SessionOpened,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.graph_content import GraphContent
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.state import content
from ezgraph.state.content import graph_of
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    import pytest

PROCESS = UUID(int=5)


class Rig:
    """A state, and events for it."""

    def __init__(self) -> None:
        self.state = GraphState()

    def do(self, *bodies: Body) -> None:
        for body in bodies:
            seq, source = self.state.seq + 1, Source(session_id="s1")
            self.state.apply(
                Event(1, seq, seq - 1, seq, seq, 1.0 * seq, 1.0, key_of(body), source, None, body)
            )


def component(address: str, gain: float) -> ComponentMetadata:
    dynamic = DynamicSettingsMetadata(enabled=False)
    return ComponentMetadata(address, address, "m.A", "m.S", (None, {"gain": gain}), dynamic)


def settings(address: str, gain: float, layer: SettingsLayer = SettingsLayer.LIVE) -> Body:
    value = SettingsSnapshotValue(None, {"gain": gain}, {"gain": gain})
    return SettingsChanged(address, SettingsEventType.SETTINGS_UPDATED, layer, value, PROCESS)


def begun(session: str = "s1") -> Rig:
    rig = Rig()
    rig.do(
        SessionOpened(session, 6.0),
        ProcessOpened(PROCESS, 6.0),
        EdgeConnected("A/OUT", "B/IN", session, topology_changed=True),
        ComponentRegistered(session, component("A", 1.0)),
        settings("A", 1.0),
    )
    return rig


def test_the_graph_of_a_state_has_its_wiring_metadata_and_settings() -> None:
    rig = begun()

    made = graph_of(rig.state, "rig")

    assert made.topology == (("A/OUT", "B/IN"),)
    assert made.components == {"A": component("A", 1.0)}
    assert made.settings["A"].structured_value == {"gain": 1.0}
    assert made.fingerprint == rig.state.content_fingerprint()
    assert "left=0" in repr(rig.state.content)


def test_a_component_without_settings_of_its_own_has_its_initial_ones() -> None:
    rig = Rig()
    rig.do(SessionOpened("s1", 6.0), ComponentRegistered("s1", component("A", 3.0)))

    assert graph_of(rig.state, "rig").settings["A"].structured_value == {"gain": 3.0}


def test_what_changes_while_the_content_is_first_digested_is_in_it_as_it_is_then() -> None:
    rig, whole = Rig(), Rig()
    begin: list[Body] = [SessionOpened("s1", 6.0), ProcessOpened(PROCESS, 6.0)]
    begin += [ComponentRegistered("s1", component(f"U{n}", float(n))) for n in range(20)]
    later: list[Body] = [
        EdgeConnected("A", "B", None, topology_changed=True),
        ComponentRemoved("s1", "U3"),
        ComponentRegistered("s1", component("U4", 44.0)),
        ComponentRegistered("s1", component("new", 1.0)),
        settings("U19", 5.0),
    ]
    rig.do(*begin)
    whole.do(*begin, *later)

    assert rig.state.content.left == 40
    for body in later:
        rig.state.content.digest_some(3)
        rig.do(body)
    while not rig.state.content.is_current:
        rig.state.content.digest_some(7)

    assert rig.state.content_fingerprint() == whole.state.content_fingerprint()


def test_what_could_not_be_digested_is_left_and_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, whole = begun(), begun()
    rig.state.content.digest_some(1)
    left = rig.state.content.left

    def fails(*_: Any) -> bytes:
        raise InvalidValueError("it has no fingerprint")

    with monkeypatch.context() as patch:
        patch.setattr(content, "component_digest", fails)
        for _ in range(2):  # the first time it is listed, then it was touched
            with suppress(InvalidValueError):
                rig.state.content.digest_some(left)

    assert rig.state.content.left > 0
    assert rig.state.content_fingerprint() == whole.state.content_fingerprint()


def test_who_holds_what_and_when_it_came_about_does_not_count() -> None:
    one, two = begun("s1"), begun("s2")
    two.do(PauseChanged(paused=True), EdgeConnected("A/OUT", "B/IN", None, topology_changed=False))

    assert one.state.content_fingerprint() == two.state.content_fingerprint()
    assert one.state.fingerprint() != two.state.fingerprint()


def test_what_was_changed_and_changed_back_has_the_fingerprint_it_had() -> None:
    rig = begun()
    before = rig.state.content_fingerprint()
    steps: list[tuple[Body, Body]] = [
        (settings("A", 2.0), settings("A", 1.0)),
        (
            EdgeConnected("B/OUT", "C/IN", None, topology_changed=True),
            EdgeDisconnected("B/OUT", "C/IN", None, topology_changed=True),
        ),
        (ComponentRegistered("s1", component("B", 1.0)), ComponentRemoved("s1", "B")),
    ]

    for there, back in steps:
        rig.do(there)
        assert rig.state.content_fingerprint() != before
        rig.do(back)
        assert rig.state.content_fingerprint() == before


def test_an_edge_held_by_two_stays_until_the_last_lets_go() -> None:
    rig = begun()
    rig.do(EdgeConnected("A/OUT", "B/IN", None, topology_changed=False))
    before = rig.state.content_fingerprint()

    rig.do(EdgeDisconnected("A/OUT", "B/IN", "s1", topology_changed=False))
    assert rig.state.content_fingerprint() == before
    rig.do(EdgeDisconnected("A/OUT", "B/IN", None, topology_changed=True))
    assert rig.state.content_fingerprint() != before


def test_a_change_costs_its_own_slots_and_nothing_where_nobody_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots: list[Any] = []
    put = fingerprint_tree.FingerprintTree.put

    def watched(tree: Any, slot: Any, content: bytes) -> None:
        slots.append(slot)
        put(tree, slot, content)

    monkeypatch.setattr(fingerprint_tree.FingerprintTree, "put", watched)
    rig = begun()
    rig.do(*(ComponentRegistered("s1", component(f"U{n}", 1.0)) for n in range(100)))
    assert slots == []

    rig.state.content_fingerprint()
    assert len(slots) == 1 + 2 * 101
    slots.clear()
    rig.do(settings("U7", 2.0), PauseChanged(paused=True), SessionClosed("s9", EndReason.CLOSED))
    rig.state.content_fingerprint()
    rig.state.content_fingerprint()

    assert slots == [("settings", "U7")]


def test_it_can_be_digested_a_little_at_a_time() -> None:
    rig = begun()
    content = rig.state.content
    steps = 0
    while not content.is_current:
        content.digest_some(1)
        steps += 1

    assert steps == 3
    assert content.fingerprint() == graph_of(begun().state, "x").fingerprint


def test_what_differs_from_a_graph_is_told_slot_by_slot() -> None:
    rig = begun()
    then = GraphContent.of(graph_of(rig.state, "rig"))
    assert then.differing(rig.state.content.tree()) == set()

    rig.do(
        settings("A", 2.0),
        settings("B", 1.0),
        EdgeDisconnected("A/OUT", "B/IN", "s1", topology_changed=True),
    )

    changed = {("settings", "A"), ("edge", "A/OUT", "B/IN")}  # B is in no slot of the graph's
    assert then.differing(rig.state.content.tree()) == changed
    assert rig.state.content_fingerprint() == graph_of(rig.state, "rig").fingerprint
