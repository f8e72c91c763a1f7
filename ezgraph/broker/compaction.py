"""Checkpoints and compaction, a little in each pass, so that the loop goes on meanwhile.

When enough events have come since the last checkpoint, or retention would have much go (which is
looked at once a minute, and at every thousandth event), another is begun: the live set as it is,
written in steps. When it is finished, retention says whether history may go; if so, an event is
appended that says it, then the journal's floor is raised (which counts at once), and the records
below are deleted in steps. After a crash in between a restart deletes the rest.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ezgraph.backends.clock_steps import BLOB
from ezgraph.broker.restart import answered_blobs
from ezgraph.broker.retention import (
    Holding,
    Spans,
    events_between_checkpoints,
    is_worth_a_checkpoint,
    new_floor,
)
from ezgraph.errors import JournalCorruptError
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.backends.base import CheckpointWriter, Journal
    from ezgraph.backends.clock_steps import ClockSteps
    from ezgraph.broker.core import BrokerCore
    from ezgraph.broker.live import LiveEntry, LiveSet
    from ezgraph.config import BrokerConfig
    from ezgraph.protocol.events import Slot

log = logging.getLogger(__name__)

_CHECKPOINT_STEP = 500
_DROP_STEP = 1_000
_LOOK_S = 60.0
_LOOK_EVENTS = 1_000


class Compaction:
    """What one broker does to keep its journal short and its next start quick.

    ``may_compact``: `floor_due` is to be asked before the next append. ``clock_steps`` is told of
    each transaction that was stored.
    """

    def __init__(
        self,
        journal: Journal,
        live: LiveSet,
        core: BrokerCore,
        config: BrokerConfig,
        *,
        checkpoint_seq: int,
        clock_steps: ClockSteps,
        now: float,
    ) -> None:
        self._journal = journal
        self.clock_steps = clock_steps
        self._live = live
        self._core = core
        self._retention = config.retention
        self._interval = events_between_checkpoints(config.retention, config.checkpoint_events)
        self._checkpoint_seq = checkpoint_seq
        self._checkpoint: _CheckpointUnderWay | None = None
        self.may_compact = config.retention.is_bounded
        self._look_at = (now, 0)
        self._floor = 0
        self._left_to_drop = 1 if journal.floor > 1 else 0  # it may have been interrupted

    def __repr__(self) -> str:
        state = "writes a checkpoint" if self._checkpoint else "drops" if self._left_to_drop else ""
        return f"<Compaction checkpoint={self._checkpoint_seq} {state or 'idle'}>"

    @property
    def is_under_way(self) -> bool:
        """Whether the next pass has something to do for it."""
        return self._checkpoint is not None or self._left_to_drop > 0

    def next_due(self, seq: int) -> float | None:
        """Return when to look again whether retention would have much go; None: not by itself."""
        if not self._retention.is_bounded or seq <= self._checkpoint_seq:
            return None
        return self._look_at[0]

    def floor_due(self, *, now: float, wall: float) -> int | None:
        """Return the new floor, once, when history may go; None: it stays as it is."""
        self.may_compact = False
        floor = self._new_floor(now, wall)
        return floor if floor > self._journal.floor else None

    def raise_floor_later(self, floor: int) -> None:
        """Raise the floor in the next step: the event that says so is stored."""
        self._floor = floor
        self._left_to_drop = 1

    def step(self, seq: int, *, now: float, wall: float) -> None:
        """Do a little of what is to be done; ``seq`` is the head."""
        if self._left_to_drop:
            floor = max(self._floor, self._journal.floor)
            self._left_to_drop = self._journal.drop_below(floor, max_rows=_DROP_STEP)
        if self._checkpoint is None:
            if seq - self._checkpoint_seq >= self._interval or self._is_worth_it(seq, now, wall):
                self._checkpoint = self._begin_checkpoint(seq)
        elif self._checkpoint.step():
            self._checkpoint_seq = self._checkpoint.seq
            self._checkpoint = None
            self.may_compact = self._retention.is_bounded

    def write_checkpoint(self, seq: int) -> None:
        """Write a checkpoint at the head, all of it now, so that the next start is quick."""
        if self._checkpoint_seq == seq:
            return
        self._checkpoint = None
        under_way = self._begin_checkpoint(seq)
        while not under_way.step():
            pass
        self._checkpoint_seq = seq

    def _is_worth_it(self, seq: int, now: float, wall: float) -> bool:
        at, beyond = self._look_at
        if not self._retention.is_bounded or seq <= self._checkpoint_seq:
            return False
        if now < at and seq < beyond:
            return False
        self._look_at = now + _LOOK_S, seq + _LOOK_EVENTS
        try:
            return is_worth_a_checkpoint(self._retention, self._holding(now), wall=wall)
        except JournalCorruptError as error:
            return self._refuse(error)

    def _begin_checkpoint(self, seq: int) -> _CheckpointUnderWay:
        blobs = answered_blobs(self._core.admission.answered())
        blobs[BLOB] = self.clock_steps.blob()
        writer = self._journal.begin_checkpoint(seq)
        return _CheckpointUnderWay(seq, self._live.freeze(), blobs, writer)

    def _holding(self, now: float) -> Holding:
        journal = self._journal
        covered = journal.checkpoint_seqs
        return Holding(
            spans=Spans(tuple(_spans(journal))),
            used_bytes=journal.used_bytes(),
            wall_time_at=self._wall_time_at,
            needed_after=self._core.needed_after(now),
            covered=covered[0] if len(covered) > 1 else journal.floor - 1,
        )

    def _new_floor(self, now: float, wall: float) -> int:
        try:
            return new_floor(self._retention, self._holding(now), wall=wall)
        except JournalCorruptError as error:
            self._refuse(error)
            return self._journal.floor

    def _refuse(self, error: JournalCorruptError) -> bool:
        """Damage is no reason to end, but what is damaged is not compacted."""
        log.error("nothing is compacted: %s", error)
        return False

    def _wall_time_at(self, seq: int) -> float:
        (packed,) = self._journal.read(seq - 1, max_rows=1).events
        return codec.decode_event(packed).wall_time


def _spans(journal: Journal) -> Iterator[tuple[int, int]]:
    """Yield the first and last seq of each dense run of events from the floor on."""
    for span in journal.epochs:
        first = max(span.first_seq, journal.floor)
        last = journal.head if span.last_seq is None else span.last_seq
        if first <= last:
            yield first, last


class _CheckpointUnderWay:
    """A checkpoint being written in steps."""

    def __init__(
        self,
        seq: int,
        entries: tuple[tuple[Slot, LiveEntry], ...],
        blobs: dict[bytes, bytes],
        writer: CheckpointWriter,
    ) -> None:
        self.seq = seq
        self._entries = entries
        self._writer = writer
        self._next = 0
        self._blobs = blobs

    def step(self) -> bool:
        """Write some entries; return whether the checkpoint is complete."""
        part = self._entries[self._next : self._next + _CHECKPOINT_STEP]
        self._next += len(part)
        for _, live in part:
            self._blobs.update(live.blobs)
        if part:
            self._writer.add([live.entry for _, live in part])
            return False
        self._writer.finish(self._blobs)
        return True
