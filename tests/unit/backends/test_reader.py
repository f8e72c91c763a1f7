"""A journal is read without its lock and without a trace, whoever writes it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ezgraph import backends
from ezgraph.backends import Backend, Checkpoint, Connection, Record, SQLiteBackend, sqlite_file
from ezgraph.backends.sqlite_tables import Tables
from ezgraph.errors import JournalCorruptError, JournalError, JournalVersionError

if TYPE_CHECKING:
    from ezgraph.backends import Journal, JournalReader

ROOT = Path(backends.__file__).parents[2]
APPEND_AND_DIE = """
import os, sys
from ezgraph.backends import Record, SQLiteBackend
journal = SQLiteBackend(sys.argv[1]).connect().open_journal()
for seq in range(journal.head + 1, journal.head + 31):
    journal.append([Record(seq, b"a/", b"event %d" % seq)])
os.kill(os.getpid(), 9)
"""


def append(journal: Journal, *, through: int) -> None:
    seqs = range(journal.head + 1, through + 1)
    journal.append([Record(seq, b"a/", b"event %d" % seq) for seq in seqs])


def all_of(reader: JournalReader) -> tuple[bytes, ...]:
    return reader.read(reader.floor - 1, max_rows=10_000, max_bytes=1 << 30).events


def events(first: int, last: int) -> tuple[bytes, ...]:
    return tuple(b"event %d" % seq for seq in range(first, last + 1))


def everything_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What every file there holds, and when it was written; SQLite's index of a WAL apart."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file() and not path.name.endswith("-shm")
    }


def crashed(path: Path) -> None:
    """Let a broker append 30 events and die, so that its WAL lies beside the file."""
    subprocess.run([sys.executable, "-c", APPEND_AND_DIE, str(path)], cwd=ROOT, check=False)
    assert path.with_name(f"{path.name}-wal").stat().st_size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed journal of 30 records and a checkpoint."""
    path = tmp_path / "journal.db"
    with SQLiteBackend(path).connect().open_journal() as journal:
        append(journal, through=20)
        journal.write_checkpoint(Checkpoint(20, (b"entry",), {b"hash": b"blob"}))
        append(journal, through=30)
    return path


def reader_of(path: Path) -> JournalReader:
    return SQLiteBackend(path).connect().open_reader()


class TestEveryReader:
    def test_it_reads_what_the_journal_has(self, connection: Connection) -> None:
        with connection.open_journal() as journal:
            append(journal, through=20)
            journal.write_checkpoint(Checkpoint(10, (b"entry",), {}))
            journal.drop_below(5)
            with connection.open_reader() as reader:
                assert reader.meta == journal.meta
                assert reader.epochs == journal.epochs
                assert (reader.floor, reader.head, reader.epoch) == (5, 20, 1)
                assert reader.checkpoint_seqs == (10,)
                assert reader.load_checkpoint() == Checkpoint(10, (b"entry",), {})
                assert all_of(reader) == events(5, 20)
                assert 0 < reader.used_bytes() <= reader.size_bytes() or reader.size_bytes() == 0

    def test_it_stays_at_the_moment_it_was_opened(self, connection: Connection) -> None:
        with connection.open_journal() as journal:
            append(journal, through=20)
            with connection.open_reader() as reader:
                append(journal, through=30)
                journal.write_checkpoint(Checkpoint(30, (), {}))
                journal.drop_below(31)

                assert all_of(reader) == events(1, 20)
                assert reader.load_checkpoint() is None
            with connection.open_reader() as reader:
                assert (reader.floor, reader.head) == (31, 30)

    def test_a_closed_one_refuses(self, connection: Connection) -> None:
        with connection.open_journal():
            reader = connection.open_reader()
        reader.close()
        reader.close()

        with pytest.raises(JournalError, match="is closed"):
            reader.read(0)
        with pytest.raises(JournalError, match="is closed"):
            reader.each_checkpoint()
        assert "closed" in repr(reader)

    def test_without_a_journal_there_is_nothing_to_read(self, connection: Connection) -> None:
        with pytest.raises(JournalError, match="no journal"):
            connection.open_reader()


class TestNoTrace:
    def test_of_a_closed_journal(self, path: Path) -> None:
        before = everything_in(path.parent)

        with reader_of(path) as reader:
            assert all_of(reader) == events(1, 30)
            assert reader.load_checkpoint() == Checkpoint(20, (b"entry",), {b"hash": b"blob"})
            assert everything_in(path.parent) == before

        assert everything_in(path.parent) == before
        assert sorted(os.listdir(path.parent)) == ["journal.db", "journal.db.lock"]

    def test_of_one_whose_broker_died(self, path: Path) -> None:
        crashed(path)
        before = everything_in(path.parent)

        for _ in range(2):
            with reader_of(path) as reader:
                assert all_of(reader) == events(1, 60)

        assert everything_in(path.parent) == before
        with SQLiteBackend(path).connect().open_journal() as journal:
            assert journal.head == 60

    def test_of_one_that_lies_alone(self, path: Path) -> None:
        path.with_name("journal.db.lock").unlink()

        with reader_of(path) as reader:
            assert reader.head == 30

        assert os.listdir(path.parent) == ["journal.db"]

    def test_where_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(JournalError, match="there is no journal at"):
            reader_of(tmp_path / "absent.db")
        assert os.listdir(tmp_path) == []


class TestBesideABroker:
    def test_the_broker_goes_on_and_may_end_while_it_is_read(self, path: Path) -> None:
        with SQLiteBackend(path).connect().open_journal() as journal:
            append(journal, through=40)
            reader = reader_of(path)
            append(journal, through=3_000)

        assert all_of(reader) == events(1, 40)
        reader.close()
        with SQLiteBackend(path).connect().open_journal() as journal:
            assert journal.head == 3_000

    def test_in_one_process_the_locks_of_the_broker_hold(self, path: Path) -> None:
        """Closing any descriptor of a file drops the POSIX locks of its whole process."""
        exclusive = (
            "import sqlite3, sys\n"
            "db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
            "db.execute('PRAGMA locking_mode = EXCLUSIVE')\n"
            "db.execute('PRAGMA journal_mode = DELETE')"
        )
        with SQLiteBackend(path).connect().open_journal() as journal:
            append(journal, through=31)
            reader_of(path).close()
            with pytest.raises(JournalError):
                SQLiteBackend(path).connect().open_journal()

            other = subprocess.run(
                [sys.executable, "-c", exclusive, str(path)],
                capture_output=True,
                text=True,
                check=False,
            )

            assert "database is locked" in other.stderr
            append(journal, through=32)

    def test_one_that_starts_meanwhile_is_noticed(self, path: Path) -> None:
        with reader_of(path) as reader:
            with SQLiteBackend(path).connect().open_journal() as journal:
                append(journal, through=40)

            with pytest.raises(JournalError, match="written while it was read: a broker has"):
                reader.read(0)
            with pytest.raises(JournalError, match="ask again"):
                reader.each_checkpoint()


class TestDamage:
    def test_records_missing_at_the_end_are_noticed(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("DELETE FROM events WHERE seq > 28")

        with pytest.raises(JournalCorruptError, match="ends with record 28, but 30 was"):
            reader_of(path)

    def test_one_from_the_future_is_named(self, path: Path) -> None:
        newer = sqlite_file.FORMAT + 1
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(f"UPDATE meta SET value = {newer} WHERE key = 'format'")

        with pytest.raises(JournalVersionError, match=f"has journal format {newer}"):
            reader_of(path)

    @pytest.mark.parametrize("size", [0, 1, 99, 5000])
    def test_a_file_that_was_cut_off_is_named(self, path: Path, size: int) -> None:
        os.truncate(path, size)

        with pytest.raises(JournalCorruptError, match="is damaged"):
            reader_of(path)

    def test_a_checkpoint_beyond_the_head_is_named(self, path: Path) -> None:
        with SQLiteBackend(path).connect().open_journal() as journal:
            append(journal, through=40)
            journal.write_checkpoint(Checkpoint(40, (), {}))
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("DELETE FROM events WHERE seq > 35")
        path.with_name("journal.db.lock").unlink()

        with pytest.raises(JournalCorruptError, match="do not go on from its checkpoint at 40"):
            reader_of(path)

    @pytest.mark.parametrize("place", ["", "absent/journal.db"])
    def test_a_place_without_a_journal_is_named(self, tmp_path: Path, place: str) -> None:
        with pytest.raises(JournalError, match=r"is a directory|there is no journal"):
            reader_of(tmp_path / place)

    def test_a_device_is_no_journal(self) -> None:
        with pytest.raises(JournalError, match="is no regular file"):
            reader_of(Path("/dev/null"))

    def test_a_file_that_must_not_be_read_is_refused(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)

        with pytest.raises(JournalError, match="cannot be read by this user"):
            reader_of(path)


class TestAnotherCluster:
    """Parts of two journals in one place are two journals, however well they fit."""

    def other(self, tmp_path: Path, through: int) -> Path:
        folder = tmp_path / "other"
        folder.mkdir()
        other = folder / "journal.db"
        with SQLiteBackend(other).connect().open_journal() as journal:
            append(journal, through=through)
        crashed(other)
        return other

    @pytest.mark.parametrize("through", [0, 5, 30])
    def test_its_wal_beside_a_journal_is_found_before_anything_is_mixed(
        self, tmp_path: Path, path: Path, through: int
    ) -> None:
        wal = path.with_name("journal.db-wal")
        wal.write_bytes(self.other(tmp_path, through).with_name("journal.db-wal").read_bytes())
        before = everything_in(path.parent)

        named = pytest.raises(JournalCorruptError, match=r"another journal's|checksum|missing")
        with named:
            SQLiteBackend(path).connect().open_journal()
        with named, reader_of(path) as reader:
            all_of(reader)

        after = everything_in(path.parent)
        assert {**after, "journal.db.lock": None} == {**before, "journal.db.lock": None}

    def test_its_wal_that_hides_all_of_ours_is_found_by_the_note(self, tmp_path: Path) -> None:
        """Its WAL has every page that this file has: together they are the other journal."""
        path, other = tmp_path / "journal.db", tmp_path / "other.db"
        with SQLiteBackend(path).connect().open_journal() as journal:
            append(journal, through=30)
        with SQLiteBackend(other).connect().open_journal() as journal:
            journal.begin_epoch(2, 0)
            append(journal, through=30)
            wal = other.with_name("other.db-wal").read_bytes()
        path.with_name("journal.db-wal").write_bytes(wal)
        before = everything_in(tmp_path)["journal.db"]

        named = pytest.raises(JournalCorruptError, match="one of the two files is another journal")
        with named:
            reader_of(path)
        with named:
            SQLiteBackend(path).connect().open_journal()

        assert everything_in(tmp_path)["journal.db"] == before

    def test_its_wal_that_touches_nothing_of_ours_changes_nothing(
        self, tmp_path: Path, path: Path
    ) -> None:
        """It has only pages behind the end of this file: they are in nobody's way."""
        wal = path.with_name("journal.db-wal")
        wal.write_bytes(self.other(tmp_path, 200).with_name("journal.db-wal").read_bytes())

        for through in (30, 3_000):
            with SQLiteBackend(path).connect().open_journal() as journal:
                append(journal, through=through)
            with reader_of(path) as reader:
                assert all_of(reader) == events(1, through)
                assert reader.load_checkpoint() == Checkpoint(20, (b"entry",), {b"hash": b"blob"})

    def test_its_records_fail_their_checksums(self, tmp_path: Path, path: Path) -> None:
        other = self.other(tmp_path, 30)
        with SQLiteBackend(other).connect().open_journal():
            pass
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("ATTACH ? AS other", (str(other),))
            db.execute("INSERT OR REPLACE INTO events SELECT * FROM other.events WHERE seq = 17")

        wrong = pytest.raises(JournalCorruptError, match="record 17 fails its checksum")
        with reader_of(path) as reader, wrong:
            reader.read(0)

    def test_its_note_beside_a_journal_says_nothing_about_it(
        self, tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        note = self.other(tmp_path, 200).with_name("journal.db.lock").read_bytes()
        path.with_name("journal.db.lock").write_bytes(note)

        with reader_of(path) as reader:
            assert reader.head == 30
        with SQLiteBackend(path).connect().open_journal() as journal:
            assert journal.head == 30
        assert "another journal was at this path before" in caplog.text


class TestFormerFormat:
    def test_a_journal_of_format_1_is_read_and_written_as_it_was(self, path: Path) -> None:
        path.unlink()
        path.with_name("journal.db.lock").unlink()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sqlite_file, "FORMAT", 1)
            with SQLiteBackend(path).connect().open_journal() as journal:
                append(journal, through=10)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            assert db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() == (1,)

        with SQLiteBackend(path).connect().open_journal() as journal:
            append(journal, through=20)
            journal.write_checkpoint(Checkpoint(20, (b"entry",), {}))
            journal.begin_epoch(2, 100)
        with SQLiteBackend(path).connect().open_journal() as journal:
            assert all_of(journal) == events(1, 20)
            assert [span.epoch for span in journal.epochs] == [1, 2]
            assert journal.load_checkpoint() == Checkpoint(20, (b"entry",), {})


def test_a_backend_without_a_reader_is_not_complete() -> None:
    assert "open_reader" in Connection.__abstractmethods__
    with pytest.raises(JournalError), Backend.from_url("memory://").connect() as connection:
        connection.open_reader()


# --- forged by somebody who knows the checksums ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cluster_id", None),
        ("cluster_id", "no hex"),
        ("epoch", 2),
        ("epoch", "1"),
        ("secret", "text"),
        ("secret", bytes(65)),
        ("created_wall", "yesterday"),
        ("format", 0),
        ("format", "2"),
        ("floor", 0.5),
        ("floor", 0),
        ("epochs", None),
        ("epochs", "[]"),
        ("epochs", "[[1]]"),
        ("epochs", "[[1, 1, 5]]"),
        ("epochs", "[[1, 4, null], [1, 5, null]]"),
        ("epochs", "[[0, 1, 9], [1, 5, null]]"),
        ("epochs", f"[[1, {2**70}, null]]"),
    ],
)
def test_a_meta_table_that_names_no_history_is_damage(
    tmp_path: Path, name: str, value: object
) -> None:
    path = tmp_path / "journal.db"
    with SQLiteBackend(path).connect() as connection:
        append(connection.open_journal(), through=3)
    with closing(sqlite3.connect(path)) as db, db:
        meta = {**sqlite_file._stored_meta(db), name: value}
        sqlite_file._store_meta(db, meta)

    connection = SQLiteBackend(path).connect()
    for opened in (connection.open_reader, connection.open_journal):
        with pytest.raises(JournalCorruptError, match="names no history"):
            opened()


@pytest.mark.parametrize("numbers", [(1, "3", 0, 0), (1, -1, 0, 0), (1 << 40, 3, 0, 0)])
def test_a_checkpoint_of_impossible_numbers_is_damage(
    tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    path = tmp_path / "journal.db"
    with SQLiteBackend(path).connect() as connection:
        append(connection.open_journal(), through=3)
    with closing(sqlite3.connect(path)) as db, db:
        checksum = Tables(db, path).numbers_checksum(*numbers)
        db.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?)", (*numbers, checksum))

    with pytest.raises(JournalCorruptError, match=r"fails its checksum|do not go on"):
        SQLiteBackend(path).connect().open_reader().load_checkpoint()
