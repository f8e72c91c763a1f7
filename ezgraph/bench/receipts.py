"""A child that subscribes and notes when each report arrives.

``python -m ezgraph.bench.receipts ezgraph|relay WHERE COUNT``: so many subscribers in one event
loop, each with a context (or a bare socket) of its own. A report carries its number and the
`time.monotonic_ns` at which it was sent, which processes of one machine share. Numbers below 0
are for warming up.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from ezgraph.bench.children import answer, be, say
from ezgraph.graph.context import GraphContext
from ezgraph.protocol.commands import ReportSettings
from ezgraph.protocol.events import Event, SettingsChanged
from ezgraph.protocol.settings import SettingsSnapshotValue

WARM_UP = -1


def report_value(number: int) -> SettingsSnapshotValue:
    """Return the settings to report: five of them, its number, and the time it is now."""
    values: dict[str, Any] = {
        "cutoff": 40.0,
        "order": 4,
        "gain": 1.5,
        "notch": True,
        "mode": "bandpass",
        "number": number,
        "sent_ns": time.monotonic_ns(),
    }
    return SettingsSnapshotValue(None, values, values)


class Receipts:
    """What the subscribers of this process got: latencies in ns, by subscriber, in order."""

    def __init__(self, subscribers: int) -> None:
        self._latencies: list[list[int]] = [[] for _ in range(subscribers)]
        self._heard: set[int] = set()
        self._moved = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Receipts {[len(each) for each in self._latencies]}>"

    def take(self, subscriber: int, value: object) -> None:
        """Note the receipt of a report, now."""
        now = time.monotonic_ns()
        if not isinstance(value, SettingsSnapshotValue) or value.structured_value is None:
            return
        if value.structured_value["number"] < 0:
            self._heard.add(subscriber)
        else:
            self._latencies[subscriber].append(now - value.structured_value["sent_ns"])
        self._moved.set()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Say whether all hear (``{}``), or what they got once all have ``expect`` reports."""
        expected = request.get("expect")
        if expected is None:
            return {"all_hear": len(self._heard) == len(self._latencies)}
        while min(map(len, self._latencies)) < expected:
            self._moved.clear()
            await self._moved.wait()
        latencies, self._latencies = self._latencies, [[] for _ in self._latencies]
        return {"latencies_ns": latencies}


async def _listen_to_broker(where: str, receipts: Receipts, subscriber: int) -> None:
    async with GraphContext(where) as context:
        async for item in context.subscribe(("settings",)):
            if isinstance(item, Event) and isinstance(item.body, SettingsChanged):
                receipts.take(subscriber, item.body.value)


async def _listen_to_relay(where: str, receipts: Receipts, subscriber: int) -> None:
    from ezgraph.bench.bare import AsyncSubscriber

    source = AsyncSubscriber(int(where))
    try:
        async for command in source:
            if isinstance(command, ReportSettings):
                receipts.take(subscriber, command.value)
    finally:
        source.close()


async def _main(kind: str, where: str, count: int) -> None:
    listen = _listen_to_broker if kind == "ezgraph" else _listen_to_relay
    receipts = Receipts(count)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(listen(where, receipts, each)) for each in range(count)]
        say(subscribers=count)
        await answer(receipts.answer)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    be(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
