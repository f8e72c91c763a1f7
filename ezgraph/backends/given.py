"""What the methods of a connection are given: checked, before anything is read or written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.backends import stored_partitions
from ezgraph.errors import InvalidValueError
from ezgraph.protocol.artifacts import Artifact, Partition, check_name
from ezgraph.protocol.graphs import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.backends.stored_partitions import Scope


def an_artifact(given: object) -> Artifact:
    """Return what was given if it is an artifact, or raise InvalidValueError."""
    if not isinstance(given, Artifact):
        raise InvalidValueError(f"{given!r:.60} is no Artifact")
    return given


def a_snapshot(given: object) -> Snapshot:
    """Return what was given if it is a snapshot, or raise InvalidValueError."""
    if not isinstance(given, Snapshot):
        raise InvalidValueError(f"{given!r:.60} is no Snapshot")
    return given


def scope_within(snapshot: Snapshot, artifact_key: str, artifact: Artifact) -> Scope:
    """Return the scope of an artifact's partitions in a snapshot, or raise InvalidValueError."""
    check_name(artifact_key, "an artifact")
    at = a_snapshot(snapshot)
    of = an_artifact(artifact)
    return stored_partitions.of_snapshot(at.name, at.fingerprint, artifact_key, of)


def some_partitions(given: Iterable[Partition]) -> list[Partition]:
    """Return the partitions that were given, or raise InvalidValueError."""
    if isinstance(given, Partition):
        raise InvalidValueError(f"{given!r:.60} is one Partition; give a sequence of them")
    found = list(given)
    for each in found:
        if not isinstance(each, Partition):
            raise InvalidValueError(f"{each!r:.60}, among the partitions, is no Partition")
    return found


def check_name_or_none(name: str | None) -> None:
    """Raise InvalidValueError unless it can name a graph, or is None."""
    if name is not None:
        check_name(name, "a graph")


def check_tag(name: str, tag: str) -> None:
    """Raise InvalidValueError unless these can name a graph and a tag."""
    check_name(name, "a graph")
    check_name(tag, "a tag")
