"""Arrays in memory: one as it is, or one that grows by what is appended."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from ezgraph.errors import CompactedError, NodeDtypeError, NodeIndexError
from ezgraph.nodes.grid import MAX_CHUNK_BYTES
from ezgraph.nodes.sources.base import SourceLayout

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray


class MemorySource:
    """An array of this program. It is not copied: readers get what is in it when they read.

    So who changes it while it is served may have a reader see half of a change. One that cannot be
    written to is taken to stay as it is, and readers may keep what they got.
    """

    def __init__(self, values: ArrayLike) -> None:
        self.array: NDArray[Any] = np.asanyarray(values)

    def __repr__(self) -> str:
        return f"<MemorySource {self.dtype} {self.array.shape}>"

    def layout(self) -> SourceLayout:
        """Return the array's shape; it has no chunks of its own."""
        return SourceLayout(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's."""
        return self.array.dtype

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Return a view of a part."""
        index: Any = (*part, ...)  # also of an array without axes a view, not an item
        return np.asarray(self.array[index])

    def stamp(self) -> Hashable | None:
        """Return None for what can be written to, or is mapped from a file that can."""
        owner: Any = self.array
        while isinstance(owner, np.ndarray):
            if owner.flags.writeable or isinstance(owner, np.memmap):
                return None
            owner = owner.base
        return "constant"


class GrowingSource:
    """Rows that are appended, in blocks; each block is a chunk of its own and never changes.

    The newest ``keep_bytes`` are kept: older blocks are dropped, and who asks for them is told.
    What one appends is copied.
    """

    def __init__(self, dtype: DTypeLike, row_shape: Sequence[int], keep_bytes: int) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.row_shape = tuple(row_shape)
        self.keep_bytes = keep_bytes
        self._lock = threading.Lock()
        self._ends = array("q", [0])
        self._blocks: dict[int, NDArray[Any]] = {}
        self._kept_bytes = 0
        self._longest = 1
        self._is_even = True
        self.first = 0

    def __repr__(self) -> str:
        return (
            f"<GrowingSource {self.dtype} rows={self._ends[-1]} blocks={self.first}…{self.count} "
            f"kept_bytes={self._kept_bytes}>"
        )

    @property
    def count(self) -> int:
        """How many blocks were appended."""
        return len(self._ends) - 1

    def layout(self) -> SourceLayout:
        """Return the shape of all that was appended, dropped rows included, and its blocks."""
        with self._lock:
            chunks = (self._longest, *(max(1, each) for each in self.row_shape))
            shape = (self._ends[-1], *self.row_shape)
            return SourceLayout(shape, chunks, None if self._is_even else self._ends.tolist())

    @property
    def longest_block(self) -> int:
        """How many rows a block may have."""
        row_bytes = int(np.prod(self.row_shape, dtype=object)) * self.dtype.itemsize
        return max(1, MAX_CHUNK_BYTES // max(1, row_bytes))

    def append(self, block: ArrayLike) -> int:
        """Append rows; return the number of the (last) block they made.

        Raises:
            NodeIndexError: they are none, or of another shape.
            NodeDtypeError: they cannot be given the dtype without loss.
        """
        given = np.asanyarray(block)
        if given.shape[1:] != self.row_shape or given.ndim != 1 + len(self.row_shape):
            raise NodeIndexError(
                f"a block of shape {given.shape} cannot be appended to rows of shape "
                f"{self.row_shape}: its shape must be (n, *{self.row_shape})"
            )
        if not len(given):
            raise NodeIndexError("a block without rows cannot be appended; leave it out")
        copied = self._converted(given)
        with self._lock:
            for start in range(0, len(copied), self.longest_block):
                self._take(copied[start : start + self.longest_block])
        return self.count - 1

    def _converted(self, given: NDArray[Any]) -> NDArray[Any]:
        """Return a copy in our dtype, without old memory in the gaps of structured items."""
        copied = np.zeros(given.shape, self.dtype)
        is_safe = np.can_cast(given.dtype, self.dtype, "safe")
        if is_safe or np.can_cast(given.dtype, self.dtype, "same_kind"):
            copied[...] = given
        if not is_safe and not np.array_equal(copied, given):
            raise NodeDtypeError(
                f"{given.dtype} cannot be appended to {self.dtype} without loss; convert it, or "
                f"grow a node of that dtype"
            )
        return copied

    def _take(self, block: NDArray[Any]) -> None:
        block.flags.writeable = False
        if self.count:
            last = self._ends[-1] - self._ends[-2]
            self._is_even &= last == self._longest and len(block) <= last
        self._longest = max(self._longest, len(block)) if self.count else len(block)
        self._blocks[self.count] = block
        self._ends.append(self._ends[-1] + len(block))
        self._kept_bytes += block.nbytes
        while self._kept_bytes > self.keep_bytes and len(self._blocks) > 1:
            self._kept_bytes -= self._blocks.pop(self.first).nbytes
            self.first += 1

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Return a view of a part of one block.

        Raises:
            CompactedError: that block was dropped.
        """
        rows = part[0]
        with self._lock:
            number = bisect_right(self._ends, rows.start) - 1
            if number < self.first:
                raise CompactedError(
                    f"rows before {self._ends[self.first]} were dropped to make room for newer "
                    f"ones (keep_bytes={self.keep_bytes}); read from there on",
                    floor=self.first,
                )
            block, begin = self._blocks[number], self._ends[number]
        here = slice(rows.start - begin, rows.stop - begin, rows.step)
        return block[(here, *part[1:])]

    def stamp(self) -> Hashable | None:
        """Return the same always: what was appended does not change."""
        return "appended"
