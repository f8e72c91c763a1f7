"""Events in plain words, for both views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from ezgraph.protocol.config import config_key_text
from ezgraph.protocol.events import (
    AccessRefused,
    ComponentRegistered,
    ComponentRemoved,
    ConfigSchemaSet,
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
    EndReason,
    GraphRegistered,
    GraphRemoved,
    GraphServed,
    GraphWithdrawn,
    HistoryCompacted,
    NodeAnnounced,
    NodeWithdrawn,
    PartitionsWritten,
    PauseChanged,
    ProcessClosed,
    ProcessOpened,
    ProcessTakenOver,
    ProcessUnitsChanged,
    RecordingDeleted,
    RecordingWritten,
    SessionClosed,
    SessionOpened,
    SessionTakenOver,
    SettingsChanged,
    SettingsOwed,
    SettingsSettled,
    SnapshotFrozen,
    StateRestored,
    StoredDeleted,
    TagRemoved,
    TagSet,
)
from ezgraph.protocol.settings import SettingsEventType

if TYPE_CHECKING:
    from uuid import UUID

    from ezgraph.protocol.events import Event
    from ezgraph.state.graph import GraphState

_ENDINGS = {
    EndReason.CLOSED: "closed",
    EndReason.EXPIRED: "its lease ran out",
    EndReason.LOST: "its connection was lost",
}


class Wording(NamedTuple):
    """An event in words. ``mark``: ``+`` something came, ``-`` it went, ``~`` it changed."""

    mark: str
    text: str


def describe(event: Event, before: GraphState) -> Wording:
    """Return an event in words, given the state before it."""
    body = event.body
    match body:
        case SettingsChanged():
            return _settings(body, before)
        case EdgeConnected():
            return Wording("+", f"edge {body.from_topic} → {body.to_topic}")
        case EdgeDisconnected():
            return Wording("-", f"edge {body.from_topic} → {body.to_topic} is gone")
        case ComponentRegistered():
            return Wording("+", f"unit {body.component.address} is registered")
        case ComponentRemoved():
            return Wording("-", f"unit {body.address} is gone")
        case GraphRegistered():
            return Wording("+", f"{event.source.program} registers metadata")
        case GraphRemoved():
            return Wording("-", f"metadata of {_session(body.session_id, before)} is gone")
        case SessionOpened():
            return Wording("+", f"{event.source.program} opens a session, lease {body.ttl_s:g} s")
        case SessionTakenOver():
            who = _session(body.session_id, before)
            return Wording("~", f"{event.source.program} goes on with the session of {who}")
        case SessionClosed():
            who = _session(body.session_id, before)
            return Wording("-", f"session of {who} ends: {_ENDINGS[body.reason]}")
        case ProcessOpened():
            return Wording(
                "+", f"{event.source.program} opens a process client, lease {body.ttl_s:g} s"
            )
        case ProcessTakenOver():
            who = _process(body.process_id, before)
            return Wording("~", f"{event.source.program} goes on as the process client of {who}")
        case ProcessClosed():
            who = _process(body.process_id, before)
            return Wording("-", f"process client of {who} ends: {_ENDINGS[body.reason]}")
        case ProcessUnitsChanged():
            return _units(body, before)
        case ConfigValueSet():
            text = f"configuration {body.type} {config_key_text(body.key)}"
            return Wording("~", f"{text}: {show_value(body.value)}")
        case ConfigValueDeleted():
            return Wording("-", f"configuration {body.type} {config_key_text(body.key)} is gone")
        case ConfigSchemaSet():
            return Wording("~", f"configuration {body.type} has another schema")
        case GraphServed():
            return Wording("+", f"{event.source.program} serves the data of {body.name}")
        case GraphWithdrawn():
            return Wording("-", f"{event.source.program} serves the data of {body.name} no longer")
        case NodeAnnounced():
            return Wording("+", f"{body.name} has a node: {body.summary}")
        case NodeWithdrawn():
            return Wording("-", f"{body.name} has a node less")
        case PauseChanged():
            return Wording("~", "publishers pause" if body.paused else "publishers go on")
        case HistoryCompacted():
            return Wording("~", f"history before {body.floor} is compacted")
        case AccessRefused():
            return Wording("~", f"{body.who} was refused: {body.what}")
        case SnapshotFrozen():
            return Wording("+", f"snapshot of {body.name} as of seq {body.at_seq}")
        case TagSet():
            return Wording("~", f"tag {body.name}@{body.tag} is at {body.fingerprint}")
        case TagRemoved():
            return Wording("-", f"tag {body.name}@{body.tag} is gone")
        case PartitionsWritten():
            return Wording("+", f"{body.count} partitions of {body.artifact_key} are stored")
        case RecordingWritten(last_seq=None):
            return Wording("+", f"recording {body.number} of {body.artifact_key} goes on")
        case RecordingWritten():
            return Wording("~", f"recording {body.number} of {body.artifact_key} has ended")
        case RecordingDeleted():
            return Wording("-", f"recording {body.number} of {body.artifact_key} is forgotten")
        case StoredDeleted():
            return Wording("-", f"{body.what} of {body.name} {body.fingerprint} is deleted")
        case StateRestored():
            return Wording("~", f"{body.name} is restored to {body.fingerprint}")
        case SettingsOwed():
            return Wording("~", f"settings {body.address} are to be restored by their owner")
        case SettingsSettled():
            return Wording("~", f"settings {body.address} are restored, or given up")
    assert_never(body)


def show_value(value: object) -> str:
    """Return a setting's value as short as it can be read."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def changed_fields(change: SettingsChanged, before: GraphState) -> dict[str, tuple[Any, Any]]:
    """Return the fields that a change of settings changed, with their values before and after."""
    entry = before.settings.get(change.address)
    old = (entry.value.structured_value if entry else None) or {}
    new = change.value.structured_value or {}
    return {
        name: (old.get(name), value)
        for name, value in new.items()
        if name not in old or old[name] != value
    }


def _settings(change: SettingsChanged, before: GraphState) -> Wording:
    address = f"settings {change.address}"
    match change.event_type:
        case SettingsEventType.SETTINGS_REMOVED:
            return Wording("-", f"{address} are gone")
        case SettingsEventType.INITIAL_SETTINGS:
            form = change.value.structured_value or {}
            shown = ", ".join(f"{name} {show_value(value)}" for name, value in form.items())
            return Wording("+", f"{address}: {shown}")
        case SettingsEventType.SETTINGS_UPDATED:
            shown = ", ".join(
                f"{name} {show_value(old)} → {show_value(new)}"
                for name, (old, new) in changed_fields(change, before).items()
            )
            return Wording("~", f"{address}: {shown or 'reported, as they were'}")
    assert_never(change.event_type)


def _units(change: ProcessUnitsChanged, before: GraphState) -> Wording:
    who = _process(change.process_id, before)
    if change.added:
        return Wording("+", f"{who} runs {', '.join(change.added)}")
    return Wording("-", f"{who} runs {', '.join(change.removed)} no more")


def _session(session_id: str, state: GraphState) -> str:
    entry = state.sessions.get(session_id)
    return (entry.source.program if entry else None) or session_id


def _process(process_id: UUID, state: GraphState) -> str:
    entry = state.processes.get(process_id)
    return (entry.source.program if entry else None) or str(process_id)
