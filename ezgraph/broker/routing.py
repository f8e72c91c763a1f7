"""Who gets a routed request, and who its answer; changes of settings among them. Pure.

`ezgraph.broker.routes` has what is under way. Here is decided: whether there is an owner, which of
its connections is handed a request, what its answer means to who asked, and what they are told when
there is none. Whatever goes to somebody else than the client whose command is decided on, is put
into ``outgoing``; it leaves with the answers of the pass, after the journal has what belongs to it.

An owner that comes back, on a new connection, is handed again what it has not answered. A program
that takes the owner's lease over is not: what the one before was asked, it may have done.

After a restart of the broker an owner's report may arrive before who asked has asked again. It is
kept for them (``early``). That they had asked is proved by the request's id, which only a broker of
this cluster can have made; an id that an owner made up counts for nothing.

What the broker asks owners itself (`check`, `hand_owed`) goes the same ways; what becomes of it is
put into ``heard``, for `ezgraph.broker.restore.under_way`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar, assert_never

from ezgraph.broker.access import withheld_settings
from ezgraph.broker.restore.plan import change_towards, schema_at
from ezgraph.broker.routes import (
    NOBODY,
    CheckSettings,
    Route,
    Routes,
    asker_of,
    is_proved,
    owed_id,
    route_id,
)
from ezgraph.broker.rules_settings import refuse_unfit
from ezgraph.errors import (
    ChangeOverdueError,
    EzGraphError,
    InvalidCommandError,
    LimitError,
    NoOwnerError,
    OwnerBusyError,
    OwnerGoneError,
    OwnerSilentError,
    SettingsRefusedError,
    StaleWriteError,
    UnknownComponentError,
    VetoedError,
    from_code,
)
from ezgraph.protocol.commands import ChangeSettings, RequestProcess
from ezgraph.protocol.events import Source
from ezgraph.protocol.replies import HANDED_ID, Done, Handed, Refusal, SettingsSet
from ezgraph.protocol.roles import FULL_SCOPE
from ezgraph.protocol.routed import (
    ProcessControlErrorCode,
    ProcessControlRequest,
    ProcessControlResponse,
    SettingsChangeRequest,
    SettingsCheckRequest,
)
from ezgraph.protocol.settings import SettingsSnapshotValue

if TYPE_CHECKING:
    from ezgraph.broker.connections import Descriptor
    from ezgraph.broker.leases import Lease, Leases
    from ezgraph.config import Limits
    from ezgraph.protocol.commands import AnswerRequest, ReportSettings
    from ezgraph.protocol.events import SettingsOwed
    from ezgraph.protocol.metadata import SettingsSchemaMetadata
    from ezgraph.protocol.replies import Reply
    from ezgraph.protocol.roles import ReadScope
    from ezgraph.protocol.routed import Routed
    from ezgraph.state.graph import GraphState

MIN_TIMEOUT_S = 0.01
MAX_TIMEOUT_S = 3_600.0
_EARLY_REPORTS = 64
_NOWHERE: tuple[bytes, None] = (b"", None)
_OWNERS_REFUSALS: dict[str, type[EzGraphError]] = {
    each.code: each for each in (StaleWriteError, ChangeOverdueError, OwnerBusyError)
}
"""What an owner may say of a change it was asked for; anything else is a veto."""


class Addressed(NamedTuple):
    """A reply for somebody: the connection, the request's id, what is said, what it came in on."""

    peer: bytes
    request_id: int
    reply: Reply
    descriptor: Descriptor | None


class Heard(NamedTuple):
    """What became of something that the broker itself has asked: `Done`, or a `Refusal`."""

    route: Route
    reply: Reply


class Routing:
    """Hands requests on, and answers back."""

    def __init__(
        self, state: GraphState, leases: Leases, limits: Limits, *, secret: bytes
    ) -> None:
        """``secret``: the cluster's, with which it proves to itself that somebody had asked."""
        self.outgoing: list[Addressed] = []
        self.heard: list[Heard] = []
        self.routes = Routes()
        self._state = state
        self._leases = leases
        self._limits = limits
        self._secret = secret
        self._unreached: dict[str, Lease] = {}
        self._early: OrderedDict[str, tuple[str, SettingsSet]] = OrderedDict()

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
        scope: ReadScope = FULL_SCOPE,
    ) -> Reply | None:
        """Take a request up, or up again; return its answer if there is one already.

        ``scope``: what who asks may read, and so may be told.

        Raises:
            RefusedError: nobody could answer it, or too much is under way.
        """
        deadline = now + timeout_of(command.timeout_s)
        named = route_id(lease, request_id, command, self._secret)
        under_way = self.routes.get(named)
        if under_way is not None:
            self._ask_again(under_way, came_on, deadline)
            return None
        self._refuse_too_many(lease)
        route = Route(
            named,
            lease.client,
            request_id,
            came_on,
            command,
            lease.source,
            deadline,
            scope,
        )
        match command:
            case RequestProcess():
                return self._ask_process(route, command)
            case ChangeSettings():
                return self._ask_change(route, command)
        assert_never(command)

    def _ask_again(
        self, route: Route, came_on: tuple[bytes, Descriptor | None], deadline: float
    ) -> None:
        """Heed a repetition; a connection that its owner was handed it on already has it."""
        route.came_on = came_on
        if route.is_left:
            self.routes.wait_again(route, deadline)
        if route.sent_on is None or route.sent_on.closed:
            self._send(route)

    def is_under_way(
        self, lease: Lease, request_id: int, command: RequestProcess | ChangeSettings
    ) -> bool:
        """Return whether a request is known, and not answered yet."""
        return self.routes.get(route_id(lease, request_id, command, self._secret)) is not None

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

    def _ask_change(self, route: Route, command: ChangeSettings) -> Reply | None:
        early = self._early.pop(route.id, None)
        if early is not None and early[0] == command.address:
            return self._as_told(route, early[1])
        try:
            self._refuse_unchangeable(command)
        except EzGraphError as error:
            raise withheld_settings(error, route.scope, command.address) from error
        if self.routes.begin(route):
            self._hand_change(route, command)
        return None

    def _refuse_unchangeable(self, command: ChangeSettings) -> None:
        """Refuse a change that nobody would make, before it waits for its turn, and when it has."""
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
        refuse_unfit(command, now.value, self._schema_of(address))

    def _schema_of(self, address: str) -> SettingsSchemaMetadata | None:
        now = self._state.settings[address].value.settings_schema
        component = self._state.components.get(address)
        if now is not None or component is None:
            return now
        return component.metadata.settings_schema

    def _begin_change(self, route: Route, command: ChangeSettings) -> Route | None:
        """Hand a change on whose turn it is; if it cannot be made any more, return the next."""
        if route.is_own:
            return self._hand_what_is_owed(route)
        try:
            self._refuse_unchangeable(command)
        except EzGraphError as error:
            return self._close(route, Refusal(error.code, str(error)))
        self._hand_change(route, command)
        return None

    def _hand_change(self, route: Route, command: ChangeSettings) -> None:
        address = command.address
        what = SettingsChangeRequest(
            route.id,
            address,
            command.changes,
            command.whole,
            self._state.settings[address].seq,
            _in_words(route.source),
            command.reason,
            command.expected_seq,
        )
        self._hand(route, str(self._state.unit_owner[address]), what)

    def asked_by(self, owner: Lease, report: ReportSettings) -> Source | None:
        """Return who asked for the change that an owner reports, with the reason they gave."""
        route = self._change_of(owner, report)
        if route is None:
            owed = self._owed_by(report)
            return self._proved_asker(report) if owed is None else owed.asked_by
        reason = _reason_of(route)
        return route.source if reason is None else replace(route.source, reason=reason)

    def _owed_by(self, report: ReportSettings) -> SettingsOwed | None:
        """Return what is owed and was taken, as a report says."""
        owed = self._state.owed.get(report.address)
        return owed if owed is not None and report.answers == owed_id(owed) else None

    def _proved_asker(self, report: ReportSettings) -> Source | None:
        """Return who had asked for a change before this broker started, as far as it is known."""
        asker = asker_of(report.answers) if report.answers is not None else None
        if asker is None or not is_proved(report, self._secret):
            return None
        lease = self._leases.get(asker.client)
        if lease is None or lease.holder != asker.holder:
            return Source(client=asker.client, reason=report.reason)
        return replace(lease.source, reason=report.reason)

    def reported(self, owner: Lease, report: ReportSettings, seq: int) -> bool:
        """An owner has reported what a change came to, at ``seq``; return whether that was asked.

        It is the answer to who asked.
        """
        if report.answers is None:
            return False
        route, done = self._change_of(owner, report), SettingsSet(seq, report.value)
        if route is not None:
            self._end(route, done)
            return True
        if self.routes.get(report.answers) is None and is_proved(report, self._secret):
            self._early[report.answers] = (report.address, done)
            if len(self._early) > _EARLY_REPORTS:
                self._early.popitem(last=False)
        return False

    def _change_of(self, owner: Lease, report: ReportSettings) -> Route | None:
        """Return the change that an owner reports; after a restart it may wait in line again."""
        route = self.routes.get(report.answers) if report.answers is not None else None
        if route is None or route.line != report.address:
            return None
        return route if route.owner in (None, owner.client) else None

    # --- what the broker asks itself ---

    def check(
        self, named: str, asked: CheckSettings, source: Source, owner: str, deadline: float
    ) -> None:
        """Ask an owner whether it would take a change; what it says will be `heard`."""
        route = Route(named, NOBODY, 0, _NOWHERE, asked, source, deadline, FULL_SCOPE)
        self.routes.begin(route)
        what = SettingsCheckRequest(
            named,
            asked.address,
            asked.changes,
            asked.base_seq,
            _in_words(source),
            asked.reason,
            asked.whole,
        )
        self._hand(route, owner, what)

    def withdraw(self, named: str) -> None:
        """What an owner was asked is not to be known any more."""
        if (route := self.routes.get(named)) is not None:
            self.routes.end(route)

    def hand_owed(self, address: str) -> None:
        """Hand who runs the unit at an address what is owed there, unless it has been, or nothing.

        What it says will be `heard`, unless it reports that it has taken it.
        """
        owed = self._state.owed.get(address)
        if owed is None or self._state.unit_owner.get(address) is None:
            return
        named, source = owed_id(owed), owed.asked_by or Source()
        if self.routes.get(named) is not None:
            return
        command = ChangeSettings(address, {}, reason=source.reason)
        route = Route(named, NOBODY, 0, _NOWHERE, command, source, math.inf, FULL_SCOPE)
        if self.routes.begin(route):
            self._go_on(self._hand_what_is_owed(route))

    def _hand_what_is_owed(self, route: Route) -> Route | None:
        """Hand it on; if it is not owed any more, or nobody is there, return the next in line."""
        address = str(route.line)
        owed, owner = self._state.owed.get(address), self._state.unit_owner.get(address)
        if owed is None or owner is None or owed_id(owed) != route.id:
            return self.routes.end(route)
        now = self._state.settings.get(address)
        schema = schema_at(self._state, address)
        change = change_towards(None if now is None else now.value, owed.value, schema)
        if change is not None and not change.changes and not change.unfit:
            change = change_towards(None, owed.value, schema)  # it has them: it is to say so
        if change is None or change.unfit:  # by now: its program is another one
            why = "they have no fields" if change is None else "; ".join(change.unfit)
            return self._close(route, Refusal(SettingsRefusedError.code, why))
        what = SettingsChangeRequest(
            route.id,
            address,
            change.changes,
            change.whole,
            0 if now is None else now.seq,
            _in_words(route.source),
            route.source.reason,
        )
        self._hand(route, str(owner), what)
        return None

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
        if isinstance(route.command, CheckSettings):
            self._end(route, _checked(command))
            return
        if command.ok:
            raise InvalidCommandError(
                f"a change of settings that was made is answered by reporting the settings of "
                f"{route.command.address!r}, with answers={command.request_id!r}"
            )
        reason = command.error or "it gave no reason"
        kind = _OWNERS_REFUSALS.get(command.error_code or "", VetoedError)
        verb = "has not made" if kind is ChangeOverdueError else "refused"
        said = f"the process that runs {route.command.address!r} {verb} the change: {reason}"
        refusal = Refusal(kind.code, said)
        if kind is ChangeOverdueError:
            self._tell(route, refusal)
            self._go_on(self.routes.leave_overdue(route))
        else:
            self._end(route, refusal)

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
        self._go_on(self._close(route, reply))

    def _go_on(self, following: Route | None) -> None:
        """Hand on the change whose turn it is; one that cannot be made any more is answered."""
        while following is not None and isinstance(following.command, ChangeSettings):
            following = self._begin_change(following, following.command)

    def _close(self, route: Route, reply: Reply) -> Route | None:
        """Answer who asked; return the change whose turn it is now."""
        self._tell(route, reply)
        return self.routes.end(route)

    def _leave(self, route: Route, reply: Reply) -> None:
        """Answer who asked; the owner of a change that was sent to it is still to be heard."""
        if route.line is None or route.sent_on is None:
            self._end(route, reply)
            return
        self._tell(route, reply)
        self.routes.leave(route)

    def _tell(self, route: Route, reply: Reply) -> None:
        if route.is_own:
            self.heard.append(Heard(route, reply))
            return
        asker = self._leases.get(route.client)
        if asker is None or route.is_left:
            return
        reply = self._as_told(route, reply)
        asker.answers.remember(route.request_id, reply)
        peer, descriptor = route.came_on
        self.outgoing.append(Addressed(peer, route.request_id, reply, descriptor))

    def _as_told(self, route: Route, reply: Reply) -> Reply:
        """Return what who asked may be told: not more of the settings than they may read."""
        if route.line is None or route.scope.has(("settings", route.line)):
            return reply
        if isinstance(reply, SettingsSet):
            return SettingsSet(reply.seq, SettingsSnapshotValue())
        if isinstance(reply, Refusal):
            error = from_code(reply.code, reply.message)
            told = withheld_settings(error, route.scope, route.line)
            return Refusal(told.code, str(told))
        return reply

    # --- handing over ---

    def _hand(self, route: Route, owner: str, what: Routed) -> None:
        self.routes.hand(route, owner, what)
        self._send(route)

    def _send(self, route: Route) -> None:
        """Send a route to its owner's main connection; without one it waits for the next."""
        owner = self._leases.get(route.owner) if route.owner is not None else None
        if owner is None or route.handed is None:
            return
        for peer, connection in reversed(owner.connections.items()):
            if connection.is_main and not connection.closed:
                route.sent_on = connection
                handed, at = Handed(route.handed), connection.descriptor
                self.outgoing.append(Addressed(peer, HANDED_ID, handed, at))
                return
        self._unreached[owner.client] = owner

    def owner_is_away(self, owner: Lease) -> None:
        """A connection has closed; if it was the one for requests, that may have been cut off."""
        if self.routes.handed_to(owner.client) and not owner.is_main_bound:
            self._unreached[owner.client] = owner

    @property
    def has_unreached(self) -> bool:
        """Whether there are owners that could not be handed a request, and were not told yet."""
        return bool(self._unreached)

    def unreached(self) -> list[Lease]:
        """Return, once, the owners that could not be handed a request."""
        owners = [each for each in self._unreached.values() if not each.is_main_bound]
        self._unreached.clear()
        return owners

    def owner_is_back(self, owner: Lease) -> None:
        """Hand an owner, on its new connection, what it has not answered."""
        for route in self.routes.handed_to(owner.client):
            self._send(route)

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
        """A lease is over: what its process was asked has no answer, what it asked is dropped.

        Its units have gone before.
        """
        for route in self.routes.of_client(lease.client):
            self._leave(route, Refusal("closed", "who asked has gone"))
        self._lost(lease, "ended before it answered")

    def taken_over(self, lease: Lease) -> None:
        """Another program holds a lease from now on; it is not asked what the one before was."""
        self._lost(lease, "was taken over by another before it answered")

    def _lost(self, owner: Lease, said: str) -> None:
        for route in self.routes.handed_to(owner.client):
            if route.sent_on is not None or self._leases.get(owner.client) is None:
                code = ProcessControlErrorCode.PROCESS_DISCONNECTED
                self._fail(route, code, OwnerGoneError, said)

    def expire(self, now: float) -> None:
        """Tell who asked that there was no answer in time."""
        for route in self.routes.overdue(now):
            said = "did not answer in time"
            if route.owner is None:
                said = "was busy with changes that came before this one"
            code = ProcessControlErrorCode.TIMEOUT
            self._leave(route, self._no_answer(route, code, OwnerSilentError, said))

    def _fail(
        self, route: Route, code: ProcessControlErrorCode, kind: type[EzGraphError], said: str
    ) -> None:
        self._end(route, self._no_answer(route, code, kind, said))

    def _no_answer(
        self, route: Route, code: ProcessControlErrorCode, kind: type[EzGraphError], said: str
    ) -> Reply:
        command = route.command
        waited_s = f"{timeout_of(command.timeout_s):g} s"
        if isinstance(command, RequestProcess):
            error = f"the process that runs {command.unit!r} {said} ({command.operation})"
            if code is ProcessControlErrorCode.TIMEOUT:
                error += f": {waited_s}"
            return ProcessControlResponse(route.id, ok=False, error=error, error_code=code)
        hint = "see `ezgraph ls processes`"
        if isinstance(command, CheckSettings):
            return Refusal(kind.code, f"it {said}; {hint}")
        if route.sent_on is not None and code is ProcessControlErrorCode.TIMEOUT:
            hint = f"it may still make the change ({waited_s} were given): watch its settings"
        return Refusal(kind.code, f"the process that runs {command.address!r} {said}; {hint}")


T = TypeVar("T")


def take_all(waiting: list[T]) -> list[T]:
    """Return what is to be sent, or was heard, and leave nothing."""
    taken = list(waiting)
    waiting.clear()
    return taken


def _checked(command: AnswerRequest) -> Reply:
    """Return what an owner has said to a check."""
    if command.ok:
        return Done(0)
    kind = _OWNERS_REFUSALS.get(command.error_code or "", VetoedError)
    return Refusal(kind.code, command.error or "it gave no reason")


def timeout_of(asked: float) -> float:
    """Return how many seconds an owner is given, who asked for so many."""
    return min(max(asked, MIN_TIMEOUT_S), MAX_TIMEOUT_S) if math.isfinite(asked) else MAX_TIMEOUT_S


def _reason_of(route: Route) -> str | None:
    return route.command.reason if isinstance(route.command, ChangeSettings) else None


def _in_words(source: Source) -> str:
    login = f" {source.login}" if source.login else ""
    proved = f" key {source.key_name}" if source.key_name else ""
    return f"{source.program or '?'}@{source.host or '?'}{login}{proved}"
