"""The live set: the encoded events a snapshot is made of, and the snapshots under way.

A snapshot is a tuple of references to encodings that are replaced and never changed, so it costs
a copy of pointers; all who ask at one seq share it. Chunks are cut when they are pulled. One that
is being pulled does not give way to another: who comes when there are too many asks again, and
watchers, who go on with events from wherever they begin, share one that is a little older.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ezgraph.errors import InvalidCommandError, LimitError
from ezgraph.protocol.events import Slot, keeps_place, room_of, slot_of
from ezgraph.protocol.replies import SnapshotChunk
from ezgraph.wire.codec import encode_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ezgraph.config import Limits
    from ezgraph.protocol.events import Body, Event
    from ezgraph.protocol.roles import ReadScope
    from ezgraph.wire.codec import EncodedEvent


_SHARED_S = 10.0
_PULLED_S = 5.0
_EXAMINED = 10_000  # entries for one chunk, so that cutting it takes no time
_EXAMINED_BY_PATTERNS = 2_000
T = TypeVar("T")


class LiveEntry(NamedTuple):
    """One live event as snapshots spell it, and the blobs it refers to."""

    entry: bytes
    blobs: Mapping[bytes, bytes]
    room: str


class LiveSet:
    """The live events by slot, in order of seq.

    Events that were added are put into their slots when somebody looks, or by `settle`: whoever
    waits for a publication does not wait for this.
    """

    def __init__(self) -> None:
        self._by_slot: dict[Slot, LiveEntry] = {}
        self._added: list[tuple[Event, EncodedEvent]] = []

    def __len__(self) -> int:
        self.settle()
        return len(self._by_slot)

    @classmethod
    def of(cls, events: Iterable[Event]) -> LiveSet:
        """Return what counts of a history; only that is encoded."""
        counting: dict[Slot, Event] = {}
        for event in events:
            _put(counting, event.body, event)
        live = cls()
        for slot, event in counting.items():
            live._by_slot[slot] = _entry(event, encode_event(event))
        return live

    def add(self, event: Event, encoded: EncodedEvent) -> None:
        """Have an event put into its slot, or clear the slot."""
        self._added.append((event, encoded))

    def settle(self) -> None:
        """Put what was added into its slots."""
        for event, encoded in self._added:
            _put(self._by_slot, event.body, _entry(event, encoded))
        self._added.clear()

    def freeze(self) -> tuple[tuple[Slot, LiveEntry], ...]:
        """Return all of it as it is now."""
        self.settle()
        return tuple(self._by_slot.items())


def _put(by_slot: dict[Slot, T], body: Body, value: T) -> None:
    slot, filled = slot_of(body)
    if not keeps_place(body):
        by_slot.pop(slot, None)
    if filled:
        by_slot[slot] = value


def _entry(event: Event, encoded: EncodedEvent) -> LiveEntry:
    return LiveEntry(encoded.live, encoded.blobs, room_of(event.body))


class Puller(NamedTuple):
    """Who pulls a snapshot: a client, whose it is (a key, where there are keys), what it reads."""

    client: str
    whose: str
    scope: ReadScope


class Pulled(NamedTuple):
    """What of which snapshot goes to whom: some rooms (none: all) of what they may read."""

    number: int
    rooms: frozenset[str]
    puller: Puller

    def has(self, slot: Slot, room: str) -> bool:
        """Return whether an entry belongs to it."""
        if self.rooms and room not in self.rooms and room.partition(".")[0] not in self.rooms:
            return False
        return self.puller.scope.has(slot)


@dataclass(slots=True)
class _Snapshot:
    number: int
    epoch: int
    seq: int
    entries: tuple[tuple[Slot, LiveEntry], ...]
    opened: float
    used: float
    pullers: Counter[Puller] = field(default_factory=Counter)


class Snapshots:
    """The snapshots that clients are pulling; bounded in number and lifetime."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[int, _Snapshot] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(
        self,
        live: LiveSet,
        puller: Puller,
        *,
        epoch: int,
        seq: int,
        now: float,
        at_least: int | None = None,
    ) -> int:
        """Return the number of a snapshot at ``seq``; it is shared if there is one already.

        ``at_least``: a recent one at that seq or later will do. ``puller`` is going to pull it.

        Raises:
            LimitError: as many as there may be are being pulled just now, by others who have no
                more than this one; or this client has as many half read as one may have.
        """
        self._forget(now)
        wanted = seq if at_least is None else min(at_least, seq)
        for snapshot in reversed(self._open.values()):
            if snapshot.epoch != epoch or snapshot.seq < wanted:
                continue
            if snapshot.seq == seq or now - snapshot.opened < _SHARED_S:
                snapshot.pullers[puller] += 1
                return snapshot.number
        self._refuse_too_many(puller.client)
        if len(self._open) >= self._limits.max_snapshots:
            self._make_room(puller.whose, now)
        self._count += 1
        self._open[self._count] = _Snapshot(
            self._count, epoch, seq, live.freeze(), now, now, Counter([puller])
        )
        return self._count

    def _refuse_too_many(self, client: str) -> None:
        own = sum(
            any(puller.client == client for puller in snapshot.pullers)
            for snapshot in self._open.values()
        )
        if own >= self._limits.max_snapshots_per_client:
            raise LimitError(
                f"this client has {own} snapshots half read, as many as one may have here "
                f"(max_snapshots_per_client); read them to their end first"
            )

    def _make_room(self, whose: str, now: float) -> None:
        """Give up one that nobody pulls (any more), else the oldest of who keeps most of them."""
        kept: Counter[str] = Counter()
        for snapshot in self._open.values():
            kept.update({puller.whose for puller in snapshot.pullers})
        oldest = min(self._open.values(), key=lambda each: (bool(each.pullers), each.used))
        greedy = max(kept, key=lambda each: kept[each], default=whose)
        of_greedy = [
            each
            for each in self._open.values()
            if {puller.whose for puller in each.pullers} == {greedy}
        ]
        if oldest.pullers and of_greedy and kept[greedy] > kept[whose] + 1:
            oldest = of_greedy[0]
        elif oldest.pullers and now - oldest.used < _PULLED_S:
            raise LimitError(
                f"{len(self._open)} snapshots are being read already, the limit of this broker "
                f"(max_snapshots); ask again in a moment"
            )
        del self._open[oldest.number]

    def chunk(self, pulled: Pulled, start: int, *, floor: int, now: float) -> SnapshotChunk:
        """Return the part that starts at ``start``, with only what was asked for and may be read.

        Raises:
            InvalidCommandError: the snapshot is gone; the client opens another.
        """
        number = pulled.number
        snapshot, puller = self._open.get(number), pulled.puller
        if snapshot is not None and puller not in snapshot.pullers and start > 0:
            snapshot = None  # opened by somebody else, or when this one could read something else
        if snapshot is None:
            raise InvalidCommandError(
                f"snapshot {number} is not open: it was not read for "
                f"{self._limits.snapshot_life_s:g} s or gave way to newer ones; open another"
            )
        snapshot.used = now
        entries, blobs, end = self._cut(snapshot, pulled, max(start, 0))
        finished = end >= len(snapshot.entries)
        if finished:
            snapshot.pullers -= Counter([puller])
        return SnapshotChunk(
            number,
            snapshot.epoch,
            snapshot.seq,
            floor,
            entries,
            blobs,
            None if finished else end,
            filtered=not puller.scope.is_full,
        )

    def _cut(
        self, snapshot: _Snapshot, pulled: Pulled, start: int
    ) -> tuple[list[bytes], dict[bytes, bytes], int]:
        entries: list[bytes] = []
        blobs: dict[bytes, bytes] = {}
        size, end = 0, start
        most = start + (_EXAMINED if pulled.puller.scope.is_full else _EXAMINED_BY_PATTERNS)
        for slot, (entry, named, room) in snapshot.entries[start:most]:
            if size > self._limits.chunk_bytes or len(entries) >= self._limits.chunk_events:
                break
            end += 1
            if not pulled.has(slot, room):
                continue
            entries.append(entry)
            blobs.update(named)
            size += len(entry)
        return entries, blobs, end

    def _forget(self, now: float) -> None:
        for snapshot in list(self._open.values()):
            if now - snapshot.used > self._limits.snapshot_life_s:
                del self._open[snapshot.number]
