"""The settings producer: a whole start, then every change once, whatever becomes of the broker."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    Address,
    Backend,
    BrokerConfig,
    ComponentMetadata,
    ConfigError,
    ContextClosedError,
    DynamicSettingsMetadata,
    GraphContext,
    GraphMetadata,
    GraphServer,
    ProcessControlClient,
    SettingsChangedEvent,
    SettingsEventType,
    sync,
)
from ezgraph.broker.service import BrokerService
from ezgraph.chaos.proxy import Cable
from ezgraph.client import aio, watch
from ezgraph.settings import (
    INIT_FINAL_COMPONENT_ADDRESS,
    PipelineSettingsEvent,
    PipelineSettingsEventType,
    PipelineSettingsProducer,
    PipelineSettingsProducerSettings,
    producer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from ezgraph.client.engine import LiveEvents

pytestmark = pytest.mark.integration

INITIAL, UPDATED, REMOVED = PipelineSettingsEventType
SENTINEL = INIT_FINAL_COMPONENT_ADDRESS
UNIT = ComponentMetadata(
    "SYS/A", "A", "m.A", "m.S", (b"opaque", {"gain": 1}), DynamicSettingsMetadata(enabled=True)
)
Told = tuple[str, PipelineSettingsEventType, Any]


def at(*addresses: str, gain: int = 1) -> GraphMetadata:
    units = {
        each: replace(UNIT, address=each, initial_settings=(b"opaque", {"gain": gain}))
        for each in addresses
    }
    return GraphMetadata(components=units)


def told(events: list[PipelineSettingsEvent]) -> list[Told]:
    return [
        (each.component_address, each.event_type, (each.structured_value or {}).get("gain"))
        for each in events
    ]


async def take(source: PipelineSettingsProducer, count: int) -> list[PipelineSettingsEvent]:
    async with asyncio.timeout(15):
        return [await source.produce() for _ in range(count)]


async def start_of(source: PipelineSettingsProducer) -> list[PipelineSettingsEvent]:
    """Return the events up to the sentinel."""
    found: list[PipelineSettingsEvent] = []
    async with asyncio.timeout(15):
        async for event in source:
            found.append(event)
            if event.component_address == SENTINEL:
                break
    return found


@asynccontextmanager
async def producing(address: Address, **chosen: Any) -> AsyncIterator[PipelineSettingsProducer]:
    settings = PipelineSettingsProducerSettings(graph_address=address, **chosen)
    source = PipelineSettingsProducer(settings)
    try:
        yield source
    finally:
        await source.close()


@contextmanager
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the producer warned of within, when it is over."""
    found: list[str] = []
    with caplog.at_level(logging.WARNING, "ezgraph.settings.producer"):
        caplog.clear()
        yield found
        name = producer.__name__
        found += [each.getMessage() for each in caplog.records if each.name == name]


class Stored:
    """A broker on one address and one journal, that is stopped and started again."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self.server = GraphServer(backend=backend).start()
        self.address = self.server.address

    def start(self) -> None:
        self.server = GraphServer(backend=self._backend).start(self.address)

    def stop(self) -> None:
        self.server.stop()

    @contextmanager
    def elsewhere(self) -> Iterator[Address]:
        """Run it where nobody who knows its address finds it."""
        with GraphServer(backend=self._backend) as server:
            yield server.address

    def compact(self) -> None:
        """Forget the history there is."""
        connected = Backend.from_url(self._backend).connect()
        with connected as connection, connection.open_journal() as journal:
            journal.drop_below(journal.head + 1)


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    running = Stored(f"sqlite:///{tmp_path}/rig.db")
    yield running
    running.stop()


# --- the start ---


def test_it_begins_with_what_there_is_and_goes_on_with_every_change(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address) as ctx,
            ProcessControlClient(server.address) as process,
            producing(server.address, target_table="mine") as source,
        ):
            await ctx.register_metadata(at("SYS/B", "SYS/A"))
            await process.register(["SYS/A"])
            live = await process.report_settings_update("SYS/A", {"gain": 5})
            head = await ctx.sync()

            begin = await start_of(source)
            for gain in range(3):
                await process.report_settings_update("SYS/A", {"gain": gain})
            await ctx.register_metadata(at("SYS/B", gain=7))
            rest = await take(source, 4)

            assert told(begin) == [
                ("SYS/A", INITIAL, 5),
                ("SYS/B", INITIAL, 1),
                (SENTINEL, INITIAL, None),
            ]
            assert [each.seq for each in begin[::2]] == [live, head]
            assert (begin[-1].structured_value, begin[-1].repr_value) == (None, "")
            assert begin[-1].timestamp == max(each.timestamp for each in begin[:-1])
            assert [each.source_session_id for each in begin] == [None, ctx.session_id, None]
            assert told(rest) == [
                *(("SYS/A", UPDATED, gain) for gain in range(3)),
                ("SYS/B", INITIAL, 7),
            ]
            assert {each.table_name for each in begin + rest} == {"mine"}
            stored = await ctx.settings_events(head)
            assert [each.seq for each in rest] == [each.seq for each in stored]

    asyncio.run(scenario())


def test_with_nothing_there_the_sentinel_comes_all_the_same(server: GraphServer) -> None:
    async def scenario() -> None:
        async with producing(server.address) as source:
            before = time.monotonic()
            (sentinel,) = await start_of(source)

            assert sentinel.component_address == SENTINEL
            assert before <= sentinel.timestamp <= time.monotonic()
            assert sentinel.flatten_for_table() is None

    asyncio.run(scenario())


def test_a_component_that_leaves_is_removed(server: GraphServer) -> None:
    async def scenario() -> None:
        async with producing(server.address) as source:
            await start_of(source)
            async with GraphContext(server.address) as ctx:
                await ctx.register_metadata(at("SYS/A", gain=3))
                session_id = ctx.session_id
            first, last = await take(source, 2)

            assert told([first, last]) == [("SYS/A", INITIAL, 3), ("SYS/A", REMOVED, 3)]
            assert last.source_session_id == session_id

    asyncio.run(scenario())


def test_what_changes_around_a_snapshot_is_told_once(
    server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        gains = iter(range(100))

        async def report() -> None:
            await process.report_settings_update("SYS/A", {"gain": next(gains)})

        class Meddled(aio.Session):
            async def fetch_live(
                self, rooms: Sequence[str] = (), *, timeout: float = 10.0  # noqa: ASYNC109
            ) -> LiveEvents:
                await report()
                live = await super().fetch_live(rooms, timeout=timeout)
                await report()
                return live

        async with (
            ProcessControlClient(server.address) as process,
            producing(server.address) as source,
        ):
            await process.register(["SYS/A"])
            monkeypatch.setattr(aio, "Session", Meddled)
            begin = await start_of(source)
            rest = await take(source, 1)
            source._must_compare = True  # as after a compaction, the subscription going on
            rest += await take(source, 2)
            await report()
            rest += await take(source, 1)

            assert told(begin)[:-1] == [("SYS/A", INITIAL, 0)]
            assert told(rest) == [("SYS/A", UPDATED, gain) for gain in range(1, 5)]

    asyncio.run(scenario())


# --- the scope ---


def test_only_the_addresses_given_are_told_of(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address) as ctx,
            producing(server.address, scope_components=["SYS/A", "SYS/C"]) as source,
        ):
            await ctx.register_metadata(at("SYS/A", "SYS/B"))
            begin = await start_of(source)
            await ctx.register_metadata(at("SYS/B", "SYS/C"))
            rest = await take(source, 2)

            assert told(begin)[:-1] == [("SYS/A", INITIAL, 1)]
            assert told(rest) == [("SYS/A", REMOVED, 1), ("SYS/C", INITIAL, 1)]

    asyncio.run(scenario())


def test_pipelines_side_by_side_do_not_mix(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address) as one,
            GraphContext(server.address) as other,
            producing(server.address, scope="session", session_of="ONE/A") as source,
        ):
            await other.register_metadata(at("TWO/A"))
            begin = await start_of(source)
            await one.register_metadata(at("ONE/B", "ONE/A"))
            await other.register_metadata(at("TWO/A", "TWO/B"))
            await one.register_metadata(at("ONE/A", "ONE/C", gain=2))
            rest = await take(source, 5)
            await one.close_session()
            async with GraphContext(server.address) as third:
                await third.register_metadata(at("ONE/A", "THREE/A"))
                end = await take(source, 4)

            assert told(begin) == [(SENTINEL, INITIAL, None)]
            assert told(rest) == [
                ("ONE/B", INITIAL, 1),
                ("ONE/A", INITIAL, 1),
                ("ONE/B", REMOVED, 1),
                ("ONE/A", INITIAL, 2),
                ("ONE/C", INITIAL, 2),
            ]
            assert told(end) == [
                ("ONE/A", REMOVED, 2),
                ("ONE/C", REMOVED, 2),
                ("ONE/A", INITIAL, 1),
                ("THREE/A", INITIAL, 1),
            ]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "wrong",
    [{"scope": "session"}, {"session_of": "A"}, {"scope": "mine"}, {"scope_components": "SYS/A"}],
)
def test_a_scope_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PipelineSettingsProducerSettings(**wrong)


# --- a broker that is not there ---


def test_without_a_broker_it_warns_once_and_begins_when_there_is_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "FIRST_OPEN_S", 0.2)
    monkeypatch.setattr(producer, "OPEN_S", 0.1)
    opened: list[float] = []

    class Counted(aio.Session):
        async def open(self, *, timeout: float = 10.0) -> None:  # noqa: ASYNC109
            opened.append(time.monotonic())
            await super().open(timeout=timeout)

    with GraphServer() as server:
        address = server.address
    monkeypatch.setattr(aio, "Session", Counted)

    async def scenario() -> None:
        async with producing(address) as source:
            waiting = asyncio.gather(start_of(source))
            await until(lambda: len(opened) == 4)
            monkeypatch.setattr(producer, "OPEN_S", 10.0)  # this host may be busy
            pauses = [later - before for before, later in pairwise(opened)]
            assert pauses[1] < pauses[2]
            assert sum(pauses) > 3 * 0.25
            assert "waiting for a broker" in repr(source)
            with GraphServer().start(address) as late, sync.GraphContext(late.address) as ctx:
                await asyncio.to_thread(ctx.register_metadata, at("SYS/A"))
                ((*_, sentinel),) = await waiting

                assert sentinel.component_address == SENTINEL
                assert "seq=" in repr(source)

    with warnings(caplog) as warned:
        asyncio.run(scenario())

    no_broker, there = warned
    assert no_broker.startswith("no broker, trying on after_seq=0: no broker answered at")
    assert there.startswith("the broker is there address=")


def test_through_restarts_of_the_broker_nothing_is_lost_or_told_twice(stored: Stored) -> None:
    async def scenario() -> None:
        async with (
            ProcessControlClient(stored.address) as process,
            producing(stored.address) as source,
        ):
            await process.register(["SYS/A"])
            await start_of(source)
            reading = asyncio.gather(take(source, 60))
            for gain in range(60):
                if gain in (20, 40):
                    await asyncio.to_thread(stored.stop)
                    await asyncio.to_thread(stored.start)
                await process.report_settings_update("SYS/A", {"gain": gain})
            (seen,) = await reading

            assert told(seen) == [("SYS/A", UPDATED, gain) for gain in range(60)]

    asyncio.run(scenario())


def test_a_new_session_goes_on_after_the_last_change(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker stays away for longer than a session's patience."""
    monkeypatch.setattr(producer, "PATIENCE_S", 0.3)
    monkeypatch.setattr(producer, "FIRST_PAUSE_S", 0.05)

    async def scenario() -> None:
        async with producing(stored.address) as source:
            with sync.ProcessControlClient(stored.address) as process:
                process.register(["SYS/A"])
                process.report_settings_update("SYS/A", {"gain": 1})
                begin = await start_of(source)
                abandon(process)
                stored.stop()
            waiting = asyncio.gather(take(source, 2))
            await until(lambda: "waiting for a broker" in repr(source))
            with stored.elsewhere() as address, sync.ProcessControlClient(address) as process:
                process.register(["SYS/B"])
                process.report_settings_update("SYS/B", {"gain": 2})
            await asyncio.to_thread(stored.start)
            (seen,) = await waiting

            assert told(begin)[:-1] == [("SYS/A", INITIAL, 1)]
            assert told(seen) == [("SYS/B", UPDATED, 2), ("SYS/B", REMOVED, 2)]

    with warnings(caplog) as warned:
        asyncio.run(scenario())

    assert [each.partition(" ")[0] for each in warned] == ["no", "the"]


def test_when_history_is_gone_the_differences_are_told(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(producer, "PATIENCE_S", 0.3)

    async def scenario() -> None:
        async with producing(stored.address) as source:
            with sync.ProcessControlClient(stored.address) as process:
                process.register(["SYS/A", "SYS/B", "SYS/C"])
                for each in "ABC":
                    process.report_settings_update(f"SYS/{each}", {"gain": 1})
                await start_of(source)
                token = process.resume_token
                abandon(process)
                stored.stop()
            waiting = asyncio.gather(take(source, 3))
            await until(lambda: "waiting for a broker" in repr(source))
            with stored.elsewhere() as address:
                process = sync.ProcessControlClient(address, resume=token)
                process.__enter__()
                process.update_ownership(added=["SYS/D"], removed=["SYS/C"])
                for gain in range(10):
                    process.report_settings_update("SYS/A", {"gain": gain})
                process.report_settings_update("SYS/D", {"gain": 4})
                token = process.resume_token
                abandon(process)
            stored.compact()
            await asyncio.to_thread(stored.start)
            (seen,) = await waiting
            with sync.ProcessControlClient(stored.address, resume=token) as process:
                process.report_settings_update("SYS/A", {"gain": 99})
                seen += await take(source, 1)

                assert told(seen) == [
                    ("SYS/A", UPDATED, 9),
                    ("SYS/D", INITIAL, 4),
                    ("SYS/C", REMOVED, 1),
                    ("SYS/A", UPDATED, 99),
                ]

    with warnings(caplog) as warned:
        asyncio.run(scenario())

    assert any("history is gone" in each for each in warned)


def test_another_journal_is_told_by_its_differences(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(producer, "FIRST_PAUSE_S", 0.05)
    with GraphServer() as server:
        address = server.address

    async def scenario() -> None:
        async with producing(address) as source:
            with GraphServer().start(address):
                async with GraphContext(address) as ctx:
                    await ctx.register_metadata(at("SYS/A", "SYS/B"))
                    await start_of(source)
                    abandon(ctx)
            with GraphServer().start(address):
                async with GraphContext(address) as ctx:
                    await ctx.register_metadata(at("SYS/B", "SYS/C", gain=2))
                    seen = await take(source, 3)
                    await ctx.register_metadata(at("SYS/C", gain=3))
                    seen += await take(source, 2)

            assert told(seen) == [
                ("SYS/B", INITIAL, 2),
                ("SYS/C", INITIAL, 2),
                ("SYS/A", REMOVED, 1),
                ("SYS/B", REMOVED, 2),
                ("SYS/C", INITIAL, 3),
            ]

    with warnings(caplog) as warned:
        asyncio.run(scenario())

    assert any("keeps another journal now" in each for each in warned)


def abandon(client: Any) -> None:
    """Let a client go without a goodbye, so that what it owns is still there."""
    inner = getattr(client, "_client", None) or getattr(client, "_context", client)
    session, inner._session = inner._session, None
    session._shut()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not reached():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("with_reset", [True, False])
def test_through_cuts_of_its_connection_nothing_is_lost_or_told_twice(
    server: GraphServer, *, with_reset: bool
) -> None:
    async def scenario() -> None:
        port = server.address.port
        async with (
            Cable("127.0.0.2", server.address.host, [port, port + 1], rng=Random(1)) as cable,
            ProcessControlClient(server.address) as process,
            producing(Address("127.0.0.2", port)) as source,
        ):
            await process.register(["SYS/A"])
            await start_of(source)
            waiting = asyncio.gather(take(source, 45))
            for gain in range(45):
                if gain % 15 == 14:
                    await until(lambda: cable.links == 2)
                    cable.cut(with_reset=with_reset)
                await process.report_settings_update("SYS/A", {"gain": gain})
            (seen,) = await waiting

            assert told(seen) == [("SYS/A", UPDATED, gain) for gain in range(45)]

    asyncio.run(scenario())


# --- the consumer ---


def test_a_slow_consumer_loses_nothing_and_is_not_drowned(
    server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BUFFER_EVENTS", 10)
    monkeypatch.setattr(watch, "STASH_EVENTS", 10)

    async def scenario() -> None:
        async with (
            ProcessControlClient(server.address) as process,
            producing(server.address) as source,
        ):
            await process.register(["SYS/A"])
            await start_of(source)
            await process.report_settings_update("SYS/A", {"gain": 0})
            seen = await take(source, 1)
            most = 0
            for gain in range(1, 200):
                await process.report_settings_update("SYS/A", {"gain": gain})
                assert source._subscription is not None
                most = max(most, len(source._subscription.watch.ready))
            seen += await take(source, 199)

            assert told(seen) == [("SYS/A", UPDATED, gain) for gain in range(200)]
            assert most <= 11

    asyncio.run(scenario())


def test_a_wait_that_is_cancelled_at_any_step_loses_nothing(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            ProcessControlClient(server.address) as process,
            producing(server.address) as source,
        ):
            await process.register(["SYS/A"])
            await start_of(source)
            seen: list[PipelineSettingsEvent] = []
            gain = steps = 0
            async with asyncio.timeout(15):
                while len(seen) < 100:
                    if gain < 100:
                        await process.report_settings_update("SYS/A", {"gain": gain})
                        gain += 1
                    waiting = asyncio.gather(source.produce())
                    steps = (steps + 1) % 7
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    waiting.cancel()
                    with suppress(asyncio.CancelledError):
                        seen += await waiting

            assert told(seen) == [("SYS/A", UPDATED, gain) for gain in range(100)]

    asyncio.run(scenario())


def test_reset_begins_again_by_other_settings_also_for_who_waits(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address) as ctx,
            producing(server.address) as source,
        ):
            await ctx.register_metadata(at("SYS/A", "SYS/B"))
            await start_of(source)
            waiting = asyncio.gather(take(source, 2))
            await asyncio.sleep(0)

            await source.reset(replace(source.settings, scope_components=["SYS/B"]))
            (begin,) = await waiting

            assert told(begin) == [("SYS/B", INITIAL, 1), (SENTINEL, INITIAL, None)]

    asyncio.run(scenario())


@pytest.mark.parametrize("there", [True, False])
def test_close_ends_who_waits_and_may_be_called_again(*, there: bool, server: GraphServer) -> None:
    address = server.address
    if not there:
        server.stop()

    async def scenario() -> None:
        async with producing(address) as source:
            if there:
                await start_of(source)

            async def rest() -> list[PipelineSettingsEvent]:
                return [event async for event in source]

            waiting = asyncio.gather(rest())
            await until(lambda: ("following" if there else "waiting") in repr(source))
            async with asyncio.timeout(5):
                await source.close()
                await source.close()
                (found,) = await waiting
                assert found == []

            assert "closed" in repr(source)
            with pytest.raises(ContextClosedError, match="closed"):
                await source.produce()
            with pytest.raises(ContextClosedError):
                await source.reset()

    asyncio.run(scenario())


# --- clocks ---


class OtherHost:
    """A clock that began elsewhere, and whose wall clock was set by somebody."""

    def __init__(self, mono_off: float, wall_off: float) -> None:
        self.mono_off, self.wall_off = mono_off, wall_off

    def monotonic(self) -> float:
        return time.monotonic() + self.mono_off

    def wall(self) -> float:
        return time.monotonic() + 1e9 + self.wall_off


@contextmanager
def broker_at(clock: OtherHost, url: str, address: Address) -> Iterator[Address]:
    """A broker by another clock, on an address and a journal."""
    up, made = threading.Event(), []

    def run() -> None:
        with Backend.from_url(url).connect() as connection:
            service = BrokerService(
                BrokerConfig(address=address), connection.open_journal(), clock=clock
            )
            made.append(service)
            service.bind()
            up.set()
            service.run()

    thread = threading.Thread(target=run)
    thread.start()
    assert up.wait(10)
    try:
        assert made[0].address is not None
        yield made[0].address
    finally:
        made[0].stop()
        thread.join(10)


def test_times_are_right_by_whatever_clocks_the_broker_lives(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rig.db"
    spans: list[tuple[float, float]] = []

    async def report(process: ProcessControlClient, gain: int) -> None:
        before = time.monotonic()
        await process.report_settings_update("SYS/A", {"gain": gain})
        spans.append((before, time.monotonic()))

    async def scenario() -> None:
        first, second = OtherHost(-50_000.0, 3600.0), OtherHost(1234.5, -3600.0)
        with broker_at(first, url, Address("127.0.0.1", 0)) as address:
            process = ProcessControlClient(address)
            await process.connect()
            await process.register(["SYS/A"])
            await report(process, 0)
            source = PipelineSettingsProducer(
                PipelineSettingsProducerSettings(graph_address=address)
            )
            seen = (await start_of(source))[:1]
            await report(process, 1)
            first.wall_off -= 5400.0
            await report(process, 2)
            seen += await take(source, 2)
            uncertain_s = source.clock_uncertainty_s
            await report(process, 3)  # read only after the broker has moved
        with broker_at(second, url, address):
            await report(process, 4)
            seen += await take(source, 2)
            await process.close()
            await source.close()

        assert uncertain_s < 0.05
        assert [gain for *_, gain in told(seen)] == list(range(5))
        for event, (before, after) in zip(seen, spans, strict=True):
            assert before - 0.05 <= event.timestamp <= after + 0.05, event

    asyncio.run(scenario())


def test_its_own_clock_is_the_one_it_is_given(server: GraphServer) -> None:
    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            settings = PipelineSettingsProducerSettings(graph_address=server.address)
            source = PipelineSettingsProducer(settings, clock=OtherHost(500.0, 0.0))
            before = time.monotonic()
            await ctx.register_metadata(at("SYS/A"))
            after = time.monotonic()
            event, _ = await start_of(source)
            uncertain_s = source.clock_uncertainty_s
            await source.close()

            assert before - uncertain_s <= event.timestamp - 500.0 <= after + uncertain_s

    asyncio.run(scenario())


# --- other code that does the same by itself ---


def test_the_parts_of_a_context_give_the_same_to_who_drives_them(stored: Stored) -> None:
    kinds = {
        SettingsEventType.INITIAL_SETTINGS: INITIAL,
        SettingsEventType.SETTINGS_UPDATED: UPDATED,
        SettingsEventType.SETTINGS_REMOVED: REMOVED,
    }

    def line(event: SettingsChangedEvent | PipelineSettingsEvent) -> tuple[Any, ...]:
        if isinstance(event, PipelineSettingsEvent):
            return event.seq, event.component_address, event.event_type, event.structured_value
        kind, value = kinds[event.event_type], event.value.structured_value
        return event.seq, event.component_address, kind, value

    async def scenario() -> None:
        async with (
            GraphContext(stored.address) as ctx,
            GraphContext(stored.address) as reader,
            ProcessControlClient(stored.address) as process,
            producing(stored.address) as source,
        ):
            await process.register(["SYS/A"])
            await process.report_settings_update("SYS/A", {"gain": 0})
            await ctx.register_metadata(at("SYS/A", "SYS/B"))
            *begin, sentinel = await start_of(source)
            seq, state = await reader.settings_state()
            stream = reader.subscribe_settings_events(after_seq=seq)
            seen: list[tuple[Any, ...]] = []
            for gain in range(30):
                if gain == 15:
                    await asyncio.to_thread(stored.stop)
                    await asyncio.to_thread(stored.start)
                await process.report_settings_update("SYS/A", {"gain": gain})
            await ctx.register_metadata(at("SYS/B", gain=9))
            async with asyncio.timeout(15):
                seen = [line(await anext(stream)) for _ in range(31)]

            assert seq == sentinel.seq
            assert {each.component_address: each.structured_value for each in begin} == {
                address: value.structured_value for address, value in state.items()
            }
            listed = await reader.settings_events(seq)
            ours = [line(each) for each in await take(source, 31)]
            assert ours == seen == [line(each) for each in listed]
            last = {each.component_address: each.seq for each in await reader.settings_events()
                    if each.seq <= seq}
            assert {each.component_address: each.seq for each in begin} == last

    asyncio.run(scenario())
