"""Flows on a simulated network: who else meddles, when a broker dies, what is left behind."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, get_args

import pytest

from ezgraph.client.blocking import run
from ezgraph.errors import (
    FlowExistsError,
    InvalidCommandError,
    InvalidKeyError,
    LimitError,
    UnknownFlowError,
    VariantTakenError,
)
from ezgraph.flows import start_flow, stop_flow
from ezgraph.flows.attendance import Attendance
from ezgraph.graph.context import GraphContext
from ezgraph.testing import Network, SimulatedBroker, SimulatedSession, simulated_sessions
from ezgraph.testing.broker import ADDRESS, CrashPoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

POINTS = get_args(CrashPoint)
PROCESSORS = ("chunker", "chunker2", "a:b/c")


def context_on(network: Network) -> GraphContext:
    return GraphContext(str(ADDRESS), session_factory=simulated_sessions(network))


@asynccontextmanager
async def rig() -> AsyncIterator[GraphContext]:
    network = Network(seed=6)
    SimulatedBroker(network)
    async with context_on(network) as ctx:
        yield ctx


def told(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a test whose coroutine never suspends."""

    def whole() -> None:
        run(test())  # type: ignore[arg-type]

    whole.__name__ = test.__name__
    return whole


async def configured(ctx: GraphContext) -> dict[tuple[str, ...], Any]:
    """Return all keys that processors watch."""
    return {each.key: each.value for each in await ctx.config.entries("active-flow")}


class Meddling:
    """A configuration interface on whose way somebody else does something, once."""

    def __init__(self, ctx: GraphContext, meddle: Callable[[], Awaitable[object]]) -> None:
        self._config = ctx.config
        self._meddle: Callable[[], Awaitable[object]] | None = meddle
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)

    @asynccontextmanager
    async def txn(self, **options: Any) -> AsyncIterator[Any]:
        meddle, self._meddle = self._meddle, None
        if meddle is not None:
            await meddle()
        self.sent += 1
        async with self._config.txn(**options) as txn:
            yield txn


# --- starting ---


@told
async def test_a_flow_is_one_transaction_of_its_record_and_its_keys() -> None:
    async with rig() as ctx:
        head = await ctx.sync()

        seq = await start_flow(
            ctx, "morning", {"chunker": {"x": {"size": 1}, "y": None}, "a:b/c": {"x": 7}}
        )

        events = await ctx.events(("config",), head)
        assert [(event.key, event.txn_first, event.txn_last) for event in events] == [
            (("config", "flow", "morning"), head + 1, seq),
            (("config", "active-flow", "chunker", "x"), head + 1, seq),
            (("config", "active-flow", "chunker", "y"), head + 1, seq),
            (("config", "active-flow", "a:b/c", "x"), head + 1, seq),
        ]
        assert await configured(ctx) == {
            ("chunker", "x"): {"size": 1}, ("chunker", "y"): None, ("a:b/c", "x"): 7,
        }


@told
async def test_a_running_id_is_refused_with_since_when_and_by_whom() -> None:
    async with rig() as ctx:
        seq = await start_flow(ctx, "a:b", {"chunker": {"x": 1}})
        before = await configured(ctx)

        with pytest.raises(FlowExistsError, match="'a:b' runs already") as refused:
            await start_flow(ctx, "a:b", {"reader": {"x": 1}})

        assert f"since seq {seq - 1} (" in str(refused.value)
        record = await ctx.config.entry("flow", ("a:b",))
        assert record is not None
        assert record.author in str(refused.value)
        assert await configured(ctx) == before


@told
async def test_a_variant_of_another_flow_is_refused_and_nothing_of_it_is_started() -> None:
    async with rig() as ctx:
        await start_flow(ctx, "first", {"chunker": {"x": 1}, "reader": {"x": 1}})
        before = await configured(ctx)

        with pytest.raises(VariantTakenError) as refused:
            await start_flow(ctx, "second", {"other": {"x": 2}, "chunker": {"x": 2}})

        assert "'second' was not started" in str(refused.value)
        assert "'chunker' runs variant 'x' for flow 'first', since seq" in str(refused.value)
        assert await configured(ctx) == before
        assert await ctx.config.keys("flow") == [("first",)]


@told
async def test_a_variant_that_somebody_put_by_itself_is_refused_as_such() -> None:
    async with rig() as ctx:
        await ctx.config.put("active-flow", ("chunker", "x"), 5)
        await ctx.config.put("flow", "not-ours", {"description": "of another program"})

        with pytest.raises(VariantTakenError, match="No flow that you may see") as refused:
            await start_flow(ctx, "first", {"chunker": {"x": 1}})

        assert "chunker:x" in str(refused.value)
        assert await configured(ctx) == {("chunker", "x"): 5}


@told
async def test_one_that_listed_a_variant_without_having_it_any_more_is_not_blamed() -> None:
    async with rig() as ctx:
        await start_flow(ctx, "first", {"chunker": {"x": 1}})
        await ctx.config.delete("active-flow", ("chunker", "x"))
        await start_flow(ctx, "second", {"chunker": {"x": 2}})

        with pytest.raises(VariantTakenError, match="for flow 'second'"):
            await start_flow(ctx, "third", {"chunker": {"x": 3}})


@pytest.mark.parametrize(
    ("flow_id", "variants", "error"),
    [
        ("", {"chunker": {"x": 1}}, InvalidKeyError),
        ("f" * 5_000, {"chunker": {"x": 1}}, InvalidKeyError),
        ("f", {"chunker": {"": 1}}, InvalidKeyError),
        ("f", {"chunker": {"v" * 5_000: 1}}, InvalidKeyError),
        ("f", {"chunker": 1}, InvalidCommandError),
        ("f", [], InvalidCommandError),
        ("f", {"good": {"x": 1}, "chunker": {"x": "v" * 2_000_000}}, LimitError),
        ("f", {"chunker": {f"v{each}": 1 for each in range(10_001)}}, LimitError),
    ],
)
def test_what_is_no_flow_is_refused_and_nothing_is_half_done(
    flow_id: str, variants: Any, error: type[Exception]
) -> None:
    async def story() -> None:
        async with rig() as ctx:
            head = await ctx.sync()
            with pytest.raises(error):
                await start_flow(ctx, flow_id, variants)
            assert await ctx.sync() == head

    run(story())


@told
async def test_the_configuration_alone_is_as_good_as_the_context() -> None:
    async with rig() as ctx:
        await start_flow(ctx.config, "first", {"chunker": {"x": 1}})
        await stop_flow(ctx.config, "first")

        assert await configured(ctx) == {}


# --- stopping ---


@told
async def test_stopping_takes_away_what_was_started_and_nothing_else() -> None:
    async with rig() as ctx:
        await ctx.config.put("active-flow", ("chunker", "own"), 0)
        await start_flow(ctx, "first", {"chunker": {"x": 1}, "chunker2": {"x": 1}})
        await start_flow(ctx, "second", {"chunker": {"y": 2}})
        head = await ctx.sync()

        seq = await stop_flow(ctx, "first", reason="done for today")

        assert await configured(ctx) == {("chunker", "own"): 0, ("chunker", "y"): 2}
        assert await ctx.config.keys("flow") == [("second",)]
        events = await ctx.events((), head)
        assert {(each.txn_first, each.txn_last) for each in events} == {(head + 1, seq)}
        assert {each.source.reason for each in events} == {"done for today"}


@told
async def test_a_flow_is_stopped_once() -> None:
    async with rig() as ctx:
        await start_flow(ctx, "first", {"chunker": {"x": 1}})
        await stop_flow(ctx, "first")
        head = await ctx.sync()

        for flow_id in ("first", "never"):
            with pytest.raises(UnknownFlowError, match=f"no flow '{flow_id}' runs"):
                await stop_flow(ctx, flow_id)

        assert await ctx.sync() == head


@told
async def test_a_flow_can_be_started_again_after_it_was_stopped() -> None:
    async with rig() as ctx:
        for value in (1, 2):
            await start_flow(ctx, "first", {"chunker": {"x": value}})
            assert await configured(ctx) == {("chunker", "x"): value}
            await stop_flow(ctx, "first")

        assert await configured(ctx) == {}


@told
async def test_a_value_that_was_changed_since_goes_with_its_flow() -> None:
    async with rig() as ctx:
        await start_flow(ctx, "first", {"chunker": {"x": 1, "y": 1}})
        await ctx.config.put("active-flow", ("chunker", "x"), 2)
        await ctx.config.put("active-flow", ("chunker", "x"), 3, ephemeral=True)

        await stop_flow(ctx, "first")

        assert await configured(ctx) == {}


@told
async def test_what_somebody_put_anew_stays_theirs() -> None:
    async with rig() as ctx:
        await start_flow(ctx, "first", {"chunker": {"x": 1, "y": 1, "z": 1}})
        for variant in ("x", "y"):
            await ctx.config.delete("active-flow", ("chunker", variant))
        await start_flow(ctx, "second", {"chunker": {"x": 2}})

        await stop_flow(ctx, "first")
        assert await configured(ctx) == {("chunker", "x"): 2}

        await stop_flow(ctx, "second")
        assert await configured(ctx) == {}


@told
async def test_a_record_that_is_somebody_elses_is_left_alone() -> None:
    async with rig() as ctx:
        await ctx.config.put("flow", ("theirs",), {"description": "of another program"})

        with pytest.raises(UnknownFlowError, match="not written by start_flow"):
            await stop_flow(ctx, "theirs")

        assert await ctx.config.keys("flow") == [("theirs",)]


@told
async def test_a_record_to_which_something_was_added_stops_its_flow_like_any_other() -> None:
    async with rig() as ctx:
        await start_flow(ctx, "first", {"chunker": {"x": 1}})
        record = await ctx.config.get("flow", ("first",))
        await ctx.config.put("flow", ("first",), {**record, "note": "with the new electrode"})

        await stop_flow(ctx, "first")

        assert await configured(ctx) == {}
        assert await ctx.config.keys("flow") == []


# --- at the same moment ---


@pytest.mark.parametrize("variants", [{"chunker": {"x": 1}}, {"idle": {}}])
def test_of_two_who_stop_a_flow_one_is_told_that_it_is_stopped(variants: Any) -> None:
    async def story() -> None:
        async with rig() as ctx:
            await start_flow(ctx, "first", variants)
            late = Meddling(ctx, lambda: stop_flow(ctx, "first"))

            with pytest.raises(UnknownFlowError):
                await stop_flow(late, "first")

            assert await configured(ctx) == {}

    run(story())


@told
async def test_a_flow_that_was_started_anew_meanwhile_is_stopped_as_it_is_now() -> None:
    async with rig() as ctx:
        await start_flow(ctx, "first", {"chunker": {"x": 1}})

        async def start_anew() -> None:
            await stop_flow(ctx, "first")
            await start_flow(ctx, "first", {"reader": {"x": 1}})

        await stop_flow(Meddling(ctx, start_anew), "first")

        assert await configured(ctx) == {}


@told
async def test_a_change_of_a_value_meanwhile_costs_no_second_try() -> None:
    async with rig() as ctx:
        await start_flow(ctx, "first", {"chunker": {"x": 1}})
        late = Meddling(ctx, lambda: ctx.config.put("active-flow", ("chunker", "x"), 2))

        await stop_flow(late, "first")

        assert late.sent == 1
        assert await configured(ctx) == {}


@told
async def test_what_another_flow_took_meanwhile_stays() -> None:
    async with rig() as ctx:
        await start_flow(ctx, "first", {"chunker": {"x": 1, "y": 1}})

        async def take() -> None:
            await ctx.config.delete("active-flow", ("chunker", "x"))
            await start_flow(ctx, "second", {"chunker": {"x": 2}})

        await stop_flow(Meddling(ctx, take), "first")

        assert await configured(ctx) == {("chunker", "x"): 2}


@told
async def test_of_two_who_start_a_flow_the_later_is_refused() -> None:
    async with rig() as ctx:
        late = Meddling(ctx, lambda: start_flow(ctx, "first", {"chunker": {"x": 1}}))

        with pytest.raises(FlowExistsError):
            await start_flow(late, "first", {"reader": {"x": 2}})

        assert await configured(ctx) == {("chunker", "x"): 1}


# --- everything at once ---


class Processor:
    """The handlers of a processor, and what they were called with."""

    def __init__(self, ctx: GraphContext, name: str) -> None:
        self.name = name
        self.runs: dict[str, Any] = {}
        self.attendance = Attendance(ctx.config, name, self.start, self.change, self.stop)
        self.watch = self.attendance.watch()
        self.resets = 0

    def start(self, variant: str, value: Any) -> None:
        assert variant not in self.runs
        self.runs[variant] = value

    def change(self, variant: str, value: Any) -> None:
        assert variant in self.runs
        self.runs[variant] = value

    def stop(self, variant: str) -> None:
        del self.runs[variant]

    async def until_it_runs(self, variant: str) -> None:
        while variant not in self.runs:
            event = await anext(self.watch)
            self.resets += event.kind == "reset"
            self.attendance.take(event)
            while (step := self.attendance.variants.next_step()) is not None:
                await self.attendance.do(step)


class Story:
    """Operators who start, change and stop flows on the same processors, while all goes wrong."""

    def __init__(self, seed: int) -> None:
        self.network = Network(seed=seed)
        self.random = random.Random(seed)
        self.broker = SimulatedBroker(self.network)
        self.flows: dict[str, dict[tuple[str, str], Any]] = {}
        self.stray: dict[tuple[str, str], Any] = {}
        self.refused = 0

    def model(self) -> dict[tuple[str, ...], Any]:
        return {key: v for keys in (self.stray, *self.flows.values()) for key, v in keys.items()}

    async def tell(self) -> None:
        async with context_on(self.network) as one, context_on(self.network) as other:
            self.operators = (one, other)
            self.processors = [Processor(one, name) for name in PROCESSORS]
            for number in range(40):
                self.misfortune(one)
                await self.step(number)
                if self.random.random() < 0.2:
                    await self.compare(self.random.choice(self.processors), f"mark {number}")
            self.broker.crash_at = None
            assert await configured(one) == self.model()
            assert await one.config.keys("flow") == [(each,) for each in sorted(self.flows)]
            for processor in self.processors:
                await self.compare(processor, "the end")

    def misfortune(self, ctx: GraphContext) -> None:
        """Have the broker die at some step, lose events, or forget its history."""
        what, session = self.random.random(), ctx._session
        assert isinstance(session, SimulatedSession)
        if what < 0.2:
            self.broker.crash_at = self.random.choice(POINTS)
        elif what < 0.4:
            session.client.events.drop_for(self.random.uniform(0.0, 0.5))
        elif what < 0.6:
            self.broker.compact()
        self.network.after(self.random.uniform(0.1, 1.0), self.broker.start)

    async def step(self, number: int) -> None:
        ctx, what = self.random.choice(self.operators), self.random.random()
        keys = sorted(self.model())
        if what < 0.4 or not keys:
            await self.start(ctx, f"flow-{self.random.randrange(6)}", number)
        elif what < 0.6:
            await self.stop(ctx, f"flow-{self.random.randrange(6)}")
        elif what < 0.8:
            await self.change(ctx, self.random.choice(keys), number)
        else:
            await self.delete(ctx, self.random.choice(keys))

    async def start(self, ctx: GraphContext, flow_id: str, number: int) -> None:
        names = self.random.sample(PROCESSORS, self.random.randint(1, 3))
        variants = {
            name: {f"v{self.random.randrange(4)}": {"number": number} for _ in range(2)}
            for name in names
        }
        keys = {(name, v): value for name, each in variants.items() for v, value in each.items()}
        if flow_id in self.flows or keys.keys() & self.model().keys():
            self.refused += 1
            with pytest.raises((FlowExistsError, VariantTakenError)):
                await start_flow(ctx, flow_id, variants)
        else:
            await start_flow(ctx, flow_id, variants)
            self.flows[flow_id] = keys

    async def stop(self, ctx: GraphContext, flow_id: str) -> None:
        if self.flows.pop(flow_id, None) is None:
            with pytest.raises(UnknownFlowError):
                await stop_flow(ctx, flow_id)
        else:
            await stop_flow(ctx, flow_id)

    async def change(self, ctx: GraphContext, key: tuple[str, ...], number: int) -> None:
        await ctx.config.put("active-flow", key, {"number": number})
        for keys in (self.stray, *self.flows.values()):
            if key in keys:
                keys[key[0], key[1]] = {"number": number}

    async def delete(self, ctx: GraphContext, key: tuple[str, ...]) -> None:
        """Delete a key of a flow, and perhaps put it again: then it is no flow's."""
        await ctx.config.delete("active-flow", key)
        for keys in (self.stray, *self.flows.values()):
            keys.pop((key[0], key[1]), None)
        if self.random.random() < 0.5:
            await ctx.config.put("active-flow", key, "stray")
            self.stray[key[0], key[1]] = "stray"

    async def compare(self, processor: Processor, mark: str) -> None:
        """A processor that knows of what was put last runs what the model says."""
        key = (processor.name, mark)
        await self.operators[1].config.put("active-flow", key, None)
        self.stray[key] = None
        await processor.until_it_runs(mark)
        wanted = {key[1]: v for key, v in self.model().items() if key[0] == processor.name}
        assert processor.runs == wanted


def test_flows_leave_just_what_runs_whatever_happens() -> None:
    stories = [Story(seed) for seed in range(20)]

    for seed, story in enumerate(stories):
        try:
            run(story.tell())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise

    assert all(story.broker.crashes for story in stories)
    assert all(story.refused for story in stories)
    assert sum(each.resets for story in stories for each in story.processors) > 10
