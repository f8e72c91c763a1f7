"""What is done to a journal's file besides running a broker on it.

============  =======================================  ==========================================
`verify`      reads all of a journal and its store     raises at the first thing that is damaged
`compact`     drops history and shrinks the file       in place, under the lock
`backup`      copies a journal, in use or not          the copy is verified before it has its name
`restore`     puts a backup back                       in a new epoch, above every number given
`repair`      saves what verifies of a damaged one     into a new file, in a new epoch
============  =======================================  ==========================================

The last three write a new file under a name of its own beside the destination and move it there
when it is complete and synced. Killed at any moment they leave the source as it was and the
destination absent or complete; all that may lie about is a file that ends in ``.new``.

This room does not know what events mean, so who calls brings a `Settle`: it writes a checkpoint
at the head of the journal it is given.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ezgraph.backends.lock import FileLock, Note, hold_still, note_beside
from ezgraph.backends.sqlite import (
    SQLiteBackend,
    SQLiteReader,
    open_damaged,
    open_reader,
    write_history,
)
from ezgraph.backends.sqlite_file import check_place, size_bytes, sync_directory
from ezgraph.backends.sqlite_rows import SQLiteRows
from ezgraph.backends.stored_salvage import consistent
from ezgraph.errors import JournalCorruptError, JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.backends.base import Journal
    from ezgraph.backends.reader import Checkpoint, JournalReader

_READ_ROWS = 5000
_READ_BYTES = 16 << 20
_DROP_ROWS = 20_000
_COPY_PAGES = 512
_US = 1_000_000
_SIDE_FILES = ("-wal", "-shm", ".lock")

Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much."""
Settle = Callable[["Journal"], None]
"""Writes a checkpoint at the head of an open journal."""


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


# --- verify, compact ---


def verify(reader: JournalReader, progress: Progress = no_progress) -> None:
    """Read every record, every checkpoint, and every row of the store.

    Raises:
        JournalCorruptError: at the first that is missing or fails its checksum.
    """
    verify_records(reader, progress)
    for _ in reader.every_checkpoint():
        pass  # reading it verifies it
    reader.verify_store()


def verify_records(reader: JournalReader, progress: Progress = no_progress) -> None:
    """Read every record; raises as `verify` does."""
    after, done = reader.floor - 1, 0
    total = reader.count_given(reader.floor, reader.head + 1)
    while after < reader.head:
        chunk = reader.read(after, max_rows=_READ_ROWS, max_bytes=_READ_BYTES)
        after, done = chunk.through, done + len(chunk.events)
        progress(done, total)


def verified_through(
    reader: SQLiteReader, after: int, progress: Progress = no_progress
) -> tuple[int, str | None]:
    """Return how far the records after ``after`` verify, and what is wrong with the next one."""
    position, total = after, reader.count_given(after + 1, reader.head + 1)
    done = 0
    try:
        for start, last in _dense(reader, after + 1, reader.head):
            position = start
            for row in reader.tables.records(start, last):
                position, done = row[0], done + 1
                if done % _READ_ROWS == 0:
                    progress(done, total)
    except JournalError as error:
        return position, str(error)
    return max(position, reader.epochs[-1].base), None


def compact(journal: Journal, floor: int, settle: Settle, progress: Progress = no_progress) -> None:
    """Drop the records below ``floor`` and give their room back.

    The state is kept twice: two checkpoints that the rest goes on from, should one be damaged.

    Raises:
        JournalFailedError: the disk is full or broken. Nothing is lost but what was to be dropped.
    """
    settle(journal)
    newest = journal.load_checkpoint()
    if newest is not None and journal.checkpoint_seqs[0] < floor - 1:
        journal.write_checkpoint(newest)
    total = journal.count_given(journal.floor, floor)
    while left := journal.drop_below(floor, max_rows=_DROP_ROWS):
        progress(total - left, total)
    journal.shrink()


# --- backup ---


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup holds."""

    cluster_id: str
    epoch: int
    floor: int
    head: int
    size_bytes: int


def backup(source: Path, dest: Path, progress: Progress = no_progress) -> BackedUp:
    """Copy a journal, also while a broker runs on it, to ``dest``, where nothing may be.

    The copy has everything acknowledged before this was called. Nothing of it is there before
    all of it was verified.

    Raises:
        JournalCorruptError: the source is damaged, so it would make no good backup.
        JournalError: ``dest`` exists, or cannot be written.
    """
    source, dest = _resolved(source), _resolved(dest)
    _check_absent(dest)
    with open_reader(source) as reader, _new_file(dest) as new:
        _copy(reader, new, progress)
        with open_reader(new) as copy:
            _check_same(reader, copy)
            verify(copy)
            held = BackedUp(copy.cluster_id, copy.epoch, copy.floor, copy.head, copy.size_bytes())
        _publish(new, dest)
    return held


def _copy(reader: SQLiteReader, new: Path, progress: Progress) -> None:
    """Copy page by page. The reader's transaction keeps the source still, whoever writes it."""

    def copied(status: int, left: int, total: int) -> None:  # noqa: ARG001 - sqlite3's form
        progress(total - left, total)

    try:
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            reader.tables.db.backup(db, pages=_COPY_PAGES, progress=copied)
            db.execute("PRAGMA journal_mode = DELETE")  # one file, whatever happens to it
    except sqlite3.Error as error:
        raise _no_room(new, error) from error


def _check_same(source: JournalReader, copy: JournalReader) -> None:
    standing = (copy.meta, copy.epochs, copy.floor, copy.head)
    if standing != (source.meta, source.epochs, source.floor, source.head):
        raise JournalCorruptError(
            f"the copy of {source.name} came out different ({copy!r} of {source!r}): the disk "
            f"does not keep what is written to it. Nothing was made of it; use another disk"
        )


# --- restore ---


@dataclass(frozen=True, slots=True)
class Restored:
    """Where a restored journal goes on, and what became of the file before it."""

    cluster_id: str
    old_epoch: int
    old_head: int
    epoch: int
    base: int
    aside: Path | None


def restore(
    source: Path, dest: Path, settle: Settle, *, wall: float, progress: Progress = no_progress
) -> Restored:
    """Make a journal out of a backup, at ``dest``, where none may be.

    Its epoch is new, and its numbers go on above every one that was ever given, as far as that
    can be known: by the backup, by the note that the last broker left beside ``dest``, and by
    the clock: ``wall``, in seconds since 1970, as microseconds (a broker gives fewer than a
    million numbers per second).

    Raises:
        JournalCorruptError: the backup is damaged.
        JournalLockedError: a broker runs on ``dest``.
        JournalError: ``dest`` exists, or cannot be written, or the clock cannot be right.
    """
    dest = _resolved(dest)
    _check_absent(dest)
    return _restore(_resolved(source), dest, settle, wall, progress)


def restore_over(
    source: Path, dest: Path, settle: Settle, *, wall: float, progress: Progress = no_progress
) -> Restored:
    """Do as `restore`, at a ``dest`` that exists; it is kept beside, under a name with a time."""
    return _restore(_resolved(source), _resolved(dest), settle, wall, progress)


def _restore(source: Path, dest: Path, settle: Settle, wall: float, progress: Progress) -> Restored:
    check_place(dest)
    _check_no_part(dest)
    if source == dest:
        raise JournalError(f"{str(dest)!r} cannot be restored from itself; name a backup of it")
    with (
        open_reader(source) as reader,
        _held(dest) as lock,
        _new_file(dest) as new,
    ):
        verify(reader, progress)
        start = _next_start(reader, wall, [_Start.of(reader), *_known_at(dest, reader.cluster_id)])
        _copy(reader, new, progress)
        _begin(new, start, settle)
        aside = _put_aside(dest, wall)
        new.replace(dest)
        lock.leave_note(Note(reader.cluster_id, start.base, start.epoch))
        lock.leave_stored_note(reader.stored_note())
        sync_directory(dest.parent)
    return Restored(reader.cluster_id, reader.epoch, reader.head, start.epoch, start.base, aside)


@dataclass(frozen=True, slots=True)
class _Start:
    """Where an epoch begins, or how far one is known to have come."""

    epoch: int
    base: int

    @classmethod
    def of(cls, reader: JournalReader) -> _Start:
        return cls(reader.epoch, reader.head)


def _known_at(path: Path, cluster_id: str) -> Iterator[_Start]:
    """Yield what the file and the note at ``path`` tell about numbers given in this cluster."""
    note = note_beside(path)
    if note is not None and note.cluster_id == cluster_id:
        yield _Start(note.epoch, note.head)
    with suppress(JournalError), open_damaged(path) as reader:
        if reader.cluster_id == cluster_id:
            yield _Start.of(reader)


def _next_start(reader: JournalReader, wall: float, known: list[_Start]) -> _Start:
    if wall < reader.meta.created_wall:
        raise JournalError(
            f"this host's clock says {_iso(wall)}, but {reader.name} was created at "
            f"{_iso(reader.meta.created_wall)}: numbers that are never used twice are made with "
            f"it. Set the clock, then try again"
        )
    bases = [int(wall * _US), *(each.base for each in known)]
    return _Start(max(each.epoch for each in known) + 1, max(bases))


def _begin(new: Path, start: _Start, settle: Settle) -> None:
    """Begin the epoch in a copy, and write its checkpoint."""
    with SQLiteBackend(new).connect() as connection:
        journal = connection.open_journal()
        journal.begin_epoch(start.epoch, start.base)
        settle(journal)
    if size_bytes(wal := new.with_name(f"{new.name}-wal")):
        raise JournalError(f"{str(wal)!r} could not be moved into its file; try again")
    _sync(new)


def _put_aside(dest: Path, wall: float) -> Path | None:
    """Give an existing file another name, and its WAL with it: they belong together."""
    if not dest.exists():
        return None
    at = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = dest.with_name(f"{dest.name}.replaced-{at}")
    if aside.exists():
        raise JournalError(f"{str(aside)!r} exists already; try again")
    wal = dest.with_name(f"{dest.name}-wal")
    if size_bytes(wal):
        dest.rename(aside)
        wal.rename(f"{aside}-wal")
    else:
        _link_or_move(dest, aside)
        wal.unlink(missing_ok=True)
    dest.with_name(f"{dest.name}-shm").unlink(missing_ok=True)
    return aside


# --- repair ---


@dataclass(frozen=True, slots=True)
class Repaired:
    """What of a damaged journal is in the new one.

    The new one has the records ``floor`` to ``last`` and goes on from a checkpoint at
    ``checkpoint_seq`` (None: from the beginning). ``lost`` are the numbers, first to last, that
    were given and are in it no more; those up to ``checkpoint_seq`` still have their effect.
    ``stored_rows`` of the store beside it (graphs, snapshots, tags, partitions) are in the new one;
    ``stored_damage`` says what is wrong with the others, None: nothing.
    """

    cluster_id: str
    floor: int
    last: int
    checkpoint_seq: int | None
    lost: tuple[tuple[int, int], ...]
    epoch: int
    base: int
    damage: str | None
    stored_rows: int = 0
    stored_damage: str | None = None


def repair(
    source: Path, dest: Path, settle: Settle, *, wall: float, progress: Progress = no_progress
) -> Repaired:
    """Save what verifies of a journal into a new one at ``dest``; the source is only read.

    Kept is what leads to the newest state: the records up to the first damaged one, or, from the
    best checkpoint behind that, those after it. The rest is in the source still.

    Raises:
        JournalError: nothing of it can be trusted; a broker runs on it; or ``dest`` exists.
    """
    source, dest = _resolved(source), _resolved(dest)
    _check_absent(dest)
    check_place(dest)
    with (
        hold_still(source),
        open_damaged(source) as reader,
        _held(dest) as lock,
        _new_file(dest) as new,
    ):
        known = [_Start.of(reader), *_known_at(source, reader.cluster_id)]
        known += _known_at(dest, reader.cluster_id)
        start = _next_start(reader, wall, known)
        kept, damage = _best(reader, progress)
        stored, stored_damage = _stored(reader)
        kept.write(new, reader, stored)
        _begin(new, start, settle)
        with open_reader(new) as copy:
            verify(copy)
            stored_note = copy.stored_note()
        lock.leave_note(Note(reader.cluster_id, start.base, start.epoch))
        lock.leave_stored_note(stored_note)
        _publish(new, dest)
        end = max(each.base for each in known)
        before = _ranges(reader, reader.floor, kept.floor - 1)
        return Repaired(
            cluster_id=reader.cluster_id,
            floor=kept.floor,
            last=kept.last,
            checkpoint_seq=kept.checkpoints[-1].seq if kept.checkpoints else None,
            lost=(*before, *_ranges(reader, kept.last + 1, end)),
            epoch=start.epoch,
            base=start.base,
            damage=damage,
            stored_rows=len(stored),
            stored_damage=stored_damage,
        )


def _stored(reader: SQLiteReader) -> tuple[dict[bytes, bytes], str | None]:
    """Return what can be kept of the store, and what is wrong with the rest."""
    rows = SQLiteRows(reader.tables)
    try:
        return dict(rows.all()), None
    except JournalError as error:
        return consistent(dict(rows.salvaged())), str(error)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A stretch of history that verifies: the records ``floor`` to ``last``, and checkpoints."""

    floor: int
    last: int
    checkpoints: tuple[Checkpoint, ...]

    def write(self, new: Path, reader: SQLiteReader, stored: dict[bytes, bytes]) -> None:
        """Write it into a new file, its last epoch still open, and the store beside it."""
        *before, last = (span for span in reader.epochs if span.base <= self.last)
        epochs = (*before, replace(last, last_seq=None))
        meta = replace(reader.meta, epoch=last.epoch)
        rows = self._rows(reader)
        write_history(new, meta, epochs, self.floor, rows, self.checkpoints, stored)

    def _rows(self, reader: SQLiteReader) -> Iterator[tuple[int, bytes, bytes, int]]:
        for after, last in _dense(reader, self.floor, self.last):
            yield from reader.tables.records(after, last)


def _best(reader: SQLiteReader, progress: Progress) -> tuple[_Kept, str | None]:
    """Return the stretch that reaches furthest, and what ended the one from the floor on."""
    checkpoints = reader.each_checkpoint()
    last, damage = verified_through(reader, reader.floor - 1, progress)
    inside = tuple(each for each in checkpoints if each.seq <= last)
    candidates = [_Kept(reader.floor, last, inside)] if reader.floor == 1 or inside else []
    for each in checkpoints:
        if each.seq > last:
            end, _ = verified_through(reader, each.seq, progress)
            candidates.append(_Kept(reader.behind_gap(each.seq + 1), end, (each,)))
    if not candidates:
        raise JournalCorruptError(
            f"nothing of {reader.name} can be saved: history before seq {reader.floor} was "
            f"compacted, and no checkpoint that stands for it verifies ({damage}); restore a backup"
        )
    return max(candidates, key=lambda kept: (kept.last, -kept.floor)), damage


def _dense(reader: JournalReader, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield (after, through) of each stretch without a gap from ``first`` to ``last``."""
    for span in reader.epochs:
        end = reader.epoch_end(span.epoch) or 0
        if (after := max(first - 1, span.base)) < (through := min(last, end)):
            yield after, through


def _ranges(reader: JournalReader, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers from ``first`` to ``last`` that were given, as (first, last)."""
    for span in reader.epochs:
        end = last if span.last_seq is None else min(last, span.last_seq)
        if (start := max(first, span.first_seq)) <= end:
            yield start, end


# --- files ---


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _check_absent(dest: Path) -> None:
    if dest.exists():
        raise JournalError(
            f"{str(dest)!r} exists already, and nothing is overwritten; name another file"
        )
    _check_no_part(dest)


def _check_no_part(dest: Path) -> None:
    """Refuse a place where SQLite would take a stale WAL for a part of the new file."""
    wal = dest.with_name(f"{dest.name}-wal")
    if not dest.exists() and size_bytes(wal):
        raise JournalError(
            f"{str(dest)!r} is gone, but its WAL {str(wal)!r} is still there and may hold events; "
            f"move it to where its file is, or away"
        )


@contextmanager
def _held(dest: Path) -> Iterator[FileLock]:
    lock = FileLock(dest)
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def _new_file(dest: Path) -> Iterator[Path]:
    """Yield an empty file beside ``dest``; it is removed unless it was moved away."""
    try:
        fd, name = tempfile.mkstemp(prefix=f"{dest.name}.", suffix=".new", dir=dest.parent)
    except OSError as error:
        raise _no_room(dest, error) from error
    os.close(fd)
    new = Path(name)
    try:
        yield new
    except OSError as error:
        raise _no_room(dest, error) from error
    finally:
        for side in ("", *_SIDE_FILES):
            new.with_name(new.name + side).unlink(missing_ok=True)


def _no_room(path: Path, error: Exception) -> JournalError:
    return JournalError(
        f"cannot write {str(path)!r} ({error}); see that the disk has room and that this user may "
        f"write there. Nothing was changed"
    )


def _publish(new: Path, dest: Path) -> None:
    """Give a complete file its name, which must be free."""
    _sync(new)
    try:
        os.link(new, dest)
    except FileExistsError as error:
        raise JournalError(f"{str(dest)!r} has come to exist meanwhile; name another") from error
    except OSError:  # a file system without links
        new.rename(dest)
    sync_directory(dest.parent)


def _link_or_move(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except OSError:
        path.rename(name)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds")
