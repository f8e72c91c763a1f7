"""Rules for edges and for pausing: read the state, return event bodies or refuse. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.errors import (
    CyclicException,
    ForeignEdgeError,
    InvalidCommandError,
    InvalidKeyError,
    UnknownEdgeError,
)
from ezgraph.names import topic_of
from ezgraph.protocol.events import Body, EdgeConnected, EdgeDisconnected, PauseChanged
from ezgraph.protocol.snapshot import PERSISTENT

if TYPE_CHECKING:
    from ezgraph.protocol.commands import Connect, Disconnect
    from ezgraph.state.graph import GraphState

Owner = str | None


def connect(state: GraphState, command: Connect, owner: Owner) -> tuple[Body, ...]:
    """Decide that ``owner`` holds the edge; nothing happens if it does already."""
    start, end = command.from_topic, command.to_topic
    check_topics(start, end)
    owners = state.dag.owners(start, end)
    if owner in owners:
        return ()
    if not owners and (loop := state.dag.would_close(start, end)):
        path = " -> ".join(loop)
        raise CyclicException(
            f"edge {start!r} -> {end!r} would close the loop {path}; "
            f"disconnect one of these edges first"
        )
    return (EdgeConnected(start, end, owner, topology_changed=not owners),)


def disconnect(state: GraphState, command: Disconnect, owner: Owner) -> tuple[Body, ...]:
    """Decide that ``owner`` lets the edge go."""
    start, end = command.from_topic, command.to_topic
    check_topics(start, end)
    owners = state.dag.owners(start, end)
    if not owners:
        raise UnknownEdgeError(
            f"there is no edge {start!r} -> {end!r}; list the edges with `ezgraph ls edges`"
        )
    if owner not in owners:
        holders = ", ".join(sorted(describe_owner(state, each) for each in owners))
        raise ForeignEdgeError(
            f"edge {start!r} -> {end!r} is not held by {describe_owner(state, owner)} "
            f"but by {holders}; only who holds it can disconnect it"
        )
    return (EdgeDisconnected(start, end, owner, topology_changed=len(owners) == 1),)


def release_edges(state: GraphState, owner: str) -> list[Body]:
    """Return the events that let go of everything ``owner`` holds."""
    return [
        EdgeDisconnected(start, end, owner, len(state.dag.owners(start, end)) == 1)
        for start, end in state.dag.edges_of(owner)
    ]


def pause(state: GraphState, *, paused: bool) -> tuple[Body, ...]:
    """Decide that publishers pause, or go on; nothing happens if they do already."""
    return () if state.paused is paused else (PauseChanged(paused),)


def describe_owner(state: GraphState, owner: Owner) -> str:
    """Return who an owner is, for a person: id, program, host, pid."""
    if owner is None:
        return PERSISTENT
    session = state.sessions.get(owner)
    if session is None:
        return f"session {owner}"
    source = session.source
    return f"session {owner} ({source.program} on {source.host}, pid {source.pid})"


def check_topics(*topics: str) -> None:
    """Refuse topic names outside the grammar."""
    try:
        topic_of(("edge", *topics))
    except InvalidKeyError as error:
        raise InvalidCommandError(str(error)) from error
