"""The value of a component's settings, and the typed events about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any
from uuid import UUID

from ezgraph.protocol.metadata import ComponentMetadata, SettingsSchemaMetadata


@dataclass(frozen=True, slots=True)
class SettingsSnapshotValue:
    """The settings of one component at one moment.

    ``serialized`` are opaque bytes of the reporter (never read by ezgraph), ``repr_value`` the
    structured form or text, ``structured_value`` the structured form where there is one.
    """

    serialized: bytes | None = None
    repr_value: dict[str, Any] | str = ""
    structured_value: dict[str, Any] | None = None
    settings_schema: SettingsSchemaMetadata | None = None


class SettingsEventType(enum.Enum):
    """What happened to a component's effective settings."""

    INITIAL_SETTINGS = "INITIAL_SETTINGS"
    SETTINGS_UPDATED = "SETTINGS_UPDATED"
    SETTINGS_REMOVED = "SETTINGS_REMOVED"


@dataclass(frozen=True, slots=True)
class SettingsChangedEvent:
    """One change of a component's effective settings.

    ``timestamp`` is the reporter's own time if it gave one, else the broker's wall clock
    (``wall_time``), both in seconds since 1970. A removal carries the last value.
    """

    seq: int
    event_type: SettingsEventType
    component_address: str
    timestamp: float
    source_session_id: str | None
    source_process_id: UUID | None
    value: SettingsSnapshotValue
    wall_time: float = 0.0


def structured(value: object) -> dict[str, Any] | None:
    """Return the structured form of a settings object, or None where it has none.

    Dataclass instances (recursively), pydantic models and mappings have one.
    """
    if isinstance(value, Mapping):
        return {str(key): _structured_part(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _structured_part(getattr(value, each.name)) for each in fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return structured(dump())
    return None


def _structured_part(value: object) -> object:
    if isinstance(value, list):
        return [_structured_part(item) for item in value]
    form = structured(value)
    return value if form is None else form


def settings_value(value: object) -> SettingsSnapshotValue:
    """Return any settings object as a `SettingsSnapshotValue`; text where it has no structure."""
    if isinstance(value, SettingsSnapshotValue):
        return value
    form = structured(value)
    return SettingsSnapshotValue(None, repr(value) if form is None else form, form)


def initial_value(component: ComponentMetadata) -> SettingsSnapshotValue:
    """Return the settings value that a component's metadata stands for."""
    serialized, shown = component.initial_settings
    return SettingsSnapshotValue(
        serialized=serialized,
        repr_value=shown,
        structured_value=shown if isinstance(shown, dict) else None,
        settings_schema=component.settings_schema,
    )
