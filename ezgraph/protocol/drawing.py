"""Pictures of a snapshot as text: Mermaid, Graphviz, a plain tree, HTML. Pure.

What is drawn
    The topics of the wiring, and its edges. A topic stands in the component that names it in
    its metadata (as a stream, topic or relay), else in the component whose address it begins
    with, else alone. Address segments (``SYS/UNIT_A``) nest. Where a unit's tasks say which of
    its wired topics lead to which, a dotted link joins them: the way through the unit.

Compacting
    A topic's *path* is the segments of its component's address and its own name. With
    ``compact_level=n`` the innermost ``n`` levels of the deepest path are left out of all of
    them: what lies below is drawn as one node.

Names are shown as they are, but for what cannot be seen or would steer a terminal: that is
shown as an escape (``\\x1b``). Each format then escapes what it would read as markup. The same
snapshot gives the same text.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ezgraph.protocol.metadata import CollectionMetadata, ComponentMetadata, UnitMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ezgraph.protocol.settings import SettingsSnapshotValue
    from ezgraph.protocol.snapshot import GraphSnapshot

Direction = Literal["LR", "RL", "TB", "BT"]
DIRECTIONS = ("LR", "RL", "TB", "BT")

Path = tuple[str, ...]
"""Where a node stands: the segments of its component's address, and its own name."""

Link = tuple[Path, Path]

DRAWN_NODES = 300
LISTED_ROWS = 200


def mermaid(
    snapshot: GraphSnapshot, *, direction: Direction = "LR", compact_level: int | None = None
) -> str:
    """Return the wiring as Mermaid text.

    Raises:
        ValueError: ``direction`` is none of the four, or ``compact_level`` is negative.
    """
    _check(direction, compact_level)
    wiring = _wiring(snapshot).compact(compact_level or 0)
    ids = {path: f"n{number}" for number, path in enumerate(wiring.nodes)}
    lines = [f"flowchart {direction}"]
    for step in _outline(wiring.nodes):
        pad = "    " * (step.depth + 1)
        if step.kind == "open":
            lines.append(f'{pad}subgraph g{step.number}["{_mermaid_label(step.name)}"]')
        elif step.kind == "close":
            lines.append(f"{pad}end")
        else:
            lines.append(f'{pad}{ids[step.path]}["{_mermaid_label(step.name)}"]')
    lines += [f"    {ids[start]} --> {ids[end]}" for start, end in wiring.edges]
    lines += [f"    {ids[start]} -.-> {ids[end]}" for start, end in wiring.inside]
    return "\n".join(lines) + "\n"


def graphviz(
    snapshot: GraphSnapshot, *, direction: Direction = "LR", compact_level: int | None = None
) -> str:
    """Return the wiring as Graphviz text.

    Raises:
        ValueError: ``direction`` is none of the four, or ``compact_level`` is negative.
    """
    _check(direction, compact_level)
    wiring = _wiring(snapshot).compact(compact_level or 0)
    ids = {path: f"n{number}" for number, path in enumerate(wiring.nodes)}
    lines = [
        "digraph ezgraph {",
        f"    rankdir={direction};",
        '    node [shape=box, style=rounded, fontname="sans-serif"];',
        '    graph [style=rounded, color=gray, fontname="sans-serif"];',
    ]
    for step in _outline(wiring.nodes):
        pad = "    " * (step.depth + 1)
        if step.kind == "open":
            lines.append(f"{pad}subgraph cluster_{step.number} {{")
            lines.append(f"{pad}    label={_graphviz_text(step.name)};")
        elif step.kind == "close":
            lines.append(f"{pad}}}")
        else:
            lines.append(f"{pad}{ids[step.path]} [label={_graphviz_text(step.name)}];")
    lines += [f"    {ids[start]} -> {ids[end]};" for start, end in wiring.edges]
    lines += [f"    {ids[start]} -> {ids[end]} [style=dashed];" for start, end in wiring.inside]
    return "\n".join([*lines, "}"]) + "\n"


def text(snapshot: GraphSnapshot) -> str:
    """Return the wiring as a plain tree: what each topic leads to, below it.

    A topic that several lead to is drawn out once; elsewhere an arrow points to that place.
    """
    wiring = _wiring(snapshot)
    if not wiring.nodes:
        return "no edges\n"
    names = {path: visible(topic) for topic, path in wiring.path_of.items()}
    followers: defaultdict[Path, list[tuple[str, Path]]] = defaultdict(list)
    for start, end in wiring.edges:
        followers[start].append(("─▶ ", end))
    for start, end in wiring.inside:
        followers[start].append(("┄▶ ", end))
    has_origin = {end for _, end in (*wiring.edges, *wiring.inside)}
    lines: list[str] = []
    drawn: set[Path] = set()
    for root in sorted(wiring.nodes, key=lambda path: (path in has_origin, names[path])):
        if root not in drawn:
            lines += _tree(root, followers, names, drawn)
    if wiring.inside:
        lines += ["", "─▶ edge   ┄▶ through a unit"]
    return "\n".join(lines) + "\n"


def _tree(
    root: Path,
    followers: dict[Path, list[tuple[str, Path]]],
    names: dict[Path, str],
    drawn: set[Path],
) -> Iterator[str]:
    """Yield the lines of one root. No recursion: a chain of topics may be long."""
    waiting: list[tuple[Path, str, str]] = [(root, "", "")]
    while waiting:
        path, before, below = waiting.pop()
        again = path in drawn and bool(followers.get(path))
        yield f"{before}{names[path]}{' (drawn above)' if again else ''}"
        if path in drawn:
            continue
        drawn.add(path)
        children = sorted(followers.get(path, ()), key=lambda each: names[each[1]])
        for number, (arrow, child) in enumerate(reversed(children)):
            last = number == 0
            branch, bar = ("└", "    ") if last else ("├", "│   ")
            waiting.append((child, f"{below}{branch}{arrow}", below + bar))


def visible(name: str) -> str:
    """Return ``name`` on one line, with escapes for characters that cannot be seen."""
    if name.isprintable():
        return name
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in name
    )


def _check(direction: str, compact_level: int | None) -> None:
    if direction not in DIRECTIONS:
        raise ValueError(f"direction {direction!r} is none of {', '.join(DIRECTIONS)}")
    if compact_level is not None and compact_level < 0:
        raise ValueError(f"compact_level {compact_level} is negative; 0 leaves nothing out")


# --- the wiring, as nodes that stand somewhere ---


@dataclass(frozen=True, slots=True)
class _Wiring:
    """Nodes and links, sorted. ``path_of`` says where each topic stands."""

    path_of: dict[str, Path]
    edges: list[Link]
    inside: list[Link]

    @property
    def nodes(self) -> list[Path]:
        """Every place a topic stands at, sorted."""
        return sorted(set(self.path_of.values()))

    def compact(self, levels: int) -> _Wiring:
        """Return the wiring without the innermost ``levels`` of its deepest path."""
        depth = max((len(path) for path in self.path_of.values()), default=1)
        keep = max(1, depth - levels)
        if keep == depth:
            return self
        return _Wiring(
            {topic: path[:keep] for topic, path in self.path_of.items()},
            _cut(self.edges, keep),
            _cut(self.inside, keep),
        )


def _cut(links: Iterable[Link], keep: int) -> list[Link]:
    cut = {(start[:keep], end[:keep]) for start, end in links}
    return sorted((start, end) for start, end in cut if start != end)


def _wiring(snapshot: GraphSnapshot) -> _Wiring:
    topics = set(snapshot.graph)
    topics.update(end for ends in snapshot.graph.values() for end in ends)
    components = _components(snapshot)
    named = _named_topics(components)
    path_of = {topic: _path(topic, named, components) for topic in sorted(topics)}
    edges = sorted(
        (path_of[start], path_of[end]) for start, ends in snapshot.graph.items() for end in ends
    )
    inside = {
        (path_of[start], path_of[end])
        for component in components.values()
        for start, end in _ways_through(component)
        if start in path_of and end in path_of and path_of[start] != path_of[end]
    }
    return _Wiring(path_of, edges, sorted(inside.difference(edges)))


def _components(snapshot: GraphSnapshot) -> dict[str, ComponentMetadata]:
    found: dict[str, ComponentMetadata] = {}
    for session in snapshot.sessions.values():
        if session.metadata is not None:
            found.update(session.metadata.components)
    return {address: found[address] for address in sorted(found)}


def _named_topics(components: dict[str, ComponentMetadata]) -> dict[str, str]:
    """Return which component names each topic in its metadata."""
    named: dict[str, str] = {}
    for address, component in components.items():
        match component:
            case UnitMetadata():
                own = [stream.address for stream in component.streams.values()]
            case CollectionMetadata():
                ends = (*component.topics.values(), *component.relays.values())
                own = [each.address for each in ends]
            case _:
                own = []
        for topic in own:
            named.setdefault(topic, address)
    return named


def _path(topic: str, named: dict[str, str], components: dict[str, ComponentMetadata]) -> Path:
    home = named.get(topic) or _enclosing(topic, components)
    if home is None:
        return (topic,)
    name = topic.removeprefix(home + "/")
    return (*home.split("/"), name)


def _enclosing(topic: str, components: dict[str, ComponentMetadata]) -> str | None:
    """Return the longest component address that ``topic`` begins with."""
    end = topic.rfind("/")
    while end > 0:
        if topic[:end] in components:
            return topic[:end]
        end = topic.rfind("/", 0, end)
    return None


def _ways_through(component: ComponentMetadata) -> Iterator[tuple[str, str]]:
    """Yield (topic read, topic written) of every task of a unit."""
    if not isinstance(component, UnitMetadata):
        return
    streams = component.streams
    for task in component.tasks:
        if task.subscribes is None:
            continue
        start = streams[task.subscribes].address if task.subscribes in streams else task.subscribes
        for each in task.publishes:
            yield start, streams[each].address if each in streams else each


@dataclass(frozen=True, slots=True)
class _Step:
    """One line of the nested outline: a group opens or closes, or a node stands there."""

    kind: Literal["open", "node", "close"]
    depth: int
    name: str = ""
    number: int = 0
    path: Path = ()


def _outline(nodes: Sequence[Path]) -> Iterator[_Step]:
    """Yield the steps that nest sorted ``nodes`` in their groups."""
    groups = 0
    now_in: Path = ()
    for path in sorted(nodes, key=lambda path: (path[:-1], path[-1])):
        group = path[:-1]
        shared = _shared(now_in, group)
        for depth in range(len(now_in), shared, -1):
            yield _Step("close", depth - 1)
        for depth in range(shared, len(group)):
            yield _Step("open", depth, group[depth], groups)
            groups += 1
        now_in = group
        yield _Step("node", len(group), path[-1], path=path)
    for depth in range(len(now_in), 0, -1):
        yield _Step("close", depth - 1)


def _shared(one: Path, other: Path) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


_PLAIN_IN_MERMAID = re.compile(r"[^A-Za-z0-9 _/.:,()+=\-\u0080-\U0010ffff]")
_LIST_IN_MERMAID = re.compile(r"^(\s*\d+)([.)])|^(\s*)([-+])")


def _mermaid_label(name: str) -> str:
    """Escape for a quoted label: entity codes, and no accidental Markdown list."""
    label = _PLAIN_IN_MERMAID.sub(lambda found: f"#{ord(found.group())};", visible(name))
    return _LIST_IN_MERMAID.sub(
        lambda found: (
            f"{found[1]}#{ord(found[2])};" if found[2] else f"{found[3]}#{ord(found[4])};"
        ),
        label,
    )


def _graphviz_text(name: str) -> str:
    escaped = visible(name).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{escaped}"'


# --- HTML ---

_STYLE = """
.ezgraph { font: 13px system-ui, sans-serif; overflow-x: auto }
.ezgraph table { border-collapse: collapse; margin: 4px 0 10px 0 }
.ezgraph th, .ezgraph td { text-align: left; vertical-align: top; padding: 2px 14px 2px 0;
  border: 0; border-bottom: 1px solid #8884; background: none }
.ezgraph th { font-weight: 600 }
.ezgraph td.id { font-family: ui-monospace, monospace; white-space: nowrap }
.ezgraph details { margin: 6px 0 }
.ezgraph summary { cursor: pointer; font-weight: 600 }
.ezgraph .quiet { opacity: .65 }
.ezgraph svg { display: block; margin: 8px 0 }
.ezgraph svg text { fill: currentColor; font: 12px system-ui, sans-serif }
.ezgraph svg text.home { font-size: 10px; opacity: .65 }
.ezgraph svg rect { stroke: currentColor; stroke-opacity: .55 }
.ezgraph svg path { fill: none; stroke: currentColor; stroke-opacity: .6; stroke-width: 1.3 }
.ezgraph svg path.inside { stroke-dasharray: 4 3 }
.ezgraph svg polygon { fill: currentColor; fill-opacity: .6 }
"""


def snapshot_html(snapshot: GraphSnapshot) -> str:
    """Return the picture for a notebook: one HTML element that needs nothing from elsewhere.

    More than 300 topics are drawn compacted, or not at all; more than 200 rows are cut, and the
    picture says so.
    """
    paused = ", <b>paused</b>" if snapshot.paused else ""
    edges = len(snapshot.edge_owners)
    parts = [
        f"<div class='ezgraph'><style>{_STYLE}</style>",
        f"<div><b>ezgraph</b> <span class='quiet'>seq {snapshot.seq}, epoch {snapshot.epoch}, "
        f"{_count(edges, 'edge')}{paused}</span></div>",
        _drawing(_wiring(snapshot)),
        _sessions_table(snapshot),
        _processes_table(snapshot),
        _settings_table(snapshot),
        "</div>",
    ]
    return "\n".join(part for part in parts if part)


def _text(value: object) -> str:
    return html.escape(visible(str(value)), quote=True)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def _table(title: str, heads: Sequence[str], rows: list[list[str]], *, is_open: bool) -> str:
    """Return a foldable table; the cells are HTML already, the first one an identifier."""
    if not rows:
        return ""
    shown = rows[:LISTED_ROWS]
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=id' if n == 0 else ''}>{cell}</td>" for n, cell in enumerate(row))
        + "</tr>"
        for row in shown
    )
    head = "".join(f"<th>{name}</th>" for name in heads)
    rest = len(rows) - len(shown)
    more = f"<div class='quiet'>and {rest:,} more</div>" if rest else ""
    return (
        f"<details{' open' if is_open else ''}><summary>{title}</summary>"
        f"<table><tr>{head}</tr>{body}</table>{more}</details>"
    )


def _sessions_table(snapshot: GraphSnapshot) -> str:
    rows = []
    for session_id, session in snapshot.sessions.items():
        metadata = session.metadata
        components = sorted(metadata.components) if metadata else []
        rows.append(
            [
                _text(session_id),
                _text(metadata.root_name or "") if metadata else "",
                _several([f"{edge.from_topic} → {edge.to_topic}" for edge in session.edges]),
                _several(components),
            ]
        )
    title = _count(len(rows), "session")
    return _table(title, ["session", "root", "edges", "components"], rows, is_open=False)


def _processes_table(snapshot: GraphSnapshot) -> str:
    rows = [
        [
            _text(process.process_id),
            _text(process.host or ""),
            _text("" if process.pid is None else process.pid),
            _several(process.units),
        ]
        for process in snapshot.processes.values()
    ]
    title = _count(len(rows), "process")
    return _table(title, ["process", "host", "pid", "units"], rows, is_open=False)


def _settings_table(snapshot: GraphSnapshot) -> str:
    rows = [
        [_text(address), _settings_cell(value)] for address, value in snapshot.settings.items()
    ]
    title = f"settings of {_count(len(rows), 'component')}"
    return _table(title, ["component", "settings"], rows, is_open=len(rows) <= 20)


def _settings_cell(value: SettingsSnapshotValue) -> str:
    shown = value.repr_value if value.structured_value is None else value.structured_value
    if not isinstance(shown, dict):
        return _text(_shortened(str(shown)))
    return "<br>".join(
        f"<b>{_text(name)}</b> = {_text(_shortened(str(each)))}" for name, each in shown.items()
    )


def _several(names: Sequence[str]) -> str:
    shown = [_text(name) for name in names[:6]]
    if len(names) > len(shown):
        shown.append(f"<span class='quiet'>and {len(names) - len(shown):,} more</span>")
    return "<br>".join(shown)


def _shortened(shown: str, most: int = 120) -> str:
    return shown if len(shown) <= most else shown[: most - 1] + "…"


# --- a small layered drawing: ranks by longest path, order by the mean of the neighbours ---

_ROW, _GAP_X, _BOX_H, _CHAR = 46, 60, 34, 7.2
_SWEEPS = 6
_HUES = (205, 28, 130, 0, 265, 50, 320, 180)


@dataclass(slots=True)
class _Layout:
    """Ranks from left to right; a node without a path of its own is a bend of a long link."""

    ranks: list[list[object]] = field(default_factory=list)
    row: dict[object, float] = field(default_factory=dict)
    rank_of: dict[object, int] = field(default_factory=dict)
    routes: list[tuple[list[object], str]] = field(default_factory=list)


def _drawing(wiring: _Wiring) -> str:
    if not wiring.nodes:
        return "<div class='quiet'>no edges</div>"
    deepest = max(len(path) for path in wiring.nodes)
    for level in range(deepest):
        drawn = wiring.compact(level)
        if len(drawn.nodes) <= DRAWN_NODES:
            note = f"<div class='quiet'>{level} inner levels left out</div>" if level else ""
            return _svg(drawn) + note
    return f"<div class='quiet'>{len(wiring.nodes):,} topics: too many to draw here</div>"


def _svg(wiring: _Wiring) -> str:
    layout = _lay_out(wiring)
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

    shapes = [_route(stops, kind, box) for stops, kind in layout.routes]
    shapes += [_node(node, box) for rank in layout.ranks for node in rank if isinstance(node, tuple)]
    return (
        f"<svg role='img' aria-label='wiring' width='{width:.0f}' height='{height:.0f}' "
        f"viewBox='0 0 {width:.0f} {height:.0f}'>{''.join(shapes)}</svg>"
    )


def _lay_out(wiring: _Wiring) -> _Layout:
    links = _without_loops(wiring)
    rank_of = _ranks(wiring.nodes, links)
    layout = _Layout(ranks=[[] for _ in range(max(rank_of.values()) + 1)])
    layout.rank_of = dict(rank_of)
    for path in wiring.nodes:
        layout.ranks[rank_of[path]].append(path)
    neighbours: defaultdict[object, list[object]] = defaultdict(list)
    for number, (start, end, kind) in enumerate(links):
        stops: list[object] = [start]
        for rank in range(rank_of[start] + 1, rank_of[end]):
            bend = f"{number}:{rank}"
            layout.rank_of[bend] = rank
            layout.ranks[rank].append(bend)
            stops.append(bend)
        stops.append(end)
        layout.routes.append((stops, kind))
        for one, other in zip(stops, stops[1:], strict=False):
            neighbours[one].append(other)
            neighbours[other].append(one)
    _order(layout, neighbours)
    return layout


def _without_loops(wiring: _Wiring) -> list[tuple[Path, Path, str]]:
    """Return the links, without those through a unit that would lead back (a feedback loop)."""
    links = [(start, end, "edge") for start, end in wiring.edges]
    links += [(start, end, "inside") for start, end in wiring.inside]
    after: defaultdict[Path, set[Path]] = defaultdict(set)
    kept = []
    for start, end, kind in links:
        if not _leads(end, start, after):
            after[start].add(end)
            kept.append((start, end, kind))
    return kept


def _leads(start: Path, end: Path, after: dict[Path, set[Path]]) -> bool:
    seen, waiting = {start}, [start]
    while waiting:
        at = waiting.pop()
        if at == end:
            return True
        fresh = after.get(at, set()) - seen
        seen |= fresh
        waiting += fresh
    return False


def _ranks(nodes: Iterable[Path], links: Iterable[tuple[Path, Path, str]]) -> dict[Path, int]:
    """Return how many links the longest way to each node has."""
    before: defaultdict[Path, int] = defaultdict(int)
    after: defaultdict[Path, list[Path]] = defaultdict(list)
    for start, end, _ in links:
        after[start].append(end)
        before[end] += 1
    ranks = dict.fromkeys(nodes, 0)
    waiting = [node for node in ranks if not before[node]]
    while waiting:
        at = waiting.pop()
        for end in after[at]:
            ranks[end] = max(ranks[end], ranks[at] + 1)
            before[end] -= 1
            if not before[end]:
                waiting.append(end)
    return ranks


def _order(layout: _Layout, neighbours: dict[object, list[object]]) -> None:
    """Put each node near the mean row of its neighbours, without two on one row."""
    for rank in layout.ranks:
        layout.row.update({node: float(number) for number, node in enumerate(rank)})
    for sweep in range(_SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for rank in layout.ranks[::step]:
            wanted = {node: _mean_row(node, -step, layout, neighbours) for node in rank}
            rank.sort(key=lambda node: wanted[node])
            _place(rank, wanted, layout.row)
    top = min(layout.row.values())
    for node in layout.row:
        layout.row[node] -= top


def _mean_row(
    node: object, step: int, layout: _Layout, neighbours: dict[object, list[object]]
) -> float:
    rank = layout.rank_of[node] + step
    rows = [layout.row[each] for each in neighbours.get(node, ()) if layout.rank_of[each] == rank]
    return sum(rows) / len(rows) if rows else layout.row[node]


def _place(rank: Sequence[object], wanted: dict[object, float], row: dict[object, float]) -> None:
    """Give each its wanted row, pushed down until it is one below the last; then centre all."""
    last = float("-inf")
    pushed = 0.0
    for node in rank:
        row[node] = max(wanted[node], last + 1)
        pushed += row[node] - wanted[node]
        last = row[node]
    for node in rank:
        row[node] -= pushed / len(rank)


def _width(node: tuple[str, ...]) -> float:
    return max(_cells(_title(node)), _cells(_home(node)) * 0.85) * _CHAR + 18


def _title(path: Path) -> str:
    return _shortened(visible(path[-1]), 40)


def _home(path: Path) -> str:
    return _shortened(visible("/".join(path[:-1])), 46)


def _cells(shown: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in shown)


def _node(node: tuple[str, ...], box: Callable[[object], tuple[float, float, float]]) -> str:
    left, middle, width = box(node)
    fill = "fill='none'"
    if len(node) > 1:
        hue = _HUES[sum("/".join(node[:-1]).encode()) % len(_HUES)]
        fill = f"fill='hsl({hue} 70% 55% / .16)'"
    label, home = _text(_title(node)), _text(_home(node))
    baseline = middle - 2 if home else middle + 4
    second = (
        f"<text class='home' x='{left + 9:.1f}' y='{middle + 11:.1f}'>{home}</text>" if home else ""
    )
    return (
        f"<g><title>{_text('/'.join(node))}</title>"
        f"<rect x='{left:.1f}' y='{middle - _BOX_H / 2:.1f}' width='{width:.1f}' "
        f"height='{_BOX_H}' rx='5' {fill}/>"
        f"<text x='{left + 9:.1f}' y='{baseline:.1f}'>{label}</text>{second}</g>"
    )


def _route(
    stops: Sequence[object], kind: str, box: Callable[[object], tuple[float, float, float]]
) -> str:
    """Return a smooth line through the stops, with an arrow head at the last."""
    left, middle, width = box(stops[0])
    x, y = left + width, middle
    steps = [f"M{x:.1f} {y:.1f}"]
    for stop in stops[1:]:
        left, middle, width = box(stop)
        tip = left if stop is not stops[-1] else left - 6
        bend = (tip - x) / 2
        steps.append(f"C{x + bend:.1f} {y:.1f} {tip - bend:.1f} {middle:.1f} {tip:.1f} {middle:.1f}")
        x, y = tip, middle
        if stop is not stops[-1]:
            x = left + width
            steps.append(f"L{x:.1f} {y:.1f}")
    head = f"{x:.1f},{y - 4:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 4:.1f}"
    return f"<path class='{kind}' d='{' '.join(steps)}'/><polygon points='{head}'/>"
