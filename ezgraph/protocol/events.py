"""Events: what has become true. State is their fold.

Each body has a key (`key_of`), under which it is published, and a slot (`slot_of`): the place in
the live set it takes or clears. A later event in a slot makes the earlier one irrelevant to the
fold, so the live set, folded in order of seq, gives the same state as the whole history.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, assert_never
from uuid import UUID

from ezgraph.names import Key
from ezgraph.protocol.config import ROOM as CONFIG_ROOM
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.metadata import ComponentMetadata
from ezgraph.protocol.served import ROOM as NODE_ROOM
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue

Slot = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Who caused an event. ``login`` is claimed by the client, ``key_name`` is proved."""

    session_id: str | None = None
    process_id: UUID | None = None
    client: str | None = None
    program: str | None = None
    host: str | None = None
    pid: int | None = None
    login: str | None = None
    key_name: str | None = None
    reason: str | None = None


def in_words(source: Source) -> str:
    """Return who caused something: ``rig.py[3412]@lab1 anna``; with a key, which is proved, first.

    The names are as others gave them.
    """
    if source.client is None and source.host is None:
        return source.program or "the broker"
    if source.program is None and source.host is None:
        return f"client {source.client}"  # of whom nothing else is known any more
    pid = "" if source.pid is None else f"[{source.pid}]"
    login = f" {source.login}" if source.login else ""
    proved = f"key {source.key_name}: " if source.key_name else ""
    return f"{proved}{source.program or '?'}{pid}@{source.host or '?'}{login}"


class EndReason(enum.Enum):
    """Why a lease ended."""

    CLOSED = "closed"
    EXPIRED = "expired"
    LOST = "lost"


class SettingsLayer(enum.Enum):
    """Where an effective value comes from: the session's metadata, or a process's report."""

    INITIAL = "initial"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A session got its lease of ``ttl_s`` seconds; ``holder`` stands for the program in it."""

    session_id: str
    ttl_s: float
    holder: str = ""


@dataclass(frozen=True, slots=True)
class SessionTakenOver:
    """Another program (``holder``, the event's source) showed the token and goes on with it.

    It repeats when the session was opened, so that it can stand for `SessionOpened`.
    """

    session_id: str
    ttl_s: float
    holder: str
    opened_seq: int
    opened_wall: float


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A session ended; the events before it in its transaction removed what it owned."""

    session_id: str
    reason: EndReason


@dataclass(frozen=True, slots=True)
class ProcessOpened:
    """A process client got its lease; the fields are those of `SessionOpened`."""

    process_id: UUID
    ttl_s: float
    holder: str = ""


@dataclass(frozen=True, slots=True)
class ProcessTakenOver:
    """Another program goes on as this process client; the fields are as in `SessionTakenOver`."""

    process_id: UUID
    ttl_s: float
    holder: str
    opened_seq: int
    opened_wall: float


@dataclass(frozen=True, slots=True)
class ProcessClosed:
    """A process client ended, and with it its units and live values."""

    process_id: UUID
    reason: EndReason


@dataclass(frozen=True, slots=True)
class ProcessUnitsChanged:
    """A process now runs ``units``; ``added`` and ``removed`` say what changed."""

    process_id: UUID
    units: list[str]
    added: list[str]
    removed: list[str]


@dataclass(frozen=True, slots=True)
class EdgeConnected:
    """``owner`` (None: persistent) now holds the edge; it may have had other owners before."""

    from_topic: str
    to_topic: str
    owner: str | None
    topology_changed: bool


@dataclass(frozen=True, slots=True)
class EdgeDisconnected:
    """``owner`` holds the edge no longer; the topology changed if it was the last."""

    from_topic: str
    to_topic: str
    owner: str | None
    topology_changed: bool


@dataclass(frozen=True, slots=True)
class GraphRegistered:
    """A session registered metadata; its components follow in the same transaction."""

    session_id: str
    schema_version: int
    root_name: str | None


@dataclass(frozen=True, slots=True)
class GraphRemoved:
    """A session's metadata is gone."""

    session_id: str


@dataclass(frozen=True, slots=True)
class ComponentRegistered:
    """A component stands at ``component.address``, held by one session."""

    session_id: str
    component: ComponentMetadata


@dataclass(frozen=True, slots=True)
class ComponentRemoved:
    """The component at ``address`` is gone."""

    session_id: str
    address: str


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The effective settings at ``address`` changed; ``value`` is the effective value.

    ``reported_time`` is the reporter's own time in seconds since 1970, as given. ``asked_by`` is
    who had it changed from elsewhere, with the reason they gave, and ``answers`` the request.
    """

    address: str
    event_type: SettingsEventType
    layer: SettingsLayer
    value: SettingsSnapshotValue
    process_id: UUID | None = None
    reported_time: float | None = None
    asked_by: Source | None = None
    answers: str | None = None


@dataclass(frozen=True, slots=True)
class PauseChanged:
    """Publishers of samples are asked to pause, or to go on."""

    paused: bool


@dataclass(frozen=True, slots=True)
class ConfigValueSet:
    """An entry of the configuration has this value; ``owner`` (None: persistent) holds it.

    ``value_bytes`` is what the value takes up, encoded. ``created_seq`` is since when there is such
    an entry; 0: by this very event.
    """

    type: str
    key: tuple[str, ...]
    value: Any
    owner: str | None = None
    value_bytes: int = 0
    created_seq: int = 0


@dataclass(frozen=True, slots=True)
class ConfigValueDeleted:
    """An entry of the configuration, which ``owner`` held (None: it was persistent), is gone."""

    type: str
    key: tuple[str, ...]
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigSchemaSet:
    """Values of this type of configuration are judged by ``schema`` from now on; None: by none."""

    type: str
    schema: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class GraphServed:
    """``owner``, a session or a process client, serves a graph of data nodes at ``endpoints``.

    There may be others who do. ``public_key``: the host's, 32 bytes; None: it has none.
    ``announces``: its nodes are made known one by one.
    """

    name: str
    root_uid: str
    owner: str
    incarnation: str
    endpoints: list[str]
    public_key: bytes | None = None
    announces: bool = True


@dataclass(frozen=True, slots=True)
class GraphWithdrawn:
    """``owner`` serves a graph no longer; ``is_last``: nobody does, and its nodes are gone."""

    name: str
    root_uid: str
    owner: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class NodeAnnounced:
    """A served graph has this node; the fields are those of `NodeCard`."""

    name: str
    uid: str
    path: list[str | int]
    depth: int
    class_name: str
    summary: str = ""


@dataclass(frozen=True, slots=True)
class NodeWithdrawn:
    """A served graph has this node no longer, or is served no longer."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class HistoryCompacted:
    """What lies below ``floor`` can no longer be replayed; its effect stands in a checkpoint."""

    floor: int


@dataclass(frozen=True, slots=True)
class AccessRefused:
    """Somebody was refused by a key, a role or a bound, ``count`` times; nothing changed.

    ``who`` is the key's name, or where an unknown key came from; ``what`` was wanted; ``code`` and
    ``message`` are those of the refusal.
    """

    who: str
    what: str
    code: str
    message: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class SnapshotFrozen:
    """What was live at ``at_seq`` is stored as a snapshot of the graph ``name``."""

    name: str
    fingerprint: Fingerprint
    at_epoch: int
    at_seq: int
    at_time: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TagSet:
    """A tag of the graph ``name`` points to a snapshot; ``previous``: to which it did before."""

    name: str
    tag: str
    fingerprint: Fingerprint
    at_seq: int
    previous: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class TagRemoved:
    """The graph ``name`` has this tag no longer."""

    name: str
    tag: str


@dataclass(frozen=True, slots=True)
class PartitionsWritten:
    """``count`` partitions, not known before, were added to a storage, or to a snapshot's.

    ``name`` and ``fingerprint`` are the snapshot's; None: it was to all of the storage only.
    """

    artifact_key: str
    storage: Fingerprint
    count: int
    name: str | None = None
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class RecordingWritten:
    """More is known of recording ``number`` of an artifact in the graph ``name``.

    It began at ``first_seq``, and has ended at ``last_seq``; None: it goes on. ``failed``: an
    exception ended it. ``partitions``: how many were added now. ``author`` is who wrote the first
    of it, in words, and ``first_written`` when, in seconds since 1970.
    """

    name: str
    artifact_key: str
    number: int
    first_seq: int
    last_seq: int | None = None
    failed: bool = False
    partitions: int = 0
    first_written: float = 0.0
    author: str = ""


@dataclass(frozen=True, slots=True)
class RecordingDeleted:
    """Recording ``number`` of an artifact in the graph ``name`` is stored no longer."""

    name: str
    artifact_key: str
    number: int


@dataclass(frozen=True, slots=True)
class StoredDeleted:
    """A graph, the snapshots of a fingerprint, or partitions are stored no longer.

    ``what`` is ``graph``, ``snapshot`` or ``partitions``; of partitions, ``name`` is the artifact's
    key and ``fingerprint`` its storage's.
    """

    what: str
    name: str
    fingerprint: Fingerprint
    count: int = 1


@dataclass(frozen=True, slots=True)
class StateRestored:
    """A restore of a snapshot: what its transaction, which this is the first of, brings about.

    The counts are of edges, of components whose settings are changed or owed, and of entries of the
    configuration.
    """

    name: str
    fingerprint: Fingerprint
    edges_added: int
    edges_removed: int
    settings: int
    config: int
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class SettingsOwed:
    """A restore wants the settings at ``address`` to be ``value``; its owner has not made it so.

    ``asked_by`` is who restores, with the reason they gave, and ``asked_in`` the seq of the
    `StateRestored`. The effective settings are what the owner reported last.
    """

    address: str
    value: SettingsSnapshotValue
    asked_by: Source | None = None
    asked_in: int = 0


@dataclass(frozen=True, slots=True)
class SettingsSettled:
    """Nothing is owed at ``address`` any more; ``why_not``: it was not made so, and why."""

    address: str
    why_not: str | None = None


Body = (
    SessionOpened
    | SessionTakenOver
    | SessionClosed
    | ProcessOpened
    | ProcessTakenOver
    | ProcessClosed
    | ProcessUnitsChanged
    | EdgeConnected
    | EdgeDisconnected
    | GraphRegistered
    | GraphRemoved
    | ComponentRegistered
    | ComponentRemoved
    | SettingsChanged
    | PauseChanged
    | ConfigValueSet
    | ConfigValueDeleted
    | ConfigSchemaSet
    | GraphServed
    | GraphWithdrawn
    | NodeAnnounced
    | NodeWithdrawn
    | HistoryCompacted
    | AccessRefused
    | SnapshotFrozen
    | TagSet
    | TagRemoved
    | PartitionsWritten
    | RecordingWritten
    | RecordingDeleted
    | StoredDeleted
    | StateRestored
    | SettingsOwed
    | SettingsSettled
)


@dataclass(frozen=True, slots=True)
class Event:
    """One numbered change.

    ``wall_time`` is the broker's wall clock in seconds since 1970; ``mono_time`` its monotonic
    clock in seconds, comparable within one run of the broker. ``client`` and ``request_id``
    name the request that caused the transaction (None: the broker itself did).
    """

    epoch: int
    seq: int
    prev: int
    txn_first: int
    txn_last: int
    wall_time: float
    mono_time: float
    key: Key
    source: Source
    request_id: int | None
    body: Body

    @property
    def kind(self) -> str:
        """The name of the body's type."""
        return type(self.body).__name__


def key_of(body: Body) -> Key:
    """Return the key under which an event is published."""
    match body:  # one case is tried after the other: those that come in thousands stand first
        case ConfigValueSet() | ConfigValueDeleted():
            return (CONFIG_ROOM, body.type, *body.key)
        case SessionOpened() | SessionTakenOver() | SessionClosed():
            return ("session", body.session_id)
        case ProcessOpened() | ProcessTakenOver() | ProcessClosed() | ProcessUnitsChanged():
            return ("process", str(body.process_id))
        case EdgeConnected() | EdgeDisconnected():
            return ("edge", body.from_topic, body.to_topic)
        case GraphRegistered() | GraphRemoved():
            return ("graph", body.session_id)
        case ComponentRegistered():
            return ("component", body.component.address)
        case ComponentRemoved():
            return ("component", body.address)
        case SettingsChanged():
            return ("settings", body.address)
        case PauseChanged():
            return ("control", "pause")
        case ConfigSchemaSet():
            return (CONFIG_ROOM, body.type)
        case GraphServed() | GraphWithdrawn():
            return (NODE_ROOM, body.name, body.root_uid)
        case NodeAnnounced() | NodeWithdrawn():
            return (NODE_ROOM, body.name, body.uid)
        case HistoryCompacted():
            return ("control", "history")
        case AccessRefused():
            return ("audit", body.who)
        case SnapshotFrozen() | StateRestored():
            return ("snapshot", body.name, str(body.fingerprint))
        case TagSet() | TagRemoved():
            return ("tag", body.name, body.tag)
        case PartitionsWritten():
            return ("partitions", body.artifact_key)
        case RecordingWritten() | RecordingDeleted():
            return ("recording", body.name, body.artifact_key)
        case StoredDeleted(what="partitions"):
            return ("partitions", body.name)
        case StoredDeleted():
            return ("snapshot", body.name, str(body.fingerprint))
        case SettingsOwed() | SettingsSettled():
            return ("owed", body.address)
    assert_never(body)


def slot_of(body: Body) -> tuple[Slot, bool]:
    """Return the slot of the live set that an event concerns, and whether it fills it."""
    match body:
        case EdgeConnected(from_topic=start, to_topic=end, owner=owner):
            return ("edge", start, end, owner or ""), True
        case EdgeDisconnected(from_topic=start, to_topic=end, owner=owner):
            return ("edge", start, end, owner or ""), False
        case ConfigValueSet() | ConfigValueDeleted():
            return key_of(body), isinstance(body, ConfigValueSet)
        case SettingsChanged():
            filled = body.event_type is not SettingsEventType.SETTINGS_REMOVED
            return ("settings", body.address), filled
        case ProcessUnitsChanged():
            return ("process", str(body.process_id), "units"), bool(body.units)
        case PauseChanged():
            return key_of(body), body.paused
        case ConfigSchemaSet():
            return key_of(body), body.schema is not None
        case GraphServed() | GraphWithdrawn():
            return (*key_of(body), body.owner), isinstance(body, GraphServed)
        case NodeAnnounced() | NodeWithdrawn():
            return key_of(body), isinstance(body, NodeAnnounced)
        case SessionOpened() | ProcessOpened() | GraphRegistered() | ComponentRegistered():
            return key_of(body), True
        case SessionTakenOver() | ProcessTakenOver():
            return key_of(body), True
        case HistoryCompacted() | AccessRefused():
            return key_of(body), False
        case SessionClosed() | ProcessClosed() | GraphRemoved() | ComponentRemoved():
            return key_of(body), False
        case SettingsOwed() | SettingsSettled():
            return key_of(body), isinstance(body, SettingsOwed)
        case SnapshotFrozen() | TagSet() | TagRemoved() | PartitionsWritten() | StoredDeleted():
            return key_of(body), False  # the store keeps what they tell of
        case RecordingWritten() | RecordingDeleted():
            return key_of(body), False
        case StateRestored():
            return key_of(body), False
    assert_never(body)


def keeps_place(body: Body) -> bool:
    """Return whether an event, in its slot, stands where the one before it stood.

    What a lease owns comes after its opening in the live set; so must it after its taking over.
    """
    return isinstance(body, SessionTakenOver | ProcessTakenOver)


def room_of(body: Body) -> str:
    """Return the room of the live set an event is in, as snapshots may be asked for by room.

    It is the first segment of its key; for settings ``settings.initial`` or ``settings.live``
    (``settings`` asks for both), so that who has the metadata can leave the initial ones out; and
    ``node.graph`` or ``node.announced``, so that one can leave out the many.
    """
    match body:
        case GraphServed() | GraphWithdrawn():
            return f"{NODE_ROOM}.graph"
        case NodeAnnounced() | NodeWithdrawn():
            return f"{NODE_ROOM}.announced"
        case _:
            pass
    if isinstance(body, SettingsChanged):
        return f"settings.{body.layer.value}"
    return key_of(body)[0]
