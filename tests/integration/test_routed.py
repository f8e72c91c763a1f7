"""Requests to units and changes of settings on real sockets: every answer there is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from ezgraph import (
    Address,
    BrokerConfig,
    EzGraphError,
    GraphContext,
    GraphMetadata,
    GraphServer,
    Limits,
    ProcessControlClient,
)
from ezgraph.errors import (
    ForbiddenError,
    InvalidCommandError,
    MalformedMessageError,
    NoOwnerError,
    OutOfBoundsError,
    OwnerGoneError,
    OwnerSilentError,
    ReadOnlyFieldError,
    SchemaVersionError,
    SettingsRefusedError,
    StaleWriteError,
    UnknownComponentError,
    UnknownFieldError,
    VetoedError,
    WrongTypeError,
)
from ezgraph.keys.keyring import Keyring
from ezgraph.protocol.commands import Hello, UpdateUnits
from ezgraph.protocol.metadata import (
    DynamicSettingsMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
    UnitMetadata,
)
from ezgraph.protocol.routed import ProcessControlErrorCode, ProcessControlResponse
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.testing import running_broker
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator
    from pathlib import Path

    from ezgraph.protocol.routed import ProcessControlRequest, SettingsChangeRequest

pytestmark = pytest.mark.integration

UNIT, ORPHAN, NEWER = "SYS/FILTER", "SYS/ORPHAN", "SYS/NEWER"
SCHEMA = SettingsSchemaMetadata(
    "test",
    "Filter",
    [
        SettingsFieldMetadata("cutoff", "float", bounds=(0.0, 100.0)),
        SettingsFieldMetadata("order", "int"),
        SettingsFieldMetadata("serial", "str", read_only=True),
    ],
)
SETTINGS: dict[str, Any] = {"cutoff": 30.0, "order": 4, "serial": "X1"}


@pytest.fixture
def server() -> Iterator[GraphServer]:
    with running_broker() as server:
        yield server


def reported(schema: SettingsSchemaMetadata = SCHEMA, **settings: Any) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, settings, settings, schema)


class Filter:
    """What runs the unit: it applies what it is asked, in its own way for some values."""

    def __init__(self, process: ProcessControlClient) -> None:
        self.process = process
        self.settings = dict(SETTINGS)
        self.changes = 0
        process.take_changes(UNIT, self.change)

    async def start(self) -> None:
        await self.process.register([UNIT, NEWER])
        await self.process.report_settings_update(UNIT, reported(**self.settings))
        newer = reported(replace(SCHEMA, version=99), **SETTINGS)
        await self.process.report_settings_update(NEWER, newer)

    async def change(self, request: SettingsChangeRequest) -> object:
        self.changes += 1
        match request.changes.get("order"):
            case 13:
                raise VetoedError("13 is bad luck")
            case 14:
                raise ZeroDivisionError("by 14")
            case 15:
                await asyncio.Event().wait()
            case 16:
                await self.process.close()
            case 17:
                return {"cutoff": object()}
            case _:
                pass
        self.settings.update(request.changes)
        return reported(**self.settings)


@asynccontextmanager
async def rig(address: Address) -> AsyncIterator[tuple[GraphContext, Filter]]:
    async with GraphContext(address) as ctx, ProcessControlClient(address) as process:
        unit = Filter(process)
        await unit.start()
        yield ctx, unit


@dataclass(frozen=True)
class Bad:
    """What is asked, and what is raised, with these words."""

    changes: Any
    raised: type[Exception]
    words: str
    address: str = UNIT
    whole: bool = False
    expected_seq: int | None = None


BAD = {
    "unknown address": Bad({"order": 1}, UnknownComponentError, "SYS/NOWHERE", "SYS/NOWHERE"),
    "unknown field": Bad({"odrer": 1}, UnknownFieldError, "order"),
    "wrong type": Bad({"order": "high"}, WrongTypeError, "order"),
    "out of bounds": Bad({"cutoff": 101.0}, OutOfBoundsError, "at most 100"),
    "read-only": Bad({"serial": "X2"}, ReadOnlyFieldError, "serial"),
    "several": Bad({"serial": "X2", "order": "?"}, SettingsRefusedError, "serial.*order"),
    "newer schema": Bad({"order": 1}, SchemaVersionError, "99", NEWER),
    "stale": Bad({"order": 1}, StaleWriteError, "read them again", expected_seq=1),
    "vetoed": Bad({"order": 13}, VetoedError, "13 is bad luck"),
    "validator raises": Bad({"order": 14}, VetoedError, "ZeroDivisionError: by 14"),
    "owner silent": Bad({"order": 15}, OwnerSilentError, "may still make the change"),
    "unencodable": Bad({"order": object()}, MalformedMessageError, "order.*object"),
    "unencodable report": Bad({"order": 17}, VetoedError, "cutoff"),
    "whole lacks a field": Bad({"order": 1}, SettingsRefusedError, "cutoff", whole=True),
    "whole changes read-only": Bad(
        SETTINGS | {"serial": "X2"}, ReadOnlyFieldError, "serial", whole=True
    ),
    "no settings object": Bad(3, InvalidCommandError, "int is no settings object", whole=True),
    "no field": Bad({}, InvalidCommandError, "names no field"),
    "a field named by a number": Bad({1: 2.0}, InvalidCommandError, "named by text"),
    "a part of itself": Bad({"a": {}, "a.b": 1}, InvalidCommandError, "'a' and also 'a.b'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error_of_its_own_and_changes_nothing(
    name: str, server: GraphServer
) -> None:
    bad = BAD[name]

    async def scenario() -> None:
        async with rig(server.address) as (ctx, unit):
            before = await ctx.state()
            more: Any = {"expected_seq": bad.expected_seq, "timeout": 0.3}
            change = ctx.update_settings if bad.whole else ctx.update_setting
            with pytest.raises(bad.raised, match=f"(?s){bad.words}") as raised:
                await change(bad.address, bad.changes, **more)
            after = await ctx.state()

            assert type(raised.value) is bad.raised
            assert (after.seq, after.fingerprint()) == (before.seq, before.fingerprint())
            assert unit.settings == SETTINGS

    asyncio.run(scenario())


def test_without_an_owner_or_when_it_goes_nobody_waits_for_long(server: GraphServer) -> None:
    async def owner_closes() -> None:
        async with rig(server.address) as (ctx, unit), asyncio.timeout(5):
            with pytest.raises(OwnerGoneError):
                await ctx.update_setting(UNIT, "order", 16, timeout=60)
            assert unit.changes == 1
            with pytest.raises(UnknownComponentError):
                await ctx.update_setting(UNIT, "order", 2, timeout=60)

    async def nobody_runs_it() -> None:
        async with rig(server.address) as (ctx, unit):
            await ctx.register_metadata(metadata(UNIT))
            await unit.process.close()
            with pytest.raises(NoOwnerError):
                await ctx.update_setting(UNIT, "cutoff", 2.0)

    asyncio.run(owner_closes())
    asyncio.run(nobody_runs_it())


def metadata(address: str) -> GraphMetadata:
    dynamic = DynamicSettingsMetadata(enabled=True)
    unit = UnitMetadata(address, address, "lab.Filter", "lab.S", (None, SETTINGS), dynamic)
    return GraphMetadata(components={address: unit})


def test_what_is_changed_is_stored_when_that_is_answered_and_says_who_and_why(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        async with rig(server.address) as (ctx, unit):
            done = await ctx.update_setting(
                UNIT, {"cutoff": 50.0, "order": 2}, reason="line noise"
            )
            events = await ctx.events(("settings", UNIT))
            whole = await ctx.update_settings(UNIT, SETTINGS)

            assert done.structured_value == SETTINGS | {"cutoff": 50.0, "order": 2}
            body: Any = events[-1].body
            assert body.value == done
            assert (body.asked_by.client, body.asked_by.reason) == (ctx.session_id, "line noise")
            assert whole.structured_value == unit.settings == SETTINGS
            assert (await ctx.settings_snapshot())[UNIT] == whole

    asyncio.run(scenario())


def test_50_clients_that_change_one_address_are_each_answered_with_an_event_of_their_own(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        async with rig(server.address) as (ctx, unit):
            others = [await GraphContext(server.address).open() for _ in range(50)]
            calls = [
                each.update_setting(UNIT, {"cutoff": float(n), "order": n + 100})
                for n, each in enumerate(others)
            ]
            values = await asyncio.gather(*calls)
            events: Any = await ctx.events(("settings", UNIT))
            for each in others:
                await each.close()

            forms = [each.body.value.structured_value for each in events[1:]]
            assert len(forms) == unit.changes == 50
            assert all(form["order"] == form["cutoff"] + 100 for form in forms)
            assert all(
                (value.structured_value or {})["cutoff"] == n for n, value in enumerate(values)
            )

    asyncio.run(scenario())


def test_compare_and_set_by_many_loses_no_update(server: GraphServer) -> None:
    async def count_up(ctx: GraphContext, times: int) -> None:
        for _ in range(times):
            while True:
                state = await ctx.state()
                entry = state.settings[UNIT]
                order = (entry.value.structured_value or {})["order"]
                try:
                    await ctx.update_setting(UNIT, "order", order + 100, expected_seq=entry.seq)
                except StaleWriteError:
                    continue
                break

    async def scenario() -> None:
        async with rig(server.address) as (_, unit), asyncio.timeout(20):
            others = [await GraphContext(server.address).open() for _ in range(4)]
            await asyncio.gather(*(count_up(each, 5) for each in others))
            for each in others:
                await each.close()
            assert unit.settings["order"] == SETTINGS["order"] + 20 * 100

    asyncio.run(scenario())


# --- requests ---


async def handle(request: ProcessControlRequest) -> Any:
    match request.operation:
        case "echo":
            return request.payload
        case "hang":
            await asyncio.Event().wait()
        case "raise":
            raise ValueError("as asked")
        case "text":
            return "no bytes"
        case "large":
            return bytes(3 << 20)
        case "unsendable":
            return ProcessControlResponse("", ok=True, payload="text")  # type: ignore[arg-type]
        case _:
            raise NotImplementedError
    return None


CODES = {
    "echo": None,
    "hang": "TIMEOUT",
    "raise": "HANDLER_ERROR",
    "text": "INVALID_RESPONSE",
    "large": "INVALID_RESPONSE",
    "unsendable": "INVALID_RESPONSE",
    "fly": "UNSUPPORTED_OPERATION",
}


def test_every_way_a_request_may_end() -> None:
    async def scenario(address: Address) -> None:
        async with rig(address) as (ctx, unit):
            unset = await ctx.process_request(UNIT, "echo", b"x")
            unit.process.set_request_handler(handle)
            responses = await asyncio.gather(
                *(ctx.process_request(UNIT, each, b"x", timeout=0.5) for each in CODES)
            )
            nobody = await ctx.process_request("SYS/NOBODY", "echo")
            async with asyncio.TaskGroup() as tasks:
                hanging = tasks.create_task(ctx.process_request(UNIT, "hang", timeout=60))
                await ctx.process_ping(UNIT)
                await unit.process.close()
            gone = hanging.result()

            codes = [each.error_code and each.error_code.value for each in responses]
            assert codes == list(CODES.values())
            assert responses[0].payload == b"x"
            assert unset.error_code is ProcessControlErrorCode.HANDLER_NOT_CONFIGURED
            assert nobody.error_code is ProcessControlErrorCode.UNROUTABLE_UNIT
            assert gone.error_code is ProcessControlErrorCode.PROCESS_DISCONNECTED
            assert all(each.error for each in [*responses[1:], unset, nobody, gone])

    config = BrokerConfig(address=Address("127.0.0.1", 0), limits=Limits(max_frame_bytes=2 << 20))
    with GraphServer(config=config) as server:
        asyncio.run(scenario(server.address))


def test_a_process_that_does_not_read_is_told_of_as_such() -> None:
    limits = Limits(max_unread_replies=2)
    config = BrokerConfig(address=Address("127.0.0.1", 0), limits=limits)

    async def scenario(address: Address) -> None:
        async with GraphContext(address) as ctx:
            calls = []
            async with asyncio.TaskGroup() as tasks:
                for _ in range(30):
                    ask = ctx.process_request("RIG/U", "x", bytes(900_000), timeout=2)
                    calls.append(tasks.create_task(ask))
                    await ctx.sync()  # what is handed over in one pass is one message
            codes = {call.result().error_code for call in calls}
            assert ProcessControlErrorCode.ROUTE_WRITE_FAILED in codes
            assert codes <= {
                ProcessControlErrorCode.ROUTE_WRITE_FAILED,
                ProcessControlErrorCode.TIMEOUT,
            }

    with (
        GraphServer(config=config) as server,
        zmq.Context() as own,
        own.socket(zmq.DEALER) as mute,
    ):
        mute.set(zmq.LINGER, 0)
        mute.set(zmq.RCVHWM, 1)
        mute.set(zmq.RCVBUF, 1 << 16)
        mute.connect(server.address.endpoint)
        hello = Hello(1, "process", "mute", "mute", "here", 1, "me", ttl_s=60.0)
        for number, command in enumerate((hello, UpdateUnits(["RIG/U"], []))):
            mute.send(frames.request_frame(number, 0, codec.encode(command)))
            mute.recv()
        asyncio.run(scenario(server.address))


def test_a_process_says_how_it_is(server: GraphServer) -> None:
    async def scenario() -> None:
        async with rig(server.address) as (ctx, unit):
            ping = await ctx.process_ping(UNIT)
            stats = await ctx.process_stats(UNIT)

            assert ping.process_id == stats.process_id == unit.process.client_id
            assert 0 < ping.round_trip_s < 5
            assert stats.units == sorted([UNIT, NEWER])

    asyncio.run(scenario())


def test_a_handler_runs_once_though_the_asker_repeats_itself(server: GraphServer) -> None:
    runs: list[str] = []

    async def slow(request: ProcessControlRequest) -> bytes:
        runs.append(request.request_id)
        await asyncio.sleep(1.2)  # longer than an asker waits before it asks again
        return b""

    async def scenario() -> None:
        async with rig(server.address) as (ctx, unit):
            unit.process.set_request_handler(slow)
            assert (await ctx.process_request(UNIT, "x")).ok
            assert len(runs) == 1

    asyncio.run(scenario())


def test_who_takes_the_owner_over_makes_at_once_what_had_waited_for_the_one_before(
    server: GraphServer,
) -> None:
    async def scenario() -> None:
        async with rig(server.address) as (ctx, unit):
            async with asyncio.TaskGroup() as tasks, asyncio.timeout(5):
                hangs = tasks.create_task(failing(ctx.update_setting(UNIT, "order", 15)))
                waits = tasks.create_task(ctx.update_setting(UNIT, "order", 2))
                await ctx.process_ping(UNIT)
                process = ProcessControlClient(server.address, resume=unit.process.resume_token)
                Filter(process)
                async with process:
                    assert (await waits).structured_value == SETTINGS | {"order": 2}
            assert isinstance(hangs.result(), OwnerGoneError)

    asyncio.run(scenario())


async def failing(call: Awaitable[object]) -> BaseException | None:
    try:  # at once: what a task asks next comes after it
        await call
    except EzGraphError as error:
        return error
    return None


# --- roles ---


def test_who_may_not_read_the_settings_may_change_them_and_is_told_nothing(
    tmp_path: Path,
) -> None:
    ring = Keyring(tmp_path)
    ring.admit("owner")
    ring.add_role("blind", {"read": ["edge/*"], "set": ["settings/*"]})
    ring.admit("blind", role="blind")

    async def scenario(server: GraphServer) -> None:
        keys = {name: ring.keys(name, server.address) for name in ("owner", "blind")}
        async with (
            ProcessControlClient(server.address, keys=keys["owner"]) as process,
            GraphContext(server.address, keys=keys["blind"]) as ctx,
        ):
            await Filter(process).start()
            value = await ctx.update_setting(UNIT, "order", 5)
            assert value == SettingsSnapshotValue()
            for changes in ({"order": 13}, {"cutoff": 1000.0}):
                with pytest.raises((VetoedError, OutOfBoundsError), match="withheld") as refused:
                    await ctx.update_setting(UNIT, changes)
                assert "luck" not in str(refused.value)
                assert "100" not in str(refused.value)
            with pytest.raises(ForbiddenError):
                await ctx.process_request(UNIT, "x")

    with GraphServer(config=ring.config()) as server:
        asyncio.run(scenario(server))
