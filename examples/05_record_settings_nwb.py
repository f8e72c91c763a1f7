"""A recorder keeps every setting of a rig, at every moment, in an NWB file beside the samples.

    pip install 'ezgraph[nwb]'
    python examples/05_record_settings_nwb.py

The rig keeps a typed settings object and takes changes of it from elsewhere. The recorder follows
all settings; its file has a row for each change, and a table of intervals with a column for each
setting. Read back, the file says what every setting was when any sample was taken.
"""

import asyncio
import datetime as dt
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from ezgraph import (
    GraphContext,
    GraphServer,
    PipelineSettingsEventType,
    ProcessControlClient,
)
from ezgraph.errors import OutOfBoundsError, VetoedError
from ezgraph.settings import (
    INIT_FINAL_COMPONENT_ADDRESS,
    PipelineSettingsProducer,
    PipelineSettingsProducerSettings,
    Setting,
    Settings,
    SettingsHost,
)

UNIT = "RIG/FILTER"


class FilterSettings(Settings):
    cutoff: Annotated[float, Setting(unit="Hz", bounds=(1.0, 500.0))] = 40.0
    order: Annotated[int, Setting(choices=(1, 2, 4))] = 2


def keep_off_the_mains(wanted: FilterSettings, present: FilterSettings) -> None:
    """Refuse what the schema cannot know of; what it can never comes here."""
    if wanted.cutoff == 50.0 != present.cutoff:
        raise VetoedError("50 Hz is where the mains hum")


def show_change(now: FilterSettings, before: FilterSettings) -> None:
    print(f"  filter: {before} -> {now}")


async def run_rig(address: str, stop: asyncio.Event, ready: asyncio.Event) -> None:
    async with ProcessControlClient(address, program="rig") as rig:
        host = SettingsHost(
            rig,
            UNIT,
            FilterSettings(),
            validators=[keep_off_the_mains],
            callbacks=[show_change],
        )
        await host.start()
        ready.set()
        await stop.wait()


async def record(address: str, path: Path, started: asyncio.Event) -> None:
    """Write settings to ``path`` until the rig is gone."""
    from pynwb import NWBFile

    from ezgraph.contrib.nwb import NWBSettingsSink

    zero_s, began = time.monotonic(), dt.datetime.now(dt.UTC)  # one moment, on two clocks

    def new_file() -> NWBFile:
        return NWBFile("a filter and its settings", "rig-1", began)

    producer = PipelineSettingsProducer(PipelineSettingsProducerSettings(graph_address=address))
    with NWBSettingsSink(path, new_file, zero_s=zero_s) as sink:
        async for event in producer:
            if event.event_type is PipelineSettingsEventType.REMOVED:
                break  # the rig has left: the last interval ends here
            sink.append(event)
            if event.component_address == INIT_FINAL_COMPONENT_ADDRESS:
                started.set()
    await producer.close()


async def change_settings(address: str) -> None:
    """Turn the knobs, as somebody at another host would."""
    async with GraphContext(address, program="anna") as ctx:
        for changes in ({"cutoff": 30.0}, {"cutoff": 20.0, "order": 4}):
            await asyncio.sleep(0.2)
            await ctx.update_setting(UNIT, changes, reason="line noise")
        for cutoff in (50.0, 9_000.0):
            try:
                await ctx.update_setting(UNIT, "cutoff", cutoff)
            except (VetoedError, OutOfBoundsError) as error:
                print(f"  refused: {error}")
        await asyncio.sleep(0.2)


async def run(path: Path) -> None:
    stop, ready, started = asyncio.Event(), asyncio.Event(), asyncio.Event()
    with GraphServer() as server:
        address = str(server.address)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_rig(address, stop, ready))
            await ready.wait()
            tasks.create_task(record(address, path, started))
            await started.wait()
            await change_settings(address)
            stop.set()


def show(path: Path) -> None:
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(str(path), "r") as file:
        recorded = file.read()
        table = recorded.intervals["settings"].to_dataframe()
        rows = recorded.acquisition["settings_annotations"].data[:]
        print(f"{path.name}: {len(rows)} events, {len(table)} intervals")
        for row in table.to_dict("records"):
            lasted = row["stop_time"] - row["start_time"]
            settings = {name: row[name] for name in row if name.startswith("RIG.")}
            print(f"  {row['event_type']:7} for {lasted:.1f} s: {settings}")


def main() -> None:
    if find_spec("pynwb") is None:
        sys.exit("this example needs pynwb: pip install 'ezgraph[nwb]'")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.nwb"
        asyncio.run(run(path))
        show(path)


if __name__ == "__main__":
    main()
