"""Going back to a snapshot on a running rig: both forms, typed owners, vetoes, absent owners."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from ezgraph import (
    GraphContext,
    GraphServer,
    ProcessControlClient,
    RestoreRefusedError,
    VetoedError,
    sync,
)
from ezgraph.errors import InvalidCommandError, UnknownTagError
from ezgraph.protocol.commands import ChangeConfig, Connect
from ezgraph.protocol.events import Event, SettingsSettled, StateRestored
from ezgraph.settings import Setting, Settings, SettingsHost

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

FILTER, STAGE = "SYS/FILTER", "SYS/STAGE"


@pytest.fixture(scope="module")
def broker() -> Iterator[GraphServer]:
    """A broker for all tests here: each leaves it without sessions."""
    with GraphServer() as running:
        yield running


def awaited(story: Callable[[GraphServer], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @wraps(story)
    def told(broker: GraphServer) -> None:
        asyncio.run(story(broker))

    return told


class Notch(Settings):
    hz: float = 50.0


class FilterSettings(Settings):
    cutoff: Annotated[float, Setting(unit="Hz", bounds=(1.0, 200.0))] = 30.0
    notch: Notch = Notch()


def not_below_ten(wanted: Any, _: Any) -> None:
    if wanted.cutoff < 10.0:
        raise VetoedError("the filter rings below 10 Hz")


@awaited
async def test_a_running_rig_goes_back_to_a_snapshot(broker: GraphServer) -> None:
    heard: list[Any] = []
    async with ProcessControlClient(broker.address) as owner, GraphContext(broker.address) as ctx:
        host = SettingsHost(
            owner, FILTER, FilterSettings(), callbacks=[lambda new, _: heard.append(new)]
        )
        await host.start()
        await ctx.connect("A", "B")
        await ctx.config.put("filter", "low", 1)
        await ctx.freeze("rig", tag="best")
        then = (await ctx.state()).content_fingerprint()
        await ctx.update_setting(FILTER, {"cutoff": 99.0, "notch.hz": 60.0})
        await ctx.disconnect("A", "B")
        await ctx.connect("B", "C")
        await ctx.config.put("filter", "low", 2)
        heard.clear()

        dry = await ctx.restore("best")
        assert host.settings.cutoff == 99.0
        assert heard == []
        report = await ctx.restore("best", name="rig", dry_run=False, reason="best run")
        events = await ctx.events((), dry.seq)

        assert dry.dry_run
        assert [each[:2] for each in dry.settings] == [(FILTER, {"cutoff": 30.0, "notch.hz": 50.0})]
        assert (dry.edges_added, dry.edges_removed) == ([("A", "B")], [("B", "C")])
        assert dry.config_set == [("filter", "low")]
        assert (report.owed, report.refused) == ([], [])
        assert host.settings == FilterSettings()
        assert len(heard) == 1
        assert (await ctx.state()).content_fingerprint() == then == report.fingerprint
        assert isinstance(events[0].body, StateRestored)
        assert events[0].source.reason == "best run"
        assert events[0].txn_last == report.seq
        assert (await ctx.dag()).owners("A", "B") == {None}  # whoever held it had let it go


def test_the_blocking_form_does_the_same(broker: GraphServer) -> None:
    with sync.ProcessControlClient(broker.address) as owner:
        host = SettingsHost(owner, STAGE, FilterSettings())
        host.start()
        with sync.GraphContext(broker.address) as ctx:
            frozen = ctx.freeze("stage", tag="home")
            ctx.update_setting(STAGE, "cutoff", 12.0)

            report = ctx.restore(frozen, dry_run=False)

            assert host.settings == FilterSettings()
            assert report.owed == []
            assert ctx.state().content_fingerprint() == frozen.fingerprint


@awaited
async def test_a_veto_names_who_and_why_and_changes_nothing(broker: GraphServer) -> None:
    async with ProcessControlClient(broker.address) as owner, GraphContext(broker.address) as ctx:
        host = SettingsHost(owner, FILTER, FilterSettings(cutoff=5.0))
        await host.start()
        await ctx.freeze("rig", tag="ringing")
        await host.replace(FilterSettings())
        host.validators.append(not_below_ten)
        async with GraphContext(broker.address) as other:
            await other.connect("X", "Y")
            before = (await ctx.state()).fingerprint()

            with pytest.raises(RestoreRefusedError, match="rings below 10 Hz") as caught:
                await ctx.restore("ringing", dry_run=False)
            dry = await ctx.restore("ringing")
            after = (await ctx.state()).fingerprint()

        report: Any = caught.value.report
        for each in (dry, report):
            ((address, by, why),) = each.vetoed
            ((what, _, whose),) = each.cannot
            assert (address, str(owner.client_id) in by) == (FILTER, True)
            assert "rings below 10 Hz" in why
            assert (what, other_program(whose)) == ("edge X -> Y", True)
        assert before == after
        assert host.settings == FilterSettings()


@awaited
async def test_a_validator_that_would_make_something_else_of_it_is_a_veto(
    broker: GraphServer,
) -> None:
    async with ProcessControlClient(broker.address) as owner, GraphContext(broker.address) as ctx:
        host = SettingsHost(owner, FILTER, FilterSettings(cutoff=5.0))
        await host.start()
        await ctx.freeze("rig", tag="low")
        await host.replace(FilterSettings())
        host.validators.append(lambda wanted, _: FilterSettings(cutoff=max(wanted.cutoff, 10.0)))

        report = await ctx.restore("low")

        assert [each[0] for each in report.vetoed] == [FILTER]
        assert "would put other settings in place" in report.vetoed[0][2]
        assert host.settings == FilterSettings()


def other_program(whose: str) -> bool:
    return whose.startswith("session ") and "pid" in whose


@awaited
async def test_a_program_that_cannot_check_is_a_veto(broker: GraphServer) -> None:
    async with ProcessControlClient(broker.address) as owner, GraphContext(broker.address) as ctx:
        await owner.register([STAGE])
        owner.take_changes(STAGE, lambda request: asyncio.sleep(0, request.changes))
        await owner.report_settings_update(STAGE, {"x": 1})
        await ctx.freeze("rig", tag="at one")
        await owner.report_settings_update(STAGE, {"x": 2})

        report = await ctx.restore("at one")

        assert [each[0] for each in report.vetoed] == [STAGE]
        assert "check=" in report.vetoed[0][2]


@awaited
async def test_fields_that_are_named_by_numbers_are_in_the_way(broker: GraphServer) -> None:
    async with ProcessControlClient(broker.address) as owner, GraphContext(broker.address) as ctx:
        await owner.register([STAGE])
        await owner.report_settings_update(STAGE, {1: "a", "x": {2: "a"}})
        await ctx.freeze("rig", tag="numbers")
        await owner.report_settings_update(STAGE, {1: "b", "x": {2: "b"}})

        report = await ctx.restore("numbers")
        await owner.report_settings_update(STAGE, {1: "a", "x": {2: "b"}})
        within = await ctx.restore("numbers")

        assert [each[0] for each in report.cannot] == [f"settings {STAGE}"]
        assert "1: no names" in report.cannot[0][1]
        assert within.cannot == []
        assert [each[:2] for each in within.settings] == [(STAGE, {"x": {2: "a"}})]


def test_a_blocking_program_is_asked_in_a_thread_and_its_check_may_veto(
    broker: GraphServer,
) -> None:
    def check(request: Any) -> None:
        if request.changes["x"] == 1:
            raise VetoedError("not one")

    with sync.ProcessControlClient(broker.address) as owner:
        owner.take_changes(STAGE, lambda request: request.changes, check=check)
        owner.register([STAGE])
        owner.report_settings_update(STAGE, {"x": 1})
        with sync.GraphContext(broker.address) as ctx:
            ctx.freeze("rig", tag="one")
            owner.report_settings_update(STAGE, {"x": 2})

            report = ctx.restore("one")

            assert [each[0] for each in report.vetoed] == [STAGE]
            assert report.vetoed[0][2] == "not one"


@awaited
async def test_what_a_restore_took_from_its_asker_is_not_declared_again(
    broker: GraphServer,
) -> None:
    async with GraphContext(broker.address) as ctx:
        await ctx.config.put("filter", "mine", 1, ephemeral=True)
        frozen = await ctx.freeze("rig", tag="mine")
        await ctx.connect("MINE", "SINCE")
        await ctx.config.put("filter", "mine", 2, ephemeral=True)
        await ctx.config.put("filter", "later", 2, ephemeral=True)
        await ctx.restore(frozen, dry_run=False)

        declared = list(ctx._declared.commands(is_new=True))
        await ctx.redeclare()
        now = await ctx.state()

        puts = [put for each in declared if isinstance(each, ChangeConfig) for put in each.puts]
        assert [(put.key, put.value) for put in puts] == [(("mine",), 1)]
        assert not any(isinstance(each, Connect) for each in declared)
        assert now.content_fingerprint() == frozen.fingerprint
        assert now.config.owners == {ctx.session_id}


@awaited
async def test_which_graph_is_meant_is_found_or_asked_for(broker: GraphServer) -> None:
    async with GraphContext(broker.address) as ctx:
        first = await ctx.freeze("one", tag="twice")
        await ctx.freeze("two", tag="twice")

        with pytest.raises(InvalidCommandError, match="'one', 'two'"):
            await ctx.restore("twice")
        with pytest.raises(UnknownTagError, match="never"):
            await ctx.restore("never")
        with pytest.raises(UnknownTagError, match="never"):
            await ctx.restore("never", name="one")
        report = await ctx.restore(str(first.fingerprint), name="one", dry_run=False)

        assert not report


def test_an_owner_that_comes_after_a_restart_of_the_broker_is_handed_what_it_is_owed(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'rig.db'}"
    with GraphServer(backend=url) as broker:
        with sync.ProcessControlClient(broker.address) as owner:
            host = SettingsHost(owner, FILTER, FilterSettings())
            host.start()
            with sync.GraphContext(broker.address) as ctx:
                ctx.freeze("rig", tag="best")
        with sync.GraphContext(broker.address) as ctx:
            report = ctx.restore("best", dry_run=False)
    assert report.owed == [FILTER]

    with (
        GraphServer(backend=url) as broker,
        sync.ProcessControlClient(broker.address) as owner,
        sync.GraphContext(broker.address) as ctx,
    ):
        events = ctx.subscribe(("owed",), report.seq)
        host = SettingsHost(owner, FILTER, FilterSettings(cutoff=77.0))
        host.start()
        settled = next(each for each in events if isinstance(each, Event))

        assert settled.body == SettingsSettled(FILTER)
        assert host.settings == FilterSettings()
