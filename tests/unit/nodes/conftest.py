"""What tests of nodes share: the graph of the notebook, and nodes that count."""

from __future__ import annotations

from typing import Any

import pytest

from ezgraph.nodes import BaseNode, EmptyNode, RootNode, register
from ezgraph.testing import NumpyTestNode


def notebook() -> RootNode:
    """Return the graph of the notebook: two groups of five nodes, one of them shared."""
    first = EmptyNode(edges={number: NumpyTestNode() for number in range(5)})
    second = EmptyNode(edges={"shared": first[3], "back": first})
    root = RootNode()
    root.edges = {"g1": first, "g2": second}
    return root


@pytest.fixture
def graph() -> RootNode:
    return notebook()


@register
class CountingNode(BaseNode):
    """Counts how often it is loaded."""

    def __init__(self, partitions: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loads: list[str] = []
        self.count = partitions

    def read(self) -> list[Any]:
        return list(self.data)

    def load_meta(self) -> None:
        self.loads.append("meta")
        if self.meta is None:  # as many write it
            self.meta = {"count": self.count}

    def load_data(self) -> None:
        self.loads.append("data")
        if not self.data:
            self.data = [{"number": number} for number in range(self.count)]
