"""Flows for programs without an event loop; `ezgraph.sync` has them under the same names.

Each does what its namesake in `ezgraph.flows` does, in the caller's thread; see there.
"""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, runtime_checkable

from ezgraph.client.blocking import run
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import ConfigError, ContextClosedError
from ezgraph.flows import flow
from ezgraph.flows.attendance import Attendance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from ezgraph.flows.base import Config, Watch
    from ezgraph.flows.variants import Version


class BlockingConfig(Protocol):
    """A blocking configuration interface; see `ezgraph.graph.configuration.blocking.ConfigKeys`."""

    @property
    def coroutines(self) -> Config:
        """The same calls as coroutines that never suspend."""
        ...


@runtime_checkable
class HasBlockingConfig(Protocol):
    """A blocking `GraphContext`, or whatever else has such an interface."""

    @property
    def config(self) -> BlockingConfig:
        """It."""
        ...


BlockingBus: TypeAlias = BlockingConfig | HasBlockingConfig


def _config_of(bus: BlockingBus) -> Config:
    return (bus.config if isinstance(bus, HasBlockingConfig) else bus).coroutines


def start_flow(
    bus: BlockingBus,
    flow_id: str,
    variants: Mapping[str, Mapping[str, object]],
    *,
    reason: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
) -> int:
    """Start a flow, all at once; return the seq reached."""
    config = _config_of(bus)
    return run(flow.start_flow(config, flow_id, variants, reason=reason, timeout=timeout))


def stop_flow(
    bus: BlockingBus,
    flow_id: str,
    *,
    reason: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
) -> int:
    """Stop a flow: take away what its start put, and only that; return the seq reached."""
    return run(flow.stop_flow(_config_of(bus), flow_id, reason=reason, timeout=timeout))


class FlowProcessor:
    """Runs the variants that flows have for one processor. See `ezgraph.flows.FlowProcessor`.

    ::

        with FlowProcessor(ctx, "chunker", start, change, stop) as processor:
            processor.run()

    The handlers are plain functions, called in the thread that is in `run`. Leaving the block
    stops all that runs.
    """

    def __init__(
        self,
        bus: BlockingBus,
        processor_id: str,
        on_start: Callable[[str, Any], object],
        on_change: Callable[[str, Any], object],
        on_stop: Callable[[str], object],
    ) -> None:
        for handler in (on_start, on_change, on_stop):
            if inspect.iscoroutinefunction(handler):
                raise ConfigError(
                    f"handler {handler!r} is a coroutine function, and nothing here awaits it; "
                    f"give a plain function, or use ezgraph.flows.FlowProcessor"
                )
        self._attendance = Attendance(_config_of(bus), processor_id, on_start, on_change, on_stop)
        self._watch: Watch | None = None
        self._turn = threading.Lock()
        self._is_over = False

    def __repr__(self) -> str:
        return f"<sync FlowProcessor {self._attendance!r}>"

    @property
    def processor_id(self) -> str:
        """The processor whose variants these are."""
        return self._attendance.processor_id

    @property
    def running(self) -> Mapping[str, Version]:
        """The variants that run, each with the value and seq it was last given."""
        return self._attendance.variants.running

    @property
    def failed(self) -> Mapping[str, BaseException]:
        """What was raised, for each variant whose handler could not take its newest version."""
        return self._attendance.variants.failed

    def run(self) -> None:
        """Call handlers whenever there is something to be done, until `stop`.

        Raises:
            EzGraphError: the watch has ended: the session is gone, or the broker was silent for
                the context's ``patience_s``.
        """
        if self._watch is None:
            raise ContextClosedError(f"{self!r} runs only inside of its `with` block")
        with self._turn:
            while self._follow(self._watch):
                self._work(self._watch)

    def stop(self) -> None:
        """Have `run` return, from a handler or from another thread."""
        self._is_over = True
        if self._watch is not None:
            run(self._watch.aclose())

    def __enter__(self) -> Self:
        if self._watch is not None:
            raise ContextClosedError(f"{self!r} was used already; make another one")
        self._watch = self._attendance.watch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        with self._turn:
            self._attendance.variants.close()
            while (step := self._attendance.variants.next_step()) is not None:
                run(self._attendance.do(step))

    def _follow(self, watch: Watch) -> bool:
        """Wait for what the watch says next; return whether it goes on."""
        if self._is_over:
            return False
        try:
            self._attendance.take(run(anext(watch)))
        except StopAsyncIteration:
            return False
        return True

    def _work(self, watch: Watch) -> None:
        """Do what is to be done, as it is after all that has arrived."""
        self._take_arrived(watch)
        while not self._is_over and (step := self._attendance.variants.next_step()) is not None:
            run(self._attendance.do(step))
            self._take_arrived(watch)

    def _take_arrived(self, watch: Watch) -> None:
        while not self._is_over and (event := watch.take_arrived()) is not None:
            self._attendance.take(event)
