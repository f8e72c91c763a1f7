"""State is the fold of events: by history, by live events, by checkpoint and tail; and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ezgraph.backends import Checkpoint, Record, state_at
from ezgraph.backends.clock_steps import ClockSteps
from ezgraph.broker.engine import BrokerEngine
from ezgraph.broker.live import LiveSet
from ezgraph.broker.past import PastReads
from ezgraph.client.past import PastPull
from ezgraph.config import BrokerConfig, Limits
from ezgraph.names import topic_of
from ezgraph.protocol.events import slot_of
from ezgraph.protocol.replies import Done, Refusal
from ezgraph.protocol.stored_commands import ReadCheckpoint, ReadStretch
from ezgraph.state.content import graph_of
from ezgraph.state.graph import GraphState
from ezgraph.testing import FlakyMemory, History, SequentialIds
from ezgraph.testing import strategies as ours
from ezgraph.testing.guarantees import check_history, is_true
from ezgraph.testing.programs import CoreProgram
from ezgraph.wire import codec

if TYPE_CHECKING:
    from ezgraph.backends import Journal
    from ezgraph.protocol.events import Event
    from ezgraph.testing.strategies import Step

slow = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=80)
few = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=30)


def fold(events: list[Event]) -> GraphState:
    state = GraphState()
    for event in events:
        state.apply(event)
    return state


@given(ours.programs)
@slow
def test_replaying_the_history_gives_the_state(steps: list[Step]) -> None:
    program = CoreProgram().run(steps)

    replayed = fold([codec.decode_event(codec.encode_event(e).event) for e in program.events])

    assert replayed.fingerprint() == program.state.fingerprint() or not program.events
    assert replayed.snapshot() == program.state.snapshot() or not program.events


@given(ours.programs)
@slow
def test_the_live_events_fold_to_the_state_at_every_point_of_a_history(steps: list[Step]) -> None:
    program = CoreProgram().run(steps)

    live, state = LiveSet(), GraphState()
    for event in program.events:
        live.add(event, codec.encode_event(event))
        state.apply(event)
        if event.seq == event.txn_last:
            entries = [codec.decode_live_event(each.entry, each.blobs) for _, each in live.freeze()]
            folded = GraphState.fold(entries, epoch=event.epoch, seq=event.seq)
            assert folded.fingerprint() == state.fingerprint()
    slots = [slot_of(event.body) for event in program.events]
    assert len(live) <= len({slot for slot, filled in slots if filled})


@given(ours.programs)
@slow
def test_every_history_keeps_the_invariants_and_says_what_ended(steps: list[Step]) -> None:
    check_history(History(CoreProgram().run(steps).events))


@given(ours.programs)
@slow
def test_a_refused_command_changes_nothing_and_an_accepted_one_is_true(steps: list[Step]) -> None:
    program = CoreProgram()
    for client, command in steps:
        program.join(client)
        if command is None:
            program.do(client, None)
            continue
        before, events = program.state.fingerprint(), len(program.events)
        reply = program.do(client, command)
        after = program.state.fingerprint()
        if isinstance(reply, Refusal):
            assert (after, len(program.events)) == (before, events)
            assert len(reply.message) > 20
        elif isinstance(reply, Done):
            assert reply.seq == program.state.seq
            assert (after == before) == (len(program.events) == events)
            asker = next(each for each in program.core.leases if each.source.pid == client)
            assert is_true(program.state, command, asker.client, asker.kind)


@given(ours.programs, st.data())
@few
def test_a_start_from_checkpoint_and_tail_is_a_start_from_all_of_history(
    steps: list[Step], data: st.DataObject
) -> None:
    events = CoreProgram().run(steps).events
    ends = [0, *(event.seq for event in events if event.seq == event.txn_last)]
    at = data.draw(st.sampled_from(ends))
    disk = FlakyMemory()
    with disk.open_journal() as journal:
        journal.append([record(event) for event in events[:at]])
        started(disk_journal=journal).write_checkpoint()
        if data.draw(st.booleans()) and journal.checkpoint_seq is not None:
            journal.drop_below(at + 1)
        journal.append([record(event) for event in events[at:]])

    with disk.open_journal() as journal:
        engine = started(disk_journal=journal)
        whole = fold(events)
        whole.epoch = 1
        assert engine.state.fingerprint() == whole.fingerprint()
        assert engine.state.snapshot() == whole.snapshot()


def record(event: Event) -> Record:
    return Record(event.seq, topic_of(event.key), codec.encode_event(event).event)


def started(disk_journal: object) -> BrokerEngine:
    return BrokerEngine(BrokerConfig(), disk_journal, SequentialIds(), events_port=1, now=0.0)  # type: ignore[arg-type]


@given(ours.programs, ours.programs)
@slow
def test_equal_states_have_equal_fingerprints_and_different_ones_have_not(
    one: list[Step], other: list[Step]
) -> None:
    states = [CoreProgram().run(steps).state for steps in (one, other)]
    equal = states[0].fingerprint() == states[1].fingerprint()

    if equal:
        assert states[0].snapshot() == states[1].snapshot()
    if states[0].snapshot() != states[1].snapshot():
        assert not equal


@given(ours.programs, st.integers(0, 5))
@few
def test_the_fingerprint_of_the_content_kept_is_the_one_computed_anew(
    steps: list[Step], ask_every: int
) -> None:
    program = CoreProgram().run(steps)

    state = GraphState()
    for number, event in enumerate(program.events):
        state.apply(event)
        if ask_every and number % ask_every == 0:
            state.content_fingerprint()

    computed = graph_of(fold(program.events), "rig")
    assert state.content_fingerprint() == computed.fingerprint
    assert replace(computed, name="anew").fingerprint == computed.fingerprint
    assert state.content.is_current


@given(ours.programs, st.data())
@few
def test_the_state_at_any_seq_is_that_of_the_events_up_to_it(
    steps: list[Step], data: st.DataObject
) -> None:
    program = CoreProgram().run(steps)
    disk = FlakyMemory()
    with disk.open_journal() as journal:
        live, marks = LiveSet(), data.draw(st.sets(st.integers(0, len(program.events))))
        for event in program.events:
            encoded = codec.encode_event(event)
            journal.append([Record(event.seq, topic_of(event.key), encoded.event)])
            live.add(event, encoded)
            if event.seq in marks and event.seq == event.txn_last:
                entries = [entry for _, entry in live.freeze()]
                blobs = {name: blob for each in entries for name, blob in each.blobs.items()}
                journal.write_checkpoint(
                    Checkpoint(event.seq, tuple(each.entry for each in entries), blobs)
                )
        state = GraphState()
        for event in program.events:
            state.apply(event)
            if event.seq == event.txn_last:
                found = state_at(journal, event.seq)
                assert found.fingerprint() == state.fingerprint()
                assert found.snapshot() == state.snapshot()
                assert pulled(journal, event.seq).fingerprint() == state.fingerprint()


def pulled(journal: Journal, seq: int) -> GraphState:
    """Pull the state at a seq part by part, as a client does."""
    reads, pull = PastReads(journal, ClockSteps(), Limits(chunk_events=5)), PastPull(seq)
    while (asked := pull.wants()) is not None:
        match asked:
            case ReadCheckpoint():
                pull.take(reads.checkpoint(asked)[0])
            case ReadStretch():
                pull.take(reads.stretch(asked)[0])
    return pull.state()
