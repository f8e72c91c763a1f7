"""A watcher goes away, the broker is killed and comes back, and nothing is missed.

    python examples/02_watch_and_resume.py

Every change has a number. A watcher keeps the last one it has seen, in a file if need be, and asks
for what came after it. The broker's journal is a SQLite file, so a restart changes nothing.
"""

import asyncio
import tempfile
from pathlib import Path

from ezgraph import GraphContext, GraphServer, ProcessControlClient, SettingsChangedEvent

UNIT = "RIG/FILTER"


def show(event: SettingsChangedEvent) -> None:
    print(f"  watcher: seq {event.seq:2}  {event.component_address} {event.value.structured_value}")


async def watch(address: str, after_seq: int, count: int) -> int:
    """Show the next ``count`` settings events after a seq; return the last one's seq."""
    async with GraphContext(address) as ctx:
        events = ctx.subscribe_settings_events(after_seq)
        for _ in range(count):
            event = await anext(events)
            show(event)
            after_seq = event.seq
    return after_seq


async def run(folder: Path) -> None:
    server = GraphServer(backend=f"sqlite:///{folder / 'journal.db'}", run_in="process").start()
    address = str(server.address)
    try:
        async with ProcessControlClient(address) as rig:
            await rig.register([UNIT])
            for cutoff_hz in (40.0, 30.0):
                await rig.report_settings_update(UNIT, {"cutoff_hz": cutoff_hz})
            seen = await watch(address, after_seq=0, count=2)
            print(f"the watcher leaves; it remembers seq {seen}")

            await rig.report_settings_update(UNIT, {"cutoff_hz": 20.0})
            server.kill()
            print("the broker is killed with SIGKILL, and started on its journal")
            server = GraphServer(address, backend=server.config.backend, run_in="process").start()
            last = await rig.report_settings_update(UNIT, {"cutoff_hz": 10.0})
            print(f"meanwhile two more changes, the last one seq {last}")

            resumed = await watch(address, after_seq=seen, count=2)
            print(f"the watcher is at seq {resumed}: missed {last - resumed}")
    finally:
        server.stop()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


if __name__ == "__main__":
    main()
