"""How a context opens its session: the probe, and a broker of its own if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ezgraph.clock import Deadline
from ezgraph.errors import AddressInUseError, BrokerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.client.broker_choice import Broker
    from ezgraph.client.core import LeaseState
    from ezgraph.client.engine import Feed
    from ezgraph.client.resumption import ResumeToken, Resumption
    from ezgraph.client.watch import Watch
    from ezgraph.config import Address, ClientKeys
    from ezgraph.graph.server import GraphServer
    from ezgraph.names import Key
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.replies import Reply, Welcome
    from ezgraph.protocol.routed import Routed
    from ezgraph.state.graph import GraphState

PROBE_S = 0.5
SNAPSHOT_ROOMS = (
    "session",
    "process",
    "graph",
    "component",
    "edge",
    "control",
    "settings.live",
    "node.graph",
)
"""What a `GraphSnapshot` is made of, beside the configuration.

Initial settings stand in the components' metadata.
"""


class AnySubscription(Protocol):
    """Items in order; both shells have it."""

    def __aiter__(self) -> AnySubscription:
        """Return itself."""
        ...

    async def __anext__(self) -> object:
        """Return the next item."""
        ...

    def take_arrived(self) -> object | None:
        """Return the next item if it is there already."""
        ...

    async def aclose(self) -> None:
        """End it."""
        ...


class AnySession(Protocol):
    """What both shells offer; see `ezgraph.client.aio.Session`."""

    @property
    def state(self) -> LeaseState:
        """Where this client stands."""
        ...

    @property
    def client_id(self) -> str | None:
        """The public id of the lease."""
        ...

    @property
    def welcome(self) -> Welcome | None:
        """What the broker said."""
        ...

    @property
    def address(self) -> Address:
        """The address that is dialled now."""
        ...

    @property
    def resumption(self) -> Resumption | None:
        """What became of the lease when it was last come back to."""
        ...

    @property
    def patience_s(self) -> float:
        """How long a watcher hears nothing before it gives up, in seconds."""
        ...

    @property
    def resume_token(self) -> ResumeToken:
        """What another program shows to go on with this lease."""
        ...

    on_handed: Callable[[Routed], None]
    """Called with each request to a unit that this process runs."""

    def check_owner(self) -> None:
        """Raise `ContextClosedError` in a process that inherited it by fork."""
        ...

    def abandon(self) -> None:
        """Close without a word."""
        ...

    async def open(self, *, timeout: float = ...) -> None:  # noqa: ASYNC109
        """Join."""
        ...

    async def reopen(self, *, timeout: float = ...) -> bool:  # noqa: ASYNC109
        """Open a new lease in place of one that is lost."""
        ...

    async def close(self) -> None:
        """Leave."""
        ...

    async def call(self, command: Command, *, timeout: float = ...) -> Reply:  # noqa: ASYNC109
        """Ask."""
        ...

    async def fetch_state(
        self, rooms: Sequence[str] = ..., *, timeout: float = ...  # noqa: ASYNC109
    ) -> tuple[GraphState, int]:
        """Fetch the state at one seq."""
        ...

    def watch(
        self,
        prefix: Key = ...,
        after: int | None = ...,
        *,
        start_with_snapshot: bool = ...,
        with_state: bool = ...,
    ) -> AnySubscription:
        """Subscribe."""
        ...

    def open_feed(self, watch: Watch, on_ready: Callable[[], None]) -> Feed:
        """Feed a watcher."""
        ...

    def serve_feed(self, feed: Feed) -> None:
        """Look at a watcher again."""
        ...

    def close_feed(self, feed: Feed) -> None:
        """Feed it no longer."""
        ...

    async def until(self, reached: Callable[[], bool], *, timeout: float, what: str) -> None:  # noqa: ASYNC109
        """Wait."""
        ...


class SessionFactory(Protocol):
    """Makes a session of one shell that is not open yet."""

    def __call__(
        self,
        addresses: Sequence[Address],
        *,
        kind: str = ...,
        program: str | None = ...,
        ttl_s: float | None = ...,
        patience_s: float = ...,
        resume: ResumeToken | None = ...,
        keys: ClientKeys | None = ...,
    ) -> AnySession:
        """Return it."""
        ...


async def open_session(
    make: Callable[[Broker], AnySession],
    broker: Broker,
    *,
    auto_start: bool | None,
    timeout: float,  # noqa: ASYNC109
) -> tuple[AnySession, GraphServer | None]:
    """Return an open session, and the broker that had to be started for it, if any.

    Raises:
        BrokerUnreachableError: nobody answered, and none was to be started.
    """
    deadline = Deadline(timeout)
    session = make(broker)
    if not (broker.may_start if auto_start is None else auto_start):
        await session.open(timeout=timeout)
        return session, None
    try:
        await session.open(timeout=min(PROBE_S, timeout))
    except BrokerUnreachableError:
        server = start_unless_taken(broker.addresses[0])
        session = make(broker)
        try:
            await session.open(timeout=deadline.left())
        except BaseException:
            if server is not None:
                server.stop()
            raise
        return session, server
    return session, None


def start_unless_taken(address: Address) -> GraphServer | None:
    """Start a broker; when somebody took the address meanwhile, they are the broker."""
    from ezgraph.graph.server import GraphServer  # the broker loads only where it is started

    try:
        return GraphServer().start(address)
    except AddressInUseError:
        return None
