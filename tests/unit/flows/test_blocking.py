"""The blocking shell of a flow processor, on a watch that has been told all it will tell."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.errors import BrokerUnreachableError, ConfigError, ContextClosedError
from ezgraph.sync import FlowProcessor

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Said:
    """An event of the fake watch."""

    kind: str
    key: tuple[str, ...] | None = None
    value: object = None
    seq: int = 0


class FakeWatch:
    """Keeps the protocol of a configuration watch, in any thread."""

    def __init__(self) -> None:
        self._told: deque[Said | Exception] = deque()
        self._moved = threading.Condition()
        self._is_closed = False
        self._seq = 0

    def tell(self, kind: str, variant: str | None = None, value: object = None) -> None:
        with self._moved:
            self._seq += 1
            key = None if variant is None else ("chunker", variant)
            self._told.append(Said(kind, key, value, self._seq))
            self._moved.notify_all()

    def fail(self, error: Exception) -> None:
        self._told.append(error)

    def take_arrived(self) -> Said | None:
        with self._moved:
            said = self._told.popleft() if self._told else None
        if isinstance(said, Exception):
            raise said
        return said

    def __aiter__(self) -> FakeWatch:
        return self

    async def __anext__(self) -> Said:
        with self._moved:
            assert self._moved.wait_for(lambda: self._told or self._is_closed, 20)
        said = None if self._is_closed else self.take_arrived()
        if said is None:
            raise StopAsyncIteration
        return said

    async def aclose(self) -> None:
        with self._moved:
            self._is_closed = True
            self._moved.notify_all()


class FakeConfig:
    """A blocking configuration interface with one watch; it is a context as well."""

    def __init__(self) -> None:
        self.stream = FakeWatch()

    @property
    def config(self) -> FakeConfig:
        return self

    @property
    def coroutines(self) -> FakeConfig:
        return self

    def watch(self, kind: str, prefix: tuple[str, ...] = ()) -> FakeWatch:
        assert (kind, prefix) == ("active-flow", ("chunker",))
        return self.stream


class Rig:
    """A processor on a fake configuration; ``during`` is what a handler does, by its name."""

    def __init__(self) -> None:
        bus: Any = FakeConfig()
        self.watch: FakeWatch = bus.stream
        self.calls: list[tuple[str, str, object]] = []
        self.during: dict[str, Callable[[], object]] = {}
        handlers = [self._handler(each) for each in ("start", "change", "stop")]
        self.processor = FlowProcessor(bus, "chunker", *handlers)
        self.watch.tell("initial", "left", 1)
        self.watch.tell("end_of_initial")

    def _handler(self, name: str) -> Callable[..., None]:
        def handle(variant: str, value: object = None) -> None:
            self.calls.append((name, variant, value))
            if name in self.during:
                self.during[name]()

        return handle


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_it_runs_until_a_handler_stops_it_and_leaving_stops_what_runs(rig: Rig) -> None:
    rig.during["change"] = rig.processor.stop
    rig.during["start"] = lambda: rig.watch.tell("put", "left", 5)

    with rig.processor as processor:
        processor.run()
        assert set(processor.running) == {"left"}

    assert rig.calls == [("start", "left", 1), ("change", "left", 5), ("stop", "left", None)]


def test_what_arrived_before_is_looked_at_first(rig: Rig) -> None:
    rig.during["start"] = rig.processor.stop
    rig.watch.tell("put", "left", 2)

    with rig.processor as processor:
        processor.run()

    assert rig.calls[0] == ("start", "left", 2)


def test_what_arrived_during_a_handler_is_looked_at_before_the_next(rig: Rig) -> None:
    def be_slow() -> None:
        rig.watch.tell("put", "right", 5)
        rig.during["start"] = rig.processor.stop

    rig.during["start"] = be_slow
    rig.watch.tell("put", "right", 2)

    with rig.processor as processor:
        processor.run()

    assert rig.calls[:2] == [("start", "left", 1), ("start", "right", 5)]


def test_nothing_is_begun_after_it_was_stopped(rig: Rig) -> None:
    rig.during["start"] = rig.processor.stop
    rig.watch.tell("put", "right", 2)

    with rig.processor as processor:
        processor.run()

    assert rig.calls == [("start", "left", 1), ("stop", "left", None)]


def test_only_the_newest_value_is_handed_out_after_a_slow_handler(rig: Rig) -> None:
    def be_slow() -> None:
        for value in (2, 3, 4):
            rig.watch.tell("put", "left", value)

    rig.during = {"start": be_slow, "change": rig.processor.stop}

    with rig.processor as processor:
        processor.run()

    assert rig.calls[1] == ("change", "left", 4)


def test_it_is_stopped_from_another_thread(rig: Rig) -> None:
    started = threading.Event()
    rig.during["start"] = started.set

    with rig.processor as processor:
        attending = threading.Thread(target=processor.run)
        attending.start()
        assert started.wait(20)
        processor.stop()
        attending.join(20)

        assert not attending.is_alive()
        assert set(processor.running) == {"left"}


def test_leaving_waits_for_the_handler_that_another_thread_is_in(rig: Rig) -> None:
    started, may_end = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        assert may_end.wait(20)
        rig.calls.append(("started", "left", None))

    rig.during["start"] = wait

    with rig.processor as processor:
        attending = threading.Thread(target=processor.run)
        attending.start()
        assert started.wait(20)
        threading.Timer(0.01, may_end.set).start()
    attending.join(20)

    assert [call[0] for call in rig.calls] == ["start", "started", "stop"]


def test_an_interrupted_handler_leaves_the_block_and_the_others_are_stopped(rig: Rig) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    rig.watch.tell("put", "right", 2)
    rig.during["start"] = lambda: rig.during.update(start=interrupt)

    def attend() -> None:
        with rig.processor as processor:
            processor.run()

    with pytest.raises(KeyboardInterrupt):
        attend()

    assert rig.calls == [("start", "left", 1), ("start", "right", 2), ("stop", "left", None)]


def test_a_handler_that_raises_is_kept_and_the_others_go_on(rig: Rig) -> None:
    def fail() -> None:
        rig.during["start"] = rig.processor.stop
        raise ValueError("no such topic")

    rig.during["start"] = fail
    rig.watch.tell("put", "right", 2)

    with rig.processor as processor:
        processor.run()

        assert {name: str(each) for name, each in processor.failed.items()} == {
            "left": "no such topic"
        }
        assert set(processor.running) == {"right"}


def test_a_watch_that_fails_ends_the_run_with_its_error(rig: Rig) -> None:
    rig.during["start"] = lambda: rig.watch.fail(BrokerUnreachableError("nobody answers"))

    with rig.processor as processor, pytest.raises(BrokerUnreachableError):
        processor.run()

    assert rig.calls == [("start", "left", 1), ("stop", "left", None)]


def test_a_handler_that_nobody_would_await_is_refused() -> None:
    async def start(_variant: str, _value: object) -> None:
        """Never called."""

    bus: Any = FakeConfig()
    with pytest.raises(ConfigError, match="coroutine function"):
        FlowProcessor(bus, "chunker", start, print, print)


def test_it_runs_in_its_block_and_only_once(rig: Rig) -> None:
    with pytest.raises(ContextClosedError, match="`with`"):
        rig.processor.run()
    with rig.processor:
        pass
    rig.processor.run()

    with pytest.raises(ContextClosedError, match="another"):
        rig.processor.__enter__()
    assert rig.calls == []


def test_it_says_how_it_is(rig: Rig) -> None:
    rig.during["start"] = rig.processor.stop

    with rig.processor as processor:
        processor.run()

        assert repr(processor) == "<sync FlowProcessor 'chunker' wanted=1 running=1 failed=0>"
    assert processor.processor_id == "chunker"
