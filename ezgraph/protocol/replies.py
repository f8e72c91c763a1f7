"""Replies: what the broker answers to a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ezgraph.protocol.config import ConfigEntry, config_key_text
from ezgraph.protocol.events import EndReason
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.json_form import JsonValue
from ezgraph.protocol.listing import SnapshotInfo
from ezgraph.protocol.routed import ProcessControlResponse, Routed
from ezgraph.protocol.served import FoundGraph
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.snapshot import ClientInfo, Edge


@dataclass(frozen=True, slots=True)
class Done:
    """The command is decided and stored; ``seq`` is what was reached with it."""

    seq: int


@dataclass(frozen=True, slots=True)
class Lost:
    """What a lease owned when it ended, in the transaction that ends with ``seq``.

    ``settings`` are the addresses whose live values went with their process; ``config`` is the type
    and the key of each ephemeral entry of the configuration. ``graphs`` are the names of those it
    served.
    """

    client: str
    seq: int
    reason: EndReason
    edges: list[Edge] = field(default_factory=list)
    components: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    config: list[tuple[str, ...]] = field(default_factory=list)
    graphs: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        named = {
            "edge": [f"{edge.from_topic} -> {edge.to_topic}" for edge in self.edges],
            "component": self.components,
            "unit": self.units,
            "config key": [f"{kind} {config_key_text(key)}" for kind, *key in self.config],
            "served graph": self.graphs,
        }
        parts = [_counted(each, names) for each, names in named.items() if names]
        return " and ".join(parts) or "nothing"


def _counted(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{len(names)} {what}{'s' * (len(names) > 1)} ({shown})"


_SHOWN = 3


@dataclass(frozen=True, slots=True)
class RestoreReport(JsonValue):
    """What a restore of a snapshot changes, or would: at ``seq`` it was done, or asked about.

    ``edges_added`` (they have no session to hold them: they become persistent) and
    ``edges_removed``; ``settings``: the address, the new values by dotted path (of large ones the
    beginning of their text), and who is to make it so (the process's id; None: nobody runs it now,
    so it is *owed*); ``config_set`` and ``config_deleted``: type and key as text.
    ``not_restored``: what a snapshot cannot bring back, such as programs that are gone, and why.
    ``cannot``: what forbids it: what, why, and whose it is. ``vetoed``: who refused, when they were
    asked: the address, by whom, and why. ``owed``: the addresses whose owners have not made it so
    yet. ``refused``: those that an owner had agreed to, and did not make so nevertheless, and why.
    It is false if there is nothing to change.
    """

    seq: int
    name: str
    fingerprint: Fingerprint
    dry_run: bool
    edges_added: list[Edge] = field(default_factory=list)
    edges_removed: list[Edge] = field(default_factory=list)
    settings: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list)
    config_set: list[tuple[str, str]] = field(default_factory=list)
    config_deleted: list[tuple[str, str]] = field(default_factory=list)
    not_restored: list[tuple[str, str]] = field(default_factory=list)
    cannot: list[tuple[str, str, str]] = field(default_factory=list)
    vetoed: list[tuple[str, str, str]] = field(default_factory=list)
    owed: list[str] = field(default_factory=list)
    tag: str | None = None
    refused: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return whether there is, or was, anything to change."""
        changes = self.edges_added, self.edges_removed, self.config_set, self.config_deleted
        return bool(self.settings or any(changes))

    def __str__(self) -> str:
        """Return it in one line."""
        parts: dict[str, Sequence[object]] = {
            "edges added": self.edges_added,
            "edges removed": self.edges_removed,
            "settings": self.settings,
            "config entries set": self.config_set,
            "config entries deleted": self.config_deleted,
            "in the way": [*self.cannot, *self.vetoed],
            "owed": self.owed,
            "refused": self.refused,
        }
        told = ", ".join(f"{what}: {len(each)}" for what, each in parts.items() if each)
        at = f"@{self.tag}" if self.tag is not None else f" {self.fingerprint}"
        when = " (dry run)" if self.dry_run else ""
        return f"restore of {self.name}{at}{when}, seq {self.seq}: {told or 'nothing differs'}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The command was judged and refused; nothing changed.

    ``floor`` comes with ``compacted``, ``lost`` with ``session_expired``, ``fingerprint`` (what the
    tag points to) with ``tag_exists``, ``report`` with ``restore_refused``.
    """

    code: str
    message: str
    floor: int | None = None
    lost: Lost | None = None
    fingerprint: str | None = None
    report: RestoreReport | None = None


@dataclass(frozen=True, slots=True)
class Welcome:
    """The connection is bound. ``client`` is the lease's public id, ``token`` its secret.

    Requests go on with ``next_request_id``, which is above 1 where a lease was taken over.
    ``key_name`` and ``role`` are what the client's key stands for, where there are keys; ``reads``
    are the patterns that it may read, when these are not everything. Beyond
    ``max_frame_bytes``, ``max_frames_per_message`` and ``max_subscriptions`` (topics of one
    connection) the broker can only hang up, so the client keeps to them; 0: they are not known.
    """

    protocol: int
    version: str
    cluster_id: str
    epoch: int
    head: int
    floor: int
    client: str
    token: bytes
    ttl_s: float
    events_port: int
    advertise: str | None = None
    max_frame_bytes: int = 0
    next_request_id: int = 1
    key_name: str | None = None
    role: str | None = None
    reads: list[str] | None = None
    max_subscriptions: int = 0
    max_frames_per_message: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """The lease is renewed; the broker's clocks at that moment, in seconds.

    ``is_main_bound`` False: this process runs units, and what they are asked cannot be handed to
    it until its main connection says RESUME.
    """

    head: int
    wall_time: float
    mono_time: float
    is_main_bound: bool = True


@dataclass(frozen=True, slots=True)
class EventRange:
    """Encoded events, complete for the prefix in (after, through]; ``head`` is the newest seq."""

    events: list[bytes]
    through: int
    head: int
    floor: int = 1


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Live events of a snapshot in order of seq, and the blobs they refer to.

    ``next_start`` asks for the rest; None: this was the last chunk. ``filtered``: it has only what
    the client may read.
    """

    snapshot: int
    epoch: int
    seq: int
    floor: int
    entries: list[bytes]
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    next_start: int | None = None
    filtered: bool = False


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How the broker is: sizes in bytes, times in seconds.

    ``keys`` is how many it admits; None: it has no keys, and admits everybody who reaches it.
    ``events_port`` is where the asker's events are broadcast, ``scope_ports`` are those of all read
    scopes; ``relay_port`` is where readers of data nodes reach hosts that they cannot dial, once a
    graph was served. ``filtered``: numbers, the other scopes' ports and the journal's place are
    withheld from who may not read everything.
    """

    version: str
    cluster_id: str
    epoch: int
    head: int
    floor: int
    sessions: int
    processes: int
    edges: int
    components: int
    watched_prefixes: int
    paused: bool
    uptime_s: float
    backend: str
    journal_bytes: int
    journal_warning: str | None = None
    free_disk_bytes: int | None = None
    pid: int = 0
    insecure: bool = False
    events_port: int = 0
    keys: int | None = None
    access_warning: str | None = None
    filtered: bool = False
    scope_ports: list[int] = field(default_factory=list)
    config_entries: int = 0
    served_graphs: int = 0
    relay_port: int | None = None


def without_numbers(report: StatusReport) -> StatusReport:
    """Return what of it is told to who may not read everything."""
    return replace(
        report,
        sessions=0,
        processes=0,
        edges=0,
        components=0,
        config_entries=0,
        served_graphs=0,
        watched_prefixes=0,
        backend="",
        journal_bytes=0,
        journal_warning=None,
        free_disk_bytes=None,
        pid=0,
        keys=None if report.keys is None else 0,
        access_warning=None,
        filtered=True,
        scope_ports=[report.events_port],
    )


@dataclass(frozen=True, slots=True)
class ClientList:
    """Everybody who holds a lease, and guests, at ``seq``; ``filtered``: whom one may see."""

    seq: int
    clients: list[ClientInfo]
    filtered: bool = False


@dataclass(frozen=True, slots=True)
class SettingsSet:
    """The settings were changed; ``value`` is what they are at ``seq``."""

    seq: int
    value: SettingsSnapshotValue


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    """The configuration was changed, as one transaction that ends with ``seq``.

    ``changed`` puts and deletes did something, each by an event of its own; ``unchanged`` asked for
    what is there already. If all were, there is no event, and ``seq`` is the head.
    """

    seq: int
    changed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class ConfigPage:
    """Entries of a type of configuration, in order, as they are at ``seq``.

    Or their keys, if only these were asked for. ``next_after`` asks for the rest (``after``); None:
    there is none. The broker began to look at ``began_seq``: what changed between the two seqs
    before the first of the entries may be missing.
    """

    seq: int
    began_seq: int
    entries: list[ConfigEntry] = field(default_factory=list)
    keys: list[tuple[str, ...]] = field(default_factory=list)
    next_after: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ConfigTypes:
    """Types of configuration, in order; ``next_after`` asks for the rest, None: there is none."""

    seq: int
    types: list[str]
    next_after: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigSchemaShown:
    """The schema of a type of configuration at ``seq``; None: it has none."""

    seq: int
    type: str
    schema: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Frozen:
    """What was live at ``snapshot.seq`` is stored, and tagged if a tag was given."""

    seq: int
    snapshot: SnapshotInfo
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class PartitionsStored:
    """The partitions are stored; ``new`` of them were not known before, in one place or another."""

    seq: int
    new: int


@dataclass(frozen=True, slots=True)
class RecordingStored:
    """What is known of the recording is stored; ``number`` is the one it has.

    ``author`` is who wrote the first of it, in words, and ``wall_time`` when.
    """

    seq: int
    number: int
    wall_time: float = 0.0
    author: str = ""


@dataclass(frozen=True, slots=True)
class StoredPage:
    """Rows of the store, as they are stored, in order of their keys.

    ``next_after`` asks for the rest (``after``); None: there is none. While ``revision`` is the
    same, pages are as of one state of what was asked for.
    """

    seq: int
    revision: int
    rows: list[tuple[bytes, bytes]] = field(default_factory=list)
    next_after: bytes | None = None


@dataclass(frozen=True, slots=True)
class CheckpointChunk:
    """Blobs and entries of the checkpoint ``at`` a seq, as they are stored; the blobs come first.

    ``next_start`` asks for the rest (``start``); None: this was the last chunk. ``at`` None: there
    is no checkpoint so early, and history begins with seq 1. ``epoch`` is that of the seq that was
    asked for, ``after`` the seq behind which the events stand that came between the two.
    """

    at: int | None
    epoch: int
    after: int
    entries: list[bytes] = field(default_factory=list)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    next_start: int | None = None


@dataclass(frozen=True, slots=True)
class StretchChunk:
    """What counts of the events in (after, ``through``], by their topics, in order of seq.

    Of the events under one topic of which only the last counts, it has the last in this chunk.
    """

    through: int
    seqs: list[int] = field(default_factory=list)
    topics: list[bytes] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SeqFound:
    """Which seq a wall time stands for: the last event that was not later.

    ``steps`` are where the wall clock went back across that time: the seq right after it, and the
    wall times before and after. It was that time more than once, and this is the last of them.
    """

    seq: int
    steps: list[tuple[int, float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Serving:
    """The graph is served, as of ``seq``.

    ``ticket_secret`` is what the tickets of this host's readers are made with
    (`ezgraph.wire.tickets`). It is told to nobody else.
    """

    seq: int
    ticket_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Graphs:
    """Served graphs at ``seq``, in order of their names, and how to get at them.

    ``next_after`` asks for the rest (``after``); None: there is none.
    """

    seq: int
    graphs: list[FoundGraph] = field(default_factory=list)
    next_after: str | None = None


@dataclass(frozen=True, slots=True)
class Handed:
    """A request to a unit that the asked client runs; no answer to a request of its own."""

    request: Routed


@dataclass(frozen=True, slots=True)
class Answered:
    """Which requests of a lease may still be repeated, as a checkpoint keeps it.

    ``seqs[i]`` is the last seq of the transaction that request ``requests[i]`` caused; ids up to
    ``highest`` were used, those below ``lowest`` are done with. ``config_changes[i]`` is how many
    entries of the configuration that request changed. ``stored`` are answers that say more than a
    seq, by their requests (which are among ``requests`` too, for older brokers).
    """

    client: str
    lowest: int
    highest: int
    requests: list[int]
    seqs: list[int]
    config_changes: list[int] = field(default_factory=list)
    stored: dict[int, Frozen | PartitionsStored | RecordingStored | RestoreReport] = field(
        default_factory=dict
    )


HANDED_ID = (1 << 64) - 1
"""In place of a request id, where a reply is `Handed` to who has asked for nothing."""

Reply = (
    Done
    | Refusal
    | Welcome
    | Beat
    | EventRange
    | SnapshotChunk
    | StatusReport
    | ClientList
    | ProcessControlResponse
    | SettingsSet
    | ConfigChanged
    | ConfigPage
    | ConfigTypes
    | ConfigSchemaShown
    | Serving
    | Graphs
    | Handed
    | Frozen
    | PartitionsStored
    | StoredPage
    | RestoreReport
    | CheckpointChunk
    | StretchChunk
    | SeqFound
    | RecordingStored
)

ChangeReply = (
    Done
    | ConfigChanged
    | Serving
    | Frozen
    | PartitionsStored
    | RecordingStored
    | RestoreReport
)
"""What a command that may change something is answered when it was done; each says its ``seq``."""
