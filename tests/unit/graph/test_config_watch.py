"""What a watch of the configuration does while it reads what is there."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, cast

import pytest

from ezgraph.errors import CompactedError, DeadlineError, EzGraphError, SessionExpiredError
from ezgraph.graph.configuration.watch import ConfigWatch, ConfigWatchKind
from ezgraph.protocol.replies import ConfigPage

if TYPE_CHECKING:
    from ezgraph.graph.sessions import AnySession
    from ezgraph.protocol.commands import Command


class Away:
    """A session whose calls fail one after the other, until the broker is back."""

    def __init__(self, failures: list[EzGraphError], patience_s: float) -> None:
        self.failures = failures
        self.patience_s = patience_s

    async def call(self, _: Command, *, timeout: float) -> ConfigPage:  # noqa: ASYNC109
        assert timeout > 0
        if self.failures:
            raise self.failures.pop(0)
        return ConfigPage(7, 7, [], [], None)

    def watch(self, *_: object, **__: object) -> None:
        """Nothing comes."""


def first_of(session: Away) -> tuple[ConfigWatchKind, int]:
    event = asyncio.run(anext(ConfigWatch(cast("AnySession", session), "flow", (), None)))
    return event.kind, event.seq


def test_a_broker_that_is_away_at_the_beginning_is_waited_for() -> None:
    away = Away([DeadlineError("silent"), CompactedError("gone", floor=5)] * 3, math.inf)

    assert first_of(away) == (ConfigWatchKind.END_OF_INITIAL, 7)


def test_it_is_waited_for_as_long_as_the_session_has_patience() -> None:
    with pytest.raises(DeadlineError, match="silent"):
        first_of(Away([DeadlineError("silent")] * 3, 0.0))


def test_a_session_that_is_gone_ends_a_watch_at_once() -> None:
    with pytest.raises(SessionExpiredError):
        first_of(Away([SessionExpiredError("over")], math.inf))
