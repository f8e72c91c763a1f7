"""A journal in memory whose disk can be made to fail."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal

from ezgraph.backends.base import JournalMeta
from ezgraph.backends.memory import MemoryConnection, MemoryJournal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.backends.base import Record

FIXED_IDENTITY = JournalMeta(
    cluster_id="c1" * 16, epoch=1, secret=b"a secret of thirty-two bytes ...", created_wall=0.0
)


class FlakyMemory(MemoryConnection):
    """``memory://`` with a disk that fails when told to; its identity is always the same.

    ``fails``: the next append raises, ``"before"`` it has written anything, or ``"after"`` it
    has written everything (as when the power goes between the write and its confirmation).
    """

    def __init__(self) -> None:
        super().__init__()
        self.fails: Literal["before", "after"] | None = None

    def open_journal(self, *, identity: JournalMeta | None = None) -> MemoryJournal:
        """Open the journal; see `ezgraph.backends.base.Connection.open_journal`."""
        super().open_journal(identity=identity or FIXED_IDENTITY)
        if self._store is None:
            raise AssertionError("an open journal has a store")
        self.fails = None
        self._journal = _FlakyJournal(self._store, self)
        return self._journal


class _FlakyJournal(MemoryJournal):
    def __init__(self, store: object, disk: FlakyMemory) -> None:
        super().__init__(store)  # type: ignore[arg-type]  # the store's type is the backend's own
        self._disk = disk

    def _write(self, records: Sequence[Record]) -> None:
        if self._disk.fails == "before":
            raise OSError(errno.ENOSPC, "No space left on device")
        super()._write(records)
        if self._disk.fails == "after":
            raise OSError(errno.EIO, "Input/output error")
