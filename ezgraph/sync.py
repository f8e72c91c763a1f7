"""The blocking twins: the same classes, with plain methods.

Each method here does what its namesake in `ezgraph.graph` does, in the caller's thread; see
there for what it returns and raises. ``with`` takes the place of ``async with``, and iterators
that of async iterators.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

from ezgraph.client import blocking
from ezgraph.client.blocking import run
from ezgraph.clock import SystemClock
from ezgraph.config import DEFAULT_CHANGE_TIMEOUT_S, DEFAULT_TIMEOUT_S, AddressesLike
from ezgraph.flows.blocking import FlowProcessor, start_flow, stop_flow
from ezgraph.graph import context, process, service
from ezgraph.graph.attendant import is_answered_by_itself
from ezgraph.graph.configuration.blocking import ConfigKeys
from ezgraph.graph.time_machine import DEFAULT_GRAPH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from uuid import UUID

    from ezgraph.client.broker_choice import KeysLike
    from ezgraph.client.replica import Replica
    from ezgraph.client.resumption import ResumeToken, Resumption
    from ezgraph.config import Address, ClientKeys
    from ezgraph.graph import serving
    from ezgraph.graph.attendant import Attendant
    from ezgraph.graph.changes import Holdable
    from ezgraph.graph.recorders import BlockingRecorder
    from ezgraph.graph.rigs import Rig
    from ezgraph.graph.server import GraphServer
    from ezgraph.graph.streams import EventStream, SettingsEvents
    from ezgraph.graph.time_machine import When
    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.directory import Nodes
    from ezgraph.nodes.kinds import RootNode
    from ezgraph.nodes.server import MaySee, NodeServer
    from ezgraph.protocol.artifacts import Artifact
    from ezgraph.protocol.differences import GraphDiff
    from ezgraph.protocol.drawing import Direction
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.graphs import Snapshot
    from ezgraph.protocol.listing import SnapshotInfo
    from ezgraph.protocol.metadata import GraphMetadata
    from ezgraph.protocol.replies import RestoreReport, StatusReport
    from ezgraph.protocol.routed import (
        ProcessControlOperation,
        ProcessControlRequest,
        ProcessControlResponse,
        ProcessPing,
        ProcessStats,
        Routed,
        SettingsChangeRequest,
        SettingsCheckRequest,
    )
    from ezgraph.protocol.settings import SettingsChangedEvent, SettingsSnapshotValue
    from ezgraph.protocol.snapshot import ClientInfo, GraphSnapshot, TopologyChangedEvent
    from ezgraph.state.dag import DAG
    from ezgraph.state.graph import GraphState

T = TypeVar("T")
_LOOK_S = 0.25
_HANGS_S = 2.0

__all__ = [
    "ConfigKeys",
    "FlowProcessor",
    "GraphContext",
    "GraphServer",
    "GraphService",
    "ProcessControlClient",
    "ServedGraph",
    "start_flow",
    "stop_flow",
]


def __getattr__(name: str) -> object:
    """Load the broker only for a program that starts one."""
    if name != "GraphServer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ezgraph.graph import server

    return server.GraphServer


class BlockingStream(Generic[T]):
    """An iterator that waits in the caller's thread, with ``close()``."""

    def __init__(self, stream: EventStream[T]) -> None:
        self._stream = stream

    def __repr__(self) -> str:
        return f"<blocking {self._stream!r}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """Return the next event; wait for it."""
        try:
            return run(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """End the stream."""
        run(self._stream.aclose())


class BlockingReplica:
    """A live copy of the state, brought up to date whenever it is looked at."""

    def __init__(self, replica: Replica, session: blocking.Session) -> None:
        self._replica = replica
        self._session = session

    def __repr__(self) -> str:
        return f"<blocking {self._replica!r}>"

    @property
    def state(self) -> GraphState:
        """The state, with everything that has arrived."""
        self._session.pump(0.0)
        return self._replica.state

    @property
    def seq(self) -> int:
        """The seq of `state`."""
        return self.state.seq

    def fingerprint(self) -> str:
        """Return the content hash of the state."""
        return self.state.fingerprint()

    def reach(self, seq: int, *, timeout: float = DEFAULT_TIMEOUT_S) -> Self:
        """Return the replica when it has everything up to ``seq``."""
        run(self._replica.reach(seq, timeout=timeout))
        return self


class ServedGraph:
    """A graph of data nodes that this session serves. See `ezgraph.graph.serving.ServedGraph`."""

    def __init__(self, served: serving.ServedGraph) -> None:
        self._served = served

    def __repr__(self) -> str:
        return f"<sync {self._served!r}>"

    @property
    def name(self) -> str:
        """What it is called on the bus."""
        return self._served.name

    @property
    def address(self) -> Address:
        """Where this process answers readers."""
        return self._served.address

    @property
    def server(self) -> NodeServer:
        """What answers them."""
        return self._served.server

    def stop(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """Serve it no longer."""
        run(self._served.stop(timeout=timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _thread_keeper(hosting: serving.Hosting) -> serving.Keeper:
    from ezgraph.graph.serving import ThreadKeeper  # what nodes need loads only where they are used

    return ThreadKeeper(hosting)


class GraphContext:
    """A session on the bus; use it with ``with``. See `ezgraph.GraphContext`."""

    def __init__(
        self,
        address: AddressesLike | None = None,
        auto_start: bool | None = None,  # noqa: FBT001 - as its async twin
        *,
        ttl_s: float | None = None,
        replica: bool = False,
        patience_s: float = 60.0,
        program: str | None = None,
        resume: ResumeToken | None = None,
        keys: KeysLike | None = None,
        session_factory: Callable[..., blocking.Session] = blocking.Session,
    ) -> None:
        self._factory = session_factory
        self._sessions: list[blocking.Session] = []
        self._context = context.GraphContext(
            address,
            auto_start,
            ttl_s=ttl_s,
            replica=replica,
            patience_s=patience_s,
            program=program,
            resume=resume,
            keys=keys,
            session_factory=self._make,
        )
        self._context._data_nodes.keep_with(_thread_keeper)  # noqa: SLF001 - its twin

    def _make(
        self,
        addresses: Sequence[Address],
        *,
        kind: str = "session",
        program: str | None = None,
        ttl_s: float | None = None,
        patience_s: float = 60.0,
        resume: ResumeToken | None = None,
        keys: ClientKeys | None = None,
    ) -> blocking.Session:
        session = self._factory(
            addresses,
            kind=kind,
            program=program,
            ttl_s=ttl_s,
            patience_s=patience_s,
            resume=resume,
            keys=keys,
        )
        self._sessions = [session]
        return session

    def __repr__(self) -> str:
        return f"<sync {self._context!r}>"

    def open(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> Self:
        """Open the session and return the context."""
        run(self._context.open(timeout=timeout))
        return self

    def close(self) -> None:
        """End the session and any broker started for it."""
        run(self._context.close())

    def close_session(self) -> None:
        """End the session early."""
        run(self._context.close_session())

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def session_id(self) -> str:
        """The public id of the session."""
        return self._context.session_id

    @property
    def resume_token(self) -> ResumeToken:
        """What another program shows to take this session over."""
        return self._context.resume_token

    @property
    def resumption(self) -> Resumption | None:
        """How this session was last come back to."""
        return self._context.resumption

    @property
    def address(self) -> Address:
        """The address of the broker in use."""
        return self._context.address

    def connect(
        self,
        from_topic: str,
        to_topic: str,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> int:
        """Hold the edge for this session."""
        return run(self._context.connect(from_topic, to_topic, reason=reason, timeout=timeout))

    def disconnect(
        self,
        from_topic: str,
        to_topic: str,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> int:
        """Let the edge go."""
        return run(self._context.disconnect(from_topic, to_topic, reason=reason, timeout=timeout))

    def register_metadata(
        self, metadata: GraphMetadata, *, timeout: float = DEFAULT_TIMEOUT_S
    ) -> int:
        """Register this session's components."""
        return run(self._context.register_metadata(metadata, timeout=timeout))

    def revert(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Drop everything the session owns and keep it open."""
        return run(self._context.revert(timeout=timeout))

    def pause(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Ask publishers of samples to pause."""
        return run(self._context.pause(timeout=timeout))

    def resume(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Ask publishers of samples to go on."""
        return run(self._context.resume(timeout=timeout))

    def sync(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Return when everything sent before has been applied."""
        return run(self._context.sync(timeout=timeout))

    def redeclare(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Declare again what this context has declared, in a new session if this one is lost."""
        return run(self._context.redeclare(timeout=timeout))

    def serve(
        self,
        root: BaseNode | NodeServer,
        name: str,
        *,
        host: str | None = None,
        port: int = 0,
        advertise: str | None = None,
        announce: bool = True,
        may_see: MaySee | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> ServedGraph:
        """Serve a graph of data nodes from this process, as long as this session lives."""
        served = self._context.serve(
            root,
            name,
            host=host,
            port=port,
            advertise=advertise,
            announce=announce,
            may_see=may_see,
            timeout=timeout,
        )
        return ServedGraph(run(served))

    @property
    def nodes(self) -> Nodes:
        """The graphs of data nodes that are served on this bus, by name."""
        return self._context.nodes

    def open_graph(self, name: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> RootNode:
        """Return the root of a served graph, as ``nodes[name]`` does."""
        return self._context.nodes.open(name, timeout=timeout)

    def snapshot(
        self, *, with_config: bool = True, timeout: float = DEFAULT_TIMEOUT_S
    ) -> GraphSnapshot:
        """Return the state of the rig at one seq."""
        return run(self._context.snapshot(with_config=with_config, timeout=timeout))

    def state(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> GraphState:
        """Return the state itself."""
        return run(self._context.state(timeout=timeout))

    def dag(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> DAG:
        """Return the edges and their owners."""
        return run(self._context.dag(timeout=timeout))

    def clients(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> tuple[ClientInfo, ...]:
        """Return everybody who holds a lease."""
        return run(self._context.clients(timeout=timeout))

    def status(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> StatusReport:
        """Return how the broker is."""
        return run(self._context.status(timeout=timeout))

    def settings_state(
        self, *, timeout: float = DEFAULT_TIMEOUT_S
    ) -> tuple[int, dict[str, SettingsSnapshotValue]]:
        """Return the effective settings and the seq they are of."""
        return run(self._context.settings_state(timeout=timeout))

    def settings_snapshot(
        self, *, timeout: float = DEFAULT_TIMEOUT_S
    ) -> dict[str, SettingsSnapshotValue]:
        """Return the effective settings."""
        return run(self._context.settings_snapshot(timeout=timeout))

    def settings_events(
        self, after_seq: int = 0, *, timeout: float = DEFAULT_TIMEOUT_S
    ) -> SettingsEvents:
        """Return the settings changes after ``after_seq``, up to now."""
        return run(self._context.settings_events(after_seq, timeout=timeout))

    def events(
        self,
        prefix: Sequence[str] = (),
        after_seq: int = 0,
        *,
        through_seq: int | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> list[Event]:
        """Return the stored events under ``prefix``."""
        return run(
            self._context.events(prefix, after_seq, through_seq=through_seq, timeout=timeout)
        )

    def subscribe(
        self, prefix: Sequence[str] = (), after_seq: int | None = None
    ) -> BlockingStream[object]:
        """Return an iterator of ``Event | Progress | Compacted`` under a prefix of keys."""
        return BlockingStream(self._context.subscribe(prefix, after_seq))  # type: ignore[arg-type]

    def subscribe_settings_events(
        self, after_seq: int | None = None
    ) -> BlockingStream[SettingsChangedEvent]:
        """Return an iterator of settings changes."""
        return BlockingStream(self._context.subscribe_settings_events(after_seq))

    def subscribe_topology_events(
        self, after_seq: int | None = None
    ) -> BlockingStream[TopologyChangedEvent]:
        """Return an iterator of changes of wiring and processes."""
        return BlockingStream(self._context.subscribe_topology_events(after_seq))

    def update_settings(
        self,
        address: str,
        value: object,
        *,
        expected_seq: int | None = None,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> SettingsSnapshotValue:
        """Have the owner of an address take other settings."""
        return run(
            self._context.update_settings(
                address, value, expected_seq=expected_seq, reason=reason, timeout=timeout
            )
        )

    def update_setting(
        self,
        address: str,
        field_path: str | Mapping[str, object],
        value: object = None,
        *,
        expected_seq: int | None = None,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> SettingsSnapshotValue:
        """Have the owner of an address change one field, or several as one change."""
        return run(
            self._context.update_setting(
                address,
                field_path,
                value,
                expected_seq=expected_seq,
                reason=reason,
                timeout=timeout,
            )
        )

    def restore(
        self,
        tag_or_fingerprint: str | Fingerprint | Snapshot | SnapshotInfo,
        *,
        name: str | None = None,
        dry_run: bool = True,
        reason: str | None = None,
        wait: bool = True,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> RestoreReport:
        """Have the rig be as it was in a snapshot, or say what that would change."""
        return run(
            self._context.restore(
                tag_or_fingerprint,
                name=name,
                dry_run=dry_run,
                reason=reason,
                wait=wait,
                timeout=timeout,
            )
        )

    def process_request(
        self,
        unit: str,
        operation: str | ProcessControlOperation,
        payload: bytes | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> ProcessControlResponse:
        """Ask the process that runs a unit to do something."""
        return run(self._context.process_request(unit, operation, payload, timeout=timeout))

    def process_ping(self, unit: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> ProcessPing:
        """Return who runs a unit, if it answers."""
        return run(self._context.process_ping(unit, timeout=timeout))

    def process_stats(self, unit: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> ProcessStats:
        """Return how the process that runs a unit is."""
        return run(self._context.process_stats(unit, timeout=timeout))

    def at(self, when: When, *, timeout: float = DEFAULT_TIMEOUT_S) -> GraphState:
        """Return the state of the rig as it was at a seq or a time."""
        return run(self._context.at(when, timeout=timeout))

    @overload
    def freeze(
        self,
        name: str = ...,
        tag: str | None = ...,
        reason: str = ...,
        *,
        overwrite: bool = ...,
        fetch: Literal[True] = ...,
        timeout: float = ...,
    ) -> Snapshot: ...
    @overload
    def freeze(
        self,
        name: str = ...,
        tag: str | None = ...,
        reason: str = ...,
        *,
        overwrite: bool = ...,
        fetch: Literal[False],
        timeout: float = ...,
    ) -> SnapshotInfo: ...
    def freeze(
        self,
        name: str = DEFAULT_GRAPH,
        tag: str | None = None,
        reason: str = "",
        *,
        overwrite: bool = False,
        fetch: bool = True,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Snapshot | SnapshotInfo:
        """Store what is live as a snapshot of a graph, and return it."""
        freeze = self._context.freeze
        if fetch:
            return run(freeze(name, tag, reason, overwrite=overwrite, timeout=timeout))
        return run(freeze(name, tag, reason, overwrite=overwrite, fetch=False, timeout=timeout))

    def diff(
        self,
        old: Rig,
        new: Rig = "live",
        *,
        name: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> GraphDiff:
        """Return what differs between two rigs: at tags, seqs, times, or live."""
        return run(self._context.diff(old, new, name=name, timeout=timeout))

    def record(
        self,
        artifact: Artifact,
        name: str = DEFAULT_GRAPH,
        key: str | None = None,
        *,
        reason: str = "",
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> BlockingRecorder:
        """Return a recording of an artifact, to be used with ``with``."""
        from ezgraph.graph.recorders import BlockingRecorder  # few programs record

        context = self._context
        return BlockingRecorder(
            context._active(),  # noqa: SLF001 - its twin
            artifact,
            name,
            key,
            reason=reason,
            reached=context._reached,  # noqa: SLF001
            timeout=timeout,
        )

    @property
    def config(self) -> ConfigKeys:
        """The configuration: entries that anybody may put, watch and delete."""
        return ConfigKeys(self._context.config)

    @property
    def replica(self) -> BlockingReplica:
        """A live copy of the state; the first look waits for its snapshot."""
        replica = self._context.replica
        run(replica.ready())
        return BlockingReplica(replica, self._sessions[-1])


class ProcessControlClient:
    """Registers units and reports settings. See `ezgraph.ProcessControlClient`."""

    def __init__(
        self,
        address: AddressesLike | None = None,
        *,
        ttl_s: float | None = None,
        patience_s: float = 60.0,
        program: str | None = None,
        resume: ResumeToken | None = None,
        keys: KeysLike | None = None,
        session_factory: Callable[..., blocking.Session] = blocking.Session,
    ) -> None:
        self._client = process.ProcessControlClient(
            address,
            ttl_s=ttl_s,
            patience_s=patience_s,
            program=program,
            resume=resume,
            keys=keys,
            session_factory=self._make,
        )
        self._factory = session_factory
        self._attendance: _Attendance | None = None
        self._client._begin = self._handed  # noqa: SLF001 - its twin

    def _make(self, addresses: Sequence[Address], **options: Any) -> blocking.Session:  # noqa: ANN401
        self._session = self._factory(addresses, **options)
        return self._session

    def _handed(self, request: Routed) -> None:
        if self._attendance is not None:
            self._attendance.take(request)

    def __repr__(self) -> str:
        return f"<sync {self._client!r}>"

    @property
    def client_id(self) -> UUID | None:
        """The process id the broker gave."""
        return self._client.client_id

    @property
    def resume_token(self) -> ResumeToken:
        """What another process shows to take this one's place."""
        return self._client.resume_token

    @property
    def resumption(self) -> Resumption | None:
        """How this lease was last come back to."""
        return self._client.resumption

    def redeclare(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Register its units and report their settings again, in a new lease if this is lost."""
        return run(self._client.redeclare(timeout=timeout))

    def connect(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> Self:
        """Open the lease and return the client; threads answer requests from then on."""
        if self._attendance is None:
            self._attendance = _Attendance(self._client)
            try:
                run(self._client.connect(timeout=timeout))
            except BaseException:
                self._attendance = None
                raise
            self._attendance.start(self._session)
        else:
            run(self._client.connect(timeout=timeout))
        return self

    def close(self) -> None:
        """End the lease."""
        attendance, self._attendance = self._attendance, None
        if attendance is not None:
            attendance.stop()
        run(self._client.close())

    def set_request_handler(
        self, handler: Callable[[ProcessControlRequest], object] | None
    ) -> None:
        """Have a plain function answer requests to the units of this process, in a thread."""
        self._client.set_request_handler(None if handler is None else _never_suspending(handler))

    def take_changes(
        self,
        address: str,
        changer: Callable[[SettingsChangeRequest], object],
        *,
        timeout_s: float = DEFAULT_CHANGE_TIMEOUT_S,
        lock: Holdable | None = None,
        check: Callable[[SettingsCheckRequest], object] | None = None,
    ) -> None:
        """Have a plain function make changes of a unit's settings, in a thread.

        ``check`` says, by raising, that one would be refused; see the async twin.

        ``lock`` is held while a change is made and reported. A program that changes these settings
        in other threads too holds it there, while it reports them: so the last report is of the
        last settings.

        It cannot be ended from outside. After ``timeout_s`` seconds who asked is told
        (`ChangeOverdueError`), and another thread does what else the program is asked; the address
        takes no other change until the function returns (`OwnerBusyError`). What it returns is
        reported then, however late.
        """
        self._client._attendant.take_changes(  # noqa: SLF001 - its twin
            address,
            _never_suspending(changer),
            timeout_s=timeout_s,
            lock=lock,
            check=None if check is None else _never_suspending(check),
        )

    def take_no_changes(self, address: str) -> None:
        """Refuse changes of a unit's settings from now on."""
        self._client.take_no_changes(address)

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def register(self, units: Iterable[str], *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Take units for this process."""
        return run(self._client.register(units, timeout=timeout))

    def update_ownership(
        self,
        added: Iterable[str] = (),
        removed: Iterable[str] = (),
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> int:
        """Take some units and let others go."""
        return run(self._client.update_ownership(added, removed, timeout=timeout))

    def report_settings_update(
        self,
        component_address: str,
        value: object,
        timestamp: float | None = None,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> int:
        """Report the settings a unit now has."""
        return run(
            self._client.report_settings_update(
                component_address, value, timestamp, reason=reason, timeout=timeout
            )
        )


class _Attendance:
    """Three threads of a process client: one hears, one answers by itself, one asks the program.

    The second also looks after the third: where that is at a change for too long, another one takes
    its place. It ends when it comes back.
    """

    def __init__(self, client: process.ProcessControlClient) -> None:
        self._client = client
        self._known: queue.SimpleQueue[Routed | None] = queue.SimpleQueue()
        self._asked: queue.SimpleQueue[Routed | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._worker: threading.Thread | None = None
        self._at_work: tuple[Routed, float] | None = None
        self._changing_worker = threading.Lock()
        self._clock = SystemClock()

    def take(self, request: Routed) -> None:
        """Have a request answered; a ping does not wait for what the program does."""
        (self._known if is_answered_by_itself(request) else self._asked).put(request)

    def start(self, session: blocking.Session) -> None:
        """Attend from now on."""
        self._threads = [
            _thread("hears", session.attend, self._stopping), _thread("answers", self._answer)
        ]
        for thread in self._threads:
            thread.start()
        self._replace_worker()

    def stop(self) -> None:
        """End them; returns when they have ended, unless one of them calls it.

        One that hangs in the program is left alone after a while.
        """
        self._stopping.set()
        self._known.put(None)
        self._asked.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join(_HANGS_S)

    @property
    def _attendant(self) -> Attendant:
        return self._client._attendant  # noqa: SLF001 - its twin

    def _answer(self) -> None:
        """Answer what no program is asked for, and see whether a change is overdue."""
        while True:
            try:
                request = self._known.get(timeout=_LOOK_S)
            except queue.Empty:
                self._look_after_worker()
                continue
            if request is None:
                return
            run(self._attendant.attend(request))
            self._look_after_worker()

    def _look_after_worker(self) -> None:
        at_work = self._at_work
        if at_work is None or self._clock.monotonic() < at_work[1]:
            return
        with self._changing_worker:  # it may be coming back just now
            overdue = self._attendant.give_up(at_work[0])
            if overdue is not None:
                self._replace_worker()
        if overdue is not None:
            run(self._attendant.send(overdue))

    def _replace_worker(self) -> None:
        self._at_work = None
        self._worker = _thread("works", self._work)
        self._worker.start()

    def _work(self) -> None:
        """Do what the program is asked, until `stop` or until another does it."""
        attendant = self._attendant
        while (request := self._asked.get()) is not None:
            if (timeout_s := attendant.changes.time_for(request)) is not None:
                self._at_work = request, self._clock.monotonic() + timeout_s
            run(attendant.attend(request))
            with self._changing_worker:
                if self._worker is not threading.current_thread():
                    return
                self._at_work = None


def _thread(name: str, target: Callable[..., None], *arguments: object) -> threading.Thread:
    name = f"ezgraph-process-{name}"
    return threading.Thread(target=target, args=arguments, name=name, daemon=True)


def _never_suspending(function: Callable[[T], object]) -> Callable[[T], Awaitable[object]]:
    async def call(request: T) -> object:
        return function(request)

    return call


class GraphService:
    """What is done to a rig without owning a part of it. See `ezgraph.GraphService`."""

    def __init__(
        self,
        address: AddressesLike | None = None,
        *,
        keys: KeysLike | None = None,
        session_factory: Callable[..., blocking.Session] = blocking.Session,
    ) -> None:
        self._service = service.GraphService(address, keys=keys, session_factory=session_factory)
        self.create_server: Callable[[], GraphServer] = self._service.create_server

    def __repr__(self) -> str:
        return f"<sync {self._service!r}>"

    def connect(
        self,
        from_topic: str,
        to_topic: str,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> int:
        """Make a persistent edge."""
        return run(self._service.connect(from_topic, to_topic, reason=reason, timeout=timeout))

    def disconnect(
        self,
        from_topic: str,
        to_topic: str,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> int:
        """Remove a persistent edge."""
        return run(self._service.disconnect(from_topic, to_topic, reason=reason, timeout=timeout))

    def pause(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Ask publishers of samples to pause."""
        return run(self._service.pause(timeout=timeout))

    def resume(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Ask publishers of samples to go on."""
        return run(self._service.resume(timeout=timeout))

    def sync(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Return when everything that arrived before has been applied."""
        return run(self._service.sync(timeout=timeout))

    def shutdown(self, force: bool = False, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:  # noqa: FBT001, FBT002
        """Stop the broker."""
        run(self._service.shutdown(force, timeout=timeout))

    def dag(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> DAG:
        """Return the edges and their owners."""
        return run(self._service.dag(timeout=timeout))

    def snapshot(
        self, *, with_config: bool = True, timeout: float = DEFAULT_TIMEOUT_S
    ) -> GraphSnapshot:
        """Return the state of the rig at one seq."""
        return run(self._service.snapshot(with_config=with_config, timeout=timeout))

    def status(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> StatusReport:
        """Return how the broker is."""
        return run(self._service.status(timeout=timeout))

    def clients(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> tuple[ClientInfo, ...]:
        """Return everybody who holds a lease."""
        return run(self._service.clients(timeout=timeout))

    def get_formatted_graph(
        self,
        fmt: Literal["mermaid", "graphviz"] = "mermaid",
        *,
        direction: Direction = "LR",
        compact_level: int | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> str:
        """Return the wiring as text that Mermaid or Graphviz draws."""
        return run(
            self._service.get_formatted_graph(
                fmt, direction=direction, compact_level=compact_level, timeout=timeout
            )
        )

    def ensure(
        self, *, auto_start: bool | None = None, timeout: float = DEFAULT_TIMEOUT_S
    ) -> GraphServer | None:
        """See to it that a broker answers."""
        return run(self._service.ensure(auto_start=auto_start, timeout=timeout))
