"""Backup, restore, repair, compact: the source stays, the destination is whole or absent."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from ezgraph import backends
from ezgraph.backends import Checkpoint, EpochSpan, Record, SQLiteBackend
from ezgraph.backends.lock import Note, note_beside
from ezgraph.backends.maintenance import (
    backup,
    compact,
    repair,
    restore,
    restore_over,
    verified_through,
    verify,
)
from ezgraph.backends.sqlite import open_damaged, open_reader
from ezgraph.errors import (
    CompactedError,
    JournalCorruptError,
    JournalError,
    JournalFailedError,
    JournalLockedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.backends import Journal, JournalReader

ROOT = Path(backends.__file__).parents[2]
WALL = 4_000_000_000.0
"""In 2096: later than any journal made here."""
WALL_US = 4_000_000_000_000_000
LATER = WALL + 10


def settle(journal: Journal) -> None:
    """Write a checkpoint that says where it was written."""
    if journal.checkpoint_seq != journal.head:
        journal.write_checkpoint(Checkpoint(journal.head, (b"state at %d" % journal.head,), {}))


def opened(path: Path) -> Journal:
    return SQLiteBackend(path).connect().open_journal()


def append(journal: Journal, count: int) -> None:
    seqs = range(journal.head + 1, journal.head + count + 1)
    journal.append([Record(seq, b"a/", b"<event %d>" % seq) for seq in seqs])


def events(*seqs: int) -> list[bytes]:
    return [b"<event %d>" % seq for seq in seqs]


def all_of(path: Path) -> list[bytes]:
    with open_reader(path) as reader:
        found, after = list[bytes](), reader.floor - 1
        while after < reader.head:
            chunk = reader.read(after)
            found, after = found + list(chunk.events), chunk.through
        return found


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement)


def content_of(path: Path) -> dict[str, bytes]:
    """What a journal is: its file and its WAL."""
    return {
        part: path.with_name(path.name + part).read_bytes()
        for part in ("", "-wal")
        if path.with_name(path.name + part).exists()
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed journal of 40 records, checkpoints at 10 and 30."""
    path = tmp_path / "rig.db"
    with opened(path) as journal:
        append(journal, 10)
        settle(journal)
        append(journal, 20)
        settle(journal)
        append(journal, 10)
    return path


class TestBackup:
    def test_it_is_a_journal_with_everything_in_it(self, path: Path, tmp_path: Path) -> None:
        dest = tmp_path / "copy.db"

        held = backup(path, dest)

        assert (held.epoch, held.floor, held.head) == (1, 1, 40)
        assert held.size_bytes == dest.stat().st_size
        assert all_of(dest) == events(*range(1, 41))
        with open_reader(dest) as copy, open_reader(path) as source:
            assert copy.meta == source.meta
            assert copy.each_checkpoint() == source.each_checkpoint()
        assert stat.S_IMODE(dest.stat().st_mode) == 0o600
        assert sorted(os.listdir(tmp_path)) == ["copy.db", "rig.db", "rig.db.lock"]

    def test_a_running_broker_is_copied_with_all_it_has_acknowledged(
        self, path: Path, tmp_path: Path
    ) -> None:
        with opened(path) as journal:
            append(journal, 5)

            def meanwhile(done: int, total: int) -> None:
                append(journal, 200)

            held = backup(path, tmp_path / "copy.db", meanwhile)

            assert held.head == 45
            assert journal.head > 45
        assert all_of(tmp_path / "copy.db") == events(*range(1, 46))

    def test_a_dead_brokers_wal_is_in_it(self, path: Path, tmp_path: Path) -> None:
        killed_at(path, "journal.append(records(journal, 7)); die()")
        before = content_of(path)

        assert backup(path, tmp_path / "copy.db").head == 47
        assert content_of(path) == before
        assert len(before) == 2

    def test_nothing_is_overwritten(self, path: Path, tmp_path: Path) -> None:
        for name in ("there.db", "part.db-wal"):
            (tmp_path / name).write_bytes(b"mine")
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(JournalError, match="exists already, and nothing is overwritten"):
            backup(path, tmp_path / "there.db")
        with pytest.raises(JournalError, match="exists already"):
            backup(path, path)
        with pytest.raises(JournalError, match=r"its WAL .* may hold events"):
            backup(path, tmp_path / "part.db")
        with pytest.raises(JournalError, match=r"cannot write .* see that the disk has room"):
            backup(path, tmp_path / "absent" / "copy.db")
        assert sorted(os.listdir(tmp_path)) == before

    def test_not_even_what_comes_to_be_there_meanwhile(self, path: Path, tmp_path: Path) -> None:
        dest = tmp_path / "copy.db"

        def meanwhile(done: int, total: int) -> None:
            dest.write_text("mine")

        with pytest.raises(JournalError, match="has come to exist meanwhile"):
            backup(path, dest, meanwhile)

        assert dest.read_text() == "mine"
        assert sorted(os.listdir(tmp_path)) == ["copy.db", "rig.db", "rig.db.lock"]

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE events SET event = x'00' WHERE seq = 17",
            "DELETE FROM events WHERE seq = 17",
            "UPDATE checkpoint_rows SET value = x'00'",
        ],
    )
    def test_a_damaged_journal_makes_no_backup(
        self, path: Path, tmp_path: Path, statement: str
    ) -> None:
        execute(path, statement)

        with pytest.raises(JournalCorruptError, match=r"record 17|checkpoint at"):
            backup(path, tmp_path / "copy.db")

        assert sorted(os.listdir(tmp_path)) == ["rig.db", "rig.db.lock"]


class TestRestore:
    @pytest.fixture
    def saved(self, path: Path, tmp_path: Path) -> Path:
        """A backup at 40; the journal has gone on to 55 since."""
        backup(path, tmp_path / "saved.db")
        with opened(path) as journal:
            append(journal, 15)
        return tmp_path / "saved.db"

    def test_it_goes_on_above_every_number_in_a_new_epoch(
        self, saved: Path, tmp_path: Path
    ) -> None:
        done = restore(saved, tmp_path / "new.db", settle, wall=WALL)

        assert (done.old_epoch, done.old_head, done.epoch, done.base) == (1, 40, 2, WALL_US)
        assert done.aside is None
        with opened(tmp_path / "new.db") as journal:
            assert (journal.epoch, journal.head) == (2, WALL_US)
            assert journal.epochs == (EpochSpan(1, 1, 40), EpochSpan(2, WALL_US + 1))
            assert journal.load_checkpoint() == Checkpoint(WALL_US, (b"state at %d" % WALL_US,), {})
            append(journal, 2)
        assert all_of(tmp_path / "new.db") == events(*range(1, 41), WALL_US + 1, WALL_US + 2)
        left = sorted(os.listdir(tmp_path))
        assert left == ["new.db", "new.db.lock", "rig.db", "rig.db.lock", "saved.db"]

    def test_a_journal_that_exists_stays_unless_asked(self, saved: Path, path: Path) -> None:
        before = content_of(path)
        with pytest.raises(JournalError, match="exists already"):
            restore(saved, path, settle, wall=WALL)
        assert content_of(path) == before

    def test_what_is_replaced_is_kept_aside_whole(self, saved: Path, path: Path) -> None:
        done = restore_over(saved, path, settle, wall=WALL)

        assert done.aside is not None
        assert done.aside.name == "rig.db.replaced-20961002T070640.000000Z"
        assert all_of(done.aside) == events(*range(1, 56))
        assert all_of(path) == events(*range(1, 41))

    def test_the_wal_of_a_dead_broker_goes_with_its_file(self, saved: Path, path: Path) -> None:
        killed_at(path, "journal.append(records(journal, 7)); die()")

        done = restore_over(saved, path, settle, wall=WALL)

        assert done.aside is not None
        assert all_of(done.aside) == events(*range(1, 63))
        assert all_of(path) == events(*range(1, 41))
        with opened(path) as journal:
            append(journal, 1)

    def test_numbers_go_above_the_replaced_journals_whatever_the_clock_says(
        self, saved: Path, path: Path, tmp_path: Path
    ) -> None:
        first = restore_over(saved, path, settle, wall=LATER)
        with opened(path) as journal:
            append(journal, 3)

        second = restore_over(saved, path, settle, wall=WALL)

        assert (first.epoch, second.epoch) == (2, 3)
        assert second.base == first.base + 3
        with open_reader(path) as reader:
            assert reader.epochs == (EpochSpan(1, 1, 40), EpochSpan(3, second.base + 1))

    def test_the_note_of_a_journal_that_is_gone_counts(self, saved: Path, path: Path) -> None:
        first = restore_over(saved, path, settle, wall=LATER)
        path.unlink()

        second = restore(saved, path, settle, wall=WALL)

        assert (second.epoch, second.base) == (3, first.base)
        assert note_beside(path) == Note(second.cluster_id, second.base, 3)

    def test_a_damaged_journal_is_replaced_all_the_same(self, saved: Path, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:5000])

        done = restore_over(saved, path, settle, wall=WALL)

        assert done.aside is not None
        assert done.aside.stat().st_size == 5000
        assert done.base == WALL_US
        opened(path).close()

    def test_another_clusters_journal_has_no_say_in_the_numbers(
        self, saved: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other.db"
        with opened(other) as journal:
            journal.begin_epoch(9, WALL_US * 2)

        assert restore_over(saved, other, settle, wall=WALL).epoch == 2

    def test_not_while_a_broker_holds_it(self, saved: Path, path: Path) -> None:
        with opened(path) as journal:
            with pytest.raises(JournalLockedError):
                restore_over(saved, path, settle, wall=WALL)
            append(journal, 1)
        assert all_of(path)[-1:] == events(56)

    def test_a_damaged_backup_is_not_put_back(self, saved: Path, path: Path) -> None:
        execute(saved, "UPDATE events SET topic = x'00' WHERE seq = 12")
        before = content_of(path)

        with pytest.raises(JournalCorruptError, match="record 12 fails its checksum"):
            restore_over(saved, path, settle, wall=WALL)

        assert content_of(path) == before

    def test_a_clock_from_before_the_journal_is_refused(self, saved: Path, path: Path) -> None:
        with pytest.raises(JournalError, match=r"clock says 1970-01-01.* Set the clock"):
            restore_over(saved, path, settle, wall=1.0)

    def test_not_from_itself(self, path: Path) -> None:
        with pytest.raises(JournalError, match="from itself"):
            restore_over(path, path, settle, wall=WALL)

    def test_nothing_is_put_over_a_stale_wal(self, saved: Path, path: Path) -> None:
        killed_at(path, "journal.append(records(journal, 7)); die()")
        path.unlink()

        for do in (restore, restore_over):
            with pytest.raises(JournalError, match=r"is gone, but its WAL"):
                do(saved, path, settle, wall=WALL)
        assert not path.exists()


class TestRepair:
    @pytest.mark.parametrize("seq", [1, 9, 10, 11, 30, 31, 40])
    def test_it_keeps_what_leads_to_the_newest_state(
        self, path: Path, tmp_path: Path, seq: int
    ) -> None:
        """Behind the damage a checkpoint stands for it, if there is one."""
        execute(path, f"UPDATE events SET event = x'00' WHERE seq = {seq}")
        before = content_of(path)
        dest = tmp_path / "new.db"

        done = repair(path, dest, settle, wall=WALL)

        assert content_of(path) == before
        assert f"record {seq} fails its checksum" in (done.damage or "")
        assert (done.epoch, done.base) == (2, WALL_US)
        lost, kept = ((seq, 40),), range(1, seq)
        if seq <= 30:
            checkpoint = 10 if seq <= 10 else 30
            lost, kept = ((1, checkpoint),), range(checkpoint + 1, 41)
        assert done.lost == lost
        assert (done.floor, done.last) == (kept[0], kept[-1])
        assert all_of(dest) == events(*kept)
        with opened(dest) as journal:
            assert journal.head == WALL_US
            append(journal, 1)
        assert sorted(os.listdir(tmp_path)) == ["new.db", "new.db.lock", "rig.db", "rig.db.lock"]

    def test_of_a_sound_journal_nothing_is_lost(self, path: Path, tmp_path: Path) -> None:
        done = repair(path, tmp_path / "new.db", settle, wall=WALL)

        assert (done.lost, done.damage) == ((), None)
        assert all_of(tmp_path / "new.db") == events(*range(1, 41))

    def test_an_end_that_was_acknowledged_is_reported(self, path: Path, tmp_path: Path) -> None:
        execute(path, "DELETE FROM events WHERE seq > 36")

        done = repair(path, tmp_path / "new.db", settle, wall=WALL)

        assert done.lost == ((37, 40),)
        assert all_of(tmp_path / "new.db") == events(*range(1, 37))

    def test_a_damaged_wal_gives_what_comes_before_the_damage(
        self, path: Path, tmp_path: Path
    ) -> None:
        killed_at(path, "[journal.append(records(journal, 1)) for _ in range(20)]; die()")
        wal = path.with_name("rig.db-wal")
        content = bytearray(wal.read_bytes())
        content[len(content) // 2] ^= 1
        wal.write_bytes(content)
        before = content_of(path)
        with pytest.raises(JournalCorruptError, match="60 was acknowledged"):
            opened(path)

        done = repair(path, tmp_path / "new.db", settle, wall=WALL)

        assert 40 < done.last < 60
        assert done.lost == ((done.last + 1, 60),)
        assert all_of(tmp_path / "new.db") == events(*range(1, done.last + 1))
        assert content_of(path) == before

    def test_a_damaged_checkpoint_is_left_out(self, path: Path, tmp_path: Path) -> None:
        execute(path, "UPDATE checkpoint_rows SET value = x'00' WHERE value = 'state at 30'")
        execute(path, "UPDATE checkpoint_rows SET value = x'00' WHERE id >= 2 << 32")

        done = repair(path, tmp_path / "new.db", settle, wall=WALL)

        assert done.lost == ()
        with open_reader(tmp_path / "new.db") as reader:
            assert reader.checkpoint_seqs == (10, WALL_US)

    def test_without_any_state_to_go_on_from_it_says_so(self, path: Path, tmp_path: Path) -> None:
        with opened(path) as journal:
            journal.drop_below(31)
        execute(path, "UPDATE checkpoint_rows SET value = x'00'")

        with pytest.raises(JournalCorruptError, match=r"nothing of .* can be saved"):
            repair(path, tmp_path / "new.db", settle, wall=WALL)

        assert not (tmp_path / "new.db").exists()

    @pytest.mark.parametrize("damage", ["DROP TABLE meta", "DELETE FROM meta"])
    def test_a_history_without_a_name_cannot_go_on(
        self, path: Path, tmp_path: Path, damage: str
    ) -> None:
        execute(path, damage)

        with pytest.raises(JournalCorruptError):
            repair(path, tmp_path / "new.db", settle, wall=WALL)

        assert not (tmp_path / "new.db").exists()

    def test_never_in_place_and_never_beside_a_broker(self, path: Path, tmp_path: Path) -> None:
        with pytest.raises(JournalError, match="exists already"):
            repair(path, path, settle, wall=WALL)
        with opened(path), pytest.raises(JournalLockedError):
            repair(path, tmp_path / "new.db", settle, wall=WALL)
        assert not (tmp_path / "new.db").exists()

    def test_a_restored_journal_keeps_its_epochs(self, path: Path, tmp_path: Path) -> None:
        with opened(path) as journal:
            journal.begin_epoch(2, 1_000)
            append(journal, 5)
            journal.begin_epoch(3, 2_000)
            append(journal, 5)
        execute(path, "DELETE FROM events WHERE seq = 1004")

        done = repair(path, tmp_path / "new.db", settle, wall=WALL)

        assert (done.last, done.epoch) == (1003, 4)
        assert done.lost == ((1004, 1005), (2001, 2005))
        with open_reader(tmp_path / "new.db") as reader:
            assert reader.epochs == (
                EpochSpan(1, 1, 40),
                EpochSpan(2, 1001, 1003),
                EpochSpan(4, WALL_US + 1),
            )
        assert all_of(tmp_path / "new.db") == events(*range(1, 41), 1001, 1002, 1003)


class TestVerify:
    def test_it_names_the_first_that_is_wrong(self, path: Path) -> None:
        with open_reader(path) as reader:
            verify(reader)
        execute(path, "UPDATE events SET event = x'00' WHERE seq IN (21, 35)")

        with open_reader(path) as reader:
            with pytest.raises(JournalCorruptError, match="record 21"):
                verify(reader)
            position, what = verified_through(reader, 0)
            assert position == 20
            assert "record 21 fails its checksum" in (what or "")
            assert verified_through(reader, 21)[0] == 34
            assert verified_through(reader, 35) == (40, None)

    def test_it_tells_how_far_it_is(self, path: Path) -> None:
        told: list[tuple[int, int]] = []
        with open_reader(path) as reader:
            verify(reader, lambda done, total: told.append((done, total)))
        assert told[-1] == (40, 40)


class TestCompact:
    def test_the_state_stays_and_the_file_shrinks(self, path: Path) -> None:
        with opened(path) as journal:
            journal.append([Record(41, b"a/", bytes(500_000))])
            compact(journal, 42, settle)

            assert journal.size_bytes() < 100_000
        with opened(path) as journal:
            assert (journal.floor, journal.head, journal.epoch) == (42, 41, 1)
            assert journal.checkpoint_seqs == (41, 41)
            assert [each.entries for each in journal.each_checkpoint()] == [(b"state at 41",)] * 2
            with pytest.raises(CompactedError):
                journal.read(40)

    def test_what_is_to_be_kept_stays(self, path: Path) -> None:
        with opened(path) as journal:
            compact(journal, 35, settle)
        assert all_of(path) == events(*range(35, 41))
        with open_reader(path) as reader:
            assert reader.checkpoint_seqs[-1] == 40
            verify(reader)


# --- what goes wrong in the middle ---

DIE = """
import os, sys
from pathlib import Path
from ezgraph.backends import Checkpoint, Record, SQLiteBackend
from ezgraph.backends import maintenance as m
path, dest = Path(sys.argv[1]), Path(sys.argv[2])
WALL = 4_000_000_000.0
def die(*_):
    os.kill(os.getpid(), 9)
def settle(journal):
    if journal.checkpoint_seq != journal.head:
        text = b"state at %d" % journal.head
        journal.write_checkpoint(Checkpoint(journal.head, (text,), {}))
def records(journal, count):
    seqs = range(journal.head + 1, journal.head + 1 + count)
    return [Record(seq, b"a/", b"<event %d>" % seq) for seq in seqs]
def after_begin(journal):
    settle(journal); die()
def dies_at(name):
    before = getattr(m, name)
    def dying(*given):
        before(*given); die()
    setattr(m, name, dying)
def dies_before(name):
    setattr(m, name, die)
"""


def killed_at(path: Path, script: str, dest: Path | None = None) -> None:
    """Run ``script`` in a process that kills itself on the way."""
    prepared = DIE + ("" if dest else "journal = SQLiteBackend(path).connect().open_journal()\n")
    done = subprocess.run(
        [sys.executable, "-c", prepared + script, str(path), str(dest)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


KILLED = {
    "backup while copying": "m._COPY_PAGES = 2; m.backup(path, dest, die)",
    "backup before its name": "dies_before('_publish'); m.backup(path, dest)",
    "backup after its name": "dies_at('_publish'); m.backup(path, dest)",
    "restore while copying": "m.verify = lambda *_: None; m._COPY_PAGES = 2; "
    "m.restore(path, dest, settle, wall=WALL, progress=die)",
    "restore in its new epoch": "m.restore(path, dest, die, wall=WALL)",
    "restore after its checkpoint": "m.restore(path, dest, after_begin, wall=WALL)",
    "restore before its name": "dies_at('_begin'); m.restore(path, dest, settle, wall=WALL)",
    "repair while writing": "dies_before('_begin'); m.repair(path, dest, settle, wall=WALL)",
    "repair in its new epoch": "m.repair(path, dest, die, wall=WALL)",
    "repair before its name": "dies_before('_publish'); m.repair(path, dest, settle, wall=WALL)",
}


class TestKilled:
    @pytest.mark.parametrize("moment", KILLED)
    def test_the_source_is_as_it_was_and_the_destination_whole_or_absent(
        self, path: Path, tmp_path: Path, moment: str
    ) -> None:
        folder = tmp_path / "to"
        folder.mkdir()
        dest = folder / "new.db"
        before = content_of(path)

        killed_at(path, KILLED[moment], dest)

        assert content_of(path) == before
        assert dest.exists() == (moment == "backup after its name")
        if dest.exists():
            assert all_of(dest) == events(*range(1, 41))
            return
        if moment.startswith("backup"):
            backup(path, dest)
        else:
            restore(path, dest, settle, wall=WALL)
        assert all_of(dest) == events(*range(1, 41))

    @pytest.mark.parametrize("dead_broker", [False, True])
    @pytest.mark.parametrize("moment", ["dies_at('_put_aside')", "dies_before('_put_aside')"])
    def test_a_replacement_loses_neither(
        self, path: Path, tmp_path: Path, moment: str, dead_broker: bool
    ) -> None:
        source = tmp_path / "saved.db"
        backup(path, source)
        if dead_broker:
            killed_at(path, "journal.append(records(journal, 7)); die()")
        everything = events(*range(1, 48 if dead_broker else 41))

        killed_at(source, f"{moment}; m.restore_over(path, dest, settle, wall=WALL)", path)

        aside = sorted(tmp_path.glob("rig.db.replaced-*Z"))
        assert all_of(aside[0] if aside else path) == everything
        if path.exists():
            assert all_of(path) == everything
        restore_over(source, path, settle, wall=LATER)
        assert all_of(path) == events(*range(1, 41))
        if aside:
            assert all_of(aside[0]) == everything

    @pytest.mark.parametrize(
        "moment",
        [
            "m.compact(journal, 31, die)",
            "m.compact(journal, 31, after_begin)",
            "m._DROP_ROWS = 7; m.compact(journal, 31, settle, die)",
            "journal.shrink = die; m.compact(journal, 31, settle)",
            "settle(journal); journal.drop_below(31); "
            "journal._db.set_progress_handler(die, 5); journal.shrink()",
        ],
    )
    def test_a_killed_compaction_loses_nothing_it_should_keep(
        self, path: Path, moment: str
    ) -> None:
        killed_at(path, moment)

        with opened(path) as journal:
            assert journal.floor in (1, 31)
            assert journal.read(30).events == tuple(events(*range(31, 41)))
            verify(journal)
            compact(journal, 31, settle)
        assert all_of(path) == events(*range(31, 41))


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestFullDisk:
    MAKE: ClassVar[dict[str, Callable[[Path, Path], object]]] = {
        "backup": backup,
        "restore": lambda path, dest: restore(path, dest, settle, wall=WALL),
        "repair": lambda path, dest: repair(path, dest, settle, wall=WALL),
    }

    @pytest.mark.parametrize("command", MAKE)
    @pytest.mark.parametrize("room", [0, 5_000, 20_000, 40_000])
    def test_the_source_stays_and_there_is_no_half_destination(
        self, path: Path, tmp_path: Path, command: str, room: int
    ) -> None:
        with opened(path) as journal:
            journal.append([Record(41, b"a/", bytes(50_000))])
        before = content_of(path)
        folder = tmp_path / "to"
        folder.mkdir()

        with files_up_to(room), pytest.raises(JournalError, match=r"room|full|disk"):
            self.MAKE[command](path, folder / "new.db")

        assert content_of(path) == before
        assert [name for name in os.listdir(folder) if not name.endswith(".lock")] == []
        self.MAKE[command](path, folder / "new.db")
        assert len(all_of(folder / "new.db")) == 41

    def test_a_journal_that_cannot_be_replaced_stays(self, path: Path, tmp_path: Path) -> None:
        backup(path, tmp_path / "saved.db")
        with opened(path) as journal:
            append(journal, 5)
        before = content_of(path)

        for room in (0, 5_000, 20_000):
            with files_up_to(room), pytest.raises(JournalError, match=r"room|full|disk"):
                restore_over(tmp_path / "saved.db", path, settle, wall=WALL)

        assert content_of(path) == before
        assert sorted(os.listdir(tmp_path)) == ["rig.db", "rig.db.lock", "saved.db"]
        assert all_of(path) == events(*range(1, 46))

    def test_a_compaction_drops_what_it_said_and_keeps_the_rest(self, path: Path) -> None:
        with opened(path) as journal:
            journal.append([Record(41, b"a/", bytes(200_000))])
            append(journal, 300)
        with opened(path) as journal, files_up_to(60_000), pytest.raises(JournalFailedError):
            compact(journal, 41, settle)
        with opened(path) as journal:
            assert journal.floor in (1, 41)
            assert len(journal.read(40).events) == 301
            compact(journal, 41, settle)
        assert len(all_of(path)) == 301


def test_what_cannot_be_opened_can_still_be_looked_at(path: Path) -> None:
    execute(path, "DELETE FROM events WHERE seq > 28")
    with pytest.raises(JournalCorruptError):
        open_reader(path)

    with open_damaged(path) as reader:
        damaged: JournalReader = reader
        assert damaged.head == 28
        assert damaged.checkpoint_seqs == (10, 30)


def test_a_copied_file_is_enough(path: Path, tmp_path: Path) -> None:
    """A backup is one file: any program may carry it."""
    backup(path, tmp_path / "saved.db")
    carried = tmp_path / "elsewhere"
    carried.mkdir()
    shutil.copy(tmp_path / "saved.db", carried)

    restore(carried / "saved.db", carried / "rig.db", settle, wall=WALL)

    assert all_of(carried / "rig.db") == events(*range(1, 41))
