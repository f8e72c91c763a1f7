"""What a journal's bytes come to: its events decoded, its checkpoints compared with its history.

The rooms below know bytes and checksums only. Here a journal is *examined*: every record and every
checkpoint is read, decoded and folded, and each checkpoint is compared with the state that the
history before it adds up to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.backends.lock import note_beside
from ezgraph.backends.maintenance import Progress, no_progress, verified_through
from ezgraph.backends.sqlite import SQLiteReader, open_damaged, open_reader
from ezgraph.errors import EzGraphError, JournalCorruptError, MalformedMessageError
from ezgraph.state.graph import GraphState
from ezgraph.wire import codec

if TYPE_CHECKING:
    from pathlib import Path

    from ezgraph.backends.base import Journal
    from ezgraph.backends.reader import Checkpoint, EpochSpan, JournalReader
    from ezgraph.protocol.events import Event

_READ_ROWS = 2000
_MISFITS = (EzGraphError, LookupError, TypeError, ValueError, AttributeError)


def settle(journal: Journal) -> None:
    """Write a checkpoint at the head, as a broker does when it ends."""
    from ezgraph.broker.engine import BrokerEngine
    from ezgraph.clock import SystemClock
    from ezgraph.config import BrokerConfig
    from ezgraph.ids import RandomIds

    now = SystemClock().monotonic()
    engine = BrokerEngine(BrokerConfig(), journal, RandomIds(), events_port=0, now=now)
    engine.write_checkpoint()


def events(
    reader: JournalReader, after: int, *, through: int | None = None, prefix: bytes = b""
) -> Iterator[tuple[int, list[Event]]]:
    """Yield the events in (``after``, ``through``], chunk by chunk: (complete through, events).

    Raises:
        JournalCorruptError: a record is damaged, or its bytes are no event.
    """
    goal = reader.head if through is None else min(through, reader.head)
    while after < goal:
        chunk = reader.read(after, through=goal, prefix=prefix, max_rows=_READ_ROWS)
        decoded = [_decoded(reader, packed, after) for packed in chunk.events]
        after = chunk.through
        yield after, decoded


def _decoded(reader: JournalReader, packed: bytes, after: int) -> Event:
    try:
        return codec.decode_event(packed)
    except MalformedMessageError as error:
        newer = "; a newer ezgraph may have written it" if error.unknown else ""
        raise JournalCorruptError(
            f"a record of {reader.name} after seq {after} is no event: {error}{newer}"
        ) from error


# --- the examination ---


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong first: ``record`` is its seq, if it is one; ``meaning`` what that costs."""

    what: str
    meaning: str
    record: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a journal holds, as far as it could be read, and what is wrong with it."""

    path: str
    cluster_id: str | None = None
    epochs: tuple[EpochSpan, ...] = ()
    floor: int = 0
    head: int = 0
    events: int = 0
    checkpoints: tuple[int, ...] = ()
    size_bytes: int = 0
    used_bytes: int = 0
    remarks: tuple[str, ...] = ()
    damage: Damage | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.damage is None


def examine(path: Path, progress: Progress = no_progress) -> Verdict:
    """Read all of a journal, and say what is wrong first.

    Raises:
        JournalError: there is no journal, or it cannot be read for another reason than damage.
    """
    try:
        reader = open_reader(path)
    except JournalCorruptError as error:
        return _of_unopened(path, Damage(str(error), _cost_of_unopened(path)))
    with reader:
        damage = _damaged_record(reader, progress) or _damaged_checkpoint(reader)
        damage = damage or _damaged_structure(reader) or _damaged_store(reader)
        damage = damage or _misfit(reader, progress)
        reader.check_left_alone()
        return _verdict(reader, path, damage)


def _verdict(reader: SQLiteReader, path: Path, damage: Damage | None) -> Verdict:
    return Verdict(
        path=str(path),
        cluster_id=reader.cluster_id,
        epochs=reader.epochs,
        floor=reader.floor,
        head=reader.head,
        events=reader.count_given(reader.floor, reader.head + 1),
        checkpoints=reader.checkpoint_seqs,
        size_bytes=reader.size_bytes(),
        used_bytes=reader.used_bytes(),
        remarks=tuple(_remarks(reader, path)),
        damage=damage,
    )


def _remarks(reader: SQLiteReader, path: Path) -> Iterator[str]:
    note = note_beside(path)
    if note is not None and note.cluster_id != reader.cluster_id:
        yield (
            f"the note in {str(path) + '.lock'!r} is of another cluster ({note.cluster_id}), so "
            f"it cannot be told whether the end of this one is missing"
        )
    if note is None:
        yield "no note of the last broker lies beside it, so a missing end would not be noticed"


def _of_unopened(path: Path, damage: Damage) -> Verdict:
    try:
        with open_damaged(path) as reader:
            return _verdict(reader, path, damage)
    except EzGraphError:
        return Verdict(str(path), damage=damage)


def _cost_of_unopened(path: Path) -> str:
    with suppress(EzGraphError), open_damaged(path) as reader:
        note = note_beside(path)
        if note is not None and note.cluster_id == reader.cluster_id and note.head > reader.head:
            return (
                f"the acknowledged events {reader.head + 1} to {note.head} are lost, unless a "
                f"backup has them. A broker does not start on it; 'ezgraph journal repair' makes "
                f"a new journal of what is there"
            )
        return (
            "a broker does not start on it; 'ezgraph journal repair' makes a new journal of what "
            "verifies, and says what is lost"
        )
    return "which history it holds cannot be read any more: nothing but a backup helps"


def _damaged_record(reader: SQLiteReader, progress: Progress) -> Damage | None:
    position, what = verified_through(reader, reader.floor - 1, progress)
    if what is None:
        return None
    record = reader.behind_gap(position + 1)
    covered = [seq for seq in reader.checkpoint_seqs if seq >= record]
    if covered:
        meaning = (
            f"an acknowledged event is lost. The state is whole: the checkpoint at {covered[0]} "
            f"stands for it; a broker starts, but cannot replay across {record}"
        )
    else:
        meaning = (
            f"an acknowledged event is lost, and with it the state after {position}: a broker "
            f"does not start on it. 'ezgraph journal repair' makes a new journal of what verifies"
        )
    return Damage(what, meaning, record)


def _damaged_checkpoint(reader: SQLiteReader) -> Damage | None:
    try:
        for _ in reader.every_checkpoint():
            pass  # reading it verifies it
    except JournalCorruptError as error:
        return Damage(str(error), _cost_of_checkpoint(reader))
    return None


def _cost_of_checkpoint(reader: SQLiteReader) -> str:
    try:
        other = reader.load_checkpoint()
    except JournalCorruptError:
        return (
            "it is the only one, and the history before it was compacted: the state is lost, and "
            "a broker does not start. Restore a backup"
        )
    start = "the first event" if other is None else f"the checkpoint at {other.seq}"
    return f"only a checkpoint: no event is lost, and a broker starts from {start}"


def _damaged_structure(reader: SQLiteReader) -> Damage | None:
    found = reader.structural_damage()
    if found is None:
        return None
    return Damage(
        f"SQLite's own check says: {found}",
        "no event is lost, but a broker may fail when it writes; back it up, restore that",
    )


def _damaged_store(reader: SQLiteReader) -> Damage | None:
    try:
        reader.verify_store()
    except JournalCorruptError as error:
        return Damage(
            str(error),
            "no event is lost, and a broker starts; but graphs, snapshots, tags or partitions are. "
            "'ezgraph journal repair' makes a new journal with those that verify",
        )
    return None


# --- checkpoint + tail = history ---


def _misfit(reader: JournalReader, progress: Progress) -> Damage | None:
    """Fold the history from its earliest state on, and compare each checkpoint on the way."""
    try:
        return _folded(reader, progress)
    except JournalCorruptError as error:
        return Damage(str(error), "its bytes are as they were written, but no broker can use them")


def _folded(reader: JournalReader, progress: Progress) -> Damage | None:
    checkpoints = _Ahead(reader.every_checkpoint())
    state = state_at(None if reader.floor == 1 else checkpoints.take())
    total = reader.count_given(reader.floor, reader.head + 1)
    done = 0
    for through, part in events(reader, reader.floor - 1):
        for event in part:
            if event.seq > state.seq and (wrong := _overtaken(checkpoints, state, event.seq)):
                return wrong
            if event.seq > state.seq:
                _apply(reader, state, event)
        done += len(part)
        progress(done, total)
        state.seq = max(state.seq, through)
    return _overtaken(checkpoints, state, reader.head + 1)


class _Ahead:
    """Checkpoints in order, of which the next can be looked at; one at a time is in memory."""

    def __init__(self, checkpoints: Iterator[Checkpoint]) -> None:
        self._checkpoints = checkpoints
        self.next = next(checkpoints, None)

    def take(self) -> Checkpoint | None:
        """Return the next, and go on."""
        taken, self.next = self.next, next(self._checkpoints, None)
        return taken


def _overtaken(checkpoints: _Ahead, state: GraphState, seq: int) -> Damage | None:
    """Compare the checkpoints that lie before ``seq`` with ``state``, and take them off."""
    while checkpoints.next is not None and checkpoints.next.seq < seq:
        checkpoint = checkpoints.next
        checkpoints.take()
        if not _same(state_at(checkpoint), state):
            return Damage(
                f"the checkpoint at {checkpoint.seq} is not the state that the events before it "
                f"add up to",
                "no event is lost, but a broker that starts from it has a wrong state; report "
                "this, with a backup: it is a defect of ezgraph",
                checkpoint.seq,
            )
    return None


def state_at(checkpoint: Checkpoint | None) -> GraphState:
    """Return the state of a checkpoint; without one, that before all events."""
    state = GraphState()
    if checkpoint is not None:
        try:
            for entry in checkpoint.entries:
                state.apply(codec.decode_live_event(entry, checkpoint.blobs))
        except _MISFITS as error:
            raise JournalCorruptError(
                f"an entry of the checkpoint at {checkpoint.seq} is no event: {error!r}"
            ) from error
        state.seq = checkpoint.seq
    return state


def _apply(reader: JournalReader, state: GraphState, event: Event) -> None:
    try:
        state.apply(event)
    except _MISFITS as error:
        raise JournalCorruptError(
            f"event {event.seq} of {reader.name} does not fit the history before it: {error!r}"
        ) from error


def _same(one: GraphState, other: GraphState) -> bool:
    other.epoch, seq, other.seq = one.epoch, other.seq, one.seq
    same = one.fingerprint() == other.fingerprint()
    other.seq = seq
    return same
