"""A viewer on another host: every setting as it is now, each change, and who made it.

    python viewer.py [ADDRESS]

ADDRESS is the context ``@lab`` if it is not given, as for ``rig.py``. What a program is called and
where it runs is what it says of itself; the key that is shown was proved. Ctrl-C ends it.
"""

import asyncio
import sys
from contextlib import suppress

from ezgraph import DeadlineError, Event, GraphContext, NotAdmittedError


async def show_settings(ctx: GraphContext) -> None:
    snapshot = await ctx.snapshot()
    say(f"{len(snapshot.settings)} components at seq {snapshot.seq}; Ctrl-C ends it")
    for component, value in sorted(snapshot.settings.items()):
        say(f"{component} {value.structured_value}")
    async for change in ctx.subscribe(("settings",), after_seq=snapshot.seq):
        if isinstance(change, Event):
            settings, source = change.body.value.structured_value, change.source
            say(
                f"seq {change.seq} {change.body.address} {settings} set with key "
                f"{source.key_name} by {source.program}[{source.pid}]: {source.reason or '-'}"
            )


async def look_after(ctx: GraphContext) -> None:
    """No news are good news only as long as the broker answers, and still admits this key."""
    while True:
        await asyncio.sleep(1.0)
        try:
            await ctx.sync(timeout=3.0)
        except NotAdmittedError:
            raise
        except DeadlineError as error:
            say(f"what is shown may be old: {error}")


async def view(address: str) -> None:
    async with GraphContext(address) as ctx, asyncio.TaskGroup() as tasks:
        tasks.create_task(show_settings(ctx))
        tasks.create_task(look_after(ctx))


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "@lab"
    with suppress(KeyboardInterrupt):
        try:
            asyncio.run(view(address))
        except* NotAdmittedError as errors:
            sys.exit(f"viewer: {errors.exceptions[0]}")


if __name__ == "__main__":
    main()
