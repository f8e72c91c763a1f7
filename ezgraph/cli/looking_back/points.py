"""What a rig was, as it is typed: ``rig@good``, ``good``, a fingerprint, a seq, a time, ``live``.

``NAME@…`` takes a tag of that graph, or at least six digits of a stored fingerprint. Text without
``@`` is a seq or a time where it looks like one, else a tag or fingerprint of whichever graph has
it, if that is one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from ezgraph.cli.when import parse_when
from ezgraph.clock import SystemClock
from ezgraph.errors import ConfigError, UnknownTagError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.backends.connection import Connection
    from ezgraph.cli.looking_back.place import Past
    from ezgraph.protocol.graphs import Snapshot
    from ezgraph.protocol.listing import Page, SnapshotInfo, TagInfo

T = TypeVar("T")
LIVE = "live"
POINT = "NAME@TAG, a seq, a time (14:03, or 10m for ago), a fingerprint, or live"
SHOWN_DIGITS = 12
_RIG = "rig"
_WHOLE = re.compile(r"[0-9a-f]{32}")
_DIGITS = re.compile(r"[0-9a-f]{6,32}")


def find(past: Past, typed: str, name: str | None = None) -> Snapshot:
    """Return what ``typed`` stands for; of graph ``name``, where that is said.

    Raises:
        ConfigError: it can be none of these, or is one of several.
        RefusedError: there is no such tag, snapshot or seq.
    """
    if typed == LIVE:
        return past.now(name or _RIG)
    graph, sign, stored = typed.partition("@")  # as `GraphContext.diff` reads it
    if sign:
        return read_stored(past.connection, graph, stored)
    if not is_fingerprint(typed):
        try:
            when = parse_when(typed, now=SystemClock().wall())
        except ConfigError:
            pass
        else:
            return past.at(when, name or _RIG)
    if name is not None:
        return read_stored(past.connection, name, typed)
    return _found_anywhere(past.connection, typed)


def is_fingerprint(typed: str) -> bool:
    """Return whether this is a whole fingerprint."""
    return _WHOLE.fullmatch(typed) is not None


def read_stored(connection: Connection, name: str, typed: str) -> Snapshot:
    """Return the snapshot of a graph under a tag, or with a fingerprint that begins so.

    Raises:
        UnknownTagError: there is neither.
        ConfigError: several fingerprints begin so.
    """
    try:
        return connection.read_snapshot_tag(name, typed)
    except UnknownTagError:
        begun = _begun_so(connection, name, typed)
        if not begun:
            raise
    return _only(connection, begun, typed)


def _found_anywhere(connection: Connection, typed: str) -> Snapshot:
    tagged = [each for each in every_tag(connection) if each.tag == typed]
    if len(tagged) == 1:
        return connection.read_snapshot_tag(tagged[0].name, typed)
    found = [each.snapshot for each in tagged] or _begun_so(connection, None, typed)
    if not found:
        raise ConfigError(
            f"{typed!r} is no tag or stored fingerprint, no seq and no time; say {POINT}. "
            f"`ezgraph tags --all` lists what is stored"
        )
    return _only(connection, found, typed)


def _begun_so(connection: Connection, name: str | None, typed: str) -> list[SnapshotInfo]:
    if _DIGITS.fullmatch(typed) is None:
        return []
    return [
        each for each in every_snapshot(connection, name) if str(each.fingerprint).startswith(typed)
    ]


def _only(connection: Connection, found: list[SnapshotInfo], typed: str) -> Snapshot:
    meant = sorted({(each.name, str(each.fingerprint)) for each in found})
    if len(meant) > 1:
        several = ", ".join(f"{name}@{digits[:SHOWN_DIGITS]}" for name, digits in meant)
        raise ConfigError(f"{typed!r} may be {several}; say which, as NAME@{typed} or longer")
    return connection.read_snapshot(*meant[0])


# --- lists, page by page ---


def every_tag(connection: Connection, name: str | None = None) -> Iterator[TagInfo]:
    """Yield the tags of one graph or all, by name."""
    return pages(lambda after: connection.list_tags(name, after=after))


def every_snapshot(connection: Connection, name: str | None = None) -> Iterator[SnapshotInfo]:
    """Yield the stored snapshots of one graph or all, oldest first."""
    return pages(lambda after: connection.list_snapshots(name, after=after))


def pages(page: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """Yield what stands on all pages."""
    after: str | None = None
    while True:
        found = page(after)
        yield from found
        after = found.next_after
        if after is None:
            return
