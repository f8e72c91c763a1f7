"""The store behind a broker: changes of its rows, decided and stored with the events that tell.

A change is checked and made on the rows in one stroke (`Journal.change`), which is part of the next
append, together with the events that say so; a refusal leaves the rows as they were. So a command
sees what those before it did, and whatever is killed, rows and events are both there or neither.

*Long* commands are those that cost more than a moment: a freeze, and a graph that must be verified.
They are done in steps, some in each pass, the clients by turns, and of each client one after the
other, so that many may be asked for at once; others are served in between. What
they store before the end are pieces that nothing refers to yet: who is killed leaves the old state.
Their end is one change like any other.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.backends import stored_graphs, stored_partitions
from ezgraph.backends.stored_graphs import Written
from ezgraph.backends.stored_verification import verification
from ezgraph.broker.access import refuse_each
from ezgraph.broker.store.asked import Decided
from ezgraph.broker.store.changes import ANYTHING, DELETED, changed
from ezgraph.broker.store.freezing import freezing
from ezgraph.broker.store.pieces import WaitingPieces
from ezgraph.broker.store.reads import look
from ezgraph.broker.store.rules import check
from ezgraph.errors import EzGraphError, JournalFailedError, LimitError
from ezgraph.protocol.artifacts import Artifact
from ezgraph.protocol.events import in_words
from ezgraph.protocol.replies import Done, StoredPage
from ezgraph.protocol.stored_commands import (
    DeleteStored,
    Freeze,
    Listed,
    NewSnapshot,
    PartitionsAt,
    SetTag,
    SnapshotsWith,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    WritePartitions,
    WriteRecording,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from ezgraph.backends.base import Journal
    from ezgraph.backends.store import Store
    from ezgraph.broker.store.asked import StoreAsked
    from ezgraph.config import Limits
    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.replies import Reply
    from ezgraph.protocol.roles import Identity, ReadScope
    from ezgraph.protocol.stored import GraphRow
    from ezgraph.protocol.stored_commands import Question, StoreCommand
    from ezgraph.state.graph import GraphState

    Steps = Generator[int, None, Decided]

Result = Decided | EzGraphError
_UNITS_PER_PASS = 6
"""How many steps of long commands are done in one pass: one or two milliseconds together."""
_ROW_BYTES = 1_000
_MOST_REVISIONS = 100_000


class _Graph(NamedTuple):
    """A graph that is to be stored: of which pieces, and those of them that came with it."""

    name: str
    fingerprint: Fingerprint
    row: GraphRow
    pieces: Mapping[bytes, bytes]


class _Long:
    """A long command under way, and the pieces that it stores or needs."""

    def __init__(self, asked: StoreAsked) -> None:
        self.asked = asked
        self.pieces: set[bytes] = set()
        self.size_bytes = 0
        self.steps: Steps

    def __repr__(self) -> str:
        return f"<long {type(self.asked.command).__name__} pieces={len(self.pieces)}>"


class Storing:
    """All changes and reads of one broker's store."""

    def __init__(self, journal: Journal, state: GraphState, limits: Limits) -> None:
        self._journal = journal
        self._state = state
        self._limits = limits
        self._long: dict[tuple[str, int], _Long] = {}
        self._lines: OrderedDict[str, deque[_Long]] = OrderedDict()
        self._pieces = WaitingPieces(limits)
        self._units = self._at_once = _UNITS_PER_PASS
        self._now = self._wall = 0.0
        self._revisions: Counter[str] = Counter()
        self._first_revision = journal.head << 32

    def __repr__(self) -> str:
        return f"<Storing long={len(self._long)} {self._pieces!r}>"

    @property
    def is_under_way(self) -> bool:
        """Whether a long command is to be gone on with."""
        return bool(self._long)

    # --- changes ---

    def take(self, asked: StoreAsked, *, now: float, wall: float) -> Result | None:
        """Return what a change came to, or why it was refused; None: `step` will tell.

        Raises:
            JournalFailedError: the store takes no more changes.
        """
        if now != self._now:
            self._at_once = _UNITS_PER_PASS  # it is another pass
        self._now, self._wall = now, wall
        known = self._long.get(asked.name)
        if known is not None:
            known.asked = asked  # repeated, perhaps on another connection
            return None
        long = _Long(asked)
        try:
            check(asked.command)
            steps = self._steps(long)
            if steps is None:
                return self._decide(asked, None)
            long.steps = steps
            return self._begin(long)
        except JournalFailedError:
            raise
        except EzGraphError as error:
            return error

    def _begin(self, long: _Long) -> Result | None:
        """Do a long command at once if it is short, else let it wait for its turns.

        So what a client asks after storing a small graph comes after it.
        """
        left, self._units = self._units, self._at_once
        result = self._advance(long)
        self._at_once, self._units = self._units, left
        if result is not None:
            return result
        client = long.asked.lease.client
        line = self._lines.get(client) or deque()
        self._refuse_beyond(line, long)
        line.append(long)
        self._lines[client] = line
        self._long[long.asked.name] = long
        return None

    def _refuse_beyond(self, line: deque[_Long], long: _Long) -> None:
        """Refuse to let one more wait, if there are too many, or they are too large.

        Raises:
            LimitError: of this client or of all.
        """
        limits = self._limits
        if len(line) >= limits.max_long_commands_per_client or (
            len(self._long) >= limits.max_long_commands
        ):
            raise LimitError(
                f"{len(self._long)} freezes and graphs are being stored already, {len(line)} of "
                f"them for this client (max_long_commands_per_client, max_long_commands); ask "
                f"again when some are done"
            )
        own, of_all = (
            sum(each.size_bytes for each in some) + long.size_bytes
            for some in (line, self._long.values())
        )
        if long.size_bytes and (
            own > limits.max_pieces_waiting_bytes or of_all > limits.max_pieces_waiting_bytes_of_all
        ):
            raise LimitError(
                f"{of_all} bytes of graphs wait to be stored, {own} of this client "
                f"(max_pieces_waiting_bytes, max_pieces_waiting_bytes_of_all); ask again when "
                f"some are done"
            )

    def step(self, *, now: float, wall: float) -> Iterator[tuple[StoreAsked, Result]]:
        """Go on with long commands; yield those that came to their end.

        Raises:
            JournalFailedError: the store takes no more changes.
        """
        self._now, self._wall = now, wall
        self._units = _UNITS_PER_PASS
        while self._lines and self._units > 0:
            client, line = self._lines.popitem(last=False)
            long = line[0]
            result = self._advance(long)
            if result is not None:
                line.popleft()
                del self._long[long.asked.name]
            if line:
                self._lines[client] = line  # the others have their turns
            if result is not None:
                yield long.asked, result
        self._at_once = _UNITS_PER_PASS

    def _advance(self, long: _Long) -> Result | None:
        """Do some steps; return what it came to, if it came to its end."""
        while self._units > 0:
            try:
                self._units -= next(long.steps)
            except StopIteration as end:
                result: Decided = end.value
                self._pieces.used(long.pieces)
                self._note(ANYTHING)
                return result
            except JournalFailedError:
                raise
            except EzGraphError as error:
                return error
        return None

    def _steps(self, long: _Long) -> Steps | None:
        """Return the steps of a long command; None: it is none."""
        command = long.asked.command
        if isinstance(command, Freeze):
            return freezing(
                command, self._state, self._journal, long.pieces, lambda: self._written(long.asked)
            )
        graph = _graph_in(command)
        if graph is None or self._journal.ask(partial(_has_graph, graph)):
            return None
        long.pieces.update(stored_graphs.names_of(graph.row))
        long.size_bytes = sum(map(len, graph.pieces.values()))
        return self._verified(long, graph)

    def _verified(self, long: _Long, graph: _Graph) -> Steps:
        """Verify a graph that is new, then do what was asked."""

        def piece(name: bytes) -> bytes | None:
            given = graph.pieces.get(name)
            return given or self._journal.ask(lambda store: stored_graphs.piece_of(store, name))

        yield from verification(graph.name, graph.fingerprint, graph.row, piece)
        return self._decide(long.asked, graph)

    def _written(self, asked: StoreAsked) -> Written:
        return Written(self._wall, in_words(asked.lease.source))

    def _decide(self, asked: StoreAsked, graph: _Graph | None) -> Decided:
        """Change the rows; ``graph`` was verified, and is stored with what else is asked."""
        written = self._written(asked)

        def change(store: Store) -> Decided:
            if graph is not None and not _has_graph(graph, store):
                stored_graphs.add_pieces(store, graph.pieces)
                row = _stamped(graph.row, written)
                stored_graphs.put_graph(store, graph.name, graph.fingerprint, row)
            return self._changed(store, asked, written)

        decided = self._journal.change(change)
        for what in decided.touched:
            self._note(what)
        return decided

    def _changed(self, store: Store, asked: StoreAsked, written: Written) -> Decided:
        command = asked.command
        if isinstance(command, StorePieces):
            self._store_pieces(store, asked, command)
            return Decided((), Done, touched=())
        if asked.identity is not None:
            _refuse_others(store, asked.identity, command)
        return changed(store, command, written, in_use=self._in_use)

    def _store_pieces(self, store: Store, asked: StoreAsked, command: StorePieces) -> None:
        new = {
            name: piece
            for name, piece in command.pieces.items()
            if stored_graphs.piece_of(store, name) is None
        }
        over = self._pieces.expired(self._now)
        store.remove(map(stored_graphs.piece_key, set(over) - self._in_use()))
        self._pieces.add(asked.lease.client, new, self._now)
        stored_graphs.add_pieces(store, new)

    def _in_use(self) -> set[bytes]:
        """Return the pieces that graphs need which are just being stored."""
        return set().union(self._pieces, *(long.pieces for long in self._long.values()))

    def _note(self, what: str) -> None:
        """Have later pages of what was touched be told apart from those before."""
        if len(self._revisions) > _MOST_REVISIONS:
            self._first_revision += self._revisions.total() + 1
            self._revisions.clear()
        self._revisions[what] += 1

    def _revision_of(self, question: Question) -> int:
        match question:
            case PartitionsAt(storage=storage) | SnapshotsWith(storage=storage):
                changes = self._revisions[str(storage)] + self._revisions[DELETED]
            case Listed(room="partition", within=(_, storage_text)):
                changes = self._revisions[storage_text]
            case _:
                changes = self._revisions[ANYTHING]
        return self._first_revision + changes

    # --- reads ---

    def read(self, question: Question, scope: ReadScope) -> tuple[Reply, int]:
        """Return the answer to a question, and how many rows that took, roughly.

        Raises:
            EzGraphError: there is no such thing, or it is damaged.
        """
        limit = self._limits.chunk_bytes
        found = self._journal.ask(lambda store: look(store, question, scope, chunk_bytes=limit))
        rows, size = found.rows, sum(len(value) for _, value in found.rows)
        page = StoredPage(self._state.seq, self._revision_of(question), rows, found.next_after)
        return page, 1 + len(rows) + size // _ROW_BYTES


def _graph_in(command: StoreCommand) -> _Graph | None:
    """Return the graph that comes with a command."""
    match command:
        case StoreGraph():
            return _Graph(command.name, command.fingerprint, command.row, command.pieces)
        case StoreSnapshot() | SetTag() | WritePartitions():
            name, snapshot = command.name, command.snapshot
            if name is None or not isinstance(snapshot, NewSnapshot) or snapshot.graph is None:
                return None
            return _Graph(name, snapshot.fingerprint, snapshot.graph, snapshot.pieces)
        case _:
            return None


def _refuse_others(store: Store, identity: Identity, command: StoreCommand) -> None:
    """Refuse to write or delete where somebody did under a key that the role does not cover.

    A storage is what it is, whatever an artifact that names it is called.
    """
    match command:
        case WritePartitions(artifact=artifact) | DeleteStored(artifact=Artifact() as artifact):
            pass
        case WriteRecording(recording=recording):
            artifact = recording.artifact
        case _:
            return
    keys = stored_partitions.keys_of(store, artifact)
    refuse_each(identity, "store", (("partitions", key) for key in keys))


def _has_graph(graph: _Graph, store: Store) -> bool:
    return stored_graphs.has_graph(store, graph.name, graph.fingerprint)


def _stamped(row: GraphRow, written: Written) -> GraphRow:
    return replace(row, wall_time=written.wall_time, author=written.author)
