"""The broker's core: one command in, one decision out. Pure.

It holds the state, the leases and which connection belongs to which lease. For each request it
finds the lease of the connection, lets a rule decide on event bodies (or refuse), numbers them
as one transaction, applies them to the state, and says what to answer. Nothing it returns may be
answered or published before the journal has the events: the shell (`ezgraph.broker.service`)
keeps that order, and stops for good when an append fails, because the state is then ahead of
the journal.

Requests that read stored bytes (`ReadEvents`, `OpenSnapshot`, `ReadSnapshot`, `GetStatus`) are
let through here and answered by the shell, which has the bytes.

States of a connection: unbound -> bound (HELLO or RESUME) -> unbound when its lease ends.
States of a lease: open -> suspended (its last connection has closed) -> open again by RESUME, or
lost; open -> closed by goodbye | expired by silence. A guest's lease owns nothing and
makes no events; it may read, and change what is persistent.
"""

from __future__ import annotations

import hmac
import math
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, assert_never

from ezgraph._version import __version__
from ezgraph.broker import rules_graph, rules_metadata, rules_process
from ezgraph.broker.leases import Answers, Connection, Descriptor, Lease, Leases
from ezgraph.errors import (
    DivergedError,
    EzGraphError,
    InvalidCommandError,
    LimitError,
    LiveSessionsError,
    ProtocolVersionError,
    SessionExpiredError,
    WrongClusterError,
)
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import (
    Connect,
    Disconnect,
    GetStatus,
    Goodbye,
    Heartbeat,
    Hello,
    ListClients,
    OpenSnapshot,
    ReadEvents,
    ReadSnapshot,
    RegisterMetadata,
    ReportSettings,
    Request,
    Resume,
    Revert,
    SetPause,
    Shutdown,
    Sync,
    UpdateUnits,
)
from ezgraph.protocol.events import (
    Body,
    EndReason,
    Event,
    ProcessClosed,
    ProcessOpened,
    SessionClosed,
    SessionOpened,
    Source,
    key_of,
)
from ezgraph.protocol.replies import Beat, ClientList, Done, Refusal, Reply, Welcome
from ezgraph.protocol.snapshot import ClientInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from ezgraph.config import BrokerConfig
    from ezgraph.ids import IdSource
    from ezgraph.state.graph import GraphState

UNBOUND = Refusal(
    "unbound", "this connection belongs to no lease; say HELLO or RESUME on it, then repeat"
)
_SPENT_NONCES = 10_000
_CLOSED_CONNECTIONS = 4
Change = Connect | Disconnect | RegisterMetadata | UpdateUnits | ReportSettings | SetPause | Revert
ReadCommand = ReadEvents | OpenSnapshot | ReadSnapshot | GetStatus


class Outcome(NamedTuple):
    """What follows from one request: an answer, or a read for the shell, and a transaction."""

    reply: Reply | None = None
    events: tuple[Event, ...] = ()
    read: ReadCommand | None = None
    stop: bool = False


class Cluster(NamedTuple):
    """Which history this broker keeps, and the secret its tokens are made with."""

    cluster_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Cluster({self.cluster_id!r})"


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
    ) -> None:
        self.state = state
        self.cluster = cluster
        self.floor = floor
        self.leases = Leases()
        self._config = config
        self._ids = ids
        self.events_port = events_port
        self._bound: dict[bytes, Connection] = {}
        self._by_descriptor: dict[Descriptor, set[bytes]] = {}
        self._by_nonce: dict[str, Lease] = {}
        self._spent: dict[str, None] = {}
        self._restored: dict[str, Answers] = {}

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
    ) -> Outcome:
        """Decide on one request from the connection ``peer``, which came in on ``descriptor``.

        ``now`` is the broker's monotonic clock and ``wall`` its wall clock, both in seconds.
        """
        command = request.command
        try:
            if isinstance(command, Hello):
                return self._hello(peer, command, descriptor, now=now, wall=wall)
            if isinstance(command, Resume):
                return self._resume(peer, command, descriptor, now=now)
            return self._decide(peer, request, now=now, wall=wall)
        except EzGraphError as error:
            return Outcome(Refusal(error.code, str(error)))

    def _decide(self, peer: bytes, request: Request, *, now: float, wall: float) -> Outcome:
        command = request.command
        connection = self._bound.get(peer)
        if connection is None:
            return Outcome(UNBOUND)
        lease = connection.lease
        if not connection.closed:
            lease.last_heard = now
        if isinstance(command, Heartbeat):
            lease.main_loop_age_s = command.main_loop_age_s
            return Outcome(Beat(self.state.seq, wall, now))
        answers = lease.answers
        answers.forget_below(request.lowest_open)
        answered = answers.reply_to(request.request_id)
        if answered is not None:
            return Outcome(answered)
        if len(answers) >= self._config.limits.max_open_requests:
            raise LimitError(
                f"{len(answers)} requests of this client may still be repeated, the limit "
                f"(max_open_requests); take replies in order, and name the lowest open id"
            )
        return self._execute(lease, request, now=now, wall=wall)

    def _execute(
        self, lease: Lease, request: Request, *, now: float, wall: float
    ) -> Outcome:
        command = request.command
        match command:  # what changes nothing
            case Sync():
                return Outcome(Done(self.state.seq))
            case Goodbye():
                return self._goodbye(lease, request, now=now, wall=wall)
            case ListClients():
                return Outcome(self.list_clients(now))
            case Shutdown():
                self._refuse_live_sessions(lease, command)
                return Outcome(Done(self.state.seq), stop=True)
            case ReadEvents() | OpenSnapshot() | ReadSnapshot() | GetStatus():
                return Outcome(read=command)
            case Hello() | Resume() | Heartbeat():
                raise AssertionError("handled before requests are")
            case _:
                return self._change(lease, request, command, now=now, wall=wall)

    def _change(
        self, lease: Lease, request: Request, command: Change, *, now: float, wall: float
    ) -> Outcome:
        try:
            bodies = self._bodies(lease, command)
        except EzGraphError as error:
            outcome = Outcome(Refusal(error.code, str(error)))
        else:
            outcome = self._commit(lease, bodies, request, now=now, wall=wall)
        if outcome.reply is not None:
            lease.answers.remember(request.request_id, outcome.reply)
        return outcome

    def _bodies(self, lease: Lease, command: Change) -> Sequence[Body]:
        state = self.state
        match command:
            case Connect():
                return rules_graph.connect(state, command, _owner(lease))
            case Disconnect():
                return rules_graph.disconnect(state, command, _owner(lease))
            case ReportSettings():
                return rules_process.report_settings(state, command, _process_id(lease))
            case RegisterMetadata():
                return rules_metadata.register(state, command.metadata, _session_id(lease))
            case UpdateUnits():
                return rules_process.update_units(state, command, _process_id(lease))
            case SetPause():
                return rules_graph.pause(state, paused=command.paused)
            case Revert():
                return self._owned(lease)
        assert_never(command)

    def _commit(
        self, lease: Lease, bodies: Sequence[Body], request: Request, *, now: float, wall: float
    ) -> Outcome:
        if not bodies:
            return Outcome(Done(self.state.seq))
        source, reason = lease.source, getattr(request.command, "reason", None)
        if reason is not None:
            source = replace(source, reason=reason)
        events = self._transaction(bodies, source, request.request_id, now=now, wall=wall)
        return Outcome(Done(events[-1].seq), events)

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
        return tuple(events)

    # --- leases ---

    def _hello(
        self, peer: bytes, hello: Hello, descriptor: Descriptor | None, *, now: float, wall: float
    ) -> Outcome:
        self._check_hello(hello)
        if hello.nonce in self._spent:
            raise SessionExpiredError("the lease that this HELLO opened has ended; open a new one")
        known = self._by_nonce.get(hello.nonce)
        if known is not None:
            self._bind(peer, known, descriptor, now)
            return Outcome(self._welcome(known))
        lease = self._new_lease(hello, now)
        self.leases.add(lease)
        self._by_nonce[hello.nonce] = lease
        self._bind(peer, lease, descriptor, now)
        bodies: tuple[Body, ...] = ()
        if lease.kind == "session":
            bodies = (SessionOpened(lease.client, lease.ttl_s),)
        elif lease.kind == "process":
            bodies = (ProcessOpened(_process_id(lease), lease.ttl_s),)
        events = self._transaction(bodies, lease.source, None, now=now, wall=wall)
        return Outcome(self._welcome(lease), events)

    def _check_hello(self, hello: Hello) -> None:
        self._check_version(hello.protocol)
        self._check_cluster(hello.cluster_id)
        if hello.ttl_s is not None and not math.isfinite(hello.ttl_s):
            raise InvalidCommandError(f"a TTL of {hello.ttl_s} s; give a number of seconds")
        if hello.kind not in {"session", "process", "guest"}:
            raise InvalidCommandError(
                f"HELLO of kind {hello.kind!r}; it is session, process or guest"
            )
        if len(self.leases) >= self._config.limits.max_leases and hello.nonce not in self._by_nonce:
            raise LimitError(
                f"{len(self.leases)} leases are open, the limit of this broker (max_leases); "
                f"close some, or raise the limit"
            )

    def _check_version(self, version: int) -> None:
        if version != PROTOCOL_VERSION:
            raise ProtocolVersionError(
                f"the client speaks protocol {version}, this broker (ezgraph {__version__}) "
                f"speaks {PROTOCOL_VERSION}; install the same ezgraph on both"
            )

    def _check_cluster(self, cluster_id: str | None) -> None:
        if cluster_id not in (None, self.cluster.cluster_id):
            raise WrongClusterError(
                f"the client belongs to cluster {cluster_id}, this broker keeps "
                f"{self.cluster.cluster_id}: another journal, or a new memory:// broker; "
                f"open a new context to join it"
            )

    def _new_lease(self, hello: Hello, now: float) -> Lease:
        limits = self._config.limits
        ttl_s = self._config.ttl_s if hello.ttl_s is None else hello.ttl_s
        ttl_s = min(max(ttl_s, limits.min_ttl_s), limits.max_ttl_s)
        session_id = process_id = None
        if hello.kind == "process":
            process_id = self._ids.process_id()
            client = str(process_id)
        elif hello.kind == "session":
            client = session_id = self._ids.session_id()
        else:
            client = _guest_id(hello.nonce)
            ttl_s = limits.guest_ttl_s
        source = Source(
            session_id=session_id,
            process_id=process_id,
            client=client,
            program=hello.program,
            host=hello.host,
            pid=hello.pid,
            login=hello.login,
        )
        lease = Lease(client, hello.kind, source, ttl_s, now, now, nonce=hello.nonce)
        lease.answers = self._restored.pop(client, lease.answers)
        return lease

    def _resume(
        self, peer: bytes, resume: Resume, descriptor: Descriptor | None, *, now: float
    ) -> Outcome:
        self._check_version(resume.protocol)
        self._check_cluster(resume.cluster_id)
        if not hmac.compare_digest(resume.token, self._token(resume.client)):
            raise SessionExpiredError(
                f"the token does not belong to lease {resume.client}; open a new context"
            )
        lease = self.leases.get(resume.client)
        if lease is None:
            raise SessionExpiredError(
                f"lease {resume.client} ran out or was closed, and what it owned is gone; "
                f"open a new context and declare it again"
            )
        if resume.epoch > self.state.epoch or (
            resume.epoch == self.state.epoch and resume.seq > self.state.seq
        ):
            raise DivergedError(
                f"the client has seen (epoch {resume.epoch}, seq {resume.seq}), this broker ends "
                f"at (epoch {self.state.epoch}, seq {self.state.seq}); take a snapshot"
            )
        self._bind(peer, lease, descriptor, now)
        return Outcome(self._welcome(lease))

    def _bind(
        self, peer: bytes, lease: Lease, descriptor: Descriptor | None, now: float
    ) -> None:
        self._unbind(peer)
        self._bound[peer] = lease.connections[peer] = Connection(lease, descriptor)
        if descriptor is not None:
            self._by_descriptor.setdefault(descriptor, set()).add(peer)
        lease.last_heard = now
        lease.suspended_at = None
        closed = [each for each, known in lease.connections.items() if known.closed]
        for each in closed[:-_CLOSED_CONNECTIONS]:
            self._unbind(each)

    def _unbind(self, peer: bytes) -> None:
        connection = self._bound.pop(peer, None)
        if connection is None:
            return
        connection.lease.connections.pop(peer, None)
        if connection.descriptor is not None:
            peers = self._by_descriptor.get(connection.descriptor, set())
            peers.discard(peer)
            if not peers:
                self._by_descriptor.pop(connection.descriptor, None)

    def knows(self, peer: bytes) -> bool:
        """Return whether ``peer`` is bound to a lease."""
        return peer in self._bound

    def connection_closed(self, descriptor: Descriptor, *, now: float) -> None:
        """The peer at ``descriptor`` is gone; a lease with no connection left is suspended."""
        for peer in self._by_descriptor.pop(descriptor, ()):
            connection = self._bound[peer]
            connection.closed = True
            lease = connection.lease
            if lease.suspended_at is None and all(c.closed for c in lease.connections.values()):
                self.leases.suspend(lease, now)

    def _welcome(self, lease: Lease) -> Welcome:
        return Welcome(
            protocol=PROTOCOL_VERSION,
            version=__version__,
            cluster_id=self.cluster.cluster_id,
            epoch=self.state.epoch,
            head=self.state.seq,
            floor=self.floor,
            client=lease.client,
            token=self._token(lease.client),
            ttl_s=lease.ttl_s,
            events_port=self.events_port,
            advertise=self._config.advertise,
            max_frame_bytes=self._config.limits.max_frame_bytes,
        )

    def _token(self, client: str) -> bytes:
        return blake2b(client.encode(), key=self.cluster.secret, digest_size=32).digest()

    def _goodbye(self, lease: Lease, request: Request, *, now: float, wall: float) -> Outcome:
        events = self._end(lease, EndReason.CLOSED, request.request_id, now=now, wall=wall)
        return Outcome(Done(self.state.seq), events)

    def expire(self, *, now: float, wall: float) -> list[tuple[Event, ...]]:
        """End every lease that was silent or suspended for too long; one transaction each."""
        over = [
            self._end(lease, _reason(lease), None, now=now, wall=wall)
            for lease in self.leases.expired(now)
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
        self.leases.remove(lease.client)
        self._by_nonce.pop(lease.nonce, None)
        if lease.kind != "guest" or reason is EndReason.CLOSED:
            self._spend(lease.nonce)
        for peer in list(lease.connections):
            self._unbind(peer)
        return self._transaction(bodies, lease.source, request_id, now=now, wall=wall)

    def _spend(self, nonce: str) -> None:
        """A late repetition of a HELLO must not open a lease that nobody holds."""
        self._spent[nonce] = None
        if len(self._spent) > _SPENT_NONCES:
            del self._spent[next(iter(self._spent))]

    def _owned(self, lease: Lease) -> list[Body]:
        """Return the events that remove everything a lease owns."""
        if lease.kind == "session":
            metadata = rules_metadata.release_metadata(self.state, lease.client)
            return [*rules_graph.release_edges(self.state, lease.client), *metadata]
        if lease.kind == "process":
            return rules_process.release_process(self.state, _process_id(lease))
        return []

    def restore_leases(self, history: Iterable[Event], *, now: float) -> None:
        """Give every open session and process of the state one fresh TTL, after a restart.

        ``history`` are the latest events; what their requests caused is remembered again.
        """
        for session_id, session in self.state.sessions.items():
            self.leases.add(
                Lease(session_id, "session", session.source, session.ttl_s, now, now)
            )
        for process_id, process in self.state.processes.items():
            self.leases.add(
                Lease(str(process_id), "process", process.source, process.ttl_s, now, now)
            )
        for event in history:
            client = event.source.client
            if client is None or event.request_id is None:
                continue
            lease = self.leases.get(client)
            if lease is not None:
                answers = lease.answers
            elif client.startswith(_GUEST):
                answers = self._restored.setdefault(client, Answers())
            else:
                continue
            answers.remember(event.request_id, Done(event.txn_last))

    def _refuse_live_sessions(self, asker: Lease, command: Shutdown) -> None:
        live = [each for each in self.leases if each.kind != "guest" and each is not asker]
        if live and not command.force:
            raise LiveSessionsError(
                f"{len(live)} live session(s) use this broker, among them "
                f"{live[0].source.program} on {live[0].source.host} (pid {live[0].source.pid}); "
                f"close them, or force the shutdown"
            )

    # --- listings ---

    def list_clients(self, now: float) -> ClientList:
        """Return everybody who holds a lease, oldest first."""
        infos = [self._describe(lease, now) for lease in self.leases]
        return ClientList(self.state.seq, sorted(infos, key=lambda info: -info.age_s))

    def _describe(self, lease: Lease, now: float) -> ClientInfo:
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
            edges=state.edges_of(lease.client) if session else [],
            components=sorted(session.components) if session else [],
            units=sorted(process.units) if process else [],
        )


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


def _process_id(lease: Lease) -> UUID:
    if lease.source.process_id is None:
        raise InvalidCommandError(
            f"units belong to a process client, and this is a {lease.kind}; "
            f"use a ProcessControlClient"
        )
    return lease.source.process_id


_GUEST = "guest-"


def _guest_id(nonce: str) -> str:
    """Return a guest's public id: the same for a repeated HELLO, also after a restart."""
    return _GUEST + blake2b(nonce.encode(), digest_size=8).hexdigest()
