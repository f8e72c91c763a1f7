"""The typed public forms of the state, and typed topology events."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ezgraph.protocol.metadata import GraphMetadata

if TYPE_CHECKING:
    from ezgraph.protocol.config import ConfigEntry
    from ezgraph.protocol.settings import SettingsSnapshotValue

PERSISTENT = "persistent"


class Edge(NamedTuple):
    """A directed edge between two topics."""

    from_topic: str
    to_topic: str


@dataclass(frozen=True, slots=True)
class SnapshotSession:
    """What a session owns."""

    edges: list[Edge]
    metadata: GraphMetadata | None = None


@dataclass(frozen=True, slots=True)
class SnapshotProcess:
    """What a process client runs, and where."""

    process_id: UUID
    pid: int | None = None
    host: str | None = None
    units: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SnapshotGraph:
    """A served graph of data nodes, and the client ids of those who serve it."""

    root_uid: str
    owners: list[str]


@dataclass(frozen=True, slots=True)
class GraphSnapshot:
    """The state of the rig at one ``seq``. Everything is in sorted order.

    ``edge_owners`` shows owners as session ids or ``"persistent"``. ``settings`` are the
    effective values by component address. ``config`` are the entries of the configuration by type
    and key; None: they were not asked for. ``graphs`` are the served graphs of data nodes by name.
    ``filtered``: it has only what the key may read.
    """

    seq: int
    epoch: int
    graph: dict[str, list[str]]
    edge_owners: dict[Edge, list[str]]
    sessions: dict[str, SnapshotSession]
    processes: dict[UUID, SnapshotProcess] = field(default_factory=dict)
    settings: dict[str, SettingsSnapshotValue] = field(default_factory=dict)
    paused: bool = False
    filtered: bool = False
    config: dict[str, dict[tuple[str, ...], ConfigEntry]] | None = None
    graphs: dict[str, SnapshotGraph] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Return the picture of the graph for a notebook."""
        from ezgraph.protocol.drawing import snapshot_html

        return snapshot_html(self)


class TopologyEventType(enum.Enum):
    """What changed: the edges, or who runs which unit."""

    GRAPH_CHANGED = "GRAPH_CHANGED"
    PROCESS_CHANGED = "PROCESS_CHANGED"


@dataclass(frozen=True, slots=True)
class TopologyChangedEvent:
    """One change of wiring or of processes; ``timestamp`` in seconds since 1970."""

    seq: int
    event_type: TopologyEventType
    timestamp: float
    changed_topics: list[str]
    source_session_id: str | None
    source_process_id: UUID | None


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Who holds a lease on the broker. Times are seconds before the listing was made.

    ``config`` is the type and the key of each ephemeral entry of the configuration; ``graphs`` are
    the names of those it serves.
    """

    id: str
    kind: str
    host: str
    pid: int
    program: str
    login: str
    key_name: str | None
    age_s: float
    last_heard_s: float
    main_loop_age_s: float | None
    ttl_s: float
    suspended: bool = False
    edges: list[Edge] = field(default_factory=list)
    components: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    config: list[tuple[str, ...]] = field(default_factory=list)
    graphs: list[str] = field(default_factory=list)
