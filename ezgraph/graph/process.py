"""`ProcessControlClient`: what a program that runs units tells the bus about them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self
from uuid import UUID

from ezgraph.client import aio
from ezgraph.client.broker_choice import KeysLike, choose_broker
from ezgraph.clock import Deadline
from ezgraph.config import DEFAULT_CHANGE_TIMEOUT_S, DEFAULT_TIMEOUT_S, AddressesLike
from ezgraph.errors import MalformedMessageError, NoSessionError
from ezgraph.graph.attendant import Attendant, Identified
from ezgraph.graph.declared import Declared, declare_again
from ezgraph.protocol.commands import Command, ReportSettings, UpdateUnits
from ezgraph.protocol.replies import Done
from ezgraph.protocol.settings import settings_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from ezgraph.client.resumption import ResumeToken, Resumption
    from ezgraph.graph.attendant import RequestHandler
    from ezgraph.graph.changes import ChangeHandler, CheckHandler
    from ezgraph.graph.sessions import AnySession, SessionFactory
    from ezgraph.protocol.commands import AnswerRequest
    from ezgraph.protocol.routed import Routed


class ProcessControlClient:
    """Registers the units a process runs and reports their settings. It has a lease of its own.

    A unit has one owner. When the client closes, or is not heard for its TTL, its units and the
    live values it reported end with it. Arguments as for `GraphContext`: with ``resume=`` it
    takes the place of a process that is gone, units and values included.
    """

    def __init__(
        self,
        address: AddressesLike | None = None,
        *,
        ttl_s: float | None = None,
        patience_s: float = 60.0,
        program: str | None = None,
        resume: ResumeToken | None = None,
        keys: KeysLike | None = None,
        session_factory: SessionFactory | None = None,
    ) -> None:
        self._broker = choose_broker(address, keys)
        self._program = program
        self._predecessor = resume
        self._declared = Declared()
        self._ttl_s = ttl_s
        self._patience_s = patience_s
        self._make: SessionFactory = session_factory or aio.Session
        self._session: AnySession | None = None
        self._attendant = Attendant(self._answer, self._who, begin=lambda each: self._begin(each))
        self._attending: set[asyncio.Task[None]] = set()
        self._begin: Callable[[Routed], None] = self._begin_task

    def __repr__(self) -> str:
        if self._session is None:
            where = ",".join(map(str, self._broker.addresses))
            return f"<{type(self).__name__} {where} not connected>"
        session = self._session
        name, state = type(self).__name__, session.state.value
        return f"<{name} tcp://{session.address} {session.client_id} {state}>"

    @property
    def client_id(self) -> UUID | None:
        """The process id the broker gave; None before `connect`."""
        session = self._session
        return UUID(session.client_id) if session is not None and session.client_id else None

    async def connect(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> Self:  # noqa: ASYNC109
        """Open the lease and return the client."""
        if self._session is not None:
            self._session.check_owner()
        else:
            session = self._make(
                self._broker.addresses,
                kind="process",
                program=self._program,
                ttl_s=self._ttl_s,
                patience_s=self._patience_s,
                resume=self._predecessor,
                keys=self._broker.keys,
            )
            session.on_handed = self._begin
            self._session = session  # requests may come with the welcome
            try:
                await session.open(timeout=timeout)
            except BaseException:
                self._session = None
                raise
        return self

    async def close(self) -> None:
        """End the lease; its units and live values go with it. May be called twice."""
        session, self._session = self._session, None
        self._declared = Declared()
        attending, self._attending = self._attending, set()
        own = asyncio.current_task() if attending else None  # a handler may close its client
        for task in attending - {own}:
            task.cancel()
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def resume_token(self) -> ResumeToken:
        """What another process shows to take this one's place; see `GraphContext.resume_token`."""
        return self._active().resume_token

    @property
    def resumption(self) -> Resumption | None:
        """How this lease was last come back to; see `GraphContext.resumption`."""
        return self._active().resumption

    async def redeclare(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:  # noqa: ASYNC109
        """Register its units and report their settings again, in a new lease if this one is lost.

        Like `GraphContext.redeclare`; the ``client_id`` of a new lease is a new one.
        """
        deadline = Deadline(timeout)
        is_new = await self._active().reopen(timeout=timeout)
        return await declare_again(
            self._declared, self._change, deadline.left(), is_new=is_new
        )

    async def register(
        self, units: Iterable[str], *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> int:
        """Take ``units`` (addresses) for this process; return the seq reached.

        Raises:
            AddressCollisionError: another process holds one; says which and who.
        """
        return await self.update_ownership(added=units, timeout=timeout)

    async def update_ownership(
        self,
        added: Iterable[str] = (),
        removed: Iterable[str] = (),
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> int:
        """Take some units and let others go, in one step; return the seq reached."""
        return await self._change(UpdateUnits(list(added), list(removed)), timeout)

    async def report_settings_update(
        self,
        component_address: str,
        value: object,
        timestamp: float | None = None,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> int:
        """Report the settings a unit now has; return the seq of the event.

        Args:
            component_address: a unit this process has registered.
            value: a `SettingsSnapshotValue`, or a settings object (dataclass, pydantic model,
                mapping; anything else is shown as text).
            timestamp: when it took effect, seconds since 1970 on this host's clock.
            reason: why, in free text, for the log.
            timeout: in seconds.

        Raises:
            NotOwnerError: this process does not own the unit; says who does.
        """
        command = ReportSettings(component_address, settings_value(value), timestamp, reason)
        with self._attendant.reporting(component_address) as note:
            seq = await self._change(command, timeout)
            note(seq)
        return seq

    # --- being asked ---

    def set_request_handler(self, handler: RequestHandler | None) -> None:
        """Have ``handler`` answer requests to the units of this process; None: nobody does.

        It is awaited in this event loop, several at a time, with a `ProcessControlRequest`, and
        returns bytes, None, or a `ProcessControlResponse`. `NotImplementedError` stands for
        an operation it does not know; any other exception is told to who asked.
        """
        self._attendant.handler = handler

    def take_changes(
        self,
        address: str,
        changer: ChangeHandler,
        *,
        timeout_s: float = DEFAULT_CHANGE_TIMEOUT_S,
        check: CheckHandler | None = None,
    ) -> None:
        """Have ``changer`` make changes of a unit's settings that others ask for, one by one.

        It is awaited with a `SettingsChangeRequest` and returns what the settings are then, which
        is reported; an exception (`VetoedError`, to choose the words) refuses the change. See
        `ezgraph.settings.SettingsHost`, which keeps a typed object.

        After ``timeout_s`` seconds it is cancelled, and who asked is told (`ChangeOverdueError`).
        One that goes on nevertheless, to leave nothing half done, returns what the settings are
        then; it is reported, if late. Until it returns, other changes there are refused
        (`OwnerBusyError`).

        ``check`` is awaited with a `SettingsCheckRequest` when a snapshot is to be restored: it
        changes nothing, and raises (`VetoedError`) if such a change would be refused. A unit whose
        program has no ``check`` cannot be restored.
        """
        self._attendant.take_changes(address, changer, timeout_s=timeout_s, check=check)

    def take_no_changes(self, address: str) -> None:
        """Refuse changes of a unit's settings from now on."""
        self._attendant.take_no_changes(address)

    def _begin_task(self, request: Routed) -> None:
        """A request has come, in the event loop: answer it beside whatever else is done there."""
        if self._session is None:
            return  # it waited for one that `close` has ended
        loop = asyncio.get_running_loop()
        task = self._keep(loop.create_task(self._attendant.attend(request)))
        if (timeout_s := self._attendant.changes.time_for(request)) is not None:
            timer = loop.call_later(timeout_s, self._give_up, request, task)
            task.add_done_callback(lambda _: timer.cancel())

    def _give_up(self, request: Routed, task: asyncio.Task[None]) -> None:
        """The time of a change is over, while its changer waits for something: cancel it there."""
        overdue = self._attendant.give_up(request)
        if overdue is not None:
            task.cancel()
            self._keep(asyncio.get_running_loop().create_task(self._say(overdue)))

    async def _say(self, answer: AnswerRequest) -> None:
        await self._attendant.send(answer)

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Keep a task until it is done, or `close` ends it."""
        self._attending.add(task)
        task.add_done_callback(self._attending.discard)
        return task

    def _who(self) -> Identified:
        return Identified(self.client_id or UUID(int=0), tuple(self._declared.units))

    async def _answer(self, command: Command, timeout: float) -> int:  # noqa: ASYNC109
        return await self._change(command, timeout)

    async def _change(self, command: Command, timeout: float) -> int:  # noqa: ASYNC109
        reply = await self._active().call(command, timeout=timeout)
        if not isinstance(reply, Done):
            raise MalformedMessageError(
                f"{type(command).__name__} was answered with {type(reply).__name__}"
            )
        self._declared.note(command)
        return reply.seq

    def _active(self) -> AnySession:
        if self._session is None:
            raise NoSessionError(
                "this ProcessControlClient is not connected: await connect() first, "
                "or use `async with`"
            )
        self._session.check_owner()
        return self._session
