"""A difference between two graphs on paper: settings field by field, edges, components, the rest.

Where a field does not fit on its line, what it was and what it is stand below each other.
"""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from ezgraph.protocol.change_text import ChangeText, change_texts, settings_alone, summary
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ezgraph.cli.paper import Paper, Part
    from ezgraph.protocol.differences import Changed, GraphDiff
    from ezgraph.protocol.differences import Part as GraphPart

_LEAST_ROOM = 20
_MOST_ROOM = 400
_WIDEST_NAME = 24
_IN = "  "
Sign = tuple[str, str, str]
"""What stands before a line, its colour, and the line."""


def write_difference(paper: Paper, diff: GraphDiff) -> None:
    """Write all that differs, under a line that counts it."""
    for line in lines_within(paper, summary(diff)):
        paper.line((line, "bold" if diff else "dim"))
    _write_changed(paper, "settings", diff.settings.changed)
    write_signed(paper, "edges", _edges(diff))
    write_signed(paper, "components", _components(diff))
    _write_changed(paper, "metadata", diff.components.changed)
    for title, part in (
        ("config", diff.config),
        ("artifacts", diff.artifacts),
        ("producers", diff.producers),
    ):
        _write_part(paper, title, part)


def lines_within(paper: Paper, text: str, *, indent: int = 0) -> list[str]:
    """Return a sentence on as many lines as it takes on this paper."""
    return [text] if paper.width is None else wrap(text, max(_LEAST_ROOM, paper.width - indent))


def _write_part(paper: Paper, title: str, part: GraphPart) -> None:
    if part:
        write_title(paper, title)
        _write_signs(paper, come_and_gone(part.added, part.removed))
        _write_fields(paper, part.changed)


def _write_changed(paper: Paper, title: str, changed: Sequence[Changed]) -> None:
    if changed:
        write_title(paper, title)
        _write_fields(paper, changed)


def write_signed(paper: Paper, title: str, signs: Sequence[Sign]) -> None:
    """Write a title, and a line for each sign and what it is about; without any, nothing."""
    if signs:
        write_title(paper, title)
        _write_signs(paper, signs)


def write_title(paper: Paper, title: str) -> None:
    """Write an empty line, and a title."""
    paper.line(("", ""))
    paper.line((title, "bold"))


# --- what has come and gone ---


def _edges(diff: GraphDiff) -> list[Sign]:
    added, removed = (
        [f"{each.from_topic} -> {each.to_topic}" for each in edges]
        for edges in (diff.edges_added, diff.edges_removed)
    )
    return come_and_gone(added, removed)


def _components(diff: GraphDiff) -> list[Sign]:
    come, gone = ([f"{each} (settings only)" for each in part] for part in settings_alone(diff))
    return [
        *come_and_gone(diff.components.added, diff.components.removed),
        *come_and_gone(come, gone),
        *(("moved", "yellow", f"{each.old_address} -> {each.new_address}") for each in diff.moved),
    ]


def come_and_gone(added: Iterable[str], removed: Iterable[str]) -> list[Sign]:
    """Return what was added and removed, with its signs, by name."""
    found = [("+", "green", each) for each in added] + [("-", "red", each) for each in removed]
    return sorted(found, key=lambda each: (each[2], each[0]))


def _write_signs(paper: Paper, signs: Iterable[Sign]) -> None:
    for sign, style, what in signs:
        paper.line((f"{_IN}{sign} {visible(what)}", style))


# --- what is not the same ---


def _write_fields(paper: Paper, changed: Iterable[Changed]) -> None:
    for each in changed:
        paper.line((f"{_IN}{visible(each.name)}", "cyan"))
        write_fields(paper, each)


def write_fields(paper: Paper, changed: Changed) -> None:
    """Write a line for each field that is not the same; two, where one is not enough."""
    texts = change_texts(changed)
    widest = min(_WIDEST_NAME, max((len(one.path) for one in texts), default=0))
    for one in texts:
        for line in _lines_of(one.within(_MOST_ROOM), widest, paper.width):
            paper.line(*line)


def _lines_of(change: ChangeText, widest: int, width: int | None) -> Iterator[list[Part]]:
    name = f"{_IN * 2}{change.path or 'value':<{widest}}  "
    whole = [(name, ""), *_was_and_is(change)]
    if width is None or sum(len(text) for text, _ in whole) <= width:
        yield whole
        return
    yield [(name.rstrip(), "")]
    unit = f" {change.unit}" if change.unit else ""
    cut = change.within(max(_LEAST_ROOM, width - len(_IN) * 3 - 2 - len(unit)))
    if change.note:
        yield [(f"{_IN * 3}{cut.old}", ""), (f"  {cut.note}", "yellow")]
        return
    yield [(f"{_IN * 3}- {cut.old}{unit}", "red")]
    yield [(f"{_IN * 3}+ {cut.new}{unit}", "green")]


def _was_and_is(change: ChangeText) -> list[Part]:
    unit = f" {change.unit}" if change.unit else ""
    if change.note:
        return [(change.old, ""), (f"  {change.note}" if change.old else change.note, "yellow")]
    return [(change.old, "red"), (" -> ", "dim"), (f"{change.new}{unit}", "green")]
