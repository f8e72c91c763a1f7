"""Sessions: who is there, what they own, and that it goes when they go."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest

import ezgraph
from ezgraph import (
    ComponentMetadata,
    ContextClosedError,
    CyclicException,
    DynamicSettingsMetadata,
    Event,
    GraphContext,
    GraphMetadata,
    NoSessionError,
    Progress,
    sync,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph import GraphServer

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
OWN_AND_WAIT = """
import sys
from ezgraph import sync
from ezgraph import ComponentMetadata, DynamicSettingsMetadata, EzGraphError, GraphMetadata
part = ComponentMetadata("SYS/A", "A", "m.A", "m.S", (None, {"gain": 1}),
                         DynamicSettingsMetadata(False))
with sync.GraphContext(sys.argv[1], ttl_s=float(sys.argv[2])) as ctx:
    ctx.connect("a", "b")
    ctx.register_metadata(GraphMetadata(components={"SYS/A": part}))
    print(ctx.session_id, flush=True)
    sys.stdin.readline()
    try:
        ctx.connect("b", "c")
    except EzGraphError as error:
        print(error.code, error, flush=True)
"""


def metadata(*addresses: str) -> GraphMetadata:
    dynamic = DynamicSettingsMetadata(enabled=False)
    return GraphMetadata(
        components={
            each: ComponentMetadata(
                each, each, "m.Unit", "m.Settings", (None, {"gain": 1}), dynamic
            )
            for each in addresses
        }
    )


@contextmanager
def owner_process(
    server: GraphServer, *, ttl_s: float = 0.5
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program with a session that owns an edge and a component."""
    with subprocess.Popen(
        [sys.executable, "-c", OWN_AND_WAIT, str(server.address), str(ttl_s)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        session_id = process.stdout.readline().strip()
        try:
            assert session_id
            yield process, session_id
        finally:
            process.kill()


def taken(stream: sync.BlockingStream[object]) -> object:
    """Return the next item of a stream, which comes within ten seconds."""
    item = cast("Any", stream)._stream.next_within(10)
    assert item is not None, "nothing came in time"
    return item


def begun(stream: sync.BlockingStream[object]) -> sync.BlockingStream[object]:
    """Return the stream when the broker has welcomed it."""
    assert isinstance(taken(stream), Progress)
    return stream


def events_until(stream: sync.BlockingStream[object], last_kind: str) -> list[Event]:
    """Return the events up to and with the first of a kind."""
    found: list[Event] = []
    while not found or found[-1].kind != last_kind:
        if isinstance(item := taken(stream), Event):
            found.append(item)
    return found


def test_a_session_is_known_by_its_id_while_it_is_open(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx, sync.GraphContext(server.address) as other:
        snapshot = other.snapshot()

        assert ctx.session_id != other.session_id
        assert snapshot.sessions.keys() == {ctx.session_id, other.session_id}
        assert f"tcp://{server.address} session={ctx.session_id} bound" in repr(ctx)


CALLS_OF_A_SESSION: list[Callable[[sync.GraphContext], object]] = [
    lambda ctx: ctx.session_id,
    lambda ctx: ctx.address,
    lambda ctx: ctx.connect("a", "b"),
    lambda ctx: ctx.disconnect("a", "b"),
    lambda ctx: ctx.register_metadata(GraphMetadata()),
    lambda ctx: ctx.revert(),
    lambda ctx: ctx.pause(),
    lambda ctx: ctx.resume(),
    lambda ctx: ctx.sync(),
    lambda ctx: ctx.snapshot(),
    lambda ctx: ctx.state(),
    lambda ctx: ctx.dag(),
    lambda ctx: ctx.clients(),
    lambda ctx: ctx.status(),
    lambda ctx: ctx.settings_state(),
    lambda ctx: ctx.settings_snapshot(),
    lambda ctx: ctx.settings_events(),
    lambda ctx: ctx.events(),
    lambda ctx: ctx.subscribe(),
    lambda ctx: ctx.subscribe_settings_events(),
    lambda ctx: ctx.subscribe_topology_events(),
    lambda ctx: ctx.replica,
]


@pytest.mark.parametrize("call", CALLS_OF_A_SESSION, ids=range(len(CALLS_OF_A_SESSION)))
def test_without_an_active_session_every_call_says_to_use_a_with_block(
    server: GraphServer, call: Callable[[sync.GraphContext], object]
) -> None:
    never_open = sync.GraphContext(server.address)
    with sync.GraphContext(server.address) as left:
        pass

    for ctx in (never_open, left):
        with pytest.raises(NoSessionError, match="use `async with GraphContext"):
            call(ctx)


def test_what_a_session_owned_goes_with_it_in_one_transaction_with_an_event_for_each_removal(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as observer:
        with sync.GraphContext(server.address) as ctx:
            session_id = ctx.session_id
            ctx.connect("a", "b")
            ctx.connect("b", "c")
            ctx.register_metadata(metadata("SYS/A", "SYS/B"))
            before = ctx.sync()
        events = observer.events(after_seq=before)
        snapshot = observer.snapshot()

    assert [event.kind for event in events] == [
        "EdgeDisconnected",
        "EdgeDisconnected",
        "ComponentRemoved",
        "SettingsChanged",
        "ComponentRemoved",
        "SettingsChanged",
        "GraphRemoved",
        "SessionClosed",
    ]
    assert {(event.txn_first, event.txn_last) for event in events} == {(before + 1, before + 8)}
    assert {event.source.session_id for event in events} == {session_id}
    assert (snapshot.graph, snapshot.settings) == ({}, {})
    assert session_id not in snapshot.sessions


def test_an_edge_two_sessions_own_survives_until_the_second_is_gone(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as observer:
        with sync.GraphContext(server.address) as second:
            with sync.GraphContext(server.address) as first:
                first.connect("a", "b")
                second.connect("a", "b")
                owners = sorted([first.session_id, second.session_id])
                assert observer.snapshot().edge_owners == {("a", "b"): owners}

            assert observer.snapshot().edge_owners == {("a", "b"): [second.session_id]}

        assert observer.snapshot().graph == {}


def test_revert_drops_everything_the_session_owns_and_keeps_it_open(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        ctx.connect("a", "b")
        ctx.register_metadata(metadata("SYS/A"))
        session_id = ctx.session_id

        ctx.revert()

        snapshot = ctx.snapshot()
        assert (snapshot.graph, snapshot.settings) == ({}, {})
        assert snapshot.sessions[session_id].metadata is None
        ctx.connect("b", "a")
        assert ctx.session_id == session_id
        assert ctx.snapshot().graph == {"a": [], "b": ["a"]}


def test_close_session_ends_it_early_and_leaving_the_context_is_still_fine(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as observer, sync.GraphContext(server.address) as ctx:
        ctx.connect("a", "b")

        ctx.close_session()

        assert observer.snapshot().graph == {}
        assert len(observer.clients()) == 1
        with pytest.raises(NoSessionError):
            ctx.connect("a", "b")


def test_a_context_opened_again_has_a_new_session(server: GraphServer) -> None:
    ctx = sync.GraphContext(server.address)
    with ctx:
        first = ctx.session_id
        assert ctx.open() is ctx
        assert ctx.session_id == first
    with ctx:
        assert ctx.session_id != first


def test_an_exception_in_the_block_ends_the_session_too(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as observer:
        with suppress(ZeroDivisionError), sync.GraphContext(server.address) as ctx:
            ctx.connect("a", "b")
            raise ZeroDivisionError

        assert observer.snapshot().graph == {}


def test_a_refusal_leaves_the_session_as_it_was(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        before = ctx.connect("a", "b")

        with pytest.raises(CyclicException):
            ctx.connect("b", "a")

        assert ctx.sync() == before
        assert ctx.connect("b", "c") == before + 1


def test_everybody_who_holds_a_lease_is_listed_with_what_they_own(server: GraphServer) -> None:
    with (
        sync.GraphContext(server.address, ttl_s=9.0) as ctx,
        sync.ProcessControlClient(server.address) as process,
    ):
        ctx.connect("a", "b")
        ctx.register_metadata(metadata("SYS/B", "SYS/A"))
        process.register(["SYS/B", "SYS/A"])

        session, worker = ctx.clients()

    assert (session.id, session.kind, session.ttl_s) == (ctx_id(session.id), "session", 9.0)
    assert (session.edges, session.components) == ([("a", "b")], ["SYS/A", "SYS/B"])
    assert (UUID(worker.id), worker.kind, worker.ttl_s) == (UUID(worker.id), "process", 6.0)
    assert worker.units == ["SYS/A", "SYS/B"]
    for each in (session, worker):
        assert (each.host, each.pid) == (socket.gethostname(), os.getpid())
        assert (each.login, each.key_name) == (getpass.getuser(), None)
        assert each.program
        assert 0 <= each.last_heard_s <= each.age_s < 60
        assert not each.suspended


def ctx_id(text: str) -> str:
    """A session id: 16 hexadecimal digits."""
    assert len(bytes.fromhex(text)) == 8
    return text


def test_a_listing_tells_when_the_main_loop_of_a_program_last_moved(server: GraphServer) -> None:
    stuck_s = 1.5

    async def scenario() -> float | None:
        async with GraphContext(server.address, ttl_s=0.6) as ctx:
            await ctx.connect("a", "b")
            await ctx.connect("b", "c")
            threading.Event().wait(stuck_s)  # on purpose: the event loop stands still
            (client,) = await ctx.clients()
            return client.main_loop_age_s

    age_s = asyncio.run(scenario())

    assert age_s is not None
    assert age_s > stuck_s / 3


def test_a_program_whose_event_loop_stands_still_keeps_its_session(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address, ttl_s=0.5) as ctx:
            await ctx.connect("a", "b")
            session_id = ctx.session_id

            threading.Event().wait(1.2)  # on purpose: longer than two TTLs

            await ctx.connect("b", "c")
            assert ctx.session_id == session_id
            assert (await ctx.snapshot()).graph == {"a": ["b"], "b": ["c"], "c": []}

    asyncio.run(scenario())


def test_an_idle_session_is_kept_alive(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as observer:
        stream = begun(observer.subscribe(("session",)))
        with sync.GraphContext(server.address, ttl_s=0.5) as ctx:
            threading.Event().wait(1.2)
            ctx.connect("a", "b")

        opened, closed = events_until(stream, "SessionClosed")
        assert opened.key == closed.key == ("session", opened.source.session_id)
        assert getattr(closed.body, "reason").value == "closed"  # noqa: B009 - a union of bodies


def test_all_a_killed_program_owned_goes_when_its_lease_runs_out(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as observer:
        with owner_process(server) as (process, session_id):
            stream = begun(observer.subscribe())
            process.send_signal(signal.SIGKILL)
            process.wait()
            events = events_until(stream, "SessionClosed")
        snapshot = observer.snapshot()

    kinds = [event.kind for event in events]
    assert kinds == [
        "EdgeDisconnected",
        "ComponentRemoved",
        "SettingsChanged",
        "GraphRemoved",
        "SessionClosed",
    ]
    assert len({(event.txn_first, event.txn_last) for event in events}) == 1
    assert {event.source.session_id for event in events} == {session_id}
    assert session_id not in snapshot.sessions
    assert (snapshot.graph, snapshot.settings) == ({}, {})


def test_a_killed_program_is_missed_long_before_its_lease_runs_out(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as observer:
        with owner_process(server, ttl_s=60.0) as (process, session_id):
            stream = begun(observer.subscribe())
            process.kill()
            killed_at = monotonic()
            *_, closed = events_until(stream, "SessionClosed")
            gone_after_s = monotonic() - killed_at

        assert closed.source.session_id == session_id
        assert getattr(closed.body, "reason").value == "lost"  # noqa: B009 - a union of bodies
        assert gone_after_s < 3.0
        assert observer.snapshot().graph == {}


def test_a_stopped_program_that_comes_back_too_late_is_told_that_its_session_is_over(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as observer, owner_process(server) as (process, _):
        stream = begun(observer.subscribe(("session",)))
        process.send_signal(signal.SIGSTOP)
        events_until(stream, "SessionClosed")

        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate("go on\n", timeout=20)

        assert said.startswith("session_expired lease ")
        assert "lost 1 edge (a -> b) and 1 component (SYS/A)" in said
        assert "redeclare()" in said
        assert observer.snapshot().graph == {}


def test_addresses_held_by_a_dead_program_are_free_again_when_its_lease_ran_out(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as ctx:
        with owner_process(server) as (process, _):
            stream = begun(ctx.subscribe(("session",)))
            process.kill()
            events_until(stream, "SessionClosed")

        ctx.register_metadata(metadata("SYS/A"))

        assert list(ctx.snapshot().settings) == ["SYS/A"]


def test_several_addresses_are_tried_in_turn(server: GraphServer) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, but nobody listens
        dead = f"127.0.0.1:{nobody.getsockname()[1]}"

        with sync.GraphContext([dead, str(server.address)]) as ctx:
            assert ctx.address == server.address
            ctx.connect("a", "b")


def test_a_call_that_waits_while_the_context_is_closed_ends_with_an_error(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        ctx = await GraphContext(server.address).open()
        stream = ctx.subscribe()
        assert isinstance(await stream.__anext__(), Progress)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(_error_of(stream))
            await asyncio.sleep(0)
            await ctx.close()
        assert isinstance(waiting.result(), ContextClosedError)

    async def _error_of(stream: object) -> BaseException | None:
        try:
            while True:
                await anext(stream)  # type: ignore[call-overload]
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            return error

    asyncio.run(scenario())
