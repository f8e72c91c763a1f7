"""The shipped kit as a user meets it: contexts on a simulated network, a broker in a thread."""

from __future__ import annotations

from uuid import UUID

import pytest

from ezgraph import Event, sync
from ezgraph.client.blocking import run
from ezgraph.errors import BrokerUnreachableError, CyclicException
from ezgraph.graph.context import GraphContext
from ezgraph.graph.process import ProcessControlClient
from ezgraph.testing import (
    ManualClock,
    Network,
    SequentialIds,
    SimulatedBroker,
    running_broker,
    simulated_sessions,
)
from ezgraph.testing.broker import ADDRESS


def context_on(network: Network) -> GraphContext:
    return GraphContext(str(ADDRESS), session_factory=simulated_sessions(network))


def test_a_context_lives_on_a_simulated_network_unchanged() -> None:
    async def story() -> None:
        network = Network(seed=1)
        SimulatedBroker(network)
        async with context_on(network) as context:
            events = context.subscribe(("edge",))
            seq = await context.connect("a", "b")
            item = await anext(aiter(events))
            while not isinstance(item, Event):
                item = await anext(aiter(events))
            assert (item.seq, item.key) == (seq, ("edge", "a", "b"))
            assert (await context.snapshot()).graph == {"a": ["b"], "b": []}
            with pytest.raises(CyclicException):
                await context.connect("b", "a")
            await events.aclose()

    run(story())


def test_a_process_reports_settings_to_a_context_in_simulated_time() -> None:
    async def story() -> None:
        network = Network(seed=2)
        SimulatedBroker(network)
        factory = simulated_sessions(network)
        process = ProcessControlClient(str(ADDRESS), session_factory=factory)
        async with context_on(network) as context, process:
            await process.register(["SYS/A"])
            await process.report_settings_update("SYS/A", {"gain": 2})
            values = await context.settings_snapshot()
            assert values["SYS/A"].structured_value == {"gain": 2}
            assert process.client_id == UUID(int=1)

    run(story())


def test_ten_seconds_of_waiting_for_a_broker_pass_at_once() -> None:
    network = Network()

    with pytest.raises(BrokerUnreachableError, match="broker:1"):
        run(context_on(network).open())

    assert network.now == pytest.approx(10.0, abs=0.1)


def test_clock_and_ids_do_as_they_are_told() -> None:
    clock, ids = ManualClock(), SequentialIds()

    clock.advance(1.5)
    clock.step_wall(-3600.0)

    assert clock.monotonic() == 1.5
    assert clock.wall() == 1_700_000_000.0 + 1.5 - 3600.0
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1.0)
    assert [ids.session_id(), ids.session_id()] == ["s1", "s2"]
    assert [ids.process_id(), ids.process_id()] == [UUID(int=1), UUID(int=2)]


@pytest.mark.integration
def test_a_running_broker_is_there_for_the_length_of_a_with() -> None:
    with running_broker() as server, sync.GraphContext(str(server.address)) as context:
        assert context.connect("a", "b") > 0

    assert not server.running
