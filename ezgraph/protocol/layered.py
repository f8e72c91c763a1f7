"""A layered layout for small graphs: ranks by longest path, rows by the mean of the neighbours.

The usual recipe (Sugiyama, Tagawa, Toda 1981), kept short: turn the links that would close a loop,
rank, give long links a bend in every rank they pass, sweep a few times for fewer crossings. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ezgraph.protocol.wiring import Link, Path, Wiring

SWEEPS = 6


@dataclass(frozen=True, slots=True)
class Arrow:
    """A link as it is laid out, from left to right; ``back`` ones point the other way."""

    start: Path
    end: Path
    kind: Literal["edge", "inside"]
    back: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """Ranks from left to right. A text among the nodes is a bend of a long arrow."""

    ranks: list[list[object]]
    rank_of: dict[object, int]
    row: dict[object, float] = field(default_factory=dict)
    routes: list[tuple[list[object], Arrow]] = field(default_factory=list)


def lay_out(
    nodes: Sequence[Path], arrows: Sequence[Arrow], rank_of: dict[Path, int]
) -> Layout:
    """Return a rank and a row for every node, and a bend where a long arrow passes a rank."""
    layout = Layout([[] for _ in range(max(rank_of.values()) + 1)], dict(rank_of.items()))
    for path in nodes:
        layout.ranks[rank_of[path]].append(path)
    neighbours: defaultdict[object, list[object]] = defaultdict(list)
    for number, arrow in enumerate(arrows):
        stops: list[object] = [arrow.start]
        for rank in range(rank_of[arrow.start] + 1, rank_of[arrow.end]):
            bend = f"{number}:{rank}"
            layout.rank_of[bend] = rank
            layout.ranks[rank].append(bend)
            stops.append(bend)
        stops.append(arrow.end)
        layout.routes.append((stops, arrow))
        for one, other in pairwise(stops):
            neighbours[one].append(other)
            neighbours[other].append(one)
    _order(layout, neighbours)
    return layout


def arrows_of(wiring: Wiring) -> list[Arrow]:
    """Return every link; those that would close a loop (feedback, compacting) point back."""
    kinds: dict[Link, Literal["edge", "inside"]] = dict.fromkeys(wiring.inside, "inside")
    kinds.update(dict.fromkeys(wiring.edges, "edge"))
    after: defaultdict[Path, list[Path]] = defaultdict(list)
    for start, end in kinds:
        after[start].append(end)
    back = _links_back(wiring.nodes, after)
    return [
        Arrow(end, start, kind, back=True)
        if (start, end) in back
        else Arrow(start, end, kind, back=False)
        for (start, end), kind in kinds.items()
    ]


def _links_back(nodes: Iterable[Path], after: dict[Path, list[Path]]) -> set[Link]:
    """Return the links that a depth-first walk finds to lead back to where it comes from."""
    back: set[Link] = set()
    seen: set[Path] = set()
    for root in nodes:
        if root in seen:
            continue
        seen.add(root)
        on_the_way = {root}
        walk = [(root, iter(after.get(root, ())))]
        while walk:
            at, ends = walk[-1]
            end = next(ends, None)
            if end is None:
                on_the_way.discard(at)
                walk.pop()
            elif end in on_the_way:
                back.add((at, end))
            elif end not in seen:
                seen.add(end)
                on_the_way.add(end)
                walk.append((end, iter(after.get(end, ()))))
    return back


def ranks_of(nodes: Iterable[Path], arrows: Iterable[Arrow]) -> dict[Path, int]:
    """Return how many arrows the longest way to each node has."""
    before: defaultdict[Path, int] = defaultdict(int)
    after: defaultdict[Path, list[Path]] = defaultdict(list)
    for arrow in arrows:
        after[arrow.start].append(arrow.end)
        before[arrow.end] += 1
    ranks = dict.fromkeys(nodes, 0)
    waiting = [node for node in ranks if not before[node]]
    while waiting:
        at = waiting.pop()
        for end in after[at]:
            ranks[end] = max(ranks[end], ranks[at] + 1)
            before[end] -= 1
            if not before[end]:
                waiting.append(end)
    return ranks


def _order(layout: Layout, neighbours: dict[object, list[object]]) -> None:
    """Put each node near the mean row of its neighbours, without two on one row."""
    for rank in layout.ranks:
        layout.row.update({node: float(number) for number, node in enumerate(rank)})
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for rank in layout.ranks[::step]:
            wanted = {node: _mean_row(node, -step, layout, neighbours) for node in rank}
            rank.sort(key=lambda node: wanted[node])
            _place(rank, wanted, layout.row)
    _close_gaps(layout.row)


def _close_gaps(row: dict[object, float]) -> None:
    """Move everything up as far as no row of free space is left between two parts."""
    last, shift = 0.0, min(row.values())
    for node in sorted(row, key=lambda node: row[node]):
        shift = max(shift, row[node] - last - 1)
        row[node] -= shift
        last = row[node]


def _mean_row(
    node: object, step: int, layout: Layout, neighbours: dict[object, list[object]]
) -> float:
    rank = layout.rank_of[node] + step
    rows = [layout.row[each] for each in neighbours.get(node, ()) if layout.rank_of[each] == rank]
    return sum(rows) / len(rows) if rows else layout.row[node]


def _place(rank: Sequence[object], wanted: dict[object, float], row: dict[object, float]) -> None:
    """Give each its wanted row, pushed down until it is one below the last; then centre all."""
    last = float("-inf")
    pushed = 0.0
    for node in rank:
        row[node] = max(wanted[node], last + 1)
        pushed += row[node] - wanted[node]
        last = row[node]
    for node in rank:
        row[node] -= pushed / len(rank)
