"""Two programs meet on the bus: one registers what it runs, the other sees it come and go.

    python examples/01_two_processes.py

This program starts a broker and a second process (itself, with the broker's address).
"""

import asyncio
import sys

from ezgraph import (
    DynamicSettingsMetadata,
    Event,
    GraphContext,
    GraphMetadata,
    GraphServer,
    UnitMetadata,
)

AMPLIFIER = UnitMetadata(
    address="RIG/AMPLIFIER",
    name="AMPLIFIER",
    component_type="lab.Amplifier",
    settings_type="lab.AmplifierSettings",
    initial_settings=(None, {"gain": 1000.0, "rate_hz": 30000.0}),
    dynamic_settings=DynamicSettingsMetadata(enabled=False),
)


async def amplifier(address: str) -> None:
    """The other process: everything it does here is its own, and ends with it."""
    async with GraphContext(address) as ctx:
        await ctx.register_metadata(GraphMetadata(components={AMPLIFIER.address: AMPLIFIER}))
        await ctx.connect("RIG/AMPLIFIER/SIGNAL", "RIG/FILTER/INPUT")
        await asyncio.to_thread(sys.stdin.read)  # until the other one has seen enough


async def watch(address: str) -> None:
    async with GraphContext(address) as ctx:
        changes = ctx.subscribe()  # everything, from now on
        child = await asyncio.create_subprocess_exec(
            sys.executable, __file__, address, stdin=asyncio.subprocess.PIPE
        )
        print(f"this is session {ctx.session_id}; started process {child.pid}")

        async for change in changes:
            if not isinstance(change, Event) or change.source.pid != child.pid:
                continue
            print(f"seq {change.seq:2}  {change.kind:19} {' / '.join(change.key)}")
            if change.kind == "EdgeConnected":
                snapshot = await ctx.snapshot()
                settings = snapshot.settings["RIG/AMPLIFIER"].structured_value
                print(f"        the wiring now: {snapshot.graph}")
                print(f"        settings of RIG/AMPLIFIER: {settings}")
                if child.stdin is not None:
                    child.stdin.close()  # enough seen: it may go
            if change.kind == "SessionClosed":
                break
        print(f"the other process ended with {await child.wait()}, and left nothing behind:")
        print(f"        {(await ctx.snapshot()).graph}")


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(amplifier(sys.argv[1]))
        return
    with GraphServer() as server:
        asyncio.run(watch(str(server.address)))


if __name__ == "__main__":
    main()
