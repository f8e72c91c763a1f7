"""The rig as it was, frozen, compared and recorded, through a real broker, in both forms."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ezgraph
from ezgraph import (
    AmbiguousTimeWarning,
    Artifact,
    GraphContext,
    InvalidCommandError,
    InvalidValueError,
    Partition,
    RecordingEndedError,
    Snapshot,
    TagExistsError,
    UnknownComponentError,
    UnknownSnapshotError,
    UnknownTagError,
    sync,
)
from ezgraph.backends import Backend, Record, SQLiteBackend
from ezgraph.names import topic_of
from ezgraph.protocol.events import EdgeConnected, Event, Source, key_of
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.backends import Connection

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
RAW = Artifact("raw", type="array", storage="file:///data/{run}.h5")
OLD_WALLS = [1_000.0, 1_010.0, 1_005.0, 1_020.0]
"""When the first events of the broker's journal happened: its clock was set back once."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A journal whose beginning was written long ago."""
    path = tmp_path_factory.mktemp("time_machine") / "rig.db"
    with SQLiteBackend(path, "NORMAL").connect() as conn, conn.open_journal() as journal:
        for seq, wall in enumerate(OLD_WALLS, 1):
            body = EdgeConnected(f"old/{seq}", "old/end", None, topology_changed=True)
            event = Event(
                1, seq, seq - 1, seq, seq, wall, 0.0, key_of(body), Source(), None, body
            )
            journal.append([Record(seq, topic_of(event.key), codec.encode_event(event).event)])
    return f"sqlite:///{path}?synchronous=NORMAL"


@pytest.fixture(scope="module")
def address(url: str) -> Iterator[str]:
    server = sync.GraphServer(backend=url).start("127.0.0.1:0")
    yield str(server.address)
    server.stop()


class Rig:
    """A filter whose gain is set; ``SYS/name``."""

    def __init__(self, address: str, name: str) -> None:
        self.unit = f"SYS/{name}"
        self.process = sync.ProcessControlClient(address).connect()
        self.process.register([self.unit])

    def set(self, gain: float) -> int:
        return self.process.report_settings_update(self.unit, {"gain": gain, "notch": {"hz": 50}})


@pytest.fixture
def rig(address: str, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """One for each test, which is named after it."""
    made = Rig(address, request.node.name)
    yield made
    made.process.close()


@pytest.fixture
def ctx(address: str) -> Iterator[sync.GraphContext]:
    with sync.GraphContext(address) as ctx:
        yield ctx


@pytest.fixture
def conn(address: str) -> Iterator[Connection]:
    with Backend.from_url(f"ezgraph://{address}").connect() as conn:
        yield conn


def in_async_form(address: str, ask: Callable[[GraphContext], Any]) -> Any:
    async def main() -> Any:
        async with GraphContext(address) as ctx:
            return await ask(ctx)

    return asyncio.run(main())


# --- the state as it was ---


def test_what_the_gain_was_is_one_line_in_both_forms(
    address: str, ctx: sync.GraphContext, rig: Rig
) -> None:
    seqs = [rig.set(gain) for gain in (1.0, 2.0, 3.0)]

    assert [ctx.at(seq).setting(rig.unit, "gain") for seq in seqs] == [1.0, 2.0, 3.0]
    then = in_async_form(address, lambda c: c.at(seqs[1]))
    assert then.setting(rig.unit, "gain") == 2.0
    assert then.setting(rig.unit, "notch.hz") == 50
    assert then.seq == seqs[1]
    with pytest.raises(UnknownComponentError):
        ctx.at(seqs[0] - 1).setting(rig.unit, "gain")
    now = ctx.state()
    assert ctx.at(now.seq).fingerprint() == now.fingerprint()


def test_a_time_may_be_a_number_or_a_datetime_with_and_without_a_zone(
    ctx: sync.GraphContext, rig: Rig
) -> None:
    seqs = [rig.set(gain) for gain in (1.0, 2.0)]
    walls = {each.seq: each.wall_time for each in ctx.events(("settings", rig.unit))}
    wall = walls[seqs[0]]
    if walls[seqs[1]] == wall:
        pytest.skip("this clock has not moved between two events")

    aware = dt.datetime.fromtimestamp(wall, dt.UTC) + dt.timedelta(microseconds=1)
    naive = aware.astimezone().replace(tzinfo=None)

    for when in (wall, aware, naive):
        assert ctx.at(when).setting(rig.unit, "gain") == 1.0
    assert ctx.at(walls[seqs[1]] + 3600).setting(rig.unit, "gain") == 2.0
    assert ctx.at(OLD_WALLS[0] - 1).seq == 0


def test_a_time_that_was_more_than_once_is_the_last_and_one_is_warned(
    address: str, ctx: sync.GraphContext
) -> None:
    with pytest.warns(AmbiguousTimeWarning, match=r"set back by 5 s right before seq 3.*2 times"):
        state = ctx.at(1_007.0)

    assert state.seq == 3
    assert len(state.dag.edge_owners) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [ctx.at(wall).seq for wall in (1_000.0, 1_004.0, 1_015.0)] == [1, 1, 3]
    with pytest.warns(AmbiguousTimeWarning):
        assert in_async_form(address, lambda c: c.at(1_007.0)).seq == 3


@pytest.mark.parametrize("when", [-1, 10**9, True, "12", None, float("nan"), float("inf")])
def test_what_was_not_given_or_is_no_time_is_refused(ctx: sync.GraphContext, when: Any) -> None:
    with pytest.raises(InvalidValueError):
        ctx.at(when)


# --- frozen, and compared ---


def test_the_same_content_has_the_same_fingerprint_whenever_it_is_frozen(
    address: str, ctx: sync.GraphContext, rig: Rig, conn: Connection
) -> None:
    rig.set(1.0)

    first = ctx.freeze("same", "first", "before it all")
    rig.set(2.0)
    other = in_async_form(address, lambda c: c.freeze("same"))
    rig.set(1.0)
    again = ctx.freeze("same", fetch=False)

    assert isinstance(first, Snapshot)
    assert first.graph.settings[rig.unit].field("gain") == 1.0
    assert (first.reason, conn.read_snapshot_tag("same", "first")) == ("before it all", first)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.seq < other.seq < again.seq
    assert ctx.at(other.seq).content_fingerprint() == other.fingerprint


def test_a_tag_that_exists_refuses_the_freeze_unless_it_may_be_moved(
    ctx: sync.GraphContext, rig: Rig, conn: Connection
) -> None:
    rig.set(1.0)
    first = ctx.freeze("tagged", "best", fetch=False)
    rig.set(2.0)

    with pytest.raises(TagExistsError) as refused:
        ctx.freeze("tagged", "best")

    assert refused.value.fingerprint == str(first.fingerprint)
    assert len(conn.list_snapshots("tagged")) == 1
    moved = ctx.freeze("tagged", "best", overwrite=True)
    assert conn.read_snapshot_tag("tagged", "best") == moved
    for bad in ("", "a\0b", "x" * 300):
        with pytest.raises(InvalidValueError):
            ctx.freeze(bad)


def test_after_a_freeze_the_replica_has_what_it_did(address: str) -> None:
    with sync.GraphContext(address, replica=True) as ctx:
        frozen = ctx.freeze("replicated", fetch=False)

        assert ctx.replica._replica.seq > frozen.seq


def test_any_two_of_tag_seq_time_live_and_snapshot_are_compared(
    address: str, ctx: sync.GraphContext, rig: Rig
) -> None:
    seq = rig.set(1.0)
    one = ctx.freeze("compared", "one-of-two")
    (was,) = [each.wall_time for each in ctx.events(("settings", rig.unit))]
    rig.set(2.0)
    ctx.freeze("compared", "two-of-two")
    ctx.freeze("another", "two-of-two")
    ctx.connect("compared/a", "compared/b")

    def gains(old: Any, new: Any, **given: Any) -> list[tuple[Any, Any]]:
        settings = ctx.diff(old, new, **given).settings
        return [(f.old, f.new) for each in settings.changed for f in each.fields]

    kept: list[Any] = [one.fingerprint, str(one.fingerprint), "compared@one-of-two", "one-of-two"]
    for old in (seq, was, one, one.graph, ctx.at(seq), *kept):
        assert gains(old, "live") == [(1.0, 2.0)]
        assert gains("compared@two-of-two", old) == [(2.0, 1.0)]
        assert not ctx.diff(old, one)
    assert gains("one-of-two", "two-of-two", name="compared") == [(1.0, 2.0)]
    live = in_async_form(address, lambda c: c.diff("compared@two-of-two"))
    assert [tuple(edge) for edge in live.edges_added] == [("compared/a", "compared/b")]
    assert not live.settings
    with pytest.raises(InvalidCommandError, match=r"several graphs have a tag 'two-of-two'"):
        ctx.diff("two-of-two")
    with pytest.raises(UnknownTagError, match="no graph has a tag 'none'"):
        ctx.diff("none")
    with pytest.raises(UnknownTagError):
        ctx.diff("compared@none")
    with pytest.raises(UnknownSnapshotError):
        ctx.diff("0" * 32)
    assert not ctx.diff(ctx.freeze("compared", fetch=False))
    for bad in (None, True, b"one", 1j):
        with pytest.raises(InvalidValueError, match="names no rig"):
            ctx.diff(bad)  # type: ignore[arg-type]


# --- recorded ---


def test_a_recording_links_what_was_written_to_what_was_in_force(
    ctx: sync.GraphContext, rig: Rig, conn: Connection
) -> None:
    rig.set(1.0)
    with ctx.record(RAW, "recorded", reason="run 1") as rec:
        rec.add(Partition({"run": 1}, location="/data/1.h5"))
        changed = rig.set(2.0)
        rec.add(Partition({"run": 2}, location="/data/2.h5"))
        last = rig.set(3.0)

    found = conn.read_recording("recorded", "raw", rec.recording.number)

    assert found.info == rec.recording
    assert [each.seq for each in found.changes] == [changed, last]
    assert {each.address for each in found.changes} == {rig.unit}
    gains = [
        [conn.read_graph("recorded", mark).settings[rig.unit].field("gain") for mark in marks]
        for marks in (each.snapshots for each in found.partitions)
    ]
    assert gains == [[1.0], [1.0, 2.0]]
    assert ctx.at(found.first_seq).setting(rig.unit, "gain") == 1.0
    assert found.last_seq is not None
    assert ctx.at(found.last_seq).setting(rig.unit, "gain") == 3.0
    end = conn.read_graph("recorded", found.info.end)
    assert end.settings[rig.unit].field("gain") == 3.0
    assert found.info.has_all_changes
    (behind,) = conn.find_snapshots(RAW, found.partitions[0].partition)
    assert behind.fingerprint == found.info.start


def test_the_async_form_reads_a_file_for_its_fingerprint_and_a_failed_one_says_so(
    address: str, conn: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "3.h5"
    file.write_bytes(b"samples")

    async def ask(ctx: GraphContext) -> Any:
        rec, kept = ctx.record(RAW, "failing", "other-key"), None
        with suppress(ZeroDivisionError):
            async with rec:
                (kept,) = await rec.add(Partition({"run": 3}, location=str(file)))
                raise ZeroDivisionError
        return rec.recording, kept

    info, kept = in_async_form(address, ask)

    assert info.failed
    assert info.has_ended
    found = conn.read_recording("failing", "other-key", info.number)
    assert [each.partition for each in found.partitions] == [kept]
    again = Partition({"run": 3}, location=str(file))
    found_in = conn.find_snapshots(RAW, again)
    assert {each.fingerprint for each in found_in} == {info.start} == {info.end}
    assert [each.seq for each in found_in] == [info.first_seq, info.last_seq]


CRASHES = """
import os, sys
from ezgraph import Artifact, Partition, sync
raw = Artifact("raw", type="array", storage="file:///data/{run}.h5")
with sync.GraphContext(sys.argv[1]) as ctx, ctx.record(raw, "crashed") as rec:
    rec.add(Partition({"run": 1}, location="/data/1.h5"))
    print("added", flush=True)
    sys.stdin.read()
"""


def test_of_a_process_that_crashed_in_the_block_all_that_it_added_is_known(
    address: str, ctx: sync.GraphContext, rig: Rig, conn: Connection
) -> None:
    rig.set(1.0)
    child = subprocess.Popen(
        [sys.executable, "-c", CRASHES, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"added\n"
        changed = rig.set(2.0)
        child.kill()
        child.wait()

    (info,) = conn.list_recordings("crashed")
    found = conn.read_recording("crashed", "raw", info.number)

    assert not found.has_ended
    assert found.last_seq is None
    assert [each.partition.key["run"] for each in found.partitions] == [1]
    start = conn.read_graph("crashed", found.info.start)
    assert start.settings[rig.unit].field("gain") == 1.0
    later = ctx.settings_events(after_seq=found.info.noted_through)
    assert [each.seq for each in later if each.component_address == rig.unit] == [changed]


def test_an_ended_recording_takes_nothing_more(ctx: sync.GraphContext) -> None:
    with ctx.record(RAW, "over") as rec:
        rec.add(Partition({"run": 1}))
    head = ctx.sync()

    with pytest.raises(RecordingEndedError, match="has ended: add partitions within its block"):
        rec.add(Partition({"run": 2}))

    assert ctx.sync() == head


def test_what_is_in_a_recording_is_read_from_the_file_alone(
    ctx: sync.GraphContext, url: str
) -> None:
    with ctx.record(RAW, "alone") as rec:
        rec.add(*(Partition({"run": run}) for run in range(5)))

    with Backend.from_url(url).connect() as file:
        (info,) = file.list_recordings("alone", "raw")
        found = file.read_recording("alone", "raw", 1)

    assert info == rec.recording == found.info
    assert [each.partition.key["run"] for each in found.partitions] == list(range(5))


def test_a_recording_of_nothing_that_is_stored_is_refused(conn: Connection) -> None:
    with pytest.raises(UnknownSnapshotError):
        conn.read_snapshot("recorded", ezgraph.Fingerprint.from_string("nothing"))
