"""Journals whose disk fails, tears and dawdles when told to.

`FlakyMemory` is ``memory://`` on such a disk: quick, for thousands of programs. `PowerCutSQLite`
is the real SQLite journal in a directory, whose machine loses its power: what had not been
confirmed is afterwards there, or not, or torn at any byte.
"""

from __future__ import annotations

import errno
import shutil
from copy import deepcopy
from random import Random
from typing import TYPE_CHECKING, Literal, Protocol

from ezgraph.backends.base import JournalMeta
from ezgraph.backends.memory import MemoryConnection, MemoryJournal
from ezgraph.backends.sqlite import SQLiteBackend
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ezgraph.backends.base import Journal, Record
    from ezgraph.backends.sqlite import SQLiteConnection, SQLiteJournal

FIXED_IDENTITY = JournalMeta(
    cluster_id="c1" * 16, epoch=1, secret=b"a secret of thirty-two bytes ...", created_wall=0.0
)
Failure = Literal["before", "after", "torn"]
"""The next append raises: before it has written anything, after it has written everything (the
power goes between the write and its confirmation), or half-way: the next one that can be torn."""


class Disk(Protocol):
    """What a `SimulatedBroker` keeps its journal on.

    ``fails``: how the next append fails, if it does. ``append_s``: how long the next one takes.
    """

    fails: Failure | None
    append_s: float

    def open_journal(self, *, identity: JournalMeta | None = None) -> Journal:
        """Open what is there now."""
        ...

    def crash(self) -> None:
        """The process that has the journal open is gone, at once."""
        ...


class FlakyMemory(MemoryConnection):
    """``memory://`` with a disk that fails when told to; its identity is always the same.

    A torn append leaves some of the batch's transactions, the first ones, whole; a batch of one
    cannot be torn.
    """

    def __init__(self, random: Random | None = None) -> None:
        super().__init__()
        self.fails: Failure | None = None
        self.append_s = 0.0
        self.torn = 0
        self._random = random or Random(0)
        self._flaky: _FlakyJournal | None = None

    def open_journal(self, *, identity: JournalMeta | None = None) -> MemoryJournal:
        """Open the journal; see `ezgraph.backends.base.Connection.open_journal`."""
        super().open_journal(identity=identity or FIXED_IDENTITY)
        if self._store is None:
            raise AssertionError("an open journal has a store")
        self.fails = None
        self._journal = self._flaky = _FlakyJournal(self._store, self)
        return self._flaky

    def crash(self) -> None:
        """The process is gone; the store is not."""
        if self._flaky is not None:
            self._flaky.close()
        if self._store is not None:
            self._store.rows.rollback()  # what no append had stored

    def backup(self) -> object:
        """Return a copy of all there is, for `restore`."""
        return deepcopy(self._store)

    def restore(self, backup: object, *, wall: float) -> None:
        """Put a backup back in place of what there is, and begin a new epoch, as a restore does.

        Its numbers go on from the microseconds of ``wall``, above every one that was ever given.
        """
        lost = self._store
        self._store = deepcopy(backup)  # type: ignore[assignment]  # the backend's own type
        with super().open_journal() as journal:
            epoch, base = journal.epoch, journal.head
            if lost is not None:
                epoch, base = max(epoch, lost.meta.epoch), max(base, lost.head)
            journal.begin_epoch(epoch + 1, max(base, int(wall * 1e6)))

    def survivors(self, records: Sequence[Record]) -> int:
        """Return how many of the records of a failing append will be found again."""
        if self.fails == "before":
            return 0
        if self.fails == "after":
            return len(records)
        self.torn += 1
        return self._random.choice(_transaction_ends(records)[:-1])


class _FlakyJournal(MemoryJournal):
    def __init__(self, store: object, disk: FlakyMemory) -> None:
        super().__init__(store)  # type: ignore[arg-type]  # the store's type is the backend's own
        self._disk = disk

    def _write(self, records: Sequence[Record]) -> None:
        fails = self._disk.fails
        if fails is None or (fails == "torn" and len(_transaction_ends(records)) < 2):
            super()._write(records)
            return
        survivors = self._disk.survivors(records)
        if survivors < len(records) and self._store.rows.changes:
            survivors = 0  # what is stored beside them comes with all of them
            self._store.rows.rollback()
        super()._write(records[:survivors])
        raise OSError(errno.EIO, "Input/output error")


def _transaction_ends(records: Sequence[Record]) -> list[int]:
    """Return how many records lie before the end of each transaction."""
    return [
        count
        for count, record in enumerate(records, 1)
        if codec.decode_event(record.event).txn_last == record.seq
    ]


class PowerCutSQLite:
    """The real SQLite journal; a crash leaves what a disk would keep, in a new directory.

    What `append` had confirmed is there. The last write that it had not confirmed is there, or
    absent, or its bytes in the write-ahead log end anywhere, with rubbish behind them perhaps.
    """

    def __init__(self, directory: Path, random: Random | None = None) -> None:
        self.fails: Failure | None = None
        self.append_s = 0.0
        self.torn = 0
        self._random = random or Random(0)
        self._directory = directory
        self._generation = 0
        self._journal: SQLiteJournal | None = None
        self._torn_to: int | None = None
        self._note = b""
        self._connection: SQLiteConnection | None = None

    @property
    def path(self) -> Path:
        """Where the file is now."""
        return self._directory / str(self._generation) / "journal.db"

    def open_journal(self, *, identity: JournalMeta | None = None) -> SQLiteJournal:
        """Open what the last crash has left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = SQLiteBackend(self.path, synchronous="NORMAL").connect()
        self.fails = self._torn_to = None
        self._journal = self._connection.open_journal(identity=identity or FIXED_IDENTITY)
        self._make_flaky(self._journal)
        return self._journal

    def _make_flaky(self, journal: SQLiteJournal) -> None:
        write: Callable[[Sequence[Record]], None] = journal._write  # noqa: SLF001

        def flaky(records: Sequence[Record]) -> None:
            if self.fails is None:
                write(records)
                return
            if self.fails != "before":
                confirmed, self._note = self._log_size(), self._lock_file().read_bytes()
                write(records)
                self._tear(confirmed)
            raise OSError(errno.EIO, "Input/output error")

        journal._write = flaky  # type: ignore[method-assign]  # noqa: SLF001

    def _tear(self, confirmed: int) -> None:
        size = self._log_size()
        if self.fails == "torn" and confirmed < size:
            self._torn_to = self._random.randint(confirmed, size)
            self.torn += 1

    def _log_size(self) -> int:
        log = self.path.with_name("journal.db-wal")
        return log.stat().st_size if log.exists() else 0

    def _lock_file(self) -> Path:
        return self.path.with_name("journal.db.lock")

    def crash(self) -> None:
        """Keep what is on the disk now, less what is torn; only then let go of the file."""
        if self._connection is None or self._journal is None or self._journal.closed:
            return
        old = self.path.parent
        self._generation += 1
        shutil.copytree(old, self.path.parent)
        if self._torn_to is not None:
            self._lock_file().write_bytes(self._note)  # it is written when the log is synced
            with self.path.with_name("journal.db-wal").open("r+b") as log:
                log.truncate(self._torn_to)
                log.seek(0, 2)
                log.write(self._random.randbytes(self._random.choice([0, 0, 100, 5000])))
        self._connection.close()
        shutil.rmtree(old)

    def __repr__(self) -> str:
        return f"<PowerCutSQLite {self.path} torn={self.torn}>"
