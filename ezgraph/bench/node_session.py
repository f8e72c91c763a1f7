"""A child with a session that serves nodes by it: ``python -m … BROKER NAME CHUNKS BYTES``.

Its root has ``bulk``, so many chunks of so many bytes.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np

from ezgraph.bench.children import answer, be, say
from ezgraph.graph.context import GraphContext
from ezgraph.nodes import ArrayNode, RootNode


async def _main(broker: str, name: str, chunks: int, chunk_bytes: int) -> None:
    rows = chunk_bytes // 8
    bulk = np.repeat(np.arange(chunks, dtype=np.float64), rows)
    async with GraphContext(broker) as context:
        await context.serve(RootNode(edges={"bulk": ArrayNode(bulk, chunks=(rows,))}), name)
        say(is_served=True)
        await answer(_echo)


async def _echo(request: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    return request


if __name__ == "__main__":
    be(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
