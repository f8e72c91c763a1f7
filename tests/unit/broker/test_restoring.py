"""The plan of a restore: what changes, what is asked of whom, and what stands in the way."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from ezgraph.broker.restore.plan import Asker, RestorePlan, change_towards, plan_restore
from ezgraph.broker.rules_config import ValueChecks
from ezgraph.config import Limits
from ezgraph.protocol.events import (
    Body,
    ComponentRegistered,
    ConfigSchemaSet,
    ConfigValueSet,
    EdgeConnected,
    Event,
    ProcessOpened,
    ProcessUnitsChanged,
    SessionOpened,
    SettingsChanged,
    SettingsLayer,
    SettingsOwed,
    Source,
    key_of,
)
from ezgraph.protocol.graph_content import GraphContent
from ezgraph.protocol.graphs import Graph
from ezgraph.protocol.metadata import (
    ComponentMetadata,
    DynamicSettingsMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
)
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.state.content import graph_of
from ezgraph.state.graph import GraphState

MINE, THEIRS = "s1", "s2"
PROCESS = UUID(int=5)
SCHEMA = SettingsSchemaMetadata(
    "test",
    "m.S",
    [
        SettingsFieldMetadata("gain", "float"),
        SettingsFieldMetadata("heat", "float", read_only=True),
    ],
)


class Rig:
    """A state, and events for it."""

    def __init__(self) -> None:
        self.state = GraphState()
        self.do(
            SessionOpened(MINE, 6.0),
            SessionOpened(THEIRS, 6.0, "h2"),
            ProcessOpened(PROCESS, 6.0),
            ProcessUnitsChanged(PROCESS, ["A"], ["A"], []),
        )

    def do(self, *bodies: Body) -> None:
        for body in bodies:
            seq, source = self.state.seq + 1, Source(program="rig.py", host="lab1", pid=7)
            self.state.apply(
                Event(1, seq, seq - 1, seq, seq, 1.0 * seq, 1.0, key_of(body), source, None, body)
            )

    def frozen(self) -> Graph:
        return graph_of(self.state, "rig")

    def plan(self, graph: Graph, asker: Asker | None = None, **limits: int) -> RestorePlan:
        return plan_restore(
            self.state,
            GraphContent.of(graph),
            asker or Asker(MINE),
            limits=Limits(**limits),
            checks=ValueChecks(),
        )

    def carry_out(self, plan: RestorePlan) -> None:
        """Do it, with owners that do as they are asked."""
        owed = [settings(each.address, each.value) for each in plan.settings]
        self.do(*plan.bodies, *owed)


def edge(start: str, end: str, owner: str | None = None) -> Body:
    return EdgeConnected(start, end, owner, topology_changed=True)


def value(schema: SettingsSchemaMetadata | None = None, **fields: Any) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, fields, fields, schema)


def settings(address: str, wanted: SettingsSnapshotValue) -> Body:
    return SettingsChanged(
        address, SettingsEventType.SETTINGS_UPDATED, SettingsLayer.LIVE, wanted, PROCESS
    )


def entry(name: str, held: object, owner: str | None = None) -> Body:
    return ConfigValueSet("filter", (name,), held, owner, 1)


def component(address: str, gain: float = 1.0) -> Body:
    dynamic = DynamicSettingsMetadata(enabled=False)
    made = ComponentMetadata(address, address, "m.A", "m.S", (None, {"gain": gain}), dynamic)
    return ComponentRegistered(THEIRS, made)


@pytest.fixture
def rig() -> Rig:
    return Rig()


# --- nothing in the way ---


def test_what_is_as_it_was_needs_nothing(rig: Rig) -> None:
    rig.do(edge("A", "B", THEIRS), settings("A", value(gain=1.0)), entry("low", 1, THEIRS))

    plan = rig.plan(rig.frozen())

    assert not plan
    assert (plan.cannot, plan.not_restored) == ([], [])


def test_a_plan_that_is_carried_out_gives_the_content_that_was(rig: Rig) -> None:
    rig.do(edge("A", "B"), edge("B", "C"), settings("A", value(gain=1.0)), entry("low", 1))
    then, frozen = rig.state.content_fingerprint(), rig.frozen()
    gone = rig.plan(Graph("rig", topology=[("C", "A"), ("X", "Y")]))
    rig.do(*gone.bodies)
    rig.do(settings("A", value(gain=9.0)), entry("low", 2, MINE), entry("high", 3))

    plan = rig.plan(frozen)
    rig.carry_out(plan)

    assert rig.state.content_fingerprint() == then
    assert plan.edges_added == [("A", "B"), ("B", "C")]
    assert plan.edges_removed == [("C", "A"), ("X", "Y")]  # before: A -> B would close a loop
    assert plan.config_set == [("filter", "low")]
    assert plan.config_deleted == [("filter", "high")]


def test_an_edge_that_comes_back_is_persistent_and_an_entry_of_the_askers_stays_theirs(
    rig: Rig,
) -> None:
    rig.do(entry("low", 2, MINE))

    plan = rig.plan(Graph("rig", topology=[("A", "B")], config={"filter": {"low": 1, "new": 2}}))

    added, low, high = plan.bodies
    assert isinstance(added, EdgeConnected)
    assert added.owner is None
    assert isinstance(low, ConfigValueSet)
    assert isinstance(high, ConfigValueSet)
    assert (low.owner, high.owner) == (MINE, None)


def test_an_edge_that_the_asker_and_nobody_hold_is_let_go_by_both(rig: Rig) -> None:
    rig.do(edge("A", "B", MINE), edge("A", "B"))

    plan = rig.plan(Graph("rig"))
    rig.do(*plan.bodies)

    assert plan.edges_removed == [("A", "B")]
    assert [each.topology_changed for each in plan.bodies] == [False, True]  # type: ignore[union-attr]
    assert not rig.state.dag.edge_owners


def test_settings_are_asked_for_field_by_field_of_who_runs_the_unit(rig: Rig) -> None:
    rig.do(settings("A", value(gain=1.0, band={"low": 1, "high": 5})))
    frozen = rig.frozen()
    rig.do(settings("A", value(gain=1.0, band={"low": 2, "high": 5})))

    (wanted,) = rig.plan(frozen).settings

    assert (wanted.address, wanted.changes, wanted.whole) == ("A", {"band.low": 1}, False)
    assert (wanted.owner, wanted.base_seq) == (PROCESS, rig.state.seq)


def test_settings_of_a_unit_that_nobody_runs_are_owed(rig: Rig) -> None:
    (wanted,) = rig.plan(Graph("rig", settings={"GONE": value(gain=1.0)})).settings

    assert (wanted.address, wanted.owner, wanted.changes) == ("GONE", None, {"gain": 1.0})


def test_settings_without_any_fields_are_wanted_where_there_are_none_or_only_text(rig: Rig) -> None:
    rig.do(settings("A", SettingsSnapshotValue(None, "as text")))

    plan = rig.plan(Graph("rig", settings={"A": value(), "GONE": value()}))

    assert [(each.address, each.changes) for each in plan.settings] == [("A", {}), ("GONE", {})]


def test_what_an_earlier_restore_still_owes_is_owed_anew_or_settled(rig: Rig) -> None:
    rig.do(settings("A", value(gain=1.0)))
    frozen = rig.frozen()
    rig.do(SettingsOwed("A", value(gain=7.0)), SettingsOwed("B", value(gain=7.0)))

    plan = rig.plan(frozen)

    assert [each.address for each in plan.settings] == ["A"]  # else it would become 7.0 later
    assert plan.settled == ["B"]


# --- what stays as it is ---


def test_components_are_told_of_and_not_restored(rig: Rig) -> None:
    rig.do(component("OLD"), component("SAME"), component("OTHER"))
    frozen = rig.frozen()
    rig.do(component("OTHER", 2.0), component("NEW"))
    del rig.state.components["OLD"]

    plan = rig.plan(frozen)

    told = dict(plan.not_restored)
    assert told.keys() == {"component OLD", "component NEW", "component OTHER"}
    assert "rig.py on lab1, pid 7" in told["component NEW"]
    assert not plan.cannot


def test_a_field_that_only_shows_something_is_told_of_and_not_asked_for(rig: Rig) -> None:
    rig.do(settings("A", value(SCHEMA, gain=1.0, heat=20.0)))
    frozen = rig.frozen()
    rig.do(settings("A", value(SCHEMA, gain=2.0, heat=30.0)))

    plan = rig.plan(frozen)

    assert [each.changes for each in plan.settings] == [{"gain": 1.0}]
    ((what, why),) = plan.not_restored
    assert (what, "heat" in why) == ("settings A", True)
    assert not plan.cannot


def test_settings_that_came_since_are_told_of(rig: Rig) -> None:
    frozen = rig.frozen()
    rig.do(settings("A", value(gain=2.0)))

    assert [what for what, _ in rig.plan(frozen).not_restored] == ["settings A"]


# --- what stands in the way ---


def test_everything_that_others_hold_is_named_with_who_holds_it(rig: Rig) -> None:
    rig.do(edge("A", "B", THEIRS), edge("C", "D", THEIRS), edge("C", "D", MINE))
    rig.do(entry("new", 1, THEIRS), entry("low", 2, THEIRS))

    plan = rig.plan(Graph("rig", config={"filter": {"low": 1}}))

    assert {each.what for each in plan.cannot} == {
        "edge A -> B", "edge C -> D", "config filter new", "config filter low"
    }
    assert all(THEIRS in each.whose and "lab1" in each.whose for each in plan.cannot)


def test_a_guest_has_nothing_of_its_own(rig: Rig) -> None:
    rig.do(edge("A", "B", MINE), edge("B", "C"))

    plan = rig.plan(Graph("rig"), Asker(None))

    assert plan.edges_removed == [("B", "C")]
    assert [each.what for each in plan.cannot] == ["edge A -> B"]


def test_settings_that_are_bytes_or_do_not_fit_their_schema_are_named_with_their_owner(
    rig: Rig,
) -> None:
    rig.do(settings("A", value(SCHEMA, gain=1.0, heat=1.0)))
    bytes_only = SettingsSnapshotValue(b"\x01", "<Settings>")

    plan = rig.plan(
        Graph("rig", settings={"A": value(gain="loud", heat=1.0, old=3), "B": bytes_only})
    )

    a, b = plan.cannot
    assert (a.what, b.what) == ("settings A", "settings B")
    assert "gain" in a.why
    assert "old" in a.why
    assert str(PROCESS) in a.whose
    assert not plan.settings


def test_entries_that_do_not_fit_a_schema_of_today_are_named_each(rig: Rig) -> None:
    rig.do(ConfigSchemaSet("filter", {"type": "integer"}))

    plan = rig.plan(Graph("rig", config={"filter": {"a": "x", "b": 2, "c": "y"}}))

    assert {each.what for each in plan.cannot} == {"config filter a", "config filter c"}
    assert plan.config_set == [("filter", "b")]


def test_wiring_with_a_loop_and_names_outside_the_grammar_are_in_the_way(rig: Rig) -> None:
    loop = rig.plan(Graph("rig", topology=[("A", "B"), ("B", "A")]))
    long = "L" * 5_000
    name = rig.plan(Graph("rig", topology=[(long, "B")], settings={long: value(gain=1.0)}))

    assert "loop" in loop.cannot[0].why
    assert [each.what[:4] for each in name.cannot] == ["edge", "sett"]
    assert not loop.bodies
    assert not name.bodies
    assert not name.settings


def test_bounds_of_this_broker_are_in_the_way(rig: Rig) -> None:
    graph = Graph("rig", topology=[("A", "B"), ("A", "C")], config={"t": {"a": 1, "b": 2}})

    plan = rig.plan(graph, max_persistent_edges=1, max_config_entries=1)

    many = rig.plan(graph, max_restored_changes=3)

    told = " ".join(each.why for each in plan.cannot)
    assert [each.what for each in many.cannot] == ["so many changes"]
    assert "there would be 4" in many.cannot[0].why
    assert "max_persistent_edges" in told
    assert "max_config_entries" in told


def test_what_a_role_does_not_grant_is_named_verb_by_verb(rig: Rig) -> None:
    rig.do(settings("A", value(gain=1.0)), edge("C", "D"))
    asker = Asker(MINE, lambda verb, key: verb == "connect" and "C" not in key)
    graph = Graph(
        "rig",
        topology=[("A", "B")],
        settings={"A": value(gain=2.0)},
        config={"filter": {"low": 1}},
    )

    plan = rig.plan(graph, asker)

    assert plan.forbidden == ["connect edge/C/D", "config config/filter/low", "set settings/A"]
    assert plan.edges_added == [("A", "B")]


# --- towards what ---


def test_a_mapping_without_a_schema_can_lose_fields_and_one_with_a_schema_cannot() -> None:
    free = change_towards(value(a=1, b=2), value(a=3), None)
    bound = change_towards(value(SCHEMA, gain=1.0, mode=2), value(gain=2.0), SCHEMA)

    assert free is not None
    assert bound is not None
    assert (free.changes, free.whole) == ({"a": 3}, True)
    assert (bound.changes, bound.whole, bound.stays) == ({"gain": 2.0}, False, ("mode",))


@pytest.mark.parametrize("name", [1, "a.b", "", None])
def test_fields_whose_names_are_no_path_are_left_as_they_are_or_in_the_way(name: Any) -> None:
    def held(gain: int, odd: object, **more: Any) -> SettingsSnapshotValue:
        return SettingsSnapshotValue(None, "", {"gain": gain, name: odd, **more})

    same = change_towards(held(1, "x"), held(2, "x"), None)
    other = change_towards(held(1, "x"), held(2, "y"), None)
    come = change_towards(value(gain=1), held(2, "x"), None)
    gone = change_towards(held(1, "x"), value(gain=2), None)
    lost = change_towards(held(1, "x", more=1), held(2, "x"), None)

    assert same is not None
    assert (same.changes, same.whole, same.unfit) == ({"gain": 2}, False, ())
    for each in (other, come, gone, lost):
        assert each is not None
        assert (each.changes, len(each.unfit)) == ({}, 1)


def test_plans_that_do_the_same_have_the_same_mark(rig: Rig) -> None:
    rig.do(settings("A", value(gain=1.0)))
    frozen = rig.frozen()
    rig.do(settings("A", value(gain=2.0)))
    before = rig.plan(frozen).mark()
    rig.do(settings("A", value(gain=2.0)))  # reported again

    again = rig.plan(frozen).mark()
    rig.do(ProcessUnitsChanged(PROCESS, [], [], ["A"]))
    ownerless = rig.plan(frozen).mark()

    assert again == before
    assert ownerless != before
