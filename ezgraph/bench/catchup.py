"""Section d: a fresh client reads a whole history, and what another client waits meanwhile.

The clock runs from before the client's session is opened until it holds the last event, each a
typed `Event`, all of them, in order of seq. Before each round the probe's own wait is measured on
the idle broker.
"""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

from ezgraph.bench.history import write_history
from ezgraph.bench.probe import Probe, probe
from ezgraph.bench.rows import Row, alone, at_least, at_most, percentile_99
from ezgraph.bench.workbench import Progress, backend_url, broker, folder
from ezgraph.errors import EzGraphError
from ezgraph.graph.context import GraphContext
from ezgraph.protocol.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.bench.scale import Scale
    from ezgraph.config import Address

_IDLE_S = 0.2
_GOAL = at_least(75_000, "/s")
_GOAL_WAIT = at_most(10.0, "ms")


def catch_up(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section d."""
    for count in scale.history:
        yield from _measure(count, scale, progress)


def _measure(count: int, scale: Scale, progress: Progress) -> list[Row]:
    progress(f"d: writing a history of {count:,} events")
    judged = count == scale.history[1]
    with ExitStack() as stack:
        url = backend_url("SQLite FULL", stack.enter_context(folder()))
        write_history(url, count)
        address = stack.enter_context(broker(url)).address
        other = stack.enter_context(probe(address))
        rates, idle, waits = [], [], []
        for _ in range(scale.rounds):
            progress(f"d: catch-up of {count:,} events")
            idle.append(idle_wait(other))
            begin_ns = time.monotonic_ns()
            rates.append(count / asyncio.run(catch_up_time(address, count)))
            waits.append(other.waits_since(begin_ns))
    return [
        alone(
            "d", f"catch-up of {count:,} events", "/s", rates, goal=_GOAL if judged else None
        ),
        wait_row("d", f"a command during it, p99 ({count:,})", waits, idle, judged=judged),
    ]


def wait_row(
    section: str, name: str, waits: list[list[float]], idle: list[float], *, judged: bool
) -> Row:
    """Return the row of the probe's waits: p99 over all rounds, as one round has few of them."""
    pooled = [each for its_round in waits for each in its_round]
    return Row(
        section,
        name,
        "ms",
        percentile_99(pooled),
        goal=_GOAL_WAIT if judged else None,
        note=f"{len(pooled)} commands; p99 on the idle broker {median(idle):.2f} ms",
        samples=[percentile_99(each) for each in waits],
    )


def idle_wait(other: Probe) -> float:
    """Return the probe's p99 in ms while nothing else happens."""
    begin_ns = time.monotonic_ns()
    asyncio.run(asyncio.sleep(_IDLE_S))
    return percentile_99(other.waits_since(begin_ns))


async def catch_up_time(address: Address, count: int) -> float:
    """Return the seconds in which a fresh client has events 1 to ``count``.

    Raises:
        EzGraphError: one was missing or out of order.
    """
    gc.collect()
    begin, position = time.perf_counter(), 0
    async with GraphContext(address) as context:
        subscription = context.subscribe((), after_seq=0)
        async for item in subscription:
            if not isinstance(item, Event):
                continue
            if item.seq != position + 1:
                raise EzGraphError(f"event {item.seq} came after {position}")
            position = item.seq
            if position == count:
                break
        took = time.perf_counter() - begin
        await subscription.aclose()
    return took
