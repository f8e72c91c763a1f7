"""The value of a component's settings, and the typed events about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any
from uuid import UUID

from ezgraph.errors import MalformedMessageError, UnknownFieldError
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

    def field(self, path: str) -> Any:  # noqa: ANN401
        """Return the value of one field, by its dotted path, as in ``field("notch.frequency")``.

        Raises:
            UnknownFieldError: there is none; names those there are.
        """
        found: Any = self.structured_value
        walked: list[str] = []
        for name in path.split("."):
            if not isinstance(found, Mapping) or name not in found:
                raise UnknownFieldError(_no_field(path, walked, found))
            found = found[name]
            walked.append(name)
        return found


def _no_field(path: str, walked: list[str], found: object) -> str:
    where = f"in {'.'.join(walked)!r}" if walked else "in these settings"
    if not isinstance(found, Mapping):
        return f"there is no field {path!r}: what stands {where} has no fields, it is {found!r:.60}"
    return f"there is no field {path!r}: {where} there are {', '.join(map(str, found)) or 'none'}"


@dataclass(frozen=True, slots=True)
class EnumValue:
    """A member of an enum that this host need not know."""

    module: str
    qualname: str
    name: str | None
    value: Any

    def __hash__(self) -> int:
        """Hash without the value, which need not be hashable (the member was)."""
        return hash((self.module, self.qualname, self.name))


class SettingsEventType(enum.Enum):
    """What happened to a component's effective settings."""

    INITIAL_SETTINGS = "INITIAL_SETTINGS"
    SETTINGS_UPDATED = "SETTINGS_UPDATED"
    SETTINGS_REMOVED = "SETTINGS_REMOVED"


@dataclass(frozen=True, slots=True)
class SettingsChangedEvent:
    """One change of a component's effective settings.

    ``timestamp`` is the reporter's own time if it gave one, else the broker's wall clock
    (``wall_time``), both in seconds since 1970. A removal carries the last value. ``by`` is who
    wanted it, in words: who asked for it from elsewhere, or who reported it unasked.
    """

    seq: int
    event_type: SettingsEventType
    component_address: str
    timestamp: float
    source_session_id: str | None
    source_process_id: UUID | None
    value: SettingsSnapshotValue
    wall_time: float = 0.0
    by: str = ""


_LEAVES = frozenset({type(None), bool, int, float, str, bytes})


def structured(value: object) -> dict[Any, Any] | None:
    """Return the structured form of a settings object, or None where it has none.

    Mappings have one (with the keys they have), and instances of dataclasses, pydantic models,
    attrs classes, msgspec Structs and ``param`` classes, by the names of their fields. What they
    hold is structured likewise, also within lists and tuples; other values stay as they are.

    Raises:
        MalformedMessageError: they hold themselves.
    """
    try:
        return _structure(value)
    except RecursionError:
        raise MalformedMessageError(
            f"settings of type {type(value).__qualname__} hold themselves, or stand hundreds deep "
            f"within each other; flatten them"
        ) from None


def _structure(value: object) -> dict[Any, Any] | None:
    if isinstance(value, Mapping):
        return {key: _structured_part(item) for key, item in value.items()}
    form = None if isinstance(value, type | EnumValue) else _fields_of(value)
    return None if form is None else _structure(form)


def _fields_of(value: Any) -> Mapping[Any, Any] | None:  # noqa: ANN401
    """Return the fields of an object by name; its library is known by its marks, not imported."""
    kind = type(value)
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if callable(dump := getattr(kind, "model_dump", None)):  # pydantic
        dumped: Mapping[Any, Any] = dump(value)
        return dumped
    if (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        return {each.name: getattr(value, each.name) for each in attributes}
    if (names := getattr(kind, "__struct_fields__", None)) is not None:  # msgspec
        return {name: getattr(value, name) for name in names}
    if callable(parameters := getattr(getattr(value, "param", None), "objects", None)):
        return {name: getattr(value, name) for name in parameters("existing") if name != "name"}
    return None


def _structured_part(value: object) -> object:
    if type(value) in _LEAVES:
        return value
    if isinstance(value, list):
        return [_structured_part(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_structured_part(item) for item in value)
    form = _structure(value)
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
