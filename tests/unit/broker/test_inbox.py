"""The lines before the broker: whose turn it is, and who floods."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ezgraph.broker.inbox import SHARE, Arrived, Inbox
from ezgraph.config import Limits


def message(peer: str, *frames: str, public: str | None = None, fd: int | None = None) -> Arrived:
    return Arrived(peer.encode(), fd, [each.encode() for each in frames], public)


def taken(inbox: Inbox, budget: int) -> list[str]:
    return [
        f"{arrived.peer.decode()}:{frame.decode()}"
        for arrived, parts in inbox.take(budget)
        for frame in parts
    ]


def test_one_connection_alone_is_served_in_order_up_to_the_budget() -> None:
    inbox = Inbox(Limits())
    inbox.put(message("a", *map(str, range(50))))
    inbox.put(message("a", "last"))

    assert taken(inbox, 32) == [f"a:{n}" for n in range(32)]
    assert taken(inbox, 32) == [f"a:{n}" for n in range(32, 50)] + ["a:last"]
    assert not inbox


def test_who_sends_much_waits_for_who_sends_little() -> None:
    inbox = Inbox(Limits())
    inbox.put(message("flood", *map(str, range(1_000))))
    inbox.put(message("one", "x"))
    inbox.put(message("two", "x", "y"))

    assert taken(inbox, 32)[SHARE : SHARE + 3] == ["one:x", "two:x", "two:y"]


def test_many_connections_of_one_key_have_the_turn_of_one() -> None:
    inbox = Inbox(Limits())
    for number in range(100):
        inbox.put(message(f"flood{number}", *"abcdefgh", public="f" * 64))
    inbox.put(message("other", "x", public="0" * 64))

    assert "other:x" in taken(inbox, 2 * SHARE + 1)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([None, "k", "l"]), st.integers(1, 20)),
        max_size=20,
    ),
    st.integers(1, 40),
)
def test_each_connection_keeps_its_order_and_nothing_is_lost(
    sent: list[tuple[str, str | None, int]], budget: int
) -> None:
    inbox = Inbox(Limits())
    wanted: dict[str, list[str]] = {}
    for number, (peer, public, count) in enumerate(sent):
        name = f"{peer}{public or ''}"
        frames = [f"{number}.{n}" for n in range(count)]
        wanted.setdefault(name, []).extend(f"{name}:{frame}" for frame in frames)
        assert inbox.put(message(name, *frames, public=public))

    found: list[str] = []
    while inbox:
        some = taken(inbox, budget)
        assert 0 < len(some) <= budget
        found += some

    for name, expected in wanted.items():
        assert [each for each in found if each.startswith(f"{name}:")] == expected
    assert len(found) == sum(len(each) for each in wanted.values())


def test_a_line_has_bounds_in_commands_and_in_bytes() -> None:
    few = Inbox(Limits(max_waiting_commands=3))
    assert few.put(message("a", "1", "2", "3"))
    assert few.put(message("b", "1", "2", "3"))
    assert not few.put(message("a", "4"))

    small = Inbox(Limits(max_waiting_bytes=10))
    assert small.put(message("a", "12345", "67890"))
    assert not small.put(message("a", "1"))
    taken(small, 2)
    assert small.put(message("a", "123456789"))


def test_what_waits_of_one_connection_can_be_dropped() -> None:
    inbox = Inbox(Limits())
    inbox.put(message("a", "1", public="k"))
    inbox.put(message("b", "1", public="k"))

    inbox.drop(b"a")
    inbox.drop(b"nobody")

    assert taken(inbox, 9) == ["b:1"]
    assert not inbox


def test_strangers_are_placed_once_before_they_are_taken() -> None:
    inbox = Inbox(Limits())
    inbox.put(message("known", "x"))
    inbox.put(message("new", "x", fd=7))

    (stranger,) = inbox.strangers()
    stranger.place({7: 3})

    assert inbox.strangers() == []
    assert [arrived.descriptor for arrived, _ in inbox.take(9)] == [None, (7, 3)]


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
