"""Section o: what read scopes cost. Every event is looked at, and sent, once for each of them.

One client has 64 commands in flight; so many subscribers, each of a scope of its own and in one
other process, get what they may read of it. The *bare* figure is one scope, everything.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ezgraph.bench.children import Child, answer, be, say
from ezgraph.bench.commands import asyncio_rate
from ezgraph.bench.rows import Row, alone, compared
from ezgraph.bench.workbench import Progress, broker, folder
from ezgraph.graph.context import GraphContext
from ezgraph.keys.keyring import Keyring, shown_keys

if TYPE_CHECKING:
    from pathlib import Path

    from ezgraph.bench.scale import Scale
    from ezgraph.config import Address, ClientKeys

_SCOPES = (1, 4, 16)
_NAME = "bench"


def publish_in_scopes(scale: Scale, progress: Progress) -> list[Row]:
    """Measure section o."""
    found: dict[int, list[float]] = {count: [] for count in _SCOPES}
    with folder() as where, ExitStack() as stack:
        brokers = {count: _start(stack, where / f"{count}", count) for count in _SCOPES}
        for _ in range(scale.rounds):
            for count, (address, keys) in brokers.items():
                progress(f"o: {count} read scopes")
                rate = asyncio_rate(address, scale.seconds, keys, in_flight=scale.in_flight)
                found[count].append(rate)
    one = found[1]
    return [
        alone("o", "commands, 1 read scope", "/s", one)
        if count == 1
        else compared("o", f"commands, {count} read scopes", "/s", rates, one)
        for count, rates in found.items()
    ]


def _start(stack: ExitStack, where: Path, count: int) -> tuple[Address, ClientKeys]:
    """Start a broker with so many read scopes (the operator's among them), and its readers."""
    ring = Keyring(where)
    ring.admit(_NAME)
    readers = [f"reader{number}" for number in range(1, count)]
    for number, name in enumerate(readers):
        reads = ["session/*", f"edge/asyncio*/{number}", f"edge/{number}/*"]
        ring.add_role(name, {"read": reads})
        ring.admit(name, name)
    if not readers:
        readers = [_NAME]
    server = stack.enter_context(broker(config=ring.config()))
    words = [word for name in readers for word in ring.words(name)]
    child = stack.enter_context(Child("ezgraph.bench.scopes", str(server.address), *words))
    child.ask()
    return server.address, ring.keys(_NAME, server.address)


async def _main(address: str, words: list[str]) -> None:
    """Subscribe once for each key."""

    async def subscribe(keys: ClientKeys | None) -> None:
        async with GraphContext(address, keys=keys) as context:
            async for _ in context.subscribe(()):
                pass

    async def ready(_request: dict[str, Any]) -> dict[str, Any]:
        return {"subscribers": len(words) // 2}

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(subscribe(shown_keys(address, words[first : first + 2])))
            for first in range(0, len(words), 2)
        ]
        say(ready=True)
        await answer(ready)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    be(_main(sys.argv[1], sys.argv[2:]))
