"""Section f: a snapshot as typed objects at the client, and what another client waits meanwhile.

One session registers all components, each with five settings; "with schemas" each also has one of
four schemas of five fields. The clock runs over `GraphContext.snapshot` of an open session. The
probe changes the state all the time, so that no two snapshots are of the same seq.
"""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ezgraph.bench.catchup import idle_wait, wait_row
from ezgraph.bench.probe import Probe, probe
from ezgraph.bench.rows import MS, Row, alone, at_most
from ezgraph.bench.workbench import broker
from ezgraph.errors import EzGraphError
from ezgraph.graph.context import GraphContext
from ezgraph.protocol.metadata import (
    DynamicSettingsMetadata,
    GraphMetadata,
    InputStreamMetadata,
    OutputStreamMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
    UnitMetadata,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.bench.scale import Scale
    from ezgraph.bench.workbench import Progress
    from ezgraph.config import Address

_GOAL = at_most(250.0, "ms")
_SCHEMAS = 4
_SNAPSHOTS = 3
_REGISTER_S = 60.0


def take_snapshots(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section f."""
    for schemas in (False, True):
        for count in scale.components:
            yield from _measure(count, scale, progress, schemas=schemas)


def _measure(count: int, scale: Scale, progress: Progress, *, schemas: bool) -> list[Row]:
    what = f"{count:,} components {'with' if schemas else 'without'} schemas"
    progress(f"f: snapshot of {what}")
    judged = schemas and count == scale.components[1]
    with ExitStack() as stack:
        address = stack.enter_context(broker()).address
        other = stack.enter_context(probe(address))
        times, idle, waits = asyncio.run(_rounds(address, count, scale.rounds, other, schemas))
    return [
        alone("f", f"snapshot of {what}", "ms", times, goal=_GOAL if judged else None),
        wait_row("f", f"a command during it, p99 ({what})", waits, idle, judged=judged),
    ]


async def _rounds(
    address: Address, count: int, rounds: int, other: Probe, schemas: bool  # noqa: FBT001
) -> tuple[list[float], list[float], list[list[float]]]:
    times, idle, waits = [], [], []
    async with GraphContext(address) as owner, GraphContext(address) as asker:
        await owner.register_metadata(rig(count, schemas=schemas), timeout=_REGISTER_S)
        for _ in range(rounds):
            idle.append(await asyncio.to_thread(idle_wait, other))
            begin_ns = time.monotonic_ns()
            times += [await snapshot_time(asker, count) for _ in range(_SNAPSHOTS)]
            waits.append(await asyncio.to_thread(other.waits_since, begin_ns))
    return times, idle, waits


async def snapshot_time(context: GraphContext, count: int) -> float:
    """Return the ms until the snapshot of ``count`` components is there.

    Raises:
        EzGraphError: something is missing in it.
    """
    gc.collect()
    begin = time.perf_counter()
    snapshot = await context.snapshot()
    took = time.perf_counter() - begin
    sessions = snapshot.sessions.values()
    found = sum(len(each.metadata.components) for each in sessions if each.metadata)
    if (found, len(snapshot.settings)) != (count, count):
        raise EzGraphError(f"{found} components and {len(snapshot.settings)} settings of {count}")
    return took * MS


def rig(count: int, *, schemas: bool) -> GraphMetadata:
    """Return the metadata of a rig with so many units."""
    units = [_unit(number, schemas=schemas) for number in range(count)]
    return GraphMetadata(root_name="RIG", components={each.address: each for each in units})


def _unit(number: int, *, schemas: bool) -> UnitMetadata:
    address = f"RIG/UNIT_{number:05d}"
    kind = f"rig.filters.Settings{number % _SCHEMAS}"
    return UnitMetadata(
        address=address,
        name=f"UNIT_{number:05d}",
        component_type="rig.filters.Filter",
        settings_type=kind,
        initial_settings=(None, _settings(number)),
        dynamic_settings=DynamicSettingsMetadata(
            enabled=True, input_topic=f"{address}/INPUT_SETTINGS", settings_type=kind
        ),
        settings_schema=_schema(kind) if schemas else None,
        streams={
            "INPUT": InputStreamMetadata("INPUT", f"{address}/INPUT", "numpy.ndarray"),
            "OUTPUT": OutputStreamMetadata("OUTPUT", f"{address}/OUTPUT", "numpy.ndarray"),
        },
    )


def _settings(number: int) -> dict[str, Any]:
    return {
        "cutoff": 40.0 + number % 100,
        "order": 4,
        "gain": 1.5,
        "notch": number % 2 == 0,
        "mode": "bandpass",
    }


def _schema(kind: str) -> SettingsSchemaMetadata:
    types = {"cutoff": "float", "order": "int", "gain": "float", "notch": "bool", "mode": "str"}
    return SettingsSchemaMetadata(
        provider="dataclass",
        settings_type=kind,
        fields=[
            SettingsFieldMetadata(
                name=name,
                field_type=field_type,
                required=name == "cutoff",
                description=f"The {name} of the filter",
                bounds=(0.0, 1000.0) if field_type in ("float", "int") else None,
                choices=["bandpass", "lowpass"] if name == "mode" else None,
                unit="Hz" if name == "cutoff" else None,
            )
            for name, field_type in types.items()
        ],
    )
