"""A program that records settings until ``SYS/END`` is removed: ``recorder.py ADDRESS FOLDER``.

It says what it has written, a line of JSON for each event.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ezgraph.settings import (
    CSVSink,
    JSONLinesSink,
    PipelineSettingsEventType,
    PipelineSettingsProducer,
    PipelineSettingsProducerSettings,
)

HAS_NWB = find_spec("pynwb") is not None
START = datetime(2026, 1, 1, tzinfo=UTC)


def new_file() -> Any:
    return import_module("pynwb").NWBFile("settings", "recorded", START)


async def record(address: str, folder: Path) -> None:
    settings = PipelineSettingsProducerSettings(graph_address=address)
    source = PipelineSettingsProducer(settings)
    with ExitStack() as stack:
        sinks: list[Any] = [
            stack.enter_context(JSONLinesSink(folder / "rows.jsonl")),
            stack.enter_context(CSVSink(folder / "rows.csv")),
        ]
        if HAS_NWB:
            from ezgraph.contrib.nwb import NWBSettingsSink

            sinks.append(stack.enter_context(NWBSettingsSink(folder / "rows.nwb", new_file)))
        async for event in source:
            for sink in sinks:
                sink.append(event)
            said = {"seq": event.seq, "component": event.component_address}
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
            is_removed = event.event_type is PipelineSettingsEventType.REMOVED
            if is_removed and event.component_address == "SYS/END":
                break
        await source.close()


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1], Path(sys.argv[2])))
