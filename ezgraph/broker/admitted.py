"""Whose connections an allow-list lets in, on which socket, and which it ends. Pure.

The broker has one socket for commands (``COMMANDS``) and one for the events of each read scope (its
number). A key is let in to the commands, and to the events of its own scope, to nothing else. When
the allow-list changes, whoever may read something else by it, or is admitted no longer, is cut off
everywhere; who is still admitted comes back, to what is theirs now.

The service and the simulated broker both go by this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ezgraph.protocol.roles import stands_otherwise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ezgraph.protocol.roles import Access, Identity

C = TypeVar("C")
COMMANDS = None
"""The socket for commands, where sockets are named by their read scopes."""

Socket = int | None


def lets_in(access: Access, public: str | None, socket: Socket) -> bool:
    """Return whether a connection with this key may be made to a socket, and stay there."""
    identity = access.identity(public)
    if identity is None:
        return False
    return socket is COMMANDS or access.scope_of(identity).number == socket


def streams_of(access: Access) -> set[int]:
    """Return the read scopes, by number, that need a socket for their events."""
    return {scope.number for scope in access.scopes.values()}


def losers(before: Access, access: Access) -> list[Identity]:
    """Return, as they were, whose access ends, although some of them may come back."""
    return [each for each in before if stands_otherwise(each.public, before, access)]


def cut_off(
    lost: Iterable[Identity], connections: Mapping[Socket, Iterable[tuple[C, str | None]]]
) -> list[tuple[Socket, C]]:
    """Return which connections end with the access of ``lost``, and on which socket.

    ``connections`` are those of each socket, with their keys as far as these are known. Whose key
    is not known may be one of them. On a socket for events such a one is cut off, too; it has not
    subscribed to anything yet, and comes back. On the one for commands each command shows a key,
    and is judged by it when it is read.
    """
    keys = {each.public for each in lost}
    if not keys:
        return []
    return [
        (socket, connection)
        for socket, found in connections.items()
        for connection, public in found
        if public in keys or (public is None and socket is not COMMANDS)
    ]
