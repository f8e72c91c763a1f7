"""Deadlines: a broker that does not answer holds nobody longer than was asked for."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    BrokerConfig,
    BrokerUnreachableError,
    DeadlineError,
    EzGraphError,
    GraphContext,
    GraphMetadata,
    GraphServer,
    GraphService,
    ProcessControlClient,
    sync,
)
from ezgraph.broker.service import BrokerService
from ezgraph.client.aio import Session
from ezgraph.client.replica import Replica
from ezgraph.config import Address
from ezgraph.errors import JournalFailedError
from ezgraph.nodes import EmptyNode
from ezgraph.protocol.artifacts import Artifact
from ezgraph.testing import FlakyMemory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.integration

TIMEOUT_S = 0.1
NEXT_STEP = "see `ezgraph status`|start one with `ezgraph serve`|restart the broker"
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


# --- every public call there is ---

ARGUMENTS: dict[str, Any] = {
    "from_topic": "a",
    "to_topic": "b",
    "metadata": GraphMetadata(),
    "units": ["SYS/A"],
    "component_address": "SYS/A",
    "value": {"gain": 1},
    "seq": 10**9,
    "unit": "SYS/A",
    "operation": "move",
    "address": "SYS/A",
    "field_path": "gain",
    "when": 1,
    "old": 1,
    "tag_or_fingerprint": "good",
    "artifact": Artifact("raw"),
    "root": EmptyNode(),
    "name": "run",
}
"""What is given to required parameters, by name: a new one fails here until it has a value."""


def timed_calls(kind: type) -> list[str]:
    """Return the public methods of a class that take a timeout: those that ask the broker."""
    return sorted(
        name
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and "timeout" in inspect.signature(method).parameters
    )


def ask(client: object, name: str, timeout: float = TIMEOUT_S) -> Any:
    """Call a method by name, with what `ARGUMENTS` has for it."""
    method = getattr(client, name)
    needed = [
        parameter.name
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty
    ]
    return method(**{each: ARGUMENTS[each] for each in needed}, timeout=timeout)


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    name: str
    error: BaseException | None
    took_s: float


def check(outcome: Outcome, address: object, *kinds: type[EzGraphError]) -> None:
    """A call ended by its deadline, with an error that says where, how often and how long."""
    name, error = outcome.name, outcome.error
    assert isinstance(error, kinds or (DeadlineError,)), f"{name}: {error!r}"
    assert outcome.took_s < TIMEOUT_S + GRACE_S, name
    if isinstance(error, DeadlineError):
        assert outcome.took_s >= TIMEOUT_S - 0.01, name
        assert str(address) in str(error), name
        assert re.search(r"within 0\.\d+ s", str(error)), f"{name}: {error}"
        assert re.search(NEXT_STEP, str(error)), f"{name}: {error}"
        if name not in ("ready", "reach"):  # they wait for events, and ask for nothing
            assert re.search(r"\d+ (attempts|HELLOs|tries)", str(error)), f"{name}: {error}"


async def async_outcome(client: object, name: str) -> Outcome:
    begun, error = monotonic(), None
    try:
        answer = ask(client, name)
        await (answer.__aenter__() if hasattr(answer, "__aenter__") else answer)
    except Exception as raised:  # noqa: BLE001 - looked at by the test
        error = raised
    return Outcome(name, error, monotonic() - begun)


def blocking_outcome(client: object, name: str) -> Outcome:
    begun, error = monotonic(), None
    try:
        answer = ask(client, name)
        if hasattr(answer, "__enter__"):
            answer.__enter__()
    except Exception as raised:  # noqa: BLE001 - looked at by the test
        error = raised
    return Outcome(name, error, monotonic() - begun)


async def all_calls(ctx: GraphContext, process: ProcessControlClient) -> list[Outcome]:
    """Make every call of a context, its replica, a process client and a service, at once."""
    calls = [
        *(async_outcome(ctx, name) for name in timed_calls(GraphContext) if name != "open"),
        *(async_outcome(ctx.replica, name) for name in timed_calls(Replica)),
        *(
            async_outcome(process, name)
            for name in timed_calls(ProcessControlClient)
            if name != "connect"
        ),
        *(async_outcome(GraphService(ctx.address), name) for name in timed_calls(GraphService)),
    ]
    return list(await asyncio.gather(*calls))


@asynccontextmanager
async def clients(
    server: GraphServer,
) -> AsyncIterator[tuple[GraphContext, ProcessControlClient]]:
    """Clients that own something, so that declaring it again asks for something too."""
    async with GraphContext(server.address) as ctx, ProcessControlClient(server.address) as process:
        await ctx.connect("own/out", "own/in")
        await process.register(["SYS/B"])
        yield ctx, process


def test_there_are_calls_to_try() -> None:
    assert len(timed_calls(GraphContext)) >= 18
    assert set(timed_calls(GraphContext)) == set(timed_calls(sync.GraphContext))
    assert set(timed_calls(GraphService)) == set(timed_calls(sync.GraphService))
    assert set(timed_calls(ProcessControlClient)) == set(timed_calls(sync.ProcessControlClient))


def test_every_async_call_to_a_stopped_broker_ends_by_its_deadline(slow: GraphServer) -> None:
    async def scenario() -> None:
        async with clients(slow) as (ctx, process):
            with stopped(slow):
                outcomes = await all_calls(ctx, process)
            for each in outcomes:
                check(each, slow.address)
            assert await ctx.sync() > 0

    asyncio.run(scenario())


def test_every_async_call_to_a_broker_killed_before_or_in_the_middle_ends_by_its_deadline() -> None:
    async def scenario(server: GraphServer) -> list[Outcome]:
        address = server.address
        async with clients(server) as (ctx, process), asyncio.TaskGroup() as tasks:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            in_the_middle = tasks.create_task(all_calls(ctx, process))
            await asyncio.sleep(TIMEOUT_S / 2)
            await asyncio.to_thread(server.kill)
            outcomes = [*await in_the_middle, *await all_calls(ctx, process)]
        for each in outcomes:
            check(each, address)
        return outcomes

    with GraphServer(run_in="process") as server:
        assert len(asyncio.run(scenario(server))) > 60


def test_every_blocking_call_to_a_stopped_and_to_a_killed_broker_ends_by_its_deadline() -> None:
    with GraphServer(run_in="process") as server:
        address = server.address
        with (
            sync.GraphContext(address, replica=True) as ctx,
            sync.ProcessControlClient(address) as process,
        ):
            ctx.connect("own/out", "own/in")
            process.register(["SYS/B"])
            with stopped(server):
                outcomes = all_blocking_calls(ctx, process)
            server.kill()
            outcomes += all_blocking_calls(ctx, process)

    assert len(outcomes) > 60
    for each in outcomes:
        check(each, address)


def all_blocking_calls(
    ctx: sync.GraphContext, process: sync.ProcessControlClient
) -> list[Outcome]:
    """Make every call; those of one client one after the other, those of several at once."""
    service = sync.GraphService(ctx.address)
    clients: list[tuple[object, list[str]]] = [
        (ctx, [name for name in timed_calls(sync.GraphContext) if name != "open"]),
        (process, [name for name in timed_calls(sync.ProcessControlClient) if name != "connect"]),
        *((service, [name]) for name in timed_calls(sync.GraphService)),
    ]
    with ThreadPoolExecutor(len(clients)) as threads:
        made = threads.map(
            lambda each: [blocking_outcome(each[0], name) for name in each[1]], clients
        )
        outcomes = [outcome for each in made for outcome in each]
    return [*outcomes, blocking_outcome(ctx.replica, "reach")]


def test_every_way_to_open_ends_by_its_deadline_where_no_broker_is() -> None:
    with GraphServer() as gone:
        address = gone.address

    async def scenario() -> list[Outcome]:
        names = timed_calls(GraphService)
        return list(
            await asyncio.gather(
                async_outcome(GraphContext(address), "open"),
                async_outcome(ProcessControlClient(address), "connect"),
                *(async_outcome(GraphService(address), name) for name in names),
            )
        )

    blocking = [
        blocking_outcome(sync.GraphContext(address), "open"),
        blocking_outcome(sync.ProcessControlClient(address), "connect"),
        blocking_outcome(sync.GraphService(address), "sync"),
    ]
    for each in [*asyncio.run(scenario()), *blocking]:
        check(each, address, BrokerUnreachableError)


def test_every_call_to_a_broker_whose_journal_fails_ends_with_that_or_by_its_deadline() -> None:
    disk = FlakyMemory()
    service = BrokerService(BrokerConfig(address=Address("127.0.0.1", 0)), disk.open_journal())
    address = service.bind()
    failed: list[JournalFailedError] = []

    def serve() -> None:
        try:
            service.run()
        except JournalFailedError as error:
            failed.append(error)

    async def scenario() -> list[Outcome]:
        async with (
            GraphContext(address) as ctx,
            ProcessControlClient(address) as process,
        ):
            await ctx.connect("own/out", "own/in")
            await process.register(["SYS/B"])
            disk.fails = "before"
            with pytest.raises(JournalFailedError, match="Input/output error"):
                await ctx.pause(timeout=5)  # it is repeated, and then told
            return await all_calls(ctx, process)

    thread = threading.Thread(target=serve)
    thread.start()
    outcomes = asyncio.run(scenario())
    service.stop()
    thread.join(10)

    for each in outcomes:
        check(each, address, JournalFailedError, DeadlineError)
    assert failed, "the broker went on without its journal"


def test_a_call_does_not_wait_longer_because_another_thread_holds_the_client(
    slow: GraphServer,
) -> None:
    def hold(ctx: sync.GraphContext) -> None:
        held.set()
        ctx.sync(timeout=20)

    held = threading.Event()
    with sync.GraphContext(slow.address) as ctx, ThreadPoolExecutor(1) as other:
        with stopped(slow):
            holding = other.submit(hold, ctx)
            held.wait()
            outcome = blocking_outcome(ctx, "connect")
        holding.result(10)

    assert isinstance(outcome.error, DeadlineError)
    assert outcome.took_s < TIMEOUT_S + GRACE_S
    assert str(slow.address) in str(outcome.error)


def test_a_service_keeps_one_deadline_for_joining_asking_and_leaving(slow: GraphServer) -> None:
    class StoppingSession(Session):
        """The broker stops when it has let this one in."""

        async def open(self, *, timeout: float = 10.0) -> None:  # noqa: ASYNC109
            await super().open(timeout=timeout)
            os.kill(slow.pid or 0, signal.SIGSTOP)

    async def scenario() -> Outcome:
        service = GraphService(slow.address, session_factory=StoppingSession)
        with stopped(slow):
            os.kill(slow.pid or 0, signal.SIGCONT)
            return await async_outcome(service, "dag")

    outcome = asyncio.run(scenario())

    check(outcome, slow.address)
    assert outcome.took_s < TIMEOUT_S + 0.6, "it waits for the answer to its goodbye"


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
