"""Whose a frame is: the connection's under its routing id, if key and descriptor are the same."""

from __future__ import annotations

import pytest

from ezgraph.broker.connections import Connections, Descriptor
from ezgraph.broker.leases import Lease
from ezgraph.protocol.events import Source

MINE, THEIRS = "aa" * 32, "bb" * 32
PEER = b"chosen"


def lease() -> Lease:
    return Lease("client", "session", Source(), 6.0, 0.0, 0.0)


@pytest.mark.parametrize("descriptor", [(5, 1), None])
@pytest.mark.parametrize("public", [THEIRS, None])
def test_a_frame_of_another_key_is_not_the_connections_whatever_it_came_in_on(
    descriptor: Descriptor | None, public: str | None
) -> None:
    connection = Connections().bind(PEER, lease(), (5, 1), 0.0, public=MINE)

    assert connection.is_of(descriptor, MINE)
    assert not connection.is_of(descriptor, public)


def test_a_frame_on_another_descriptor_or_generation_is_not_the_connections() -> None:
    connection = Connections().bind(PEER, lease(), (5, 1), 0.0, public=MINE)

    assert not connection.is_of((5, 2), MINE)
    assert not connection.is_of((6, 1), MINE)


def test_what_has_closed_is_known_to_be_gone_in_that_generation_alone() -> None:
    connections = Connections()

    connections.close((5, 1))

    assert connections.is_gone((5, 1))
    assert not connections.is_gone((5, 2))
    assert not connections.is_gone(None)
