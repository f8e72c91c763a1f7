"""The live set: the encoded events a snapshot is made of, and the snapshots under way.

A snapshot is a tuple of references to encodings that are replaced and never changed, so it costs
a copy of pointers; all who ask at one seq share it. Chunks are cut when they are pulled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import InvalidCommandError
from ezgraph.protocol.events import Slot, room_of, slot_of
from ezgraph.protocol.replies import SnapshotChunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ezgraph.config import Limits
    from ezgraph.protocol.events import Event
    from ezgraph.wire.codec import EncodedEvent


class LiveEntry(NamedTuple):
    """One live event as snapshots spell it, and the blobs it refers to."""

    entry: bytes
    blobs: Mapping[bytes, bytes]
    room: str


class LiveSet:
    """The live events by slot, in order of seq."""

    def __init__(self) -> None:
        self._by_slot: dict[Slot, LiveEntry] = {}

    def __len__(self) -> int:
        return len(self._by_slot)

    def add(self, event: Event, encoded: EncodedEvent) -> None:
        """Put an event into its slot, or clear the slot."""
        slot, filled = slot_of(event.body)
        self._by_slot.pop(slot, None)
        if filled:
            self._by_slot[slot] = LiveEntry(encoded.live, encoded.blobs, room_of(event.body))

    def freeze(self) -> tuple[tuple[Slot, LiveEntry], ...]:
        """Return all of it as it is now."""
        return tuple(self._by_slot.items())


@dataclass(slots=True)
class _Snapshot:
    number: int
    epoch: int
    seq: int
    entries: tuple[tuple[Slot, LiveEntry], ...]
    used: float


class Snapshots:
    """The snapshots that clients are pulling; bounded in number and lifetime."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[int, _Snapshot] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, live: LiveSet, *, epoch: int, seq: int, now: float) -> int:
        """Return the number of a snapshot at ``seq``; it is shared if there is one already."""
        self._forget(now)
        for snapshot in self._open.values():
            if (snapshot.epoch, snapshot.seq) == (epoch, seq):
                return snapshot.number
        if len(self._open) >= self._limits.max_snapshots:
            del self._open[min(self._open.values(), key=lambda each: each.used).number]
        self._count += 1
        self._open[self._count] = _Snapshot(self._count, epoch, seq, live.freeze(), now)
        return self._count

    def chunk(
        self, number: int, rooms: Iterable[str], start: int, *, floor: int, now: float
    ) -> SnapshotChunk:
        """Return the part that starts at ``start``, with only the given rooms (none: all).

        Raises:
            InvalidCommandError: the snapshot is gone; the client opens another.
        """
        snapshot = self._open.get(number)
        if snapshot is None:
            raise InvalidCommandError(
                f"snapshot {number} is not open: it was not read for "
                f"{self._limits.snapshot_life_s:g} s or gave way to newer ones; open another"
            )
        snapshot.used = now
        entries, blobs, end = self._cut(snapshot, frozenset(rooms), max(start, 0))
        finished = end >= len(snapshot.entries)
        return SnapshotChunk(
            number,
            snapshot.epoch,
            snapshot.seq,
            floor,
            entries,
            blobs,
            None if finished else end,
        )

    def _cut(
        self, snapshot: _Snapshot, rooms: frozenset[str], start: int
    ) -> tuple[list[bytes], dict[bytes, bytes], int]:
        entries: list[bytes] = []
        blobs: dict[bytes, bytes] = {}
        size, end = 0, start
        for _, (entry, named, room) in snapshot.entries[start : start + 10_000]:
            if size > self._limits.chunk_bytes or len(entries) >= self._limits.chunk_events:
                break
            end += 1
            if rooms and room not in rooms and room.partition(".")[0] not in rooms:
                continue
            entries.append(entry)
            blobs.update(named)
            size += len(entry)
        return entries, blobs, end

    def _forget(self, now: float) -> None:
        for snapshot in list(self._open.values()):
            if now - snapshot.used > self._limits.snapshot_life_s:
                del self._open[snapshot.number]
