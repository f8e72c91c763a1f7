"""The picture of a snapshot in a notebook: an SVG drawing and tables, in one HTML element. Pure.

It loads nothing from anywhere, runs no script, and every name in it is escaped.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from ezgraph.protocol.html_parts import STYLE, count, several, shortened, table, text
from ezgraph.protocol.layered import Arrow, Layout, arrows_of, lay_out, ranks_of
from ezgraph.protocol.wiring import Path, Wiring, visible, wiring_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.protocol.settings import SettingsSnapshotValue
    from ezgraph.protocol.snapshot import GraphSnapshot

DRAWN_NODES = 300
DRAWN_STOPS = 5_000

_ROW, _GAP_X, _BOX_H, _CHAR = 46, 60, 34, 7.2
_HUES = (205, 28, 130, 0, 265, 50, 320, 180)


def snapshot_html(snapshot: GraphSnapshot) -> str:
    """Return the picture for a notebook: one HTML element that needs nothing from elsewhere.

    More than 300 topics are drawn compacted, or not at all; more than 200 rows are cut, and the
    picture says so.
    """
    paused = ", <b>paused</b>" if snapshot.paused else ""
    edges = len(snapshot.edge_owners)
    parts = [
        f"<div class='ezgraph'><style>{STYLE}</style>",
        f"<div><b>ezgraph</b> <span class='quiet'>seq {snapshot.seq}, epoch {snapshot.epoch}, "
        f"{count(edges, 'edge')}{paused}</span></div>",
        _drawing(wiring_of(snapshot)),
        _sessions_table(snapshot),
        _processes_table(snapshot),
        _served_table(snapshot),
        _settings_table(snapshot),
        "</div>",
    ]
    return "\n".join(part for part in parts if part)


def _sessions_table(snapshot: GraphSnapshot) -> str:
    rows = []
    for session_id, session in snapshot.sessions.items():
        metadata = session.metadata
        components = sorted(metadata.components) if metadata else []
        rows.append(
            [
                text(session_id),
                text(metadata.root_name or "") if metadata else "",
                several([f"{edge.from_topic} → {edge.to_topic}" for edge in session.edges]),
                several(components),
            ]
        )
    title = count(len(rows), "session")
    return table(title, ["session", "root", "edges", "components"], rows, is_open=False)


def _processes_table(snapshot: GraphSnapshot) -> str:
    rows = [
        [
            text(process.process_id),
            text(process.host or ""),
            text("" if process.pid is None else process.pid),
            several(process.units),
        ]
        for process in snapshot.processes.values()
    ]
    title = count(len(rows), "process")
    return table(title, ["process", "host", "pid", "units"], rows, is_open=False)


def _served_table(snapshot: GraphSnapshot) -> str:
    rows = [[text(name), several(graph.owners)] for name, graph in snapshot.graphs.items()]
    title = count(len(rows), "served graph")
    return table(title, ["graph", "by"], rows, is_open=False) if rows else ""


def _settings_table(snapshot: GraphSnapshot) -> str:
    rows = [
        [text(address), _settings_cell(value)] for address, value in snapshot.settings.items()
    ]
    title = f"settings of {count(len(rows), 'component')}"
    return table(title, ["component", "settings"], rows, is_open=len(rows) <= 20)


def _settings_cell(value: SettingsSnapshotValue) -> str:
    shown = value.repr_value if value.structured_value is None else value.structured_value
    if not isinstance(shown, dict):
        return text(shortened(str(shown)))
    return "<br>".join(
        f"<b>{text(name)}</b> = {text(shortened(str(each)))}" for name, each in shown.items()
    )


# --- the drawing ---


def _drawing(wiring: Wiring) -> str:
    if not wiring.nodes:
        return "<div class='quiet'>no edges</div>"
    deepest = max(len(path) for path in wiring.nodes)
    for level in range(deepest):
        drawn = wiring.compact(level)
        if len(drawn.nodes) > DRAWN_NODES or len(drawn.edges) > DRAWN_STOPS:
            continue
        arrows = arrows_of(drawn)
        ranks = ranks_of(drawn.nodes, arrows)
        if sum(ranks[each.end] - ranks[each.start] for each in arrows) > DRAWN_STOPS:
            continue
        levels = "innermost level" if level == 1 else f"{level} innermost levels"
        note = f"<div class='quiet'>drawn without the {levels}</div>"
        return _svg(lay_out(drawn.nodes, arrows, ranks)) + (note if level else "")
    return (
        f"<div class='quiet'>{count(len(wiring.nodes), 'topic')}, "
        f"{count(len(wiring.edges), 'edge')}: too many to draw here</div>"
    )


def _svg(layout: Layout) -> str:
    widths = [
        max((_width(node) for node in rank if isinstance(node, tuple)), default=0)
        for rank in layout.ranks
    ]
    lefts: list[float] = []
    left = 8.0
    for width in widths:
        lefts.append(left)
        left += width + _GAP_X
    rows = max(layout.row.values()) + 1
    width, height = left - _GAP_X + 8, rows * _ROW + 4

    def box(node: object) -> tuple[float, float, float]:
        """Return left, middle height and width of a node; a bend is as wide as its rank."""
        rank = layout.rank_of[node]
        own = _width(node) if isinstance(node, tuple) else widths[rank]
        return lefts[rank], layout.row[node] * _ROW + _ROW / 2, own

    shapes = [_route(stops, arrow, box) for stops, arrow in layout.routes]
    nodes = (node for rank in layout.ranks for node in rank if isinstance(node, tuple))
    shapes += [_node(node, box) for node in nodes]
    return (
        f"<svg role='img' aria-label='wiring' width='{width:.0f}' height='{height:.0f}' "
        f"viewBox='0 0 {width:.0f} {height:.0f}'>{''.join(shapes)}</svg>"
    )


def _width(node: tuple[str, ...]) -> float:
    return max(_cells(_title(node)), _cells(_home(node)) * 0.9) * _CHAR + 18


def _title(path: Path) -> str:
    return shortened(visible(path[-1]), 40)


def _home(path: Path) -> str:
    return shortened(visible("/".join(path[:-1])), 46)


def _cells(shown: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in shown)


def _node(node: tuple[str, ...], box: Callable[[object], tuple[float, float, float]]) -> str:
    left, middle, width = box(node)
    fill = "fill='none'"
    if len(node) > 1:
        hue = _HUES[sum("/".join(node[:-1]).encode()) % len(_HUES)]
        fill = f"fill='hsl({hue} 70% 55% / .16)'"
    label, home = text(_title(node)), text(_home(node))
    baseline = middle - 2 if home else middle + 4
    second = (
        f"<text class='home' x='{left + 9:.1f}' y='{middle + 11:.1f}'>{home}</text>" if home else ""
    )
    return (
        f"<g><title>{text('/'.join(node))}</title>"
        f"<rect x='{left:.1f}' y='{middle - _BOX_H / 2:.1f}' width='{width:.1f}' "
        f"height='{_BOX_H}' rx='5' {fill}/>"
        f"<text x='{left + 9:.1f}' y='{baseline:.1f}'>{label}</text>{second}</g>"
    )


def _route(
    stops: Sequence[object],
    arrow: Arrow,
    box: Callable[[object], tuple[float, float, float]],
) -> str:
    """Return a smooth line through the stops, with a head where the arrow points."""
    left, middle, width = box(stops[0])
    x, y = left + width + (6 if arrow.back else 0), middle
    head = f"{x:.1f},{y - 4:.1f} {x - 6:.1f},{y:.1f} {x:.1f},{y + 4:.1f}"
    steps = [f"M{x:.1f} {y:.1f}"]
    for stop in stops[1:]:
        left, middle, width = box(stop)
        is_last = stop is stops[-1]
        tip = left - 6 if is_last and not arrow.back else left
        half = (x + tip) / 2
        steps.append(f"C{half:.1f} {y:.1f} {half:.1f} {middle:.1f} {tip:.1f} {middle:.1f}")
        x, y = tip, middle
        if not is_last:
            x = left + width
            steps.append(f"L{x:.1f} {y:.1f}")
    if not arrow.back:
        head = f"{x:.1f},{y - 4:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 4:.1f}"
    return f"<path class='{arrow.kind}' d='{' '.join(steps)}'/><polygon points='{head}'/>"
