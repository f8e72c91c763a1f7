"""A broker killed at each step of a freeze and of a tag leaves the old state or the new one."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ezgraph.backends import SQLiteBackend
from ezgraph.backends.sqlite import open_reader
from ezgraph.broker.store import freezing, storing
from ezgraph.errors import UnknownTagError
from ezgraph.protocol.events import SnapshotFrozen
from ezgraph.protocol.replies import Done, Frozen, Reply
from ezgraph.protocol.stored_commands import Freeze, SetTag, SnapshotRef
from ezgraph.wire import codec
from tests.unit.backends.test_stored_file import killed_at
from tests.unit.broker.test_storing import A, Bench, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ezgraph.protocol.fingerprints import Fingerprint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


class Seen(NamedTuple):
    """What a store holds, and what history tells of it."""

    tagged: bool
    graphs: int
    snapshots: int
    history: int
    told: tuple[str, ...]


OLD = Seen(False, 1, 1, 0, ())
FROZEN = Seen(True, 2, 2, 1, ("SnapshotFrozen", "TagSet"))
TAGGED = Seen(True, 1, 1, 1, ("TagSet",))


def bench_on(path: Path) -> Bench:
    bench = Bench(connection=SQLiteBackend(path, "NORMAL").connect())
    bench.join(A, "guest")
    return bench


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A folder with a journal in which one snapshot is stored, and is not the latest state."""
    folder = tmp_path / "start"
    folder.mkdir()
    bench = Bench(connection=SQLiteBackend(folder / "rig.db", "NORMAL").connect())
    bench.join(b"owner")
    bench.ask(b"owner", rig(3))
    assert isinstance(bench.ask(b"owner", Freeze("rig")), Frozen)
    bench.ask(b"owner", rig(40, gain=2.0))
    bench.connection.close()
    return folder


def freeze(path: Path) -> Reply:
    bench = bench_on(path)
    reply = bench.ask(A, Freeze("rig", "good"), 77)
    bench.connection.close()
    return reply


def tag(path: Path) -> Reply:
    bench = bench_on(path)
    reply = bench.ask(A, SetTag("rig", "good", SnapshotRef(fingerprint_of(bench))), 77)
    bench.connection.close()
    return reply


def fingerprint_of(bench: Bench) -> Fingerprint:
    return next(
        each.body.fingerprint for each in bench.events() if isinstance(each.body, SnapshotFrozen)
    )


def seen(path: Path) -> Seen:
    with open_reader(path) as reader:
        reader.verify_store()
        events = [codec.decode_event(each) for each in reader.read(0, max_rows=9_999).events]
    with SQLiteBackend(path, "NORMAL").connect() as conn:
        for each in conn.list_graphs():
            kept = conn.read_graph("rig", each.fingerprint)  # all of its pieces are there
            assert len(kept.components) in (3, 40)
        try:
            tagged = bool(conn.read_snapshot_tag("rig", "good"))
        except UnknownTagError:
            tagged = False
        return Seen(
            tagged,
            len(conn.list_graphs()),
            len(conn.list_snapshots()),
            len(conn.tag_history("rig", "good")) if tagged else 0,
            tuple(e.kind for e in events if e.kind in ("SnapshotFrozen", "TagSet"))[1:],
        )


@pytest.mark.parametrize(
    ("work", "stride", "new"), [(freeze, 9, FROZEN), (tag, 5, TAGGED)], ids=["freeze", "tag"]
)
def test_killed_at_any_step_it_leaves_the_old_or_the_new_and_never_a_third(
    start: Path,
    work: Callable[[Path], Reply],
    stride: int,
    new: Seen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storing, "_UNITS_PER_PASS", 1)  # so that appends come in between
    monkeypatch.setattr(freezing, "_STORED_BYTES", 1)
    found: list[Seen] = []
    answered: list[bool] = []
    step = 0
    while True:
        step += stride
        folder = start.with_name(f"{step}")
        shutil.copytree(start, folder)
        path, told = folder / "rig.db", folder / "told"

        def work_and_tell(path: Path = path, told: Path = told) -> None:
            if isinstance(work(path), Done | Frozen):
                told.touch()

        was_killed = killed_at(step, work_and_tell, path)

        found.append(seen(path))
        answered.append(told.exists())
        reply = work(path)  # the same program, which asks the same again
        assert isinstance(reply, Done | Frozen), reply
        assert seen(path) == new
        shutil.rmtree(folder)
        if not was_killed:
            break

    assert step > 50
    assert found == sorted(found)  # once it is there, it stays there
    assert set(found) == {OLD, new}
    assert all(each == new for each, was in zip(found, answered, strict=True) if was)
