"""`GraphService`: what is done to a rig without owning a part of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeVar

from ezgraph.client import aio
from ezgraph.client.broker_choice import Broker, KeysLike, choose_broker
from ezgraph.clock import Deadline
from ezgraph.config import DEFAULT_TIMEOUT_S, AddressesLike
from ezgraph.errors import BrokerUnreachableError, DeadlineError, MalformedMessageError
from ezgraph.graph.sessions import (
    PROBE_S,
    SNAPSHOT_ROOMS,
    AnySession,
    SessionFactory,
    start_unless_taken,
)
from ezgraph.protocol.commands import (
    Command,
    Connect,
    Disconnect,
    GetStatus,
    ListClients,
    SetPause,
    Shutdown,
    Sync,
)
from ezgraph.protocol.drawing import Direction, graphviz, mermaid
from ezgraph.protocol.replies import ClientList, Done, StatusReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ezgraph.graph.server import GraphServer
    from ezgraph.protocol.snapshot import ClientInfo, GraphSnapshot
    from ezgraph.state.dag import DAG
    from ezgraph.state.graph import GraphState

T = TypeVar("T")


class GraphService:
    """Persistent edges, pictures, pausing, starting and stopping; needs no session.

    Each call joins the broker as a guest and leaves again. Arguments as for `GraphContext`.
    """

    def __init__(
        self,
        address: AddressesLike | None = None,
        *,
        keys: KeysLike | None = None,
        session_factory: SessionFactory | None = None,
    ) -> None:
        self._given = address
        self._broker: Broker = choose_broker(address, keys)
        self._make: SessionFactory = session_factory or aio.Session

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {','.join(map(str, self._broker.addresses))}>"

    # --- changing ---

    async def connect(
        self,
        from_topic: str,
        to_topic: str,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> int:
        """Make a persistent edge, which no session's end removes; return the seq reached."""
        return (await self._ask(Connect(from_topic, to_topic, reason), Done, timeout)).seq

    async def disconnect(
        self,
        from_topic: str,
        to_topic: str,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> int:
        """Remove a persistent edge; return the seq reached."""
        return (await self._ask(Disconnect(from_topic, to_topic, reason), Done, timeout)).seq

    async def pause(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:  # noqa: ASYNC109
        """Ask publishers of samples to pause; return the seq reached."""
        return (await self._ask(SetPause(paused=True), Done, timeout)).seq

    async def resume(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:  # noqa: ASYNC109
        """Ask publishers of samples to go on; return the seq reached."""
        return (await self._ask(SetPause(paused=False), Done, timeout)).seq

    async def sync(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:  # noqa: ASYNC109
        """Return, with the head, when everything that arrived before has been applied."""
        return (await self._ask(Sync(), Done, timeout)).seq

    async def shutdown(
        self, force: bool = False, *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109, FBT001, FBT002
    ) -> None:
        """Stop the broker.

        Raises:
            LiveSessionsError: sessions use it; the message counts them. ``force`` stops it anyway.
        """
        await self._ask(Shutdown(force), Done, timeout)

    # --- asking ---

    async def dag(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> DAG:  # noqa: ASYNC109
        """Return the edges and their owners."""
        return (await self._state(["edge"], timeout)).dag

    async def snapshot(
        self, *, with_config: bool = True, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> GraphSnapshot:
        """Return the state of the rig at one seq; see `GraphContext.snapshot`."""
        rooms = (*SNAPSHOT_ROOMS, "config") if with_config else SNAPSHOT_ROOMS
        snapshot = (await self._state(rooms, timeout)).snapshot()
        return snapshot if with_config else replace(snapshot, config=None)

    async def status(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> StatusReport:  # noqa: ASYNC109
        """Return how the broker is."""
        return await self._ask(GetStatus(), StatusReport, timeout)

    async def clients(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> tuple[ClientInfo, ...]:  # noqa: ASYNC109
        """Return everybody who holds a lease, oldest first."""
        return tuple((await self._ask(ListClients(), ClientList, timeout)).clients)

    async def get_formatted_graph(
        self,
        fmt: Literal["mermaid", "graphviz"] = "mermaid",
        *,
        direction: Direction = "LR",
        compact_level: int | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> str:
        """Return the wiring as text that Mermaid or Graphviz draws.

        Args:
            fmt: which of the two.
            direction: LR, RL, TB or BT.
            compact_level: how many levels of component addresses to leave out; None: none.
            timeout: in seconds.
        """
        draw = {"mermaid": mermaid, "graphviz": graphviz}[fmt]
        snapshot = await self.snapshot(with_config=False, timeout=timeout)
        return draw(snapshot, direction=direction, compact_level=compact_level)

    # --- starting ---

    def create_server(self) -> GraphServer:
        """Start a broker in this process and return it; on a free port if no address was given."""
        from ezgraph.graph.server import GraphServer

        if self._given is None:
            return GraphServer().start()
        return GraphServer(self._broker.addresses[0]).start()

    async def ensure(
        self, *, auto_start: bool | None = None, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> GraphServer | None:
        """See to it that a broker answers; return the one that had to be started, if any.

        Raises:
            BrokerUnreachableError: nobody answered, and none was to be started.
        """
        may_start = self._broker.may_start if auto_start is None else auto_start
        deadline = Deadline(timeout)
        try:
            await self.sync(timeout=min(PROBE_S, timeout) if may_start else timeout)
        except BrokerUnreachableError:
            if not may_start:
                raise
            server = start_unless_taken(self._broker.addresses[0])
            await self.sync(timeout=deadline.left())
            return server
        return None

    # --- inside ---

    @asynccontextmanager
    async def _guest(self, timeout: float) -> AsyncIterator[AnySession]:  # noqa: ASYNC109
        session = self._make(self._broker.addresses, kind="guest", keys=self._broker.keys)
        await session.open(timeout=timeout)
        try:
            yield session
        except DeadlineError:
            session.abandon()  # who does not answer will not answer a goodbye
            raise
        finally:
            await session.close()

    async def _ask(self, command: Command, kind: type[T], timeout: float) -> T:  # noqa: ASYNC109
        deadline = Deadline(timeout)
        async with self._guest(timeout) as session:
            reply = await session.call(command, timeout=deadline.left())
        if not isinstance(reply, kind):
            raise MalformedMessageError(
                f"{type(command).__name__} was answered with {type(reply).__name__}, "
                f"not {kind.__name__}; is the broker of the same version?"
            )
        return reply

    async def _state(self, rooms: Sequence[str], timeout: float) -> GraphState:  # noqa: ASYNC109
        deadline = Deadline(timeout)
        async with self._guest(timeout) as session:
            state, _ = await session.fetch_state(rooms, timeout=deadline.left())
        return state



