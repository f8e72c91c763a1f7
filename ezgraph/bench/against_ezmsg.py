"""``--against ezmsg``: the figures of sections a to f from ezmsg's GraphServer.

ezmsg is optional and loaded here alone. The server runs in a process of its own, as ours does.
What differs, and what there is no counterpart of:

* ezmsg keeps nothing on disk: its figures stand beside the rows for memory only;
* its session sends one command at a time, however many wait, so 64 in flight are 64 callers of
  one session, as with ours;
* its blocking context drives an event loop in another thread;
* its history is a list of at most 10,000 events in memory, of which a subscriber that catches up
  gets at most the last 1,024. The rate is of those that arrived, over the time until the last of
  them, and the row says how many of the history that was;
* its DAG copies itself for every edge; only the smallest size is built;
* figures of section g are of the process and not of the server; they are left out.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

from ezgraph.bench.catchup import idle_wait
from ezgraph.bench.children import Child, answer, be, say
from ezgraph.bench.fanout import UNIT, pause_for, receipt_time
from ezgraph.bench.probe import Probe, probe, serve
from ezgraph.bench.receipts import Receipts, report_value
from ezgraph.bench.rows import MS, Row, percentile_99
from ezgraph.bench.shapes import SHAPES
from ezgraph.bench.snapshots import rig
from ezgraph.bench.workbench import rate_of, rate_of_tasks, wiring
from ezgraph.errors import MissingExtraError
from ezgraph.protocol.metadata import SettingsSchemaMetadata, UnitMetadata
from ezgraph.protocol.settings import SettingsSnapshotValue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from ezgraph.bench.scale import Scale
    from ezgraph.bench.workbench import Progress

_MODULE = "ezgraph.bench.against_ezmsg"
_SILENCE_S = 1.0
Address: TypeAlias = tuple[str, int]
Figures: TypeAlias = dict[str, float | str]
"""By the name of the row; text where there is no figure, or one that needs a word."""


def require() -> None:
    """Check that ezmsg is there, with sessions.

    Raises:
        MissingExtraError: it is not; says what to install.
    """
    if find_spec("ezmsg") is None or find_spec("ezmsg.core") is None:
        raise MissingExtraError(
            "comparing with ezmsg needs the package ezmsg, 3.9 or later: pip install 'ezmsg>=3.9'"
        )
    if find_spec("ezmsg.core.processclient") is None:
        raise MissingExtraError(
            "this release of ezmsg has no sessions; comparing needs one that has: "
            "pip install 'ezmsg>=3.9'"
        )


def add_figures(
    rows: Sequence[Row], section: str, scale: Scale, progress: Progress
) -> list[Row]:
    """Return the rows, those of ``section`` with what ezmsg did."""
    measure = _SECTIONS.get(section)
    if measure is None:
        return list(rows)
    progress(f"{section}: ezmsg")
    figures = measure(scale)
    return [
        replace(row, ezmsg=figures.get(row.name, "—")) if row.section == section else row
        for row in rows
    ]


@contextmanager
def _server() -> Iterator[Address]:
    with Child(_MODULE, "serve") as child:
        yield "127.0.0.1", int(child.said["port"])


def _core(name: str) -> Any:  # noqa: ANN401 - a package that need not be there has no types
    return import_module(f"ezmsg.core.{name}")


def _context(address: Address) -> Any:  # noqa: ANN401
    return _core("graphcontext").GraphContext(address)


# --- a and b: commands ---


def _one_in_flight(scale: Scale) -> Figures:
    with _server() as address:
        blocking = [_blocking_rate(address, scale.seconds) for _ in range(scale.rounds)]
        rates = [
            asyncio.run(_asyncio_rate(address, 1, scale.seconds)) for _ in range(scale.rounds)
        ]
    return {
        "one in flight, blocking, memory": median(blocking),
        "one in flight, asyncio, memory": median(rates),
    }


def _many_in_flight(scale: Scale) -> Figures:
    count = scale.in_flight
    with _server() as address:
        rates = [
            asyncio.run(_asyncio_rate(address, count, scale.seconds)) for _ in range(scale.rounds)
        ]
    return {f"{count} in flight, asyncio, memory": median(rates)}


def _blocking_rate(address: Address, seconds: float) -> float:
    edges = wiring("blocking")
    with _core("sync").SyncContext(address) as context:

        def step() -> None:
            start, end, is_new = next(edges)
            (context.connect if is_new else context.disconnect)(start, end)

        return rate_of(step, seconds=seconds)


async def _asyncio_rate(address: Address, in_flight: int, seconds: float) -> float:
    async with _context(address) as context:
        steps = [_step(context, f"asyncio{number}") for number in range(in_flight)]
        return await rate_of_tasks(steps, seconds=seconds)


def _step(context: Any, client: str) -> Callable[[], Awaitable[object]]:  # noqa: ANN401
    edges = wiring(client)

    def step() -> Awaitable[object]:
        start, end, is_new = next(edges)
        change: Awaitable[object] = (context.connect if is_new else context.disconnect)(start, end)
        return change

    return step


# --- c: fan-out ---


def _fan_out(scale: Scale) -> Figures:
    few = _receipt_times(scale, 1, 1, scale.reports)
    many = _receipt_times(
        scale, scale.subscribers, scale.subscriber_processes, scale.reports_to_many
    )
    return {
        "report to 1 subscriber, memory": median(few),
        f"report to the last of {scale.subscribers} subscribers, memory": median(many),
    }


def _receipt_times(scale: Scale, subscribers: int, processes: int, reports: int) -> list[float]:
    with ExitStack() as stack:
        address = stack.enter_context(_server())
        share = str(subscribers // processes)
        words = ("listen", _text(address), share)
        children = [stack.enter_context(Child(_MODULE, *words)) for _ in range(processes)]
        return [
            asyncio.run(_receipt_time(address, children, reports, pause_for(subscribers)))
            for _ in range(scale.rounds)
        ]


async def _receipt_time(
    address: Address, children: list[Child], reports: int, pause_s: float
) -> float:
    async with _process(address) as client:
        return await receipt_time(
            lambda number: client.report_settings_update(UNIT, _value(report_value(number))),
            children,
            reports,
            pause_s=pause_s,
        )


class _process:  # noqa: N801 - a context manager, used like a function
    """A process client that owns `UNIT`."""

    def __init__(self, address: Address) -> None:
        self._client = _core("processclient").ProcessControlClient(address)

    async def __aenter__(self) -> Any:  # noqa: ANN401
        await self._client.register([UNIT])
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


def _value(value: SettingsSnapshotValue) -> Any:  # noqa: ANN401
    return _core("graphmeta").SettingsSnapshotValue(
        None, value.repr_value, value.structured_value, None
    )


# --- d: catch-up ---


def _catch_up(scale: Scale) -> Figures:
    figures: Figures = {}
    for count in scale.history:
        figures |= _caught_up(count, scale)
    return figures


def _caught_up(count: int, scale: Scale) -> Figures:
    with _server() as address, probe(_text(address), _MODULE, "probe") as other:
        asyncio.run(_write_history(address, count))
        idle_wait(other)
        begin_ns = time.monotonic_ns()
        results = [asyncio.run(_catch_up_time(address)) for _ in range(scale.rounds)]
        waits = other.waits_since(begin_ns)
    arrived = median(found for found, _ in results)
    rate = median(found / took for found, took in results)
    return {
        f"catch-up of {count:,} events": f"{rate:,.0f}/s, {arrived:,.0f} arrived",
        f"a command during it, p99 ({count:,})": percentile_99(waits),
    }


async def _write_history(address: Address, count: int) -> None:
    async with _process(address) as client:
        for number in range(count):
            await client.report_settings_update(UNIT, _value(report_value(number)))


async def _catch_up_time(address: Address) -> tuple[int, float]:
    """Return how many events arrive before there is silence, and when the last one did."""
    begin = last = time.perf_counter()
    found = 0
    async with _context(address) as context:
        events = aiter(context.subscribe_settings_events(after_seq=0))
        while True:
            try:
                async with asyncio.timeout(_SILENCE_S):
                    await anext(events)
            except (TimeoutError, StopAsyncIteration):
                break
            found, last = found + 1, time.perf_counter()
    return found, last - begin


# --- e: the DAG ---


def _build_graphs(scale: Scale) -> Figures:
    count = scale.edges[0]
    figures: Figures = {
        f"{shape}, {each:,} edges": "not tried: too slow"
        for shape in SHAPES
        for each in scale.edges
    }
    for shape, edges_of in SHAPES.items():
        dag = _core("dag").DAG()
        begin = time.perf_counter()
        for start, end in edges_of(count):
            dag.add_edge(start, end)
        figures[f"{shape}, {count:,} edges"] = time.perf_counter() - begin
    return figures


# --- f: snapshots ---


def _take_snapshots(scale: Scale) -> Figures:
    figures: Figures = {}
    for schemas in (False, True):
        for count in scale.components:
            what = f"{count:,} components {'with' if schemas else 'without'} schemas"
            with _server() as address, probe(_text(address), _MODULE, "probe") as other:
                times, waits = asyncio.run(_snapshot_times(address, count, scale, other, schemas))
            figures[f"snapshot of {what}"] = median(times)
            figures[f"a command during it, p99 ({what})"] = percentile_99(waits)
    return figures


async def _snapshot_times(
    address: Address, count: int, scale: Scale, other: Probe, schemas: bool  # noqa: FBT001
) -> tuple[list[float], list[float]]:
    times = []
    async with _context(address) as owner, _context(address) as asker:
        await owner.register_metadata(_rig(count, schemas=schemas))
        await asyncio.to_thread(idle_wait, other)
        begin_ns = time.monotonic_ns()
        for _ in range(scale.rounds):
            gc.collect()
            begin = time.perf_counter()
            await asker.snapshot()
            times.append((time.perf_counter() - begin) * MS)
        return times, await asyncio.to_thread(other.waits_since, begin_ns)


def _rig(count: int, *, schemas: bool) -> Any:  # noqa: ANN401
    """Return the rig of section f in ezmsg's types."""
    units = rig(count, schemas=schemas).components
    return _core("graphmeta").GraphMetadata(
        1, "RIG", {at: _unit(unit) for at, unit in units.items() if isinstance(unit, UnitMetadata)}
    )


def _unit(unit: UnitMetadata) -> Any:  # noqa: ANN401
    meta = _core("graphmeta")
    streams = {
        "INPUT": meta.InputStreamMetadata("INPUT", f"{unit.address}/INPUT", "numpy.ndarray"),
        "OUTPUT": meta.OutputStreamMetadata("OUTPUT", f"{unit.address}/OUTPUT", "numpy.ndarray"),
    }
    dynamic = unit.dynamic_settings
    return meta.UnitMetadata(
        address=unit.address,
        name=unit.name,
        component_type=unit.component_type,
        settings_type=unit.settings_type,
        initial_settings=unit.initial_settings,
        dynamic_settings=meta.DynamicSettingsMetadata(
            dynamic.enabled, dynamic.input_topic, dynamic.settings_type
        ),
        settings_schema=_schema(unit.settings_schema),
        streams=streams,
        tasks=[],
        main=None,
        threads=[],
    )


def _schema(schema: SettingsSchemaMetadata | None) -> Any:  # noqa: ANN401
    meta = _core("graphmeta")
    if schema is None:
        return None
    fields = [
        meta.SettingsFieldMetadata(
            each.name,
            each.field_type,
            each.required,
            each.default,
            each.description,
            each.bounds,
            each.choices,
            each.widget_hint,
        )
        for each in schema.fields
    ]
    return meta.SettingsSchemaMetadata(schema.provider, schema.settings_type, fields)


_SECTIONS: dict[str, Callable[[Scale], Figures]] = {
    "a": _one_in_flight,
    "b": _many_in_flight,
    "c": _fan_out,
    "d": _catch_up,
    "e": _build_graphs,
    "f": _take_snapshots,
}


# --- inside the children ---


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def _parsed(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _serve() -> None:
    server = _core("graphserver").GraphServer()
    logging.getLogger("ezmsg").setLevel(logging.WARNING)  # it tells where it listens; so do we
    server.start(("127.0.0.1", 0))
    say(port=server.address.port)
    while sys.stdin.readline():
        pass
    server.stop()


async def _listen(address: Address, count: int) -> None:
    receipts = Receipts(count)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_receive(address, receipts, each)) for each in range(count)]
        say(subscribers=count)
        await answer(receipts.answer)
        for task in tasks:
            task.cancel()


async def _receive(address: Address, receipts: Receipts, subscriber: int) -> None:
    async with _context(address) as context:
        async for event in context.subscribe_settings_events(after_seq=0):
            values = event.value.structured_value
            receipts.take(subscriber, SettingsSnapshotValue(None, values, values))


async def _probe(address: Address) -> None:
    async with _context(address) as context:

        def toggle(is_new: bool) -> Awaitable[object]:  # noqa: FBT001 - the form of a Toggle
            change: Awaitable[object] = (context.connect if is_new else context.disconnect)(
                "probe/out", "probe/in"
            )
            return change

        await serve(toggle)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            _serve()
        case ["listen", where, count]:
            be(_listen(_parsed(where), int(count)))
        case ["probe", where]:
            be(_probe(_parsed(where)))
        case words:
            raise SystemExit(f"{words!r}: give serve, listen ADDRESS COUNT, or probe ADDRESS")
