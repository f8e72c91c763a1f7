"""What a change of the store may say, whatever is stored. Pure.

What depends on the rows (a tag that exists, a graph that is not there) is decided where they are,
in `ezgraph.broker.store.storing`; sizes are bounded in `ezgraph.broker.quotas`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

from ezgraph.errors import InvalidCommandError
from ezgraph.protocol.artifacts import check_name
from ezgraph.protocol.fingerprints import content_hash
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
    from collections.abc import Iterable, Mapping

    from ezgraph.protocol.artifacts import Partition
    from ezgraph.protocol.stored_commands import StoreCommand

_MOST = 1 << 63


def check(command: StoreCommand) -> None:
    """Refuse what no store could do.

    Raises:
        InvalidValueError: a name is none.
        InvalidCommandError: something is missing, or does not go together; says what.
    """
    match command:
        case Freeze():
            check_name(command.name, "a graph")
            if command.tag is not None:
                check_name(command.tag, "a tag")
        case StorePieces():
            _check_pieces(command.pieces)
        case StoreGraph():
            check_name(command.name, "a graph")
            _check_pieces(command.pieces)
        case StoreSnapshot():
            check_name(command.name, "a graph")
            _check_snapshot(command.snapshot)
        case SetTag():
            check_name(command.name, "a graph")
            check_name(command.tag, "a tag")
            _check_snapshot(command.snapshot)
        case RemoveTag():
            check_name(command.name, "a graph")
            check_name(command.tag, "a tag")
        case WritePartitions():
            _check_partitions(command)
        case WriteRecording():
            _check_contents(each.partition for each in command.partitions)
        case DeleteRecording():
            check_name(command.name, "a graph")
            check_name(command.artifact_key, "an artifact")
            if not 0 < command.number < _MOST:
                raise InvalidCommandError(
                    f"{command.number} is no number of a recording; they count from 1"
                )
        case DeleteStored():
            _check_deletion(command)
        case _:
            assert_never(command)


def _check_pieces(pieces: Mapping[bytes, bytes]) -> None:
    for name, piece in pieces.items():
        if content_hash(piece) != name:
            raise InvalidCommandError(
                f"a piece of {len(piece)} bytes is named {name.hex()[:40]!r}, which is not the "
                f"hash of its bytes"
            )


def _check_snapshot(snapshot: SnapshotRef | NewSnapshot) -> None:
    for field in ("epoch", "seq"):
        number = getattr(snapshot, field)
        if number is not None and not 0 <= number < _MOST:
            raise InvalidCommandError(f"{field} of a snapshot is {number}; give a whole number")
    if isinstance(snapshot, SnapshotRef):
        if (snapshot.epoch is None) != (snapshot.seq is None):
            raise InvalidCommandError(
                f"a snapshot at epoch {snapshot.epoch} and seq {snapshot.seq}: give both, or none"
            )
        return
    if not math.isfinite(snapshot.time):
        raise InvalidCommandError(
            f"time of a snapshot is {snapshot.time}; give seconds since 1970"
        )
    _check_pieces(snapshot.pieces)


def _check_partitions(command: WritePartitions) -> None:
    snapshot = command.snapshot
    whose = (command.name, command.artifact_key)
    if any((each is None) != (snapshot is None) for each in whose):
        raise InvalidCommandError(
            f"partitions of graph {command.name!r:.60}, artifact {command.artifact_key!r:.60}: "
            f"give both with a snapshot, and neither without"
        )
    if snapshot is None:
        if not command.to_artifact:
            raise InvalidCommandError(
                "partitions are written to an artifact's storage, to a snapshot, or to both"
            )
    else:
        check_name(command.name, "a graph")
        check_name(command.artifact_key, "an artifact")
        _check_snapshot(snapshot)
    _check_contents(command.partitions)


def _check_contents(partitions: Iterable[Partition]) -> None:
    for partition in partitions:
        if partition.content_fingerprint.is_empty:
            raise InvalidCommandError(
                f"partition {partition.key!r:.80} has no content fingerprint; whoever has the "
                f"data makes it"
            )


def _check_deletion(command: DeleteStored) -> None:
    if command.what is Deletable.PARTITIONS:
        if command.artifact is None:
            raise InvalidCommandError("partitions are deleted from an artifact; say from which")
        _check_contents(command.partitions)
        return
    if command.artifact is not None or command.partitions:
        raise InvalidCommandError(
            f"a {command.what.value} is deleted by name and fingerprint, and nothing with it"
        )
    check_name(command.name, "a graph")
    if command.fingerprint is None:
        raise InvalidCommandError(
            f"which {command.what.value} is to be deleted? Give its fingerprint"
        )
