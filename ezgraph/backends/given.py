"""What the methods of a connection are given: checked, before anything is read or written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ezgraph.backends import stored_partitions
from ezgraph.backends.contents import with_content_fingerprint
from ezgraph.errors import InvalidValueError
from ezgraph.protocol.artifacts import Artifact, Partition, check_name
from ezgraph.protocol.graphs import Snapshot
from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.backends.stored_partitions import Scope

T = TypeVar("T")


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
    return _each(given, Partition, "among the partitions")


def recorded_partitions(given: Iterable[RecordedPartition]) -> list[RecordedPartition]:
    """Return partitions of a recording, with content fingerprints; or raise InvalidValueError."""
    return [
        replace(each, partition=with_content_fingerprint(each.partition))
        for each in _each(given, RecordedPartition, "among the partitions")
    ]


def recorded_changes(given: Iterable[RecordedChange]) -> list[RecordedChange]:
    """Return the changes in a recording that were given, or raise InvalidValueError."""
    return _each(given, RecordedChange, "among the changes")


def a_recording(given: object) -> RecordingInfo:
    """Return what was given if it is a recording, or raise InvalidValueError."""
    if not isinstance(given, RecordingInfo):
        raise InvalidValueError(f"{given!r:.60} is no RecordingInfo")
    return given


def _each(given: Iterable[T], kind: type[T], where: str) -> list[T]:
    if isinstance(given, kind):
        raise InvalidValueError(f"{given!r:.60} is one {kind.__name__}; give a sequence of them")
    found = list(given)
    for each in found:
        if not isinstance(each, kind):
            raise InvalidValueError(f"{each!r:.60}, {where}, is no {kind.__name__}")
    return found


def check_recording(name: str, artifact_key: str, number: int) -> None:
    """Raise InvalidValueError unless these can name a recording."""
    check_name(name, "a graph")
    check_name(artifact_key, "an artifact")
    if type(number) is not int or number < 1:
        raise InvalidValueError(
            f"{number!r:.60} is no number of a recording; they count from 1: see list_recordings"
        )


def check_recordings_of(name: str | None, artifact_key: str | None) -> None:
    """Raise InvalidValueError unless recordings can be listed by these."""
    check_name_or_none(name)
    if artifact_key is not None:
        check_name(artifact_key, "an artifact")


def check_name_or_none(name: str | None) -> None:
    """Raise InvalidValueError unless it can name a graph, or is None."""
    if name is not None:
        check_name(name, "a graph")


def check_tag(name: str, tag: str) -> None:
    """Raise InvalidValueError unless these can name a graph and a tag."""
    check_name(name, "a graph")
    check_name(tag, "a tag")
