"""A program that serves a graph through a broker, until standard input ends.

``python -m tests.integration.bus_host BROKER NAME whole|stuck``: the node ``numbers`` of its graph
is an array of 100 chunks; of the stuck kind it gives three, says so, and then nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ezgraph import sync
from ezgraph.nodes import ArrayNode, RootNode
from tests.integration.node_host import Stuck, say

if TYPE_CHECKING:
    from types import TracebackType

NUMBERS = np.zeros((100, 1000))


def graph(kind: str) -> RootNode:
    source = Stuck() if kind == "stuck" else NUMBERS
    chunks = None if kind == "stuck" else (1, 1000)
    numbers = ArrayNode(source, uid="numbers", chunks=chunks)
    return RootNode(uid="root", edges={"numbers": numbers})


class BusHost:
    """The program, as a test sees it."""

    def __init__(self, broker: object, name: str, kind: str) -> None:
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.bus_host", str(broker), name, kind],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hear() == "serving"

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def kill_when_stuck(self) -> None:
        assert self.hear() == "stuck"
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def main() -> None:
    broker, name, kind = sys.argv[1:]
    with sync.GraphContext(broker, program="host") as ctx:
        ctx.serve(graph(kind), name)
        say("serving")
        sys.stdin.read()


if __name__ == "__main__":
    main()
