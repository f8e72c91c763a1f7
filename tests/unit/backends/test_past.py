"""The state at a seq and at a time, from milestones, checkpoints and records; no broker runs."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.backends import (
    Backend,
    Checkpoint,
    Journal,
    MemoryBackend,
    Record,
    SeqAt,
    SQLiteBackend,
    milestones,
    seq_at,
    state_at,
)
from ezgraph.backends import clock_steps as clock_steps_module
from ezgraph.backends.clock_steps import BLOB, ClockStep, ClockSteps
from ezgraph.backends.milestones import Milestone, dispensable
from ezgraph.backends.past import clock_steps
from ezgraph.broker.engine import BrokerEngine
from ezgraph.config import BrokerConfig, Retention
from ezgraph.errors import (
    CompactedError,
    DivergedError,
    InvalidValueError,
    JournalCorruptError,
)
from ezgraph.names import topic_of
from ezgraph.protocol.events import (
    AccessRefused,
    Body,
    Event,
    SessionOpened,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.testing import SequentialIds
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ezgraph.backends.reader import CheckpointPart

BASE = 1_000_000


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    backend: Backend[Any] = MemoryBackend()
    if request.param == "sqlite":
        backend = SQLiteBackend(tmp_path / "rig.db", "NORMAL")
    with backend.connect() as conn, conn.open_journal() as journal:
        yield journal


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milestones are of use at a distance of ten events."""
    monkeypatch.setattr(milestones, "LEAST_GAP", 10)


def setting(gain: int) -> SettingsChanged:
    value = SettingsSnapshotValue(None, {"gain": gain}, {"gain": gain})
    updated = SettingsEventType.SETTINGS_UPDATED
    return SettingsChanged(f"U{gain % 5}", updated, SettingsLayer.LIVE, value)


def append(journal: Journal, seqs: Sequence[int], walls: Sequence[float] | None = None) -> None:
    for place, seq in enumerate(seqs):
        body: Body = setting(seq) if seq % 7 else AccessRefused("anna", "x", "y", "z")
        wall = float(seq) if walls is None else walls[place]
        event = Event(1, seq, seq - 1, seq, seq, wall, 0.0, key_of(body), Source(), None, body)
        packed = codec.encode_event(event).event
        journal.append([Record(seq, topic_of(event.key), packed)])


def checkpoint(journal: Journal, *, blobs: dict[bytes, bytes] | None = None) -> None:
    """Write the state at the head, as entries."""
    state = state_at(journal, journal.head)
    entries, found = [], dict(blobs or {})
    for entry in state.settings.values():
        body = entry.change
        event = Event(1, entry.seq, 0, 0, 0, 1.0, 0.0, key_of(body), Source(), None, body)
        encoded = codec.encode_event(event)
        entries.append(encoded.live)
        found.update(encoded.blobs)
    journal.write_checkpoint(Checkpoint(journal.head, tuple(entries), found))


def gains(journal: Journal, seq: int) -> dict[str, int]:
    state = state_at(journal, seq)
    assert state.seq == seq
    found = {}
    for address, value in state.effective_settings().items():
        assert value.structured_value is not None
        found[address] = value.structured_value["gain"]
    return found


def expected(seq: int) -> dict[str, int]:
    found = {f"U{gain % 5}": gain for gain in range(1, seq + 1) if gain % 7}
    return dict(sorted(found.items()))


@pytest.mark.usefixtures("near")
def test_the_state_at_every_seq_is_that_of_what_came_before(journal: Journal) -> None:
    for start in range(1, 101, 10):
        append(journal, range(start, start + 10))
        checkpoint(journal)

    assert journal.milestone_seqs
    for seq in range(101):
        assert gains(journal, seq) == expected(seq)
    with pytest.raises(InvalidValueError, match=r"not given yet.*head is 100"):
        state_at(journal, 101)


@pytest.mark.usefixtures("near")
def test_milestones_stay_spread_while_history_grows(journal: Journal) -> None:
    for start in range(1, 401, 10):
        append(journal, range(start, start + 10))
        checkpoint(journal)

    kept = journal.milestone_seqs
    assert journal.checkpoint_seqs == (390, 400)
    assert 10 < len(kept) <= 400 // 2 // 6  # of six rows each, half as many as events
    gaps = [b - a for a, b in zip([0, *kept], [*kept, 390], strict=True)]
    assert max(gaps) <= 30
    assert [each.seq for each in journal.every_checkpoint()] == [*kept, 390, 400]
    assert [each.seq for each in journal.each_checkpoint()] == [390, 400]


@pytest.mark.usefixtures("near")
def test_what_a_milestone_that_went_took_up_is_freed(tmp_path: Path) -> None:
    with SQLiteBackend(tmp_path / "rig.db", "NORMAL").connect() as conn:
        with conn.open_journal() as journal:
            for start in range(1, 201, 10):
                append(journal, range(start, start + 10))
                journal.begin_checkpoint(journal.head).add([b"given up"])
                checkpoint(journal)
            kept = len(journal.milestone_seqs) + 2
            (rows,) = journal._db.execute("SELECT count(*) FROM checkpoint_rows").fetchone()
            assert rows <= 6 * (kept + 2)
        with conn.open_journal() as journal:
            assert len(journal.milestone_seqs) + 2 == kept
            (rows,) = journal._db.execute("SELECT count(*) FROM checkpoint_rows").fetchone()
            assert rows == 6 * kept


@pytest.mark.usefixtures("near")
def test_a_damaged_milestone_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rig.db"
    with SQLiteBackend(path, "NORMAL").connect() as conn, conn.open_journal() as journal:
        for start in range(1, 101, 10):
            append(journal, range(start, start + 10))
            checkpoint(journal)
        kept = journal.milestone_seqs
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        (number,) = db.execute("SELECT id FROM checkpoints WHERE seq = ?", (kept[-1],)).fetchone()
        db.execute("UPDATE checkpoint_rows SET value = x'00' WHERE id >> 32 = ?", (number,))

    with SQLiteBackend(path).connect().open_reader() as reader:
        with caplog.at_level(logging.WARNING):
            assert gains(reader, kept[-1] + 1) == expected(kept[-1] + 1)  # type: ignore[arg-type]
        assert f"seq={kept[-1]}" in caplog.text
        with pytest.raises(JournalCorruptError):
            list(reader.every_checkpoint())


@pytest.mark.usefixtures("near")
def test_what_was_compacted_is_known_where_a_milestone_is_left(journal: Journal) -> None:
    for start in range(1, 101, 10):
        append(journal, range(start, start + 10))
        checkpoint(journal)
    journal.drop_below(51)

    with pytest.raises(CompactedError, match="begins at 51") as refused:
        state_at(journal, 49)
    assert refused.value.floor == 51
    assert gains(journal, 55) == expected(55)
    append(journal, range(101, 111))
    checkpoint(journal)
    assert min(journal.milestone_seqs) >= 50
    assert gains(journal, 100) == expected(100)


def test_a_number_in_the_gap_was_never_given(journal: Journal) -> None:
    append(journal, range(1, 6))
    journal.begin_epoch(2, BASE)
    append(journal, range(BASE + 1, BASE + 6))

    with pytest.raises(DivergedError):
        state_at(journal, 500)
    assert state_at(journal, 5).epoch == 1
    assert state_at(journal, BASE + 3).epoch == 2
    assert gains(journal, 5) == expected(5)
    assert seq_at(journal, BASE + 2.5) == SeqAt(BASE + 2)
    assert seq_at(journal, 700.0) == SeqAt(5)


def test_a_history_that_does_not_add_up_is_damage(journal: Journal) -> None:
    journal.append([Record(1, b"session/x/", b"no event")])

    with pytest.raises(JournalCorruptError, match="does not add up"):
        state_at(journal, 1)
    with pytest.raises(JournalCorruptError, match="no event"):
        seq_at(journal, 1.0)


# --- a checkpoint in parts ---


def parts(journal: Journal, seq: int, most: int) -> list[CheckpointPart]:
    found: list[CheckpointPart] = []
    start: int | None = 0
    while start is not None:
        part = journal.checkpoint_part(found[0].seq if found else seq, start, most=most)
        assert part is not None
        found.append(part)
        start = part.next_start
    return found


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_the_parts_of_a_checkpoint_make_the_whole_and_blobs_come_first(
    journal: Journal, most: int
) -> None:
    append(journal, range(1, 11))
    checkpoint(journal, blobs={b"one": b"1", b"two": b"2"})
    append(journal, range(11, 13))

    found = parts(journal, 12, most)

    whole = journal.load_checkpoint()
    assert whole is not None
    assert {each.seq for each in found} == {10}
    assert [entry for each in found for entry in each.entries] == list(whole.entries)
    assert {name: blob for each in found for name, blob in each.blobs.items()} == whole.blobs
    assert all(len(each.entries) + len(each.blobs) <= most for each in found)
    kinds = [bool(each.entries) for each in found]
    assert sorted(kinds) == kinds
    assert journal.checkpoint_part(9, most=most) is None


def test_a_checkpoint_with_a_damaged_part_is_passed_over_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "rig.db"
    with SQLiteBackend(path, "NORMAL").connect() as conn, conn.open_journal() as journal:
        for start in (1, 11):
            append(journal, range(start, start + 10))
            checkpoint(journal)
        with closing(sqlite3.connect(path)) as db:
            damaged = "UPDATE checkpoint_rows SET value = x'00' WHERE id = (2 << 32) + 2"
            assert db.execute(damaged).rowcount == 1
            db.commit()

        first = journal.checkpoint_part(20, most=2)
        assert first is not None
        assert first.seq == 20
        with pytest.raises(JournalCorruptError, match="row of the checkpoint at 20"):
            journal.checkpoint_part(20, 2, most=2)
        whole = journal.checkpoint_part(20, most=100)  # passed over: the older one serves
        assert whole is not None
        assert whole.seq == 10


# --- times ---


def test_a_time_stands_for_the_last_seq_that_was_not_later(journal: Journal) -> None:
    append(journal, range(1, 8), [10, 10, 11, 12, 12, 12, 20])

    assert [seq_at(journal, at).seq for at in (9, 10, 10.5, 11, 12, 19.9, 20, 99)] == [
        0,
        2,
        2,
        3,
        6,
        6,
        7,
        7,
    ]
    assert not seq_at(journal, 11).is_ambiguous
    assert seq_at(MemoryBackend().connect().open_journal(), 5.0) == SeqAt(0)


@pytest.mark.parametrize("has_checkpoint", ["none", "with steps", "of an older ezgraph"])
def test_where_the_clock_went_back_it_is_the_last_and_one_is_told(
    journal: Journal, has_checkpoint: str
) -> None:
    walls = [10, 11, 15, 12, 13, 14, 16, 17, 13.5, 18]
    append(journal, range(1, 7), walls[:6])
    if has_checkpoint == "with steps":
        steps = ClockSteps()
        for seq, wall in enumerate(walls[:6], 1):
            steps.take(seq, wall)
        checkpoint(journal, blobs={BLOB: steps.blob()})
    elif has_checkpoint == "of an older ezgraph":
        checkpoint(journal)
    append(journal, range(7, 11), walls[6:])

    assert clock_steps(journal) == [ClockStep(4, 15, 12), ClockStep(9, 17, 13.5)]
    assert seq_at(journal, 11.5) == SeqAt(2)
    assert seq_at(journal, 12.5) == SeqAt(4, (ClockStep(4, 15, 12),))
    assert seq_at(journal, 14.5) == SeqAt(9, (ClockStep(4, 15, 12), ClockStep(9, 17, 13.5)))
    assert seq_at(journal, 16.5) == SeqAt(9, (ClockStep(9, 17, 13.5),))
    assert seq_at(journal, 18.0) == SeqAt(10)


def test_before_what_was_compacted_no_time_is_known(journal: Journal) -> None:
    append(journal, range(1, 31))
    checkpoint(journal)
    journal.drop_below(20)

    assert seq_at(journal, 20.0) == SeqAt(20)
    with pytest.raises(CompactedError, match="was later than 19"):
        seq_at(journal, 19.0)


def test_of_very_many_steps_the_newest_are_kept_and_it_is_known_since_when(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clock_steps_module, "MOST_STEPS", 3)
    steps = ClockSteps()
    for seq in range(1, 12):
        steps.take(seq, float(-seq))

    assert [step.seq for step in steps] == [9, 10, 11]
    assert steps.start == 8
    again = ClockSteps.of_blob(steps.blob())
    assert (list(again), again.start) == (list(steps), 8)
    with pytest.raises(JournalCorruptError, match="cannot be read"):
        ClockSteps.of_blob(b"nonsense")


def test_a_broker_writes_down_where_its_clock_went_back() -> None:
    config = BrokerConfig(checkpoint_events=1_000, retention=Retention())
    with MemoryBackend().connect() as conn:
        walls = iter([100.0, 101.0, 50.0, 60.0])
        for _ in range(2):  # and goes on with it after a restart
            journal = conn.open_journal()
            engine = BrokerEngine(config, journal, SequentialIds(), events_port=1, now=0.0)
            for _ in range(2):
                wall = next(walls)
                body = SessionOpened(f"s{wall}", 6.0)
                engine._decided(
                    engine.core._transaction((body,), Source(), None, now=1.0, wall=wall)
                )
                engine.finish_pass(now=1.0, wall=wall)
            engine.write_checkpoint()
            journal.close()
        reader = conn.open_reader()
        stored = reader.load_checkpoint()
        assert stored is not None
        assert list(ClockSteps.of_blob(stored.blobs[BLOB])) == clock_steps(reader)
        assert [(step.before, step.after) for step in clock_steps(reader)] == [(101.0, 50.0)]


# --- which milestones stay ---


def test_of_more_milestones_than_there_may_be_the_one_goes_that_leaves_the_smallest_gap() -> None:
    at = [2_000, 4_000, 5_000, 9_000, 12_000, 14_000]
    finished = [Milestone(number, events, 1_000) for number, events in enumerate(at)]

    assert dispensable(finished, 8_000) == set()
    assert dispensable(finished, 7_999) == {1}
    assert dispensable(finished, 1_999) == {0, 1, 2, 3}


def test_a_milestone_that_the_floor_has_passed_goes() -> None:
    finished = [
        Milestone(0, None, 1),
        Milestone(1, 5_000, 1),
        *(Milestone(n, 9_000, 1) for n in (2, 3)),
    ]

    assert dispensable(finished, 20_000) == {0}
