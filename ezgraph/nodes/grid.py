"""Where the chunks of an array lie, and which parts of which of them an index needs. Pure.

Chunks are numbered in C order, the last axis first; along each axis they are of one width, but for
the last. Along the first axis of an array that grows by pieces of any length they lie between
given bounds. Every chunk that a selection touches appears in its plan once, no other does.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ezgraph.errors import MalformedMessageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ezgraph.nodes.selection import AxisRange, Selection

Triple = tuple[int, int, int]
"""Start, stop (not included) and step (>= 1) along an axis of a chunk."""

CHUNK_BYTES = 8 << 20
"""About how large chunks are made where a source has none of its own."""

MAX_CHUNK_BYTES = 64 << 20
"""No chunk is larger, whatever a source has: it is sent in one piece, and held in memory."""


class Axis(Protocol):
    """How an axis is cut into chunks."""

    @property
    def count(self) -> int:
        """How many chunks there are along it."""
        ...

    def span(self, number: int) -> tuple[int, int]:
        """Return where chunk ``number`` begins, and where the next one would."""
        ...

    def find(self, position: int) -> int:
        """Return which chunk a position lies in."""
        ...


@dataclass(frozen=True, slots=True)
class EvenAxis:
    """Chunks of one width; the last may be narrower."""

    length: int
    width: int

    @property
    def count(self) -> int:
        """How many chunks there are along it."""
        return -(-self.length // self.width)

    def span(self, number: int) -> tuple[int, int]:
        """Return where a chunk begins and ends."""
        return number * self.width, min(self.length, (number + 1) * self.width)

    def find(self, position: int) -> int:
        """Return which chunk a position lies in."""
        return position // self.width


@dataclass(frozen=True, slots=True)
class BoundedAxis:
    """Chunks of any width > 0, between bounds that go up from 0."""

    bounds: Sequence[int]

    @property
    def count(self) -> int:
        """How many chunks there are along it."""
        return len(self.bounds) - 1

    def span(self, number: int) -> tuple[int, int]:
        """Return where a chunk begins and ends."""
        return self.bounds[number], self.bounds[number + 1]

    def find(self, position: int) -> int:
        """Return which chunk a position lies in."""
        return bisect_right(self.bounds, position) - 1


class Piece(NamedTuple):
    """What of one chunk goes where in the result."""

    chunk: int
    part: tuple[Triple, ...]
    target: tuple[slice, ...]
    shape: tuple[int, ...]
    is_whole: bool


@dataclass(frozen=True)
class Grid:
    """The chunks of an array; ``chunks`` is the shape of the largest."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    bounds: Sequence[int] | None = None

    @classmethod
    def checked(
        cls, shape: tuple[int, ...], chunks: tuple[int, ...], bounds: Sequence[int] | None
    ) -> Grid:
        """Return a grid that came from the wire.

        Raises:
            MalformedMessageError: the parts of it do not fit each other.
        """
        fits = len(shape) == len(chunks) and min(chunks, default=1) >= 1
        fits = fits and min(shape, default=0) >= 0
        if fits and bounds is not None:
            rises = all(low < high for low, high in pairwise(bounds))
            fits = bool(shape and bounds) and rises and (bounds[0], bounds[-1]) == (0, shape[0])
        if not fits:
            raise MalformedMessageError(f"chunks {chunks!r} do not fit the shape {shape!r}")
        return cls(shape, chunks, bounds)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """How each axis is cut."""
        even = [EvenAxis(*each) for each in zip(self.shape, self.chunks, strict=True)]
        return tuple(even) if self.bounds is None else (BoundedAxis(self.bounds), *even[1:])

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many chunks there are along each axis."""
        return tuple(axis.count for axis in self.axes)

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return math.prod(self.counts)

    def number(self, place: Sequence[int]) -> int:
        """Return the number of the chunk at a place of the grid."""
        number = 0
        for index, count in zip(place, self.counts, strict=True):
            number = number * count + index
        return number

    def place(self, number: int) -> tuple[int, ...]:
        """Return the place of a chunk in the grid."""
        place = []
        for count in reversed(self.counts):
            number, index = divmod(number, count)
            place.append(index)
        return tuple(reversed(place))

    def spans(self, number: int) -> tuple[tuple[int, int], ...]:
        """Return where a chunk begins and ends along each axis."""
        place = self.place(number)
        return tuple(axis.span(index) for axis, index in zip(self.axes, place, strict=True))

    def chunk_shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of a chunk."""
        return tuple(stop - start for start, stop in self.spans(number))

    def pieces(self, selection: Selection) -> Iterator[Piece]:
        """Return which parts of which chunks make up a selection, in the order of the chunks."""
        if 0 in selection.shape:  # else the cuts along its other axes, however many, would be made
            return
        along = [
            list(_along(axis, wanted))
            for axis, wanted in zip(self.axes, selection.ranges, strict=True)
        ]
        for cuts in product(*along):
            yield Piece(
                self.number([cut.chunk for cut in cuts]),
                tuple(cut.part for cut in cuts),
                tuple(slice(cut.begin, cut.begin + cut.length) for cut in cuts),
                tuple(cut.length for cut in cuts),
                all(cut.is_whole for cut in cuts),
            )


class _Cut(NamedTuple):
    """What of one chunk along one axis goes where."""

    chunk: int
    part: Triple
    begin: int
    length: int
    is_whole: bool


def _along(axis: Axis, wanted: AxisRange) -> Iterator[_Cut]:
    position, done = wanted.start, 0
    while done < wanted.count:
        chunk = axis.find(position)
        low, high = axis.span(chunk)
        count = min(wanted.count - done, (high - 1 - position) // wanted.step + 1)
        step = 1 if count == 1 else wanted.step
        start = position - low
        part = (start, start + (count - 1) * step + 1, step)
        yield _Cut(chunk, part, done, count, count == high - low)
        position += count * wanted.step
        done += count


def chunks_for(
    shape: Sequence[int], itemsize: int, native: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return the shape of chunks to serve an array in: its native ones, unless these are too large.

    Where there are none, chunks of about 8 MiB that lie in one piece in C order.
    """
    if native is not None:
        room, widths = MAX_CHUNK_BYTES, tuple(native)
    else:
        room, widths = CHUNK_BYTES, tuple(shape)
    left = max(1, room // max(1, itemsize))
    chunks: list[int] = []
    for width in reversed(widths):
        chunks.append(min(max(1, width), left))
        left = max(1, left // chunks[-1])
    return tuple(reversed(chunks))
