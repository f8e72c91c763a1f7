"""The state as it was, pulled part by part from a journal: both pure sides joined, no sockets."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.backends import Checkpoint, MemoryBackend, Record, SQLiteBackend, seq_at, state_at
from ezgraph.backends.clock_steps import ClockSteps
from ezgraph.broker.engine import BrokerEngine
from ezgraph.broker.past import PastReads
from ezgraph.client.past import PastPull
from ezgraph.config import BrokerConfig, Limits
from ezgraph.errors import (
    CompactedError,
    DivergedError,
    EzGraphError,
    ForbiddenError,
    InvalidValueError,
    JournalCorruptError,
    MalformedMessageError,
)
from ezgraph.names import topic_of
from ezgraph.protocol.commands import Command, Hello
from ezgraph.protocol.events import (
    AccessRefused,
    Body,
    Event,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.patterns import KeyPattern, NamePattern
from ezgraph.protocol.replies import CheckpointChunk, Refusal, SeqFound, StretchChunk
from ezgraph.protocol.roles import OBSERVER, Access, Identity, Role
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.protocol.stored_commands import FindSeq, ReadCheckpoint, ReadStretch
from ezgraph.testing import SequentialIds
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ezgraph.backends import Journal

BASE = 1_000_000
FEW = Limits(chunk_events=4, chunk_bytes=2_000)


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    backend: Any = MemoryBackend()
    if request.param == "sqlite":
        backend = SQLiteBackend(tmp_path / "rig.db", "NORMAL")
    with backend.connect() as conn, conn.open_journal() as journal:
        yield journal


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


def checkpoint(journal: Journal) -> None:
    """Write the state at the head, with blobs that are the broker's own."""
    entries, blobs = [], {b"answered x": b"not for clients", b"clock steps": b"neither"}
    for entry in state_at(journal, journal.head).settings.values():
        body = entry.change
        event = Event(1, entry.seq, 0, 0, 0, 1.0, 0.0, key_of(body), Source(), None, body)
        encoded = codec.encode_event(event)
        entries.append(encoded.live)
        blobs.update(encoded.blobs)
    journal.write_checkpoint(Checkpoint(journal.head, tuple(entries), blobs))


def answer(reads: PastReads, command: ReadCheckpoint | ReadStretch) -> Any:
    if isinstance(command, ReadCheckpoint):
        return reads.checkpoint(command)[0]
    return reads.stretch(command)[0]


def pulled(
    journal: Journal,
    seq: int,
    *,
    limits: Limits = FEW,
    between: Callable[[int], None] = lambda _: None,
) -> Any:
    """Pull the state as a client does; ``between`` is called before each answer."""
    reads, pull = PastReads(journal, ClockSteps(), limits), PastPull(seq)
    for number in range(10_000):
        asked = pull.wants()
        if asked is None:
            return pull.state()
        between(number)
        try:
            chunk = answer(reads, asked)
        except EzGraphError as error:
            pull.take_error(error)
        else:
            pull.take(chunk)
    raise AssertionError("it does not come to an end")


def test_the_state_that_is_pulled_is_the_one_that_is_read_there(journal: Journal) -> None:
    append(journal, range(1, 21))
    checkpoint(journal)
    append(journal, range(21, 51))
    checkpoint(journal)
    append(journal, range(51, 61))

    for seq in (0, 1, 7, 19, 20, 21, 49, 50, 60):
        found = pulled(journal, seq)
        assert found.fingerprint() == state_at(journal, seq).fingerprint()
        assert (found.seq, found.epoch) == (seq, 1)


def test_of_a_stretch_only_what_counts_is_sent(journal: Journal) -> None:
    append(journal, range(1, 61))
    reads = PastReads(journal, ClockSteps(), Limits(chunk_events=30))

    chunk, rows = reads.stretch(ReadStretch(10, 60))

    assert (chunk.through, rows) == (40, 30)
    assert sorted(chunk.topics) == [topic_of(("settings", f"U{n}")) for n in range(5)]
    assert sorted(chunk.seqs) == chunk.seqs
    assert min(chunk.seqs) > 33


def test_no_part_is_larger_than_a_reply_may_be(journal: Journal) -> None:
    append(journal, range(1, 41))
    checkpoint(journal)
    append(journal, range(41, 81))
    reads = PastReads(journal, ClockSteps(), Limits(chunk_events=50, chunk_bytes=600))

    first = reads.checkpoint(ReadCheckpoint(40))[0]
    stretch = reads.stretch(ReadStretch(40, 80))[0]

    assert first.next_start is not None
    assert 0 < sum(map(len, first.entries)) + sum(map(len, first.blobs.values())) <= 600
    assert stretch.through < 50
    found = pulled(journal, 80, limits=Limits(chunk_events=50, chunk_bytes=1))  # a row at a time
    assert found.fingerprint() == state_at(journal, 80).fingerprint()


def test_what_a_checkpoint_keeps_for_the_broker_is_not_told(journal: Journal) -> None:
    append(journal, range(1, 11))
    checkpoint(journal)

    chunk, _ = PastReads(journal, ClockSteps(), Limits()).checkpoint(ReadCheckpoint(10))

    assert len(chunk.entries) == 5
    assert not {b"answered x", b"clock steps"} & chunk.blobs.keys()


def test_a_number_that_was_not_given_is_refused(journal: Journal) -> None:
    append(journal, range(1, 6))
    journal.begin_epoch(2, BASE)
    append(journal, range(BASE + 1, BASE + 6))

    for seq in (-1, BASE + 6):
        with pytest.raises(InvalidValueError, match="seq"):
            pulled(journal, seq)
    with pytest.raises(DivergedError):
        pulled(journal, 500)
    for seq, epoch in ((5, 1), (BASE, 2), (BASE + 3, 2)):
        found = pulled(journal, seq)
        assert found.epoch == epoch
        assert found.fingerprint() == state_at(journal, seq).fingerprint()


def test_a_part_or_a_stretch_outside_is_refused(journal: Journal) -> None:
    append(journal, range(1, 6))
    reads = PastReads(journal, ClockSteps(), Limits())

    with pytest.raises(InvalidValueError, match="place -1"):
        reads.checkpoint(ReadCheckpoint(5, -1))
    for after, through in ((-1, 3), (3, 9)):
        with pytest.raises(InvalidValueError):
            reads.stretch(ReadStretch(after, through))
    assert reads.stretch(ReadStretch(4, 2))[0] == StretchChunk(4)


def test_what_was_compacted_is_not_known(journal: Journal) -> None:
    append(journal, range(1, 31))
    checkpoint(journal)
    append(journal, range(31, 36))
    journal.drop_below(31)

    with pytest.raises(CompactedError, match="begins at 31") as refused:
        pulled(journal, 20)
    assert refused.value.floor == 31
    assert pulled(journal, 30).fingerprint() == state_at(journal, 30).fingerprint()


def test_history_that_goes_while_it_is_read_is_read_anew(journal: Journal) -> None:
    append(journal, range(1, 31))
    wanted = state_at(journal, 30).effective_settings()

    def compact(number: int) -> None:
        if number == 3:
            checkpoint(journal)
            journal.drop_below(31)

    assert pulled(journal, 30, between=compact).effective_settings() == wanted
    with pytest.raises(CompactedError):
        pulled(journal, 29)


def test_a_checkpoint_that_goes_while_it_is_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with MemoryBackend().connect() as conn, conn.open_journal() as journal:
        append(journal, range(1, 11))
        checkpoint(journal)
        append(journal, range(11, 21))
        checkpoint(journal)
        wanted = state_at(journal, 20).effective_settings()
        whole = journal.checkpoint_part

        def without_newest(number: int) -> None:
            if number == 1:
                monkeypatch.setattr(
                    journal,
                    "checkpoint_part",
                    lambda seq, start, most: whole(min(seq, 10), start, most=most),
                )

        limits = Limits(chunk_events=2)
        found = pulled(journal, 20, limits=limits, between=without_newest)

    assert found.effective_settings() == wanted


def test_one_that_goes_again_and_again_is_given_up() -> None:
    pull = PastPull(30)

    for at in range(20, 11, -1):
        pull.take(CheckpointChunk(at, 1, at, [], {}, 5))
    with pytest.raises(CompactedError, match="went 5 times"):
        pull.take(CheckpointChunk(11, 1, 11, [], {}, 5))


def test_where_a_checkpoint_is_damaged_the_one_before_it_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rig.db"
    with SQLiteBackend(path, "NORMAL").connect() as conn, conn.open_journal() as journal:
        for start in (1, 11):
            append(journal, range(start, start + 10))
            checkpoint(journal)
        append(journal, range(21, 31))
        wanted = state_at(journal, 25).effective_settings()
        with closing(sqlite3.connect(path)) as db:
            damage = "UPDATE checkpoint_rows SET value = x'00' WHERE id = (2 << 32) + 3"
            assert db.execute(damage).rowcount == 1
            db.commit()

        with caplog.at_level(logging.WARNING):
            found = pulled(journal, 25, limits=Limits(chunk_events=3)).effective_settings()
        journal.drop_below(21)
        with pytest.raises(JournalCorruptError, match="checkpoint at 20"):
            pulled(journal, 25, limits=Limits(chunk_events=3))

    assert found == wanted


def test_what_does_not_add_up_is_damage_and_what_is_no_answer_is_malformed() -> None:
    pull = PastPull(1)
    pull.take(CheckpointChunk(None, 1, 0))
    for chunk in (
        StretchChunk(0),
        StretchChunk(2),
        StretchChunk(1, [1], [b"edge/a/b/"], []),
    ):
        with pytest.raises(MalformedMessageError):
            pull.take(chunk)
    pull.take(StretchChunk(1, [1], [b"edge/a/b/"], [b"no event"]))

    with pytest.raises(JournalCorruptError, match="does not add up"):
        pull.state()
    with pytest.raises(MalformedMessageError, match="does not go on"):
        PastPull(9).take(CheckpointChunk(9, 1, 9, [], {}, 0))


# --- times ---


WALLS = [10, 11, 15, 12, 13, 14, 16, 17, 13.5, 18, 19, 20]


@pytest.mark.parametrize("known_from", [0, 5, 9, 12])
def test_a_time_is_found_also_where_nobody_noted_the_clock(
    journal: Journal, known_from: int
) -> None:
    append(journal, range(1, 13), WALLS)
    steps = ClockSteps(known_from)
    for seq, wall in enumerate(WALLS, 1):
        if seq >= known_from:
            steps.take(seq, wall)
    reads = PastReads(journal, steps, FEW)

    def found(at: float) -> SeqFound:
        for _ in range(10):
            reply, rows = reads.seq_at(FindSeq(at))
            assert rows <= 10
            if reply is not None:
                return reply
        raise AssertionError("it is not found")

    for at in (9.0, 10.0, 11.5, 12.5, 13.7, 14.5, 16.5, 18.0, 99.0):
        expected = seq_at(journal, at)
        steps_told = [(each.seq, each.before, each.after) for each in expected.steps]
        assert found(at) == SeqFound(expected.seq, steps_told)
    assert len(found(14.5).steps) == 2


# --- through the engine ---


PARTIAL = Role("partial", {"read": (KeyPattern((NamePattern("settings", is_open=False),)),)})


class Desk:
    """An engine with two readers: one of everything, and one of some."""

    def __init__(self, journal: Journal) -> None:
        publics = {b"all": "a" * 64, b"some": "b" * 64}
        roles = {b"all": OBSERVER, b"some": PARTIAL}
        self._publics = publics
        access = Access(
            Identity(peer.decode(), public, roles[peer]) for peer, public in publics.items()
        )
        self.engine = BrokerEngine(
            BrokerConfig(limits=FEW),
            journal,
            SequentialIds(),
            events_port=1,
            now=1.0,
            access=access,
        )
        self.engine.set_access(access, {each.number: 5 for each in access.scopes.values()})
        for peer in publics:
            self.ask(peer, Hello(1, "guest", f"{peer!r}", "p", "h", 1, "l"), 0)
        self._last = 0

    def ask(self, peer: bytes, command: Command, number: int | None = None) -> Any:
        if number is None:
            self._last = number = self._last + 1
        engine, public = self.engine, self._publics[peer]
        frame = frames.request_frame(number, 0, codec.encode(command))
        engine.take_command(peer, frame, now=1.0, wall=5e9, public=public)
        for _ in range(20):
            engine.finish_pass(now=1.0, wall=5e9)
            messages = engine.replies()
            engine.publications()
            messages += engine.replies()
            for message in messages:
                for each in message[1:]:
                    answered, reply = frames.read_reply(each)
                    if (message[0], answered) == (peer, number):
                        return reply
        raise AssertionError(f"{command} was not answered")


def test_the_engine_answers_by_turns_and_refuses_who_may_read_a_part(journal: Journal) -> None:
    append(journal, range(1, 13), WALLS)
    desk = Desk(journal)

    checkpoint_reply = desk.ask(b"all", ReadCheckpoint(12))
    stretch = desk.ask(b"all", ReadStretch(0, 12))
    found = desk.ask(b"all", FindSeq(14.5))
    refused = [
        desk.ask(b"some", asked)
        for asked in (ReadCheckpoint(12), ReadStretch(0, 12), FindSeq(14.5), FindSeq(1.0))
    ]

    assert checkpoint_reply == CheckpointChunk(None, 1, 0)
    assert stretch.through == 4
    assert (found.seq, len(found.steps)) == (9, 2)
    assert desk.ask(b"all", FindSeq(float("nan"))).code == "invalid_value"
    for each in refused:
        assert isinstance(each, Refusal)
        assert each.code == ForbiddenError.code
        assert "'some'" in each.message
        assert "the state as it was" in each.message
