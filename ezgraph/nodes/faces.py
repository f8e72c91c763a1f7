"""How nodes look: the printed tree, and what a notebook shows. Every text is escaped."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

from ezgraph.nodes.walking import summary_of, tree_rows, walk
from ezgraph.protocol.html_parts import LISTED_ROWS, STYLE, count, shortened, table, text
from ezgraph.protocol.served import node_path_text
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.searching import Found
    from ezgraph.protocol.nodes import Label, TreeRow
    from ezgraph.protocol.served import FoundGraph

_PAGE = 1_000
_MOST_ROWS = 20_000


def print_tree(node: BaseNode, *, depth: int, lines: int) -> None:
    """Print what `tree_text` returns."""
    sys.stdout.write(tree_text(node, depth=depth, lines=lines) + "\n")


def tree_text(node: BaseNode, *, depth: int = 20, lines: int = 500) -> str:
    """Return the nodes below as lines; says what was left out."""
    rows = rows_of(node, min(_MOST_ROWS, 4 * lines + 100))
    below: dict[int, list[int]] = {}
    for number, row in enumerate(rows[1:], 1):
        below.setdefault(row.parent, []).append(number)
    told = list(islice(_lines(rows, below, depth), lines + 1))
    if len(told) > lines:
        told[lines:] = [f"… more than {lines} lines; tree(lines=…) shows more"]
    return "\n".join(told)


def rows_of(node: BaseNode, most: int, *, start: int = 0) -> list[TreeRow]:
    """Return at most so many rows of the walk below a node, from number ``start`` on.

    Row 0 is the node itself; the next are its edges, then those of the nodes that these lead to.
    """
    if node.server is None:
        return tree_rows(walk(node), start, most)
    makers, server = node._makers, node._home  # noqa: SLF001 - its own way to its server
    rows: list[TreeRow] = []
    while len(rows) < most:
        limit = min(_PAGE, most - len(rows))
        page = makers.get_tree(server, node.uid, start=start + len(rows), limit=limit)
        rows += page.rows
        if page.is_last or not page.rows:
            break
    return rows


def _lines(rows: Sequence[TreeRow], below: dict[int, list[int]], depth: int) -> Iterator[str]:
    """Return a line for each row, depth first; iteratively, as the graph may be a long chain."""
    yield visible(rows[0].summary)
    waiting = _children_of(0, below, "", 1)
    while waiting:
        number, lead, is_last, level = waiting.pop()
        row = rows[number]
        again = " (shown elsewhere)" if row.is_again else ""
        label = "" if row.label is None else _label(row.label)
        edge = "└─ " if is_last else "├─ "
        yield f"{lead}{edge}{label}  {visible(row.summary)}{again}"
        deeper = lead + ("   " if is_last else "│  ")
        if level < depth:
            waiting += _children_of(number, below, deeper, level + 1)
        elif number in below:
            yield f"{deeper}└─ … deeper; tree(depth=…) shows more"


def _children_of(
    number: int, below: dict[int, list[int]], lead: str, level: int
) -> list[tuple[int, str, bool, int]]:
    """Return the children of a row as they are popped: the first one last."""
    own = below.get(number, [])
    return [(child, lead, child == own[-1], level) for child in reversed(own)]


def _label(label: Label) -> str:
    """Return a label as it is typed on the way to a node."""
    return node_path_text([label])


# --- notebooks ---


def node_html(node: BaseNode) -> str:
    """Return what a node is, its meta, and its edges, as one element."""
    info = node.info
    parts = [
        f"<div class='ezgraph'><style>{STYLE}</style>",
        f"<div><b>{text(summary_of(node))}</b> <span class='quiet'>{text(node.uid)}, "
        f"{text(info['module'])} {text(info['version'])}</span></div>",
        _meta_table(node.meta),
        _edges_table(node),
        "</div>",
    ]
    return "\n".join(part for part in parts if part)


def found_html(found: Found) -> str:
    """Return the nodes of a search as a table."""
    rows = [
        [text(node_path_text(path)), text(summary_of(node)), text(node.uid)]
        for path, node in zip(found.paths[: LISTED_ROWS + 1], found, strict=False)
    ]
    title = f"{count(len(found), 'node')} found"
    shown = table(title, ["way", "node", "uid"], rows, is_open=True) or text(title)
    return f"<div class='ezgraph'><style>{STYLE}</style>\n{shown}\n</div>"


def graphs_html(graphs: Sequence[FoundGraph]) -> str:
    """Return the served graphs of a bus as a table."""
    rows = [
        [
            text(graph.name),
            text("" if graph.nodes is None else f"{graph.nodes:,}"),
            text("; ".join(f"{host.by} at {', '.join(host.endpoints)}" for host in graph.hosts)),
        ]
        for graph in graphs[:LISTED_ROWS]
    ]
    title = f"{count(len(graphs), 'graph')} served"
    shown = table(title, ["name", "nodes announced", "by"], rows, is_open=True) or text(title)
    return f"<div class='ezgraph'><style>{STYLE}</style>\n{shown}\n</div>"


def _meta_table(meta: Any) -> str:  # noqa: ANN401
    items = meta.items() if isinstance(meta, dict) else [("", meta)]
    rows = [[text(name), text(shortened(repr(value), 200))] for name, value in items]
    return table("meta", ["field", "value"], rows, is_open=True)


def _edges_table(node: BaseNode) -> str:
    rows = [
        [text(_label(label)), text(target if isinstance(target, str) else summary_of(target))]
        for label, target in node.edges.pairs()[:LISTED_ROWS]
    ]
    title = count(len(node.edges), "edge")
    more = len(node.edges) - len(rows)
    note = f"<div class='quiet'>and {more:,} more</div>" if more else ""
    return table(title, ["label", "node"], rows, is_open=len(rows) <= 20) + note
