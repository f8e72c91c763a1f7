"""Basic indices as NumPy has them: integers, slices, one ellipsis, new axes. Pure.

An index becomes one *range* for each axis of the array: ``start, start + step, …``, always going
up, with a note where the index goes down. So what has to be fetched is told apart from how it is
laid out in the end.
"""

from __future__ import annotations

import operator
import reprlib
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ezgraph.errors import NodeIndexError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import EllipsisType

    BasicIndex = int | slice | EllipsisType | None

EVERYTHING: Any = Ellipsis


@dataclass(frozen=True, slots=True)
class AxisRange:
    """``count`` positions along an axis, ``start`` being the lowest, ``step`` >= 1 apart."""

    start: int
    step: int
    count: int
    is_reversed: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What an index selects.

    Attributes:
        ranges: one for each axis of the array.
        final: what makes the result of an array that has all these axes: 0 for an axis that an
            integer takes away, a slice (perhaps downwards) for one that stays, None for a new one.
        is_item: an item itself is meant and not an array without axes.
    """

    ranges: tuple[AxisRange, ...]
    final: tuple[BasicIndex, ...]
    is_item: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """How much is selected along each axis of the array, before `final`."""
        return tuple(each.count for each in self.ranges)


def select(index: object, shape: Sequence[int]) -> Selection:
    """Return what ``array[index]`` selects of an array of this shape.

    Raises:
        NodeIndexError: it is no basic index, or out of range.
    """
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        _check_kind(part)
    full = _filled(parts, len(shape))
    ranges: list[AxisRange] = []
    final: list[BasicIndex] = []
    for part in full:
        if part is None:
            final.append(None)
            continue
        axis = len(ranges)
        if isinstance(part, slice):
            ranges.append(_range_of(part, shape[axis]))
            final.append(slice(None, None, -1 if ranges[-1].is_reversed else None))
        else:
            ranges.append(AxisRange(_position(part, axis, shape), 1, 1))
            final.append(0)
    takes_all_axes = all(type(each) is int for each in final)
    return Selection(tuple(ranges), tuple(final), takes_all_axes and Ellipsis not in parts)


def _check_kind(part: object) -> None:
    if part is None or part is Ellipsis or isinstance(part, slice):
        return
    if isinstance(part, bool) or not isinstance(part, Integral):
        raise NodeIndexError(
            f"{reprlib.repr(part)} ({type(part).__name__}) is no basic index: a node takes "
            f"integers, slices, ... and None; read what you need, and index the result so"
        )


def _filled(parts: Sequence[object], ndim: int) -> list[Any]:
    """Return the parts with the ellipsis, there or implied, written out."""
    taken = sum(1 for part in parts if part is not None and part is not Ellipsis)
    if taken > ndim:
        raise NodeIndexError(f"too many indices: the array has {ndim} axes, {taken} were indexed")
    places = [place for place, part in enumerate(parts) if part is Ellipsis]
    if len(places) > 1:
        raise NodeIndexError("an index can only have a single ellipsis ('...')")
    place = places[0] if places else len(parts)
    rest = [slice(None)] * (ndim - taken)
    return [*parts[:place], *rest, *parts[place + 1 :]]


def _range_of(part: slice, length: int) -> AxisRange:
    try:
        start, stop, step = part.indices(length)
    except (TypeError, ValueError) as error:
        raise NodeIndexError(f"{part!r} selects nothing: {error}") from error
    count = len(range(start, stop, step))
    if count == 0:
        return AxisRange(0, 1, 0)
    if count == 1:
        return AxisRange(start, 1, 1)
    if step < 0:
        return AxisRange(start + (count - 1) * step, -step, count, is_reversed=True)
    return AxisRange(start, step, count)


def _position(part: object, axis: int, shape: Sequence[int]) -> int:
    position = operator.index(part)  # type: ignore[arg-type]
    if not -shape[axis] <= position < shape[axis]:
        raise NodeIndexError(
            f"index {position} is out of range for axis {axis}, which has {shape[axis]} positions"
        )
    return position % shape[axis]
