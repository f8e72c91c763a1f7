"""Section t: data nodes, read from another process over loopback TCP."""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ezgraph.bench.bare import ChunkDealer
from ezgraph.bench.catchup import idle_wait, wait_row
from ezgraph.bench.children import Child
from ezgraph.bench.nodes_served import read_served
from ezgraph.bench.probe import probe
from ezgraph.bench.rows import MIB, MS, Row, alone, at_least_of_bare, at_most, compared
from ezgraph.bench.workbench import broker
from ezgraph.errors import EzGraphError
from ezgraph.nodes import RemoteTree, RootNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ezgraph.bench.scale import Scale
    from ezgraph.bench.workbench import Progress
    from ezgraph.nodes import ArrayNode

GOAL_BULK = at_least_of_bare(0.85)
GOAL_SLICE = at_most(5.0, "ms")
GOAL_ROOT = at_most(200.0, "ms")
_IN_FLIGHT = 4
_SLICE = 1_000
_CACHE_BYTES = 64 << 20


class _CountedTree(RemoteTree):
    """Counts the requests that are made, and the bytes of arrays that come."""

    requests = 0
    array_bytes = 0

    def request(self, message: Mapping[str, Any], /, *, timeout: float | None = None) -> bytes:
        self.requests += 1
        return super().request(message, timeout=timeout)

    def fetch(self, requests: Any, /, *, timeout: float | None = None) -> Iterator[Any]:  # noqa: ANN401
        for fetched in super().fetch(requests, timeout=timeout):
            self.requests += 1
            self.array_bytes += fetched.items.nbytes
            yield fetched


def read_nodes(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section t."""
    sizes = (scale.chunks, scale.chunk_bytes, scale.samples, scale.children)
    with Child("ezgraph.bench.node_host", *map(str, sizes)) as host:
        yield from _bulk(host.said["address"], scale, progress)
        yield from _slices(host.said["address"], scale, progress)
        yield _root(host.said["crowd"], scale, progress)
        yield _memory(host.said["address"], scale, progress)
        yield _commands(host.said["address"], scale, progress)
    yield from read_served(scale, progress)


def _bulk(address: str, scale: Scale, progress: Progress) -> Iterator[Row]:
    """Return how fast chunks come, one by one and as one array, by turns with bare ones."""
    total_mib = scale.chunks * scale.chunk_bytes / MIB
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        words = ("chunks", str(scale.chunks), str(scale.chunk_bytes))
        bare = stack.enter_context(Child("ezgraph.bench.bare", *words))
        dealer = ChunkDealer(bare.said["port"])
        stack.callback(dealer.close)
        node = RootNode(stack.enter_context(RemoteTree(address)))["bulk"]
        size = scale.chunk_bytes
        ways: dict[str, Callable[[], float]] = {
            "bare, each by itself": lambda: dealer.take(scale.chunks, in_flight=_IN_FLIGHT),
            "each by itself": lambda: _seconds(lambda: _read_all(node)),
            "bare, into one array": lambda: dealer.gather(
                scale.chunks, in_flight=_IN_FLIGHT, size_bytes=size
            ),
            "into one array": lambda: _seconds(lambda: node[:]),
        }
        for number in range(scale.rounds + 1):
            progress("t: chunks of nodes, beside bare ones")
            for name, seconds in ways.items():
                gc.collect()
                rate = total_mib / seconds()
                if number:  # the first round warms up
                    rates.setdefault(name, []).append(rate)
    for name in ("each by itself", "into one array"):
        title = f"chunks of {size / MIB:g} MiB, {name}"
        bare_rates = rates[f"bare, {name}"]
        yield compared("t", title, "MiB/s", rates[name], bare_rates, goal=GOAL_BULK)


def _read_all(node: ArrayNode) -> None:
    for _ in node.read_chunks():
        pass


def _seconds(read: Callable[[], object]) -> float:
    begin = time.perf_counter()
    read()
    return time.perf_counter() - begin


def _slices(address: str, scale: Scale, progress: Progress) -> Iterator[Row]:
    """Return how long slices take, and how many bytes they move."""
    progress("t: slices of a long node")
    step = max(1, (scale.samples - _SLICE) // scale.slices)
    with _CountedTree(address) as tree:
        node = RootNode(tree)["long"]
        node.read(slice(0, _SLICE))  # so that there is a connection
        times: list[float] = []
        largest = 0
        for start in range(0, step * scale.slices, step):
            before = tree.array_bytes
            times.append(_seconds(lambda start=start: node[start : start + _SLICE]) * MS)  # type: ignore[misc]
            largest = max(largest, tree.array_bytes - before)
        touched = 2 * node.chunks[0] * node.dtype.itemsize  # a slice may lie across two chunks
    yield alone("t", f"a slice of {_SLICE:,} samples", "ms", times, goal=GOAL_SLICE)
    moved = at_most(touched / MIB, "MiB", why=" (the chunks touched)")
    yield alone("t", "the most that a slice moved", "MiB", [largest / MIB], goal=moved)


def _root(address: str, scale: Scale, progress: Progress) -> Row:
    times = []
    for _ in range(scale.rounds):
        progress("t: opening a root with many children")
        with _CountedTree(address) as tree:
            RootNode(tree)
            before = tree.requests
            gc.collect()
            begin = time.perf_counter()
            root = RootNode(tree)
            times.append((time.perf_counter() - begin) * MS)
            if len(root.edges) != scale.children or tree.requests - before != 1:
                raise EzGraphError(
                    f"{tree.requests - before} requests gave {len(root.edges)} of "
                    f"{scale.children} edges"
                )
    name = f"opening a root with {scale.children:,} children"
    return alone("t", name, "ms", times, goal=GOAL_ROOT, note="one request each")


def _commands(address: str, scale: Scale, progress: Progress) -> Row:
    """Return how long another client's commands to a broker take while nodes flow beside it."""
    waits, idle = [], []
    with broker() as server, probe(server.address) as other, RemoteTree(address) as tree:
        node = RootNode(tree)["bulk"]
        for _ in range(scale.rounds):
            progress("t: commands while nodes flow")
            idle.append(idle_wait(other))
            begin_ns, left = time.monotonic_ns(), scale.flow_bytes
            while left > 0:
                left -= sum(chunk.nbytes for _, chunk in node.read_chunks())
            waits.append(other.waits_since(begin_ns))
    size = f"{scale.flow_bytes / MIB:,.0f} MiB"
    return wait_row("t", f"a command while {size} flow, p99", waits, idle, judged=True)


def _memory(address: str, scale: Scale, progress: Progress) -> Row:
    grown = []
    for _ in range(scale.rounds):
        progress("t: memory of a reader")
        with Child("ezgraph.bench.node_reader", address, str(_CACHE_BYTES)) as reader:
            if not reader.said["is_right"]:
                raise EzGraphError("what was read is not what was served")
            grown.append(reader.said["grown"] / MIB)
    goal = at_most(_CACHE_BYTES / MIB, "MiB", why=" (its cache)")
    return alone("t", "a reader's memory beyond its result", "MiB", grown, goal=goal)
