"""A journal in one SQLite file: what a rig uses.

The file is in WAL mode: an append writes to ``<path>-wal`` and syncs it (``synchronous=FULL``),
and every thousand pages SQLite moves them into the file. Other processes may read
meanwhile. Four tables (and one of `ezgraph.backends.sqlite_rows`)::

    meta             which history this is, its format and its floor
    events           the records, seq as the row id
    checkpoints      the finished ones: a checkpoint counts from the commit that adds its row
    checkpoint_rows  entries (without a name), then blobs (named by their hash);
                     id = checkpoint id << 32 | position

Each row carries a CRC-32 of its number and bytes (see `ezgraph.backends.sqlite_tables`), so that
a flipped bit is found where SQLite itself would not see it. Rows of a checkpoint that is not in
``checkpoints`` are leftovers: of one that was never finished, or of one that is not kept any more
(`ezgraph.backends.milestones`). They are removed when the file is opened next, or bit by bit while
the next checkpoint is written, because removing 100,000 rows at once takes time.

What no checksum in the file can show is that its end is gone: SQLite takes a damaged WAL for one
that ended early. So the last seq acknowledged also stands in the note of the lock's side file,
with its cluster and epoch.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections import deque
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ezgraph.backends.base import (
    Backend,
    CheckpointSink,
    Journal,
    JournalMeta,
    JournalReader,
    masked,
)
from ezgraph.backends.local import LocalConnection
from ezgraph.backends.lock import (
    FileLock,
    Note,
    StoredNote,
    note_beside,
    stored_note_beside,
)
from ezgraph.backends.milestones import NEWEST
from ezgraph.backends.sqlite_file import (
    FileStamp,
    check_header,
    check_place,
    check_readable,
    connect,
    connect_to_read,
    create,
    damage,
    ending_transaction,
    reading,
    size_bytes,
    store_epochs,
    store_floor,
    transaction,
)
from ezgraph.backends.sqlite_rows import SQLiteRows
from ezgraph.backends.sqlite_store import read_once, write_once
from ezgraph.backends.sqlite_tables import Finished, Tables
from ezgraph.errors import ConfigError, JournalError, JournalFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from ezgraph.backends.reader import Checkpoint, CheckpointPart, EpochSpan, Record
    from ezgraph.backends.store import Store

T = TypeVar("T")

SYNCHRONOUS = ("NORMAL", "FULL", "EXTRA")
_LOOKED_AT = 50_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class SQLiteBackend(Backend["SQLiteConnection"]):
    """``sqlite:///relative/path`` or ``sqlite:////absolute/path``, as a value.

    ``synchronous`` is SQLite's word: ``FULL`` survives a power cut, ``NORMAL`` (faster) only the
    death of the process, ``EXTRA`` is ``FULL`` here.
    """

    path: str | os.PathLike[str]
    synchronous: str = "FULL"

    def __post_init__(self) -> None:
        path, synchronous = os.fspath(self.path), self.synchronous.upper()
        if not path or path == ":memory:" or "\0" in path:
            raise ConfigError(f"{path!r} is no file path; for a store in memory use 'memory://'")
        if synchronous not in SYNCHRONOUS:
            raise ConfigError(
                f"synchronous={self.synchronous!r} is none of {', '.join(SYNCHRONOUS)}"
            )
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "synchronous", synchronous)

    @classmethod
    def parse(cls, url: str) -> SQLiteBackend:
        """Return the backend for ``sqlite:///path[?synchronous=NORMAL|FULL|EXTRA]``."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.netloc or not parts.path.startswith("/") or parts.fragment:
            raise ConfigError(
                f"{masked(url)!r} names no file: write 'sqlite:///relative/path' or "
                f"'sqlite:////absolute/path' (three or four slashes; '#' as %23, '?' as %3F)"
            )
        if unknown := options.keys() - {"synchronous"}:
            raise ConfigError(
                f"{masked(url)!r} has the unknown option {', '.join(sorted(unknown))}; "
                f"'synchronous' is the only one"
            )
        return cls(unquote(parts.path[1:]), **options)

    @property
    def url(self) -> str:
        """The address; ``synchronous`` is in it unless it is the default."""
        option = "" if self.synchronous == "FULL" else f"?synchronous={self.synchronous}"
        return f"sqlite:///{quote(os.fspath(self.path))}{option}"

    def connect(self) -> SQLiteConnection:
        """Return a connection; the file is not touched before something in it is opened."""
        return SQLiteConnection(self)


class SQLiteConnection(LocalConnection):
    """Access to what is in one file. Nothing of it is open between calls, but a journal."""

    def __init__(self, backend: SQLiteBackend) -> None:
        self._backend = backend
        self._journal: SQLiteJournal | None = None

    @property
    def _path(self) -> Path:
        return Path(os.path.realpath(self._backend.path))

    def open_journal(self, *, identity: JournalMeta | None = None) -> SQLiteJournal:
        """Open the journal; see `Connection.open_journal`. Use it in this thread only."""
        path = self._path
        check_place(path)
        if os.path.exists(path):
            check_header(path)
        lock = FileLock(path)
        try:
            if os.path.exists(path):
                _look_first(path)
            else:
                create(path, identity or JournalMeta.fresh())
            self._journal = SQLiteJournal(path, self._backend.synchronous, lock)
        except BaseException:
            lock.release()
            raise
        return self._journal

    def open_reader(self) -> SQLiteReader:
        """Return a reader; see `Connection.open_reader`. Use it in this thread only."""
        return open_reader(self._path)

    def _read(self, ask: Callable[[Store], T]) -> T:
        if self._journal is not None and not self._journal.closed:
            return self._journal.ask(ask)
        return read_once(self._path, ask)

    def _write(self, change: Callable[[Store], T]) -> T:
        if self._journal is not None and not self._journal.closed:
            result = self._journal.change(change)
            self._journal.append(())
            return result
        return write_once(self._path, self._backend.synchronous, change, _look_first)

    def close(self) -> None:
        """Close the journal, if open."""
        if self._journal is not None:
            self._journal.close()

    def __repr__(self) -> str:
        return f"<SQLiteConnection {masked(self._backend.url)} journal={self._journal}>"


class SQLiteReader(JournalReader):
    """A journal's file, read in one transaction. It belongs to the thread that opened it."""

    def __init__(self, path: Path, tables: Tables, finished: Sequence[Finished]) -> None:
        """Take over an open database whose meta table and checkpoints were verified."""
        identity = tables.identity
        super().__init__(
            str(path),
            identity.meta,
            identity.epochs,
            floor=identity.floor,
            head=tables.head(),
            checkpoint_seqs=tuple(each.seq for each in finished[-NEWEST:]),
        )
        self._path = path
        self._finished = finished
        self._stamp = None if os.path.exists(_wal(path)) else FileStamp.of(path)
        self.tables = tables

    def size_bytes(self) -> int:
        """The size of the file and its WAL."""
        return size_bytes(self._path) + size_bytes(_wal(self._path))

    def used_bytes(self) -> int:
        """The size of the file's pages in use."""
        with reading(self._path):
            return self.tables.used_bytes()

    def _matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        with self._left_alone():
            yield from self.tables.matching(after, last, prefix)

    def _records(self, after: int, last: int) -> Generator[tuple[int, bytes, bytes], None, None]:
        with self._left_alone():
            for seq, topic, event, _ in self.tables.records(after, last):
                yield seq, topic, event

    def _all_checkpoints(self) -> list[tuple[int, int]]:
        return [(each.id, each.seq) for each in self._finished]

    def _read_checkpoint(self, number: int) -> Checkpoint:
        with self._left_alone():
            return self.tables.checkpoint(number)

    def _read_part(self, number: int, start: int, most: int) -> CheckpointPart:
        with self._left_alone():
            return self.tables.checkpoint_part(number, start, most)

    @contextmanager
    def _left_alone(self) -> Iterator[None]:
        """Say so, rather than speak of damage, if a broker has begun to write the file."""
        try:
            yield
        finally:
            self.check_left_alone()

    def check_left_alone(self) -> None:
        """Raise `JournalError` if a broker has begun to write the file since it was opened.

        That can happen to a journal that nobody had open then; what was read may be torn.
        """
        if self._stamp is not None and self._stamp != FileStamp.of(self._path):
            raise JournalError(
                f"{self.name} was written while it was read: a broker has started on it; ask again"
            )

    def verify_store(self) -> int:
        """Read all rows of the store; see `JournalReader.verify_store`."""
        with self._left_alone():
            return sum(1 for _ in SQLiteRows(self.tables).all())

    def stored_note(self) -> StoredNote:
        """How often the store was changed, as it is noted beside the file."""
        return SQLiteRows(self.tables).note

    def structural_damage(self) -> str | None:
        """Return what SQLite finds wrong with the file's own structure."""
        with reading(self._path):
            (found,) = self.tables.db.execute("PRAGMA integrity_check(1)").fetchone()
        return None if found == "ok" else str(found)

    def _close(self) -> None:
        self.tables.db.close()


def open_reader(path: Path) -> SQLiteReader:
    """Return a reader of a journal's file; see `Connection.open_reader`."""
    check_readable(path)
    check_header(path)
    # before what is acknowledged next is in the file
    note, stored_note = note_beside(path), stored_note_beside(path)
    db = connect_to_read(path)
    try:
        with reading(path):
            tables = Tables(db, path)
            finished = tables.finished()
            tables.check_continuity(finished)
            check_end(tables, note)
            SQLiteRows(tables).check_end(stored_note)
            return SQLiteReader(path, tables, finished)
    except BaseException:
        db.close()
        raise


def open_damaged(path: Path) -> SQLiteReader:
    """Return a reader of what can be read of a file, although its end or a checkpoint is gone.

    Raises:
        JournalError: not even its meta table, which names its history, can be read.
    """
    check_readable(path)
    check_header(path)
    db = connect_to_read(path)
    try:
        with reading(path):
            tables = Tables(db, path)
            return SQLiteReader(path, tables, tables.finished_that_verify())
    except BaseException:
        db.close()
        raise


def _look_first(path: Path) -> None:
    """Raise `JournalError` if an existing journal is damaged, before anything is written to it.

    To open it would move the WAL of a dead broker into the file for good, and that WAL may be
    damaged, or another journal's. So what it can have changed is verified: the newest records.
    """
    with open_reader(path) as reader:
        note = note_beside(path)
        if note is not None and note.cluster_id != reader.cluster_id:
            _log.warning("another journal was at this path before: cluster=%s", note.cluster_id)
        if not size_bytes(_wal(path)):
            return
        after = max(reader.before(reader.head, _LOOKED_AT), reader.checkpoint_seq or 0)
        while after < reader.head:
            after = reader.read(after).through


def check_end(tables: Tables, note: Note | None) -> None:
    """Raise `JournalCorruptError` if a file ends before what the note says was acknowledged."""
    path, meta, head = tables.path, tables.identity.meta, tables.head()
    if note is None:
        return
    if note.cluster_id == meta.cluster_id and head < note.head:
        raise damage(
            path,
            f"it ends with record {head}, but {note.head} was acknowledged (an older backup is "
            f"put back with 'ezgraph journal restore'; to go on without what is missing all the "
            f"same, remove '{path}.lock')",
        )
    if note.cluster_id != meta.cluster_id and size_bytes(_wal(path)):
        raise damage(
            path,
            f"with its WAL it is of cluster {meta.cluster_id}, but the last broker here kept "
            f"cluster {note.cluster_id}: one of the two files is another journal's (if both were "
            f"put here on purpose, remove '{path}.lock')",
        )


class SQLiteJournal(Journal):
    """A journal in one SQLite file, under a lock. It belongs to the thread that opened it."""

    def __init__(self, path: Path, synchronous: str, lock: FileLock) -> None:
        self._path = path
        self._lock = lock
        self._survives_power_cut = synchronous != "NORMAL"
        self._db = connect(path, synchronous)
        try:
            with reading(path):
                self._tables = Tables(self._db, path)
                self._stored = SQLiteRows(self._tables)
                self._survey()
                self._remove_leftovers()
        except BaseException:
            self._db.close()
            raise

    def _survey(self) -> None:
        """Learn where the history begins and ends. Holes within it are found when it is read."""
        tables, identity = self._tables, self._tables.identity
        finished = tables.finished()
        self._checkpoint_id = finished[-1].id if finished else 0
        self._sink: _SQLiteSink | None = None
        self._leftovers: deque[int] = deque()
        super().__init__(
            str(self._path),
            identity.meta,
            identity.epochs,
            floor=identity.floor,
            head=tables.head(),
            checkpoint_seqs=tuple(each.seq for each in finished[-NEWEST:]),
        )
        self._leave_note(self.head)

    def _leave_note(self, head: int) -> None:
        self._lock.leave_note(Note(self.cluster_id, head, self.epoch))

    def _remove_leftovers(self) -> None:
        """Delete the rows of checkpoints that do not count."""
        kept = self._tables.finished()
        gaps = zip(
            [0, *(checkpoint.rows_end for checkpoint in kept)],
            [*(checkpoint.rows_start for checkpoint in kept), 1 << 62],
            strict=True,
        )
        with transaction(self._db):
            self._db.executemany("DELETE FROM checkpoint_rows WHERE id >= ? AND id < ?", list(gaps))

    def _records(self, after: int, last: int) -> Generator[tuple[int, bytes, bytes], None, None]:
        for seq, topic, event, _ in self._tables.records(after, last):
            yield seq, topic, event

    def _all_checkpoints(self) -> list[tuple[int, int]]:
        with reading(self._path):
            return [(each.id, each.seq) for each in self._tables.finished()]

    def _read_checkpoint(self, number: int) -> Checkpoint:
        return self._tables.checkpoint(number)

    def _read_part(self, number: int, start: int, most: int) -> CheckpointPart:
        return self._tables.checkpoint_part(number, start, most)

    def _matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        return self._tables.matching(after, last, prefix)

    def size_bytes(self) -> int:
        """The size of the file and its WAL."""
        return size_bytes(self._path) + size_bytes(_wal(self._path))

    def used_bytes(self) -> int:
        """The size of the file's pages in use: it shrinks at once when records are dropped."""
        with reading(self._path):
            return self._tables.used_bytes()

    def free_bytes(self) -> int:
        """The free space of the file system, as far as this user may use it."""
        return shutil.disk_usage(self._path.parent).free

    def _write(self, records: Sequence[Record]) -> None:
        checksum, db, note = self._tables.checksum, self._db, None
        is_alone = not db.in_transaction
        if not is_alone:
            note = self._stored.note
        with transaction(db) if is_alone else ending_transaction(db):
            db.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?)",
                [(r.seq, r.topic, r.event, checksum(r.seq, r.topic, r.event)) for r in records],
            )
        if self._survives_power_cut and records:
            self._leave_note(records[-1].seq)
        if note is not None:
            self._stored.committed()
            if self._survives_power_cut:
                self._lock.leave_stored_note(note)

    def _rows(self) -> Store:
        return self._stored

    @contextmanager
    def _tentatively(self) -> Iterator[Store]:
        """Begin the next append's transaction if it has not begun, and a part of it."""
        db = self._db
        is_first = not db.in_transaction
        with reading(self._path, "written"):
            if is_first:
                db.execute("BEGIN IMMEDIATE")
            db.execute("SAVEPOINT change")
        try:
            yield self._stored
        except BaseException:
            self._undo(whole=is_first)
            raise
        db.execute("RELEASE change")

    def _undo(self, *, whole: bool) -> None:
        db = self._db
        self._stored.undone()
        if not db.in_transaction:  # SQLite gave it up, and with it what was changed before
            if not whole:
                self._gate.failure = JournalFailedError("SQLite gave up a transaction")
        elif whole:
            db.execute("ROLLBACK")
        else:
            db.execute("ROLLBACK TO change")
            db.execute("RELEASE change")

    def _drop(self, floor: int, max_rows: int | None) -> int:
        query = "SELECT coalesce(min(seq), ?) FROM events"
        (lowest,) = self._db.execute(query, (floor,)).fetchone()
        end = floor if max_rows is None else min(floor, lowest + max_rows)
        with transaction(self._db):
            store_floor(self._db, floor)
            self._db.execute("DELETE FROM events WHERE seq < ?", (end,))
        return self.count_given(end, floor)

    def _store_epochs(self, meta: JournalMeta, epochs: tuple[EpochSpan, ...]) -> None:
        with transaction(self._db):
            store_epochs(self._db, meta, epochs)
        self._lock.leave_note(Note(meta.cluster_id, epochs[-1].base, meta.epoch))

    def _shrink(self) -> None:
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _new_sink(self, seq: int) -> CheckpointSink:
        if self._sink is not None and not self._sink.is_finished:
            self._leftovers.append(self._checkpoint_id)
        self._checkpoint_id += 1
        self._sink = _SQLiteSink(self, self._tables, seq, self._checkpoint_id)
        return self._sink

    def keep_newest(self) -> None:
        """Forget the checkpoints that are dispensable, within a transaction of the caller's."""
        finished = self._tables.finished()
        going = self._dispensable([(each.id, each.seq, each.size) for each in finished])
        self._db.executemany("DELETE FROM checkpoints WHERE id = ?", [(each,) for each in going])
        self._leftovers += sorted(going)

    def prune(self, max_rows: int) -> None:
        """Delete some rows of checkpoints that do not count, as `keep_newest` does."""
        while self._leftovers and max_rows > 0:
            start = self._leftovers[0] << 32
            deleted = self._db.execute(
                "DELETE FROM checkpoint_rows WHERE id IN (SELECT id FROM checkpoint_rows"
                " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)",
                (start, start + (1 << 32), max_rows),
            ).rowcount
            if deleted < max_rows:
                self._leftovers.popleft()
            max_rows -= deleted

    def _close(self) -> None:
        """Move the WAL into the file, unless someone reads it or the disk has failed."""
        with suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA busy_timeout = 0")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        with suppress(JournalError):  # the note from before is true as well
            self._leave_note(self.head)
        self._lock.release()


class _CheckpointRows:
    """The rows of one checkpoint, inside transactions of the caller's."""

    def __init__(self, tables: Tables, seq: int, checkpoint_id: int) -> None:
        self._tables = tables
        self._seq = seq
        self._id = checkpoint_id
        self._entries = 0

    def add(self, entries: Sequence[bytes]) -> None:
        """Insert the next entries."""
        self._insert([(None, entry) for entry in entries], at=self._entries)
        self._entries += len(entries)

    def finish(self, blobs: dict[bytes, bytes]) -> None:
        """Insert the blobs, and the row that makes the checkpoint count."""
        numbers = self._id, self._seq, self._entries, len(blobs)
        self._insert(list(blobs.items()), at=self._entries)
        self._tables.db.execute(
            "INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?)",
            (*numbers, self._tables.numbers_checksum(*numbers)),
        )

    def _insert(self, rows: Sequence[tuple[bytes | None, bytes]], *, at: int) -> None:
        self._tables.db.executemany(
            "INSERT INTO checkpoint_rows VALUES (?, ?, ?, ?)",
            [
                (row_id, name, value, self._tables.checksum(row_id, name or b"", value))
                for row_id, (name, value) in enumerate(rows, (self._id << 32) + at)
            ],
        )


class _SQLiteSink(CheckpointSink):
    """A checkpoint of an open journal."""

    def __init__(
        self, journal: SQLiteJournal, tables: Tables, seq: int, checkpoint_id: int
    ) -> None:
        self._journal = journal
        self._db = tables.db
        self._rows = _CheckpointRows(tables, seq, checkpoint_id)
        self.is_finished = False

    def add(self, entries: Sequence[bytes]) -> None:
        with transaction(self._db):
            self._rows.add(entries)
            self._journal.prune(2 * len(entries))

    def finish(self, blobs: dict[bytes, bytes]) -> None:
        with transaction(self._db):
            self._rows.finish(blobs)
            self._journal.keep_newest()
        self.is_finished = True


def write_history(
    path: Path,
    meta: JournalMeta,
    epochs: tuple[EpochSpan, ...],
    floor: int,
    records: Iterable[tuple[int, bytes, bytes, int]],
    checkpoints: Iterable[Checkpoint],
    stored: Mapping[bytes, bytes],
) -> None:
    """Make a journal's file of verified parts; see `Tables.records` for the records.

    ``stored`` are the rows of the store beside it.

    Nobody else may use the file yet: it is synced only when it is opened as a journal.
    """
    create(path, meta)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")
            tables = Tables(db, path)
            rows = (
                (seq, topic, event, tables.checksum(seq, topic, event))
                for seq, topic, event, _ in records
            )
            with transaction(db):
                store_epochs(db, meta, epochs)
                store_floor(db, floor)
                db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
            for number, checkpoint in enumerate(checkpoints, 1):
                written = _CheckpointRows(tables, checkpoint.seq, number)
                with transaction(db):
                    written.add(checkpoint.entries)
                    written.finish(checkpoint.blobs)
            if stored:
                with transaction(db):
                    SQLiteRows(tables).put(stored)
    except sqlite3.Error as error:
        raise JournalError(f"cannot write {str(path)!r} ({error}); free disk space") from error


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
