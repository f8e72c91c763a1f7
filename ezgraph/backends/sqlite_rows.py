"""Rows of a store in a journal's file, such that none can be missing without being missed.

They stand in the table ``stored``, which is made when something is first stored; ``storage`` in the
meta table says that it is there, and in which form. A row is::

    key, value, checksum of both, link = checksum of the key and of the key that follows

beginning with a row of the empty key; the last row's link is to the empty key. All checksums are
CRC-32 and begin with the cluster's id, as those of the journal's records do. So each row is checked
by its checksum, and that there is *nothing* between two rows by the link of the first: a row that
was lost, or whose key was damaged so that nobody finds it, is noticed by whoever asks for it, at
the price of looking at its neighbours. The form was inspired by the NSEC records of DNSSEC
(RFC 4034), which prove in the same way that a name does not exist.

``revision/`` counts the transactions that have changed something. It also stands in a note beside
the file (`ezgraph.backends.lock`), because a file whose newest transactions are gone is whole.
"""

from __future__ import annotations

import zlib
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from ezgraph.backends.lock import StoredNote
from ezgraph.backends.sqlite_file import damage, read_storage_format, reading, store_storage_format
from ezgraph.backends.store import Store
from ezgraph.errors import JournalCorruptError, JournalVersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from ezgraph.backends.sqlite_tables import Tables
    from ezgraph.backends.store import Rows

STORAGE_FORMAT = 1
REVISION = b"revision/"
_FIRST = b""
_CREATE = (
    "CREATE TABLE stored (key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL,"
    " link INTEGER NOT NULL) WITHOUT ROWID"
)


class SQLiteRows(Store):
    """The rows in an open database; who opened it begins and ends the transaction."""

    def __init__(self, tables: Tables) -> None:
        self._db = tables.db
        self._path = tables.path
        self._cluster_id = tables.identity.meta.cluster_id
        self._seed = tables.seed
        self._is_there = False
        self.is_changed = False

    def __repr__(self) -> str:
        return f"<SQLiteRows {str(self._path)!r} changed={self.is_changed}>"

    # --- reading ---

    def get(self, key: bytes) -> bytes | None:
        """Return the value at ``key``, verified."""
        if not self._is_there and not self._look():
            return None
        with reading(self._path):
            found = self._db.execute(
                "SELECT value, checksum FROM stored WHERE key = ?", (key,)
            ).fetchone()
            if found is None:
                self._neighbours(key)
                return None
        return self._verified(key, *found)

    def scan(self, prefix: bytes, *, after: bytes = b"", limit: int | None = None) -> Rows:
        """Return the rows with ``prefix`` behind ``after``, verified, and none left out."""
        if not self._is_there and not self._look():
            return []
        found: Rows = []
        with reading(self._path), closing(self._from(prefix, after)) as rows:
            for key, value in rows:
                if not key.startswith(prefix) or (limit is not None and len(found) >= limit):
                    break
                found.append((key, value))
        return found

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """Return the last row with ``prefix``, verified, and that it is the last."""
        if not self._is_there and not self._look():
            return None
        with reading(self._path):
            end = prefix[:-1] + bytes([prefix[-1] + 1])  # a topic ends with a slash
            key, _ = self._neighbours(end)
            if not key.startswith(prefix):
                return None
            value = self.get(key)
        if value is None:
            raise self._damaged(key, "is missing")
        return key, value

    def all(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all rows, verified.

        Raises:
            JournalCorruptError: at the first that is damaged or missing.
        """
        if self._look():
            with reading(self._path), closing(self._from(b"", b"")) as rows:
                yield from rows

    def salvaged(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows that verify by themselves, from both ends as far as they can be read."""
        seen: set[bytes] = set()
        for order in ("ASC", "DESC"):
            with suppress(JournalCorruptError), reading(self._path):
                if not self._look():
                    return
                for key, value, checksum in self._db.execute(
                    f"SELECT key, value, checksum FROM stored WHERE key > x'' ORDER BY key {order}"
                ):
                    if self._checksum(key, value) == checksum and key not in seen:
                        seen.add(key)
                        yield key, value

    @property
    def revision(self) -> int:
        """How many transactions have changed something."""
        return int.from_bytes(self.get(REVISION) or b"", "big")

    def _look(self) -> bool:
        """Say whether there is anything; raise `JournalVersionError` if it is of a newer form."""
        with reading(self._path):
            found = read_storage_format(self._db, self._path)
        if found is not None and found > STORAGE_FORMAT:
            raise JournalVersionError(
                f"{str(self._path)!r} keeps graphs and tags in form {found}, this ezgraph knows "
                f"{STORAGE_FORMAT}; use the ezgraph that wrote them, or a newer one"
            )
        self._is_there = found is not None
        return self._is_there

    def _from(self, prefix: bytes, after: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield the rows from ``prefix`` on, or behind ``after``, each linked to by the one before.

        It begins with the row before them, which is not yielded.
        """
        is_behind = after >= prefix and after != b""
        start = after if is_behind else prefix
        key, link = self._at_or_before(start) if is_behind else self._before(start)
        rows = self._db.execute(
            "SELECT key, value, checksum, link FROM stored WHERE key > ? ORDER BY key", (key,)
        )
        with closing(rows):
            for following, value, checksum, next_link in rows:
                if self._link(key, following) != link:
                    raise self._missing(key)
                yield following, self._verified(following, value, checksum)
                key, link = following, next_link
        if self._link(key, _FIRST) != link:
            raise self._missing(key)

    def _neighbours(self, key: bytes) -> tuple[bytes, bytes]:
        """Return the keys before and after ``key``, where none is; raise if that is damage."""
        before, link = self._before(key)
        after = self._after(key)
        if self._link(before, after) != link:
            raise self._missing(before)
        return before, after

    def _before(self, key: bytes) -> tuple[bytes, int]:
        return self._one_before("key < ?" if key else "key <= ?", key)

    def _at_or_before(self, key: bytes) -> tuple[bytes, int]:
        return self._one_before("key <= ?", key)

    def _one_before(self, condition: str, key: bytes) -> tuple[bytes, int]:
        found = self._db.execute(
            f"SELECT key, link FROM stored WHERE {condition} ORDER BY key DESC LIMIT 1", (key,)
        ).fetchone()
        if found is None or type(found[0]) is not bytes:
            raise self._damaged(key, "has no row before it")
        return found[0], found[1]

    def _after(self, key: bytes) -> bytes:
        return self._one_after("key > ?", key)

    def _at_or_after(self, key: bytes) -> bytes:
        return self._one_after("key >= ?", key)

    def _one_after(self, condition: str, key: bytes) -> bytes:
        found = self._db.execute(
            f"SELECT key FROM stored WHERE {condition} ORDER BY key LIMIT 1", (key,)
        ).fetchone()
        return _FIRST if found is None else found[0]

    # --- changing ---

    def put(self, rows: Mapping[bytes, bytes]) -> None:
        """Have these values at these keys: the neighbours of new ones are verified, and linked."""
        self._change()
        with reading(self._path, "written"):
            there = self._insert(rows)
            self._db.executemany(
                "UPDATE stored SET value = ?, checksum = ? WHERE key = ?",
                [(rows[key], self._checksum(key, rows[key]), key) for key in there],
            )

    def add(self, rows: Mapping[bytes, bytes]) -> int:
        """Have these values where nothing is; as `put`. Return how many were new."""
        self._change()
        with reading(self._path, "written"):
            return len(rows) - len(self._insert(rows))

    def _insert(self, rows: Mapping[bytes, bytes]) -> list[bytes]:
        """Insert what is new; return the keys that were there."""
        there: list[bytes] = []
        made = _Inserts(self._link)
        for key in sorted(rows):
            if made.goes_on_with(key):
                continue
            after = self._at_or_after(key)
            if after == key:
                there.append(key)
                continue
            before, link = self._before(key)
            if self._link(before, after) != link:
                raise self._missing(before)
            made.begin(key, before, after)
        made.end()
        self._db.executemany("UPDATE stored SET link = ? WHERE key = ?", made.relinked)
        self._db.executemany(
            "INSERT INTO stored VALUES (?, ?, ?, ?)",
            [(key, rows[key], self._checksum(key, rows[key]), link) for key, link in made.linked],
        )
        return there

    def remove(self, keys: Iterable[bytes]) -> None:
        """Have nothing at these keys."""
        self._change()
        with reading(self._path, "written"):
            for key in keys:
                if self.get(key) is None:
                    continue
                (before, link), after = self._before(key), self._after(key)
                _, own_link = self._at_or_before(key)
                if self._link(before, key) != link:
                    raise self._missing(before)
                if self._link(key, after) != own_link:
                    raise self._missing(key)
                self._db.execute("DELETE FROM stored WHERE key = ?", (key,))
                self._db.execute(
                    "UPDATE stored SET link = ? WHERE key = ?", (self._link(before, after), before)
                )

    def _change(self) -> None:
        """Count a transaction that changes something, once."""
        if self.is_changed:
            return
        self.is_changed = True
        if not self._look():
            self._create()
        revision = self.revision + 1
        self.put({REVISION: revision.to_bytes(8, "big")})

    def _create(self) -> None:
        with reading(self._path, "written"):
            self._db.execute(_CREATE)
            self._db.execute(
                "INSERT INTO stored VALUES (x'', x'', ?, ?)",
                (self._checksum(b"", b""), self._link(_FIRST, _FIRST)),
            )
            store_storage_format(self._db, STORAGE_FORMAT)
        self._is_there = True

    def undone(self) -> None:
        """Be told that what was changed was undone, and perhaps the table with it."""
        self.is_changed = self._is_there = False

    def committed(self) -> None:
        """Be told that what was changed lasts."""
        self.is_changed = False

    @property
    def note(self) -> StoredNote:
        """What to note beside the file when the transaction has been committed."""
        return StoredNote(self._cluster_id, self.revision)

    def check_end(self, note: StoredNote | None) -> None:
        """Raise `JournalCorruptError` if the newest changes are gone that the note tells of."""
        if note is None or note.cluster_id != self._cluster_id:
            return
        if (found := self.revision) < note.revision:
            raise damage(
                self._path,
                f"what is stored beside the journal was changed {note.revision} times, and the "
                f"file has only {found} of these (an older backup is put back with 'ezgraph "
                f"journal restore'; to go on without what is missing all the same, remove "
                f"'{self._path}.lock')",
            )

    # --- checksums ---

    def _checksum(self, key: bytes, value: bytes) -> int:
        length = len(key).to_bytes(4, "big")
        try:
            return zlib.crc32(value, zlib.crc32(key, zlib.crc32(length, self._seed)))
        except TypeError:  # damage may even have changed the types
            return -1

    def _link(self, key: bytes, following: bytes) -> int:
        length = (len(key) | 1 << 31).to_bytes(4, "big")
        try:
            return zlib.crc32(following, zlib.crc32(key, zlib.crc32(length, self._seed)))
        except TypeError:
            return -1

    def _verified(self, key: bytes, value: bytes, checksum: int) -> bytes:
        if self._checksum(key, value) != checksum:
            raise self._damaged(key, "fails its checksum")
        return value

    def _missing(self, before: bytes) -> JournalCorruptError:
        return damage(self._path, f"a stored row after {before[:60]!r} is missing, or its key is")

    def _damaged(self, key: bytes, what: str) -> JournalCorruptError:
        return damage(self._path, f"the stored row {key[:60]!r} {what}")


class _Inserts:
    """New rows in order, in runs between two rows that were there before."""

    def __init__(self, link_of: Callable[[bytes, bytes], int]) -> None:
        self._link_of = link_of
        self._run: list[bytes] = []
        self._before = self._after = _FIRST
        self.linked: list[tuple[bytes, int]] = []
        self.relinked: list[tuple[int, bytes]] = []

    def goes_on_with(self, key: bytes) -> bool:
        """Take ``key``, if it belongs to the run: nothing stands between it and the last one."""
        is_within = bool(self._run) and (key < self._after or self._after == _FIRST)
        if is_within:
            self._run.append(key)
        return is_within

    def begin(self, key: bytes, before: bytes, after: bytes) -> None:
        """Begin a run between two rows."""
        self.end()
        self._run, self._before, self._after = [key], before, after

    def end(self) -> None:
        """Link the run's rows to each other, and the row before it to the first."""
        if self._run:
            following = [*self._run[1:], self._after]
            self.linked += zip(self._run, map(self._link_of, self._run, following), strict=True)
            self.relinked.append((self._link_of(self._before, self._run[0]), self._before))
        self._run = []
