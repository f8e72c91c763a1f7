"""Stored events, read chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.cli.guest import ask
from ezgraph.errors import CompactedError
from ezgraph.protocol.commands import ReadEvents
from ezgraph.protocol.replies import EventRange
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.client.blocking import Session
    from ezgraph.names import Key
    from ezgraph.protocol.events import Event


def stored(
    session: Session,
    prefix: Key,
    *,
    timeout_s: float,
    on_floor: Callable[[int], None],
    after: int = 0,
    through: int | None = None,
) -> Iterator[Event]:
    """Yield the stored events under ``prefix`` in (after, through], or up to now.

    Where history there was compacted, ``on_floor`` is told the oldest seq that is left, and it goes
    on from there.
    """
    position, goal = after, through
    while goal is None or position < goal:
        asked = ReadEvents(list(prefix), position, through)
        try:
            part = ask(session, asked, EventRange, timeout_s=timeout_s)
        except CompactedError as error:
            on_floor(error.floor)
            position = error.floor - 1
            continue
        goal = part.head if goal is None else min(goal, part.head)
        yield from map(codec.decode_event, part.events)
        position = part.through
