"""The handlers of a flow processor, and what is called of them: what both of its forms are."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, assert_never

from ezgraph.flows.record import ACTIVE_FLOW
from ezgraph.flows.variants import Change, Start, Step, Stop, Variants
from ezgraph.names import check_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.flows.base import Config, Watch, WatchEvent

log = logging.getLogger(__name__)


class Attendance:
    """Keeps variants as a watch says, by handlers."""

    def __init__(
        self,
        config: Config,
        processor_id: str,
        on_start: Callable[[str, Any], object],
        on_change: Callable[[str, Any], object],
        on_stop: Callable[[str], object],
    ) -> None:
        self.processor_id = check_key((processor_id,))[0]
        self.variants = Variants()
        self._config = config
        self._on_start = on_start
        self._on_change = on_change
        self._on_stop = on_stop

    def __repr__(self) -> str:
        return f"{self.processor_id!r} {self.variants.summary()}"

    def watch(self) -> Watch:
        """Return a new watch of what this processor is to run."""
        return self._config.watch(ACTIVE_FLOW, (self.processor_id,))

    def take(self, event: WatchEvent) -> None:
        """Note what a watch tells."""
        match event.kind:
            case "reset":
                self.variants.begin_picture()
            case "end_of_initial":
                self.variants.end_picture()
            case _:
                self._take_entry(event)

    def _take_entry(self, event: WatchEvent) -> None:
        if event.key is None or len(event.key) != 2:
            log.warning(
                "no variant of a flow, left alone key=%s: one is (processor, variant); "
                "`ezgraph config import` splits the old layout",
                event.key,
            )
        elif event.kind == "deleted":
            self.variants.delete(event.key[1])
        else:
            self.variants.put(event.key[1], event.value, event.seq)

    async def do(self, step: Step) -> None:
        """Call the handler of a step. What it raises is logged, and the others go on.

        What ends a program or a task (`KeyboardInterrupt`, `CancelledError`) is raised as well.
        """
        try:
            said = self._call(step)
            if inspect.isawaitable(said):
                await said
        except BaseException as error:
            self._failed(step, error)
            if not isinstance(error, Exception):
                raise
        else:
            self.variants.done()

    def _failed(self, step: Step, error: BaseException) -> None:
        seq = "-" if isinstance(step, Stop) else step.version.seq
        log.error(
            "a handler failed processor=%s step=%s variant=%s seq=%s",
            self.processor_id, type(step).__name__, step.variant, seq, exc_info=error,
        )
        self.variants.done(error)

    def _call(self, step: Step) -> object:
        match step:
            case Start():
                return self._on_start(step.variant, step.version.value)
            case Change():
                return self._on_change(step.variant, step.version.value)
            case Stop():
                return self._on_stop(step.variant)
            case _:
                assert_never(step)
