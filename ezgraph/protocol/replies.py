"""Replies: what the broker answers to a command."""

from __future__ import annotations

from dataclasses import dataclass, field

from ezgraph.protocol.snapshot import ClientInfo


@dataclass(frozen=True, slots=True)
class Done:
    """The command is decided and stored; ``seq`` is what was reached with it."""

    seq: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The command was judged and refused; nothing changed."""

    code: str
    message: str
    floor: int | None = None


@dataclass(frozen=True, slots=True)
class Welcome:
    """The connection is bound. ``client`` is the lease's public id, ``token`` its secret."""

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


@dataclass(frozen=True, slots=True)
class Beat:
    """The lease is renewed; the broker's clocks at that moment, in seconds."""

    head: int
    wall_time: float
    mono_time: float


@dataclass(frozen=True, slots=True)
class EventRange:
    """Encoded events, complete for the prefix in (after, through]; ``head`` is the newest seq."""

    events: list[bytes]
    through: int
    head: int


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Live events of a snapshot in order of seq, and the blobs they refer to.

    ``next_start`` asks for the rest; None: this was the last chunk.
    """

    snapshot: int
    epoch: int
    seq: int
    floor: int
    entries: list[bytes]
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    next_start: int | None = None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How the broker is: sizes in bytes, times in seconds."""

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


@dataclass(frozen=True, slots=True)
class ClientList:
    """Everybody who holds a lease, and guests, at ``seq``."""

    seq: int
    clients: list[ClientInfo]


Reply = Done | Refusal | Welcome | Beat | EventRange | SnapshotChunk | StatusReport | ClientList
