"""Rules for process clients: units have one owner; only the owner reports settings. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.broker.routes import owed_id
from ezgraph.broker.rules_metadata import shown
from ezgraph.errors import (
    AddressCollisionError,
    InvalidCommandError,
    InvalidKeyError,
    NotOwnerError,
)
from ezgraph.names import topic_of
from ezgraph.protocol.events import (
    Body,
    ProcessUnitsChanged,
    SettingsChanged,
    SettingsLayer,
    SettingsSettled,
)
from ezgraph.protocol.settings import SettingsEventType, initial_value

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from ezgraph.protocol.commands import ReportSettings, UpdateUnits
    from ezgraph.protocol.events import Source
    from ezgraph.state.graph import GraphState


def update_units(state: GraphState, command: UpdateUnits, process_id: UUID) -> tuple[Body, ...]:
    """Decide that the process takes and lets go of units."""
    _check_units([*command.added, *command.removed])
    own = set(state.processes[process_id].units)
    _refuse_taken(state, command.added, process_id)
    _refuse_foreign(state, [unit for unit in command.removed if unit not in own], process_id)
    added = sorted(set(command.added) - own - set(command.removed))
    removed = sorted(set(command.removed) & own)
    if not added and not removed:
        return ()
    units = sorted(own - set(removed) | set(added))
    changed = ProcessUnitsChanged(process_id, units, added, removed)
    return (changed, *_release_live(state, removed, process_id))


def report_settings(
    state: GraphState,
    command: ReportSettings,
    process_id: UUID,
    asked_by: Source | None = None,
) -> tuple[Body, ...]:
    """Decide that a unit of this process has these settings now; ``asked_by`` wanted it so."""
    if state.unit_owner.get(command.address) != process_id:
        raise NotOwnerError(
            f"process {process_id} reports settings of {command.address!r}, "
            f"{_held_by(state, command.address)}; register the unit first"
        )
    return (
        SettingsChanged(
            command.address,
            SettingsEventType.SETTINGS_UPDATED,
            SettingsLayer.LIVE,
            command.value,
            process_id,
            command.timestamp,
            asked_by,
            command.answers if asked_by is not None else None,
        ),
    )


def settle_settings(state: GraphState, command: ReportSettings) -> tuple[Body, ...]:
    """Decide that nothing is owed any more where an owner reports that it has taken it."""
    owed = state.owed.get(command.address)
    if owed is None or command.answers != owed_id(owed):
        return ()
    return (SettingsSettled(command.address),)


def release_process(state: GraphState, process_id: UUID) -> list[Body]:
    """Return the events that let go of the units and live values of a process."""
    process = state.processes[process_id]
    bodies = _release_live(state, sorted(process.live), process_id)
    if process.units:
        bodies.append(ProcessUnitsChanged(process_id, [], [], list(process.units)))
    return bodies


def _release_live(state: GraphState, units: Iterable[str], process_id: UUID) -> list[Body]:
    """Live values go back to the initial ones, or are removed where there is none."""
    live = state.processes[process_id].live
    bodies: list[Body] = []
    for address in units:
        if address not in live:
            continue
        component = state.components.get(address)
        if component is not None:
            bodies.append(
                SettingsChanged(
                    address,
                    SettingsEventType.SETTINGS_UPDATED,
                    SettingsLayer.INITIAL,
                    initial_value(component.metadata),
                )
            )
        else:
            bodies.append(
                SettingsChanged(
                    address,
                    SettingsEventType.SETTINGS_REMOVED,
                    SettingsLayer.LIVE,
                    state.settings[address].value,
                )
            )
    return bodies


def _check_units(units: Iterable[str]) -> None:
    for unit in units:
        try:
            topic_of(("settings", unit))
        except InvalidKeyError as error:
            raise InvalidCommandError(f"unit address {unit!r}: {error}") from error


def _refuse_taken(state: GraphState, units: Iterable[str], process_id: UUID) -> None:
    taken = [unit for unit in units if state.unit_owner.get(unit, process_id) != process_id]
    if taken:
        raise AddressCollisionError(
            f"{shown(taken)} {_held_by(state, taken[0])}; "
            f"close that process first, or use other addresses"
        )


def _refuse_foreign(state: GraphState, units: list[str], process_id: UUID) -> None:
    if units:
        raise NotOwnerError(
            f"process {process_id} lets go of {shown(units)}, {_held_by(state, units[0])}"
        )


def _held_by(state: GraphState, unit: str) -> str:
    owner = state.unit_owner.get(unit)
    if owner is None:
        return "which no process has registered"
    source = state.processes[owner].source
    return f"held by process {owner} ({source.program} on {source.host}, pid {source.pid})"
