"""Section e: building the DAG of a rig, edge by edge, as the broker does.

For each edge `DAG.would_close`, as the rules ask it, then `DAG.add_edge`, as `apply` does. The
ratio of the largest size is its time for one edge over that of the size before, taken by turns:
a cost of m ** 1.5 would make it 3.2, a quadratic one 10, and caches that no longer hold everything
make it up to 2.4 for a linear one. Times are of the processor, as nothing here waits.
"""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from ezgraph.bench.rows import Goal, Row, alone, at_most
from ezgraph.bench.shapes import SHAPES, Edges
from ezgraph.state.dag import DAG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.bench.scale import Scale
    from ezgraph.bench.workbench import Progress

_GOAL = at_most(0.3, "s")
_NEARLY_LINEAR = Goal("≤ 3.00 x the time per edge before", "ratio", most=3.0)


def build_graphs(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section e."""
    for shape in SHAPES:
        yield from _rows(shape, scale, progress)


def _rows(shape: str, scale: Scale, progress: Progress) -> list[Row]:
    lists = [SHAPES[shape](count) for count in scale.edges]
    rounds = []
    for _ in range(scale.rounds):
        progress(f"e: {shape}")
        rounds.append([build_time(edges) for edges in lists])
    small, judged, largest = (
        alone("e", f"{shape}, {count:,} edges", "s", times)
        for count, times in zip(scale.edges, zip(*rounds, strict=True), strict=True)
    )
    growth = scale.edges[2] / scale.edges[1]
    ratio = median(times[2] / (times[1] * growth) for times in rounds)
    return [
        small,
        replace(judged, goal=_GOAL),
        replace(largest, goal=_NEARLY_LINEAR, ratio=ratio),
    ]


def build_time(edges: Edges) -> float:
    """Return the seconds it takes to wire ``edges`` in an empty DAG.

    Raises:
        ValueError: they have a loop; the DAG refuses some.
    """
    dag = DAG()
    would_close, add_edge = dag.would_close, dag.add_edge
    gc.collect()
    begin = time.process_time()
    for start, end in edges:
        if not would_close(start, end):
            add_edge(start, end)
    took = time.process_time() - begin
    if len(dag.edge_owners) != len(edges):
        raise ValueError(f"{len(edges) - len(dag.edge_owners)} edges were refused")
    return took
