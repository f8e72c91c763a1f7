"""Connections: a lease whose last one closes is suspended, and ends after a grace."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ezgraph.broker.leases import GRACE_S
from ezgraph.protocol.commands import (
    Command,
    Connect,
    Heartbeat,
    Request,
    Resume,
    Sync,
)
from ezgraph.protocol.events import EndReason, SessionClosed
from ezgraph.protocol.replies import Beat, Done, Refusal, Reply, Welcome

if TYPE_CHECKING:
    from tests.unit.broker.conftest import Desk

MAIN, KEEPALIVE, OTHER = b"main", b"keepalive", b"other"
FD_5, FD_5_AGAIN, FD_6 = (5, 1), (5, 2), (6, 1)


def say(
    desk: Desk, peer: bytes, command: Command, descriptor: tuple[int, int], request_id: int = 0
) -> Reply | None:
    """Ask on a connection that came in on a descriptor."""
    outcome = desk.core.receive(
        peer,
        Request(request_id, 0, command),
        now=desk.now,
        wall=1e9 + desk.now,
        descriptor=descriptor,
    )
    desk.events += outcome.events
    return outcome.reply


def resume(welcome: Welcome) -> Resume:
    return Resume(1, welcome.client, welcome.token, welcome.cluster_id, 1, 0)


@pytest.fixture
def welcome(desk: Desk) -> Welcome:
    """A session on descriptor 5 that owns an edge."""
    found = say(desk, MAIN, desk.hello_of(), FD_5)
    assert isinstance(found, Welcome)
    say(desk, MAIN, Connect("a", "b"), FD_5, 1)
    return found


def suspended(desk: Desk) -> list[bool]:
    """Of every lease, oldest first."""
    return [client.suspended for client in desk.core.list_clients(desk.now).clients]


def test_a_lease_whose_last_connection_closes_ends_after_the_grace(
    desk: Desk, welcome: Welcome
) -> None:
    desk.core.connection_closed(FD_5, now=desk.now)

    assert suspended(desk) == [True]
    assert desk.pass_time(GRACE_S - 0.01) == []
    (events,) = desk.pass_time(0.01)
    assert [event.kind for event in events] == ["EdgeDisconnected", "SessionClosed"]
    assert events[-1].body == SessionClosed(welcome.client, EndReason.LOST)
    assert desk.core.leases.next_due() is None or desk.pass_time(100.0) == []


def test_a_client_that_is_back_within_the_grace_goes_on(desk: Desk, welcome: Welcome) -> None:
    desk.core.connection_closed(FD_5, now=desk.now)
    desk.pass_time(GRACE_S - 0.1)

    assert isinstance(say(desk, OTHER, resume(welcome), FD_6), Welcome)

    assert suspended(desk) == [False]
    assert desk.pass_time(5.0) == []
    assert say(desk, OTHER, Connect("b", "c"), FD_6, 2) == Done(3)


def test_a_lease_with_another_connection_is_not_suspended(desk: Desk, welcome: Welcome) -> None:
    say(desk, KEEPALIVE, resume(welcome), FD_6)

    desk.core.connection_closed(FD_5, now=desk.now)

    assert suspended(desk) == [False]
    desk.pass_time(3.0)
    assert isinstance(say(desk, KEEPALIVE, Heartbeat(0.0), FD_6), Beat)
    assert desk.pass_time(5.9) == []

    desk.core.connection_closed(FD_6, now=desk.now)
    assert suspended(desk) == [True]


def test_a_descriptor_that_was_given_out_again_is_another_connection(
    desk: Desk, welcome: Welcome
) -> None:
    say(desk, OTHER, desk.hello_of(), FD_5_AGAIN)

    desk.core.connection_closed(FD_5, now=desk.now)

    assert suspended(desk) == [True, False]
    (events,) = desk.pass_time(GRACE_S)
    assert {event.source.session_id for event in events} == {welcome.client}


def test_a_close_of_a_descriptor_nobody_is_bound_to_changes_nothing(
    desk: Desk, welcome: Welcome
) -> None:
    desk.core.connection_closed((99, 1), now=desk.now)

    assert suspended(desk) == [False]


def test_what_comes_late_on_a_closed_connection_is_executed_and_revives_nothing(
    desk: Desk, welcome: Welcome
) -> None:
    desk.core.connection_closed(FD_5, now=desk.now)

    assert say(desk, MAIN, Connect("b", "c"), FD_5, 2) == Done(3)
    say(desk, MAIN, Heartbeat(0.0), FD_5)

    assert suspended(desk) == [True]
    assert len(desk.pass_time(GRACE_S)) == 1


def test_silence_ends_a_suspended_lease_too_if_its_ttl_is_shorter_than_the_grace(
    desk: Desk,
) -> None:
    short = replace(desk.hello_of(), ttl_s=0.5)
    say(desk, MAIN, short, FD_5)

    desk.core.connection_closed(FD_5, now=desk.now)

    assert len(desk.pass_time(0.5)) == 1


def test_a_connection_that_says_hello_again_leaves_its_first_lease_to_the_grace(
    desk: Desk, welcome: Welcome
) -> None:
    second = say(desk, MAIN, desk.hello_of(), FD_5)
    assert isinstance(second, Welcome)

    done = say(desk, MAIN, Sync(), FD_5, 1)

    assert isinstance(done, Done)
    assert second.client != welcome.client
    desk.core.connection_closed(FD_5, now=desk.now)
    assert suspended(desk) == [True, True]


def test_an_ended_lease_leaves_its_connections_unbound(desk: Desk, welcome: Welcome) -> None:
    say(desk, KEEPALIVE, resume(welcome), FD_6)
    assert desk.core.connection_of(MAIN)
    assert desk.core.connection_of(KEEPALIVE)

    desk.pass_time(6.0)

    for peer, descriptor in ((MAIN, FD_5), (KEEPALIVE, FD_6)):
        assert not desk.core.connection_of(peer)
        reply = say(desk, peer, Sync(), descriptor, 9)
        assert isinstance(reply, Refusal)
        assert reply.code == "unbound"
    desk.core.connection_closed(FD_5, now=desk.now)


def test_a_client_that_reconnects_again_and_again_is_one_lease(
    desk: Desk, welcome: Welcome
) -> None:
    for number in range(200):
        descriptor = (7, number)
        peer = b"peer-%d" % number
        say(desk, peer, resume(welcome), descriptor)
        desk.core.connection_closed(descriptor, now=desk.now)
        desk.now += 0.1

    assert len(desk.core.leases) == 1
    (lease,) = desk.core.leases
    assert len(lease.connections) < 20


def test_a_resume_repeated_on_its_connection_does_not_hide_that_connections_end(
    desk: Desk, welcome: Welcome
) -> None:
    """Frames of a peer that is known come without a descriptor: the known one stays."""
    for _ in range(2):
        repeated = Request(0, 0, resume(welcome))
        desk.core.receive(MAIN, repeated, now=desk.now, wall=1e9, descriptor=None)

    desk.core.connection_closed(FD_5, now=desk.now)

    assert suspended(desk) == [True]


def test_a_resume_that_comes_late_on_a_closed_connection_revives_nothing(
    desk: Desk, welcome: Welcome
) -> None:
    desk.core.connection_closed(FD_5, now=desk.now)
    late = Request(0, 0, resume(welcome))
    desk.core.receive(MAIN, late, now=desk.now, wall=1e9, descriptor=None)

    assert suspended(desk) == [True]
    (events,) = desk.pass_time(GRACE_S)
    assert events[-1].body == SessionClosed(welcome.client, EndReason.LOST)


def test_a_hello_that_comes_late_on_a_closed_connection_opens_a_lease_that_ends_at_once(
    desk: Desk, welcome: Welcome
) -> None:
    desk.core.connection_closed(FD_5, now=desk.now)
    hello = Request(0, 0, desk.hello_of(nonce="late"))
    desk.core.receive(MAIN, hello, now=desk.now, wall=1e9, descriptor=None)

    assert suspended(desk) == [True, True]
    assert len(desk.pass_time(GRACE_S)) == 2
