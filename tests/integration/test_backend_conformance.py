"""What every backend must do. A new one is one line in `PLACES`."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import BaseModel

import ezgraph
from ezgraph import (
    Artifact,
    DynamicSettingsMetadata,
    Fingerprint,
    Graph,
    InvalidValueError,
    JournalError,
    Partition,
    PartitionKey,
    Producer,
    RecordedChange,
    RecordedPartition,
    RecordingEndedError,
    RecordingInfo,
    Snapshot,
    StillReferencedError,
    TagExistsError,
    UnitMetadata,
    UnknownGraphError,
    UnknownRecordingError,
    UnknownSnapshotError,
    UnknownTagError,
)
from ezgraph.backends import Backend, Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]


@dataclass(frozen=True)
class Place:
    """How an empty store of one kind is made; ``is_shared``: other processes reach it too."""

    make: Callable[[Path], AbstractContextManager[Backend[Any]]]
    is_shared: bool = True


@contextmanager
def memory(folder: Path) -> Iterator[Backend[Any]]:
    yield Backend.from_url("memory://")


@contextmanager
def sqlite(folder: Path) -> Iterator[Backend[Any]]:
    yield Backend.from_url(f"sqlite:///{folder}/rig.db?synchronous=NORMAL")


@contextmanager
def broker(folder: Path) -> Iterator[Backend[Any]]:
    kept = f"sqlite:///{folder}/rig.db?synchronous=NORMAL"
    with ezgraph.GraphServer(("127.0.0.1", 0), backend=kept) as server:
        yield Backend.from_url(f"ezgraph://{server.address}")


PLACES = {
    "memory": Place(memory, is_shared=False),
    "sqlite": Place(sqlite),
    "broker": Place(broker),
}


@pytest.fixture(params=list(PLACES))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend[Any]]:
    with PLACES[request.param].make(tmp_path) as made:
        yield made


@pytest.fixture(params=[name for name, place in PLACES.items() if place.is_shared])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend[Any]]:
    """A store that other processes reach too."""
    with PLACES[request.param].make(tmp_path) as made:
        yield made


@pytest.fixture
def conn(backend: Backend[Any]) -> Iterator[Connection]:
    with backend.connect() as connection:
        yield connection


def print_of(text: str) -> Fingerprint:
    return Fingerprint.from_string(text)


def unit(address: str, gain: float = 1.0) -> UnitMetadata:
    dynamic = DynamicSettingsMetadata(enabled=True, input_topic=f"{address}/SETTINGS")
    return UnitMetadata(address, address, "lab.Amp", "lab.Gain", (b"x", {"gain": gain}), dynamic)


RAW = Artifact(
    "raw",
    type={"kind": "array", "dtype": "float32"},
    format="hdf5",
    storage="file:///data/{day}.h5",
    annotations={"subject": "s07"},
    statistics={"mean": 0.25},
)
FILTERED = Artifact("filtered", storage={"bucket": "lab", "path": "{day}"})


def graph(gain: float = 1.0, name: str = "rig") -> Graph:
    return Graph(
        name,
        artifacts={"raw": RAW, "filtered": FILTERED},
        producers=(Producer(("raw",), ("filtered",), "1.2"),),
        topology=[("AMP/OUT", "FILTER/IN")],
        components={"AMP": unit("AMP"), "FILTER": unit("FILTER")},
        settings={"AMP": {"gain": gain, "taps": (1, 2), "modes": {"a", "b"}}, "FILTER": {}},
        config={"processor": {"chunker:default": {"size": 3}, "other": None}},
    )


def snapshot(gain: float = 1.0, seq: int = 1, *, name: str = "rig", reason: str = "") -> Snapshot:
    return Snapshot(graph(gain, name), seq=seq, epoch=1, time=1.7e9 + seq, reason=reason)


def partition(day: str, inputs: str = "in", content: str = "data") -> Partition:
    return Partition({"day": day}, print_of(content), print_of(inputs), f"/data/{day}.h5", 100)


# --- addresses and connections ---


def test_a_backend_is_a_value_with_a_fingerprint(backend: Backend[Any]) -> None:
    again = Backend.from_url(backend.url)

    assert again == backend
    assert hash(again) == hash(backend)
    assert again.fingerprint == backend.fingerprint
    assert not again.fingerprint.is_empty


def test_a_connection_and_its_backend_serve_alike(backend: Backend[Any]) -> None:
    with backend.connect() as first:
        for given in (first, None):
            with (given or backend).connect() as conn:
                conn.write_graph(graph())
        with first.connect() as same:
            assert same is first
        assert len(first.list_graphs()) == 1  # it was left open


def test_what_one_connection_wrote_the_next_one_reads(backend: Backend[Any]) -> None:
    with backend.connect() as conn:
        conn.write_snapshot_tag(snapshot(), "good")

    with backend.connect() as conn:
        assert conn.read_snapshot_tag("rig", "good") == snapshot()


def test_a_connection_can_be_a_field_of_a_model_and_of_a_dataclass(conn: Connection) -> None:
    class Job(BaseModel):
        connection: Connection

    @dataclass
    class Task:
        connection: Connection
        done: list[int] = field(default_factory=list)

    assert Job(connection=conn).connection is conn
    assert Task(conn).connection is conn
    with pytest.raises(ValueError, match="connection"):
        Job(connection="rig.db")  # type: ignore[arg-type]


def test_the_async_form_does_the_same(backend: Backend[Any]) -> None:
    async def use() -> None:
        async with backend.connect_async() as conn:
            await conn.write_snapshot_tag(snapshot(), "good")
            async with conn.connect_async() as same:
                assert same is conn
            with pytest.raises(TagExistsError):
                await conn.write_snapshot_tag(snapshot(2.0), "good")
            many = [conn.write_artifact_partitions(RAW, [partition(f"d{n}")]) for n in range(20)]
            await asyncio.gather(*many)
            assert len(await conn.read_artifact_partitions(RAW)) == 20
        with pytest.raises(ezgraph.ContextClosedError, match="async with"):
            await conn.list_tags()

    asyncio.run(use())

    with backend.connect() as conn:
        assert [tag.tag for tag in conn.list_tags("rig")] == ["good"]


def test_the_async_form_has_every_method() -> None:
    from ezgraph.backends import AsyncConnection

    plain = {name for name in vars(Connection) if not name.startswith("_")}
    only_plain = {"connect", "close", "open_journal", "open_reader"}

    assert plain - only_plain <= set(vars(AsyncConnection))


# --- partitions of an artifact ---


def test_partitions_are_added_and_never_replaced(conn: Connection) -> None:
    one, two = partition("mon"), partition("tue")

    assert conn.read_artifact_partitions(RAW) == ()
    conn.write_artifact_partitions(RAW, [one])
    conn.write_artifact_partitions(RAW, [two])

    assert conn.read_artifact_partitions(RAW) == (one, two)


def test_a_partition_written_twice_is_stored_once(conn: Connection) -> None:
    conn.write_artifact_partitions(RAW, [partition("mon"), partition("mon")])
    first = conn.list_partitions(RAW)
    conn.write_artifact_partitions(RAW, (partition("mon"),))

    assert conn.list_partitions(RAW) == first
    assert len(first) == 1


def test_new_content_at_a_key_stands_beside_the_old(conn: Connection) -> None:
    both = partition("mon", content="a"), partition("mon", content="b")
    conn.write_artifact_partitions(RAW, both)

    assert set(conn.read_artifact_partitions(RAW)) == set(both)


def test_artifacts_with_one_storage_share_partitions_and_others_do_not(conn: Connection) -> None:
    conn.write_artifact_partitions(RAW, [partition("mon")])

    assert conn.read_artifact_partitions(replace(RAW, key="again", statistics={})) != ()
    assert conn.read_artifact_partitions(FILTERED) == ()
    assert conn.read_artifact_partitions(replace(RAW, storage="file:///data/{DAY}.h5")) == ()


def test_a_filter_takes_those_with_its_key_and_its_inputs(conn: Connection) -> None:
    mon, stale, tue = partition("mon"), partition("mon", inputs="old"), partition("tue")
    conn.write_artifact_partitions(RAW, [mon, stale, tue])

    def found(wanted: dict[Any, Fingerprint]) -> tuple[Partition, ...]:
        return conn.read_artifact_partitions(RAW, wanted)

    assert found({PartitionKey(day="mon"): print_of("in")}) == (mon,)
    assert found({PartitionKey(day="mon"): print_of("old")}) == (stale,)
    assert found({PartitionKey(day="tue"): print_of("old")}) == ()
    assert found({PartitionKey(day="wed"): print_of("in")}) == ()
    assert found({(("day", "mon"),): print_of("in"), (("day", "tue"),): print_of("in")}) == (
        mon,
        tue,
    )
    assert len(found({})) == 3


def test_keys_of_different_types_are_different_partitions(conn: Connection) -> None:
    values = (1, True, "1", 1.0, b"1", None)
    keys: list[dict[str, Any]] = [{}, {"m": 1}, *({"n": value} for value in values)]
    conn.write_artifact_partitions(RAW, [Partition(key, print_of("x")) for key in keys])

    read = conn.read_artifact_partitions(RAW)

    assert {each.key for each in read} == {PartitionKey(key) for key in keys}
    wanted = {PartitionKey(n=1): Fingerprint.empty()}
    assert [each.key for each in conn.read_artifact_partitions(RAW, wanted)] == [{"n": 1}]


def test_a_partition_gets_the_fingerprint_of_its_file(conn: Connection, tmp_path: Path) -> None:
    file = tmp_path / "mon.h5"
    file.write_bytes(b"samples")
    same = tmp_path / "copy.h5"
    same.write_bytes(b"samples")

    (by_path,) = conn.write_artifact_partitions(
        RAW, [Partition({"day": "mon"}, location=str(file))]
    )
    (by_url,) = conn.write_artifact_partitions(RAW, [Partition({}, location=same.as_uri())])
    file.write_bytes(b"others")
    (changed,) = conn.write_artifact_partitions(
        RAW, [Partition({"day": "mon"}, location=str(file))]
    )

    assert by_path.content_fingerprint == by_url.content_fingerprint
    assert changed.content_fingerprint != by_path.content_fingerprint
    assert set(conn.read_artifact_partitions(RAW)) == {by_path, by_url, changed}


def test_where_there_is_no_file_it_gets_that_of_what_is_said_of_it(conn: Connection) -> None:
    there = Partition({"day": "mon"}, location="s3://lab/mon.h5")
    (one,) = conn.write_artifact_partitions(RAW, [there])
    (again,) = conn.write_artifact_partitions(RAW, [there])
    (other,) = conn.write_artifact_partitions(RAW, [replace(there, nbytes=5)])

    assert not one.content_fingerprint.is_empty
    assert one == again
    assert one.content_fingerprint != other.content_fingerprint


# --- graphs and snapshots ---


def test_a_graph_comes_back_with_all_that_was_in_it(conn: Connection) -> None:
    conn.write_graph(graph())

    read = conn.read_graph("rig", graph().fingerprint)

    assert read == graph()
    assert read.artifacts["raw"] == RAW
    assert read.producers == (Producer(("raw",), ("filtered",), "1.2"),)
    assert read.settings["AMP"].structured_value == {
        "gain": 1.0,
        "taps": (1, 2),
        "modes": {"a", "b"},
    }
    assert replace(read, name="other").fingerprint == graph().fingerprint  # computed anew


def test_arrays_come_back_as_they_were(conn: Connection) -> None:
    taps = np.arange(6, dtype="<f4").reshape(2, 3)
    made = Graph("rig", settings={"FIR": {"taps": taps}}, config={"t": {"k": taps[0]}})
    conn.write_graph(made)

    read = conn.read_graph("rig", str(made.fingerprint))

    assert read.fingerprint == replace(read, name="x").fingerprint == made.fingerprint
    shown = read.settings["FIR"].structured_value
    assert shown is not None
    assert np.array_equal(shown["taps"], taps)
    assert shown["taps"].dtype == taps.dtype


def test_a_large_graph_comes_back_whole(conn: Connection) -> None:
    components = {f"SYS/U{n}": unit(f"SYS/U{n}", gain=n) for n in range(300)}
    gains = {address: {"gain": n} for n, address in enumerate(components)}
    edges = [(f"a{n}", f"b{n}") for n in range(300)]
    made = Graph("rig", components=components, settings=gains, topology=edges)
    gains["SYS/U7"] = {"gain": -1}
    changed = Graph("rig", components=components, settings=gains, topology=edges)
    for each in (made, changed):
        conn.write_graph(each)

    assert conn.read_graph("rig", made.fingerprint) == made
    assert conn.read_graph("rig", changed.fingerprint) == changed


def test_graphs_of_equal_content_are_told_apart_by_name(conn: Connection) -> None:
    for name in ("left", "right"):
        conn.write_graph(graph(name=name))
        conn.write_graph(graph(name=name))

    assert [(each.name, each.fingerprint) for each in conn.list_graphs()] == [
        ("left", graph().fingerprint),
        ("right", graph().fingerprint),
    ]


def test_an_unknown_graph_is_an_error_that_names_those_there_are(conn: Connection) -> None:
    with pytest.raises(UnknownGraphError, match="there is none named 'rig'"):
        conn.read_graph("rig", print_of("x"))
    conn.write_graph(graph())
    with pytest.raises(UnknownGraphError, match=str(graph().fingerprint)):
        conn.read_graph("rig", print_of("x"))


def test_a_snapshot_comes_back_with_its_graph(conn: Connection) -> None:
    taken = snapshot(reason="line noise")
    conn.write_snapshot(taken)

    assert conn.read_snapshot("rig", taken.fingerprint) == taken
    assert conn.read_graph("rig", taken.fingerprint) == taken.graph


def test_the_same_content_frozen_again_is_another_snapshot_of_one_graph(conn: Connection) -> None:
    first, second = snapshot(seq=5), snapshot(seq=9, reason="again")
    for taken in (second, first, first):
        conn.write_snapshot(taken)
    conn.write_snapshot_tag(first, "first")

    assert [each.seq for each in conn.list_snapshots("rig")] == [5, 9]
    assert conn.read_snapshot("rig", first.fingerprint) == second
    assert conn.read_snapshot_tag("rig", "first") == first
    assert len(conn.list_graphs()) == 1


def test_an_unknown_snapshot_is_an_error(conn: Connection) -> None:
    conn.write_graph(graph())  # of which there is no snapshot

    with pytest.raises(UnknownSnapshotError, match="there is none of 'rig'"):
        conn.read_snapshot("rig", graph().fingerprint)
    with pytest.raises(UnknownSnapshotError):
        conn.read_snapshot_partitions(snapshot(), "raw", RAW)


# --- tags ---


def test_tags_are_per_graph(conn: Connection) -> None:
    conn.write_snapshot_tag(snapshot(1.0, name="left"), "good")
    conn.write_snapshot_tag(snapshot(2.0, name="right"), "good")

    assert conn.read_snapshot_tag("left", "good") == snapshot(1.0, name="left")
    assert conn.read_snapshot_tag("right", "good") == snapshot(2.0, name="right")
    assert [tag.name for tag in conn.list_tags()] == ["left", "right"]


def test_an_existing_tag_is_not_moved_unless_one_says_so(conn: Connection) -> None:
    conn.write_snapshot_tag(snapshot(1.0), "good")

    with pytest.raises(TagExistsError, match=str(snapshot(1.0).fingerprint)) as refused:
        conn.write_snapshot_tag(snapshot(2.0), "good")
    assert refused.value.fingerprint == str(snapshot(1.0).fingerprint)
    with pytest.raises(UnknownSnapshotError):  # the refused call stored nothing
        conn.read_snapshot("rig", snapshot(2.0).fingerprint)
    with pytest.raises(TagExistsError):
        conn.write_snapshot_tag(snapshot(1.0), "good")

    conn.write_snapshot_tag(snapshot(2.0), "good", overwrite=True)
    assert conn.read_snapshot_tag("rig", "good") == snapshot(2.0)


def test_an_unknown_tag_is_an_error_that_names_those_there_are(conn: Connection) -> None:
    with pytest.raises(UnknownTagError, match="nothing is tagged for 'rig'"):
        conn.read_snapshot_tag("rig", "good")
    conn.write_snapshot_tag(snapshot(), "before")
    with pytest.raises(UnknownTagError, match="it has before"):
        conn.read_snapshot_tag("rig", "good")
    with pytest.raises(UnknownTagError):
        conn.untag("rig", "good")


def test_the_history_of_a_tag_tells_all_it_has_pointed_to(conn: Connection) -> None:
    conn.write_snapshot_tag(snapshot(1.0, 5), "good")
    conn.write_snapshot_tag(snapshot(2.0, 9), "good", overwrite=True)
    conn.untag("rig", "good")
    conn.write_snapshot_tag(snapshot(1.0, 5), "good")

    history = conn.tag_history("rig", "good")

    assert [each.snapshot and each.snapshot.seq for each in history] == [5, 9, None, 5]
    assert [each.number for each in history] == [1, 2, 3, 4]
    times = [each.wall_time for each in history]
    assert times == sorted(times)
    assert all(each.author for each in history)
    with pytest.raises(UnknownTagError):
        conn.tag_history("rig", "bad")


def test_an_untagged_tag_is_free_and_its_snapshot_stays(conn: Connection) -> None:
    conn.write_snapshot_tag(snapshot(), "good")
    conn.untag("rig", "good")

    assert list(conn.list_tags()) == []
    with pytest.raises(UnknownTagError):
        conn.read_snapshot_tag("rig", "good")
    assert conn.read_snapshot("rig", snapshot().fingerprint) == snapshot()


# --- partitions in a snapshot ---


def test_partitions_in_a_snapshot_are_its_own(conn: Connection) -> None:
    one, two = snapshot(1.0), snapshot(2.0)
    for taken in (one, two):
        conn.write_snapshot(taken)
    conn.write_snapshot_partitions(one, "raw", RAW, [partition("mon")])
    conn.write_snapshot_partitions(one, "raw", RAW, [partition("tue")])

    assert conn.read_snapshot_partitions(one, "raw", RAW) == (partition("mon"), partition("tue"))
    assert conn.read_snapshot_partitions(two, "raw", RAW) == ()
    assert conn.read_snapshot_partitions(one, "filtered", RAW) == ()
    assert conn.read_artifact_partitions(RAW) == ()


def test_both_are_written_at_once(conn: Connection) -> None:
    taken = snapshot()
    conn.write_artifact_and_graph_partitions(taken, "raw", RAW, [partition("mon")])

    assert conn.read_artifact_partitions(RAW) == (partition("mon"),)
    assert conn.read_snapshot_partitions(taken, "raw", RAW) == (partition("mon"),)


def test_the_snapshots_that_have_a_partition_are_found(conn: Connection) -> None:
    early, late = snapshot(1.0, 3), snapshot(2.0, 8)
    conn.write_artifact_and_graph_partitions(late, "raw", RAW, [partition("mon")])
    conn.write_artifact_and_graph_partitions(early, "raw", RAW, [partition("mon")])
    conn.write_artifact_and_graph_partitions(early, "raw", RAW, [partition("tue")])

    assert [each.seq for each in conn.find_snapshots(RAW, partition("mon"))] == [3, 8]
    assert [each.seq for each in conn.find_snapshots(RAW, partition("tue"))] == [3]
    assert conn.find_snapshots(RAW, partition("wed")) == []
    assert conn.find_snapshots(FILTERED, partition("mon")) == []


# --- recordings ---


def recording(start: Snapshot, **fields: Any) -> RecordingInfo:
    known = {"epoch": 1, "first_seq": start.seq, "noted_through": start.seq, "began": start.time}
    return RecordingInfo("rig", "raw", RAW, start=start.fingerprint, **(known | fields))


def written_in(day: str, seq: int, *snapshots: Snapshot) -> RecordedPartition:
    return RecordedPartition(partition(day), seq, tuple(each.fingerprint for each in snapshots))


def test_a_recording_grows_and_each_step_of_it_lasts(conn: Connection) -> None:
    before, after = snapshot(1.0, 5), snapshot(2.0, 8)
    for each in (before, after):
        conn.write_snapshot(each)

    begun = conn.write_recording(recording(before))
    grown = conn.write_recording(
        replace(begun, noted_through=8),
        [written_in("mon", 8, before, after)],
        [RecordedChange(7, "AMP")],
    )
    half = conn.read_recording("rig", "raw", 1)
    done = replace(grown, noted_through=9, last_seq=9, ended=1.7e9, end=after.fingerprint)
    conn.write_recording(done, [written_in("tue", 9, after)])

    assert (begun.number, begun.has_ended, bool(begun.author)) == (1, False, True)
    assert half.changes == (RecordedChange(7, "AMP"),)
    assert half.partitions == (written_in("mon", 8, before, after),)
    assert not half.has_ended
    whole = conn.read_recording("rig", "raw", 1)
    assert whole.info == done
    assert whole.changes == half.changes
    assert [each.partition.key["day"] for each in whole.partitions] == ["mon", "tue"]


def test_what_a_recording_wrote_is_in_the_storage_and_in_the_snapshots(conn: Connection) -> None:
    before, after = snapshot(1.0, 5), snapshot(2.0, 8)
    for each in (before, after):
        conn.write_snapshot(each)

    conn.write_recording(
        recording(before), [written_in("mon", 6, before), written_in("tue", 8, before, after)]
    )

    assert conn.read_artifact_partitions(RAW) == (partition("mon"), partition("tue"))
    assert len(conn.read_snapshot_partitions(before, "raw", RAW)) == 2
    assert conn.read_snapshot_partitions(after, "raw", RAW) == (partition("tue"),)
    found = conn.find_snapshots(RAW, partition("tue"))
    assert [each.fingerprint for each in found] == [before.fingerprint, after.fingerprint]


def test_recordings_are_numbered_per_artifact_and_listed(conn: Connection) -> None:
    start = snapshot()
    conn.write_snapshot(start)

    first, second = (conn.write_recording(recording(start)) for _ in range(2))
    other = conn.write_recording(
        replace(recording(start), artifact_key="filtered", artifact=FILTERED)
    )

    assert [first.number, second.number, other.number] == [1, 2, 1]
    assert list(conn.list_recordings()) == [other, first, second]
    assert list(conn.list_recordings("rig", "raw")) == [first, second]
    page = conn.list_recordings("rig", limit=2)
    assert [*page, *conn.list_recordings("rig", after=page.next_after)] == [other, first, second]
    assert list(conn.list_recordings("another")) == []


def test_of_many_threads_that_begin_a_recording_each_has_its_own(backend: Backend[Any]) -> None:
    start = snapshot()
    numbers: list[int] = []
    with backend.connect() as conn:
        conn.write_snapshot(start)

    def begin() -> None:
        with backend.connect() as own:
            numbers.extend(own.write_recording(recording(start)).number for _ in range(3))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(numbers) == list(range(1, 13))


def test_a_recording_that_has_ended_stays_as_it_is(conn: Connection) -> None:
    start = snapshot()
    conn.write_snapshot(start)
    done = conn.write_recording(recording(start, last_seq=9, ended=1.7e9))

    again = conn.write_recording(done)
    with pytest.raises(RecordingEndedError, match=r"recording 1 of 'raw'.*seq 9.*begin another"):
        conn.write_recording(replace(done, last_seq=10))
    for late in ([written_in("mon", 8, start)], ()), ((), [RecordedChange(8, "AMP")]):
        with pytest.raises(RecordingEndedError):
            conn.write_recording(done, *late)

    assert again == done
    assert conn.read_artifact_partitions(RAW) == ()
    assert conn.read_recording("rig", "raw", 1).info == done


def test_an_artifact_of_a_recording_may_hold_arrays(conn: Connection) -> None:
    start = snapshot()
    conn.write_snapshot(start)
    artifact = replace(RAW, statistics={"means": np.arange(3.0)})

    begun = conn.write_recording(replace(recording(start), artifact=artifact))
    done = conn.write_recording(replace(begun, last_seq=9, ended=1.7e9))

    assert conn.write_recording(done).number == begun.number
    found = conn.read_recording("rig", "raw", 1).info
    assert found.artifact.fingerprint == artifact.fingerprint
    with pytest.raises(InvalidValueError, match="another artifact"):
        conn.write_recording(replace(begun, artifact=RAW))


def test_a_partition_in_a_recording_gets_its_content_fingerprint(conn: Connection) -> None:
    start = snapshot()
    conn.write_snapshot(start)
    bare = RecordedPartition(Partition({"day": "mon"}, location="x"), 2, (start.fingerprint,))

    conn.write_recording(recording(start), [bare])

    (found,) = conn.read_recording("rig", "raw", 1).partitions
    assert not found.partition.content_fingerprint.is_empty
    assert conn.read_artifact_partitions(RAW) == (found.partition,)


def test_a_snapshot_in_a_recording_is_deleted_after_it(conn: Connection) -> None:
    start, end = snapshot(), snapshot(2.0, 2)
    for each in (start, end):
        conn.write_snapshot(each)
    conn.write_recording(
        recording(start, last_seq=2, ended=1.7e9, end=end.fingerprint),
        [written_in("mon", 2, start)],
    )

    for each in (start, end):
        with pytest.raises(StillReferencedError, match=r"recording 1 of 'raw'.*delete_recording"):
            conn.delete_snapshot("rig", each.fingerprint)
    conn.delete_recording("rig", "raw", 1)
    for each in (start, end):
        conn.delete_snapshot("rig", each.fingerprint)

    assert list(conn.list_recordings()) == []
    assert conn.read_artifact_partitions(RAW) == (partition("mon"),)


def test_an_unknown_recording_is_an_error_that_names_those_there_are(conn: Connection) -> None:
    start = snapshot()
    conn.write_snapshot(start)
    conn.write_recording(recording(start))

    for ask in (conn.read_recording, conn.delete_recording):
        with pytest.raises(UnknownRecordingError, match=r"no recording 7.*there are 1"):
            ask("rig", "raw", 7)
    with pytest.raises(UnknownRecordingError, match="there is none of that"):
        conn.read_recording("rig", "filtered", 1)
    with pytest.raises(UnknownRecordingError):
        conn.write_recording(recording(start, number=7))


def test_a_recording_names_snapshots_that_are_stored(conn: Connection) -> None:
    start = snapshot()

    with pytest.raises(UnknownSnapshotError):
        conn.write_recording(recording(start))
    conn.write_snapshot(start)
    with pytest.raises(UnknownSnapshotError):
        conn.write_recording(recording(start), [written_in("mon", 2, start, snapshot(9.0, 2))])

    assert list(conn.list_recordings()) == []
    assert conn.read_artifact_partitions(RAW) == ()


BAD_RECORDINGS: dict[str, Callable[[Connection, Snapshot], object]] = {
    "no recording": lambda c, s: c.write_recording(s),  # type: ignore[arg-type]
    "without a start": lambda c, s: c.write_recording(
        replace(recording(s), start=Fingerprint.empty())
    ),
    "an end before it began": lambda c, s: recording(s, last_seq=0, ended=1.0),
    "half an end": lambda c, s: recording(s, last_seq=5),
    "a number below 0": lambda c, s: recording(s, number=-1),
    "a name that is none": lambda c, s: replace(recording(s), name=""),
    "another artifact": lambda c, s: c.write_recording(
        replace(recording(s), number=1, artifact=FILTERED)
    ),
    "a partition alone": lambda c, s: c.write_recording(recording(s), written_in("mon", 2, s)),  # type: ignore[arg-type]
    "partitions that are bare": lambda c, s: c.write_recording(recording(s), [partition("mon")]),  # type: ignore[list-item]
    "a change that is none": lambda c, s: c.write_recording(recording(s), (), [3]),  # type: ignore[list-item]
    "recordings of no graph": lambda c, s: c.list_recordings(None, "raw"),
    "number 0": lambda c, s: c.read_recording("rig", "raw", 0),
    "a number that is text": lambda c, s: c.read_recording("rig", "raw", "1"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", list(BAD_RECORDINGS))
def test_a_bad_recording_is_refused_and_changes_nothing(conn: Connection, what: str) -> None:
    start = snapshot()
    conn.write_snapshot(start)
    kept = conn.write_recording(recording(start))

    with pytest.raises(InvalidValueError):
        BAD_RECORDINGS[what](conn, start)

    assert list(conn.list_recordings()) == [kept]
    assert conn.read_artifact_partitions(RAW) == ()


# --- lists ---


def test_a_list_comes_in_pages_that_add_up(conn: Connection) -> None:
    conn.write_artifact_partitions(RAW, [partition(f"d{n:02d}") for n in range(7)])

    pages, after = [], None
    while True:
        page = conn.list_partitions(RAW, after=after, limit=3)
        pages.append([each.partition.key["day"] for each in page])
        after = page.next_after
        if after is None:
            break

    assert pages == [["d00", "d01", "d02"], ["d03", "d04", "d05"], ["d06"]]
    assert len(conn.list_partitions(RAW, limit=7)) == 7
    assert conn.list_partitions(RAW, limit=7).next_after is None


def test_lists_tell_who_and_when(conn: Connection) -> None:
    conn.write_snapshot_tag(snapshot(seq=4), "good")
    conn.write_artifact_partitions(RAW, [partition("mon")])

    (stored,), (taken,), (tag,) = conn.list_graphs(), conn.list_snapshots(), conn.list_tags()
    (kept,) = conn.list_partitions(RAW)

    assert (stored.components, stored.edges, stored.config, stored.producers) == (2, 1, 2, 1)
    assert (taken.seq, taken.epoch, taken.time) == (4, 1, 1.7e9 + 4)
    assert tag.snapshot.fingerprint == taken.fingerprint
    for each in (stored, taken, tag, kept):
        assert each.author
        assert each.wall_time > 1.7e9


def test_a_place_in_another_list_is_refused(conn: Connection) -> None:
    conn.write_artifact_partitions(RAW, [partition(f"d{n}") for n in range(3)])
    after = conn.list_partitions(RAW, limit=1).next_after

    conn.write_snapshot_tag(snapshot(), "good")
    for elsewhere in (after, "\ud800", 3):
        with pytest.raises(InvalidValueError, match="no place in"):
            conn.list_graphs(after=elsewhere)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match="no place in"):
            conn.tag_history("rig", "good", after=elsewhere)  # type: ignore[arg-type]
    for limit in (0, -1, 10_001, "3"):
        with pytest.raises(InvalidValueError, match="limit"):
            conn.list_graphs(limit=limit)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match="limit"):
            conn.tag_history("rig", "good", limit=limit)  # type: ignore[arg-type]


# --- differences ---


def test_two_snapshots_are_compared_field_by_field(conn: Connection) -> None:
    for gain in (1.0, 2.5):
        conn.write_snapshot_tag(snapshot(gain), f"gain-{gain}")

    old, new = (conn.read_snapshot_tag("rig", f"gain-{gain}") for gain in (1.0, 2.5))
    found = conn.diff(old, new)

    (changed,) = found.settings.changed
    assert (changed.name, [(c.path, c.old, c.new) for c in changed.fields]) == (
        "AMP",
        [(("gain",), 1.0, 2.5)],
    )
    assert not conn.diff(old, old.graph)
    with pytest.raises(InvalidValueError):
        conn.diff(old, "gain-2.5")  # type: ignore[arg-type]


# --- deletion ---


def test_what_is_referred_to_is_not_deleted(conn: Connection) -> None:
    taken = snapshot()
    conn.write_snapshot_tag(taken, "good")
    conn.write_artifact_and_graph_partitions(taken, "raw", RAW, [partition("mon")])

    with pytest.raises(StillReferencedError, match="seq 1"):
        conn.delete_graph("rig", taken.fingerprint)
    with pytest.raises(StillReferencedError, match="tagged good"):
        conn.delete_snapshot("rig", taken.fingerprint)
    with pytest.raises(StillReferencedError, match=str(taken.fingerprint)):
        conn.delete_artifact_partitions(RAW, [partition("tue"), partition("mon")])

    assert conn.read_snapshot_tag("rig", "good") == taken
    assert conn.read_artifact_partitions(RAW) == (partition("mon"),)


def test_what_nothing_refers_to_is_deleted(conn: Connection) -> None:
    kept, taken = snapshot(2.0, 5), snapshot(1.0, 5)
    conn.write_snapshot_tag(kept, "kept")
    conn.write_snapshot_tag(taken, "good")
    conn.write_artifact_and_graph_partitions(taken, "raw", RAW, [partition("mon")])

    conn.untag("rig", "good")
    conn.delete_snapshot("rig", taken.fingerprint)
    conn.delete_artifact_partitions(RAW, [partition("mon"), partition("tue")])
    conn.delete_graph("rig", taken.fingerprint)

    assert conn.read_artifact_partitions(RAW) == ()
    assert [each.fingerprint for each in conn.list_graphs()] == [kept.fingerprint]
    assert conn.read_snapshot_tag("rig", "kept") == kept  # which shared most of its pieces
    assert conn.tag_history("rig", "good")[0].snapshot is not None
    with pytest.raises(UnknownSnapshotError):
        conn.delete_snapshot("rig", taken.fingerprint)
    with pytest.raises(UnknownGraphError):
        conn.delete_graph("rig", taken.fingerprint)
    conn.write_snapshot(taken)
    assert conn.read_snapshot("rig", taken.fingerprint) == taken
    assert conn.read_snapshot_partitions(taken, "raw", RAW) == ()


# --- bad input ---


BAD: dict[str, Callable[[Connection], object]] = {
    "a graph that is none": lambda c: c.write_graph("rig"),  # type: ignore[arg-type]
    "a snapshot that is none": lambda c: c.write_snapshot(graph()),  # type: ignore[arg-type]
    "an artifact that is none": lambda c: c.read_artifact_partitions("raw"),  # type: ignore[arg-type]
    "a partition that is none": lambda c: c.write_artifact_partitions(RAW, [{}]),  # type: ignore[list-item]
    "one partition": lambda c: c.write_artifact_partitions(RAW, partition("mon")),  # type: ignore[arg-type]
    "a fingerprint that is none": lambda c: c.read_graph("rig", "abc"),
    "a filter that is none": lambda c: c.read_artifact_partitions(RAW, {"mon": 1}),  # type: ignore[dict-item]
    "an empty name": lambda c: c.read_graph("", print_of("x")),
    "a name with a control character": lambda c: c.untag("rig\n", "good"),
    "a name that is too long": lambda c: c.read_snapshot_tag("r" * 256, "good"),
    "an empty tag": lambda c: c.write_snapshot_tag(snapshot(), ""),
    "a tag that is no text": lambda c: c.untag("rig", 3),  # type: ignore[arg-type]
    "an empty artifact key": lambda c: c.write_snapshot_partitions(snapshot(), "", RAW, []),
}


@pytest.mark.parametrize("what", list(BAD))
def test_bad_input_is_refused_and_changes_nothing(conn: Connection, what: str) -> None:
    with pytest.raises(InvalidValueError):
        BAD[what](conn)

    assert len(conn.list_graphs()) == len(conn.list_tags()) == 0


@pytest.mark.parametrize(
    "name", ["a/b", "100%", "Ö 漢字 🙂", "..", "tag", "'; DROP TABLE stored", "x" * 255]
)
def test_any_name_that_can_be_shown_will_do(conn: Connection, name: str) -> None:
    taken = snapshot(name=name)
    conn.write_snapshot_tag(taken, name)
    conn.write_artifact_and_graph_partitions(
        taken, name, RAW, [Partition({name: name}, print_of("x"))]
    )

    assert conn.read_snapshot_tag(name, name) == taken
    assert [each.key for each in conn.read_snapshot_partitions(taken, name, RAW)] == [{name: name}]
    assert [(tag.name, tag.tag) for tag in conn.list_tags(name)] == [(name, name)]


def test_names_that_begin_alike_are_kept_apart(conn: Connection) -> None:
    for name in ("a", "ab", "a/", "a/b"):
        conn.write_snapshot_tag(snapshot(name=name), "t")

    assert [tag.name for tag in conn.list_tags("a")] == ["a"]
    assert len(conn.list_tags()) == 4


# --- several at a time ---


def test_of_many_threads_that_set_one_tag_one_does(backend: Backend[Any]) -> None:
    outcomes: Counter[str] = Counter()
    start = threading.Barrier(6)

    def tag(number: int) -> None:
        with backend.connect() as conn:
            start.wait()
            try:
                conn.write_snapshot_tag(snapshot(float(number)), "good")
                outcomes["set"] += 1
            except TagExistsError:
                outcomes["refused"] += 1

    threads = [threading.Thread(target=tag, args=(n,)) for n in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert outcomes == {"set": 1, "refused": 5}
    with backend.connect() as conn:
        assert len(conn.tag_history("rig", "good")) == 1
        assert len(conn.list_graphs()) == 1


WRITER = """
import json, sys
from ezgraph import Artifact, Fingerprint, Graph, Partition, Snapshot, TagExistsError
from ezgraph.backends import Backend

url, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
raw = Artifact("raw", storage="file:///data/{day}.h5")
print("ready", flush=True)
sys.stdin.readline()
won = []
with Backend.from_url(url).connect() as conn:
    taken = Snapshot(Graph("rig", settings={"A": {"writer": number}}), seq=number)
    for n in range(count):
        conn.write_artifact_and_graph_partitions(
            taken, "raw", raw, [Partition({"n": n, "by": number}, Fingerprint.from_string("x"))])
        try:
            conn.write_snapshot_tag(taken, f"t{n}")
            won.append(n)
        except TagExistsError:
            pass
        assert len(conn.read_snapshot_partitions(taken, "raw", raw)) == n + 1
print(json.dumps(won), flush=True)
"""


@contextmanager
def writers(url: str, number: int, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes that write at once; they wait for a line of input."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(each), str(count)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in range(number)
    ]
    try:
        for each in started:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        yield started
    finally:
        for each in started:
            each.kill()
            each.communicate()


def test_several_processes_write_at_once_and_nothing_is_lost(shared: Backend[Any]) -> None:
    count = 15
    with writers(shared.url, 3, count) as started:
        for each in started:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        told = [each.communicate(timeout=60)[0] for each in started]

    won = [json.loads(text) for text in told]
    assert sorted(n for each in won for n in each) == list(range(count))  # each tag set once
    with shared.connect() as conn:
        raw = Artifact("raw", storage="file:///data/{day}.h5")
        assert len(conn.read_artifact_partitions(raw)) == 3 * count
        for tag in conn.list_tags("rig"):
            assert tag.snapshot.seq in [n for n in range(3) if int(tag.tag[1:]) in won[n]]
            assert len(conn.tag_history("rig", tag.tag)) == 1


def test_a_writer_killed_in_the_middle_leaves_all_or_nothing_of_each_call(
    shared: Backend[Any],
) -> None:
    chance = random.Random(7)
    raw = Artifact("raw", storage="file:///data/{day}.h5")
    with writers(shared.url, 1, 1_000_000) as (writer,):
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
        with shared.connect() as conn:
            goal = chance.randint(5, 25)
            while len(conn.read_artifact_partitions(raw)) < goal:
                pass
        writer.send_signal(signal.SIGKILL)
        writer.wait()

    with shared.connect() as conn:
        (taken,) = [conn.read_snapshot("rig", each.fingerprint) for each in conn.list_snapshots()]
        written = conn.read_artifact_partitions(raw)
        assert conn.read_snapshot_partitions(taken, "raw", raw) == written
        assert {each.key["n"] for each in written} == set(range(len(written)))
        assert len(conn.list_tags()) in (len(written), len(written) - 1)
        conn.write_snapshot_tag(taken, "after")
        assert conn.read_snapshot_tag("rig", "after") == taken


def test_an_error_of_the_store_never_shows_credentials() -> None:
    with pytest.raises(ezgraph.ConfigError) as caught:
        Backend.from_url("postgres://me:hunter2@host/db?token=hunter2")

    assert "hunter2" not in str(caught.value)
    assert issubclass(JournalError, ezgraph.EzGraphError)
