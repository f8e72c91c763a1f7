"""The data nodes of a context: the graphs it serves, and those it reads. Light until it is used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar

from ezgraph.errors import InvalidCommandError, MalformedMessageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ezgraph.client.broker_choice import Broker
    from ezgraph.config import Address
    from ezgraph.graph.declared import Also
    from ezgraph.graph.serving import Hosting, Keeper, ServedGraph
    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.directory import Nodes
    from ezgraph.nodes.kinds import RootNode
    from ezgraph.nodes.server import MaySee, NodeServer
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.replies import Reply

    Call = Callable[[Command, float], Awaitable[Reply]]

T = TypeVar("T")


class Beside(Protocol):
    """Does what may take a while, where that holds up nobody."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Return what it returns."""
        ...


class DataNodes:
    """What a context serves, and what it has opened.

    ``call`` asks the broker in the context's session.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._keeper: Callable[[Hosting], Keeper] | None = None
        self._served: list[ServedGraph] = []
        self._beginning: set[str] = set()
        self._nodes: Nodes | None = None

    def __repr__(self) -> str:
        return f"<DataNodes serves={[each.name for each in self._served]}>"

    # --- serving ---

    def keep_with(self, keeper: Callable[[Hosting], Keeper]) -> None:
        """Have this make what keeps served graphs announced, not a task of the event loop."""
        self._keeper = keeper

    async def serve(
        self,
        root: BaseNode | NodeServer,
        name: str,
        broker: Address,
        *,
        host: str | None,
        port: int,
        advertise: str | None,
        announce: bool,
        may_see: MaySee | None,
        timeout: float,  # noqa: ASYNC109
    ) -> tuple[ServedGraph, int]:
        """Serve a graph; return it with the seq reached. See `GraphContext.serve`."""
        if name in self._beginning or any(each.name == name for each in self._served):
            raise InvalidCommandError(
                f"this context serves a graph {name!r} already; stop() that one first"
            )
        self._beginning.add(name)
        try:
            return await self._serve(
                root,
                name,
                broker,
                host=host,
                port=port,
                advertise=advertise,
                announce=announce,
                may_see=may_see,
                timeout=timeout,
            )
        finally:
            self._beginning.discard(name)

    async def _serve(
        self,
        root: BaseNode | NodeServer,
        name: str,
        broker: Address,
        *,
        host: str | None,
        port: int,
        advertise: str | None,
        announce: bool,
        may_see: MaySee | None,
        timeout: float,  # noqa: ASYNC109
    ) -> tuple[ServedGraph, int]:
        from ezgraph.graph.serving import Hosting, ServedGraph, TaskKeeper, here, listening

        beside: Beside = _in_a_thread if self._keeper is None else here
        hosting = await beside(  # names of hosts are looked up, and the graph is walked through
            lambda: Hosting(
                root,
                name,
                self._call,
                listening(host, advertise, broker),
                port=port,
                announce=announce,
                may_see=may_see,
                beside=beside,
            )
        )
        served = ServedGraph(hosting, (self._keeper or TaskKeeper)(hosting), self._forget)
        self._served.append(served)
        try:
            return served, await served.begin(timeout=timeout)
        except BaseException:
            self._forget(served)
            raise

    def _forget(self, served: ServedGraph) -> None:
        if served in self._served:
            self._served.remove(served)

    def declares(self) -> list[Also]:
        """Return what says again that each graph is served."""
        return [each.declare for each in self._served]

    async def let_go(self) -> list[ServedGraph]:
        """Tell the bus nothing any more; return what is still served, to be ended after that."""
        served = list(self._served)
        for each in served:
            await each.let_go()
        return served

    async def end_all(self) -> None:
        """Serve nothing any more, where the bus knows it already."""
        for each in await self.let_go():
            each.end()

    # --- reading ---

    def nodes(self, broker: Callable[[], Broker]) -> Nodes:
        """Return the graphs that are served, by name; ``broker`` says where to ask."""
        from ezgraph.nodes.directory import Directory, Nodes

        if self._nodes is None:
            self._nodes = Nodes(Directory(broker()))
        return self._nodes

    async def open(
        self, nodes: Nodes, name: str, broker: Address, *, timeout: float  # noqa: ASYNC109
    ) -> RootNode:
        """Return the root of a served graph, without blocking the event loop."""
        from ezgraph.nodes.directory import find_graph

        found = await find_graph(self._call, name, timeout=timeout)
        way = nodes.directory.way(found, broker)
        return await asyncio.to_thread(nodes.open_found, found, way)

    def close(self) -> None:
        """End the connections to those who serve what was opened here."""
        nodes, self._nodes = self._nodes, None
        if nodes is not None:
            nodes.close()


async def _in_a_thread(work: Callable[[], T], /) -> T:
    return await asyncio.to_thread(work)


def no_reply_of(kind: type, command: Command, reply: object) -> MalformedMessageError:
    """Return that a command was answered by something else than it must be."""
    return MalformedMessageError(
        f"{type(command).__name__} was answered with {type(reply).__name__}, not "
        f"{kind.__name__}; is the broker of the same version?"
    )
