"""A program that serves nodes to a test: says where, and does as it is told on standard input.

``python -m tests.integration.node_host``, or by its path; its graph is `served_graph`.
"""

from __future__ import annotations

import sys

import numpy as np

from ezgraph.nodes import ArrayNode, EmptyNode, NodeHost, NodeServer, RootNode
from ezgraph.nodes.sources.base import SourceLayout
from ezgraph.testing import NumpyTestNode

SLOW_READS = 3


class Stuck:
    """A source that gives a few chunks and then says so and takes for ever."""

    dtype = np.dtype("f8")

    def __init__(self) -> None:
        self._reads = 0

    def layout(self) -> SourceLayout:
        return SourceLayout((100, 1000), (1, 1000))

    def read(self, part: tuple[slice, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        self._reads += 1
        if self._reads > SLOW_READS:
            say("stuck")
            sys.stdin.read()
        return np.zeros((1, 1000))

    def stamp(self) -> None:
        return None


def served_graph() -> RootNode:
    root = RootNode(uid="root")
    leaves = {number: NumpyTestNode(uid=f"leaf{number}") for number in range(5)}
    root.edges = {
        "g1": EmptyNode("g1", edges=leaves),
        "long": ArrayNode(np.arange(1_000_000.0), uid="long", chunks=(100_000,)),
        "stuck": ArrayNode(Stuck(), uid="stuck"),
    }
    return root


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    with NodeHost(NodeServer(served_graph()), port=int(sys.argv[1])) as host:
        say(str(host.address))
        sys.stdin.read()


if __name__ == "__main__":
    main()
