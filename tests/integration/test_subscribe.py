"""`subscribe`: events under a prefix of keys, in order, whole, with word of how far it is."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    Backend,
    BrokerUnreachableError,
    Compacted,
    DivergedError,
    Event,
    GraphContext,
    GraphServer,
    InvalidKeyError,
    Progress,
    sync,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


async def until(stream: Any, seq: int) -> list[Any]:
    """Return what is delivered up to and with the Progress that covers ``seq``."""
    found: list[Any] = []
    async with asyncio.timeout(10):
        async for item in stream:
            found.append(item)
            if isinstance(item, Progress) and item.seq >= seq:
                return found
    raise AssertionError("the stream ended")


def seqs(items: list[Any]) -> list[int]:
    return [item.seq for item in items if isinstance(item, Event)]


def test_the_empty_prefix_is_everything_from_the_first_event_on(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            for number in range(5):
                await ctx.connect("a", f"b{number}")
            stream = ctx.subscribe((), after_seq=0)
            await ctx.disconnect("a", "b0")

            items = await until(stream, 7)

            assert seqs(items) == list(range(1, 8))
            assert [item.prev for item in items if isinstance(item, Event)] == list(range(7))

    asyncio.run(scenario())


def test_a_prefix_takes_whole_segments_only(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            await ctx.connect("chunker", "x")
            await ctx.connect("chunker2", "x")
            await ctx.connect("chunker", "y")
            head = await ctx.connect("chunker/3", "x")

            items = await until(ctx.subscribe(("edge", "chunker"), 0), head)
            exact = await until(ctx.subscribe(["edge", "chunker/3", "x"], 0), head)
            nothing = await until(ctx.subscribe(("edge", "chunk"), 0), head)

            assert [item.key for item in items if isinstance(item, Event)] == [
                ("edge", "chunker", "x"),
                ("edge", "chunker", "y"),
            ]
            assert seqs(exact) == [head]
            assert nothing == [Progress(head)]

    asyncio.run(scenario())


def test_a_transaction_arrives_whole_at_a_watcher_of_a_part_of_it(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            stream = ctx.subscribe(("edge",), 0)
            other = await GraphContext(server.address).open()
            for number in range(30):
                await other.connect("a", f"b{number}")
            before = await ctx.sync()
            await other.close()
            head = await ctx.sync()

            items = await until(stream, head)

            removals = [i for i in items if isinstance(i, Event) and i.seq > before]
            assert len(removals) == 30
            assert {(i.txn_first, i.txn_last) for i in removals} == {(before + 1, head)}
            first, last = items.index(removals[0]), items.index(removals[-1])
            assert items[first : last + 1] == removals  # no Progress within a transaction

    asyncio.run(scenario())


def test_progress_is_told_to_a_watcher_nothing_happens_for(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            stream = ctx.subscribe(("settings",))
            for number in range(20):
                await ctx.connect("a", f"b{number}")

            assert seqs(await until(stream, 21)) == []

    asyncio.run(scenario())


def test_a_long_history_comes_in_order_without_loss_or_repeat(server: GraphServer) -> None:
    count = 3_000

    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            for start in range(0, count, 500):
                async with asyncio.TaskGroup() as tasks:
                    for number in range(start, start + 500):
                        tasks.create_task(ctx.connect("a", f"b{number}"))
            stream = ctx.subscribe((), 0)
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(until(stream, count + 101))
                for number in range(100):
                    await ctx.connect("c", f"d{number}")

            assert seqs(reading.result()) == list(range(1, count + 102))

    asyncio.run(scenario())


def test_a_slow_consumer_loses_nothing(
    server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ezgraph.client.watch.BUFFER_EVENTS", 50)

    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            stream = ctx.subscribe((), 0)
            for number in range(600):
                await ctx.connect("a", f"b{number}")

            assert seqs(await until(stream, 601)) == list(range(1, 602))

    asyncio.run(scenario())


def test_history_below_the_floor_is_replaced_by_a_snapshot(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rig.db"
    with GraphServer(backend=url) as server:
        for number in range(5):
            sync.GraphService(server.address).connect("a", f"b{number}")
    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        journal.drop_below(journal.head + 1)

    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            stream = ctx.subscribe(("edge",), after_seq=2)
            compacted = await anext(aiter(stream))
            head = await ctx.connect("a", "new")

            assert isinstance(compacted, Compacted)
            assert compacted.floor == 6
            assert len(compacted.snapshot.dag.edge_owners) >= 5
            items = await until(stream, head)
            assert compacted.snapshot.seq >= head or seqs(items) == [head]

    with GraphServer(backend=url) as server:
        asyncio.run(scenario())


def test_a_seq_beyond_the_head_is_answered_with_a_snapshot_that_says_so(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            item = await anext(aiter(ctx.subscribe((), after_seq=99)))
            assert isinstance(item, Compacted)
            assert item.diverged
            assert item.snapshot.seq == await ctx.sync()
            with pytest.raises(DivergedError, match="begin anew from seq"):
                await anext(aiter(ctx.subscribe_settings_events(after_seq=99)))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "prefix", ["settings", ("",), ("edge", ""), (3,), ("x",) * 33, ("x" * 5000,)]
)
def test_a_prefix_outside_the_grammar_is_refused_at_once(
    server: GraphServer,
    prefix: Any,
) -> None:
    with sync.GraphContext(server.address) as ctx:
        with pytest.raises(InvalidKeyError):
            ctx.subscribe(prefix)
        assert ctx.sync() == 1


def test_a_stream_ends_with_an_error_that_says_where_to_go_on_when_the_broker_is_gone(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address, patience_s=1.0) as ctx:
            stream = ctx.subscribe((), 0)
            address = str(server.address)
            await until(stream, 1)
            server.stop()

            with pytest.raises(BrokerUnreachableError) as told:
                await until(stream, 99)

            assert address in str(told.value)
            assert re.search(r"for 1 s; .*go on with after_seq=\d+$", str(told.value))
            with pytest.raises(BrokerUnreachableError):
                await anext(aiter(stream))

    asyncio.run(scenario())


def test_many_prefixes_of_one_context_each_get_their_own(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            streams = [ctx.subscribe(("edge", f"a{number}"), 0) for number in range(300)]
            for number in range(300):
                await ctx.connect(f"a{number}", "b")

            found = await asyncio.gather(*(until(stream, 301) for stream in streams))

            assert [seqs(items) for items in found] == [[number + 2] for number in range(300)]

    asyncio.run(scenario())


def test_a_closed_stream_ends(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            stream = ctx.subscribe((), 0)
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(_all_of(stream))
                await until(ctx.subscribe((), 0), 1)
                await stream.aclose()
                await stream.aclose()
            assert seqs(reading.result()) == [1]

    async def _all_of(stream: Any) -> list[Any]:
        return [item async for item in stream]

    asyncio.run(scenario())


def test_streams_show_what_they_watch_and_where_they_are(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            stream = ctx.subscribe(("edge", "SYS/A"), 0)
            assert "'edge/SYS/A' joining position=0" in repr(stream)
            await until(stream, 1)
            assert "live position=1" in repr(stream)
            assert repr(ctx.subscribe_settings_events()).startswith("<EventStream <Subscription")

    asyncio.run(scenario())


def test_giving_up_on_a_wait_loses_nothing(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            stream = ctx.subscribe((), 0)
            found: list[Any] = []
            async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                work = tasks.create_task(connect_many(ctx))
                while not work.done() or len(seqs(found)) < 201:
                    try:
                        async with asyncio.timeout(0.0005):
                            found.append(await anext(aiter(stream)))
                    except TimeoutError:
                        await asyncio.sleep(0)

            assert seqs(found) == list(range(1, 202))

    async def connect_many(ctx: GraphContext) -> None:
        for number in range(200):
            await ctx.connect("a", f"b{number}")

    asyncio.run(scenario())


def test_a_blocking_subscription_to_a_broker_that_is_gone_ends_in_its_patience() -> None:
    server = GraphServer(run_in="process").start()
    with sync.GraphContext(server.address, patience_s=1.0) as ctx:
        stream = iter(ctx.subscribe())
        assert isinstance(next(stream), Progress)
        server.kill()

        with pytest.raises(BrokerUnreachableError, match=r"nothing was heard from .* for 1 s"):
            for _ in stream:
                pass
