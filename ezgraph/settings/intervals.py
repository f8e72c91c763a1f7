"""Settings as intervals in which nothing changed: what a recording has beside its samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ezgraph.settings.pipeline import INIT_FINAL_COMPONENT_ADDRESS, PipelineSettingsEvent
from ezgraph.settings.table import Change, SettingsTable

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Interval:
    """All settings from ``start_s`` to ``stop_s`` by column name, and the event that began it.

    Of the first interval, in which the INITIALs of the start stand together, that is the sentinel.
    """

    start_s: float
    stop_s: float
    seq: int
    component: str
    event_type: str
    values: dict[str, Any]


def settings_intervals(
    events: Iterable[PipelineSettingsEvent], *, closed_at: float
) -> list[Interval]:
    """Return the intervals that the events of a producer make, one after the other.

    The INITIALs up to the sentinel make the first, from the sentinel's time on; each later event
    ends the one before and begins the next. Events before a sentinel that never came are taken one
    by one. ``closed_at`` ends the last one; it is a time on the clock of the events. A time before
    the event before it (clocks are measured) counts as equal.
    """
    events = list(events)
    rows = list(SettingsTable(events).rows())
    sentinels = (each for each in events if each.component_address == INIT_FINAL_COMPONENT_ADDRESS)
    begun: list[Interval] = []
    if (sentinel := next(sentinels, None)) is not None:
        start = [row for row in rows if row.change.seq <= sentinel.seq]
        rows = rows[len(start) :]
        begun.append(_begun(sentinel.timestamp, sentinel, start[-1].values if start else {}))
    for row in rows:
        start_s = max([row.change.timestamp, *(each.start_s for each in begun[-1:])])
        begun.append(_begun(start_s, row.change, row.values))
    if not begun:
        return []
    stops = [*(each.start_s for each in begun[1:]), max(closed_at, begun[-1].start_s)]
    return [replace(each, stop_s=stop_s) for each, stop_s in zip(begun, stops, strict=True)]


def _begun(start_s: float, by: PipelineSettingsEvent | Change, values: dict[str, Any]) -> Interval:
    component = by.component if isinstance(by, Change) else by.component_address
    kind = by.event_type if isinstance(by, Change) else by.event_type.value
    return Interval(start_s, start_s, by.seq, component, kind, values)
