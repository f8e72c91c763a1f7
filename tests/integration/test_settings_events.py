"""Settings: snapshots and events agree, in every order in which layers come and go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ezgraph import (
    Backend,
    CompactedError,
    ComponentMetadata,
    DivergedError,
    DynamicSettingsMetadata,
    GraphContext,
    GraphMetadata,
    GraphServer,
    ProcessControlClient,
    SettingsChangedEvent,
    SettingsEventType,
    SettingsSnapshotValue,
    sync,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ezgraph.graph.streams import EventStream

pytestmark = pytest.mark.integration

INITIAL = SettingsEventType.INITIAL_SETTINGS
UPDATED = SettingsEventType.SETTINGS_UPDATED
REMOVED = SettingsEventType.SETTINGS_REMOVED
UNIT = ComponentMetadata(
    "SYS/A", "A", "m.A", "m.S", (b"opaque", {"gain": 1}), DynamicSettingsMetadata(enabled=True)
)


def at(address: str, gain: int = 1) -> GraphMetadata:
    unit = replace(UNIT, address=address, initial_settings=(b"opaque", {"gain": gain}))
    return GraphMetadata(components={address: unit})


def gains(events: Sequence[SettingsChangedEvent]) -> list[tuple[str, SettingsEventType, object]]:
    return [
        (each.component_address, each.event_type, (each.value.structured_value or {}).get("gain"))
        for each in events
    ]


async def take(stream: EventStream[SettingsChangedEvent], count: int) -> list[SettingsChangedEvent]:
    async with asyncio.timeout(10):
        return [await anext(stream) for _ in range(count)]


def test_registering_metadata_puts_initial_settings_into_snapshot_and_events(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as ctx:
        seq = ctx.register_metadata(at("SYS/A"))

        state_seq, settings = ctx.settings_state()
        (event,) = ctx.settings_events()

        expected = SettingsSnapshotValue(b"opaque", {"gain": 1}, {"gain": 1}, None)
        assert (state_seq, settings) == (seq, {"SYS/A": expected})
        assert ctx.settings_snapshot() == settings
        assert event == SettingsChangedEvent(
            seq=seq,
            event_type=INITIAL,
            component_address="SYS/A",
            timestamp=event.wall_time,
            source_session_id=ctx.session_id,
            source_process_id=None,
            value=expected,
            wall_time=event.wall_time,
            by=event.by,
        )


def test_a_process_report_is_seen_in_snapshot_and_events_with_its_process_id(
    server: GraphServer,
) -> None:
    with (
        sync.GraphContext(server.address) as ctx,
        sync.ProcessControlClient(server.address) as process,
    ):
        ctx.register_metadata(at("SYS/A"))
        process.register(["SYS/A"])

        seq = process.report_settings_update("SYS/A", {"gain": 5}, timestamp=1234.5)

        _, update = ctx.settings_events()
        assert ctx.settings_snapshot()["SYS/A"].structured_value == {"gain": 5}
        assert (update.seq, update.event_type) == (seq, UPDATED)
        assert (update.source_process_id, update.source_session_id) == (process.client_id, None)
        assert update.timestamp == 1234.5
        assert update.wall_time > 1.7e9


def test_a_process_that_goes_gives_way_to_the_initial_value_with_an_event(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as ctx:
        with sync.ProcessControlClient(server.address) as process:
            ctx.register_metadata(at("SYS/A"))
            process.register(["SYS/A"])
            process.report_settings_update("SYS/A", {"gain": 5})

        events = ctx.settings_events()

        assert gains(events) == [
            ("SYS/A", INITIAL, 1),
            ("SYS/A", UPDATED, 5),
            ("SYS/A", UPDATED, 1),
        ]
        assert events[-1].value.serialized == b"opaque"
        assert ctx.settings_snapshot() == {"SYS/A": events[-1].value}


def test_a_live_value_stays_when_the_session_goes_and_ends_with_its_process(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as observer:
        with sync.ProcessControlClient(server.address) as process:
            with sync.GraphContext(server.address) as ctx:
                ctx.register_metadata(at("SYS/A"))
                process.register(["SYS/A"])
                process.report_settings_update("SYS/A", {"gain": 5})
            after_session = observer.settings_snapshot()
            process_id = process.client_id

        events = observer.settings_events()

        assert after_session["SYS/A"].structured_value == {"gain": 5}
        assert observer.settings_snapshot() == {}
        assert gains(events)[2:] == [("SYS/A", REMOVED, 5)]
        assert events[-1].source_process_id == process_id


def test_a_session_that_goes_takes_the_initial_value_and_the_removal_carries_it(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as observer:
        with sync.GraphContext(server.address) as ctx:
            ctx.register_metadata(at("SYS/A", gain=3))
            session_id = ctx.session_id

        _, removal = observer.settings_events()

        assert (removal.event_type, removal.value.structured_value) == (REMOVED, {"gain": 3})
        assert (removal.value.serialized, removal.source_session_id) == (b"opaque", session_id)
        assert observer.settings_snapshot() == {}


def test_events_after_a_seq_are_those_after_it(server: GraphServer) -> None:
    with (
        sync.GraphContext(server.address) as ctx,
        sync.ProcessControlClient(server.address) as process,
    ):
        process.register(["SYS/A"])
        seqs = [process.report_settings_update("SYS/A", {"gain": each}) for each in range(5)]

        assert [each.seq for each in ctx.settings_events(seqs[2])] == seqs[3:]
        assert ctx.settings_events(seqs[-1]) == []
        assert (ctx.settings_events().complete, ctx.settings_events().floor) == (True, 1)


def test_events_after_a_seq_beyond_the_head_are_refused(server: GraphServer) -> None:
    with (
        sync.GraphContext(server.address) as ctx,
        pytest.raises(DivergedError, match="after_seq=99 lies beyond the head 1 of epoch 1"),
    ):
        ctx.settings_events(99)


def test_a_subscription_goes_from_history_to_live_without_loss_or_repeat(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address) as ctx,
            ProcessControlClient(server.address) as process,
        ):
            await process.register(["SYS/A"])
            for gain in range(10):
                await process.report_settings_update("SYS/A", {"gain": gain})

            stream = ctx.subscribe_settings_events(after_seq=0)
            history = await take(stream, 4)
            for gain in range(10, 20):
                await process.report_settings_update("SYS/A", {"gain": gain})
            rest = await take(stream, 16)
            await stream.aclose()

            assert [gain for _, _, gain in gains([*history, *rest])] == list(range(20))
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    asyncio.run(scenario())


def test_a_subscription_without_a_seq_begins_with_what_comes(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address) as ctx,
            ProcessControlClient(server.address) as process,
        ):
            await process.register(["SYS/A"])
            await process.report_settings_update("SYS/A", {"gain": 1})
            stream = ctx.subscribe_settings_events()
            marker = ctx.subscribe(("settings",))
            await anext(marker)  # the broker's welcome to this prefix: both have begun

            await process.report_settings_update("SYS/A", {"gain": 2})

            assert gains(await take(stream, 1)) == [("SYS/A", UPDATED, 2)]

    asyncio.run(scenario())


def test_two_subscriptions_of_one_context_each_get_everything(server: GraphServer) -> None:
    async def scenario() -> None:
        async with (
            GraphContext(server.address) as ctx,
            ProcessControlClient(server.address) as process,
        ):
            await process.register(["SYS/A"])
            first = ctx.subscribe_settings_events(after_seq=0)
            await process.report_settings_update("SYS/A", {"gain": 1})
            assert gains(await take(first, 1)) == [("SYS/A", UPDATED, 1)]
            second = ctx.subscribe_settings_events(after_seq=0)
            await process.report_settings_update("SYS/A", {"gain": 2})

            assert gains(await take(first, 1)) == [("SYS/A", UPDATED, 2)]
            assert [gain for *_, gain in gains(await take(second, 2))] == [1, 2]
            await first.aclose()
            await process.report_settings_update("SYS/A", {"gain": 3})
            assert gains(await take(second, 1)) == [("SYS/A", UPDATED, 3)]

    asyncio.run(scenario())


# --- below the floor ---


@pytest.fixture
def compacted(tmp_path: Path) -> tuple[GraphServer, int]:
    """A stopped broker, and the floor below which its history is gone.

    SYS/A was reported last just below the floor, SYS/B above it, SYS/GONE is no more.
    """
    url = f"sqlite:///{tmp_path}/rig.db"
    server = GraphServer(backend=url)
    process = sync.ProcessControlClient
    with server.start(), process(server.address) as one, sync.GraphContext(server.address) as ctx:
        one.register(["SYS/A", "SYS/B", "SYS/GONE"])
        one.report_settings_update("SYS/A", {"gain": 0})
        one.report_settings_update("SYS/GONE", {"gain": 9})
        one.update_ownership(removed=["SYS/GONE"])
        one.report_settings_update("SYS/A", {"gain": 1}, timestamp=11.0)
        ctx.connect("a", "b")
        leave_open(one, ctx)
        server.stop()
    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        floor = journal.head + 1
        journal.drop_below(floor)
    return GraphServer(backend=url), floor


def leave_open(*clients: object) -> None:
    """Let the clients go without a goodbye, so that what they own is still there."""
    for each in clients:
        inner = getattr(each, "_client", None) or getattr(each, "_context")  # noqa: B009
        session, inner._session = inner._session, None
        session._shut()


def test_below_the_floor_a_list_begins_with_the_last_change_of_what_is_present(
    compacted: tuple[GraphServer, int],
) -> None:
    server, floor = compacted
    with server.start(), sync.GraphContext(server.address) as ctx:
        with sync.ProcessControlClient(server.address) as process:
            process.register(["SYS/C"])
            process.report_settings_update("SYS/C", {"gain": 2})

            events = ctx.settings_events(after_seq=1)

        assert (events.complete, events.floor) == (False, floor)
        assert gains(events) == [("SYS/A", UPDATED, 1), ("SYS/C", UPDATED, 2)]
        assert events[0].seq < floor <= events[1].seq
        assert events[0].timestamp == 11.0


def test_after_the_floor_a_list_is_complete(compacted: tuple[GraphServer, int]) -> None:
    server, floor = compacted
    with server.start(), sync.GraphContext(server.address) as ctx:
        events = ctx.settings_events(after_seq=floor - 1)

        assert (list(events), events.complete, events.floor) == ([], True, floor)


def test_below_the_floor_subscriptions_raise_with_floor_and_snapshot(
    compacted: tuple[GraphServer, int],
) -> None:
    server, floor = compacted

    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            for stream in (ctx.subscribe_settings_events(2), ctx.subscribe_topology_events(2)):
                with pytest.raises(CompactedError) as told:
                    await anext(stream)

                assert told.value.floor == floor
                assert told.value.snapshot.graph == {"a": ["b"], "b": []}
                assert told.value.snapshot.settings["SYS/A"].structured_value == {"gain": 1}
                assert f"history below seq {floor} was compacted" in str(told.value)
                assert f"with after_seq={told.value.snapshot.seq}" in str(told.value)

    with server.start():
        asyncio.run(scenario())


def test_a_subscription_goes_on_from_the_snapshot_in_the_error(
    compacted: tuple[GraphServer, int],
) -> None:
    server, _ = compacted

    async def scenario() -> None:
        async with (
            GraphContext(server.address) as ctx,
            ProcessControlClient(server.address) as process,
        ):
            with pytest.raises(CompactedError) as told:
                await anext(ctx.subscribe_settings_events(2))
            await process.register(["SYS/C"])
            await process.report_settings_update("SYS/C", {"gain": 2})

            stream = ctx.subscribe_settings_events(told.value.snapshot.seq)

            assert gains(await take(stream, 1)) == [("SYS/C", UPDATED, 2)]

    with server.start():
        asyncio.run(scenario())


def test_a_subscription_from_zero_begins_like_the_list(compacted: tuple[GraphServer, int]) -> None:
    server, _ = compacted

    async def scenario() -> None:
        async with (
            GraphContext(server.address) as ctx,
            ProcessControlClient(server.address) as process,
        ):
            stream = ctx.subscribe_settings_events(after_seq=0)
            begin = await take(stream, 1)
            await process.register(["SYS/C"])
            await process.report_settings_update("SYS/C", {"gain": 2})

            assert gains(begin) == [("SYS/A", UPDATED, 1)]
            assert gains(await take(stream, 1)) == [("SYS/C", UPDATED, 2)]

    with server.start():
        asyncio.run(scenario())


def test_a_topology_subscription_from_zero_begins_with_what_is_there(
    compacted: tuple[GraphServer, int],
) -> None:
    server, _ = compacted

    async def scenario() -> None:
        async with GraphContext(server.address) as ctx:
            stream = ctx.subscribe_topology_events(after_seq=0)
            await ctx.connect("c", "d")

            seen: set[str] = set()
            async with asyncio.timeout(5):
                while not {"c", "d"} <= seen:
                    seen |= set((await anext(stream)).changed_topics)

            assert seen == {"a", "b", "c", "d"}

    with server.start():
        asyncio.run(scenario())
