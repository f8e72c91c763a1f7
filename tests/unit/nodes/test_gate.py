"""Who is admitted to a host: by what a connection has shown, as long as it is that connection."""

from __future__ import annotations

import pytest

from ezgraph.errors import ForbiddenError, TicketNeededError
from ezgraph.nodes import EmptyNode, NodeServer
from ezgraph.nodes.gate import Gate
from ezgraph.wire.tickets import PREAMBLE, ticket_bytes

SECRET = b"s" * 32
ANNA, BERT = b"\0anna", b"\0bert"


class Host:
    """A gate and its clock."""

    def __init__(self, most: int = 10) -> None:
        self.now = 1000.0
        self.gate = Gate("run", lambda: self.now, most=most)
        self.gate.open_with(SECRET)

    def show(
        self,
        sender: bytes,
        descriptor: int = 7,
        *,
        reads: str = "node/run/",
        secret: bytes = SECRET,
    ) -> None:
        ticket = ticket_bytes(secret, sender.decode()[1:], [reads], self.now + 600)
        frame = PREAMBLE + ticket
        assert self.gate.is_ticket(frame)
        self.gate.show(sender, descriptor, frame)


def test_who_shows_a_ticket_is_admitted_with_what_it_grants() -> None:
    host = Host()
    host.show(ANNA, reads="node/run/a*")

    reader = host.gate.admitted(ANNA, 7)

    assert reader.who == "anna"
    assert (reader.may_read("abc"), reader.may_read("b")) == (True, False)


def test_who_has_shown_nothing_is_told_to() -> None:
    host = Host()
    host.show(ANNA)

    with pytest.raises(TicketNeededError, match=r"ctx.nodes\['run'\]"):
        host.gate.admitted(BERT, 7)


def test_nobody_is_admitted_before_the_broker_has_told_the_secret() -> None:
    gate = Gate("run", lambda: 0.0)
    gate.show(ANNA, 7, PREAMBLE + ticket_bytes(b"\0" * 32, "anna", ["/"], 600.0))

    with pytest.raises(TicketNeededError):
        gate.admitted(ANNA, 7)


def test_a_forged_ticket_and_that_of_another_graph_are_refused() -> None:
    host = Host()
    host.show(ANNA, secret=b"another graph's")
    with pytest.raises(TicketNeededError, match="not made for this host"):
        host.gate.admitted(ANNA, 7)

    host.show(ANNA)
    assert host.gate.admitted(ANNA, 7).who == "anna"
    host.gate.show(ANNA, 7, PREAMBLE + b"nonsense")
    with pytest.raises(ForbiddenError):
        host.gate.admitted(ANNA, 7)


def test_a_ticket_runs_out_while_its_connection_lasts() -> None:
    host = Host()
    host.show(ANNA)
    host.now += 599
    assert host.gate.admitted(ANNA, 7).who
    host.now += 1
    with pytest.raises(TicketNeededError, match="ran out"):
        host.gate.admitted(ANNA, 7)

    host.show(ANNA)

    assert host.gate.admitted(ANNA, 7).who


def test_who_takes_the_routing_id_of_another_does_not_take_its_ticket() -> None:
    host = Host()
    host.show(ANNA, 7)

    with pytest.raises(TicketNeededError):
        host.gate.admitted(ANNA, 8)


def test_what_was_shown_on_a_connection_that_closed_is_forgotten() -> None:
    host = Host()
    host.show(ANNA, 7)
    host.show(BERT, 9)

    host.gate.left({7}, is_all_read=True)

    with pytest.raises(TicketNeededError):
        host.gate.admitted(ANNA, 7)
    assert host.gate.admitted(BERT, 9).who


def test_a_ticket_is_not_taken_where_it_may_be_of_the_one_before() -> None:
    host = Host()

    def is_taken(*, is_all_read: bool = True, gone: int | None = None) -> bool:
        host.gate.left(set() if gone is None else {gone}, is_all_read=is_all_read)
        host.show(ANNA, 7)  # what was read just before
        try:
            return host.gate.admitted(ANNA, 7) is not None
        except TicketNeededError:
            return False

    assert not is_taken(gone=7)
    assert not is_taken()  # what had come by then is read only now
    assert is_taken()
    assert not is_taken(gone=7, is_all_read=False)
    assert not is_taken(is_all_read=False)
    assert not is_taken(is_all_read=True)
    assert is_taken(gone=8)
    host.gate.left(set(), is_all_read=True)
    host.show(ANNA, 7)

    assert host.gate.admitted(ANNA, 7).who


def test_so_many_tickets_are_remembered_those_that_are_used() -> None:
    host = Host(most=2)
    host.show(ANNA, 1)
    host.show(BERT, 2)
    host.gate.admitted(ANNA, 1)
    host.show(b"\0carl", 3)

    assert host.gate.admitted(ANNA, 1).who
    assert host.gate.admitted(b"\0carl", 3).who
    with pytest.raises(TicketNeededError):
        host.gate.admitted(BERT, 2)


def test_a_server_shows_a_reader_what_its_role_and_the_program_allow() -> None:
    host = Host()
    host.show(ANNA, reads="node/run/a*")
    reader = host.gate.admitted(ANNA, 7)
    root = EmptyNode("a", edges={"1": EmptyNode("a1"), "2": EmptyNode("a2"), "b": EmptyNode("b")})
    asked: list[str | None] = []

    def may_see(who: str | None, node: object) -> bool:
        asked.append(who)
        return node is not root["2"]

    server = NodeServer(root, name="run", may_see=may_see)

    assert server.node("a1", reader).uid == "a1"
    for uid in ("a2", "b"):
        with pytest.raises(ForbiddenError, match="key 'anna' may not see node"):
            server.node(uid, reader)
    assert set(asked) == {"anna"}
    assert server.node("b").uid == "b"  # this program
