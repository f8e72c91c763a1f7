"""Who may read what of a served graph, judged by its host alone: tickets, shown and remembered.

A reader shows its ticket once for each connection (`ezgraph.wire.tickets`); what it asks from then
on is judged by it. A connection is known by its routing id, which a reader may choose, and so take
one that another has had. So what was shown counts only for what comes in on the same descriptor,
and as long as nobody else has been given that number (`Gate.left`). Where it is not sure whose a
ticket is, it is not taken: its owner is refused once, and shows it again, which costs no question
to the broker.

So many tickets are remembered, and no more; who is forgotten shows its own again, likewise.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.errors import EzGraphError, TicketNeededError
from ezgraph.protocol.served import ROOM
from ezgraph.wire.tickets import PREAMBLE, Ticket, read_ticket

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks a host, by the ticket it has shown, and of which graph."""

    ticket: Ticket
    graph: str

    def __str__(self) -> str:
        return str(self.ticket)

    @property
    def who(self) -> str | None:
        """The name of its key; None: the broker knows no keys."""
        return self.ticket.who

    def may_read(self, uid: str) -> bool:
        """Return whether its role reaches as far as this node."""
        return self.ticket.matches((ROOM, self.graph, uid))


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a connection has shown: a ticket, or why what it showed is none."""

    descriptor: int
    outcome: Reader | EzGraphError


class Gate:
    """Admits who shows a ticket. All but `open_with` and `broker_wall` are the host's thread's.

    Args:
        graph: the name it is served under.
        wall: the broker's wall clock, as well as it is known here; tickets run out by it.
        most: how many tickets are remembered.
    """

    def __init__(self, graph: str, wall: Callable[[], float], *, most: int = 10_000) -> None:
        self.graph = graph
        self.wall = wall
        self._most = most
        self._secret: bytes | None = None
        self._shown: OrderedDict[bytes, _Shown] = OrderedDict()
        self._unsure: set[int] = set()
        self._leaving: set[int] = set()

    def __repr__(self) -> str:
        state = "closed" if self._secret is None else "open"
        return f"<Gate {self.graph!r} {state} readers={len(self._shown)}>"

    def open_with(self, secret: bytes) -> None:
        """Take tickets that were made with this secret; before, nobody is admitted."""
        self._secret = secret

    def is_ticket(self, frame: bytes) -> bool:
        """Return whether a frame shows a ticket."""
        return frame.startswith(PREAMBLE)

    def show(self, sender: bytes, descriptor: int, frame: bytes) -> None:
        """Take note of what a connection shows, in place of what it showed before."""
        if descriptor in self._unsure or self._secret is None:
            return
        try:
            ticket = read_ticket(self._secret, frame[len(PREAMBLE) :])
            outcome: Reader | EzGraphError = Reader(ticket, self.graph)
        except EzGraphError as error:
            outcome = error
        self._shown[sender] = _Shown(descriptor, outcome)
        self._shown.move_to_end(sender)
        while len(self._shown) > self._most:
            self._shown.popitem(last=False)

    def admitted(self, sender: bytes, descriptor: int) -> Reader:
        """Return who asks.

        Raises:
            TicketNeededError: it has shown no ticket, or one that ran out, or is not for this host.
            ForbiddenError: what it has shown cannot be read here.
        """
        shown = self._shown.get(sender)
        if shown is None or shown.descriptor != descriptor:
            raise TicketNeededError(
                f"graph {self.graph!r} is served to who shows a ticket of the broker; open it "
                f"through the broker: ctx.nodes[{self.graph!r}], or RootNode(ctx)"
            )
        if isinstance(shown.outcome, EzGraphError):
            raise shown.outcome.with_traceback(None)
        shown.outcome.ticket.refuse_expired(self.wall())
        self._shown.move_to_end(sender)
        return shown.outcome

    def left(self, descriptors: set[int], *, is_all_read: bool) -> None:
        """Take note of which connections have closed by now, before what was read is judged.

        What was read may be theirs, or of others who have been given the same number. So no ticket
        is taken from there until all that had come before is read: at the next call but one, or
        later if not all of it was read (``is_all_read``).
        """
        self._unsure = self._leaving | descriptors
        self._leaving = descriptors if is_all_read else self._unsure
        if descriptors:
            gone = [each for each, shown in self._shown.items() if shown.descriptor in descriptors]
            for sender in gone:
                del self._shown[sender]
