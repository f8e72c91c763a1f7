"""Reading and changing the store in a journal's file without being its broker."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from ezgraph.backends.lock import SharedLock, stored_note_beside
from ezgraph.backends.reader import JournalMeta
from ezgraph.backends.sqlite_file import (
    FileStamp,
    check_header,
    check_place,
    check_readable,
    connect,
    connect_beside,
    create_with_others,
    ending_transaction,
    patiently,
    reading,
)
from ezgraph.backends.sqlite_rows import SQLiteRows
from ezgraph.backends.sqlite_tables import Tables
from ezgraph.backends.store import MemoryRows
from ezgraph.errors import JournalCorruptError, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ezgraph.backends.sqlite_file import JournalDatabase
    from ezgraph.backends.store import Store

T = TypeVar("T")
_LOOKS = 20


def read_once(path: Path, ask: Callable[[Store], T]) -> T:
    """Return what ``ask`` finds in the file as it is now; where there is none, nothing is stored.

    Nothing is created. It is asked again if the file was written meanwhile and that could not be
    kept apart (a file that this user may only read, while another writes it).
    """
    if not path.exists():
        _check_folder(path)
        return ask(MemoryRows())
    check_readable(path)
    check_header(path)
    for _ in range(_LOOKS):
        before = FileStamp.of(path)
        try:
            found = _ask_once(path, ask)
        except JournalCorruptError:
            if before == FileStamp.of(path):
                raise
            continue
        if before == FileStamp.of(path) or _is_kept_apart(path):
            return found
    raise JournalError(f"{str(path)!r} was written each time it was read; try again")


def _ask_once(path: Path, ask: Callable[[Store], T]) -> T:
    note = stored_note_beside(path)  # before what is acknowledged next is in the file
    db = patiently(lambda: connect_beside(path))
    try:
        with reading(path):
            rows = SQLiteRows(Tables(db, path))
        rows.check_end(note)
        return ask(rows)
    finally:
        db.close()


def _is_kept_apart(path: Path) -> bool:
    return all(os.access(each, os.R_OK | os.W_OK) for each in (path.parent, path))


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise JournalError(f"{str(path.parent)!r} is no directory; create it, or correct the path")


def _look(path: Path, look_first: Callable[[Path], None]) -> None:
    """Look whether the file may be written; again if others wrote it meanwhile."""
    for _ in range(_LOOKS):
        before = FileStamp.of(path)
        try:
            return patiently(lambda: look_first(path))
        except JournalError:
            if before == FileStamp.of(path):
                raise
    raise JournalError(f"{str(path)!r} was written each time it was looked at; try again")


def write_once(
    path: Path, synchronous: str, change: Callable[[Store], T], look_first: Callable[[Path], None]
) -> T:
    """Return what ``change`` returns; what it has changed lasts, or nothing if it raises.

    Others may do so at the same time, but no broker runs. Nothing stays open: a connection that
    slept while a restored file took this one's place would, at its end, delete that file's WAL.
    ``look_first`` raises if an existing file must not be written because it is damaged.
    """
    check_place(path)
    if not path.exists():
        change(MemoryRows())  # a file that would be empty if this raises is not made
    with SharedLock(path) as lock:
        if not path.exists():
            create_with_others(path, JournalMeta.fresh())
        check_header(path)
        _look(path, look_first)
        db = patiently(lambda: connect(path, synchronous))
        try:
            return _change(path, db, change, lock)
        finally:
            db.close()


def _change(path: Path, db: JournalDatabase, change: Callable[[Store], T], lock: SharedLock) -> T:
    with reading(path, "written"):
        rows = SQLiteRows(Tables(db, path))
        db.execute("BEGIN IMMEDIATE")
    with ending_transaction(db):
        result = change(rows)
        note = rows.note if rows.is_changed else None
    if note is not None:
        with suppress(JournalError):  # the one from before is true as well
            lock.leave_stored_note(note)
    return result
