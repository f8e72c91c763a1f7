"""Section c: from a settings report in one process to its receipt in others.

The reporter is in this process, the subscribers in children; all are asyncio, for the bare relay
too (see `bare`). One report is under way at a time: the next is sent when the last was answered
and a pause is over. The figure of a round is the median over its reports; with many subscribers,
of the time until the last of them had it.

What SQLite FULL may take longer than memory is one commit, measured here in the same rounds: an
append of one record to a journal of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

from ezgraph.backends.base import Backend, Journal, Record
from ezgraph.bench.bare import AsyncDealer
from ezgraph.bench.children import Child, ask_all
from ezgraph.bench.receipts import WARM_UP, report_value
from ezgraph.bench.rows import MS, Goal, Row, alone, at_most, at_most_of_bare, compared
from ezgraph.bench.workbench import Durability, Progress, backend_url, broker, folder
from ezgraph.errors import DeadlineError
from ezgraph.graph.process import ProcessControlClient
from ezgraph.protocol.commands import ReportSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from ezgraph.bench.scale import Scale

UNIT = "RIG/FILTER"
Report: TypeAlias = "Callable[[int], Awaitable[object]]"
"""Sends the report of that number and returns when it was answered."""

_DURABILITIES: tuple[Durability, ...] = ("memory", "SQLite FULL")
_PAUSE_S = 0.002
_PAUSE_PER_SUBSCRIBER_S = 0.0003
_WARM_UPS = 500
_COMMITS = 20
_NS = 1e-9


def fan_out(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section c."""
    few = _Layout("1 subscriber", 1, 1, scale.reports, 1.4)
    many = _Layout(
        f"the last of {scale.subscribers} subscribers",
        scale.subscribers,
        scale.subscriber_processes,
        scale.reports_to_many,
        1.3,
    )
    for layout in (few, many):
        with folder() as where:
            commits: list[float] = []
            times = _measure(layout, scale.rounds, progress, where, commits)
        yield from _rows(layout, times, commits)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Who receives, and how many times the bare relay's time a broker may take."""

    name: str
    subscribers: int
    processes: int
    reports: int
    share: float


def _rows(
    layout: _Layout, times: dict[str, list[float]], commits: list[float]
) -> Iterator[Row]:
    share, bare, extra = layout.share, median(times["relay"]), median(commits)
    yield alone("c", f"one commit, SQLite FULL ({layout.name})", "ms", commits)
    why = f" ({share:.2f} x bare + one commit)"
    goals: dict[str, Goal] = {
        "memory": at_most_of_bare(share),
        "SQLite FULL": at_most(share * bare + extra, "ms", why=why),
    }
    for each in _DURABILITIES:
        name = f"report to {layout.name}, {each}"
        yield compared("c", name, "ms", times[each], times["relay"], goal=goals[each])


def _measure(
    layout: _Layout, rounds: int, progress: Progress, where: Path, commits: list[float]
) -> dict[str, list[float]]:
    """Return each round's time in ms, for the relay and each kind of journal."""
    with ExitStack() as stack:
        targets = _targets(stack, where, layout.subscribers, layout.processes)
        journal = stack.enter_context(
            Backend.from_url(backend_url("SQLite FULL", where)).connect().open_journal()
        )
        return asyncio.run(
            _rounds(
                targets,
                rounds,
                layout.reports,
                pause_s=pause_for(layout.subscribers),
                before_each=lambda name: progress(f"c: report to {layout.name}, {name}"),
                after_relay=lambda: commits.append(commit_time(journal)),
            )
        )


def _targets(
    stack: ExitStack, where: Path, subscribers: int, processes: int
) -> dict[str, tuple[Any, list[Child]]]:
    """Start relay, brokers and their subscribers."""
    relay = stack.enter_context(Child("ezgraph.bench.bare", "relay"))
    brokers = {
        each: stack.enter_context(broker(backend_url(each, where))) for each in _DURABILITIES
    }
    listens: dict[str, tuple[str, str]] = {"relay": ("relay", str(relay.said["events_port"]))}
    for each, server in brokers.items():
        listens[each] = ("ezgraph", str(server.address))
    share = str(subscribers // processes)
    children = {
        name: [
            stack.enter_context(Child("ezgraph.bench.receipts", *listen, share))
            for _ in range(processes)
        ]
        for name, listen in listens.items()
    }
    return {
        "relay": (int(relay.said["port"]), children["relay"]),
        **{each: (server.address, children[each]) for each, server in brokers.items()},
    }


async def _rounds(
    targets: dict[str, tuple[Any, list[Child]]],
    rounds: int,
    reports: int,
    *,
    pause_s: float,
    before_each: Callable[[str], None],
    after_relay: Callable[[], None],
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in targets}
    for _round, (name, (where, children)) in itertools.product(range(rounds), targets.items()):
        before_each(name)
        if name == "relay":
            times[name].append(await relay_time(where, children, reports, pause_s=pause_s))
            after_relay()
        else:
            times[name].append(await broker_time(where, children, reports, pause_s=pause_s))
    return times


def pause_for(subscribers: int) -> float:
    """Return how long to wait between reports, in s: long enough for all to have the last."""
    return _PAUSE_S + _PAUSE_PER_SUBSCRIBER_S * subscribers


async def relay_time(
    port: int, children: list[Child], reports: int, *, pause_s: float
) -> float:
    """Return the time in ms from a report to its (last) receipt through the relay."""
    dealer = AsyncDealer(port)
    try:
        return await receipt_time(
            lambda number: dealer.call(ReportSettings(UNIT, report_value(number))),
            children,
            reports,
            pause_s=pause_s,
        )
    finally:
        dealer.close()


async def broker_time(
    address: Any, children: list[Child], reports: int, *, pause_s: float  # noqa: ANN401
) -> float:
    """Return the time in ms from a report to its (last) receipt through a broker."""
    async with ProcessControlClient(address) as client:
        await client.register([UNIT])
        return await receipt_time(
            lambda number: client.report_settings_update(UNIT, report_value(number)),
            children,
            reports,
            pause_s=pause_s,
        )


async def receipt_time(
    report: Report, children: list[Child], reports: int, *, pause_s: float
) -> float:
    """Return the median, in ms, of the time to the last receipt of each report.

    Raises:
        DeadlineError: some subscriber heard nothing.
    """
    await _warm_up(report, children, pause_s=pause_s)
    for number in range(reports):
        await report(number)
        await asyncio.sleep(pause_s)
    answers = await asyncio.to_thread(lambda: ask_all(children, expect=reports))
    by_subscriber: list[list[int]] = [each for said in answers for each in said["latencies_ns"]]
    last_ns: list[int] = [max(each) for each in zip(*by_subscriber, strict=True)]
    return median(last_ns) * _NS * MS


async def _warm_up(report: Report, children: list[Child], *, pause_s: float) -> None:
    """Report until every subscriber hears."""
    for _ in range(_WARM_UPS):
        for _ in range(10):
            await report(WARM_UP)
            await asyncio.sleep(pause_s)
        if all(said["all_hear"] for said in ask_all(children)):
            return
    raise DeadlineError(f"some of the subscribers in {children!r} hear nothing")


def commit_time(journal: Journal) -> float:
    """Return the median time of an append of one record, in ms."""
    times = []
    for _ in range(_COMMITS):
        record = Record(journal.head + 1, b"settings/RIG%2FFILTER/", b"\0" * 200)
        begin = time.perf_counter()
        journal.append([record])
        times.append((time.perf_counter() - begin) * MS)
    return median(times)
