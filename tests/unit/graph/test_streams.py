"""Typed streams: which events become what, and what stands in for compacted history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from ezgraph.client.watch import Compacted, Progress
from ezgraph.errors import CompactedError
from ezgraph.graph.streams import (
    EventStream,
    present_topology,
    typed_settings,
    typed_topology,
)
from ezgraph.protocol.events import (
    Body,
    EdgeConnected,
    EdgeDisconnected,
    EndReason,
    Event,
    PauseChanged,
    ProcessClosed,
    ProcessOpened,
    ProcessUnitsChanged,
    SessionOpened,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.protocol.snapshot import TopologyEventType
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = UUID(int=1)
VALUE = SettingsSnapshotValue(None, {"gain": 1}, {"gain": 1})


def event(seq: int, body: Body) -> Event:
    source = Source(session_id="s1", process_id=P)
    return Event(1, seq, seq - 1, seq, seq, 100.0 + seq, 0.0, key_of(body), source, 1, body)


def changed(address: str, reported: float | None = None) -> SettingsChanged:
    kind = SettingsEventType.SETTINGS_UPDATED
    return SettingsChanged(address, kind, SettingsLayer.LIVE, VALUE, P, reported)


def edge(end: str, *, topology_changed: bool = True) -> EdgeConnected:
    return EdgeConnected("a", end, None, topology_changed)


class Items:
    """A subscription that gives what it was made with, and then ends."""

    def __init__(self, *items: object) -> None:
        self._items = list(items)
        self.closed = False

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> object:
        if not self._items:
            raise StopAsyncIteration
        return self._items.pop(0)

    def take_arrived(self) -> object | None:
        return self._items.pop(0) if self._items else None

    async def aclose(self) -> None:
        self.closed = True


def state_at(seq: int, *bodies: Body) -> GraphState:
    events = [event(number, body) for number, body in enumerate(bodies, 1)]
    return GraphState.fold(events, epoch=1, seq=seq)


def settings_stream(
    items: Items, *, begin_with: Callable[[GraphState], Sequence[Any]] | None = None
) -> EventStream[Any]:
    return EventStream(items, typed_settings, begin_with)


async def all_of(stream: EventStream[Any]) -> list[Any]:
    return [each async for each in stream]


def test_a_settings_change_becomes_its_typed_form_and_other_items_are_left_out() -> None:
    items = Items(
        Progress(1), event(2, edge("b")), event(3, changed("A", 7.5)), event(4, changed("B"))
    )

    first, second = asyncio.run(all_of(settings_stream(items)))

    assert (first.seq, first.component_address, first.value) == (3, "A", VALUE)
    assert (first.timestamp, first.wall_time) == (7.5, 103.0)
    assert (first.source_session_id, first.source_process_id) == ("s1", P)
    assert second.timestamp == second.wall_time == 104.0


TOPOLOGY: list[tuple[Body, TopologyEventType | None, list[str]]] = [
    (edge("b"), TopologyEventType.GRAPH_CHANGED, ["a", "b"]),
    (edge("b", topology_changed=False), None, []),
    (
        EdgeDisconnected("a", "b", None, topology_changed=True),
        TopologyEventType.GRAPH_CHANGED,
        ["a", "b"],
    ),
    (EdgeDisconnected("a", "b", None, topology_changed=False), None, []),
    (ProcessUnitsChanged(P, ["A"], ["A"], []), TopologyEventType.PROCESS_CHANGED, []),
    (ProcessClosed(P, EndReason.LOST), TopologyEventType.PROCESS_CHANGED, []),
    (SessionOpened("s1", 6.0), None, []),
    (PauseChanged(paused=True), None, []),
    (changed("A"), None, []),
]


@pytest.mark.parametrize(("body", "kind", "topics"), TOPOLOGY)
def test_a_change_of_wiring_or_of_processes_is_a_topology_event(
    body: Body, kind: TopologyEventType | None, topics: list[str]
) -> None:
    typed = typed_topology(event(5, body))

    if kind is None:
        assert typed is None
    else:
        assert typed is not None
        assert (typed.seq, typed.event_type, typed.changed_topics) == (5, kind, topics)
        assert (typed.timestamp, typed.source_session_id) == (105.0, "s1")


def test_what_is_there_stands_in_for_compacted_topology() -> None:
    state = state_at(9, edge("b"), edge("c"), ProcessOpened(P, 6.0))

    wiring, process = present_topology(state)

    assert (wiring.seq, wiring.changed_topics) == (9, ["a", "b", "c"])
    assert (process.seq, process.source_process_id) == (9, P)
    assert present_topology(GraphState()) == []


def test_compacted_history_is_an_error_with_floor_and_snapshot() -> None:
    items = Items(Compacted(5, state_at(9, edge("b"))), event(10, changed("A")))

    with pytest.raises(CompactedError, match=r"below seq 5 .* with after_seq=9") as told:
        asyncio.run(all_of(settings_stream(items)))

    assert (told.value.floor, told.value.snapshot.seq) == (5, 9)
    assert told.value.snapshot.graph == {"a": ["b"], "b": []}


def test_a_stream_from_zero_begins_with_what_is_there() -> None:
    state = state_at(9, changed("A"), changed("B"))
    items = Items(Compacted(5, state), event(10, changed("C")))
    stream = settings_stream(items, begin_with=lambda found: found.last_settings_changes())

    events = asyncio.run(all_of(stream))

    assert [(each.seq, each.component_address) for each in events] == [
        (1, "A"),
        (2, "B"),
        (10, "C"),
    ]


def test_a_stream_that_has_begun_does_not_begin_again_without_a_word() -> None:
    items = Items(event(1, changed("A")), Compacted(5, state_at(9, changed("A"))))
    stream = settings_stream(items, begin_with=lambda found: found.last_settings_changes())

    with pytest.raises(CompactedError):
        asyncio.run(all_of(stream))


def test_closing_a_stream_closes_its_subscription() -> None:
    items = Items()

    asyncio.run(settings_stream(items).aclose())

    assert items.closed
