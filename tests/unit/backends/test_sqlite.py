"""What a journal in a SQLite file adds: it outlives its process, and tells when it is damaged."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ezgraph import backends
from ezgraph.backends import Checkpoint, Record, SQLiteBackend, sqlite_file
from ezgraph.errors import (
    JournalCorruptError,
    JournalError,
    JournalFailedError,
    JournalLockedError,
    JournalVersionError,
)

if TYPE_CHECKING:
    from ezgraph.backends.sqlite import SQLiteJournal

ROOT = Path(backends.__file__).parents[2]
TOPIC = b"settings/SYS/"
APPEND_FOR_EVER = """
import sys
from ezgraph.backends import Record, SQLiteBackend
journal = SQLiteBackend(sys.argv[1]).connect().open_journal()
while True:
    seqs = range(journal.head + 1, journal.head + 4)
    journal.append([Record(seq, b"a/", b"event %d" % seq) for seq in seqs])
    print(journal.head, flush=True)
"""
APPEND_AND_DIE = """
import os, sys
from ezgraph.backends import Record, SQLiteBackend
journal = SQLiteBackend(sys.argv[1]).connect().open_journal()
for seq in range(1, 31):
    journal.append([Record(seq, b"a/", b"event %d" % seq)])
os.kill(os.getpid(), 9)
"""
APPEND_UNTIL_FULL = """
import json, resource, sys
from ezgraph.backends import Record, SQLiteBackend
from ezgraph.errors import JournalFailedError
journal = SQLiteBackend(sys.argv[1]).connect().open_journal()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
errors = []
while len(errors) < 2:
    seqs = range(journal.head + 1, journal.head + 4)
    try:
        journal.append([Record(seq, b"a/", b"event %d" % seq) for seq in seqs])
    except JournalFailedError as error:
        errors.append(f"{error} because {error.__cause__!r}")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([journal.head, errors]))
"""


def event(seq: int) -> bytes:
    return b"<event %03d>" % seq


def opened(path: Path) -> SQLiteJournal:
    return SQLiteBackend(path).connect().open_journal()


def append(journal: SQLiteJournal, *, through: int) -> None:
    seqs = range(journal.head + 1, through + 1)
    journal.append([Record(seq, TOPIC, event(seq)) for seq in seqs])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed journal of 30 records."""
    path = tmp_path / "journal.db"
    with opened(path) as journal:
        append(journal, through=30)
    return path


def execute(path: Path, statement: str) -> None:
    """Do to the file what ezgraph never does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement)


def damaged_at(path: Path, offset: int, *, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


class TestDurability:
    def test_nothing_acknowledged_is_lost_when_the_process_is_killed(self, tmp_path: Path) -> None:
        path = tmp_path / "journal.db"
        command = [sys.executable, "-c", APPEND_FOR_EVER, str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as broker:
            assert broker.stdout is not None
            acknowledged = [int(broker.stdout.readline()) for _ in range(50)]
            broker.kill()
            acknowledged += [int(line) for line in broker.stdout if line.endswith("\n")]

        with opened(path) as journal:
            assert journal.head >= acknowledged[-1]
            found = journal.read(0, max_rows=1_000_000).events
            assert found == tuple(b"event %d" % seq for seq in range(1, journal.head + 1))

    def test_on_a_full_disk_the_batch_fails_and_so_do_later_ones(self, tmp_path: Path) -> None:
        path = tmp_path / "journal.db"

        command = [sys.executable, "-c", APPEND_UNTIL_FULL, str(path)]
        broker = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

        head, (first, later) = json.loads(broker.stdout)
        assert "nothing of this batch was acknowledged. Free disk space" in first
        assert "OperationalError" in first
        assert "takes no more writes" in later
        with opened(path) as journal:
            assert journal.head in (head, head + 3)
            assert journal.read(head - 1, through=head).events == (b"event %d" % head,)

    def test_after_a_failed_append_it_reads_but_writes_no_more(self, path: Path) -> None:
        with opened(path) as journal:
            writer = journal.begin_checkpoint(30)
            journal._db.execute("PRAGMA max_page_count = 1")

            with pytest.raises(JournalFailedError, match="disk is full") as caught:
                journal.append([Record(31, TOPIC, bytes(100_000))])

            assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
            assert journal.head == 30
            assert "failed" in repr(journal)
            assert journal.read(29).events == (event(30),)
            for write in (
                lambda: append(journal, through=31),
                lambda: journal.append([]),
                lambda: journal.drop_below(1),
                lambda: writer.add([b"entry"]),
                lambda: writer.finish({}),
            ):
                with pytest.raises(JournalFailedError, match="takes no more writes"):
                    write()
        with opened(path) as journal:
            append(journal, through=31)

    def test_a_record_that_cannot_be_stored_fails_the_journal(self, path: Path) -> None:
        with opened(path) as journal, pytest.raises(JournalFailedError):
            journal.append([Record(31, TOPIC, "text")])  # type: ignore[arg-type]
        with opened(path) as journal:
            assert journal.head == 30

    def test_an_interrupted_append_fails_the_journal_too(self, path: Path) -> None:
        class Interrupted:
            seq = 31
            topic = TOPIC

            @property
            def event(self) -> bytes:
                raise KeyboardInterrupt

        with opened(path) as journal:
            with pytest.raises(KeyboardInterrupt):
                journal.append([Interrupted()])  # type: ignore[list-item]
            with pytest.raises(JournalFailedError, match="takes no more writes"):
                append(journal, through=31)
        with opened(path) as journal:
            assert journal.head == 30

    def test_full_is_the_default_and_the_option_counts(self, path: Path) -> None:
        levels = []
        for backend in (SQLiteBackend(path), SQLiteBackend(path, "NORMAL")):
            with backend.connect().open_journal() as journal:
                levels += journal._db.execute("PRAGMA synchronous").fetchone()

        assert levels == [2, 1]

    def test_closing_leaves_one_whole_file(self, path: Path) -> None:
        assert sorted(os.listdir(path.parent)) == ["journal.db", "journal.db.lock"]
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)

        with opened(copy) as journal:
            assert journal.head == 30

    def test_others_cannot_read_the_secret(self, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


class TestLock:
    def test_a_second_broker_is_refused_whatever_it_calls_the_file(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link = path.with_name("link.db")
        link.symlink_to(path)
        monkeypatch.chdir(path.parent)
        with opened(path):
            for name in (path, link, Path("journal.db")):
                with pytest.raises(JournalLockedError, match=f"process {os.getpid()}"):
                    opened(name)
        opened(link).close()

    def test_others_may_read_while_it_is_held(self, path: Path) -> None:
        with opened(path) as journal, closing(sqlite3.connect(path)) as reader:
            append(journal, through=40)
            assert reader.execute("SELECT count(*) FROM events").fetchone() == (40,)
            append(journal, through=50)

    def test_it_is_released_when_opening_fails(self, path: Path) -> None:
        execute(path, "DELETE FROM events WHERE seq = 1")
        for _ in range(2):
            with pytest.raises(JournalCorruptError, match="record 1 is missing"):
                opened(path)

    def test_it_belongs_to_the_thread_that_opened_it(self, path: Path) -> None:
        caught: list[BaseException] = []

        def close() -> None:
            try:
                journal.close()
            except sqlite3.ProgrammingError as error:
                caught.append(error)

        with opened(path) as journal:
            thread = threading.Thread(target=close)
            thread.start()
            thread.join()
            assert len(caught) == 1
            append(journal, through=31)


class TestPlace:
    def test_a_journal_cannot_lie_where_there_is_no_directory(self, path: Path) -> None:
        for parent in (path, path.parent / "absent"):
            with pytest.raises(JournalError, match="is no directory; create it"):
                opened(parent / "new.db")

    def test_a_directory_is_no_journal(self, tmp_path: Path) -> None:
        with pytest.raises(JournalError, match="is a directory; name a file in it"):
            opened(tmp_path)

    def test_a_device_is_no_journal(self) -> None:
        with pytest.raises(JournalError, match="is no regular file"):
            opened(Path("/dev/null"))

    def test_a_directory_that_takes_no_file_is_named(self) -> None:
        with pytest.raises(JournalError, match="/proc"):
            opened(Path("/proc/journal.db"))

    def test_a_name_that_is_too_long_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(JournalError, match="cannot create the lock file"):
            opened(tmp_path / ("x" * 300))

    def test_a_file_that_must_not_be_written_is_refused(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)

        with pytest.raises(JournalError, match="cannot be read and written by this user"):
            opened(path)

    def test_a_disk_too_full_to_begin_leaves_nothing_behind(self, tmp_path: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        try:
            with pytest.raises(JournalError, match=r"cannot create .* disk has room"):
                opened(tmp_path / "journal.db")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert os.listdir(tmp_path) == ["journal.db.lock"]

    def test_half_a_creation_is_begun_again(self, tmp_path: Path) -> None:
        (tmp_path / "journal.db.new").write_bytes(b"half")

        with opened(tmp_path / "journal.db") as journal:
            assert journal.head == 0
        assert "journal.db.new" not in os.listdir(tmp_path)


class TestForeignFile:
    def test_another_database_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "other.db"
        execute(path, "CREATE TABLE events (seq, topic, event, checksum)")
        before = path.read_bytes()

        with pytest.raises(JournalError, match="is a SQLite file, but no ezgraph journal"):
            opened(path)

        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["other.db"]

    @pytest.mark.parametrize("content", [b"x", b"a text\n" * 1000, bytes(8192)])
    def test_a_file_that_is_no_database_is_refused_and_left_alone(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "notes.txt"
        path.write_bytes(content)

        with pytest.raises(JournalError, match="is a file, but no ezgraph journal"):
            opened(path)

        assert path.read_bytes() == content
        assert os.listdir(tmp_path) == ["notes.txt"]

    def test_a_newer_format_names_both_versions(self, path: Path) -> None:
        newer = sqlite_file.FORMAT + 1
        execute(path, f"UPDATE meta SET value = {newer} WHERE key = 'format'")

        with pytest.raises(
            JournalVersionError, match=f"format {newer}, this ezgraph knows {newer - 1}"
        ):
            opened(path)


class TestDamage:
    @pytest.mark.parametrize("part", ["topic", "event", "checksum"])
    @pytest.mark.parametrize("bit", [0, 3, 7])
    @pytest.mark.parametrize("prefix", [b"", TOPIC, b"config/"])
    def test_a_flipped_bit_is_found_and_its_record_named(
        self, path: Path, part: str, bit: int, prefix: bytes
    ) -> None:
        content = path.read_bytes()
        where = content.index(TOPIC + event(17))
        starts = {"topic": 0, "event": len(TOPIC), "checksum": len(TOPIC + event(17))}
        for offset in range(3):
            path.write_bytes(content)
            damaged_at(path, where + starts[part] + offset, bit=bit)

            with opened(path) as journal:
                assert journal.read(0, through=16, prefix=prefix).through == 16
                with pytest.raises(JournalCorruptError, match=r"record 17 fails .*a backup"):
                    journal.read(0, prefix=prefix)
                assert journal.read(17).events == tuple(event(seq) for seq in range(18, 31))

    def test_no_flipped_bit_near_a_record_changes_what_is_read(self, path: Path) -> None:
        content = path.read_bytes()
        expected = tuple(event(seq) for seq in range(1, 31))
        where = content.index(TOPIC + event(17))
        found = 0
        for offset in range(where - 8, where + 40):
            path.write_bytes(content)
            damaged_at(path, offset, bit=offset % 8)
            try:
                with opened(path) as journal:
                    assert journal.read(0).events == expected
            except JournalCorruptError:
                found += 1

        assert found >= 47

    def test_no_flipped_bit_in_the_first_pages_changes_who_it_is(self, path: Path) -> None:
        content = path.read_bytes()
        with opened(path) as journal:
            identity = journal.meta
        for offset in range(0, 2 * 4096, 41):
            path.write_bytes(content)
            damaged_at(path, offset, bit=offset % 8)
            try:
                with opened(path) as journal:
                    assert (journal.meta, journal.floor, journal.head) == (identity, 1, 30)
            except JournalError:
                pass

    @pytest.mark.parametrize("size", [0, 1, 16, 99])
    def test_a_file_cut_off_in_its_header_is_left_alone(self, path: Path, size: int) -> None:
        os.truncate(path, size)

        with pytest.raises(JournalCorruptError, match=f"has {size} bytes: it was cut off"):
            opened(path)

        assert path.stat().st_size == size

    @pytest.mark.parametrize("cut", [1, 100, 4096, 5000, 3 * 4096])
    def test_a_file_cut_off_at_its_end_is_refused(self, path: Path, cut: int) -> None:
        with opened(path) as journal:
            append(journal, through=500)
        os.truncate(path, path.stat().st_size - cut)

        with pytest.raises(JournalCorruptError, match="restore a backup"):
            opened(path)

    def test_a_missing_record_is_named(self, path: Path) -> None:
        execute(path, "DELETE FROM events WHERE seq = 12")

        with opened(path) as journal:
            assert journal.read(0, through=11).events[-1] == event(11)
            with pytest.raises(JournalCorruptError, match="record 12 is missing"):
                journal.read(5, prefix=b"config/")
            with pytest.raises(JournalCorruptError, match="record 12 is missing"):
                journal.read(5, through=12)

    def test_records_missing_behind_a_checkpoint_are_noticed(self, path: Path) -> None:
        with opened(path) as journal:
            journal.write_checkpoint(Checkpoint(20, (), {}))
        execute(path, "DELETE FROM events WHERE seq > 15")
        path.with_name("journal.db.lock").unlink()

        with pytest.raises(JournalCorruptError, match="do not go on from its checkpoint at 20"):
            opened(path)

    def test_a_wal_without_its_file_is_not_taken_for_a_new_journal(self, path: Path) -> None:
        path.with_name("journal.db-wal").write_bytes(b"the newest records")
        path.unlink()

        with pytest.raises(JournalCorruptError, match="'-wal', is still there"):
            opened(path)

    def test_a_schema_that_is_no_text_any_more_is_refused(self, path: Path) -> None:
        damaged_at(path, path.read_bytes().index(b"CREATE TABLE meta") + 3, bit=7)

        with pytest.raises(JournalCorruptError, match="SQLite says"):
            opened(path)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE meta SET value = 'another' WHERE key = 'cluster_id'",
            "UPDATE meta SET value = 5 WHERE key = 'floor'",
            "DELETE FROM meta WHERE key = 'secret'",
            "DELETE FROM meta",
            "DROP TABLE meta",
            "DROP TABLE checkpoint_rows",
            "ALTER TABLE events DROP COLUMN checksum",
        ],
    )
    def test_a_changed_table_is_noticed(self, path: Path, statement: str) -> None:
        execute(path, statement)

        with pytest.raises(JournalCorruptError, match="restore a backup"), opened(path) as journal:
            journal.read(0)

    def test_a_value_of_another_type_is_noticed(self, path: Path) -> None:
        execute(path, "UPDATE events SET event = CAST(x'c328' AS TEXT) WHERE seq = 3")
        execute(path, "UPDATE events SET event = 'text' WHERE seq = 6")

        with opened(path) as journal:
            with pytest.raises(JournalCorruptError, match="UTF-8"):
                journal.read(2)
            with pytest.raises(JournalCorruptError, match="record 6"):
                journal.read(3)


class TestEnd:
    """The seq that was acknowledged last also stands beside the file."""

    def test_records_missing_at_the_end_are_noticed(self, path: Path) -> None:
        execute(path, "DELETE FROM events WHERE seq > 28")

        for _ in range(2):
            with pytest.raises(JournalCorruptError, match="ends with record 28, but 30 was"):
                opened(path)

    def test_a_flipped_bit_in_the_wal_of_a_killed_broker_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "journal.db"
        subprocess.run([sys.executable, "-c", APPEND_AND_DIE, str(path)], cwd=ROOT, check=False)
        wal = path.with_name("journal.db-wal")
        damaged_at(wal, wal.stat().st_size // 2)
        content = wal.read_bytes()

        for _ in range(2):
            with pytest.raises(JournalCorruptError, match="but 30 was acknowledged"):
                opened(path)
            assert wal.read_bytes() == content

    def test_an_older_backup_counts_once_its_user_says_so(self, path: Path) -> None:
        backup = path.read_bytes()
        with opened(path) as journal:
            append(journal, through=40)
        path.write_bytes(backup)

        with pytest.raises(
            JournalCorruptError, match=r"older backup .* remove '.*journal.db.lock'"
        ):
            opened(path)
        path.with_name("journal.db.lock").unlink()

        with opened(path) as journal:
            assert journal.head == 30

    def test_another_journal_at_its_path_is_not_measured_by_it(self, path: Path) -> None:
        path.unlink()

        with opened(path) as journal:
            assert journal.head == 0

    @pytest.mark.parametrize("content", ["", "torn", "x" * 64 + "y" * 64, "\n" * 200])
    def test_a_note_that_makes_no_sense_says_nothing(self, path: Path, content: str) -> None:
        path.with_name("journal.db.lock").write_text(content)

        for through in (31, 32):
            with opened(path) as journal:
                append(journal, through=through)

    def test_with_normal_a_power_cut_may_take_the_end(self, path: Path) -> None:
        note = path.with_name("journal.db.lock")
        with SQLiteBackend(path, "NORMAL").connect().open_journal() as journal:
            whole, before = path.read_bytes(), note.read_bytes()
            append(journal, through=40)
            assert note.read_bytes() == before
        path.write_bytes(whole)
        note.write_bytes(before)

        with opened(path) as journal:
            assert journal.head == 30


class TestCheckpoints:
    OLD = Checkpoint(10, (b"old entry",), {b"hash": b"schema"})
    NEW = Checkpoint(20, (b"new entry", b"another"), {b"hash": b"schema"})

    @pytest.fixture
    def path(self, path: Path) -> Path:
        with opened(path) as journal:
            journal.write_checkpoint(self.OLD)
            journal.write_checkpoint(self.NEW)
        return path

    def test_a_damaged_one_gives_way_to_the_older(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        damaged_at(path, path.read_bytes().index(b"new entry"))

        with caplog.at_level(logging.WARNING), opened(path) as journal:
            assert journal.load_checkpoint() == self.OLD

        assert "checkpoint at 20 fails its checksum" in caplog.text

    def test_with_both_damaged_all_is_replayed_as_long_as_all_is_there(self, path: Path) -> None:
        execute(path, "UPDATE checkpoint_rows SET value = x'00'")

        with opened(path) as journal:
            assert journal.load_checkpoint() is None
            assert len(journal.read(0).events) == 30

    def test_an_older_one_below_the_floor_cannot_help(self, path: Path) -> None:
        with opened(path) as journal:
            journal.drop_below(12)
        damaged_at(path, path.read_bytes().index(b"new entry"))

        with opened(path) as journal, pytest.raises(JournalCorruptError, match="checkpoint at 20"):
            journal.load_checkpoint()

    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM checkpoint_rows WHERE value = x'616e6f74686572'",
            "DELETE FROM checkpoint_rows WHERE name IS NOT NULL",
            "UPDATE checkpoint_rows SET name = 5 WHERE name IS NOT NULL",
        ],
    )
    def test_missing_and_changed_rows_are_noticed(self, path: Path, statement: str) -> None:
        execute(path, statement)

        with opened(path) as journal:
            assert journal.load_checkpoint() != self.NEW

    @pytest.mark.parametrize("column", ["id", "seq", "entries", "blobs", "checksum"])
    def test_a_changed_number_is_noticed_before_any_removal(self, path: Path, column: str) -> None:
        execute(path, f"UPDATE checkpoints SET {column} = {column} + 4")
        before = path.read_bytes()

        with pytest.raises(JournalCorruptError, match="fails its checksum"):
            opened(path)

        assert path.read_bytes() == before

    def test_only_the_newest_two_take_up_room(self, path: Path) -> None:
        entries = tuple(b"entry %d" % n for n in range(20))
        with opened(path) as journal:
            for seq in range(21, 30):
                journal.write_checkpoint(Checkpoint(seq, entries, {}))
                rows = journal._db.execute("SELECT count(*) FROM checkpoint_rows").fetchone()
                assert rows[0] <= 3 * len(entries)
            journal.begin_checkpoint(30).add(entries)

        with opened(path) as journal:
            rows = journal._db.execute("SELECT count(*) FROM checkpoint_rows").fetchone()
            assert rows[0] == 2 * len(entries)

    def test_a_crash_while_deleting_leaves_a_journal_that_opens(self, path: Path) -> None:
        with opened(path) as journal:
            assert journal.drop_below(15, max_rows=5) == 9

        with opened(path) as journal:
            assert (journal.floor, journal.head) == (15, 30)
            assert journal.drop_below(15, max_rows=5) == 4
            assert journal.drop_below(15, max_rows=5) == 0
