"""What may be deleted from a store: what nothing that stays refers to.

A snapshot refers to its graph and to the partitions it has, a tag to its snapshot, a recording to
the snapshots that were in force in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.backends.stored_graphs import (
    check_graph,
    check_snapshot,
    remove_graph,
    remove_snapshots,
    snapshot_row,
    snapshots_of,
    some,
)
from ezgraph.backends.stored_partitions import (
    first_held,
    of_artifact,
    remove_of_snapshot,
    remove_partitions,
)
from ezgraph.backends.stored_recordings import recordings_of
from ezgraph.backends.stored_tags import tags_of
from ezgraph.errors import StillReferencedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ezgraph.backends.store import Store
    from ezgraph.protocol.artifacts import Artifact, Partition
    from ezgraph.protocol.fingerprints import Fingerprint


def delete_graph(
    store: Store, name: str, fingerprint: Fingerprint, *, kept: Iterable[bytes] = ()
) -> None:
    """Delete a graph, and what it consists of as far as no other one does.

    ``kept`` are the names of pieces of graphs that are just being stored.

    Raises:
        UnknownGraphError: there is none.
        StillReferencedError: there are snapshots of it.
    """
    check_graph(store, name, fingerprint)
    if snapshots := snapshots_of(store, name, fingerprint):
        seqs = some([str(snapshot_row(store, each).seq) for each in snapshots])
        raise StillReferencedError(
            f"graph {name!r} {fingerprint} is still that of a snapshot (at seq {seqs}); delete "
            f"that first: delete_snapshot({name!r}, {str(fingerprint)!r})"
        )
    remove_graph(store, name, fingerprint, kept=kept)


def delete_snapshot(store: Store, name: str, fingerprint: Fingerprint) -> None:
    """Delete the snapshots with this fingerprint, and which partitions they have.

    The partitions themselves stay, and so does the graph.

    Raises:
        UnknownSnapshotError: there is none.
        StillReferencedError: a tag points to one, or a recording names it.
    """
    check_snapshot(store, name, fingerprint)
    if tags := tags_of(store, name, snapshots_of(store, name, fingerprint)):
        raise StillReferencedError(
            f"snapshot {fingerprint} of graph {name!r} is still tagged {some(tags)}; remove the "
            f"tag first: untag({name!r}, {tags[0]!r})"
        )
    if recordings := recordings_of(store, name, fingerprint):
        artifact_key, number = recordings[0]
        raise StillReferencedError(
            f"snapshot {fingerprint} of graph {name!r} was in force in recording {number} of "
            f"{artifact_key!r}; forget that first: delete_recording({name!r}, {artifact_key!r}, "
            f"{number})"
        )
    remove_of_snapshot(store, name, fingerprint)
    remove_snapshots(store, name, fingerprint)


def delete_partitions(
    store: Store, artifact: Artifact, partitions: Sequence[Partition], *, most: int | None = None
) -> int:
    """Forget partitions of an artifact's storage, and return how many were known.

    ``most``: how much may be looked through for several of them, where others wait.

    Raises:
        StillReferencedError: a snapshot has one of them.
        LimitError: too many of them, for all the snapshots that there are.
    """
    held = first_held(store, artifact, partitions, most=most)
    if held is not None:
        partition, (name, fingerprint, _) = held
        raise StillReferencedError(
            f"partition {partition.key!r} of artifact {artifact.key!r} is still one of "
            f"snapshot {fingerprint} of graph {name!r}; delete that first: "
            f"delete_snapshot({name!r}, {str(fingerprint)!r})"
        )
    return remove_partitions(store, of_artifact(artifact), partitions)
