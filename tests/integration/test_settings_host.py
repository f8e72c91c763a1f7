"""A typed settings object that others change: asyncio and blocking, vetoes, callbacks, threads."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from ezgraph import (
    Address,
    ChangeOverdueError,
    DeadlineError,
    GraphContext,
    GraphServer,
    OwnerBusyError,
    OwnerGoneError,
    ProcessControlClient,
    VetoedError,
    sync,
)
from ezgraph.errors import OutOfBoundsError, UnknownFieldError, WrongTypeError
from ezgraph.settings import Setting, Settings, SettingsHost

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.integration

UNIT = "SYS/FILTER"


def awaited(story: Callable[[GraphServer], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @wraps(story)
    def run(server: GraphServer) -> None:
        asyncio.run(story(server))

    return run


class Notch(Settings):
    hz: float = 50.0
    width: float = 1.0


class FilterSettings(Settings):
    cutoff: Annotated[float, Setting(unit="Hz", bounds=(1.0, 200.0))] = 30.0
    order: int = 4
    notch: Notch = Notch()


@dataclass
class Plain:
    gain: int = 1
    taps: list[float] = field(default_factory=lambda: [1.0])


def even(wanted: Any, _: Any) -> None:
    if wanted.order % 2:
        raise VetoedError("the order must be even")


@awaited
async def test_another_program_changes_a_field_and_gets_what_it_came_to(
    server: GraphServer,
) -> None:
    seen: list[tuple[Any, Any]] = []
    async with ProcessControlClient(server.address) as owner, GraphContext(server.address) as ctx:
        host = SettingsHost(
            owner, UNIT, FilterSettings(), validators=[even],
            callbacks=[lambda new, old: seen.append((new, old))],
        )
        await host.start()

        value = await ctx.update_setting(UNIT, {"cutoff": 40, "notch.hz": 60.0}, reason="US")
        with pytest.raises(VetoedError, match="order must be even"):
            await ctx.update_setting(UNIT, "order", 5)
        with pytest.raises(OutOfBoundsError, match="cutoff"):
            await ctx.update_setting(UNIT, "cutoff", 500.0)
        with pytest.raises(WrongTypeError):
            await ctx.update_setting(UNIT, "order", "many")
        with pytest.raises(UnknownFieldError):
            await ctx.update_setting(UNIT, "notch.depth", 1)
        events = await ctx.settings_events(0)

    assert host.settings == FilterSettings(cutoff=40.0, notch=Notch(hz=60.0))
    assert isinstance(host.settings.cutoff, float)
    assert value.structured_value == {
        "cutoff": 40.0, "order": 4, "notch": {"hz": 60.0, "width": 1.0},
    }
    assert seen == [(host.settings, FilterSettings())]
    assert len(events) == 2


@awaited
async def test_a_whole_settings_object_takes_the_place_of_the_one_before(
    server: GraphServer,
) -> None:
    async with ProcessControlClient(server.address) as owner, GraphContext(server.address) as ctx:
        host = SettingsHost(owner, UNIT, FilterSettings())
        await host.start()
        wanted = FilterSettings(cutoff=99.0, order=8, notch=Notch(width=2.0))

        await ctx.update_settings(UNIT, wanted)

        assert host.settings == wanted


@awaited
async def test_a_validator_may_put_another_value_and_ones_own_changes_pass_it_too(
    server: GraphServer,
) -> None:
    def rounded(wanted: Plain, _: Plain) -> Plain:
        return Plain(round(wanted.gain, -1), wanted.taps)

    async with ProcessControlClient(server.address) as owner, GraphContext(server.address) as ctx:
        host = SettingsHost(owner, UNIT, Plain(), validators=[rounded])
        await host.start()

        value = await ctx.update_setting(UNIT, "gain", 47)
        await host.update(gain=12, reason="by hand")
        with pytest.raises(UnknownFieldError, match="no field 'volume'"):
            await host.update(volume=1)
        last = (await ctx.settings_snapshot())[UNIT]

    assert value.structured_value == {"gain": 50, "taps": [1.0]}
    assert host.settings.gain == 10
    assert last.structured_value == {"gain": 10, "taps": [1.0]}


@awaited
async def test_a_validator_that_raises_and_a_callback_that_does_are_two_things(
    server: GraphServer,
) -> None:
    def broken(wanted: Any, _: Any) -> None:
        if wanted.gain == 2:
            raise RuntimeError("a bug in a validator")

    def fails(_: Any, __: Any) -> None:
        raise RuntimeError("a bug in a callback")

    async with ProcessControlClient(server.address) as owner, GraphContext(server.address) as ctx:
        host = SettingsHost(owner, UNIT, Plain(), validators=[broken], callbacks=[fails])
        await host.start()

        with pytest.raises(VetoedError, match="RuntimeError: a bug in a validator"):
            await ctx.update_setting(UNIT, "gain", 2)
        await ctx.update_setting(UNIT, "gain", 3)

    assert host.settings.gain == 3


@awaited
async def test_a_host_that_has_stopped_refuses_changes(server: GraphServer) -> None:
    async with ProcessControlClient(server.address) as owner, GraphContext(server.address) as ctx:
        host = SettingsHost(owner, UNIT, Plain())
        await host.start()
        host.stop()

        with pytest.raises(VetoedError, match="takes no changes"):
            await ctx.update_setting(UNIT, "gain", 2)


def test_a_blocking_program_answers_while_it_does_something_else(server: GraphServer) -> None:
    changed = threading.Event()
    with (
        sync.ProcessControlClient(server.address) as owner,
        sync.GraphContext(server.address) as ctx,
    ):
        host = SettingsHost(owner, UNIT, Plain(), callbacks=[lambda *_: changed.set()])
        host.start()
        owner.set_request_handler(lambda request: request.payload)

        value = ctx.update_setting(UNIT, "gain", 7)
        ping = ctx.process_ping(UNIT)
        echo = ctx.process_request(UNIT, "echo", b"hello")
        host.update(gain=8)

        assert changed.is_set()
        assert value.structured_value == {"gain": 7, "taps": [1.0]}
        assert ping.process_id == owner.client_id
        assert (echo.ok, echo.payload) == (True, b"hello")
        assert ctx.settings_snapshot()[UNIT].structured_value == {"gain": 8, "taps": [1.0]}


def test_a_blocking_program_answers_while_it_waits_in_a_subscription(server: GraphServer) -> None:
    with (
        sync.ProcessControlClient(server.address) as owner,
        sync.GraphContext(server.address) as ctx,
    ):
        SettingsHost(owner, UNIT, Plain()).start()
        slow = threading.Event()
        owner.set_request_handler(lambda _: slow.wait(5) and None)
        asking = threading.Thread(target=_ask, args=(server.address, "slow"))
        asking.start()

        assert ctx.process_ping(UNIT, timeout=3).process_id == owner.client_id  # not behind it
        slow.set()
        asking.join()


def _ask(address: Address, operation: str) -> None:
    with sync.GraphContext(address) as ctx:
        ctx.process_request(UNIT, operation)


def test_many_threads_read_whole_settings_while_they_change(server: GraphServer) -> None:
    async def change() -> None:
        async with GraphContext(server.address) as ctx:
            await asyncio.gather(
                *(ctx.update_setting(UNIT, {"gain": n, "taps": [float(n)]}) for n in range(100))
            )

    with sync.ProcessControlClient(server.address) as owner:
        host = SettingsHost(owner, UNIT, Plain())
        host.start()
        host.update(gain=0, taps=[0.0])
        torn: list[Plain] = []
        done = threading.Event()

        def read() -> None:
            while not done.wait(0.0005):
                now = host.settings
                if now.taps != [float(now.gain)]:
                    torn.append(now)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for each in readers:
            each.start()
        asyncio.run(change())
        done.set()
        for each in readers:
            each.join()

    assert torn == []
    assert host.settings.gain in range(100)


# --- a change that takes too long ---

SHORT_S = 0.1


@awaited
async def test_a_changer_that_hangs_is_cancelled_and_its_address_takes_changes_again(
    server: GraphServer,
) -> None:
    ends: list[str] = []

    async def hangs(request: Any) -> object:
        if request.changes["gain"] == 13:
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("cancelled")
        return request.changes

    async with ProcessControlClient(server.address) as owner, GraphContext(server.address) as ctx:
        await SettingsHost(owner, UNIT, Plain()).start()
        owner.take_changes(UNIT, hangs, timeout_s=SHORT_S)
        before = await ctx.sync()

        with pytest.raises(ChangeOverdueError, match="s are over"):
            await ctx.update_setting(UNIT, "gain", 13)
        unchanged = await ctx.sync()
        after = await ctx.update_setting(UNIT, "gain", 14)

    assert (ends, unchanged) == (["cancelled"], before)
    assert after.structured_value == {"gain": 14}


@awaited
async def test_a_changer_that_goes_on_holds_its_address_and_what_it_comes_to_is_reported(
    server: GraphServer,
) -> None:
    gate = asyncio.Event()

    async def never_half(request: Any) -> object:
        while not gate.is_set():
            with suppress(asyncio.CancelledError):
                await gate.wait()
        return request.changes

    async with ProcessControlClient(server.address) as owner, GraphContext(server.address) as ctx:
        for unit in (UNIT, "SYS/OTHER"):
            await SettingsHost(owner, unit, Plain()).start()
        owner.take_changes(UNIT, never_half, timeout_s=SHORT_S)
        stream = ctx.subscribe_settings_events(after_seq=await ctx.sync())

        with pytest.raises(ChangeOverdueError):
            await ctx.update_setting(UNIT, "gain", 13, reason="because")
        with pytest.raises(OwnerBusyError, match="overdue"):
            await ctx.update_setting(UNIT, "gain", 14)
        other = await ctx.update_setting("SYS/OTHER", "gain", 15)
        gate.set()
        events = [await anext(stream) for _ in range(2)]
        after = await ctx.update_setting(UNIT, "gain", 16)
        await stream.aclose()

    assert other.structured_value == {"gain": 15, "taps": [1.0]}
    assert [each.value.structured_value for each in events][1] == {"gain": 13}
    assert after.structured_value == {"gain": 16}


def test_a_blocking_program_whose_validator_hangs_goes_on_with_everything_else(
    server: GraphServer,
) -> None:
    hung, gate = threading.Event(), threading.Event()

    def hangs(wanted: Plain, _: Plain) -> None:
        if wanted.gain == 13:
            hung.set()
            gate.wait(10.0)

    with (
        sync.ProcessControlClient(server.address) as owner,
        sync.GraphContext(server.address) as ctx,
    ):
        host = SettingsHost(owner, UNIT, Plain(), validators=[hangs], change_timeout_s=SHORT_S)
        host.start()
        SettingsHost(owner, "SYS/OTHER", Plain()).start()
        owner.set_request_handler(lambda request: request.payload)
        before = ctx.sync()

        with pytest.raises(ChangeOverdueError):
            ctx.update_setting(UNIT, "gain", 13)
        assert hung.is_set()
        with pytest.raises(OwnerBusyError):
            ctx.update_setting(UNIT, "gain", 14)
        with pytest.raises(DeadlineError, match="hangs"):
            host.update(gain=15, timeout=0.05)
        assert ctx.update_setting("SYS/OTHER", "gain", 16).structured_value is not None
        assert ctx.process_request(UNIT, "echo", b"x").payload == b"x"
        gate.set()
        late = next(iter(ctx.subscribe_settings_events(after_seq=before + 1)))
        after = ctx.update_setting(UNIT, "gain", 17)

    assert late.value.structured_value == {"gain": 13, "taps": [1.0]}
    assert after.structured_value == {"gain": 17, "taps": [1.0]}
    assert host.settings.gain == 17


def test_a_blocking_program_closes_although_a_changer_of_it_hangs(
    server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "_HANGS_S", 0.05)
    hung, gate = threading.Event(), threading.Event()

    def hangs(_: Any) -> object:
        hung.set()
        gate.wait(10.0)
        return {}

    owner = sync.ProcessControlClient(server.address).connect()
    SettingsHost(owner, UNIT, Plain()).start()
    owner.take_changes(UNIT, hangs)
    with sync.GraphContext(server.address) as ctx:
        asking = threading.Thread(target=_set_in_vain, args=(ctx,))
        asking.start()
        assert hung.wait(5.0)

        owner.close()

        asking.join(5.0)
        assert not asking.is_alive()
    gate.set()


def _set_in_vain(ctx: sync.GraphContext) -> None:
    with pytest.raises(OwnerGoneError):
        ctx.update_setting(UNIT, "gain", 13)


def test_what_was_reported_last_is_what_the_settings_are_whichever_thread_changed_them(
    server: GraphServer,
) -> None:
    async def change() -> None:
        async with GraphContext(server.address) as ctx:
            for n in range(60):
                await ctx.update_setting(UNIT, "gain", n)

    with sync.ProcessControlClient(server.address) as owner:
        host = SettingsHost(owner, UNIT, Plain())
        host.start()
        different = 0
        others = threading.Thread(target=lambda: asyncio.run(change()))
        others.start()
        n = 0
        while others.is_alive():
            host.update(taps=[float(n)])
            n += 1
        others.join()
        with sync.GraphContext(server.address) as ctx:
            events = ctx.settings_events(0)

    forms = [each.value.structured_value for each in events]
    assert forms[-1] == {"gain": host.settings.gain, "taps": host.settings.taps}
    for before, after in pairwise(forms):  # each builds on the one before: nothing is undone
        assert before is not None
        assert after is not None
        different += before["gain"] != after["gain"] and before["taps"] != after["taps"]
    assert different == 0
