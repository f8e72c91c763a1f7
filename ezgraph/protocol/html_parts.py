"""Parts of what a notebook shows: cells, tables, their style. Every text in them is escaped."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

LISTED_ROWS = 200
"""How many rows a table shows."""

STYLE = """
.ezgraph { font: 13px system-ui, sans-serif; overflow-x: auto }
.ezgraph table { border-collapse: collapse; margin: 4px 0 10px 0 }
.ezgraph th, .ezgraph td { text-align: left; vertical-align: top; padding: 2px 14px 2px 0;
  border: 0; border-bottom: 1px solid #8884; background: none }
.ezgraph th { font-weight: 600 }
.ezgraph td.id { font-family: ui-monospace, monospace; white-space: nowrap }
.ezgraph details { margin: 6px 0 }
.ezgraph summary { cursor: pointer; font-weight: 600 }
.ezgraph .quiet { opacity: .65 }
.ezgraph .gone, .ezgraph .come { font-family: ui-monospace, monospace; padding: 0 4px;
  border-radius: 3px; overflow-wrap: anywhere }
.ezgraph .gone { background: #d6404033 }
.ezgraph .come { background: #2da44e33 }
.ezgraph svg { display: block; margin: 8px 0 }
.ezgraph svg text { fill: currentColor; font: 12px system-ui, sans-serif }
.ezgraph svg text.home { font-size: 10px; opacity: .65 }
.ezgraph svg rect { stroke: currentColor; stroke-opacity: .55 }
.ezgraph svg path { fill: none; stroke: currentColor; stroke-opacity: .6; stroke-width: 1.3 }
.ezgraph svg path.inside { stroke-dasharray: 4 3 }
.ezgraph svg polygon { fill: currentColor; fill-opacity: .6 }
"""


def text(value: object) -> str:
    """Return a value as escaped text."""
    return html.escape(visible(str(value)), quote=True)


def count(number: int, noun: str) -> str:
    """Return a number of things in words: ``1 edge``, ``2,000 processes``."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def table(title: str, heads: Sequence[str], rows: list[list[str]], *, is_open: bool) -> str:
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


def several(names: Sequence[str]) -> str:
    """Return the first few names below each other, and how many more there are."""
    shown = [text(name) for name in names[:6]]
    if len(names) > len(shown):
        shown.append(f"<span class='quiet'>and {len(names) - len(shown):,} more</span>")
    return "<br>".join(shown)


def shortened(shown: str, most: int = 120) -> str:
    """Return a text of at most so many characters."""
    return shown if len(shown) <= most else shown[: most - 1] + "…"
