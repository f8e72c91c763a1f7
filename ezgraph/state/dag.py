"""The wiring: which topic feeds which, who holds each edge, and never a loop.

What it is. ``edge_owners`` is the truth: an edge exists while it has an owner. ``graph`` and
``invgraph`` follow from it, one per direction, and have the same keys: the topics with at least
one edge. `DAG.add_edge` and `DAG.remove_edge` are the only ways to change them.

Why it is quick. Beside the edges we keep one list of all topics, the order, in which every edge
points forward. A new edge that points forward too cannot close a loop; nothing is searched. Only
an edge that points backward, from a later topic to an earlier one, is looked into. Two searches
set out, ahead from ``to_topic`` and back from ``from_topic``. Neither leaves the stretch of the
order between the two, and they take turns, one edge each. If they meet, the edge would close a
loop. They end without having met when one runs dry or when they have passed each other in the
order. Then the few topics they reached, and nothing else, are moved so that the edge points
forward. That a side which runs dry ends the search is what makes joining two parts of the graph
cost no more than twice the smaller part. Topics that are new need no search: one without an input
goes to the front, one without an output to the back. Removing an edge leaves the order valid.

Invariants, between any two calls:

* ``graph``, ``invgraph``, ``edge_owners`` and the index of owned edges tell the same story; no
  topic without an edge and no edge without an owner is kept;
* every edge points forward in the order;
* the order is private: which of the valid ones we hold shows in no answer, so that two DAGs with
  equal content answer alike whatever their past.

Cost. Adding m edges to an empty DAG looks at O(m ** 1.5) edges at the worst, at O(log m) each. In
the shapes that occur (chains in any direction or shuffled, layers, stars, trees, grids, sparse
random graphs) it was measured to be near m log m, and often none. Removals void the bound over
all, never the one for a single edge: twice the edges between its two ends. Nothing is copied.

Sources. The search and the move: "two-way compatible search" in Haeupler, Kavitha, Mathew, Sen and
Tarjan, Incremental Cycle Detection, Topological Ordering, and Strong Component Maintenance (ACM
Trans. Algorithms 8, 2012), with the heaps of Alpern, Hoover, Rosen, Sweeney and Zadeck, Incremental
Evaluation of Computational Circuits (SODA 1990). The labels of the order: Dietz and Sleator, Two
Algorithms for Maintaining Order in a List (STOC 1987). The better known algorithm of Pearce and
Kelly (J. Exp. Algorithmics 11, 2006) searches one side to its end and is quadratic on a chain
that is built from its last edge to its first.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from ezgraph.errors import CyclicException

if TYPE_CHECKING:
    from collections.abc import Iterator

Owner: TypeAlias = str | None
"""A session id, or None: the edge is persistent."""

_Edge: TypeAlias = tuple[str, str]
_Labels: TypeAlias = dict[str, int]
_Links: TypeAlias = dict[str, set[str]]

_GAP = 1 << 32  # between the labels of neighbours at either end of the order
_SPELT_OUT = 16  # topics of a loop that a message names; of longer ones, its two ends


class DAG:
    """Topics and the owned edges between them, free of loops.

    Read ``graph``, ``invgraph`` and ``edge_owners``, but change them through the methods only.
    """

    def __init__(self) -> None:
        self.graph: dict[str, set[str]] = {}
        self.invgraph: dict[str, set[str]] = {}
        self.edge_owners: dict[tuple[str, str], set[Owner]] = {}
        self._edges_by_owner: dict[Owner, set[_Edge]] = {}
        self._order = _Order()
        self._planned: _Move | None = None  # what would_close found, for the add_edge that follows

    @property
    def nodes(self) -> set[str]:
        """All topics with at least one edge."""
        return set(self.graph)

    def add_edge(self, from_topic: str, to_topic: str, owner: Owner = None) -> bool:
        """Record ``owner`` as a holder of the edge; return whether the edge is new.

        Raises:
            CyclicException: the edge would close a loop; nothing has changed.
        """
        edge = (from_topic, to_topic)
        is_new = edge not in self.edge_owners
        if is_new:
            if loop := self.would_close(from_topic, to_topic):
                raise _refusal(loop)
            self._link(from_topic, to_topic)
        self.edge_owners.setdefault(edge, set()).add(owner)
        self._edges_by_owner.setdefault(owner, set()).add(edge)
        return is_new

    def count_of(self, owner: Owner) -> int:
        """Return how many edges ``owner`` holds."""
        return len(self._edges_by_owner.get(owner, ()))

    def remove_edge(self, from_topic: str, to_topic: str, owner: Owner = None) -> bool:
        """Let go of ``owner``'s hold on the edge; return whether the edge went with it.

        An edge that is not there, or that ``owner`` does not hold, is left as it is.
        """
        edge = (from_topic, to_topic)
        owners = self.edge_owners.get(edge, set())
        if owner not in owners:
            return False
        owners.remove(owner)
        held = self._edges_by_owner[owner]
        held.remove(edge)
        if not held:
            del self._edges_by_owner[owner]
        if owners:
            return False
        del self.edge_owners[edge]
        self._unlink(from_topic, to_topic)
        return True

    def remove_owner(self, owner: Owner) -> list[tuple[str, str]]:
        """Let go of everything ``owner`` holds; return the edges that went with it, sorted."""
        return [edge for edge in self.edges_of(owner) if self.remove_edge(*edge, owner)]

    def edges_of(self, owner: Owner) -> tuple[tuple[str, str], ...]:
        """Return the edges ``owner`` holds, alone or with others, sorted."""
        return tuple(sorted(self._edges_by_owner.get(owner, ())))

    def owners(self, from_topic: str, to_topic: str) -> frozenset[Owner]:
        """Return who holds the edge; nobody if there is none."""
        return frozenset(self.edge_owners.get((from_topic, to_topic), ()))

    def upstream(self, topic: str) -> list[str]:
        """Return ``topic`` and all that feeds it, nearest first, equally near ones by name."""
        return _reachable(topic, self.invgraph)

    def downstream(self, topic: str) -> list[str]:
        """Return ``topic`` and all that it feeds, nearest first, equally near ones by name."""
        return _reachable(topic, self.graph)

    def path(self, from_topic: str, to_topic: str) -> list[str] | None:
        """Return the topics of a shortest path, both ends included, or None if there is no path.

        A topic reaches itself, also one without edges: ``[topic]``.
        """
        if from_topic != to_topic and not self._order.is_before(from_topic, to_topic):
            return None
        came_from: dict[str, str] = {}
        found = [from_topic]
        for topic in found:  # grows on the way
            if topic == to_topic:
                break
            for neighbour in sorted(self.graph[topic]):
                if neighbour not in came_from and not self._order.is_before(to_topic, neighbour):
                    came_from[neighbour] = topic
                    found.append(neighbour)
        else:
            return None
        way = [to_topic]
        while way[-1] != from_topic:
            way.append(came_from[way[-1]])
        return way[::-1]

    def would_close(self, from_topic: str, to_topic: str) -> list[str] | None:
        """Return the loop that the edge would close, or None if it may be added.

        The loop starts and ends with ``from_topic``: ``[a, b, c, a]``; ``[a, a]`` if the edge
        joins a topic to itself. Nothing changes, and an `add_edge` of the same edge that comes
        next does not search again.
        """
        if from_topic == to_topic:
            return [from_topic, to_topic]
        if not self._order.is_before(to_topic, from_topic):
            return None
        if self._planned is None or self._planned.edge != (from_topic, to_topic):
            self._planned = self._search(from_topic, to_topic)
        back = self.path(to_topic, from_topic) if self._planned is None else None
        return back and [from_topic, *back]

    def copy(self) -> DAG:
        """Return an equal DAG that shares nothing with this one."""
        return copy.deepcopy(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DAG):
            return NotImplemented
        return self.edge_owners == other.edge_owners  # the graph follows from it

    def __repr__(self) -> str:
        return f"<DAG topics={len(self.graph)} edges={len(self.edge_owners)}>"

    def _search(self, from_topic: str, to_topic: str) -> _Move | None:
        """Return the move that makes the backward edge point forward; None if it closes a loop."""
        label = self._order.label
        fed, feeding = {to_topic}, {from_topic}
        ahead = _explore(to_topic, from_topic, self.graph, label, found=fed, other=feeding)
        behind = _explore(from_topic, to_topic, self.invgraph, label, found=feeding, other=fed)
        for (pivot, at_pivot), (minus_back, _) in zip(ahead, behind, strict=False):
            if pivot < -minus_back:
                continue
            # One side is through, or they have passed each other: all edges out of what is fed
            # below the pivot, and into what feeds from above it, have been looked at.
            up = [topic for topic in fed if label[topic] < pivot]
            down = [topic for topic in feeding if label[topic] > pivot]
            block = sorted(down, key=label.__getitem__) + sorted(up, key=label.__getitem__)
            before = self._order.following(from_topic) if pivot == inf else at_pivot
            return _Move((from_topic, to_topic), block, before)
        return None

    def _link(self, from_topic: str, to_topic: str) -> None:
        """Enter an edge that `would_close` has just found to close no loop."""
        new = [topic for topic in (from_topic, to_topic) if topic not in self.graph]
        if new:
            at_the_back = to_topic in new
            self._order.insert(new, before=None if at_the_back else self._order.following(None))
        elif self._planned is not None and self._planned.edge == (from_topic, to_topic):
            self._order.move(self._planned.block, before=self._planned.before)
        for topic in new:
            self.graph[topic], self.invgraph[topic] = set(), set()
        self.graph[from_topic].add(to_topic)
        self.invgraph[to_topic].add(from_topic)
        self._planned = None

    def _unlink(self, from_topic: str, to_topic: str) -> None:
        self.graph[from_topic].discard(to_topic)
        self.invgraph[to_topic].discard(from_topic)
        for topic in (from_topic, to_topic):
            if not self.graph[topic] and not self.invgraph[topic]:
                del self.graph[topic], self.invgraph[topic]
                self._order.remove(topic)
        self._planned = None


class _Order:
    """A list of topics that can be inserted into anywhere and knows which of two comes first.

    A doubly linked list in which each topic has a number, its label, that grows along the list.
    ``None`` stands for both ends. Labels leave gaps; where a gap is used up, the labels from there
    on are spread anew, up to the first gap that is wide enough: O(log n) labels each time on
    average. Both ends are open, so there is room at the front and at the back without end.
    """

    def __init__(self) -> None:
        self.label: _Labels = {}
        self._next: dict[str | None, str | None] = {None: None}
        self._previous: dict[str | None, str | None] = {None: None}

    def is_before(self, topic: str, other: str) -> bool:
        """Return whether both are in the list and ``topic`` comes first."""
        label = self.label
        return topic in label and other in label and label[topic] < label[other]

    def following(self, topic: str | None) -> str | None:
        """Return the topic after ``topic``; the first of all for None; None after the last."""
        return self._next[topic]

    def insert(self, block: list[str], *, before: str | None) -> None:
        """Put ``block``, as it is, right before a topic, or at the back for None."""
        left = self._previous[before]
        for previous, topic in pairwise([left, *block, before]):
            self._next[previous], self._previous[topic] = topic, previous
        if left is None:
            first = 0 if before is None else self.label[before]
            self._number(block, first - _GAP * (len(block) + 1), before)
        else:
            self._number(block, self.label[left], before)

    def move(self, block: list[str], *, before: str | None) -> None:
        """Take the topics of ``block`` out and put them before a topic that is not among them."""
        for topic in block:
            self._cut(topic)
        self.insert(block, before=before)

    def remove(self, topic: str) -> None:
        """Forget ``topic``."""
        self._cut(topic)
        del self.label[topic], self._next[topic], self._previous[topic]

    def _cut(self, topic: str) -> None:
        previous, following = self._previous[topic], self._next[topic]
        self._next[previous], self._previous[following] = following, previous

    def _number(self, block: list[str], left: int, after: str | None) -> None:
        """Label ``block`` upward from ``left``, and what follows as far as gaps are too narrow.

        A gap is wide enough for k topics if it exceeds k squared (Dietz and Sleator).
        """
        run = list(block)
        while after is not None and self.label[after] - left <= (len(run) + 1) ** 2:
            run.append(after)
            after = self._next[after]
        step = _GAP if after is None else (self.label[after] - left) // (len(run) + 1)
        for place, topic in enumerate(run, start=1):
            self.label[topic] = left + place * step


@dataclass(frozen=True, slots=True)
class _Move:
    """Where topics of the order must go so that ``edge`` points forward."""

    edge: _Edge
    block: list[str]
    before: str | None


def _explore(
    start: str, goal: str, links: _Links, label: _Labels, *, found: set[str], other: set[str]
) -> Iterator[tuple[float, str]]:
    """Search from ``start`` as far as ``goal`` in the order, one edge for each item taken.

    Fills ``found``. Yields where it is: a topic and its distance, which is the label, or minus
    the label when going back. What was found nearer than that is done with; ``(inf, "")`` when
    all is. Ends without another item as soon as it meets ``other``.
    """
    sign = 1 if label[start] < label[goal] else -1
    limit = sign * label[goal]
    heap: list[tuple[float, str]] = [(sign * label[start], start)]
    while heap:
        place = heappop(heap)
        for topic in links[place[1]]:
            if topic in other:
                return
            distance = sign * label[topic]
            if distance < limit and topic not in found:
                found.add(topic)
                heappush(heap, (distance, topic))
            yield place
    yield inf, ""


def _reachable(topic: str, links: _Links) -> list[str]:
    """Return ``topic`` and what it reaches along ``links``, breadth first, neighbours by name."""
    found = [topic]
    seen = {topic}
    for at in found:  # grows on the way
        fresh = sorted(links.get(at, set()) - seen)
        seen.update(fresh)
        found += fresh
    return found


def _refusal(loop: list[str]) -> CyclicException:
    """Return the error that names ``loop``; of a long one its two ends."""
    ends, between = _SPELT_OUT // 2, f"({len(loop) - _SPELT_OUT} more)"
    spelt = loop if len(loop) <= _SPELT_OUT else [*loop[:ends], between, *loop[-ends:]]
    advice = "connect another topic" if len(loop) == 2 else "disconnect one of these edges first"
    return CyclicException(
        f"edge {loop[0]!r} -> {loop[1]!r} would close the loop {' -> '.join(spelt)}; {advice}"
    )
