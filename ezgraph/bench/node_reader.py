"""A child that reads nodes and says what memory that took.

``python -m ezgraph.bench.node_reader HOST:PORT CACHE_BYTES`` reads the node ``kept`` twice, chunk
by chunk and then as a whole, and says how far its memory grew beyond the array it got.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from ezgraph.bench.children import answer, be, say
from ezgraph.bench.footprint import forget_peak, peak_bytes
from ezgraph.nodes import RemoteTree, RootNode


async def _main(address: str, cache_bytes: int) -> None:
    with RemoteTree(address, cache_bytes=cache_bytes) as tree:
        node = RootNode(tree)["kept"]
        node.read_chunk(0)
        tree.cache.clear()
        forget_peak()
        before = peak_bytes()
        ends = [[float(chunk[-1]) for _, chunk in node.read_chunks()] for _ in range(2)]
        whole = node[:]
        grown = peak_bytes() - before - whole.nbytes
        begins = [float(each) for each in whole[:: node.chunks[0]]]
        say(grown=grown, is_right=ends == [begins, begins])
        await answer(_echo)


async def _echo(request: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    return request


if __name__ == "__main__":
    be(_main(sys.argv[1], int(sys.argv[2])))
