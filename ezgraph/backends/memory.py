"""A backend that forgets: for tests, simulations, and rigs that need no history.

What is stored belongs to the backend object, and is gone with it. So a journal closed and opened
again goes on where it was, a restart without a disk; and all connections of one backend object see
the same graphs and tags. Two objects are equal (there is one address) and yet apart.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from ezgraph.backends.base import (
    Backend,
    Checkpoint,
    CheckpointSink,
    EpochSpan,
    Journal,
    JournalMeta,
    JournalReader,
    masked,
)
from ezgraph.backends.local import LocalConnection
from ezgraph.backends.milestones import NEWEST
from ezgraph.backends.store import MemoryRows
from ezgraph.errors import ConfigError, JournalError, JournalLockedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from contextlib import AbstractContextManager

    from ezgraph.backends.base import Record
    from ezgraph.backends.store import Store

T = TypeVar("T")


@dataclass(slots=True)
class _Store:
    """What a connection keeps. ``records`` begin with seq ``floor``."""

    meta: JournalMeta
    epochs: tuple[EpochSpan, ...]
    floor: int = 1
    records: list[Record] = field(default_factory=list)
    size_bytes: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list)
    rows: MemoryRows = field(default_factory=MemoryRows)

    @classmethod
    def new(cls, meta: JournalMeta) -> _Store:
        return cls(meta, (EpochSpan(meta.epoch, 1),))

    @property
    def head(self) -> int:
        highest = self.records[-1].seq if self.records else 0
        return max(highest, self.epochs[-1].base, self.floor - 1)

    @property
    def checkpoint_seqs(self) -> tuple[int, ...]:
        return tuple(each.seq for each in self.checkpoints[-NEWEST:])

    def matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        first, end = (bisect_right(self.records, seq, key=_seq) for seq in (after, last))
        for record in self.records[first:end]:
            if record.topic.startswith(prefix):
                yield record.seq, record.event

    def between(self, after: int, last: int) -> Generator[tuple[int, bytes, bytes], None, None]:
        first, end = (bisect_right(self.records, seq, key=_seq) for seq in (after, last))
        for record in self.records[first:end]:
            yield record.seq, record.topic, record.event


_seq = attrgetter("seq")


@dataclass(slots=True)
class _Place:
    """Where a backend's connections meet: what is stored, and who has the journal open."""

    store: _Store | None = None
    holder: MemoryConnection | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass(frozen=True, repr=False)
class MemoryBackend(Backend["MemoryConnection"]):
    """``memory://``: a store of this object's own, gone with it."""

    _place: _Place = field(default_factory=_Place, init=False, compare=False)

    @classmethod
    def parse(cls, url: str) -> MemoryBackend:
        """Return a backend of its own; ``memory://`` is the only URL there is."""
        if url.lower() != "memory://":
            raise ConfigError(f"{masked(url)!r} says too much: write 'memory://', it has no name")
        return cls()

    @property
    def url(self) -> str:
        """``memory://``."""
        return "memory://"

    def connect(self) -> MemoryConnection:
        """Return a connection to this object's store."""
        return MemoryConnection(self._place)


class MemoryConnection(LocalConnection):
    """Access to a store in this process; by itself, to a new one."""

    def __init__(self, place: _Place | None = None) -> None:
        self._place = place or _Place()
        self._journal: MemoryJournal | None = None

    @property
    def _store(self) -> _Store | None:
        return self._place.store

    @_store.setter
    def _store(self, store: _Store | None) -> None:
        self._place.store = store

    def open_journal(self, *, identity: JournalMeta | None = None) -> MemoryJournal:
        """Open the journal; see `Connection.open_journal`."""
        with self._place.lock:
            self._check_unlocked()
            self._store = self._store or _Store.new(identity or JournalMeta.fresh())
            self._journal = MemoryJournal(self._store)
            self._place.holder = self
            return self._journal

    def _check_unlocked(self) -> None:
        holder = self._place.holder
        if holder is not None and holder.has_journal:
            raise JournalLockedError(
                "this memory:// journal is open already: a journal has one broker; close it first"
            )

    @property
    def has_journal(self) -> bool:
        """Whether this connection has the journal open."""
        return self._journal is not None and not self._journal.closed

    def open_reader(self) -> MemoryReader:
        """Return a reader of what the store holds now."""
        if self._store is None:
            raise JournalError("this memory:// connection has no journal yet: open that first")
        return MemoryReader(self._store)

    def _read(self, ask: Callable[[Store], T]) -> T:
        with self._place.lock:
            return ask(MemoryRows() if self._store is None else self._store.rows)

    def _write(self, change: Callable[[Store], T]) -> T:
        with self._place.lock:
            if self._journal is None or self._journal.closed:
                return self._write_alone(change)
            result = self._journal.change(change)
            self._journal.append(())
            return result

    def _write_alone(self, change: Callable[[Store], T]) -> T:
        self._check_unlocked()
        self._store = store = self._store or _Store.new(JournalMeta.fresh())
        with _tentatively(store.rows) as rows:
            result = change(rows)
        rows.commit()
        return result

    def close(self) -> None:
        """Close the journal, if open. What is stored stays until the backend is gone."""
        if self._journal is not None:
            self._journal.close()

    def __repr__(self) -> str:
        return f"<MemoryConnection journal={self._journal}>"


@contextmanager
def _tentatively(rows: MemoryRows) -> Iterator[MemoryRows]:
    before = rows.changes
    try:
        yield rows
    except BaseException:
        rows.rollback(before)
        raise


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

    def _records(self, after: int, last: int) -> Generator[tuple[int, bytes, bytes], None, None]:
        return self._copy.between(after, last)

    def _all_checkpoints(self) -> list[tuple[int, int]]:
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

    def _records(self, after: int, last: int) -> Generator[tuple[int, bytes, bytes], None, None]:
        return self._store.between(after, last)

    def _all_checkpoints(self) -> list[tuple[int, int]]:
        return [(number, each.seq) for number, each in enumerate(self._store.checkpoints)]

    def _read_checkpoint(self, number: int) -> Checkpoint:
        return self._store.checkpoints[number]

    def _write(self, records: Sequence[Record]) -> None:
        self._store.records.extend(records)
        for record in records:
            self._store.size_bytes += len(record.topic) + len(record.event)
        if self._changes_rows:
            self._store.rows.commit()

    def _rows(self) -> MemoryRows:
        return self._store.rows

    def _tentatively(self) -> AbstractContextManager[Store]:
        return _tentatively(self._store.rows)

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
        return _MemorySink(self, self._store, seq)

    def keep_newest(self) -> None:
        """Forget the checkpoints that are dispensable."""
        kept = self._store.checkpoints
        listed = [
            (number, each.seq, len(each.entries) + len(each.blobs))
            for number, each in enumerate(kept)
        ]
        for number in sorted(self._dispensable(listed), reverse=True):
            del kept[number]

    def _close(self) -> None:
        self._store.rows.rollback()


class _MemorySink(CheckpointSink):
    def __init__(self, journal: MemoryJournal, store: _Store, seq: int) -> None:
        self._journal = journal
        self._store = store
        self._seq = seq
        self._entries: list[bytes] = []

    def add(self, entries: Sequence[bytes]) -> None:
        self._entries.extend(entries)

    def finish(self, blobs: dict[bytes, bytes]) -> None:
        self._store.checkpoints.append(Checkpoint(self._seq, tuple(self._entries), dict(blobs)))
        self._journal.keep_newest()
