"""The promises on real sockets, processes and disks, as far as only those can show them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ezgraph import (
    BrokerUnreachableError,
    DeadlineError,
    Event,
    GraphContext,
    GraphServer,
    Progress,
    sync,
)
from ezgraph.errors import CyclicException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@contextmanager
def broker_process(backend: str = "memory://") -> Iterator[GraphServer]:
    server = GraphServer(backend=backend, run_in="process")
    with server:
        yield server


@contextmanager
def silent_port() -> Iterator[str]:
    """An address where somebody accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


# --- G2, G10: a stopped reader ---


def test_g2_g10_a_stopped_broker_process_costs_its_watchers_and_replicas_nothing() -> None:
    async def story(server: GraphServer, pid: int) -> None:
        address = str(server.address)
        async with GraphContext(address, replica=True) as reader, GraphContext(address) as writer:
            events = reader.subscribe(("edge",))
            assert isinstance(await anext(aiter(events)), Progress)  # "now" is known: it began
            for n in range(20):
                if n == 10:
                    os.kill(pid, signal.SIGSTOP)
                    asyncio.get_running_loop().call_later(0.7, os.kill, pid, signal.SIGCONT)
                await writer.connect("a", f"b{n}")
            seen = []
            async for item in events:
                if isinstance(item, Event):
                    seen.append(item.body.to_topic)  # type: ignore[union-attr]
                if len(seen) == 20:
                    break
            assert seen == [f"b{n}" for n in range(20)]
            state = await writer.state()
            await reader.replica.reach(state.seq)
            assert reader.replica.fingerprint() == state.fingerprint()
            await events.aclose()

    with broker_process() as server:
        assert server.pid is not None
        asyncio.run(story(server, server.pid))


# --- G4: durable ---


def test_g4_what_was_answered_before_a_kill_minus_nine_is_there_after_it(tmp_path: Path) -> None:
    backend = f"sqlite:///{tmp_path / 'rig.db'}"
    answered: list[tuple[str, int]] = []

    async def connect_until_killed(server: GraphServer) -> None:
        async def one(context: GraphContext, name: str) -> None:
            try:
                answered.append((name, await context.connect("a", name, timeout=1.0)))
            except DeadlineError:
                return
            if len(answered) == 200:
                server.kill()

        async with GraphContext(str(server.address)) as context, asyncio.TaskGroup() as group:
            for n in range(400):
                group.create_task(one(context, f"b{n}"))

    with broker_process(backend) as server:
        asyncio.run(connect_until_killed(server))

    assert len(answered) >= 200
    with broker_process(backend) as server, sync.GraphContext(str(server.address)) as context:
        stored = {event.seq: event for event in context.events(("edge",))}
    for name, seq in answered:
        assert stored[seq].key == ("edge", "a", name)


# --- G6: read your writes ---


def test_g6_an_async_call_returns_when_the_replica_has_it(server: GraphServer) -> None:
    async def story() -> None:
        async with GraphContext(str(server.address), replica=True) as context:
            for n in range(50):
                seq = await context.connect("a", f"b{n}")
                assert context.replica.seq >= seq
                assert f"b{n}" in context.replica.state.dag.graph["a"]
                await context.disconnect("a", f"b{n}")
                assert not context.replica.state.dag.graph

    asyncio.run(story())


def test_g6_a_blocking_call_returns_when_the_replica_has_it(server: GraphServer) -> None:
    with sync.GraphContext(str(server.address), replica=True) as context:
        for n in range(50):
            seq = context.connect("a", f"b{n}")
            replica = context._context.replica  # as the call left it: a look would bring it on
            assert replica.seq >= seq
            assert f"b{n}" in replica.state.dag.graph["a"]


# --- G8: a refusal changes nothing ---


def test_g8_a_refused_call_leaves_the_broker_as_it_was(server: GraphServer) -> None:
    with sync.GraphContext(str(server.address)) as context:
        context.connect("a", "b")
        before = context.state().fingerprint()

        with pytest.raises(CyclicException, match="a -> b"):
            context.connect("b", "a")

        assert context.state().fingerprint() == before


# --- G9: nothing hangs ---


def seconds_until_error(act: Callable[[], object], kind: type[Exception], saying: str) -> float:
    """Return how long ``act`` took to raise; fail, rather than hang with it, after ten seconds."""
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            outcome.append(error)
        else:
            outcome.append(None)

    started = time.monotonic()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10.0)
    took = time.monotonic() - started
    assert outcome, "it hangs"
    with pytest.raises(kind, match=saying):
        raise outcome[0] or AssertionError("it raised nothing")
    return took


@pytest.mark.parametrize("shell", ["async", "blocking"])
def test_g9_opening_at_a_dead_address_ends_at_its_deadline_and_names_it(shell: str) -> None:
    async def open_async(address: str) -> None:
        await GraphContext(address).open(timeout=0.6)

    with silent_port() as address:

        def act() -> None:
            if shell == "async":
                asyncio.run(open_async(address))
            else:
                sync.GraphContext(address).open(timeout=0.6)

        assert 0.5 < seconds_until_error(act, BrokerUnreachableError, address) < 3.0


@pytest.mark.parametrize("shell", ["async", "blocking"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_g9_calls_to_a_broker_that_dies_or_stops_end_at_their_deadline(
    shell: str, number: signal.Signals
) -> None:
    async def call_async(address: str, pid: int) -> None:
        context = await GraphContext(address).open()
        os.kill(pid, number)
        try:
            await context.connect("a", "b", timeout=0.7)
        finally:
            await context.close()

    def call_blocking(address: str, pid: int) -> None:
        context = sync.GraphContext(address).open()
        os.kill(pid, number)
        try:
            context.connect("a", "b", timeout=0.7)
        finally:
            context.close()

    with broker_process() as server:
        pid, address = server.pid, str(server.address)
        assert pid is not None

        def act() -> None:
            if shell == "async":
                asyncio.run(call_async(address, pid))
            else:
                call_blocking(address, pid)

        try:
            took = seconds_until_error(act, DeadlineError, address)
        finally:
            server.kill()
    assert 0.6 < took < 5.0
