"""What a command needs, and whether its key's role grants it. Pure.

The table of verbs is in `ezgraph.protocol.roles`; here stands which command needs which of them, on
which keys. A refusal says what was wanted, on what, and as whom; it is raised before anything of
the state is looked at. Who may not read everything is not told either what a rule found in the
state (who holds an edge, which loop it would close): `withheld` keeps the code and drops the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from ezgraph.errors import ForbiddenError, LiveSessionsError, SchemaViolationError, from_code
from ezgraph.protocol.artifacts import Artifact
from ezgraph.protocol.commands import (
    AnnounceNodes,
    ChangeConfig,
    ChangeSettings,
    Connect,
    Disconnect,
    RegisterMetadata,
    ReportSettings,
    RequestProcess,
    Revert,
    ServeGraph,
    SetConfigSchema,
    SetPause,
    Shutdown,
    UpdateUnits,
    WithdrawGraph,
)
from ezgraph.protocol.config import ROOM as CONFIG
from ezgraph.protocol.key_text import key_text
from ezgraph.protocol.roles import FULL_SCOPE
from ezgraph.protocol.served import ROOM as NODE
from ezgraph.protocol.stored_commands import (
    DeleteRecording,
    DeleteStored,
    Freeze,
    Listed,
    RemoveTag,
    Restore,
    SetTag,
    SnapshotRef,
    StoreCommand,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    WritePartitions,
    WriteRecording,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ezgraph.errors import EzGraphError
    from ezgraph.names import Key
    from ezgraph.protocol.roles import Access, Identity, ReadScope
    from ezgraph.protocol.stored_commands import Question

Judged = (
    Connect
    | Disconnect
    | RegisterMetadata
    | UpdateUnits
    | ReportSettings
    | SetPause
    | Revert
    | Shutdown
    | ChangeSettings
    | RequestProcess
    | ChangeConfig
    | SetConfigSchema
    | StoreCommand
    | Restore
    | ServeGraph
    | AnnounceNodes
    | WithdrawGraph
)
_OF_THE_STORE = frozenset(
    {
        "unknown_graph", "unknown_snapshot", "unknown_tag", "unknown_recording", "tag_exists",
        "still_referenced",
    }
)
_TELLING = _OF_THE_STORE | {
    "cyclic", "foreign_edge", "unknown_edge", "address_collision", "not_owner", "live_sessions",
    "restore_refused",
}


def demands(command: Judged) -> Iterator[tuple[str, Key]]:
    """Yield the verb and the key of everything that ``command`` would do.

    A key that is only a room stands for something in it: the verb is needed for anything there.
    Whether a condition holds tells what is there, so who sets it must be able to read that; and so
    must who has entries judged by a schema.
    """
    match command:
        case Connect() | Disconnect():
            yield "connect", ("edge", command.from_topic, command.to_topic)
        case RegisterMetadata():
            yield "register", ("component",)  # also where it has none: it makes events
            for address in command.metadata.components:
                yield "register", ("component", address)
        case UpdateUnits():
            for unit in (*command.added, *command.removed):
                yield "run", ("component", unit)
        case ReportSettings():
            yield "report", ("settings", command.address)
        case ChangeSettings():
            yield "set", ("settings", command.address)
        case RequestProcess():
            yield "request", ("component", command.unit)
        case SetPause():
            yield "pause", ("control", "pause")
        case Shutdown():
            yield "shutdown", ("control", "broker")
        case ChangeConfig():
            for change in command.changes:
                yield "config", (CONFIG, change.type, *change.key)
            for condition in command.conditions:
                yield "read", (CONFIG, condition.type, *condition.key)
        case SetConfigSchema():
            yield "config", (CONFIG, command.type)
            yield "read", (CONFIG, command.type)
        case ServeGraph() | AnnounceNodes() | WithdrawGraph():
            yield "serve", (NODE, command.name)
        case Revert():
            return  # one's own
        case Restore():
            yield "restore", ("snapshot", command.name)  # and the verbs for what its plan changes
        case Freeze():
            yield "store", ("snapshot", command.name)
            if command.tag is not None:
                yield "store", ("tag", command.name, command.tag)
        case StorePieces():
            yield "store", ("snapshot",)
        case StoreGraph() | StoreSnapshot():
            yield "store", ("snapshot", command.name)
        case SetTag():
            yield "store", ("tag", command.name, command.tag)
            if not isinstance(command.snapshot, SnapshotRef):
                yield "store", ("snapshot", command.name)
        case RemoveTag():
            yield "store", ("tag", command.name, command.tag)
        case WritePartitions():
            yield "store", ("partitions", command.artifact.key)
            if command.snapshot is not None:
                yield "store", ("snapshot", command.name or "")
        case WriteRecording(recording=told):
            yield "store", ("recording", told.name, told.artifact_key)
            yield "store", ("partitions", told.artifact.key)
            yield "store", ("snapshot", told.name)
        case DeleteRecording():
            yield "store", ("recording", command.name, command.artifact_key)
        case DeleteStored(artifact=Artifact() as artifact):
            yield "store", ("partitions", artifact.key)
        case DeleteStored():
            yield "store", ("snapshot", command.name or "")
        case _:
            assert_never(command)


def refuse_forbidden(identity: Identity, command: Judged) -> None:
    """Refuse what the role does not grant.

    Raises:
        ForbiddenError: says the key's name, its role, the verb and the first key it lacks.
    """
    role = identity.role
    for verb, key in demands(command):
        is_enough = role.may(verb, key) if len(key) > 1 else role.may_somewhere(verb, key)
        if not is_enough:
            raise _forbidden(identity, f"{verb} {_shown(key)}")


def refuse_each(identity: Identity, verb: str, keys: Iterable[Key]) -> None:
    """Refuse what needs a verb on each of some keys, which show only in what is stored.

    Raises:
        ForbiddenError: says the first key that the role does not grant it on.
    """
    for key in keys:
        if not identity.role.may(verb, key):
            raise _forbidden(identity, f"{verb} {_shown(key)}")


def refuse_unreadable(identity: Identity, scope: ReadScope, prefix: Key) -> None:
    """Refuse to read where the role lets one read nothing at all.

    Raises:
        ForbiddenError: says what it may read.
    """
    if not scope.touches(prefix):
        raise _forbidden(identity, f"read {_shown(prefix)} (it reads {scope})")


def refuse_stored(identity: Identity, scope: ReadScope, question: Question) -> None:
    """Refuse to read of the store what tells of more than the role lets one read.

    A graph is all of a rig, and an artifact's partitions are found by where they are, whatever it
    is called: both are for those who read everything. Tags are listed as far as they may be read.

    Raises:
        ForbiddenError: says what it may read.
    """
    if not (isinstance(question, Listed) and question.room in ("tag", "tagged")):
        refuse_partial(identity, scope, "graphs and partitions")


def refuse_partial(identity: Identity, scope: ReadScope, what: str) -> None:
    """Refuse to read what tells of everything, unless the role lets one read everything.

    Raises:
        ForbiddenError: says what it may read.
    """
    if not scope.is_full:
        raise _forbidden(identity, f"read {what} (it reads {scope})")


def refuse_hidden(identity: Identity, scope: ReadScope, key: Key) -> None:
    """Refuse to read what stands at ``key`` itself.

    Raises:
        ForbiddenError: says what it may read.
    """
    if not scope.has(key):
        raise _forbidden(identity, f"read {_shown(key)} (it reads {scope})")


def _forbidden(identity: Identity, what: str) -> ForbiddenError:
    return ForbiddenError(
        f"key {identity.name!r} (role {identity.role}) may not {what}; ask whoever keeps this "
        f"broker's allow-list for a role that does"
    )


def _shown(key: Key) -> str:
    text = key_text(key)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


_SHOWN_CHARACTERS = 200


def scope_of(access: Access | None, identity: Identity | None) -> ReadScope:
    """Return what a client may read; everything, where there are no keys."""
    if access is None or identity is None:
        return FULL_SCOPE
    return access.scope_of(identity)


def withheld(error: EzGraphError, scope: ReadScope) -> EzGraphError:
    """Return an error without what it tells of others, for who may not read everything."""
    if scope.is_full:
        return error
    if isinstance(error, SchemaViolationError):
        return _withheld_schema(error, scope)
    if error.code not in _TELLING:
        return error
    in_the_way = "sessions are alive" if isinstance(error, LiveSessionsError) else "others hold it"
    if error.code in _OF_THE_STORE:
        in_the_way = "what is stored does not allow it"
    return from_code(
        error.code,
        f"refused ({error.code}): {in_the_way}; this key may read only {scope}, so the details "
        f"are withheld: ask somebody who may read everything",
    )


def _withheld_schema(error: SchemaViolationError, scope: ReadScope) -> SchemaViolationError:
    """Return it without what it quotes of a schema that one may not read; where, is said to all."""
    if error.type is None or scope.has((CONFIG, error.type)):
        return error
    return SchemaViolationError(
        f"a value for type {error.type!r} does not fit its schema: wrong is "
        f"{error.path or 'the value itself'}; this key may read only {scope}, so what the schema "
        f"asks for is withheld: ask somebody who may read {_shown((CONFIG, error.type))}"
    )


def withheld_settings(error: EzGraphError, scope: ReadScope, address: str) -> EzGraphError:
    """Return why a change was refused without what it tells of settings that one may not read."""
    if scope.has(("settings", address)) or error.code in ("forbidden", "limit", "invalid_command"):
        return error
    return from_code(
        error.code,
        f"refused ({error.code}): this key may read only {scope}, so the details of "
        f"{address!r} are withheld; ask somebody who may read its settings",
    )
