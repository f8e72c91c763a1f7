"""Which history may go. Pure.

Each bound of `ezgraph.config.Retention` names a floor: events below it are more than was to be
kept. The highest of them is what retention wants. It does not get it where somebody with a lease
may still have to read what lies below (a *pin*), up to a cap, nor beyond the older of the two
checkpoints: if the newest is found damaged, the broker must be able to start from the one before.

A checkpoint costs as much as the state is large. So one is made for compaction alone only when
that is worth it: a good part of the history, or a journal twice as large as it should be.

Numbers are dense within an epoch, and a restore leaves a gap; so events are counted over *spans*.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.config import Retention

MIN_EVENTS_BETWEEN_CHECKPOINTS = 1_000
WORTHWHILE_EVENTS = 100


@dataclass(frozen=True, slots=True)
class Spans:
    """The numbers of the events there are: each pair is the first and the last of a dense run."""

    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.spans)

    def count_below(self, seq: int) -> int:
        """Return how many events there are below ``seq``."""
        return sum(min(last, seq - 1) - first + 1 for first, last in self.spans if first < seq)

    def seq_at(self, index: int) -> int:
        """Return the seq of the event at ``index``; below 0 the first one, beyond the end one more.

        An empty history has the number 1 to begin with.
        """
        index = max(0, index)
        last = 0
        for first, last in self.spans:
            size = last - first + 1
            if index < size:
                return first + index
            index -= size
        return last + 1


@dataclass(frozen=True, slots=True)
class Holding:
    """What a broker holds when it considers to compact.

    ``wall_time_at`` returns the wall time of the event at a seq. ``needed_after``: somebody may
    still have to read what follows this seq. ``covered``: the seq of the older checkpoint.
    """

    spans: Spans
    used_bytes: int
    wall_time_at: Callable[[int], float]
    needed_after: int
    covered: int


def new_floor(keep: Retention, holding: Holding, *, wall: float) -> int:
    """Return the seq below which history may go; at most the present floor: nothing may."""
    return min(_allowed(keep, holding, wall=wall), holding.covered + 1)


def is_worth_a_checkpoint(keep: Retention, holding: Holding, *, wall: float) -> bool:
    """Return whether so much might go that a checkpoint should be made for it."""
    if not keep.is_bounded:
        return False
    count = len(holding.spans)
    going = holding.spans.count_below(_allowed(keep, holding, wall=wall))
    is_huge = keep.size_bytes is not None and holding.used_bytes > 2 * keep.size_bytes
    return going >= (1 if is_huge else max(WORTHWHILE_EVENTS, count // 10))


def _allowed(keep: Retention, holding: Holding, *, wall: float) -> int:
    """Return what the bounds and the pins allow."""
    wanted = _wanted(keep, holding, wall=wall)
    spans = holding.spans
    cap = spans.seq_at(spans.count_below(wanted) - keep.max_pinned_events)
    return min(wanted, max(holding.needed_after + 1, cap))


def _wanted(keep: Retention, holding: Holding, *, wall: float) -> int:
    spans, count = holding.spans, len(holding.spans)
    dropped = 0
    if keep.events is not None:
        dropped = max(dropped, count - keep.events)
    if keep.size_bytes is not None and holding.used_bytes > keep.size_bytes:
        dropped = max(dropped, count - int(count * keep.size_bytes / holding.used_bytes))
    if keep.age_s is not None:
        dropped = max(dropped, _older_than(wall - keep.age_s, holding))
    return spans.seq_at(dropped)


def _older_than(since: float, holding: Holding) -> int:
    """Return how many events, from the oldest on, happened before ``since``.

    The wall clock may have stepped; then one of the places where it passed ``since`` is found.
    """
    spans = holding.spans
    return bisect_left(
        range(len(spans)), since, key=lambda index: holding.wall_time_at(spans.seq_at(index))
    )


def events_between_checkpoints(keep: Retention, configured: int) -> int:
    """Return after how many events a checkpoint is due: sooner where little history is kept."""
    if keep.events is None:
        return configured
    return min(configured, max(MIN_EVENTS_BETWEEN_CHECKPOINTS, keep.events))
