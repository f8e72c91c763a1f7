"""The asyncio shell of a flow processor, on a watch that the test holds in its hand."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.errors import (
    BrokerUnreachableError,
    ContextClosedError,
    DeadlineError,
    InvalidKeyError,
)
from ezgraph.flows import FlowProcessor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True)
class Said:
    """An event of the fake watch."""

    kind: str
    key: tuple[str, ...] = ()
    value: object = None
    seq: int = 0


class FakeWatch:
    """Keeps the protocol of a configuration watch; the test says what it tells."""

    def __init__(self) -> None:
        self._told: deque[Said | Exception] = deque()
        self._news = asyncio.Event()
        self.is_closed = False
        self.is_silent = False
        self._seq = 0

    def tell(self, kind: str, variant: str | None = None, value: object = None) -> None:
        self._seq += 1
        key = () if variant is None else ("chunker", variant)
        self._put(Said(kind, key, value, self._seq))

    def _put(self, said: Said | Exception) -> None:
        self._told.append(said)
        self._news.set()

    def tell_key(self, *key: str) -> None:
        self._seq += 1
        self._put(Said("put", key, None, self._seq))

    def fail(self, error: Exception) -> None:
        self._put(error)

    def __aiter__(self) -> FakeWatch:
        return self

    async def __anext__(self) -> Said:
        if self.is_silent:
            await asyncio.Event().wait()
        while not self._told:
            if self.is_closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        said = self._told.popleft()
        if isinstance(said, Exception):
            raise said
        return said

    async def aclose(self) -> None:
        self.is_closed = True
        self._news.set()


class FakeConfig:
    """The one watch that there is."""

    def __init__(self) -> None:
        self.stream = FakeWatch()
        self.asked: tuple[str, tuple[str, ...]] | None = None

    def watch(self, kind: str, prefix: tuple[str, ...] = ()) -> FakeWatch:
        self.asked = (kind, prefix)
        return self.stream


class Rig:
    """A processor on a fake configuration, and the calls of its handlers, in order."""

    def __init__(self) -> None:
        self.config = FakeConfig()
        self.watch = self.config.stream
        self.calls: list[tuple[str, str, object]] = []
        self.called = asyncio.Condition()
        self.raising: dict[str, BaseException] = {}
        self.waiting: dict[str, asyncio.Event] = {}
        bus: Any = self.config
        self.processor = FlowProcessor(
            bus, "chunker", self._handler("start"), self._handler("change"), self._handler("stop")
        )

    def _handler(self, name: str) -> Callable[..., Awaitable[None]]:
        async def handle(variant: str, value: object = None) -> None:
            async with self.called:
                self.calls.append((name, variant, value))
                self.called.notify_all()
            if variant in self.waiting:
                await self.waiting[variant].wait()
            if name in self.raising:
                raise self.raising[name]

        return handle

    async def attend(self, during: Callable[[FlowProcessor], Awaitable[object]]) -> None:
        """Enter the processor's block for as long as something takes."""
        async with self.processor as processor:
            await processor.ready()
            await during(processor)

    async def until(self, count: int) -> list[tuple[str, str, object]]:
        """Return the calls when there are so many."""
        async with asyncio.timeout(5), self.called:
            await self.called.wait_for(lambda: len(self.calls) >= count)
        return self.calls


@pytest.fixture
def rig() -> Rig:
    return Rig()


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        async def whole() -> None:
            async with asyncio.timeout(20):  # a test that fails is not to hang
                await test(**fixtures)

        asyncio.run(whole())

    return run


@in_loop
async def test_it_watches_its_own_keys_and_starts_what_is_there(rig: Rig) -> None:
    rig.watch.tell("initial", "left", {"size": 1})
    rig.watch.tell("initial", "right", None)
    rig.watch.tell("end_of_initial")

    async with rig.processor as processor:
        assert await processor.ready() is processor
        assert rig.config.asked == ("active-flow", ("chunker",))
        assert rig.calls == [("start", "left", {"size": 1}), ("start", "right", None)]
        assert {name: each.value for name, each in processor.running.items()} == {
            "left": {"size": 1}, "right": None,
        }


@in_loop
async def test_each_change_calls_one_handler_and_leaving_stops_what_runs(rig: Rig) -> None:
    rig.watch.tell("end_of_initial")

    async with rig.processor as processor:
        for count, (kind, value) in enumerate([("put", 1), ("put", 2), ("deleted", None)], 1):
            rig.watch.tell(kind, "left", value)
            await rig.until(count)
        rig.watch.tell("put", "right", 3)
        await rig.until(4)

    assert rig.calls == [
        ("start", "left", 1),
        ("change", "left", 2),
        ("stop", "left", None),
        ("start", "right", 3),
        ("stop", "right", None),
    ]
    assert dict(processor.running) == {}
    assert rig.watch.is_closed


@in_loop
async def test_after_compaction_what_vanished_is_stopped_and_the_rest_left_alone(
    rig: Rig,
) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")

    async with rig.processor as processor:
        await processor.ready()
        rig.watch.tell("reset")
        rig.watch.tell("initial", "right", 2)
        rig.watch.tell("end_of_initial")
        await rig.until(3)

        assert rig.calls[1:] == [("stop", "left", None), ("start", "right", 2)]


@in_loop
async def test_a_slow_handler_is_given_the_newest_value_afterwards(rig: Rig) -> None:
    rig.watch.tell("end_of_initial")
    rig.waiting["left"] = asyncio.Event()

    async with rig.processor:
        rig.watch.tell("put", "left", 1)
        await rig.until(1)
        for value in (2, 3, 4):
            rig.watch.tell("put", "left", value)
        rig.watch.tell("put", "right", 5)
        await asyncio.sleep(0)
        assert len(rig.calls) == 1, "one handler at a time"
        rig.waiting["left"].set()
        await rig.until(3)

    assert rig.calls[:3] == [("start", "left", 1), ("change", "left", 4), ("start", "right", 5)]


@in_loop
async def test_a_handler_that_raises_is_logged_and_the_others_go_on(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")
    rig.raising["start"] = error = ValueError("no such topic")

    async with rig.processor as processor:
        await processor.ready()
        assert dict(processor.failed) == {"left": error}
        del rig.raising["start"]
        rig.watch.tell("put", "right", 2)
        await rig.until(2)
        rig.watch.tell("put", "left", 3)
        await rig.until(3)

    assert [record.getMessage() for record in caplog.records] == [
        "a handler failed processor=chunker step=Start variant=left seq=1"
    ]
    assert "no such topic" in caplog.text
    assert rig.calls[1:3] == [("start", "right", 2), ("start", "left", 3)]


@in_loop
async def test_what_a_handler_waited_for_may_be_cancelled_without_ending_the_others(
    rig: Rig,
) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")
    rig.raising["start"] = asyncio.CancelledError()

    async with rig.processor as processor:
        await processor.ready()
        del rig.raising["start"]
        rig.watch.tell("put", "right", 2)
        await rig.until(2)

        assert set(processor.failed) == {"left"}
        assert set(processor.running) == {"right"}


@in_loop
async def test_a_handler_may_be_a_plain_function(rig: Rig) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")
    calls: list[tuple[object, ...]] = []
    bus: Any = rig.config

    def handle(*arguments: object) -> None:
        calls.append(arguments)

    async with FlowProcessor(bus, "chunker", handle, handle, handle) as processor:
        await processor.ready()

    assert calls == [("left", 1), ("left",)]


@in_loop
async def test_keys_that_are_no_variants_are_left_alone_and_named(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.watch.tell_key("chunker")
    rig.watch.tell_key("chunker", "a", "b")
    rig.watch.tell("end_of_initial")

    async with rig.processor as processor:
        await processor.ready()

    assert rig.calls == []
    assert caplog.text.count("no variant of a flow") == 2


@in_loop
async def test_leaving_does_not_wait_for_a_broker_that_says_nothing(rig: Rig) -> None:
    rig.watch.is_silent = True

    async with rig.processor:
        await asyncio.sleep(0)

    assert rig.calls == []


@in_loop
async def test_an_error_of_the_block_leaves_it_as_it_is_after_all_was_stopped(rig: Rig) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")
    own = ValueError("the program's")

    async def go_wrong(_: FlowProcessor) -> None:
        raise own

    with pytest.raises(ValueError, match="the program's") as raised:
        await rig.attend(go_wrong)

    assert raised.value is own
    assert raised.value.__context__ is None
    assert rig.calls[-1] == ("stop", "left", None)


@in_loop
async def test_a_block_that_is_cancelled_stops_what_runs_first(rig: Rig) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")

    async def wait_for_ever(_: FlowProcessor) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.attend(wait_for_ever), 0.01)

    assert rig.calls[-1] == ("stop", "left", None)


@in_loop
async def test_a_watch_that_fails_ends_the_block_with_its_error(rig: Rig) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")
    lost = BrokerUnreachableError("nobody answers")

    async def lose(_: FlowProcessor) -> None:
        rig.watch.fail(lost)
        await asyncio.Event().wait()

    with pytest.raises(BrokerUnreachableError) as raised:
        await rig.attend(lose)

    assert raised.value is lost
    assert rig.calls == [("start", "left", 1), ("stop", "left", None)]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@in_loop
async def test_a_handler_that_hangs_while_it_is_left_is_cancelled_with_the_block(
    rig: Rig,
) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")
    rig.waiting["left"] = asyncio.Event()

    async def leave() -> None:
        async with rig.processor:
            await rig.until(1)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(leave(), 0.01)

    assert rig.calls == [("start", "left", 1)]


@in_loop
async def test_it_is_not_ready_before_its_handlers_have_returned(rig: Rig) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")
    rig.waiting["left"] = asyncio.Event()

    async with rig.processor as processor:
        with pytest.raises(DeadlineError, match="'chunker' wanted=1"):
            await processor.ready(timeout=0.01)
        rig.waiting["left"].set()
        await processor.ready()


@in_loop
async def test_outside_of_its_block_it_is_of_no_use(rig: Rig) -> None:
    with pytest.raises(ContextClosedError, match="async with"):
        await rig.processor.ready()
    async with rig.processor:
        pass

    with pytest.raises(ContextClosedError, match="make another"):
        async with rig.processor:
            pass
    with pytest.raises(ContextClosedError):
        await rig.processor.ready()


def test_a_processor_needs_a_name(rig: Rig) -> None:
    bus: Any = rig.config

    with pytest.raises(InvalidKeyError):
        FlowProcessor(bus, "", print, print, print)


@in_loop
async def test_it_says_how_it_is(rig: Rig) -> None:
    rig.watch.tell("initial", "left", 1)
    rig.watch.tell("end_of_initial")

    async with rig.processor as processor:
        await processor.ready()

        assert repr(processor) == "<FlowProcessor 'chunker' wanted=1 running=1 failed=0>"
