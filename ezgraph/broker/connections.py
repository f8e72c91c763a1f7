"""Which connection belongs to which lease. Pure.

A connection is a routing id of the ROUTER, bound to a lease by HELLO, RESUME or TAKEOVER. It came
in on a descriptor; when that closes, its connections are closed. They stay bound for frames that
were on their way, which are executed and revive nothing; only the last few of a lease are kept.
A connection may be gone before its first frame is read: then it is closed from the beginning.

A routing id proves nothing: a client may choose one, and so take one that somebody else has had. So
a frame belongs to a connection only if it came with the same key, and on the same descriptor; and
what a connection asked that has closed is not answered, for another may be heard under its id.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezgraph.broker.leases import Lease

_CLOSED_CONNECTIONS = 4
_GONE_DESCRIPTORS = 10_000
Descriptor = tuple[int, int]
"""A file descriptor and its generation."""


@dataclass(slots=True, eq=False)
class Connection:
    """One routing id of the ROUTER, and the descriptor (with its generation) it came in on.

    Descriptors are numbers that the system gives out again at once; the generation tells one
    owner of the number from the next. Frames that come late on a closed connection are executed,
    but keep nothing alive. ``public`` is the key it was made with, where there are keys.
    ``is_main``: requests to units are handed to it.
    """

    lease: Lease
    descriptor: Descriptor | None
    closed: bool = False
    public: str | None = None
    is_main: bool = False

    def is_of(self, descriptor: Descriptor | None, public: str | None) -> bool:
        """Return whether a frame that came in so (descriptor None: as before) is this one's."""
        if public != self.public:
            return False
        return descriptor is None or self.descriptor is None or descriptor == self.descriptor


class Connections:
    """The connections that are bound, by routing id."""

    def __init__(self) -> None:
        self._bound: dict[bytes, Connection] = {}
        self._by_descriptor: dict[Descriptor, set[bytes]] = {}
        self._gone: OrderedDict[Descriptor | None, None] = OrderedDict()

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._bound

    def get(self, peer: bytes) -> Connection | None:
        """Return what ``peer`` is bound to, or None."""
        return self._bound.get(peer)

    def bind(
        self,
        peer: bytes,
        lease: Lease,
        descriptor: Descriptor | None,
        now: float,
        *,
        public: str | None = None,
        is_main: bool = False,
    ) -> Connection:
        """Bind ``peer`` to a lease, which is thereby heard, and suspended no longer.

        ``descriptor`` None: the one it came in on is known, if it was bound before. A late frame
        on a connection that is closed leaves it closed, and revives nothing.
        """
        before = self._bound.get(peer)
        if before is not None and not before.is_of(descriptor, public):
            before = None  # somebody else's, under the same routing id
        is_closed = descriptor in self._gone or (before is not None and before.closed)
        if before is not None and descriptor is None:
            descriptor = before.descriptor
        self.unbind(peer)
        connection = Connection(lease, descriptor, is_closed, public, is_main)
        self._bound[peer] = lease.connections[peer] = connection
        if is_closed:
            return connection
        if descriptor is not None:
            self._by_descriptor.setdefault(descriptor, set()).add(peer)
        lease.last_heard = now
        lease.suspended_at = None
        closed = [each for each, known in lease.connections.items() if known.closed]
        for each in closed[:-_CLOSED_CONNECTIONS]:
            self.unbind(each)
        return connection

    def unbind(self, peer: bytes) -> None:
        """Forget a connection."""
        connection = self._bound.pop(peer, None)
        if connection is None:
            return
        connection.lease.connections.pop(peer, None)
        if connection.descriptor is not None:
            peers = self._by_descriptor.get(connection.descriptor, set())
            peers.discard(peer)
            if not peers:
                self._by_descriptor.pop(connection.descriptor, None)

    def unbind_all_of(self, lease: Lease) -> None:
        """Forget every connection of a lease."""
        for peer in list(lease.connections):
            self.unbind(peer)

    def is_gone(self, descriptor: Descriptor | None) -> bool:
        """Return whether what came in on ``descriptor`` has closed; None: that is not known."""
        return descriptor in self._gone

    def close(self, descriptor: Descriptor) -> list[Lease]:
        """Close what came in on ``descriptor``; return the leases it belonged to."""
        self._gone[descriptor] = None
        if len(self._gone) > _GONE_DESCRIPTORS:
            self._gone.popitem(last=False)
        closed = [self._bound[peer] for peer in self._by_descriptor.pop(descriptor, ())]
        for connection in closed:
            connection.closed = True
        return [connection.lease for connection in closed]
