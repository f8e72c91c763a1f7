"""Where graphs are served, and what tickets are given to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ezgraph.broker import reads_nodes
from ezgraph.broker.reads_nodes import Vouching, find
from ezgraph.protocol.commands import FindGraph
from ezgraph.protocol.events import Event, GraphServed, NodeAnnounced, Source, key_of
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.roles import ReadScope, normal
from ezgraph.state.nodes import NodesState
from ezgraph.wire.tickets import read_ticket, ticket_bytes

if TYPE_CHECKING:
    from ezgraph.protocol.replies import Graphs

WALL = 1e9


def secret_of(name: str, owner: str, incarnation: str) -> bytes:
    return f"{name}|{owner}|{incarnation}".encode()


class Bus:
    """Graphs that are served, and those who ask for them."""

    def __init__(self) -> None:
        self.served = NodesState()
        self._seq = 0

    def serve(self, name: str, owner: str = "s1", incarnation: str = "i") -> None:
        self._seq += 1
        body = GraphServed(name, "root", owner, incarnation, [f"{owner}:4000"], b"k" * 32)
        source = Source(program="rig.py", host="lab", pid=7, login="anna")
        event = Event(1, self._seq, 0, 1, 1, 0.0, 0.0, key_of(body), source, None, body)
        self.served.serve(event, body)

    def announce(self, name: str, uid: str) -> None:
        self.served.announce(NodeAnnounced(name, uid, [], 0, "lab.Node"))

    def find(self, name: str | None = None, after: str = "", reads: str = "/") -> Graphs:
        patterns = tuple(map(parse_pattern, reads.split()))
        scope = ReadScope(0, normal(patterns))

        def ticket_for(*host: str) -> bytes:
            return ticket_bytes(secret_of(*host), "anna", list(map(str, patterns)), WALL + 600.0)

        vouching = Vouching(scope, ticket_for, 600.0, 25981)
        return find(self.served, FindGraph(name, after), 9, vouching)


@pytest.fixture
def bus() -> Bus:
    bus = Bus()
    for name in ("run41", "run42"):
        bus.serve(name)
    bus.serve("run42", "s2", "i2")
    bus.announce("run42", "n")
    return bus


def test_a_graph_is_found_with_everybody_who_serves_it_and_a_ticket_for_each(bus: Bus) -> None:
    (found,) = bus.find("run42").graphs

    assert (found.root_uid, found.nodes, found.relay_port) == ("root", 1, 25981)
    assert [host.owner for host in found.hosts] == ["s1", "s2"]
    assert found.incarnation == "i"
    assert found.hosts[0].by == "rig.py[7]@lab anna"
    for host in found.hosts:
        secret = secret_of("run42", host.owner, host.incarnation)
        ticket = read_ticket(secret, host.ticket)
        assert (ticket.who, ticket.reads) == ("anna", ("/",))
        assert ticket.expires_wall == WALL + 600.0
        assert repr(host.ticket) not in repr(host)


def test_a_host_that_declares_itself_in_another_session_is_told_as_it_is_now(bus: Bus) -> None:
    bus.serve("run41", "s3", "i")  # the same host, while its lost session lives on

    (found,) = bus.find("run41").graphs

    assert [host.owner for host in found.hosts] == ["s3"]


def test_who_may_read_a_part_is_told_where_it_is_and_given_a_ticket_for_that_part(bus: Bus) -> None:
    (found,) = bus.find("run42", reads="node/run42/n settings/").graphs

    assert found.nodes is None
    ticket = read_ticket(secret_of("run42", "s1", "i"), found.hosts[0].ticket)
    assert ticket.matches(("node", "run42", "n"))
    assert not ticket.matches(("node", "run42", "root"))


def test_who_may_read_nothing_of_a_graph_does_not_learn_of_it(bus: Bus) -> None:
    assert bus.find("run42", reads="node/run41/ settings/").graphs == []
    assert [each.name for each in bus.find(reads="node/run41/").graphs] == ["run41"]
    assert bus.find(reads="settings/").graphs == []
    assert bus.find("run4").graphs == []


def test_a_listing_comes_in_pages_which_together_have_each_graph_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = Bus()
    names = [f"g{number:03}" for number in range(25)]
    for name in names:
        bus.serve(name)
    monkeypatch.setattr(reads_nodes, "GRAPHS_PER_REPLY", 4)
    monkeypatch.setattr(reads_nodes, "EXAMINED_PER_REPLY", 6)

    def listed(reads: str) -> list[str]:
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = bus.find(after=after, reads=reads)
            found += [each.name for each in page.graphs]
            assert len(page.graphs) <= 4
            after = page.next_after
        return found

    assert listed("/") == names
    assert listed("node/g007 node/g02*") == ["g007", *names[20:]]
    assert listed("settings/") == []
