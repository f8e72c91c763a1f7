"""History goes when it was copied, and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.backends import Record
from ezgraph.backends.sqlite import SQLiteBackend
from ezgraph.chaos.archive import Archive, copied_through
from ezgraph.chaos.broker import keep_what_is_not_copied
from ezgraph.names import topic_of
from ezgraph.protocol.events import Event, PauseChanged, Source
from ezgraph.wire import codec

if TYPE_CHECKING:
    from pathlib import Path

KEY = ("control", "pause")


def record(seq: int) -> Record:
    body = PauseChanged(paused=bool(seq % 2))
    event = Event(1, seq, seq - 1, seq, seq, 0.0, 0.0, KEY, Source(), None, body)
    return Record(seq, topic_of(KEY), codec.encode_event(event).event)


def test_history_goes_when_it_was_copied_and_not_before(tmp_path: Path) -> None:
    source, copy = tmp_path / "journal.db", tmp_path / "archive.db"
    archive = Archive(source, copy)
    wanted: list[int | None] = [None]
    due = keep_what_is_not_copied(lambda **_: wanted[0], lambda: copied_through(copy))
    with SQLiteBackend(source).connect() as connection, connection.open_journal() as journal:
        journal.append([record(seq) for seq in range(1, 11)])

        assert due(now=0.0, wall=0.0) is None  # nothing is to go
        wanted[0] = 8
        assert due(now=0.0, wall=0.0) is None  # nothing was copied yet
        archive.catch_up()
        assert due(now=0.0, wall=0.0) == 8
        wanted[0] = 11
        assert due(now=0.0, wall=0.0) == 11
        wanted[0] = 12
        assert due(now=0.0, wall=0.0) is None
    archive.close()
