"""The four processes of the demo: ``python -m ezgraph.demo.roles filter --address HOST:PORT``.

A role is a program as a user would write it: a `GraphContext` registers its unit and holds its
edges, a `ProcessControlClient` says that this process runs the unit and reports its settings.

Standard input takes orders, a JSON object per line: ``{"set": {"cutoff_hz": 15.0}}``; its end is
the order to stop. Standard output says what the role does, a JSON object per line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ezgraph.client.watch import Compacted
from ezgraph.demo import ecg
from ezgraph.demo.record import RecordFile, is_recorded
from ezgraph.errors import AddressCollisionError, EzGraphError
from ezgraph.graph.context import GraphContext
from ezgraph.graph.process import ProcessControlClient
from ezgraph.protocol.events import Event
from ezgraph.protocol.metadata import (
    DynamicSettingsMetadata,
    GraphMetadata,
    InputStreamMetadata,
    OutputStreamMetadata,
    StreamMetadata,
    UnitMetadata,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")

TTL_S = 2.0
"""The lease of a role: so long after its death its edges and settings go."""

FREE_S = 3 * TTL_S
"""How long a new process waits for what the lease of its killed predecessor still holds."""


@dataclass(frozen=True)
class SourceSettings:
    """``speed`` is in recorded seconds per second."""

    speed: float = 1.0


@dataclass(frozen=True)
class FilterSettings:
    """A low-pass of ``order``; ``gain`` is a factor."""

    cutoff_hz: float = 40.0
    gain: float = 1.0
    order: int = 4


@dataclass(frozen=True)
class DetectorSettings:
    """``threshold`` in counts; a second beat within ``refractory_s`` is none."""

    threshold: float = 150.0
    refractory_s: float = 0.25


@dataclass(frozen=True)
class RecorderSettings:
    """The file that events go to, and the seq it held when this process began."""

    file: str = "record.jsonl"
    resumed_after_seq: int = 0


Settings = SourceSettings | FilterSettings | DetectorSettings | RecorderSettings


@dataclass(frozen=True)
class Role:
    """A unit, its first settings, its streams, and the edges that its session holds."""

    name: str
    settings: Settings
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> str:
        """The address of the unit."""
        return f"ECG/{self.name.upper()}"

    def metadata(self) -> GraphMetadata:
        """Return what the role registers."""
        settings_type = f"ezgraph.demo.roles.{type(self.settings).__qualname__}"
        streams: dict[str, StreamMetadata] = {
            name: InputStreamMetadata(name, f"{self.address}/{name}", "AxisArray")
            for name in self.inputs
        }
        for name in self.outputs:
            streams[name] = OutputStreamMetadata(name, f"{self.address}/{name}", "AxisArray")
        unit = UnitMetadata(
            address=self.address,
            name=self.name.upper(),
            component_type=f"ezgraph.demo.roles.run_{self.name}",
            settings_type=settings_type,
            initial_settings=(None, asdict(self.settings)),
            dynamic_settings=DynamicSettingsMetadata(
                enabled=True, input_topic=None, settings_type=settings_type
            ),
            streams=streams,
        )
        return GraphMetadata(root_name=self.name, components={self.address: unit})


SOURCE = Role("source", SourceSettings(), outputs=("SIGNAL",))
FILTER = Role(
    "filter",
    FilterSettings(),
    inputs=("INPUT",),
    outputs=("SIGNAL",),
    edges=(
        ("ECG/SOURCE/SIGNAL", "ECG/FILTER/INPUT"),
        ("ECG/FILTER/SIGNAL", "ECG/DETECTOR/INPUT"),
    ),
)
DETECTOR = Role("detector", DetectorSettings(), inputs=("INPUT",), outputs=("BEATS",))
RECORDER = Role(
    "recorder",
    RecorderSettings(),
    inputs=("INPUT",),
    edges=(("ECG/DETECTOR/BEATS", "ECG/RECORDER/INPUT"),),
)
ROLES = {role.name: role for role in (SOURCE, FILTER, DETECTOR, RECORDER)}


def say(**what: object) -> None:
    """Tell whoever started this process what it does."""
    print(json.dumps(what), flush=True)


async def orders() -> AsyncIterator[dict[str, Any]]:
    """Yield the settings to change, order by order, until the end of standard input."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        async for line in reader:
            yield json.loads(line)["set"]
    finally:
        pipe.close()


@dataclass
class Unit:
    """A role that is on the bus, and its present settings."""

    role: Role
    ctx: GraphContext
    process: ProcessControlClient
    settings: Any = field(init=False)

    def __post_init__(self) -> None:
        self.settings = self.role.settings

    def starting_with(self, settings: Settings) -> Unit:
        """Return the unit with other first settings, before it joins."""
        return Unit(replace(self.role, settings=settings), self.ctx, self.process)

    async def join(self) -> None:
        """Register the unit and its edges, as soon as a killed predecessor's leases are over."""
        await self._once_free(lambda: self.ctx.register_metadata(self.role.metadata()))
        await self._once_free(lambda: self.process.register([self.role.address]))
        for from_topic, to_topic in self.role.edges:
            await self.ctx.connect(from_topic, to_topic, reason="the rig's wiring")
        say(joined=self.role.address)

    async def _once_free(self, take: Callable[[], Awaitable[T]]) -> T:
        changes = self.ctx.subscribe()
        try:
            async with asyncio.timeout(FREE_S):
                while True:
                    try:
                        return await take()
                    except AddressCollisionError as error:
                        say(waits=str(error))
                        await _next_event(changes)
        finally:
            await changes.aclose()

    async def change(self, changes: dict[str, Any]) -> None:
        """Take settings into use and report them, as a user's unit would."""
        known = {each.name: getattr(self.settings, each.name) for each in fields(self.settings)}
        self.settings = replace(
            self.settings, **{name: type(known[name])(value) for name, value in changes.items()}
        )
        await self.process.report_settings_update(
            self.role.address, self.settings, reason="ordered by the demo"
        )


async def _next_event(changes: Any) -> None:  # noqa: ANN401 - either shell's subscription
    async for item in changes:
        if isinstance(item, Event):
            return


async def run_source(unit: Unit) -> None:
    """Replay the recording, looped, until told to stop."""
    recording = ecg.load()
    await unit.join()

    async def replay() -> None:
        loop_number = 0
        while True:
            loop_number += 1
            say(shows=f"loop {loop_number} of {recording.duration_s:.2f} s, {ecg.RATE_HZ:.0f} Hz")
            await asyncio.sleep(recording.duration_s / unit.settings.speed)

    async with asyncio.TaskGroup() as tasks:
        replaying = tasks.create_task(replay())
        async for changes in orders():
            await unit.change(changes)
        replaying.cancel()


def filtered(recording: ecg.Recording, settings: dict[str, Any] | None) -> ecg.Recording:
    """Return what the filter makes of the recording; without a filter, the recording."""
    return ecg.low_pass(recording, **settings) if settings else recording


async def run_filter(unit: Unit) -> None:
    """Filter with live settings; say how much of the mains hum is left."""
    recording = ecg.load()
    before = ecg.hum(recording)

    def show() -> None:
        left = ecg.hum(filtered(recording, asdict(unit.settings)))
        say(shows=f"60 Hz hum {before:.2f} → {left:.2f} counts", hum=left)

    show()
    await unit.join()
    async for changes in orders():
        await unit.change(changes)
        show()


async def run_detector(unit: Unit) -> None:
    """Find the beats in what the filter makes of the recording, by the filter's live settings."""
    recording = ecg.load()
    filter_settings: dict[str, Any] | None = None

    def show() -> None:
        signal = filtered(recording, filter_settings)
        beats = ecg.find_beats(signal, **asdict(unit.settings))
        rate = ecg.beats_per_minute(signal, beats)
        rate_shown = "no heart rate" if rate is None else f"{rate:.1f} beats/min"
        say(shows=f"{rate_shown}, {len(beats)} per loop", beats=len(beats), rate=rate)

    async def follow_filter() -> None:
        nonlocal filter_settings
        async for event in unit.ctx.subscribe_settings_events(after_seq=0):
            if event.component_address == FILTER.address:
                gone = event.event_type.value == "SETTINGS_REMOVED"
                filter_settings = None if gone else event.value.structured_value
                show()

    await unit.join()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow_filter())
        async for changes in orders():
            await unit.change(changes)
            show()
        following.cancel()


async def run_recorder(unit: Unit, path: Path) -> None:
    """Write every settings and topology event to the file, resuming where it ends.

    Told to stop, it lets go of its unit and its edge first, so that the record holds these
    events too: every one there is.
    """
    with RecordFile(path) as record:
        unit = unit.starting_with(RecorderSettings(path.name, record.last_seq))
        say(resumed_after=record.last_seq, cut_bytes=record.cut_bytes, seq=record.last_seq)
        events = unit.ctx.subscribe((), record.last_seq)
        seen = record.last_seq

        async def write_through(goal: float) -> None:
            nonlocal seen
            while seen < goal:
                item = await events.__anext__()
                if isinstance(item, Compacted):
                    raise EzGraphError(f"history up to seq {item.floor} is gone from the journal")
                if isinstance(item, Event):
                    seen = item.seq
                    if is_recorded(item):
                        record.write(item)
                        say(shows=f"{record.lines} events, last seq {seen}", seq=seen)

        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(write_through(math.inf))
            await unit.join()
            async for changes in orders():
                await unit.change(changes)
            await unit.ctx.revert()
            await unit.process.close()
            through = await unit.ctx.sync()
            writing.cancel()
        await write_through(through)


_RUNS = {"source": run_source, "filter": run_filter, "detector": run_detector}


async def run(role: Role, address: str, record: Path) -> None:
    """Be ``role`` until standard input ends."""
    async with (
        ProcessControlClient(address, ttl_s=TTL_S) as process,
        GraphContext(address, ttl_s=TTL_S) as ctx,
    ):
        unit = Unit(role, ctx, process)
        if role is RECORDER:
            await run_recorder(unit, record)
        else:
            await _RUNS[role.name](unit)


def main(arguments: list[str] | None = None) -> int:
    """Run one role; return the exit code."""
    parser = argparse.ArgumentParser(description="one process of ezgraph's demo")
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("--address", required=True, help="the broker's host:port")
    parser.add_argument("--record", type=Path, default=Path("record.jsonl"))
    given = parser.parse_args(arguments)
    sys.argv[0] = f"demo-{given.role}"  # the name the bus shows for this program
    code = 0
    try:
        asyncio.run(run(ROLES[given.role], given.address, given.record))
    except* EzGraphError as group:
        code = 1
        for error in group.exceptions:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
