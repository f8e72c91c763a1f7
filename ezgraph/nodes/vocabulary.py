"""Which keywords a request to a node may have: those of all nodes, and those its type adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ezgraph.errors import NodeRequestError
from ezgraph.protocol.nodes import KEYWORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ezgraph.nodes.base import BaseNode
    from ezgraph.protocol.nodes import NodeVerb


def check_keywords(node: BaseNode, verb: NodeVerb, kwargs: Mapping[str, Any]) -> None:
    """Refuse keywords that neither every node nor this type of node understands.

    Raises:
        NodeRequestError: there is one; names those that may be given.
    """
    known = KEYWORDS[verb] | node.keywords.get(verb.value, frozenset())
    if unknown := sorted(set(kwargs) - known):
        may = ", ".join(sorted(known)) or "none"
        raise NodeRequestError(
            f"{verb.value!r} of a {node.summary()} takes no keyword {', '.join(map(repr, unknown))}"
            f"; it may have: {may}"
        )
