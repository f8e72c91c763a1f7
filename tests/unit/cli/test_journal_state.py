"""A journal is examined: its bytes, its events, and that its checkpoints say what they say."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from ezgraph.backends import Checkpoint, Record, SQLiteBackend
from ezgraph.backends.lock import FileLock, Note
from ezgraph.backends.sqlite_tables import Tables
from ezgraph.bench.history import history
from ezgraph.cli.journal import journal_file
from ezgraph.cli.journal_state import events, examine, settle, state_at
from ezgraph.errors import ConfigError, JournalCorruptError, JournalError
from ezgraph.names import topic_of
from ezgraph.protocol.events import ProcessUnitsChanged
from ezgraph.wire import codec

if TYPE_CHECKING:
    from pathlib import Path

    from ezgraph.backends import Journal

COUNT = 60


def append_history(journal: Journal, through: int) -> None:
    journal.append(
        [
            Record(event.seq, topic_of(event.key), codec.encode_event(event).event)
            for event in history(COUNT)
            if journal.head < event.seq <= through
        ]
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of 60 real events, with checkpoints at 20 and 40."""
    path = tmp_path / "rig.db"
    with SQLiteBackend(path).connect().open_journal() as journal:
        for through in (20, 40):
            append_history(journal, through)
            settle(journal)
        append_history(journal, COUNT)
    return path


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement)


def forged(path: Path, seq: int, event: bytes) -> None:
    """Put other bytes into a record, with a checksum that fits."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        (topic,) = db.execute("SELECT topic FROM events WHERE seq = ?", (seq,)).fetchone()
        checksum = Tables(db, path).checksum(seq, topic, event)
        db.execute(
            "UPDATE events SET event = ?, checksum = ? WHERE seq = ?", (event, checksum, seq)
        )


class TestSound:
    def test_it_says_what_there_is(self, path: Path) -> None:
        verdict = examine(path)

        assert verdict.is_sound
        assert (verdict.floor, verdict.head, verdict.events) == (1, COUNT, COUNT)
        assert verdict.checkpoints == (20, 40)
        assert verdict.size_bytes == path.stat().st_size
        assert verdict.remarks == ()

    def test_compacted_and_restored_it_is_sound_as_well(self, path: Path) -> None:
        with SQLiteBackend(path).connect().open_journal() as journal:
            journal.drop_below(21)
            journal.begin_epoch(2, 1_000)
            settle(journal)
        verdict = examine(path)
        assert verdict.damage is None
        assert (verdict.floor, verdict.head, verdict.events) == (21, 1_000, 40)

        with SQLiteBackend(path).connect().open_journal() as journal:
            journal.drop_below(1_001)
        assert examine(path).damage is None

    def test_an_empty_one_is_sound(self, tmp_path: Path) -> None:
        SQLiteBackend(tmp_path / "new.db").connect().open_journal().close()

        assert examine(tmp_path / "new.db").damage is None

    def test_progress_comes_to_its_end(self, path: Path) -> None:
        told: list[tuple[int, int]] = []
        examine(path, lambda done, total: told.append((done, total)))
        assert told[-1] == (COUNT, COUNT)

    def test_without_a_note_a_missing_end_is_not_noticed_and_that_is_said(self, path: Path) -> None:
        note = path.with_name("rig.db.lock")
        note.unlink()
        assert "a missing end would not be noticed" in examine(path).remarks[0]

        FileLock(path).leave_note(Note("c" * 32, 1_000, 1))
        assert f"is of another cluster ({'c' * 32})" in examine(path).remarks[0]


class TestDamage:
    @pytest.mark.parametrize(
        ("seq", "meaning"),
        [
            (3, "The state is whole: the checkpoint at 20 stands for it"),
            (20, "the checkpoint at 20 stands for it"),
            (21, "the checkpoint at 40 stands for it"),
            (41, "the state after 40: a broker does not start"),
            (60, "the state after 59: a broker does not start"),
        ],
    )
    def test_a_damaged_event_is_named_and_what_it_costs(
        self, path: Path, seq: int, meaning: str
    ) -> None:
        execute(path, f"UPDATE events SET event = x'00' WHERE seq IN ({seq}, 60)")

        damage = examine(path).damage

        assert damage is not None
        assert damage.record == seq
        assert f"record {seq} fails its checksum" in damage.what
        assert "an acknowledged event is lost" in damage.meaning
        assert meaning in damage.meaning

    def test_a_missing_event_is_named(self, path: Path) -> None:
        execute(path, "DELETE FROM events WHERE seq = 33")
        damage = examine(path).damage
        assert damage is not None
        assert (damage.record, "record 33 is missing" in damage.what) == (33, True)

    def test_a_missing_end_costs_acknowledged_events(self, path: Path) -> None:
        execute(path, "DELETE FROM events WHERE seq > 57")

        verdict = examine(path)

        assert verdict.damage is not None
        assert "the acknowledged events 58 to 60 are lost" in verdict.damage.meaning
        assert verdict.head == 57

    @pytest.mark.parametrize(("checkpoint", "start"), [(1, 40), (2, 20)])
    def test_a_damaged_checkpoint_costs_no_event(
        self, path: Path, checkpoint: int, start: int
    ) -> None:
        execute(path, f"UPDATE checkpoint_rows SET value = x'00' WHERE id >> 32 = {checkpoint}")
        damage = examine(path).damage
        assert damage is not None
        assert damage.meaning == (
            f"only a checkpoint: no event is lost, and a broker starts from the checkpoint at "
            f"{start}"
        )

    def test_with_both_damaged_all_is_replayed(self, path: Path) -> None:
        execute(path, "UPDATE checkpoint_rows SET value = x'00'")
        damage = examine(path).damage
        assert damage is not None
        assert "a broker starts from the first event" in damage.meaning

    def test_the_only_state_of_a_compacted_journal_is_worth_all(self, path: Path) -> None:
        with SQLiteBackend(path).connect().open_journal() as journal:
            journal.drop_below(41)
        execute(path, "UPDATE checkpoint_rows SET value = x'00'")
        damage = examine(path).damage
        assert damage is not None
        assert "the state is lost, and a broker does not start" in damage.meaning

    def test_an_unreadable_identity_leaves_the_backup(self, path: Path) -> None:
        execute(path, "DELETE FROM meta WHERE key = 'secret'")
        verdict = examine(path)
        assert verdict.damage is not None
        assert "nothing but a backup helps" in verdict.damage.meaning
        assert verdict.cluster_id is None

    def test_pages_that_nobody_uses_are_sqlites_damage(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        pages = len(content) // 4096 + 1
        content[28:32] = pages.to_bytes(4)
        path.write_bytes(bytes(content) + bytes(4096))

        damage = examine(path).damage

        assert damage is not None
        assert "SQLite's own check says" in damage.what
        assert "no event is lost" in damage.meaning

    def test_what_is_no_journal_is_no_damage(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        for name in ("notes.txt", "absent.db", ""):
            with pytest.raises(JournalError):
                examine(tmp_path / name)


class TestMeaning:
    """Bytes that verify may still be wrong: a defect of who wrote them."""

    def test_bytes_that_are_no_event(self, path: Path) -> None:
        forged(path, 30, b"no event")
        damage = examine(path).damage
        assert damage is not None
        assert "is no event" in damage.what
        wrong = pytest.raises(JournalCorruptError, match="is no event")
        with SQLiteBackend(path).connect().open_reader() as reader, wrong:
            list(events(reader, 0))

    def test_an_event_that_does_not_fit_the_history_before_it(self, path: Path) -> None:
        event = next(each for each in history(COUNT) if each.seq == 30)
        stranger = ProcessUnitsChanged(UUID(int=7), ["A"], ["A"], [])
        forged(path, 30, codec.encode_event(replace(event, body=stranger)).event)

        damage = examine(path).damage

        assert damage is not None
        assert "event 30 of" in damage.what
        assert "does not fit the history before it" in damage.what
        assert "no broker can use them" in damage.meaning

    def test_a_checkpoint_that_is_not_its_history(self, path: Path) -> None:
        with SQLiteBackend(path).connect().open_journal() as journal:
            good = journal.each_checkpoint()[-1]
            journal.write_checkpoint(Checkpoint(COUNT, good.entries, good.blobs))

        damage = examine(path).damage

        assert damage is not None
        assert "the checkpoint at 60 is not the state that the events before it" in damage.what
        assert damage.record == COUNT

    def test_a_checkpoint_with_bytes_that_are_no_entry(self, path: Path) -> None:
        with SQLiteBackend(path).connect().open_journal() as journal:
            journal.write_checkpoint(Checkpoint(COUNT, (b"no entry",), {}))
        damage = examine(path).damage
        assert damage is not None
        assert "an entry of the checkpoint at 60 is no event" in damage.what

    def test_the_state_of_a_checkpoint_is_that_of_its_history(self, path: Path) -> None:
        with SQLiteBackend(path).connect().open_reader() as reader:
            state = state_at(reader.load_checkpoint())
        assert state.seq == 40
        assert len(state.settings) == 16


class TestNames:
    @pytest.mark.parametrize(
        "typed", ["rig.db", "sqlite:///rig.db", "sqlite:///rig.db?synchronous=NORMAL"]
    )
    def test_a_path_and_an_address_name_the_file(self, typed: str) -> None:
        assert str(journal_file(typed)) == "rig.db"

    @pytest.mark.parametrize("typed", ["memory", "memory://"])
    def test_memory_has_no_file(self, typed: str) -> None:
        with pytest.raises(ConfigError, match="nothing of it in a file; start the broker with"):
            journal_file(typed)

    @pytest.mark.parametrize("typed", ["redis://somewhere", "sqlite:rig.db", ""])
    def test_other_addresses_are_refused(self, typed: str) -> None:
        with pytest.raises(ConfigError):
            journal_file(typed)
