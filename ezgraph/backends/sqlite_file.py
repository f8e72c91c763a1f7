"""The file of a journal: where it may lie, how it is made, opened, and found to be damaged.

A journal is created under another name and moved into place complete. So an existing file that
is empty, foreign or cut off is never taken for a new one, and is left as it is.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import struct
import threading
import zlib
from collections import Counter
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from ezgraph.backends.lock import check_local
from ezgraph.backends.reader import EpochSpan, JournalMeta
from ezgraph.errors import JournalCorruptError, JournalError, JournalVersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

FORMAT = 2
"""2 binds checksums to the cluster and stores the epochs; 1 is read and written as it was."""
APPLICATION_ID = 0x657A4772  # "ezGr"

_CLUSTER_ID = re.compile(r"[0-9a-f]{32}")
_LOOKS = 5
_BUSY_S = 10.0
_ATTEMPTS = 100
_PAUSE_S = 0.01
_MOST_SECRET_BYTES = 64  # what BLAKE2b takes as a key
_NO_NUMBER = 1 << 62
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_APPLICATION_ID_AT = 68
_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, topic BLOB NOT NULL, event BLOB NOT NULL,"
    " checksum INTEGER NOT NULL)",
    "CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL,"
    " entries INTEGER NOT NULL, blobs INTEGER NOT NULL, checksum INTEGER NOT NULL)",
    "CREATE TABLE checkpoint_rows (id INTEGER PRIMARY KEY, name BLOB, value BLOB NOT NULL,"
    " checksum INTEGER NOT NULL)",
)
_PRAGMAS = (
    "secure_delete = OFF",  # some builds overwrite what is deleted: slow, and of no use here
    "cell_size_check = ON",
    "fullfsync = ON",  # macOS: a plain fsync does not reach the platter
    "cache_size = -4096",  # KiB
    "wal_autocheckpoint = 1000",  # pages of 4 KiB; moving them into the file stalls an append
    "journal_size_limit = 16777216",  # bytes: a WAL that a long reader made grow is cut to that
)
# SQLite's answers that mean a damaged file; 0 is a value that Python could not decode.
_DAMAGE = frozenset(
    {
        0,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_NOTADB,
    }
)
_open_here: Counter[tuple[int, int]] = Counter()
"""Device and inode of the journals this process has open; see `check_header`."""


def check_place(path: Path) -> None:
    """Raise `JournalError` when a journal cannot be at the resolved ``path``, and say why."""
    name, parent = repr(str(path)), path.parent
    if os.path.isdir(path):
        raise JournalError(f"{name} is a directory; name a file in it, such as 'journal.db'")
    if not os.path.isdir(parent):
        raise JournalError(f"{str(parent)!r} is no directory; create it, or correct the path")
    check_local(path)
    if not os.path.exists(path):
        return
    if not os.path.isfile(path):
        raise JournalError(f"{name} is no regular file; give the journal a path of its own")
    if not os.access(path, os.R_OK | os.W_OK):
        raise JournalError(f"{name} cannot be read and written by this user; see its permissions")


def check_readable(path: Path) -> None:
    """Raise `JournalError` when no journal can be read at the resolved ``path``, and say why."""
    name = repr(str(path))
    if os.path.isdir(path):
        raise JournalError(f"{name} is a directory; name the journal's file in it")
    if not os.path.exists(path):
        raise JournalError(f"there is no journal at {name}; see that the path is right")
    if not os.path.isfile(path):
        raise JournalError(f"{name} is no regular file, so no journal")
    if not os.access(path, os.R_OK):
        raise JournalError(f"{name} cannot be read by this user; see its permissions")


def check_header(path: Path) -> None:
    """Raise `JournalError` when the existing file is no journal. It is only read.

    Not read is one that is open in this process already: closing the file would drop the POSIX
    locks with which SQLite holds it there (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    if is_open_here(path):
        return
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise JournalError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if len(header) < _HEADER_BYTES and _MAGIC.startswith(header[: len(_MAGIC)]):
        raise damage(path, f"the file has {len(header)} bytes: it was cut off, or never written")
    (found,) = struct.unpack_from(">L", header.ljust(_HEADER_BYTES, b"\0"), _APPLICATION_ID_AT)
    if not header.startswith(_MAGIC) or found != APPLICATION_ID:
        what = "a SQLite file" if header.startswith(_MAGIC) else "a file"
        raise JournalError(
            f"{str(path)!r} is {what}, but no ezgraph journal (unless its first bytes are "
            f"damaged: then restore a backup). It was left as it is; choose another path"
        )


def is_open_here(path: Path) -> bool:
    """Say whether this process has the journal open, to write or to read it."""
    return _open_here[_inode(path)] > 0


def _inode(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_dev, found.st_ino


class JournalDatabase(sqlite3.Connection):
    """A connection to a journal's file that is counted as long as it is open."""

    _counted: tuple[int, int] | None = None

    def count(self, path: Path) -> None:
        """Note that this process has the file open."""
        self._counted = _inode(path)
        _open_here[self._counted] += 1

    def close(self) -> None:
        """Close it."""
        super().close()
        if self._counted is not None:
            _open_here[self._counted] -= 1
            self._counted = None


def create(path: Path, meta: JournalMeta) -> None:
    """Make an empty journal at ``path``, where nothing is yet. Hold the lock."""
    with _made(path, path.with_name(f"{path.name}.new"), meta) as new:
        new.rename(path)


def create_with_others(path: Path, meta: JournalMeta) -> None:
    """Make an empty journal at ``path`` unless somebody else does so first. Share the lock."""
    own = f"{path.name}.{os.getpid()}-{threading.get_ident()}.new"
    with _made(path, path.with_name(own), meta) as new:
        with suppress(FileExistsError):
            os.link(new, path)
        new.unlink()


@contextmanager
def _made(path: Path, new: Path, meta: JournalMeta) -> Iterator[Path]:
    """Yield an empty journal under a name of its own, to be moved to ``path``."""
    for part in ("-wal", "-journal"):
        if size_bytes(path.with_name(path.name + part)) and not path.exists():
            raise damage(path, f"the file is gone, but a part of it, {part!r}, is still there")
    try:
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL, 0o600))  # it holds the cluster's secret
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            _fill(db, meta)
        yield new
        sync_directory(path.parent)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise JournalError(
            f"cannot create {str(path)!r} ({error}); see that the disk has room and that "
            f"this user may write to {str(path.parent)!r}"
        ) from error


def _fill(db: sqlite3.Connection, meta: JournalMeta) -> None:
    db.execute("PRAGMA journal_mode = MEMORY")  # all or nothing is the rename's business
    with transaction(db):
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for statement in _SCHEMA:
            db.execute(statement)
        epochs = (EpochSpan(meta.epoch, 1),)
        rows = {"format": FORMAT, "floor": 1, "epochs": _spelled(epochs), **asdict(meta)}
        _store_meta(db, rows)


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def connect(path: Path, synchronous: str) -> JournalDatabase:
    """Open an existing journal's database, configured and as long as it should be."""
    db = _connected(path, "mode=rw")
    try:
        with reading(path):
            _configure(db, path, synchronous)
            _check_length(db, path)
    except BaseException:
        db.close()
        raise
    return db


def connect_to_read(path: Path) -> JournalDatabase:
    """Open an existing journal's database as it is now; nothing is written, not even beside it.

    Without a WAL nobody has the file open, and it is read without SQLite's own files beside it;
    ask `FileStamp` whether it stayed so. Else it is read in one transaction, and so together
    with a WAL that a dead broker left.
    """
    for _ in range(_LOOKS):
        alone = not os.path.exists(f"{path}-wal")
        try:
            return _opened_to_read(path, "mode=ro&immutable=1" if alone else "mode=ro")
        except JournalError:
            if alone == (not os.path.exists(f"{path}-wal")):
                raise
    raise JournalError(f"{str(path)!r} is opened and closed all the time; try again")


def connect_beside(path: Path) -> JournalDatabase:
    """Open an existing journal's database to read the store in it, beside others who change it.

    SQLite's own locks keep them apart, for which it needs its files beside the file. Where there
    can be none (this user may not write there), and where somebody who died has left a WAL, it is
    read as `connect_to_read` does.
    """
    folder_and_file = (path.parent, path)
    may_write = all(os.access(each, os.R_OK | os.W_OK) for each in folder_and_file)
    if may_write and not size_bytes(path.with_name(f"{path.name}-wal")):
        return _opened_to_read(path, "mode=rw")
    return connect_to_read(path)


def _opened_to_read(path: Path, options: str) -> JournalDatabase:
    db = _connected(path, options)
    try:
        with reading(path):
            db.execute("PRAGMA cell_size_check = ON")
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            _check_size(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _connected(path: Path, options: str) -> JournalDatabase:
    uri = f"file:{quote(os.fsencode(path))}?{options}"
    with reading(path):
        db = sqlite3.connect(
            uri, isolation_level=None, uri=True, factory=JournalDatabase, timeout=_BUSY_S
        )
    db.count(path)
    return db


@dataclass(frozen=True, slots=True)
class FileStamp:
    """When and how large a file was written last."""

    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        """Return the file's stamp."""
        found = path.stat()
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


def _configure(db: sqlite3.Connection, path: Path, synchronous: str) -> None:
    for pragma in (*_PRAGMAS, f"synchronous = {synchronous}"):
        db.execute(f"PRAGMA {pragma}")
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalError(
            f"{str(path)!r} lies on a file system without shared memory, which SQLite's WAL "
            f"needs; keep the journal on a local disk"
        )


def _check_length(db: sqlite3.Connection, path: Path) -> None:
    """Find a file that was cut off inside its last page; SQLite would read zeros there.

    The pages are counted first: others may be writing, and then there are only more of them.
    """
    expected = _expected_bytes(db)
    is_busy, in_wal, moved = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if not is_busy and in_wal == moved:
        _check_bytes(path, expected)


def _check_size(db: sqlite3.Connection, path: Path) -> None:
    """Find it while reading only, in a transaction that has begun, as far as no WAL hides it."""
    if not size_bytes(path.with_name(f"{path.name}-wal")):
        _check_bytes(path, _expected_bytes(db))


def _expected_bytes(db: sqlite3.Connection) -> int:
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    return int(pages * page_bytes)


def _check_bytes(path: Path, expected: int) -> None:
    if (found := size_bytes(path)) < expected:
        raise damage(path, f"the file has {found} bytes, not {expected}")


@dataclass(frozen=True, slots=True)
class Identity:
    """What the meta table says."""

    format: int
    meta: JournalMeta
    epochs: tuple[EpochSpan, ...]
    floor: int


def read_identity(db: sqlite3.Connection, path: Path) -> Identity:
    """Return which history the file holds.

    Raises:
        JournalVersionError: a newer ezgraph wrote it.
        JournalCorruptError: it does not say.
    """
    meta = dict(db.execute("SELECT key, value FROM meta"))
    checksum, found = meta.pop("checksum", None), meta.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise JournalVersionError(
            f"{str(path)!r} has journal format {found}, this ezgraph knows {FORMAT}; "
            f"use the ezgraph that wrote it, or a newer one"
        )
    if checksum != _meta_checksum(meta):
        raise damage(path, "the meta table, which names its history, fails its checksum")
    try:
        return _identity(meta)
    except (KeyError, TypeError, ValueError) as error:  # its checksum was set right, though
        raise damage(path, f"the meta table names no history: {error!r}") from error


def _identity(meta: dict[str, Any]) -> Identity:
    identity = JournalMeta(**{name: meta[name] for name in JournalMeta.__slots__})
    epochs = _spans(meta["epochs"]) if "epochs" in meta else (EpochSpan(identity.epoch, 1),)
    if not _CLUSTER_ID.fullmatch(identity.cluster_id):
        raise ValueError(f"cluster id {identity.cluster_id!r}")
    if type(identity.secret) is not bytes or not 0 < len(identity.secret) <= _MOST_SECRET_BYTES:
        raise ValueError("a secret that signs nothing")
    if type(identity.created_wall) not in (int, float):
        raise TypeError(f"created at {identity.created_wall!r}")
    if not are_numbers(meta["format"], meta["floor"]) or min(meta["format"], meta["floor"]) < 1:
        raise ValueError(f"format {meta['format']!r}, floor {meta['floor']!r}")
    if not _follow_each_other(epochs) or epochs[-1].epoch != identity.epoch:
        raise ValueError(f"epochs {meta.get('epochs')!r}, now {identity.epoch!r}")
    return Identity(meta["format"], identity, epochs, meta["floor"])


def are_numbers(*found: object) -> bool:
    """Say whether all of ``found`` are such as the bus gives: SQLite keeps anything anywhere."""
    return all(type(each) is int and 0 <= each < _NO_NUMBER for each in found)


def _follow_each_other(epochs: tuple[EpochSpan, ...]) -> bool:
    """Say whether all but the last have ended, each before the next began."""
    ends = [span.last_seq for span in epochs[:-1]]
    numbers = [each for span in epochs for each in (span.epoch, span.first_seq)]
    return (
        bool(epochs)
        and epochs[-1].last_seq is None
        and are_numbers(*numbers, *ends)
        and all(span.first_seq >= 1 for span in epochs)
        and all(a.epoch < b.epoch for a, b in pairwise(epochs))
        and all(a.base <= (a.last_seq or 0) <= b.base for a, b in pairwise(epochs))
    )


def _spelled(epochs: tuple[EpochSpan, ...]) -> str:
    return json.dumps([astuple(span) for span in epochs])


def _spans(spelled: str) -> tuple[EpochSpan, ...]:
    return tuple(EpochSpan(*each) for each in json.loads(spelled))


def store_floor(db: sqlite3.Connection, floor: int) -> None:
    """Write the floor, inside a transaction of the caller's."""
    _store_meta(db, {**_stored_meta(db), "floor": floor})


def store_epochs(db: sqlite3.Connection, meta: JournalMeta, epochs: tuple[EpochSpan, ...]) -> None:
    """Write the identity with its new epoch, inside a transaction of the caller's."""
    _store_meta(db, {**_stored_meta(db), **asdict(meta), "epochs": _spelled(epochs)})


def read_storage_format(db: sqlite3.Connection, path: Path) -> int | None:
    """Return the form of what `ezgraph.backends.sqlite_rows` keeps; None: there is nothing yet.

    Raises:
        JournalCorruptError: the meta table does not verify.
    """
    meta = dict(db.execute("SELECT key, value FROM meta"))
    checksum, found = meta.pop("checksum", None), meta.get("storage")
    if checksum != _meta_checksum(meta):
        raise damage(path, "the meta table, which names its history, fails its checksum")
    if found is not None and not are_numbers(found):
        raise damage(path, f"the meta table names {found!r} as the form of what is stored")
    return found


def store_storage_format(db: sqlite3.Connection, form: int) -> None:
    """Write the form of what is stored, inside a transaction of the caller's."""
    _store_meta(db, {**_stored_meta(db), "storage": form})


def _stored_meta(db: sqlite3.Connection) -> dict[str, Any]:
    return dict(db.execute("SELECT key, value FROM meta WHERE key != 'checksum'"))


def _store_meta(db: sqlite3.Connection, meta: dict[str, Any]) -> None:
    rows = {**meta, "checksum": _meta_checksum(meta)}
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows.items())


def _meta_checksum(meta: dict[str, Any]) -> int:
    return zlib.crc32(repr(sorted(map(repr, meta.items()))).encode())


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block does, or undo it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        _roll_back(db)
        raise


@contextmanager
def ending_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what was done since the transaction began, and what the block does, or undo it."""
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        _roll_back(db)
        raise


def _roll_back(db: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # it has rolled back by itself after most failures
        db.execute("ROLLBACK")


@contextmanager
def reading(path: Path, done: str = "read") -> Iterator[None]:
    """Turn what SQLite says while the file is read (or written) into our own errors.

    They are `JournalCorruptError` and `JournalError`.
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a wrong thread or a closed connection: the caller's fault, not the file's
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter in a damaged schema
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            raise damage(path, f"SQLite says: {error}") from error
        raise JournalError(
            f"{str(path)!r} cannot be {done} ({error}); see that its disk works and has room, "
            f"and that no other program keeps it locked"
        ) from error


def patiently(attempt: Callable[[], T]) -> T:
    """Return what ``attempt`` returns; while others have the file locked, try again for a while.

    SQLite itself waits for most locks, but not for those of a file just being opened or closed.
    """
    waiting = threading.Event()
    for number in range(_ATTEMPTS):
        try:
            return attempt()
        except JournalError as error:
            code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
            if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or number + 1 == _ATTEMPTS:
                raise
            waiting.wait(_PAUSE_S)
    raise AssertionError("the last attempt returns or raises")


def damage(path: Path, what: str) -> JournalCorruptError:
    """Return the error for a journal that is not as it was written."""
    return JournalCorruptError(
        f"journal {str(path)!r} is damaged: {what}. Nothing was repaired or removed; "
        f"restore a backup"
    )


def size_bytes(path: Path) -> int:
    """Return the size of a file, 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
