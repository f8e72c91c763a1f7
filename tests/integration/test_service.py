"""`GraphService`: what is done to a rig without owning a part of it."""

from __future__ import annotations

import asyncio

import pytest

from ezgraph import (
    BrokerUnreachableError,
    GraphContext,
    GraphServer,
    GraphService,
    LiveSessionsError,
    sync,
)
from ezgraph.protocol.events import PauseChanged

pytestmark = pytest.mark.integration


def test_the_service_leaves_no_lease_and_no_event_of_its_own(server: GraphServer) -> None:
    service = sync.GraphService(server.address)
    with sync.GraphContext(server.address) as ctx:
        before = ctx.sync()

        assert service.connect("a", "b") == before + 1
        assert service.sync() == before + 1
        assert service.disconnect("a", "b") == before + 2

        kinds = [(event.kind, event.source.session_id) for event in ctx.events(after_seq=before)]
        assert kinds == [("EdgeConnected", None), ("EdgeDisconnected", None)]
        assert [client.id for client in ctx.clients()] == [ctx.session_id]


def test_pause_and_resume_are_state_with_events(server: GraphServer) -> None:
    service = sync.GraphService(server.address)
    with sync.GraphContext(server.address) as ctx:
        before = ctx.sync()

        assert service.pause() == before + 1
        assert service.pause() == before + 1
        assert ctx.snapshot().paused
        assert service.status().paused
        assert ctx.resume() == before + 2
        assert not ctx.snapshot().paused

        assert [event.body for event in ctx.events(("control",))] == [
            PauseChanged(paused=True),
            PauseChanged(paused=False),
        ]


def test_sync_returns_when_everything_sent_before_has_been_applied(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx, asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(ctx.connect("a", f"b{number}")) for number in range(200)]
            await asyncio.sleep(0)
            seq = await ctx.sync()

            assert seq >= 201
            assert len((await ctx.dag()).edge_owners) == 200
            assert {await call for call in calls} == set(range(2, 202))

    asyncio.run(scenario())


def test_shutdown_is_refused_with_the_count_of_live_sessions(server: GraphServer) -> None:
    service = sync.GraphService(server.address)
    with (
        sync.GraphContext(server.address) as ctx,
        sync.GraphContext(server.address),
        sync.ProcessControlClient(server.address),
    ):
        with pytest.raises(LiveSessionsError, match=r"3 live .*pid \d+\); close them, or force"):
            service.shutdown()

        assert server.running
        ctx.connect("a", "b")


def test_shutdown_stops_a_broker_nobody_uses(server: GraphServer) -> None:
    sync.GraphService(server.address).shutdown()

    assert ended(server)


def test_a_forced_shutdown_stops_it_for_all(server: GraphServer) -> None:
    with sync.GraphContext(server.address):
        sync.GraphService(server.address).shutdown(force=True)

        assert ended(server)


def ended(server: GraphServer) -> bool:
    """Whether the broker's thread has ended; it is given the time to drain."""
    address = server.address
    server._runner._thread.join(5)  # type: ignore[union-attr]
    with pytest.raises(BrokerUnreachableError):
        sync.GraphService(address).sync(timeout=0.3)
    return not server.running


@pytest.mark.parametrize("fmt", ["mermaid", "graphviz"])
def test_the_graph_is_drawn_as_text(server: GraphServer, fmt: str) -> None:
    service = sync.GraphService(server.address)
    service.connect("SYS/SOURCE/OUT", "SYS/FILTER/IN")

    drawn = service.get_formatted_graph(fmt, direction="TB", compact_level=None)  # type: ignore[arg-type]

    assert "SOURCE" in drawn
    assert "FILTER" in drawn


def test_create_server_takes_a_free_port_when_no_address_is_given() -> None:
    with sync.GraphService().create_server() as one, sync.GraphService().create_server() as two:
        assert one.address != two.address

        sync.GraphService(one.address).connect("a", "b")
        assert sync.GraphService(two.address).dag().graph == {}


def test_create_server_listens_where_the_service_looks(free_address: str) -> None:
    service = sync.GraphService(free_address)

    with service.create_server() as created:
        assert str(created.address) == free_address
        assert service.connect("a", "b") == 1


def test_ensure_starts_a_broker_only_where_none_answers(free_address: str) -> None:
    service = sync.GraphService(free_address)
    with pytest.raises(BrokerUnreachableError):
        service.ensure(timeout=0.3)

    started = service.ensure(auto_start=True)
    assert started is not None
    with started:
        assert service.ensure(auto_start=True) is None
        assert service.ensure() is None
        assert service.connect("a", "b") == 1


def test_the_async_service_does_the_same(free_address: str) -> None:
    async def scenario() -> None:
        service = GraphService(free_address)
        started = await service.ensure(auto_start=True)
        assert started is not None
        try:
            assert await service.connect("a", "b") == 1
            assert (await service.dag()).graph == {"a": {"b"}, "b": set()}
            assert (await service.snapshot()).graph == {"a": ["b"], "b": []}
            assert await service.disconnect("a", "b") == 2
            assert await service.pause() == 3
            assert await service.resume() == 4
            assert await service.sync() == 4
            assert (await service.status()).head == 4
            assert [client.kind for client in await service.clients()] == ["guest"]
            assert await service.ensure() is None
            await service.shutdown()
        finally:
            started.stop()

    asyncio.run(scenario())


def test_a_status_report_tells_how_the_broker_is(server: GraphServer) -> None:
    with (
        sync.GraphContext(server.address) as ctx,
        sync.ProcessControlClient(server.address) as process,
    ):
        process.register(["SYS/A"])
        ctx.connect("a", "b")

        status = ctx.status()

        assert (status.epoch, status.head, status.floor) == (1, 4, 1)
        assert (status.sessions, status.processes, status.edges) == (1, 1, 1)
        assert (status.backend, status.insecure, status.paused) == ("memory://", False, False)
        assert 0 < status.uptime_s < 60
        assert status.journal_bytes > 0
        assert len(bytes.fromhex(status.cluster_id)) == 16


def test_a_service_shows_where_it_looks(server: GraphServer) -> None:
    assert repr(GraphService(server.address)) == f"<GraphService {server.address}>"


@pytest.fixture
def free_address() -> str:
    """An address where nobody listens; the next port is free too."""
    with GraphServer() as server:
        return str(server.address)
