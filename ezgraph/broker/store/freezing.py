"""A freeze: what is live now becomes a stored snapshot, in steps that hold nobody up.

1. *Warm up.* What of the content of the state is not digested yet is, some of it at each step. A
   broker does that by itself while little else happens, so that mostly little is left.
2. *Freeze.* In one step the fingerprint is taken, and with it references to all that is live, at
   seq N. Events replace what stands in the state and never change it, so this stays as it is.
3. *Cut.* Unless a graph with that fingerprint is stored, its parts are cut into pages, one at each
   step, and stored some at a time. Nothing refers to them yet.
4. *Name.* The graph's row, the snapshot's, the tag's, and the events that say so, in one append.

Whoever is killed before 4 is in the old state, with some pieces that nobody needs. The tag is
looked at when it freezes and again when it names, for others may set it meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.backends import stored_graphs, stored_tags
from ezgraph.broker.store.asked import Decided
from ezgraph.protocol.events import SnapshotFrozen, TagSet
from ezgraph.protocol.replies import Frozen
from ezgraph.protocol.stored import SnapshotRow
from ezgraph.state.content import FrozenContent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ezgraph.backends.base import Journal
    from ezgraph.backends.store import Store
    from ezgraph.backends.stored_graphs import Pages, Written
    from ezgraph.protocol.events import Body
    from ezgraph.protocol.stored_commands import Freeze
    from ezgraph.state.graph import GraphState

STEP, LONG_STEP = 1, 6
_SLOTS = 25
"""How many parts are digested at a step; as long as cutting a page takes."""
_PARTS_PER_STEP = 1_000
_TURNS = 200
"""How many steps more than it should take a state is digested that changes as fast as that."""
_STORED_BYTES = 128 << 10
"""How much of a graph is stored at once."""


def freezing(
    command: Freeze,
    state: GraphState,
    journal: Journal,
    pieces: set[bytes],
    stamp: Callable[[], Written],
) -> Generator[int, None, Decided]:
    """Freeze; yield what a step has cost, of which a `STEP` is a fraction of a millisecond.

    The names of all pieces are put into ``pieces``. ``stamp`` says who freezes and what time it is.

    Raises:
        TagExistsError: the tag points to a snapshot, and may not be moved.
    """
    turns = _TURNS + 2 * state.content.left // _SLOTS
    if state.content.left > _SLOTS:
        yield _cost_of(state.content.left)  # the first time, all of the state was listed
    while state.content.left > _SLOTS and turns > 0:
        state.content.digest_some(_SLOTS)
        turns -= 1
        yield STEP
    content, at = FrozenContent.of(state), stamp()
    name, fingerprint = command.name, content.fingerprint
    journal.ask(lambda store: _refuse_taken(store, command))
    pages: Pages | None = None
    waiting: dict[bytes, bytes] = {}
    if not journal.ask(lambda store: stored_graphs.has_graph(store, name, fingerprint)):
        yield _cost_of(content.size)
        pages = stored_graphs.Pages()
        for page in pages.of(content.parts()):
            waiting |= page
            pieces.update(page)
            if sum(map(len, waiting.values())) < _STORED_BYTES:
                yield STEP
            else:
                _store(journal, waiting)
                yield LONG_STEP
    row = SnapshotRow(
        fingerprint=fingerprint,
        epoch=content.epoch,
        seq=content.seq,
        time=at.wall_time,
        reason=command.reason or "",
        wall_time=stamp().wall_time,
        author=at.author,
    )

    def name_it(store: Store) -> Decided:
        _refuse_taken(store, command)
        if pages is not None and not stored_graphs.has_graph(store, name, fingerprint):
            stored_graphs.add_pieces(store, waiting)
            stored_graphs.put_graph(store, name, fingerprint, pages.row(stamp()))
        return _named(store, command, row, stamp())

    return journal.change(name_it)


def _cost_of(parts: int) -> int:
    """Return what a step costs that walks through so many parts, and digests none."""
    return min(STEP + parts // _PARTS_PER_STEP, LONG_STEP)


def _store(journal: Journal, waiting: dict[bytes, bytes]) -> None:
    journal.change(lambda store: stored_graphs.add_pieces(store, waiting))
    waiting.clear()


def _refuse_taken(store: Store, command: Freeze) -> None:
    if command.tag is not None and not command.overwrite:
        stored_tags.check_free(store, command.name, command.tag)


def _named(store: Store, command: Freeze, row: SnapshotRow, written: Written) -> Decided:
    """Store the rows of the snapshot and of its tag."""
    name, tag = command.name, command.tag
    key = stored_graphs.add_snapshot(store, name, row)
    info = stored_graphs.snapshot_info(key, stored_graphs.snapshot_row(store, key))
    frozen = SnapshotFrozen(name, row.fingerprint, row.epoch, row.seq, row.time, row.reason)
    bodies: list[Body] = [frozen]
    if tag is not None:
        before = stored_tags.pointed_to(store, name, tag)
        stored_tags.point(store, name, tag, key, written)
        previous = None if before is None else before.fingerprint
        bodies.append(TagSet(name, tag, row.fingerprint, row.seq, previous))
    return Decided(bodies, lambda seq: Frozen(seq, info, tag))
