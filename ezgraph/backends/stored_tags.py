"""Tags in the rows of a store: names for snapshots, per graph.

=============================  ===================================================================
``tag/NAME/TAG/``              `TagRow`: what the tag points to now
``tagged/NAME/TAG/NUMBER/``    `TagRow`: what it has pointed to since the NUMBER-th change, from 1
=============================  ===================================================================

A number is 16 hexadecimal digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.backends.stored_graphs import (
    page_of,
    row_of,
    snapshot_at,
    snapshot_info,
    snapshot_row,
    some,
    write_snapshot,
)
from ezgraph.errors import TagExistsError, UnknownTagError
from ezgraph.names import key_of, topic_of
from ezgraph.protocol.listing import TagChange, TagInfo
from ezgraph.protocol.stored import TagRow
from ezgraph.wire import codec

if TYPE_CHECKING:
    from ezgraph.backends.store import Store
    from ezgraph.backends.stored_graphs import Written
    from ezgraph.protocol.graphs import Snapshot
    from ezgraph.protocol.listing import Page, SnapshotInfo

_SHOWN = 4


def write_tag(store: Store, snapshot: Snapshot, tag: str, written: Written) -> None:
    """Have a new tag point to a snapshot, which is stored if it is not.

    Raises:
        TagExistsError: it points to one already.
    """
    check_free(store, snapshot.name, tag)
    move_tag(store, snapshot, tag, written)


def move_tag(store: Store, snapshot: Snapshot, tag: str, written: Written) -> None:
    """Have a tag, new or not, point to a snapshot, which is stored if it is not."""
    point(store, snapshot.name, tag, write_snapshot(store, snapshot, written), written)


def check_free(store: Store, name: str, tag: str) -> None:
    """Raise `TagExistsError` if a tag points to a snapshot."""
    found = _found(store, name, tag)
    if found is None or found.snapshot is None:
        return
    at = found.snapshot
    raise TagExistsError(
        f"tag {tag!r} of graph {name!r} points to the snapshot {at.fingerprint} at seq {at.seq} "
        f"already (set by {found.author}); give overwrite=True to move it, or choose another tag",
        fingerprint=str(at.fingerprint),
    )


def pointed_to(store: Store, name: str, tag: str) -> SnapshotInfo | None:
    """Return the snapshot that a tag points to; None: there is no such tag."""
    found = _found(store, name, tag)
    return None if found is None else found.snapshot


def point(store: Store, name: str, tag: str, key: bytes, written: Written) -> None:
    """Have a tag, new or not, point to the stored snapshot with this key."""
    info = snapshot_info(key, snapshot_row(store, key))
    row = codec.encode(TagRow(key, info, written.wall_time, written.author))
    store.put({tag_key(name, tag): row, _next(store, name, tag): row})


def remove_tag(store: Store, name: str, tag: str, written: Written) -> None:
    """Remove a tag; its history stays.

    Raises:
        UnknownTagError: there is none.
    """
    tag_row(store, name, tag)
    row = codec.encode(TagRow(None, None, written.wall_time, written.author))
    store.remove([tag_key(name, tag)])
    store.put({_next(store, name, tag): row})


def read_tag(store: Store, name: str, tag: str) -> Snapshot:
    """Return the snapshot that a tag points to, or raise as `tag_row`."""
    key, _ = tag_row(store, name, tag)
    return snapshot_at(store, key)


def tag_row(store: Store, name: str, tag: str) -> tuple[bytes, TagRow]:
    """Return the key of the snapshot that a tag points to, and the tag's row.

    Raises:
        UnknownTagError: there is no such tag.
    """
    found = _found(store, name, tag)
    if found is None or found.key is None:
        raise _unknown(store, name, tag)
    return found.key, found


def tags_of(store: Store, name: str, snapshots: list[bytes]) -> list[str]:
    """Return the tags that point to one of these snapshots."""
    rows, wanted = store.each(topic_of(("tag", name))), set(snapshots)
    return [key_of(key)[2] for key, packed in rows if row_of(key, packed, TagRow).key in wanted]


def list_tags(store: Store, name: str | None, after: str | None, limit: int) -> Page[TagInfo]:
    """Return the tags there are, those of one graph or all, by name."""
    prefix = ("tag",) if name is None else ("tag", name)

    def info(key: bytes, packed: bytes) -> TagInfo:
        row = row_of(key, packed, TagRow)
        _, graph_name, tag = key_of(key)
        at = row.snapshot or snapshot_info(row.key or b"", snapshot_row(store, row.key or b""))
        return TagInfo(graph_name, tag, at, row.wall_time, row.author)

    return page_of(store, prefix, after, limit, info)


def tag_history(
    store: Store, name: str, tag: str, after: str | None, limit: int
) -> Page[TagChange]:
    """Return all changes of a tag, oldest first, also of one that was removed.

    Raises:
        UnknownTagError: there never was one.
    """

    def change(key: bytes, packed: bytes) -> TagChange:
        row = row_of(key, packed, TagRow)
        number = int(key_of(key)[3], 16)
        return TagChange(name, tag, number, row.snapshot, row.wall_time, row.author)

    page = page_of(store, ("tagged", name, tag), after, limit, change)
    if not page.items and after is None:
        raise _unknown(store, name, tag)
    return page


def _found(store: Store, name: str, tag: str) -> TagRow | None:
    key = tag_key(name, tag)
    packed = store.get(key)
    return None if packed is None else row_of(key, packed, TagRow)


def _next(store: Store, name: str, tag: str) -> bytes:
    last = store.last(topic_of(("tagged", name, tag)))
    number = 1 if last is None else int(key_of(last[0])[3], 16) + 1
    return topic_of(("tagged", name, tag, f"{number:016x}"))


def tag_key(name: str, tag: str) -> bytes:
    """Return the key of a tag's row."""
    return topic_of(("tag", name, tag))


def _unknown(store: Store, name: str, tag: str) -> UnknownTagError:
    known = [key_of(key)[2] for key, _ in store.scan(topic_of(("tag", name)), limit=_SHOWN)]
    return UnknownTagError(
        f"graph {name!r} has no tag {tag!r} here; "
        + (f"it has {some(known)}" if known else f"nothing is tagged for {name!r}")
    )
