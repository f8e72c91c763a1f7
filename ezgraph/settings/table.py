"""Settings over time: a row for each change, a column for each setting.

A row says what every setting was from that change on. A column holds the values as they were set,
with their types; where a setting did not exist (yet, or any more) there is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ezgraph.extras import extra
from ezgraph.protocol.settings import SettingsChangedEvent, SettingsEventType
from ezgraph.settings.columns import Path, column_names, leaves
from ezgraph.settings.exact import native
from ezgraph.settings.pipeline import (
    INIT_FINAL_COMPONENT_ADDRESS,
    PipelineSettingsEvent,
    PipelineSettingsEventType,
)
from ezgraph.settings.sinks import csv_line, json_line

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

HEAD = ("seq", "timestamp", "component", "event_type", "source_session_id")
"""The columns before those of the settings."""

_KINDS: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "text"}
_KIND_OF_EVENT = {
    SettingsEventType.INITIAL_SETTINGS: PipelineSettingsEventType.INITIAL,
    SettingsEventType.SETTINGS_UPDATED: PipelineSettingsEventType.UPDATED,
    SettingsEventType.SETTINGS_REMOVED: PipelineSettingsEventType.REMOVED,
}
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Change:
    """One change: the component's settings by their paths; none of them when it was removed."""

    seq: int
    timestamp: float
    component: str
    event_type: str
    source_session_id: str | None
    values: Mapping[Path, Any]
    by: str = ""

    @property
    def head(self) -> dict[str, Any]:
        """What the first columns hold."""
        return {name: getattr(self, name) for name in HEAD}


@dataclass(frozen=True, slots=True)
class Column:
    """One setting over time.

    ``path`` is the component's address, then names and keys within its settings. ``kind`` is what
    all its values are: ``bool``, ``int`` (of 64 bit), ``float`` (with integers among them),
    ``text`` or ``object``; ``has_gaps``: there are rows in which the setting does not exist.
    """

    name: str
    path: Path
    kind: str
    has_gaps: bool


@dataclass(frozen=True, slots=True)
class TableRow:
    """A change, and all settings there were from then on, by column name."""

    change: Change
    values: dict[str, Any]


def change_of(event: SettingsChangedEvent | PipelineSettingsEvent) -> Change | None:
    """Return what an event changed; None for the sentinel."""
    if event.component_address == INIT_FINAL_COMPONENT_ADDRESS:
        return None
    if isinstance(event, PipelineSettingsEvent):
        kind, value, by = event.event_type, event.native(), ""
    else:
        kind, held = _KIND_OF_EVENT[event.event_type], event.value
        shown = held.repr_value if held.structured_value is None else held.structured_value
        value, by = native(shown), event.by
    is_removed = kind is PipelineSettingsEventType.REMOVED
    return Change(
        event.seq,
        event.timestamp,
        event.component_address,
        kind.value,
        event.source_session_id,
        {} if is_removed else leaves(value, (event.component_address,)),
        by,
    )


class SettingsTable:
    """Settings over time, made of `SettingsChangedEvent` or `PipelineSettingsEvent`.

    Rows stand in order of ``seq``. ``rows`` makes them one by one: all together they can be much
    larger than the changes.
    """

    def __init__(self, events: Iterable[SettingsChangedEvent | PipelineSettingsEvent]) -> None:
        changes = (change_of(each) for each in events)
        self.changes = sorted(filter(None, changes), key=lambda each: each.seq)

    def __repr__(self) -> str:
        return f"<SettingsTable {len(self.changes)} rows, {len(self.columns)} columns>"

    def __len__(self) -> int:
        return len(self.changes)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The settings there were at any time, in order of component and first appearance."""
        values: dict[Path, list[Any]] = {}
        for each in self.changes:
            for path, value in each.values.items():
                values.setdefault(path, []).append(value)
        reserved: dict[Path, str] = {(None, name): name for name in HEAD}
        ordered = sorted(values, key=lambda path: str(path[0]))
        names = column_names(ordered, reserved)
        gaps = self._paths_with_gaps(values)
        return tuple(
            Column(names[path], path, kind_of(values[path]), path in gaps) for path in ordered
        )

    def _paths_with_gaps(self, paths: Iterable[Path]) -> set[Path]:
        gaps = {path for path in paths if path[0] != self.changes[0].component}
        by_component: dict[str, set[Path]] = {}
        for path in paths:
            by_component.setdefault(path[0], set()).add(path)
        for each in self.changes:
            gaps |= by_component.get(each.component, set()) - each.values.keys()
        return gaps

    def rows(self) -> Iterator[TableRow]:
        """Return a row for each change, in order of ``seq``."""
        names = {each.path: each.name for each in self.columns}
        now: dict[str, dict[str, Any]] = {each.path[0]: {} for each in self.columns}
        for change in self.changes:
            now[change.component] = {names[path]: value for path, value in change.values.items()}
            values = {name: value for held in now.values() for name, value in held.items()}
            yield TableRow(change, values)

    def csv_lines(self, rows: Iterable[TableRow] | None = None) -> Iterator[str]:
        """Return the table (or some rows) as lines of CSV; text as it is, other values as JSON.

        Where a setting does not exist the cell is empty.
        """
        names = [each.name for each in self.columns]
        yield csv_line([*HEAD, *names])
        for row in self.rows() if rows is None else rows:
            cells = [row.values.get(name) for name in names]
            yield csv_line([*row.change.head.values(), *cells])

    def json_lines(self, rows: Iterable[TableRow] | None = None) -> Iterator[str]:
        """Return the table (or some rows) as lines of JSON, its settings under ``settings``."""
        for row in self.rows() if rows is None else rows:
            yield json_line({**row.change.head, "settings": row.values})

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a file as CSV."""
        _write(path, self.csv_lines())

    def to_json_lines(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a file, a JSON object on each line."""
        _write(path, self.json_lines())

    def to_pandas(self) -> Any:  # noqa: ANN401
        """Return the table as a ``pandas.DataFrame`` with a dtype for each column.

        Gaps are ``NA`` (None in columns of objects). pandas holds NaN and NA apart in no column of
        floats: there they are the same.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        pandas = extra("pandas", "pandas", "a table as a DataFrame")
        rows = list(self.rows())
        frame = {name: [row.change.head[name] for row in rows] for name in HEAD}
        series = {
            each.name: pandas.Series(
                [row.values.get(each.name) for row in rows], dtype=_PANDAS[each.kind]
            )
            for each in self.columns
        }
        return pandas.DataFrame({**frame, **series})

    def _repr_html_(self) -> str:
        """Return the history for a notebook."""
        from ezgraph.settings.faces import changes_html

        return changes_html(self.changes)


_PANDAS = {
    "bool": "boolean",
    "int": "Int64",
    "float": "Float64",
    "text": "string",
    "object": "object",
}


def kind_of(values: Iterable[Any]) -> str:
    """Return what all values are: ``bool``, ``int``, ``float``, ``text`` or ``object``."""
    values = list(values)
    kinds = set(map(type, values))
    if kinds == {int, float}:
        kinds = {float}
    kind = _KINDS.get(kinds.pop(), "object") if len(kinds) == 1 else "object"
    numbers = [each for each in values if type(each) is int] if kind in ("int", "float") else []
    return kind if all(each in _INT64 for each in numbers) else "object"


def _write(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
