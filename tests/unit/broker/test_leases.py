"""Leases and their order of ending; answers that are remembered while they may be asked again."""

from __future__ import annotations

import time

import pytest

from ezgraph.broker.connections import Connection
from ezgraph.broker.leases import MOST_ENDED, Answers, Lease, Leases
from ezgraph.errors import RequestTooOldError
from ezgraph.protocol.events import Source
from ezgraph.protocol.replies import Done, Refusal


def lease(client: str, *, ttl_s: float = 6.0, heard: float = 0.0) -> Lease:
    return Lease(client, "session", Source(client=client), ttl_s, heard, heard)


def names(leases: list[Lease]) -> list[str]:
    return [each.client for each in leases]


def test_a_lease_ends_when_nobody_was_heard_for_its_ttl() -> None:
    leases = Leases()
    leases.add(lease("a", ttl_s=1.0))

    assert leases.expired(0.999) == []
    assert names(leases.expired(1.0)) == ["a"]


def test_a_lease_that_was_heard_gets_another_ttl() -> None:
    leases = Leases()
    one = lease("a", ttl_s=1.0)
    leases.add(one)
    one.last_heard = 0.9

    assert leases.expired(1.5) == []
    assert leases.next_due() == 1.9
    assert names(leases.expired(1.9)) == ["a"]


def test_an_ended_lease_is_told_once() -> None:
    leases = Leases()
    leases.add(lease("a"))

    assert names(leases.expired(100.0)) == ["a"]
    assert leases.expired(200.0) == []


def test_leases_end_in_the_order_of_their_deadlines() -> None:
    leases = Leases()
    for client, ttl_s in (("slow", 9.0), ("quick", 1.0), ("middle", 5.0)):
        leases.add(lease(client, ttl_s=ttl_s))

    assert names(leases.expired(10.0)) == ["quick", "middle", "slow"]


def test_a_lease_whose_connection_waits_to_be_heard_is_looked_at_again() -> None:
    leases = Leases()
    waiting = lease("waiting", ttl_s=1.0)
    waiting.connections[b"peer"] = Connection(waiting, None)
    for each in (waiting, lease("silent", ttl_s=1.0)):
        leases.add(each)

    first = names(leases.expired(2.0, lambda peer: peer == b"peer"))
    second = names(leases.expired(2.0))

    assert (first, second) == (["silent"], ["waiting"])


def test_many_leases_end_a_part_at_a_time() -> None:
    leases = Leases()
    for number in range(MOST_ENDED + 3):
        leases.add(lease(f"{number}", ttl_s=1.0))

    ended = [len(leases.expired(2.0)) for _ in range(3)]

    assert ended == [MOST_ENDED, 3, 0]


def test_a_removed_lease_does_not_end_again() -> None:
    leases = Leases()
    leases.add(lease("a"))
    leases.remove("a")
    leases.remove("a")

    assert leases.expired(100.0) == []
    assert (len(leases), leases.get("a")) == (0, None)


def test_leases_are_found_by_client_and_counted() -> None:
    leases = Leases()
    one, two = lease("a"), lease("b")
    leases.add(one)
    leases.add(two)

    assert leases.get("a") is one
    assert leases.get("c") is None
    assert list(leases) == [one, two]
    assert len(leases) == 2


def test_nothing_is_due_without_a_lease() -> None:
    assert Leases().next_due() is None


def test_an_answer_is_known_until_its_reply_has_arrived() -> None:
    answers = Answers()
    answers.remember(3, Done(10))
    answers.remember(4, Refusal("cyclic", "no"))

    assert answers.reply_to(3) == Done(10)
    assert answers.reply_to(4) == Refusal("cyclic", "no")
    assert answers.reply_to(5) is None

    answers.forget_below(4)
    assert answers.reply_to(4) == Refusal("cyclic", "no")
    assert len(answers) == 1


def test_forgetting_many_requests_at_once_takes_time_in_proportion() -> None:
    def spent(count: int) -> float:
        answers = Answers()
        for number in range(count):
            answers.remember(number, Done(1))
        began = time.thread_time()
        answers.forget_below(count)
        assert len(answers) == 0
        return time.thread_time() - began

    assert spent(100_000) < 20 * spent(10_000) + 0.1


def test_a_forgotten_request_is_too_old() -> None:
    answers = Answers()
    answers.remember(3, Done(10))
    answers.forget_below(4)

    with pytest.raises(RequestTooOldError, match=r"request 3 lies below 4.*under a new id"):
        answers.reply_to(3)
    with pytest.raises(RequestTooOldError):
        answers.reply_to(1)


def test_the_lowest_open_id_never_goes_back() -> None:
    answers = Answers()
    answers.forget_below(7)
    answers.forget_below(2)

    with pytest.raises(RequestTooOldError):
        answers.reply_to(6)
