"""Sections a and b: commands per second, one in flight and 64 in flight.

A command connects an edge or disconnects it again, by turns, so that each is a change that is
journaled. Ours are calls of the public `GraphContext`, blocking and asyncio; with 64 in flight,
64 coroutines of one asyncio context, each of which waits for its own call. The bare echo gets the
same commands from a plain blocking DEALER, which keeps as many requests under way.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ezgraph import sync
from ezgraph.bench.bare import Dealer
from ezgraph.bench.children import Child
from ezgraph.bench.rows import Goal, Row, at_least_of_bare, compared
from ezgraph.bench.workbench import (
    DURABILITIES,
    Durability,
    Progress,
    backend_url,
    broker,
    folder,
    rate_of,
    rate_of_tasks,
    wiring,
    wiring_commands,
)
from ezgraph.graph.context import GraphContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ezgraph.bench.scale import Scale
    from ezgraph.config import Address, ClientKeys

_GOALS_ONE: dict[tuple[str, Durability], Goal] = {
    ("blocking", "memory"): at_least_of_bare(0.60),
    ("asyncio", "memory"): at_least_of_bare(0.38),
}
_GOAL_MANY = at_least_of_bare(0.45)
_names = itertools.count()


def one_in_flight(scale: Scale, progress: Progress) -> list[Row]:
    """Measure section a."""
    kinds = list(itertools.product(SHELLS, DURABILITIES))
    ours: dict[tuple[str, Durability], list[float]] = {each: [] for each in kinds}
    bare: dict[tuple[str, Durability], list[float]] = {each: [] for each in kinds}
    with ExitStack() as stack:
        echo, brokers = _start(stack)
        for _, (shell, durability) in itertools.product(range(scale.rounds), kinds):
            progress(f"a: one command in flight, {shell}, {durability}")
            kind = (shell, durability)
            bare[kind].append(bare_rate(echo, in_flight=1, seconds=scale.seconds))
            ours[kind].append(SHELLS[shell](brokers[durability], scale.seconds, None))
    return [
        compared(
            "a",
            f"one in flight, {shell}, {durability}",
            "/s",
            ours[shell, durability],
            bare[shell, durability],
            goal=_GOALS_ONE.get((shell, durability)),
        )
        for shell, durability in kinds
    ]


def many_in_flight(scale: Scale, progress: Progress) -> list[Row]:
    """Measure section b."""
    count = scale.in_flight
    ours: dict[Durability, list[float]] = {each: [] for each in DURABILITIES}
    bare: dict[Durability, list[float]] = {each: [] for each in DURABILITIES}
    with ExitStack() as stack:
        echo, brokers = _start(stack)
        for _, durability in itertools.product(range(scale.rounds), DURABILITIES):
            progress(f"b: {count} commands in flight, {durability}")
            bare[durability].append(bare_rate(echo, in_flight=count, seconds=scale.seconds))
            ours[durability].append(
                asyncio_rate(brokers[durability], scale.seconds, in_flight=count)
            )
    return [
        compared(
            "b",
            f"{count} in flight, asyncio, {each}",
            "/s",
            ours[each],
            bare[each],
            goal=_GOAL_MANY if each == "SQLite FULL" else None,
        )
        for each in DURABILITIES
    ]


def _start(stack: ExitStack) -> tuple[int, dict[Durability, Address]]:
    """Start the echo and a broker for each kind of journal; return its port and their addresses."""
    where = stack.enter_context(folder())
    echo = stack.enter_context(Child("ezgraph.bench.bare", "echo"))
    return int(echo.said["port"]), {
        each: stack.enter_context(broker(backend_url(each, where))).address
        for each in DURABILITIES
    }


def bare_rate(port: int, *, in_flight: int, seconds: float) -> float:
    """Return the echo's rate."""
    commands = wiring_commands("bare")
    dealer = Dealer(port)
    try:
        for _ in range(50):
            dealer.call(next(commands))
        gc.collect()
        return dealer.rate(commands, in_flight=in_flight, seconds=seconds)
    finally:
        dealer.close()


def blocking_rate(
    address: Address, seconds: float, keys: ClientKeys | None = None
) -> float:
    """Return the broker's rate with one command in flight from the blocking context."""
    edges = wiring(f"blocking{next(_names)}")
    with sync.GraphContext(address, keys=keys) as context:

        def step() -> None:
            start, end, is_new = next(edges)
            if is_new:
                context.connect(start, end)
            else:
                context.disconnect(start, end)

        return rate_of(step, seconds=seconds)


def asyncio_rate(
    address: Address, seconds: float, keys: ClientKeys | None = None, *, in_flight: int = 1
) -> float:
    """Return the broker's rate with so many commands in flight from one asyncio context."""

    async def measure() -> float:
        async with GraphContext(address, keys=keys) as context:
            steps = [_step(context, f"asyncio{next(_names)}") for _ in range(in_flight)]
            return await rate_of_tasks(steps, seconds=seconds)

    return asyncio.run(measure())


def _step(context: GraphContext, client: str) -> Callable[[], Awaitable[object]]:
    edges = wiring(client)

    def step() -> Awaitable[object]:
        start, end, is_new = next(edges)
        return context.connect(start, end) if is_new else context.disconnect(start, end)

    return step


SHELLS: dict[str, Callable[[Address, float, ClientKeys | None], float]] = {
    "blocking": blocking_rate,
    "asyncio": asyncio_rate,
}
