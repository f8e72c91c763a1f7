"""Section t, second half: nodes that a session serves through a broker, directly and relayed."""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ezgraph.bench.bare import ChunkDealer
from ezgraph.bench.catchup import idle_wait, wait_row
from ezgraph.bench.children import Child
from ezgraph.bench.probe import probe
from ezgraph.bench.rows import MIB, Row, compared
from ezgraph.bench.workbench import broker
from ezgraph.client.broker_choice import Broker
from ezgraph.errors import EzGraphError
from ezgraph.nodes import RemoteTree, RootNode
from ezgraph.nodes.directory import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.bench.probe import Probe
    from ezgraph.bench.scale import Scale
    from ezgraph.bench.workbench import Progress
    from ezgraph.config import Address
    from ezgraph.nodes import ArrayNode

_NAME = "bench"
_IN_FLIGHT = 4


def read_served(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure what a session serves: how fast chunks come, and what commands wait meanwhile."""
    sizes = (str(scale.chunks), str(scale.chunk_bytes))
    with ExitStack() as stack:
        server = stack.enter_context(broker())
        host = Child("ezgraph.bench.node_session", str(server.address), _NAME, *sizes)
        if not stack.enter_context(host).said["is_served"]:
            raise EzGraphError(f"{host!r} serves nothing")
        ways = {
            way: RootNode(stack.enter_context(_tree(server.address, is_relayed=is_relayed)))["bulk"]
            for way, is_relayed in (("directly", False), ("through the relay", True))
        }
        bare = stack.enter_context(Child("ezgraph.bench.bare", "chunks", *sizes))
        dealer = ChunkDealer(bare.said["port"])
        stack.callback(dealer.close)
        yield _relayed(ways["through the relay"], dealer, scale, progress)
        other = stack.enter_context(probe(server.address))
        for way, node in ways.items():
            yield _commands(way, node, other, scale, progress)


def _tree(address: Address, *, is_relayed: bool) -> RemoteTree:
    """Return a reader of the served graph that goes one way only."""
    _, way = Directory(Broker((address,), None, may_start=False)).find(_NAME)
    return RemoteTree([each for each in way.endpoints if (each.route is not None) == is_relayed])


def _relayed(node: ArrayNode, dealer: ChunkDealer, scale: Scale, progress: Progress) -> Row:
    """Return how fast chunks come through the relay, by turns with bare ones that come directly."""
    total_mib = scale.chunks * scale.chunk_bytes / MIB
    rates: list[float] = []
    bare: list[float] = []
    for number in range(scale.rounds + 1):
        progress("t: chunks through the relay, beside bare ones")
        gc.collect()
        bare_rate = total_mib / dealer.take(scale.chunks, in_flight=_IN_FLIGHT)
        gc.collect()
        begin = time.perf_counter()
        _read_all(node)
        rate = total_mib / (time.perf_counter() - begin)
        if number:  # the first round warms up
            rates.append(rate)
            bare.append(bare_rate)
    name = f"chunks of {scale.chunk_bytes / MIB:g} MiB, through the relay"
    return compared("t", name, "MiB/s", rates, bare, note="bare: directly, without a relay")


def _read_all(node: ArrayNode) -> int:
    return sum(chunk.nbytes for _, chunk in node.read_chunks())


def _commands(
    way: str, node: ArrayNode, other: Probe, scale: Scale, progress: Progress
) -> Row:
    """Return how long another client's commands take while a session's nodes flow that way."""
    waits, idle = [], []
    for _ in range(scale.rounds):
        progress(f"t: commands while nodes flow {way}")
        idle.append(idle_wait(other))
        begin_ns, left = time.monotonic_ns(), scale.flow_bytes
        while left > 0:
            left -= _read_all(node)
        waits.append(other.waits_since(begin_ns))
    size = f"{scale.flow_bytes / MIB:,.0f} MiB"
    name = f"a command while {size} flow {way}, p99"
    return wait_row("t", name, waits, idle, judged=True)
