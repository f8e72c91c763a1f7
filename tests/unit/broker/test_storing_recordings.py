"""Recordings through a broker: once, whole, and refused without a trace."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ezgraph.backends import SQLiteBackend
from ezgraph.backends.sqlite import open_reader
from ezgraph.client.blocking import run
from ezgraph.client.stored_calls import StoredCalls
from ezgraph.config import BrokerConfig, Limits
from ezgraph.protocol.artifacts import Artifact, Partition
from ezgraph.protocol.events import RecordingDeleted, RecordingWritten
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo
from ezgraph.protocol.replies import Done, Frozen, RecordingStored, Reply
from ezgraph.protocol.stored_commands import (
    Deletable,
    DeleteRecording,
    DeleteStored,
    Freeze,
    WriteRecording,
)
from ezgraph.wire import codec
from tests.unit.backends.test_stored_file import killed_at
from tests.unit.broker.test_storing import A, B, Bench, rig

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.events import Event

RAW = Artifact("raw", storage="file:///data/{n}.h5")


def frozen(bench: Bench) -> Fingerprint:
    bench.join(A, "guest")
    reply = bench.ask(A, Freeze("rig"))
    assert isinstance(reply, Frozen)
    return reply.snapshot.fingerprint


def info(start: Fingerprint, **fields: Any) -> RecordingInfo:
    known: dict[str, Any] = {"epoch": 1, "first_seq": 1, "noted_through": 1, "began": 1e9}
    return RecordingInfo("rig", "raw", RAW, start=start, **(known | fields))


def added(start: Fingerprint, *numbers: int) -> list[RecordedPartition]:
    content = Fingerprint.from_string("data")
    return [RecordedPartition(Partition({"n": n}, content), 2, (start,)) for n in numbers]


def told(events: list[Event]) -> list[RecordingWritten | RecordingDeleted]:
    bodies = (each.body for each in events)
    return [each for each in bodies if isinstance(each, RecordingWritten | RecordingDeleted)]


def test_each_step_of_a_recording_is_an_event_and_numbers_count_up() -> None:
    bench = Bench()
    start = frozen(bench)

    replies = [bench.ask(A, WriteRecording(info(start))) for _ in range(2)]
    bench.ask(A, WriteRecording(info(start, number=1), added(start, 1, 2), reason="why"))
    ended = info(start, number=1, last_seq=9, ended=2e9, failed=True)
    bench.ask(A, WriteRecording(ended, changes=[RecordedChange(3, "SYS/A")]))
    bench.ask(A, DeleteRecording("rig", "raw", 2))

    assert [each.number for each in replies if isinstance(each, RecordingStored)] == [1, 2]
    events = told(bench.events())
    assert [type(each) for each in events] == [RecordingWritten] * 4 + [RecordingDeleted]
    assert [each.number for each in events] == [1, 2, 1, 1, 2]
    written = [each for each in events if isinstance(each, RecordingWritten)]
    assert [each.partitions for each in written] == [0, 0, 2, 0]
    assert [(each.last_seq, each.failed) for each in written][-1] == (9, True)
    assert {each.author for each in written} == {written[0].author} != {""}
    (reason,) = [each.source.reason for each in bench.events() if each.source.reason]
    assert reason == "why"


def test_a_repeated_beginning_is_one_recording_also_after_a_restart() -> None:
    bench = Bench()
    start = frozen(bench)
    command = WriteRecording(info(start), added(start, 1))

    first = bench.ask(A, command, 50)
    again = bench.ask(A, command, 50)
    bench.restart()
    bench.join(A, "guest")
    after = bench.ask(A, command, 50)

    assert isinstance(first, RecordingStored)
    assert first == again
    assert after == first
    assert len(told(bench.events())) == 1


def test_what_is_refused_changes_nothing() -> None:
    bench = Bench(BrokerConfig(limits=Limits(max_partitions_per_command=5)))
    start, other = frozen(bench), Fingerprint.from_string("nothing")
    bench.ask(A, WriteRecording(info(start, last_seq=9, ended=2e9)))
    bare = RecordedPartition(Partition({"n": 1}), 2, (start,))

    for command, code, says in (
        (WriteRecording(info(other)), "unknown_snapshot", "no snapshot"),
        (WriteRecording(info(start), added(other, 1)), "unknown_snapshot", "no snapshot"),
        (WriteRecording(info(start, end=other)), "unknown_snapshot", "no snapshot"),
        (WriteRecording(info(Fingerprint.empty())), "invalid_value", "names no snapshot"),
        (WriteRecording(info(start, number=7)), "unknown_recording", "there are 1"),
        (WriteRecording(info(start, number=1)), "recording_ended", "has ended at seq 9"),
        (WriteRecording(info(start), [bare]), "invalid_command", "no content fingerprint"),
        (WriteRecording(info(start), added(start, 1, 2, 3)), "limit", "6 partitions"),
        (DeleteRecording("rig", "raw", 2), "unknown_recording", "there are 1"),
        (DeleteRecording("rig", "raw", 0), "invalid_command", "count from 1"),
        (DeleteRecording("", "raw", 1), "invalid_value", "cannot name a graph"),
        (DeleteStored(Deletable.SNAPSHOT, "rig", start), "still_referenced", "recording 1"),
    ):
        refusal = bench.refused(command)
        assert (refusal.code, says in refusal.message) == (code, True), refusal


def test_what_one_writes_in_a_pass_the_next_one_sees() -> None:
    bench = Bench()
    start = frozen(bench)
    bench.join(B, "guest")
    asked = [
        (peer, bench.take(peer, WriteRecording(info(start)))) for peer in (A, B, A)
    ]

    answered = bench.finish()

    replies = [answered[each] for each in asked]
    assert [each.number for each in replies if isinstance(each, RecordingStored)] == [1, 2, 3]


def calls(bench: Bench) -> StoredCalls:
    async def ask(command: Command, kind: type[Any], /) -> Any:
        reply = bench.ask(A, command)
        assert isinstance(reply, kind), reply
        return reply

    return StoredCalls(ask)


def test_a_recording_of_many_partitions_is_read_in_pages() -> None:
    bench = Bench(BrokerConfig(limits=Limits(chunk_bytes=300)))
    start = frozen(bench)
    changes = [RecordedChange(seq, "SYS/A") for seq in range(2, 30)]
    bench.ask(A, WriteRecording(info(start), added(start, *range(30)), changes))

    found = run(calls(bench).read_recording("rig", "raw", 1))

    assert [each.partition for each in found.partitions] == [
        each.partition
        for each in sorted(added(start, *range(30)), key=lambda each: each.partition.key.text)
    ]
    assert list(found.changes) == changes
    assert found.info.number == 1


# --- killed ---


class Seen(NamedTuple):
    """What a store holds, and what history tells of it."""

    recordings: int
    partitions: int
    in_snapshot: int
    told: int


OLD, NEW = Seen(0, 0, 0, 0), Seen(1, 3, 3, 1)


def bench_on(path: Path) -> Bench:
    bench = Bench(connection=SQLiteBackend(path, "NORMAL").connect())
    bench.join(A, "guest")
    return bench


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A folder with a journal in which a snapshot is stored."""
    folder = tmp_path / "start"
    folder.mkdir()
    bench = Bench(connection=SQLiteBackend(folder / "rig.db", "NORMAL").connect())
    bench.join(b"owner")
    bench.ask(b"owner", rig(3))
    frozen(bench)
    bench.connection.close()
    return folder


def record(path: Path) -> Reply:
    bench = bench_on(path)
    with SQLiteBackend(path, "NORMAL").connect() as conn:
        (snapshot,) = conn.list_snapshots("rig")
    mark = snapshot.fingerprint
    command = WriteRecording(info(mark), added(mark, 1, 2, 3), [RecordedChange(3, "SYS/A")])
    reply = bench.ask(A, command, 77)
    bench.connection.close()
    return reply


def seen(path: Path) -> Seen:
    with open_reader(path) as reader:
        reader.verify_store()
        events = [codec.decode_event(each) for each in reader.read(0, max_rows=9_999).events]
    with SQLiteBackend(path, "NORMAL").connect() as conn:
        (snapshot,) = conn.list_snapshots("rig")
        whole = conn.read_snapshot("rig", snapshot.fingerprint)
        found = list(conn.list_recordings())
        for each in found:
            kept = conn.read_recording("rig", "raw", each.number)
            assert (len(kept.partitions), len(kept.changes)) == (3, 1)
        return Seen(
            len(found),
            len(conn.read_artifact_partitions(RAW)),
            len(conn.read_snapshot_partitions(whole, "raw", RAW)),
            len(told(events)),
        )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_killed_at_any_step_there_is_all_of_what_was_recorded_or_nothing(start: Path) -> None:
    found: list[Seen] = []
    step = 0
    while True:
        step += 5
        folder = start.with_name(f"{step}")
        shutil.copytree(start, folder)
        path = folder / "rig.db"

        def work(path: Path = path) -> None:
            record(path)

        was_killed = killed_at(step, work, path)

        found.append(seen(path))
        assert isinstance(record(path), RecordingStored)  # the same program asks the same again
        assert seen(path) == NEW
        shutil.rmtree(folder)
        if not was_killed:
            break

    assert step > 20
    assert found == sorted(found)
    assert set(found) == {OLD, NEW}


def test_a_recording_is_forgotten_and_what_it_wrote_stays() -> None:
    bench = Bench()
    start = frozen(bench)
    bench.ask(A, WriteRecording(info(start), added(start, 1)))
    rows = bench.rows()

    assert isinstance(bench.ask(A, DeleteRecording("rig", "raw", 1)), Done)

    left = bench.rows()
    rooms = (b"recording/", b"recorded/", b"inforce/")
    assert not [key for key in left if key.startswith(rooms)]
    assert left == {key: value for key, value in rows.items() if not key.startswith(rooms)}
    again = bench.ask(A, WriteRecording(replace(info(start), number=0)))
    assert isinstance(again, RecordingStored)
