"""`FlowProcessor`: a program that runs the variants which flows have for it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import ContextClosedError, DeadlineError, EzGraphError
from ezgraph.flows.attendance import Attendance
from ezgraph.flows.base import config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from ezgraph.flows.base import Bus, Watch
    from ezgraph.flows.variants import Step, Version


class FlowProcessor:
    """Runs the variants that flows have for one processor, for the length of an ``async with``.

    ::

        async with FlowProcessor(ctx, "chunker", start, change, stop) as processor:
            await processor.ready()
            ...

    What is to run is what stands under ``("active-flow", (processor_id, variant))``. The handlers
    are called one at a time, each with its variant and (but for ``on_stop``) the value there:

    * ``on_start(variant, value)``: it is wanted and does not run.
    * ``on_change(variant, value)``: it runs, and its value has changed. Only the newest value is
      given, if there were several while another handler was busy.
    * ``on_stop(variant)``: it runs and is wanted no longer. Leaving the block stops all that runs.

    A handler may be a plain function or return an awaitable. None is called twice for the same
    version of a value. What one raises is logged and kept in `failed`, and the others go on: a
    variant that did not start is not running, and is tried again with its next version; one that
    could not take a change runs as before, until the next; one that failed to stop counts as
    stopped.

    Restarts of the broker, lost connections and compacted history make no difference: what
    changed meanwhile is made up for. When the watch itself ends (the session is gone, or the broker
    was silent for the context's ``patience_s``), all that runs is stopped, the block is cancelled,
    and leaves with that error.

    Args:
        bus: a `GraphContext`, or its ``config``.
        processor_id: the processor whose variants these are.
        on_start: see above.
        on_change: see above.
        on_stop: see above.
    """

    def __init__(
        self,
        bus: Bus,
        processor_id: str,
        on_start: Callable[[str, Any], object],
        on_change: Callable[[str, Any], object],
        on_stop: Callable[[str], object],
    ) -> None:
        self._attendance = Attendance(config_of(bus), processor_id, on_start, on_change, on_stop)
        self._block: AbstractAsyncContextManager[Self, bool | None] | None = None
        self._news = asyncio.Event()
        self._settled = asyncio.Event()

    def __repr__(self) -> str:
        return f"<FlowProcessor {self._attendance!r}>"

    @property
    def processor_id(self) -> str:
        """The processor whose variants these are."""
        return self._attendance.processor_id

    @property
    def running(self) -> Mapping[str, Version]:
        """The variants that run, each with the ``value`` and ``seq`` it was last given."""
        return self._attendance.variants.running

    @property
    def failed(self) -> Mapping[str, BaseException]:
        """What was raised, for each variant whose handler could not take its newest version."""
        return self._attendance.variants.failed

    async def ready(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> Self:  # noqa: ASYNC109
        """Return when everything that was wanted at the start has been handed to its handler.

        Raises:
            DeadlineError: that took longer than ``timeout`` seconds.
        """
        if self._block is None or self._attendance.variants.is_closed:
            raise ContextClosedError(f"{self!r} attends only inside of its `async with` block")
        try:
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        except TimeoutError:
            raise DeadlineError(
                f"{self!r} was not ready within {timeout:g} s: a handler is slow, or the broker "
                f"does not say what is to run"
            ) from None
        return self

    # --- for the length of a block ---

    async def __aenter__(self) -> Self:
        if self._block is not None:
            raise ContextClosedError(f"{self!r} was used already; make another one")
        self._block = self._attended()
        return await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if self._block is None:
            raise AssertionError("left before it was entered")
        return await self._block.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _attended(self) -> AsyncIterator[Self]:
        """Attend beside the block: errors of either leave it as they are, and not as a group."""
        error: BaseException | None = None
        watch = self._attendance.watch()
        try:
            async with asyncio.TaskGroup() as group:
                working = group.create_task(self._work())
                following = group.create_task(self._follow(watch, working))
                try:
                    yield self
                except Exception as own:  # noqa: BLE001 - raised below, outside of the group
                    error = own
                finally:
                    following.cancel()
                    self._end()
                    await asyncio.wait([working])
                    await watch.aclose()
        except BaseExceptionGroup as failed:
            error = error or failed.exceptions[0]
        if error is not None:
            raise error

    async def _follow(self, watch: Watch, working: asyncio.Task[None]) -> None:
        """Take what the watch says; if it fails, have all that runs stopped first."""
        try:
            async for event in watch:
                self._attendance.take(event)
                self._news.set()
        except EzGraphError:
            self._end()
            await asyncio.wait([working])
            raise

    def _end(self) -> None:
        self._attendance.variants.close()
        self._news.set()

    async def _work(self) -> None:
        """Call handlers whenever there is something to be done, until nothing is wanted."""
        variants = self._attendance.variants
        while not (variants.is_closed and variants.is_settled):
            if (step := variants.next_step()) is not None:
                await self._do(step)
                continue
            if variants.is_settled:
                self._settled.set()
            self._news.clear()
            await self._news.wait()

    async def _do(self, step: Step) -> None:
        try:
            await self._attendance.do(step)
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if own is None or own.cancelling():
                raise  # else it was what the handler waited for that was cancelled
        await asyncio.sleep(0)  # handlers that never wait leave room for what arrives
