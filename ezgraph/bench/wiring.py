"""Section e: building the DAG of a rig, edge by edge, as the broker does.

For each edge `DAG.would_close`, as the rules ask it, then `DAG.add_edge`, as `apply` does.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from ezgraph.bench.rows import Goal, Row, alone, at_most
from ezgraph.bench.shapes import SHAPES, Edges
from ezgraph.state.dag import DAG

if TYPE_CHECKING:
    from ezgraph.bench.scale import Scale
    from ezgraph.bench.workbench import Progress

_GOAL_S = 0.3
_NEARLY_LINEAR = 2.0
"""An edge among ten times as many may take so many times as long."""


def build_graphs(scale: Scale, progress: Progress) -> list[Row]:
    """Measure section e."""
    rows = []
    for shape, edges_of in SHAPES.items():
        per_edge = 0.0
        for count in scale.edges:
            progress(f"e: {shape}, {count:,} edges")
            edges = edges_of(count)
            times = [build_time(edges) for _ in range(scale.rounds)]
            goal = _goal(count, scale, per_edge)
            rows.append(alone("e", f"{shape}, {count:,} edges", "s", times, goal=goal))
            per_edge = (rows[-1].measured or 0.0) / count
    return rows


def _goal(count: int, scale: Scale, per_edge: float) -> Goal | None:
    _, judged, largest = scale.edges
    if count == judged:
        return at_most(_GOAL_S, "s")
    if count == largest:
        limit = _NEARLY_LINEAR * per_edge * count
        return at_most(limit, "s", why=f" (near-linear: {_NEARLY_LINEAR:g} x per edge)")
    return None


def build_time(edges: Edges) -> float:
    """Return the seconds it takes to wire ``edges`` in an empty DAG."""
    dag = DAG()
    would_close, add_edge = dag.would_close, dag.add_edge
    gc.collect()
    begin = time.perf_counter()
    for start, end in edges:
        if not would_close(start, end):
            add_edge(start, end)
    took = time.perf_counter() - begin
    if len(dag.edge_owners) != len(edges):
        raise ValueError(f"{len(edges) - len(dag.edge_owners)} edges were refused")
    return took
