"""The bus without asyncio: for scripts, notebooks, and threads of older programs.

    python examples/03_blocking_client.py

`ezgraph.sync` has the same classes with plain methods: `with` in place of `async with`, `for` in
place of `async for`.
"""

from dataclasses import dataclass

from ezgraph import CyclicException, GraphServer
from ezgraph.sync import GraphContext, ProcessControlClient


@dataclass
class StimulatorSettings:
    current_ua: float = 50.0
    pulse_us: int = 200


def main() -> None:
    with (
        GraphServer() as server,
        GraphContext(server.address, replica=True) as ctx,
        ProcessControlClient(server.address) as process,
    ):
        ctx.connect("RIG/DETECTOR/EVENTS", "RIG/STIMULATOR/TRIGGER")
        ctx.connect("RIG/STIMULATOR/PULSE", "RIG/RECORDER/INPUT")
        try:
            ctx.connect("RIG/STIMULATOR/TRIGGER", "RIG/DETECTOR/EVENTS")
        except CyclicException as error:
            print(f"refused, and nothing has changed: {error}")

        process.register(["RIG/STIMULATOR"])
        events = ctx.subscribe_settings_events(after_seq=ctx.sync())  # what comes from here on
        process.report_settings_update("RIG/STIMULATOR", StimulatorSettings())
        process.report_settings_update("RIG/STIMULATOR", StimulatorSettings(current_ua=80.0))
        for event in events:
            settings = event.value.structured_value or {}
            print(f"seq {event.seq}: {event.component_address} is now {settings}")
            if settings["current_ua"] == 80.0:
                break
        events.close()

        # The replica is a copy of the broker's state, kept up to date: no request to look at it.
        seq = ctx.sync()
        state = ctx.replica.reach(seq).state
        print(f"replica at seq {state.seq}: edges {sorted(state.dag.edge_owners)}")
        print(f"clients: {', '.join(client.kind for client in ctx.clients())}")


if __name__ == "__main__":
    main()
