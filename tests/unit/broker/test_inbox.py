"""Lines of what has arrived: turns, bounds, and who waits."""

from __future__ import annotations

from ezgraph.broker.inbox import SHARE, Arrived, Inbox
from ezgraph.config import Limits


def arrived(peer: bytes, count: int, *, size: int = 1, public: str | None = None) -> Arrived:
    return Arrived(peer, None, [bytes(size)] * count, public)


def test_who_sends_much_is_taken_from_by_turns() -> None:
    inbox = Inbox(Limits())
    inbox.put(arrived(b"much", 50))
    inbox.put(arrived(b"little", 1))

    taken = [(each.peer, len(parts)) for each, parts in inbox.take(2 * SHARE + 1)]

    assert taken == [(b"much", SHARE), (b"little", 1), (b"much", SHARE)]


def test_the_connections_of_one_key_share_its_turn() -> None:
    inbox = Inbox(Limits())
    for peer in (b"1", b"2", b"3"):
        inbox.put(arrived(peer, 1, public="k"))
    inbox.put(arrived(b"other", 1, public="l"))

    order = [each.peer for each, _ in inbox.take(10)]

    assert order == [b"1", b"other", b"2", b"3"]


def test_a_connection_waits_until_its_last_command_is_taken_or_it_is_dropped() -> None:
    inbox = Inbox(Limits())
    inbox.put(arrived(b"a", SHARE + 1))
    inbox.put(arrived(b"b", 1))

    list(inbox.take(SHARE + 1))
    before = [inbox.waits(peer) for peer in (b"a", b"b")]
    inbox.drop(b"a")

    assert before == [True, False]
    assert not inbox.waits(b"a")
    assert not inbox


def test_when_too_much_waits_of_all_the_fullest_line_is_named() -> None:
    inbox = Inbox(Limits(max_waiting_commands_of_all=10, max_waiting_bytes_of_all=1_000))
    for number, count in enumerate((2, 6, 2)):
        inbox.put(arrived(b"%d" % number, count))
    before = inbox.is_overfull

    inbox.put(arrived(b"3", 1))

    assert [before, inbox.is_overfull] == [False, True]
    assert inbox.fullest().peer == b"1"


def test_a_dropped_line_makes_room_for_the_others() -> None:
    inbox = Inbox(Limits(max_waiting_commands_of_all=10, max_waiting_bytes_of_all=1_000))
    inbox.put(arrived(b"1", 11))

    inbox.drop(b"1")
    inbox.put(arrived(b"2", 1))

    assert not inbox.is_overfull


def test_the_fullest_line_may_be_the_one_with_most_bytes() -> None:
    inbox = Inbox(Limits(max_waiting_commands_of_all=10, max_waiting_bytes_of_all=1_000))
    inbox.put(arrived(b"many", 5))
    inbox.put(arrived(b"large", 1, size=1_000))

    assert inbox.is_overfull
    assert inbox.fullest().peer == b"large"


def test_what_was_taken_waits_no_longer() -> None:
    inbox = Inbox(Limits(max_waiting_commands_of_all=5, max_waiting_bytes_of_all=1_000))
    for _ in range(3):
        inbox.put(arrived(b"a", 5))
        list(inbox.take(5))

    assert not inbox.is_overfull
