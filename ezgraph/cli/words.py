"""How things are said to people: ages, sizes, moments, values, events."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, assert_never

from ezgraph.protocol.events import (
    AccessRefused,
    Body,
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
    SettingsLayer,
    SettingsOwed,
    SettingsSettled,
    SnapshotFrozen,
    StateRestored,
    StoredDeleted,
    TagRemoved,
    TagSet,
    in_words,
)
from ezgraph.protocol.served import node_path_text
from ezgraph.protocol.settings import SettingsEventType
from ezgraph.protocol.value_text import inner, short, size
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from ezgraph.protocol.events import Source
    from ezgraph.protocol.settings import SettingsSnapshotValue

__all__ = [
    "Told",
    "age",
    "count",
    "fields_of",
    "inner",
    "moment",
    "setting",
    "short",
    "size",
    "tell",
    "who",
]

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_LINE = 500


def age(seconds: float) -> str:
    """Return a span of time in its two largest units: ``0.4s``, ``3m 12s``, ``2d 4h``."""
    if seconds < 0:
        return f"-{age(-seconds)}"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"


def count(number: int, noun: str) -> str:
    """Return a number of things: ``1 edge``, ``2 processes``, ``3 entries``."""
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def moment(wall_time: float, *, today: dt.date | None = None) -> str:
    """Return a wall time in this host's time zone, to the millisecond; ``today`` needs no date.

    What somebody stored as a time, and no calendar has, is shown as the seconds it is.
    """
    try:
        local = dt.datetime.fromtimestamp(wall_time, dt.UTC).astimezone()
    except (OverflowError, OSError, ValueError):
        return f"{wall_time:g} s"
    clock = local.strftime("%H:%M:%S.") + f"{local.microsecond // 1000:03d}"
    return clock if local.date() == today else f"{local:%Y-%m-%d} {clock}"


def who(source: Source) -> str:
    """Return who caused something: ``rig.py[3412]@lab1 anna``; with a key, which is proved, first.

    Where there is not room for all of it, the rest is what is cut.
    """
    return visible(in_words(source))


# --- values ---


def setting(value: SettingsSnapshotValue) -> str:
    """Return the settings of a component on one line: ``cutoff=30.0 gain=2``."""
    shown = value.repr_value if value.structured_value is None else value.structured_value
    return short(shown)


def fields_of(value: SettingsSnapshotValue) -> dict[str, str]:
    """Return each field of a component's settings as text; without structure the whole is one."""
    shown = value.repr_value if value.structured_value is None else value.structured_value
    if isinstance(shown, Mapping):
        return {visible(str(name)): inner(item) for name, item in shown.items()}
    return {"": short(shown)}


# --- events ---


class Told(NamedTuple):
    """An event in words: what happened to the thing its key names, its colour, and the rest."""

    verb: str
    style: str
    what: str


ADDED, GONE, CHANGED = "green", "red", "yellow"


def tell(body: Body) -> Told:
    """Return an event in words."""
    match body:
        case SessionOpened() | ProcessOpened():
            return Told("opened", ADDED, f"lease of {body.ttl_s:g} s")
        case SessionTakenOver() | ProcessTakenOver():
            return Told("taken over", CHANGED, "by who brought its token")
        case SessionClosed() | ProcessClosed():
            return Told("closed", GONE, _ENDED[body.reason])
        case ProcessUnitsChanged():
            return Told("changed", CHANGED, _units(body))
        case EdgeConnected():
            return Told("connected", ADDED, _held(body))
        case EdgeDisconnected():
            return Told("removed", GONE, _held(body))
        case GraphRegistered():
            return Told("added", ADDED, f"root {visible(body.root_name or '(none)')}")
        case ComponentRegistered():
            return Told("added", ADDED, visible(body.component.component_type))
        case GraphRemoved() | ComponentRemoved():
            return Told("removed", GONE, "")
        case SettingsChanged():
            return _settings(body)
        case ConfigValueSet():
            held = "" if body.owner is None else f" (ends with session {visible(body.owner)})"
            return Told("put", CHANGED, _cut(inner(body.value)) + held)
        case ConfigValueDeleted():
            held = "" if body.owner is None else f"was session {visible(body.owner)}'s"
            return Told("deleted", GONE, held)
        case ConfigSchemaSet():
            what = "has a schema" if body.schema is not None else "has no schema any more"
            return Told("changed", CHANGED, what)
        case GraphServed():
            where = ", ".join(map(visible, body.endpoints)) or "nowhere that can be dialled"
            return Told("served", ADDED, _cut(f"at {where} by {visible(body.owner)}"))
        case GraphWithdrawn():
            rest = "" if body.is_last else ", others still serve it"
            return Told("withdrawn", GONE, f"by {visible(body.owner)}{rest}")
        case NodeAnnounced():
            path = node_path_text(body.path) + "/…" * (body.depth > len(body.path))
            return Told("added", ADDED, _cut(visible(f"{path}  {body.summary}")))
        case NodeWithdrawn():
            return Told("removed", GONE, "")
        case PauseChanged():
            return Told("paused" if body.paused else "resumed", CHANGED, "")
        case HistoryCompacted():
            return Told("compacted", CHANGED, f"events before {body.floor} are gone")
        case AccessRefused():
            times = f"{body.count} times: " if body.count > 1 else ""
            what = f"{times}{body.what} ({body.code}) {body.message}"
            return Told("refused", GONE, visible(what))
        case SnapshotFrozen():
            return Told("frozen", ADDED, f"as of seq {body.at_seq}")
        case TagSet():
            was = "" if body.previous is None else f", was {body.previous}"
            return Told("set", CHANGED, f"{body.fingerprint} (seq {body.at_seq}){was}")
        case TagRemoved():
            return Told("removed", GONE, "")
        case PartitionsWritten():
            where = "" if body.name is None else f" in {visible(body.name)} {body.fingerprint}"
            return Told("written", ADDED, f"{count(body.count, 'partition')}{where}")
        case RecordingWritten():
            return _recording(body)
        case RecordingDeleted():
            return Told("deleted", GONE, f"recording {body.number}")
        case StoredDeleted():
            return Told("deleted", GONE, count(body.count, _DELETED.get(body.what, "thing")))
        case StateRestored():
            return Told("restored", CHANGED, _restored(body))
        case SettingsOwed():
            return Told("owed", CHANGED, setting(body.value))
        case SettingsSettled():
            why = "made so" if body.why_not is None else f"not made so: {visible(body.why_not)}"
            return Told("settled", CHANGED, why)
    assert_never(body)


def _recording(body: RecordingWritten) -> Told:
    number, added = f"recording {body.number}", count(body.partitions, "partition")
    if body.last_seq is not None:
        how = "failed" if body.failed else "ended"
        return Told(how, GONE if body.failed else CHANGED, f"{number}, {added} more")
    if body.partitions:
        return Told("written", ADDED, f"{added} in {number}")
    return Told("noted", CHANGED, f"{number}, since seq {body.first_seq}")


_DELETED = {"graph": "graph", "snapshot": "snapshot", "partitions": "partition"}


def _restored(body: StateRestored) -> str:
    edges = f"+{body.edges_added} -{body.edges_removed} edges"
    return f"{edges}, {count(body.settings, 'setting')}, {count(body.config, 'config entry')}"


def _cut(text: str) -> str:
    """Return what of a value stands on a line; it may be as large as a file."""
    return text if len(text) <= _LINE else f"{text[:_LINE]}… ({len(text):,} characters)"


_ENDED = {
    EndReason.CLOSED: "by itself",
    EndReason.EXPIRED: "silent for its whole lease",
    EndReason.LOST: "connection lost",
}


def _units(body: ProcessUnitsChanged) -> str:
    changes = [f"+{unit}" for unit in body.added] + [f"-{unit}" for unit in body.removed]
    return visible(f"{' '.join(changes)} (runs {len(body.units)})")


def _held(body: EdgeConnected | EdgeDisconnected) -> str:
    holder = "persistent" if body.owner is None else f"session {visible(body.owner)}"
    if body.topology_changed:
        return holder
    others = "others hold it too" if isinstance(body, EdgeConnected) else "others still hold it"
    return f"{holder}, {others}"


def _settings(body: SettingsChanged) -> Told:
    match body.event_type:
        case SettingsEventType.INITIAL_SETTINGS:
            return Told("initial", ADDED, setting(body.value))
        case SettingsEventType.SETTINGS_REMOVED:
            return Told("removed", GONE, f"last {setting(body.value)}")
        case SettingsEventType.SETTINGS_UPDATED:
            back = " (back to initial)" if body.layer is SettingsLayer.INITIAL else ""
            return Told("changed", CHANGED, setting(body.value) + back)
    assert_never(body.event_type)
