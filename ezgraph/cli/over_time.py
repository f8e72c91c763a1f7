"""What ``settings table`` writes: settings as columns, a row for each change."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ezgraph.cli.guest import guest
from ezgraph.cli.journaled import stored
from ezgraph.cli.paper import is_terminal, tell
from ezgraph.cli.words import inner, moment
from ezgraph.client.blocking import run
from ezgraph.protocol.events import SettingsChanged
from ezgraph.protocol.wiring import visible
from ezgraph.settings.columns import differ
from ezgraph.settings.table import SettingsTable, TableRow
from ezgraph.state.graph import settings_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ezgraph.cli.options import Target
    from ezgraph.cli.paper import Paper
    from ezgraph.cli.when import When
    from ezgraph.protocol.key_text import KeyFilter
    from ezgraph.protocol.settings import SettingsChangedEvent

_NARROWEST = 7
_GAP = 3


def read_table(broker: Target, wanted: KeyFilter) -> tuple[SettingsTable, dict[int, float]]:
    """Return all stored changes of the settings that are meant, and the broker's time of each.

    Where history was compacted, what did not change since begins the table.
    """
    floors: list[int] = []
    with guest(broker) as session:
        found = [
            settings_event(event.seq, event.wall_time, event.source, event.body)
            for event in stored(
                session, wanted.prefix, timeout_s=broker.timeout_s, on_floor=floors.append
            )
            if isinstance(event.body, SettingsChanged) and wanted.matches(event.key)
        ]
        older: list[SettingsChangedEvent] = []
        if floors:
            tell(f"what was before seq {floors[-1]:,} was compacted; the table begins there")
            state, _ = run(session.fetch_state(["settings"], timeout=broker.timeout_s))
            older = [
                each
                for each in state.last_settings_changes()
                if each.seq < floors[-1] and wanted.matches(("settings", each.component_address))
            ]
    events = [*older, *found]
    return SettingsTable(events), {each.seq: each.wall_time for each in events}


def rows_within(
    table: SettingsTable, moments: Mapping[int, float], start: When | None, end: When | None
) -> Iterator[TableRow]:
    """Yield the rows in (start, end]; what was set before stands in them too."""
    for row in table.rows():
        seq, wall_time = row.change.seq, moments[row.change.seq]
        if (start is None or start.comes_before(seq, wall_time)) and not (
            end is not None and end.comes_before(seq, wall_time)
        ):
            yield row


def write_columns(paper: Paper, table: SettingsTable, rows: Iterable[TableRow]) -> None:
    """Write it for people; on a terminal as many columns as have room, moving ones first."""
    shown = list(rows)
    names = [each.name for each in table.columns if any(each.name in row.values for row in shown)]
    if not shown:
        paper.line(("no changes", "dim"))
        return
    cells = {name: [_cell(row, name) for row in shown] for name in names}
    today = dt.datetime.now(dt.UTC).astimezone().date() if is_terminal() else None
    heads = [
        [
            str(row.change.seq),
            moment(row.change.timestamp, today=today),
            visible(row.change.component),
        ]
        for row in shown
    ]
    if is_terminal():
        names = _fitting(names, cells, shown, _width(heads))
    body = [[*head, *(cells[name][n] for name in names)] for n, head in enumerate(heads)]
    paper.table(["seq", "time", "component", *map(visible, names)], body)
    if more := len(cells) - len(names):
        tell(f"and {more} more columns; --as csv has all, a longer PREFIX fewer")


def _cell(row: TableRow, name: str) -> str:
    return inner(row.values[name]) if name in row.values else ""


def _width(heads: list[list[str]]) -> int:
    return sum(max(map(len, column)) + _GAP for column in zip(*heads, strict=True))


def _fitting(
    names: list[str], cells: Mapping[str, list[str]], rows: list[TableRow], taken: int
) -> list[str]:
    room = shutil.get_terminal_size().columns - taken
    chosen: set[str] = set()
    for name in sorted(names, key=lambda name: not _moves(name, rows)):
        width = max(_NARROWEST, len(name), *map(len, cells[name])) + _GAP
        if width <= room or not chosen:
            chosen.add(name)
            room -= width
    return [name for name in names if name in chosen]


def _moves(name: str, rows: list[TableRow]) -> bool:
    first = rows[0].values.get(name)
    return any(differ(first, row.values.get(name)) for row in rows)
