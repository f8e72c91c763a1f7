"""Flows on real sockets: from several processes at once, with a broker that is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    BrokerConfig,
    FlowExistsError,
    GraphContext,
    GraphServer,
    UnknownFlowError,
    sync,
)
from ezgraph.flows import FlowProcessor, start_flow, stop_flow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

ROUNDS = 15
OPERATOR = """
import sys
from ezgraph.sync import GraphContext, start_flow, stop_flow

address, me, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
with GraphContext(address) as ctx:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(rounds):
        variants = {name: {me: {"number": number}} for name in ("chunker", "reader")}
        start_flow(ctx, me, variants, timeout=30)
        if number == rounds // 2:
            print("half", flush=True)
        if number < rounds - 1:
            stop_flow(ctx, me, timeout=30)
"""


class Operator:
    """A process that starts and stops a flow of its own, again and again, and leaves one."""

    def __init__(self, address: object, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OPERATOR, str(address), name, str(ROUNDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> int:
        with self._process:
            try:
                return self._process.wait(60)
            finally:
                self._process.kill()


class Calls:
    """Handlers, and what they were called with."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, Any]] = []
        self.runs: dict[str, Any] = {}
        self._moved = threading.Condition()

    def start(self, variant: str, value: Any) -> None:
        self._note("start", variant, value)

    def change(self, variant: str, value: Any) -> None:
        self._note("change", variant, value)

    def stop(self, variant: str) -> None:
        self._note("stop", variant, None)

    def _note(self, what: str, variant: str, value: Any) -> None:
        with self._moved:
            self.made.append((what, variant, value))
            if what == "stop":
                del self.runs[variant]
            else:
                assert (variant in self.runs) == (what == "change")
                self.runs[variant] = value
            self._moved.notify_all()

    def wait_for(self, runs: dict[str, Any]) -> None:
        with self._moved:
            assert self._moved.wait_for(lambda: self.runs == runs, 20), self.runs


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Durable]:
    running = Durable(f"sqlite:///{tmp_path}/rig.db")
    yield running
    running.server.stop()


class Durable:
    """A broker in a process, which can be killed and started again on its journal."""

    def __init__(self, backend: str) -> None:
        self.server = GraphServer(backend=backend, run_in="process").start()
        self.address = self.server.address
        self._backend = backend

    def restart(self) -> None:
        self.server.kill()
        config = BrokerConfig(address=self.address, backend=self._backend)
        self.server = GraphServer(config=config, run_in="process").start()


def test_two_processes_that_start_and_stop_flows_at_once_lose_nothing(durable: Durable) -> None:
    operators = [Operator(durable.address, name) for name in ("one", "other")]
    calls = Calls()

    with sync.GraphContext(durable.address) as ctx:
        processor = sync.FlowProcessor(ctx, "chunker", calls.start, calls.change, calls.stop)
        with processor:
            attending = threading.Thread(target=processor.run)
            attending.start()
            assert [each.hear() for each in operators] == ["ready", "ready"]
            for each in operators:
                each.begin()
            assert operators[0].hear() == "half"
            durable.restart()
            assert [each.end() for each in operators] == [0, 0]

            last = {"number": ROUNDS - 1}
            calls.wait_for({"one": last, "other": last})
            processor.stop()
            attending.join(20)
        with sync.GraphContext(durable.address) as other:
            assert other.config.keys("active-flow") == [
                (name, flow) for name in ("chunker", "reader") for flow in ("one", "other")
            ]
            assert other.config.keys("flow") == [("one",), ("other",)]
            for flow in ("one", "other"):
                sync.stop_flow(other, flow)
                with pytest.raises(UnknownFlowError):
                    sync.stop_flow(other.config, flow)
            assert other.config.keys("active-flow") == []
    assert calls.runs == {}


def test_a_watch_gives_what_has_arrived_without_waiting(server: GraphServer) -> None:
    async def in_a_loop() -> list[Any]:
        async with GraphContext(server.address) as ctx:
            watch = ctx.config.watch("flow")
            found: list[Any] = [watch.take_arrived(), (await anext(watch)).kind]
            found.append(watch.take_arrived())
            beside = ctx.config.watch("flow", after_seq=await ctx.sync())
            await ctx.config.put("flow", "a", 1)
            await anext(beside)  # then it has arrived in the other one too
            event = watch.take_arrived()
            assert event is not None
            return [*found, event.value, watch.take_arrived()]

    def in_a_thread() -> list[Any]:
        with sync.GraphContext(server.address) as ctx:
            watch = ctx.config.watch("flow", after_seq=ctx.sync())
            found: list[Any] = [watch.take_arrived()]
            ctx.config.put("flow", "a", 2)
            until = monotonic() + 20
            while (event := watch.take_arrived()) is None:
                assert monotonic() < until
            return [*found, event.value, watch.take_arrived()]

    assert asyncio.run(in_a_loop()) == [None, "end_of_initial", None, 1, None]
    assert in_a_thread() == [None, 2, None]


def test_a_processor_survives_its_broker_and_takes_what_changed_meanwhile(
    durable: Durable,
) -> None:
    calls = Calls()

    async def story() -> None:
        async with (
            GraphContext(durable.address) as ctx,
            FlowProcessor(ctx, "chunker", calls.start, calls.change, calls.stop) as processor,
        ):
            await processor.ready()
            await start_flow(ctx, "first", {"chunker": {"x": 1, "y": 1}, "reader": {"x": 1}})
            await asyncio.to_thread(calls.wait_for, {"x": 1, "y": 1})
            await asyncio.to_thread(durable.restart)
            await ctx.config.put("active-flow", "chunker:x", 2, timeout=30)
            await asyncio.to_thread(calls.wait_for, {"x": 2, "y": 1})
            await ctx.config.delete("active-flow", "chunker:y")
            await asyncio.to_thread(calls.wait_for, {"x": 2})
            with pytest.raises(FlowExistsError):
                await start_flow(ctx, "first", {"chunker": {"z": 1}})
            await stop_flow(ctx, "first")
            await asyncio.to_thread(calls.wait_for, {})
            await start_flow(ctx, "second", {"chunker": {"x": 3}})
            await asyncio.to_thread(calls.wait_for, {"x": 3})

    asyncio.run(story())

    assert calls.made == [
        ("start", "x", 1),
        ("start", "y", 1),
        ("change", "x", 2),
        ("stop", "y", None),
        ("stop", "x", None),
        ("start", "x", 3),
        ("stop", "x", None),
    ]
