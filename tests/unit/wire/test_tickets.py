"""Tickets: only as they were made, only for one host, only for a while."""

from __future__ import annotations

import pytest

from ezgraph.errors import ForbiddenError, TicketNeededError
from ezgraph.wire import values
from ezgraph.wire.tickets import MAC_BYTES, Ticket, _mac, read_ticket, ticket_bytes

SECRET, OTHER = b"s" * 32, b"o" * 32
TICKET = ticket_bytes(SECRET, "anna", ["node/run/"], 100.0)


def test_a_ticket_says_who_may_read_what_until_when() -> None:
    ticket = read_ticket(SECRET, TICKET)

    assert ticket == Ticket("anna", ("node/run/",), 100.0)
    assert ticket.matches(("node", "run", "uid"))
    assert not ticket.matches(("node", "run2", "uid"))
    assert not ticket.matches(("settings", "run"))
    assert read_ticket(SECRET, ticket_bytes(SECRET, None, ["/"], 1.0)).matches(("node", "x", "y"))


def test_a_ticket_of_another_host_is_refused() -> None:
    with pytest.raises(TicketNeededError, match="not made for this host"):
        read_ticket(OTHER, TICKET)


@pytest.mark.parametrize("length", [0, 1, MAC_BYTES - 1, MAC_BYTES, len(TICKET) - 1])
def test_a_ticket_that_was_cut_is_refused(length: int) -> None:
    with pytest.raises(ForbiddenError):
        read_ticket(SECRET, TICKET[:length])


def test_a_ticket_with_any_bit_changed_is_refused() -> None:
    for place in range(len(TICKET)):
        for bit in range(8):
            changed = bytearray(TICKET)
            changed[place] ^= 1 << bit
            with pytest.raises(ForbiddenError):
                read_ticket(SECRET, bytes(changed))


def test_more_rights_under_an_old_seal_are_refused() -> None:
    forged = TICKET[:MAC_BYTES] + values.pack(["anna", ["/"], 1e12])

    with pytest.raises(TicketNeededError):
        read_ticket(SECRET, forged)


@pytest.mark.parametrize(
    "said",
    [None, [], ["anna", ["/"]], ["anna", "/", 1.0], [1, ["/"], 1.0], ["anna", ["/"], float("nan")],
     ["anna", ["/"], float("inf")], ["anna", [""], 1.0], ["anna", ["a*b"], 1.0]],
)  # fmt: skip
def test_a_sealed_ticket_that_says_nothing_known_is_refused(said: object) -> None:
    packed = values.pack(said)

    with pytest.raises(ForbiddenError, match="another version"):
        read_ticket(SECRET, _mac(SECRET, packed) + packed)


def test_a_ticket_runs_out() -> None:
    ticket = read_ticket(SECRET, TICKET)

    ticket.refuse_expired(99.9)
    with pytest.raises(TicketNeededError, match=r"key 'anna'.* ran out 0.5 s ago"):
        ticket.refuse_expired(100.5)
    with pytest.raises(TicketNeededError):
        ticket.refuse_expired(100.0)


def test_a_ticket_says_in_words_whose_it_is() -> None:
    assert str(Ticket(None, ("/",), 1.0)) == "a reader without a key"
    assert "node/run" in repr(Ticket("anna", ("node/run",), 1.0))
