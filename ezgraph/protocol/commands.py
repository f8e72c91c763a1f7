"""Commands: what a client may ask of the broker, in the imperative."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ezgraph.protocol.config import ConfigCondition, ConfigDelete, ConfigPut
from ezgraph.protocol.metadata import GraphMetadata
from ezgraph.protocol.patterns import NamePattern
from ezgraph.protocol.served import NodeCard
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.stored_commands import (
    DeleteRecording,
    DeleteStored,
    FindSeq,
    Freeze,
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


@dataclass(frozen=True, slots=True)
class Hello:
    """Bind this connection to a new lease, or to none (``kind="guest"``).

    ``nonce`` tells a repeated HELLO from a second one. ``cluster_id`` refuses a broker that
    keeps another history.
    """

    protocol: int
    kind: str
    nonce: str
    program: str
    host: str
    pid: int
    login: str
    cluster_id: str | None = None
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Bind this connection to an earlier lease, shown by its token.

    ``nonce`` is that of the HELLO: a program whose lease was taken over is told so. (``epoch``,
    ``seq``) is the last number the client has seen. ``is_main``: requests to the units it runs are
    handed to this connection (and not to the one that renews the lease).
    """

    protocol: int
    client: str
    token: bytes
    cluster_id: str
    epoch: int
    seq: int
    nonce: str = ""
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Go on with the lease of a program that is gone, shown by its token.

    ``hello`` is the new program's; whoever held the lease before holds it no longer.
    """

    hello: Hello
    client: str
    token: bytes
    cluster_id: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Renew the lease; ``main_loop_age_s`` is how long ago the program's main loop moved."""

    main_loop_age_s: float


@dataclass(frozen=True, slots=True)
class Goodbye:
    """End the lease now; everything it owns goes with it."""


@dataclass(frozen=True, slots=True)
class Revert:
    """Drop everything the session owns, and keep it open."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Hold the edge: for the session, or for good when asked as a guest."""

    from_topic: str
    to_topic: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Let the edge go."""

    from_topic: str
    to_topic: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RegisterMetadata:
    """Register the session's components in place of those it had registered before."""

    metadata: GraphMetadata


@dataclass(frozen=True, slots=True)
class UpdateUnits:
    """Take units for this process and let others go."""

    added: list[str]
    removed: list[str]


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """Report the settings a unit of this process now has.

    ``answers``: the request for a change (its ``request_id``) that made them so.
    """

    address: str
    value: SettingsSnapshotValue
    timestamp: float | None = None
    reason: str | None = None
    answers: str | None = None


@dataclass(frozen=True, slots=True)
class SetPause:
    """Ask publishers of samples to pause, or to go on."""

    paused: bool


@dataclass(frozen=True, slots=True)
class Sync:
    """Be answered when everything sent before has been applied."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Stop the broker; refused while other sessions live, unless forced."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask how the broker is."""


@dataclass(frozen=True, slots=True)
class ListClients:
    """Ask who is there and what they own."""


@dataclass(frozen=True, slots=True)
class OpenSnapshot:
    """Ask for the live events in ``rooms`` (empty: all) at one seq, in chunks.

    The seq is the head, unless ``at_least`` is given: then one that others are reading will do, if
    it is not older. (Who follows events from there on need not have the newest.)
    """

    rooms: list[str]
    at_least: int | None = None


@dataclass(frozen=True, slots=True)
class ReadSnapshot:
    """Ask for the chunk of an open snapshot that starts at ``start``."""

    snapshot: int
    rooms: list[str]
    start: int


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """Ask for the stored events under a prefix in (after, through], in one chunk."""

    prefix: list[str]
    after: int
    through: int | None = None


@dataclass(frozen=True, slots=True)
class OpenWatch:
    """Ask whether one may watch a prefix, and from where: the answer has the head.

    What is asked after this on the same connection comes after that seq. The stream of events is
    subscribed to beside it; who may not read everything gets what they may of it.
    """

    prefix: list[str]


@dataclass(frozen=True, slots=True)
class RequestProcess:
    """Ask the process that runs ``unit`` to do ``operation``; it is answered within ``timeout_s``.

    The answer is a `ProcessControlResponse`, also where nobody runs the unit or nobody answers.
    """

    unit: str
    operation: str
    payload: bytes | None = None
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Answer a request that was handed to this process.

    A change of settings is answered so only where it is not made; ``error`` says why.
    """

    request_id: str
    ok: bool
    payload: bytes | None = None
    error: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """Ask the owner of the component at ``address`` to change its settings.

    ``changes`` are new values by dotted path, one change together; ``whole``: they are all fields.
    ``expected_seq``: only if the settings are still those of that seq. It is answered by
    `SettingsChange` when the owner has reported, within ``timeout_s``.
    """

    address: str
    changes: dict[str, Any]
    whole: bool = False
    expected_seq: int | None = None
    reason: str | None = None
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class ChangeConfig:
    """Put and delete entries of the configuration as one transaction, if all conditions hold.

    It is answered by `ConfigChanged`. No key may be named twice in ``puts`` and ``deletes``.
    """

    puts: list[ConfigPut] = field(default_factory=list)
    deletes: list[ConfigDelete] = field(default_factory=list)
    conditions: list[ConfigCondition] = field(default_factory=list)
    reason: str | None = None

    @property
    def changes(self) -> list[ConfigPut | ConfigDelete]:
        """All puts and deletes."""
        return [*self.puts, *self.deletes]

    @property
    def operations(self) -> list[ConfigPut | ConfigDelete | ConfigCondition]:
        """All puts, deletes and conditions."""
        return [*self.puts, *self.deletes, *self.conditions]


@dataclass(frozen=True, slots=True)
class SetConfigSchema:
    """Have values of a type of configuration judged by a JSON Schema from now on; None: by none."""

    type: str
    schema: dict[str, Any] | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """Ask for entries of a type, in order of their keys, in one page.

    Those whose keys begin with ``prefix``, and, if ``match`` is given, have as many names as it
    has, each of which matches. They come after the key ``after``, and ``limit`` of them at most (0:
    as many as the broker gives). Without ``with_values`` only the keys are given.
    """

    type: str
    prefix: tuple[str, ...] = ()
    match: list[NamePattern] | None = None
    after: tuple[str, ...] = ()
    limit: int = 0
    with_values: bool = True


@dataclass(frozen=True, slots=True)
class ListConfigTypes:
    """Ask which types of configuration have entries or a schema, in order, after ``after``."""

    after: str = ""


@dataclass(frozen=True, slots=True)
class ReadConfigSchema:
    """Ask for the schema of a type of configuration."""

    type: str


@dataclass(frozen=True, slots=True)
class ServeGraph:
    """Say that this process serves a graph of data nodes; it is answered by `Serving`.

    ``endpoints`` (``host:port``) are where it does, with the key ``public_key`` (32 bytes) or with
    none. ``incarnation`` is new whenever the host is: the same one again only says so again.
    ``announces``: its nodes will be made known by `AnnounceNodes`.
    """

    name: str
    root_uid: str
    incarnation: str
    endpoints: list[str]
    public_key: bytes | None = None
    announces: bool = True


@dataclass(frozen=True, slots=True)
class AnnounceNodes:
    """Make known which nodes a graph that one serves has by now, and which it has no longer."""

    name: str
    added: list[NodeCard] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class WithdrawGraph:
    """Serve a graph no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class FindGraph:
    """Ask where a graph is served; None: what is served, by name, from behind ``after`` on.

    It is answered by `Graphs`, with those of which one may read something.
    """

    name: str | None = None
    after: str = ""


Command = (
    Hello
    | Resume
    | TakeOver
    | Heartbeat
    | Goodbye
    | Revert
    | Connect
    | Disconnect
    | RegisterMetadata
    | UpdateUnits
    | ReportSettings
    | SetPause
    | Sync
    | Shutdown
    | GetStatus
    | ListClients
    | OpenSnapshot
    | ReadSnapshot
    | ReadEvents
    | OpenWatch
    | RequestProcess
    | AnswerRequest
    | ChangeSettings
    | ChangeConfig
    | SetConfigSchema
    | ReadConfig
    | ListConfigTypes
    | ReadConfigSchema
    | Freeze
    | StorePieces
    | StoreGraph
    | StoreSnapshot
    | SetTag
    | RemoveTag
    | WritePartitions
    | DeleteStored
    | WriteRecording
    | DeleteRecording
    | Restore
    | ReadStored
    | ReadCheckpoint
    | ReadStretch
    | FindSeq
    | ServeGraph
    | AnnounceNodes
    | WithdrawGraph
    | FindGraph
)


@dataclass(frozen=True, slots=True)
class Request:
    """A command with its request id and the lowest id whose reply is still awaited."""

    request_id: int
    lowest_open: int
    command: Command
