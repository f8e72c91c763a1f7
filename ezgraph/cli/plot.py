"""A number over time as a line of box characters, for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TAIL = 3
"""Columns after the last change, in which its value holds."""

Points = list[tuple[float, float | None]]
"""Moments in order, and what a setting was from each one on; None: it was not there."""


def is_moving(points: Points) -> bool:
    """Return whether there are two different numbers to draw."""
    return len({value for _, value in points if _is_drawn(value)}) > 1


def plot(points: Points, *, width: int, height: int) -> list[str]:
    """Return ``height`` lines of at most ``width``: values to the left, steps to the right.

    What is not finite is a gap.
    """
    drawn = [value for _, value in points if value is not None and math.isfinite(value)]
    low, high = min(drawn), max(drawn)
    labels = [f"{high:g}", *[""] * (height - 2), f"{low:g}"]
    margin = max(map(len, labels))
    columns = _columns(points, max(width - margin - 2, _TAIL + 2))
    levels = [_level(value, low, high, height) for value in columns]
    grid = _steps(levels, height)
    return [
        f"{label:>{margin}} ┤{''.join(line)}".rstrip()
        for label, line in zip(labels, grid, strict=True)
    ]


def _is_drawn(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _columns(points: Points, width: int) -> list[float | None]:
    """Return the value that holds in each column, the last to come in it."""
    start, end = points[0][0], points[-1][0]
    span, room = (end - start) or 1.0, width - _TAIL
    columns: list[float | None] = [None] * width
    for moment, value in points:
        first = min(room, max(0, round((moment - start) / span * room)))
        columns[first:] = [value] * (width - first)
    return columns


def _level(value: float | None, low: float, high: float, height: int) -> int | None:
    """Return a value's line from the bottom; halved first, as the range may be beyond floats."""
    if value is None or not math.isfinite(value):
        return None
    share = (value / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
    return round(share * (height - 1))


def _steps(levels: Sequence[int | None], height: int) -> list[list[str]]:
    grid = [[" "] * len(levels) for _ in range(height)]

    def put(level: int, column: int, mark: str) -> None:
        grid[height - 1 - level][column] = mark

    before: int | None = None
    for column, level in enumerate(levels):
        if level is not None and (before is None or before == level):
            put(level, column, "─")
        elif level is not None and before is not None:
            rises = level > before
            put(before, column, "╯" if rises else "╮")
            put(level, column, "╭" if rises else "╰")
            for between in range(min(level, before) + 1, max(level, before)):
                put(between, column, "│")
        before = level
    return grid
