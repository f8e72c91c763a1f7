"""A set of keys in order: what begins with a prefix is found without a look at the rest. Pure.

The keys stand in chunks of some hundreds, each in order and below the next; the last key of each
chunk tells which one a key belongs to. To add or drop a key moves pointers within one chunk, and a
chunk that has grown long is cut in two: so it costs among a hundred thousand keys what it costs
among a thousand. Tuples are compared name by name, hence keys with a common prefix stand together.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.names import Key

CHUNK = 512


class OrderedKeys:
    """Keys in order, each once. It may not change while somebody walks through it."""

    def __init__(self) -> None:
        self._chunks: list[list[Key]] = []
        self._lasts: list[Key] = []

    def __repr__(self) -> str:
        return f"<OrderedKeys chunks={len(self._chunks)}>"

    def add(self, key: Key) -> None:
        """Put a key that is not there in its place."""
        if not self._chunks:
            self._chunks.append([])
            self._lasts.append(key)
        at = min(bisect_left(self._lasts, key), len(self._lasts) - 1)
        insort(self._chunks[at], key)
        self._settle(at)

    def remove(self, key: Key) -> None:
        """Drop a key that is there."""
        at = bisect_left(self._lasts, key)
        chunk = self._chunks[at]
        del chunk[bisect_left(chunk, key)]
        self._settle(at)

    def _settle(self, at: int) -> None:
        """Cut a chunk that is long; put one that is short to the next, so that they stay few."""
        chunk = self._chunks[at]
        if len(chunk) > 2 * CHUNK:
            self._chunks[at : at + 1] = [chunk[:CHUNK], chunk[CHUNK:]]
            self._lasts[at : at + 1] = [chunk[CHUNK - 1], chunk[-1]]
        elif len(chunk) < CHUNK // 4 and at + 1 < len(self._chunks):
            self._chunks[at : at + 2] = [chunk + self._chunks[at + 1]]
            del self._lasts[at]
            self._settle(at)
        elif chunk:
            self._lasts[at] = chunk[-1]
        else:
            del self._chunks[at], self._lasts[at]

    def since(self, key: Key) -> Iterator[Key]:
        """Yield ``key``, if it is there, and the keys after it, in order."""
        at = bisect_left(self._lasts, key)
        if at < len(self._chunks):
            yield from islice(self._chunks[at], bisect_left(self._chunks[at], key), None)
            for chunk in islice(self._chunks, at + 1, None):
                yield from chunk

    def after(self, key: Key) -> Iterator[Key]:
        """Yield the keys after ``key``, in order, whether it is there or not."""
        at = bisect_right(self._lasts, key)
        if at < len(self._chunks):
            yield from islice(self._chunks[at], bisect_right(self._chunks[at], key), None)
            for chunk in islice(self._chunks, at + 1, None):
                yield from chunk
