"""Does a state hold what a command asked for? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from ezgraph.protocol.commands import (
    AnnounceNodes,
    ChangeConfig,
    Command,
    Connect,
    Disconnect,
    RegisterMetadata,
    ReportSettings,
    Revert,
    ServeGraph,
    SetConfigSchema,
    SetPause,
    UpdateUnits,
    WithdrawGraph,
)
from ezgraph.protocol.fingerprints import canonical
from ezgraph.protocol.served import NodeCard

if TYPE_CHECKING:
    from ezgraph.protocol.events import NodeAnnounced
    from ezgraph.state.config import ConfigState
    from ezgraph.state.graph import GraphState

CHANGES = (
    Connect
    | Disconnect
    | RegisterMetadata
    | ReportSettings
    | Revert
    | SetPause
    | UpdateUnits
    | ChangeConfig
    | SetConfigSchema
    | ServeGraph
    | AnnounceNodes
    | WithdrawGraph
)
"""The commands that change something, other than the end of a lease."""


def is_true(state: GraphState, command: Command, client: str, kind: str) -> bool:
    """Return whether what ``command`` asked for holds in ``state``."""
    owner = client if kind == "session" else None
    match command:
        case Connect():
            return owner in state.dag.owners(command.from_topic, command.to_topic)
        case Disconnect():
            return owner not in state.dag.owners(command.from_topic, command.to_topic)
        case SetPause():
            return state.paused is command.paused
        case RegisterMetadata():
            return client in state.sessions and same(state.metadata_of(client), command.metadata)
        case Revert() if kind == "session":
            session = state.sessions.get(client)
            if session is None or state.config.count_of(client) or state.served.of_owner(client):
                return False
            return not state.edges_of(client) and not session.components
        case UpdateUnits():
            added, removed = set(command.added), set(command.removed)
            units = _units_of(state, client)
            return added - removed <= units and not removed & units
        case ReportSettings():
            entry = state.settings.get(command.address)
            return entry is not None and same(entry.value, command.value)
        case ChangeConfig():
            return _is_so(state.config, command, owner)
        case ServeGraph():
            return _is_served(state, command, client)
        case AnnounceNodes():
            nodes = state.served.nodes_of(command.name)
            if any(uid in nodes for uid in command.removed):
                return False
            return all(same(_card_of(nodes.get(card.uid)), card) for card in command.added)
        case WithdrawGraph():
            return state.served.host(command.name, client) is None
        case SetConfigSchema():
            return same(state.config.schemas.get(command.type), command.schema)
        case _:
            return True


def _is_served(state: GraphState, command: ServeGraph, client: str) -> bool:
    host = state.served.host(command.name, client)
    if host is None:
        return False
    told = host.served
    return command == ServeGraph(
        told.name,
        told.root_uid,
        told.incarnation,
        told.endpoints,
        told.public_key,
        told.announces,
    )


def _card_of(told: NodeAnnounced | None) -> NodeCard | None:
    if told is None:
        return None
    return NodeCard(told.uid, told.path, told.depth, told.class_name, told.summary)


def _is_so(config: ConfigState, command: ChangeConfig, owner: str | None) -> bool:
    """Return whether the entries are there that were put, as they were put, and none deleted."""
    if any(config.get(each.type, each.key) is not None for each in command.deletes):
        return False
    for put in command.puts:
        held = config.get(put.type, put.key)
        if held is None or held.owner != (owner if put.ephemeral else None):
            return False
        if not same(held.value, put.value):
            return False
    return True


def _units_of(state: GraphState, client: str) -> set[str]:
    process = state.processes.get(UUID(client)) if _is_uuid(client) else None
    return set(process.units) if process is not None else set()


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def same(one: object, other: object) -> bool:
    """Return whether two values have the same content, arrays and NaN among them."""
    try:
        if one == other:
            return True
    except ValueError:  # arrays do not say whether they are equal
        pass
    return canonical(one) == canonical(other)
