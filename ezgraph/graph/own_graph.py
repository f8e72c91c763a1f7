"""The data nodes of a `GraphServer`: answered for in this program, and served on its bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ezgraph.client.blocking import Session, run
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ezgraph.client.broker_choice import KeysLike
    from ezgraph.config import Address, BrokerConfig
    from ezgraph.graph.serving import ServedGraph
    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.server import NodeServer
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.replies import Reply

NAME = "root"
"""What the graph is called on the bus."""


class OwnGraph:
    """A graph that belongs to a broker's program. It is served in a session of its own."""

    def __init__(self, keys: KeysLike | None) -> None:
        self._keys = keys
        self._server: NodeServer | None = None
        self._session: Session | None = None
        self._served: ServedGraph | None = None

    def __repr__(self) -> str:
        return f"<OwnGraph {self._server!r} {self._served!r}>"

    def load(self, root: BaseNode) -> None:
        """Answer for the graph that begins there, in place of the one before."""
        from ezgraph.nodes.base import BaseNode
        from ezgraph.nodes.server import NodeServer

        if not isinstance(root, BaseNode):
            raise NodeError(
                f"{type(root).__name__} is no node: give GraphServer a RootNode, or the address "
                f"where it is to listen"
            )
        if self._server is None:
            self._server = NodeServer(root, name=NAME)
        else:
            self._server.load_graph(root)

    def request(self, message: Mapping[str, Any]) -> bytes:
        """Return the encoded answer to a request."""
        if self._server is None:
            raise NodeError(
                "this GraphServer has no graph of nodes: make it with one, GraphServer(root), or "
                "give it one with load_graph(root)"
            )
        return self._server.request(message)

    def begin(self, address: Address, config: BrokerConfig) -> None:
        """Serve the graph on the bus of this program's broker, if there is one, and not yet."""
        if self._server is None or self._served is not None:
            return
        from ezgraph.graph.serving import Hosting, ServedGraph, ThreadKeeper, listening
        from ezgraph.keys.broker_keys import keys_beside  # files are read only where meant

        keys = keys_beside(config, self._keys, address)
        session = Session((address,), program="ezgraph GraphServer", keys=keys)

        async def call(command: Command, timeout: float) -> Reply:  # noqa: ASYNC109
            return await session.call(command, timeout=timeout)

        async def recover() -> None:
            if await session.reopen(timeout=DEFAULT_TIMEOUT_S):
                await hosting.declare(timeout=DEFAULT_TIMEOUT_S)

        hosting = Hosting(self._server, NAME, call, listening(None, None, address))
        served = ServedGraph(hosting, ThreadKeeper(hosting, recover), lambda _: None)
        try:
            run(session.open())
            run(served.begin(timeout=DEFAULT_TIMEOUT_S))
        except BaseException:
            run(session.close())
            raise
        self._session, self._served = session, served

    def end(self) -> None:
        """Serve it on the bus no longer; it is still answered for in this program."""
        served, self._served = self._served, None
        session, self._session = self._session, None
        if served is None or session is None:
            return
        run(served.let_go())
        run(session.close())
        served.end()
