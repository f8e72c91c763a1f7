"""The difference between two graphs in a notebook: tables, in one HTML element. Pure.

It loads nothing from anywhere, runs no script, and every name and value in it is escaped. Colours
are see-through, so that they stand on light paper and on dark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.protocol.change_text import change_texts, settings_alone, summary
from ezgraph.protocol.html_parts import STYLE, shortened, table, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.protocol.change_text import ChangeText
    from ezgraph.protocol.differences import Changed, GraphDiff, Part

_ROOM = 100
_SHOWN_DIGITS = 12
_HEADS = ["field", "before", "after"]


def difference_html(diff: GraphDiff) -> str:
    """Return the tables for a notebook: one HTML element that needs nothing from elsewhere.

    Of more than 200 rows of a table the rest is counted.
    """
    old, new = (str(each)[:_SHOWN_DIGITS] for each in (diff.old, diff.new))
    parts = [
        f"<div class='ezgraph'><style>{STYLE}</style>",
        f"<div><b>{text(summary(diff))}</b> <span class='quiet'>from {text(old)} to {text(new)}"
        f"</span></div>",
        _changed_table("settings", "component", diff.settings.changed),
        _edges_table(diff),
        _components_table(diff),
        _changed_table("metadata", "component", diff.components.changed),
        *_part_tables("config", "entry", diff.config),
        *_part_tables("artifacts", "artifact", diff.artifacts),
        *_part_tables("producers", "producer", diff.producers),
        "</div>",
    ]
    return "\n".join(part for part in parts if part)


def _part_tables(title: str, head: str, part: Part) -> Iterable[str]:
    rows = _signed(part.added, part.removed)
    yield table(f"{title} added and removed", [head, ""], rows, is_open=True)
    yield _changed_table(f"{title} changed", head, part.changed)


def _changed_table(title: str, head: str, changed: list[Changed]) -> str:
    rows = [
        [text(each.name) if number == 0 else "", *_cells(field)]
        for each in changed
        for number, field in enumerate(change_texts(each))
    ]
    return table(title, [head, *_HEADS], rows, is_open=True)


def _cells(change: ChangeText) -> list[str]:
    cut = change.within(_ROOM)
    name = text(cut.path)
    if change.note:
        return [name, text(cut.old), f"<span class='quiet'>{text(cut.note)}</span>"]
    unit = f" {text(cut.unit)}" if cut.unit else ""
    return [
        name,
        f"<span class='gone'>{text(cut.old)}</span>",
        f"<span class='come'>{text(cut.new)}</span>{unit}",
    ]


def _edges_table(diff: GraphDiff) -> str:
    added, removed = (
        [f"{each.from_topic} → {each.to_topic}" for each in edges]
        for edges in (diff.edges_added, diff.edges_removed)
    )
    return table("edges", ["edge", ""], _signed(added, removed), is_open=True)


def _components_table(diff: GraphDiff) -> str:
    rows = [
        *_signed(diff.components.added, diff.components.removed),
        *([text(each.old_address), f"moved to {text(each.new_address)}"] for each in diff.moved),
    ]
    come, gone = settings_alone(diff)
    rows += [[text(each), "<span class='come'>settings added</span>"] for each in come]
    rows += [[text(each), "<span class='gone'>settings removed</span>"] for each in gone]
    return table("components", ["component", ""], rows, is_open=True)


def _signed(added: list[str], removed: list[str]) -> list[list[str]]:
    """Return a row for each name, which says whether it has come or gone; by name."""
    found = [(each, "<span class='come'>added</span>") for each in added]
    found += [(each, "<span class='gone'>removed</span>") for each in removed]
    return [[text(shortened(name)), what] for name, what in sorted(found)]
