"""What a rig was, on paper: settings with their units, wiring, components, configuration."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from ezgraph.cli.component import dotted, held_at, shown_form
from ezgraph.cli.looking_back.differences import write_title
from ezgraph.cli.words import inner, moment
from ezgraph.errors import UnknownComponentError
from ezgraph.protocol.differences import units_at
from ezgraph.protocol.wiring import visible
from ezgraph.settings.columns import leaves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.cli.paper import Paper
    from ezgraph.protocol.graphs import Graph, Snapshot

_IN = "  "
_MOST = 400


def when_it_was(snapshot: Snapshot) -> str:
    """Return the seq and the time of a snapshot."""
    at = moment(snapshot.time) if snapshot.time else "before everything that is stored"
    return f"seq {snapshot.seq}, {at}"


def write_snapshot(paper: Paper, snapshot: Snapshot) -> None:
    """Write all of it."""
    graph = snapshot.graph
    paper.line((f"as of {when_it_was(snapshot)}", "bold"))
    if graph.settings:
        write_title(paper, "settings")
        write_settings(paper, graph, list(graph.settings))
    if graph.topology:
        write_title(paper, "edges")
        for edge in graph.topology:
            paper.line((_IN + visible(f"{edge.from_topic} -> {edge.to_topic}"), ""))
    if graph.components:
        write_title(paper, "components")
        for address, component in graph.components.items():
            paper.line(
                (f"{_IN}{visible(address)}  ", "cyan"), (visible(component.component_type), "dim")
            )
    if graph.config:
        write_title(paper, "config")
        for kind, entries in graph.config.items():
            for key, value in entries.items():
                paper.line((f"{_IN}{visible(f'{kind} {key}')}  ", "cyan"), (_short(value), ""))


def write_settings(paper: Paper, graph: Graph, addresses: Sequence[str]) -> None:
    """Write the settings at some addresses, one line a field."""
    for address in addresses:
        paper.line((f"{_IN}{visible(address)}", "cyan"))
        form, units = shown_form(graph.settings[address]), units_at(graph, address)
        if not isinstance(form, dict):
            paper.line((f"{_IN * 2}{_short(form)}", ""))
            continue
        rows = {dotted(path): (path, value) for path, value in leaves(form).items()}
        widest = max(map(len, rows), default=0)
        for name, (path, value) in rows.items():
            unit = units.get(str(path[0]), "") if len(path) == 1 else ""
            paper.line(
                (f"{_IN * 2}{name:<{widest}}  ", ""), (_short(value), "bold"),
                (f" {visible(unit)}" if unit else "", ""),
            )


def _short(value: object) -> str:
    text = inner(value)
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"


def chosen(graph: Graph, typed: str) -> list[str]:
    """Return the addresses with settings that ``typed`` names: one, or with a ``/`` all below.

    Raises:
        UnknownComponentError: there are none.
    """
    if typed.endswith("/"):
        found = [each for each in graph.settings if each.startswith(typed)]
    else:
        found = [typed] if typed in graph.settings else []
    if not found:
        near = difflib.get_close_matches(typed, graph.settings, 1)
        meant = f"; is {near[0]!r} meant?" if near else ""
        raise UnknownComponentError(f"there were no settings at {typed!r} then{meant}")
    return found


def field_at(graph: Graph, address: str, field: str) -> Any:  # noqa: ANN401
    """Return what stood in a field (a dotted path).

    Raises:
        UnknownFieldError: there was no such field.
    """
    return held_at(graph.settings[address], field)
