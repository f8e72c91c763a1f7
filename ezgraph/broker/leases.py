"""Leases: who is there, until when, and what has been answered to whom. Pure.

A lease ends when nobody has been heard on it for its TTL, or sooner when its last connection has
closed: then it is *suspended*, and ends after a grace in which its client may resume. Deadlines
are in the broker's monotonic seconds and live only here: they are neither journaled nor
replicated. A restarted broker gives every known lease one fresh TTL. The queue keeps deadlines
that have moved on since, and looks again when they come up.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ezgraph.errors import RequestTooOldError

GRACE_S = 0.7
Descriptor = tuple[int, int]
"""A file descriptor and its generation."""

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.protocol.events import Source
    from ezgraph.protocol.replies import Reply


class Answers:
    """What a client's requests were answered, while it may still repeat them.

    Only changes are kept (refused ones and those that changed nothing too): a question may be
    answered anew.
    """

    def __init__(self) -> None:
        self._by_request: dict[int, Reply] = {}
        self._lowest = 0

    def remember(self, request_id: int, reply: Reply) -> None:
        """Keep what ``request_id`` was answered."""
        self._by_request[request_id] = reply

    def forget_below(self, lowest_open: int) -> None:
        """Forget requests whose replies have arrived."""
        if lowest_open <= self._lowest:
            return
        self._lowest = lowest_open
        known = self._by_request
        while known and (first := next(iter(known))) < lowest_open:
            del known[first]

    def reply_to(self, request_id: int) -> Reply | None:
        """Return what a request was answered; None if it was not.

        Raises:
            RequestTooOldError: it was answered and forgotten.
        """
        if request_id < self._lowest:
            raise RequestTooOldError(
                f"request {request_id} lies below {self._lowest}, whose replies have arrived; "
                f"it is not executed again: send it under a new id"
            )
        return self._by_request.get(request_id)

    def __len__(self) -> int:
        return len(self._by_request)


@dataclass(slots=True, eq=False)
class Connection:
    """One routing id of the ROUTER, and the descriptor (with its generation) it came in on.

    Descriptors are numbers that the system gives out again at once; the generation tells one
    owner of the number from the next. Frames that come late on a closed connection are executed,
    but keep nothing alive.
    """

    lease: Lease
    descriptor: Descriptor | None
    closed: bool = False


@dataclass(slots=True, eq=False)
class Lease:
    """One client's hold on the broker. ``kind``: session, process or guest."""

    client: str
    kind: str
    source: Source
    ttl_s: float
    opened: float
    last_heard: float
    nonce: str = ""
    main_loop_age_s: float | None = None
    connections: dict[bytes, Connection] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
    suspended_at: float | None = None

    def due(self) -> float:
        """Return when the lease ends unless something is heard."""
        silent = self.last_heard + self.ttl_s
        return silent if self.suspended_at is None else min(silent, self.suspended_at + GRACE_S)


class Leases:
    """All leases, by client id, and the order in which they may run out."""

    def __init__(self) -> None:
        self._by_client: dict[str, Lease] = {}
        self._queue: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._by_client)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._by_client.values())

    def get(self, client: str) -> Lease | None:
        """Return a client's lease, or None."""
        return self._by_client.get(client)

    def add(self, lease: Lease) -> None:
        """Start a lease."""
        self._by_client[lease.client] = lease
        heapq.heappush(self._queue, (lease.last_heard + lease.ttl_s, lease.client))

    def suspend(self, lease: Lease, now: float) -> None:
        """The last connection of a lease has closed: it ends after the grace."""
        lease.suspended_at = now
        heapq.heappush(self._queue, (lease.due(), lease.client))

    def remove(self, client: str) -> None:
        """End a lease."""
        self._by_client.pop(client, None)

    def next_due(self) -> float | None:
        """Return when to look again, at the latest."""
        return self._queue[0][0] if self._queue else None

    def expired(self, now: float) -> list[Lease]:
        """Return the leases that are over, silent or suspended for too long; each once."""
        over: dict[str, Lease] = {}
        while self._queue and self._queue[0][0] <= now:
            _, client = heapq.heappop(self._queue)
            lease = self._by_client.get(client)
            if lease is None or client in over:
                continue
            due = lease.due()
            if due <= now:
                over[client] = lease
            else:
                heapq.heappush(self._queue, (due, client))
        return list(over.values())
