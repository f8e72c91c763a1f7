"""Sections m and n: what the others notice of strangers who knock, and of clients that flood.

Whoever knocks or floods is a process of its own and goes at full speed. Three probes ask something
small beside it, each in its own process, and a report is under way now and then: what they wait
and how long a report takes to its receipt stands beside the same without a flood (the *bare*
figure), taken before on the same broker.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

from ezgraph.bench.children import Child
from ezgraph.bench.fanout import broker_time, pause_for
from ezgraph.bench.flood import flood
from ezgraph.bench.footprint import resident_bytes
from ezgraph.bench.knock import PER_S, knocking
from ezgraph.bench.probe import Probe, probe
from ezgraph.bench.rows import MIB, Goal, Row, at_most, compared, percentile_99
from ezgraph.bench.workbench import Progress, broker, folder
from ezgraph.config import Address
from ezgraph.keys.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ezgraph.bench.scale import Scale

_PROBES = 3
_UPSTREAM = "subscriptions"
_FLOODS = ("commands", "heartbeats", "hellos", "reads", "garbage", _UPSTREAM, "megabytes")
_NAME = "bench"


def knock(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section m."""
    with folder() as where, ExitStack() as stack:
        ring = Keyring(where)
        ring.admit(_NAME)
        server = stack.enter_context(broker(config=ring.config()))
        address, words = server.address, ring.words(_NAME)
        probes = [stack.enter_context(probe(address, *_OURS, *words)) for _ in range(_PROBES)]
        secret = ring.secret_file(_NAME)
        kinds: dict[str, Callable[[], AbstractContextManager[Child]]] = {
            "with unknown keys": lambda: knocking("keys", address, ring.broker),
            "that never shake hands": lambda: knocking("tcp", address, ring.broker),
            "with one admitted key": lambda: knocking("admitted", address, ring.broker, secret),
        }
        for what, start in kinds.items():
            progress(f"m: connections {what}")
            name = f"a command beside {PER_S:,} connections/s {what}, p99"
            goal = at_most(50 if "admitted" in what else 10, "ms")
            yield _beside("m", name, probes, start, scale, goal, _attempts)


_OURS = ("ezgraph.bench.probe",)


def _attempts(child: Child, seconds: float) -> str:
    return f"{child.ask()['attempts'] / seconds:,.0f} attempts/s were made"


def be_flooded(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section n."""
    with ExitStack() as stack:
        server = stack.enter_context(broker())
        address, pid = server.address, server.pid or 0
        probes = [stack.enter_context(probe(address)) for _ in range(_PROBES)]
        before = resident_bytes(pid)

        def told(child: Child, seconds: float) -> str:
            said, more = child.ask(), (resident_bytes(pid) - before) / MIB
            times = said["told"].get("flood", 0)
            return (
                f"{said['sent'] / seconds:,.0f} sent/s, told {times} times that it floods; "
                f"broker {more:+.0f} MiB since it was idle"
            )

        for kind in _FLOODS:
            progress(f"n: a flood of {kind}")
            start = _starter(kind, _upstream(address) if kind == _UPSTREAM else address)
            name = f"a command beside a flood of {kind}, p99"
            yield _beside("n", name, probes, start, scale, at_most(50, "ms"), told)
    yield _reported(scale, progress)


def _starter(kind: str, address: Address) -> Callable[[], AbstractContextManager[Child]]:
    return lambda: flood(kind, address)


def _upstream(address: Address) -> Address:
    return Address(address.host, address.port + 1)


def _beside(
    section: str,
    name: str,
    probes: list[Probe],
    start: Callable[[], AbstractContextManager[Child]],
    scale: Scale,
    goal: Goal,
    note: Callable[[Child, float], str],
) -> Row:
    """Return what commands wait beside a child, and without it, round by round."""
    beside, idle, said = [], [], ""
    for _ in range(scale.rounds):
        idle.append(percentile_99(_waits(probes, scale.holding_s)))
        with start() as child:
            child.said  # noqa: B018 - it is ready
            begin = time.perf_counter()
            beside.append(percentile_99(_waits(probes, scale.holding_s)))
            said = note(child, time.perf_counter() - begin)
    return compared(section, name, "ms", beside, idle, goal=goal, note=said)


def _waits(probes: list[Probe], seconds: float) -> list[float]:
    """Return what the probes waited meanwhile, in ms."""
    for each in probes:
        each.forget()
    begin_ns = time.monotonic_ns()
    threading.Event().wait(seconds)
    return [wait for each in probes for wait in each.waits_since(begin_ns)]


def _reported(scale: Scale, progress: Progress) -> Row:
    beside, idle = [], []
    progress("n: reports beside a flood of commands")
    with broker() as server:
        words = ("ezgraph", str(server.address), "1")
        with Child("ezgraph.bench.receipts", *words) as receiver:
            pause_s = pause_for(1)

            def report() -> float:
                return asyncio.run(
                    broker_time(server.address, [receiver], scale.reports, pause_s=pause_s)
                )

            for _ in range(scale.rounds):
                idle.append(report())
                with flood("commands", server.address) as child:
                    child.said  # noqa: B018 - it is ready
                    beside.append(report())
    name = "report to 1 subscriber beside a flood of commands"
    note = f"the flood took {median(beside) - median(idle):.1f} ms of it"
    return compared("n", name, "ms", beside, idle, goal=at_most(50, "ms"), note=note)

