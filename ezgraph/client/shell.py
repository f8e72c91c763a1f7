"""What the asyncio and the blocking session share: one lease, its sockets, engine, keep-alive."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ezgraph.client.core import LeaseState
from ezgraph.client.engine import ClientEngine
from ezgraph.client.identity import hello
from ezgraph.client.keepalive import KeepAlive
from ezgraph.client.sockets import ClientSockets
from ezgraph.clock import Clock, SystemClock
from ezgraph.config import DEFAULT_TIMEOUT_S, Address, parse_address
from ezgraph.errors import ContextClosedError, DeadlineError, EzGraphError, from_code
from ezgraph.protocol.commands import Command, Goodbye

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.protocol.replies import Reply, Welcome

_GOODBYE_S = 1.0


class Shell(ABC):
    """A lease on a broker; a subclass brings the way of waiting.

    Args:
        addresses: where brokers may be, tried in turn.
        kind: ``session`` owns edges and metadata, ``process`` owns units, ``guest`` owns nothing.
        program: the name this program is listed under; None: the script's.
        ttl_s: how long the broker waits in silence before the lease ends; None: its default.
        patience_s: how long a watcher hears nothing before it gives up.
        clock: what time it is; None: this machine's.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        kind: str = "session",
        program: str | None = None,
        ttl_s: float | None = None,
        patience_s: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        self._addresses = tuple(addresses)
        self._hello = hello(kind, program=program, ttl_s=ttl_s)
        self._clock = clock or SystemClock()
        self._patience_s = patience_s
        self._sockets: ClientSockets | None = None
        self._engine: ClientEngine | None = None
        self._keepalive: KeepAlive | None = None
        self._moved = 0.0
        self._pid = os.getpid()

    def __repr__(self) -> str:
        where = self._engine.core.address if self._engine else ",".join(map(str, self._addresses))
        kind, state = self._hello.kind, self.state.value
        return f"<{type(self).__module__}.Session {kind} {where} {state} id={self.client_id}>"

    @property
    def state(self) -> LeaseState:
        """Where this client stands with the broker."""
        return self._engine.core.state if self._engine else LeaseState.NEW

    @property
    def welcome(self) -> Welcome | None:
        """What the broker said at the last HELLO or RESUME."""
        return self._engine.core.welcome if self._engine else None

    @property
    def client_id(self) -> str | None:
        """The public id of the lease."""
        return self.welcome.client if self.welcome else None

    @property
    def address(self) -> Address:
        """The address that is dialled now."""
        return parse_address(self._engine.core.address) if self._engine else self._addresses[0]

    @abstractmethod
    async def call(self, command: Command, *, timeout: float = DEFAULT_TIMEOUT_S) -> Reply:  # noqa: ASYNC109
        """Return the broker's reply to ``command``.

        Raises:
            RefusedError: the broker refused it; nothing changed.
            DeadlineError: there was no answer in ``timeout`` seconds.
            SessionError: the lease is lost or closed.
        """

    @abstractmethod
    def _shut(self) -> None:
        """Close the sockets and fail whatever waits."""

    async def close(self) -> None:
        """Say goodbye and close; what the lease owned ends with it. May be called twice."""
        if self._sockets is None or os.getpid() != self._pid:
            return  # closed before, or inherited by fork: the parent's to close
        try:
            if self.state is LeaseState.BOUND:
                await self.call(Goodbye(), timeout=_GOODBYE_S)
        except EzGraphError:
            pass  # the broker is gone, or the lease is: either way it is over
        finally:
            self._shut()

    # --- for the subclasses ---

    def _make_engine(self) -> tuple[ClientSockets, ClientEngine]:
        self._pid = os.getpid()
        self._sockets = ClientSockets()
        self._engine = ClientEngine(
            self._hello, self._addresses, self._sockets, self._clock, patience_s=self._patience_s
        )
        return self._sockets, self._engine

    def _start_keepalive(self) -> None:
        """Renew the lease from a thread of its own; a guest owns nothing worth it."""
        if self._hello.kind != "guest" and self.welcome is not None:
            self._keepalive = KeepAlive(self.address, self.welcome, self._main_loop_age_s)
            self._keepalive.start()

    def _main_loop_age_s(self) -> float:
        return self._clock.monotonic() - self._moved

    def _open_engine(self) -> ClientEngine:
        if self._engine is None or self._sockets is None:
            raise ContextClosedError(
                "this client is not open; use `async with` (or `with` in ezgraph.sync), "
                "or open it first"
            )
        if os.getpid() != self._pid:
            raise ContextClosedError(
                f"this client was opened in process {self._pid} and inherited by fork in "
                f"{os.getpid()}; its sockets belong to the first: open a new one here"
            )
        self._notice_loss(self._engine)
        return self._engine

    def _notice_loss(self, engine: ClientEngine) -> None:
        """The keep-alive is told first when the lease is over."""
        lost = self._keepalive.lost if self._keepalive else None
        if lost is not None and engine.core.error is None:
            engine.core.state = LeaseState.LOST
            engine.core.error = from_code(lost.code, lost.message)

    def _late(self, what: str, timeout: float) -> DeadlineError:
        return DeadlineError(
            f"{what} did not happen within {timeout:g} s at {self.address}; "
            f"the broker is busy or cut off: see `ezgraph status`"
        )
