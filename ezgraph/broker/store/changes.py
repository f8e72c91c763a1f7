"""What each change of the store does to its rows, and which events tell of it.

The functions check and change in one stroke, within one `Journal.change`: what they raise undoes
what they did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from ezgraph.backends import (
    stored_deletion,
    stored_graphs,
    stored_partitions,
    stored_recordings,
    stored_tags,
)
from ezgraph.broker.store.asked import Decided
from ezgraph.protocol.events import (
    PartitionsWritten,
    RecordingDeleted,
    RecordingWritten,
    StoredDeleted,
    TagRemoved,
    TagSet,
)
from ezgraph.protocol.replies import Done, PartitionsStored, RecordingStored
from ezgraph.protocol.stored import SnapshotRow
from ezgraph.protocol.stored_commands import (
    Deletable,
    DeleteRecording,
    DeleteStored,
    Freeze,
    NewSnapshot,
    RemoveTag,
    SetTag,
    SnapshotRef,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    WritePartitions,
    WriteRecording,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.backends.store import Store
    from ezgraph.backends.stored_graphs import Written
    from ezgraph.protocol.stored_commands import StoreCommand

ANYTHING = ""
DELETED = "deleted"
_MOST_LOOKS = 50_000
"""How many rows are looked at for one deletion, in which nobody else is served: about 0.2 s."""


def changed(
    store: Store, command: StoreCommand, written: Written, *, in_use: Callable[[], set[bytes]]
) -> Decided:
    """Do what ``command`` asks for; a graph that comes with it is stored by now.

    ``in_use`` says which pieces graphs need that are just being stored.

    Raises:
        RefusedError: it cannot be done; what was done of it is to be undone.
    """
    match command:
        case StoreGraph():
            return Decided((), Done)
        case StoreSnapshot():
            _snapshot(store, command.name, command.snapshot, written)
            return Decided((), Done)
        case SetTag():
            return _set_tag(store, command, written)
        case RemoveTag():
            stored_tags.remove_tag(store, command.name, command.tag, written)
            return Decided((TagRemoved(command.name, command.tag),), Done)
        case WritePartitions():
            return _write_partitions(store, command, written)
        case WriteRecording():
            return _write_recording(store, command, written)
        case DeleteRecording(name=name, artifact_key=artifact_key, number=number):
            stored_recordings.delete_recording(store, name, artifact_key, number)
            return Decided((RecordingDeleted(name, artifact_key, number),), Done)
        case DeleteStored(what=Deletable.PARTITIONS):
            return _delete_partitions(store, command)
        case DeleteStored():
            return _delete(store, command, in_use)
        case Freeze() | StorePieces():
            raise AssertionError("it is done elsewhere")
    assert_never(command)


def _set_tag(store: Store, command: SetTag, written: Written) -> Decided:
    name, tag = command.name, command.tag
    if not command.overwrite:
        stored_tags.check_free(store, name, tag)
    before = stored_tags.pointed_to(store, name, tag)
    key = _snapshot(store, name, command.snapshot, written)
    stored_tags.point(store, name, tag, key, written)
    at = stored_graphs.snapshot_row(store, key)
    previous = None if before is None else before.fingerprint
    return Decided((TagSet(name, tag, at.fingerprint, at.seq, previous),), Done)


def _write_partitions(store: Store, command: WritePartitions, written: Written) -> Decided:
    storage, new, fingerprint = command.artifact.storage_fingerprint, 0, None
    if command.partitions:
        stored_partitions.note_key(store, command.artifact)
    if command.to_artifact:
        scope = stored_partitions.scope_of_storage(storage)
        new += stored_partitions.write_partitions(store, scope, command.partitions, written)
    if command.snapshot is not None and command.name and command.artifact_key:
        _snapshot(store, command.name, command.snapshot, written)
        fingerprint = command.snapshot.fingerprint
        scope = stored_partitions.scope_in_snapshot(
            command.name, fingerprint, command.artifact_key, storage
        )
        new += stored_partitions.write_partitions(store, scope, command.partitions, written)
    body = PartitionsWritten(command.artifact.key, storage, new, command.name, fingerprint)
    touched = (str(storage),) if fingerprint is None else (str(storage), ANYTHING)
    return Decided((body,) if new else (), lambda seq: PartitionsStored(seq, new), touched)


def _write_recording(store: Store, command: WriteRecording, written: Written) -> Decided:
    kept = stored_recordings.write_recording(
        store, command.recording, command.partitions, command.changes, written
    )
    count, first = len(command.partitions), (kept.wall_time, kept.author)
    body = RecordingWritten(
        kept.name,
        kept.artifact_key,
        kept.number,
        kept.first_seq,
        kept.last_seq,
        kept.failed,
        count,
        *first,
    )
    touched = (ANYTHING, str(kept.artifact.storage_fingerprint)) if count else (ANYTHING,)
    return Decided((body,), lambda seq: RecordingStored(seq, kept.number, *first), touched)


def _delete_partitions(store: Store, command: DeleteStored) -> Decided:
    artifact = command.artifact
    if artifact is None:
        raise AssertionError("checked before")
    count = stored_deletion.delete_partitions(
        store, artifact, command.partitions, most=_MOST_LOOKS
    )
    storage = artifact.storage_fingerprint
    body = StoredDeleted(command.what.value, artifact.key, storage, count)
    return Decided((body,) if count else (), Done, (str(storage),))


def _delete(store: Store, command: DeleteStored, in_use: Callable[[], set[bytes]]) -> Decided:
    name, fingerprint = command.name, command.fingerprint
    if name is None or fingerprint is None:
        raise AssertionError("checked before")
    if command.what is Deletable.GRAPH:
        stored_deletion.delete_graph(store, name, fingerprint, kept=in_use())
    else:
        stored_deletion.delete_snapshot(store, name, fingerprint)
    body = StoredDeleted(command.what.value, name, fingerprint)
    return Decided((body,), Done, (ANYTHING, DELETED))


def _snapshot(
    store: Store, name: str, snapshot: SnapshotRef | NewSnapshot, written: Written
) -> bytes:
    """Return the key of a snapshot's row; one that is new is stored, if its graph is."""
    fingerprint = snapshot.fingerprint
    if isinstance(snapshot, SnapshotRef):
        return stored_graphs.newest(store, name, fingerprint, snapshot.epoch, snapshot.seq)
    stored_graphs.check_graph(store, name, fingerprint)
    row = SnapshotRow(
        fingerprint=fingerprint,
        epoch=snapshot.epoch,
        seq=snapshot.seq,
        time=snapshot.time,
        reason=snapshot.reason,
        wall_time=written.wall_time,
        author=written.author,
    )
    return stored_graphs.add_snapshot(store, name, row)
