"""Walks over a graph of nodes, without recursion: cycles end, and a chain may have any length."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import UnknownLabelError
from ezgraph.protocol.nodes import TreeRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ezgraph.nodes.base import BaseNode
    from ezgraph.protocol.nodes import Label



class Step(NamedTuple):
    """One edge on a walk: the row it hangs on, its label (None: the start), where it leads.

    ``is_again``: that node was met before on this walk, so the walk does not go on from there.
    """

    parent: int
    label: Label | None
    node: BaseNode
    is_again: bool


def walk(start: BaseNode, may_enter: Callable[[BaseNode], bool] = lambda _: True) -> Iterator[Step]:
    """Return every edge at and below a node, breadth first; each node is entered once."""
    met = {id(start)}
    yield Step(-1, None, start, is_again=False)
    waiting = deque([(0, start)])
    row = 0
    while waiting:
        parent, node = waiting.popleft()
        for label, child in children(node):
            if not may_enter(child):
                continue
            row += 1
            is_again = id(child) in met
            yield Step(parent, label, child, is_again)
            if not is_again:
                met.add(id(child))
                waiting.append((row, child))


def children(node: BaseNode) -> Iterator[tuple[Label, BaseNode]]:
    """Return each label with its node, as they were when this began."""
    if node.server is not None:
        yield from node.items()
        return
    for label, target in node.edges.pairs():
        if not isinstance(target, str):
            yield label, target


def follow_path(
    start: BaseNode, path: Sequence[Label], may_enter: Callable[[BaseNode], bool] = lambda _: True
) -> BaseNode | None:
    """Return the node that a path of labels leads to; None: it leads nowhere one may enter."""
    node = start
    for label in path:
        try:
            node = node.child(label)
        except UnknownLabelError:
            return None
        if not may_enter(node):
            return None
    return node


def tree_rows(steps: Iterator[Step], start: int, limit: int) -> list[TreeRow]:
    """Return the rows of some steps of a walk."""
    return [
        TreeRow(step.parent, step.label, step.node.uid, summary_of(step.node), step.is_again)
        for step in islice(steps, start, start + limit)
    ]


def summary_of(node: BaseNode) -> str:
    """Return what a node is, in a few words, also where it cannot be looked at."""
    try:
        summary = node.summary()
    except Exception as error:  # noqa: BLE001 - a file that is gone must not hide the others
        summary = f"{type(node).__name__} (cannot be read: {error})"
    return summary.encode("utf-8", "backslashreplace").decode()  # nor must its name
