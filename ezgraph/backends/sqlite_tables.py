"""The tables of a journal file as they are read: every row is verified before it counts.

A row's CRC-32 covers its number and bytes, and begins with the cluster's id: a row of another
cluster's journal (whose WAL lay beside this file, say) fails it too. (In a journal of format 1
the cluster's id is not in it.)
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.backends.reader import Checkpoint, behind_gap, part_of
from ezgraph.backends.sqlite_file import are_numbers, damage, read_identity, reading
from ezgraph.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

    from ezgraph.backends.reader import CheckpointPart
    from ezgraph.errors import JournalCorruptError

_NO_CHECKPOINT = 1 << 30  # as an id: that of its rows would not fit


@dataclass(frozen=True, slots=True, order=True)
class Finished:
    """A row of ``checkpoints``: how many entries and blobs its rows hold."""

    id: int
    seq: int
    entries: int
    blobs: int

    @property
    def size(self) -> int:
        """How many rows it has."""
        return self.entries + self.blobs

    @property
    def rows_start(self) -> int:
        """The row id of its first entry."""
        return self.id << 32

    @property
    def rows_end(self) -> int:
        """The row id after its last blob, at most."""
        return self.id + 1 << 32


class Tables:
    """What a journal file holds."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        """Read who it is; see `read_identity` for what is raised."""
        self.db = db
        self.path = path
        self.identity = read_identity(db, path)
        bound = self.identity.format > 1
        self.seed = zlib.crc32(self.identity.meta.cluster_id.encode()) if bound else 0
        """Where every checksum in the file begins."""

    def checksum(self, number: int, first: bytes, second: bytes) -> int:
        """Return the checksum of a row."""
        return zlib.crc32(second, zlib.crc32(first, zlib.crc32(number.to_bytes(8), self.seed)))

    def verifies(self, checksum: int, number: int, first: bytes, second: bytes) -> bool:
        """Say whether a row is what was written; damage may even have changed the types."""
        try:
            return self.checksum(number, first, second) == checksum
        except TypeError:
            return False

    # --- records ---

    def ends(self) -> tuple[int, int]:
        """Return the lowest and the highest seq stored; without any, floor and floor - 1.

        It looks at both ends of a tree only. Holes are found when they are read.
        """
        lowest, highest = self.db.execute(
            "SELECT (SELECT coalesce(min(seq), :floor) FROM events),"
            " (SELECT coalesce(max(seq), :floor - 1) FROM events)",
            {"floor": self.identity.floor},
        ).fetchone()
        return lowest, highest

    def head(self) -> int:
        """Return the last seq; the epoch's base if it has none yet."""
        return max(self.ends()[1], self.identity.epochs[-1].base)

    def check_continuity(self, finished: list[Finished]) -> None:
        """Raise `JournalCorruptError` unless floor, records and newest checkpoint fit together."""
        floor, lowest, head = self.identity.floor, self.ends()[0], self.head()
        newest = finished[-1].seq if finished else 0
        oldest, covered = (behind_gap(self.identity.epochs, seq) for seq in (floor, newest + 1))
        if not lowest <= oldest <= head + 1:
            raise self.missing(oldest)
        if not (floor <= covered and newest <= head):
            raise damage(
                self.path,
                f"records {floor} to {head} do not go on from its checkpoint at {newest}",
            )

    def matching(
        self, after: int, last: int, prefix: bytes
    ) -> Generator[tuple[int, bytes], None, None]:
        """Yield (seq, event) of what matches, having verified every record in (after, last]."""
        for seq, topic, event, _ in self.records(after, last):
            if topic.startswith(prefix):
                yield seq, event

    def records(
        self, after: int, last: int
    ) -> Generator[tuple[int, bytes, bytes, int], None, None]:
        """Yield the rows in (after, last], verified: (seq, topic, event, checksum).

        Raises:
            JournalCorruptError: at the first that is missing or fails its checksum.
        """
        # A prefix is not looked for in SQL: a record with a damaged topic would be left out.
        expected = after
        with reading(self.path), closing(self._rows(after, last)) as rows:
            for row in rows:
                seq, topic, event, checksum = row
                expected += 1
                if seq != expected:
                    raise self.missing(expected)
                if not self.verifies(checksum, seq, topic, event):
                    raise damage(self.path, f"record {seq} fails its checksum")
                yield row
        if expected < last:
            raise self.missing(expected + 1)

    def _rows(self, after: int, last: int) -> sqlite3.Cursor:
        return self.db.execute(
            "SELECT seq, topic, event, checksum FROM events"
            " WHERE seq > ? AND seq <= ? ORDER BY seq",
            (after, last),
        )

    def missing(self, seq: int) -> JournalCorruptError:
        """Return the error for a record that is not there."""
        return damage(self.path, f"record {seq} is missing")

    # --- checkpoints ---

    def finished(self) -> list[Finished]:
        """Return the finished checkpoints, oldest first."""
        rows = self.db.execute(
            "SELECT id, seq, entries, blobs, checksum FROM checkpoints ORDER BY id"
        ).fetchall()
        for *numbers, checksum in rows:
            possible = are_numbers(*numbers) and numbers[0] < _NO_CHECKPOINT
            if checksum != self.numbers_checksum(*numbers) or not possible:
                raise damage(self.path, f"the checkpoint at {numbers[1]} fails its checksum")
        return [Finished(*numbers) for *numbers, _ in rows]

    def finished_that_verify(self) -> list[Finished]:
        """Return those that can be read whole, oldest first."""
        try:
            finished = self.finished()
        except (JournalError, sqlite3.Error):
            return []
        return [each for each in finished if self._is_whole(each)]

    def _is_whole(self, checkpoint: Finished) -> bool:
        try:
            self.checkpoint(checkpoint.id)
        except JournalError:
            return False
        return True

    def numbers_checksum(self, *numbers: int) -> int:
        """Return the checksum of a row of ``checkpoints``."""
        return zlib.crc32(repr(numbers).encode(), self.seed)

    def checkpoint(self, number: int) -> Checkpoint:
        """Return the checkpoint with this id, or raise `JournalCorruptError`."""
        with reading(self.path):
            checkpoint = next(each for each in self.finished() if each.id == number)
        seq, entries = checkpoint.seq, checkpoint.entries
        found: list[tuple[bytes, bytes]] = []
        expected = checkpoint.rows_start
        with reading(self.path), closing(self._rows_of(checkpoint)) as rows:
            for row_id, name, value, checksum in rows:
                if row_id != expected or not self.verifies(checksum, row_id, name or b"", value):
                    raise damage(self.path, f"a row of the checkpoint at {seq} fails its checksum")
                found.append((name, value))
                expected += 1
        if len(found) != entries + checkpoint.blobs:
            raise damage(self.path, f"rows of the checkpoint at {seq} are missing")
        return Checkpoint(seq, tuple(value for _, value in found[:entries]), dict(found[entries:]))

    def checkpoint_part(self, number: int, start: int, most: int) -> CheckpointPart:
        """Return a part of the checkpoint with this id, blobs first, or raise as `checkpoint`."""
        with reading(self.path):
            checkpoint = next(each for each in self.finished() if each.id == number)
        end = min(start + most, checkpoint.size)
        places = [self._row_at(checkpoint, place) for place in range(start, end)]
        rows: dict[int, Any] = {}
        with reading(self.path):
            for first, last in _runs(places):
                rows |= {row[0]: row for row in self._between(first, last)}
        found = []
        for row_id in places:
            _, name, value, checksum = rows.get(row_id, (0, None, b"", -1))
            if not self.verifies(checksum, row_id, name or b"", value):
                raise damage(
                    self.path, f"a row of the checkpoint at {checkpoint.seq} is missing or fails "
                    f"its checksum"
                )
            found.append((name, value))
        return part_of(checkpoint.seq, found, end if end < checkpoint.size else None)

    @staticmethod
    def _row_at(checkpoint: Finished, place: int) -> int:
        """Return the id of the row at a place, where blobs come first; they are stored last."""
        is_blob = place < checkpoint.blobs
        at = checkpoint.entries + place if is_blob else place - checkpoint.blobs
        return checkpoint.rows_start + at

    def _between(self, first: int, last: int) -> list[Any]:
        return self.db.execute(
            "SELECT id, name, value, checksum FROM checkpoint_rows WHERE id >= ? AND id <= ?",
            (first, last),
        ).fetchall()

    def _rows_of(self, checkpoint: Finished) -> sqlite3.Cursor:
        return self.db.execute(
            "SELECT id, name, value, checksum FROM checkpoint_rows"
            " WHERE id >= ? AND id < ? ORDER BY id",
            (checkpoint.rows_start, checkpoint.rows_end),
        )

    # --- room ---

    def used_bytes(self) -> int:
        """Return the size of the pages in use, those in the WAL counted once."""
        (pages,) = self.db.execute("PRAGMA page_count").fetchone()
        (free,) = self.db.execute("PRAGMA freelist_count").fetchone()
        (page_bytes,) = self.db.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * page_bytes)


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of numbers that follow each other."""
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last
