"""Backup, restore, repair and check of a journal, and the store that comes with it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ezgraph.backends import Record, SQLiteBackend, maintenance
from ezgraph.backends.lock import stored_note_beside
from ezgraph.backends.sqlite import open_reader
from ezgraph.backends.stored_salvage import consistent
from ezgraph.cli.journal_state import examine
from ezgraph.errors import JournalCorruptError, StillReferencedError
from ezgraph.protocol.artifacts import Artifact, Partition
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graphs import Graph, Snapshot
from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo

if TYPE_CHECKING:
    from pathlib import Path

    from ezgraph.backends import Journal

WALL = 4e9
RAW = Artifact("raw", storage="/data")
ONE, TWO = (
    Snapshot(Graph("rig", settings={"A": {"gain": gain}}), seq=gain, epoch=1) for gain in (1, 2)
)
PARTS = tuple(Partition({"n": n}, Fingerprint.from_string("x")) for n in range(5))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rig.db"
    with SQLiteBackend(path).connect() as conn:
        with conn.open_journal() as journal:
            journal.append([Record(1, b"a/", b"event")])
        conn.write_snapshot_tag(ONE, "one")
        conn.write_snapshot_tag(TWO, "two")
        conn.write_artifact_and_graph_partitions(ONE, "raw", RAW, PARTS)
        conn.write_snapshot_partitions(TWO, "raw", RAW, PARTS[:2])
    return path


def settle(journal: Journal) -> None:
    from ezgraph.backends import Checkpoint

    journal.write_checkpoint(Checkpoint(journal.head, (), {}))


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute(statement).rowcount != 0


def tags(path: Path) -> list[str]:
    with SQLiteBackend(path).connect() as conn:
        return [tag.tag for tag in conn.list_tags("rig")]


def test_a_backup_has_what_is_stored_and_is_verified(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    maintenance.backup(path, copy)

    assert tags(copy) == ["one", "two"]
    with SQLiteBackend(copy).connect() as conn:
        assert conn.read_snapshot_partitions(ONE, "raw", RAW) == PARTS
    execute(path, "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'tag/%'")
    with pytest.raises(JournalCorruptError):
        maintenance.backup(path, tmp_path / "other.db")
    assert not (tmp_path / "other.db").exists()


def test_an_older_backup_that_is_restored_is_not_taken_for_a_file_that_lost_its_end(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    maintenance.backup(path, copy)
    with SQLiteBackend(path).connect() as conn:
        conn.untag("rig", "one")
    before = stored_note_beside(path)

    maintenance.restore_over(copy, path, settle, wall=WALL)

    after = stored_note_beside(path)
    assert before is not None
    assert after is not None
    assert before.revision == after.revision + 1
    assert tags(path) == ["one", "two"]


def test_a_check_names_what_is_damaged_and_what_that_costs(path: Path) -> None:
    with SQLiteBackend(path).connect() as conn, conn.open_journal() as journal:
        journal.drop_below(1)
    execute(path, "UPDATE stored SET value = x'00' WHERE CAST(key AS TEXT) LIKE 'tag/rig/one/'")

    verdict = examine(path)

    assert verdict.damage is not None
    assert "tag/rig/one/" in verdict.damage.what
    assert "no event is lost" in verdict.damage.meaning


def repaired(path: Path, tmp_path: Path) -> tuple[Path, maintenance.Repaired]:
    new = tmp_path / "new.db"
    done = maintenance.repair(path, new, settle, wall=WALL)
    with open_reader(new) as reader:
        assert reader.verify_store() == done.stored_rows
    return new, done


def test_a_repair_keeps_all_that_is_stored_where_that_is_whole(path: Path, tmp_path: Path) -> None:
    new, done = repaired(path, tmp_path)

    assert done.stored_damage is None
    assert tags(new) == ["one", "two"]
    with SQLiteBackend(new).connect() as conn:
        assert conn.read_snapshot_partitions(TWO, "raw", RAW) == PARTS[:2]
        conn.untag("rig", "two")
    assert tags(new) == ["one"]


DAMAGE = {
    "a tag": ("tag/rig/one/", ["two"], 2),
    "a graph": (f"graph/rig/{ONE.fingerprint}/", ["two"], 1),
    "a snapshot": ("snapshot/rig/%/0000000000000001/%", ["two"], 1),
    "what a snapshot is found by": (f"frozen/rig/{ONE.fingerprint}/%", ["one", "two"], 2),
    "what partitions are found by": ("scope/%", ["one", "two"], 2),
    "all pieces": ("piece/%", [], 0),
    "a partition": ("partition/artifact/%3%", ["one", "two"], 2),
}


@pytest.mark.parametrize("what", list(DAMAGE))
def test_a_repair_keeps_what_verifies_and_leads_somewhere(
    path: Path, tmp_path: Path, what: str
) -> None:
    pattern, left, snapshots = DAMAGE[what]
    execute(
        path, f"UPDATE stored SET value = value || x'00' WHERE CAST(key AS TEXT) LIKE '{pattern}'"
    )

    new, done = repaired(path, tmp_path)

    assert done.stored_damage is not None
    assert tags(new) == left
    with SQLiteBackend(new).connect() as conn:
        assert len(conn.list_snapshots()) == snapshots
        for tag in left:
            assert conn.read_snapshot_tag("rig", tag) in (ONE, TWO)
        for each in conn.list_snapshots("rig"):
            taken = conn.read_snapshot("rig", each.fingerprint)
            there = conn.read_snapshot_partitions(taken, "raw", RAW)
            assert there
            for partition in there:
                assert each in conn.find_snapshots(RAW, partition)
        for partition in conn.read_artifact_partitions(RAW):
            for found in conn.find_snapshots(RAW, partition):
                conn.read_snapshot("rig", found.fingerprint)


def test_a_repair_finds_rows_whose_neighbours_are_gone(path: Path, tmp_path: Path) -> None:
    execute(path, "DELETE FROM stored WHERE CAST(key AS TEXT) LIKE 'tag/rig/one/'")
    execute(path, "DELETE FROM stored WHERE key = x''")

    new, done = repaired(path, tmp_path)

    assert done.stored_damage is not None
    assert tags(new) == ["two"]
    with SQLiteBackend(new).connect() as conn:
        assert len(conn.list_snapshots()) == 2


def test_a_repair_keeps_a_recording_although_a_snapshot_in_it_is_lost(
    path: Path, tmp_path: Path
) -> None:
    begun = RecordingInfo("rig", "raw", RAW, epoch=1, first_seq=1, start=ONE.fingerprint)
    added = RecordedPartition(PARTS[0], 2, (ONE.fingerprint, TWO.fingerprint))
    with SQLiteBackend(path).connect() as conn:
        first, second = (
            conn.write_recording(begun, [added], [RecordedChange(2, "A")]) for _ in range(2)
        )
    for pattern in (f"snapshot/rig/%{TWO.fingerprint}%", "recording/rig/raw/%2/"):
        execute(
            path,
            "UPDATE stored SET value = CAST(value || x'00' AS BLOB)"
            f" WHERE CAST(key AS TEXT) LIKE '{pattern}'",
        )

    new, _ = repaired(path, tmp_path)

    with SQLiteBackend(new).connect() as conn:
        assert list(conn.list_recordings()) == [first]
        kept = conn.read_recording("rig", "raw", 1)
        assert (kept.partitions, kept.changes) == ((added,), (RecordedChange(2, "A"),))
        with pytest.raises(StillReferencedError):
            conn.delete_snapshot("rig", ONE.fingerprint)
        conn.delete_recording("rig", "raw", 1)
        for number in (1, 2):  # nothing of the one that was lost is left
            assert conn.write_recording(begun).number == number
            assert conn.read_recording("rig", "raw", number).partitions == ()
        for number in (1, 2):
            conn.delete_recording("rig", "raw", number)
        conn.untag("rig", "one")
        conn.delete_snapshot("rig", ONE.fingerprint)
    assert second.number == 2


def test_rows_that_are_no_keys_and_of_no_known_room_are_told_apart() -> None:
    rows = {b"later/x/": b"1", b"no key": b"2", b"tag/rig/x/": b"nonsense", b"graph/a/": b"?"}

    assert consistent(rows) == {b"later/x/": b"1"}
