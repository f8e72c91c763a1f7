"""What the methods of a connection come to when a broker has the store: commands and their replies.

Rows are read as they are stored, and put into a store of their own; the functions that a backend
answers with (`ezgraph.backends.stored_graphs` and its like) then answer from that. So what is read
through a broker is what is read from its file.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from ezgraph.backends import stored_graphs, stored_partitions, stored_recordings, stored_tags
from ezgraph.backends.connection import LISTED, NO_FILTER, compared
from ezgraph.backends.contents import with_content_fingerprint
from ezgraph.backends.given import (
    a_recording,
    a_snapshot,
    an_artifact,
    check_name_or_none,
    check_recording,
    check_recordings_of,
    check_tag,
    recorded_changes,
    recorded_partitions,
    scope_within,
    some_partitions,
)
from ezgraph.backends.store import MemoryRows
from ezgraph.backends.stored_graphs import Written
from ezgraph.errors import (
    InvalidCommandError,
    InvalidValueError,
    JournalCorruptError,
    UnknownGraphError,
    UnknownTagError,
)
from ezgraph.protocol.artifacts import check_fingerprint, check_name, input_filter
from ezgraph.protocol.graphs import Graph, LazySnapshot, Snapshot
from ezgraph.protocol.replies import Done, PartitionsStored, RecordingStored, StoredPage
from ezgraph.protocol.stored_commands import (
    Deletable,
    DeleteRecording,
    DeleteStored,
    GraphAt,
    Listed,
    NewSnapshot,
    PartitionsAt,
    PieceAt,
    ReadStored,
    RecordingAt,
    RemoveTag,
    SetTag,
    SnapshotAt,
    SnapshotsWith,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    TagAt,
    WritePartitions,
    WriteRecording,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ezgraph.protocol.artifacts import Artifact, Partition, PartitionKey, StoragePartitions
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.differences import GraphDiff
    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.listing import (
        GraphInfo,
        Page,
        PartitionInfo,
        SnapshotInfo,
        TagChange,
        TagInfo,
    )
    from ezgraph.protocol.recordings import (
        RecordedChange,
        RecordedPartition,
        Recording,
        RecordingInfo,
    )
    from ezgraph.protocol.stored import GraphRow

    Paged = PartitionsAt | Listed | SnapshotsWith | RecordingAt

T = TypeVar("T")
PARTITIONS_AT_ONCE = 2_000
_NAMES_AT_ONCE = 2_000
_SENT_AT_ONCE = 256 << 10
_SMALL = 100
_LOOKS = 3
_KNOWN = 1_000
_NOBODY = Written(0.0, "")


class Ask(Protocol):
    """Sends a command and returns its reply, which is of one type."""

    async def __call__(self, command: Command, kind: type[T], /) -> T:
        """Return the reply, or raise what it was refused with."""
        ...


class StoredCalls:
    """The methods of `Connection` (see there) as coroutines that ask a broker."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._stored: OrderedDict[tuple[str, Fingerprint], None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<StoredCalls graphs={len(self._stored)}>"

    # --- the partitions of an artifact ---

    async def read_artifact_partitions(
        self,
        artifact: Artifact,
        input_fingerprints: Mapping[PartitionKey, Fingerprint] = NO_FILTER,
    ) -> StoragePartitions:
        """See `Connection.read_artifact_partitions`; as of one moment, if it is not too busy."""
        scope = stored_partitions.of_artifact(an_artifact(artifact))
        wanted = input_filter(input_fingerprints)
        asked = PartitionsAt(artifact.storage_fingerprint)
        store = await self._all(_parted(asked, wanted))
        return stored_partitions.read_partitions(store, scope, wanted)

    async def write_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> StoragePartitions:
        """See `Connection.write_artifact_partitions`; 2,000 in a transaction."""
        an_artifact(artifact)
        kept = _kept(partitions)
        for start in range(0, len(kept), PARTITIONS_AT_ONCE):
            some = list(kept[start : start + PARTITIONS_AT_ONCE])
            await self._ask(WritePartitions(artifact, some), PartitionsStored)
        return kept

    # --- graphs and snapshots ---

    async def read_graph(self, name: str, fingerprint: Fingerprint | str) -> Graph:
        """See `Connection.read_graph`."""
        check_name(name, "a graph")
        wanted = check_fingerprint(fingerprint, "the fingerprint of a graph")
        store = await self._whole(GraphAt(name, wanted))
        return _verified(stored_graphs.read_graph(store, name, wanted))

    async def write_graph(self, graph: Graph) -> None:
        """See `Connection.write_graph`."""
        if not isinstance(graph, Graph):
            raise InvalidValueError(f"{graph!r:.60} is no Graph")

        def command(row: GraphRow, pieces: dict[bytes, bytes]) -> Command:
            return StoreGraph(graph.name, graph.fingerprint, row, pieces)

        await self._send(graph, command, Done)

    async def snapshot_of(self, info: SnapshotInfo) -> Snapshot:
        """Return a stored snapshot; its graph is fetched, and decoded when it is asked for."""
        name, fingerprint = info.name, info.fingerprint
        store = await self._whole(GraphAt(name, fingerprint))
        return LazySnapshot.of(
            info, lambda: _verified(stored_graphs.read_graph(store, name, fingerprint))
        )

    async def read_snapshot(self, name: str, fingerprint: Fingerprint | str) -> Snapshot:
        """See `Connection.read_snapshot`."""
        check_name(name, "a graph")
        wanted = check_fingerprint(fingerprint, "the fingerprint of a snapshot")
        store = await self._whole(SnapshotAt(name, wanted))
        return _verified_snapshot(stored_graphs.read_snapshot(store, name, wanted))

    async def write_snapshot(self, snapshot: Snapshot) -> None:
        """See `Connection.write_snapshot`."""
        name = a_snapshot(snapshot).name
        await self._with_snapshot(snapshot, lambda new: StoreSnapshot(name, new), Done)

    # --- tags ---

    async def read_snapshot_tag(self, name: str, tag: str) -> Snapshot:
        """See `Connection.read_snapshot_tag`."""
        check_tag(name, tag)
        store = await self._whole(TagAt(name, tag))
        return _verified_snapshot(stored_tags.read_tag(store, name, tag))

    async def write_snapshot_tag(
        self, snapshot: Snapshot, tag: str, *, overwrite: bool = False
    ) -> None:
        """See `Connection.write_snapshot_tag`."""
        name = a_snapshot(snapshot).name
        check_tag(name, tag)
        await self._with_snapshot(snapshot, lambda new: SetTag(name, tag, new, overwrite), Done)

    async def untag(self, name: str, tag: str) -> None:
        """See `Connection.untag`."""
        check_tag(name, tag)
        await self._ask(RemoveTag(name, tag), Done)

    async def tag_history(
        self, name: str, tag: str, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagChange]:
        """See `Connection.tag_history`."""
        check_tag(name, tag)
        with suppress(UnknownTagError):  # nothing is there yet; checks the rest
            stored_tags.tag_history(MemoryRows(), name, tag, after, limit)
        store = await self._list("tagged", (name, tag), after, limit)
        if not len(store) and after is None:  # say which tags there are
            store = await self._list("tag", (name,), None, _SMALL)
        return stored_tags.tag_history(store, name, tag, after, limit)

    # --- the partitions in a snapshot ---

    async def read_snapshot_partitions(
        self, snapshot: Snapshot, artifact_key: str, artifact: Artifact
    ) -> StoragePartitions:
        """See `Connection.read_snapshot_partitions`."""
        scope = scope_within(snapshot, artifact_key, artifact)
        storage = artifact.storage_fingerprint
        asked = PartitionsAt(storage, snapshot.name, snapshot.fingerprint, artifact_key)
        return stored_partitions.read_partitions(await self._all([asked]), scope, {})

    async def write_snapshot_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """See `Connection.write_snapshot_partitions`; up to 2,000."""
        return await self._write_partitions(
            snapshot, artifact_key, artifact, partitions, to_artifact=False
        )

    async def write_artifact_and_graph_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """See `Connection.write_artifact_and_graph_partitions`; up to 2,000."""
        return await self._write_partitions(
            snapshot, artifact_key, artifact, partitions, to_artifact=True
        )

    async def _write_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
        *,
        to_artifact: bool,
    ) -> StoragePartitions:
        scope_within(snapshot, artifact_key, artifact)  # which checks them
        kept = _kept(partitions)

        def command(new: NewSnapshot) -> Command:
            return WritePartitions(
                artifact, list(kept), to_artifact, snapshot.name, new, artifact_key
            )

        await self._with_snapshot(snapshot, command, PartitionsStored)
        return kept

    async def find_snapshots(self, artifact: Artifact, partition: Partition) -> list[SnapshotInfo]:
        """See `Connection.find_snapshots`."""
        an_artifact(artifact)
        (wanted,) = _kept([partition])
        asked = SnapshotsWith(
            artifact.storage_fingerprint,
            wanted.key.text,
            wanted.input_fingerprint,
            wanted.fingerprint,
        )
        return stored_partitions.find_snapshots(await self._all([asked]), artifact, wanted)

    # --- recordings ---

    async def write_recording(
        self,
        info: RecordingInfo,
        partitions: Iterable[RecordedPartition] = (),
        changes: Iterable[RecordedChange] = (),
    ) -> RecordingInfo:
        """See `Connection.write_recording`; up to 2,000 of both together."""
        a_recording(info)
        kept, noted = recorded_partitions(partitions), recorded_changes(changes)
        stored = await self._ask(WriteRecording(info, kept, noted), RecordingStored)
        return info.as_stored(stored.number, stored.wall_time, stored.author)

    async def read_recording(self, name: str, artifact_key: str, number: int) -> Recording:
        """See `Connection.read_recording`."""
        check_recording(name, artifact_key, number)
        store = await self._all([RecordingAt(name, artifact_key, number)])
        return stored_recordings.read_recording(store, name, artifact_key, number)

    async def list_recordings(
        self,
        name: str | None = None,
        artifact_key: str | None = None,
        *,
        after: str | None = None,
        limit: int = LISTED,
    ) -> Page[RecordingInfo]:
        """See `Connection.list_recordings`."""
        check_recordings_of(name, artifact_key)
        of = (MemoryRows(), name, artifact_key, after, limit)
        stored_recordings.list_recordings(*of)  # checks the rest
        within = (name, artifact_key) if name and artifact_key else _within(name)
        store = await self._list("recording", within, after, limit)
        return stored_recordings.list_recordings(store, *of[1:])

    async def delete_recording(self, name: str, artifact_key: str, number: int) -> None:
        """See `Connection.delete_recording`."""
        check_recording(name, artifact_key, number)
        await self._ask(DeleteRecording(name, artifact_key, number), Done)

    # --- lists, and deletion ---

    async def list_graphs(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[GraphInfo]:
        """See `Connection.list_graphs`."""
        check_name_or_none(name)
        stored_graphs.list_graphs(MemoryRows(), name, after, limit)  # checks the rest
        store = await self._list("graph", _within(name), after, limit)
        return stored_graphs.list_graphs(store, name, after, limit)

    async def list_snapshots(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[SnapshotInfo]:
        """See `Connection.list_snapshots`."""
        check_name_or_none(name)
        stored_graphs.list_snapshots(MemoryRows(), name, after, limit)
        store = await self._list("snapshot", _within(name), after, limit)
        return stored_graphs.list_snapshots(store, name, after, limit)

    async def list_tags(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagInfo]:
        """See `Connection.list_tags`."""
        check_name_or_none(name)
        stored_tags.list_tags(MemoryRows(), name, after, limit)
        store = await self._list("tag", _within(name), after, limit)
        return stored_tags.list_tags(store, name, after, limit)

    async def list_partitions(
        self, artifact: Artifact, *, after: str | None = None, limit: int = LISTED
    ) -> Page[PartitionInfo]:
        """See `Connection.list_partitions`."""
        scope = stored_partitions.of_artifact(an_artifact(artifact))
        stored_partitions.list_partitions(MemoryRows(), scope, after, limit)
        within = ("artifact", str(artifact.storage_fingerprint))
        store = await self._list("partition", within, after, limit)
        return stored_partitions.list_partitions(store, scope, after, limit)

    async def delete_graph(self, name: str, fingerprint: Fingerprint | str) -> None:
        """See `Connection.delete_graph`."""
        check_name(name, "a graph")
        going = check_fingerprint(fingerprint, "the fingerprint of a graph")
        await self._ask(DeleteStored(Deletable.GRAPH, name, going), Done)
        self._stored.pop((name, going), None)

    async def delete_snapshot(self, name: str, fingerprint: Fingerprint | str) -> None:
        """See `Connection.delete_snapshot`."""
        check_name(name, "a graph")
        going = check_fingerprint(fingerprint, "the fingerprint of a snapshot")
        await self._ask(DeleteStored(Deletable.SNAPSHOT, name, going), Done)

    async def delete_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> None:
        """See `Connection.delete_artifact_partitions`; up to 2,000."""
        an_artifact(artifact)
        going = list(_kept(partitions))
        command = DeleteStored(Deletable.PARTITIONS, artifact=artifact, partitions=going)
        await self._ask(command, Done)

    async def diff(self, old: Graph | Snapshot, new: Graph | Snapshot) -> GraphDiff:
        """See `Connection.diff`."""
        return compared(old, new)

    # --- reading ---

    async def _list(
        self, room: str, within: tuple[str, ...], after: str | None, limit: int
    ) -> MemoryRows:
        """Return the rows of a list, one more than a page has if there are."""
        start = stored_graphs.place_in_list(after)
        return await self._all([Listed(room, within, start, limit + 1)], most=limit + 1)

    async def _all(self, questions: Sequence[Paged], *, most: int | None = None) -> MemoryRows:
        """Return the rows that answer questions, as of one moment, unless that never stands still.

        Where what they ask about changed between the pages they are asked again, some times.
        """
        rows: dict[bytes, bytes] = {}
        for is_last in (*[False] * (_LOOKS - 1), True):
            found = await self._pages(questions, most, is_last=is_last)
            if found is not None:
                rows = found
                break
        return _store_of(rows)

    async def _pages(
        self, questions: Sequence[Paged], most: int | None, *, is_last: bool
    ) -> dict[bytes, bytes] | None:
        rows: dict[bytes, bytes] = {}
        revision = None
        for asked in questions:
            after: bytes | None = asked.after
            while after is not None and (most is None or len(rows) < most):
                page = await self._ask(ReadStored(replace(asked, after=after)), StoredPage)
                if revision not in (None, page.revision) and not is_last:
                    return None
                revision, after = page.revision, page.next_after
                rows |= dict(page.rows)
        return rows

    async def _whole(self, question: GraphAt | SnapshotAt | TagAt) -> MemoryRows:
        """Return all rows that a graph consists of, and those that name it."""
        for _ in range(_LOOKS):
            page = await self._ask(ReadStored(question), StoredPage)
            rows = dict(page.rows)
            missing = _missing(rows)
            while missing:
                named = PieceAt(missing[:_NAMES_AT_ONCE])
                page = await self._ask(ReadStored(named), StoredPage)
                if not page.rows:
                    break  # it was deleted meanwhile: the question tells
                rows |= dict(page.rows)
                missing = [name for name in missing if stored_graphs.piece_key(name) not in rows]
            else:
                return _store_of(rows)
        raise JournalCorruptError(
            f"pieces of the graph asked for by {question!r:.200} are missing in the broker's "
            f"store; see 'ezgraph journal check' there"
        )

    # --- writing ---

    async def _with_snapshot(
        self, snapshot: Snapshot, command: Callable[[NewSnapshot], Command], kind: type[T]
    ) -> T:
        """Send a command that names a snapshot; with its graph, if that may not be stored."""
        graph = snapshot.graph
        new = NewSnapshot(
            snapshot.fingerprint, snapshot.epoch, snapshot.seq, snapshot.time, snapshot.reason
        )
        if (graph.name, graph.fingerprint) in self._stored or not _is_small(graph):
            try:
                reply = await self._ask(command(new), kind)
            except UnknownGraphError:
                pass
            else:
                self._note_stored(graph)
                return reply
        return await self._send(
            graph, lambda row, pieces: command(replace(new, graph=row, pieces=pieces)), kind
        )

    async def _send(
        self, graph: Graph, command: Callable[[GraphRow, dict[bytes, bytes]], Command],
        kind: type[T],
    ) -> T:
        """Send a command with a graph: its pieces too, or before, if they are many."""
        row, pieces = stored_graphs.cut(graph, _NOBODY)
        if sum(map(len, pieces.values())) <= _SENT_AT_ONCE:
            reply = await self._ask(command(row, pieces), kind)
        else:
            try:
                await self._send_missing(pieces)
                reply = await self._ask(command(row, {}), kind)
            except InvalidCommandError:  # others deleted a piece that was there when we looked
                await self._send_missing(pieces)
                reply = await self._ask(command(row, {}), kind)
        self._note_stored(graph)
        return reply

    async def _send_missing(self, pieces: Mapping[bytes, bytes]) -> int:
        """Store those of a graph's pieces that are not stored; return how many."""
        names = list(pieces)
        there: set[bytes] = set()
        for start in range(0, len(names), _NAMES_AT_ONCE):
            some = PieceAt(names[start : start + _NAMES_AT_ONCE], with_bytes=False)
            page = await self._ask(ReadStored(some), StoredPage)
            there |= {key for key, _ in page.rows}
        waiting: dict[bytes, bytes] = {}
        size = 0
        for name in names:
            if stored_graphs.piece_key(name) in there:
                continue
            waiting[name] = pieces[name]
            size += len(pieces[name])
            if size >= _SENT_AT_ONCE:
                await self._ask(StorePieces(waiting), Done)
                waiting, size = {}, 0
        if waiting:
            await self._ask(StorePieces(waiting), Done)
        return len(names) - len(there)

    def _note_stored(self, graph: Graph) -> None:
        self._stored[graph.name, graph.fingerprint] = None
        if len(self._stored) > _KNOWN:
            self._stored.popitem(last=False)


def _store_of(rows: Mapping[bytes, bytes]) -> MemoryRows:
    store = MemoryRows()
    store.put(dict(sorted(rows.items())))
    store.commit()
    return store


def _missing(rows: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the names of those pieces of the graph in these rows that are not among them."""
    row = stored_graphs.graph_row_in(rows)
    names = dict.fromkeys(stored_graphs.names_of(row))
    return [name for name in names if stored_graphs.piece_key(name) not in rows]


def _verified(graph: Graph) -> Graph:
    """Return a graph as it was read, if it is what its fingerprint stands for."""
    found = replace(graph).fingerprint
    if found != graph.fingerprint:
        raise JournalCorruptError(
            f"graph {graph.name!r} {graph.fingerprint} came as something else, of the fingerprint "
            f"{found}; see 'ezgraph journal check' at the broker"
        )
    return graph


def _verified_snapshot(snapshot: Snapshot) -> Snapshot:
    _verified(snapshot.graph)
    return snapshot


def _is_small(graph: Graph) -> bool:
    parts = len(graph.components) + len(graph.settings) + len(graph.topology) + len(graph.artifacts)
    return parts + sum(map(len, graph.config.values())) <= _SMALL


def _within(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _kept(partitions: Iterable[Partition]) -> StoragePartitions:
    return tuple(map(with_content_fingerprint, some_partitions(partitions)))


def _parted(
    asked: PartitionsAt, wanted: Mapping[PartitionKey, Fingerprint]
) -> list[PartitionsAt]:
    """Return the questions for all that is wanted; none wanted: for all there is."""
    named = [(key.text, inputs) for key, inputs in wanted.items()]
    starts = range(0, max(len(named), 1), _NAMES_AT_ONCE)
    return [replace(asked, wanted=named[start : start + _NAMES_AT_ONCE]) for start in starts]
