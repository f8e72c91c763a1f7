"""What of a damaged store can be put into a new one: rows that verify, and that lead somewhere.

A row that refers to one that is lost would be damage in the new store as well, so it is left out.
Only a recording stays although a snapshot is lost that it names: what else it says is worth having,
and the fingerprint may be found in a backup. Rows by which others are found say nothing that those
do not say, so a lost one costs nothing: it is made anew.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ezgraph.backends.stored_graphs import pieces_of, row_of
from ezgraph.errors import InvalidKeyError, JournalError
from ezgraph.names import key_of, topic_of
from ezgraph.protocol.stored import GraphRow, TagRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ezgraph.names import Key


def consistent(rows: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return those of ``rows`` whose references all lead to others of them."""
    rows = {**_finding(rows), **rows}
    kept: dict[bytes, bytes] = {}
    for room in ("piece", "graph", "snapshot", "frozen", "tag"):
        prefix = topic_of((room,))
        for key in sorted(key for key in rows if key.startswith(prefix)):
            with suppress(InvalidKeyError, JournalError):
                if _leads_on(key_of(key), rows[key], kept):
                    kept[key] = rows[key]
    others = {key: value for key, value in rows.items() if _is_other(key, kept, rows)}
    return kept | others


def _finding(rows: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the rows by which snapshots are found, and the snapshots that have partitions."""
    found: dict[bytes, bytes] = {}
    for row_key in rows:
        with suppress(InvalidKeyError):
            match key_of(row_key):
                case ("snapshot", name, epoch, seq, fingerprint, mark):
                    found[topic_of(("frozen", name, fingerprint, epoch, seq, mark))] = b""
                case ("partition", "snapshot", name, fingerprint, artifact_key, storage, *_):
                    found[topic_of(("scope", storage, name, fingerprint, artifact_key))] = b""
                case _:
                    pass
    return found


def _leads_on(key: Key, value: bytes, kept: Mapping[bytes, bytes]) -> bool:
    match key:
        case ("graph", _, _):
            return all(each in kept for each in pieces_of(row_of(topic_of(key), value, GraphRow)))
        case ("snapshot", name, _, _, fingerprint, _):
            return topic_of(("graph", name, fingerprint)) in kept
        case ("frozen", name, fingerprint, epoch, seq, mark):
            return topic_of(("snapshot", name, epoch, seq, fingerprint, mark)) in kept
        case ("tag", _, _):
            return (row_of(topic_of(key), value, TagRow).key or b"") in kept
        case ("piece", _):
            return True
        case _:
            return False


def _is_other(key: bytes, kept: Mapping[bytes, bytes], rows: Mapping[bytes, bytes]) -> bool:
    """Say whether a row of another room is to be kept: of a snapshot or recording, if that is."""
    with suppress(InvalidKeyError):
        match key_of(key):
            case ("piece" | "graph" | "snapshot" | "frozen" | "tag", *_):
                return False
            case ("partition", "snapshot", name, fingerprint, *_) | (
                "scope",
                _,
                name,
                fingerprint,
                *_,
            ):
                prefix = topic_of(("frozen", name, fingerprint))
                return any(each.startswith(prefix) for each in kept)
            case ("recorded", name, artifact_key, number, *_) | (
                "inforce",
                name,
                _,
                artifact_key,
                number,
            ):
                return topic_of(("recording", name, artifact_key, number)) in rows
            case _:
                return True
    return False
