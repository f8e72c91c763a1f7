"""Which prefixes are watched, the links of each event, and which notes are due. Pure.

For every watched prefix the broker keeps the last seq it published under it. From these come the
links that travel with each event (see `ezgraph.protocol`) and the notes for lost tails: one soon
after a change (at most every 100 ms per prefix), then repeated with growing pauses up to 5 s.
All notes share a budget per second; the oldest due goes first.

A prefix that nobody watches any more goes on being counted for a while: whoever comes back to it
after a cut is told what it truly missed, which mostly is nothing.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.names import ancestors
from ezgraph.protocol.notes import UNWATCHED, Link

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
NOTES_PER_S = 1_000
KEPT_S = 60.0
_NOTHING = Link(UNWATCHED, more=False)


@dataclass(slots=True)
class _Watched:
    last: int
    pause_s: float
    due: float
    changed: bool = False
    left_at: float | None = None


class Watches:
    """The watched prefixes of one broker run."""

    def __init__(self, max_prefixes: int) -> None:
        self._by_prefix: dict[bytes, _Watched] = {}
        self._left: OrderedDict[bytes, None] = OrderedDict()  # its first is found at once
        self._queue: list[tuple[float, bytes]] = []
        self._max_prefixes = max_prefixes
        self._budget = float(NOTES_PER_S)
        self._budget_at = 0.0

    def __len__(self) -> int:
        return len(self._by_prefix) - len(self._left)

    def add(self, prefix: bytes, *, head: int, now: float) -> int | None:
        """Watch ``prefix``; return the last seq published under it as its subscribers know it.

        None: there are too many prefixes already, and this one gets no welcome.
        """
        watched = self._by_prefix.get(prefix)
        if watched is None:
            self._forget(now)
            if len(self._by_prefix) >= self._max_prefixes:
                return None
            watched = self._by_prefix[prefix] = _Watched(head, FIRST_PAUSE_S, 0.0)
            self._schedule(prefix, watched, now + FIRST_PAUSE_S)
        elif watched.left_at is not None:
            del self._left[prefix]
            watched.left_at, watched.pause_s = None, FIRST_PAUSE_S
            self._schedule(prefix, watched, now + FIRST_PAUSE_S)
        return watched.last

    def last_under(self, prefix: bytes) -> int | None:
        """Return a seq after which nothing was published under ``prefix``; None: not watched."""
        watched = self._by_prefix.get(prefix)
        return None if watched is None else watched.last

    def remove(self, prefix: bytes, *, now: float) -> None:
        """Nobody watches ``prefix`` any more."""
        watched = self._by_prefix.get(prefix)
        if watched is not None and watched.left_at is None:
            watched.left_at = now
            self._left[prefix] = None
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Forget prefixes that were left long ago, or for which there is no room."""
        while self._left:
            prefix = next(iter(self._left))
            left_at = self._by_prefix[prefix].left_at or 0.0
            if now - left_at < KEPT_S and len(self._by_prefix) < self._max_prefixes:
                return
            del self._left[prefix], self._by_prefix[prefix]

    def link(
        self, seqs: Sequence[int], topics: Sequence[bytes], *, now: float
    ) -> list[list[Link]]:
        """Return the links of each event of one transaction, and count it as published.

        The events have these numbers and topics.
        """
        if not self._by_prefix:
            return [[_NOTHING] * len(ancestors(topic)) for topic in topics]
        if len(topics) == 1:
            prefixes = ancestors(topics[0])
            return [[self._link(prefix, seqs[0], now, more=False) for prefix in prefixes]]
        paths = [ancestors(topic) for topic in topics]
        last_under = {prefix: i for i, prefixes in enumerate(paths) for prefix in prefixes}
        return [
            [
                self._link(prefix, seq, now, more=last_under[prefix] > i) for prefix in prefixes
            ]
            for i, (seq, prefixes) in enumerate(zip(seqs, paths, strict=True))
        ]

    def _link(self, prefix: bytes, seq: int, now: float, *, more: bool) -> Link:
        watched = self._by_prefix.get(prefix)
        if watched is None:
            return _NOTHING
        link = Link(watched.last, more)
        watched.last = seq
        if not watched.changed and watched.left_at is None:
            watched.changed = True
            watched.pause_s = FIRST_PAUSE_S
            self._schedule(prefix, watched, now + FIRST_PAUSE_S)
        return link

    def _schedule(self, prefix: bytes, watched: _Watched, due: float) -> None:
        watched.due = due
        heapq.heappush(self._queue, (due, prefix))

    def next_due(self) -> float | None:
        """Return when `due` has something to say, at the earliest."""
        if not self._queue:
            return None
        return max(self._queue[0][0], self._budget_at + (1.0 - self._budget) / NOTES_PER_S)

    def due(self, *, now: float) -> list[tuple[bytes, int]]:
        """Return (prefix, last seq published under it) for every note to send now."""
        self._budget = min(
            float(NOTES_PER_S), self._budget + (now - self._budget_at) * NOTES_PER_S
        )
        self._budget_at = now
        notes = []
        while self._queue and self._queue[0][0] <= now and self._budget >= 1.0:
            due, prefix = heapq.heappop(self._queue)
            watched = self._by_prefix.get(prefix)
            if watched is None or watched.due != due or watched.left_at is not None:
                continue
            notes.append((prefix, watched.last))
            self._budget -= 1.0
            watched.changed = False
            self._schedule(prefix, watched, now + watched.pause_s)
            watched.pause_s = min(watched.pause_s * 2, LAST_PAUSE_S)
        return notes
