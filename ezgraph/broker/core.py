"""The broker's core: one command in, one decision out. Pure.

It holds the state, the leases and which connection belongs to which lease. For each request it
finds the lease of the connection, lets a rule decide on event bodies (or refuse), numbers them
as one transaction, applies them to the state, and says what to answer. Nothing it returns may be
answered or published before the journal has the events: the shell (`ezgraph.broker.service`)
keeps that order, and stops for good when an append fails, because the state is then ahead of
the journal.

Requests that read stored bytes, or much of the state (`ReadEvents`, `OpenSnapshot`, `ReadSnapshot`,
`GetStatus`, `ListClients`, `ReadConfig` and its like), are let through here; the shell, which has
the bytes, answers by turns. Changes of the store, whose rows the shell has too, are admitted here
and decided there (`ezgraph.broker.store.asked`).

States of a connection: unbound -> bound (HELLO, RESUME or TAKEOVER) -> unbound when its lease ends
or is taken over.
States of a lease: open -> suspended (its last connection has closed) -> open again by RESUME, or
lost; open -> closed by goodbye | expired by silence. A guest's lease owns nothing and
makes no events; it may read, and change what is persistent.

Who gets a lease, and who gets one back, is decided in `ezgraph.broker.admission`; what the role
of a key allows, in `ezgraph.broker.access`. Where there are keys, a frame whose key is not admitted
(any more) gets no answer at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, assert_never

from ezgraph._version import __version__
from ezgraph.broker import (
    rules_config,
    rules_graph,
    rules_metadata,
    rules_nodes,
    rules_process,
)
from ezgraph.broker.access import (
    refuse_forbidden,
    refuse_hidden,
    refuse_partial,
    refuse_stored,
    refuse_unreadable,
    scope_of,
    withheld,
)
from ezgraph.broker.admission import Admission, Cluster, ForeignTokenError, holder_of
from ezgraph.broker.audit import Audit
from ezgraph.broker.connections import Connections, Descriptor
from ezgraph.broker.quotas import refuse_beyond
from ezgraph.broker.reads_config import wanted_under
from ezgraph.broker.restore.plan import Asker
from ezgraph.broker.restore.under_way import Restores, Restoring
from ezgraph.broker.routing import Addressed, Routing, timeout_of
from ezgraph.broker.rules_config import ValueChecks
from ezgraph.broker.store.asked import StoreAsked
from ezgraph.errors import (
    EzGraphError,
    ForbiddenError,
    InvalidCommandError,
    LimitError,
    LiveSessionsError,
)
from ezgraph.names import check_key
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import (
    AnnounceNodes,
    AnswerRequest,
    ChangeConfig,
    ChangeSettings,
    Connect,
    Disconnect,
    FindGraph,
    GetStatus,
    Goodbye,
    Heartbeat,
    Hello,
    ListClients,
    ListConfigTypes,
    OpenSnapshot,
    OpenWatch,
    ReadConfig,
    ReadConfigSchema,
    ReadEvents,
    ReadSnapshot,
    RegisterMetadata,
    ReportSettings,
    Request,
    RequestProcess,
    Resume,
    Revert,
    ServeGraph,
    SetConfigSchema,
    SetPause,
    Shutdown,
    Sync,
    TakeOver,
    UpdateUnits,
    WithdrawGraph,
)
from ezgraph.protocol.config import ROOM as CONFIG
from ezgraph.protocol.events import (
    AccessRefused,
    Body,
    EndReason,
    Event,
    HistoryCompacted,
    ProcessClosed,
    ProcessOpened,
    ProcessTakenOver,
    SessionClosed,
    SessionOpened,
    SessionTakenOver,
    Source,
    key_of,
)
from ezgraph.protocol.replies import (
    Beat,
    ClientList,
    ConfigChanged,
    Done,
    Refusal,
    Reply,
    Serving,
    Welcome,
)
from ezgraph.protocol.roles import FULL_SCOPE
from ezgraph.protocol.served import ROOM as NODE
from ezgraph.protocol.snapshot import ClientInfo
from ezgraph.protocol.stored_commands import (
    DeleteRecording,
    DeleteStored,
    FindSeq,
    Freeze,
    PastQuestion,
    ReadCheckpoint,
    ReadStored,
    ReadStretch,
    RemoveTag,
    Restore,
    SetTag,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    WritePartitions,
    WriteRecording,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from ezgraph.broker.connections import Connection
    from ezgraph.broker.leases import Lease
    from ezgraph.broker.reads_config import ConfigReadCommand
    from ezgraph.broker.store.asked import Decided
    from ezgraph.config import BrokerConfig
    from ezgraph.ids import IdSource
    from ezgraph.names import Key
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.replies import Answered
    from ezgraph.protocol.roles import Access, Identity, ReadScope
    from ezgraph.protocol.stored_commands import StoreCommand
    from ezgraph.state.graph import GraphState

_MAX_MESSAGE = 4_000
DEFAULT_CHECKS = ValueChecks()
UNBOUND = Refusal(
    "unbound", "this connection belongs to no lease; say HELLO or RESUME on it, then repeat"
)
Change = (
    Connect
    | Disconnect
    | RegisterMetadata
    | UpdateUnits
    | ReportSettings
    | SetPause
    | Revert
    | ChangeConfig
    | SetConfigSchema
    | ServeGraph
    | AnnounceNodes
    | WithdrawGraph
)
_FREQUENT = (Connect, Disconnect, ReportSettings, ChangeConfig)
_JOINS = (Hello, Resume, TakeOver)
_ROUTED = (RequestProcess, ChangeSettings)
ReadCommand = (
    ReadEvents
    | OpenSnapshot
    | ReadSnapshot
    | GetStatus
    | ListClients
    | ReadConfig
    | ListConfigTypes
    | ReadConfigSchema
    | Restore
    | PastQuestion
    | ReadStored
    | FindGraph
)


class Outcome(NamedTuple):
    """What follows from one request: an answer, or a read for the shell, and a transaction.

    ``client`` is whose read it is. ``can_wait``: who is answered by ``reply`` is in no hurry.
    ``store``: a change of the store, for the shell to decide on; then `BrokerCore.stored`.
    """

    reply: Reply | None = None
    events: tuple[Event, ...] = ()
    read: ReadCommand | None = None
    stop: bool = False
    client: str = ""
    can_wait: bool = False
    store: StoreAsked | None = None


class BrokerCore:
    """Decides on commands. Not thread-safe; one broker loop owns it."""

    def __init__(
        self,
        state: GraphState,
        cluster: Cluster,
        config: BrokerConfig,
        ids: IdSource,
        *,
        events_port: int,
        floor: int,
        epoch_ends: Mapping[int, int] | None = None,
        access: Access | None = None,
        checks: ValueChecks = DEFAULT_CHECKS,
    ) -> None:
        """``epoch_ends``: the last seq of each epoch before this one.

        ``access``: who is admitted, and as what; None: everybody, and for everything.
        ``checks``: what is asked about values of the configuration.
        """
        self.state = state
        self.floor = floor
        self.events_ports = {FULL_SCOPE.number: events_port}
        self.access = access
        self.audit = Audit()
        self.refuse_full_watch: Callable[[ReadScope, Key], None] = _never_full
        self.admission = Admission(cluster, config, ids, epoch_ends or {})
        self.leases = self.admission.leases
        self.routing = Routing(state, self.leases, config.limits, secret=cluster.secret)
        self.restores = Restores(
            state,
            self.routing,
            self.leases,
            config.limits,
            checks,
            transact=self._transaction,
            refused=self._refused,
            identity_of=self._identity_of,
        )
        self._checks = checks
        self._config = config
        self._cluster_id = cluster.cluster_id
        self._connections = Connections()
        self._broker_source = Source(program="ezgraph broker")

    def __repr__(self) -> str:
        return f"<BrokerCore seq={self.state.seq} leases={len(self.leases)}>"

    # --- requests ---

    def receive(
        self,
        peer: bytes,
        request: Request,
        *,
        now: float,
        wall: float,
        descriptor: Descriptor | None = None,
        public: str | None = None,
    ) -> Outcome:
        """Decide on one request from the connection ``peer``, which came in on ``descriptor``.

        ``now`` is the broker's monotonic clock and ``wall`` its wall clock, both in seconds.
        ``public`` is the key that the connection was made with, where there are keys.
        """
        command = request.command
        identity = None
        if self.access is not None:
            identity = self.access.identity(public)
            if identity is None:
                return Outcome()  # revoked since the connection was made: not a byte
        came = _Came(peer, descriptor, identity, public if identity is not None else None)
        try:
            if not isinstance(command, _JOINS):
                return self._decide(came, request, now=now, wall=wall)
            self._refuse_without_stream(scope_of(self.access, identity))
            match command:
                case Hello():
                    return self._hello(came, command, now=now, wall=wall)
                case Resume():
                    return self._resume(came, command, now=now)
                case TakeOver():
                    return self._take_over(came, command, now=now, wall=wall)
            assert_never(command)
        except EzGraphError as error:
            if identity is not None:
                self._audit(identity, command, error, now)
            return Outcome(refusal_of(withheld(error, scope_of(self.access, identity))))

    def _refuse_without_stream(self, scope: ReadScope) -> None:
        """Refuse to welcome somebody who could not be sent any events."""
        if scope.number not in self.events_ports:
            raise LimitError(
                "this broker has no port (or no more descriptors) for the events of what this key "
                "may read; `ezgraph status` as somebody who reads everything says why"
            )

    def _audit(
        self, identity: Identity, command: Command, error: EzGraphError, now: float
    ) -> None:
        """Write down who was refused by a key, a role, or a bound."""
        what = type(command).__name__
        if isinstance(error, ForeignTokenError):
            refused = AccessRefused(identity.name, what, "foreign_token", str(error))
        elif isinstance(error, ForbiddenError | LimitError):
            refused = AccessRefused(identity.name, what, error.code, str(error))
        else:
            return
        self.note_refusal(refused, now, key_name=identity.name)

    def note_refusal(
        self, refused: AccessRefused, now: float, *, key_name: str | None = None
    ) -> None:
        """Have a refusal written into history, unless many like it are."""
        self.audit.note(refused, replace(self._broker_source, key_name=key_name), now)

    def audited(self, *, now: float, wall: float) -> list[tuple[Event, ...]]:
        """Return the refusals that are to be written into history now, a transaction each."""
        return [
            self._transaction((refused,), source, None, now=now, wall=wall)
            for refused, source in self.audit.due(now)
        ]

    def _decide(self, came: _Came, request: Request, *, now: float, wall: float) -> Outcome:
        command = request.command
        connection = self._connections.get(came.peer)
        if connection is None or not connection.is_of(came.descriptor, came.public):
            return Outcome(UNBOUND)
        lease = connection.lease
        lease.is_held = True
        if came.identity is not None and lease.source.key_name != came.identity.name:
            lease.source = replace(lease.source, key_name=came.identity.name)
        if not connection.closed:
            lease.last_heard = now
            lease.heard_seq = self.state.seq
        if isinstance(command, Heartbeat):
            lease.main_loop_age_s = command.main_loop_age_s
            return Outcome(self._beat(lease, now=now, wall=wall))
        answers = lease.answers
        answers.forget_below(request.lowest_open)
        answered = answers.reply_to(request.request_id)
        if answered is not None:
            first = lease.answers.first_of(request.request_id)
            return Outcome(self._as_asked(lease, command, answered, first))
        is_full = len(answers) >= self._config.limits.max_open_requests
        if is_full and not self._is_under_way(lease, request):
            raise LimitError(
                f"{len(answers)} requests of this client may still be repeated, the limit "
                f"(max_open_requests); take replies in order, and name the lowest open id"
            )
        if isinstance(command, _ROUTED):
            return self._route(lease, came, request.request_id, command, now)
        if isinstance(command, Restore):
            return self._begin_restore(lease, came, request.request_id, command, now)
        return self._execute(lease, request, came, now=now, wall=wall)

    def _is_under_way(self, lease: Lease, request: Request) -> bool:
        command = request.command
        if isinstance(command, Restore):
            return self.restores.is_under_way(lease.client, request.request_id)
        if not isinstance(command, _ROUTED):
            return False
        return self.routing.is_under_way(lease, request.request_id, command)

    def _beat(self, lease: Lease, *, now: float, wall: float) -> Beat:
        is_heard = lease.kind != "process" or lease.is_main_bound
        return Beat(self.state.seq, wall, now, is_heard)

    def called(self, *, now: float, wall: float) -> Iterator[Addressed]:
        """Yield, once, how owners that cannot be handed requests are told on what else they have.

        A program that asks nothing does not notice that its connection, or the broker, is another.
        """
        for lease in self.routing.unreached():
            for peer, connection in lease.connections.items():
                if not connection.is_main and not connection.closed:
                    beat = self._beat(lease, now=now, wall=wall)
                    yield Addressed(peer, 0, beat, connection.descriptor)

    def _execute(
        self,
        lease: Lease,
        request: Request,
        came: _Came,
        *,
        now: float,
        wall: float,
    ) -> Outcome:
        command, identity = request.command, came.identity
        if isinstance(command, _FREQUENT):  # before all others are asked about
            return self._change(lease, request, command, identity, now=now, wall=wall)
        match command:  # what changes nothing
            case Sync():
                return self._told_the_head(lease, request)
            case OpenWatch():
                self._refuse_watch(identity, command)
                return self._told_the_head(lease, request)
            case AnswerRequest():
                _process_id(lease)
                self.routing.answer(lease, command)
                return Outcome(Done(self.state.seq))
            case Goodbye():
                return self._goodbye(lease, request, now=now, wall=wall)
            case Shutdown():
                if identity is not None:
                    refuse_forbidden(identity, command)
                self._refuse_live_sessions(lease, command)
                return Outcome(Done(self.state.seq), stop=True)
            case ReadEvents():
                if identity is not None:
                    scope = scope_of(self.access, identity)
                    refuse_unreadable(identity, scope, tuple(command.prefix))
                lease.reads_after = (command.after, now)
                return Outcome(read=command, client=lease.client)
            case OpenSnapshot() | ReadSnapshot() | GetStatus() | ListClients():
                return Outcome(read=command, client=lease.client)
            case ReadCheckpoint() | ReadStretch() | FindSeq():
                if identity is not None:
                    scope = scope_of(self.access, identity)
                    refuse_partial(identity, scope, "the state as it was")
                return Outcome(read=command, client=lease.client)
            case ReadConfig() | ListConfigTypes() | ReadConfigSchema():
                self._refuse_config_read(identity, command)
                return Outcome(read=command, client=lease.client)
            case ReadStored():
                if identity is not None:
                    refuse_stored(identity, scope_of(self.access, identity), command.question)
                return Outcome(read=command, client=lease.client)
            case (
                Freeze()
                | StorePieces()
                | StoreGraph()
                | StoreSnapshot()
                | SetTag()
                | RemoveTag()
                | WritePartitions()
                | DeleteStored()
                | WriteRecording()
                | DeleteRecording()
            ):
                return self._ask_store(lease, came, request.request_id, command, now)
            case FindGraph():
                if identity is not None and command.name is not None:
                    scope = scope_of(self.access, identity)
                    refuse_unreadable(identity, scope, check_key((NODE, command.name)))
                return Outcome(read=command, client=lease.client)
            case Hello() | Resume() | TakeOver() | Heartbeat():
                raise AssertionError("handled before requests are")
            case RequestProcess() | ChangeSettings() | Restore():
                raise AssertionError("handled before requests are")
            case _:
                return self._change(lease, request, command, identity, now=now, wall=wall)

    def _route(
        self,
        lease: Lease,
        came: _Came,
        request_id: int,
        command: RequestProcess | ChangeSettings,
        now: float,
    ) -> Outcome:
        """Have a unit's owner asked; the answer comes later, unless it is known now."""
        lease.answers.used(request_id)
        scope = scope_of(self.access, came.identity)
        try:
            if came.identity is not None:
                refuse_forbidden(came.identity, command)
            refuse_beyond(self.state, lease, command, self._config.limits)
            came_on = (came.peer, came.descriptor)
            reply = self.routing.ask(lease, came_on, request_id, command, now=now, scope=scope)
        except EzGraphError as error:
            if came.identity is not None:
                self._audit(came.identity, command, error, now)
            reply = refusal_of(withheld(error, scope))
        if reply is not None:
            lease.answers.remember(request_id, reply)
        return Outcome(reply)

    # --- restores ---

    def _begin_restore(
        self, lease: Lease, came: _Came, request_id: int, command: Restore, now: float
    ) -> Outcome:
        """Take a restore up, or up again; it is answered when its owners have been asked."""
        lease.answers.used(request_id)
        came_on = (came.peer, came.descriptor)
        if self.restores.again(lease.client, request_id, came_on):
            return Outcome()
        identity, scope = came.identity, scope_of(self.access, came.identity)
        restore = Restoring(
            lease.client,
            request_id,
            came_on,
            command,
            replace(lease.source, reason=command.reason),
            identity,
            _asker(lease, identity),
            now + timeout_of(command.timeout_s),
        )
        try:
            if identity is not None:
                refuse_forbidden(identity, command)
                refuse_partial(identity, scope, "all that a snapshot has")
            refuse_beyond(self.state, lease, command, self._config.limits)
            self.restores.begin(restore)
        except EzGraphError as error:
            return Outcome(self._refused(lease, identity, request_id, command, error, now))
        return Outcome(read=command, client=lease.client)

    def _identity_of(self, public: str) -> Identity | None:
        """Return who has a key now; None: nobody that is admitted any more."""
        return None if self.access is None else self.access.identity(public)

    def _hand_owed(self, command: Change) -> None:
        """Hand an owner that has come, or has reported something, what it is owed."""
        match command:
            case UpdateUnits():
                for unit in command.added:
                    self.routing.hand_owed(unit)
            case ReportSettings():
                self.routing.hand_owed(command.address)
            case _:
                pass

    # --- changes, and what changes nothing ---

    def _ask_store(
        self, lease: Lease, came: _Came, request_id: int, command: StoreCommand, now: float
    ) -> Outcome:
        """Have the store asked for a change that the role and the limits allow."""
        lease.answers.used(request_id)
        try:
            if came.identity is not None:
                refuse_forbidden(came.identity, command)
            refuse_beyond(self.state, lease, command, self._config.limits)
        except EzGraphError as error:
            return Outcome(self._refused(lease, came.identity, request_id, command, error, now))
        asked = StoreAsked(
            command, lease, request_id, came.peer, came.descriptor, came.public, came.identity
        )
        return Outcome(store=asked)

    def stored(
        self, asked: StoreAsked, result: Decided | EzGraphError, *, now: float, wall: float
    ) -> Outcome:
        """Take up what a change of the store came to: number it, and answer it."""
        lease, request_id = asked.lease, asked.request_id
        if isinstance(result, EzGraphError):
            identity = self.access.identity(asked.public) if self.access is not None else None
            return Outcome(
                self._refused(lease, identity, request_id, asked.command, result, now)
            )
        events: tuple[Event, ...] = ()
        if result.bodies:
            source, reason = lease.source, getattr(asked.command, "reason", None)
            if reason is not None:
                source = replace(source, reason=reason)
            events = self._transaction(result.bodies, source, request_id, now=now, wall=wall)
        reply = result.reply(self.state.seq)
        lease.answers.remember(request_id, reply)
        return Outcome(reply, events)

    def _refused(
        self,
        lease: Lease,
        identity: Identity | None,
        request_id: int,
        command: Command,
        error: EzGraphError,
        now: float,
    ) -> Refusal:
        """Return a refusal as its asker may see it; it is written down, and remembered."""
        if identity is not None:
            self._audit(identity, command, error, now)
        refusal = refusal_of(withheld(error, scope_of(self.access, identity)))
        lease.answers.remember(request_id, refusal)
        return refusal

    def _told_the_head(self, lease: Lease, request: Request) -> Outcome:
        """Answer with the head; repeated, not with a later one: watchers begin there."""
        done = Done(lease.answers.sync_at(request.request_id, self.state.seq))
        lease.answers.remember(request.request_id, done)
        return Outcome(done)

    def _refuse_watch(self, identity: Identity | None, command: OpenWatch) -> None:
        scope, prefix = scope_of(self.access, identity), check_key(command.prefix)
        if identity is not None:
            refuse_unreadable(identity, scope, prefix)
        self.refuse_full_watch(scope, prefix)

    def _refuse_config_read(
        self, identity: Identity | None, command: ConfigReadCommand
    ) -> None:
        wanted, scope = wanted_under(command), scope_of(self.access, identity)
        match command:
            case ReadConfig() if identity is not None:
                refuse_unreadable(identity, scope, wanted)
            case ReadConfigSchema() if identity is not None:
                refuse_hidden(identity, scope, wanted)
            case _:
                pass  # a list has what may be read, as other listings have

    def _change(
        self,
        lease: Lease,
        request: Request,
        command: Change,
        identity: Identity | None,
        *,
        now: float,
        wall: float,
    ) -> Outcome:
        try:
            if identity is not None:
                refuse_forbidden(identity, command)
            refuse_beyond(self.state, lease, command, self._config.limits)
            bodies = self._bodies(lease, command)
        except EzGraphError as error:
            if identity is not None:
                self._audit(identity, command, error, now)
            outcome = Outcome(refusal_of(withheld(error, scope_of(self.access, identity))))
        else:
            outcome = self._commit(lease, bodies, request, now=now, wall=wall)
        if outcome.reply is not None:
            lease.answers.remember(request.request_id, outcome.reply)
        if self.state.owed and not isinstance(outcome.reply, Refusal):
            self._hand_owed(command)
        if isinstance(command, ReportSettings) and outcome.events:
            is_answer = self.routing.reported(lease, command, outcome.events[-1].seq)
            return outcome._replace(can_wait=is_answer)
        return outcome

    def _bodies(self, lease: Lease, command: Change) -> Sequence[Body]:
        state = self.state
        match command:
            case Connect():
                return rules_graph.connect(state, command, _owner(lease))
            case Disconnect():
                return rules_graph.disconnect(state, command, _owner(lease))
            case ReportSettings():
                asked_by = self.routing.asked_by(lease, command)
                reported = rules_process.report_settings(
                    state, command, _process_id(lease), asked_by
                )
                return (*reported, *rules_process.settle_settings(state, command))
            case RegisterMetadata():
                return rules_metadata.register(state, command.metadata, _session_id(lease))
            case UpdateUnits():
                return rules_process.update_units(state, command, _process_id(lease))
            case SetPause():
                return rules_graph.pause(state, paused=command.paused)
            case ChangeConfig() | SetConfigSchema():
                session = lease.client if lease.kind == "session" else None
                return self._changed_config(command, session)
            case ServeGraph() | AnnounceNodes() | WithdrawGraph():
                return self._served(command, _server_id(lease))
            case Revert():
                return self._owned(lease)
        assert_never(command)

    def _served(
        self, command: ServeGraph | AnnounceNodes | WithdrawGraph, owner: str
    ) -> Sequence[Body]:
        served, limits = self.state.served, self._config.limits
        match command:
            case ServeGraph():
                return rules_nodes.serve(served, command, owner, limits=limits)
            case AnnounceNodes():
                return rules_nodes.announce(served, command, owner, limits=limits)
            case WithdrawGraph():
                return rules_nodes.withdraw(served, command, owner)

    def _commit(
        self, lease: Lease, bodies: Sequence[Body], request: Request, *, now: float, wall: float
    ) -> Outcome:
        command = request.command
        if not bodies:
            return Outcome(self._reached(lease, command, self.state.seq, 0))
        source, reason = lease.source, getattr(command, "reason", None)
        if reason is not None:
            source = replace(source, reason=reason)
        events = self._transaction(bodies, source, request.request_id, now=now, wall=wall)
        return Outcome(self._reached(lease, command, events[-1].seq, len(events)), events)

    def _reached(
        self, lease: Lease, command: Command, seq: int, changed: int
    ) -> Done | ConfigChanged | Serving:
        """Return what a change is answered that made so many events."""
        match command:
            case ChangeConfig():
                return ConfigChanged(seq, changed, len(command.changes) - changed)
            case ServeGraph():
                secret = self.admission.ticket_secret
                return Serving(seq, secret(command.name, lease.client, command.incarnation))
            case _:
                return Done(seq)

    def _as_asked(
        self, lease: Lease, command: Command, answered: Reply, first: int | None
    ) -> Reply:
        """Return what a repeated command was answered, if only its transaction is remembered."""
        match command, answered:
            case ChangeConfig(), ConfigChanged(seq=seq, changed=changed):
                return self._reached(lease, command, seq, changed)
            case ChangeConfig(), Done(seq=seq) if first is not None:
                return self._reached(lease, command, seq, seq - first + 1)
            case ServeGraph(), Done(seq=seq):
                return self._reached(lease, command, seq, 0)
            case _:
                return answered

    def _transaction(
        self,
        bodies: Sequence[Body],
        source: Source,
        request_id: int | None,
        *,
        now: float,
        wall: float,
    ) -> tuple[Event, ...]:
        """Number the bodies as one transaction and apply it."""
        state = self.state
        epoch, before = state.epoch, state.seq
        first, last = before + 1, before + len(bodies)
        events = []
        for seq, body in enumerate(bodies, first):
            event = Event(
                epoch, seq, seq - 1, first, last, wall, now, key_of(body), source, request_id, body
            )
            state.apply(event)
            events.append(event)
            if self.restores:
                self.restores.touch(body)
        return tuple(events)

    def seed(
        self, command: ChangeConfig | SetConfigSchema, *, now: float, wall: float
    ) -> tuple[Event, ...]:
        """Change the configuration on the broker's own account: nobody's lease, nobody's role.

        Raises:
            RefusedError: it breaks a rule; nothing of it is done.
        """
        bodies = self._changed_config(command, None)
        source = replace(self._broker_source, reason=command.reason)
        return self._transaction(bodies, source, None, now=now, wall=wall) if bodies else ()

    def _changed_config(
        self, command: ChangeConfig | SetConfigSchema, session: str | None
    ) -> tuple[Body, ...]:
        limits, checks, config = self._config.limits, self._checks, self.state.config
        if isinstance(command, ChangeConfig):
            return rules_config.change(config, command, session, limits=limits, checks=checks)
        return rules_config.set_schema(config, command, limits=limits, checks=checks)

    # --- leases ---

    def _hello(self, came: _Came, hello: Hello, *, now: float, wall: float) -> Outcome:
        lease = self.admission.known(hello, came.public)
        if lease is not None:
            self._bind(came, lease, now, is_main=True)
            return Outcome(self._welcome(lease, came.identity))
        head = self.state.seq
        lease = self.admission.open(hello, head=head, now=now, identity=came.identity)
        if self._bind(came, lease, now, is_main=True).closed:
            self._suspend_if_gone(lease, now)  # whoever said it went while it waited here
        bodies: tuple[Body, ...] = ()
        if lease.kind == "session":
            bodies = (SessionOpened(lease.client, lease.ttl_s, lease.holder),)
        elif lease.kind == "process":
            bodies = (ProcessOpened(_process_id(lease), lease.ttl_s, lease.holder),)
        events = self._transaction(bodies, lease.source, None, now=now, wall=wall)
        return Outcome(self._welcome(lease, came.identity), events)

    def _resume(self, came: _Came, resume: Resume, *, now: float) -> Outcome:
        state = self.state
        lease = self.admission.resumed(
            resume, epoch=state.epoch, head=state.seq, public=came.public
        )
        self._bind(came, lease, now, is_main=resume.is_main)
        lease.heard_seq = min(resume.seq or lease.heard_seq, state.seq)
        return Outcome(self._welcome(lease, came.identity))

    def _take_over(
        self, came: _Came, command: TakeOver, *, now: float, wall: float
    ) -> Outcome:
        """Give a lease to another program that shows its token; the one before is cut off."""
        lease = self.admission.inherited(command, came.public)
        events: tuple[Event, ...] = ()
        is_new = lease.holder != holder_of(command.hello.nonce, came.public)
        if is_new:  # else it is a repetition
            self._connections.unbind_all_of(lease)
            self.routing.taken_over(lease)
            self.restores.ended(lease.client)  # that program's, not the next one's
            self.admission.change_holder(lease, command.hello, came.identity)
            body = self._taken_over(lease)
            events = self._transaction((body,), lease.source, None, now=now, wall=wall)
        if self._bind(came, lease, now, is_main=True).closed:
            self._suspend_if_gone(lease, now)
        return Outcome(self._welcome(lease, came.identity), events)

    def _taken_over(self, lease: Lease) -> Body:
        if lease.kind == "session":
            session = self.state.sessions[lease.client]
            opened = session.opened_seq, session.opened_wall
            return SessionTakenOver(lease.client, lease.ttl_s, lease.holder, *opened)
        process_id = _process_id(lease)
        process = self.state.processes[process_id]
        opened = process.opened_seq, process.opened_wall
        return ProcessTakenOver(process_id, lease.ttl_s, lease.holder, *opened)

    def _bind(
        self, came: _Came, lease: Lease, now: float, *, is_main: bool
    ) -> Connection:
        """Bind a connection; a lease that it leaves may have none left."""
        before = self._connections.get(came.peer)
        connection = self._connections.bind(
            came.peer, lease, came.descriptor, now, public=came.public, is_main=is_main
        )
        if is_main:
            self.routing.owner_is_back(lease)
        if before is not None and before.lease is not lease:
            self._suspend_if_gone(before.lease, now)
        return connection

    def _suspend_if_gone(self, lease: Lease, now: float) -> None:
        is_gone = all(each.closed for each in lease.connections.values())
        if is_gone and lease.suspended_at is None:
            self.leases.suspend(lease, now)

    def connection_of(self, peer: bytes) -> Connection | None:
        """Return what ``peer`` is bound to, or None."""
        return self._connections.get(peer)

    def is_gone(self, descriptor: Descriptor | None) -> bool:
        """Return whether the peer at ``descriptor`` is gone; None: that is not known."""
        return self._connections.is_gone(descriptor)

    def connection_closed(self, descriptor: Descriptor, *, now: float) -> None:
        """The peer at ``descriptor`` is gone; a lease with no connection left is suspended."""
        for lease in self._connections.close(descriptor):
            self._suspend_if_gone(lease, now)
            self.routing.owner_is_away(lease)

    def _welcome(self, lease: Lease, identity: Identity | None) -> Welcome:
        scope, limits = scope_of(self.access, identity), self._config.limits
        return Welcome(
            protocol=PROTOCOL_VERSION,
            version=__version__,
            cluster_id=self._cluster_id,
            epoch=self.state.epoch,
            head=self.state.seq,
            floor=self.floor,
            client=lease.client,
            token=self.admission.token(lease.client, identity.public if identity else None),
            ttl_s=lease.ttl_s,
            events_port=self.events_ports[scope.number],
            advertise=self._config.advertise,
            max_frame_bytes=limits.max_frame_bytes,
            next_request_id=lease.answers.next_id,
            key_name=identity.name if identity else None,
            role=identity.role.name if identity else None,
            reads=None if scope.is_full else [str(pattern) for pattern in scope.patterns],
            max_subscriptions=limits.max_subscriptions_per_connection,
            max_frames_per_message=limits.max_frames_per_message,
        )

    def _goodbye(self, lease: Lease, request: Request, *, now: float, wall: float) -> Outcome:
        events = self._end(lease, EndReason.CLOSED, request.request_id, now=now, wall=wall)
        return Outcome(Done(self.state.seq), events)

    def expire(
        self,
        *,
        now: float,
        wall: float,
        due: float | None = None,
        is_waiting: Callable[[bytes], bool] = lambda _: False,
    ) -> list[tuple[Event, ...]]:
        """End every lease that was silent or suspended for too long; one transaction each.

        ``due``: only what was over by then (None: now), and only if no connection of the lease
        ``is_waiting`` to be decided on.
        """
        over = [
            self._end(lease, _reason(lease), None, now=now, wall=wall)
            for lease in self.leases.expired(now if due is None else due, is_waiting)
        ]
        return [events for events in over if events]

    def _end(
        self, lease: Lease, reason: EndReason, request_id: int | None, *, now: float, wall: float
    ) -> tuple[Event, ...]:
        bodies = self._owned(lease)
        if lease.kind == "session":
            bodies.append(SessionClosed(lease.client, reason))
        elif lease.kind == "process":
            bodies.append(ProcessClosed(_process_id(lease), reason))
        self.admission.end(lease, reason)
        self._connections.unbind_all_of(lease)
        events = self._transaction(bodies, lease.source, request_id, now=now, wall=wall)
        self.routing.ended(lease)  # when its units are nobody's
        self.restores.ended(lease.client)
        self.admission.ended.remember(events)
        return events

    def _owned(self, lease: Lease) -> list[Body]:
        """Return the events that remove everything a lease owns."""
        served = rules_nodes.release_graphs(self.state.served, lease.client)
        if lease.kind == "session":
            metadata = rules_metadata.release_metadata(self.state, lease.client)
            config = rules_config.release_config(self.state.config, lease.client)
            edges = rules_graph.release_edges(self.state, lease.client)
            return [*edges, *metadata, *config, *served]
        if lease.kind == "process":
            return [*rules_process.release_process(self.state, _process_id(lease)), *served]
        return []

    def restore_leases(
        self, history: Sequence[Event], answered: Iterable[Answered] = (), *, now: float
    ) -> None:
        """Take up after a restart; see `ezgraph.broker.admission.Admission.restore`."""
        self.admission.restore(self.state, history, answered, now=now)
        for address in sorted(self.state.owed):
            self.routing.hand_owed(address)

    # --- compaction ---

    def needed_after(self, now: float) -> int:
        """Return the oldest seq after which a client with a lease may still need history."""
        return min((lease.needs_after(now) for lease in self.leases), default=self.state.seq)

    def compacted(self, floor: int, *, now: float, wall: float) -> tuple[Event, ...]:
        """Say that history below ``floor`` is gone."""
        self.floor = floor
        body = HistoryCompacted(floor)
        return self._transaction((body,), self._broker_source, None, now=now, wall=wall)

    def _refuse_live_sessions(self, asker: Lease, command: Shutdown) -> None:
        live = [each for each in self.leases if each.kind != "guest" and each is not asker]
        if live and not command.force:
            raise LiveSessionsError(
                f"{len(live)} live session(s) use this broker, among them "
                f"{live[0].source.program} on {live[0].source.host} (pid {live[0].source.pid}); "
                f"close them, or force the shutdown"
            )

    # --- listings ---

    def list_clients(self, now: float, scope: ReadScope = FULL_SCOPE) -> ClientList:
        """Return everybody who holds a lease and may be seen in ``scope``, oldest first."""
        infos = [
            self._describe(lease, now, scope)
            for lease in self.leases
            if scope.has(("process" if lease.kind == "process" else "session", lease.client))
        ]
        infos.sort(key=lambda info: -info.age_s)
        return ClientList(self.state.seq, infos, filtered=not scope.is_full)

    def _describe(self, lease: Lease, now: float, scope: ReadScope) -> ClientInfo:
        source, state = lease.source, self.state
        session = state.sessions.get(lease.client)
        process = state.processes.get(source.process_id) if source.process_id else None
        return ClientInfo(
            id=lease.client,
            kind=lease.kind,
            host=source.host or "",
            pid=source.pid or 0,
            program=source.program or "",
            login=source.login or "",
            key_name=source.key_name,
            age_s=now - lease.opened,
            last_heard_s=now - lease.last_heard,
            main_loop_age_s=lease.main_loop_age_s,
            ttl_s=lease.ttl_s,
            suspended=lease.suspended_at is not None,
            edges=[
                edge
                for edge in (state.edges_of(lease.client) if session else [])
                if scope.has(("edge", *edge))
            ],
            components=sorted(
                address
                for address in (session.components if session else ())
                if scope.has(("component", address))
            ),
            units=sorted(process.units) if process else [],
            config=[
                key
                for key in (state.config.of_session(lease.client) if session else [])
                if scope.has((CONFIG, *key))
            ],
            graphs=[
                name for name in state.served.of_owner(lease.client) if scope.touches((NODE, name))
            ],
        )


class _Came(NamedTuple):
    """Where a request came from: the connection, its descriptor, and whose key it has."""

    peer: bytes
    descriptor: Descriptor | None
    identity: Identity | None
    public: str | None


def _asker(lease: Lease, identity: Identity | None) -> Asker:
    session = lease.client if lease.kind == "session" else None
    return Asker(session) if identity is None else Asker(session, identity.role.may)


def _never_full(scope: ReadScope, prefix: Key) -> None:
    """There is no bound on watches until the shell, which counts them, sets one."""


def refusal_of(error: EzGraphError) -> Refusal:
    """Return what travels of an error."""
    floor, lost = getattr(error, "floor", None), getattr(error, "lost", None)
    fingerprint = getattr(error, "fingerprint", "") or None
    report, message = getattr(error, "report", None), str(error)
    if len(message) > _MAX_MESSAGE:  # a loop of thousands of topics, for instance
        message = f"{message[: _MAX_MESSAGE // 2]} … {message[-_MAX_MESSAGE // 2 :]}"
    return Refusal(error.code, message, floor, lost, fingerprint, report)


def _reason(lease: Lease) -> EndReason:
    return EndReason.EXPIRED if lease.suspended_at is None else EndReason.LOST


def _owner(lease: Lease) -> str | None:
    """Return who will hold an edge: the session, or nobody for a guest (persistent)."""
    if lease.kind == "process":
        raise InvalidCommandError(
            "a process client holds no edges; connect them in a GraphContext"
        )
    return lease.client if lease.kind == "session" else None


def _session_id(lease: Lease) -> str:
    if lease.kind != "session":
        raise InvalidCommandError(
            f"metadata belongs to a session, and this is a {lease.kind}; use a GraphContext"
        )
    return lease.client


def _server_id(lease: Lease) -> str:
    if lease.kind == "guest":
        raise InvalidCommandError(
            "a guest owns nothing, so it serves no graph either; use a GraphContext, or a "
            "ProcessControlClient"
        )
    return lease.client


def _process_id(lease: Lease) -> UUID:
    if lease.source.process_id is None:
        raise InvalidCommandError(
            f"units belong to a process client, and this is a {lease.kind}; "
            f"use a ProcessControlClient"
        )
    return lease.source.process_id

