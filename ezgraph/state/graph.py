"""The state of the rig at one seq, and `apply`, which alone changes it.

The broker and every replica hold a `GraphState` and feed it the same events in order of seq; so
they agree at equal seq, and `GraphState.fingerprint` shows it. `apply` makes an event true and
cannot refuse: whether an event may happen was decided before it was made (`ezgraph.broker`).

Invariants between events of a transaction's end:

* the edges form a DAG; every owner in it is persistent or an open session;
* a component's session is open; a unit's process is open;
* an entry of the configuration is persistent, or its session is open;
* a served graph of data nodes is served by sessions or processes that are open, and has one root;
* the effective settings of an address are the live value a process reported, else the initial
  value of its component; an address with neither has no entry;
* what is *owed* at an address is what a restore wants its settings to be, and their owner has not
  reported yet: it is no part of the effective settings.

A state may be *filtered*: folded from the part of the events that a role lets one read. Then what
belongs to a session or process that one may not see is there without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from ezgraph.errors import UnknownComponentError
from ezgraph.protocol.events import (
    AccessRefused,
    ComponentRegistered,
    ComponentRemoved,
    ConfigSchemaSet,
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
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
    in_words,
)
from ezgraph.protocol.fingerprints import Fingerprint, fingerprint
from ezgraph.protocol.metadata import ComponentMetadata, GraphMetadata
from ezgraph.protocol.settings import (
    SettingsChangedEvent,
    SettingsEventType,
    SettingsSnapshotValue,
    initial_value,
)
from ezgraph.protocol.snapshot import (
    PERSISTENT,
    Edge,
    GraphSnapshot,
    SnapshotProcess,
    SnapshotSession,
)
from ezgraph.state.config import ConfigState
from ezgraph.state.content import Content, settings_at
from ezgraph.state.dag import DAG
from ezgraph.state.nodes import NodesState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID


@dataclass(slots=True)
class SessionEntry:
    """An open session and what it registered; its edges are in the DAG."""

    source: Source
    opened_seq: int
    opened_wall: float
    ttl_s: float
    holder: str = ""
    graph: GraphRegistered | None = None
    components: set[str] = field(default_factory=set)


@dataclass(slots=True)
class ProcessEntry:
    """An open process client: the units it runs and the addresses it reported live values for."""

    source: Source
    opened_seq: int
    opened_wall: float
    ttl_s: float
    holder: str = ""
    units: list[str] = field(default_factory=list)
    live: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class ComponentEntry:
    """A component and the session that holds its address."""

    session_id: str
    seq: int
    metadata: ComponentMetadata


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """The effective settings at an address, by their last change."""

    seq: int
    wall_time: float
    source: Source
    change: SettingsChanged

    @property
    def value(self) -> SettingsSnapshotValue:
        """The effective value."""
        return self.change.value


class GraphState:
    """Everything that is true at ``seq``."""

    def __init__(self) -> None:
        self.epoch = 0
        self.seq = 0
        self.sessions: dict[str, SessionEntry] = {}
        self.processes: dict[UUID, ProcessEntry] = {}
        self.unit_owner: dict[str, UUID] = {}
        self.dag = DAG()
        self.components: dict[str, ComponentEntry] = {}
        self.settings: dict[str, SettingEntry] = {}
        self.config = ConfigState()
        self.owed: dict[str, SettingsOwed] = {}
        self.served = NodesState()
        self.paused = False
        self.filtered = False
        self._content: Content | None = None  # once somebody has asked for its fingerprint

    def __repr__(self) -> str:
        config = f" config={len(self.config)}" if len(self.config) else ""
        served = f" graphs={len(self.served)}" if len(self.served) else ""
        return (
            f"<GraphState epoch={self.epoch} seq={self.seq} sessions={len(self.sessions)} "
            f"processes={len(self.processes)} edges={len(self.dag.edge_owners)} "
            f"components={len(self.components)} settings={len(self.settings)}"
            f"{config}{served}>"
        )

    @classmethod
    def fold(
        cls, events: Iterable[Event], *, epoch: int, seq: int, filtered: bool = False
    ) -> GraphState:
        """Return the state that ``events`` (a history, or the live set) add up to at ``seq``.

        ``filtered``: they are only those that somebody may read.
        """
        state = cls()
        state.filtered = filtered
        for event in events:
            state.apply(event)
        state.epoch, state.seq = epoch, seq
        return state

    def apply(self, event: Event) -> None:
        """Make ``event`` true."""
        body = event.body
        match body:
            case SettingsChanged():
                self._apply_settings(event, body)
            case ConfigValueSet():
                self.config.put(event, body)
            case ConfigValueDeleted():
                self.config.delete(body)
            case EdgeConnected():
                self.dag.add_edge(body.from_topic, body.to_topic, body.owner)
            case EdgeDisconnected():
                self.dag.remove_edge(body.from_topic, body.to_topic, body.owner)
            case ComponentRegistered():
                entry = ComponentEntry(body.session_id, event.seq, body.component)
                self.components[body.component.address] = entry
                if (session := self._session(body.session_id)) is not None:
                    session.components.add(body.component.address)
            case ComponentRemoved():
                self.components.pop(body.address, None)
                if (session := self._session(body.session_id)) is not None:
                    session.components.discard(body.address)
            case GraphRegistered():
                if (session := self._session(body.session_id)) is not None:
                    session.graph = body
            case GraphRemoved():
                if (session := self._session(body.session_id)) is not None:
                    session.graph = None
            case SessionOpened():
                self.sessions[body.session_id] = SessionEntry(
                    event.source, event.seq, event.wall_time, body.ttl_s, body.holder
                )
            case SessionTakenOver():
                taken = self.sessions.setdefault(
                    body.session_id,
                    SessionEntry(event.source, body.opened_seq, body.opened_wall, body.ttl_s),
                )
                taken.source, taken.holder = event.source, body.holder
            case SessionClosed():
                self.sessions.pop(body.session_id, None)
            case ProcessOpened():
                self.processes[body.process_id] = ProcessEntry(
                    event.source, event.seq, event.wall_time, body.ttl_s, body.holder
                )
            case ProcessTakenOver():
                process = self.processes.setdefault(
                    body.process_id,
                    ProcessEntry(event.source, body.opened_seq, body.opened_wall, body.ttl_s),
                )
                process.source, process.holder = event.source, body.holder
            case ProcessUnitsChanged():
                self._apply_units(body)
            case ProcessClosed():
                self.processes.pop(body.process_id, None)
            case ConfigSchemaSet():
                self.config.set_schema(body)
            case NodeAnnounced():
                self.served.announce(body)
            case NodeWithdrawn():
                self.served.remove(body)
            case GraphServed():
                self.served.serve(event, body)
            case GraphWithdrawn():
                self.served.withdraw(body)
            case PauseChanged():
                self.paused = body.paused
            case SettingsOwed():
                self.owed[body.address] = body
            case SettingsSettled():
                self.owed.pop(body.address, None)
            case HistoryCompacted() | AccessRefused():
                pass  # what is true stays true
            case SnapshotFrozen() | TagSet() | TagRemoved() | PartitionsWritten():
                pass  # the store has it
            case RecordingWritten() | RecordingDeleted():
                pass
            case StoredDeleted() | StateRestored():
                pass
            case _:
                assert_never(body)
        self.epoch, self.seq = event.epoch, event.seq
        if self._content is not None:
            self._content.touch(body)

    def _session(self, session_id: str) -> SessionEntry | None:
        """Return an open session; None: it is not to be seen in this part of the state."""
        return self.sessions.get(session_id) if self.filtered else self.sessions[session_id]

    def _process(self, process_id: UUID) -> ProcessEntry | None:
        return self.processes.get(process_id) if self.filtered else self.processes[process_id]

    def _apply_settings(self, event: Event, change: SettingsChanged) -> None:
        before = self.settings.pop(change.address, None)
        if before is not None and before.change.process_id is not None:
            holder = self.processes.get(before.change.process_id)
            if holder is not None:
                holder.live.discard(change.address)
        if change.event_type is SettingsEventType.SETTINGS_REMOVED:
            return
        self.settings[change.address] = SettingEntry(
            event.seq, event.wall_time, event.source, change
        )
        if change.layer is SettingsLayer.LIVE and change.process_id in self.processes:
            self.processes[change.process_id].live.add(change.address)

    def _apply_units(self, change: ProcessUnitsChanged) -> None:
        if (process := self._process(change.process_id)) is not None:
            for unit in process.units:
                self.unit_owner.pop(unit, None)
            process.units = change.units
        for unit in change.units:
            self.unit_owner[unit] = change.process_id

    # --- what the state looks like from outside ---

    def effective_settings(self) -> dict[str, SettingsSnapshotValue]:
        """Return the effective value of every address, sorted by address."""
        return {address: self.settings[address].value for address in sorted(self.settings)}

    def settings_of(self, address: str) -> SettingsSnapshotValue:
        """Return the effective settings of one component.

        Raises:
            UnknownComponentError: there are none at ``address``; names some there are.
        """
        found = settings_at(self, address)
        if found is None:
            known = sorted(self.settings.keys() | self.components.keys())
            raise UnknownComponentError(
                f"there are no settings at {address!r} at seq {self.seq}; "
                + (f"there are {_some(known)}" if known else "there are none at all")
            )
        return found

    def setting(self, address: str, field_path: str) -> Any:  # noqa: ANN401
        """Return the effective value of one field of a component's settings, by its dotted path.

        So ``(await ctx.at(812)).setting("SYS/FILTER", "gain")`` is what the gain was at seq 812.

        Raises:
            UnknownComponentError: there are no settings at ``address``.
            UnknownFieldError: they have no such field; names those they have.
        """
        return self.settings_of(address).field(field_path)

    def _settings_with_initial(self) -> dict[str, SettingsSnapshotValue]:
        """Return the effective values, of components too whose own entries were not fetched."""
        shown = {address: entry.value for address, entry in self.settings.items()}
        for address, component in self.components.items():
            if address not in shown:
                shown[address] = initial_value(component.metadata)
        return dict(sorted(shown.items()))

    def last_settings_changes(self) -> list[SettingsChangedEvent]:
        """Return the last change of every address that has settings, in order of seq."""
        entries = sorted(self.settings.values(), key=lambda entry: entry.seq)
        return [
            settings_event(entry.seq, entry.wall_time, entry.source, entry.change)
            for entry in entries
        ]

    def metadata_of(self, session_id: str) -> GraphMetadata | None:
        """Return what a session registered, or None."""
        session = self.sessions[session_id]
        if session.graph is None:
            return None
        components = {
            address: self.components[address].metadata for address in sorted(session.components)
        }
        return GraphMetadata(session.graph.schema_version, session.graph.root_name, components)

    def edges_of(self, owner: str | None) -> list[Edge]:
        """Return the edges an owner holds, sorted."""
        return [Edge(*edge) for edge in self.dag.edges_of(owner)]

    def snapshot(self) -> GraphSnapshot:
        """Return the typed public form, in sorted order."""
        dag = self.dag
        return GraphSnapshot(
            seq=self.seq,
            epoch=self.epoch,
            graph={topic: sorted(dag.graph[topic]) for topic in sorted(dag.graph)},
            edge_owners={
                Edge(*edge): sorted(PERSISTENT if o is None else o for o in dag.edge_owners[edge])
                for edge in sorted(dag.edge_owners)
            },
            sessions={
                session_id: SnapshotSession(self.edges_of(session_id), self.metadata_of(session_id))
                for session_id in sorted(self.sessions)
            },
            processes={
                process_id: SnapshotProcess(
                    process_id, entry.source.pid, entry.source.host, sorted(entry.units)
                )
                for process_id, entry in sorted(self.processes.items())
            },
            settings=self._settings_with_initial(),
            config=self.config.by_type(),
            graphs=self.served.shown(),
            paused=self.paused,
            filtered=self.filtered,
        )

    @property
    def slots(self) -> int:
        """How many slots `content` has, at most."""
        values = len(self.settings) + len(self.config)
        return len(self.dag.edge_owners) + 2 * len(self.components) + values

    @property
    def content(self) -> Content:
        """The wiring, metadata and settings, apart from who holds them and since when."""
        if self._content is None:
            self._content = Content(self)
        return self._content

    def content_fingerprint(self) -> Fingerprint:
        """Return the fingerprint of `content`: that of the graph a snapshot of it would have.

        The first call costs as much as the state is large, those after it what has changed.
        """
        return self.content.fingerprint()

    def fingerprint(self) -> str:
        """Return the content hash of everything in the state, seq and epoch included.

        Two states at the same seq with equal fingerprints are equal.
        """
        config = [self.config.entries, self.config.schemas]
        owed = [self.owed] if self.owed else []
        served = [self.served.hosts, self.served.nodes]
        return fingerprint(
            "ezgraph.state",
            [
                self.epoch,
                self.seq,
                self.paused,
                {edge: sorted(o or "" for o in owners)
                 for edge, owners in self.dag.edge_owners.items()},
                self.sessions,
                self.processes,
                self.unit_owner,
                self.components,
                self.settings,
                *(config if any(config) else ()),  # without any: as it was before there was any
                *owed,
                *(served if any(served) else ()),
            ],
        )


def settings_event(
    seq: int, wall_time: float, source: Source, change: SettingsChanged
) -> SettingsChangedEvent:
    """Return the typed public form of a settings change."""
    reported = change.reported_time
    return SettingsChangedEvent(
        seq=seq,
        event_type=change.event_type,
        component_address=change.address,
        timestamp=wall_time if reported is None else reported,
        source_session_id=source.session_id,
        source_process_id=source.process_id,
        value=change.value,
        wall_time=wall_time,
        by=in_words(change.asked_by or source),
    )


_SHOWN = 5


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
