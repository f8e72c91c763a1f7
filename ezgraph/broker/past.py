"""Reads of the past, a bounded part at a time, from the journal; nothing is kept for them.

Whoever wants the state at a seq pulls the newest checkpoint before it, part by part, and then what
counts of the events behind that, and folds it (`ezgraph.client.past`). Of each stretch of events
only those are sent that the state behind it depends on.

Which seq a time stands for is looked up among the events, between the places where the wall clock
went back. The broker knows these of what it has written itself. What an older ezgraph wrote (or
steps of which there were too many to keep) is looked through once, when somebody first asks.
"""

from __future__ import annotations

from contextlib import closing
from math import isfinite
from typing import TYPE_CHECKING

from ezgraph.backends.clock_steps import ClockSteps
from ezgraph.backends.past import check_begins_at_first, check_known, seq_among, steps_between
from ezgraph.backends.reader import part_of
from ezgraph.broker.restart import is_for_clients
from ezgraph.errors import InvalidValueError
from ezgraph.protocol.replies import CheckpointChunk, SeqFound, StretchChunk
from ezgraph.state.past import Stretch

if TYPE_CHECKING:
    from ezgraph.backends.base import Journal
    from ezgraph.backends.reader import CheckpointPart
    from ezgraph.config import Limits
    from ezgraph.protocol.stored_commands import FindSeq, ReadCheckpoint, ReadStretch


class PastReads:
    """What is read of one journal's past."""

    def __init__(self, journal: Journal, steps: ClockSteps, limits: Limits) -> None:
        """``steps``: where the wall clock went back, as the broker goes on to note it."""
        self._journal = journal
        self._steps = steps
        self._limits = limits
        self._before = ClockSteps()
        self._looked_through = 0

    def __repr__(self) -> str:
        return f"<PastReads {self._journal.name} known_from={self._steps.start}>"

    def checkpoint(self, command: ReadCheckpoint) -> tuple[CheckpointChunk, int]:
        """Return a part of the newest checkpoint before a seq, and how many rows were read.

        Raises:
            InvalidValueError, DivergedError, CompactedError: as `ezgraph.backends.state_at`.
            JournalCorruptError: the part is damaged.
        """
        journal, seq = self._journal, command.seq
        check_known(journal, seq)
        if command.start < 0:
            raise InvalidValueError(f"a checkpoint has no place {command.start}; begin with 0")
        part = journal.checkpoint_part(seq, command.start, most=self._limits.chunk_events)
        epoch, begins = journal.epoch_of(seq), journal.floor - 1
        if part is None:
            check_begins_at_first(journal, seq)
            return CheckpointChunk(None, epoch, begins), 1
        part = _fitting(part, command.start, self._limits.chunk_bytes)
        entries, after = list(part.entries), max(begins, part.seq)
        blobs = {name: blob for name, blob in part.blobs.items() if is_for_clients(name)}
        chunk = CheckpointChunk(part.seq, epoch, after, entries, blobs, part.next_start)
        return chunk, max(1, len(part.entries) + len(part.blobs))

    def stretch(self, command: ReadStretch) -> tuple[StretchChunk, int]:
        """Return what counts of some events, and how many rows were read.

        Raises:
            InvalidValueError, DivergedError: a number was not given.
            CompactedError: history right behind ``after`` was dropped.
            JournalCorruptError: a record is damaged.
        """
        journal, after = self._journal, command.after
        for seq in (after, command.through):
            check_known(journal, seq)
        stretch, size = Stretch(), 0
        ahead = journal.ahead(after, self._limits.chunk_events)
        through = max(after, min(command.through, ahead))
        with closing(journal.records(after, through)) as records:
            for seq, topic, packed in records:
                stretch.add(seq, topic, packed)
                size += len(packed)
                if size > self._limits.chunk_bytes:
                    through = seq
                    break
        counting = stretch.records()
        return (
            StretchChunk(
                through,
                [seq for seq, _, _ in counting],
                [topic for _, topic, _ in counting],
                [packed for _, _, packed in counting],
            ),
            max(1, min(through - after, self._limits.chunk_events)),
        )

    def seq_at(self, command: FindSeq) -> tuple[SeqFound | None, int]:
        """Return which seq a time stands for, or None if that takes another look; and the rows.

        Raises:
            InvalidValueError: it is no time.
            CompactedError: it lies before the history that is left.
            JournalCorruptError: a record is damaged.
        """
        journal = self._journal
        if not isfinite(command.wall_time):
            raise InvalidValueError(f"{command.wall_time} is no time; give seconds since 1970")
        if not (examined := self._look_through()):
            first = max(self._steps.start, journal.floor)
            known = [step for step in self._steps if step.seq > first]
            before = [step for step in self._before if step.seq > journal.floor]
            found = seq_among(journal, [*before, *known], command.wall_time)
            steps = [(step.seq, step.before, step.after) for step in found.steps]
            return SeqFound(found.seq, steps), 1 + journal.head.bit_length()
        return None, examined

    def _look_through(self) -> int:
        """Look for steps in what nobody has noted them of; return how many rows that took now."""
        journal, end = self._journal, self._steps.start
        begin = max(self._looked_through, journal.floor - 1)
        if begin >= min(end, journal.head):
            return 0
        through = min(end, journal.ahead(begin, self._limits.chunk_events))
        steps_between(journal, self._before, begin, through)
        self._looked_through = through
        return max(1, through - begin)


def _fitting(part: CheckpointPart, start: int, most_bytes: int) -> CheckpointPart:
    """Return as much of a part as fits into a reply, and at least a row of it."""
    rows: list[tuple[bytes | None, bytes]] = [*part.blobs.items()]
    rows += ((None, entry) for entry in part.entries)
    size = 0
    for place, (_, value) in enumerate(rows):
        size += len(value)
        if place and size > most_bytes:
            return part_of(part.seq, rows[:place], start + place)
    return part
