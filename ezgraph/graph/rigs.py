"""Rigs to compare: live, at a seq or time, at a tag, or as a value; each as a graph.

Loaded when first asked for: most programs compare nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ezgraph.client.stored_calls import StoredCalls
from ezgraph.clock import Deadline
from ezgraph.errors import InvalidValueError, MalformedMessageError, UnknownTagError
from ezgraph.graph.time_machine import DEFAULT_GRAPH, When, is_when, state_at
from ezgraph.protocol.differences import GraphDiff, difference
from ezgraph.protocol.graphs import Graph, Snapshot
from ezgraph.state.content import graph_of
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from ezgraph.graph.sessions import AnySession
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.listing import SnapshotInfo

T = TypeVar("T")
Rig = When | str | Snapshot | Graph | GraphState
"""The rig at some time: then, at a tag (``TAG`` or ``NAME@TAG``), ``"live"``, or itself."""


async def snapshot_of(session: AnySession, info: SnapshotInfo, timeout: float) -> Snapshot:  # noqa: ASYNC109
    """Return a stored snapshot with its graph."""
    graph = await stored(session, timeout).read_graph(info.name, info.fingerprint)
    return Snapshot(graph, info.seq, info.epoch, info.time, info.fingerprint, info.reason)


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
        case str():
            return await _tagged(session, rig, name, timeout)
        case _:
            if not is_when(rig):
                raise InvalidValueError(
                    f"{rig!r:.60} names no rig: give a tag, a seq, a time, 'live', or a Snapshot"
                )
            state = await state_at(session, rig, timeout)
            return graph_of(state, name or DEFAULT_GRAPH)


async def _tagged(
    session: AnySession, text: str, name: str | None, timeout: float  # noqa: ASYNC109
) -> Graph:
    calls = stored(session, timeout)
    if name is None and "@" in text:
        name, _, text = text.partition("@")
    if name is None:
        name = await _graph_with(calls, text)
    return (await calls.read_snapshot_tag(name, text)).graph


async def _graph_with(calls: StoredCalls, tag: str) -> str:
    """Return the name of the one graph that has this tag.

    Raises:
        UnknownTagError: none has it.
        InvalidValueError: several have it.
    """
    found: list[str] = []
    after = None
    while True:
        page = await calls.list_tags(after=after)
        found += [each.name for each in page if each.tag == tag]
        if (after := page.next_after) is None:
            break
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnknownTagError(
            f"no graph has a tag {tag!r}; `ezgraph tags` lists those there are. A rig is named "
            f"by a tag, a seq, a time, 'live', or a Snapshot"
        )
    raise InvalidValueError(
        f"several graphs have a tag {tag!r}: {', '.join(found)}; say which, as in "
        f"{f'{found[0]}@{tag}'!r}"
    )
