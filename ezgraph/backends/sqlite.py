"""A journal in one SQLite file: what a rig uses.

The file is in WAL mode: an append writes to ``<path>-wal`` and syncs it (``synchronous=FULL``),
and every thousand pages SQLite moves them into the file. Other processes may read
meanwhile. Four tables::

    meta             which history this is, its format and its floor
    events           the records, seq as the row id
    checkpoints      the finished ones: a checkpoint counts from the commit that adds its row
    checkpoint_rows  entries (without a name), then blobs (named by their hash);
                     id = checkpoint id << 32 | position

Each row carries a CRC-32 of its number and bytes, so that a flipped bit is found where SQLite
itself would not see it. Rows of a checkpoint that is not in ``checkpoints`` are leftovers: of one
that was never finished (removed when the file is opened next), or of one older than the newest
two (removed bit by bit by the next writer, because removing 100,000 rows at once takes time).

What no checksum in the file can show is that its end is gone: SQLite takes a damaged WAL for one
that ended early. So the last seq acknowledged also stands in the note of the lock's side file.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import zlib
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ezgraph.backends.base import (
    Backend,
    Checkpoint,
    CheckpointSink,
    Connection,
    Journal,
    JournalMeta,
    masked,
)
from ezgraph.backends.lock import FileLock
from ezgraph.backends.sqlite_file import (
    check_header,
    check_place,
    connect,
    create,
    damage,
    keep_wal,
    read_meta,
    reading,
    size_bytes,
    store_floor,
    transaction,
)
from ezgraph.errors import ConfigError, JournalCorruptError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ezgraph.backends.base import Record

SYNCHRONOUS = ("NORMAL", "FULL", "EXTRA")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class SQLiteBackend(Backend):
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


class SQLiteConnection(Connection):
    """Access to what is in one file."""

    def __init__(self, backend: SQLiteBackend) -> None:
        self._backend = backend
        self._journal: SQLiteJournal | None = None

    def open_journal(self, *, identity: JournalMeta | None = None) -> SQLiteJournal:
        """Open the journal; see `Connection.open_journal`. Use it in this thread only."""
        path = Path(os.path.realpath(self._backend.path))
        check_place(path)
        if os.path.exists(path):
            check_header(path)
        lock = FileLock(path)
        try:
            if not os.path.exists(path):
                create(path, identity or JournalMeta.fresh())
            self._journal = SQLiteJournal(path, self._backend.synchronous, lock)
        except BaseException:
            lock.release()
            raise
        return self._journal

    def close(self) -> None:
        """Close the journal, if open."""
        if self._journal is not None:
            self._journal.close()

    def __repr__(self) -> str:
        return f"<SQLiteConnection {masked(self._backend.url)} journal={self._journal}>"


class SQLiteJournal(Journal):
    """A journal in one SQLite file, under a lock. It belongs to the thread that opened it."""

    def __init__(self, path: Path, synchronous: str, lock: FileLock) -> None:
        self._path = path
        self._lock = lock
        self._survives_power_cut = synchronous != "NORMAL"
        self._db = connect(path, synchronous)
        try:
            with reading(path):
                self._survey()
                self._check_end()
                self._remove_leftovers()
        except BaseException:
            self._db.close()
            raise

    def _survey(self) -> None:
        """Learn where the history begins and ends. Holes within it are found when it is read."""
        meta, floor = read_meta(self._db, self._path)
        lowest, head = self._db.execute(
            "SELECT (SELECT coalesce(min(seq), :floor) FROM events),"
            " (SELECT coalesce(max(seq), :floor - 1) FROM events)",
            {"floor": floor},
        ).fetchone()
        newest = max(self._checkpoints(), default=_Finished(0, 0, 0, 0))
        if not lowest <= floor <= head + 1:
            raise self._missing(floor)
        if not floor - 1 <= newest.seq <= head:
            raise damage(
                self._path,
                f"records {floor} to {head} do not go on from its checkpoint at {newest.seq}",
            )
        self._checkpoint_id = newest.id
        covered = newest.seq if newest.id else None
        super().__init__(str(self._path), meta, floor=floor, head=head, checkpoint_seq=covered)

    def _check_end(self) -> None:
        """Compare the head with the last seq that is known to have been acknowledged."""
        acknowledged = _noted_head(self._lock.found_note, self.cluster_id)
        if self.head < acknowledged:
            keep_wal(self._path)
            raise damage(
                self._path,
                f"it ends with record {self.head}, but {acknowledged} was acknowledged (if an "
                f"older backup was put back on purpose, remove '{self._path}.lock')",
            )
        self._lock.leave_note(_note(self.cluster_id, self.head))

    def _checkpoints(self) -> list[_Finished]:
        """Return the finished checkpoints, oldest first."""
        rows = self._db.execute(
            "SELECT id, seq, entries, blobs, checksum FROM checkpoints ORDER BY id"
        ).fetchall()
        for *numbers, checksum in rows:
            if checksum != _numbers_checksum(*numbers):
                raise damage(self._path, f"the checkpoint at {numbers[1]} fails its checksum")
        return [_Finished(*numbers) for *numbers, _ in rows]

    def _remove_leftovers(self) -> None:
        """Delete the rows of checkpoints that do not count."""
        kept = self._checkpoints()
        gaps = zip(
            [0, *(checkpoint.rows_end for checkpoint in kept)],
            [*(checkpoint.rows_start for checkpoint in kept), 1 << 62],
            strict=True,
        )
        with transaction(self._db):
            self._db.executemany("DELETE FROM checkpoint_rows WHERE id >= ? AND id < ?", list(gaps))

    def load_checkpoint(self) -> Checkpoint | None:
        """Return the newest finished checkpoint that verifies; see `Journal.load_checkpoint`.

        A damaged one is logged and passed over, as long as the records since an older one, or
        all since seq 1, are here.
        """
        self._check_open()
        damaged: JournalCorruptError | None = None
        with reading(self._path):
            finished = self._checkpoints()
        for checkpoint in reversed(finished):
            if checkpoint.seq < self.floor - 1:
                break
            try:
                return self._read_checkpoint(checkpoint)
            except JournalCorruptError as error:
                _log.warning("passing over a checkpoint: seq=%d %s", checkpoint.seq, error)
                damaged = error
        if damaged is not None and self.floor > 1:
            raise damaged
        return None

    def _read_checkpoint(self, checkpoint: _Finished) -> Checkpoint:
        seq, entries = checkpoint.seq, checkpoint.entries
        found: list[tuple[bytes, bytes]] = []
        expected = checkpoint.rows_start
        with reading(self._path), closing(self._rows_of(checkpoint)) as rows:
            for row_id, name, value, checksum in rows:
                if row_id != expected or not _verifies(checksum, row_id, name or b"", value):
                    raise damage(self._path, f"a row of the checkpoint at {seq} fails its checksum")
                found.append((name, value))
                expected += 1
        if len(found) != entries + checkpoint.blobs:
            raise damage(self._path, f"rows of the checkpoint at {seq} are missing")
        return Checkpoint(seq, tuple(value for _, value in found[:entries]), dict(found[entries:]))

    def _rows_of(self, checkpoint: _Finished) -> sqlite3.Cursor:
        return self._db.execute(
            "SELECT id, name, value, checksum FROM checkpoint_rows"
            " WHERE id >= ? AND id < ? ORDER BY id",
            (checkpoint.rows_start, checkpoint.rows_end),
        )

    def size_bytes(self) -> int:
        """The size of the file and its WAL."""
        return size_bytes(self._path) + size_bytes(Path(f"{self._path}-wal"))

    def free_bytes(self) -> int:
        """The free space of the file system, as far as this user may use it."""
        return shutil.disk_usage(self._path.parent).free

    def _write(self, records: Sequence[Record]) -> None:
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?)",
                [(r.seq, r.topic, r.event, _checksum(r.seq, r.topic, r.event)) for r in records],
            )
        if self._survives_power_cut:
            self._lock.leave_note(_note(self.cluster_id, records[-1].seq))

    def _matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        # Not filtered in SQL: a record whose topic is damaged would be left out unnoticed.
        expected = after
        with reading(self._path), closing(self._rows(after, last)) as rows:
            for seq, topic, event, checksum in rows:
                expected += 1
                if seq != expected:
                    raise self._missing(expected)
                if not _verifies(checksum, seq, topic, event):
                    raise damage(self._path, f"record {seq} fails its checksum")
                if topic.startswith(prefix):
                    yield seq, event
        if expected != last:
            raise self._missing(expected + 1)

    def _rows(self, after: int, last: int) -> sqlite3.Cursor:
        return self._db.execute(
            "SELECT seq, topic, event, checksum FROM events"
            " WHERE seq > ? AND seq <= ? ORDER BY seq",
            (after, last),
        )

    def _missing(self, seq: int) -> JournalCorruptError:
        return damage(self._path, f"record {seq} is missing")

    def _drop(self, floor: int, max_rows: int | None) -> int:
        query = "SELECT coalesce(min(seq), ?) FROM events"
        (lowest,) = self._db.execute(query, (floor,)).fetchone()
        end = floor if max_rows is None else min(floor, lowest + max_rows)
        with transaction(self._db):
            store_floor(self._db, floor)
            self._db.execute("DELETE FROM events WHERE seq < ?", (end,))
        return int(floor - end)

    def _new_sink(self, seq: int) -> CheckpointSink:
        self._checkpoint_id += 1
        return _SQLiteSink(self._db, seq, self._checkpoint_id)

    def _close(self) -> None:
        """Move the WAL into the file, unless someone reads it or the disk has failed."""
        with suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA busy_timeout = 0")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        self._lock.leave_note(_note(self.cluster_id, self.head))
        self._lock.release()


@dataclass(frozen=True, slots=True, order=True)
class _Finished:
    """A row of ``checkpoints``: how many entries and blobs its rows hold."""

    id: int
    seq: int
    entries: int
    blobs: int

    @property
    def rows_start(self) -> int:
        return self.id << 32

    @property
    def rows_end(self) -> int:
        return self.id + 1 << 32


class _SQLiteSink(CheckpointSink):
    """The rows of one checkpoint."""

    def __init__(self, db: sqlite3.Connection, seq: int, checkpoint_id: int) -> None:
        self._db = db
        self._seq = seq
        self._id = checkpoint_id
        self._entries = 0

    def add(self, entries: Sequence[bytes]) -> None:
        with transaction(self._db):
            self._insert([(None, entry) for entry in entries], at=self._entries)
            self._prune(2 * len(entries))
        self._entries += len(entries)

    def finish(self, blobs: dict[bytes, bytes]) -> None:
        numbers = self._id, self._seq, self._entries, len(blobs)
        with transaction(self._db):
            self._insert(list(blobs.items()), at=self._entries)
            self._db.execute(
                "INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?)",
                (*numbers, _numbers_checksum(*numbers)),
            )
            self._db.execute(
                "DELETE FROM checkpoints WHERE id NOT IN"
                " (SELECT id FROM checkpoints ORDER BY id DESC LIMIT 2)"
            )

    def _insert(self, rows: Sequence[tuple[bytes | None, bytes]], *, at: int) -> None:
        self._db.executemany(
            "INSERT INTO checkpoint_rows VALUES (?, ?, ?, ?)",
            [
                (row_id, name, value, _checksum(row_id, name or b"", value))
                for row_id, (name, value) in enumerate(rows, (self._id << 32) + at)
            ],
        )

    def _prune(self, max_rows: int) -> None:
        """Delete some rows older than the oldest checkpoint that counts."""
        self._db.execute(
            "DELETE FROM checkpoint_rows WHERE id IN (SELECT id FROM checkpoint_rows"
            " WHERE id < (SELECT min(id) << 32 FROM checkpoints) ORDER BY id LIMIT ?)",
            (max_rows,),
        )


def _note(cluster_id: str, head: int) -> str:
    text = f"{cluster_id} {head:020d}"
    return f"{text} {zlib.crc32(text.encode()):010d}"


def _noted_head(note: str, cluster_id: str) -> int:
    """Return the head in a note of this cluster's; 0 if it is another's, or no whole note."""
    match note.split():
        case [noted_cluster, head, _] if noted_cluster == cluster_id and head.isdecimal():
            return int(head) if note == _note(cluster_id, int(head)) else 0
        case _:
            return 0


def _checksum(number: int, first: bytes, second: bytes) -> int:
    return zlib.crc32(second, zlib.crc32(first, zlib.crc32(number.to_bytes(8, "big"))))


def _verifies(checksum: int, number: int, first: bytes, second: bytes) -> bool:
    """Say whether a row is what was written; damage may even have changed the types."""
    try:
        return _checksum(number, first, second) == checksum
    except TypeError:
        return False


def _numbers_checksum(*numbers: int) -> int:
    return zlib.crc32(repr(numbers).encode())
