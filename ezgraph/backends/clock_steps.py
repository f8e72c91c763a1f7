"""Where the broker's wall clock went back, so that a time can be found among events.

Between two steps back, wall times only grow along the seqs. A checkpoint carries the steps before
it (as one of its blobs), and those behind it are found by reading what came after it.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import JournalCorruptError, MalformedMessageError
from ezgraph.wire import values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOB = b"clock steps"
MOST_STEPS = 10_000


class ClockStep(NamedTuple):
    """The event ``seq`` has the wall time ``after``, although the one before it had ``before``."""

    seq: int
    before: float
    after: float


class ClockSteps:
    """The steps behind ``start``, in order; of very many, the newest, and ``start`` moves on."""

    def __init__(
        self, start: int = 0, steps: Iterable[ClockStep] = (), *, last: float = -inf
    ) -> None:
        self.start = start
        self._steps = deque(steps, maxlen=MOST_STEPS)
        self._last = last

    def __repr__(self) -> str:
        return f"<ClockSteps start={self.start} steps={len(self._steps)} last={self._last}>"

    def __iter__(self) -> Iterator[ClockStep]:
        return iter(self._steps)

    def take(self, seq: int, wall_time: float) -> None:
        """Take note of the next event's wall time."""
        if wall_time < self._last:
            if len(self._steps) == MOST_STEPS:
                self.start = self._steps[0].seq
            self._steps.append(ClockStep(seq, self._last, wall_time))
        self._last = wall_time

    def blob(self) -> bytes:
        """Return what a checkpoint carries."""
        return values.pack([self.start, self._last, [list(step) for step in self._steps]])

    @classmethod
    def of_blob(cls, blob: bytes) -> ClockSteps:
        """Return what `blob` has packed.

        Raises:
            JournalCorruptError: it was not that.
        """
        try:
            start, last, packed = values.unpack(blob)
            steps = [ClockStep(int(seq), float(b), float(a)) for seq, b, a in packed]
            return cls(int(start), steps, last=float(last))
        except (MalformedMessageError, TypeError, ValueError) as error:
            raise JournalCorruptError(
                f"the clock's steps in a checkpoint cannot be read: {error}; report this"
            ) from error
