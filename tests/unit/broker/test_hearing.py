"""Up to which moment everybody was heard, drained or flooded."""

from __future__ import annotations

from ezgraph.broker.hearing import Hearing

FLOODER, OTHER, THIRD = b"f", b"o", b"t"


def test_a_drained_socket_has_been_heard_up_to_now() -> None:
    hearing = Hearing()

    hearing.drained(5.0)

    assert hearing.through == 5.0


def test_a_second_turn_of_one_says_that_all_had_theirs_since_the_round_began() -> None:
    hearing = Hearing()
    hearing.drained(5.0)

    for now, peer in ((6.0, FLOODER), (7.0, OTHER), (8.0, THIRD)):
        hearing.take(peer, now)
        assert hearing.through == 5.0
    hearing.take(FLOODER, 9.0)
    first = hearing.through
    hearing.take(OTHER, 10.0)
    hearing.take(FLOODER, 11.0)

    assert first == 5.0
    assert hearing.through == 9.0


def test_one_who_floods_alone_holds_nothing_up() -> None:
    hearing = Hearing()
    hearing.drained(5.0)

    for now in range(6, 20):
        hearing.take(FLOODER, float(now))

    assert hearing.through == 18.0
