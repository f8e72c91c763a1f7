"""What one who records knows so far, and what of it is to be stored next. Pure.

A snapshot is *in force* from when it was frozen until the next one. A partition is written over
some time, which began when the one before it was added (or the recording); so it is linked to every
snapshot that was in force since then. Before it is added the rig is frozen anew if settings have
changed since the last time, so that the newest of these snapshots is what the rig is now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ezgraph.protocol.artifacts import Artifact, Partition
    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.listing import SnapshotInfo

_MOST = 1_000
"""How much is told in one command; a broker takes twice as much, unless it is told to take less."""


class Noted(NamedTuple):
    """The changes of settings behind some seq, complete up to ``through``.

    ``is_all`` False: some could not be seen, because they were compacted, or may not be read.
    """

    changes: list[RecordedChange]
    through: int
    is_all: bool = True


class Told(NamedTuple):
    """What to store in one command."""

    info: RecordingInfo
    partitions: list[RecordedPartition]
    changes: list[RecordedChange]


class RecordingNotes:
    """One recording that is being made."""

    def __init__(
        self, artifact: Artifact, artifact_key: str, start: SnapshotInfo, *, session_id: str
    ) -> None:
        """Begin at the snapshot ``start``."""
        self.info = RecordingInfo(
            start.name,
            artifact_key,
            artifact,
            epoch=start.epoch,
            first_seq=start.seq,
            start=start.fingerprint,
            began=start.time,
            noted_through=start.seq,
            session_id=session_id,
        )
        self._in_force: list[Fingerprint] = [start.fingerprint]
        self._frozen_at = start.seq
        self._untold: dict[int, RecordedChange] = {}

    def __repr__(self) -> str:
        return f"<RecordingNotes {self.info!r} untold={len(self._untold)}>"

    def begun(self, stored: RecordingInfo) -> None:
        """Take note of the number that it has been given, and of when it was ended."""
        known = stored if stored.has_ended else self.info
        self.info = known.as_stored(stored.number, stored.wall_time, stored.author)

    def note(self, noted: Noted) -> None:
        """Take note of changes."""
        self._untold |= {each.seq: each for each in noted.changes}
        self.info = replace(
            self.info,
            noted_through=max(self.info.noted_through, noted.through),
            has_all_changes=self.info.has_all_changes and noted.is_all,
        )

    @property
    def must_freeze(self) -> bool:
        """Whether settings have changed since the rig was last frozen."""
        return any(seq > self._frozen_at for seq in self._untold)

    def frozen(self, at: SnapshotInfo) -> None:
        """Take note of a snapshot that is in force from now on."""
        self._frozen_at = max(self._frozen_at, at.seq)
        if self._in_force[-1] != at.fingerprint:
            self._in_force.append(at.fingerprint)

    def adding(self, partitions: Sequence[Partition]) -> Iterator[Told]:
        """Yield what to store, in order, so that these partitions are recorded."""
        seq, marks = self.info.noted_through, tuple(dict.fromkeys(self._in_force))
        recorded = [RecordedPartition(each, seq, marks) for each in partitions]
        yield from _shared(self.info, recorded, [*self._untold.values()])

    def added(self, told: Told) -> None:
        """Take note that something was stored."""
        for each in told.changes:
            self._untold.pop(each.seq, None)
        if told.partitions:
            del self._in_force[:-1]

    def ending(self, at: SnapshotInfo, *, failed: bool) -> Iterator[Told]:
        """Yield what to store, in order, so that the recording has ended at a snapshot."""
        ended = replace(
            self.info,
            noted_through=at.seq,
            last_seq=at.seq,
            end=at.fingerprint,
            ended=at.time,
            failed=failed,
        )
        during = [each for each in self._untold.values() if each.seq <= at.seq]
        *before, last = _shared(self.info, [], during)
        yield from before
        yield last._replace(info=ended)


def _shared(
    info: RecordingInfo, partitions: list[RecordedPartition], changes: list[RecordedChange]
) -> Iterator[Told]:
    """Share what there is to tell between commands, one at least."""
    told, size = Told(info, [], []), 0
    what: list[RecordedChange | RecordedPartition] = [*changes, *partitions]
    for each in what:
        cost = 1 if isinstance(each, RecordedChange) else 1 + len(each.snapshots)
        if size + cost > _MOST and size:
            yield told
            told, size = Told(info, [], []), 0
        size += cost
        if isinstance(each, RecordedChange):
            told.changes.append(each)
        else:
            told.partitions.append(each)
    yield told
