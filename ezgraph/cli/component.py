"""The settings of one component: what they are, what they take, and how they came to be so."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.cli.journaled import stored
from ezgraph.client.blocking import run
from ezgraph.errors import UnknownComponentError, UnknownFieldError
from ezgraph.protocol.events import Event, SettingsChanged
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.protocol.wiring import visible
from ezgraph.settings.columns import Path, differ, leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ezgraph.client.blocking import Session
    from ezgraph.protocol.events import Source
    from ezgraph.protocol.metadata import SettingsSchemaMetadata
    from ezgraph.state.graph import GraphState, SettingEntry

ROOMS = ("session", "component", "process", "settings")
ABSENT: Any = object()
"""In place of a value where a setting is not there."""


def fetch(session: Session, *, timeout_s: float) -> GraphState:
    """Return what there is, as far as settings are concerned."""
    state, _ = run(session.fetch_state(ROOMS, timeout=timeout_s))
    return state


def entry_at(state: GraphState, address: str) -> SettingEntry:
    """Return the settings at an address.

    Raises:
        UnknownComponentError: there are none.
    """
    entry = state.settings.get(address)
    if entry is None:
        near = difflib.get_close_matches(address, state.settings, 1)
        meant = f"; is {near[0]!r} meant?" if near else ""
        raise UnknownComponentError(
            f"there are no settings at {address!r}; `ezgraph settings ls` lists what there is"
            f"{meant}"
        )
    return entry


def schema_at(state: GraphState, address: str) -> SettingsSchemaMetadata | None:
    """Return what the settings at an address take, if that is known."""
    entry, component = state.settings.get(address), state.components.get(address)
    if entry is not None and entry.value.settings_schema is not None:
        return entry.value.settings_schema
    return component.metadata.settings_schema if component is not None else None


def shown_form(value: SettingsSnapshotValue) -> Any:  # noqa: ANN401
    """Return the structured form of settings; text where there is none."""
    return value.repr_value if value.structured_value is None else value.structured_value


def held_at(value: SettingsSnapshotValue, path: str) -> Any:  # noqa: ANN401
    """Return what stands in a field (a dotted path).

    Raises:
        UnknownFieldError: there is no such field.
    """
    whole = held = shown_form(value)
    for name in path.split("."):
        names = {str(key): key for key in held} if isinstance(held, Mapping) else {}
        if name not in names:
            raise unknown_field(path, whole)
        held = held[names[name]]
    return held


def unknown_field(path: str, whole: object) -> UnknownFieldError:
    """Return the error that there is no such field."""
    names = ", ".join(map(str, whole)) if isinstance(whole, Mapping) else ""
    has = f"they have {names}" if names else "they have no fields"
    return UnknownFieldError(f"the settings have no field {path!r}; {has}")


def dotted(path: Path) -> str:
    """Return a path as it is typed."""
    return visible(".".join(map(str, path)))


# --- how they came to be so ---


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a component's settings: by their paths, what they were and what they are.

    ``before`` is None where they were not there, or where what was before is not known.
    """

    event: Event
    body: SettingsChanged
    before: dict[Path, Any] | None
    now: dict[Path, Any]

    @property
    def asker(self) -> Source:
        """Who wanted it: who asked, or who reported it unasked."""
        return self.body.asked_by or self.event.source

    @property
    def reason(self) -> str | None:
        """Why, if it was said."""
        asked_by = self.body.asked_by
        return self.event.source.reason or (asked_by.reason if asked_by else None)

    @property
    def is_removal(self) -> bool:
        """Whether the settings are gone from then on."""
        return self.body.event_type is SettingsEventType.SETTINGS_REMOVED

    def changed(self, field: str | None = None) -> dict[Path, tuple[Any, Any]]:
        """Return the old and the new value where they differ, in ``field`` (all); or `ABSENT`."""
        before = self.before or {}
        return {
            path: (before.get(path, ABSENT), self.now.get(path, ABSENT))
            for path in {**before, **self.now}
            if (field is None or is_in(path, field))
            and differ(before.get(path, ABSENT), self.now.get(path, ABSENT))
        }


def is_in(path: Path, field: str) -> bool:
    """Return whether a path is a field's (a dotted path), or below it."""
    text = ".".join(map(str, path))
    return text == field or text.startswith(f"{field}.")


def history(
    session: Session, address: str, *, timeout_s: float, on_floor: Callable[[int], None]
) -> list[Step]:
    """Return the stored changes of the settings at an address, oldest first."""
    found = stored(session, ("settings", address), timeout_s=timeout_s, on_floor=on_floor)
    return list(_steps(found))


def _steps(events: Iterable[Event]) -> Iterator[Step]:
    before: dict[Path, Any] | None = None
    for event in events:
        body = event.body
        if isinstance(body, SettingsChanged):
            is_gone = body.event_type is SettingsEventType.SETTINGS_REMOVED
            now = {} if is_gone else leaves(shown_form(body.value))
            yield Step(event, body, before, now)
            before = None if is_gone else now
