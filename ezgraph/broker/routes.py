"""Requests on their way to the owners of units, and back. Pure.

A route begins when somebody asks and ends with one answer: the owner's, or that it is gone, silent,
or not to be found. Its id is made of who asked and of the request's id, so that a repetition (also
one that comes after a restart of the broker) is the same route: it is handed to the owner again,
who knows it again.

Requests to a unit are handed to its owner at once, any number side by side, up to a bound. Changes
of settings go one by one for each address, in the order they came: the next is handed on when the
one before is answered, and is checked then, against what the settings are by then.

States of a change: waiting -> handed -> answered by a report, a veto, silence, or the owner's end.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.broker.connections import Descriptor
    from ezgraph.protocol.commands import ChangeSettings, RequestProcess
    from ezgraph.protocol.events import Source
    from ezgraph.protocol.routed import Routed


def route_id(client: str, request_id: int) -> str:
    """Return the id of the route that a client's request takes."""
    return f"{client}:{request_id}"


def asker_of(route: str) -> tuple[str, int] | None:
    """Return the client and the request's id that a route's id names; None: it is none."""
    client, _, number = route.rpartition(":")
    return (client, int(number)) if client and number.isdecimal() else None


@dataclass(slots=True, eq=False)
class Route:
    """One request under way. ``came_on``: the connection its answer goes to, and its descriptor.

    ``handed`` is what its owner was told.

    ``owner`` is the client id of the process it was handed to; None: it waits for its turn.
    """

    id: str
    client: str
    request_id: int
    came_on: tuple[bytes, Descriptor | None]
    command: RequestProcess | ChangeSettings
    source: Source
    deadline: float
    owner: str | None = None
    handed: Routed | None = None


class Routes:
    """All routes under way, and when they run out."""

    def __init__(self) -> None:
        self._by_id: dict[str, Route] = {}
        self._of_owner: dict[str, dict[str, Route]] = {}
        self._of_client: dict[str, set[str]] = {}
        self._lines: dict[str, deque[Route]] = {}
        self._queue: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"<Routes under_way={len(self)} lines={len(self._lines)}>"

    def get(self, route_id: str) -> Route | None:
        """Return the route with this id, if it is under way."""
        return self._by_id.get(route_id)

    def count_of(self, client: str) -> int:
        """Return how many a client has under way."""
        return len(self._of_client.get(client, ()))

    def begin(self, route: Route) -> None:
        """Take a route up."""
        self._by_id[route.id] = route
        self._of_client.setdefault(route.client, set()).add(route.id)
        heapq.heappush(self._queue, (route.deadline, route.id))

    def wait_for(self, address: str, route: Route) -> bool:
        """Put a change into the line of its address; return whether it is its turn at once."""
        line = self._lines.setdefault(address, deque())
        line.append(route)
        return len(line) == 1

    def hand(self, route: Route, owner: str, what: Routed) -> None:
        """Take note of who was handed a route, and what."""
        route.owner, route.handed = owner, what
        self._of_owner.setdefault(owner, {})[route.id] = route

    def handed_to(self, owner: str) -> Iterator[Route]:
        """Yield what an owner has not answered yet, oldest first."""
        yield from list(self._of_owner.get(owner, {}).values())

    def of_client(self, client: str) -> list[Route]:
        """Return what a client has under way."""
        return [self._by_id[each] for each in self._of_client.get(client, ())]

    def end(self, route: Route, address: str | None = None) -> Route | None:
        """Forget a route; return the change whose turn it is now at ``address``, if any."""
        if self._by_id.pop(route.id, None) is None:
            return None
        _drop(self._of_client, route.client, route.id)
        if route.owner is not None:
            handed = self._of_owner.get(route.owner, {})
            handed.pop(route.id, None)
            if not handed:
                self._of_owner.pop(route.owner, None)
        if address is None:
            return None
        line = self._lines.get(address, deque())
        was_first = bool(line) and line[0] is route
        if route in line:
            line.remove(route)
        if not line:
            self._lines.pop(address, None)
            return None
        return line[0] if was_first else None

    def next_due(self) -> float | None:
        """Return when a route may run out, at the earliest."""
        while self._queue and self._queue[0][1] not in self._by_id:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def overdue(self, now: float) -> list[Route]:
        """Return the routes whose time is over."""
        over = []
        while (due := self.next_due()) is not None and due <= now:
            _, route_id = heapq.heappop(self._queue)
            over.append(self._by_id[route_id])
        return over


def _drop(by_key: dict[str, set[str]], key: str, item: str) -> None:
    items = by_key.get(key, set())
    items.discard(item)
    if not items:
        by_key.pop(key, None)
