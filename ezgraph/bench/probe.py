"""A child that asks the broker something small, again and again, and notes how long it took.

It is the *other client* of sections d and f: what it waits for while somebody catches up or takes
a snapshot is what everybody waits for. It connects and disconnects an edge by turns from an
asyncio context of its own, with a pause of 2 ms between.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from ezgraph.bench.children import Child, answer, be, say
from ezgraph.bench.rows import MS
from ezgraph.graph.context import GraphContext
from ezgraph.keys.keyring import shown_keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ezgraph.config import ClientKeys

_PAUSE_S = 0.002
_NS = 1e-9
Toggle: TypeAlias = "Callable[[bool], Awaitable[object]]"
"""Connects the edge (True) or disconnects it."""


class Probe:
    """The child, as its parent sees it."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def __repr__(self) -> str:
        return f"<Probe {self._child!r}>"

    def forget(self) -> None:
        """Forget what was measured so far."""
        self._child.ask()

    def waits_since(self, begin_ns: int) -> list[float]:
        """Return, in ms, the waits that ended since `time.monotonic_ns` was ``begin_ns``."""
        return [
            (end - start) * _NS * MS
            for start, end in self._child.ask()["waits_ns"]
            if end >= begin_ns
        ]


@contextmanager
def probe(address: object, module: str = "ezgraph.bench.probe", *words: str) -> Iterator[Probe]:
    """A probe of the broker at ``address``; ``words``: for ours, which key it shows (`Keyring`)."""
    with Child(module, *words, str(address)) as child:
        yield Probe(child)


async def toggle_for_ever(toggle: Toggle, waits_ns: list[tuple[int, int]]) -> None:
    """Note how long each command takes."""
    is_new = True
    while True:
        begin = time.monotonic_ns()
        await toggle(is_new)
        waits_ns.append((begin, time.monotonic_ns()))
        is_new = not is_new
        await asyncio.sleep(_PAUSE_S)


async def serve(toggle: Toggle) -> None:
    """Be the child: probe, and hand over what was measured since the last time."""
    waits_ns: list[tuple[int, int]] = []

    async def hand_over(_request: dict[str, Any]) -> dict[str, Any]:
        taken = list(waits_ns)
        waits_ns.clear()
        return {"waits_ns": taken}

    async with asyncio.TaskGroup() as group:
        task = group.create_task(toggle_for_ever(toggle, waits_ns))
        say(ready=True)
        await answer(hand_over)
        task.cancel()


async def _main(address: str, keys: ClientKeys | None) -> None:
    async with GraphContext(address, keys=keys) as context:

        def toggle(is_new: bool) -> Awaitable[object]:  # noqa: FBT001 - the form of a Toggle
            change = context.connect if is_new else context.disconnect
            return change(f"probe/{os.getpid()}", "probe/in")

        await serve(toggle)


if __name__ == "__main__":
    be(_main(sys.argv[-1], shown_keys(sys.argv[-1], sys.argv[1:-1])))
