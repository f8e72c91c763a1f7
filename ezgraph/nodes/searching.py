"""Searching a graph by what its nodes say about themselves, here or at a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.errors import MalformedMessageError
from ezgraph.nodes.query import check_query, matches
from ezgraph.nodes.walking import follow_path, walk
from ezgraph.protocol.nodes import Match, MatchPage, NodeOpening, check_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.query import Query
    from ezgraph.nodes.walking import Step
    from ezgraph.protocol.nodes import Label, NodeDescription

EXAMINED = 1_000
"""How many nodes are looked at for one answer: a search that finds nothing blocks nobody."""

LABELS = 10_000
"""How many labels the ways in one answer may have together."""

Way = tuple["Label", ...]


class Found(list["BaseNode"]):
    """The nodes that were found; ``paths`` has the first way to each, as labels."""

    def __init__(self, found: Iterable[tuple[Way, BaseNode]] = ()) -> None:
        pairs = list(found)
        super().__init__(node for _, node in pairs)
        self.paths: list[Way] = [path for path, _ in pairs]

    def _repr_html_(self) -> str:
        from ezgraph.nodes.faces import found_html

        return found_html(self)


def search(start: BaseNode, query: Query | None, prefix: Sequence[Label] | Label) -> Found:
    """Return what `BaseNode.search` does."""
    labels = [prefix] if isinstance(prefix, str | int) else list(prefix)
    path = [check_label(label) for label in labels]
    if start.server is not None:
        return Found(_found_at_server(start, query, path))
    spelled = check_query(None if query is None else query.spelled)
    return Found((way, node) for way, node, _ in fitting(start, spelled, path))


def fitting(
    start: BaseNode,
    spelled: list[Any] | None,
    prefix: Sequence[Label],
    *,
    after: int = 0,
    may_enter: Callable[[BaseNode], bool] = lambda _: True,
) -> Iterator[tuple[Way, BaseNode, int]]:
    """Return way, node and position on the walk of each node from position ``after`` on that fits.

    The ways are told from ``start``, the prefix included.
    """
    node = follow_path(start, prefix, may_enter)
    if node is None:
        return
    for position, (way, step) in enumerate(_ways(walk(node, may_enter))):
        if position >= after and not step.is_again and matches(spelled, _meta_for(step, spelled)):
            yield (*prefix, *way()), step.node, position


def _meta_for(step: Step, spelled: list[Any] | None) -> object:
    return None if spelled is None else step.node.meta


def _ways(steps: Iterator[Step]) -> Iterator[tuple[Callable[[], Way], Step]]:
    """Return with each step what tells its way, made only when somebody wants it."""
    edges: list[tuple[int, Label | None]] = []

    def way_to(row: int) -> Way:
        labels = []
        while row > 0:
            row, label = edges[row]
            labels.append(label)
        return tuple(label for label in reversed(labels) if label is not None)

    for row, step in enumerate(steps):
        edges.append((step.parent, step.label))
        yield (lambda row=row: way_to(row)), step  # type: ignore[misc]


def match_page(
    start: BaseNode,
    spelled: list[Any] | None,
    prefix: Sequence[Label],
    *,
    after: int,
    may_enter: Callable[[BaseNode], bool],
    described: Callable[[BaseNode], NodeDescription],
) -> MatchPage:
    """Return what fits among the next nodes of a walk: so many that it is soon said.

    ``described`` says what a node is to who asks.
    """
    found: list[Match] = []
    labels = 0
    node = follow_path(start, prefix, may_enter)
    if node is None:
        return MatchPage([], after, is_last=True)
    for position, (way, step) in enumerate(_ways(walk(node, may_enter))):
        if position < after:
            continue
        if position >= after + EXAMINED or labels > LABELS:
            return MatchPage(found, position, is_last=False)
        if not step.is_again and matches(spelled, _meta_for(step, spelled)):
            path = [*prefix, *way()]
            labels += len(path)
            found.append(Match(path, described(step.node)))
    return MatchPage(found, after, is_last=True)


def _found_at_server(
    start: BaseNode, query: Query | None, prefix: Sequence[Label]
) -> Iterator[tuple[Way, BaseNode]]:
    makers, server = start._makers, start._home  # noqa: SLF001 - its own way to its server
    position, is_last = 0, False
    while not is_last:
        page = makers.get_matches(server, start.uid, query, prefix=prefix, start=position)
        for match in page.found:
            opening = NodeOpening(match.description, {})
            yield tuple(match.path), makers.produce_from(server, opening)
        if not page.is_last and page.position <= position:
            raise MalformedMessageError(
                f"{server!r} looked for nodes from position {position} on, and got to "
                f"{page.position}; is it of the same version?"
            )
        position, is_last = page.position, page.is_last
