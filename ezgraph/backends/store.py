"""What graphs, snapshots, tags and partitions are kept in: rows by key, in order of keys.

A key is a topic (`ezgraph.names`): segments, each followed by ``/``. So what belongs together has a
common prefix, and a prefix matches whole segments. A row's value is bytes that only
`ezgraph.backends.stored_graphs`, ``stored_tags`` and ``stored_partitions`` understand; they say
which keys there are. A store lives for one transaction: what is changed in it counts when that ends
well, all of it or nothing.

A store that lasts verifies what it reads. A row that is damaged, and one that is missing, is
`JournalCorruptError`, never an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Rows = list[tuple[bytes, bytes]]
_AT_A_TIME = 100


class Store(ABC):
    """Rows by key. A subclass keeps them; keys are non-empty."""

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """Return the value at ``key``; None: there is no such row."""

    @abstractmethod
    def scan(self, prefix: bytes, *, after: bytes = b"", limit: int | None = None) -> Rows:
        """Return rows whose key begins with ``prefix``, in order of keys.

        Only those behind the key ``after``, and no more than ``limit``.
        """

    @abstractmethod
    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """Return the last row whose key begins with ``prefix``; None: there is none."""

    @abstractmethod
    def put(self, rows: Mapping[bytes, bytes]) -> None:
        """Have these values at these keys, in place of those that are there."""

    @abstractmethod
    def add(self, rows: Mapping[bytes, bytes]) -> int:
        """Have these values at those of the keys where nothing is; return how many these are.

        The others stay as they are.
        """

    @abstractmethod
    def remove(self, keys: Iterable[bytes]) -> None:
        """Have nothing at these keys."""

    def each(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows with ``prefix``, a few at a time; they may be large."""
        after = b""
        while rows := self.scan(prefix, after=after, limit=_AT_A_TIME):
            yield from rows
            after = rows[-1][0]


class MemoryRows(Store):
    """Rows in this process, and what they were before each change since the last `commit`."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._values: dict[bytes, bytes] = {}
        self._before: list[tuple[bytes, bytes | None]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<MemoryRows rows={len(self)} uncommitted={self.changes}>"

    @property
    def changes(self) -> int:
        """How many changes there were since the last `commit`."""
        return len(self._before)

    def get(self, key: bytes) -> bytes | None:
        """Return the value at ``key``."""
        return self._values.get(key)

    def scan(self, prefix: bytes, *, after: bytes = b"", limit: int | None = None) -> Rows:
        """Return the rows with ``prefix`` behind ``after``."""
        first = bisect_left(self._keys, prefix)
        if after >= prefix:
            first = bisect_right(self._keys, after)
        end = len(self._keys) if limit is None else first + limit
        keys = self._keys[first : min(end, self._end(prefix))]
        return [(key, self._values[key]) for key in keys]

    def _end(self, prefix: bytes) -> int:
        return bisect_right(self._keys, prefix, key=lambda key: key[: len(prefix)])

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """Return the last row with ``prefix``."""
        place = self._end(prefix) - 1
        if place < 0 or not self._keys[place].startswith(prefix):
            return None
        key = self._keys[place]
        return key, self._values[key]

    def put(self, rows: Mapping[bytes, bytes]) -> None:
        """Have these values at these keys."""
        for key, value in rows.items():
            self._change(key, value)

    def add(self, rows: Mapping[bytes, bytes]) -> int:
        """Have these values where nothing is; return how many were new."""
        new = {key: value for key, value in rows.items() if key not in self._values}
        self.put(new)
        return len(new)

    def remove(self, keys: Iterable[bytes]) -> None:
        """Have nothing at these keys."""
        for key in keys:
            self._change(key, None)

    def _change(self, key: bytes, value: bytes | None) -> None:
        self._before.append((key, self._values.get(key)))
        self._set(key, value)

    def _set(self, key: bytes, value: bytes | None) -> None:
        is_there = key in self._values
        if value is None:
            if is_there:
                del self._values[key]
                del self._keys[bisect_left(self._keys, key)]
            return
        self._values[key] = value
        if not is_there:
            insort(self._keys, key)

    def commit(self) -> None:
        """What was changed counts."""
        self._before.clear()

    def rollback(self, changes: int = 0) -> None:
        """Be as it was after so many `changes`."""
        while len(self._before) > changes:
            self._set(*self._before.pop())
