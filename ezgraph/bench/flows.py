"""Section q: a flow over a whole rig starts as one transaction, and each processor hears its part.

The operator is in this process, the processors in children; all are asyncio, for the bare relay
too (`bare_keys`): it gets the same transaction, decodes it, and publishes each put under its key
to as many subscribers. The clock runs from before `start_flow` until the last of the processors has
the last of its variants; after each start the flow is stopped again.

What SQLite FULL may take longer than memory is one commit of as many records, measured here in the
same rounds, in a journal of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

from ezgraph.backends.base import Backend, Journal, Record
from ezgraph.bench.bare import AsyncDealer
from ezgraph.bench.children import Child, ask_all
from ezgraph.bench.flowing import WARM_UP, flow_variants
from ezgraph.bench.rows import (
    MS,
    Row,
    alone,
    at_most,
    at_most_of_bare,
    compared,
    exactly,
    percentile_99,
)
from ezgraph.bench.workbench import Durability, Progress, backend_url, broker, folder
from ezgraph.errors import DeadlineError
from ezgraph.flows import start_flow, stop_flow
from ezgraph.flows.record import ACTIVE_FLOW
from ezgraph.graph.context import GraphContext
from ezgraph.protocol.commands import ChangeConfig
from ezgraph.protocol.config import ConfigAbsent, ConfigPut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from ezgraph.bench.scale import Scale
    from ezgraph.config import Address

Start: TypeAlias = "Callable[[int], Awaitable[object]]"
"""Starts the flow of that number, and returns when that was answered."""

_DURABILITIES: tuple[Durability, ...] = ("memory", "SQLite FULL")
_SHARE = 2.0
_PAUSE_S = 0.05
_WARM_UPS = 100
_NS = 1e-9


def start_flows(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section q."""
    rig = _Rig(scale, progress)
    with folder() as where, ExitStack() as stack:
        rig.start(stack, where)
        asyncio.run(rig.measure())
    yield from rig.rows()


class _Rig:
    """Processors on a relay and on brokers, and what each round gave."""

    def __init__(self, scale: Scale, progress: Progress) -> None:
        self._scale = scale
        self._progress = progress
        self._numbers = itertools.count()
        self._times: dict[str, list[float]] = {"relay": [], **{each: [] for each in _DURABILITIES}}
        self._commits: list[float] = []
        self._events: list[float] = []
        self._fetches: list[float] = []

    def __repr__(self) -> str:
        return f"<Rig of {self._scale.processors} processors>"

    @property
    def _keys(self) -> int:
        return self._scale.processors * self._scale.variants

    def start(self, stack: ExitStack, where: Path) -> None:
        """Start the relay, the brokers, and the processors of each."""
        relay = stack.enter_context(Child("ezgraph.bench.bare_keys"))
        self._port = int(relay.said["port"])
        self._brokers: dict[str, Address] = {
            each: stack.enter_context(broker(backend_url(each, where))).address
            for each in _DURABILITIES
        }
        listens = {"relay": ("relay", str(relay.said["events_port"]))}
        listens |= {each: ("ezgraph", str(where)) for each, where in self._brokers.items()}
        each_has = -(-self._scale.processors // self._scale.subscriber_processes)
        self._children = {
            name: [
                stack.enter_context(Child("ezgraph.bench.flowing", *listen, *share))
                for share in _shares(self._scale.processors, each_has, self._scale.variants)
            ]
            for name, listen in listens.items()
        }
        self._journal = stack.enter_context(
            Backend.from_url(backend_url("SQLite FULL", where)).connect().open_journal()
        )

    async def measure(self) -> None:
        """Do the rounds."""
        for _, name in itertools.product(range(self._scale.rounds), self._times):
            self._progress(f"q: flows over {self._scale.processors} processors, {name}")
            measure = self._relay_time if name == "relay" else self._broker_time
            self._times[name].append(await measure(name))
            if name == "relay":
                self._commits.append(_commit_time(self._journal, self._keys + 1))

    async def _relay_time(self, name: str) -> float:
        dealer = AsyncDealer(self._port)

        async def start(number: int) -> None:
            variants = self._variants(number)
            keys = [(name, variant) for name, each in variants.items() for variant in each]
            puts = [ConfigPut(ACTIVE_FLOW, key, variants[key[0]][key[1]]) for key in keys]
            await dealer.call(
                ChangeConfig(puts, conditions=[ConfigAbsent(ACTIVE_FLOW, key) for key in keys])
            )

        async def stop(number: int) -> None:
            """Nothing runs there."""

        try:
            return await self._p99(start, stop, name)
        finally:
            dealer.close()

    async def _broker_time(self, name: str) -> float:
        async with GraphContext(self._brokers[name]) as ctx:
            return await self._p99(
                lambda number: start_flow(ctx, f"flow-{number}", self._variants(number)),
                lambda number: stop_flow(ctx, f"flow-{number}"),
                name,
            )

    def _variants(self, number: int) -> dict[str, dict[str, object]]:
        return flow_variants(number, self._scale.processors, self._scale.variants)

    async def _p99(self, start: Start, stop: Start, name: str) -> float:
        """Return the 99th percentile, in ms, of the time until the last processor knew all."""
        children = self._children[name]
        await self._warm_up(start, stop, children)
        times = []
        for number in itertools.islice(self._numbers, self._scale.flows):
            begin_ns = time.monotonic_ns()
            await start(number)
            said = await _known(children, number)
            times.append((max(each["whole_ns"] for each in said) - begin_ns) * _NS * MS)
            if name != "relay":
                self._events.append(sum(each["events"] for each in said))
                self._fetches.append(sum(each["fetches"] for each in said))
            await stop(number)
            await asyncio.sleep(_PAUSE_S)
        return percentile_99(times)

    async def _warm_up(self, start: Start, stop: Start, children: list[Child]) -> None:
        """Start and stop a flow until every processor hears of it."""
        for _ in range(_WARM_UPS):
            await start(WARM_UP)
            await stop(WARM_UP)
            await asyncio.sleep(_PAUSE_S)
            if all(said["all_hear"] for said in ask_all(children, flow=WARM_UP)):
                await self._forget(start, stop, children)
                return
        raise DeadlineError(f"some of the processors in {children!r} hear nothing")

    async def _forget(self, start: Start, stop: Start, children: list[Child]) -> None:
        """One more, which is not counted, so that what came before it is not either."""
        number = next(self._numbers)
        await start(number)
        await _known(children, number)
        await stop(number)
        await asyncio.sleep(_PAUSE_S)

    def rows(self) -> Iterator[Row]:
        """Return what it came to."""
        scale, relay = self._scale, self._times["relay"]
        what = f"start_flow over {scale.processors} x {scale.variants}"
        commit = median(self._commits)
        name = f"one commit of {self._keys + 1:,} records, SQLite FULL"
        yield alone("q", name, "ms", self._commits)
        full = _SHARE * median(relay) + commit
        goals = {
            "memory": at_most_of_bare(_SHARE),
            "SQLite FULL": at_most(full, "ms", why=f" ({_SHARE:.2f} x bare + one commit)"),
        }
        for each in _DURABILITIES:
            name = f"{what}, known to the last, p99, {each}"
            yield compared("q", name, "ms", self._times[each], relay, goal=goals[each])
        worst = max(self._events, key=lambda count: abs(count - self._keys))
        yield alone(
            "q", f"events that reached processors, {what}", "", [worst], goal=exactly(self._keys)
        )
        fetches = [sum(self._fetches)]
        yield alone("q", f"what they fetched, {what}", "", fetches, goal=exactly(0))


async def _known(children: list[Child], number: int) -> list[dict[str, Any]]:
    """Return what each child says of a flow when all of its processors know it."""
    return await asyncio.to_thread(lambda: ask_all(children, flow=number))


def _shares(processors: int, each_has: int, variants: int) -> Iterator[tuple[str, str, str]]:
    for first in range(0, processors, each_has):
        yield str(first), str(min(each_has, processors - first)), str(variants)


def _commit_time(journal: Journal, records: int) -> float:
    """Return the time of an append of so many records, in ms."""
    several = [
        Record(journal.head + 1 + each, b"config/active-flow/processor/variant/", b"\0" * 300)
        for each in range(records)
    ]
    begin = time.perf_counter()
    journal.append(several)
    return (time.perf_counter() - begin) * MS
