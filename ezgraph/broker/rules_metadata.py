"""Rules for registered metadata: addresses have one holder among the live sessions. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.broker.rules_graph import describe_owner
from ezgraph.errors import AddressCollisionError, InvalidCommandError, InvalidKeyError
from ezgraph.names import topic_of
from ezgraph.protocol.events import (
    Body,
    ComponentRegistered,
    ComponentRemoved,
    GraphRegistered,
    GraphRemoved,
    SettingsChanged,
    SettingsLayer,
)
from ezgraph.protocol.settings import SettingsEventType, initial_value

if TYPE_CHECKING:
    from ezgraph.protocol.metadata import ComponentMetadata, GraphMetadata
    from ezgraph.state.graph import GraphState

_SHOWN = 5
_MAX_ROOT_NAME = 1_000


def register(state: GraphState, metadata: GraphMetadata, session_id: str) -> tuple[Body, ...]:
    """Decide that ``metadata`` stands in place of what the session had registered."""
    _check(metadata)
    _refuse_collisions(state, metadata, session_id)
    bodies: list[Body] = []
    for address in sorted(state.sessions[session_id].components - metadata.components.keys()):
        bodies += _remove_component(state, address, session_id)
    bodies.append(GraphRegistered(session_id, metadata.schema_version, metadata.root_name))
    for component in metadata.components.values():
        bodies.append(ComponentRegistered(session_id, component))
        bodies.append(_announce(state, component))
    return tuple(bodies)


def release_metadata(state: GraphState, session_id: str) -> list[Body]:
    """Return the events that remove what a session registered."""
    session = state.sessions[session_id]
    bodies: list[Body] = []
    for address in sorted(session.components):
        bodies += _remove_component(state, address, session_id)
    if session.graph is not None:
        bodies.append(GraphRemoved(session_id))
    return bodies


def _announce(state: GraphState, component: ComponentMetadata) -> SettingsChanged:
    """A registered component has its initial value, unless a process reports a live one."""
    now = state.settings.get(component.address)
    if now is not None and now.change.layer is SettingsLayer.LIVE:
        return SettingsChanged(
            component.address,
            SettingsEventType.INITIAL_SETTINGS,
            SettingsLayer.LIVE,
            now.value,
            now.change.process_id,
            now.change.reported_time,
        )
    return SettingsChanged(
        component.address,
        SettingsEventType.INITIAL_SETTINGS,
        SettingsLayer.INITIAL,
        initial_value(component),
    )


def _remove_component(state: GraphState, address: str, session_id: str) -> list[Body]:
    """The component goes, and its initial value; a live value stays."""
    bodies: list[Body] = [ComponentRemoved(session_id, address)]
    now = state.settings.get(address)
    if now is not None and now.change.layer is SettingsLayer.INITIAL:
        bodies.append(
            SettingsChanged(
                address, SettingsEventType.SETTINGS_REMOVED, SettingsLayer.INITIAL, now.value
            )
        )
    return bodies


def _check(metadata: GraphMetadata) -> None:
    length = len(metadata.root_name or "")
    if length > _MAX_ROOT_NAME:
        raise InvalidCommandError(
            f"a root name of {length} characters; at most {_MAX_ROOT_NAME} are allowed"
        )
    for address, component in metadata.components.items():
        if address != component.address:
            raise InvalidCommandError(
                f"components[{address!r}] says its address is {component.address!r}; "
                f"both must be the same"
            )
        try:
            topic_of(("component", address))
        except InvalidKeyError as error:
            raise InvalidCommandError(f"component address {address!r}: {error}") from error


def _refuse_collisions(state: GraphState, metadata: GraphMetadata, session_id: str) -> None:
    taken: dict[str, list[str]] = {}
    for address in metadata.components:
        entry = state.components.get(address)
        if entry is not None and entry.session_id != session_id:
            taken.setdefault(entry.session_id, []).append(address)
    if taken:
        raise AddressCollisionError(
            "; ".join(
                f"{shown(addresses)} held by {describe_owner(state, holder)}"
                for holder, addresses in sorted(taken.items())
            )
            + "; close that session first, or use other addresses"
        )


def shown(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    text = ", ".join(repr(name) for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{text} and {more} more" if more > 0 else text
