"""A broker as the whole business of a process: signals, garbage collection, start and end."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING

from ezgraph.backends.base import Backend
from ezgraph.broker.service import BrokerService

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ezgraph.config import BrokerConfig

_ENDING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
_YOUNG_OBJECTS = 50_000
_DESCRIPTORS = 65_536


def serve(config: BrokerConfig, on_ready: Callable[[BrokerService], None]) -> BrokerService:
    """Run a broker until a signal ends it; return it, closed.

    ``on_ready`` is called when it takes commands, and answers none yet. At the first
    SIGTERM, SIGINT or SIGHUP it drains, writes a checkpoint and ends; a second one ends the process
    as it would any other.

    Raises:
        EzGraphError: it cannot start, or its journal failed.
    """
    with Backend.from_url(config.backend).connect() as connection:
        service = BrokerService(config, connection.open_journal())
        _stop_on_signals(service)
        try:
            service.bind()
            _calm_garbage_collection()
            _allow_many_connections()
            on_ready(service)
        except BaseException:
            service.close()
            raise
        service.run()
    return service


def _calm_garbage_collection() -> None:
    """The state holds no cycles: looking for them through all of it would only stall the loop."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 1_000)


def _allow_many_connections() -> None:
    """A session takes three connections, and systems often allow no more than 1,024 at first."""
    try:
        import resource  # not on Windows, where brokers do not run
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stop_on_signals(service: BrokerService) -> None:
    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's form
        for each in _ENDING:
            signal.signal(each, signal.SIG_DFL)
        service.stop()

    for each in _ENDING:
        signal.signal(each, stop)
