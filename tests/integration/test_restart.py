"""A broker that is killed and started again on its journal: nothing answered is lost."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    Address,
    BrokerConfig,
    BrokerUnreachableError,
    ComponentMetadata,
    DeadlineError,
    DynamicSettingsMetadata,
    Event,
    GraphContext,
    GraphMetadata,
    GraphServer,
    ProcessControlClient,
    WrongClusterError,
    sync,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

METADATA = GraphMetadata(
    components={
        "SYS/A": ComponentMetadata(
            "SYS/A", "A", "m.A", "m.S", (b"o", {"gain": 1}), DynamicSettingsMetadata(enabled=True)
        )
    }
)


class Rig:
    """A broker in a process on one address and one journal, killed and started at will."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self.server = GraphServer(backend=backend, run_in="process").start()
        self.address: Address = self.server.address

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        config = BrokerConfig(address=self.address, backend=self._backend)
        self.server = GraphServer(config=config, run_in="process").start()

    def restart(self) -> None:
        self.kill()
        self.start()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A broker process on a SQLite journal."""
    running = Rig(f"sqlite:///{tmp_path}/rig.db")
    yield running
    running.server.stop()


async def events_through(stream: Any, seq: int) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(20):
        async for item in stream:
            if isinstance(item, Event):
                found.append(item)
            if item.seq >= seq:
                return found
    raise AssertionError("the stream ended")


def test_what_was_answered_survives_and_sessions_go_on_by_themselves(rig: Rig) -> None:
    with (
        sync.GraphContext(rig.address) as ctx,
        sync.ProcessControlClient(rig.address) as process,
    ):
        ctx.register_metadata(METADATA)
        process.register(["SYS/A"])
        process.report_settings_update("SYS/A", {"gain": 2})
        seq = ctx.connect("a", "b")
        session_id, before = ctx.session_id, ctx.snapshot()

        rig.restart()

        assert ctx.snapshot() == before
        assert ctx.session_id == session_id
        assert ctx.connect("b", "c") == seq + 1
        assert process.report_settings_update("SYS/A", {"gain": 3}) == seq + 2
        assert [event.kind for event in ctx.events(after_seq=seq)] == [
            "EdgeConnected",
            "SettingsChanged",
        ]


def test_commands_in_flight_during_a_kill_take_effect_once_and_are_answered(rig: Rig) -> None:
    count = 60

    async def scenario() -> None:
        async with GraphContext(rig.address) as ctx:
            async with asyncio.TaskGroup() as tasks:
                calls = [tasks.create_task(ctx.connect("a", "b"))]
                for number in range(count):
                    calls.append(tasks.create_task(ctx.connect("a", f"b{number}", timeout=20)))
                    if number == count // 2:
                        await calls[0]
                        await asyncio.to_thread(rig.restart)

            seqs = [call.result() for call in calls]
            events = await ctx.events(("edge",))
            assert sorted(event.seq for event in events) == sorted(seqs)
            assert len(set(seqs)) == count + 1
            assert len((await ctx.dag()).edge_owners) == count + 1

    asyncio.run(scenario())


def test_streams_and_the_replica_go_on_without_loss_or_repeats(rig: Rig) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(rig.address, replica=True) as ctx,
            GraphContext(rig.address) as other,
        ):
            everything, part = ctx.subscribe((), 0), ctx.subscribe(("edge", "a"), 0)
            await other.connect("a", "b0")
            first = await events_through(everything, 3)

            for number in range(1, 3):
                await asyncio.to_thread(rig.restart)
                await other.connect("a", f"b{number}")
                await other.connect("z", f"b{number}")
            head = await ctx.sync()

            rest = await events_through(everything, head)
            assert [event.seq for event in [*first, *rest]] == list(range(1, head + 1))
            edges = await events_through(part, head)
            assert [event.key[2] for event in edges] == ["b0", "b1", "b2"]
            await ctx.replica.reach(head)
            assert ctx.replica.fingerprint() == (await other.state()).fingerprint()

    asyncio.run(scenario())


def test_a_blocking_stream_goes_on_too(rig: Rig) -> None:
    with sync.GraphContext(rig.address) as ctx, sync.GraphContext(rig.address) as other:
        stream = ctx.subscribe_topology_events(after_seq=0)
        other.connect("a", "b0")
        assert next(stream).changed_topics == ["a", "b0"]

        rig.restart()
        other.connect("a", "b1")

        assert next(stream).changed_topics == ["a", "b1"]


def test_a_call_while_the_broker_is_away_is_answered_when_it_is_back(rig: Rig) -> None:
    with sync.GraphContext(rig.address) as ctx:
        rig.kill()
        starter = threading.Timer(0.5, rig.start)
        starter.start()

        assert ctx.connect("a", "b", timeout=10) == 2

        starter.join()


def test_a_call_while_the_broker_stays_away_names_address_attempts_and_what_to_do(
    rig: Rig,
) -> None:
    with sync.GraphContext(rig.address) as ctx:
        rig.kill()

        with pytest.raises(DeadlineError) as told:
            ctx.connect("a", "b", timeout=0.8)

        message = str(told.value)
        assert f"Connect got no answer from {rig.address} within 0." in message
        assert "attempts" in message
        assert "ezgraph status" in message
        rig.start()
        assert ctx.connect("a", "b") == 2


def test_a_client_that_died_with_the_broker_loses_what_it_owned_after_one_fresh_ttl(
    rig: Rig,
) -> None:
    dead = sync.GraphContext(rig.address, ttl_s=0.5).open()
    dead.connect("a", "b")
    session = dead._sessions[-1]
    with sync.GraphContext(rig.address) as ctx:
        rig.kill()
        session._shut()  # gone without a goodbye
        rig.start()

        assert ctx.snapshot().graph == {"a": ["b"], "b": []}
        for item in ctx.subscribe(("edge",), 0):
            if isinstance(item, Event) and item.kind == "EdgeDisconnected":
                break
        assert ctx.snapshot().graph == {}


def test_persistent_edges_stay_and_a_clean_end_leaves_nothing_else(rig: Rig) -> None:
    sync.GraphService(rig.address).connect("a", "b")
    with sync.GraphContext(rig.address) as ctx:
        ctx.connect("b", "c")

    rig.restart()

    snapshot = sync.GraphService(rig.address).snapshot()
    assert snapshot.edge_owners == {("a", "b"): ["persistent"]}
    assert (snapshot.sessions, snapshot.processes, snapshot.settings) == ({}, {}, {})


def test_a_restart_folds_a_checkpoint_and_the_tail_after_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rig.db"
    config = BrokerConfig(address=Address("127.0.0.1", 0), backend=url, checkpoint_events=50)
    server = GraphServer(config=config, run_in="process").start()
    with sync.GraphContext(server.address) as ctx:
        ctx.register_metadata(METADATA)
        for number in range(120):
            ctx.connect("a", f"b{number}")
        before = ctx.state()
        server.kill()
    with GraphServer(config=config) as server:
        after = sync.GraphService(server.address).snapshot()
        fingerprint = server._runner._outcome.engine.state.fingerprint()  # type: ignore[union-attr]

    assert after == before.snapshot()
    assert fingerprint == before.fingerprint()


def test_a_broker_with_another_history_at_the_address_is_told_from_the_old_one() -> None:
    with GraphServer() as first:
        address = first.address
        ctx = sync.GraphContext(address).open()
        stream = ctx.subscribe((), 0)
        next(stream)
    with GraphServer(address):
        with pytest.raises(WrongClusterError, match="open a new context"):
            ctx.connect("a", "b", timeout=5)
        with pytest.raises(WrongClusterError):
            list(stream)
        ctx.close()
        with ctx:
            assert ctx.connect("a", "b") == 2


def test_without_a_broker_both_client_forms_say_where_they_looked_and_what_to_do() -> None:
    with GraphServer() as gone:
        address = gone.address

    def check(error: BrokerUnreachableError) -> None:
        assert f"no broker answered at {address} within 0.2" in str(error)
        assert "ezgraph serve" in str(error)
        assert "EZGRAPH_ADDR" in str(error)
        assert isinstance(error, TimeoutError)

    async def with_asyncio() -> None:
        for client in (GraphContext(address).open, ProcessControlClient(address).connect):
            with pytest.raises(BrokerUnreachableError) as told:
                await client(timeout=0.2)
            check(told.value)

    asyncio.run(with_asyncio())
    for client in (
        sync.GraphContext(address).open,
        sync.ProcessControlClient(address).connect,
        sync.GraphService(address).sync,
    ):
        with pytest.raises(BrokerUnreachableError) as told:
            client(timeout=0.2)
        check(told.value)
