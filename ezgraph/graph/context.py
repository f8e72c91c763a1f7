"""`GraphContext`: a session on the bus, in which everything is done that a program owns."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload
from uuid import UUID

from ezgraph.client import aio
from ezgraph.client.broker_choice import Broker, KeysLike, choose_broker
from ezgraph.client.replica import Replica
from ezgraph.clock import Deadline, SystemClock
from ezgraph.config import DEFAULT_TIMEOUT_S, AddressesLike
from ezgraph.errors import (
    CompactedError,
    InvalidCommandError,
    NoSessionError,
    ProcessRequestError,
)
from ezgraph.graph import restoring
from ezgraph.graph.configuration.keys import ConfigKeys
from ezgraph.graph.data_nodes import DataNodes, no_reply_of
from ezgraph.graph.declared import Declared, declare_again
from ezgraph.graph.sessions import (
    SNAPSHOT_ROOMS,
    AnySession,
    AnySubscription,
    SessionFactory,
    open_session,
)
from ezgraph.graph.streams import (
    EventList,
    EventStream,
    SettingsEvents,
    SettingsSnapshot,
    present_topology,
    typed_settings,
    typed_topology,
)
from ezgraph.graph.time_machine import DEFAULT_GRAPH, When, freeze, state_at
from ezgraph.names import Key, check_key
from ezgraph.protocol.commands import (
    ChangeConfig,
    ChangeSettings,
    Command,
    Connect,
    Disconnect,
    GetStatus,
    ListClients,
    ReadEvents,
    RegisterMetadata,
    RequestProcess,
    Revert,
    SetPause,
    Sync,
)
from ezgraph.protocol.replies import (
    ClientList,
    ConfigChanged,
    Done,
    EventRange,
    SettingsSet,
    StatusReport,
)
from ezgraph.protocol.routed import (
    ProcessControlOperation,
    ProcessControlResponse,
    ProcessPing,
    ProcessStats,
)
from ezgraph.protocol.settings import structured
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from ezgraph.client.resumption import ResumeToken, Resumption
    from ezgraph.config import Address
    from ezgraph.graph.rigs import Rig
    from ezgraph.graph.server import GraphServer
    from ezgraph.graph.serving import ServedGraph
    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.directory import Nodes
    from ezgraph.nodes.kinds import RootNode
    from ezgraph.nodes.server import MaySee, NodeServer
    from ezgraph.protocol.artifacts import Artifact
    from ezgraph.protocol.differences import GraphDiff
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.graphs import Snapshot
    from ezgraph.protocol.listing import SnapshotInfo
    from ezgraph.protocol.metadata import GraphMetadata
    from ezgraph.protocol.replies import Reply, RestoreReport
    from ezgraph.protocol.settings import SettingsChangedEvent, SettingsSnapshotValue
    from ezgraph.protocol.snapshot import ClientInfo, GraphSnapshot, TopologyChangedEvent
    from ezgraph.provenance.recording import Recorder
    from ezgraph.state.dag import DAG
    from ezgraph.state.graph import GraphState

T = TypeVar("T")
_SETTINGS: Key = ("settings",)
_AT_LEAST_S = 0.1
_WAY_BACK = 0.9
"""The part of a call's time that an owner is given; the rest is for the way back."""


class GraphContext:
    """A session on the bus; use it with ``async with``.

    What is connected and registered in it belongs to it and ends with it. Every call takes
    ``timeout`` in seconds and raises `DeadlineError` when it passes, a `RefusedError` when the
    broker says no (and then nothing has changed), a `SessionError` when the lease is gone.

    Args:
        address: ``"host:port"``, ``(host, port)`` or several of them, tried in turn, or
            ``"@NAME"`` of a context (``ezgraph context``); None: what ``EZGRAPH_ADDR`` names, else
            ``127.0.0.1:25979``.
        auto_start: start a broker in this process when nobody answers, and stop it with the
            context; None: only if neither an address nor the variable is given.
        ttl_s: how long the broker waits in silence before the session ends; None: its default.
        replica: keep a live copy of the state from the start (see `replica`).
        patience_s: how long subscriptions wait for a silent broker before they give up.
        program: the name this program is listed under; None: the script's.
        resume: the `resume_token` of a program that is gone: take its session over, with all
            that it owns. If that session has ended, a new one is opened; `resumption` says so.
        keys: the key pair to prove itself with, by name or ``.secret`` file (``ezgraph keys``);
            None: the context's, else what ``EZGRAPH_KEYS`` names, else none.
    """

    def __init__(
        self,
        address: AddressesLike | None = None,
        auto_start: bool | None = None,  # noqa: FBT001 - the name upstream gave it
        *,
        ttl_s: float | None = None,
        replica: bool = False,
        patience_s: float = 60.0,
        program: str | None = None,
        resume: ResumeToken | None = None,
        keys: KeysLike | None = None,
        session_factory: SessionFactory | None = None,
    ) -> None:
        self._program = program
        self._keys = keys
        self._predecessor = resume
        self._declared = Declared()
        self._data_nodes = DataNodes(self._call)
        self._address = address
        self._auto_start = auto_start
        self._ttl_s = ttl_s
        self._patience_s = patience_s
        self._wants_replica = replica
        self._make: SessionFactory = session_factory or aio.Session
        self._session: AnySession | None = None
        self._server: GraphServer | None = None
        self._replica: Replica | None = None
        self._clock = SystemClock()

    def __repr__(self) -> str:
        if self._session is None:
            return f"<{type(self).__name__} {self._address or 'default address'} not open>"
        session = self._session
        own = " with its own broker" if self._server else ""
        return (
            f"<{type(self).__name__} tcp://{session.address} session={session.client_id} "
            f"{session.state.value}{own}>"
        )

    # --- opening and closing ---

    async def open(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> Self:  # noqa: ASYNC109
        """Open the session and return the context; ``async with`` does it for you."""
        if self._session is not None:
            self._session.check_owner()
            return self
        deadline = Deadline(timeout)
        self._session, self._server = await open_session(
            self._new_session,
            choose_broker(self._address, self._keys),
            auto_start=self._auto_start,
            timeout=timeout,
        )
        try:
            if self._wants_replica:
                await self.replica.ready(timeout=deadline.left())
        except BaseException:
            self._session.abandon()  # who did not answer will not answer a goodbye
            await self.close()
            raise
        return self

    def _new_session(self, broker: Broker) -> AnySession:
        return self._make(
            broker.addresses,
            program=self._program,
            ttl_s=self._ttl_s,
            patience_s=self._patience_s,
            resume=self._predecessor,
            keys=broker.keys,
        )

    async def close(self) -> None:
        """End the session (what it owns goes with it) and any broker started for it."""
        await self.close_session()
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    async def close_session(self) -> None:
        """End the session early; what it owns goes with it."""
        session, self._session = self._session, None
        self._replica, self._declared = None, Declared()
        served = await self._data_nodes.let_go()
        try:
            if session is not None:
                await session.close()
        finally:
            for each in served:
                each.end()
            self._data_nodes.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def session_id(self) -> str:
        """The public id of the session.

        Raises:
            NoSessionError: there is no active session.
        """
        return self._active().client_id or ""

    @property
    def resume_token(self) -> ResumeToken:
        """What another program shows to take this session over: ``GraphContext(resume=token)``.

        It is a secret. ``str()`` makes a line of it to keep in a file that only you can read.
        """
        return self._active().resume_token

    @property
    def resumption(self) -> Resumption | None:
        """How this session was last come back to; None: it has never been away.

        ``Resumed | Compacted`` after a cut, a restart of the broker, or a take-over with
        ``resume=``; ``SessionExpired | WrongCluster`` when the session that was to be taken over
        has ended, or is no session of this cluster.
        """
        return self._active().resumption

    @property
    def address(self) -> Address:
        """The address of the broker in use."""
        return self._active().address

    def _active(self) -> AnySession:
        if self._session is None:
            raise NoSessionError(
                "this GraphContext has no active session: use `async with GraphContext(…) as ctx` "
                "(or `with` in ezgraph.sync) and call it inside"
            )
        self._session.check_owner()
        return self._session

    async def _ask(self, command: Command, kind: type[T], timeout: float) -> T:  # noqa: ASYNC109
        reply = await self._call(command, timeout)
        if not isinstance(reply, kind):
            raise no_reply_of(kind, command, reply)
        return reply

    async def _call(self, command: Command, timeout: float) -> Reply:  # noqa: ASYNC109
        return await self._active().call(command, timeout=timeout)

    async def _change(self, command: Command, timeout: float) -> int:  # noqa: ASYNC109
        """Do it; return the seq it reached, when the replica (if any) is there too."""
        deadline = None if self._replica is None else Deadline(timeout)
        done: Done | ConfigChanged
        if isinstance(command, ChangeConfig):
            done = await self._ask(command, ConfigChanged, timeout)
        else:
            done = await self._ask(command, Done, timeout)
        await self._changed(command, done.seq, deadline.left() if deadline else timeout)
        return done.seq

    async def _changed(self, command: Command, seq: int, timeout: float) -> None:  # noqa: ASYNC109
        """Take note of what was done; return when the replica (if any) is there too."""
        self._declared.note(command)
        await self._reached(seq, timeout)

    async def _reached(self, seq: int, timeout: float) -> None:  # noqa: ASYNC109
        """Return when the replica (if any) is there too."""
        if (replica := self._replica) is not None:
            await replica.reach(seq, timeout=timeout)

    # --- changing ---

    async def connect(
        self,
        from_topic: str,
        to_topic: str,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> int:
        """Hold the edge for this session; return the seq reached.

        Raises:
            CyclicException: it would close a loop; the message names the loop.
        """
        return await self._change(Connect(from_topic, to_topic, reason), timeout)

    async def disconnect(
        self,
        from_topic: str,
        to_topic: str,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> int:
        """Let the edge go; return the seq reached.

        Raises:
            ForeignEdgeError: others hold it; the message says who.
            UnknownEdgeError: there is no such edge.
        """
        return await self._change(Disconnect(from_topic, to_topic, reason), timeout)

    async def register_metadata(
        self, metadata: GraphMetadata, *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> int:
        """Register this session's components in place of those before; return the seq reached.

        Raises:
            AddressCollisionError: other live sessions hold some addresses; says which and who.
            MalformedMessageError: a field has the wrong type; says which.
        """
        return await self._change(RegisterMetadata(metadata), timeout)

    async def revert(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:  # noqa: ASYNC109
        """Drop everything the session owns and keep it open; return the seq reached."""
        seq = await self._change(Revert(), timeout)
        await self._data_nodes.end_all()
        return seq

    async def pause(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:  # noqa: ASYNC109
        """Ask publishers of samples to pause; return the seq reached."""
        return await self._change(SetPause(paused=True), timeout)

    async def resume(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:  # noqa: ASYNC109
        """Ask publishers of samples to go on; return the seq reached."""
        return await self._change(SetPause(paused=False), timeout)

    async def sync(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:  # noqa: ASYNC109
        """Return, with the head, when everything sent before has been applied."""
        return await self._change(Sync(), timeout)

    async def redeclare(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:  # noqa: ASYNC109
        """Declare again what this context has declared; return the seq reached.

        After a `SessionExpiredError` (or `DivergedError`) a new session is opened first; its
        ``session_id`` is a new one. Metadata, edges, ephemeral configuration and the graphs that
        are served follow. The replica goes on from a new snapshot; subscriptions that ended are to
        be opened again, with ``after_seq=`` the last seq they gave. In a session that lives nothing
        changes.

        Raises:
            RefusedError: something cannot be declared any more (an address is taken, an edge
                would close a loop, somebody else has put an entry of the configuration). The
                rest was declared; all refusals are in its notes.
        """
        session, deadline = self._active(), Deadline(timeout)
        is_new = await session.reopen(timeout=timeout)
        if is_new and self._replica is not None:
            self._replica.restart()
        return await declare_again(
            self._declared,
            self._change,
            deadline.left(),
            is_new=is_new,
            also=self._data_nodes.declares(),
        )

    @property
    def config(self) -> ConfigKeys:
        """The configuration: entries that anybody may put, watch and delete.

        Raises:
            NoSessionError: there is no active session.
        """
        return ConfigKeys(self._active(), self._changed)

    # --- data nodes ---

    async def serve(
        self,
        root: BaseNode | NodeServer,
        name: str,
        *,
        host: str | None = None,
        port: int = 0,
        advertise: str | None = None,
        announce: bool = True,
        may_see: MaySee | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> ServedGraph:
        """Serve a graph of data nodes from this process, as long as this session lives.

        Others find it by name: ``ctx.nodes["run42"]``. What they read does not pass the broker,
        but a socket and a thread of this process.

        Args:
            root: where the graph begins.
            name: what it is called on the bus; others may serve it too, with the same root uid.
            host: where to listen; None: on loopback, if the broker was reached there, else at this
                computer's address on the way to it. Outside loopback what is read is encrypted.
            port: 0: a free one.
            advertise: the host that readers are told to dial; None: ``host``.
            announce: make each node known by an event of its own.
            may_see: whether who has a key of this name (None: there are no keys) may see a node;
                of those that its role may read anyway.
            timeout: in seconds.

        Raises:
            AddressCollisionError: others serve another graph under that name; says who.
            ForbiddenError: this key's role may not serve it.
            AddressInUseError: somebody listens at that port.
        """
        deadline = Deadline(timeout)
        served, seq = await self._data_nodes.serve(
            root,
            name,
            self.address,
            host=host,
            port=port,
            advertise=advertise,
            announce=announce,
            may_see=may_see,
            timeout=timeout,
        )
        if (replica := self._replica) is not None:
            await replica.reach(seq, timeout=deadline.left())
        return served

    @property
    def nodes(self) -> Nodes:
        """The graphs of data nodes that are served on this bus, by name.

        They are looked up in the caller's thread, which waits for it: in coroutines use
        `open_graph`. What was opened here is closed with the context.

        Raises:
            NoSessionError: there is no active session.
        """
        self._active()
        return self._data_nodes.nodes(lambda: choose_broker(self._address, self._keys))

    async def open_graph(
        self, name: str, *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> RootNode:
        """Return the root of a served graph, as ``nodes[name]`` does, without blocking the loop.

        Reading it blocks: ``await asyncio.to_thread(node.read)``.

        Raises:
            UnknownLabelError: nobody serves it.
            ForbiddenError: this key's role does not reach that far.
            NodeHostGoneError: who serves it cannot be reached.
        """
        return await self._data_nodes.open(self.nodes, name, self.address, timeout=timeout)

    # --- asking others ---

    async def update_settings(
        self,
        address: str,
        value: object,
        *,
        expected_seq: int | None = None,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> SettingsSnapshotValue:
        """Have the owner of ``address`` take ``value`` as its settings, all fields of it.

        Returns what the settings are then, as their owner reported them: stored and broadcast by
        the time this returns.

        Args:
            address: a component whose process takes changes.
            value: a settings object (dataclass, pydantic model), or a mapping of fields.
            expected_seq: only if the settings are still those of that seq.
            reason: why, in free text, for the log.
            timeout: in seconds, for the way there and back.

        Raises:
            UnknownComponentError: there are no settings at ``address``.
            NoOwnerError: no process runs it.
            OwnerGoneError: its process ended before it answered.
            OwnerSilentError: its process did not answer in time; `ChangeOverdueError`: its program
                is at it for longer than it may. It may still make the change.
            OwnerBusyError: its program is still at an earlier change, which is overdue.
            VetoedError: its process refused the change; says why.
            StaleWriteError: the settings have changed since ``expected_seq``.
            SettingsRefusedError: a field is unknown, read-only, out of bounds, of another type.
        """
        form = structured(value)
        if form is None:
            raise InvalidCommandError(
                f"{type(value).__name__} is no settings object: give a dataclass, a pydantic "
                f"model, or a mapping of fields"
            )
        changes = {str(name): each for name, each in form.items()}
        return await self._set(
            address, changes, whole=True, expected_seq=expected_seq, reason=reason, timeout=timeout
        )

    async def update_setting(
        self,
        address: str,
        field_path: str | Mapping[str, object],
        value: object = None,
        *,
        expected_seq: int | None = None,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> SettingsSnapshotValue:
        """Have the owner of ``address`` change one field (a dotted path), or several as one change.

        ``field_path`` may be a mapping of paths to values; then ``value`` is not given. The rest is
        as in `update_settings`.
        """
        changes = {field_path: value} if isinstance(field_path, str) else dict(field_path)
        return await self._set(
            address, changes, whole=False, expected_seq=expected_seq, reason=reason, timeout=timeout
        )

    async def _set(
        self,
        address: str,
        changes: dict[str, object],
        *,
        whole: bool,
        expected_seq: int | None,
        reason: str | None,
        timeout: float,  # noqa: ASYNC109
    ) -> SettingsSnapshotValue:
        command = ChangeSettings(
            address, changes, whole, expected_seq, reason, _broker_timeout_s(timeout)
        )
        deadline = Deadline(timeout)
        done = await self._ask(command, SettingsSet, timeout)
        if (replica := self._replica) is not None:
            await replica.reach(done.seq, timeout=deadline.left())
        return done.value

    async def restore(
        self,
        tag_or_fingerprint: str | Fingerprint | Snapshot | SnapshotInfo,
        *,
        name: str | None = None,
        dry_run: bool = True,
        reason: str | None = None,
        wait: bool = True,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> RestoreReport:
        """Have the rig be as it was in a snapshot; return what that changes, or would.

        First every owner whose settings are to be others is asked whether it agrees, which has no
        effect. Only if all do, and nothing else is in the way, is it done, as one transaction:
        wiring and configuration at once, the settings as their owners take them. An owner that
        ends before it did is handed its settings when it registers again. Edges whose session is
        gone become persistent. Components are registered by their programs, so these are told of
        and not restored.

        Args:
            tag_or_fingerprint: the snapshot's tag, or the fingerprint of the newest one with that;
                or a stored snapshot, as `freeze` has returned it.
            name: the graph's; it may be left out if one graph alone has such a tag or snapshot.
            dry_run: change nothing, and say what would change and who or what would be in the way.
            reason: why, in free text, for the log.
            wait: return when the owners that run have taken their settings, or time is over; who
                has not is in ``owed``, who did not after all in ``refused``.
            timeout: in seconds, owners included.

        Raises:
            UnknownTagError, UnknownSnapshotError: there is none.
            RestoreRefusedError: what others hold, vetoes, or what does not fit any more is in the
                way. It names all of it, ``report`` has it as a list, and nothing has changed.
            StaleWriteError: the rig changed again and again while its owners were asked.
            ForbiddenError: this key may not do all of it.
        """
        deadline = Deadline(timeout)
        report = await restoring.restore(
            self._active(),
            tag_or_fingerprint,
            name=name,
            dry_run=dry_run,
            reason=reason,
            wait=wait,
            timeout=timeout,
        )
        if not dry_run:
            left = max(deadline.left(), _AT_LEAST_S)
            get = partial(self.config.get, default=None, timeout=left)
            await restoring.note_restored(self._declared, report, get)
            if (replica := self._replica) is not None:
                await replica.reach(report.seq, timeout=left)
        return report

    async def process_request(
        self,
        unit: str,
        operation: str | ProcessControlOperation,
        payload: bytes | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> ProcessControlResponse:
        """Ask the process that runs ``unit`` to do something; return its answer.

        Where there is no answer, ``ok`` is False and ``error_code`` says why: nobody runs the unit,
        its process ended or did not answer in time, or has no handler. ``payload`` is opaque.
        """
        name = operation.value if isinstance(operation, ProcessControlOperation) else operation
        command = RequestProcess(unit, name, payload, _broker_timeout_s(timeout))
        return await self._ask(command, ProcessControlResponse, timeout)

    async def process_ping(
        self, unit: str, *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> ProcessPing:
        """Return who runs ``unit``, if it answers.

        Raises:
            ProcessRequestError: it did not; ``error_code`` says why.
        """
        began = self._clock.monotonic()
        said = await self._process_says(unit, ProcessControlOperation.PING, timeout)
        took_s = self._clock.monotonic() - began
        return ProcessPing(UUID(said["process_id"]), said["pid"], said["host"], took_s)

    async def process_stats(
        self, unit: str, *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> ProcessStats:
        """Return how the process that runs ``unit`` is.

        Raises:
            ProcessRequestError: it did not answer; ``error_code`` says why.
        """
        said = await self._process_says(unit, ProcessControlOperation.GET_PROCESS_STATS, timeout)
        return ProcessStats(**{**said, "process_id": UUID(said["process_id"])})

    async def _process_says(
        self, unit: str, operation: ProcessControlOperation, timeout: float  # noqa: ASYNC109
    ) -> dict[str, Any]:
        response = await self.process_request(unit, operation, timeout=timeout)
        if not response.ok or response.payload is None:
            code = response.error_code
            raise ProcessRequestError(
                f"{operation.value} of {unit!r}: {response.error or 'no answer'}",
                error_code=code.value if code is not None else None,
            )
        said: dict[str, Any] = json.loads(response.payload)
        return said

    # --- asking ---

    async def snapshot(
        self, *, with_config: bool = True, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> GraphSnapshot:
        """Return the state of the rig at one seq.

        ``with_config`` False leaves the configuration out, which may be large: it is None then.
        """
        rooms = (*SNAPSHOT_ROOMS, "config") if with_config else SNAPSHOT_ROOMS
        state, _ = await self._active().fetch_state(rooms, timeout=timeout)
        return state.snapshot() if with_config else replace(state.snapshot(), config=None)

    async def state(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> GraphState:  # noqa: ASYNC109
        """Return the state itself, as it was at its seq."""
        state, _ = await self._active().fetch_state(timeout=timeout)
        return state

    async def dag(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> DAG:  # noqa: ASYNC109
        """Return the edges and their owners."""
        state, _ = await self._active().fetch_state(["edge"], timeout=timeout)
        return state.dag

    async def clients(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> tuple[ClientInfo, ...]:  # noqa: ASYNC109
        """Return everybody who holds a lease, oldest first."""
        return tuple((await self._ask(ListClients(), ClientList, timeout)).clients)

    async def status(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> StatusReport:  # noqa: ASYNC109
        """Return how the broker is."""
        return await self._ask(GetStatus(), StatusReport, timeout)

    async def settings_state(
        self, *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> tuple[int, SettingsSnapshot]:
        """Return the effective settings of every address, and the seq they are of."""
        state, _ = await self._active().fetch_state(["settings"], timeout=timeout)
        return state.seq, SettingsSnapshot(state)

    async def settings_snapshot(
        self, *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> SettingsSnapshot:
        """Return the effective settings of every address: a dict that knows each last change."""
        return (await self.settings_state(timeout=timeout))[1]

    async def settings_events(
        self, after_seq: int = 0, *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> SettingsEvents:
        """Return the settings changes after ``after_seq``, up to now.

        Below the floor the list begins with each present component's last change; see
        `SettingsEvents`.
        """
        deadline = Deadline(timeout)
        try:
            events = await self.events(_SETTINGS, after_seq, timeout=timeout)
        except CompactedError as error:
            state, floor = await self._active().fetch_state(["settings"], timeout=deadline.left())
            tail = await self.events(_SETTINGS, state.seq, timeout=deadline.left())
            found = [*state.last_settings_changes(), *_typed(tail)]
            return SettingsEvents(found, floor=floor or error.floor, complete=False)
        return SettingsEvents(_typed(events), floor=events.floor, complete=True)

    async def events(
        self,
        prefix: Sequence[str] = (),
        after_seq: int = 0,
        *,
        through_seq: int | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> EventList:
        """Return the stored events under ``prefix`` in (after_seq, through_seq], or up to now.

        Raises:
            CompactedError: history below the floor is gone.
        """
        key, events = list(check_key(prefix)), EventList()
        position, goal = after_seq, through_seq
        deadline = Deadline(timeout)
        while goal is None or position < goal:
            asked = ReadEvents(key, position, through_seq)
            part = await self._ask(asked, EventRange, deadline.left())
            goal = part.head if goal is None else min(goal, part.head)
            events += [codec.decode_event(each) for each in part.events]
            events.floor = part.floor
            position = part.through
        return events

    # --- the past ---

    async def at(
        self, when: When, *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> GraphState:
        """Return the state of the rig as it was.

        What the gain was during a recording is one line:
        ``(await ctx.at(recording.first_seq)).setting("SYS/FILTER", "gain")``. See `GraphState` for
        what else it tells: ``settings_of``, ``effective_settings()``, ``snapshot()``.

        Args:
            when: a seq (a whole number), or a time: seconds since 1970 as a float, or a datetime,
                which without a zone is of this host's. A time stands for the last seq that was not
                later by the broker's clock; where that clock was set back across it, it is the last
                of several, and an `AmbiguousTimeWarning` says so.
            timeout: in seconds.

        Raises:
            CompactedError: history before it was compacted, and no checkpoint is left there.
            InvalidValueError: the seq was not given yet, or ``when`` is neither seq nor time.
            DivergedError: it lies in the gap that a restored backup has left; it was never given.
            ForbiddenError: this key may not read everything.
            JournalCorruptError: a record that it depends on is damaged.
        """
        return await state_at(self._active(), when, timeout)

    @overload
    async def freeze(
        self,
        name: str = ...,
        tag: str | None = ...,
        reason: str = ...,
        *,
        overwrite: bool = ...,
        fetch: Literal[True] = ...,
        timeout: float = ...,  # noqa: ASYNC109
    ) -> Snapshot: ...
    @overload
    async def freeze(
        self,
        name: str = ...,
        tag: str | None = ...,
        reason: str = ...,
        *,
        overwrite: bool = ...,
        fetch: Literal[False],
        timeout: float = ...,  # noqa: ASYNC109
    ) -> SnapshotInfo: ...
    async def freeze(
        self,
        name: str = DEFAULT_GRAPH,
        tag: str | None = None,
        reason: str = "",
        *,
        overwrite: bool = False,
        fetch: bool = True,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> Snapshot | SnapshotInfo:
        """Store what is live as a snapshot of the graph ``name``, and return it.

        It has the wiring, metadata, effective settings and configuration as they were at one seq;
        the same content frozen twice has the same fingerprint. With ``tag``, that points to it from
        then on. Its graph, which may be megabytes, is decoded when it is first asked for; with
        ``fetch`` False it is not fetched, and what is returned tells where it is
        (`SnapshotInfo`).

        Raises:
            TagExistsError: the tag points to a snapshot, and not ``overwrite``; says to which.
            InvalidValueError: ``name`` or ``tag`` cannot name anything.
        """
        session, deadline = self._active(), Deadline(timeout)
        frozen = await freeze(session, name, tag, reason, overwrite=overwrite, timeout=timeout)
        await self._reached(frozen.seq, deadline.left())
        if not fetch:
            return frozen.snapshot
        from ezgraph.graph.rigs import snapshot_of  # graphs are loaded where they are wanted

        return await snapshot_of(session, frozen.snapshot, deadline.left())

    async def diff(
        self,
        old: Rig,
        new: Rig = "live",
        *,
        name: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> GraphDiff:
        """Return what differs from ``old`` to ``new``: settings field by field, edges, moves.

        It is false if nothing does. Each of the two is one of: a tag (``"NAME@TAG"``, or ``"TAG"``
        if one graph has that, or with ``name``), the fingerprint of a snapshot likewise, a seq or a
        time as in `at`, ``"live"``, a Snapshot, a Graph, or a GraphState.

        Raises:
            UnknownTagError, UnknownSnapshotError: there is no such tag or fingerprint.
            InvalidCommandError: several graphs have it.
            InvalidValueError: it is nothing that names a rig.
            CompactedError, ForbiddenError: as `at`.
        """
        from ezgraph.graph.rigs import difference_between

        return await difference_between(self._active(), old, new, name, timeout)

    def record(
        self,
        artifact: Artifact,
        name: str = DEFAULT_GRAPH,
        key: str | None = None,
        *,
        reason: str = "",
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Recorder:
        """Return a recording of an artifact, to be used with ``async with``.

        What is added in it is linked to the snapshots in force, and to every change of settings::

            async with ctx.record(raw) as rec:
                ...                                            # write the file
                await rec.add(Partition({"run": 3}, location="/data/3.h5"))

        If the process crashes in it, all that was added is known with its snapshots, and the
        recording has no end; what changed since is in the journal.

        Args:
            artifact: what is recorded.
            name: the graph that the rig is frozen as.
            key: what the artifact is called in that graph; None: as it calls itself.
            reason: why, in free text, for the log and the snapshots.
            timeout: for beginning it, and for ending it, in seconds.

        Raises:
            InvalidValueError: the artifact is none, or a name is none.
            ForbiddenError: this key may not store (when it is entered).
        """
        from ezgraph.graph.recorders import recorder  # few programs record

        return recorder(
            self._active(),
            artifact,
            name,
            key,
            reason=reason,
            reached=self._reached,
            timeout=timeout,
        )

    # --- following ---

    def subscribe(
        self, prefix: Sequence[str] = (), after_seq: int | None = None
    ) -> AnySubscription:
        """Return an async iterator of ``Event | Progress | Compacted`` under a prefix of keys.

        ``after_seq``: begin after that seq; None: with what comes from now on. It begins at
        once, not at the first ``anext``.
        """
        return self._active().watch(check_key(prefix), after_seq)

    def subscribe_settings_events(
        self, after_seq: int | None = None
    ) -> EventStream[SettingsChangedEvent]:
        """Return an async iterator of settings changes after ``after_seq``."""
        begin = (lambda state: state.last_settings_changes()) if after_seq == 0 else None
        return EventStream(self.subscribe(_SETTINGS, after_seq), typed_settings, begin)

    def subscribe_topology_events(
        self, after_seq: int | None = None
    ) -> EventStream[TopologyChangedEvent]:
        """Return an async iterator of changes of wiring and processes after ``after_seq``."""
        begin = present_topology if after_seq == 0 else None
        return EventStream(self.subscribe((), after_seq), typed_topology, begin)

    @property
    def replica(self) -> Replica:
        """A live copy of the state; ``await ctx.replica`` once to have it caught up.

        From then on a call on this context returns when the replica has what the call did.
        """
        if self._replica is None:
            self._replica = Replica(self._active())
        return self._replica


def _broker_timeout_s(timeout: float) -> float:
    return timeout * _WAY_BACK


def _typed(events: Sequence[Event]) -> list[SettingsChangedEvent]:
    return [typed for event in events if (typed := typed_settings(event)) is not None]
