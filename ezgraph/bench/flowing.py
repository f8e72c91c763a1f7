"""A child that watches what some processors are to run, and notes when it knows all of a flow.

``python -m ezgraph.bench.flowing ezgraph|relay WHERE FIRST COUNT VARIANTS``: processors FIRST to
FIRST + COUNT - 1 in one event loop, each with a context (or a bare socket) of its own. Flows are
numbered; those below 0 are for warming up.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from ezgraph.bench.bare import AsyncSubscriber
from ezgraph.bench.children import answer, be, say
from ezgraph.client import aio
from ezgraph.client.engine import ClientEngine
from ezgraph.graph.context import GraphContext
from ezgraph.names import topic_of
from ezgraph.protocol.commands import ChangeConfig, ReadConfig, ReadEvents
from ezgraph.protocol.config import bus_key

if TYPE_CHECKING:
    from ezgraph.protocol.commands import Command

WARM_UP = -1
_TYPE = "active-flow"
_FETCHES = (ReadConfig, ReadEvents)


def processor_name(number: int) -> str:
    """Return the name of a processor."""
    return f"processor-{number:03}"


def flow_variants(number: int, processors: int, variants: int) -> dict[str, dict[str, object]]:
    """Return a flow over all processors, so many variants each."""
    return {
        processor_name(each): {
            f"variant-{number}-{variant}": {
                "topics": {"in": f"signal/{each}/{variant}", "out": f"clean/{each}/{variant}"},
                "parameters": {"cutoff_hz": 300.0, "order": 4, "number": number},
            }
            for variant in range(variants)
        }
        for each in range(processors)
    }


class Flows:
    """What the processors of this process know of each flow."""

    def __init__(self, processors: int, variants: int) -> None:
        self._all = processors * variants
        self._known: Counter[int] = Counter()
        self._whole_ns: dict[int, int] = {}
        self._moved = asyncio.Event()
        self.events = 0

    def __repr__(self) -> str:
        return f"<Flows whole={len(self._whole_ns)} events={self.events}>"

    def take(self, value: object) -> None:
        """Note that a processor has got a variant, now."""
        if not isinstance(value, dict):
            return
        number = value["parameters"]["number"]
        self.events += 1
        self._known[number] += 1
        if self._known[number] >= self._all:
            self._whole_ns[number] = time.monotonic_ns()
            self._moved.set()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Say when all of a flow was known here (``flow``), and how much came for it."""
        number = request["flow"]
        if number == WARM_UP:
            return {"all_hear": self._known[WARM_UP] >= self._all}
        while number not in self._whole_ns:
            self._moved.clear()
            await self._moved.wait()
        said = {
            "whole_ns": self._whole_ns.pop(number),
            "events": self.events,
            "fetches": _CountingEngine.fetches,
        }
        self.events = _CountingEngine.fetches = 0
        return said


class _CountingEngine(ClientEngine):
    """Counts what is asked of the broker to get at entries or events."""

    fetches = 0

    def submit(self, command: Command, **options: Any) -> int:  # noqa: ANN401
        _CountingEngine.fetches += isinstance(command, _FETCHES)
        return super().submit(command, **options)


class _CountingSession(aio.Session):
    engine_class = _CountingEngine


async def _watch_broker(where: str, name: str, flows: Flows) -> None:
    async with GraphContext(where, session_factory=_CountingSession) as context:
        async for event in context.config.watch(_TYPE, (name,)):
            flows.take(event.value)


async def _watch_relay(where: str, name: str, flows: Flows) -> None:
    source = AsyncSubscriber(int(where), topic_of(bus_key(_TYPE, (name,))))
    try:
        async for command in source:
            if isinstance(command, ChangeConfig):
                flows.take(command.puts[0].value)
    finally:
        source.close()


async def _main(kind: str, where: str, first: int, count: int, variants: int) -> None:
    watch = _watch_broker if kind == "ezgraph" else _watch_relay
    flows = Flows(count, variants)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(watch(where, processor_name(first + each), flows))
            for each in range(count)
        ]
        say(processors=count)
        await answer(flows.answer)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    be(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
