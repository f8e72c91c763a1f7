"""The live set and its snapshots: shared, cut into chunks, bounded in number and lifetime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ezgraph.broker.live import LiveSet, Pulled, Puller, Snapshots
from ezgraph.config import Limits
from ezgraph.errors import InvalidCommandError, LimitError
from ezgraph.protocol.events import (
    Body,
    EdgeConnected,
    EdgeDisconnected,
    Event,
    HistoryCompacted,
    PauseChanged,
    SessionOpened,
    SessionTakenOver,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.roles import FULL_SCOPE, ReadScope
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.wire import codec

if TYPE_CHECKING:
    from ezgraph.protocol.replies import SnapshotChunk


def event(seq: int, body: Body) -> Event:
    return Event(1, seq, seq - 1, seq, seq, 0.0, 0.0, key_of(body), Source(program="p"), None, body)


def edge(end: str) -> EdgeConnected:
    return EdgeConnected("a", end, None, topology_changed=True)


def settings(gain: int) -> SettingsChanged:
    value = SettingsSnapshotValue(None, {"gain": gain})
    return SettingsChanged("A", SettingsEventType.SETTINGS_UPDATED, SettingsLayer.LIVE, value)


def live_set(*bodies: Body) -> LiveSet:
    live = LiveSet()
    for seq, body in enumerate(bodies, 1):
        made = event(seq, body)
        live.add(made, codec.encode_event(made))
    return live


def pulled(number: int, *rooms: str, scope: ReadScope = FULL_SCOPE) -> Pulled:
    return Pulled(number, frozenset(rooms), me(scope))


def me(scope: ReadScope = FULL_SCOPE, *, client: str = "me", whose: str = "mine") -> Puller:
    return Puller(client, whose, scope)


def read_all(snapshots: Snapshots, number: int, *rooms: str) -> list[Event]:
    events: list[Event] = []
    start: int | None = 0
    while start is not None:
        chunk = snapshots.chunk(pulled(number, *rooms), start, floor=1, now=0.0)
        events += [codec.decode_live_event(each, chunk.blobs) for each in chunk.entries]
        start = chunk.next_start
    return events


def seqs(live: LiveSet) -> list[int]:
    snapshots = Snapshots(Limits())
    number = snapshots.open(live, me(), epoch=1, seq=99, now=0.0)
    return [each.seq for each in read_all(snapshots, number)]


def test_a_later_event_takes_the_place_of_the_one_in_its_slot() -> None:
    live = live_set(settings(1), edge("b"), settings(2))

    assert seqs(live) == [2, 3]
    assert len(live) == 2


def test_an_end_clears_its_slot() -> None:
    gone = EdgeDisconnected("a", "b", None, topology_changed=True)

    assert seqs(live_set(edge("b"), edge("c"), gone)) == [2]
    assert len(live_set(PauseChanged(paused=True), PauseChanged(paused=False))) == 0


def test_all_who_ask_at_one_seq_share_a_snapshot() -> None:
    snapshots, live = Snapshots(Limits()), live_set(edge("b"))

    first = snapshots.open(live, me(), epoch=1, seq=1, now=0.0)

    assert snapshots.open(live, me(), epoch=1, seq=1, now=1.0) == first
    assert snapshots.open(live, me(), epoch=1, seq=2, now=1.0) != first
    assert snapshots.open(live, me(), epoch=2, seq=1, now=1.0) not in (first, first + 1)
    assert len(snapshots) == 3


def test_a_snapshot_stays_as_it_was_while_the_state_goes_on() -> None:
    snapshots, live = Snapshots(Limits()), live_set(edge("b"), settings(1))
    number = snapshots.open(live, me(), epoch=1, seq=2, now=0.0)

    for made in (event(3, settings(2)), event(4, edge("c"))):
        live.add(made, codec.encode_event(made))

    assert [each.body for each in read_all(snapshots, number)] == [edge("b"), settings(1)]


def test_only_the_rooms_asked_for_are_sent() -> None:
    snapshots, live = Snapshots(Limits()), live_set(edge("b"), settings(1), edge("c"))
    number = snapshots.open(live, me(), epoch=1, seq=3, now=0.0)

    assert [each.key[0] for each in read_all(snapshots, number, "edge")] == ["edge", "edge"]
    assert [each.key[0] for each in read_all(snapshots, number, "settings")] == ["settings"]
    assert read_all(snapshots, number, "nosuch") == []
    assert len(read_all(snapshots, number)) == 3


def test_a_snapshot_is_cut_by_events_and_by_bytes() -> None:
    live = live_set(*(edge(f"b{number}") for number in range(25)))
    by_events = Snapshots(Limits(chunk_events=10))
    number = by_events.open(live, me(), epoch=1, seq=25, now=0.0)

    chunks: list[SnapshotChunk] = []
    start: int | None = 0
    while start is not None:
        chunks.append(by_events.chunk(pulled(number), start, floor=3, now=0.0))
        start = chunks[-1].next_start

    assert [len(chunk.entries) for chunk in chunks] == [10, 10, 5]
    assert {(chunk.snapshot, chunk.epoch, chunk.seq, chunk.floor) for chunk in chunks} == {
        (number, 1, 25, 3)
    }

    by_bytes = Snapshots(Limits(chunk_bytes=1))
    number = by_bytes.open(live, me(), epoch=1, seq=25, now=0.0)
    assert len(by_bytes.chunk(pulled(number), 0, floor=1, now=0.0).entries) == 1
    assert len(read_all(by_bytes, number)) == 25


def test_blobs_travel_with_the_entries_that_refer_to_them() -> None:
    snapshots, live = Snapshots(Limits()), live_set(edge("b"), edge("c"))
    number = snapshots.open(live, me(), epoch=1, seq=2, now=0.0)

    chunk = snapshots.chunk(pulled(number), 0, floor=1, now=0.0)

    assert len(chunk.blobs) == 1  # both have the same source


def test_an_empty_state_is_one_empty_chunk() -> None:
    snapshots = Snapshots(Limits())
    number = snapshots.open(LiveSet(), me(), epoch=1, seq=0, now=0.0)

    chunk = snapshots.chunk(pulled(number), 0, floor=1, now=0.0)

    assert (chunk.entries, chunk.blobs, chunk.next_start) == ([], {}, None)


@pytest.mark.parametrize("start", [-5, 3, 10**30])
def test_a_start_outside_the_snapshot_gives_what_is_there(start: int) -> None:
    snapshots = Snapshots(Limits())
    number = snapshots.open(live_set(edge("b"), edge("c")), me(), epoch=1, seq=2, now=0.0)

    chunk = snapshots.chunk(pulled(number), start, floor=1, now=0.0)

    assert len(chunk.entries) == (2 if start < 0 else 0)
    assert chunk.next_start is None


def test_more_snapshots_than_the_limit_push_out_the_one_longest_unread() -> None:
    snapshots, live = Snapshots(Limits(max_snapshots=2)), live_set(edge("b"))
    first = snapshots.open(live, me(), epoch=1, seq=1, now=0.0)
    snapshots.open(live, me(), epoch=1, seq=1, now=0.0)  # read by two
    second = snapshots.open(live, me(), epoch=1, seq=2, now=1.0)
    snapshots.chunk(pulled(first), 0, floor=1, now=2.0)

    third = snapshots.open(live, me(), epoch=1, seq=3, now=6.5)

    assert len(snapshots) == 2
    for number in (first, third):
        snapshots.chunk(pulled(number), 0, floor=1, now=6.5)
    with pytest.raises(InvalidCommandError, match=f"snapshot {second} is not open.*open another"):
        snapshots.chunk(pulled(second), 0, floor=1, now=6.5)


def test_a_snapshot_that_is_being_pulled_gives_way_to_nobody() -> None:
    snapshots, live = Snapshots(Limits(max_snapshots=2)), live_set(edge("b"))
    one, two = (snapshots.open(live, me(), epoch=1, seq=seq, now=0.0) for seq in (1, 2))

    with pytest.raises(LimitError, match=r"2 snapshots are being read already.*ask again"):
        snapshots.open(live, me(), epoch=1, seq=3, now=1.0)

    assert snapshots.open(live, me(), epoch=1, seq=2, now=1.0) == two
    assert snapshots.chunk(pulled(one), 0, floor=1, now=1.0).next_start is None
    snapshots.open(live, me(), epoch=1, seq=3, now=1.0)  # the first was read to its end
    with pytest.raises(InvalidCommandError):
        snapshots.chunk(pulled(one), 0, floor=1, now=1.0)


def test_who_goes_on_with_events_shares_a_snapshot_that_is_a_little_older() -> None:
    snapshots, live = Snapshots(Limits(max_snapshots_per_client=9)), live_set(edge("b"))
    first = snapshots.open(live, me(), epoch=1, seq=10, now=0.0)

    assert snapshots.open(live, me(), epoch=1, seq=20, now=1.0, at_least=5) == first
    assert snapshots.open(live, me(), epoch=1, seq=20, now=1.0, at_least=11) != first
    assert snapshots.open(live, me(), epoch=1, seq=30, now=19.0, at_least=5) not in (1, 2)
    assert snapshots.open(live, me(), epoch=2, seq=30, now=19.0, at_least=5) not in (1, 2, 3)
    newest = snapshots.open(live, me(), epoch=2, seq=40, now=19.5)
    assert snapshots.open(live, me(), epoch=2, seq=40, now=19.5, at_least=99) == newest


def test_a_snapshot_nobody_reads_is_forgotten_in_time() -> None:
    snapshots, live = Snapshots(Limits(snapshot_life_s=30.0)), live_set(edge("b"))
    number = snapshots.open(live, me(), epoch=1, seq=1, now=0.0)
    snapshots.chunk(pulled(number), 0, floor=1, now=20.0)
    snapshots.open(live, me(), epoch=1, seq=2, now=50.0)
    assert len(snapshots) == 2

    snapshots.open(live, me(), epoch=1, seq=3, now=51.0)

    assert len(snapshots) == 2
    with pytest.raises(InvalidCommandError, match="it was not read for 30 s"):
        snapshots.chunk(pulled(number), 0, floor=1, now=51.0)


def test_the_live_set_of_a_history_is_what_adding_each_event_makes() -> None:
    bodies: list[Body] = [
        SessionOpened("s", 6.0, "h1"),
        edge("b"),
        settings(1),
        PauseChanged(paused=True),
        settings(2),
        SessionTakenOver("s", 6.0, "h2", 1, 0.0),
        EdgeDisconnected("a", "b", None, topology_changed=True),
        edge("c"),
        PauseChanged(paused=False),
        HistoryCompacted(1),
    ]

    at_once = LiveSet.of(event(seq, body) for seq, body in enumerate(bodies, 1))

    assert at_once.freeze() == live_set(*bodies).freeze()
    assert [slot[0] for slot, _ in at_once.freeze()] == ["session", "settings", "edge"]


def test_one_client_keeps_only_so_many_snapshots_half_read() -> None:
    snapshots = Snapshots(Limits(max_snapshots=8, max_snapshots_per_client=2))
    live = live_set(edge("b"))
    first, _ = (snapshots.open(live, me(), epoch=1, seq=seq, now=0.0) for seq in (1, 2))

    with pytest.raises(LimitError, match=r"this client has 2 snapshots half read.*to their end"):
        snapshots.open(live, me(), epoch=1, seq=3, now=1.0)

    snapshots.open(live, me(client="another"), epoch=1, seq=3, now=1.0)
    snapshots.chunk(pulled(first), 0, floor=1, now=1.0)  # to its end
    snapshots.open(live, me(), epoch=1, seq=4, now=1.0)


def test_a_snapshot_has_for_each_only_what_they_may_read_and_says_so() -> None:
    snapshots = Snapshots(Limits())
    live = live_set(edge("b"), settings(1), SessionOpened("s1", 6.0))
    number = snapshots.open(live, me(), epoch=1, seq=3, now=0.0)
    part = ReadScope(1, (parse_pattern("settings/A"), parse_pattern("edge/z")))

    filtered = snapshots.chunk(pulled(number, scope=part), 0, floor=1, now=0.0)
    whole = snapshots.chunk(pulled(number), 0, floor=1, now=0.0)

    assert (len(filtered.entries), filtered.filtered) == (1, True)
    assert (len(whole.entries), whole.filtered) == (3, False)


def test_who_keeps_most_snapshots_gives_way_to_who_has_none() -> None:
    snapshots = Snapshots(Limits(max_snapshots=3, max_snapshots_per_client=9))
    live = live_set(edge("b"))
    greedy = [
        snapshots.open(live, me(client=f"c{n}", whose="mallory"), epoch=1, seq=n, now=0.0)
        for n in (1, 2, 3)
    ]

    snapshots.open(live, me(whose="olga"), epoch=1, seq=4, now=1.0)

    assert len(snapshots) == 3
    with pytest.raises(InvalidCommandError):
        snapshots.chunk(Pulled(greedy[0], frozenset(), me(client="c1", whose="mallory")), 1,
                        floor=1, now=1.0)


def test_a_snapshot_goes_on_only_for_who_has_opened_it_and_with_what_they_read_then() -> None:
    snapshots = Snapshots(Limits(chunk_events=1))
    live = live_set(edge("b"), edge("c"))
    number = snapshots.open(live, me(), epoch=1, seq=2, now=0.0)
    part = ReadScope(1, (parse_pattern("edge/a"),))

    for puller in (me(part), me(client="another")):
        with pytest.raises(InvalidCommandError, match="open another"):
            snapshots.chunk(Pulled(number, frozenset(), puller), 1, floor=1, now=0.0)

    assert snapshots.chunk(pulled(number), 1, floor=1, now=0.0).entries
