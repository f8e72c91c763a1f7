"""Section s: what publishing costs beside many watches, and what reaches somebody beside them.

A child watches so many distinct prefixes from one context; the puts go to each of them in turn, 64
in flight. The *bare* figures are those of a broker that nobody watches, by turns. What publishing
costs is the broker's own processor time, all of its threads; commands per second are beside it,
with the watching process on the same machine.

The bystander is a bare subscriber to another prefix and its notes. Whatever is not one of its own
notes is counted.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ezgraph.bench.bare_keys import Bystander
from ezgraph.bench.children import Child, answer, be, say
from ezgraph.bench.rows import US, Row, alone, at_most_of_bare, compared, exactly
from ezgraph.bench.sessions import cpu_seconds
from ezgraph.bench.workbench import Progress, broker
from ezgraph.errors import EzGraphError
from ezgraph.graph.context import GraphContext
from ezgraph.names import note_topic, topic_of
from ezgraph.protocol.config import bus_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.bench.scale import Scale
    from ezgraph.config import Address
    from ezgraph.graph.server import GraphServer

_TYPE = "bench"
_GOAL = at_most_of_bare(3.0)
_SETTLE_S = 0.5
_PUTS = 1
_OPEN_S = 60.0
_values = itertools.count()


def publish_beside_watches(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section s."""
    count = scale.watches
    cost: dict[int, list[float]] = {0: [], count: []}
    rate: dict[int, list[float]] = {0: [], count: []}
    with ExitStack() as stack:
        servers = {each: stack.enter_context(broker()) for each in (0, count)}
        progress(f"s: {count:,} watches")
        watcher = stack.enter_context(
            Child("ezgraph.bench.watched", str(servers[count].address), str(count))
        )
        bystander = Bystander(watcher.said["events_port"], _topics_of_bystander())
        stack.callback(bystander.close)
        own = _own(bystander.hear(_SETTLE_S))
        for _, (watches, server) in itertools.product(range(scale.rounds), servers.items()):
            progress(f"s: puts beside {watches:,} watches")
            spent, per_second = _measure(server, scale, watcher if watches else None)
            cost[watches].append(spent * US)
            rate[watches].append(per_second)
        heard = bystander.hear(_SETTLE_S)
    beside = f"beside {count:,} watches"
    yield compared(
        "s", f"a put {beside}, the broker's processor time", "µs", cost[count], cost[0], goal=_GOAL
    )
    yield compared("s", f"puts {beside}, {scale.in_flight} in flight", "/s", rate[count], rate[0])
    yield alone(
        "s",
        f"messages to a bystander {beside}",
        "",
        [len(heard) - _own(heard)],
        goal=exactly(0),
        note=f"and {_own(heard)} of its own notes; {own} when it came",
    )


def _topics_of_bystander() -> list[bytes]:
    prefix = topic_of(bus_key(_TYPE, ("bystander",)))
    return [prefix, note_topic(prefix)]


def _own(messages: list[list[bytes]]) -> int:
    """Return how many of them are the bystander's own notes."""
    return sum(message[0] == _topics_of_bystander()[1] for message in messages)


def _group(number: int) -> str:
    return f"group-{number:05}"


def _measure(
    server: GraphServer, scale: Scale, watcher: Child | None
) -> tuple[float, float]:
    """Put into every group; return the broker's processor time for each put, and puts per second.

    Raises:
        EzGraphError: what the watches got is not what was put.
    """
    pid, puts = server.pid or 0, _PUTS * scale.watches
    begin = cpu_seconds(pid)
    per_second = asyncio.run(_put_all(server.address, scale, puts))
    if watcher is not None and (got := watcher.ask(expect=puts)["events"]) != puts:
        raise EzGraphError(f"{scale.watches} watches got {got} events of {puts} puts")
    return (cpu_seconds(pid) - begin) / puts, per_second


async def _put_all(address: Address, scale: Scale, puts: int) -> float:
    """Return the puts per second."""
    numbers = iter(range(puts))
    async with GraphContext(address) as ctx:

        async def put() -> None:
            for number in numbers:
                key = (_group(number % scale.watches), "entry")
                await ctx.config.put(_TYPE, key, next(_values))

        begin = time.perf_counter()
        await asyncio.gather(*(put() for _ in range(scale.in_flight)))
        return puts / (time.perf_counter() - begin)


class _Received:
    """Counts the changes that all watches together were told."""

    def __init__(self) -> None:
        self.open = self.events = 0
        self._moved = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Received open={self.open} events={self.events}>"

    async def watch(self, ctx: GraphContext, number: int) -> None:
        async for event in ctx.config.watch(_TYPE, (_group(number),)):
            self.open += event.kind == "end_of_initial"
            self.events += event.kind == "put"
            self._moved.set()

    async def until_open(self, count: int) -> None:
        while self.open < count:
            self._moved.clear()
            await self._moved.wait()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        while self.events < request["expect"]:
            self._moved.clear()
            await self._moved.wait()
        events, self.events = self.events, 0
        return {"events": events}


async def _main(address: str, count: int) -> None:
    received = _Received()
    async with GraphContext(address) as ctx, asyncio.TaskGroup() as group:
        tasks = [group.create_task(received.watch(ctx, each)) for each in range(count)]
        async with asyncio.timeout(_OPEN_S):
            await received.until_open(count)
        say(events_port=(await ctx.status()).events_port)
        await answer(received.answer)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    be(_main(sys.argv[1], int(sys.argv[2])))
