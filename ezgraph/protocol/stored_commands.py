"""What is asked of the store through the broker: graphs, snapshots, tags, partitions, the past.

The store is rows by key (`ezgraph.backends.store`), and its truth: events say that something was
stored, and leave the state as it is. A graph is megabytes, and most of it is stored already. So who
stores one asks which of its pieces are missing (`PieceAt`), stores those (`StorePieces`), and then
names it in one command, which the broker does whole or not at all, when it has verified that the
pieces add up to the fingerprint (a *long* command: it is done in steps, between which others are
served). Whatever is read comes as the rows themselves, as they are stored.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ezgraph.protocol.artifacts import Artifact, Partition
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo
from ezgraph.protocol.stored import GraphRow

# --- which snapshot ---


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """A stored snapshot: the newest with this fingerprint, at this epoch and seq if given."""

    fingerprint: Fingerprint
    epoch: int | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class NewSnapshot:
    """All that is said of a snapshot, which is stored if it is not.

    ``graph``: what its graph consists of, which is stored with it if it is not; None: it is stored
    already, or the command is refused (``unknown_graph``). ``pieces`` are those of its pieces that
    may not be stored; where these are many, they are stored before, with `StorePieces`.
    """

    fingerprint: Fingerprint
    epoch: int
    seq: int
    time: float
    reason: str = ""
    graph: GraphRow | None = None
    pieces: dict[bytes, bytes] = field(default_factory=dict)


# --- changes ---


@dataclass(frozen=True, slots=True)
class Freeze:
    """Store what is live now as a snapshot of the graph ``name``, and tag it.

    It is answered by `Frozen`. A tag that exists refuses it, unless ``overwrite``.
    """

    name: str
    tag: str | None = None
    overwrite: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class StorePieces:
    """Store pieces of a graph to come, each under the hash of its bytes."""

    pieces: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class StoreGraph:
    """Store a graph whose pieces are stored, or given here; a known one stays as it is.

    Who wrote ``row``, and when, is what the broker says.
    """

    name: str
    fingerprint: Fingerprint
    row: GraphRow
    pieces: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """Store a snapshot of the graph ``name``; a known one stays as it is."""

    name: str
    snapshot: NewSnapshot


@dataclass(frozen=True, slots=True)
class SetTag:
    """Have a tag of the graph ``name`` point to a snapshot; one that exists only if told so."""

    name: str
    tag: str
    snapshot: SnapshotRef | NewSnapshot
    overwrite: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RemoveTag:
    """Remove a tag; its history stays."""

    name: str
    tag: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WritePartitions:
    """Add partitions, each with its content fingerprint, to an artifact; to a snapshot; to both.

    ``to_artifact``: to all known partitions of its storage. ``snapshot`` of the graph ``name``: to
    those of ``artifact_key`` in it. It is answered by `PartitionsStored`.
    """

    artifact: Artifact
    partitions: list[Partition]
    to_artifact: bool = True
    name: str | None = None
    snapshot: SnapshotRef | NewSnapshot | None = None
    artifact_key: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WriteRecording:
    """Store what is known of a recording so far; one whose number is 0 is begun.

    ``partitions``, each with its content fingerprint, and ``changes`` are added to those that are
    known, and the partitions to the artifact's storage and to each snapshot that they name. It is
    answered by `RecordingStored`.
    """

    recording: RecordingInfo
    partitions: list[RecordedPartition] = field(default_factory=list)
    changes: list[RecordedChange] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteRecording:
    """Forget a recording; its partitions and snapshots stay."""

    name: str
    artifact_key: str
    number: int
    reason: str | None = None


class Deletable(enum.Enum):
    """What may be deleted from the store, unless something refers to it."""

    GRAPH = "graph"
    SNAPSHOT = "snapshot"
    PARTITIONS = "partitions"


@dataclass(frozen=True, slots=True)
class DeleteStored:
    """Delete a graph or the snapshots of a fingerprint, by name, or partitions of an artifact."""

    what: Deletable
    name: str | None = None
    fingerprint: Fingerprint | None = None
    artifact: Artifact | None = None
    partitions: list[Partition] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Restore:
    """Have the rig be as in a snapshot of the graph ``name``, given by a tag or a fingerprint.

    ``dry_run``: say only what would change, and who would not. It is answered by `RestoreReport`.
    """

    name: str
    tag: str | None = None
    fingerprint: Fingerprint | None = None
    dry_run: bool = True
    reason: str | None = None
    timeout_s: float = 10.0


StoreCommand = (
    Freeze
    | StorePieces
    | StoreGraph
    | StoreSnapshot
    | SetTag
    | RemoveTag
    | WritePartitions
    | WriteRecording
    | DeleteStored
    | DeleteRecording
)
"""What changes the store."""


# --- questions ---


@dataclass(frozen=True, slots=True)
class PieceAt:
    """The pieces of these names, as many as fit; without ``with_bytes`` only which are there."""

    names: list[bytes]
    with_bytes: bool = True


@dataclass(frozen=True, slots=True)
class GraphAt:
    """A graph: its row, and as many of its pieces as fit."""

    name: str
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class SnapshotAt:
    """The newest snapshot with this fingerprint: its rows, and as `GraphAt`."""

    name: str
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class TagAt:
    """The snapshot that a tag points to: the tag's row, and as `SnapshotAt`."""

    name: str
    tag: str


@dataclass(frozen=True, slots=True)
class PartitionsAt:
    """Partitions of a storage, of all it has, or of those of one artifact in a snapshot.

    ``wanted``: only those of these keys (by their text) and input fingerprints; none: no filter.
    """

    storage: Fingerprint
    name: str | None = None
    fingerprint: Fingerprint | None = None
    artifact_key: str | None = None
    wanted: list[tuple[str, Fingerprint]] = field(default_factory=list)
    after: bytes = b""


@dataclass(frozen=True, slots=True)
class Listed:
    """The rows of one room below ``within``, behind ``after``, up to ``limit`` of them.

    Rooms: ``graph``, ``snapshot``, ``tag`` (within: nothing, or a name), ``tagged`` (a name and a
    tag), ``partition`` (``artifact`` and a storage), ``recording`` (nothing, a name, or a name and
    an artifact).
    """

    room: str
    within: tuple[str, ...] = ()
    after: bytes = b""
    limit: int = 1_000


@dataclass(frozen=True, slots=True)
class SnapshotsWith:
    """The snapshots that have one partition of a storage, a few at a time, behind ``after``."""

    storage: Fingerprint
    key: str
    inputs: Fingerprint
    partition: Fingerprint
    after: bytes = b""


@dataclass(frozen=True, slots=True)
class RecordingAt:
    """A recording: its row, and of those of what was written in it as many as fit."""

    name: str
    artifact_key: str
    number: int
    after: bytes = b""


Question = (
    PieceAt | GraphAt | SnapshotAt | TagAt | PartitionsAt | Listed | SnapshotsWith | RecordingAt
)


@dataclass(frozen=True, slots=True)
class ReadStored:
    """Ask for rows of the store; it is answered by `StoredPage`."""

    question: Question


@dataclass(frozen=True, slots=True)
class ReadCheckpoint:
    """Ask for the newest checkpoint at or before ``seq``, from its place ``start`` on.

    It is answered by `CheckpointChunk`. To go on ask with the chunk's own ``seq``.
    """

    seq: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class ReadStretch:
    """Ask for what counts of the events in (after, through], in one chunk.

    It is answered by `StretchChunk`; see `ezgraph.state.past` for what counts.
    """

    after: int
    through: int


@dataclass(frozen=True, slots=True)
class FindSeq:
    """Ask which seq a wall time stands for, in seconds since 1970; it is answered by `SeqFound`."""

    wall_time: float


PastQuestion = ReadCheckpoint | ReadStretch | FindSeq
"""What is asked of the past; who may not read everything is refused."""
