"""Coming back on real sockets: too late, as a successor, at another address, to less history."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    Address,
    AddressCollisionError,
    BrokerConfig,
    Compacted,
    ComponentMetadata,
    ContextClosedError,
    DeadlineError,
    DynamicSettingsMetadata,
    Edge,
    GraphContext,
    GraphMetadata,
    GraphServer,
    Lost,
    ProcessControlClient,
    Progress,
    Resumed,
    ResumeToken,
    Retention,
    SessionExpired,
    SessionExpiredError,
    SessionTakenOverError,
    SettingsSnapshotValue,
    WrongCluster,
    sync,
)
from ezgraph.protocol.events import HistoryCompacted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration
TTL_S = 0.6
VALUE = SettingsSnapshotValue(None, {"gain": 2}, {"gain": 2})
METADATA = GraphMetadata(
    components={
        "SYS/A": ComponentMetadata(
            "SYS/A", "A", "m.A", "m.S", (b"o", {"gain": 1}), DynamicSettingsMetadata(enabled=True)
        )
    }
)


def stop_renewing(context: sync.GraphContext | sync.ProcessControlClient) -> None:
    """Let a program fall silent, as if it had been stopped: its keep-alive says nothing more."""
    twin = context._context if isinstance(context, sync.GraphContext) else context._client
    session: Any = twin._session
    session._keepalive.stop()
    session._keepalive = None


def wait_until(reached: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
    deadline = monotonic() + timeout
    while not reached():
        assert monotonic() < deadline, what


# --- too late ---


def test_a_session_that_was_silent_too_long_learns_what_it_lost_and_redeclares_in_one_call(
    server: GraphServer,
) -> None:
    with (
        sync.GraphContext(server.address) as observer,
        sync.GraphContext(server.address, ttl_s=TTL_S, replica=True) as ctx,
    ):
        ctx.register_metadata(METADATA)
        ctx.connect("a", "b")
        ctx.connect("c", "d")
        ctx.disconnect("c", "d")
        before = ctx.session_id
        stop_renewing(ctx)
        wait_until(lambda: observer.snapshot().graph == {}, "the session should have ended")

        with pytest.raises(SessionExpiredError, match=r"1 edge \(a -> b\) and 1 component") as told:
            ctx.connect("e", "f")
        seq = ctx.redeclare()

        lost = told.value.lost
        assert isinstance(lost, Lost)
        assert (lost.client, lost.edges, lost.components) == (before, [Edge("a", "b")], ["SYS/A"])
        assert ctx.session_id != before
        snapshot = observer.snapshot()
        assert snapshot.graph == {"a": ["b"], "b": []}
        assert snapshot.sessions[ctx.session_id].metadata == METADATA
        assert ctx.replica.reach(seq).fingerprint() == observer.state().fingerprint()
        ctx.connect("e", "f")
        assert ctx.replica.state.dag.graph["e"] == {"f"}


def test_a_process_client_redeclares_units_and_settings(server: GraphServer) -> None:
    with (
        sync.GraphContext(server.address) as observer,
        sync.ProcessControlClient(server.address, ttl_s=TTL_S) as process,
    ):
        process.register(["SYS/A", "SYS/B"])
        process.report_settings_update("SYS/A", VALUE)
        process.update_ownership(removed=["SYS/B"])
        stop_renewing(process)
        wait_until(lambda: not observer.snapshot().processes, "the process should have ended")

        with pytest.raises(SessionExpiredError) as told:
            process.register(["SYS/C"])
        process.redeclare()

        assert told.value.lost.units == ["SYS/A"]
        assert told.value.lost.settings == ["SYS/A"]
        snapshot = observer.snapshot()
        assert [entry.units for entry in snapshot.processes.values()] == [["SYS/A"]]
        assert snapshot.settings["SYS/A"] == VALUE


def test_the_asyncio_form_redeclares_too_and_in_a_living_session_nothing_changes(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address, ttl_s=TTL_S) as ctx:
            await ctx.connect("a", "b")
            seq = await ctx.sync()
            assert await ctx.redeclare() == seq
            session: Any = ctx._session
            await asyncio.to_thread(session._keepalive.stop)
            session._keepalive = None
            async with GraphContext(server.address) as observer:
                stream = observer.subscribe(("session", ctx.session_id), 0)
                async for item in stream:
                    if getattr(item, "kind", "") == "SessionClosed":
                        break
                with pytest.raises(SessionExpiredError):
                    await ctx.sync()
                await ctx.redeclare()
                assert (await observer.snapshot()).graph == {"a": ["b"], "b": []}

    asyncio.run(scenario())


def test_what_can_no_longer_be_declared_is_refused_by_name_and_the_rest_is_there(
    server: GraphServer,
) -> None:
    with (
        sync.GraphContext(server.address) as other,
        sync.GraphContext(server.address, ttl_s=TTL_S) as ctx,
    ):
        ctx.register_metadata(METADATA)
        ctx.connect("a", "b")
        stop_renewing(ctx)
        wait_until(lambda: other.snapshot().graph == {}, "the session should have ended")
        other.register_metadata(METADATA)

        with pytest.raises(SessionExpiredError):
            ctx.sync()
        with pytest.raises(AddressCollisionError, match="SYS/A"):
            ctx.redeclare()

        assert other.snapshot().graph == {"a": ["b"], "b": []}


def test_a_redeclare_that_finds_no_broker_can_be_called_again(tmp_path: Path) -> None:
    backend = f"sqlite:///{tmp_path / 'journal.db'}"
    here = GraphServer(backend=backend).start()
    config = BrokerConfig(address=here.address, backend=backend)
    with sync.GraphContext(here.address, ttl_s=TTL_S) as ctx:
        ctx.connect("a", "b")
        stop_renewing(ctx)
        wait_until(lambda: _has_expired(ctx), "the session should have ended")
        here.stop()
        with pytest.raises(DeadlineError):
            ctx.redeclare(timeout=0.3)
        with pytest.raises(ContextClosedError, match=r"call redeclare\(\) again"):
            ctx.connect("c", "d")

        with GraphServer(config=config):
            ctx.redeclare()
            assert ctx.snapshot().graph == {"a": ["b"], "b": []}


def _has_expired(ctx: sync.GraphContext) -> bool:
    with sync.GraphContext(ctx.address) as observer:
        if observer.snapshot().graph:
            return False
    with pytest.raises(SessionExpiredError):
        ctx.sync()
    return True


def test_two_tasks_that_redeclare_at_once_share_one_new_session(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address, ttl_s=TTL_S) as ctx:
            await ctx.connect("a", "b")
            session: Any = ctx._session
            await asyncio.to_thread(session._keepalive.stop)
            session._keepalive = None
            async with GraphContext(server.address) as observer:
                async for item in observer.subscribe(("session", ctx.session_id), 0):
                    if getattr(item, "kind", "") == "SessionClosed":
                        break
                with pytest.raises(SessionExpiredError):
                    await ctx.sync()
                await asyncio.gather(*(ctx.redeclare(timeout=5.0) for _ in range(3)))
                snapshot = await observer.snapshot()
                assert snapshot.graph == {"a": ["b"], "b": []}
                assert len(snapshot.sessions) == 2

    asyncio.run(scenario())


def test_who_waits_for_the_replica_is_told_at_once_that_the_context_was_closed(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        ctx = await GraphContext(server.address, replica=True).open()
        waiting = asyncio.gather(ctx.replica.reach(1_000, timeout=30.0), return_exceptions=True)
        await ctx.sync()
        begun = monotonic()
        await ctx.close()
        (outcome,) = await waiting
        assert isinstance(outcome, ContextClosedError)
        assert monotonic() - begun < 5.0

    asyncio.run(scenario())


# --- as a successor ---


def test_a_successor_with_the_token_takes_over_where_others_would_collide(
    server: GraphServer,
) -> None:
    old = sync.GraphContext(server.address, program="old").open()
    old.register_metadata(METADATA)
    old.connect("a", "b")
    line = str(old.resume_token)
    assert "token" not in repr(ResumeToken.parse(line)).replace("ResumeToken", "")

    with sync.GraphContext(server.address) as stranger:
        with pytest.raises(AddressCollisionError):
            stranger.register_metadata(METADATA)
        with sync.GraphContext(
            server.address, program="new", resume=ResumeToken.parse(line)
        ) as successor:
            assert successor.session_id == old.session_id
            assert isinstance(successor.resumption, Resumed)
            successor.register_metadata(METADATA)
            successor.connect("b", "c")
            assert stranger.snapshot().graph == {"a": ["b"], "b": ["c"], "c": []}
            with pytest.raises(SessionTakenOverError, match="new on"):
                old.connect("x", "y")
            old.close()
            assert stranger.snapshot().graph == {"a": ["b"], "b": ["c"], "c": []}
        assert stranger.snapshot().graph == {}


def test_a_process_is_taken_over_with_its_units(server: GraphServer) -> None:
    old = sync.ProcessControlClient(server.address).connect()
    old.register(["SYS/A"])

    with sync.ProcessControlClient(server.address, resume=old.resume_token) as successor:
        assert successor.client_id == old.client_id
        successor.register(["SYS/A"])
        successor.report_settings_update("SYS/A", VALUE)
        with pytest.raises(SessionTakenOverError):
            old.report_settings_update("SYS/A", VALUE)
    old.close()


def test_a_successor_that_comes_too_late_gets_a_session_of_its_own_and_is_told(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as old:
        old.connect("a", "b")
        token = old.resume_token

    with sync.GraphContext(server.address, resume=token) as successor:
        assert successor.session_id != token.client
        assert isinstance(successor.resumption, SessionExpired)
        assert successor.resumption.lost is not None
        assert successor.resumption.lost.edges == [Edge("a", "b")]
        successor.connect("a", "b")


def test_a_token_of_another_cluster_opens_a_session_of_this_one(server: GraphServer) -> None:
    with GraphServer() as elsewhere, sync.GraphContext(elsewhere.address) as stranger:
        token = stranger.resume_token

    with sync.GraphContext(server.address, resume=token) as ctx:
        assert isinstance(ctx.resumption, WrongCluster)
        assert token.cluster_id in ctx.resumption.message
        ctx.connect("a", "b")


def test_without_having_been_away_there_is_nothing_to_tell(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        assert ctx.resumption is None


# --- at another address ---


def test_clients_follow_a_broker_that_moves_to_their_other_address(tmp_path: Path) -> None:
    """Calls, subscriptions and the keep-alive find it there, with nothing lost on the way."""
    backend = f"sqlite:///{tmp_path / 'journal.db'}"
    here = GraphServer(backend=backend, run_in="process").start()
    with GraphServer() as placeholder:
        there_address = placeholder.address
    addresses = [here.address, there_address]

    async def scenario() -> None:
        async with (
            GraphContext(addresses, ttl_s=6.0, replica=True) as ctx,
            ProcessControlClient(addresses, ttl_s=6.0) as idle,
        ):
            await idle.register(["SYS/A"])
            stream = ctx.subscribe((), 0)
            await ctx.connect("a", "b")
            await asyncio.to_thread(here.kill)
            config = BrokerConfig(address=there_address, backend=backend)
            there = await asyncio.to_thread(
                GraphServer(config=config, run_in="process").start
            )
            try:
                seq = await ctx.connect("b", "c")
                assert ctx.address == there_address
                assert isinstance(ctx.resumption, Resumed)
                seen = []
                async for item in stream:
                    if isinstance(item, Progress) and item.seq >= seq:
                        break
                    if hasattr(item, "seq") and not isinstance(item, Progress):
                        seen.append(item.seq)
                assert seen == list(range(1, seq + 1))
                # Longer than a TTL after the move: the idle one was renewed at the new address.
                async for item in ctx.subscribe(("process",)):
                    if isinstance(item, Progress):
                        break
                await asyncio.to_thread(_see_renewed, there_address, str(idle.client_id))
                await ctx.replica.reach(seq)
                state = await ctx.state()
                assert ctx.replica.fingerprint() == state.fingerprint()
            finally:
                await asyncio.to_thread(there.stop)

    try:
        asyncio.run(scenario())
    finally:
        here.stop()


def _see_renewed(address: Any, client: str) -> None:
    """Return when the broker has heard a client that calls nothing."""
    with sync.GraphContext(address) as observer:
        def renewed() -> bool:
            info = next(each for each in observer.clients() if each.id == client)
            return info.main_loop_age_s is not None and not info.suspended
        wait_until(renewed, "nobody renewed the idle client's lease at the new address")


# --- to less history ---


def test_a_lagging_watcher_and_a_replica_go_on_over_a_compaction(tmp_path: Path) -> None:
    config = BrokerConfig(
        address=Address("127.0.0.1", 0),
        backend=f"sqlite:///{tmp_path / 'journal.db'}",
        checkpoint_events=50,
        retention=Retention(events=60, max_pinned_events=0),
    )

    async def scenario(server: GraphServer) -> None:
        async with (
            GraphContext(server.address, replica=True) as ctx,
            GraphContext(server.address, program="lags") as other,
        ):
            await ctx.replica
            early = other.subscribe(("edge",), after_seq=0)
            assert isinstance(await anext(aiter(early)), Progress)
            for number in range(200):
                await ctx.connect("a", f"b{number}")
            status = await ctx.status()
            while status.floor == 1:
                await ctx.connect("c", f"d{await ctx.sync()}")
                status = await ctx.status()
            state = await ctx.state()
            assert (await ctx.replica.reach(state.seq)).state.dag.graph == state.dag.graph

            events = await ctx.events(("control", "history"), status.floor)
            assert [event.body for event in events][-1:] == [HistoryCompacted(status.floor)]
            late = await anext(aiter(other.subscribe(("edge",), after_seq=0)))
            assert isinstance(late, Compacted)
            assert late.floor == status.floor
            assert not late.diverged
            assert len(late.snapshot.dag.edge_owners) >= 200
            settings = await ctx.settings_events(after_seq=await ctx.sync())
            assert settings.floor == status.floor

    with GraphServer(config=config) as server:
        asyncio.run(scenario(server))
    with GraphServer(config=config) as again, sync.GraphContext(again.address) as ctx:
        assert ctx.status().floor > 1
        assert len(ctx.dag().edge_owners) == 0
