"""Deadlines: a broker that does not answer holds nobody longer than was asked for."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from ezgraph import (
    DeadlineError,
    GraphContext,
    GraphMetadata,
    GraphServer,
    GraphService,
    ProcessControlClient,
    sync,
)
from ezgraph.client.aio import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = pytest.mark.integration

TIMEOUT_S = 0.15
GRACE_S = 1.0
"""A deadline may be late by this much on a busy machine, and by no more."""


@pytest.fixture(scope="module")
def slow() -> Iterator[GraphServer]:
    """A broker in a process, so that it can be stopped."""
    with GraphServer(run_in="process") as server:
        yield server


@contextmanager
def stopped(server: GraphServer) -> Iterator[None]:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


ASYNC_CALLS: dict[str, Callable[[GraphContext], Awaitable[object]]] = {
    "connect": lambda ctx: ctx.connect("a", "b", timeout=TIMEOUT_S),
    "disconnect": lambda ctx: ctx.disconnect("a", "b", timeout=TIMEOUT_S),
    "register_metadata": lambda ctx: ctx.register_metadata(GraphMetadata(), timeout=TIMEOUT_S),
    "revert": lambda ctx: ctx.revert(timeout=TIMEOUT_S),
    "pause": lambda ctx: ctx.pause(timeout=TIMEOUT_S),
    "resume": lambda ctx: ctx.resume(timeout=TIMEOUT_S),
    "sync": lambda ctx: ctx.sync(timeout=TIMEOUT_S),
    "snapshot": lambda ctx: ctx.snapshot(timeout=TIMEOUT_S),
    "state": lambda ctx: ctx.state(timeout=TIMEOUT_S),
    "dag": lambda ctx: ctx.dag(timeout=TIMEOUT_S),
    "clients": lambda ctx: ctx.clients(timeout=TIMEOUT_S),
    "status": lambda ctx: ctx.status(timeout=TIMEOUT_S),
    "settings_state": lambda ctx: ctx.settings_state(timeout=TIMEOUT_S),
    "settings_snapshot": lambda ctx: ctx.settings_snapshot(timeout=TIMEOUT_S),
    "settings_events": lambda ctx: ctx.settings_events(timeout=TIMEOUT_S),
    "events": lambda ctx: ctx.events(timeout=TIMEOUT_S),
    "replica": lambda ctx: ctx.replica.ready(timeout=TIMEOUT_S),
}


async def fails_in_time(call: Awaitable[object]) -> str:
    start = monotonic()
    with pytest.raises(DeadlineError) as told:
        await call
    assert TIMEOUT_S <= monotonic() - start < TIMEOUT_S + GRACE_S
    return str(told.value)


def test_every_call_of_a_context_keeps_its_deadline_and_names_the_address(
    slow: GraphServer,
) -> None:
    async def scenario() -> None:
        async with GraphContext(slow.address) as ctx:
            await ctx.sync()
            with stopped(slow):
                for name, call in ASYNC_CALLS.items():
                    message = await fails_in_time(call(ctx))
                    assert str(slow.address) in message, name
                    assert "ezgraph status" in message, name
            assert await ctx.sync() > 0

    asyncio.run(scenario())


def test_every_call_of_a_blocking_context_keeps_its_deadline(slow: GraphServer) -> None:
    calls: list[Callable[[sync.GraphContext], object]] = [
        lambda ctx: ctx.connect("a", "b", timeout=TIMEOUT_S),
        lambda ctx: ctx.snapshot(timeout=TIMEOUT_S),
        lambda ctx: ctx.settings_events(timeout=TIMEOUT_S),
        lambda ctx: ctx.clients(timeout=TIMEOUT_S),
    ]
    with sync.GraphContext(slow.address) as ctx:
        with stopped(slow):
            for call in calls:
                start = monotonic()
                with pytest.raises(DeadlineError, match=f"{slow.address}"):
                    call(ctx)
                assert monotonic() - start < TIMEOUT_S + GRACE_S
        assert ctx.sync() > 0


def test_services_and_process_clients_keep_their_deadlines(slow: GraphServer) -> None:
    async def scenario() -> None:
        service = GraphService(slow.address)
        async with ProcessControlClient(slow.address) as process:
            with stopped(slow):
                for call in (
                    service.connect("a", "b", timeout=TIMEOUT_S),
                    service.dag(timeout=TIMEOUT_S),
                    service.shutdown(timeout=TIMEOUT_S),
                    service.ensure(timeout=TIMEOUT_S),
                    service.get_formatted_graph(timeout=TIMEOUT_S),
                    process.register(["SYS/A"], timeout=TIMEOUT_S),
                    process.report_settings_update("SYS/A", {}, timeout=TIMEOUT_S),
                ):
                    assert str(slow.address) in await fails_in_time(call)

    asyncio.run(scenario())


def test_leaving_a_context_does_not_wait_for_a_broker_that_does_not_answer(
    slow: GraphServer,
) -> None:
    async def scenario() -> float:
        ctx = await GraphContext(slow.address).open()
        with stopped(slow):
            start = monotonic()
            await ctx.close()
            return monotonic() - start

    assert asyncio.run(scenario()) < 2.5


def in_flight(ctx: GraphContext) -> int:
    """How many calls the session of a context still works on."""
    session = ctx._session
    assert isinstance(session, Session)
    assert session._engine is not None
    return session._engine.in_flight


def test_a_cancelled_call_leaves_the_context_usable(slow: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(slow.address) as ctx:
            with stopped(slow):
                for _ in range(3):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.05):
                            await ctx.connect("x", "y")
                assert in_flight(ctx) == 0
            await ctx.sync()
            assert (await ctx.dag()).graph == {"x": {"y"}, "y": set()}
            assert len(await ctx.events(("edge", "x"))) == 1

    asyncio.run(scenario())


def test_a_call_that_a_stopped_broker_took_late_is_answered_once(slow: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(slow.address) as ctx:
            async with asyncio.TaskGroup() as tasks:
                with stopped(slow):
                    calls = [tasks.create_task(ctx.connect("p", f"q{n}")) for n in range(20)]
                    await asyncio.sleep(1.2)  # long enough for a repetition of each
            seqs = [call.result() for call in calls]
            events = await ctx.events(("edge", "p"))
            assert sorted(seqs) == [event.seq for event in events]
            assert len(events) == 20

    asyncio.run(scenario())
