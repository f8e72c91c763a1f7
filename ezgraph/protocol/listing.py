"""What a store lists: graphs, snapshots, tags and partitions, each with who wrote it and when.

``wall_time`` is when it was written, in seconds since 1970; ``author`` who wrote it, in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar, overload

from ezgraph.protocol.artifacts import Partition
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.json_form import JsonValue

T = TypeVar("T")
MOST_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of what there is, in order; it is itself a sequence.

    ``next_after`` is what to give as ``after`` for the page that follows; None: this is the last.
    """

    items: tuple[T, ...]
    next_after: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        return self.items[place]


@dataclass(frozen=True, slots=True)
class GraphInfo(JsonValue):
    """A stored graph, and how much is in it."""

    name: str
    fingerprint: Fingerprint
    wall_time: float
    author: str
    edges: int = 0
    components: int = 0
    settings: int = 0
    config: int = 0
    artifacts: int = 0
    producers: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotInfo(JsonValue):
    """A stored snapshot; ``time`` is when the graph was so, ``wall_time`` when that was written."""

    name: str
    fingerprint: Fingerprint
    epoch: int
    seq: int
    time: float
    reason: str
    wall_time: float
    author: str


@dataclass(frozen=True, slots=True)
class TagInfo(JsonValue):
    """A tag and the snapshot it points to; ``wall_time`` and ``author`` are of the tag."""

    name: str
    tag: str
    snapshot: SnapshotInfo
    wall_time: float
    author: str


@dataclass(frozen=True, slots=True)
class TagChange(JsonValue):
    """One step in the history of a tag: what it points to since then; None: it was removed."""

    name: str
    tag: str
    number: int
    snapshot: SnapshotInfo | None
    wall_time: float
    author: str


@dataclass(frozen=True, slots=True)
class PartitionInfo(JsonValue):
    """A stored partition."""

    partition: Partition
    wall_time: float
    author: str = field(default="")
