"""Typed streams over a subscription, and typed answers: settings and changes of them, topology."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from ezgraph.client.watch import Compacted
from ezgraph.errors import CompactedError, DivergedError
from ezgraph.protocol.events import (
    EdgeConnected,
    EdgeDisconnected,
    Event,
    ProcessClosed,
    ProcessUnitsChanged,
    SettingsChanged,
)
from ezgraph.protocol.settings import SettingsChangedEvent, SettingsSnapshotValue
from ezgraph.protocol.snapshot import TopologyChangedEvent, TopologyEventType
from ezgraph.state.graph import GraphState, settings_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.graph.sessions import AnySubscription

T = TypeVar("T")


class EventStream(Generic[T]):
    """An async iterator of typed events, in order of seq, with ``aclose()``.

    Raises `CompactedError` when history it needs is gone (with ``after_seq=0`` it begins with the
    present state instead), `DivergedError` when the broker's history is another one than it
    followed (an older backup was restored). Ends with an error when the broker is gone for good.
    """

    def __init__(
        self,
        subscription: AnySubscription,
        typed: Callable[[Event], T | None],
        begin_with: Callable[[GraphState], Sequence[T]] | None,
    ) -> None:
        self._subscription = subscription
        self._typed = typed
        self._begin_with = begin_with
        self._ready: deque[T] = deque()

    def __repr__(self) -> str:
        return f"<EventStream {self._subscription!r}>"

    def __aiter__(self) -> EventStream[T]:
        return self

    async def __anext__(self) -> T:
        """Return the next event; wait for it."""
        while not self._ready:
            item = await self._subscription.__anext__()
            if isinstance(item, Compacted):
                self._take_snapshot(item)
            self._begin_with = None  # only the first item may stand for what was before
            if isinstance(item, Event) and (event := self._typed(item)) is not None:
                return event
        return self._ready.popleft()

    def _take_snapshot(self, item: Compacted) -> None:
        state: GraphState = item.snapshot
        if item.diverged:
            raise DivergedError(
                f"what this stream followed is no part of the broker's history: a backup was "
                f"restored, or the seq asked for was never given; begin anew from seq {state.seq}"
            )
        if self._begin_with is None:
            raise CompactedError(
                f"history below seq {item.floor} was compacted; go on from the snapshot in this "
                f"error with after_seq={state.seq}",
                floor=item.floor,
                snapshot=state.snapshot(),
            )
        self._ready.extend(self._begin_with(state))

    async def aclose(self) -> None:
        """End the stream."""
        await self._subscription.aclose()


class EventList(list[Event]):
    """Events in order of seq. ``floor``: the oldest seq that can still be asked for."""

    floor = 1


class SettingsSnapshot(dict[str, SettingsSnapshotValue]):
    """The effective settings of every address at ``seq``, sorted by address.

    ``changes`` has the last change of each address, by which it came to be so. In a notebook it
    shows as a table.
    """

    def __init__(self, state: GraphState) -> None:
        super().__init__(state.effective_settings())
        self.seq = state.seq
        self.changes = {each.component_address: each for each in state.last_settings_changes()}

    def _repr_html_(self) -> str:
        from ezgraph.settings.faces import settings_table_html

        return settings_table_html(self, self.changes)


class SettingsEvents(list[SettingsChangedEvent]):
    """The settings events asked for, in order of seq.

    ``complete``: every change after the seq asked for is there. Else history below ``floor`` is
    gone, and the list begins with the last change of each component that is present. In a notebook
    it shows as a history.
    """

    def __init__(
        self, events: Sequence[SettingsChangedEvent], *, floor: int, complete: bool
    ) -> None:
        super().__init__(events)
        self.floor = floor
        self.complete = complete

    def _repr_html_(self) -> str:
        from ezgraph.settings.faces import settings_history_html

        return settings_history_html(self)


def typed_settings(event: Event) -> SettingsChangedEvent | None:
    """Return a settings change in its typed form, None for any other event."""
    if not isinstance(event.body, SettingsChanged):
        return None
    return settings_event(event.seq, event.wall_time, event.source, event.body)


def typed_topology(event: Event) -> TopologyChangedEvent | None:
    """Return a change of wiring or of processes in its typed form, None for any other event."""
    match event.body:
        case EdgeConnected() | EdgeDisconnected() as edge if edge.topology_changed:
            kind, topics = TopologyEventType.GRAPH_CHANGED, [edge.from_topic, edge.to_topic]
        case ProcessUnitsChanged() | ProcessClosed():
            kind, topics = TopologyEventType.PROCESS_CHANGED, []
        case _:
            return None
    return TopologyChangedEvent(
        seq=event.seq,
        event_type=kind,
        timestamp=event.wall_time,
        changed_topics=topics,
        source_session_id=event.source.session_id,
        source_process_id=event.source.process_id,
    )


def present_topology(state: GraphState) -> list[TopologyChangedEvent]:
    """Return what stands in for compacted history: all wiring as one change, then each process.

    Their ``seq`` is the state's, their time and source those of the process, or nobody's.
    """
    found = []
    if state.dag.graph:
        kind, topics = TopologyEventType.GRAPH_CHANGED, sorted(state.dag.graph)
        found.append(TopologyChangedEvent(state.seq, kind, 0.0, topics, None, None))
    kind = TopologyEventType.PROCESS_CHANGED
    for process_id, entry in sorted(state.processes.items()):
        opened = entry.opened_wall
        found.append(TopologyChangedEvent(state.seq, kind, opened, [], None, process_id))
    return found
