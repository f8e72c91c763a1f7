"""A backend that forgets: for tests, simulations, and rigs that need no history.

The store belongs to the connection, so a journal closed and opened again on the same
connection goes on where it was: a restart without a disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ezgraph.backends.base import (
    Backend,
    Checkpoint,
    CheckpointSink,
    Connection,
    Journal,
    JournalMeta,
    masked,
)
from ezgraph.errors import ConfigError, JournalLockedError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ezgraph.backends.base import Record


@dataclass(slots=True)
class _Store:
    """What a connection keeps. ``records[0]`` has seq ``floor``."""

    meta: JournalMeta
    floor: int = 1
    records: list[Record] = field(default_factory=list)
    size_bytes: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list)


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
        self._store = self._store or _Store(identity or JournalMeta.fresh())
        self._journal = MemoryJournal(self._store)
        return self._journal

    def close(self) -> None:
        """Close the journal, if open. The store stays until this object is gone."""
        if self._journal is not None:
            self._journal.close()

    def __repr__(self) -> str:
        return f"<MemoryConnection journal={self._journal}>"


class MemoryJournal(Journal):
    """A journal in a list. It survives nothing, and nothing makes it fail."""

    def __init__(self, store: _Store) -> None:
        super().__init__(
            "memory://",
            store.meta,
            floor=store.floor,
            head=store.floor - 1 + len(store.records),
            checkpoint_seq=store.checkpoints[-1].seq if store.checkpoints else None,
        )
        self._store = store

    def load_checkpoint(self) -> Checkpoint | None:
        """Return the newest finished checkpoint."""
        self._check_open()
        return self._store.checkpoints[-1] if self._store.checkpoints else None

    def size_bytes(self) -> int:
        """The bytes of all topics and events; checkpoints are not counted."""
        return self._store.size_bytes

    def free_bytes(self) -> None:
        """Not known for memory."""

    def _write(self, records: Sequence[Record]) -> None:
        self._store.records.extend(records)
        for record in records:
            self._store.size_bytes += len(record.topic) + len(record.event)

    def _matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        first = after + 1 - self._store.floor
        for record in self._store.records[first : first + last - after]:
            if record.topic.startswith(prefix):
                yield record.seq, record.event

    def _drop(self, floor: int, max_rows: int | None) -> int:  # noqa: ARG002 - it takes no time
        store = self._store
        dropped = store.records[: floor - store.floor]
        store.size_bytes -= sum(len(record.topic) + len(record.event) for record in dropped)
        del store.records[: len(dropped)]
        store.floor = floor
        return 0

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
