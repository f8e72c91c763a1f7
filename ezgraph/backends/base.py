"""Where the bus keeps its history: the contract of every backend.

A *backend* is an address (``sqlite:///rig.db``), a *connection* is what one gets from it, and the
*journal* is what the broker keeps there. A journal is a list of records, numbered densely::

      seq    1 ........ floor ........ checkpoint ........ head
             dropped    └───────── replayable ─────────────┘└─ append

* **Dense.** Records are ``floor, floor + 1, … head`` without a hole, within an epoch (see
  `ezgraph.backends.reader` for the gap that a restore leaves). An empty journal has
  ``head == floor - 1``. A batch that does not go on at ``head + 1`` is refused before anything
  is written; a hole found while reading is damage.
* **Durable in one stroke.** ``append`` returns when the whole batch is stored, or raises, and
  then the journal has *failed*: it takes no further write of any kind. Part of the batch may be
  found again after a restart, but nobody was told that it happened.
* **Verified.** Whatever is read was checked against its checksum. Damage is reported, never
  healed by leaving something out.
* **A checkpoint replaces history.** It is the state at one seq, as encoded entries and the blobs
  they refer to. It is written piece by piece between appends, counts once it is finished, and the
  newest two are kept, and some older ones (`ezgraph.backends.milestones`). Only what a finished
  checkpoint covers may be dropped from below.
* **One broker.** An open journal is locked until it is closed or its process is gone. Anybody
  may read it meanwhile (`Connection.open_reader`).

Bytes go in and the same bytes come out: the journal knows neither codec nor events.
What every backend must check is in the base classes; a backend adds how it stores.

Beside the journal, in the same place and under the same lock, stands a *store* of graphs,
snapshots, tags and partitions (`ezgraph.backends.connection`). Who has the journal open changes it
through that (`Journal.change`): what was changed is stored in the commit of the next append, with
the records that say so, or not at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

from ezgraph.backends.connection import Connection
from ezgraph.backends.milestones import NEWEST, Milestone, dispensable
from ezgraph.backends.reader import (
    Checkpoint,
    Chunk,
    EpochSpan,
    JournalMeta,
    JournalReader,
    Record,
)
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import ConfigError, JournalError, JournalFailedError
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.urls import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from ezgraph.backends.aio import AsyncConnection
    from ezgraph.backends.store import Store

T = TypeVar("T")

__all__ = [
    "Backend",
    "Checkpoint",
    "CheckpointSink",
    "CheckpointWriter",
    "Chunk",
    "Connection",
    "ConnectionT",
    "EpochSpan",
    "Journal",
    "JournalMeta",
    "JournalReader",
    "Record",
    "masked",
]

ENTRY_POINTS = "ezgraph.backends"
_BUILT_IN = {
    "memory": "ezgraph.backends.memory:MemoryBackend",
    "sqlite": "ezgraph.backends.sqlite:SQLiteBackend",
    "ezgraph": "ezgraph.client.backend:BrokerBackend",
}


class Journal(JournalReader):
    """The numbered, durable list of everything that happened. One broker, one thread.

    A backend implements the methods that begin with ``_``; they may trust their arguments.
    Those that write may raise anything: the journal has then failed.
    """

    def __init__(
        self,
        name: str,
        meta: JournalMeta,
        epochs: tuple[EpochSpan, ...],
        *,
        floor: int,
        head: int,
        checkpoint_seqs: tuple[int, ...],
    ) -> None:
        super().__init__(
            name, meta, epochs, floor=floor, head=head, checkpoint_seqs=checkpoint_seqs
        )
        self._writer: CheckpointWriter | None = None
        self._changes_rows = False
        self._gate = _WriteGate(name)

    def append(self, records: Sequence[Record]) -> None:
        """Store the batch durably, all of it in one commit, before returning.

        Raises:
            ValueError: the batch does not go on densely from ``head``; nothing was written.
            JournalFailedError: this or an earlier write failed; every later one raises at once.
        """
        last = self._head
        for record in records:
            last += 1
            if record.seq != last:
                raise ValueError(
                    f"record {record.seq} does not follow {last - 1} in {self.name}: seqs are dense"
                )
        with self._gate:
            if records or self._changes_rows:
                self._write(records)
                self._changes_rows = False
            self._head = last

    def ask(self, ask: Callable[[Store], T]) -> T:
        """Return what ``ask`` finds in the rows of the store beside the journal.

        That is, with what was changed since the last append.
        """
        self._check_open()
        return ask(self._rows())

    def change(self, change: Callable[[Store], T]) -> T:
        """Return what ``change`` returns; its changes to the store are part of the next append.

        If it raises, nothing of it is, and the journal goes on.

        Raises:
            JournalFailedError: as in `append`.
        """
        self._gate.check()
        with self._tentatively() as store:
            result = change(store)
        self._changes_rows = True
        return result

    @property
    def is_changed(self) -> bool:
        """Whether `change` has changed what the next append will store, with records or without."""
        return self._changes_rows

    def begin_checkpoint(self, seq: int) -> CheckpointWriter:
        """Return a writer for the state at ``seq``. It abandons an earlier unfinished one.

        Raises:
            ValueError: ``seq`` lies beyond the head, or behind the newest checkpoint or the floor.
        """
        self._check_open()
        oldest = max(self._floor - 1, self.checkpoint_seq or 0)
        known = any(span.base <= seq <= self._last(span) for span in self.epochs)
        if not (known and oldest <= seq <= self._head):
            raise ValueError(f"no checkpoint at {seq}: {self.name} takes {oldest} to {self._head}")
        if self._writer is not None:
            self._writer.over = True
        self._writer = CheckpointWriter(seq, self._new_sink(seq), self._gate, self._covered_by)
        return self._writer

    def _covered_by(self, checkpoint_seq: int) -> None:
        self._checkpoint_seqs = (*self._checkpoint_seqs, checkpoint_seq)[-NEWEST:]

    def _dispensable(self, finished: Sequence[tuple[int, int, int]]) -> set[int]:
        """Return which checkpoints go, of (number, seq, entries) of all, oldest first."""
        first = self._floor
        milestones = [
            Milestone(
                number,
                self.count_given(first, seq + 1) if self._goes_on_from(seq) else None,
                entries,
            )
            for number, seq, entries in finished
        ]
        return dispensable(milestones, self.count_given(first, self._head + 1))

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Store a whole checkpoint at once. It blocks; a broker uses ``begin_checkpoint``."""
        writer = self.begin_checkpoint(checkpoint.seq)
        writer.add(checkpoint.entries)
        writer.finish(checkpoint.blobs)

    def drop_below(self, floor: int, *, max_rows: int | None = None) -> int:
        """Raise the floor for good; return how many records below it are still to be deleted.

        The floor counts at once. Deleting takes time, so a broker gives ``max_rows`` and calls
        again with the same floor until the answer is 0. Leave the floor at the *older* of two
        checkpoints to be able to go back to it when the newest is damaged.

        Raises:
            ValueError: no finished checkpoint covers what would be dropped.
            JournalFailedError: as in `append`.
        """
        covered = self._floor - 1 if self.checkpoint_seq is None else self.checkpoint_seq
        if (floor := self.behind_gap(floor)) > max(self._floor, self.behind_gap(covered + 1)):
            raise ValueError(
                f"cannot drop below {floor} in {self.name}: the newest checkpoint is at "
                f"{self.checkpoint_seq}; write one at {floor - 1} or later first"
            )
        with self._gate:
            self._floor = max(floor, self._floor)
            return self._drop(self._floor, max_rows)

    def begin_epoch(self, epoch: int, base: int) -> None:
        """Go on at ``base + 1`` in a new epoch: the numbers in between are never given.

        For a journal put back from a backup: whatever its numbers above ``head`` meant in the
        life it lost, they are not used again. Write a checkpoint next, so that it opens quickly.

        Raises:
            ValueError: the epoch or the number would repeat.
            JournalFailedError: as in `append`.
        """
        if epoch <= self.epoch or base < self._head:
            raise ValueError(
                f"{self.name} is at seq {self._head} of epoch {self.epoch}: it cannot go on from "
                f"{base} in epoch {epoch}, which would use numbers twice"
            )
        ended = replace(self.epochs[-1], last_seq=self._head)
        epochs = (*self.epochs[:-1], ended, EpochSpan(epoch, base + 1))
        meta = replace(self.meta, epoch=epoch)
        with self._gate:
            self._store_epochs(meta, epochs)
            self.meta, self.epochs, self._head = meta, epochs, base

    def shrink(self) -> None:
        """Give the room of what was dropped back to the file system.

        It takes seconds per GB, and for that long as much room again; not for a running broker.

        Raises:
            JournalFailedError: as in `append`; nothing was lost.
        """
        with self._gate:
            self._shrink()

    @abstractmethod
    def free_bytes(self) -> int | None:
        """How much room is left there; None where that is not known."""

    def close(self) -> None:
        """Release the journal and its lock. Closing twice does nothing."""
        super().close()
        self._gate.closed = True

    @abstractmethod
    def _write(self, records: Sequence[Record]) -> None:
        """Store the records, and what `_tentatively` has changed, durably, all or none."""

    @abstractmethod
    def _rows(self) -> Store:
        """Return the store beside the journal, to read it."""

    @abstractmethod
    def _tentatively(self) -> AbstractContextManager[Store]:
        """Yield the store, to change it; undo what was changed if the block raises."""

    @abstractmethod
    def _drop(self, floor: int, max_rows: int | None) -> int:
        """Store the floor, delete up to ``max_rows`` of the oldest records, return what is left."""

    @abstractmethod
    def _new_sink(self, seq: int) -> CheckpointSink:
        """Begin to store a checkpoint."""

    @abstractmethod
    def _store_epochs(self, meta: JournalMeta, epochs: tuple[EpochSpan, ...]) -> None:
        """Store the identity with its new epoch, and all spans."""

    @abstractmethod
    def _shrink(self) -> None:
        """Give unused room back."""

    def __repr__(self) -> str:
        state = " failed" if self._gate.failure else ""
        state += " closed" if self._closed else ""
        return f"<{type(self).__name__} {self.name} head={self._head} floor={self._floor}{state}>"


class CheckpointSink(ABC):
    """How a backend stores one checkpoint."""

    @abstractmethod
    def add(self, entries: Sequence[bytes]) -> None:
        """Store the next entries."""

    @abstractmethod
    def finish(self, blobs: dict[bytes, bytes]) -> None:
        """Store the blobs, make the checkpoint count, and forget those that are dispensable."""


class CheckpointWriter:
    """A checkpoint under way. Without `finish` it never counts; appends may come in between."""

    def __init__(
        self, seq: int, sink: CheckpointSink, gate: _WriteGate, finished: Callable[[int], None]
    ) -> None:
        self.seq = seq
        self.over = False
        self._sink = sink
        self._gate = gate
        self._finished = finished

    def add(self, entries: Sequence[bytes]) -> None:
        """Store the next entries, durably and in order: one commit, so give a few hundred."""
        self._check_under_way()
        with self._gate:
            self._sink.add(entries)

    def finish(self, blobs: dict[bytes, bytes]) -> None:
        """Store the blobs and make this the newest checkpoint."""
        self._check_under_way()
        with self._gate:
            self._sink.finish(blobs)
        self.over = True
        self._finished(self.seq)

    def _check_under_way(self) -> None:
        if self.over:
            raise ValueError(f"the checkpoint at {self.seq} is finished, or gave way to another")

    def __repr__(self) -> str:
        return f"<CheckpointWriter seq={self.seq} over={self.over}>"


class _WriteGate:
    """Lets writes through until one of them fails, then refuses each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self.closed = False

    def __enter__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise if no more writes go through."""
        if self.closed:
            raise JournalError(f"{self.name} is closed: open it again")
        if self.failure is not None:
            raise JournalFailedError(
                f"{self.name} failed before ({self.failure}) and takes no more writes; "
                f"restart the broker on it once the cause is gone"
            ) from self.failure

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            return
        self.failure = error
        if isinstance(error, Exception):
            raise JournalFailedError(
                f"writing to {self.name} failed: {error}; nothing of this batch was acknowledged. "
                f"Free disk space or repair the disk, then restart the broker on it"
            ) from error


ConnectionT = TypeVar("ConnectionT", bound=Connection, covariant=True)


@dataclass(frozen=True, repr=False)
class Backend(ABC, Generic[ConnectionT]):
    """The address of a store, as a value; it opens nothing until `connect`."""

    def __init_subclass__(cls) -> None:
        """Keep the masked ``repr``, which ``@dataclass`` would replace by one of all fields."""
        super().__init_subclass__()
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Backend.__repr__  # type: ignore[method-assign]

    @staticmethod
    def from_url(url: str) -> Backend[Connection]:
        """Return the backend at ``url``; its scheme picks the class.

        Raises:
            ConfigError: nobody knows the scheme, or its backend does not take this URL.
        """
        scheme, colon, _ = url.partition(":")
        found = _find(scheme.lower()) if colon else None
        if found is None:
            raise ConfigError(
                f"no backend for {masked(url)!r}: known schemes are {', '.join(_schemes())}, "
                f"as in 'sqlite:///rig.db'; a package adds one by entry point {ENTRY_POINTS!r}"
            )
        return _load(scheme.lower(), found).parse(url)

    @classmethod
    @abstractmethod
    def parse(cls, url: str) -> Backend[ConnectionT]:
        """Return the backend for a URL of this class's scheme, or raise `ConfigError`."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, such that `from_url` gives an equal backend. Show only ``masked(url)``."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the address, whatever lets one in there."""
        return Fingerprint.of(masked(self.url), "ezgraph.backend")

    @abstractmethod
    def connect(self) -> ConnectionT:
        """Return a connection; use it in a ``with`` block."""

    def connect_async(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> AsyncConnection:
        """Return a connection whose methods are coroutines; use it in an ``async with`` block.

        ``timeout`` is each call's deadline, in seconds.
        """
        from ezgraph.backends.aio import AsyncConnection  # asyncio is slow to import

        return AsyncConnection(self, timeout=timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {masked(self.url)}>"


def _find(scheme: str) -> str | None:
    """Return ``module:class`` for a scheme: a built-in one, or an installed package's."""
    return _BUILT_IN.get(scheme) or _installed().get(scheme)


def _schemes() -> list[str]:
    return sorted({*_BUILT_IN, *_installed()})


def _installed() -> dict[str, str]:
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    return {each.name: each.value for each in entry_points(group=ENTRY_POINTS)}


def _load(scheme: str, home: str) -> type[Backend[Connection]]:
    module, _, name = home.partition(":")
    try:
        backend = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the backend for {scheme!r} cannot be loaded from {home!r} ({error}); "
            f"repair or remove the package that brings it"
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise ConfigError(f"{home!r}, for {scheme!r}, is no ezgraph Backend")
    return backend
