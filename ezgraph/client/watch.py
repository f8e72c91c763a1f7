"""One watcher of one prefix: every matching event, in order, once, whole transactions. Pure.

Phases::

    joining ──welcome──▶ reading ──caught up──▶ live
                            ▲  └──below floor──▶ snapshot ──taken──▶ reading
                            └────────gap, or a full buffer───────────── live

``position`` is the seq up to which the watcher has seen everything under its prefix. A live
event whose link says ``prev > position`` shows a gap before it is delivered; a note whose
``last > position`` shows a lost tail. Either way the watcher reads the range from the journal,
and keeps live events in a bounded stash meanwhile (when that overflows, they are read as well).
Events of a transaction are held until the last one under the prefix is there.

The consumer's buffer is bounded too: when it is full the watcher stops taking live events and
reads them later, at the consumer's own pace. Nothing is dropped: the journal keeps it.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.errors import EzGraphError, InvalidCommandError, WrongClusterError
from ezgraph.names import Key, check_key
from ezgraph.protocol.commands import ReadEvents
from ezgraph.protocol.notes import UNWATCHED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.protocol.events import Event
    from ezgraph.protocol.notes import Link, Note
    from ezgraph.protocol.replies import EventRange

WELCOME_WAIT_S = 0.5
STASH_EVENTS = 20_000
BUFFER_EVENTS = 20_000


class Phase(enum.Enum):
    """What a watcher is doing."""

    JOINING = "joining"
    SNAPSHOT = "snapshot"
    READING = "reading"
    LIVE = "live"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything under the prefix up to ``seq`` has been delivered."""

    seq: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """History up to ``floor`` is gone; ``snapshot`` is the state to go on from, at ``seq``.

    None: the watcher goes on from ``seq`` without it.

    ``diverged``: what was delivered last is no part of the broker's history; an older backup was
    restored since.
    """

    floor: int
    snapshot: Any
    diverged: bool = False
    seq: int = 0


Item = Any


class Watch:
    """What one watcher has, lacks, and wants next.

    ``after``: deliver what came after that seq; None: what comes from now on.
    ``start_with_snapshot``: begin with a snapshot in place of history. ``with_state`` False: who
    takes the items reads what they need by themselves where history is gone; then `Compacted` comes
    without a snapshot, and what follows it came after the head at that moment.
    """

    def __init__(
        self,
        prefix: Key,
        after: int | None = None,
        *,
        start_with_snapshot: bool = False,
        with_state: bool = True,
    ) -> None:
        if after is not None and type(after) is not int:
            raise InvalidCommandError(f"after_seq={after!r}: a seq is an integer, 0 or more")
        self.prefix = check_key(prefix)
        self.depth = len(self.prefix)
        self.phase = Phase.JOINING
        self.position = 0
        self.ready: deque[Item] = deque()
        self.error: EzGraphError | None = None
        self.floor = 0
        self.diverged = False
        self.last_heard = 0.0
        self.with_state = with_state
        self._after = after
        self._start_unknown = False
        self._early_welcome: Note | None = None
        self._snapshot_first = start_with_snapshot
        self._target = 0
        self._cluster_id: str | None = None
        self._stash: deque[tuple[Event, Link]] = deque()
        self._held: list[Event] = []
        self._asked = False
        self._must_ask = False
        self._reported = -1

    def __repr__(self) -> str:
        return (
            f"<Watch {'/'.join(self.prefix)!r} {self.phase.value} position={self.position} "
            f"ready={len(self.ready)}>"
        )

    # --- where it begins ---

    def hold_start(self) -> bool:
        """Wait for `begin_after`, if this watcher begins "now"; return whether it does."""
        self._start_unknown = self._after is None and not self._snapshot_first
        return self._start_unknown

    def begin_after(self, seq: int) -> None:
        """Say what "now" is: ``seq``, the head when the watcher was opened."""
        if self._start_unknown:
            self._start_unknown, self._after = False, seq
            if self._early_welcome is not None:
                self._welcome(self._early_welcome)

    @property
    def start(self) -> int | None:
        """After which seq it begins; None: not known yet, or with a snapshot."""
        return self._after

    # --- what arrives ---

    def heard_note(self, note: Note, *, now: float) -> None:
        """Take a note of this prefix; the first one is the welcome."""
        self.last_heard = now
        if self._cluster_id not in (None, note.cluster_id):
            self.fail(
                WrongClusterError(
                    f"the broker now keeps cluster {note.cluster_id}, this watcher followed "
                    f"{self._cluster_id}: another journal, or a new memory:// broker; "
                    f"open a new context"
                )
            )
            return
        self._cluster_id = note.cluster_id
        if self.phase is Phase.JOINING:
            self._welcome(note)
        elif note.last > self.position:
            self._read_through(note.last)
        elif self.phase is Phase.LIVE and not self._held:
            self.position = max(self.position, note.head)
            self._report()

    def heard_event(self, event: Event, link: Link, *, now: float) -> None:
        """Take a live event."""
        self.last_heard = now
        if self.phase is Phase.LIVE:
            if event.seq <= self.position:
                return  # it was read already
            if len(self.ready) >= BUFFER_EVENTS:
                self._read_through(event.seq)
            else:
                self._accept(event, link)
        elif self._start_unknown:
            self._target = max(self._target, event.seq)  # before the start is known: read it later
        elif self.phase in (Phase.READING, Phase.SNAPSHOT):
            if len(self._stash) < STASH_EVENTS:
                self._stash.append((event, link))
            else:
                self._target = max(self._target, event.seq)

    def wants(self) -> ReadEvents | None:
        """Return the next range to ask for, once; None: nothing, or not now."""
        if self.phase is not Phase.READING or self._asked:
            return None
        if self.position >= self._target and not self._must_ask:
            return None
        if len(self.ready) >= BUFFER_EVENTS:
            return None
        self._asked = True
        return ReadEvents(list(self.prefix), self.position)

    def range_arrives(self, reply: EventRange) -> None:
        """Take the header of a range: the next one can be asked for before this is decoded."""
        self._asked = self._must_ask = False
        self.position = max(self.position, reply.through)

    def range_events(self, events: Iterable[Event], reply: EventRange, *, now: float) -> None:
        """Take the decoded events of a range."""
        self.last_heard = now
        held = self._held
        held.extend(events)
        if held and held[-1].txn_last > reply.through:
            self._target = max(self._target, held[-1].txn_last)
            whole = [event for event in held if event.txn_last <= reply.through]
            self._held = held[len(whole) :]
            held = whole
        else:
            self._held = []
        self.ready.extend(held)
        self._catch_up()

    def range_failed(self, error: EzGraphError, *, now: float) -> None:
        """The range could not be had: below the floor a snapshot is needed, else this is over."""
        self._asked = False
        self.last_heard = now
        if error.code in ("compacted", "diverged"):
            self.floor = getattr(error, "floor", 0)
            self.diverged = error.code == "diverged"
            self._held = []
            self.phase = Phase.SNAPSHOT
        else:
            self.fail(error)

    def snapshot_taken(self, seq: int, item: Item | None) -> None:
        """Go on from a snapshot at ``seq``, which the consumer gets as ``item``."""
        if self.phase is not Phase.SNAPSHOT:
            return
        if item is not None:
            self.ready.append(item)
        self.position = seq
        self.phase = Phase.READING
        self._catch_up()

    def begin_anew(self) -> None:
        """What may be read has changed: one that keeps a state takes another snapshot of it."""
        keeps_state = self._snapshot_first or not self.with_state
        if keeps_state and self.phase in (Phase.READING, Phase.LIVE, Phase.SNAPSHOT):
            self._held = []
            self._stash.clear()
            self.phase = Phase.SNAPSHOT

    def fail(self, error: EzGraphError) -> None:
        """End with ``error``, after what is ready has been consumed."""
        if self.phase is not Phase.FAILED:
            self.phase, self.error = Phase.FAILED, error
            self._stash.clear()

    def needs_welcome(self, *, subscribed_at: float, now: float) -> bool:
        """Return whether no welcome has come in time, so that one must subscribe again."""
        late = now - subscribed_at >= WELCOME_WAIT_S
        return late and self.phase is Phase.JOINING and self._early_welcome is None

    # --- inside ---

    def _welcome(self, note: Note) -> None:
        if self._start_unknown:
            self._early_welcome = note
            return
        if self._snapshot_first:
            self.phase = Phase.SNAPSHOT
            self._target = note.head  # the snapshot may be a little older
            return
        self.position = note.head if self._after is None else self._after
        self._must_ask = self.position > note.head  # an old note, or another history: ask
        self.phase = Phase.READING
        self._target = max(self._target, note.head)
        self._catch_up()

    def _read_through(self, seq: int) -> None:
        if self.phase is Phase.LIVE:
            self.phase = Phase.READING
        self._target = max(self._target, seq)

    def _accept(self, event: Event, link: Link) -> None:
        if link.prev == UNWATCHED:
            self._read_through(event.seq)
            return
        if link.prev > self.position:
            self._stash.append((event, link))
            self._read_through(link.prev)
            return
        self._held.append(event)
        self.position = event.seq
        if not link.more:
            self.ready.extend(self._held)
            self._held = []

    def _catch_up(self) -> None:
        """Go live if nothing is missing; else stay with reading."""
        if self.phase is not Phase.READING or self.position < self._target or self._must_ask:
            return
        self.phase = Phase.LIVE
        stash, self._stash = self._stash, deque()
        while stash and self.phase is Phase.LIVE:
            event, link = stash.popleft()
            if event.seq > self.position:
                self._accept(event, link)
        if self.phase is Phase.LIVE:
            self._report()
        else:
            self._stash.extend(stash)

    def _report(self) -> None:
        if self.position > self._reported and not self._held:
            if self.ready and isinstance(self.ready[-1], Progress):
                self.ready.pop()
            self.ready.append(Progress(self.position))
            self._reported = self.position
