"""Who gets a routed request, and who its answer; changes of settings among them. Pure.

`ezgraph.broker.routes` has what is under way. Here is decided: whether there is an owner, which of
its connections is handed a request, what its answer means to who asked, and what they are told when
there is none. Whatever goes to somebody else than the client whose command is decided on, is put
into ``outgoing``; it leaves with the answers of the pass, after the journal has what belongs to it.

An owner that comes back, on a new connection, is handed again what it has not answered.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, assert_never

from ezgraph.broker.routes import Route, Routes, route_id
from ezgraph.errors import (
    EzGraphError,
    InvalidCommandError,
    LimitError,
    NoOwnerError,
    OwnerGoneError,
    OwnerSilentError,
    StaleWriteError,
    UnknownComponentError,
    VetoedError,
)
from ezgraph.protocol.commands import ChangeSettings, RequestProcess
from ezgraph.protocol.replies import HANDED_ID, Handed, Refusal, SettingsSet
from ezgraph.protocol.routed import (
    ProcessControlErrorCode,
    ProcessControlRequest,
    ProcessControlResponse,
    SettingsChangeRequest,
)
from ezgraph.state.schema_check import check_change

if TYPE_CHECKING:
    from ezgraph.broker.connections import Descriptor
    from ezgraph.broker.leases import Lease, Leases
    from ezgraph.config import Limits
    from ezgraph.protocol.commands import AnswerRequest
    from ezgraph.protocol.events import Source
    from ezgraph.protocol.metadata import SettingsSchemaMetadata
    from ezgraph.protocol.replies import Reply
    from ezgraph.protocol.routed import Routed
    from ezgraph.protocol.settings import SettingsSnapshotValue
    from ezgraph.state.graph import GraphState

MIN_TIMEOUT_S = 0.01
MAX_TIMEOUT_S = 3_600.0


class Addressed(NamedTuple):
    """A reply for somebody: the connection, the request's id, what is said, what it came in on."""

    peer: bytes
    request_id: int
    reply: Reply
    descriptor: Descriptor | None


class Routing:
    """Hands requests on, and answers back."""

    def __init__(self, state: GraphState, leases: Leases, limits: Limits) -> None:
        self.outgoing: list[Addressed] = []
        self.routes = Routes()
        self._state = state
        self._leases = leases
        self._limits = limits

    def __repr__(self) -> str:
        return f"<Routing {self.routes!r}>"

    # --- asking ---

    def ask(
        self,
        lease: Lease,
        came_on: tuple[bytes, Descriptor | None],
        request_id: int,
        command: RequestProcess | ChangeSettings,
        *,
        now: float,
    ) -> Reply | None:
        """Take a request up, or up again; return its answer if there is one already.

        Raises:
            RefusedError: nobody could answer it, or too much is under way.
        """
        under_way = self.routes.get(route_id(lease.client, request_id))
        if under_way is not None:
            under_way.came_on = came_on
            self._hand_again(under_way)
            return None
        self._refuse_too_many(lease)
        route = Route(
            route_id(lease.client, request_id),
            lease.client,
            request_id,
            came_on,
            command,
            lease.source,
            now + _timeout_s(command.timeout_s),
        )
        match command:
            case RequestProcess():
                return self._ask_process(route, command)
            case ChangeSettings():
                self._refuse_unchangeable(command)
                self.routes.begin(route)
                if self.routes.wait_for(command.address, route):
                    self._begin_change(route, command)
                return None
        assert_never(command)

    def _refuse_too_many(self, lease: Lease) -> None:
        limit = self._limits.max_routed_requests
        if self.routes.count_of(lease.client) >= limit:
            raise LimitError(
                f"{limit} requests of this client are on their way to processes, as many as one "
                f"may have (max_routed_requests); wait for answers first"
            )

    def _ask_process(self, route: Route, command: RequestProcess) -> Reply | None:
        owner = self._state.unit_owner.get(command.unit)
        if owner is None:
            return ProcessControlResponse(
                route.id,
                ok=False,
                error=f"no process runs {command.unit!r}; see `ezgraph ls processes`",
                error_code=ProcessControlErrorCode.UNROUTABLE_UNIT,
            )
        self.routes.begin(route)
        what = ProcessControlRequest(route.id, command.unit, command.operation, command.payload)
        self._hand(route, str(owner), what)
        return None

    # --- changes of settings ---

    def _refuse_unchangeable(self, command: ChangeSettings) -> None:
        """Refuse a change that nobody would make, before it waits for its turn."""
        address = command.address
        now = self._state.settings.get(address)
        if now is None:
            raise UnknownComponentError(
                f"there are no settings at {address!r}; `ezgraph ls settings` lists what there is"
            )
        if self._state.unit_owner.get(address) is None:
            raise NoOwnerError(
                f"no process runs {address!r}, so nobody could change its settings; start the "
                f"program that does, and let it register the unit"
            )
        if command.expected_seq is not None and command.expected_seq != now.seq:
            raise StaleWriteError(
                f"the settings of {address!r} changed at seq {now.seq}, not at "
                f"{command.expected_seq}, which was expected; read them again"
            )
        schema = self._schema_of(address)
        if schema is not None:
            check_change(schema, command.changes)

    def _schema_of(self, address: str) -> SettingsSchemaMetadata | None:
        now = self._state.settings[address].value.settings_schema
        component = self._state.components.get(address)
        if now is not None or component is None:
            return now
        return component.metadata.settings_schema

    def _begin_change(self, route: Route, command: ChangeSettings) -> None:
        """Hand a change on whose turn it is, if it may still be made."""
        try:
            self._refuse_unchangeable(command)
        except EzGraphError as error:
            self._end(route, Refusal(error.code, str(error)))
            return
        address = command.address
        what = SettingsChangeRequest(
            route.id,
            address,
            command.changes,
            command.whole,
            self._state.settings[address].seq,
            _in_words(route.source),
            command.reason,
        )
        self._hand(route, str(self._state.unit_owner[address]), what)

    def asked_by(self, owner: Lease, request_id: str | None) -> Source | None:
        """Return who asked for the change that an owner reports, with the reason they gave."""
        route = self._of(owner, request_id)
        if route is None or not isinstance(route.command, ChangeSettings):
            return None
        return replace(route.source, reason=route.command.reason)

    def reported(
        self, owner: Lease, request_id: str | None, seq: int, value: SettingsSnapshotValue
    ) -> None:
        """An owner has reported what a change came to, at ``seq``: that is the answer."""
        route = self._of(owner, request_id)
        if route is not None and isinstance(route.command, ChangeSettings):
            self._end(route, SettingsSet(seq, value))

    # --- answers ---

    def answer(self, owner: Lease, command: AnswerRequest) -> None:
        """Hand an owner's answer to who asked; what nobody waits for any more is dropped.

        Raises:
            InvalidCommandError: a change of settings is not answered so where it was made.
        """
        route = self._of(owner, command.request_id)
        if route is None:
            return
        if isinstance(route.command, RequestProcess):
            self._end(route, self._response(route, owner, command))
            return
        if command.ok:
            raise InvalidCommandError(
                f"a change of settings that was made is answered by reporting the settings of "
                f"{route.command.address!r}, with answers={command.request_id!r}"
            )
        reason = command.error or "it gave no reason"
        vetoed = f"the process that runs {route.command.address!r} refused the change: {reason}"
        self._end(route, Refusal(VetoedError.code, vetoed))

    def _response(
        self, route: Route, owner: Lease, command: AnswerRequest
    ) -> ProcessControlResponse:
        code = None
        if not command.ok:
            try:
                code = ProcessControlErrorCode(command.error_code)
            except ValueError:
                code = ProcessControlErrorCode.INVALID_RESPONSE
        return ProcessControlResponse(
            route.id, command.ok, command.payload, command.error, code, owner.source.process_id
        )

    def _of(self, owner: Lease, request_id: str | None) -> Route | None:
        """Return a route that this owner was handed."""
        route = self.routes.get(request_id) if request_id is not None else None
        return route if route is not None and route.owner == owner.client else None

    def _end(self, route: Route, reply: Reply) -> None:
        """Answer who asked, and go on with the next change in line."""
        asker = self._leases.get(route.client)
        if asker is not None:
            asker.answers.remember(route.request_id, reply)
            peer, descriptor = route.came_on
            self.outgoing.append(Addressed(peer, route.request_id, reply, descriptor))
        address = route.command.address if isinstance(route.command, ChangeSettings) else None
        following = self.routes.end(route, address)
        if following is not None and isinstance(following.command, ChangeSettings):
            self._begin_change(following, following.command)

    # --- handing over ---

    def _hand(self, route: Route, owner: str, what: Routed) -> None:
        self.routes.hand(route, owner, what)
        self._hand_again(route)

    def _hand_again(self, route: Route) -> None:
        """Send a route to its owner's main connection; without one it waits for the next."""
        owner = self._leases.get(route.owner) if route.owner is not None else None
        if owner is None or route.handed is None:
            return
        for peer, connection in reversed(owner.connections.items()):
            if connection.is_main and not connection.closed:
                handed, at = Handed(route.handed), connection.descriptor
                self.outgoing.append(Addressed(peer, HANDED_ID, handed, at))
                return

    def owner_is_back(self, owner: Lease) -> None:
        """Hand an owner, on its new connection, what it has not answered."""
        for route in self.routes.handed_to(owner.client):
            self._hand_again(route)

    # --- no answer ---

    def unsent(self, what: Routed) -> None:
        """What was handed to an owner could not be put on its way: its queue is full."""
        route = self.routes.get(what.request_id)
        if route is not None:
            self._fail(
                route,
                ProcessControlErrorCode.ROUTE_WRITE_FAILED,
                OwnerSilentError,
                "does not take what it is sent: its queue is full",
            )

    def ended(self, lease: Lease) -> None:
        """A lease is over: what its process was asked has no answer, what it asked is dropped."""
        for route in self.routes.of_client(lease.client):
            if self.routes.get(route.id) is not None:
                self._end(route, Refusal("closed", "who asked has gone"))
        for route in self.routes.handed_to(lease.client):
            self._fail(
                route,
                ProcessControlErrorCode.PROCESS_DISCONNECTED,
                OwnerGoneError,
                "ended before it answered",
            )

    def expire(self, now: float) -> None:
        """Tell who asked that there was no answer in time."""
        for route in self.routes.overdue(now):
            said = "did not answer in time"
            if route.owner is None:
                said = "was busy with changes that came before this one"
            self._fail(route, ProcessControlErrorCode.TIMEOUT, OwnerSilentError, said)

    def _fail(
        self,
        route: Route,
        code: ProcessControlErrorCode,
        kind: type[EzGraphError],
        said: str,
    ) -> None:
        command = route.command
        waited_s = f"{_timeout_s(command.timeout_s):g} s"
        if isinstance(command, RequestProcess):
            error = f"the process that runs {command.unit!r} {said} ({command.operation})"
            if code is ProcessControlErrorCode.TIMEOUT:
                error += f": {waited_s}"
            response = ProcessControlResponse(route.id, ok=False, error=error, error_code=code)
            self._end(route, response)
            return
        hint = "see `ezgraph ls processes`"
        if route.handed is not None and kind is OwnerSilentError:
            hint = f"it may still make the change ({waited_s} were given): watch its settings"
        self._end(
            route, Refusal(kind.code, f"the process that runs {command.address!r} {said}; {hint}")
        )


def take_all(outgoing: list[Addressed]) -> list[Addressed]:
    """Return what is to be sent, and leave nothing."""
    taken = list(outgoing)
    outgoing.clear()
    return taken


def _timeout_s(asked: float) -> float:
    return min(max(asked, MIN_TIMEOUT_S), MAX_TIMEOUT_S) if math.isfinite(asked) else MAX_TIMEOUT_S


def _in_words(source: Source) -> str:
    login = f" {source.login}" if source.login else ""
    proved = f" key {source.key_name}" if source.key_name else ""
    return f"{source.program or '?'}@{source.host or '?'}{login}{proved}"
