"""A connection to a store that this process reads and writes itself.

Each method checks what it was given, then asks or changes the rows in one transaction. Where these
are, and what a transaction is, a subclass knows.
"""

from __future__ import annotations

import os
import socket
from abc import abstractmethod
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from ezgraph.backends import (
    stored_deletion,
    stored_graphs,
    stored_partitions,
    stored_recordings,
    stored_tags,
)
from ezgraph.backends.connection import LISTED, NO_FILTER, Connection
from ezgraph.backends.contents import with_content_fingerprint
from ezgraph.backends.given import (
    a_recording,
    a_snapshot,
    an_artifact,
    check_name_or_none,
    check_recording,
    check_recordings_of,
    check_tag,
    recorded_changes,
    recorded_partitions,
    scope_within,
    some_partitions,
)
from ezgraph.backends.stored_graphs import Written
from ezgraph.clock import SystemClock
from ezgraph.config import login_name, program_name
from ezgraph.errors import InvalidValueError
from ezgraph.protocol.artifacts import (
    Artifact,
    Partition,
    check_fingerprint,
    check_name,
    input_filter,
)
from ezgraph.protocol.events import Source, in_words
from ezgraph.protocol.graphs import Graph, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ezgraph.backends.store import Store
    from ezgraph.backends.stored_partitions import Scope
    from ezgraph.protocol.artifacts import PartitionKey, StoragePartitions
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

T = TypeVar("T")


class LocalConnection(Connection):
    """Every operation as a transaction on rows."""

    @abstractmethod
    def _read(self, ask: Callable[[Store], T]) -> T:
        """Return what ``ask`` finds in one state of the store; it may be asked again."""

    @abstractmethod
    def _write(self, change: Callable[[Store], T]) -> T:
        """Return what ``change`` returns; what it has changed lasts, or nothing if it raises."""

    # --- partitions ---

    def read_artifact_partitions(
        self,
        artifact: Artifact,
        input_fingerprints: Mapping[PartitionKey, Fingerprint] = NO_FILTER,
    ) -> StoragePartitions:
        """See `Connection.read_artifact_partitions`."""
        scope = stored_partitions.of_artifact(an_artifact(artifact))
        wanted = input_filter(input_fingerprints)
        return self._read(lambda store: stored_partitions.read_partitions(store, scope, wanted))

    def write_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> StoragePartitions:
        """See `Connection.write_artifact_partitions`."""
        scope = stored_partitions.of_artifact(an_artifact(artifact))
        return self._write_partitions(None, artifact, [scope], partitions)

    def read_snapshot_partitions(
        self, snapshot: Snapshot, artifact_key: str, artifact: Artifact
    ) -> StoragePartitions:
        """See `Connection.read_snapshot_partitions`."""
        scope = scope_within(snapshot, artifact_key, artifact)

        def ask(store: Store) -> StoragePartitions:
            stored_graphs.check_snapshot(store, snapshot.name, snapshot.fingerprint)
            return stored_partitions.read_partitions(store, scope, {})

        return self._read(ask)

    def write_snapshot_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """See `Connection.write_snapshot_partitions`."""
        scope = scope_within(snapshot, artifact_key, artifact)
        return self._write_partitions(snapshot, artifact, [scope], partitions)

    def write_artifact_and_graph_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """See `Connection.write_artifact_and_graph_partitions`."""
        scopes = [
            stored_partitions.of_artifact(an_artifact(artifact)),
            scope_within(snapshot, artifact_key, artifact),
        ]
        return self._write_partitions(snapshot, artifact, scopes, partitions)

    def _write_partitions(
        self,
        snapshot: Snapshot | None,
        artifact: Artifact,
        scopes: list[Scope],
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        kept = tuple(map(with_content_fingerprint, some_partitions(partitions)))
        written = _written()

        def change(store: Store) -> StoragePartitions:
            if snapshot is not None:
                stored_graphs.write_snapshot(store, snapshot, written)
            if kept:
                stored_partitions.note_key(store, artifact)
            for scope in scopes:
                stored_partitions.write_partitions(store, scope, kept, written)
            return kept

        return self._write(change)

    def find_snapshots(self, artifact: Artifact, partition: Partition) -> list[SnapshotInfo]:
        """See `Connection.find_snapshots`."""
        an_artifact(artifact)
        (wanted,) = map(with_content_fingerprint, some_partitions([partition]))
        return self._read(lambda store: stored_partitions.find_snapshots(store, artifact, wanted))

    def list_partitions(
        self, artifact: Artifact, *, after: str | None = None, limit: int = LISTED
    ) -> Page[PartitionInfo]:
        """See `Connection.list_partitions`."""
        scope = stored_partitions.of_artifact(an_artifact(artifact))
        return self._read(
            lambda store: stored_partitions.list_partitions(store, scope, after, limit)
        )

    def delete_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> None:
        """See `Connection.delete_artifact_partitions`."""
        an_artifact(artifact)
        going = [with_content_fingerprint(each) for each in some_partitions(partitions)]
        self._write(lambda store: stored_deletion.delete_partitions(store, artifact, going))

    # --- recordings ---

    def write_recording(
        self,
        info: RecordingInfo,
        partitions: Iterable[RecordedPartition] = (),
        changes: Iterable[RecordedChange] = (),
    ) -> RecordingInfo:
        """See `Connection.write_recording`."""
        a_recording(info)
        kept, noted = recorded_partitions(partitions), recorded_changes(changes)
        written = _written()
        return self._write(
            lambda store: stored_recordings.write_recording(store, info, kept, noted, written)
        )

    def read_recording(self, name: str, artifact_key: str, number: int) -> Recording:
        """See `Connection.read_recording`."""
        check_recording(name, artifact_key, number)
        return self._read(
            lambda store: stored_recordings.read_recording(store, name, artifact_key, number)
        )

    def list_recordings(
        self,
        name: str | None = None,
        artifact_key: str | None = None,
        *,
        after: str | None = None,
        limit: int = LISTED,
    ) -> Page[RecordingInfo]:
        """See `Connection.list_recordings`."""
        check_recordings_of(name, artifact_key)
        return self._read(
            lambda store: stored_recordings.list_recordings(
                store, name, artifact_key, after, limit
            )
        )

    def delete_recording(self, name: str, artifact_key: str, number: int) -> None:
        """See `Connection.delete_recording`."""
        check_recording(name, artifact_key, number)
        self._write(
            lambda store: stored_recordings.delete_recording(store, name, artifact_key, number)
        )

    # --- graphs and snapshots ---

    def read_graph(self, name: str, fingerprint: Fingerprint | str) -> Graph:
        """See `Connection.read_graph`."""
        check_name(name, "a graph")
        wanted = check_fingerprint(fingerprint, "the fingerprint of a graph")
        return self._read(lambda store: stored_graphs.read_graph(store, name, wanted))

    def write_graph(self, graph: Graph) -> None:
        """See `Connection.write_graph`."""
        if not isinstance(graph, Graph):
            raise InvalidValueError(f"{graph!r:.60} is no Graph")
        written = _written()
        self._write(lambda store: stored_graphs.write_graph(store, graph, written))

    def list_graphs(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[GraphInfo]:
        """See `Connection.list_graphs`."""
        check_name_or_none(name)
        return self._read(lambda store: stored_graphs.list_graphs(store, name, after, limit))

    def delete_graph(self, name: str, fingerprint: Fingerprint | str) -> None:
        """See `Connection.delete_graph`."""
        check_name(name, "a graph")
        going = check_fingerprint(fingerprint, "the fingerprint of a graph")
        self._write(lambda store: stored_deletion.delete_graph(store, name, going))

    def read_snapshot(self, name: str, fingerprint: Fingerprint | str) -> Snapshot:
        """See `Connection.read_snapshot`."""
        check_name(name, "a graph")
        wanted = check_fingerprint(fingerprint, "the fingerprint of a snapshot")
        return self._read(lambda store: stored_graphs.read_snapshot(store, name, wanted))

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """See `Connection.write_snapshot`."""
        a_snapshot(snapshot)
        written = _written()
        self._write(lambda store: stored_graphs.write_snapshot(store, snapshot, written))

    def list_snapshots(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[SnapshotInfo]:
        """See `Connection.list_snapshots`."""
        check_name_or_none(name)
        return self._read(lambda store: stored_graphs.list_snapshots(store, name, after, limit))

    def delete_snapshot(self, name: str, fingerprint: Fingerprint | str) -> None:
        """See `Connection.delete_snapshot`."""
        check_name(name, "a graph")
        going = check_fingerprint(fingerprint, "the fingerprint of a snapshot")
        self._write(lambda store: stored_deletion.delete_snapshot(store, name, going))

    # --- tags ---

    def read_snapshot_tag(self, name: str, tag: str) -> Snapshot:
        """See `Connection.read_snapshot_tag`."""
        check_tag(name, tag)
        return self._read(lambda store: stored_tags.read_tag(store, name, tag))

    def write_snapshot_tag(self, snapshot: Snapshot, tag: str, *, overwrite: bool = False) -> None:
        """See `Connection.write_snapshot_tag`."""
        check_tag(a_snapshot(snapshot).name, tag)
        written = _written()
        write = stored_tags.move_tag if overwrite else stored_tags.write_tag
        self._write(lambda store: write(store, snapshot, tag, written))

    def untag(self, name: str, tag: str) -> None:
        """See `Connection.untag`."""
        check_tag(name, tag)
        written = _written()
        self._write(lambda store: stored_tags.remove_tag(store, name, tag, written))

    def list_tags(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagInfo]:
        """See `Connection.list_tags`."""
        check_name_or_none(name)
        return self._read(lambda store: stored_tags.list_tags(store, name, after, limit))

    def tag_history(
        self, name: str, tag: str, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagChange]:
        """See `Connection.tag_history`."""
        check_tag(name, tag)
        return self._read(lambda store: stored_tags.tag_history(store, name, tag, after, limit))


def _written() -> Written:
    return Written(SystemClock().wall(), _author(os.getpid()))


@cache
def _author(pid: int) -> str:
    program, host = program_name(), socket.gethostname()
    return in_words(Source(program=program, host=host, pid=pid, login=login_name()))
