"""Settings in a notebook: what they are now, and how they came to be so. Pure HTML, no scripts."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from ezgraph.protocol.html_parts import LISTED_ROWS, STYLE, count, shortened, table, text
from ezgraph.settings.columns import Path, differ, leaves
from ezgraph.settings.table import Change, change_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ezgraph.protocol.metadata import SettingsFieldMetadata
    from ezgraph.protocol.settings import SettingsChangedEvent, SettingsSnapshotValue

DRAWN_FIELDS = 12
_WIDTH, _HEIGHT = 220, 28
_SMALL_ARRAY = 8
_LARGEST = 2**63
_GONE = "<span class='quiet'>none</span>"
_ABSENT = object()


def settings_table_html(
    settings: Mapping[str, SettingsSnapshotValue],
    changes: Mapping[str, SettingsChangedEvent] | None = None,
) -> str:
    """Return the settings of each address as a table: value, unit, bounds or choices, default.

    ``changes`` are the last change of each address, where known: when it was, and whose.
    """
    rows = [
        row
        for address, value in settings.items()
        for row in _component_rows(address, value, (changes or {}).get(address))
    ]
    title = f"settings of {count(len(settings), 'component')}"
    heads = ["component", "field", "value", "takes", "default", "changed", "by"]
    return _element(title, table(title, heads, rows, is_open=True))


def _component_rows(
    address: str, value: SettingsSnapshotValue, change: SettingsChangedEvent | None
) -> list[list[str]]:
    shown = value.repr_value if value.structured_value is None else value.structured_value
    schema = value.settings_schema
    fields = {each.name: each for each in schema.fields} if schema else {}
    when, who = ("", "") if change is None else (_time(change.timestamp), _who(change))
    return [
        [text(address), text(_dotted(path)), text(_short(item)), *_takes(fields, path), when, who]
        for path, item in leaves(shown).items()
    ]


def _takes(fields: Mapping[str, SettingsFieldMetadata], path: Path) -> tuple[str, str]:
    """Return what a field takes, and its default."""
    field = fields.get(str(path[0])) if len(path) == 1 else None
    if field is None:
        return "", ""
    parts = [field.field_type, *_limits(field)]
    if field.read_only:
        parts.append("read-only")
    default = "required" if field.required else _short(field.default)
    return text(" ".join(parts)), f"<span class='quiet'>{text(default)}</span>"


def _limits(field: SettingsFieldMetadata) -> list[str]:
    unit = [field.unit] if field.unit else []
    if field.choices is not None:
        return [shortened(" | ".join(map(_short, field.choices)), 60), *unit]
    if field.bounds is None:
        return unit
    low, high = field.bounds
    start, end = ("" if each is None else f"{each:g}" for each in (low, high))
    return [f"{start}…{end}", *unit]


def settings_history_html(events: Iterable[SettingsChangedEvent]) -> str:
    """Return changes of settings as a table, the newest first, and numbers over time as lines."""
    return changes_html([change for each in events if (change := change_of(each)) is not None])


def changes_html(changes: Sequence[Change]) -> str:
    """Return changes in order of ``seq`` as `settings_history_html` does."""
    before: dict[str, Mapping[Path, Any]] = {}
    rows = []
    for each in changes:
        rows.append(_change_row(each, before.get(each.component, {})))
        before[each.component] = each.values
    title = count(len(changes), "change") + " of settings"
    heads = ["seq", "time", "component", "what", "by"]
    listed = table(title, heads, rows[::-1], is_open=len(rows) <= LISTED_ROWS)
    return _element(title, _lines(changes) + listed)


def _change_row(change: Change, before: Mapping[Path, Any]) -> list[str]:
    return [
        text(change.seq),
        _time(change.timestamp),
        text(change.component),
        _what(change, before),
        text(change.by or change.source_session_id or ""),
    ]


def _what(change: Change, before: Mapping[Path, Any]) -> str:
    if change.event_type == "REMOVED":
        return "<span class='quiet'>removed</span>"
    parts = [
        f"<b>{text(_dotted(path[1:]))}</b> {_held(before, path)} → {_held(change.values, path)}"
        for path in {**before, **change.values}
        if differ(before.get(path, _ABSENT), change.values.get(path, _ABSENT))
    ]
    more = [f"<span class='quiet'>and {len(parts) - 10} more</span>"] if len(parts) > 10 else []
    kind = "registered" if change.event_type == "INITIAL" else "the same again"
    return "<br>".join([*parts[:10], *more]) or f"<span class='quiet'>{kind}</span>"


def _held(values: Mapping[Path, Any], path: Path) -> str:
    return text(_short(values[path])) if path in values else _GONE


# --- numbers over time ---


def _lines(changes: Sequence[Change]) -> str:
    """Return a line for each of the first fields that held different numbers."""
    found: dict[Path, list[tuple[float, float]]] = {}
    for each in changes:
        for path, value in each.values.items():
            if type(value) is float or (type(value) is int and abs(value) < _LARGEST):
                found.setdefault(path, []).append((each.timestamp, float(value)))
    moving = {path: points for path, points in found.items() if len(set(_values(points))) > 1}
    rows = [
        [text(_dotted(path)), _line(points), text(f"{points[-1][1]:g}")]
        for path, points in list(moving.items())[:DRAWN_FIELDS]
    ]
    more = len(moving) - len(rows)
    note = f", and {more} more" if more else ""
    return table(f"numbers over time{note}", ["field", "", "now"], rows, is_open=True)


def _values(points: Sequence[tuple[float, float]]) -> list[float]:
    return [value for _, value in points if math.isfinite(value)]


def _line(points: Sequence[tuple[float, float]]) -> str:
    """Return the steps of a setting over time; what is not finite is left out."""
    finite = [(moment, value) for moment, value in points if math.isfinite(value)]
    start, low = finite[0][0], min(_values(finite))
    span = max(moment for moment, _ in finite) - start or 1.0
    height = max(_values(finite)) - low or 1.0
    steps = [f"M0 {_y(finite[0][1], low, height)}"]
    for moment, value in finite[1:]:
        steps.append(f"H{(moment - start) / span * _WIDTH:.1f}V{_y(value, low, height)}")
    return (
        f"<svg role='img' aria-label='values over time' width='{_WIDTH}' height='{_HEIGHT}' "
        f"viewBox='0 0 {_WIDTH} {_HEIGHT}'><path d='{''.join(steps)}H{_WIDTH}'/></svg>"
    )


def _y(value: float, low: float, height: float) -> str:
    return f"{_HEIGHT - 2 - (value / height - low / height) * (_HEIGHT - 4):.1f}"


# --- cells ---


def _element(title: str, content: str) -> str:
    shown = content or f"<div class='quiet'>{text(title)}</div>"
    return f"<div class='ezgraph'><style>{STYLE}</style>\n{shown}\n</div>"


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _short(value: Any) -> str:  # noqa: ANN401
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        if value.size > _SMALL_ARRAY:
            return f"{value.dtype} array {'x'.join(map(str, value.shape))}"
        value = value.tolist()
    return shortened(value if isinstance(value, str) else repr(value))


def _time(seconds: float) -> str:
    """Return a wall time in UTC to the millisecond; other clocks' times as seconds."""
    if not 1e8 < seconds < 2e11:
        return text(f"{seconds:.3f} s")
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return text(moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00"))


def _who(change: SettingsChangedEvent) -> str:
    return text(change.by or change.source_process_id or change.source_session_id or "")
