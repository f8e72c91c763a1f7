"""The broker without its sockets: frames in, frames out, and the order that makes answers durable.

A pass is: `take_subscription`, then `take_command` for everything that waits, then `finish_pass`,
which appends everything decided as one group commit; then `replies`, when these are sent
`publications`, and at last `tidy`. If the append fails, `finish_pass` raises and nothing is handed
out; the state is then ahead of the journal, so this engine is used no more.

Reads of stored bytes (replay, snapshots, status) wait in a queue. In each pass, after the commands,
so many are served as examine one chunk of rows together: a catch-up never holds the loop for
longer, and thousands of watchers that miss little are served quickly.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ezgraph._version import __version__
from ezgraph.backends.base import Record
from ezgraph.broker.admission import Cluster
from ezgraph.broker.compaction import Compaction
from ezgraph.broker.core import BrokerCore, ReadCommand, refusal_of
from ezgraph.broker.live import Snapshots
from ezgraph.broker.restart import restart
from ezgraph.broker.watches import Watches
from ezgraph.errors import (
    DivergedError,
    EzGraphError,
    InvalidCommandError,
    MalformedMessageError,
    UnsupportedError,
)
from ezgraph.names import note_topic, prefix_of_note, topic_of
from ezgraph.protocol.commands import (
    GetStatus,
    OpenSnapshot,
    ReadEvents,
    ReadSnapshot,
    Request,
)
from ezgraph.protocol.notes import Note
from ezgraph.protocol.replies import EventRange, Refusal, Reply, StatusReport
from ezgraph.wire import codec, frames

if TYPE_CHECKING:

    from ezgraph.backends.base import Journal
    from ezgraph.broker.connections import Descriptor
    from ezgraph.config import BrokerConfig
    from ezgraph.ids import IdSource
    from ezgraph.protocol.events import Event
    from ezgraph.wire.codec import EncodedEvent

log = logging.getLogger(__name__)

_LITTLE_EVENTS = 200
_FRAMES_PER_MESSAGE = 256
Message = list[bytes]


class _Reading(NamedTuple):
    """A read that waits for its turn."""

    peer: bytes
    request_id: int
    command: ReadCommand


class _Transaction(NamedTuple):
    """A decided transaction on its way to the journal and to the watchers."""

    events: tuple[Event, ...]
    topics: list[bytes]
    encoded: list[EncodedEvent]


class BrokerEngine:
    """One broker's decisions and bytes. ``now``: monotonic seconds; ``wall``: since 1970."""

    def __init__(
        self,
        config: BrokerConfig,
        journal: Journal,
        ids: IdSource,
        *,
        events_port: int,
        now: float,
    ) -> None:
        self.config = config
        self.journal = journal
        self.stopping = False
        self._started = now
        self._now, self._wall = now, 0.0
        self._snapshots = Snapshots(config.limits)
        self._watches = Watches(config.limits.max_watched_prefixes)
        self._subscribed: set[bytes] = set()
        self._has_more_subscribers = False
        self._reads: deque[_Reading] = deque()
        self._reading: set[tuple[bytes, int]] = set()
        self._transactions: list[_Transaction] = []
        self._stored: list[_Transaction] = []
        self._answers: list[tuple[bytes, int, Reply]] = []
        self._replies: list[Message] = []
        self._publications: list[Message] = []
        self._load(ids, events_port, now)

    def __repr__(self) -> str:
        return f"<BrokerEngine epoch={self.state.epoch} seq={self.state.seq}>"

    @property
    def sessions(self) -> int:
        """How many sessions and process clients are open."""
        return len(self.state.sessions) + len(self.state.processes)

    def _load(self, ids: IdSource, events_port: int, now: float) -> None:
        journal = self.journal
        begun = restart(journal)
        self.state, self._live = begun.state, begun.live
        self.core = BrokerCore(
            self.state,
            Cluster(journal.cluster_id, journal.secret),
            self.config,
            ids,
            events_port=events_port,
            floor=journal.floor,
            epoch_ends={e.epoch: e.last_seq for e in journal.epochs if e.last_seq is not None},
        )
        self.core.restore_leases(begun.history, begun.answered, now=now)
        self._compaction = Compaction(
            journal,
            self._live,
            self.core,
            self.config,
            checkpoint_seq=begun.checkpoint_seq,
            now=now,
        )

    # --- one pass ---

    @property
    def publishes_little(self) -> bool:
        """Whether what is to be published takes no time, so that watchers may get theirs first."""
        count = sum(len(transaction.events) for transaction in self._stored)
        return bool(self._subscribed) and count <= _LITTLE_EVENTS

    def take_command(
        self,
        peer: bytes,
        frame: bytes,
        *,
        now: float,
        wall: float,
        descriptor: Descriptor | None = None,
    ) -> None:
        """Decide on one request frame. What is no request of this protocol gets no answer.

        ``descriptor`` is what the frame came in on, as `connection_closed` will name it.
        """
        try:
            request_id, lowest_open = frames.read_header(frame)
        except MalformedMessageError:
            return
        try:
            command = frames.read_command(frame)
        except MalformedMessageError as error:
            code = UnsupportedError.code if error.unknown else error.code
            self._answers.append((peer, request_id, Refusal(code, str(error))))
            return
        request = Request(request_id, lowest_open, command)
        outcome = self.core.receive(peer, request, now=now, wall=wall, descriptor=descriptor)
        if outcome.events:
            self._decided(outcome.events)
        if outcome.read is not None:
            self._queue_read(_Reading(peer, request_id, outcome.read))
        if outcome.reply is not None:
            self._answers.append((peer, request_id, outcome.reply))
        self.stopping = self.stopping or outcome.stop

    def connection_closed(self, descriptor: Descriptor, *, now: float) -> None:
        """Take note that the peer at ``descriptor`` is gone."""
        self.core.connection_closed(descriptor, now=now)

    def knows(self, peer: bytes) -> bool:
        """Return whether ``peer`` is bound, so that its frames need no descriptor."""
        return self.core.knows(peer)

    def finish_pass(self, *, now: float, wall: float, drained: bool = True) -> None:
        """Store what was decided; then `replies` has the answers, and `publications` the rest.

        ``drained``: everything that had arrived was taken. Only then do leases end: after a stall
        the heartbeats that renew them may still wait unread.

        Raises:
            JournalFailedError: the append failed; nothing of this pass may leave the process.
        """
        self._now, self._wall = now, wall
        due = self.core.leases.next_due()
        if drained and due is not None and due <= now:
            for events in self.core.expire(now=now, wall=wall):
                self._decided(events)
        if self._compaction.may_compact:
            self._compact(now, wall)
        if self._transactions:
            self._store()
        if self._answers:
            self._reply()

    def _compact(self, now: float, wall: float) -> None:
        """Say that history goes, if it does; `tidy` lets it go when that is stored."""
        floor = self._compaction.floor_due(now=now, wall=wall)
        if floor is not None:
            self._decided(self.core.compacted(floor, now=now, wall=wall))
            self._compaction.raise_floor_later(floor)

    def _reply(self) -> None:
        """Put the answers of this pass into one message per connection (or a few)."""
        open_messages: dict[bytes, Message] = {}
        for peer, request_id, reply in self._answers:
            message = open_messages.get(peer)
            if message is None or len(message) > _FRAMES_PER_MESSAGE:
                message = open_messages[peer] = [peer]
                self._replies.append(message)
            message.append(frames.reply_frame(request_id, reply))
        self._answers.clear()

    def replies(self) -> list[Message]:
        """Return the messages for the ROUTER, once: a connection, then its reply frames."""
        replies, self._replies = self._replies, []
        return replies

    def publications(self) -> list[Message]:
        """Return the multipart messages to publish, once, in order.

        Call it after the replies are sent: it does what can wait that long, reads among it, so
        that there may be `replies` again.
        """
        now = self._now
        if self._stored:
            self._publish(now)
        if (due := self._watches.next_due()) is not None and due <= now:
            for prefix, last in self._watches.due(now=now):
                self._send_note(prefix, last)
        left = self.config.limits.chunk_events
        while self._reads and left > 0:
            left -= self._serve_read(now)
        publications, self._publications = self._publications, []
        return publications

    def tidy(self) -> None:
        """Write a step of a checkpoint, drop some of what is compacted: the end of a pass.

        Everything of the pass is sent by now, so that a disk that fails here costs no answer.

        Raises:
            JournalFailedError: it did.
        """
        self._compaction.step(self.state.seq, now=self._now, wall=self._wall)

    def next_due(self, now: float) -> float | None:
        """Return when the next pass is needed even if nothing arrives."""
        if self._reads or self._replies or self._compaction.is_under_way:
            return now
        dues = (
            self.core.leases.next_due(),
            self._watches.next_due(),
            self._compaction.next_due(self.state.seq),
        )
        return min((due for due in dues if due is not None), default=None)

    def _decided(self, events: tuple[Event, ...]) -> None:
        topics = [topic_of(event.key) for event in events]
        encoded = [codec.encode_event(event) for event in events]
        self._transactions.append(_Transaction(events, topics, encoded))

    def _store(self) -> None:
        """Append everything decided in this pass as one group commit."""
        self.journal.append(
            [
                Record(event.seq, topic, each.event)
                for transaction in self._transactions
                for event, topic, each in zip(*transaction, strict=True)
            ]
        )
        self._stored += self._transactions
        self._transactions.clear()

    def _publish(self, now: float) -> None:
        for events, topics, encoded in self._stored:
            for event, each in zip(events, encoded, strict=True):
                self._live.add(event, each)
            links = self._watches.link(events[0].seq, topics, now=now)
            if not self._subscribed and not self._has_more_subscribers:
                continue
            for topic, each, its_links in zip(topics, encoded, links, strict=True):
                self._publications.append([topic, frames.links_frame(its_links), each.event])
        self._stored.clear()

    # --- subscriptions and notes ---

    def take_subscription(self, message: bytes, *, now: float) -> None:
        r"""Take note of one subscription (``\x01`` + topic) or unsubscription (``\x00``)."""
        topic = message[1:]
        prefix = prefix_of_note(topic)
        if message[:1] == b"\x01":
            if len(self._subscribed) < 2 * self.config.limits.max_watched_prefixes:
                self._subscribed.add(topic)
            else:
                self._has_more_subscribers = True  # than are counted: publish, whoever leaves
            if prefix is not None:
                last = self._watches.add(prefix, head=self.state.seq, now=now)
                if last is not None:
                    self._send_note(prefix, last)
        elif message[:1] == b"\x00":
            self._subscribed.discard(topic)
            if prefix is not None:
                self._watches.remove(prefix, now=now)

    def _send_note(self, prefix: bytes, last: int) -> None:
        note = Note(self.journal.cluster_id, self.state.epoch, last, self.state.seq)
        self._publications.append([note_topic(prefix), frames.note_frame(note)])

    # --- reads ---

    def _queue_read(self, reading: _Reading) -> None:
        asked = (reading.peer, reading.request_id)
        if asked in self._reading:
            return  # a repetition of one that waits
        if len(self._reads) < self.config.limits.max_waiting_reads:
            self._reads.append(reading)
            self._reading.add(asked)
            return
        refusal = Refusal("limit", "too many reads wait already; ask again in a moment")
        self._answers.append((reading.peer, reading.request_id, refusal))

    def _serve_read(self, now: float) -> int:
        """Answer the next read; return how many rows that took, roughly."""
        reading = self._reads.popleft()
        self._reading.discard((reading.peer, reading.request_id))
        rows = self.config.limits.chunk_events
        try:
            if isinstance(reading.command, ReadEvents):
                reply, rows = self._read_events(reading.command)
            else:
                reply = self._read(reading.command, now)
        except EzGraphError as error:
            reply = refusal_of(error)
        frame = frames.reply_frame(reading.request_id, reply)
        self._replies.append([reading.peer, frame])
        return rows

    def _read(self, command: OpenSnapshot | ReadSnapshot | GetStatus, now: float) -> Reply:
        match command:
            case GetStatus():
                return self._status(now)
            case OpenSnapshot():
                state = self.state
                number = self._snapshots.open(
                    self._live,
                    epoch=state.epoch,
                    seq=state.seq,
                    now=now,
                    at_least=command.at_least,
                )
                return self._chunk(number, command.rooms, 0, now)
            case ReadSnapshot():
                return self._chunk(command.snapshot, command.rooms, command.start, now)

    def _chunk(self, number: int, rooms: list[str], start: int, now: float) -> Reply:
        floor = self.journal.floor
        return self._snapshots.chunk(number, rooms, start, floor=floor, now=now)

    def _read_events(self, command: ReadEvents) -> tuple[Reply, int]:
        """Return a range, and how many rows were examined for it (one at least)."""
        limits, journal, after = self.config.limits, self.journal, command.after
        if after < 0:
            raise InvalidCommandError(f"after_seq={after}: a seq is 0 or more")
        if after > journal.head:
            raise DivergedError(
                f"after_seq={after} lies beyond the head {journal.head} of epoch "
                f"{journal.epoch}; take a snapshot"
            )
        prefix = topic_of(tuple(command.prefix))
        last = self._watches.last_under(prefix)
        if last is not None and last <= after and journal.floor <= after + 1:
            return EventRange([], journal.head, journal.head, journal.floor), 1
        chunk = journal.read(
            after,
            through=command.through,
            prefix=prefix,
            max_rows=limits.chunk_events,
            max_bytes=limits.chunk_bytes,
        )
        found = EventRange(list(chunk.events), chunk.through, journal.head, journal.floor)
        return found, max(1, min(chunk.through - after, limits.chunk_events))

    def _status(self, now: float) -> StatusReport:
        state, size = self.state, self.journal.size_bytes()
        warning = None
        if size > self.config.journal_warning_bytes:
            bound = self.config.journal_warning_bytes >> 20
            warning = (
                f"the journal has {size >> 20} MiB, above the {bound} MiB you asked to be warned "
                f"at; nothing is deleted by itself"
            )
        return StatusReport(
            version=__version__,
            cluster_id=self.journal.cluster_id,
            epoch=state.epoch,
            head=state.seq,
            floor=self.journal.floor,
            sessions=len(state.sessions),
            processes=len(state.processes),
            edges=len(state.dag.edge_owners),
            components=len(state.components),
            watched_prefixes=len(self._watches),
            paused=state.paused,
            uptime_s=now - self._started,
            backend=self.config.backend,
            journal_bytes=size,
            journal_warning=warning,
            free_disk_bytes=self.journal.free_bytes(),
            pid=os.getpid(),
            insecure=self.config.insecure,
            events_port=self.core.events_port,
        )

    # --- the end ---

    def write_checkpoint(self) -> None:
        """Write a checkpoint at the head, so that the next start is quick."""
        self._compaction.write_checkpoint(self.state.seq)
