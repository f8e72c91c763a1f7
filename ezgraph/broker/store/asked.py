"""A change of the store, on its way from the core, which admits it, to the store and back. Pure.

The core does not know the rows that a change of the store depends on. So it says who asks for what,
the shell that has the rows decides (`ezgraph.broker.store.storing`), and the core numbers what it
decided, remembers the answer, and gives it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.broker.connections import Descriptor
    from ezgraph.broker.leases import Lease
    from ezgraph.protocol.events import Body
    from ezgraph.protocol.replies import Reply
    from ezgraph.protocol.roles import Identity
    from ezgraph.protocol.stored_commands import StoreCommand


class StoreAsked(NamedTuple):
    """A change of the store that its asker may make, and where it is to be answered."""

    command: StoreCommand
    lease: Lease
    request_id: int
    peer: bytes
    descriptor: Descriptor | None
    public: str | None
    identity: Identity | None = None

    @property
    def name(self) -> tuple[str, int]:
        """What is the same when it is repeated, and differs from all others."""
        return self.lease.client, self.request_id


class Decided(NamedTuple):
    """What a change of the store came to: its rows are in the next append.

    ``reply`` makes the answer, when the seq is known that it reached. ``touched`` says of which
    pages others are no longer as of one state: of a storage (its fingerprint), of all where
    something was ``deleted``, or ("") of what belongs to no storage.
    """

    bodies: Sequence[Body]
    reply: Callable[[int], Reply]
    touched: tuple[str, ...] = ("",)
