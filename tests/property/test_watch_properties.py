"""Watcher and broker's links: nothing lost passes unseen, and nothing seen is called lost.

The pure parts alone: `ezgraph.broker.watches.Watches` makes links and notes for a random history
of transactions, `ezgraph.client.watch.Watch` takes them, less what is dropped, and reads what it
lacks from the history. No network, no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ezgraph.broker.watches import Watches
from ezgraph.client.watch import Compacted, Phase, Progress, Watch
from ezgraph.errors import CompactedError
from ezgraph.names import topic_of
from ezgraph.protocol.events import Event, PauseChanged, Source
from ezgraph.protocol.notes import Note
from ezgraph.protocol.replies import EventRange

if TYPE_CHECKING:
    from ezgraph.names import Key

slow = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=120)
CLUSTER = "c1" * 16

watched_keys = st.lists(st.sampled_from("ab"), max_size=3).map(tuple)
other_keys = st.lists(watched_keys, max_size=3)
transactions = st.lists(st.lists(watched_keys.filter(bool), min_size=1, max_size=4), max_size=12)


def numbered(shape: list[list[Key]], first: int = 1) -> list[list[Event]]:
    """Return transactions of events with these keys."""
    history, seq = [], first
    for keys in shape:
        last = seq + len(keys) - 1
        body = PauseChanged(paused=True)
        history.append([
            Event(1, at, at - 1, seq, last, 0.0, 0.0, key, Source(), None, body)
            for at, key in enumerate(keys, seq)
        ])
        seq = last + 1
    return history


class Line:
    """One watcher of one prefix at one broker, and a history it may read."""

    def __init__(
        self, prefix: Key, others: list[Key], before: list[list[Event]], after: int | None
    ) -> None:
        self.prefix = prefix
        self.floor = 1
        self.watches = Watches(100)
        self.history = [event for events in before for event in events]
        for other in others:
            self.watches.add(topic_of(other), head=self.head, now=0.0)
        self.watch = Watch(prefix, after)
        self.start = self.head if after is None else after
        self.last = self.watches.add(topic_of(prefix), head=self.head, now=0.0)
        self.note()

    @property
    def phase(self) -> Phase:
        return self.watch.phase

    @property
    def head(self) -> int:
        return self.history[-1].seq if self.history else 0

    def note(self) -> None:
        last = self.watches.add(topic_of(self.prefix), head=self.head, now=0.0)
        assert last is not None
        self.watch.heard_note(Note(CLUSTER, 1, last, self.head), now=0.0)

    def publish(self, events: list[Event], dropped: set[int]) -> None:
        self.history += events
        topics = [topic_of(event.key) for event in events]
        links = self.watches.link([event.seq for event in events], topics, now=0.0)
        depth = len(self.prefix)
        for event, its_links in zip(events, links, strict=True):
            if event.key[:depth] == self.prefix and event.seq not in dropped:
                self.watch.heard_event(event, its_links[depth], now=0.0)
                self.check_whole()

    def serve(self, rows: int) -> None:
        """Answer everything the watcher asks for, so many rows at a time."""
        while (wanted := self.watch.wants()) is not None:
            if wanted.after + 1 < self.floor:
                self.tell_compacted()
                continue
            through = min(wanted.after + rows, self.head)
            events = [e for e in self.matching() if wanted.after < e.seq <= through]
            reply = EventRange([], through, self.head)
            self.watch.range_arrives(reply)
            self.watch.range_events(events, reply, now=0.0)
            self.check_whole()

    def tell_compacted(self) -> None:
        """What it wants is history no more: it gets a snapshot at the head in its place."""
        self.watch.range_failed(CompactedError("it was compacted", floor=self.floor), now=0.0)
        assert self.watch.phase.value == "snapshot"
        self.watch.snapshot_taken(self.head, Compacted(self.floor, self.head))

    def matching(self) -> list[Event]:
        return [e for e in self.history if e.key[: len(self.prefix)] == self.prefix]

    def given(self) -> list[int]:
        return [item.seq for item in self.watch.ready if isinstance(item, Event)]

    def check_whole(self) -> None:
        """In order, once, without a gap up to where it stands, and no part of a transaction."""
        if any(isinstance(item, Compacted) for item in self.watch.ready):
            return  # checked in parts, at the end
        given = self.given()
        due = [e.seq for e in self.matching() if e.seq > self.start]
        assert given == due[: len(given)]
        if given:
            last = self.history[given[-1] - 1]
            assert not [e for e in self.matching() if last.seq < e.seq <= last.txn_last]
        for item in self.watch.ready:
            if isinstance(item, Progress):
                assert not [seq for seq in due if seq <= item.seq and seq not in given]


@given(watched_keys, other_keys, transactions, transactions, st.integers(1, 5))
@slow
def test_a_watcher_that_gets_everything_never_sees_a_gap(
    prefix: Key, others: list[Key], before: list[list[Key]], after: list[list[Key]], rows: int
) -> None:
    early = numbered(before)
    line = Line(prefix, others, early, None)
    line.serve(rows)

    for events in numbered(after, line.head + 1):
        line.publish(events, set())
        assert line.phase is Phase.LIVE

    assert line.given() == [e.seq for e in line.matching() if e.seq > line.start]


@given(st.data(), watched_keys, other_keys, transactions, st.integers(1, 5))
@slow
def test_any_one_lost_event_is_noticed_by_the_next_link_or_note(
    data: st.DataObject, prefix: Key, others: list[Key], shape: list[list[Key]], rows: int
) -> None:
    line = Line(prefix, others, [], None)
    history = numbered(shape)
    candidates = [e.seq for events in history for e in events if e.key[: len(prefix)] == prefix]
    if not candidates:
        return
    lost = data.draw(st.sampled_from(candidates))

    for events in history:
        line.publish(events, {lost})
        passed = any(e.seq > lost and e.key[: len(prefix)] == prefix for e in events)
        if events[-1].seq >= lost and passed:
            assert line.phase is Phase.READING
    line.note()

    assert line.phase.value == "reading"
    line.serve(rows)
    assert line.phase.value == "live"
    assert line.given() == candidates


@given(st.data(), watched_keys, other_keys, transactions, transactions, st.integers(1, 5))
@slow
def test_whatever_is_lost_on_the_way_a_watcher_ends_with_everything(
    data: st.DataObject,
    prefix: Key,
    others: list[Key],
    before: list[list[Key]],
    shape: list[list[Key]],
    rows: int,
) -> None:
    early = numbered(before)
    head = early[-1][-1].seq if early else 0
    line = Line(prefix, others, early, data.draw(st.none() | st.integers(0, head)))
    history = numbered(shape, head + 1)
    lost = data.draw(st.sets(st.integers(head + 1, head + 40)))

    for events in history:
        line.publish(events, lost)
        step = data.draw(st.sampled_from(["nothing", "note", "serve"]))
        if step == "note":
            line.note()
        elif step == "serve":
            line.serve(rows)
    line.note()
    line.serve(rows)
    line.note()

    assert line.given() == [e.seq for e in line.matching() if e.seq > line.start]
    assert line.watch.position >= line.head


@given(st.data(), watched_keys, other_keys, transactions, st.integers(1, 5))
@slow
def test_whatever_is_lost_and_compacted_a_watcher_has_everything_or_was_told(
    data: st.DataObject, prefix: Key, others: list[Key], shape: list[list[Key]], rows: int
) -> None:
    line = Line(prefix, others, [], data.draw(st.sampled_from([None, 0])))

    for events in numbered(shape):
        is_lost, compacts, catches_up = data.draw(st.tuples(*[st.booleans()] * 3))
        line.publish(events, {event.seq for event in events} if is_lost else set())
        if compacts:
            line.floor = data.draw(st.sampled_from([line.floor, line.head, line.head + 1]))
        if catches_up:
            line.note()
            line.serve(rows)
    for _ in range(2):
        line.note()
        line.serve(rows)

    start, given = line.start, []
    for item in [*line.watch.ready, Compacted(0, None)]:
        if isinstance(item, Event):
            given.append(item.seq)
        elif isinstance(item, Compacted):
            due = [e.seq for e in line.matching() if e.seq > start]
            assert given == due[: len(given)]
            if item.snapshot is None:
                assert given == due
            else:
                assert item.snapshot >= (given[-1] if given else start)
                start, given = item.snapshot, []
    assert line.watch.position >= line.head
