"""The state as it was: at a seq, or at a time, read from checkpoints and records.

No broker is needed, and one that runs is not disturbed. The state at a seq is that of the newest
checkpoint before it, and of those events behind the checkpoint that count (`ezgraph.state.past`).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.backends.clock_steps import BLOB, ClockStep, ClockSteps
from ezgraph.errors import (
    CompactedError,
    EzGraphError,
    InvalidValueError,
    JournalCorruptError,
    MalformedMessageError,
)
from ezgraph.state.past import Stretch, state_after
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ezgraph.backends.reader import Checkpoint, JournalReader
    from ezgraph.protocol.events import Event
    from ezgraph.state.graph import GraphState

_MISFITS = (EzGraphError, LookupError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class SeqAt:
    """Which seq a time stands for: the last event that was not later.

    ``steps``: where the wall clock went back across that time. It was that time more than once,
    and this is the last of them.
    """

    seq: int
    steps: tuple[ClockStep, ...] = ()

    @property
    def is_ambiguous(self) -> bool:
        """Whether it was that time more than once."""
        return bool(self.steps)


def state_at(reader: JournalReader, seq: int) -> GraphState:
    """Return the state as it was at ``seq``; 0 is before everything.

    Raises:
        InvalidValueError: the number has not been given yet.
        DivergedError: it lies in the gap that a restore has left, and was never given.
        CompactedError: the history before it was compacted, and no checkpoint is left there.
        JournalCorruptError: a record that it depends on is damaged.
    """
    check_known(reader, seq)
    checkpoint = reader.checkpoint_before(seq)
    if checkpoint is None:
        check_begins_at_first(reader, seq)
    start = max(reader.floor - 1, 0 if checkpoint is None else checkpoint.seq)
    stretch = Stretch()
    for record in reader.records(start, seq):
        stretch.add(*record)
    return _folded(reader, checkpoint, stretch, seq)


def check_known(reader: JournalReader, seq: int) -> None:
    """Raise InvalidValueError or DivergedError, as `state_at`, unless ``seq`` was given."""
    if seq < 0:
        raise InvalidValueError(f"{seq} is no seq: they begin with 1, and 0 is before everything")
    if seq > reader.head:
        raise InvalidValueError(
            f"seq {seq} was not given yet in {reader.name}: its head is {reader.head}"
        )
    reader.check_given(seq)


def check_begins_at_first(reader: JournalReader, seq: int) -> None:
    """Raise CompactedError unless the history, without a checkpoint, begins at its beginning."""
    if reader.floor > 1:
        raise CompactedError(
            f"the state at seq {seq} is not known any more: {reader.name} begins at "
            f"{reader.floor}, and its oldest checkpoint lies behind that seq. A backup may have it",
            floor=reader.floor,
        )


def _folded(
    reader: JournalReader, checkpoint: Checkpoint | None, stretch: Stretch, seq: int
) -> GraphState:
    try:
        epoch, live = reader.epoch_of(seq), _live(checkpoint)
        return state_after(live, stretch, codec.decode_event, epoch=epoch, seq=seq)
    except _MISFITS as error:
        raise JournalCorruptError(
            f"the history of {reader.name} up to seq {seq} does not add up to a state: {error!r}; "
            f"see 'ezgraph journal check'"
        ) from error


def _live(checkpoint: Checkpoint | None) -> Iterator[Event]:
    if checkpoint is not None:
        for entry in checkpoint.entries:
            yield codec.decode_live_event(entry, checkpoint.blobs)


def seq_at(reader: JournalReader, wall_time: float) -> SeqAt:
    """Return which seq a wall time (seconds since 1970, the broker's clock) stands for.

    Raises:
        CompactedError: it lies before the history that is left.
        JournalCorruptError: a record is damaged.
    """
    return seq_among(reader, clock_steps(reader), wall_time)


def seq_among(reader: JournalReader, steps: Sequence[ClockStep], wall_time: float) -> SeqAt:
    """Return what `seq_at` does, where it is known that the wall clock went back at ``steps``."""
    ends = [*(step.seq for step in steps), reader.head + 1]
    for number in range(len(ends) - 1, -1, -1):
        if number and steps[number - 1].after > wall_time:
            continue  # all of that stretch was later
        first = steps[number - 1].seq if number else reader.floor
        found = _last_not_later(reader, first, ends[number], wall_time)
        if found is not None:
            return SeqAt(found, tuple(s for s in steps if s.after <= wall_time < s.before))
    if reader.floor > 1:
        raise CompactedError(
            f"{reader.name} begins at seq {reader.floor}, which was later than {wall_time}; "
            f"what was before it was compacted. A backup may have it",
            floor=reader.floor,
        )
    return SeqAt(0)


def _last_not_later(reader: JournalReader, first: int, end: int, wall_time: float) -> int | None:
    """Return the last seq in [first, end) that was not later, where wall times only grow."""
    count = reader.count_given(first, end)
    index = bisect_right(
        range(count), wall_time, key=lambda index: _wall_time(reader, reader.given(first, index))
    )
    return None if index == 0 else reader.given(first, index - 1)


def _wall_time(reader: JournalReader, seq: int) -> float:
    (packed,) = reader.read(seq - 1, max_rows=1).events
    return _wall_time_of(reader, packed)


def _wall_time_of(reader: JournalReader, packed: bytes) -> float:
    try:
        return codec.wall_time_of(packed)
    except MalformedMessageError as error:
        raise JournalCorruptError(f"a record of {reader.name} is no event: {error}") from error


def clock_steps(reader: JournalReader) -> list[ClockStep]:
    """Return where the wall clock went back in what the reader can read, in order.

    Raises:
        JournalCorruptError: a record is damaged.
    """
    checkpoint = reader.load_checkpoint()
    blob = None if checkpoint is None else checkpoint.blobs.get(BLOB)
    if checkpoint is None or blob is None:  # there is none yet, or an older ezgraph wrote it
        return list(steps_between(reader, ClockSteps(), reader.floor - 1, reader.head))
    known = ClockSteps.of_blob(blob)
    before = steps_between(reader, ClockSteps(), reader.floor - 1, known.start)
    behind = steps_between(reader, known, checkpoint.seq, reader.head)
    return [*before, *(step for step in behind if step.seq > max(known.start, reader.floor))]


def steps_between(
    reader: JournalReader, steps: ClockSteps, after: int, through: int
) -> ClockSteps:
    """Have ``steps`` take note of the records in (``after``, ``through``]; return them."""
    for seq, _, packed in reader.records(max(after, reader.floor - 1), through):
        steps.take(seq, _wall_time_of(reader, packed))
    return steps
