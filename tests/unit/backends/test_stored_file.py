"""The store in a journal's file: one commit with the journal, crashes, damage, versions, locks."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.backends import Record, SQLiteBackend, maintenance
from ezgraph.backends import lock as locks
from ezgraph.backends.lock import SharedLock, StoredNote
from ezgraph.backends.sqlite import SQLiteConnection, SQLiteJournal, open_reader
from ezgraph.backends.sqlite_file import JournalDatabase, store_storage_format, transaction
from ezgraph.errors import (
    EzGraphError,
    JournalCorruptError,
    JournalError,
    JournalFailedError,
    JournalLockedError,
    JournalVersionError,
    TagExistsError,
    UnknownTagError,
)
from ezgraph.names import topic_of
from ezgraph.protocol.artifacts import Artifact, Partition
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graphs import Graph, Snapshot
from ezgraph.protocol.recordings import RecordingInfo
from ezgraph.protocol.stored import TagRow
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WALL = 4e9
RAW = Artifact("raw", storage="file:///data/{n}.h5")
ONE, TWO = (
    Snapshot(Graph("rig", settings={"A": {"gain": gain}}), seq=gain, epoch=1) for gain in (1, 2)
)


def partitions(*numbers: int) -> list[Partition]:
    return [Partition({"n": n}, Fingerprint.from_string("x"), location=f"/{n}") for n in numbers]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rig.db"


def connected(path: Path) -> SQLiteConnection:
    return SQLiteBackend(path, "NORMAL").connect()


def filled(path: Path) -> None:
    with connected(path) as conn:
        conn.write_snapshot_tag(ONE, "good")
        conn.write_artifact_and_graph_partitions(ONE, "raw", RAW, partitions(*range(30)))
        conn.write_snapshot_tag(TWO, "better")


def all_of(path: Path) -> tuple[Any, ...]:
    """Read everything there is, in every way in which it can be read."""
    with connected(path) as conn:
        tags = [conn.read_snapshot_tag("rig", tag.tag) for tag in conn.list_tags("rig")]
        return (
            tags,
            list(conn.list_graphs()),
            list(conn.list_snapshots()),
            list(conn.list_tags()),
            [conn.read_graph("rig", each.fingerprint) for each in conn.list_graphs()],
            [conn.read_snapshot("rig", each.fingerprint) for each in (ONE, TWO)],
            list(conn.tag_history("rig", "good")),
            conn.read_artifact_partitions(RAW),
            conn.read_artifact_partitions(
                RAW, {each.key: each.input_fingerprint for each in partitions(*range(30))}
            ),
            conn.read_snapshot_partitions(ONE, "raw", RAW),
            conn.find_snapshots(RAW, partitions(3)[0]),
        )


def journal_records(*seqs: int) -> list[Record]:
    return [Record(seq, b"a/", b"event %d" % seq) for seq in seqs]


# --- where there is nothing ---


def test_what_only_reads_creates_nothing(path: Path) -> None:
    with connected(path) as conn:
        assert conn.read_artifact_partitions(RAW) == ()
        assert len(conn.list_graphs()) == 0
        for refused in (
            lambda: conn.read_graph("rig", ONE.fingerprint),
            lambda: conn.read_snapshot_tag("rig", "good"),
            lambda: conn.untag("rig", "good"),
        ):
            with pytest.raises(EzGraphError):
                refused()

    assert list(path.parent.iterdir()) == []


def test_a_missing_folder_and_a_folder_are_refused(path: Path) -> None:
    for place, why in ((path / "x" / "rig.db", "is no directory"), (path.parent, "is a directory")):
        with connected(place) as conn:
            with pytest.raises(JournalError, match=why):
                conn.write_graph(ONE.graph)
            with pytest.raises(JournalError, match=why):
                conn.read_graph("rig", ONE.fingerprint)


def test_a_file_that_is_no_journal_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"my thesis" * 100)
    with connected(path) as conn:
        for use in (lambda: conn.list_tags(), lambda: conn.write_graph(ONE.graph)):
            with pytest.raises(JournalError, match="no ezgraph journal"):
                use()

    assert path.read_bytes() == b"my thesis" * 100


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_one_may_only_read_can_be_read(path: Path) -> None:  # pragma: no cover
    filled(path)
    before = all_of(path)
    path.parent.chmod(0o500)
    try:
        assert all_of(path) == before
        with connected(path) as conn, pytest.raises(JournalError):
            conn.untag("rig", "good")
    finally:
        path.parent.chmod(0o700)


def test_where_this_user_may_not_write_it_is_read_without_files_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)
    before, there = all_of(path), sorted(path.parent.iterdir())
    monkeypatch.setattr(os, "access", lambda place, mode: mode == os.R_OK)
    opened: list[list[Path]] = []
    execute = JournalDatabase.execute

    def watch(db: JournalDatabase, *args: Any) -> sqlite3.Cursor:
        opened.append(sorted(path.parent.iterdir()))
        return execute(db, *args)

    monkeypatch.setattr(JournalDatabase, "execute", watch)

    assert all_of(path) == before
    assert all(each == there for each in opened)


# --- the journal of a broker, and the store beside it ---


def test_a_journal_of_before_there_was_a_store_gets_one_when_something_is_stored(
    path: Path,
) -> None:
    with connected(path) as conn, conn.open_journal() as journal:
        journal.append(journal_records(1, 2, 3))
    with closing(sqlite3.connect(path)) as db:
        assert "stored" not in {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}

    with connected(path) as conn:
        assert len(conn.list_tags()) == 0
        assert len(conn.list_recordings()) == 0
        conn.write_snapshot_tag(ONE, "good")
        begun = RecordingInfo("rig", "raw", RAW, first_seq=3, start=ONE.fingerprint)
        conn.write_recording(begun)

    with connected(path) as conn, conn.open_journal() as journal:
        assert journal.head == 3
        assert conn.read_recording("rig", "raw", 1).first_seq == 3
        assert conn.read_snapshot_tag("rig", "good") == ONE
        journal.append(journal_records(4))
    with open_reader(path) as reader:
        assert reader.verify_store() > 0
        assert reader.read(0).events == (b"event 1", b"event 2", b"event 3", b"event 4")


def test_what_is_stored_through_the_journal_comes_with_the_next_append(path: Path) -> None:
    def put(store: Any) -> str:
        store.put({b"tag/": b"1"})
        return "done"

    with connected(path) as conn, conn.open_journal() as journal:
        assert journal.change(put) == "done"
        before = journal.is_changed
        assert journal.ask(lambda store: store.get(b"tag/")) == b"1"
        with connected(path) as other:
            assert other._read(lambda store: store.get(b"tag/")) is None
        journal.append(journal_records(1))
        assert (before, journal.is_changed) == (True, False)
        with connected(path) as other:
            assert other._read(lambda store: store.get(b"tag/")) == b"1"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_change_that_raises_changes_nothing_and_the_others_stay(path: Path, kind: str) -> None:
    from ezgraph.backends import Backend

    def refused(store: Any) -> None:
        store.put({b"two/": b"2", b"one/": b"changed"})
        store.remove([b"one/"])
        raise TagExistsError("refused")

    url = {"memory": "memory://", "sqlite": f"sqlite:///{path}"}[kind]
    with Backend.from_url(url).connect() as conn, conn.open_journal() as journal:
        with pytest.raises(TagExistsError):
            journal.change(refused)
        assert not journal.is_changed
        journal.write_checkpoint(checkpoint_at(0))  # no transaction was left open
        journal.append(journal_records(1))
        journal.change(lambda store: store.put({b"one/": b"1"}))
        with pytest.raises(TagExistsError):
            journal.change(refused)
        journal.append(journal_records(2))
        assert journal.ask(lambda store: store.scan(b"one/")) == [(b"one/", b"1")]
        assert journal.ask(lambda store: store.get(b"two/")) is None
        journal.write_checkpoint(checkpoint_at(2))


def checkpoint_at(seq: int) -> Any:
    from ezgraph.backends import Checkpoint

    return Checkpoint(seq, (b"entry",), {})


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_was_not_appended_is_gone_when_the_journal_is_closed(path: Path, kind: str) -> None:
    from ezgraph.backends import Backend

    url = {"memory": "memory://", "sqlite": f"sqlite:///{path}"}[kind]
    with Backend.from_url(url).connect() as conn:
        with conn.open_journal() as journal:
            journal.append(journal_records(1))
            journal.change(lambda store: store.put({b"one/": b"1"}))
        with conn.open_journal() as journal:
            assert journal.head == 1
            assert journal.ask(lambda store: store.get(b"one/")) is None


def test_a_failed_append_stores_neither_the_records_nor_what_comes_with_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(path) as conn:
        journal = conn.open_journal()
        journal.change(lambda store: store.put({b"one/": b"1"}))
        with pytest.raises(JournalFailedError):
            journal.append([Record(1, b"a/", "no bytes")])  # type: ignore[arg-type]
        with pytest.raises(JournalFailedError):
            journal.change(lambda store: store.put({b"one/": b"1"}))

    with connected(path) as conn, conn.open_journal() as journal:
        assert journal.head == 0
        assert journal.ask(lambda store: store.get(b"one/")) is None


def test_while_a_broker_runs_others_read_but_do_not_write(path: Path) -> None:
    filled(path)
    before = all_of(path)
    with connected(path) as broker, broker.open_journal():
        assert all_of(path) == before
        with (
            connected(path) as conn,
            pytest.raises(JournalLockedError, match=rf"process {os.getpid()}.*ezgraph://"),
        ):
            conn.write_snapshot_tag(ONE, "x")
        broker.write_snapshot_tag(ONE, "x")
        with connected(path) as conn:
            assert conn.read_snapshot_tag("rig", "x") == ONE


def test_a_broker_starts_while_a_connection_is_open_but_not_while_it_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE_S", 0.05)
    with connected(path) as conn:
        conn.write_snapshot_tag(ONE, "good")
        with connected(path) as broker, broker.open_journal() as journal:
            journal.append(journal_records(1))
            broker.write_snapshot_tag(TWO, "better")
        conn.write_snapshot_tag(TWO, "again")
        assert [tag.tag for tag in conn.list_tags()] == ["again", "better", "good"]
        with (
            SharedLock(path),
            connected(path) as broker,
            pytest.raises(JournalLockedError, match="written by programs without a broker"),
        ):
            broker.open_journal()


def test_a_connection_goes_on_with_the_file_that_was_restored_in_place_of_the_other(
    path: Path, tmp_path: Path
) -> None:
    with connected(path) as conn:
        conn.write_snapshot_tag(ONE, "good")
        maintenance.backup(path, tmp_path / "backup.db")
        conn.write_snapshot_tag(TWO, "better")
        maintenance.restore_over(tmp_path / "backup.db", path, lambda _: None, wall=WALL)

        assert [tag.tag for tag in conn.list_tags()] == ["good"]
        conn.write_snapshot_tag(TWO, "again")
    with connected(path) as conn:
        assert [tag.tag for tag in conn.list_tags()] == ["again", "good"]


# --- crashes ---


def killed_at(step: int, work: Callable[[], None], path: Path) -> bool:
    """Do ``work`` in a child that is killed before its ``step``-th statement; say if it was."""
    child = os.fork()
    if child == 0:
        _count_down(step)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _count_down(step: int) -> None:
    left = [step]

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(sqlite3.Connection, name)

        def call(db: JournalDatabase, *args: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(db, *args)

        return call

    for name in ("execute", "executemany"):
        setattr(JournalDatabase, name, counted(name))


def tag_and_write(path: Path) -> None:
    with connected(path) as conn:
        conn.write_snapshot_tag(TWO, "good", overwrite=True)
        conn.write_artifact_and_graph_partitions(TWO, "raw", RAW, partitions(1, 2, 3))


def seen(path: Path) -> tuple[Any, ...]:
    with connected(path) as conn:
        try:
            tagged = conn.read_snapshot_tag("rig", "good").seq
        except UnknownTagError:
            tagged = 0
        history = 0 if not tagged else len(conn.tag_history("rig", "good"))
        return (
            tagged,
            history,
            len(conn.list_graphs()),
            len(conn.list_snapshots()),
            len(conn.read_artifact_partitions(RAW)),
            0 if tagged != 2 else len(conn.read_snapshot_partitions(TWO, "raw", RAW)),
        )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("before", ["nothing", "a store"])
def test_killed_at_any_step_it_leaves_the_old_or_the_new_and_never_a_third(
    path: Path, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = path.with_name("start")
    start.mkdir()
    if before == "a store":
        with connected(start / "rig.db") as conn:
            conn.open_journal().append(journal_records(1, 2))
            conn.write_snapshot_tag(ONE, "good")
    old = (1, 1, 1, 1, 0, 0) if before == "a store" else (0, 0, 0, 0, 0, 0)
    middle = (2, 2, 2, 2, 0, 0) if before == "a store" else (2, 1, 1, 1, 0, 0)
    new = (*middle[:4], 3, 3)
    found, step = [], 1 if before == "a store" else 0
    while True:
        step += 2  # of the odd ones with a store, of the even ones without
        folder = path.with_name(f"{step}")
        shutil.copytree(start, folder)
        here = folder / "rig.db"

        was_killed = killed_at(step, lambda here=here: tag_and_write(here), here)  # type: ignore[misc]

        found.append(seen(here))
        if here.exists():
            with connected(here) as conn, conn.open_journal() as journal:
                assert journal.head == (2 if before == "a store" else 0)
            assert found[-1] == seen(here)  # also once the broker has opened it
            with open_reader(here) as reader:
                reader.verify_store()
        if step % 10 < 2 or not was_killed:
            tag_and_write_again(here)
        shutil.rmtree(folder)
        if not was_killed:
            break

    assert step > 30
    assert found == sorted(found)  # once it is there, it stays there
    assert set(found) == {old, middle, new}


def tag_and_write_again(path: Path) -> None:
    """Whatever a crash has left, the same works once more."""
    tag_and_write(path)
    assert seen(path)[0] == 2
    assert seen(path)[4:] == (3, 3)


# --- damage ---


def flipped(content: bytes, bit: int) -> bytes:
    place, mask = bit // 8, 1 << bit % 8
    return content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


def test_no_flipped_bit_gives_another_answer(path: Path) -> None:
    filled(path)
    whole, before = path.read_bytes(), all_of(path)
    chance = random.Random(3)
    refused = 0
    with closing(sqlite3.connect(path)) as db:
        pages = (
            [page for (page,) in db.execute("SELECT pageno FROM dbstat WHERE name = 'stored'")]
            if _has_dbstat(db)
            else list(range(1, len(whole) // 4096 + 1))
        )
    for _ in range(150):
        page = chance.choice(pages)
        bit = chance.randrange((page - 1) * 4096 * 8, page * 4096 * 8)
        damaged = flipped(whole, bit)
        path.write_bytes(damaged)
        try:
            assert all_of(path) == before, f"bit {bit}"
        except JournalError:
            refused += 1
        assert path.read_bytes() == damaged

    assert refused > 20


def _has_dbstat(db: sqlite3.Connection) -> bool:
    try:
        db.execute("SELECT 1 FROM dbstat LIMIT 1")
    except sqlite3.OperationalError:
        return False
    return True


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(path: Path, part: float) -> None:
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])

    for use in (lambda: all_of(path), lambda: filled(path)):
        with pytest.raises(JournalError, match=r"damaged|cut off"):
            use()
    assert path.read_bytes() == whole[: int(len(whole) * part)]


def test_a_store_whose_newest_changes_are_gone_is_refused(path: Path) -> None:
    with SQLiteBackend(path).connect() as conn:
        conn.write_snapshot_tag(ONE, "good")
        conn.close()
        before = path.read_bytes()
        conn.write_snapshot_tag(TWO, "better")
    path.write_bytes(before)  # a whole file, as it was once

    with connected(path) as conn:
        for use in (
            lambda: conn.list_tags(),
            lambda: conn.write_snapshot_tag(TWO, "x"),
            lambda: conn.open_journal(),
        ):
            with pytest.raises(JournalCorruptError, match=r"was changed 2 times.*only 1"):
                use()

    path.with_name("rig.db.lock").unlink()
    with connected(path) as conn:
        assert [tag.tag for tag in conn.list_tags()] == ["good"]


def execute(path: Path, statement: str) -> int:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(statement).rowcount


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'tag/rig/good/'",
        "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'tag%'",
        "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'tagged/rig/good/%'",
        "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'piece/%'",
        "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'frozen/%'",
        "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'scope/%'",
        "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'partition/%3%'",
        "DELETE FROM stored WHERE key = x''",
        "DELETE FROM stored",
        "DROP TABLE stored",
        "UPDATE stored SET value = value || x'00' WHERE CAST(key AS TEXT) LIKE 'graph/%'",
        "UPDATE stored SET checksum = checksum + 1 WHERE CAST(key AS TEXT) LIKE 'snapshot/%'",
        "UPDATE stored SET key = 'tag/rig/bad/' WHERE CAST(key AS TEXT) LIKE 'tag/rig/good/'",
        "UPDATE stored SET key = CAST('tag/rig/gone/' AS BLOB)"
        " WHERE CAST(key AS TEXT) LIKE 'tag/rig/good/'",
        "UPDATE stored SET value = 5 WHERE CAST(key AS TEXT) LIKE 'tag/rig/better/'",
    ],
)
def test_rows_that_are_gone_or_changed_are_missed(path: Path, statement: str) -> None:
    filled(path)
    before = all_of(path)
    execute(path, statement)

    with pytest.raises(JournalCorruptError), open_reader(path) as reader:
        reader.verify_store()
    if "x''" in statement:  # the row before all others, which not every answer depends on
        with suppress(JournalCorruptError):
            assert all_of(path) == before
    else:
        with pytest.raises(JournalCorruptError):
            all_of(path)


def test_a_row_that_is_gone_is_missed_by_who_asks_for_it_or_writes_beside_it(path: Path) -> None:
    filled(path)
    execute(path, "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'tag/rig/good/'")

    with connected(path) as conn:
        for use in (
            lambda: conn.read_snapshot_tag("rig", "good"),
            lambda: conn.write_snapshot_tag(ONE, "good"),
            lambda: conn.list_tags("rig"),
            lambda: conn.untag("rig", "better"),
        ):
            with pytest.raises(JournalCorruptError, match="missing"):
                use()
        assert conn.read_graph("rig", ONE.fingerprint) == ONE.graph  # which is not beside it


def test_damage_in_the_store_fails_one_change_and_not_the_journal(path: Path) -> None:
    filled(path)
    with connected(path) as conn, conn.open_journal() as journal:
        execute_beside(journal, "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'tag/rig/good/'")
        with pytest.raises(JournalCorruptError):
            conn.write_snapshot_tag(ONE, "good")
        journal.append(journal_records(1))
        assert journal.head == 1


def execute_beside(journal: SQLiteJournal, statement: str) -> None:
    journal._db.execute(statement)


# --- versions ---


def test_a_store_of_a_newer_form_is_refused_and_the_journal_beside_it_opens(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db, transaction(db):
        store_storage_format(db, 2)
    path.with_name("rig.db.lock").unlink()

    with connected(path) as conn:
        for use in (lambda: conn.list_tags(), lambda: conn.write_graph(ONE.graph)):
            with pytest.raises(JournalVersionError, match="form 2, this ezgraph knows 1"):
                use()
    with connected(path) as conn, conn.open_journal() as journal:
        journal.append(journal_records(1))


def test_a_row_of_a_newer_version_is_refused_and_the_others_are_read(path: Path) -> None:
    filled(path)
    newer = TagRow(b"snapshot/", None, 1.0, "me", version=2)
    with connected(path) as conn:
        key = topic_of(("tag", "rig", "later"))
        conn._write(lambda store: store.put({key: codec.encode(newer)}))

        with pytest.raises(JournalVersionError, match=r"newer ezgraph .version 2"):
            conn.read_snapshot_tag("rig", "later")
        assert conn.read_snapshot_tag("rig", "good") == ONE


# --- notes beside the file ---


@pytest.mark.parametrize("line", ["", "stored", "stored x y z", "x" * 200, "stored a 1 0000000001"])
def test_a_note_that_is_not_whole_is_none(line: str) -> None:
    assert StoredNote.parse(line) is None


def test_a_note_is_read_back_and_the_two_do_not_disturb_each_other(path: Path) -> None:
    note = StoredNote("c" * 32, 1 << 60)
    assert StoredNote.parse(str(note)) == note
    lock = locks.FileLock(path)
    lock.leave_stored_note(note)
    lock.leave_note(locks.Note("c" * 32, 7, 1))
    lock.release()

    assert locks.stored_note_beside(path) == note
    assert locks.note_beside(path) == locks.Note("c" * 32, 7, 1)
    with SharedLock(path):
        assert locks.stored_note_beside(path) == note
