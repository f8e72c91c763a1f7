"""The edges of a node: an ordered mapping of labels that tells when it changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ezgraph.errors import NodeRequestError
from ezgraph.protocol.nodes import Label, check_label

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ezgraph.nodes.base import BaseNode

    Target: TypeAlias = "BaseNode | str"


class Edges(MutableMapping[Label, "BaseNode | str"]):
    """Label to node, or, at a reader, to the uid of a node it has not been asked for yet.

    ``is_target`` says what an edge may lead to, ``changed`` is called after each change.
    """

    def __init__(
        self,
        edges: Mapping[Any, Target],
        is_target: Callable[[object], bool],
        changed: Callable[[], None],
    ) -> None:
        self._is_target = is_target
        self._changed: Callable[[], None] = lambda: None
        self._lock = threading.RLock()
        self._targets: dict[Label, Target] = {}
        self.update(edges)
        self._changed = changed

    def __repr__(self) -> str:
        shown = ", ".join(repr(label) for label in islice(self._targets, 5))
        more = f", … {len(self)} in all" if len(self) > 5 else ""
        return f"<Edges {shown}{more}>"

    def __getitem__(self, label: Label) -> Target:
        return self._targets[check_label(label)]

    def __setitem__(self, label: Label, target: Target) -> None:
        if not self._is_target(target):
            raise NodeRequestError(
                f"edge {label!r} leads to {type(target).__name__}, which is no node; "
                f"wrap what it is in one, such as ArrayNode(array)"
            )
        label = check_label(label)
        with self._lock:
            self._targets[label] = target
        self._changed()

    def __delitem__(self, label: Label) -> None:
        label = check_label(label)
        with self._lock:
            del self._targets[label]
        self._changed()

    def __iter__(self) -> Iterator[Label]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def pairs(self) -> list[tuple[Label, Target]]:
        """Return labels and targets as they are at one moment, whoever changes them meanwhile."""
        with self._lock:  # making a list of pairs may run others' code, by way of the collector
            targets = self._targets.copy()
        return list(targets.items())

    def remember(self, label: Label, node: BaseNode) -> None:
        """Put the node in the place of its uid; the graph stays as it was."""
        with self._lock:
            self._targets[label] = node

    def take_over(self, edges: Mapping[Label, str]) -> None:
        """Have the edges a server has now; nodes that were remembered and are still there stay."""
        known = {
            label: node
            for label, node in self.pairs()
            if not isinstance(node, str) and edges.get(label) == node.uid
        }
        with self._lock:
            self._targets = {label: known.get(label, uid) for label, uid in edges.items()}
