"""Which changes are told to whom, and that what was told adds up to what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph.errors import ForbiddenError
from ezgraph.protocol.events import (
    Body,
    ComponentRegistered,
    ComponentRemoved,
    Event,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.settings.scope import Scope, Told

if TYPE_CHECKING:
    from collections.abc import Iterable

INITIAL, UPDATED, REMOVED = SettingsEventType


def value(gain: object) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, {"gain": gain}, {"gain": gain})


def changed(address: str, gain: object, kind: SettingsEventType = UPDATED) -> SettingsChanged:
    return SettingsChanged(address, kind, SettingsLayer.LIVE, value(gain))


def registered(address: str, session: str) -> ComponentRegistered:
    unit = ComponentMetadata(
        address, "A", "m.A", "m.S", (b"", {}), DynamicSettingsMetadata(enabled=True)
    )
    return ComponentRegistered(session, unit)


class History:
    """Events in transactions, and what a snapshot of them holds."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, *bodies: Body, session: str | None = "s") -> list[Event]:
        first = len(self.events) + 1
        last = len(self.events) + len(bodies)
        made = [
            Event(1, seq, seq - 1, first, last, 1000.0 + seq, float(seq), key_of(body),
                  Source(session), None, body)
            for seq, body in enumerate(bodies, first)
        ]
        self.events += made
        return made

    @property
    def live(self) -> list[Event]:
        slots: dict[tuple[str, str], Event] = {}
        for event in self.events:
            match event.body:
                case SettingsChanged(address=address, event_type=kind):
                    slots.pop(("s", address), None)
                    if kind is not REMOVED:
                        slots["s", address] = event
                case ComponentRegistered(component=component):
                    slots["c", component.address] = event
                case ComponentRemoved(address=address):
                    slots.pop(("c", address), None)
                case _:
                    pass
        return sorted(slots.values(), key=lambda event: event.seq)


def told(changes: Iterable[Told]) -> list[tuple[int, str, SettingsEventType, Any]]:
    return [
        (each.seq, each.address, each.event_type, (each.value.structured_value or {}).get("gain"))
        for each in changes
    ]


@pytest.mark.parametrize(
    ("scope", "reads", "unreadable"),
    [
        (Scope(), ["settings"], []),
        (Scope(), ["settings/RIG_A/*"], []),
        (Scope(["A", "B"]), ["settings/B"], ["A"]),
        (Scope(None, "A"), ["settings", "component/A"], []),
    ],
)
def test_what_of_a_scope_may_not_be_read_is_known(
    scope: Scope, reads: list[str], unreadable: list[str]
) -> None:
    assert scope.check_readable(reads) == unreadable


@pytest.mark.parametrize(
    ("scope", "reads", "says"),
    [
        (Scope(), [], "may not read settings: its role reads nothing"),
        (Scope(), ["edge", "component"], "its role reads edge, component"),
        (Scope(["A", "B"]), ["settings/C"], "'A', 'B' cannot be read"),
        (Scope(None, "A"), ["settings", "component/B"], "and not component/A"),
    ],
)
def test_a_scope_of_which_nothing_could_be_told_is_refused(
    scope: Scope, reads: list[str], says: str
) -> None:
    with pytest.raises(ForbiddenError, match=says):
        scope.check_readable(reads)


def test_the_start_is_sorted_by_address_with_the_stamps_of_the_last_change() -> None:
    history = History()
    history.add(changed("B", 1, INITIAL))
    history.add(changed("A", 2, INITIAL), session="t")
    history.add(changed("B", 3))

    start = Scope().start(history.live)

    assert told(start) == [(2, "A", INITIAL, 2), (3, "B", INITIAL, 3)]
    assert [each.session_id for each in start] == ["t", "s"]
    assert [each.stamp and each.stamp.mono_time for each in start] == [2.0, 3.0]


def test_changes_are_told_as_what_they_are() -> None:
    history, scope = History(), Scope()
    scope.start([])

    seen = [
        *scope.take(history.add(changed("A", 1))),
        *scope.take(history.add(changed("A", 2, INITIAL))),
        *scope.take(history.add(changed("A", 2, REMOVED))),
    ]

    assert told(seen) == [(1, "A", UPDATED, 1), (2, "A", INITIAL, 2), (3, "A", REMOVED, 2)]
    assert len(scope) == 0


def test_other_addresses_than_those_given_are_not_told() -> None:
    history, scope = History(), Scope(["A", "C"])
    history.add(changed("A", 1), changed("B", 1))

    start = scope.start(history.live)
    seen = scope.take(history.add(changed("B", 2), changed("C", 3)))

    assert told(start) == [(1, "A", INITIAL, 1)]
    assert told(seen) == [(4, "C", UPDATED, 3)]


def test_no_address_given_is_not_any() -> None:
    history = History()
    history.add(changed("A", 1))

    assert Scope([]).start(history.live) == []


@pytest.fixture
def two() -> tuple[History, Scope]:
    """Sessions ``s`` with A and B, ``t`` with X; the scope follows the one that holds A."""
    history = History()
    history.add(registered("A", "s"), changed("A", 1), registered("B", "s"), changed("B", 1))
    history.add(registered("X", "t"), changed("X", 1), session="t")
    scope = Scope(session_of="A")
    scope.start(history.live)
    return history, scope


def test_only_the_session_of_the_address_is_told_of(two: tuple[History, Scope]) -> None:
    history, scope = two

    seen = scope.take(history.add(changed("X", 2), changed("B", 2)))

    assert told(seen) == [(8, "B", UPDATED, 2)]


def test_a_component_that_the_session_adds_is_told_once(two: tuple[History, Scope]) -> None:
    history, scope = two

    seen = scope.take(history.add(registered("C", "s"), changed("C", 5, INITIAL)))

    assert told(seen) == [(8, "C", INITIAL, 5)]


def test_a_component_that_leaves_while_its_live_value_stays_is_removed(
    two: tuple[History, Scope],
) -> None:
    history, scope = two

    seen = scope.take(history.add(ComponentRemoved("s", "B")))
    later = scope.take(history.add(changed("B", 9)))

    assert told(seen) == [(7, "B", REMOVED, 1)]
    assert later == []


def test_a_component_that_ends_is_removed_once_by_its_own_event(
    two: tuple[History, Scope],
) -> None:
    history, scope = two

    seen = scope.take(history.add(ComponentRemoved("s", "B"), changed("B", 1, REMOVED)))

    assert told(seen) == [(8, "B", REMOVED, 1)]


def test_when_another_session_takes_the_address_its_components_are_followed(
    two: tuple[History, Scope],
) -> None:
    history, scope = two

    gone = scope.take(history.add(ComponentRemoved("s", "A"), changed("A", 1, REMOVED)))
    moved = scope.take(history.add(registered("A", "t"), changed("A", 7, INITIAL)))

    assert told(gone) == [(8, "A", REMOVED, 1), (8, "B", REMOVED, 1)]
    assert told(moved) == [(6, "X", INITIAL, 1), (10, "A", INITIAL, 7)]


def test_the_difference_of_a_snapshot_is_the_last_change_of_each() -> None:
    history, scope = History(), Scope()
    history.add(*(changed(each, 1) for each in "ABC"))
    scope.start(history.live)
    history.add(changed("A", 2), changed("C", 1, REMOVED), changed("A", 3), changed("D", 4))

    seen = scope.compare(history.live, 7)

    assert told(seen) == [(6, "A", UPDATED, 3), (7, "D", INITIAL, 4), (7, "C", REMOVED, 1)]
    assert seen[-1].stamp is None
    assert scope.compare(history.live, 7) == []


steps = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from(["s", "t"]), st.integers(0, 3)), max_size=25
)


@given(steps=steps, session_of=st.sampled_from([None, "A", "C"]), miss=st.sets(st.integers(0, 24)))
def test_what_was_told_adds_up_to_what_is_there(
    steps: list[tuple[str, str, int]], session_of: str | None, miss: set[int]
) -> None:
    history, scope = History(), Scope(session_of=session_of)
    seen: dict[str, int] = {}
    scope.start([])
    holder: dict[str, str] = {}
    for number, (address, session, action) in enumerate(steps):
        if action == 0 and holder.get(address, session) == session:
            holder[address] = session
            made = history.add(registered(address, session), changed(address, number, INITIAL))
        elif action == 1 and address in holder:
            made = history.add(ComponentRemoved(holder.pop(address), address))
        elif action == 2 and any(_of(each) == address for each in history.live):
            made = history.add(changed(address, number, REMOVED))
        else:
            made = history.add(changed(address, number))
        missed = number in miss
        for each in scope.compare(history.live, made[-1].seq) if missed else scope.take(made):
            if each.event_type is REMOVED:
                del seen[each.address]
            else:
                seen[each.address] = each.seq

    there = {at: each.seq for each in history.live if (at := _of(each)) is not None}
    if session_of is not None:
        session_now = holder.get(session_of)
        there = {a: s for a, s in there.items() if session_now and holder.get(a) == session_now}
    assert seen == there
    assert seen.keys() == {each.address for each in scope.start(history.live)}


def _of(event: Event) -> str | None:
    return event.body.address if isinstance(event.body, SettingsChanged) else None
