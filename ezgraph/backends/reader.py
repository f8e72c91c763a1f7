"""A journal as it is read: its records, its checkpoints, and the numbers it has given.

A journal is a list of records. Within an *epoch* their numbers are dense; a restored journal
begins a new epoch above every number that was ever given, so there is a *gap* before it::

      epoch 1                                 epoch 2
      1 ..... floor ........ last             base + 1 ........ head
      dropped └─ replayable ─┘     the gap    └─ replayable ────┘└─ append

The numbers in the gap were never given. A reader who stands at ``last`` goes on at ``base``;
one who stands between them has seen something that is not in this history.
"""

from __future__ import annotations

import logging
import secrets
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Self

from ezgraph.backends.milestones import NEWEST
from ezgraph.errors import CompactedError, DivergedError, JournalCorruptError, JournalError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from types import TracebackType

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """One event as it is stored: ``topic`` is the wire form of its key, ``event`` its encoding."""

    seq: int
    topic: bytes
    event: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Every matching event after the ``after`` asked for, complete up to and with ``through``."""

    events: tuple[bytes, ...]
    through: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The encoded live entries at ``seq``, and the blobs they refer to by content hash."""

    seq: int
    entries: tuple[bytes, ...]
    blobs: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class CheckpointPart:
    """Some of a checkpoint: its blobs come first, then its entries.

    ``next_start`` is where to go on; None: this is the end of it.
    """

    seq: int
    entries: tuple[bytes, ...]
    blobs: dict[bytes, bytes]
    next_start: int | None = None


@dataclass(frozen=True, slots=True)
class JournalMeta:
    """Which history a journal holds. ``secret`` signs session tokens and is never shown.

    ``created_wall`` is in seconds since 1970, by the clock of the host that made it.
    """

    cluster_id: str
    epoch: int
    secret: bytes = field(repr=False)
    created_wall: float

    @classmethod
    def fresh(cls) -> JournalMeta:
        """Return the identity of a new history: a random cluster id and secret, epoch 1."""
        return cls(
            cluster_id=secrets.token_hex(16),
            epoch=1,
            secret=secrets.token_bytes(32),
            created_wall=datetime.now(UTC).timestamp(),
        )


@dataclass(frozen=True, slots=True)
class EpochSpan:
    """The numbers of one epoch, ``first_seq`` to ``last_seq``; None: it goes on.

    An epoch in which nothing happened has ``last_seq == first_seq - 1``.
    """

    epoch: int
    first_seq: int
    last_seq: int | None = None

    @property
    def base(self) -> int:
        """Where a reader stands who has seen nothing of this epoch yet."""
        return self.first_seq - 1


def part_of(
    seq: int, rows: Iterable[tuple[bytes | None, bytes]], next_start: int | None
) -> CheckpointPart:
    """Return the part of the checkpoint at ``seq`` with these rows: (name, blob), (None, entry)."""
    entries: list[bytes] = []
    blobs: dict[bytes, bytes] = {}
    for name, value in rows:
        if name is None:
            entries.append(value)
        else:
            blobs[name] = value
    return CheckpointPart(seq, tuple(entries), blobs, next_start)


def behind_gap(epochs: tuple[EpochSpan, ...], seq: int) -> int:
    """Return ``seq``, or the first number given after the gap that it lies in."""
    for before, span in pairwise(epochs):
        if before.last_seq is not None and before.last_seq < seq <= span.base:
            seq = span.first_seq  # which may lie in the next gap: an epoch can be empty
    return seq


class JournalReader(ABC):
    """A journal as it was when this reader was opened; nothing is ever written.

    A backend implements the methods that begin with ``_``; they may trust their arguments.
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
        self.name = name
        self.meta = meta
        self.epochs = epochs
        self._floor = floor
        self._head = head
        self._checkpoint_seqs = checkpoint_seqs
        self._closed = False

    @property
    def cluster_id(self) -> str:
        """32 hex digits, made when the journal was created."""
        return self.meta.cluster_id

    @property
    def epoch(self) -> int:
        """Which run of numbers ``head`` belongs to; a new journal has 1, each restore adds 1."""
        return self.meta.epoch

    @property
    def secret(self) -> bytes:
        """32 random bytes that sign session tokens; in no event and no message."""
        return self.meta.secret

    @property
    def head(self) -> int:
        """The last seq stored; 0 in a new journal, the epoch's base in one just restored."""
        return self._head

    @property
    def floor(self) -> int:
        """The oldest seq that can be read; 1 until something was dropped."""
        return self._floor

    @property
    def checkpoint_seq(self) -> int | None:
        """The seq of the newest finished checkpoint."""
        return self._checkpoint_seqs[-1] if self._checkpoint_seqs else None

    @property
    def checkpoint_seqs(self) -> tuple[int, ...]:
        """The seqs of the newest two checkpoints, oldest first."""
        return self._checkpoint_seqs

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def before(self, seq: int, records: int) -> int:
        """Return where to read from to get up to ``records`` records through ``seq``.

        Never below ``floor - 1``, and never inside a gap.
        """
        for span in reversed(self.epochs):
            given = min(seq, self._last(span)) - span.base
            if given < 0:
                continue
            if given >= records:
                return max(self._floor - 1, min(seq, self._last(span)) - records)
            records -= given
        return self._floor - 1

    def ahead(self, after: int, records: int) -> int:
        """Return how far up to ``records`` records behind ``after`` reach, within one epoch."""
        for span in self.epochs:
            start = max(after, span.base)
            if start < (last := self._last(span)):
                return min(last, start + records)
        return self._head

    def behind_gap(self, seq: int) -> int:
        """Return ``seq``, or the first number after the gap that it lies in."""
        return behind_gap(self.epochs, seq)

    def epoch_of(self, seq: int) -> int:
        """Return the epoch that a number belongs to; one given before all, to the first."""
        begun = [span.epoch for span in self.epochs if span.base <= seq]
        return begun[-1] if begun else self.epochs[0].epoch

    def given(self, first: int, index: int) -> int:
        """Return the number given ``index`` places behind ``first``, which was given."""
        for span in self.epochs:
            start = max(first, span.first_seq)
            count = max(0, self._last(span) + 1 - start)
            if index < count:
                return start + index
            index -= count
        raise IndexError(index)

    def epoch_end(self, epoch: int) -> int | None:
        """Return the last seq of an epoch: ``head`` of the current, None of one unknown here."""
        for span in self.epochs:
            if span.epoch == epoch:
                return self._last(span)
        return None

    def _last(self, span: EpochSpan) -> int:
        return self._head if span.last_seq is None else span.last_seq

    def read(
        self,
        after: int,
        *,
        through: int | None = None,
        prefix: bytes = b"",
        max_rows: int = 1000,
        max_bytes: int = 1 << 20,
    ) -> Chunk:
        """Return the events in (``after``, ``through``] whose topic begins with ``prefix``.

        One call examines at most ``max_rows`` records, matching or not, and returns at most
        ``max_bytes`` of events (but one at least, if one matches). Go on from the chunk's
        ``through``; it may lie ahead although ``events`` is empty, and is at least ``after``.
        A chunk ends at the end of an epoch; the next begins behind the gap. Asked for a
        ``through`` inside the gap, it ends behind it: there is nothing more up to there.

        Raises:
            DivergedError: ``after`` lies in a gap: this history has never given that number.
            CompactedError: history right after ``after`` was dropped; go on from a checkpoint.
            JournalCorruptError: a record fails its checksum, or is missing.
        """
        self._check_open()
        if after < 0 or max_rows < 1:
            raise ValueError(f"cannot read {max_rows} rows after seq {after}: 0 and 1 are least")
        self.check_given(after)
        if after + 1 < self._floor:
            raise CompactedError(
                f"{self.name} begins at seq {self._floor}: {after + 1} was compacted; "
                f"go on from a checkpoint or snapshot",
                floor=self._floor,
            )
        end = self._head if through is None else min(through, self._head)
        start, last = self._stretch(after, end)
        return self._chunk(start, max(start, min(last, start + max_rows)), prefix, max_bytes)

    def check_given(self, after: int) -> None:
        """Raise `DivergedError` if a number lies in a gap, and so was never given."""
        for before, span in pairwise(self.epochs):
            if self._last(before) < after < span.base:
                raise DivergedError(
                    f"seq {after} was never given in {self.name}: epoch {before.epoch} ended with "
                    f"{self._last(before)} and epoch {span.epoch} begins with {span.first_seq} (a "
                    f"backup was restored); take a snapshot and go on from that"
                )

    def _stretch(self, after: int, end: int) -> tuple[int, int]:
        """Return where to read from, behind the gap if ``after`` stands before it, and how far."""
        for span in self.epochs:
            if end > after:
                after = max(after, span.base)
            if after < self._last(span):
                return after, min(end, self._last(span))
        return after, end

    def _chunk(self, after: int, last: int, prefix: bytes, max_bytes: int) -> Chunk:
        events: list[bytes] = []
        size = 0
        with closing(self._matching(after, last, prefix)) as matching:
            for seq, event in matching:
                size += len(event)
                if events and size > max_bytes:
                    return Chunk(tuple(events), seq - 1)
                events.append(event)
        return Chunk(tuple(events), last)

    def records(
        self, after: int, through: int
    ) -> Generator[tuple[int, bytes, bytes], None, None]:
        """Yield (seq, topic, event) of the records in (``after``, ``through``], verified.

        Gaps are passed over.

        Raises:
            CompactedError: history right after ``after`` was dropped.
            JournalCorruptError: at the first that fails its checksum, or is missing.
        """
        self._check_open()
        if after + 1 < self._floor and after < through:
            raise CompactedError(
                f"{self.name} begins at seq {self._floor}: {after + 1} was compacted",
                floor=self._floor,
            )
        for span in self.epochs:
            start, last = max(after, span.base), min(through, self._last(span))
            if start < last:
                with closing(self._records(start, last)) as records:
                    yield from records

    def checkpoint_before(self, seq: int) -> Checkpoint | None:
        """Return the newest checkpoint at ``seq`` or earlier that verifies; None: there is none.

        A damaged one is logged and passed over. The history here goes on from what is returned.

        Raises:
            JournalCorruptError: all are damaged, and the history does not begin at seq 1.
        """
        self._check_open()
        damaged: JournalCorruptError | None = None
        for number, at in reversed(self._all_checkpoints()):
            if at > seq or not self._goes_on_from(at):
                continue
            try:
                return self._read_checkpoint(number)
            except JournalCorruptError as error:
                _log.warning("passing over a checkpoint: seq=%d %s", at, error)
                damaged = error
        if damaged is not None and self._floor > 1:
            raise damaged
        return None

    def checkpoint_part(self, seq: int, start: int = 0, *, most: int) -> CheckpointPart | None:
        """Return a part of the newest checkpoint at ``seq`` or earlier; None: there is none.

        It has up to ``most`` of the blobs and entries, from the place ``start`` on, each verified.
        To go on ask with the part's own ``seq``, and see that the answer is of the same: a
        checkpoint can go meanwhile. One whose first part is damaged is logged and passed over.

        Raises:
            JournalCorruptError: this part is damaged, or all are and history begins after seq 1.
        """
        self._check_open()
        damaged: JournalCorruptError | None = None
        for number, at in reversed(self._all_checkpoints()):
            if at > seq or not self._goes_on_from(at):
                continue
            try:
                return self._read_part(number, start, most)
            except JournalCorruptError as error:
                _log.warning("passing over a checkpoint: seq=%d %s", at, error)
                damaged = error
                if start > 0:
                    break
        if damaged is not None and (start > 0 or self._floor > 1):
            raise damaged
        return None

    def _read_part(self, number: int, start: int, most: int) -> CheckpointPart:
        """Return a part of a checkpoint; a backend that can reads no more than that."""
        whole = self._read_checkpoint(number)
        rows: list[tuple[bytes | None, bytes]] = [*whole.blobs.items()]
        rows += ((None, entry) for entry in whole.entries)
        end = start + most
        return part_of(whole.seq, rows[start:end], end if end < len(rows) else None)

    @property
    def milestone_seqs(self) -> tuple[int, ...]:
        """The seqs of the older checkpoints that were kept, oldest first."""
        return tuple(seq for _, seq in self._all_checkpoints()[:-NEWEST])

    def every_checkpoint(self) -> Iterator[Checkpoint]:
        """Yield milestones and checkpoints that the history here goes on from, oldest first.

        Raises:
            JournalCorruptError: one of them fails its checksum.
        """
        self._check_open()
        for number, seq in self._all_checkpoints():
            if self._goes_on_from(seq):
                yield self._read_checkpoint(number)

    def load_checkpoint(self) -> Checkpoint | None:
        """Return the newest finished and verified checkpoint; None: replay from seq 1.

        A damaged one is logged and passed over, as long as the records since an older one, or
        all since seq 1, are here.

        Raises:
            JournalCorruptError: no checkpoint that the remaining history goes on from verifies.
        """
        self._check_open()
        damaged: JournalCorruptError | None = None
        for number, seq in reversed(self._all_checkpoints()[-NEWEST:]):
            if not self._goes_on_from(seq):
                break
            try:
                return self._read_checkpoint(number)
            except JournalCorruptError as error:
                _log.warning("passing over a checkpoint: seq=%d %s", seq, error)
                damaged = error
        if damaged is not None and self._floor > 1:
            raise damaged
        return None

    def each_checkpoint(self) -> tuple[Checkpoint, ...]:
        """Return the newest two checkpoints that the history here goes on from, oldest first.

        Raises:
            JournalCorruptError: one of them fails its checksum.
        """
        self._check_open()
        newest = self._all_checkpoints()[-NEWEST:]
        numbers = [number for number, seq in newest if self._goes_on_from(seq)]
        return tuple(map(self._read_checkpoint, numbers))

    def verify_store(self) -> int:
        """Read all rows of the store beside the journal; return how many there are.

        Raises:
            JournalCorruptError: one is damaged or missing.
        """
        return 0  # what is in memory is not damaged; a backend on a disk has more to say

    def _goes_on_from(self, checkpoint_seq: int) -> bool:
        """Say whether the history here begins right after a checkpoint, or before."""
        return self._floor <= self.behind_gap(checkpoint_seq + 1)

    def close(self) -> None:
        """Release what is held. Closing twice does nothing."""
        if self._closed:
            return
        self._close()
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise JournalError(f"{self.name} is closed: open it again")

    def count_given(self, first: int, end: int) -> int:
        """Return how many numbers from ``first`` to before ``end`` were given."""
        return sum(
            max(0, min(end, self._last(span) + 1) - max(first, span.first_seq))
            for span in self.epochs
        )

    @abstractmethod
    def size_bytes(self) -> int:
        """How much the journal takes up where it is stored."""

    @abstractmethod
    def used_bytes(self) -> int:
        """How much of that is in use; the rest is kept for what will be appended."""

    @abstractmethod
    def _matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        """Yield (seq, event) of what matches, having verified every record in (after, last]."""

    @abstractmethod
    def _records(self, after: int, last: int) -> Generator[tuple[int, bytes, bytes], None, None]:
        """Yield (seq, topic, event) of the records in (after, last], verified; of one epoch."""

    @abstractmethod
    def _all_checkpoints(self) -> Sequence[tuple[int, int]]:
        """Return (number, seq) of milestones and checkpoints, oldest first."""

    @abstractmethod
    def _read_checkpoint(self, number: int) -> Checkpoint:
        """Return a checkpoint, verified, or raise `JournalCorruptError`."""

    @abstractmethod
    def _close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return (
            f"<{type(self).__name__} {self.name} epoch={self.epoch} head={self._head} "
            f"floor={self._floor}{state}>"
        )
