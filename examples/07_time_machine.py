"""Which settings are behind this file? Two recordings, and the rig as it was for each of them.

    python examples/07_time_machine.py

A filter and a recorder run as processes of their own, on a broker that is a third. Two recordings
are made with different settings; each is linked to the snapshot that was in force. Later somebody
asks which settings produced which file, compares them, and brings the running rig back to the
first. At last every process is gone, and the same is asked of the stored file alone.

This program starts the processes (itself, with the broker's address and what it is to be).
"""

import asyncio
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Annotated, Self

import numpy as np

from ezgraph import (
    Artifact,
    GraphContext,
    GraphDiff,
    GraphServer,
    Partition,
    ProcessControlClient,
    RestoreReport,
    Snapshot,
    VetoedError,
)
from ezgraph.backends import Backend
from ezgraph.settings import Setting, Settings, SettingsHost

FILTER, RATE_HZ = "RIG/FILTER", 1000
RECORDING = Artifact("recording", type="samples", format="npy", storage="{session}.npy")


class FilterSettings(Settings):
    cutoff: Annotated[float, Setting(unit="Hz", bounds=(1.0, 500.0))] = 50.0
    order: Annotated[int, Setting(choices=(1, 2, 4))] = 1


# --- the processes of the rig ---


def keep_off_the_mains(wanted: FilterSettings, present: FilterSettings) -> None:
    if wanted.cutoff == 50.0 != present.cutoff:
        raise VetoedError("50 Hz is where the mains hum")


async def run_filter(address: str) -> None:
    """Own the settings of the filter, until standard input ends."""

    def show(now: FilterSettings, _: FilterSettings) -> None:
        print(f"filter: {now}", flush=True)

    async with ProcessControlClient(address, program="filter.py") as client:
        host = SettingsHost(
            client, FILTER, FilterSettings(), validators=[keep_off_the_mains], callbacks=[show]
        )
        await host.start()
        print("filter: ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def run_recorder(address: str, folder: str) -> None:
    """Make a recording for each name on standard input."""
    async with GraphContext(address, program="recorder.py") as ctx:
        await ctx.connect("RIG/FILTER/OUT", "RIG/RECORDER/IN")
        print("recorder: ready", flush=True)
        while name := (await asyncio.to_thread(sys.stdin.readline)).strip():
            path = Path(folder) / f"{name}.npy"
            async with ctx.record(RECORDING, name="rig") as recording:
                np.save(path, filtered(await effective_settings(ctx)))
                await recording.add(Partition({"session": name}, location=str(path)))
            print(f"recorder: {path.name}", flush=True)


async def effective_settings(ctx: GraphContext) -> dict[str, float]:
    value = (await ctx.snapshot()).settings[FILTER].structured_value
    return value or {}


def filtered(settings: dict[str, float]) -> np.ndarray:
    """Return a second of noise, smoothed as the filter's settings say."""
    samples = np.random.default_rng(7).normal(size=RATE_HZ)
    width = max(1, round(RATE_HZ / (2 * settings["cutoff"])))
    for _ in range(int(settings["order"])):
        samples = np.convolve(samples, np.full(width, 1 / width), mode="same")
    return samples


class Program:
    """A process of the rig, and what it says."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *words: str) -> Self:
        program = cls(
            await asyncio.create_subprocess_exec(
                sys.executable, __file__, *words, stdin=PIPE, stdout=PIPE
            )
        )
        await program.hear("ready")
        return program

    async def hear(self, expected: str) -> None:
        """Show the next line it says; it is to have this in it."""
        async with asyncio.timeout(10):
            line = (await self.process.stdout.readline()).decode().rstrip()
        print(f"  {line}")
        if expected not in line:
            raise SystemExit(f"expected {expected!r}")

    async def tell(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def end(self) -> None:
        self.process.stdin.close()
        check(await self.process.wait(), 0)


# --- while it runs ---


async def record_two(ctx: GraphContext, rig: Program, recorder: Program) -> None:
    print("the rig as it was found, then two recordings with other settings:")
    await ctx.freeze("rig", tag="as-found")
    for session, changes in (
        ("monday", {"cutoff": 40.0, "order": 2}),
        ("tuesday", {"cutoff": 20.0}),
    ):
        await ctx.update_setting(FILTER, changes, reason=f"settings of {session}")
        await rig.hear("FilterSettings")
        await ctx.freeze("rig", tag=session, reason="before recording")
        await recorder.tell(session)
        await recorder.hear(f"{session}.npy")


async def go_back(ctx: GraphContext, rig: Program) -> None:
    print("what a restore would change, and who refuses:")
    show_report(await ctx.restore("as-found", name="rig"))
    show_report(await ctx.restore("monday", name="rig"))

    print("the restore of monday is done:")
    await ctx.restore("monday", name="rig", dry_run=False, reason="repeat monday")
    await rig.hear("cutoff=40.0, order=2")
    left = await ctx.diff("monday", "live")
    print(f"  the rig is as on monday: {not left}")
    check(left.old, left.new)


def show_difference(diff: GraphDiff) -> None:
    for changed in diff.settings.changed:
        for field in changed.fields:
            name = ".".join(field.path)
            print(f"  {changed.name} {name}: {field.old} -> {field.new} {field.new_unit or ''}")


def show_report(report: RestoreReport) -> None:
    for address, changes, _ in report.settings:
        print(f"  {report.tag}: {address} would be {changes}")
    for address, _, why in report.vetoed:
        print(f"  {report.tag}: {address} refuses: {why}")


async def run(folder: Path, backend: str) -> None:
    with GraphServer(backend=backend, run_in="process") as server:
        address = str(server.address)
        rig = await Program.start("filter", address)
        recorder = await Program.start("recorder", address, str(folder))
        async with GraphContext(address, program="operator.py") as ctx:
            await record_two(ctx, rig, recorder)
            print("which settings are behind which file, and what differs:")
            await asyncio.to_thread(which_settings, f"ezgraph://{address}")
            await go_back(ctx, rig)
        await recorder.end()
        await rig.end()


# --- looking back: while it runs, and when everything is gone ---


def which_settings(backend: str) -> None:
    """Say which settings are behind each file, and what they differ in."""
    with Backend.from_url(backend).connect() as conn:
        tags = {each.snapshot.fingerprint: each.tag for each in conn.list_tags("rig")}
        for info in conn.list_recordings("rig"):
            recording = conn.read_recording(info.name, info.artifact_key, info.number)
            for each in recording.partitions:
                for fingerprint in each.snapshots:
                    settings = settings_of(conn.read_snapshot("rig", fingerprint))
                    file = Path(each.partition.location).name
                    print(f"  {file} was made with {settings}, as in {tags[fingerprint]}")
        monday, tuesday = (conn.read_snapshot_tag("rig", tag) for tag in ("monday", "tuesday"))
        show_difference(conn.diff(monday, tuesday))


def settings_of(snapshot: Snapshot) -> dict[str, object] | None:
    return snapshot.graph.settings[FILTER].structured_value


def check(found: object, expected: object) -> None:
    if found != expected:
        raise SystemExit(f"expected {expected!r}, and it is {found!r}")


def main() -> None:
    match sys.argv[1:]:
        case ["filter", address]:
            asyncio.run(run_filter(address))
        case ["recorder", address, folder]:
            asyncio.run(run_recorder(address, folder))
        case _:
            with tempfile.TemporaryDirectory() as folder:
                backend = f"sqlite:///{Path(folder) / 'rig.db'}"
                asyncio.run(run(Path(folder), backend))
                print("every process of the rig is gone, and the file answers:")
                which_settings(backend)


if __name__ == "__main__":
    main()
