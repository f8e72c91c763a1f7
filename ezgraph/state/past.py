"""Which events of a stretch of history the state behind it depends on. Pure.

Of most events in a slot of their own only the last counts: the state after a thousand changes of
one setting is that after the last of them. Which these are shows in an event's topic, so the others
need not even be decoded. Where one topic has several slots, or what comes between needs what came
before (an edge and its owners, a session and what it registers), every event counts.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ezgraph.protocol.events import Event

LAST_COUNTS = frozenset({b"settings", b"component", b"graph", b"config", b"owed"})
"""Rooms in which of the events under one topic only the last counts."""
NONE_COUNTS = frozenset({b"audit", b"snapshot", b"tag", b"partitions", b"recording"})
"""Rooms whose events leave the state as it is."""


class Stretch:
    """The events that count, of those given in order of seq."""

    def __init__(self) -> None:
        self._last: dict[bytes, tuple[int, bytes, bytes]] = {}
        self._all: list[tuple[int, bytes, bytes]] = []

    def __repr__(self) -> str:
        return f"<Stretch counting={len(self._last) + len(self._all)}>"

    def add(self, seq: int, topic: bytes, packed: bytes) -> None:
        """Add the next event, as it is stored."""
        room, _, _ = topic.partition(b"/")
        if room in LAST_COUNTS:
            self._last[topic] = seq, topic, packed
        elif room not in NONE_COUNTS:
            self._all.append((seq, topic, packed))

    def records(self) -> list[tuple[int, bytes, bytes]]:
        """Return the events that count, as they were added, in order of seq."""
        return sorted([*self._all, *self._last.values()])

    def counting(self) -> Iterator[bytes]:
        """Yield the events that count, in order of seq."""
        for _, _, packed in self.records():
            yield packed


def state_after(
    live: Iterable[Event],
    stretch: Stretch,
    decode: Callable[[bytes], Event],
    *,
    epoch: int,
    seq: int,
) -> GraphState:
    """Return the state at ``seq``: that of a checkpoint's ``live`` events, and what came behind it.

    ``decode`` reads a stored event; whatever it raises, and what events raise that do not follow
    from those before them, is raised here.
    """
    events = chain(live, map(decode, stretch.counting()))
    return GraphState.fold(events, epoch=epoch, seq=seq)
