"""What the asyncio and the blocking session share: one lease, its sockets, engine, keep-alive."""

from __future__ import annotations

import os
import random
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from ezgraph.client.core import DEFAULT_TTL_S, LeaseState
from ezgraph.client.engine import ClientEngine
from ezgraph.client.identity import hello, new_nonce
from ezgraph.client.keepalive import KeepAlive
from ezgraph.client.resumption import ResumeToken
from ezgraph.client.sockets import ClientSockets
from ezgraph.clock import Clock, Deadline, SystemClock
from ezgraph.config import DEFAULT_TIMEOUT_S, Address, ClientKeys, parse_address
from ezgraph.errors import (
    ContextClosedError,
    DeadlineError,
    DivergedError,
    EzGraphError,
    NoSessionError,
)
from ezgraph.protocol.commands import Command, Goodbye, Revert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.client.resumption import Resumption
    from ezgraph.protocol.replies import Reply, Welcome
    from ezgraph.protocol.routed import Routed

_GOODBYE_S = 1.0


class Shell(ABC):
    """A lease on a broker; a subclass brings the way of waiting.

    Args:
        addresses: where brokers may be, tried in turn.
        kind: ``session`` owns edges and metadata, ``process`` owns units, ``guest`` owns nothing.
        program: the name this program is listed under; None: the script's.
        ttl_s: how long the broker waits in silence before the lease ends; None: its default.
        patience_s: how long a watcher hears nothing before it gives up.
        resume: the token of a program that is gone, whose lease this one goes on with.
        keys: what this client proves itself with; None: nothing, for a broker without keys.

    ``on_handed`` is called with each request to a unit that this process runs.
        clock: what time it is; None: this machine's.
    """

    engine_class: type[ClientEngine] = ClientEngine
    """What does the work; a recorder puts its own in its place."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        kind: str = "session",
        program: str | None = None,
        ttl_s: float | None = None,
        patience_s: float = 60.0,
        resume: ResumeToken | None = None,
        keys: ClientKeys | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._addresses = tuple(addresses)
        self._keys = keys
        self._hello = hello(kind, program=program, ttl_s=ttl_s)
        self._predecessor = resume
        self._clock = clock or SystemClock()
        self._patience_s = patience_s
        self._sockets: ClientSockets | None = None
        self._engine: ClientEngine | None = None
        self._keepalive: KeepAlive | None = None
        self._must_reopen = False
        self._leftovers: ResumeToken | None = None
        self.on_handed: Callable[[Routed], None] = lambda _: None
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
    def resumption(self) -> Resumption | None:
        """What became of the lease when it was last come back to; None: it never was."""
        return self._engine.core.resumption if self._engine else None

    @property
    def patience_s(self) -> float:
        """How long a watcher hears nothing before it gives up, in seconds."""
        return self._patience_s

    @property
    def resume_token(self) -> ResumeToken:
        """What another program shows to go on with this lease.

        Raises:
            NoSessionError: there is no lease yet.
        """
        if self._engine is None or (welcome := self.welcome) is None:
            raise NoSessionError("this client has no lease yet, and so no token: open it first")
        if self._hello.kind == "guest":
            raise NoSessionError("a guest owns nothing that another program could take over")
        return ResumeToken(
            self._hello.kind,
            welcome.client,
            welcome.token,
            welcome.cluster_id,
            welcome.epoch,
            max(self._engine.core.last_seq, welcome.head),
        )

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

    @abstractmethod
    async def open(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:  # noqa: ASYNC109
        """Join the broker."""

    @abstractmethod
    async def reopen(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> bool:  # noqa: ASYNC109
        """Open a new lease in place of one that is lost; return whether that was needed.

        Several who ask take turns: the first one opens it for all.
        """

    async def _reopen(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Do what `reopen` says, when it is our turn.

        Nothing of the old one comes with it. If it fails, it can be tried again.

        Where a restored backup still knows the old lease (`DivergedError`), that one is taken
        over, so that its leftovers stand in nobody's way; `resumption` says so.
        """
        if self.state is LeaseState.LOST and self._engine is not None:
            has_leftovers = isinstance(self._engine.core.error, DivergedError)
            self._leftovers = self.resume_token if has_leftovers else None
            self._must_reopen = True
            self._shut()
        if not self._must_reopen:
            return False
        deadline = Deadline(timeout, self._clock)
        self._predecessor = self._leftovers
        self._hello = replace(self._hello, nonce=new_nonce())
        await self.open(timeout=timeout)
        if self._leftovers is not None:
            try:
                await self.call(Revert(), timeout=deadline.left())
            except BaseException:
                self._shut()  # and begin anew when this is called again
                raise
        self._must_reopen, self._leftovers = False, None
        return True

    def abandon(self) -> None:
        """Close without a word; the broker learns it from the closed connection."""
        if os.getpid() == self._pid:
            self._shut()

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
        self._sockets = ClientSockets(
            self._hello.ttl_s or DEFAULT_TTL_S,
            has_keepalive=self._hello.kind != "guest",
            keys=self._keys,
        )
        self._engine = self.engine_class(
            self._hello,
            self._addresses,
            self._sockets,
            self._clock,
            patience_s=self._patience_s,
            predecessor=self._predecessor,
            jitter=random.random,
            on_bound=self._bound_at,
            key_name=self._keys.name if self._keys is not None else None,
        )
        self._engine.on_handed = lambda request: self.on_handed(request)
        self._predecessor = None
        self._keepalive = None
        return self._sockets, self._engine

    def _bound_at(self, address: Address) -> None:
        if self._keepalive is not None:
            self._keepalive.follow(address)

    def _start_keepalive(self) -> None:
        """Renew the lease from a thread of its own; a guest owns nothing worth it."""
        if self._hello.kind != "guest" and self.welcome is not None and self._engine is not None:
            self._keepalive = KeepAlive(
                self._addresses,
                self.address,
                self._engine.core.hello,
                self.welcome,
                self._main_loop_age_s,
                self._keepalive_has_news,
                keys=self._keys,
            )
            self._keepalive.start()

    def _keepalive_has_news(self) -> None:  # noqa: B027 - who polls needs no telling
        """Called in the keep-alive's thread: see to it that the main loop looks at it soon."""

    def _main_loop_age_s(self) -> float:
        return self._clock.monotonic() - self._moved

    def _open_engine(self) -> ClientEngine:
        if self._must_reopen and self._sockets is None:
            raise ContextClosedError(
                "this session was lost, and no new one could be opened so far; "
                "call redeclare() again"
            )
        if self._engine is None or self._sockets is None:
            raise ContextClosedError(
                "this client is not open; use `async with` (or `with` in ezgraph.sync), "
                "or open it first"
            )
        self.check_owner()
        self._heed_keepalive(self._engine)
        return self._engine

    def check_owner(self) -> None:
        """Refuse to be used in a process that inherited this client by fork.

        Raises:
            ContextClosedError: this is not the process that opened it.
        """
        if os.getpid() != self._pid:
            raise ContextClosedError(
                f"this client was opened in process {self._pid} and inherited by fork in "
                f"{os.getpid()}; its sockets belong to the first: open a new one here"
            )

    def _heed_keepalive(self, engine: ClientEngine) -> None:
        """The keep-alive learns first when the lease is over, or where the broker is now."""
        keepalive = self._keepalive
        if keepalive is None:
            return
        if keepalive.lost is not None:
            engine.core.lose(keepalive.lost)
            engine.flush()
        elif (found := keepalive.found) is not None:
            keepalive.found = None
            engine.reconnect(found, self._addresses)
        if keepalive.is_main_unbound:
            keepalive.is_main_unbound = False
            engine.rebind()

    def _late(self, what: str, timeout: float) -> DeadlineError:
        return DeadlineError(
            f"{what} did not happen within {timeout:g} s at {self.address}; "
            f"the broker is busy or cut off: see `ezgraph status`"
        )
