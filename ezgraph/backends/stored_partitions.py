"""Partitions in the rows of a store.

========================================================  =======================================
``partition/SCOPE…/KEY/INPUT/CONTENT/``                   `PartitionRow`
``scope/STORAGE/NAME/FINGERPRINT/ARTIFACT/``              empty: this snapshot has partitions there
``keyed/STORAGE/KEY/``                                    empty: an artifact of this key wrote there
========================================================  =======================================

A scope is either that of all known partitions of a storage, ``artifact/STORAGE/``, or that of those
of one artifact in one snapshot, ``snapshot/NAME/FINGERPRINT/ARTIFACT/STORAGE/``. STORAGE is the
fingerprint of an artifact's storage, KEY the text of a partition's key, INPUT its input
fingerprint, CONTENT the fingerprint of all that is said of it. So the partitions of an artifact
stand together, in order of their keys, and those of one key and one input are found at once,
however many others there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.backends.stored_graphs import (
    page_of,
    row_of,
    snapshot_info,
    snapshot_row,
    snapshots_of,
)
from ezgraph.errors import LimitError
from ezgraph.names import key_of, topic_of
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.listing import PartitionInfo
from ezgraph.protocol.stored import PartitionRow
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ezgraph.backends.store import Store
    from ezgraph.backends.stored_graphs import Written
    from ezgraph.protocol.artifacts import (
        Artifact,
        Partition,
        PartitionKey,
        StoragePartitions,
    )
    from ezgraph.protocol.listing import Page, SnapshotInfo

Scope = tuple[str, ...]


def of_artifact(artifact: Artifact) -> Scope:
    """Return the scope of all known partitions of an artifact's storage."""
    return scope_of_storage(artifact.storage_fingerprint)


def scope_of_storage(storage: Fingerprint) -> Scope:
    """Return the scope of all known partitions of a storage."""
    return ("partition", "artifact", str(storage))


def of_snapshot(
    name: str, fingerprint: Fingerprint, artifact_key: str, artifact: Artifact
) -> Scope:
    """Return the scope of an artifact's partitions in one snapshot."""
    return scope_in_snapshot(name, fingerprint, artifact_key, artifact.storage_fingerprint)


def scope_in_snapshot(
    name: str, fingerprint: Fingerprint, artifact_key: str, storage: Fingerprint
) -> Scope:
    """Return the scope of an artifact's partitions in one snapshot, by the artifact's storage."""
    return ("partition", "snapshot", name, str(fingerprint), artifact_key, str(storage))


def write_partitions(
    store: Store, scope: Scope, partitions: Iterable[Partition], written: Written
) -> int:
    """Add partitions to a scope, and return how many are new; the others stay as they are."""
    prefix = topic_of(scope)
    rows = {
        prefix + _place(each): codec.encode(PartitionRow(each, written.wall_time, written.author))
        for each in partitions
    }
    new = store.add(rows) if rows else 0
    if new:
        _note_scope(store, scope)
    return new


def _note_scope(store: Store, scope: Scope) -> None:
    if scope[1] == "snapshot":
        _, _, name, fingerprint, artifact_key, storage = scope
        key = topic_of(("scope", storage, name, fingerprint, artifact_key))
        if store.get(key) is None:
            store.put({key: b""})


def note_key(store: Store, artifact: Artifact) -> None:
    """Note under which key an artifact's storage was written to."""
    key = topic_of(("keyed", str(artifact.storage_fingerprint), artifact.key))
    if store.get(key) is None:
        store.put({key: b""})


def keys_of(store: Store, artifact: Artifact) -> list[str]:
    """Return the keys of all artifacts that have written to this one's storage."""
    prefix = topic_of(("keyed", str(artifact.storage_fingerprint)))
    return [key_of(each)[2] for each, _ in store.each(prefix)]


def read_partitions(
    store: Store, scope: Scope, wanted: Mapping[PartitionKey, Fingerprint]
) -> StoragePartitions:
    """Return a scope's partitions; with ``wanted``, only those of these keys and inputs."""
    prefix = topic_of(scope)
    places = [topic_of((key.text, str(inputs))) for key, inputs in wanted.items()] or [b""]
    rows = [row for place in sorted(places) for row in store.scan(prefix + place)]
    return tuple(row_of(key, packed, PartitionRow).partition for key, packed in rows)


def list_partitions(
    store: Store, scope: Scope, after: str | None, limit: int
) -> Page[PartitionInfo]:
    """Return a scope's partitions with who wrote them and when, by key."""

    def info(key: bytes, packed: bytes) -> PartitionInfo:
        row = row_of(key, packed, PartitionRow)
        return PartitionInfo(row.partition, row.wall_time, row.author)

    return page_of(store, scope, after, limit, info)


def snapshots_with(
    store: Store, artifact: Artifact, partition: Partition
) -> list[tuple[str, Fingerprint, str]]:
    """Return in which snapshots a partition is, and as which artifact: (name, fingerprint, key)."""
    storage, place = str(artifact.storage_fingerprint), _place(partition)
    found = []
    for prefix, where in _scopes(store, storage):
        if store.get(prefix + place) is not None:
            found.append(where)
    return found


def first_held(
    store: Store, artifact: Artifact, partitions: Sequence[Partition], *, most: int | None = None
) -> tuple[Partition, tuple[str, Fingerprint, str]] | None:
    """Return one of these partitions that is in a snapshot, and where it is; None: none of them.

    A snapshot costs as many looks as it has partitions of this storage, or as are asked for here,
    whichever is less. ``most``: how many looks there may be, if more than one is asked for.

    Raises:
        LimitError: there would be more.
    """
    storage = str(artifact.storage_fingerprint)
    wanted = {_place(each): each for each in partitions}
    looks = 0
    for prefix, where in _scopes(store, storage):
        there = _places_there(store, prefix, wanted)
        looks += 1 + len(wanted if there is None else there)
        if there is None:
            there = [place for place in wanted if store.get(prefix + place) is not None]
        for place in there:
            if place in wanted:
                return wanted[place], where
        if most is not None and looks > most and len(wanted) > 1:
            raise LimitError(
                f"{len(wanted)} partitions of artifact {artifact.key!r} are to be looked for in "
                f"more snapshots than can be at once; give fewer of them in one call"
            )
    return None


def _places_there(
    store: Store, prefix: bytes, wanted: Mapping[bytes, Partition]
) -> list[bytes] | None:
    """Return all places there are below ``prefix``; None: they are more than are wanted."""
    rows = store.scan(prefix, limit=len(wanted) + 1)
    return None if len(rows) > len(wanted) else [key[len(prefix) :] for key, _ in rows]


def _scopes(store: Store, storage: str) -> Iterator[tuple[bytes, tuple[str, Fingerprint, str]]]:
    """Yield where the partitions of a storage are that are in a snapshot, and in which one."""
    for row_key, _ in store.each(topic_of(("scope", storage))):
        _, _, name, fingerprint, artifact_key = key_of(row_key)
        scope = ("partition", "snapshot", name, fingerprint, artifact_key, storage)
        yield topic_of(scope), (name, Fingerprint.from_hex(fingerprint), artifact_key)


def find_snapshots(store: Store, artifact: Artifact, partition: Partition) -> list[SnapshotInfo]:
    """Return the snapshots that have a partition, oldest first."""
    found = {
        key
        for name, fingerprint, _ in snapshots_with(store, artifact, partition)
        for key in snapshots_of(store, name, fingerprint)
    }
    return [snapshot_info(key, snapshot_row(store, key)) for key in sorted(found)]


def remove_partitions(store: Store, scope: Scope, partitions: Iterable[Partition]) -> int:
    """Remove partitions from a scope, and return how many were there."""
    prefix = topic_of(scope)
    going = {prefix + _place(each) for each in partitions}
    there = [key for key in sorted(going) if store.get(key) is not None]
    store.remove(there)
    return len(there)


def remove_of_snapshot(store: Store, name: str, fingerprint: Fingerprint) -> None:
    """Remove what partitions a snapshot has."""
    prefix = topic_of(("partition", "snapshot", name, str(fingerprint)))
    keys = [key for key, _ in store.each(prefix)]
    scopes = {key_of(key)[2:6] for key in keys}
    store.remove(keys)
    store.remove(
        topic_of(("scope", storage, name_of, mark, artifact_key))
        for name_of, mark, artifact_key, storage in sorted(scopes)
    )


def _place(partition: Partition) -> bytes:
    return place_of(partition.key.text, partition.input_fingerprint, partition.fingerprint)


def place_of(key: str, inputs: Fingerprint, fingerprint: Fingerprint) -> bytes:
    """Return where in a scope a partition stands."""
    return topic_of((key, str(inputs), str(fingerprint)))
