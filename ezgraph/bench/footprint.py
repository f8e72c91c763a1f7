"""Section g: what a broker weighs, how soon it answers, and what ``import ezgraph`` costs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ezgraph import sync
from ezgraph.bench.receipts import report_value
from ezgraph.bench.rows import MIB, MS, Row, alone, at_most
from ezgraph.bench.workbench import backend_url, broker, folder
from ezgraph.errors import EzGraphError
from ezgraph.graph.process import ProcessControlClient
from ezgraph.graph.server import GraphServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.bench.scale import Scale
    from ezgraph.bench.workbench import Progress
    from ezgraph.config import Address

_UNITS = 16
_IN_FLIGHT = 256
_KIB = 1024
_IMPORT = """
import time
begin = time.perf_counter()
{statement}
took = time.perf_counter() - begin
import json, sys
print(json.dumps([took, "numpy" in sys.modules]))
"""
_STATEMENTS = ("import ezgraph", "from ezgraph import GraphContext")


def weigh(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section g."""
    yield from _memory(scale, progress)
    yield _start_up(scale, progress)
    for statement in _STATEMENTS:
        yield _import(statement, scale, progress)


def _memory(scale: Scale, progress: Progress) -> list[Row]:
    idle, grown, notes = [], [], []
    for number in range(scale.rounds):
        progress("g: memory of an idle broker")
        with folder() as where, broker(backend_url("SQLite FULL", where)) as server:
            with sync.GraphContext(server.address) as context:
                context.sync()
            pid = server.pid or 0
            idle.append(resident_bytes(pid) / MIB)
            notes.append(unshared(pid))
            if number == 0:
                progress(f"g: memory after {scale.events_in_memory:,} events")
                asyncio.run(_report(server.address, scale.events_in_memory))
                grown.append(resident_bytes(pid) / MIB - idle[-1])
    return [
        alone("g", "idle broker, resident", "MiB", idle, goal=at_most(45, "MiB"), note=notes[0]),
        alone(
            "g",
            f"more after {scale.events_in_memory:,} events, SQLite FULL",
            "MiB",
            grown,
            goal=at_most(40, "MiB"),
            note="one run: memory is no matter of luck, and this one takes long",
        ),
    ]


async def _report(address: Address, count: int) -> None:
    """Have the broker journal ``count`` events."""
    numbers = iter(range(count))
    async with ProcessControlClient(address) as client:
        units = [f"RIG/UNIT_{number:02d}" for number in range(_UNITS)]
        await client.register(units)

        async def report(mine: Iterator[int]) -> None:
            for number in mine:
                await client.report_settings_update(units[number % _UNITS], report_value(number))

        async with asyncio.TaskGroup() as group:
            for _ in range(_IN_FLIGHT):
                group.create_task(report(numbers))


def _start_up(scale: Scale, progress: Progress) -> Row:
    times = []
    for number in range(scale.starts + 1):
        progress("g: start-up to the first reply")
        begin = time.perf_counter()
        with GraphServer(run_in="process") as server, sync.GraphContext(server.address):
            if number:  # the first one loads this process's own modules
                times.append((time.perf_counter() - begin) * MS)
    return alone(
        "g", "broker process to its first reply", "ms", times, goal=at_most(200, "ms")
    )


def _import(statement: str, scale: Scale, progress: Progress) -> Row:
    """Return the row of an import.

    Raises:
        EzGraphError: it loads NumPy.
    """
    progress(f"g: {statement}")
    times = []
    for number in range(scale.starts + 1):
        took, has_numpy = import_time(statement)
        if has_numpy:
            raise EzGraphError(f"{statement!r} loads NumPy, which no array asked for")
        if number:  # the first one may have had to compile, or to read from a cold disk
            times.append(took * MS)
    return alone(
        "g", statement, "ms", times, goal=at_most(120, "ms"), note="NumPy is not loaded by it"
    )


def import_time(statement: str) -> tuple[float, bool]:
    """Return the seconds that ``statement`` takes in a new interpreter, and if it loads NumPy."""
    code = _IMPORT.format(statement=statement)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    took, has_numpy = json.loads(said.stdout)
    return float(took), bool(has_numpy)


def resident_bytes(pid: int) -> int:
    """Return how much of a process is in memory, shared libraries included."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        return _kib(status.read_text(), "VmRSS") * _KIB
    said = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True, text=True
    )
    return int(said.stdout) * _KIB


def forget_peak() -> None:
    """Have the peak of this process begin with what it has in memory now, where one can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Return the most that this process has had in memory, shared libraries included."""
    status = Path("/proc/self/status")
    if status.exists():
        return _kib(status.read_text(), "VmHWM") * _KIB
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, on macOS


def unshared(pid: int) -> str:
    """Return what part of it is the process's own, where the system tells (Linux)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    if not rollup.exists():
        return ""
    text = rollup.read_text()
    own = (_kib(text, "Private_Clean") + _kib(text, "Private_Dirty")) * _KIB / MIB
    return f"its own (USS) {own:.1f} MiB, with its share (PSS) {_kib(text, 'Pss') / _KIB:.1f} MiB"


def _kib(text: str, name: str) -> int:
    line = next(each for each in text.splitlines() if each.startswith(f"{name}:"))
    return int(line.split()[1])
