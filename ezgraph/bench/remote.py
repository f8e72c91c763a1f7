"""Section p: what it takes to change a setting of a program elsewhere, and to spell settings.

The asker and the owner of the settings are asyncio programs in processes of their own, and the
broker is a third. A change goes from the asker to the broker and on to the owner, whose report
comes back the same way: two round trips, the second one of a report that is stored. The *bare*
figure is one round trip of an asyncio client of the echo. A row of its own says what the four
messages take where nothing is decided nor stored on the way (the bare switch, with an asyncio
program as the owner): that much cannot be had for less.

One more row flattens and sanitizes settings of 200 fields, as the tables of settings do, and the
last one starts a settings producer beside as many components as section f has.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from contextlib import ExitStack
from dataclasses import field, make_dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from ezgraph.bench.bare import AsyncDealer
from ezgraph.bench.children import Child, answer, be, say
from ezgraph.bench.producer import GOAL_PRODUCER_START, producer_starts
from ezgraph.bench.rows import MS, US, Row, alone, at_most, at_most_of_bare, compared
from ezgraph.bench.workbench import (
    DURABILITIES,
    Durability,
    Progress,
    backend_url,
    broker,
    folder,
    wiring_commands,
)
from ezgraph.graph.context import GraphContext
from ezgraph.graph.process import ProcessControlClient
from ezgraph.settings import flatten_component_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ezgraph.bench.scale import Scale
    from ezgraph.config import Address
    from ezgraph.protocol.routed import SettingsChangeRequest

_UNIT = "BENCH/FILTER"
_FIELDS = 200
_WARM_UP = 50
_GOAL = at_most_of_bare(3.0)


def change_settings(scale: Scale, progress: Progress) -> list[Row]:
    """Measure section p."""
    ours: dict[Durability, list[float]] = {each: [] for each in DURABILITIES}
    bare: dict[Durability, list[float]] = {each: [] for each in DURABILITIES}
    once: list[float] = []
    twice: list[float] = []
    with folder() as where, ExitStack() as stack:
        echo = stack.enter_context(Child("ezgraph.bench.bare", "echo"))
        switch = stack.enter_context(Child("ezgraph.bench.bare", "switch"))
        port = int(switch.said["port"])
        stack.enter_context(Child("ezgraph.bench.bare", "mirror", str(port))).hear()
        brokers = {
            each: stack.enter_context(broker(backend_url(each, where))).address
            for each in DURABILITIES
        }
        for address in brokers.values():
            owner = stack.enter_context(Child("ezgraph.bench.remote", str(address)))
            owner.ask()
        for _ in range(scale.rounds):
            progress("p: the way of a remote change, bare")
            once.append(asyncio.run(_echo_us(int(echo.said["port"]), scale.seconds)))
            twice.append(asyncio.run(_echo_us(port, scale.seconds)))
        for _, each in itertools.product(range(scale.rounds), DURABILITIES):
            progress(f"p: remote changes of settings, {each}")
            bare[each].append(asyncio.run(_echo_us(int(echo.said["port"]), scale.seconds)))
            ours[each].append(asyncio.run(_change_us(brokers[each], scale.seconds)))
    progress(f"p: settings of {_FIELDS} fields")
    flat = [_flatten_ms(scale.seconds) for _ in range(scale.rounds)]
    components = scale.components[1]
    progress(f"p: a settings producer of {components:,} components")
    with broker() as alone_here:
        starts = asyncio.run(producer_starts(alone_here.address, components, scale.rounds))
    return [
        *(
            compared(
                "p",
                f"remote change to confirmed answer, p50, {each}",
                "µs",
                ours[each],
                bare[each],
                goal=_GOAL if each == "memory" else None,
            )
            for each in DURABILITIES
        ),
        compared("p", "its four messages alone, by a bare switch, p50", "µs", twice, once),
        alone(
            "p", f"flatten and sanitize {_FIELDS} fields", "ms", flat, goal=at_most(2.0, "ms")
        ),
        alone(
            "p",
            f"a settings producer begins with {components:,} components",
            "s",
            starts,
            goal=GOAL_PRODUCER_START,
        ),
    ]


async def _echo_us(port: int, seconds: float) -> float:
    commands, dealer = wiring_commands("remote"), AsyncDealer(port)
    try:
        return await _median_us(lambda: dealer.call(next(commands)), seconds)
    finally:
        dealer.close()


async def _change_us(address: Address, seconds: float) -> float:
    numbers = itertools.count()
    async with GraphContext(address) as ctx:
        return await _median_us(
            lambda: ctx.update_setting(_UNIT, "cutoff", float(next(numbers))), seconds
        )


async def _median_us(step: Callable[[], Awaitable[object]], seconds: float) -> float:
    for _ in range(_WARM_UP):
        await step()
    gc.collect()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end or not took:
        await step()
        took.append(time.perf_counter() - begin)
    return median(took) * US


def _flatten_ms(seconds: float) -> float:
    spelled = [(f"field_{n}", *_KINDS[n % len(_KINDS)]) for n in range(_FIELDS)]
    settings = make_dataclass("Settings", spelled)()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end or not took:
        flatten_component_settings(_UNIT, settings)
        took.append(time.perf_counter() - begin)
    return median(took) * MS


_KINDS: tuple[tuple[type, Any], ...] = (
    (float, field(default=1.5)),
    (int, field(default=7)),
    (str, field(default="notch")),
    (bool, field(default=True)),
    (list, field(default_factory=lambda: [1.0, 2.0, 3.0])),
    (dict, field(default_factory=lambda: {"low": 1.0, "high": 40.0})),
)


async def _main(address: str) -> None:
    """Own the settings, and take every change."""
    settings = {"cutoff": 0.0, "order": 4, "name": "bench"}

    async def change(request: SettingsChangeRequest) -> dict[str, object]:
        settings.update(request.changes)
        return dict(settings)

    async def ready(_request: dict[str, Any]) -> dict[str, Any]:
        return {"unit": _UNIT}

    async with ProcessControlClient(address) as process:
        process.take_changes(_UNIT, change)
        await process.register([_UNIT])
        await process.report_settings_update(_UNIT, settings)
        say(ready=True)
        await answer(ready)


if __name__ == "__main__":
    be(_main(sys.argv[1]))
