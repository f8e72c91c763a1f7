"""A node to try programs with: it is small, and what is in it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ezgraph.nodes.base import BaseNode
from ezgraph.nodes.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray


@register
class NumpyTestNode(BaseNode):
    """20 partitions of ``list(range(10))``, which read as one flat array of 200 numbers."""

    def read(self) -> NDArray[Any]:
        """Return the numbers of all partitions, one after the other."""
        return np.array(list(self.data)).flatten()

    def load_meta(self) -> None:
        """Have a meta of one field."""
        self.meta = {"field1": "testing"}

    def load_data(self) -> None:
        """Have 20 equal partitions."""
        self.data = [list(range(10)) for _ in range(20)]
