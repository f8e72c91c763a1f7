"""The truth that traces are compared with: ranges, transactions, epochs, lives."""

from __future__ import annotations

from dataclasses import replace

from ezgraph.protocol.commands import Connect, RegisterMetadata, SetPause
from ezgraph.protocol.events import Event, PauseChanged
from ezgraph.protocol.metadata import GraphMetadata
from ezgraph.testing.traces import TracedProgram, history_of
from ezgraph.verify.history import History, Start

BASE = 1_700_000_000_000_000


def events() -> list[Event]:
    program = TracedProgram().run(
        [
            (0, Connect("a", "b")),
            (0, Connect("a", "c")),
            (0, RegisterMetadata(GraphMetadata())),
            (2, SetPause(paused=True)),
            (0, None),
        ]
    )
    return program.program.events


def in_epoch_2(event: Event, seq: int) -> Event:
    return replace(
        event, epoch=2, seq=seq, prev=seq - 1, txn_first=seq, txn_last=seq,
        body=PauseChanged(paused=True), key=("control", "pause"),
    )


def test_events_under_a_prefix_are_found_by_range() -> None:
    history = history_of(events())
    edges = [event.seq for event in history.events if event.key[0] == "edge"]

    assert history.under(("edge",), 0, history.head) == edges
    assert history.under(("edge",), edges[0], edges[1]) == [edges[1]]
    assert history.under(("edge", "a", "c"), 0, edges[-1] - 1) == [edges[1]]
    assert [event.seq for event in history.matching(("edge",), 0, edges[0])] == [edges[0]]


def test_the_states_are_those_after_each_transaction() -> None:
    history = history_of(events())

    seqs = [state.seq for _, state in history.states()]

    assert seqs == sorted({event.txn_last for event in history.events})
    assert all(history.ends_transaction(seq) for seq in seqs)
    assert not history.ends_transaction(history.head + 1)


def test_states_go_on_from_a_checkpoint() -> None:
    everything = events()
    whole = history_of(everything)
    floor = everything[3].seq
    start = Start(1, floor - 1, tuple(everything[:3]))
    part = History(everything[3:], floor=floor, start=start)

    assert part.known_from == floor - 1
    assert part.first_state().seq == floor - 1
    assert [state.fingerprint() for _, state in part.states()] == [
        state.fingerprint() for _, state in whole.states() if state.seq >= floor
    ]


def test_numbers_between_two_epochs_were_given_in_a_history_that_is_gone() -> None:
    before = events()
    last = before[-1].seq
    history = history_of([*before, in_epoch_2(before[0], BASE + 1)])

    assert history.gaps == [(last, BASE)]
    assert not history.is_lost(last)
    assert history.is_lost(last + 1)
    assert not history.is_lost(BASE)
    assert history.ends_transaction(BASE)
    assert history.under((), last, BASE + 1) == [BASE + 1]


def test_a_journal_just_restored_has_a_gap_behind_its_last_event() -> None:
    before = events()
    history = History(before, head=BASE)

    assert history.head == BASE
    assert history.is_lost(before[-1].seq + 5)


def test_each_lease_has_its_life() -> None:
    history = history_of(events())
    session = history.events[0].key[1]

    life = history.lives[session]

    assert life.opened == history.events[0]
    assert life.closed == history.events[-1]
    assert life.taken_over is None


def test_requests_lead_to_what_they_caused() -> None:
    history = history_of(events())
    first = next(event for event in history.events if event.request_id is not None)

    caused = history.executed[first.source.client or "", first.request_id or 0]

    assert [(each.first, each.last) for each in caused] == [(first.txn_first, first.txn_last)]


def test_an_event_spelled_by_an_older_version_is_compared_by_its_content() -> None:
    everything = events()
    whole = history_of(everything)
    older = History(everything, digests=["older"] * len(everything), digest_of=whole._digest_of)
    seq = everything[1].seq

    assert older.is_stored(seq, "older")
    assert older.is_stored(seq, whole._digests[seq])
    assert not older.is_stored(seq, "0" * 16)
    assert not older.is_stored(9_999, "0" * 16)
