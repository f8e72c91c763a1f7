"""Graphs and snapshots in the rows of a store.

==================================================  ==============================================
``graph/NAME/FINGERPRINT/``                         `GraphRow`: of which pieces it consists
``piece/HASH/``                                     a page of parts, or a blob they refer to
``snapshot/NAME/EPOCH/SEQ/FINGERPRINT/MARK/``       `SnapshotRow`
``frozen/NAME/FINGERPRINT/EPOCH/SEQ/MARK/``         empty: finds the snapshots of a fingerprint
==================================================  ==============================================

Epoch and seq are 16 hexadecimal digits, so snapshots are in order of time. MARK tells snapshots of
one seq apart that differ in time or reason.

A graph of 5,000 components is megabytes, and the next one differs in a few settings. So its parts,
in order, are cut into pages, after about every 32nd (which one, its name decides: a part that comes
or goes or changes touches its own page only); a page is stored once, under its hash, whichever
graphs it is a page of. Pieces count when a graph refers to them: they may be stored before, step by
step, and those of a graph that was never finished are removed with the next graph that is deleted.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from ezgraph.errors import (
    InvalidValueError,
    JournalCorruptError,
    JournalVersionError,
    MalformedMessageError,
    UnknownGraphError,
    UnknownSnapshotError,
)
from ezgraph.names import key_of, topic_of
from ezgraph.protocol.fingerprints import FINGERPRINT_BYTES, Fingerprint, content_hash
from ezgraph.protocol.graphs import Graph, Snapshot, remember_fingerprint
from ezgraph.protocol.listing import MOST_LISTED, GraphInfo, Page, SnapshotInfo
from ezgraph.protocol.snapshot import Edge
from ezgraph.protocol.stored import (
    VERSION,
    ArtifactPart,
    ComponentPart,
    ConfigPart,
    EdgePart,
    GraphRow,
    Part,
    ProducerPart,
    SettingsPart,
    SnapshotRow,
)
from ezgraph.wire import codec, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeVar

    from ezgraph.backends.store import Store

    T = TypeVar("T")

_PARTS_PER_PAGE = 32
_PAGE_BYTES = 64 << 10
_SHOWN = 3


class Written(NamedTuple):
    """Who writes, in words, and when, in seconds since 1970."""

    wall_time: float
    author: str


# --- graphs ---


def write_graph(store: Store, graph: Graph, written: Written) -> None:
    """Store a graph with everything in it; one that is stored stays as it is."""
    if not has_graph(store, graph.name, graph.fingerprint):
        row, pieces = cut(graph, written)
        add_pieces(store, pieces)
        put_graph(store, graph.name, graph.fingerprint, row)


def has_graph(store: Store, name: str, fingerprint: Fingerprint) -> bool:
    """Return whether a graph is stored."""
    return store.get(graph_key(name, fingerprint)) is not None


def add_pieces(store: Store, pieces: Mapping[bytes, bytes]) -> int:
    """Store pieces by their names, and return how many were not there; nothing refers to them."""
    return store.add({piece_key(name): piece for name, piece in pieces.items()})


def put_graph(store: Store, name: str, fingerprint: Fingerprint, row: GraphRow) -> None:
    """Store the row of a graph whose pieces are stored."""
    store.put({graph_key(name, fingerprint): codec.encode(row)})


def cut(graph: Graph, written: Written) -> tuple[GraphRow, dict[bytes, bytes]]:
    """Return the row of a graph, and the pieces it refers to by their names."""
    pages = Pages()
    pieces = {name: piece for page in pages.of(graph_parts(graph)) for name, piece in page.items()}
    return pages.row(written), pieces


class Pages:
    """A graph on its way into pages, which may be stored one by one before its row is."""

    def __init__(self) -> None:
        self._pages: list[bytes] = []
        self._blobs: set[bytes] = set()
        self._counts = dict.fromkeys(COUNTS.values(), 0)

    def __repr__(self) -> str:
        return f"<Pages {len(self._pages)} {self._counts}>"

    def of(self, parts: Iterable[tuple[str, Part]]) -> Iterator[dict[bytes, bytes]]:
        """Yield the pieces, a page and what it refers to at a time, by their names.

        ``parts`` come as `graph_parts` has them: in order, each with the name that decides where
        pages end.
        """
        page: list[bytes] = []
        pieces: dict[bytes, bytes] = {}
        size = 0
        for name, part in parts:
            packed, blobs = codec.encode_apart(part)
            page.append(packed)
            pieces.update(blobs)
            size += len(packed)
            self._counts[COUNTS[type(part)]] += 1
            is_last = zlib.crc32(name.encode(errors="surrogatepass")) % _PARTS_PER_PAGE == 0
            if is_last or size >= _PAGE_BYTES:
                yield self._ended(page, pieces)
                page, pieces, size = [], {}, 0
        if page:
            yield self._ended(page, pieces)

    def _ended(self, page: list[bytes], blobs: dict[bytes, bytes]) -> dict[bytes, bytes]:
        packed = values.pack(page)
        name = content_hash(packed)
        self._pages.append(name)
        self._blobs |= blobs.keys()
        return {**blobs, name: packed}

    def row(self, written: Written) -> GraphRow:
        """Return the row of the graph whose pages these are."""
        return GraphRow(
            wall_time=written.wall_time,
            author=written.author,
            pages=b"".join(self._pages),
            blobs=b"".join(sorted(self._blobs)),
            **self._counts,
        )


COUNTS: dict[type, str] = {
    EdgePart: "edges",
    ComponentPart: "components",
    SettingsPart: "settings",
    ConfigPart: "config",
    ArtifactPart: "artifacts",
    ProducerPart: "producers",
}
"""Which field of a row counts the parts of a kind."""


def graph_parts(graph: Graph) -> Iterator[tuple[str, Part]]:
    """Yield the parts of a graph in order, each with its name."""
    for edge in graph.topology:
        yield f"edge {edge.from_topic} {edge.to_topic}", EdgePart(*edge)
    for address, component in graph.components.items():
        yield f"component {address}", ComponentPart(component)
    for address, value in graph.settings.items():
        yield f"settings {address}", SettingsPart(address, value)
    for kind, entries in graph.config.items():
        for key, value in entries.items():
            yield f"config {kind} {key}", ConfigPart(kind, key, value)
    for key, artifact in graph.artifacts.items():
        yield f"artifact {key}", ArtifactPart(key, artifact)
    for producer in graph.producers:
        yield f"producer {producer.fingerprint}", ProducerPart(producer)


def read_graph(store: Store, name: str, fingerprint: Fingerprint) -> Graph:
    """Return a stored graph.

    Raises:
        UnknownGraphError: there is none of this name and fingerprint.
    """
    graph = _joined(store, name, graph_row(store, name, fingerprint))
    remember_fingerprint(graph, fingerprint)
    return graph


def graph_row(store: Store, name: str, fingerprint: Fingerprint) -> GraphRow:
    """Return the row of a stored graph, or raise as `read_graph`."""
    key = graph_key(name, fingerprint)
    packed = store.get(key)
    if packed is None:
        raise unknown_graph(store, name, fingerprint)
    return row_of(key, packed, GraphRow)


def _joined(store: Store, name: str, row: GraphRow) -> Graph:
    blobs = {each: stored_piece(store, each) for each in names_in(row.blobs)}
    return graph_from(name, _parts_of(store, row, blobs))


def graph_from(name: str, parts: Iterable[Part]) -> Graph:
    """Return the graph that consists of these parts.

    Raises:
        InvalidValueError: there is no such graph.
    """
    edges: list[Edge] = []
    producers = []
    fields: dict[str, dict[str, Any]] = {
        "artifacts": {},
        "components": {},
        "settings": {},
        "config": {},
    }
    for part in parts:
        match part:
            case EdgePart():
                edges.append(Edge(part.from_topic, part.to_topic))
            case ComponentPart():
                fields["components"][part.component.address] = part.component
            case SettingsPart():
                fields["settings"][part.address] = part.value
            case ConfigPart():
                fields["config"].setdefault(part.type, {})[part.key] = part.value
            case ArtifactPart():
                fields["artifacts"][part.key] = part.artifact
            case ProducerPart():
                producers.append(part.producer)
            case _:
                assert_never(part)
    return Graph(name, topology=tuple(edges), producers=tuple(producers), **fields)


def _parts_of(store: Store, row: GraphRow, blobs: Mapping[bytes, bytes]) -> Iterator[Part]:
    for name in names_in(row.pages):
        page = partial(parts_of_page, stored_piece(store, name), blobs)
        yield from understood(piece_key(name), page)


def parts_of_page(packed: bytes, blobs: Mapping[bytes, bytes]) -> list[Part]:
    """Return the parts that a page holds, with the blobs they refer to.

    Raises:
        MalformedMessageError: it is none.
    """
    return [codec.decode_apart(each, blobs, Part) for each in values.unpack(packed)]


def names_in(joined: bytes) -> list[bytes]:
    """Return the names of pieces that stand one after the other."""
    starts = range(0, len(joined), FINGERPRINT_BYTES)
    return [joined[start : start + FINGERPRINT_BYTES] for start in starts]


def stored_piece(store: Store, name: bytes) -> bytes:
    """Return a piece that a stored graph consists of.

    Raises:
        JournalCorruptError: it is missing, or is not what it was.
    """
    piece = store.get(piece_key(name))
    if piece is None or content_hash(piece) != name:
        raise JournalCorruptError(
            f"piece {name.hex()} of a stored graph is missing or is not what it was; nothing was "
            f"repaired or removed. Restore a backup"
        )
    return piece


def list_graphs(store: Store, name: str | None, after: str | None, limit: int) -> Page[GraphInfo]:
    """Return stored graphs, those of one name or all, by name and fingerprint."""
    prefix = ("graph",) if name is None else ("graph", name)

    def info(key: bytes, packed: bytes) -> GraphInfo:
        row = row_of(key, packed, GraphRow)
        _, graph_name, fingerprint = key_of(key)
        counts = {each: getattr(row, each) for each in COUNTS.values()}
        return GraphInfo(
            graph_name, Fingerprint.from_hex(fingerprint), row.wall_time, row.author, **counts
        )

    return page_of(store, prefix, after, limit, info)


def remove_graph(
    store: Store, name: str, fingerprint: Fingerprint, *, kept: Iterable[bytes] = ()
) -> None:
    """Remove a graph of which there is no snapshot, and the pieces that no other one needs.

    ``kept`` are the names of pieces of graphs that are just being stored.
    """
    store.remove([graph_key(name, fingerprint)])
    needed = set(map(piece_key, kept))
    for key, packed in store.each(topic_of(("graph",))):
        needed.update(pieces_of(row_of(key, packed, GraphRow)))
    store.remove([key for key, _ in store.each(topic_of(("piece",))) if key not in needed])


def pieces_of(row: GraphRow) -> list[bytes]:
    """Return the keys of the pieces that a graph consists of."""
    return [piece_key(each) for each in names_of(row)]


def names_of(row: GraphRow) -> list[bytes]:
    """Return the names of the pieces that a graph consists of."""
    return [*names_in(row.blobs), *names_in(row.pages)]


def graph_row_in(rows: Mapping[bytes, bytes]) -> GraphRow:
    """Return the row of the graph that is among these rows.

    Raises:
        JournalCorruptError: there is none.
    """
    for key, packed in rows.items():
        if key.startswith(b"graph/"):
            return row_of(key, packed, GraphRow)
    raise JournalCorruptError("no graph is among the rows that came for one; report this")


def piece_of(store: Store, name: bytes) -> bytes | None:
    """Return a stored piece; None: it is not stored."""
    return store.get(piece_key(name))


def check_graph(store: Store, name: str, fingerprint: Fingerprint) -> None:
    """Raise `UnknownGraphError` unless there is this graph."""
    if store.get(graph_key(name, fingerprint)) is None:
        raise unknown_graph(store, name, fingerprint)


def graph_key(name: str, fingerprint: Fingerprint) -> bytes:
    """Return the key of a graph's row."""
    return topic_of(("graph", name, str(fingerprint)))


def piece_key(name: bytes) -> bytes:
    """Return the key of a piece's row."""
    return topic_of(("piece", name.hex()))


def unknown_graph(store: Store, name: str, fingerprint: Fingerprint) -> UnknownGraphError:
    """Return the error for a graph that is not stored; it names those there are."""
    known = store.scan(topic_of(("graph", name)), limit=_SHOWN + 1)
    shown = some([key_of(each)[2] for each, _ in known])
    return UnknownGraphError(
        f"no graph {name!r} with the fingerprint {fingerprint} is stored here; "
        + (f"there are {shown}" if known else f"there is none named {name!r}")
    )


# --- snapshots ---


def write_snapshot(store: Store, snapshot: Snapshot, written: Written) -> bytes:
    """Store a snapshot and its graph, unless they are stored; return the snapshot's key."""
    write_graph(store, snapshot.graph, written)
    row = SnapshotRow(
        fingerprint=snapshot.fingerprint,
        epoch=snapshot.epoch,
        seq=snapshot.seq,
        time=snapshot.time,
        reason=snapshot.reason,
        wall_time=written.wall_time,
        author=written.author,
    )
    return add_snapshot(store, snapshot.name, row)


def add_snapshot(store: Store, name: str, row: SnapshotRow) -> bytes:
    """Store a snapshot of a stored graph, unless it is stored; return its key."""
    mark = str(Fingerprint.of((row.time, row.reason), "ezgraph.mark"))[:16]
    epoch, seq, fingerprint = f"{row.epoch:016x}", f"{row.seq:016x}", str(row.fingerprint)
    key = topic_of(("snapshot", name, epoch, seq, fingerprint, mark))
    if store.get(key) is None:
        store.put({key: codec.encode(row), frozen_key(key): b""})
    return key


def read_snapshot(store: Store, name: str, fingerprint: Fingerprint) -> Snapshot:
    """Return the newest snapshot of a graph with this fingerprint.

    Raises:
        UnknownSnapshotError: there is none.
    """
    return snapshot_at(store, newest(store, name, fingerprint))


def newest(
    store: Store,
    name: str,
    fingerprint: Fingerprint,
    epoch: int | None = None,
    seq: int | None = None,
) -> bytes:
    """Return the key of the newest snapshot with this fingerprint, or raise as `read_snapshot`.

    ``epoch`` and ``seq``: of those there, if given.
    """
    place = () if epoch is None or seq is None else (f"{epoch:016x}", f"{seq:016x}")
    found = store.last(topic_of(("frozen", name, str(fingerprint), *place)))
    if found is None:
        raise _unknown_snapshot(store, name, fingerprint)
    return frozen_snapshot(found[0])


def frozen_snapshot(found_by: bytes) -> bytes:
    """Return the key of the snapshot that a row ``frozen/…`` finds."""
    _, name, fingerprint, epoch, seq, mark = key_of(found_by)
    return topic_of(("snapshot", name, epoch, seq, fingerprint, mark))


def frozen_key(snapshot_key: bytes) -> bytes:
    """Return the key of the row that finds a snapshot."""
    _, name, epoch, seq, fingerprint, mark = key_of(snapshot_key)
    return topic_of(("frozen", name, fingerprint, epoch, seq, mark))


def snapshot_at(store: Store, key: bytes) -> Snapshot:
    """Return the snapshot with this key, which something refers to."""
    row = snapshot_row(store, key)
    graph = read_graph(store, key_of(key)[1], row.fingerprint)
    return Snapshot(
        graph=graph,
        seq=row.seq,
        epoch=row.epoch,
        time=row.time,
        fingerprint=row.fingerprint,
        reason=row.reason,
    )


def snapshot_row(store: Store, key: bytes) -> SnapshotRow:
    """Return the row of the snapshot with this key, which something refers to."""
    packed = store.get(key)
    if packed is None:
        raise JournalCorruptError(
            f"the stored snapshot {key[:80]!r} is missing, but something refers to it; nothing was "
            f"repaired or removed. Restore a backup"
        )
    return row_of(key, packed, SnapshotRow)


def snapshot_info(key: bytes, row: SnapshotRow) -> SnapshotInfo:
    """Return what is listed of a snapshot."""
    return SnapshotInfo(
        name=key_of(key)[1],
        fingerprint=row.fingerprint,
        epoch=row.epoch,
        seq=row.seq,
        time=row.time,
        reason=row.reason,
        wall_time=row.wall_time,
        author=row.author,
    )


def list_snapshots(
    store: Store, name: str | None, after: str | None, limit: int
) -> Page[SnapshotInfo]:
    """Return stored snapshots, those of one graph or all, by name and seq."""
    prefix = ("snapshot",) if name is None else ("snapshot", name)
    return page_of(
        store,
        prefix,
        after,
        limit,
        lambda key, packed: snapshot_info(key, row_of(key, packed, SnapshotRow)),
    )


def snapshots_of(store: Store, name: str, fingerprint: Fingerprint) -> list[bytes]:
    """Return the keys of all snapshots with this fingerprint, oldest first."""
    return [frozen_snapshot(key) for key, _ in store.scan(_frozen_prefix(name, fingerprint))]


def check_snapshot(store: Store, name: str, fingerprint: Fingerprint) -> None:
    """Raise `UnknownSnapshotError` unless there is a snapshot with this fingerprint."""
    newest(store, name, fingerprint)


def remove_snapshots(store: Store, name: str, fingerprint: Fingerprint) -> None:
    """Remove the rows of all snapshots with this fingerprint, which nothing refers to."""
    found_by = [key for key, _ in store.scan(_frozen_prefix(name, fingerprint))]
    store.remove([*snapshots_of(store, name, fingerprint), *found_by])


def _frozen_prefix(name: str, fingerprint: Fingerprint) -> bytes:
    return topic_of(("frozen", name, str(fingerprint)))


def _unknown_snapshot(store: Store, name: str, fingerprint: Fingerprint) -> UnknownSnapshotError:
    known = store.scan(topic_of(("snapshot", name)), limit=_SHOWN + 1)
    shown = some([key_of(each)[4] for each, _ in known])
    return UnknownSnapshotError(
        f"no snapshot of graph {name!r} with the fingerprint {fingerprint} is stored here; "
        + (f"there are {shown}" if known else f"there is none of {name!r}")
    )


# --- what all rows have in common ---


def row_of(key: bytes, packed: bytes, kind: type[T]) -> T:
    """Return what a row holds.

    Raises:
        JournalVersionError: a newer ezgraph wrote it.
        JournalCorruptError: it holds no such thing.
    """
    row: Any = understood(key, lambda: codec.decode(packed, kind))
    if row.version > VERSION:
        raise newer(key, f"version {row.version}, and this one knows {VERSION}")
    found: T = row
    return found


def understood(key: bytes, decode: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return what ``decode`` returns; say which row it is if it cannot."""
    try:
        return decode()
    except MalformedMessageError as error:
        if error.unknown:
            raise newer(key, str(error)) from error
        raise JournalCorruptError(
            f"the stored row {key[:60]!r} verifies but cannot be read: {error}; report this"
        ) from error


def newer(key: bytes, what: str) -> JournalVersionError:
    """Return the error for a row of a newer ezgraph."""
    return JournalVersionError(
        f"the stored row {key[:60]!r} was written by a newer ezgraph ({what}); read it with that"
    )


def page_of(
    store: Store,
    prefix: tuple[str, ...],
    after: str | None,
    limit: int,
    info: Callable[[bytes, bytes], T],
) -> Page[T]:
    """Return up to ``limit`` rows below a prefix, behind ``after``, as ``info`` tells them."""
    if type(limit) is not int or not 0 < limit <= MOST_LISTED:
        raise InvalidValueError(f"limit is {limit!r}; give a number from 1 to {MOST_LISTED}")
    topic = topic_of(prefix)
    start = place_in_list(after)
    if start and not start.startswith(topic):
        raise InvalidValueError(
            f"{after!r:.60} is no place in this listing; give the next_after of its page before"
        )
    rows = store.scan(topic, after=start, limit=limit + 1)
    items = tuple(info(key, packed) for key, packed in rows[:limit])
    return Page(items, rows[limit - 1][0].decode() if len(rows) > limit else None)


def place_in_list(after: str | None) -> bytes:
    """Return where a list goes on.

    Raises:
        InvalidValueError: it is no text.
    """
    if after is not None and not isinstance(after, str):
        raise InvalidValueError(f"{after!r:.60} is no place in a list; give the next_after of one")
    return (after or "").encode(errors="surrogatepass")


def some(names: list[str]) -> str:
    """Return the first few names."""
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
