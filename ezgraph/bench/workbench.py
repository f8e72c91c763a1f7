"""What sections share: brokers with every kind of journal, commands to send, timed repetition."""

from __future__ import annotations

import asyncio
import gc
import itertools
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ezgraph.graph.server import GraphServer
from ezgraph.protocol.commands import Command, Connect, Disconnect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ezgraph.config import BrokerConfig

Durability: TypeAlias = Literal["memory", "SQLite NORMAL", "SQLite FULL"]
Progress: TypeAlias = "Callable[[str], None]"
"""Told what is measured next, so that somebody who waits can see it."""

DURABILITIES: tuple[Durability, ...] = ("memory", "SQLite NORMAL", "SQLite FULL")
_count = itertools.count()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for journals, in the system's place for temporary files."""
    with tempfile.TemporaryDirectory(prefix="ezgraph-bench-") as path:
        yield Path(path)


@contextmanager
def broker(
    backend: str = "memory://", config: BrokerConfig | None = None
) -> Iterator[GraphServer]:
    """A broker in a process of its own."""
    with GraphServer(backend=backend, run_in="process", config=config) as server:
        yield server


def backend_url(durability: Durability, where: Path) -> str:
    """Return the URL of a new journal."""
    if durability == "memory":
        return "memory://"
    synchronous = durability.split()[1]
    return f"sqlite:///{where}/{synchronous}-{next(_count)}.db?synchronous={synchronous}"


def wiring(client: str) -> Iterator[tuple[str, str, bool]]:
    """Yield edges, each to be connected (True), then disconnected: every command is a change.

    All edges are distinct, and the graph stays small however long this goes on.
    """
    for number in itertools.count():
        yield f"{client}/out{number}", f"{client}/in", True
        yield f"{client}/out{number}", f"{client}/in", False


def wiring_commands(client: str) -> Iterator[Command]:
    """Yield the commands that `wiring` stands for."""
    for start, end, is_new in wiring(client):
        yield Connect(start, end) if is_new else Disconnect(start, end)


def rate_of(step: Callable[[], object], *, seconds: float, warm_up: int = 50) -> float:
    """Return how often per second ``step`` runs, one after the other."""
    for _ in range(warm_up):
        step()
    gc.collect()
    begin = now = time.perf_counter()
    end, count = begin + seconds, 0
    while now < end:
        step()
        count += 1
        now = time.perf_counter()
    return count / (now - begin)


async def rate_of_tasks(
    steps: list[Callable[[], Awaitable[object]]], *, seconds: float, warm_up: int = 50
) -> float:
    """Return how often per second they run, each after its own last, all at a time."""
    for _ in range(max(1, warm_up // len(steps))):
        for step in steps:
            await step()
    gc.collect()
    begin = time.perf_counter()
    end = begin + seconds

    async def repeat(step: Callable[[], Awaitable[object]]) -> int:
        count = 0
        while time.perf_counter() < end:
            await step()
            count += 1
        return count

    counts = await asyncio.gather(*[repeat(step) for step in steps])
    return sum(counts) / (time.perf_counter() - begin)
