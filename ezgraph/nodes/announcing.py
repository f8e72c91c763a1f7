"""Which nodes a served graph has, as the bus is told: what is new, and what is gone.

The bus is told of a graph as it is when somebody looks, not of every step in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.errors import NodeRequestError
from ezgraph.nodes.walking import summary_of, walk
from ezgraph.protocol.commands import AnnounceNodes
from ezgraph.protocol.nodes import check_uid
from ezgraph.protocol.served import NodeCard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.config import Limits
    from ezgraph.nodes.base import BaseNode
    from ezgraph.protocol.nodes import Label

_CLASS_CHARACTERS = 300


def cards_of(root: BaseNode, limits: Limits) -> dict[str, NodeCard]:
    """Return uid to card of every node below a root, cut to what a broker keeps of them.

    A uid that makes no key of the bus is left out: that node can be read, and is not announced.
    """
    cards: dict[str, NodeCard] = {}
    ways: list[tuple[tuple[Label, ...], int]] = []
    for step in walk(root):
        way = _way(ways[step.parent] if step.parent >= 0 else ((), -1), step.label, limits)
        ways.append(way)
        if step.is_again or step.node.uid in cards or not _is_announced(step.node.uid):
            continue
        path, depth = way
        cards[step.node.uid] = NodeCard(
            step.node.uid,
            list(path),
            depth,
            f"{type(step.node).__module__}.{type(step.node).__qualname__}"[:_CLASS_CHARACTERS],
            _sayable(summary_of(step.node))[: limits.max_summary_characters],
        )
    return cards


def _way(
    parent: tuple[tuple[Label, ...], int], label: Label | None, limits: Limits
) -> tuple[tuple[Label, ...], int]:
    """Return the first labels of the way to a node, and how many there are altogether."""
    path, depth = parent
    if label is None:
        return (), 0
    if isinstance(label, str) and _sayable(label) != label:
        return path, depth + 1
    is_whole = len(path) == depth  # else labels of the way to the parent are left out already
    size = sum(len(each) for each in (*path, label) if isinstance(each, str))
    if is_whole and len(path) < limits.max_path_labels and size <= limits.max_path_characters:
        path = (*path, label)
    return path, depth + 1


def _sayable(words: str) -> str:
    """Return text that can be written as UTF-8; lone surrogates cannot."""
    return words.encode("utf-8", "replace").decode()


def _is_announced(uid: str) -> bool:
    try:
        check_uid(uid)
    except NodeRequestError:
        return False
    return True


class Announcements:
    """What the bus was told of one graph, and what it is still to be told."""

    def __init__(self, graph: str) -> None:
        self._graph = graph
        self._told: dict[str, NodeCard] = {}

    def __repr__(self) -> str:
        return f"<Announcements of {self._graph!r} told={len(self._told)}>"

    def __len__(self) -> int:
        return len(self._told)

    def owed(self, cards: dict[str, NodeCard], most: int) -> Iterator[AnnounceNodes]:
        """Yield what tells the rest, in commands of at most so many nodes; `told` when it is."""
        gone = [uid for uid in self._told if uid not in cards]
        new = [card for uid, card in cards.items() if self._told.get(uid) != card]
        for start in range(0, len(gone), most):
            yield AnnounceNodes(self._graph, [], gone[start : start + most])
        for start in range(0, len(new), most):
            yield AnnounceNodes(self._graph, new[start : start + most], [])

    def told(self, command: AnnounceNodes) -> None:
        """Take note that the bus was told."""
        for uid in command.removed:
            self._told.pop(uid, None)
        self._told.update({card.uid: card for card in command.added})

    def doubt(self) -> None:
        """Take note that the bus may have forgotten all of it, and is to be told again.

        What was withdrawn meanwhile is not known there either, or is withdrawn again.
        """
        self._told = dict.fromkeys(self._told, _UNKNOWN)


_UNKNOWN = NodeCard("", [], 0, "")
