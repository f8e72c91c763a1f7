"""A connection to a store that this process reads and writes itself.

Each method checks what it was given, then asks or changes the rows in one transaction. Where these
are, and what a transaction is, a subclass knows.
"""

from __future__ import annotations

import os
import socket
from abc import abstractmethod
from dataclasses import replace
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
from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, Recording, RecordingInfo

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
        scope = stored_partitions.of_artifact(_artifact(artifact))
        wanted = input_filter(input_fingerprints)
        return self._read(lambda store: stored_partitions.read_partitions(store, scope, wanted))

    def write_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> StoragePartitions:
        """See `Connection.write_artifact_partitions`."""
        scope = stored_partitions.of_artifact(_artifact(artifact))
        return self._write_partitions(None, [scope], partitions)

    def read_snapshot_partitions(
        self, snapshot: Snapshot, artifact_key: str, artifact: Artifact
    ) -> StoragePartitions:
        """See `Connection.read_snapshot_partitions`."""
        scope = _in_snapshot(snapshot, artifact_key, artifact)

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
        scope = _in_snapshot(snapshot, artifact_key, artifact)
        return self._write_partitions(snapshot, [scope], partitions)

    def write_artifact_and_graph_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """See `Connection.write_artifact_and_graph_partitions`."""
        scopes = [
            stored_partitions.of_artifact(_artifact(artifact)),
            _in_snapshot(snapshot, artifact_key, artifact),
        ]
        return self._write_partitions(snapshot, scopes, partitions)

    def _write_partitions(
        self, snapshot: Snapshot | None, scopes: list[Scope], partitions: Iterable[Partition]
    ) -> StoragePartitions:
        kept = tuple(map(with_content_fingerprint, _partitions(partitions)))
        written = _written()

        def change(store: Store) -> StoragePartitions:
            if snapshot is not None:
                stored_graphs.write_snapshot(store, snapshot, written)
            for scope in scopes:
                stored_partitions.write_partitions(store, scope, kept, written)
            return kept

        return self._write(change)

    def find_snapshots(self, artifact: Artifact, partition: Partition) -> list[SnapshotInfo]:
        """See `Connection.find_snapshots`."""
        _artifact(artifact)
        (wanted,) = map(with_content_fingerprint, _partitions([partition]))

        def ask(store: Store) -> list[SnapshotInfo]:
            found = {
                key
                for name, fingerprint, _ in stored_partitions.snapshots_with(
                    store, artifact, wanted
                )
                for key in stored_graphs.snapshots_of(store, name, fingerprint)
            }
            return [
                stored_graphs.snapshot_info(key, stored_graphs.snapshot_row(store, key))
                for key in sorted(found)
            ]

        return self._read(ask)

    def list_partitions(
        self, artifact: Artifact, *, after: str | None = None, limit: int = LISTED
    ) -> Page[PartitionInfo]:
        """See `Connection.list_partitions`."""
        scope = stored_partitions.of_artifact(_artifact(artifact))
        return self._read(
            lambda store: stored_partitions.list_partitions(store, scope, after, limit)
        )

    def delete_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> None:
        """See `Connection.delete_artifact_partitions`."""
        _artifact(artifact)
        going = [with_content_fingerprint(each) for each in _partitions(partitions)]
        self._write(lambda store: stored_deletion.delete_partitions(store, artifact, going))

    # --- recordings ---

    def write_recording(
        self,
        info: RecordingInfo,
        partitions: Iterable[RecordedPartition] = (),
        changes: Iterable[RecordedChange] = (),
    ) -> RecordingInfo:
        """See `Connection.write_recording`."""
        if not isinstance(info, RecordingInfo):
            raise InvalidValueError(f"{info!r:.60} is no RecordingInfo")
        kept = recorded_partitions(partitions)
        noted = _each(changes, RecordedChange, "among the changes")
        written = _written()
        return self._write(
            lambda store: stored_recordings.write_recording(store, info, kept, noted, written)
        )

    def read_recording(self, name: str, artifact_key: str, number: int) -> Recording:
        """See `Connection.read_recording`."""
        _recording(name, artifact_key, number)
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
        _name_or_none(name)
        if artifact_key is not None:
            check_name(artifact_key, "an artifact")
        return self._read(
            lambda store: stored_recordings.list_recordings(
                store, name, artifact_key, after, limit
            )
        )

    def delete_recording(self, name: str, artifact_key: str, number: int) -> None:
        """See `Connection.delete_recording`."""
        _recording(name, artifact_key, number)
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
        _name_or_none(name)
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
        _snapshot(snapshot)
        written = _written()
        self._write(lambda store: stored_graphs.write_snapshot(store, snapshot, written))

    def list_snapshots(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[SnapshotInfo]:
        """See `Connection.list_snapshots`."""
        _name_or_none(name)
        return self._read(lambda store: stored_graphs.list_snapshots(store, name, after, limit))

    def delete_snapshot(self, name: str, fingerprint: Fingerprint | str) -> None:
        """See `Connection.delete_snapshot`."""
        check_name(name, "a graph")
        going = check_fingerprint(fingerprint, "the fingerprint of a snapshot")
        self._write(lambda store: stored_deletion.delete_snapshot(store, name, going))

    # --- tags ---

    def read_snapshot_tag(self, name: str, tag: str) -> Snapshot:
        """See `Connection.read_snapshot_tag`."""
        _tag(name, tag)
        return self._read(lambda store: stored_tags.read_tag(store, name, tag))

    def write_snapshot_tag(self, snapshot: Snapshot, tag: str, *, overwrite: bool = False) -> None:
        """See `Connection.write_snapshot_tag`."""
        _tag(_snapshot(snapshot).name, tag)
        written = _written()
        write = stored_tags.move_tag if overwrite else stored_tags.write_tag
        self._write(lambda store: write(store, snapshot, tag, written))

    def untag(self, name: str, tag: str) -> None:
        """See `Connection.untag`."""
        _tag(name, tag)
        written = _written()
        self._write(lambda store: stored_tags.remove_tag(store, name, tag, written))

    def list_tags(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagInfo]:
        """See `Connection.list_tags`."""
        _name_or_none(name)
        return self._read(lambda store: stored_tags.list_tags(store, name, after, limit))

    def tag_history(
        self, name: str, tag: str, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagChange]:
        """See `Connection.tag_history`."""
        _tag(name, tag)
        return self._read(lambda store: stored_tags.tag_history(store, name, tag, after, limit))


def _written() -> Written:
    return Written(SystemClock().wall(), _author(os.getpid()))


@cache
def _author(pid: int) -> str:
    program, host = program_name(), socket.gethostname()
    return in_words(Source(program=program, host=host, pid=pid, login=login_name()))


def _artifact(given: object) -> Artifact:
    if not isinstance(given, Artifact):
        raise InvalidValueError(f"{given!r:.60} is no Artifact")
    return given


def _snapshot(given: object) -> Snapshot:
    if not isinstance(given, Snapshot):
        raise InvalidValueError(f"{given!r:.60} is no Snapshot")
    return given


def _in_snapshot(snapshot: Snapshot, artifact_key: str, artifact: Artifact) -> Scope:
    check_name(artifact_key, "an artifact")
    at = _snapshot(snapshot)
    return stored_partitions.of_snapshot(at.name, at.fingerprint, artifact_key, _artifact(artifact))


def _partitions(given: Iterable[Partition]) -> list[Partition]:
    return _each(given, Partition, "among the partitions")


def recorded_partitions(given: Iterable[RecordedPartition]) -> list[RecordedPartition]:
    """Return partitions of a recording as they are stored: with their content fingerprints."""
    return [
        replace(each, partition=with_content_fingerprint(each.partition))
        for each in _each(given, RecordedPartition, "among the partitions")
    ]


def _each(given: Iterable[T], kind: type[T], where: str) -> list[T]:
    if isinstance(given, kind):
        raise InvalidValueError(f"{given!r:.60} is one {kind.__name__}; give a sequence of them")
    found = list(given)
    for each in found:
        if not isinstance(each, kind):
            raise InvalidValueError(f"{each!r:.60}, {where}, is no {kind.__name__}")
    return found


def _recording(name: str, artifact_key: str, number: int) -> None:
    check_name(name, "a graph")
    check_name(artifact_key, "an artifact")
    if type(number) is not int or number < 1:
        raise InvalidValueError(
            f"{number!r:.60} is no number of a recording; they count from 1: see list_recordings"
        )


def _name_or_none(name: str | None) -> None:
    if name is not None:
        check_name(name, "a graph")


def _tag(name: str, tag: str) -> None:
    check_name(name, "a graph")
    check_name(tag, "a tag")
