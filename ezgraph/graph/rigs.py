"""Rigs to compare: live, at a seq or time, at a tag, or as a value; each as a graph.

Loaded when first asked for: most programs compare nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ezgraph.client.stored_calls import StoredCalls
from ezgraph.clock import Deadline
from ezgraph.errors import InvalidValueError, MalformedMessageError
from ezgraph.graph.restoring import graph_with, named
from ezgraph.graph.time_machine import DEFAULT_GRAPH, When, is_when, state_at
from ezgraph.protocol.differences import GraphDiff, difference
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graphs import Graph, Snapshot
from ezgraph.protocol.listing import SnapshotInfo
from ezgraph.state.content import graph_of
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from ezgraph.graph.sessions import AnySession
    from ezgraph.protocol.commands import Command

T = TypeVar("T")
Rig = When | str | Fingerprint | Snapshot | SnapshotInfo | Graph | GraphState
"""The rig at some time: then, at a tag (``TAG`` or ``NAME@TAG``), ``"live"``, or itself."""


async def snapshot_of(session: AnySession, info: SnapshotInfo, timeout: float) -> Snapshot:  # noqa: ASYNC109
    """Return a stored snapshot with its graph."""
    return await stored(session, timeout).snapshot_of(info)


def stored(session: AnySession, timeout: float) -> StoredCalls:
    """Return the calls on the broker's store, all of them within ``timeout`` seconds."""
    deadline = Deadline(timeout)

    async def ask(command: Command, kind: type[T], /) -> T:
        reply = await session.call(command, timeout=deadline.left())
        if not isinstance(reply, kind):
            raise MalformedMessageError(f"{type(command).__name__} was answered with {reply!r:.60}")
        return reply

    return StoredCalls(ask)


async def difference_between(
    session: AnySession, old: Rig, new: Rig, name: str | None, timeout: float  # noqa: ASYNC109
) -> GraphDiff:
    """Return what differs between two rigs; see `GraphContext.diff`."""
    deadline = Deadline(timeout)
    before = await graph_at(session, old, name, deadline.left())
    return difference(before, await graph_at(session, new, name, deadline.left()))


async def graph_at(
    session: AnySession, rig: Rig, name: str | None, timeout: float  # noqa: ASYNC109
) -> Graph:
    """Return the graph that ``rig`` stands for; ``name`` is that of the graph a tag is of."""
    match rig:
        case Graph():
            return rig
        case Snapshot(graph=graph):
            return graph
        case GraphState():
            return graph_of(rig, name or DEFAULT_GRAPH)
        case "live":
            state, _ = await session.fetch_state(timeout=timeout)
            return graph_of(state, name or DEFAULT_GRAPH)
        case str() | Fingerprint():
            return await _kept(session, rig, name, timeout)
        case SnapshotInfo():
            return await _kept(session, rig.fingerprint, rig.name, timeout)
        case _:
            if not is_when(rig):
                raise InvalidValueError(
                    f"{rig!r:.60} names no rig: give a tag, a seq, a time, 'live', or a Snapshot"
                )
            state = await state_at(session, rig, timeout)
            return graph_of(state, name or DEFAULT_GRAPH)


async def _kept(
    session: AnySession, what: str | Fingerprint, name: str | None, timeout: float  # noqa: ASYNC109
) -> Graph:
    """Return the graph of a stored snapshot, by its tag or fingerprint."""
    deadline = Deadline(timeout)
    if isinstance(what, str) and name is None and "@" in what:
        name, _, what = what.partition("@")
    tag, fingerprint = named(what)
    if name is None:
        name = await graph_with(session, tag, fingerprint, deadline)
    calls = stored(session, deadline.left())
    if fingerprint is not None:
        return await calls.read_graph(name, fingerprint)
    return (await calls.read_snapshot_tag(name, tag or "")).graph
