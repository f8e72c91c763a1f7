"""Watched prefixes: the links that travel with events, and which notes are due when."""

from __future__ import annotations

import gc
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from ezgraph.broker.watches import KEPT_S, LAST_PAUSE_S, NOTES_PER_S, Watches
from ezgraph.names import topic_of
from ezgraph.protocol.events import EdgeConnected, Event, PauseChanged, Source, key_of
from ezgraph.protocol.notes import UNWATCHED, Link

if TYPE_CHECKING:
    from ezgraph.protocol.events import Body

ALL, EDGES, FROM_A, AB = b"", b"edge/", b"edge/a/", b"edge/a/b/"
CONTROL = b"control/"


def event(seq: int, body: Body, *, first: int = 0, last: int = 0) -> Event:
    return Event(
        1, seq, seq - 1, first or seq, last or seq, 0.0, 0.0, key_of(body), Source(), None, body
    )


def edge(seq: int, end: str = "b", **txn: int) -> Event:
    return event(seq, EdgeConnected("a", end, None, topology_changed=True), **txn)


def pause(seq: int, **txn: int) -> Event:
    return event(seq, PauseChanged(paused=True), **txn)


def link(watches: Watches, events: list[Event], *, now: float = 0.0) -> list[list[Link]]:
    seqs = [event.seq for event in events]
    return watches.link(seqs, [topic_of(event.key) for event in events], now=now)


def watching(*prefixes: bytes, head: int = 0, now: float = 0.0) -> Watches:
    watches = Watches(max_prefixes=100)
    for prefix in prefixes:
        watches.add(prefix, head=head, now=now)
    return watches


def test_an_event_has_one_link_for_every_prefix_of_its_key() -> None:
    watches = watching(ALL, AB, head=10)

    (links,) = link(watches, [edge(11)])

    assert links == [
        Link(10, more=False),
        Link(UNWATCHED, more=False),
        Link(UNWATCHED, more=False),
        Link(10, more=False),
    ]


def test_without_any_watcher_there_are_as_many_links() -> None:
    (links,) = link(Watches(10), [edge(1)])

    assert links == [Link(UNWATCHED, more=False)] * 4


def test_a_link_names_the_event_before_it_under_the_prefix() -> None:
    watches = watching(EDGES, CONTROL, head=3)

    (first,) = link(watches, [edge(4)])
    (other,) = link(watches, [pause(5)])
    (second,) = link(watches, [edge(6)])

    assert (first[1].prev, other[1].prev, second[1].prev) == (3, 3, 4)


def test_more_is_said_until_the_last_of_a_transaction_under_the_prefix() -> None:
    watches = watching(ALL, EDGES, AB, CONTROL)
    transaction = [
        edge(1, first=1, last=3),
        edge(2, "c", first=1, last=3),
        pause(3, first=1, last=3),
    ]

    first, second, third = link(watches, transaction)

    assert [link.more for link in (first[0], second[0], third[0])] == [True, True, False]
    assert [link.more for link in (first[1], second[1])] == [True, False]
    assert first[3] == Link(0, more=False)
    assert third[1] == Link(0, more=False)
    assert [link.prev for link in (first[0], second[0], third[0])] == [0, 1, 2]


def test_a_prefix_that_was_left_is_counted_for_a_while_so_that_who_comes_back_misses_nothing() -> (
    None
):
    watches = watching(EDGES, CONTROL, head=1)
    for prefix in (EDGES, EDGES, CONTROL):
        watches.remove(prefix, now=10.0)
    assert len(watches) == 0
    assert watches.due(now=20.0) == []

    (links,) = link(watches, [edge(2)])

    assert links[1] == Link(1, more=False)
    assert watches.add(EDGES, head=2, now=30.0) == 2
    assert watches.add(CONTROL, head=2, now=30.0) == 1
    assert sorted(watches.due(now=31.0)) == [(CONTROL, 1), (EDGES, 2)]


def test_a_prefix_that_was_left_long_ago_is_forgotten() -> None:
    watches = watching(EDGES, head=1)
    watches.remove(EDGES, now=0.0)
    watches.add(CONTROL, head=1, now=KEPT_S)

    (links,) = link(watches, [edge(2)])

    assert {each.prev for each in links} == {UNWATCHED}
    assert watches.add(EDGES, head=5, now=KEPT_S) == 5


def test_a_welcome_says_the_head_to_the_first_and_the_last_event_to_later_watchers() -> None:
    watches = Watches(10)

    assert watches.add(EDGES, head=7, now=0.0) == 7
    link(watches, [edge(8)])
    link(watches, [pause(9)])
    assert watches.add(EDGES, head=9, now=0.0) == 8


def test_beyond_the_limit_a_prefix_gets_no_welcome_and_known_ones_go_on() -> None:
    watches = Watches(2)
    watches.add(ALL, head=1, now=0.0)
    watches.add(EDGES, head=1, now=0.0)

    assert watches.add(CONTROL, head=1, now=0.0) is None
    assert watches.add(ALL, head=1, now=0.0) == 1
    watches.remove(EDGES, now=0.0)
    assert watches.add(CONTROL, head=2, now=0.0) == 2


def test_a_note_comes_soon_after_a_change_and_then_with_growing_pauses() -> None:
    watches = watching(EDGES)
    link(watches, [edge(1)])
    sent = []
    for hundredth in range(2_000):
        now = hundredth / 100
        if watches.due(now=now):
            sent.append(now)

    pauses = [round(later - sooner, 2) for sooner, later in pairwise(sent)]
    assert sent[0] <= 0.11
    assert pauses == sorted(pauses)
    assert max(pauses) <= LAST_PAUSE_S + 0.02
    assert len(sent) < 12


def test_a_change_brings_the_next_note_forward_but_not_more_than_one_per_100_ms() -> None:
    watches = watching(EDGES)
    now = 0.0
    while watches.next_due() is not None and (now < 20.0):
        now = watches.next_due() or 0.0
        watches.due(now=now)
    sent = []
    for step in range(100):  # a change every 10 ms for a second
        link(watches, [edge(step + 1)], now=now + step / 100)
        if watches.due(now=now + step / 100):
            sent.append(step / 100)

    assert sent[0] <= 0.11
    assert 8 <= len(sent) <= 10


def test_a_note_names_the_last_event_under_the_prefix() -> None:
    watches = watching(EDGES, CONTROL, head=1)
    link(watches, [edge(2)])
    link(watches, [edge(3)])

    assert sorted(watches.due(now=0.2)) == [(CONTROL, 1), (EDGES, 3)]
    assert watches.due(now=0.2) == []


def test_notes_share_a_budget_and_the_oldest_due_goes_first() -> None:
    watches = Watches(5_000)
    prefixes = [topic_of(("edge", f"t{number:04}")) for number in range(3_000)]
    for number, prefix in enumerate(prefixes):
        watches.add(prefix, head=0, now=number / 10_000)

    first = watches.due(now=1.0)
    at_once = watches.due(now=1.0)
    second = watches.due(now=1.5)
    third = watches.due(now=2.5)

    assert len(first) == NOTES_PER_S
    assert {prefix for prefix, _ in first} == set(prefixes[:1000])
    assert at_once == []
    assert 499 <= len(second) <= 500
    assert {prefix for prefix, _ in second} <= set(prefixes[1000:])
    assert len(third) == NOTES_PER_S


def test_a_budget_that_was_not_used_does_not_grow_beyond_one_second() -> None:
    watches = Watches(5_000)
    for number in range(3_000):
        watches.add(b"edge/%d/" % number, head=0, now=0.0)

    assert len(watches.due(now=1_000.0)) == NOTES_PER_S


def test_a_removed_prefix_gets_no_note() -> None:
    watches = watching(EDGES, CONTROL)
    watches.remove(EDGES, now=0.0)

    assert watches.due(now=1.0) == [(CONTROL, 0)]


def test_nothing_is_due_without_watchers() -> None:
    watches = Watches(10)

    assert (watches.next_due(), watches.due(now=5.0)) == (None, [])


def left_one_after_another(kept: int) -> float:
    """The time of a prefix that comes and goes where so many that were left are kept."""
    watches = Watches(max_prefixes=kept)
    for number in range(2 * kept):
        watches.add(b"edge/%d/" % number, head=0, now=0.0)
        watches.remove(b"edge/%d/" % number, now=0.0)
    gc.disable()  # its time grows with everything else in this process
    try:
        begin = time.process_time()
        for number in range(2_000):
            watches.add(b"process/%d/" % number, head=0, now=0.0)
            watches.remove(b"process/%d/" % number, now=0.0)
        return time.process_time() - begin
    finally:
        gc.enable()


def test_a_prefix_that_comes_and_goes_costs_the_same_however_many_were_left() -> None:
    few = min(left_one_after_another(1_000) for _ in range(3))
    many = min(left_one_after_another(100_000) for _ in range(2))
    assert many < 5 * few, (few, many)
