"""Where a graph of nodes can be read, and what is said there first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ezgraph.config import AddressesLike, parse_addresses

if TYPE_CHECKING:
    from ezgraph.config import Address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way to a host of nodes.

    Attributes:
        address: what is dialled.
        server_key: the public key that stands there, 32 bytes; None: it has none.
        ticket: what is shown to the host before anything is asked, and again when there is a newer
            one (`ezgraph.wire.tickets`); None: this host wants none.
        route: what is said before that, to who passes on what follows; None: nobody does.
        pair: what is shown at ``server_key``, a public key and its secret; None: a new one, where
            any will do.
        note: how nodes are reached this way, in words, if not directly.
    """

    address: Address
    server_key: bytes | None = None
    ticket: bytes | None = field(default=None, repr=False)
    route: bytes | None = field(default=None, repr=False)
    note: str = ""
    pair: tuple[bytes, bytes] | None = field(default=None, repr=False)

    @property
    def opening(self) -> list[bytes]:
        """What is said first on every connection."""
        return [each for each in (self.route, self.ticket) if each is not None]

    def is_same_way(self, other: Endpoint) -> bool:
        """Return whether a connection to the one serves for the other."""
        return (self.address, self.server_key, self.route) == (
            other.address,
            other.server_key,
            other.route,
        )


EndpointsLike = AddressesLike | Sequence[Endpoint]


def endpoints_of(given: EndpointsLike) -> tuple[Endpoint, ...]:
    """Return endpoints, or plain ones for addresses.

    Raises:
        ConfigError: an address is none, or there is not one.
    """
    if not isinstance(given, str):
        endpoints = tuple(each for each in given if isinstance(each, Endpoint))
        if endpoints and len(endpoints) == len(given):
            return endpoints
    return tuple(Endpoint(each) for each in parse_addresses(given))  # type: ignore[arg-type]
