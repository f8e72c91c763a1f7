"""A second journal that keeps what the broker's own compacts: every event ever stored.

The checker compares what clients saw with all of history, so the events that the broker lets go
are copied before it does. The copy is a journal like any other, of the same cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.backends.base import Record
from ezgraph.backends.sqlite import SQLiteBackend
from ezgraph.names import topic_of
from ezgraph.wire import codec

if TYPE_CHECKING:
    from pathlib import Path

    from ezgraph.backends import Backend, JournalReader
    from ezgraph.backends.base import Connection, Journal


class Archive:
    """Follows the journal at ``source``, from one thread; ``missing`` says what went too early."""

    def __init__(self, source: Path, to: Path) -> None:
        self.missing: list[str] = []
        self._source = source
        self._to = to
        self._connection: Connection | None = None
        self._journal: Journal | None = None

    def __repr__(self) -> str:
        return f"<Archive {self._to} of {self._source}: {self._journal!r}>"

    def catch_up(self) -> None:
        """Copy what is new.

        Raises:
            JournalError: the source cannot be read at this moment.
        """
        with _backend(self._source).connect() as connection, connection.open_reader() as reader:
            journal = self._open(reader)
            while journal.head < reader.head and not self.missing:
                self._copy_some(reader, journal)

    def _open(self, reader: JournalReader) -> Journal:
        if self._journal is None:
            self._connection = _backend(self._to, synchronous="normal").connect()
            self._journal = self._connection.open_journal(identity=reader.meta)
        return self._journal

    def _copy_some(self, reader: JournalReader, journal: Journal) -> None:
        if reader.floor > journal.head + 1:
            self.missing.append(
                f"the broker compacted its journal up to {reader.floor} before seq "
                f"{journal.head + 1} was copied: this run cannot be checked"
            )
            return
        events = reader.read(journal.head).events
        decoded = [(codec.decode_event(each), each) for each in events]
        journal.append([Record(event.seq, topic_of(event.key), each) for event, each in decoded])

    def close(self) -> None:
        """Close the copy."""
        if self._journal is not None:
            self._journal.close()
        if self._connection is not None:
            self._connection.close()


def differences(journal: JournalReader, archive: JournalReader) -> list[str]:
    """Return where a journal is not what it was when it was copied."""
    if (journal.cluster_id, journal.head) != (archive.cluster_id, archive.head):
        return [f"G4: the journal ends at seq {journal.head}, it went on to {archive.head} before"]
    position = journal.floor - 1
    while position < journal.head:
        now, before = journal.read(position), archive.read(position)
        through = min(now.through, before.through)
        if _events(journal, position, through) != _events(archive, position, through):
            return [f"G4: the journal differs after seq {position} from what it held before"]
        position = through
    return []


def _events(reader: JournalReader, after: int, through: int) -> tuple[bytes, ...]:
    return reader.read(after, through=through).events


def _backend(path: Path, *, synchronous: str = "full") -> Backend[Connection]:
    return SQLiteBackend(path.absolute(), synchronous=synchronous)
