"""What is read of the store, as rows: one question, one page.

The rows are those that a store at the asker's would have to hold for the same question to be
answered there as here, so the asker decodes them, and nothing of them is decoded here that need not
be. A page ends at `Limits.chunk_bytes`; what comes behind it is asked for next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, assert_never

from ezgraph.backends.stored_graphs import (
    check_snapshot,
    frozen_key,
    frozen_snapshot,
    graph_key,
    names_of,
    newest,
    piece_key,
    row_of,
    unknown_graph,
)
from ezgraph.backends.stored_partitions import place_of, scope_in_snapshot, scope_of_storage
from ezgraph.backends.stored_recordings import place_of_recording, read_info
from ezgraph.backends.stored_tags import tag_key, tag_row
from ezgraph.errors import InvalidCommandError, JournalCorruptError, LimitError
from ezgraph.names import key_of, topic_of
from ezgraph.protocol.artifacts import check_name
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.listing import MOST_LISTED
from ezgraph.protocol.stored import GraphRow
from ezgraph.protocol.stored_commands import (
    GraphAt,
    Listed,
    PartitionsAt,
    PieceAt,
    Question,
    RecordingAt,
    SnapshotAt,
    SnapshotsWith,
    TagAt,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.backends.store import Store
    from ezgraph.protocol.roles import ReadScope

MOST_ROWS = 2_000
MOST_NAMES = 2_000
_EXAMINED = 500
_SCOPE_NAMES = 5
_MOST_LOOKS = 10
_ROOMS = {
    "graph": range(2),
    "snapshot": range(2),
    "tag": range(2),
    "tagged": range(2, 3),
    "partition": range(2, 3),
    "recording": range(3),
}


class Found(NamedTuple):
    """The rows of a page; ``next_after``: behind what the rest begins, None: there is none."""

    rows: list[tuple[bytes, bytes]]
    next_after: bytes | None = None


def look(store: Store, question: Question, scope: ReadScope, *, chunk_bytes: int) -> Found:
    """Return what is to be answered to one question.

    Raises:
        RefusedError: there is no such graph, snapshot or tag, or the question is none.
    """
    match question:
        case PieceAt():
            return _pieces(store, question, chunk_bytes)
        case GraphAt():
            return Found(_graph(store, question.name, question.fingerprint, chunk_bytes))
        case SnapshotAt():
            key = newest(store, question.name, question.fingerprint)
            return Found(_snapshot(store, key, chunk_bytes))
        case TagAt():
            key, _ = tag_row(store, question.name, question.tag)
            tag = tag_key(question.name, question.tag)
            return Found([_row(store, tag), *_snapshot(store, key, chunk_bytes)])
        case PartitionsAt():
            return _partitions(store, question, chunk_bytes)
        case Listed():
            return _listed(store, question, scope, chunk_bytes)
        case SnapshotsWith():
            return _snapshots_with(store, question, chunk_bytes)
        case RecordingAt():
            return _recording(store, question, chunk_bytes)
    assert_never(question)


def _row(store: Store, key: bytes) -> tuple[bytes, bytes]:
    packed = store.get(key)
    if packed is None:
        raise JournalCorruptError(
            f"the stored row {key[:80]!r} is missing, but something refers to it; nothing was "
            f"repaired or removed. Restore a backup"
        )
    return key, packed


def _graph(
    store: Store, name: str, fingerprint: Fingerprint, chunk_bytes: int
) -> list[tuple[bytes, bytes]]:
    """Return a graph's row, and as many of its pieces as fit."""
    key = graph_key(name, fingerprint)
    packed = store.get(key)
    if packed is None:
        raise unknown_graph(store, name, fingerprint)
    names = names_of(row_of(key, packed, GraphRow))
    return [(key, packed), *_fitting(store, map(piece_key, names), chunk_bytes)]


def _snapshot(store: Store, key: bytes, chunk_bytes: int) -> list[tuple[bytes, bytes]]:
    _, name, _, _, fingerprint, _ = key_of(key)
    graph = _graph(store, name, Fingerprint.from_hex(fingerprint), chunk_bytes)
    return [(frozen_key(key), b""), _row(store, key), *graph]


def _fitting(
    store: Store, keys: Iterable[bytes], chunk_bytes: int
) -> list[tuple[bytes, bytes]]:
    """Return the first of these rows, one at least; those that are not there are left out."""
    rows: list[tuple[bytes, bytes]] = []
    size = 0
    for key in keys:
        if size >= chunk_bytes:
            break
        packed = store.get(key)
        if packed is not None:
            rows.append((key, packed))
            size += len(packed)
    return rows


def _pieces(store: Store, question: PieceAt, chunk_bytes: int) -> Found:
    names = question.names
    if len(names) > MOST_NAMES:
        raise InvalidCommandError(
            f"{len(names)} pieces are asked for at once; ask for up to {MOST_NAMES}"
        )
    keys = [piece_key(name) for name in names]
    if question.with_bytes:
        return Found(_fitting(store, keys, chunk_bytes))
    return Found([(key, b"") for key in keys if store.get(key) is not None])


def _partitions(store: Store, question: PartitionsAt, chunk_bytes: int) -> Found:
    name, fingerprint, artifact_key = question.name, question.fingerprint, question.artifact_key
    if name is None:
        scope = scope_of_storage(question.storage)
    elif fingerprint is None or artifact_key is None:
        raise InvalidCommandError(
            "partitions in a snapshot are asked for by its graph's name, its fingerprint and the "
            "artifact's key"
        )
    else:
        check_name(name, "a graph")
        check_name(artifact_key, "an artifact")
        check_snapshot(store, name, fingerprint)
        scope = scope_in_snapshot(name, fingerprint, artifact_key, question.storage)
    if len(question.wanted) > MOST_NAMES:
        raise InvalidCommandError(
            f"{len(question.wanted)} partitions are asked for at once; ask for up to {MOST_NAMES}"
        )
    prefix = topic_of(scope)
    places = [topic_of((key, str(inputs))) for key, inputs in question.wanted] or [b""]
    return _scanned(store, [prefix + place for place in sorted(places)], question.after,
                    MOST_ROWS, chunk_bytes)


def _recording(store: Store, question: RecordingAt, chunk_bytes: int) -> Found:
    """Return the rows of what was written in a recording, and at the end its own."""
    read_info(store, question.name, question.artifact_key, question.number)
    place = place_of_recording(question.name, question.artifact_key, question.number)
    prefixes = [topic_of((room, *place)) for room in ("recorded", "recording")]
    return _scanned(store, prefixes, question.after, MOST_ROWS, chunk_bytes)


def _scanned(
    store: Store, prefixes: list[bytes], after: bytes, limit: int, chunk_bytes: int
) -> Found:
    """Return the rows below some prefixes, which are in order."""
    rows: list[tuple[bytes, bytes]] = []
    size = 0
    for prefix in prefixes:
        if prefix < after and not after.startswith(prefix):
            continue
        for row in store.scan(prefix, after=after, limit=limit + 1 - len(rows)):
            if len(rows) >= limit or size >= chunk_bytes:
                return Found(rows, rows[-1][0])
            rows.append(row)
            size += sum(map(len, row))
    return Found(rows)


def _listed(store: Store, question: Listed, scope: ReadScope, chunk_bytes: int) -> Found:
    depths = _ROOMS.get(question.room)
    if depths is None or len(question.within) not in depths:
        raise InvalidCommandError(
            f"{question.room!r:.60} within {question.within!r:.60} is no list of the store; lists "
            f"are {', '.join(_ROOMS)}"
        )
    if not 0 < question.limit <= MOST_LISTED + 1:
        raise InvalidCommandError(
            f"limit is {question.limit}; give a number from 1 to {MOST_LISTED + 1}"
        )
    prefix = topic_of((question.room, *question.within))
    limit = min(question.limit, MOST_ROWS)
    if scope.is_full:
        return _scanned(store, [prefix], question.after, limit, chunk_bytes)
    return _readable(store, prefix, question.after, limit, chunk_bytes, scope)


def _readable(
    store: Store, prefix: bytes, after: bytes, limit: int, chunk_bytes: int, scope: ReadScope
) -> Found:
    """Return the tags that one may read. Where a page ends, too, only such a one is named.

    Raises:
        LimitError: there are so many others that none was found among them.
    """
    rows: list[tuple[bytes, bytes]] = []
    size = 0
    for _ in range(_MOST_LOOKS):
        some = store.scan(prefix, after=after, limit=MOST_ROWS)
        for key, packed in some:
            if not scope.has(("tag", *key_of(key)[1:3])):
                continue
            if len(rows) >= limit or size >= chunk_bytes:
                return Found(rows, rows[-1][0])
            rows.append((key, packed))
            size += len(key) + len(packed)
        if len(some) < MOST_ROWS:
            return Found(rows)
        after = some[-1][0]
    if rows:
        return Found(rows, rows[-1][0])
    raise LimitError(
        f"no tag that this key may read is among the next {_MOST_LOOKS * MOST_ROWS}; ask within "
        f"one graph"
    )


def _snapshots_with(store: Store, question: SnapshotsWith, chunk_bytes: int) -> Found:
    """Return the rows that tell in which snapshots a partition is, and those of the snapshots.

    Of what was frozen often there are many, so a page may end among them: then it is gone on with
    behind the key of the scope, followed by that of the last snapshot.
    """
    storage = str(question.storage)
    place = place_of(question.key, question.inputs, question.partition)
    after = key_of(question.after)
    scope_key, snapshot_key = topic_of(after[:_SCOPE_NAMES]), topic_of(after[_SCOPE_NAMES:])
    scopes = store.scan(topic_of(("scope", storage)), after=scope_key, limit=_EXAMINED)
    if snapshot_key and (value := store.get(scope_key)) is not None:
        scopes = [(scope_key, value), *scopes]
    rows: dict[bytes, bytes] = {}
    size, ended = 0, question.after
    for row_key, value in scopes:
        _, _, name, fingerprint, artifact_key = key_of(row_key)
        key = topic_of(("partition", "snapshot", name, fingerprint, artifact_key, storage)) + place
        packed = store.get(key)
        if packed is not None:
            rows |= {row_key: value, key: packed}
            behind = snapshot_key if row_key == scope_key else b""
            prefix = topic_of(("frozen", name, fingerprint))
            snapshots = store.scan(prefix, after=behind, limit=MOST_ROWS)
            for found_by, _ in snapshots:
                if len(rows) >= MOST_ROWS or size >= chunk_bytes:
                    return Found(sorted(rows.items()), ended)
                row = _row(store, frozen_snapshot(found_by))
                rows |= {found_by: b"", row[0]: row[1]}
                size += len(found_by) + sum(map(len, row))
                ended = row_key + found_by
            if len(snapshots) == MOST_ROWS:
                return Found(sorted(rows.items()), ended)
        ended = row_key
    return Found(sorted(rows.items()), None if len(scopes) < _EXAMINED else ended)
