"""The blocking twins: the same methods, from plain threads."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest

import ezgraph
from ezgraph import DeadlineError, Event, GraphServer, Progress, sync
from ezgraph.graph.configuration.keys import ConfigKeys

pytestmark = pytest.mark.integration

CONTEXTS = [
    (ezgraph.GraphContext, sync.GraphContext),
    (ezgraph.GraphService, sync.GraphService),
    (ezgraph.ProcessControlClient, sync.ProcessControlClient),
]
PAIRS = [*CONTEXTS, (ConfigKeys, sync.ConfigKeys)]
FOR_THREADS: dict[type, dict[str, set[str]]] = {
    sync.ProcessControlClient: {"take_changes": {"lock"}},
}
"""What is an option of the blocking form alone: who has no threads needs no lock."""
NOT_BLOCKING = {"__aenter__": "__enter__", "__aexit__": "__exit__"}


def methods(kind: type) -> dict[str, Any]:
    return {
        NOT_BLOCKING.get(name, name): member
        for name, member in vars(kind).items()
        if name in NOT_BLOCKING or not name.startswith("_")
    }


@pytest.mark.parametrize(("kind", "twin"), PAIRS, ids=lambda kind: kind.__name__)
def test_a_twin_has_every_method_with_the_same_parameters(kind: type, twin: type) -> None:
    for name, method in methods(kind).items():
        assert hasattr(twin, name) or name == "create_server", f"{twin} lacks {name}"
        if inspect.isfunction(method) and hasattr(twin, name):
            ours, theirs = (
                [
                    (p.name, p.kind, p.default)
                    for p in inspect.signature(each).parameters.values()
                    if p.name not in FOR_THREADS.get(twin, {}).get(name, ())
                ]
                for each in (getattr(twin, name), method)
            )
            assert ours == theirs, name


@pytest.mark.parametrize(("kind", "twin"), CONTEXTS, ids=lambda kind: kind.__name__)
def test_a_twin_is_made_with_the_same_arguments(kind: type, twin: type) -> None:
    ours, theirs = (dict(inspect.signature(each).parameters) for each in (twin, kind))

    assert list(ours) == list(theirs)
    for each in (ours, theirs):
        each.pop("session_factory", None)  # each has its own by default
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]


def test_no_method_of_a_twin_is_a_coroutine(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        results = [
            ctx.connect("a", "b"),
            ctx.sync(),
            ctx.snapshot(),
            ctx.state(),
            ctx.dag(),
            ctx.clients(),
            ctx.status(),
            ctx.settings_state(),
            ctx.settings_snapshot(),
            ctx.settings_events(),
            ctx.events(),
            ctx.config.put("flow", "a", 1),
            ctx.config.get("flow", "a"),
            ctx.config.entry("flow", "a"),
            ctx.config.keys("flow"),
            ctx.config.entries("flow"),
            ctx.config.scan("flow"),
            ctx.config.types(),
            ctx.config.schema("flow"),
            ctx.config.delete("flow", "a"),
            ctx.pause(),
            ctx.resume(),
            ctx.disconnect("a", "b"),
            ctx.revert(),
        ]

    assert not [each for each in results if inspect.isawaitable(each)]


def test_streams_are_iterated_with_a_for_loop_and_end_when_closed(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        for number in range(3):
            ctx.connect("a", f"b{number}")
        stream = ctx.subscribe((), 0)

        seen = []
        for item in stream:
            if isinstance(item, Progress) and item.seq >= 4:
                stream.close()
            elif isinstance(item, Event):
                seen.append(item.seq)

        assert seen == [1, 2, 3, 4]
        assert "blocking" in repr(stream)


def test_typed_streams_are_iterators_too(server: GraphServer) -> None:
    with (
        sync.GraphContext(server.address) as ctx,
        sync.ProcessControlClient(server.address) as process,
    ):
        settings = ctx.subscribe_settings_events(after_seq=0)
        topology = ctx.subscribe_topology_events(after_seq=0)
        process.register(["SYS/A"])
        process.report_settings_update("SYS/A", {"gain": 1})
        ctx.connect("a", "b")

        assert next(settings).component_address == "SYS/A"
        assert next(topology).source_process_id == process.client_id
        assert next(topology).changed_topics == ["a", "b"]
        settings.close()
        assert list(settings) == []


def test_several_threads_may_use_one_context(server: GraphServer) -> None:
    seqs: list[int] = []

    def connect_many(ctx: sync.GraphContext, name: str) -> None:
        seqs.extend(ctx.connect(name, f"b{number}") for number in range(50))

    with sync.GraphContext(server.address) as ctx:
        threads = [threading.Thread(target=connect_many, args=(ctx, f"a{n}")) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(seqs) == list(range(2, 202))
        assert len(ctx.dag().edge_owners) == 200


def test_a_blocking_context_works_where_an_event_loop_runs(server: GraphServer) -> None:
    async def scenario() -> int:
        with sync.GraphContext(server.address) as ctx:
            return ctx.connect("a", "b")

    assert asyncio.run(scenario()) == 2


def test_both_forms_see_each_other(server: GraphServer) -> None:
    async def scenario() -> None:
        async with ezgraph.GraphContext(server.address, replica=True) as ctx:
            with sync.GraphContext(server.address) as other:
                seq = other.connect("a", "b")
                await ctx.replica.reach(seq)
                assert ctx.replica.state.dag.edge_owners == {("a", "b"): {other.session_id}}

    asyncio.run(scenario())


def test_a_deadline_in_the_middle_of_many_calls_spoils_none_of_them(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        for number in range(20):
            with suppress(DeadlineError):
                ctx.connect("a", f"b{number}", timeout=0)

        head = ctx.sync()
        assert ctx.connect("c", "d") == head + 1
        assert ctx.snapshot().seq == head + 1


def test_a_closed_context_says_so_and_closing_twice_is_fine(server: GraphServer) -> None:
    ctx = sync.GraphContext(server.address).open()
    process = sync.ProcessControlClient(server.address).connect()

    for each in (ctx, process, ctx, process):
        each.close()

    assert "not open" in repr(ctx)
    assert "not connected" in repr(process)


def test_a_subscription_that_nobody_looked_at_for_long_is_not_taken_for_unheard() -> None:
    """A call that waits looks after the watchers, and what they have not taken waits in the SUB."""
    server = GraphServer(backend="memory://", run_in="process").start()
    try:
        with (
            sync.GraphContext(server.address, patience_s=0.5) as ctx,
            sync.GraphContext(server.address) as other,
        ):
            stream = iter(ctx.subscribe(("edge",), after_seq=0))
            assert isinstance(next(stream), Progress)
            other.connect("a", "b")
            deadline = monotonic() + 0.8
            while monotonic() < deadline:
                other.sync()
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            with pytest.raises(DeadlineError):
                ctx.sync(timeout=0.3)  # it waits, and looks after the watcher
            os.kill(server.pid, signal.SIGCONT)

            item = next(item for item in stream if isinstance(item, Event))
            assert item.key == ("edge", "a", "b")
    finally:
        server.stop()
