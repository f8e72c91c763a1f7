"""One watcher: every matching event in order, once, in whole transactions, or word that not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.client.watch import WELCOME_WAIT_S, Compacted, Phase, Progress, Watch
from ezgraph.errors import (
    CompactedError,
    DivergedError,
    EzGraphError,
    InvalidCommandError,
    InvalidKeyError,
    WrongClusterError,
)
from ezgraph.protocol.commands import ReadEvents
from ezgraph.protocol.events import Event, PauseChanged, Source
from ezgraph.protocol.notes import UNWATCHED, Link, Note
from ezgraph.protocol.replies import EventRange

if TYPE_CHECKING:
    from collections.abc import Iterable

CLUSTER, OTHER_CLUSTER = "c" * 32, "d" * 32


def event(seq: int, first: int = 0, last: int = 0) -> Event:
    body = PauseChanged(paused=True)
    return Event(
        1,
        seq,
        seq - 1,
        first or seq,
        last or seq,
        0.0,
        0.0,
        ("control", "pause"),
        Source(),
        None,
        body,
    )


def note(last: int, head: int | None = None, *, cluster: str = CLUSTER) -> Note:
    return Note(cluster, 1, last, last if head is None else head)


class Watcher:
    """A watch, and shorthands for what arrives at it."""

    def __init__(
        self,
        after: int | None = None,
        *,
        start_with_snapshot: bool = False,
        with_state: bool = True,
        head: int | None = None,
    ) -> None:
        self.watch = Watch(
            ("control",), after, start_with_snapshot=start_with_snapshot, with_state=with_state
        )
        if head is not None:
            self.note(head)

    def note(self, last: int, head: int | None = None) -> None:
        self.watch.heard_note(note(last, head), now=0.0)

    def hear(
        self, seq: int, prev: int, *, more: bool = False, txn: tuple[int, int] = (0, 0)
    ) -> None:
        self.watch.heard_event(event(seq, *txn), Link(prev, more), now=0.0)

    def answer(self, events: Iterable[Event], through: int, head: int | None = None) -> None:
        reply = EventRange([], through, through if head is None else head)
        self.watch.range_arrives(reply)
        self.watch.range_events(list(events), reply, now=0.0)

    def asks(self) -> ReadEvents | None:
        return self.watch.wants()

    def phase(self) -> Phase:
        return self.watch.phase

    def taken(self) -> list[object]:
        """Everything ready: a number for an event, the rest as it is."""
        items = [each.seq if isinstance(each, Event) else each for each in self.watch.ready]
        self.watch.ready.clear()
        return items


def test_the_first_note_is_the_welcome_and_without_history_to_read_it_is_live() -> None:
    watcher = Watcher()
    assert watcher.phase() is Phase.JOINING

    watcher.note(7)

    assert (watcher.phase(), watcher.watch.position) == (Phase.LIVE, 7)
    assert watcher.taken() == [Progress(7)]
    assert watcher.asks() is None


@pytest.mark.parametrize("after", ["1", 1.5, True])
def test_a_watch_after_what_is_no_seq_is_refused_before_it_harms_its_session(after: Any) -> None:
    with pytest.raises(InvalidCommandError, match="a seq is an integer"):
        Watch(("edge",), after)


def test_history_is_read_up_to_the_welcome_and_then_it_is_live() -> None:
    watcher = Watcher(after=2, head=5)

    assert watcher.phase() is Phase.READING
    assert watcher.asks() == ReadEvents(["control"], 2)
    assert watcher.asks() is None
    watcher.answer([event(3), event(4)], 4, 5)
    assert watcher.asks() == ReadEvents(["control"], 4)
    watcher.answer([], 5)

    assert watcher.phase() is Phase.LIVE
    assert watcher.taken() == [3, 4, Progress(5)]


def test_the_next_range_is_asked_for_before_this_one_is_decoded() -> None:
    watcher = Watcher(after=0, head=9)
    watcher.asks()
    reply = EventRange([], 4, 9)

    watcher.watch.range_arrives(reply)

    assert watcher.asks() == ReadEvents(["control"], 4)
    watcher.watch.range_events([event(2)], reply, now=0.0)
    assert watcher.taken() == [2]


def test_live_events_are_delivered_at_once() -> None:
    watcher = Watcher(head=3)
    watcher.taken()

    watcher.hear(4, prev=3)
    watcher.hear(9, prev=4)

    assert watcher.taken() == [4, 9]
    assert watcher.watch.position == 9


def test_what_comes_twice_is_delivered_once() -> None:
    watcher = Watcher(head=3)
    watcher.taken()

    for seq, prev in ((4, 3), (4, 3), (2, 1), (5, 4)):
        watcher.hear(seq, prev)

    assert watcher.taken() == [4, 5]


def test_a_link_shows_a_gap_before_the_event_behind_it_is_delivered() -> None:
    watcher = Watcher(head=3)
    watcher.taken()

    watcher.hear(8, prev=6)

    assert watcher.phase() is Phase.READING
    assert watcher.taken() == []
    assert watcher.asks() == ReadEvents(["control"], 3)
    watcher.hear(9, prev=8)
    watcher.answer([event(5), event(6)], 6, 9)
    assert watcher.phase() is Phase.LIVE
    assert watcher.taken()[:4] == [5, 6, 8, 9]


def test_a_range_that_reaches_beyond_the_gap_makes_no_repetition() -> None:
    watcher = Watcher(head=3)
    watcher.taken()
    watcher.hear(8, prev=6)
    watcher.asks()

    watcher.answer([event(5), event(6), event(8), event(9)], 9)
    watcher.hear(9, prev=8)
    watcher.hear(10, prev=9)

    assert [each for each in watcher.taken() if not isinstance(each, Progress)] == [5, 6, 8, 9, 10]


def test_a_note_shows_a_lost_tail() -> None:
    watcher = Watcher(head=3)
    watcher.taken()

    watcher.note(6, 20)

    assert watcher.phase() is Phase.READING
    assert watcher.asks() == ReadEvents(["control"], 3)
    watcher.answer([event(6)], 20)
    assert watcher.taken() == [6, Progress(20)]


def test_a_note_that_names_nothing_new_is_progress() -> None:
    watcher = Watcher(head=3)
    watcher.taken()

    watcher.note(3, 17)
    watcher.note(3, 17)
    watcher.note(2, 10)

    assert watcher.taken() == [Progress(17)]
    assert watcher.watch.position == 17


def test_progress_that_was_not_taken_gives_way_to_later_progress() -> None:
    watcher = Watcher(head=3)
    watcher.note(3, 10)
    watcher.note(3, 20)

    assert watcher.taken() == [Progress(20)]


def test_an_event_of_an_unwatched_prefix_is_read_from_the_journal() -> None:
    watcher = Watcher(head=3)
    watcher.taken()

    watcher.hear(8, prev=UNWATCHED)

    assert watcher.taken() == []
    assert watcher.asks() == ReadEvents(["control"], 3)
    watcher.answer([event(5), event(8)], 8)
    assert watcher.taken() == [5, 8, Progress(8)]


def test_a_transaction_is_held_until_its_last_event_is_there() -> None:
    watcher = Watcher(head=3)
    watcher.taken()

    watcher.hear(4, prev=3, more=True, txn=(4, 8))
    watcher.note(3, 4)
    watcher.hear(6, prev=4, more=True, txn=(4, 8))
    assert watcher.taken() == []
    watcher.hear(7, prev=6, more=False, txn=(4, 8))

    assert watcher.taken() == [4, 6, 7]


def test_a_transaction_whose_rest_was_lost_is_completed_from_the_journal() -> None:
    watcher = Watcher(head=3)
    watcher.taken()
    watcher.hear(4, prev=3, more=True, txn=(4, 6))

    watcher.note(6)
    assert watcher.asks() == ReadEvents(["control"], 4)
    watcher.answer([event(5, 4, 6), event(6, 4, 6)], 6)

    assert watcher.taken() == [4, 5, 6, Progress(6)]


def test_a_transaction_that_a_range_cuts_is_held_until_the_rest_of_it_is_read() -> None:
    watcher = Watcher(after=0, head=5)
    watcher.asks()

    watcher.answer([event(1), event(2, 2, 5), event(3, 2, 5)], 3, 5)
    assert watcher.taken() == [1]
    assert watcher.asks() == ReadEvents(["control"], 3)
    watcher.answer([event(4, 2, 5)], 5)

    assert watcher.taken() == [2, 3, 4, Progress(5)]


def test_a_transaction_across_the_welcome_is_read_to_its_end() -> None:
    watcher = Watcher(after=0, head=2)
    watcher.asks()

    watcher.answer([event(1), event(2, 2, 3)], 2, 3)

    assert watcher.taken() == [1]
    assert watcher.asks() == ReadEvents(["control"], 2)
    watcher.answer([event(3, 2, 3)], 3)
    assert watcher.taken() == [2, 3, Progress(3)]


def test_events_that_come_while_it_reads_are_stashed() -> None:
    watcher = Watcher(after=0, head=3)
    watcher.asks()

    watcher.hear(4, prev=3)
    watcher.hear(5, prev=4)
    assert watcher.taken() == []
    watcher.answer([event(1), event(3)], 3, 5)

    assert watcher.taken()[:4] == [1, 3, 4, 5]
    assert watcher.phase() is Phase.LIVE


def test_what_the_stash_does_not_hold_is_read_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ezgraph.client.watch.STASH_EVENTS", 2)
    watcher = Watcher(after=0, head=1)
    watcher.asks()
    for seq in (2, 3, 4, 5):
        watcher.hear(seq, prev=seq - 1)

    watcher.answer([event(1)], 1, 5)

    asked = watcher.asks()
    assert asked is not None
    watcher.answer([event(seq) for seq in range(asked.after + 1, 6)], 5)
    delivered = [each for each in watcher.taken() if not isinstance(each, Progress)]
    assert delivered == [1, 2, 3, 4, 5]


def test_a_gap_within_the_stash_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(after=0, head=1)
    watcher.asks()
    watcher.hear(2, prev=1)
    watcher.hear(6, prev=4)

    watcher.answer([event(1)], 1, 6)

    assert watcher.asks() == ReadEvents(["control"], 2)
    watcher.answer([event(4)], 4, 6)
    assert [e for e in watcher.taken() if not isinstance(e, Progress)] == [1, 2, 4, 6]


def test_a_full_buffer_stops_live_events_and_they_are_read_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ezgraph.client.watch.BUFFER_EVENTS", 3)
    watcher = Watcher(head=0)
    watcher.taken()
    for seq in range(1, 7):
        watcher.hear(seq, prev=seq - 1)

    assert watcher.phase() is Phase.READING
    assert watcher.asks() is None  # no room
    assert watcher.taken() == [1, 2, 3]
    assert watcher.asks() == ReadEvents(["control"], 3)
    watcher.answer([event(4), event(5), event(6)], 6)
    assert watcher.taken() == [4, 5, 6, Progress(6)]


def test_an_event_that_was_read_already_does_not_stop_a_watcher_with_a_full_buffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ezgraph.client.watch.BUFFER_EVENTS", 2)
    watcher = Watcher(after=0, head=2)
    assert watcher.asks() == ReadEvents(["control"], 0)
    watcher.answer([event(1), event(2)], 2)

    watcher.hear(2, prev=1)  # it was on its way while the range was read

    assert watcher.phase() is Phase.LIVE
    assert watcher.taken() == [1, 2, Progress(2)]
    watcher.note(2, head=5)
    assert watcher.taken() == [Progress(5)]


def test_below_the_floor_it_goes_on_from_a_snapshot() -> None:
    watcher = Watcher(after=2, head=9)
    watcher.asks()

    watcher.watch.range_failed(CompactedError("gone", floor=7), now=0.0)
    assert (watcher.phase(), watcher.watch.floor) == (Phase.SNAPSHOT, 7)
    watcher.hear(10, prev=9)
    item = Compacted(7, "state")
    watcher.watch.snapshot_taken(9, item)

    assert watcher.taken()[:2] == [item, 10]
    assert watcher.phase() is Phase.LIVE


def test_who_reads_by_themselves_goes_on_from_the_head_without_a_state() -> None:
    watcher = Watcher(after=2, head=9, with_state=False)
    watcher.asks()

    watcher.watch.range_failed(CompactedError("gone", floor=7), now=0.0)
    watcher.hear(10, prev=9)
    item = Compacted(7, None, seq=9)
    watcher.watch.snapshot_taken(9, item)

    assert watcher.taken()[:2] == [item, 10]
    assert watcher.phase() is Phase.LIVE


@pytest.mark.parametrize("with_state", [True, False])
def test_only_who_keeps_a_state_begins_anew_when_what_may_be_read_changes(
    with_state: bool,
) -> None:
    watcher = Watcher(after=9, head=9, with_state=with_state)
    assert watcher.phase() is Phase.LIVE

    watcher.watch.begin_anew()

    assert watcher.phase() is (Phase.LIVE if with_state else Phase.SNAPSHOT)


def test_a_snapshot_newer_than_what_was_stashed_covers_it() -> None:
    watcher = Watcher(start_with_snapshot=True, head=9)
    assert watcher.phase() is Phase.SNAPSHOT
    watcher.hear(10, prev=9)
    watcher.hear(11, prev=10)

    watcher.watch.snapshot_taken(10, None)

    assert [each for each in watcher.taken() if not isinstance(each, Progress)] == [11]


def test_a_snapshot_nobody_waits_for_changes_nothing() -> None:
    watcher = Watcher(head=9)
    watcher.taken()

    watcher.watch.snapshot_taken(5, Compacted(1, "old"))

    assert (watcher.taken(), watcher.watch.position) == ([], 9)


def test_a_seq_beyond_the_welcome_is_asked_for_since_only_the_broker_can_tell() -> None:
    watcher = Watcher(after=10, head=9)
    assert watcher.asks() == ReadEvents(["control"], 10)

    watcher.watch.range_failed(DivergedError("beyond the end; take a snapshot"), now=0.0)

    assert watcher.phase() is Phase.SNAPSHOT
    assert watcher.watch.diverged


def test_a_welcome_that_was_older_than_the_seq_asked_for_does_no_harm() -> None:
    watcher = Watcher(after=10, head=9)
    watcher.asks()
    watcher.hear(11, prev=9)

    watcher.answer([], 10, 11)

    assert [each for each in watcher.taken() if not isinstance(each, Progress)] == [11]
    assert watcher.phase() is Phase.LIVE


def test_a_note_of_another_cluster_ends_it() -> None:
    watcher = Watcher(head=9)

    watcher.watch.heard_note(note(9, cluster=OTHER_CLUSTER), now=0.0)

    assert isinstance(watcher.watch.error, WrongClusterError)
    assert CLUSTER in str(watcher.watch.error)
    assert "open a new context" in str(watcher.watch.error)
    watcher.hear(10, prev=9)
    watcher.note(10)
    assert watcher.phase() is Phase.FAILED


def test_what_was_ready_is_kept_when_it_fails_and_the_first_error_stays() -> None:
    watcher = Watcher(head=0)
    watcher.taken()
    watcher.hear(1, prev=0)
    first = EzGraphError("first")

    watcher.watch.fail(first)
    watcher.watch.fail(EzGraphError("second"))

    assert watcher.taken() == [1]
    assert watcher.watch.error is first


def test_a_range_that_cannot_be_had_for_another_reason_ends_it() -> None:
    watcher = Watcher(after=0, head=9)
    watcher.asks()
    error = EzGraphError("corrupt")

    watcher.watch.range_failed(error, now=0.0)

    assert (watcher.phase(), watcher.watch.error) == (Phase.FAILED, error)


def test_without_a_welcome_it_is_subscribed_again_after_a_while() -> None:
    watch = Watch(("control",))

    assert not watch.needs_welcome(subscribed_at=0.0, now=WELCOME_WAIT_S - 0.01)
    assert watch.needs_welcome(subscribed_at=0.0, now=WELCOME_WAIT_S)
    watch.heard_note(note(1), now=0.6)
    assert not watch.needs_welcome(subscribed_at=0.0, now=99.0)


def test_now_is_the_head_at_the_moment_it_was_opened_whatever_comes_first() -> None:
    for early in (True, False):
        watcher = Watcher()
        assert watcher.watch.hold_start()
        if early:
            watcher.note(8)
            watcher.hear(9, prev=8)
            assert not watcher.watch.needs_welcome(subscribed_at=0.0, now=9.0)
            watcher.watch.begin_after(6)
        else:
            watcher.watch.begin_after(6)
            watcher.note(9)

        assert watcher.asks() == ReadEvents(["control"], 6)
        watcher.answer([event(7), event(9)], 9)
        assert watcher.taken() == [7, 9, Progress(9)]
    assert not Watch(("control",), 3).hold_start()


def test_everything_heard_counts_as_a_sign_of_life() -> None:
    watch = Watch(("control",), 0)

    watch.heard_note(note(1), now=1.0)
    assert watch.last_heard == 1.0
    watch.heard_event(event(2), Link(1, more=False), now=2.0)
    assert watch.last_heard == 2.0
    watch.range_events([], EventRange([], 2, 2), now=3.0)
    assert watch.last_heard == 3.0


def test_a_prefix_outside_the_grammar_is_refused() -> None:
    with pytest.raises(InvalidKeyError):
        Watch(("control", ""))


def test_a_watch_shows_its_prefix_phase_and_position() -> None:
    assert repr(Watcher(head=3).watch) == "<Watch 'control' live position=3 ready=1>"


def test_a_watcher_that_begins_with_an_older_snapshot_reads_up_to_its_welcome_first() -> None:
    watcher = Watcher(start_with_snapshot=True, head=10)

    watcher.watch.snapshot_taken(7, None)

    assert watcher.phase() is Phase.READING
    assert watcher.asks() == ReadEvents(["control"], 7)
    watcher.answer([event(9)], through=10)
    assert watcher.phase() is Phase.LIVE
