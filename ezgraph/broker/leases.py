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
from itertools import chain, repeat, takewhile
from typing import TYPE_CHECKING

from ezgraph.errors import RequestTooOldError
from ezgraph.protocol.replies import (
    Answered,
    ChangeReply,
    ConfigChanged,
    Done,
    Frozen,
    PartitionsStored,
    RecordingStored,
    RestoreReport,
)

_TELLING = Frozen | PartitionsStored | RecordingStored | RestoreReport
"""Answers that say more than a seq, and are kept as they are."""
GRACE_S = 0.7
MOST_ENDED = 250
"""How many leases end at a time, so that the others are heard in between."""

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.broker.connections import Connection
    from ezgraph.protocol.events import Source
    from ezgraph.protocol.replies import Reply


def _is_dry(reply: Reply) -> bool:
    return isinstance(reply, RestoreReport) and reply.dry_run


class Answers:
    """What a client's requests were answered, while it may still repeat them.

    Only changes are kept (refused ones and those that changed nothing too), and syncs: any other
    question may be answered anew.
    """

    def __init__(self) -> None:
        self.highest = 0
        self._by_request: dict[int, Reply] = {}
        self._first_seqs: dict[int, int] = {}
        self._lowest = 0

    def remember(self, request_id: int, reply: Reply, *, first: int | None = None) -> None:
        """Keep what ``request_id`` was answered; ``first``: where its transaction began, if known.

        It is known of what was read from the journal.
        """
        self._by_request[request_id] = reply
        if request_id > self.highest:
            self.highest = request_id
        if first is not None:
            self._first_seqs[request_id] = first

    def first_of(self, request_id: int) -> int | None:
        """Return where the transaction of a request began, if that is known."""
        return self._first_seqs.get(request_id)

    def used(self, request_id: int) -> None:
        """Take note that a request was asked, though it is not answered yet."""
        self.highest = max(self.highest, request_id)

    def sync_at(self, request_id: int, head: int) -> int:
        """Return the seq that a sync is answered with: before all that was asked after it.

        After a restart a repeated sync may find done what its client asked later.
        """
        later = [seq - 1 for asked, seq in self._first_seqs.items() if asked > request_id]
        return min([head, *later])

    @property
    def next_id(self) -> int:
        """The lowest id that was surely not used, nor declared done with."""
        return max(self.highest + 1, self._lowest)

    def export(self, client: str) -> Answered:
        """Return what a checkpoint keeps of it: the changes that were made, by their seqs."""
        done = {
            number: (reply.seq, reply.changed if isinstance(reply, ConfigChanged) else 0)
            for number, reply in self._by_request.items()
            if isinstance(reply, ChangeReply) and not _is_dry(reply)
        }
        seqs, changes = [seq for seq, _ in done.values()], [count for _, count in done.values()]
        stored = {
            number: reply
            for number, reply in self._by_request.items()
            if isinstance(reply, _TELLING) and not _is_dry(reply)
        }
        changes = changes if any(changes) else []
        return Answered(client, self._lowest, self.highest, list(done), seqs, changes, stored)

    def restore(self, kept: Answered) -> None:
        """Remember what a checkpoint kept."""
        changes = chain(kept.config_changes, repeat(0))
        for request_id, seq, changed in zip(kept.requests, kept.seqs, changes, strict=False):
            reply = ConfigChanged(seq, changed, 0) if changed else Done(seq)
            self.remember(request_id, reply)
        for request_id, told in kept.stored.items():
            self.remember(request_id, told)
        self.highest = max(self.highest, kept.highest)
        self.forget_below(kept.lowest)

    def forget_below(self, lowest_open: int) -> None:
        """Forget requests whose replies have arrived."""
        if lowest_open <= self._lowest:
            return
        self._lowest = lowest_open
        # Not one by one from the front: each look would pass over what was deleted before.
        for request_id in list(takewhile(lambda known: known < lowest_open, self._by_request)):
            del self._by_request[request_id]
        if self._first_seqs:
            self._first_seqs = {n: s for n, s in self._first_seqs.items() if n >= lowest_open}

    def known(self, request_id: int) -> Reply | None:
        """Return what is known to have been answered to a request, forgotten or not."""
        return self._by_request.get(request_id)

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
class Lease:
    """One client's hold on the broker. ``kind``: session, process or guest.

    ``holder`` stands for the program that holds it (a digest of the nonce in its HELLO).
    ``heard_seq`` was the head when it was heard last: what came later it may have missed.
    ``is_held``: its client has shown that it knows of it, and will not say HELLO again for it.
    ``reads_after`` is (the seq after which it reads history, when it asked last). ``public`` is
    the key that its connections have; None: none, or not known yet after a restart.
    """

    client: str
    kind: str
    source: Source
    ttl_s: float
    opened: float
    last_heard: float
    holder: str = ""
    heard_seq: int = 0
    is_held: bool = False
    reads_after: tuple[int, float] | None = None
    public: str | None = None
    main_loop_age_s: float | None = None
    connections: dict[bytes, Connection] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
    suspended_at: float | None = None

    @property
    def is_main_bound(self) -> bool:
        """Whether there is a connection that requests to its units can be handed to."""
        return any(each.is_main and not each.closed for each in self.connections.values())

    def due(self) -> float:
        """Return when the lease ends unless something is heard."""
        silent = self.last_heard + self.ttl_s
        return silent if self.suspended_at is None else min(silent, self.suspended_at + GRACE_S)

    def needs_after(self, now: float) -> int:
        """Return the seq after which its client may still need history."""
        if self.reads_after is not None:
            after, asked = self.reads_after
            if now - asked < self.ttl_s:
                return min(after, self.heard_seq)
        return self.heard_seq


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
        if len(self._queue) > 1_000 + 4 * len(self._by_client):  # deadlines of those that ended
            self._queue = [(lease.due(), lease.client) for lease in self]
            heapq.heapify(self._queue)

    def next_due(self) -> float | None:
        """Return when to look again, at the latest."""
        return self._queue[0][0] if self._queue else None

    def expired(
        self, now: float, is_waiting: Callable[[bytes], bool] = lambda _: False
    ) -> list[Lease]:
        """Return the leases that are over, silent or suspended for too long; each once.

        A lease with a connection that ``is_waiting`` to be heard is looked at again next time, and
        so are those that are more than `MOST_ENDED`.
        """
        over: dict[str, Lease] = {}
        waiting: list[tuple[float, str]] = []
        while self._queue and self._queue[0][0] <= now and len(over) < MOST_ENDED:
            _, client = heapq.heappop(self._queue)
            lease = self._by_client.get(client)
            if lease is None or client in over:
                continue
            due = lease.due()
            if due > now:
                heapq.heappush(self._queue, (due, client))
            elif any(map(is_waiting, lease.connections)):
                waiting.append((due, client))
            else:
                over[client] = lease
        for each in waiting:
            heapq.heappush(self._queue, each)
        return list(over.values())
