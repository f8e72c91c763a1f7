"""Which old checkpoints stay, so that the state at any seq is near one. Pure.

The newest two stay in any case: they are what a broker starts from. An older one is a *milestone*:
from it the state at a later seq is found without folding the history from its beginning. It costs
as much as the state was large. So milestones take up no more than half as many entries as there are
events, and where that is too little for all of them, they are spread evenly: the one goes whose
absence leaves the smallest gap. Nearer than a thousand events to the one before it none is of use,
nor is one that the floor has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NEWEST = 2
LEAST_GAP = 1_000
EVENTS_PER_ENTRY = 2


@dataclass(frozen=True, slots=True)
class Milestone:
    """A checkpoint: its number, how many events there are before it, and how large it is.

    ``events`` is None where the history does not go on from it any more.
    """

    number: int
    events: int | None
    entries: int


def dispensable(finished: Sequence[Milestone], events: int) -> set[int]:
    """Return the numbers of the checkpoints that go.

    ``finished`` are all there are, oldest first; ``events`` is how many events the journal holds.
    """
    older, newest = finished[:-NEWEST], finished[-NEWEST:]
    end = next((each.events for each in newest if each.events is not None), events)
    kept = _apart([each for each in older if each.events is not None], end)
    while sum(each.entries for each in kept) * EVENTS_PER_ENTRY > events:
        del kept[_least(kept, end)]
    return {each.number for each in older} - {each.number for each in kept}


def _apart(older: list[Milestone], end: int) -> list[Milestone]:
    kept: list[Milestone] = []
    before = 0
    for each in older:
        if (each.events or 0) - before >= LEAST_GAP and end - (each.events or 0) >= LEAST_GAP:
            kept.append(each)
            before = each.events or 0
    return kept


def _least(kept: list[Milestone], end: int) -> int:
    """Return the place of the one whose absence leaves the smallest gap; the oldest of equals."""
    places = [0, *(each.events or 0 for each in kept), end]
    return min(range(len(kept)), key=lambda place: places[place + 2] - places[place])
