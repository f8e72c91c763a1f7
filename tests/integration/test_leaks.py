"""Opened and closed a thousand times: no thread, descriptor or memory stays, at either end."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ezgraph import GraphContext, GraphServer, ProcessControlClient, Progress, sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc"),
]

WARM_UP = 60
CYCLES = 1_000
GROWTH_MIB = 6.0
"""What a heap may grow by in a thousand cycles: 6 KiB each would be a leak, fragments are not."""


@pytest.fixture
def apart() -> Iterator[GraphServer]:
    with GraphServer(run_in="process") as server:
        yield server


@dataclass(frozen=True)
class Weight:
    """What a process holds."""

    threads: int
    descriptors: int
    memory_mib: float


def weigh(pid: int) -> Weight:
    gc.collect()
    status = Path(f"/proc/{pid}/status").read_text()

    def number(name: str) -> int:
        return int(status.partition(f"{name}:")[2].split()[0])

    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return Weight(number("Threads"), descriptors, number("VmRSS") / 1024)


def settled(pid: int, most: Weight) -> Weight:
    """Return what a process holds once its last connections are closed (within five seconds)."""
    for _ in range(100):
        found = weigh(pid)
        if found.threads <= most.threads and found.descriptors <= most.descriptors:
            break
        threading.Event().wait(0.05)
    return weigh(pid)


def grows_by_nothing(cycle: Callable[[], None], server: GraphServer, cycles: int) -> None:
    """Run it often; compare what client and broker hold before and after."""
    pids = {"client": os.getpid(), "broker": server.pid or 0}
    for _ in range(WARM_UP):
        cycle()
    before = {name: weigh(pid) for name, pid in pids.items()}

    for _ in range(cycles):
        cycle()

    for name, pid in pids.items():
        was, found = before[name], settled(pid, before[name])
        sys.stdout.write(f"{cycles} cycles, {name}: {was} -> {found}\n")
        assert found.threads <= was.threads, f"{name}: threads are left"
        assert found.descriptors <= was.descriptors, f"{name}: descriptors are left"
        assert found.memory_mib - was.memory_mib < GROWTH_MIB * cycles / 1_000 + 2, f"{name} grows"


def blocking_cycle(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        ctx.connect("a", "b")


def test_a_thousand_blocking_contexts_leave_nothing(apart: GraphServer) -> None:
    grows_by_nothing(lambda: blocking_cycle(apart), apart, CYCLES)


def test_a_thousand_async_contexts_leave_nothing(apart: GraphServer) -> None:
    async def cycle() -> None:
        async with GraphContext(apart.address) as ctx:
            await ctx.connect("a", "b")

    with asyncio.Runner() as runner:
        grows_by_nothing(lambda: runner.run(cycle()), apart, CYCLES)


def test_everything_a_program_may_open_leaves_nothing(apart: GraphServer) -> None:
    async def cycle() -> None:
        async with (
            GraphContext(apart.address, replica=True) as ctx,
            ProcessControlClient(apart.address) as process,
        ):
            await process.register(["RIG/AMP"])
            left_open, closed = ctx.subscribe(), ctx.subscribe(("edge",))
            await anext(aiter(left_open))
            await closed.aclose()

    with asyncio.Runner() as runner:
        grows_by_nothing(lambda: runner.run(cycle()), apart, 100)


def test_a_thousand_subscriptions_of_one_context_leave_nothing(apart: GraphServer) -> None:
    async def story() -> None:
        async with GraphContext(apart.address) as ctx:
            watched = (await ctx.status()).watched_prefixes

            async def cycle(n: int) -> None:
                stream = ctx.subscribe(("edge", f"t{n % 7}"))
                assert isinstance(await anext(aiter(stream)), Progress)
                await stream.aclose()

            for n in range(WARM_UP):
                await cycle(n)
            before = weigh(os.getpid()), weigh(apart.pid or 0)
            for n in range(CYCLES):
                await cycle(n)
            await ctx.sync()
            after = weigh(os.getpid()), weigh(apart.pid or 0)
            assert (await ctx.status()).watched_prefixes == watched
        for was, found in zip(before, after, strict=True):
            assert (found.threads, found.descriptors) == (was.threads, was.descriptors)
            assert found.memory_mib - was.memory_mib < 2 + GROWTH_MIB

    asyncio.run(story())


def test_what_a_closed_context_allocated_in_python_is_freed(apart: GraphServer) -> None:
    for _ in range(WARM_UP):
        blocking_cycle(apart)
    tracemalloc.start()
    try:
        blocking_cycle(apart)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            blocking_cycle(apart)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 100 * 256, f"{(after - before) / 100:.0f} bytes stay of each context"
