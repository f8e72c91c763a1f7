"""What one who records knows, and what of it is told next: no broker, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.protocol.artifacts import Artifact, Partition
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.listing import SnapshotInfo
from ezgraph.protocol.recordings import RecordedChange
from ezgraph.provenance.notes import Noted, RecordingNotes

if TYPE_CHECKING:
    from ezgraph.protocol.recordings import RecordedPartition
    from ezgraph.provenance.notes import Told

RAW = Artifact("raw", storage="/data")


def at(seq: int, content: str) -> SnapshotInfo:
    mark = Fingerprint.from_string(content)
    return SnapshotInfo("rig", mark, 1, seq, 1e9 + seq, "", 0.0, "")


def begun(seq: int = 5) -> RecordingNotes:
    notes = RecordingNotes(RAW, "raw", at(seq, "one"), session_id="s1")
    notes.begun(notes.info.as_stored(3, 1.0, "me"))
    return notes


def changed(*seqs: int, through: int = 0) -> Noted:
    return Noted([RecordedChange(seq, "SYS/A") for seq in seqs], max([through, *seqs]))


def add(notes: RecordingNotes, *runs: int) -> list[Told]:
    commands = []
    for told in notes.adding([Partition({"run": run}) for run in runs]):
        commands.append(told)
        notes.added(told)
    return commands


def marks(recorded: RecordedPartition) -> list[Fingerprint]:
    return list(recorded.snapshots)


ONE, TWO, THREE = (Fingerprint.from_string(each) for each in ("one", "two", "three"))


def test_it_begins_with_the_snapshot_in_force() -> None:
    info = begun().info

    assert (info.name, info.artifact_key, info.number) == ("rig", "raw", 3)
    assert (info.first_seq, info.noted_through, info.start) == (5, 5, ONE)
    assert not info.has_ended


def test_a_partition_is_linked_to_every_snapshot_since_the_one_before_it() -> None:
    notes = begun()

    (first,) = add(notes, 1)
    notes.note(changed(8, 9))
    before = notes.must_freeze
    notes.frozen(at(10, "two"))
    assert (before, notes.must_freeze) == (True, False)
    (second,) = add(notes, 2)
    (third,) = add(notes, 3)

    assert [marks(told.partitions[0]) for told in (first, second, third)] == [
        [ONE],
        [ONE, TWO],
        [TWO],
    ]
    assert [told.changes for told in (first, second, third)] == [[], changed(8, 9).changes, []]


def test_a_content_that_came_back_is_named_once() -> None:
    notes = begun()
    for seq, content in ((7, "two"), (9, "one"), (11, "one")):
        notes.frozen(at(seq, content))

    (told,) = add(notes, 1)
    (after,) = add(notes, 2)

    assert marks(told.partitions[0]) == [ONE, TWO]
    assert marks(after.partitions[0]) == [ONE]


def test_what_was_not_stored_is_told_again() -> None:
    notes = begun()
    notes.note(changed(8))
    notes.frozen(at(9, "two"))
    list(notes.adding([Partition({"run": 1})]))  # the broker did not answer

    (told,) = add(notes, 1)

    assert told.changes == changed(8).changes
    assert marks(told.partitions[0]) == [ONE, TWO]


def test_much_is_shared_between_commands_and_nothing_is_lost() -> None:
    notes = begun()
    notes.note(changed(*range(6, 1_806)))
    notes.frozen(at(1_806, "two"))

    commands = add(notes, *range(900))

    assert len(commands) > 3
    assert [each.seq for told in commands for each in told.changes] == list(range(6, 1_806))
    found = [each for told in commands for each in told.partitions]
    assert [each.partition.key["run"] for each in found] == list(range(900))
    assert {tuple(marks(each)) for each in found} == {(ONE, TWO)}
    for told in commands:
        links = sum(1 + len(each.snapshots) for each in told.partitions)
        assert links + len(told.changes) <= 1_000


def test_only_the_last_command_ends_it_and_what_came_behind_the_end_is_left_out() -> None:
    notes = begun()
    notes.note(changed(*range(6, 1_506), 2_000))

    *before, last = notes.ending(at(1_999, "three"), failed=True)

    assert before
    assert not any(told.info.has_ended for told in before)
    assert (last.info.last_seq, last.info.end, last.info.failed) == (1_999, THREE, True)
    assert last.info.ended == at(1_999, "").time
    assert [each.seq for told in (*before, last) for each in told.changes] == list(range(6, 1_506))


def test_once_a_change_was_not_seen_it_does_not_have_all_of_them() -> None:
    notes = begun()

    notes.note(changed(7)._replace(is_all=False))
    notes.note(changed(9, through=12))
    notes.note(changed(through=10))

    assert not notes.info.has_all_changes
    assert notes.info.noted_through == 12
