"""Tickets: what a reader shows to a host of nodes, which is no broker and has no list of keys.

The broker makes one when it is asked where a graph is served: whose key has asked, what it may
read, and until when, followed by a keyed BLAKE2b over all of that. The key is known to the broker
and to that one host. So a ticket for another graph, of another host, or for more than was granted
does not pass; and one that was passed on grants no more than it did to whom it was made out.
"""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from ezgraph.errors import (
    ForbiddenError,
    InvalidKeyError,
    MalformedMessageError,
    TicketNeededError,
)
from ezgraph.protocol.patterns import matcher, parse_pattern
from ezgraph.wire import values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.names import Key
    from ezgraph.protocol.patterns import Matcher

MAC_BYTES = 32
PREAMBLE = b"eZt\1"
"""What a frame begins with that shows a ticket."""


@dataclass(frozen=True)
class Ticket:
    """Who may read what, until when.

    Attributes:
        who: the name of the reader's key; None: this broker knows no keys.
        reads: the patterns of keys it may read, as roles spell them.
        expires_wall: the broker's wall clock, in seconds since 1970, from which on it is worthless.
    """

    who: str | None
    reads: tuple[str, ...]
    expires_wall: float
    _has: Matcher = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_has", matcher(map(parse_pattern, self.reads)))

    def __str__(self) -> str:
        return f"key {self.who!r}" if self.who is not None else "a reader without a key"

    def matches(self, key: Key) -> bool:
        """Return whether its holder may read what stands at ``key``."""
        return self._has(key)

    def refuse_expired(self, wall: float) -> None:
        """Refuse it when its time is over.

        Raises:
            TicketNeededError: says since when.
        """
        if wall >= self.expires_wall:
            raise TicketNeededError(
                f"the ticket of {self} for this host ran out {wall - self.expires_wall:.1f} s ago; "
                f"ask the broker for a new one (a RootNode of a context does so by itself)"
            )


def ticket_bytes(
    secret: bytes, who: str | None, reads: Sequence[str], expires_wall: float
) -> bytes:
    """Return a ticket that hosts with this secret will take."""
    packed = values.pack([who, list(reads), expires_wall])
    return _mac(secret, packed) + packed


def read_ticket(secret: bytes, ticket: bytes) -> Ticket:
    """Return what a ticket says; whether its time is over is yet to be looked at.

    Raises:
        TicketNeededError: it was not made for this host as it is now, or was changed.
        ForbiddenError: it says what is not known here.
    """
    mac, packed = ticket[:MAC_BYTES], ticket[MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, packed)):
        raise TicketNeededError(
            "that ticket was not made for this host of nodes; ask the broker where the graph is "
            "served, and for a ticket (ctx.nodes[NAME], or FindGraph)"
        )
    try:
        match values.unpack(packed):
            case [str() | None as who, list() as reads, float() as until] if math.isfinite(until):
                return Ticket(who, tuple(map(str, reads)), until)
            case _:
                pass
    except (MalformedMessageError, InvalidKeyError) as error:
        raise _of_another_version() from error
    raise _of_another_version()


def _of_another_version() -> ForbiddenError:
    return ForbiddenError(
        "that ticket was made by the broker of another version of ezgraph; update the older one"
    )


def _mac(secret: bytes, packed: bytes) -> bytes:
    return blake2b(packed, key=secret, digest_size=MAC_BYTES, person=b"ezgraph.ticket").digest()
