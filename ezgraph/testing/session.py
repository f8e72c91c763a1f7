"""A session on the simulated network, so that contexts run there unchanged.

Its methods are coroutines that never suspend: they let time pass on the network instead. So
`ezgraph.client.blocking.run` drives a `GraphContext` made with ``session_factory``::

    context = GraphContext(str(ADDRESS), session_factory=simulated_sessions(network))
    run(context.open())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ezgraph.config import DEFAULT_TIMEOUT_S, Address, ClientKeys, parse_address
from ezgraph.errors import ContextClosedError, DivergedError, EzGraphError
from ezgraph.protocol.commands import Command, Goodbye, Sync
from ezgraph.testing.client import SimulatedClient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.client.core import LeaseState
    from ezgraph.client.engine import Feed
    from ezgraph.client.resumption import ResumeToken, Resumption
    from ezgraph.client.watch import Watch
    from ezgraph.graph.sessions import SessionFactory
    from ezgraph.names import Key
    from ezgraph.protocol.replies import Reply, Welcome
    from ezgraph.protocol.routed import Routed
    from ezgraph.state.graph import GraphState
    from ezgraph.testing.client import WatchRecord
    from ezgraph.testing.network import Network


def simulated_sessions(network: Network) -> SessionFactory:
    """Return what a `GraphContext` takes as ``session_factory`` to live on ``network``."""

    def make(
        addresses: Sequence[Address],
        *,
        kind: str = "session",
        program: str | None = None,
        ttl_s: float | None = None,
        patience_s: float = 60.0,
        resume: ResumeToken | None = None,
        keys: ClientKeys | None = None,  # noqa: ARG001 - there are none on this network
    ) -> SimulatedSession:
        def new_client(predecessor: ResumeToken | None) -> SimulatedClient:
            return SimulatedClient(
                network,
                f"{program or 'program'} {network.number()}",
                kind=kind,
                addresses=addresses,
                ttl_s=ttl_s,
                patience_s=patience_s,
                resume=predecessor,
            )

        return SimulatedSession(new_client, resume)

    return make


class SimulatedSession:
    """What `ezgraph.client.aio.Session` is, on the simulated network; ``client`` does the work."""

    def __init__(
        self,
        new_client: Callable[[ResumeToken | None], SimulatedClient],
        resume: ResumeToken | None = None,
    ) -> None:
        self._new_client = new_client
        self.client = new_client(resume)
        self.on_handed: Callable[[Routed], None] = lambda _: None
        self._hear()

    def _hear(self) -> None:
        self.client.engine.on_handed = lambda request: self.on_handed(request)

    def __repr__(self) -> str:
        return f"<SimulatedSession {self.client!r}>"

    @property
    def state(self) -> LeaseState:
        """Where this client stands with the broker."""
        return self.client.engine.core.state

    @property
    def welcome(self) -> Welcome | None:
        """What the broker said at the last HELLO or RESUME."""
        return self.client.engine.core.welcome

    @property
    def client_id(self) -> str | None:
        """The public id of the lease."""
        return self.client.lease_id or None

    @property
    def address(self) -> Address:
        """The address that is dialled now."""
        return parse_address(self.client.engine.core.address)

    @property
    def resumption(self) -> Resumption | None:
        """What became of the lease when it was last come back to."""
        return self.client.engine.core.resumption

    @property
    def patience_s(self) -> float:
        """How long a watcher hears nothing before it gives up, in seconds."""
        return self.client.engine.patience_s

    @property
    def resume_token(self) -> ResumeToken:
        """What another program shows to go on with this lease."""
        return self.client.resume_token

    def check_owner(self) -> None:
        """There is but one process here."""

    def abandon(self) -> None:
        """Hang up without a word."""
        self.client.crash()

    async def reopen(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> bool:  # noqa: ASYNC109
        """Open a new lease in place of one that is lost; return whether that was needed."""
        if self.client.lost is None:
            return False
        diverged = isinstance(self.client.lost, DivergedError)
        token = self.client.resume_token if diverged else None
        self.client.crash()
        self.client = self._new_client(token)
        self._hear()
        await self.open(timeout=timeout)
        return True

    async def open(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:  # noqa: ASYNC109
        """Join the broker."""
        self.client.start()
        await self.call(Sync(), timeout=timeout)

    async def close(self) -> None:
        """Say goodbye and hang up."""
        call = self.client.call(Goodbye(), timeout=1.0)
        self.client.network.run_until(lambda: call.ended is not None, 1.1)
        self.client.crash()

    async def call(self, command: Command, *, timeout: float = DEFAULT_TIMEOUT_S) -> Reply:  # noqa: ASYNC109
        """Return the broker's reply, having let time pass until it came."""
        call = self.client.call(command, timeout=timeout)
        self.client.network.run_until(lambda: call.ended is not None, timeout + 1.0)
        if isinstance(call.result, EzGraphError):
            raise call.result
        if call.result is None:
            raise AssertionError(f"G9: {call} has not ended")
        return call.result

    async def fetch_state(
        self, rooms: Sequence[str] = (), *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> tuple[GraphState, int]:
        """Return the state (or some rooms of it) at one seq, and the floor."""
        taken: list[tuple[GraphState | EzGraphError, int]] = []
        network, engine = self.client.network, self.client.engine
        deadline = self.client.deadline_in(timeout)
        engine.pull_snapshot(list(rooms), deadline, lambda *each: taken.append(each))
        network.run_until(lambda: bool(taken), timeout + 1.0)
        state, floor = taken[0]
        if isinstance(state, EzGraphError):
            raise state
        return state, floor

    def watch(
        self,
        prefix: Key = (),
        after: int | None = None,
        *,
        start_with_snapshot: bool = False,
        with_state: bool = True,
    ) -> _Items:
        """Return what a watcher is given, as an async iterator that never suspends."""
        if start_with_snapshot:
            raise ContextClosedError("only replicas start with a snapshot here")
        return _Items(self.client, self.client.watch(prefix, after, with_state=with_state))

    def open_feed(self, watch: Watch, on_ready: Callable[[], None]) -> Feed:
        """Feed a watcher."""
        return self.client.open_feed(watch, on_ready)

    def serve_feed(self, feed: Feed) -> None:
        """Look at a watcher again."""
        self.client.serve_feed(feed)

    def close_feed(self, feed: Feed) -> None:
        """Feed it no longer."""
        self.client.close_feed(feed)

    async def until(self, reached: Callable[[], bool], *, timeout: float, what: str) -> None:  # noqa: ASYNC109
        """Let time pass until ``reached()``."""
        await self.client.until(reached, timeout=timeout, what=what)


class _Items:
    """The items of a watcher, one by one."""

    def __init__(self, client: SimulatedClient, record: WatchRecord) -> None:
        self._record = record
        self._client = client
        self._taken = 0

    def __aiter__(self) -> _Items:
        return self

    async def __anext__(self) -> object:
        """Return the next item, having let time pass until it came."""
        items = self._record.items
        await self._client.until(
            lambda: len(items) > self._taken or self._record.watch.error is not None,
            timeout=60.0,
            what="the next item",
        )
        if len(items) == self._taken and self._record.watch.error is not None:
            raise self._record.watch.error
        self._taken += 1
        return items[self._taken - 1]

    def take_arrived(self) -> Any:  # noqa: ANN401
        """Return the next item if it is there already."""
        if len(self._record.items) == self._taken:
            return None
        self._taken += 1
        return self._record.items[self._taken - 1]

    async def aclose(self) -> None:
        """End it."""
        if self._record.feed is not None:
            self._client.engine.close_feed(self._record.feed)
