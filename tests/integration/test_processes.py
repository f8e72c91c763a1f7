"""Process clients: units have one owner, reports are checked, and their end is announced."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pytest

import ezgraph
from ezgraph import (
    AddressCollisionError,
    GraphContext,
    InvalidCommandError,
    NoSessionError,
    NotOwnerError,
    ProcessControlClient,
    SettingsSnapshotValue,
    TopologyEventType,
    sync,
)
from ezgraph.protocol.events import ProcessClosed

if TYPE_CHECKING:
    from ezgraph import GraphServer, TopologyChangedEvent
    from ezgraph.graph.streams import EventStream

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
RUN_A_UNIT = """
import sys
from ezgraph import sync
with sync.ProcessControlClient(sys.argv[1], ttl_s=0.5) as process:
    process.register(["SYS/A"])
    process.report_settings_update("SYS/A", {"gain": 5})
    print(process.client_id, flush=True)
    sys.stdin.readline()
"""


@dataclass
class Notch:
    hz: float = 50.0
    order: int = 2


@dataclass
class FilterSettings:
    cutoff: float = 30.0
    notches: list[Notch] = field(default_factory=lambda: [Notch(), Notch(100.0)])
    window: tuple[int, int] = (1, 2)


class PydanticLike:
    """What a pydantic model looks like from outside."""

    def model_dump(self) -> dict[str, object]:
        return {"cutoff": 1.5, "notch": {"hz": 50.0}}


class Anything:
    def __repr__(self) -> str:
        return "Anything(3)"


def test_a_process_has_an_id_and_is_in_the_snapshot_with_its_units(server: GraphServer) -> None:
    with (
        sync.GraphContext(server.address) as ctx,
        sync.ProcessControlClient(server.address) as process,
    ):
        process.register(["SYS/B", "SYS/A"])
        process.update_ownership(added=["SYS/C"], removed=["SYS/B"])

        (entry,) = ctx.snapshot().processes.values()

        assert isinstance(process.client_id, UUID)
        assert (entry.process_id, entry.units) == (process.client_id, ["SYS/A", "SYS/C"])
        assert (entry.pid, entry.host) == (os.getpid(), socket.gethostname())
        assert f"{process.client_id} bound" in repr(process)


def test_taking_what_one_has_changes_nothing(server: GraphServer) -> None:
    with sync.ProcessControlClient(server.address) as process:
        seq = process.register(["SYS/A"])

        assert process.register(["SYS/A"]) == seq
        assert process.update_ownership() == seq


def test_a_unit_of_another_process_is_refused_naming_it_and_its_holder(server: GraphServer) -> None:
    with (
        sync.ProcessControlClient(server.address) as holder,
        sync.ProcessControlClient(server.address) as other,
    ):
        before = holder.register(["SYS/A"])

        with pytest.raises(AddressCollisionError) as refused:
            other.register(["SYS/B", "SYS/A"])

        message = str(refused.value)
        assert f"'SYS/A' held by process {holder.client_id} (" in message
        assert f"on {socket.gethostname()}, pid {os.getpid()})" in message
        assert other.update_ownership() == before


def test_reports_for_units_one_does_not_own_are_refused_by_name(server: GraphServer) -> None:
    with (
        sync.ProcessControlClient(server.address) as holder,
        sync.ProcessControlClient(server.address) as other,
    ):
        before = holder.register(["SYS/A"])

        with pytest.raises(NotOwnerError, match=f"'SYS/A', held by process {holder.client_id}"):
            other.report_settings_update("SYS/A", {"gain": 1})
        with pytest.raises(NotOwnerError, match="'SYS/B', which no process has registered"):
            other.report_settings_update("SYS/B", {"gain": 1})
        with pytest.raises(
            NotOwnerError, match=f"lets go of 'SYS/A', held by .*{holder.client_id}"
        ):
            other.update_ownership(removed=["SYS/A"])

        assert other.update_ownership() == before


def test_a_unit_given_up_can_be_taken_by_another(server: GraphServer) -> None:
    with (
        sync.ProcessControlClient(server.address) as first,
        sync.ProcessControlClient(server.address) as second,
        sync.GraphContext(server.address) as ctx,
    ):
        first.register(["SYS/A"])
        first.report_settings_update("SYS/A", {"gain": 1})
        first.update_ownership(removed=["SYS/A"])
        assert ctx.settings_snapshot() == {}

        second.register(["SYS/A"])
        second.report_settings_update("SYS/A", {"gain": 2})

        assert ctx.settings_snapshot()["SYS/A"].structured_value == {"gain": 2}


def test_a_dataclass_is_reported_in_its_structured_form(server: GraphServer) -> None:
    value = _reported(server, FilterSettings())

    form = {
        "cutoff": 30.0,
        "notches": [{"hz": 50.0, "order": 2}, {"hz": 100.0, "order": 2}],
        "window": (1, 2),
    }
    assert value == SettingsSnapshotValue(None, form, form)


def test_a_model_with_a_dump_is_reported_in_its_structured_form(server: GraphServer) -> None:
    value = _reported(server, PydanticLike())

    assert value.structured_value == {"cutoff": 1.5, "notch": {"hz": 50.0}}


def test_an_object_without_structure_is_reported_as_text(server: GraphServer) -> None:
    assert _reported(server, Anything()) == SettingsSnapshotValue(None, "Anything(3)", None)


def test_a_settings_value_is_reported_as_it_is(server: GraphServer) -> None:
    value = SettingsSnapshotValue(b"\x00opaque", "shown", {"gain": 2})

    assert _reported(server, value) == value


def test_an_array_is_reported_whole(server: GraphServer) -> None:
    weights = np.linspace(0, 1, 5000, dtype=np.float32)

    value = _reported(server, {"weights": weights})

    assert value.structured_value is not None
    np.testing.assert_array_equal(value.structured_value["weights"], weights)


def _reported(server: GraphServer, value: object) -> SettingsSnapshotValue:
    with (
        sync.GraphContext(server.address) as ctx,
        sync.ProcessControlClient(server.address) as process,
    ):
        process.register(["SYS/A"])
        process.report_settings_update("SYS/A", value, reason="tuned")
        assert ctx.events(("settings",))[0].source.reason == "tuned"
        return ctx.settings_snapshot()["SYS/A"]


async def _take(
    stream: EventStream[TopologyChangedEvent], count: int
) -> list[TopologyChangedEvent]:
    async with asyncio.timeout(10):
        return [await anext(stream) for _ in range(count)]


def test_topology_events_come_for_edges_and_for_processes_in_one_order(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            stream = ctx.subscribe_topology_events(after_seq=0)
            edge = await ctx.connect("a", "b")
            async with ProcessControlClient(server.address) as process:
                process_id = process.client_id
                taken = await process.register(["SYS/A"])
            await ctx.disconnect("a", "b")

            connected, registered, *gone, disconnected = await _take(stream, 5)

            assert (connected.seq, connected.event_type) == (edge, TopologyEventType.GRAPH_CHANGED)
            assert connected.changed_topics == ["a", "b"]
            assert connected.source_session_id == ctx.session_id
            assert connected.timestamp > 1.7e9
            assert (registered.seq, registered.source_process_id) == (taken, process_id)
            assert {each.event_type for each in (registered, *gone)} == {
                TopologyEventType.PROCESS_CHANGED
            }
            assert {each.source_process_id for each in gone} == {process_id}
            assert disconnected.changed_topics == ["a", "b"]
            seqs = [each.seq for each in (connected, registered, *gone, disconnected)]
            assert seqs == sorted(seqs)

    asyncio.run(scenario())


def test_a_second_owner_of_an_edge_is_no_topology_event(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx, GraphContext(server.address) as other:
            stream = ctx.subscribe_topology_events(after_seq=0)
            await ctx.connect("a", "b")
            await other.connect("a", "b")
            await other.disconnect("a", "b")
            await ctx.connect("b", "c")

            events = await _take(stream, 2)

            assert [each.changed_topics for each in events] == [["a", "b"], ["b", "c"]]

    asyncio.run(scenario())


def test_a_killed_process_loses_units_and_live_values_in_one_transaction(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as ctx:
        with subprocess.Popen(
            [sys.executable, "-c", RUN_A_UNIT, str(server.address)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout is not None
            process_id = UUID(program.stdout.readline().strip())
            before = ctx.sync()
            program.kill()
        found = []
        for item in ctx.subscribe((), before):
            if isinstance(item, ezgraph.Event):
                found.append(item)
                if item.kind == "ProcessClosed":
                    break

        assert [each.kind for each in found] == [
            "SettingsChanged",
            "ProcessUnitsChanged",
            "ProcessClosed",
        ]
        assert len({each.txn_first for each in found}) == 1
        last = found[-1].body
        assert isinstance(last, ProcessClosed)
        assert (last.process_id, last.reason.value) == (process_id, "lost")
        snapshot = ctx.snapshot()
        assert (snapshot.processes, snapshot.settings) == ({}, {})


def test_what_a_process_client_cannot_do_is_refused_with_the_way_to_do_it(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        from ezgraph.protocol.commands import Connect, RegisterMetadata, UpdateUnits
        from ezgraph.protocol.metadata import GraphMetadata

        async with (
            GraphContext(server.address) as ctx,
            ProcessControlClient(server.address) as process,
        ):
            assert ctx._session is not None
            assert process._session is not None
            with pytest.raises(InvalidCommandError, match="connect them in a GraphContext"):
                await process._session.call(Connect("a", "b"))
            with pytest.raises(InvalidCommandError, match="use a GraphContext"):
                await process._session.call(RegisterMetadata(GraphMetadata()))
            with pytest.raises(InvalidCommandError, match="use a ProcessControlClient"):
                await ctx._session.call(UpdateUnits(["SYS/A"], []))

    asyncio.run(scenario())


def test_a_process_client_that_is_not_connected_says_so(server: GraphServer) -> None:
    process = sync.ProcessControlClient(server.address)

    assert process.client_id is None
    assert "not connected" in repr(process)
    with pytest.raises(NoSessionError, match=r"await connect\(\) first"):
        process.register(["SYS/A"])
    process.close()


@pytest.mark.parametrize("unit", ["", "x" * 5000])
def test_a_unit_address_outside_the_grammar_is_refused(server: GraphServer, unit: str) -> None:
    with sync.ProcessControlClient(server.address) as process:
        before = process.update_ownership()

        with pytest.raises(InvalidCommandError, match="unit address"):
            process.register([unit])

        assert process.update_ownership() == before
