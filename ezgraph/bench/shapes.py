"""Wirings to build a DAG from: lists of edges in the order in which they are connected."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Edges: TypeAlias = list[tuple[str, str]]

_LAYER = 10
_SEED = 20_250_101


def chain(count: int) -> Edges:
    """0 -> 1 -> 2 …, from its first edge to its last."""
    return [(f"t{number}", f"t{number + 1}") for number in range(count)]


def reversed_chain(count: int) -> Edges:
    """The chain, from its last edge to its first."""
    return chain(count)[::-1]


def star(count: int) -> Edges:
    """Many topics into one."""
    return [(f"t{number}", "hub") for number in range(count)]


def layered(count: int) -> Edges:
    """Layers of ten topics, each wired to all of the next layer, connected in random order."""
    edges = [
        (f"l{layer}t{start}", f"l{layer + 1}t{end}")
        for layer in range(count // _LAYER**2 + 1)
        for start in range(_LAYER)
        for end in range(_LAYER)
    ][:count]
    _random().shuffle(edges)
    return edges


def random_edges(count: int) -> Edges:
    """Edges between half as many topics, random but for a hidden order that all of them obey."""
    source = _random()
    topics = [f"t{number}" for number in range(max(4, count // 2))]
    source.shuffle(topics)
    edges: dict[tuple[str, str], None] = {}
    while len(edges) < min(count, len(topics) * (len(topics) - 1) // 2):
        first, second = sorted(source.sample(range(len(topics)), 2))
        edges[topics[first], topics[second]] = None
    return list(edges)


def _random() -> random.Random:
    """The same numbers again in every run."""
    return random.Random(_SEED)


SHAPES: dict[str, Callable[[int], Edges]] = {
    "chain": chain,
    "reversed chain": reversed_chain,
    "layered": layered,
    "star": star,
    "random": random_edges,
}
