"""Pictures of a snapshot as text: Mermaid, Graphviz, a plain tree, HTML. Pure.

What is drawn, and what compacting leaves out, is told in `ezgraph.protocol.wiring`. An edge is a
solid line; a way through a unit is a dotted one. Each format escapes what it would read as markup.
The same snapshot gives the same text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ezgraph.protocol.notebook import snapshot_html
from ezgraph.protocol.wiring import Path, visible, wiring_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ezgraph.protocol.snapshot import GraphSnapshot

__all__ = ["DIRECTIONS", "Direction", "graphviz", "mermaid", "snapshot_html", "text"]

Direction = Literal["LR", "RL", "TB", "BT"]
DIRECTIONS = ("LR", "RL", "TB", "BT")


def mermaid(
    snapshot: GraphSnapshot, *, direction: Direction = "LR", compact_level: int | None = None
) -> str:
    """Return the wiring as Mermaid text.

    Raises:
        ValueError: ``direction`` is none of the four, or ``compact_level`` is negative.
    """
    _check(direction, compact_level)
    wiring = wiring_of(snapshot).compact(compact_level or 0)
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
    wiring = wiring_of(snapshot).compact(compact_level or 0)
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
    wiring = wiring_of(snapshot)
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


def _check(direction: str, compact_level: int | None) -> None:
    if direction not in DIRECTIONS:
        raise ValueError(f"direction {direction!r} is none of {', '.join(DIRECTIONS)}")
    if compact_level is not None and compact_level < 0:
        raise ValueError(f"compact_level {compact_level} is negative; 0 leaves nothing out")


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
