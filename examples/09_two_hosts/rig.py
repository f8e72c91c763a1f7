"""An acquisition program: it registers a unit, and reports a setting now and then.

    python rig.py [ADDRESS]

ADDRESS is the context ``@lab`` if it is not given: where the broker is, the key this program shows
it, and the key it is known by, all from ``ezgraph context add``. Ctrl-C ends it.
"""

import asyncio
import sys
from contextlib import suppress
from itertools import cycle

from ezgraph import (
    DynamicSettingsMetadata,
    GraphContext,
    GraphMetadata,
    ProcessControlClient,
    UnitMetadata,
)

AMPLIFIER = UnitMetadata(
    address="RIG_A/AMPLIFIER",
    name="AMPLIFIER",
    component_type="lab.Amplifier",
    settings_type="lab.AmplifierSettings",
    initial_settings=(None, {"gain": 1000.0, "rate_hz": 30000.0}),
    dynamic_settings=DynamicSettingsMetadata(enabled=False),
)


async def acquire(address: str) -> None:
    async with GraphContext(address) as ctx, ProcessControlClient(address) as process:
        await ctx.register_metadata(GraphMetadata(components={AMPLIFIER.address: AMPLIFIER}))
        await ctx.connect("RIG_A/AMPLIFIER/SIGNAL", "RIG_A/RECORDER/INPUT")
        await process.register([AMPLIFIER.address])
        print(f"{AMPLIFIER.address} runs here; Ctrl-C ends it", flush=True)
        for gain in cycle((500.0, 1000.0, 2000.0)):
            settings = {"gain": gain, "rate_hz": 30000.0}
            await process.report_settings_update(
                AMPLIFIER.address, settings, reason="range changed"
            )
            await asyncio.sleep(1.0)


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "@lab"
    with suppress(KeyboardInterrupt):
        asyncio.run(acquire(address))


if __name__ == "__main__":
    main()
