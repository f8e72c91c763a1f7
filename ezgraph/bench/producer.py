"""How long a settings producer takes from nothing to its sentinel; a row of section p."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from ezgraph.bench.rows import at_most
from ezgraph.bench.snapshots import rig
from ezgraph.errors import EzGraphError
from ezgraph.graph.context import GraphContext
from ezgraph.settings.pipeline import INIT_FINAL_COMPONENT_ADDRESS
from ezgraph.settings.producer import PipelineSettingsProducer, PipelineSettingsProducerSettings

if TYPE_CHECKING:
    from ezgraph.config import Address

GOAL_PRODUCER_START = at_most(1.0, "s")
_REGISTER_S = 60.0


async def producer_starts(address: Address, count: int, rounds: int) -> list[float]:
    """Return how many seconds each start took, with ``count`` components of five settings."""
    async with GraphContext(address) as owner:
        await owner.register_metadata(rig(count, schemas=True), timeout=_REGISTER_S)
        return [await producer_start(address, count) for _ in range(rounds)]


async def producer_start(address: Address, count: int) -> float:
    """Return the seconds from before the producer is made until it has given its sentinel.

    Raises:
        EzGraphError: it did not begin with ``count`` components.
    """
    gc.collect()
    begin = time.perf_counter()
    source = PipelineSettingsProducer(PipelineSettingsProducerSettings(graph_address=address))
    found = 0
    async for event in source:
        if event.component_address == INIT_FINAL_COMPONENT_ADDRESS:
            break
        found += 1
    took_s = time.perf_counter() - begin
    await source.close()
    if found != count:
        raise EzGraphError(f"the producer began with {found} components, not with {count}")
    return took_s
