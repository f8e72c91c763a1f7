"""The broker's engine: stored before answered, answered before published, reads in turn."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ezgraph.backends.memory import MemoryBackend
from ezgraph.backends.sqlite import SQLiteBackend
from ezgraph.broker import engine as engine_module
from ezgraph.broker.engine import BrokerEngine
from ezgraph.config import BrokerConfig, Limits, Retention
from ezgraph.errors import InvalidSchemaError, InvalidValueError, JournalFailedError
from ezgraph.names import note_topic
from ezgraph.protocol.commands import (
    ChangeConfig,
    ChangeSettings,
    Command,
    Connect,
    Disconnect,
    GetStatus,
    Heartbeat,
    Hello,
    OpenSnapshot,
    ReadConfig,
    ReadEvents,
    ReadSnapshot,
    ReportSettings,
    Resume,
    SetConfigSchema,
    Shutdown,
    Sync,
    UpdateUnits,
)
from ezgraph.protocol.config import ConfigPut
from ezgraph.protocol.events import HistoryCompacted
from ezgraph.protocol.replies import (
    HANDED_ID,
    ConfigPage,
    Done,
    EventRange,
    Handed,
    Refusal,
    Reply,
    SettingsSet,
    SnapshotChunk,
    StatusReport,
    Welcome,
)
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.stored_commands import Freeze
from ezgraph.state import content as content_module
from ezgraph.testing import FlakyMemory, SequentialIds
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from pathlib import Path

    from ezgraph.backends.base import Connection

A, B, C = b"peer-a", b"peer-b", b"peer-c"


class Bench:
    """An engine on a journal in memory; asks in passes."""

    def __init__(
        self, config: BrokerConfig | None = None, connection: Connection | None = None
    ) -> None:
        self.connection = connection or MemoryBackend().connect()
        self.journal = self.connection.open_journal()
        self.now, self.wall = 10.0, 1e9
        self.engine = BrokerEngine(
            config or BrokerConfig(),
            self.journal,
            SequentialIds(),
            events_port=1,
            now=self.now,
        )
        self._last_id = 0

    def take(self, peer: bytes, command: Command, request_id: int | None = None) -> int:
        self._last_id += 1
        number = self._last_id if request_id is None else request_id
        frame = frames.request_frame(number, 0, codec.encode(command))
        self.engine.take_command(peer, frame, now=self.now, wall=self.wall)
        return number

    def finish(self) -> list[tuple[bytes, int, Reply]]:
        """End the pass; return (peer, request id, reply) of everything that is answered."""
        self.engine.finish_pass(now=self.now, wall=self.wall)
        messages = self.engine.replies()
        self.published = self.engine.publications()
        messages += self.engine.replies()
        self.engine.tidy()
        return [(m[0], *frames.read_reply(frame)) for m in messages for frame in m[1:]]

    def ask(self, peer: bytes, command: Command, request_id: int | None = None) -> Reply:
        number = self.take(peer, command, request_id)
        for _ in range(10):
            for to, answered, reply in self.finish():
                if (to, answered) == (peer, number):
                    return reply
        raise AssertionError(f"{command} was not answered")

    def join(self, peer: bytes, kind: str = "session") -> Welcome:
        welcome = self.ask(peer, Hello(1, kind, f"{peer!r}{kind}", "p", "h", 1, "l"), 0)
        assert isinstance(welcome, Welcome)
        return welcome


def test_what_is_answered_is_in_the_journal_already() -> None:
    bench = Bench()
    bench.join(A)
    bench.take(A, Connect("a", "b"))
    assert bench.journal.head == 1

    bench.engine.finish_pass(now=10.0, wall=1e9)

    assert bench.journal.head == 2
    assert len(bench.engine.replies()) == 1
    assert bench.engine.replies() == []


def test_what_a_broker_begins_with_is_stored_before_anybody_is_answered() -> None:
    bench = Bench()
    bench.engine.seed(
        [ChangeConfig([ConfigPut("t", ("a",), 1)]), SetConfigSchema("t", {"type": "integer"})],
        now=10.0,
        wall=1e9,
    )
    bench.engine.finish_pass(now=10.0, wall=1e9)
    stored = bench.journal.head

    bench.join(A)
    page = bench.ask(A, ReadConfig("t"))

    assert stored == 2
    assert isinstance(page, ConfigPage)
    assert [(entry.seq, entry.value) for entry in page.entries] == [(1, 1)]
    assert bench.engine.state.config.schemas == {"t": {"type": "integer"}}


def test_what_a_broker_begins_with_is_stored_altogether_or_not_at_all() -> None:
    bench = Bench()
    good = ChangeConfig([ConfigPut("t", ("a",), 1)])

    with pytest.raises(InvalidSchemaError):
        bench.engine.seed([good, SetConfigSchema("t", {"type": "nope"})], now=10.0, wall=1e9)

    assert bench.journal.head == 0


def test_everything_of_a_pass_is_one_append_and_one_message_per_connection() -> None:
    bench = Bench()
    bench.join(A)
    bench.join(B)
    for number in range(50):
        bench.take(A if number % 2 else B, Connect("a", f"b{number}"))

    bench.engine.finish_pass(now=10.0, wall=1e9)

    messages = bench.engine.replies()
    assert sorted(message[0] for message in messages) == [A, B]
    assert [len(message) for message in messages] == [26, 26]
    assert bench.journal.head == 52


class Changed:
    """An engine whose owner B has just reported what A asked for, in a pass that is not ended."""

    def __init__(self) -> None:
        self.bench = bench = Bench()
        bench.join(A)
        bench.join(B, "process")
        bench.join(C)
        bench.ask(B, UpdateUnits(["U"], []))
        bench.ask(B, ReportSettings("U", SettingsSnapshotValue(None, {"gain": 1}, {"gain": 1})))
        self.asked = self.ask()
        self.reported = self.report()

    def ask(self) -> int:
        return self.bench.take(A, ChangeSettings("U", {"gain": 2}))

    def report(self) -> int:
        """Report what was asked for last, when it was handed over."""
        ((_, _, handed),) = [each for each in self.bench.finish() if each[1] == HANDED_ID]
        assert isinstance(handed, Handed)
        value = SettingsSnapshotValue(None, {"gain": 2}, {"gain": 2})
        answers = handed.request.request_id
        return self.bench.take(B, ReportSettings("U", value, answers=answers))


def test_who_asked_for_a_change_is_answered_before_its_owner_who_is_told_soon_after() -> None:
    changed = Changed()
    bench = changed.bench

    first = bench.finish()

    assert [(peer, number) for peer, number, _ in first] == [(A, changed.asked)]
    assert isinstance(first[0][2], SettingsSet)
    due = bench.engine.next_due(bench.now)
    assert due is not None
    assert due > bench.now
    bench.now = due
    assert bench.finish() == [(B, changed.reported, Done(6))]
    assert bench.finish() == []


def test_an_owner_is_told_that_its_report_is_stored_before_it_is_asked_for_more() -> None:
    changed = Changed()
    changed.bench.finish()

    changed.ask()

    told = [(peer, number) for peer, number, _ in changed.bench.finish()]
    assert told == [(B, changed.reported), (B, HANDED_ID)]


def test_who_asked_an_owner_hears_before_who_asked_the_broker_in_the_same_pass() -> None:
    changed = Changed()
    bench = changed.bench
    synced = bench.take(C, Sync())

    assert [number for _, number, _ in bench.finish()] == [changed.asked, synced]


def test_a_failed_append_answers_and_publishes_nothing_of_its_batch() -> None:
    connection = FlakyMemory()
    bench = Bench(connection=connection)
    bench.join(A)
    bench.engine.take_subscription(b"\x01", now=10.0)
    bench.take(A, Connect("a", "b"))
    bench.take(A, Sync())
    connection.fails = "before"

    with pytest.raises(JournalFailedError, match="nothing of this batch was acknowledged"):
        bench.engine.finish_pass(now=10.0, wall=1e9)

    assert bench.engine.replies() == []
    assert bench.engine.publications() == []


@pytest.mark.parametrize("frame", [b"", b"eZ", b"GET / HTTP/1.1", b"eZ\2\0" + bytes(16)])
def test_what_is_no_request_gets_no_answer(frame: bytes) -> None:
    bench = Bench()

    bench.engine.take_command(A, frame, now=10.0, wall=1e9)

    assert bench.finish() == []


def test_a_request_that_is_no_command_is_answered_under_its_id() -> None:
    bench = Bench()

    bench.engine.take_command(A, frames.request_frame(7, 0, b"\xc1"), now=10.0, wall=1e9)
    bench.engine.take_command(
        A, frames.request_frame(8, 0, codec.encode(Sync())[:-1]), now=10.0, wall=1e9
    )

    (_, seven, first), (_, eight, second) = bench.finish()
    assert (seven, eight) == (7, 8)
    assert isinstance(first, Refusal)
    assert isinstance(second, Refusal)
    assert first.code == second.code == "malformed"


def test_events_are_published_with_their_links_when_somebody_watches() -> None:
    bench = Bench()
    bench.join(A)
    bench.ask(A, Connect("a", "b"))
    assert bench.published == []
    bench.engine.take_subscription(b"\x01edge/", now=10.0)
    bench.engine.take_subscription(b"\x01" + note_topic(b"edge/"), now=10.0)
    bench.finish()
    ((topic, note),) = bench.published
    assert topic == note_topic(b"edge/")
    assert frames.read_note(note)[2:] == (2, 2)

    bench.ask(A, Connect("b", "c"))

    ((topic, links, packed),) = bench.published
    assert topic == b"edge/b/c/"
    assert codec.decode_event(packed).seq == 3
    assert frames.read_link(links, 1) == (2, False)

    bench.engine.take_subscription(b"\x00edge/", now=10.0)
    bench.engine.take_subscription(b"\x00" + note_topic(b"edge/"), now=10.0)
    bench.ask(A, Connect("c", "d"))
    assert bench.published == []


def test_reads_take_turns_a_chunk_of_rows_per_pass_after_the_commands() -> None:
    bench = Bench(BrokerConfig(limits=Limits(chunk_events=2)))
    bench.join(A)
    for _ in range(3):
        bench.take(A, ReadEvents([], 0))
    bench.take(A, Connect("a", "b"))

    first = [reply for _, _, reply in bench.finish()]
    second = [reply for _, _, reply in bench.finish()]

    assert [type(reply) for reply in first] == [Done, EventRange]
    assert [type(reply) for reply in second] == [EventRange]
    assert bench.engine.next_due(bench.now) == bench.now
    assert len(bench.finish()) == 1
    assert bench.finish() == []


def test_reads_that_take_few_rows_are_served_together() -> None:
    bench = Bench(BrokerConfig(limits=Limits(chunk_events=50)))
    bench.join(A)
    for _ in range(9):
        bench.ask(A, Connect("a", f"b{_}"))
    for _ in range(6):
        bench.take(A, ReadEvents([], 0))

    assert [len(bench.finish()), len(bench.finish())] == [5, 1]


def test_a_read_repeated_while_it_waits_is_answered_once() -> None:
    bench = Bench()
    bench.join(A)
    for _ in range(3):
        bench.take(A, ReadEvents([], 0), request_id=77)

    assert [request_id for _, request_id, _ in bench.finish()] == [77]
    assert bench.finish() == []


def test_a_watched_prefix_under_which_nothing_happened_is_complete_without_a_look() -> None:
    bench = Bench(BrokerConfig(limits=Limits(chunk_events=3)))
    bench.join(A)
    bench.engine.take_subscription(b"\x01" + note_topic(b"control/"), now=10.0)
    for number in range(20):
        bench.ask(A, Connect("a", f"b{number}"))

    quiet = bench.ask(A, ReadEvents(["control"], 1))
    busy = bench.ask(A, ReadEvents(["edge"], 1))

    assert quiet == EventRange([], 21, 21, 1)
    assert isinstance(busy, EventRange)
    assert busy.through == 4


def test_a_range_is_cut_and_says_how_far_it_is_complete() -> None:
    bench = Bench(BrokerConfig(limits=Limits(chunk_events=10)))
    bench.join(A)
    for number in range(24):
        bench.ask(A, Connect("a" if number % 2 else "z", f"b{number}"))

    reply = bench.ask(A, ReadEvents(["edge", "a"], 5))

    assert isinstance(reply, EventRange)
    assert (reply.through, reply.head) == (15, 25)
    assert [codec.decode_event(each).seq for each in reply.events] == [7, 9, 11, 13, 15]
    rest = bench.ask(A, ReadEvents(["edge", "a"], 15, 18))
    assert isinstance(rest, EventRange)
    assert (rest.through, len(rest.events)) == (18, 1)


READS: list[tuple[Command, str, str]] = [
    (ReadEvents([], -1), "invalid_command", "a seq is 0 or more"),
    (ReadEvents([], 99), "diverged", "99 lies beyond the head 1 of epoch 1"),
    (ReadEvents([""], 0), "invalid_key", "segment ''"),
    (ReadEvents(["x" * 5000], 0), "invalid_key", "at most 4096"),
    (ReadSnapshot(7, [], 0), "invalid_command", "snapshot 7 is not open"),
]


@pytest.mark.parametrize(("command", "code", "says"), READS)
def test_a_read_outside_the_rules_is_refused(command: Command, code: str, says: str) -> None:
    bench = Bench()
    bench.join(A)

    reply = bench.ask(A, command)

    assert isinstance(reply, Refusal)
    assert reply.code == code
    assert says in reply.message


def test_below_the_floor_the_refusal_names_it() -> None:
    bench = Bench()
    bench.join(A)
    for number in range(5):
        bench.ask(A, Connect("a", f"b{number}"))
    bench.engine.write_checkpoint()
    bench.journal.drop_below(5)

    reply = bench.ask(A, ReadEvents([], 2))

    assert isinstance(reply, Refusal)
    assert (reply.code, reply.floor) == ("compacted", 5)
    assert isinstance(bench.ask(A, ReadEvents([], 4)), EventRange)


def test_more_reads_than_may_wait_are_refused() -> None:
    bench = Bench(BrokerConfig(limits=Limits(max_waiting_reads=2)))
    bench.join(A)
    for _ in range(4):
        bench.take(A, ReadEvents([], 0))

    replies = [reply for _ in range(3) for *_, reply in bench.finish()]

    refusals = [reply for reply in replies if isinstance(reply, Refusal)]
    assert len(refusals) == 2
    assert {refusal.code for refusal in refusals} == {"limit"}


def test_a_snapshot_is_the_state_in_chunks() -> None:
    bench = Bench(BrokerConfig(limits=Limits(chunk_events=2)))
    bench.join(A)
    for number in range(4):
        bench.ask(A, Connect("a", f"b{number}"))

    first = bench.ask(A, OpenSnapshot([]))
    assert isinstance(first, SnapshotChunk)
    bench.ask(A, Connect("a", "later"))
    second = bench.ask(A, ReadSnapshot(first.snapshot, [], first.next_start or 0))

    assert isinstance(second, SnapshotChunk)
    assert first.seq == second.seq == 5
    assert [len(first.entries), len(second.entries)] == [2, 2]


def test_a_status_counts_what_there_is() -> None:
    bench = Bench(BrokerConfig(journal_warning_bytes=10))
    bench.join(A)
    bench.join(B, "process")
    bench.ask(A, Connect("a", "b"))
    bench.now += 5.0

    status = bench.ask(A, GetStatus())

    assert isinstance(status, StatusReport)
    assert (status.sessions, status.processes, status.edges, status.head) == (1, 1, 1, 3)
    assert (status.epoch, status.floor, status.uptime_s) == (1, 1, 5.0)
    assert status.journal_warning is not None
    assert "nothing is deleted by itself" in status.journal_warning
    assert bench.engine.sessions == 2
    assert repr(bench.engine) == "<BrokerEngine epoch=1 seq=3>"


def test_a_shutdown_stops_the_engine_after_it_is_answered() -> None:
    bench = Bench()
    bench.join(A)

    assert bench.ask(A, Shutdown()) == Done(1)
    assert bench.engine.stopping


def test_a_new_engine_on_the_journal_has_the_same_state_and_knows_its_clients() -> None:
    bench = Bench()
    welcome = bench.join(A)
    for number in range(10):
        bench.ask(A, Connect("a", f"b{number}"), number + 1)
    fingerprint = bench.engine.state.fingerprint()
    bench.journal.close()

    again = Bench(connection=bench.connection)

    assert again.engine.state.fingerprint() == fingerprint
    resume = Resume(1, welcome.client, welcome.token, welcome.cluster_id, 1, 11)
    assert isinstance(again.ask(B, resume, 0), Welcome)
    assert again.ask(B, Connect("a", "b0"), 1) == Done(2)
    assert again.ask(B, Connect("a", "new"), 11) == Done(12)


def test_checkpoints_are_written_in_steps_and_loaded_with_the_tail() -> None:
    bench = Bench(BrokerConfig(checkpoint_events=20))
    bench.join(A)
    for number in range(50):
        bench.ask(A, Connect("a", f"b{number}"))
    assert bench.journal.checkpoint_seq is not None
    assert 20 <= bench.journal.checkpoint_seq < 51
    fingerprint = bench.engine.state.fingerprint()
    bench.journal.drop_below(bench.journal.checkpoint_seq + 1)
    bench.journal.close()

    again = Bench(connection=bench.connection)

    assert again.engine.state.fingerprint() == fingerprint
    snapshot = again.engine._live.freeze()
    assert len(snapshot) == 51


def test_a_lease_that_runs_out_is_stored_and_published_like_any_command() -> None:
    bench = Bench()
    bench.join(A)
    bench.ask(A, Connect("a", "b"))
    bench.engine.take_subscription(b"\x01", now=10.0)
    due = bench.engine.next_due(bench.now)  # what a freeze needs is made ready
    assert due is not None
    assert due < 11.0
    bench.now = due
    assert bench.finish() == []
    assert bench.engine.next_due(bench.now) == 16.0
    bench.now = 16.0

    assert bench.finish() == []

    assert bench.journal.head == 4
    kinds = [codec.decode_event(message[2]).kind for message in bench.published]
    assert kinds == ["EdgeDisconnected", "SessionClosed"]


def test_what_a_freeze_needs_is_made_ready_a_little_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "_SLOTS_A_STEP", 2)
    bench = Bench()
    bench.join(A)
    content = bench.engine.state.content
    for number in range(10):
        bench.ask(A, Connect("a", f"b{number}"))
    assert content.left == 10

    while not content.is_current:  # whatever else happens, but not with each command
        before, passes = content.left, 0
        while content.left >= before:
            bench.ask(A, Sync())
            passes, bench.now = passes + 1, bench.now + 0.0025
        assert passes >= 4 or before == 10
    bench.ask(A, Connect("a", "b"))
    bench.ask(A, Connect("a", "c"))
    bench.ask(A, Connect("a", "d"))
    bench.now += 0.25
    bench.finish()

    assert content.left == 1
    assert (bench.engine.next_due(bench.now) or 0.0) < bench.now  # it is quiet: at once


def test_what_cannot_be_made_ready_is_told_to_who_freezes_and_to_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> bytes:
        raise InvalidValueError("it has no fingerprint")

    bench = Bench()
    bench.join(A)
    bench.ask(A, ChangeConfig([ConfigPut("t", ("k",), 1)], []))
    monkeypatch.setattr(content_module, "content_digest", fails)
    bench.now += 1.0

    bench.finish()

    assert isinstance(bench.ask(A, Connect("a", "b")), Done)
    refused = bench.ask(A, Freeze("rig"))
    assert isinstance(refused, Refusal)
    assert "no fingerprint" in refused.message


def test_a_state_of_very_many_parts_is_not_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_MOST_WARM_SLOTS", 1)
    bench = Bench()
    bench.join(A)
    bench.ask(A, Connect("a", "b"))
    bench.ask(A, Connect("b", "c"))
    bench.now += 1.0

    assert bench.finish() == []

    assert bench.engine.state.content.left == 2
    assert bench.engine.next_due(bench.now) == 16.0


# --- compaction ---


def compacting(**keep: int) -> BrokerConfig:
    """Checkpoints as often as they may come, and little history."""
    return BrokerConfig(checkpoint_events=20, retention=Retention(**keep))


def change(bench: Bench, times: int) -> None:
    for number in range(times):
        bench.ask(A, Connect("a", f"b{bench.engine.state.seq}-{number}"))


def settle(bench: Bench) -> None:
    """Let passes come that nobody asks for: checkpoints and dropping go on in them."""
    for _ in range(100):
        bench.finish()
        if bench.engine.next_due(bench.now) != bench.now:
            return
    raise AssertionError("the engine does not come to rest")


def test_history_beyond_the_bound_is_compacted_and_an_event_says_so() -> None:
    bench = Bench(compacting(events=30, max_pinned_events=1))
    bench.join(A)
    change(bench, 100)
    settle(bench)

    floor, head = bench.journal.floor, bench.journal.head
    assert head - 30 - 2 * 20 < floor <= head - 30 + 1
    chunk = bench.ask(A, ReadEvents(["control", "history"], floor - 1))
    assert isinstance(chunk, EventRange)
    assert chunk.floor == floor
    events = [codec.decode_event(each) for each in chunk.events]
    assert events[-1].body == HistoryCompacted(floor)
    assert events[-1].source.program == "ezgraph broker"
    refusal = bench.ask(A, ReadEvents([], 0))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.floor) == ("compacted", floor)
    assert bench.join(B).floor == floor


def test_without_bounds_nothing_is_ever_compacted() -> None:
    bench = Bench(BrokerConfig(checkpoint_events=20))
    bench.join(A)
    change(bench, 100)
    settle(bench)

    assert bench.journal.floor == 1
    assert len(bench.journal.checkpoint_seqs) == 2


def test_a_client_that_was_not_heard_since_keeps_what_it_missed_up_to_the_cap() -> None:
    kept = Bench(compacting(events=10))
    cut = Bench(compacting(events=10, max_pinned_events=30))
    for bench in (kept, cut):
        bench.join(B)
        bench.join(A)
        change(bench, 100)
        settle(bench)

    assert kept.journal.floor == 1
    assert 20 < cut.journal.floor <= cut.journal.head - 10 - 30 + 1


def test_a_client_that_reads_history_finds_the_rest_of_it() -> None:
    bench = Bench(compacting(events=10))
    bench.join(B)
    bench.join(A)
    change(bench, 30)
    bench.ask(B, ReadEvents([], 5))
    bench.ask(B, Sync())  # it is heard, and has still not read the rest
    change(bench, 70)
    bench.ask(B, Sync())
    settle(bench)

    assert bench.journal.floor == 6


def test_after_a_compaction_a_restart_finds_the_same_state_and_the_same_answers() -> None:
    connection = MemoryBackend().connect()
    bench = Bench(compacting(events=10, max_pinned_events=1), connection)
    welcome = bench.join(A)
    first = bench.ask(A, Connect("x", "y"), request_id=2_000)
    for number in range(100):
        bench.ask(A, Connect("a", f"b{number}"), request_id=3_000 + number)
    settle(bench)
    assert bench.journal.floor > 50
    fingerprint = bench.engine.state.fingerprint()
    bench.journal.close()

    again = Bench(compacting(events=10), connection)
    again.ask(B, resume_of(welcome), request_id=0)

    assert again.engine.state.fingerprint() == fingerprint
    assert again.ask(B, Connect("x", "y"), request_id=2_000) == first
    assert again.journal.head == bench.journal.head


def test_all_answers_since_the_checkpoint_are_known_again_however_long_the_tail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ezgraph.broker.restart._REMEMBERED_EVENTS", 10)
    connection = MemoryBackend().connect()
    bench = Bench(connection=connection)
    welcome = bench.join(A)
    first = bench.ask(A, Connect("x", "y"), request_id=2_000)
    change(bench, 50)
    bench.journal.close()

    again = Bench(connection=connection)
    again.ask(B, resume_of(welcome), request_id=0)

    assert again.ask(B, Connect("x", "y"), request_id=2_000) == first


def test_dropping_that_was_interrupted_goes_on_after_a_restart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ezgraph.broker.compaction._DROP_STEP", 3)
    connection = SQLiteBackend(tmp_path / "journal.db").connect()
    bench = Bench(compacting(events=10, max_pinned_events=1), connection)
    bench.join(A)
    while bench.journal.floor == 1:
        change(bench, 1)
    bench.journal.close()
    assert records_in(tmp_path) > bench.journal.head - bench.journal.floor + 1

    again = Bench(compacting(events=10), SQLiteBackend(tmp_path / "journal.db").connect())
    settle(again)

    assert records_in(tmp_path) == again.journal.head - again.journal.floor + 1
    again.journal.close()


def records_in(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "journal.db")) as db:
        return int(db.execute("SELECT count(*) FROM events").fetchone()[0])


def resume_of(welcome: Welcome) -> Resume:
    return Resume(1, welcome.client, welcome.token, welcome.cluster_id, 1, 0)


def test_old_events_go_in_a_rig_that_is_quiet_and_restarted_every_night() -> None:
    """Neither is a checkpoint due by their number, nor does any broker see many of them."""
    connection = MemoryBackend().connect()
    config = BrokerConfig(retention=Retention(age_s=3 * 86_400, max_pinned_events=1))
    wall = 1e9
    kept = 0
    for night in range(30):
        bench = Bench(config, connection)
        bench.wall, peer = wall, b"peer of night %d" % night
        bench.join(peer)
        for number in range(200):
            bench.ask(peer, Connect("a", f"b{number}"), request_id=number + 1)
            bench.ask(peer, Disconnect("a", f"b{number}"), request_id=number + 1_001)
        bench.now += 100.0
        settle(bench)
        bench.engine.write_checkpoint()
        kept = bench.journal.head - bench.journal.floor
        bench.journal.close()
        wall += 86_400

    assert 3 * 400 <= kept <= 6 * 410


def test_a_journal_that_grew_beyond_its_bound_by_few_large_events_is_compacted() -> None:
    config = BrokerConfig(retention=Retention(size_bytes=300_000, max_pinned_events=1))
    bench = Bench(config)
    bench.join(A, "process")
    bench.ask(A, UpdateUnits(["SYS/A"], []))
    for number in range(40):
        value = SettingsSnapshotValue(None, "x" * 50_000 + str(number))
        bench.ask(A, ReportSettings("SYS/A", value))
        bench.now += 61.0
        bench.ask(A, Heartbeat(0.0))
        settle(bench)

    assert bench.journal.used_bytes() < 3 * 300_000
    assert bench.journal.floor > 20


def test_a_checkpoint_at_the_end_may_overtake_one_that_is_under_way() -> None:
    bench = Bench(BrokerConfig(checkpoint_events=20))
    bench.join(A)
    change(bench, 25)

    bench.engine.write_checkpoint()
    settle(bench)

    assert bench.journal.checkpoint_seqs[-1] == bench.journal.head
