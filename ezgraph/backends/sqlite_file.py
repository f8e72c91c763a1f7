"""The file of a journal: where it may lie, how it is made, opened, and found to be damaged.

A journal is created under another name and moved into place complete. So an existing file that
is empty, foreign or cut off is never taken for a new one, and is left as it is.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ezgraph.backends.base import JournalMeta
from ezgraph.backends.lock import check_local
from ezgraph.errors import JournalCorruptError, JournalError, JournalVersionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = 1
APPLICATION_ID = 0x657A4772  # "ezGr"

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


def check_header(path: Path) -> None:
    """Raise `JournalError` when the existing file is no journal. It is only read."""
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


def create(path: Path, meta: JournalMeta) -> None:
    """Make an empty journal at ``path``, where nothing is yet. Hold the lock."""
    for part in ("-wal", "-journal"):
        if size_bytes(path.with_name(path.name + part)):
            raise damage(path, f"the file is gone, but a part of it, {part!r}, is still there")
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL, 0o600))  # it holds the cluster's secret
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            _fill(db, meta)
        new.rename(path)
        _sync_directory(path.parent)
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
        _store_meta(db, {"format": FORMAT, "floor": 1, **asdict(meta)})


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open an existing journal's database, configured and as long as it should be."""
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    with reading(path):
        db = sqlite3.connect(uri, isolation_level=None, uri=True)
    try:
        with reading(path):
            _configure(db, path, synchronous)
            _check_length(db, path)
    except BaseException:
        db.close()
        raise
    return db


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
    """Find a file that was cut off inside its last page; SQLite would read zeros there."""
    _, in_wal, moved = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    if in_wal == moved and size_bytes(path) < pages * page_bytes:
        raise damage(path, f"the file has {size_bytes(path)} bytes, not {pages * page_bytes}")


def read_meta(db: sqlite3.Connection, path: Path) -> tuple[JournalMeta, int]:
    """Return the identity and the floor.

    Raises:
        JournalVersionError: a newer ezgraph wrote it. (An older format would be brought up to
            date here; 1 is the first.)
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
    identity = {name: meta[name] for name in JournalMeta.__slots__}
    return JournalMeta(**identity), meta["floor"]


def store_floor(db: sqlite3.Connection, floor: int) -> None:
    """Write the floor, inside a transaction of the caller's."""
    meta = dict(db.execute("SELECT key, value FROM meta WHERE key != 'checksum'"))
    _store_meta(db, {**meta, "floor": floor})


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
        with suppress(sqlite3.Error):  # it has rolled back by itself after most failures
            db.execute("ROLLBACK")
        raise


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what SQLite says while reading into `JournalCorruptError` or `JournalError`."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a wrong thread or a closed connection: the caller's fault, not the file's
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter in a damaged schema
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            raise damage(path, f"SQLite says: {error}") from error
        raise JournalError(
            f"{str(path)!r} cannot be read ({error}); see that its disk works and has room, "
            f"and that no other program keeps it locked"
        ) from error


def damage(path: Path, what: str) -> JournalCorruptError:
    """Return the error for a journal that is not as it was written."""
    return JournalCorruptError(
        f"journal {str(path)!r} is damaged: {what}. Nothing was repaired or removed; "
        f"restore a backup"
    )


def keep_wal(path: Path) -> None:
    """Keep the WAL of a damaged journal for who may salvage it; SQLite would delete it."""
    if size_bytes(wal := path.with_name(f"{path.name}-wal")):
        wal.rename(f"{wal}.damaged")


def size_bytes(path: Path) -> int:
    """Return the size of a file, 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
