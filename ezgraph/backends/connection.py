"""What a backend is asked: graphs, snapshots, tags, partitions, and the journal beside them.

Every method is one transaction: all of it happens, or an error is raised and nothing did; a read
sees one state of the store. What is written lasts when the method returns (not in memory). Names of
graphs and tags, and keys of artifacts, are text of up to 255 bytes without control characters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from ezgraph.errors import InvalidValueError
from ezgraph.protocol.differences import GraphDiff, difference
from ezgraph.protocol.graphs import Graph, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from ezgraph.backends.base import Journal, JournalMeta, JournalReader
    from ezgraph.protocol.artifacts import Artifact, Partition, PartitionKey, StoragePartitions
    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.listing import (
        GraphInfo,
        Page,
        PartitionInfo,
        SnapshotInfo,
        TagChange,
        TagInfo,
    )
    from ezgraph.protocol.recordings import (
        RecordedChange,
        RecordedPartition,
        Recording,
        RecordingInfo,
    )

NO_FILTER: Mapping[PartitionKey, Fingerprint] = {}
LISTED = 1_000


class Connection(ABC):
    """What `Backend.connect` gives; leaving its ``with`` block closes it and its journal.

    Any method may raise JournalError and its subclasses where the store cannot be reached, is
    damaged, is locked by a broker (write through that, then) or was written by a newer ezgraph.
    """

    # --- the partitions of an artifact, whatever graph they come from ---

    @abstractmethod
    def read_artifact_partitions(
        self,
        artifact: Artifact,
        input_fingerprints: Mapping[PartitionKey, Fingerprint] = NO_FILTER,
    ) -> StoragePartitions:
        """Return all known partitions of the artifact's storage, in order of their keys.

        With ``input_fingerprints``, only those whose key is in it and whose input fingerprint is
        the one it has there.
        """

    @abstractmethod
    def write_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> StoragePartitions:
        """Add partitions to the artifact's storage; return them as they are stored.

        Those that are known already stay as they are. A partition without a content fingerprint
        gets one: that of the file's bytes if its location is a file here (which are read), else
        that of all that is said of it.
        """

    # --- graphs and snapshots ---

    @abstractmethod
    def read_graph(self, name: str, fingerprint: Fingerprint | str) -> Graph:
        """Return a graph with all its artifacts and producers.

        Raises:
            UnknownGraphError: there is none of this name and fingerprint.
        """

    @abstractmethod
    def write_graph(self, graph: Graph) -> None:
        """Store a graph with all its artifacts and producers; a known one stays as it is."""

    @abstractmethod
    def read_snapshot(self, name: str, fingerprint: Fingerprint | str) -> Snapshot:
        """Return the newest snapshot of a graph that has this fingerprint.

        Raises:
            UnknownSnapshotError: there is none.
        """

    @abstractmethod
    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Store a snapshot and its graph; a known one stays as it is.

        One of the same content, but of another seq, time or reason, is another snapshot.
        """

    # --- tags ---

    @abstractmethod
    def read_snapshot_tag(self, name: str, tag: str) -> Snapshot:
        """Return the snapshot that a tag of this graph points to.

        Raises:
            UnknownTagError: there is no such tag.
        """

    @abstractmethod
    def write_snapshot_tag(self, snapshot: Snapshot, tag: str, *, overwrite: bool = False) -> None:
        """Have a tag of the snapshot's graph point to it; the snapshot is stored if it is not.

        Of several who set one tag at a time, in whatever process, one does.

        Raises:
            TagExistsError: it points to a snapshot, and not ``overwrite``; says to which.
        """

    @abstractmethod
    def untag(self, name: str, tag: str) -> None:
        """Remove a tag. Its history stays, and the snapshot too.

        Raises:
            UnknownTagError: there is no such tag.
        """

    @abstractmethod
    def tag_history(
        self, name: str, tag: str, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagChange]:
        """Return what a tag has pointed to, oldest first, also one that was removed.

        Raises:
            UnknownTagError: there never was such a tag.
        """

    # --- the partitions in a snapshot ---

    @abstractmethod
    def read_snapshot_partitions(
        self, snapshot: Snapshot, artifact_key: str, artifact: Artifact
    ) -> StoragePartitions:
        """Return the partitions of an artifact in this snapshot, in order of their keys.

        Raises:
            UnknownSnapshotError: it is not stored.
        """

    @abstractmethod
    def write_snapshot_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """Add partitions of an artifact to those in this snapshot, which is stored if it is not.

        They are not thereby added to the artifact's storage. Otherwise as
        `write_artifact_partitions`.
        """

    @abstractmethod
    def write_artifact_and_graph_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """Do as `write_artifact_partitions` and `write_snapshot_partitions`, both or neither."""

    @abstractmethod
    def find_snapshots(self, artifact: Artifact, partition: Partition) -> list[SnapshotInfo]:
        """Return the snapshots that have this partition of the artifact's storage, oldest first."""

    # --- recordings: what was in force while an artifact was written ---

    @abstractmethod
    def write_recording(
        self,
        info: RecordingInfo,
        partitions: Iterable[RecordedPartition] = (),
        changes: Iterable[RecordedChange] = (),
    ) -> RecordingInfo:
        """Store what is known of a recording so far; return it as it is stored.

        One whose number is 0 is begun, and gets the next number. Of one that is there what
        ``info`` says is replaced, and partitions and changes are added. The partitions are added to
        the artifact's storage and to each snapshot that they name, too.

        Raises:
            UnknownSnapshotError: a snapshot that it names is not stored.
            UnknownRecordingError: there is none of this number.
            RecordingEndedError: it has ended; what is known of it stays.
        """

    @abstractmethod
    def read_recording(self, name: str, artifact_key: str, number: int) -> Recording:
        """Return a recording with what was written in it.

        Raises:
            UnknownRecordingError: there is none.
        """

    @abstractmethod
    def list_recordings(
        self,
        name: str | None = None,
        artifact_key: str | None = None,
        *,
        after: str | None = None,
        limit: int = LISTED,
    ) -> Page[RecordingInfo]:
        """Return recordings, of one graph (and one artifact in it) or all, by number."""

    @abstractmethod
    def delete_recording(self, name: str, artifact_key: str, number: int) -> None:
        """Forget a recording; its partitions and snapshots stay.

        Raises:
            UnknownRecordingError: there is none.
        """

    # --- lists, and deletion ---

    @abstractmethod
    def list_graphs(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[GraphInfo]:
        """Return the stored graphs, of one name or all, by name and fingerprint.

        ``after`` is ``next_after`` of the page before; a page has up to ``limit`` items.
        """

    @abstractmethod
    def list_snapshots(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[SnapshotInfo]:
        """Return the stored snapshots, of one graph or all, by name, epoch and seq."""

    @abstractmethod
    def list_tags(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagInfo]:
        """Return the tags, of one graph or all, by name."""

    @abstractmethod
    def list_partitions(
        self, artifact: Artifact, *, after: str | None = None, limit: int = LISTED
    ) -> Page[PartitionInfo]:
        """Return the partitions of the artifact's storage, by key."""

    @abstractmethod
    def delete_graph(self, name: str, fingerprint: Fingerprint | str) -> None:
        """Delete a graph.

        Raises:
            UnknownGraphError: there is none.
            StillReferencedError: a snapshot is of it.
        """

    @abstractmethod
    def delete_snapshot(self, name: str, fingerprint: Fingerprint | str) -> None:
        """Delete the snapshots with this fingerprint, and which partitions are in them.

        Raises:
            UnknownSnapshotError: there is none.
            StillReferencedError: a tag points to one, or a recording names it.
        """

    @abstractmethod
    def delete_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> None:
        """Forget partitions of the artifact's storage, as they were read; no data is deleted.

        Raises:
            StillReferencedError: one of them is in a snapshot.
        """

    def diff(self, old: Graph | Snapshot, new: Graph | Snapshot) -> GraphDiff:
        """Return what differs from ``old`` to ``new``; false if nothing does."""
        return compared(old, new)

    # --- the journal ---

    @abstractmethod
    def open_journal(self, *, identity: JournalMeta | None = None) -> Journal:
        """Open the journal, create it if there is none, and lock it for this broker.

        ``identity`` is what a journal created now will be; random by default, and without
        effect on one that exists.

        Raises:
            JournalLockedError: another broker has it open.
            JournalCorruptError, JournalVersionError, JournalError: it cannot be used; says why.
        """

    @abstractmethod
    def open_reader(self) -> JournalReader:
        """Open the journal to read it as it is now, without its lock; never write anything.

        A broker may be running on it. What that broker appends later is not seen: open another
        reader. Close it soon, because a SQLite journal grows while somebody reads it.

        Raises:
            JournalCorruptError, JournalVersionError, JournalError: it cannot be read, or there
                is none; says why.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the journal, if open, and the connection. Closing twice does nothing."""

    @contextmanager
    def connect(self) -> Iterator[Self]:
        """Yield this connection and leave it open: so ``(connection or backend).connect()``."""
        yield self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> dict[str, Any]:
        """Let a pydantic model have a connection as a field: any instance is valid."""
        return {"type": "is-instance", "cls": cls}


def compared(old: Graph | Snapshot, new: Graph | Snapshot) -> GraphDiff:
    """Return what `Connection.diff` returns."""
    return difference(_graph_of(old), _graph_of(new))


def _graph_of(given: Graph | Snapshot) -> Graph:
    match given:
        case Snapshot(graph=graph):
            return graph
        case Graph():
            return given
    raise InvalidValueError(f"{given!r:.60} is neither a Graph nor a Snapshot")
