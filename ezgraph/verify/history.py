"""Every event of a journal, in order, and the states between its transactions. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from ezgraph.protocol.events import (
    Event,
    ProcessClosed,
    ProcessOpened,
    ProcessTakenOver,
    SessionClosed,
    SessionOpened,
    SessionTakenOver,
)
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ezgraph.names import Key

Request = tuple[str, int]
"""A client id and a request id. Each holder of a lease numbers its own."""

_BEYOND = 1 << 62
"""A floor above every seq."""

Opening = SessionOpened | ProcessOpened
TakeOver = SessionTakenOver | ProcessTakenOver
Closing = SessionClosed | ProcessClosed


@dataclass(frozen=True, slots=True)
class Start:
    """A checkpoint: the live events at ``seq``, from which later states are folded."""

    epoch: int
    seq: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Executed:
    """A transaction that a request caused, and the process id that its program claimed."""

    first: int
    last: int
    pid: int | None


@dataclass(slots=True)
class Life:
    """What the journal says of one lease."""

    opened: Event | None = None
    taken_over: Event | None = None
    closed: Event | None = None


class History:
    """The truth that everything else is compared with.

    ``floor`` is the oldest seq that is here; ``start`` the checkpoint that states are folded
    from when that is above 1. ``digests`` are those of the stored bytes, ``digest_of`` makes one
    anew. Seqs are dense within an epoch only; the numbers between two epochs were never given in
    this history.
    """

    def __init__(
        self,
        events: Iterable[Event],
        *,
        floor: int = 1,
        head: int | None = None,
        start: Start | None = None,
        cluster_id: str | None = None,
        digests: Sequence[str] = (),
        digest_of: Callable[[Event], str] | None = None,
    ) -> None:
        self.events = list(events)
        self.floor = floor
        self.start = start
        self.cluster_id = cluster_id
        self._head = head
        self._by_seq = {event.seq: event for event in self.events}
        self._digests = {e.seq: d for e, d in zip(self.events, digests, strict=False)}
        self._digest_of = digest_of
        self._under: dict[Key, list[int]] = {}

    @classmethod
    def absent(cls) -> History:
        """Return what is known without a journal: nothing."""
        return cls([], floor=_BEYOND, head=_BEYOND - 1)

    @property
    def is_absent(self) -> bool:
        """Whether there is no journal at all."""
        return self.floor == _BEYOND

    def __repr__(self) -> str:
        return f"<History of {len(self.events)} events>"

    @property
    def head(self) -> int:
        """The last seq."""
        if self._head is not None:
            return self._head
        return self.events[-1].seq if self.events else self.floor - 1

    @property
    def known_from(self) -> int:
        """The oldest seq whose state is known."""
        return self.start.seq if self.start is not None else self.floor - 1

    # --- single events ---

    def get(self, seq: int) -> Event | None:
        """Return the event at ``seq``, or None."""
        return self._by_seq.get(seq)

    def is_stored(self, seq: int, digest: str) -> bool:
        """Return whether the event at ``seq`` has this digest."""
        if self._digests.get(seq) == digest:
            return True
        event = self._by_seq.get(seq)  # perhaps an older version spelled what is stored
        return event is not None and self._digest_of is not None and (
            self._digest_of(event) == digest
        )

    def ends_transaction(self, seq: int) -> bool:
        """Return whether a state was true at ``seq``."""
        event = self._by_seq.get(seq)
        return seq == event.txn_last if event is not None else seq in self._ends_of_epochs

    @cached_property
    def _ends_of_epochs(self) -> set[int]:
        return {self.floor - 1, self.head} | {b for gap in self.gaps for b in gap}

    @cached_property
    def gaps(self) -> list[tuple[int, int]]:
        """The last seq of each epoch but the newest, and the base of the one after it."""
        return [
            (before.seq, after.seq - 1)
            for before, after in pairwise(self.events)
            if after.epoch > before.epoch and after.seq > before.seq
        ] + self._empty_epoch

    @cached_property
    def _empty_epoch(self) -> list[tuple[int, int]]:
        """The gap behind the last event, where a restored journal has nothing in it yet."""
        last = self.events[-1].seq if self.events else self.floor - 1
        return [(last, self.head)] if self.head > last + 1 else []

    def is_lost(self, seq: int) -> bool:
        """Return whether ``seq`` was given in a history that a restored backup has replaced."""
        return any(last < seq < base for last, base in self.gaps)

    # --- ranges ---

    def under(self, prefix: Key, after: int, through: int) -> list[int]:
        """Return the seqs of the events under a prefix in (after, through]."""
        seqs = self._seqs_under(prefix)
        return seqs[bisect_right(seqs, after) : bisect_right(seqs, through)]

    def _seqs_under(self, prefix: Key) -> list[int]:
        known = self._under.get(prefix)
        if known is None:
            depth = len(prefix)
            known = sorted(e.seq for e in self.events if e.key[:depth] == prefix)
            self._under[prefix] = known
        return known

    def matching(self, prefix: Key, after: int, through: int) -> list[Event]:
        """Return the events under a prefix in (after, through]."""
        return [self._by_seq[seq] for seq in self.under(prefix, after, through)]

    # --- transactions ---

    def transactions(self) -> Iterator[list[Event]]:
        """Yield the events of each transaction."""
        for _, events in groupby(self.events, key=lambda event: (event.epoch, event.txn_first)):
            yield list(events)

    def states(self) -> Iterator[tuple[list[Event], GraphState]]:
        """Yield each transaction with the state after it (one object, moved on each time)."""
        state = self.first_state()
        for events in self.transactions():
            if events[-1].seq <= self.known_from:
                continue
            for event in events:
                state.apply(event)
            yield events, state

    def first_state(self) -> GraphState:
        """Return the state before the first transaction of `states`."""
        if self.start is None:
            return GraphState()
        return GraphState.fold(self.start.events, epoch=self.start.epoch, seq=self.start.seq)

    @cached_property
    def executed(self) -> dict[Request, list[Executed]]:
        """The transactions that each request caused."""
        found: dict[Request, list[Executed]] = {}
        for events in self.transactions():
            first, last = events[0], events[-1]
            if first.request_id is not None:
                request = (first.source.client or "", first.request_id)
                caused = Executed(first.seq, last.seq, first.source.pid)
                found.setdefault(request, []).append(caused)
        return found

    @cached_property
    def lives(self) -> dict[str, Life]:
        """What became of each lease, by client id."""
        lives: dict[str, Life] = {}
        for event in self.events:
            body = event.body
            if isinstance(body, Opening | TakeOver | Closing):
                life = lives.setdefault(lease_of(body), Life())
                if isinstance(body, Opening):
                    life.opened = event
                elif isinstance(body, TakeOver):
                    life.taken_over = event
                else:
                    life.closed = event
        return lives


def lease_of(body: Opening | TakeOver | Closing) -> str:
    """Return the client id of the lease that an event is about."""
    if isinstance(body, SessionOpened | SessionTakenOver | SessionClosed):
        return body.session_id
    return str(body.process_id)
