"""A child that serves nodes: ``python -m ezgraph.bench.node_host CHUNKS BYTES SAMPLES CHILDREN``.

Its root has ``bulk``, so many chunks of so many bytes; ``kept``, an equal array that nobody
may change, which readers may keep; and ``long``, so many samples. A second graph has a root with so
many children.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np

from ezgraph.bench.children import answer, be, say
from ezgraph.nodes import ArrayNode, EmptyNode, NodeHost, NodeServer, RootNode


async def _main(chunks: int, chunk_bytes: int, samples: int, children: int) -> None:
    rows = chunk_bytes // 8
    bulk = np.repeat(np.arange(chunks, dtype=np.float64), rows)
    kept = bulk.copy()
    kept.flags.writeable = False
    root = RootNode()
    root.edges = {
        "bulk": ArrayNode(bulk, chunks=(rows,)),
        "kept": ArrayNode(kept, chunks=(rows,)),
        "long": ArrayNode(np.arange(samples, dtype=np.float64)),
    }
    crowded = RootNode(edges={number: EmptyNode() for number in range(children)})
    with NodeHost(NodeServer(root)) as host, NodeHost(NodeServer(crowded)) as crowd:
        say(address=str(host.address), crowd=str(crowd.address))
        await answer(_echo)


async def _echo(request: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    return request


if __name__ == "__main__":
    be(_main(*map(int, sys.argv[1:])))
