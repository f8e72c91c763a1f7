"""The replica: a live copy of the state, equal to the broker's at the same seq."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ezgraph import (
    ComponentMetadata,
    DeadlineError,
    DynamicSettingsMetadata,
    GraphContext,
    GraphMetadata,
    NoSessionError,
    ProcessControlClient,
    sync,
)

if TYPE_CHECKING:
    from ezgraph import GraphServer, GraphState

pytestmark = pytest.mark.integration

METADATA = GraphMetadata(
    root_name="SYS",
    components={
        "SYS/A": ComponentMetadata(
            "SYS/A", "A", "m.A", "m.S", (b"o", {"gain": 1}), DynamicSettingsMetadata(enabled=True)
        )
    },
)


def brokers_state(server: GraphServer) -> GraphState:
    """The broker's own state; compare it while nobody commands."""
    state: GraphState = server._runner._outcome.engine.state  # type: ignore[union-attr]
    return state


def test_a_replica_equals_the_broker_at_the_same_seq(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address) as ctx,
            GraphContext(server.address) as other,
            ProcessControlClient(server.address) as process,
        ):
            replica = await ctx.replica
            await other.connect("a", "b")
            await other.register_metadata(METADATA)
            await process.register(["SYS/A", "SYS/B"])
            await process.report_settings_update("SYS/A", {"gain": 2})
            await process.report_settings_update("SYS/B", {"gain": 3})
            await other.pause()
            await other.close_session()
            head = await ctx.sync()

            await replica.reach(head)

            assert replica.seq == head
            assert replica.fingerprint() == brokers_state(server).fingerprint()
            assert replica.state.snapshot() == await ctx.snapshot(with_config=True)

    asyncio.run(scenario())


def test_a_replica_opened_late_equals_one_that_followed_from_the_start(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address, replica=True) as early,
            GraphContext(server.address) as late,
            ProcessControlClient(server.address) as process,
        ):
            await process.register(["SYS/A"])
            await process.report_settings_update("SYS/A", {"gain": 2})
            await early.register_metadata(METADATA)
            await early.connect("a", "b")
            head = await early.disconnect("a", "b")

            assert (await late.replica).seq >= head
            await early.replica.reach(late.replica.seq)
            assert early.replica.fingerprint() == late.replica.fingerprint()

    asyncio.run(scenario())


def test_a_call_returns_when_the_replica_has_what_it_did(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address, replica=True) as ctx:
            for number in range(50):
                seq = await ctx.connect("a", f"b{number}")
                assert ctx.replica.seq >= seq
                assert f"b{number}" in ctx.replica.state.dag.graph["a"]

    asyncio.run(scenario())


def test_a_replica_shows_whole_transactions_only(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address, replica=True) as ctx,
            GraphContext(server.address) as other,
        ):
            counts = set()
            for _ in range(10):
                for number in range(20):
                    await other.connect(f"a{number}", f"b{number}")
                await ctx.replica.reach(await ctx.sync())
                reverting = asyncio.gather(other.revert())
                while not reverting.done():
                    await asyncio.sleep(0)
                    counts.add(len(ctx.replica.state.dag.edge_owners))
                await ctx.sync()
                counts.add(len(ctx.replica.state.dag.edge_owners))

            assert counts == {20, 0}

    asyncio.run(scenario())


def test_a_replica_that_has_no_state_yet_says_to_await_it(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            replica = ctx.replica
            assert (replica.seq, ctx.replica) == (0, replica)
            with pytest.raises(NoSessionError, match="await it first"):
                _ = replica.state
            assert (await replica).seq == 1

    asyncio.run(scenario())


def test_waiting_for_a_seq_that_does_not_come_ends_at_the_deadline(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address, replica=True) as ctx:
            with pytest.raises(DeadlineError, match="seq 99 in the replica did not happen"):
                await ctx.replica.reach(99, timeout=0.2)

    asyncio.run(scenario())


def test_a_blocking_replica_is_up_to_date_whenever_it_is_looked_at(server: GraphServer) -> None:
    with (
        sync.GraphContext(server.address, replica=True) as ctx,
        sync.GraphContext(server.address) as other,
    ):
        seq = other.connect("a", "b")

        replica = ctx.replica.reach(seq)

        assert replica.seq == seq
        assert replica.state.dag.graph == {"a": {"b"}, "b": set()}
        assert replica.fingerprint() == brokers_state(server).fingerprint()
        assert f"seq={seq}" in repr(replica)
        assert ctx.connect("b", "c") == ctx.replica.seq
