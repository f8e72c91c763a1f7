"""A backend that forgets: for tests, simulations, and rigs that need no history.

The store belongs to the connection, so a journal closed and opened again on the same
connection goes on where it was: a restart without a disk.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from ezgraph.backends.base import (
    Backend,
    Checkpoint,
    CheckpointSink,
    Connection,
    EpochSpan,
    Journal,
    JournalMeta,
    JournalReader,
    masked,
)
from ezgraph.errors import ConfigError, JournalError, JournalLockedError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ezgraph.backends.base import Record


@dataclass(slots=True)
class _Store:
    """What a connection keeps. ``records`` begin with seq ``floor``."""

    meta: JournalMeta
    epochs: tuple[EpochSpan, ...]
    floor: int = 1
    records: list[Record] = field(default_factory=list)
    size_bytes: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list)

    @classmethod
    def new(cls, meta: JournalMeta) -> _Store:
        return cls(meta, (EpochSpan(meta.epoch, 1),))

    @property
    def head(self) -> int:
        highest = self.records[-1].seq if self.records else 0
        return max(highest, self.epochs[-1].base, self.floor - 1)

    @property
    def checkpoint_seqs(self) -> tuple[int, ...]:
        return tuple(each.seq for each in self.checkpoints)

    def matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        first, end = (bisect_right(self.records, seq, key=_seq) for seq in (after, last))
        for record in self.records[first:end]:
            if record.topic.startswith(prefix):
                yield record.seq, record.event


_seq = attrgetter("seq")


@dataclass(frozen=True, repr=False)
class MemoryBackend(Backend):
    """``memory://``: each connection is a fresh store, gone with it."""

    @classmethod
    def parse(cls, url: str) -> MemoryBackend:
        """Return the backend; ``memory://`` is the only URL there is."""
        if url.lower() != "memory://":
            raise ConfigError(f"{masked(url)!r} says too much: write 'memory://', it has no name")
        return cls()

    @property
    def url(self) -> str:
        """``memory://``."""
        return "memory://"

    def connect(self) -> MemoryConnection:
        """Return a connection to a new, empty store."""
        return MemoryConnection()


class MemoryConnection(Connection):
    """One store in this process."""

    def __init__(self) -> None:
        self._store: _Store | None = None
        self._journal: MemoryJournal | None = None

    def open_journal(self, *, identity: JournalMeta | None = None) -> MemoryJournal:
        """Open the journal of this connection; see `Connection.open_journal`."""
        if self._journal is not None and not self._journal.closed:
            raise JournalLockedError(
                "this memory:// journal is open already: a journal has one broker; close it first"
            )
        self._store = self._store or _Store.new(identity or JournalMeta.fresh())
        self._journal = MemoryJournal(self._store)
        return self._journal

    def open_reader(self) -> MemoryReader:
        """Return a reader of what this connection's store holds now."""
        if self._store is None:
            raise JournalError("this memory:// connection has no journal yet: open that first")
        return MemoryReader(self._store)

    def close(self) -> None:
        """Close the journal, if open. The store stays until this object is gone."""
        if self._journal is not None:
            self._journal.close()

    def __repr__(self) -> str:
        return f"<MemoryConnection journal={self._journal}>"


class MemoryReader(JournalReader):
    """A copy of what the store held."""

    def __init__(self, store: _Store) -> None:
        super().__init__(
            "memory://",
            store.meta,
            store.epochs,
            floor=store.floor,
            head=store.head,
            checkpoint_seqs=store.checkpoint_seqs,
        )
        self._copy = replace(
            store, records=list(store.records), checkpoints=list(store.checkpoints)
        )

    def size_bytes(self) -> int:
        """The bytes of all topics and events; checkpoints are not counted."""
        return self._copy.size_bytes

    def used_bytes(self) -> int:
        """The same: nothing is kept for later."""
        return self._copy.size_bytes

    def _matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        return self._copy.matching(after, last, prefix)

    def _checkpoints(self) -> list[tuple[int, int]]:
        return [(number, each.seq) for number, each in enumerate(self._copy.checkpoints)]

    def _read_checkpoint(self, number: int) -> Checkpoint:
        return self._copy.checkpoints[number]

    def _close(self) -> None:
        pass


class MemoryJournal(Journal):
    """A journal in a list. It survives nothing, and nothing makes it fail."""

    def __init__(self, store: _Store) -> None:
        super().__init__(
            "memory://",
            store.meta,
            store.epochs,
            floor=store.floor,
            head=store.head,
            checkpoint_seqs=store.checkpoint_seqs,
        )
        self._store = store

    def size_bytes(self) -> int:
        """The bytes of all topics and events; checkpoints are not counted."""
        return self._store.size_bytes

    def used_bytes(self) -> int:
        """The same: nothing is kept for later."""
        return self._store.size_bytes

    def free_bytes(self) -> None:
        """Not known for memory."""

    def _checkpoints(self) -> list[tuple[int, int]]:
        return [(number, each.seq) for number, each in enumerate(self._store.checkpoints)]

    def _read_checkpoint(self, number: int) -> Checkpoint:
        return self._store.checkpoints[number]

    def _write(self, records: Sequence[Record]) -> None:
        self._store.records.extend(records)
        for record in records:
            self._store.size_bytes += len(record.topic) + len(record.event)

    def _matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        return self._store.matching(after, last, prefix)

    def _drop(self, floor: int, max_rows: int | None) -> int:  # noqa: ARG002 - it takes no time
        store = self._store
        dropped = store.records[: bisect_left(store.records, floor, key=_seq)]
        store.size_bytes -= sum(len(record.topic) + len(record.event) for record in dropped)
        del store.records[: len(dropped)]
        store.floor = floor
        return 0

    def _store_epochs(self, meta: JournalMeta, epochs: tuple[EpochSpan, ...]) -> None:
        self._store.meta, self._store.epochs = meta, epochs

    def _shrink(self) -> None:
        pass

    def _new_sink(self, seq: int) -> CheckpointSink:
        return _MemorySink(self._store, seq)

    def _close(self) -> None:
        pass


class _MemorySink(CheckpointSink):
    def __init__(self, store: _Store, seq: int) -> None:
        self._store = store
        self._seq = seq
        self._entries: list[bytes] = []

    def add(self, entries: Sequence[bytes]) -> None:
        self._entries.extend(entries)

    def finish(self, blobs: dict[bytes, bytes]) -> None:
        checkpoints = self._store.checkpoints
        checkpoints.append(Checkpoint(self._seq, tuple(self._entries), dict(blobs)))
        del checkpoints[:-2]
