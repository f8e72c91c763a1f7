"""Two flows on three processors, started and stopped at the same moment; nobody loses an entry.

    python examples/06_flows.py

A flow gives each of its processors a *variant*: a configuration key of its own, with the topics and
parameters it is to run with. Starting a flow puts all of its keys at once, stopping it takes just
these away. A processor watches its own keys, and is told of nothing else.

This program starts a broker and three processors (itself, with the broker's address and a name).
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

from ezgraph import FlowExistsError, GraphContext, GraphServer
from ezgraph.flows import FlowProcessor, start_flow, stop_flow

PROCESSORS = ("filter", "detector", "recorder")
PROBES = ("probe-a", "probe-b")


def flow(probe: str, cutoff_hz: float) -> dict[str, dict[str, Any]]:
    """Return what each processor is to run for a probe: {processor: {variant: value}}."""
    signal, clean, spikes = f"{probe}/signal", f"{probe}/clean", f"{probe}/spikes"
    return {
        "filter": {
            probe: {"topics": [signal, clean], "parameters": {"cutoff_hz": cutoff_hz}},
        },
        "detector": {probe: {"topics": [clean, spikes], "parameters": {"threshold_uv": 60}}},
        "recorder": {probe: {"topics": [spikes], "parameters": {"file": f"{probe}.nwb"}}},
    }


# --- a processor ---


async def processor(address: str, name: str) -> None:
    """Run what flows have for one processor, until standard input ends."""

    def on_start(variant: str, value: dict[str, Any]) -> None:
        print(f"{name} starts {variant}: {value['parameters']}", flush=True)

    def on_change(variant: str, value: dict[str, Any]) -> None:
        print(f"{name} goes on with {variant}: {value['parameters']}", flush=True)

    def on_stop(variant: str) -> None:
        print(f"{name} stops {variant}", flush=True)

    async with (
        GraphContext(address) as ctx,
        FlowProcessor(ctx, name, on_start, on_change, on_stop) as running,
    ):
        await running.ready()
        print(f"{name} is ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


# --- the rig ---


class Rig:
    """The three processors, and what they say."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.said: asyncio.Queue[str] = asyncio.Queue()

    async def start(self, address: str, group: asyncio.TaskGroup) -> None:
        for name in PROCESSORS:
            process = await asyncio.create_subprocess_exec(
                sys.executable, __file__, address, name, stdin=PIPE, stdout=PIPE
            )
            self.processes.append(process)
            group.create_task(self.listen(process))

    async def listen(self, process: Process) -> None:
        if process.stdout is not None:
            async for line in process.stdout:
                self.said.put_nowait(line.decode().rstrip())

    async def hear(self, expected: list[str]) -> None:
        """Show the next things they say, in alphabetical order; they are to be these."""
        async with asyncio.timeout(10):
            lines = sorted([await self.said.get() for _ in expected])
        for line in lines:
            print(f"  {line}")
        check(lines, sorted(expected))

    async def end(self) -> None:
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()
            check(await process.wait(), 0)


async def operate(address: str, rig: Rig) -> None:
    async with GraphContext(address) as ctx, GraphContext(address) as other:
        print("two operators start a flow each, at the same moment:")
        a, b = flow("probe-a", cutoff_hz=300.0), flow("probe-b", cutoff_hz=250.0)
        await asyncio.gather(
            start_flow(ctx, "probe-a", a, reason="morning session"),
            start_flow(other, "probe-b", b),
        )
        await rig.hear(
            [
                f"{name} starts {probe}: {variants[probe]['parameters']}"
                for probe, each in (("probe-a", a), ("probe-b", b))
                for name, variants in each.items()
            ]
        )

        try:
            await start_flow(other, "probe-a", flow("probe-a", cutoff_hz=100.0))
        except FlowExistsError as error:
            print(f"refused, and nothing has changed: {error}")

        print("a parameter of a running flow is changed; only its processor hears of it:")
        value = await ctx.config.get("active-flow", ("filter", "probe-a"))
        value["parameters"]["cutoff_hz"] = 500.0
        await ctx.config.put("active-flow", ("filter", "probe-a"), value)
        await rig.hear(["filter goes on with probe-a: {'cutoff_hz': 500.0}"])

        print("both are stopped at the same moment, with what was changed:")
        await asyncio.gather(stop_flow(ctx, "probe-a"), stop_flow(other, "probe-b"))
        await rig.hear([f"{name} stops {probe}" for name in PROCESSORS for probe in PROBES])
        left = await ctx.config.keys("active-flow") + await ctx.config.keys("flow")
        print(f"keys left behind: {left}")
        check(left, [])


def check(found: object, expected: object) -> None:
    if found != expected:
        raise SystemExit(f"expected {expected!r}, and it is {found!r}")


async def run(address: str) -> None:
    rig = Rig()
    async with asyncio.TaskGroup() as group:
        await rig.start(address, group)
        await rig.hear([f"{name} is ready" for name in PROCESSORS])
        await operate(address, rig)
        await rig.end()


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(processor(*sys.argv[1:]))
        return
    with GraphServer() as server:
        asyncio.run(run(str(server.address)))


if __name__ == "__main__":
    main()
