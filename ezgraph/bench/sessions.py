"""Sections h and i: what a thousand live sessions cost, and what the end of a big one costs.

Section h looks at the broker process while `crowd` renews the sessions: its share of one core, as
the system counts it, and then what a command waits beside them. Section i closes a session that
owns many edges: until the goodbye is answered, it is stored; until a watcher has the last event
of that transaction, it is known. A second crowd, of short leases, beats on meanwhile.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ezgraph.bench.catchup import idle_wait
from ezgraph.bench.crowd import Crowd, crowd
from ezgraph.bench.probe import probe
from ezgraph.bench.rows import MS, Row, alone, at_most, percentile_99
from ezgraph.bench.workbench import Progress, backend_url, broker, folder
from ezgraph.errors import EzGraphError
from ezgraph.graph.context import GraphContext
from ezgraph.protocol.events import Event, SessionClosed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.bench.scale import Scale
    from ezgraph.config import Address

_TTL_S = 6.0
_SHORT_TTL_S = 3.0
_OTHERS = 50
_IN_FLIGHT = 500
_PATIENCE_S = 60.0


def hold_sessions(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section h."""
    count = scale.sessions
    progress(f"h: {count:,} sessions")
    with folder() as where, broker(backend_url("SQLite FULL", where)) as server:
        pid = server.pid or 0
        with probe(server.address) as other:
            other.forget()  # it is ready now
            idle = idle_wait(other)
        with crowd(server.address, count, ttl_s=_TTL_S) as sessions:
            shares = [_share_of_core(pid, scale.holding_s) for _ in range(scale.rounds)]
            with probe(server.address) as other:
                other.forget()
                begin_ns = time.monotonic_ns()
                asyncio.run(asyncio.sleep(scale.holding_s))
                waits = other.waits_since(begin_ns)
            beats = sessions.beats()
    yield alone(
        "h",
        f"{count:,} live sessions, the broker's share of one core",
        "%",
        shares,
        goal=at_most(10, "%"),
        note=f"{beats:,} heartbeats, none missed; one connection each; TTL {_TTL_S:g} s",
    )
    yield alone(
        "h",
        f"a command beside {count:,} sessions, p99",
        "ms",
        [percentile_99(waits)],
        goal=at_most(10, "ms"),
        note=f"{len(waits)} commands; p99 on the idle broker {idle:.2f} ms",
    )


def _share_of_core(pid: int, seconds: float) -> float:
    """Return how much of one core a process takes, in percent."""
    begin, used = time.perf_counter(), cpu_seconds(pid)
    asyncio.run(asyncio.sleep(seconds))
    return 100 * (cpu_seconds(pid) - used) / (time.perf_counter() - begin)


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has taken, all its threads."""
    tasks = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    if tasks:
        return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9
    said = subprocess.run(
        ["ps", "-o", "time=", "-p", str(pid)], capture_output=True, check=True, text=True
    )
    hours, minutes, seconds = ["0", "0", *said.stdout.strip().split(":")][-3:]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def end_sessions(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section i."""
    count = scale.owned_edges
    answered, known, beats = [], [], 0
    with (
        folder() as where,
        broker(backend_url("SQLite FULL", where)) as server,
        crowd(server.address, _OTHERS, ttl_s=_SHORT_TTL_S) as others,
    ):
        for _ in range(scale.rounds):
            progress(f"i: a session with {count:,} edges ends")
            took = asyncio.run(_end_of_session(server.address, count, others))
            answered.append(took[0] * MS)
            known.append(took[1] * MS)
            beats += took[2]
    note = f"one transaction of {count + 1:,} events; {beats} heartbeats of {_OTHERS} others"
    yield alone(
        "i",
        f"end of a session with {count:,} edges, stored and answered",
        "ms",
        answered,
        goal=at_most(200, "ms"),
        note=f"{note} meanwhile, none missed",
    )
    yield alone("i", f"end of a session with {count:,} edges, known to a watcher", "ms", known)


async def _end_of_session(
    address: Address, count: int, others: Crowd
) -> tuple[float, float, int]:
    """Return the seconds until the goodbye was answered, until a watcher knew, and the beats.

    Raises:
        EzGraphError: it was not one transaction, or heartbeats of others were missed.
    """
    async with GraphContext(address, patience_s=_PATIENCE_S) as watcher:
        owner = await GraphContext(address, ttl_s=_PATIENCE_S).open()
        for first in range(0, count, _IN_FLIGHT):
            several = range(first, min(first + _IN_FLIGHT, count))
            await asyncio.gather(*(owner.connect(f"out{each}", "in") for each in several))
        events = watcher.subscribe(("session",))
        await anext(aiter(events))
        others.beats()
        begin = time.perf_counter()
        await owner.close()
        answered = time.perf_counter() - begin
        end = await _end_event(events)
        known = time.perf_counter() - begin
        await asyncio.sleep(_SHORT_TTL_S / 3)
        if end.txn_last - end.txn_first != count:
            raise EzGraphError(f"the session ended in events {end.txn_first} to {end.txn_last}")
        return answered, known, others.beats()


async def _end_event(events: object) -> Event:
    async for item in events:  # type: ignore[attr-defined]  # either shell's subscription
        if isinstance(item, Event) and isinstance(item.body, SessionClosed):
            return item
    raise EzGraphError("the subscription ended")
