"""The broker without its sockets: frames in, frames out, and the order that makes answers durable.

A pass is: `take_subscription`, then `take_command` for everything that waits, then `finish_pass`,
which appends everything decided as one group commit; then `replies`, and when these are sent
`publications`. If the append fails, `finish_pass` raises and nothing is handed out; the state is
then ahead of the journal, so this engine is used no more.

Reads of stored bytes (replay, snapshots, status) wait in a queue of which one is served per
pass, after the commands, so a catch-up never holds the loop for longer than one chunk.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ezgraph._version import __version__
from ezgraph.backends.base import Record
from ezgraph.broker.core import BrokerCore, Cluster, ReadCommand
from ezgraph.broker.live import LiveSet, Snapshots
from ezgraph.broker.watches import Watches
from ezgraph.errors import (
    CompactedError,
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
from ezgraph.state.graph import GraphState
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from ezgraph.backends.base import Checkpoint, CheckpointWriter, Journal
    from ezgraph.broker.leases import Descriptor
    from ezgraph.broker.live import LiveEntry
    from ezgraph.config import BrokerConfig
    from ezgraph.ids import IdSource
    from ezgraph.protocol.events import Event, Slot
    from ezgraph.wire.codec import EncodedEvent

log = logging.getLogger(__name__)

_CHECKPOINT_STEP = 500
_REMEMBERED_EVENTS = 20_000
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
        self._now = now
        self._live = LiveSet()
        self._snapshots = Snapshots(config.limits)
        self._watches = Watches(config.limits.max_watched_prefixes)
        self._subscribed: set[bytes] = set()
        self._reads: deque[_Reading] = deque()
        self._transactions: list[_Transaction] = []
        self._stored: list[_Transaction] = []
        self._answers: list[tuple[bytes, int, Reply]] = []
        self._replies: list[Message] = []
        self._publications: list[Message] = []
        self._checkpoint: _CheckpointUnderWay | None = None
        self._checkpoint_seq = 0
        self._load(ids, events_port, now)

    def __repr__(self) -> str:
        return f"<BrokerEngine epoch={self.state.epoch} seq={self.state.seq}>"

    @property
    def sessions(self) -> int:
        """How many sessions and process clients are open."""
        return len(self.state.sessions) + len(self.state.processes)

    def _load(self, ids: IdSource, events_port: int, now: float) -> None:
        """Fold checkpoint and tail into the state and the live set."""
        self.state = GraphState()
        self.state.epoch = self.journal.epoch
        checkpoint = self.journal.load_checkpoint()
        if checkpoint is not None:
            self._load_checkpoint(checkpoint)
        remembered: deque[Event] = deque(maxlen=_REMEMBERED_EVENTS)
        oldest = min(self.state.seq, self.journal.head - _REMEMBERED_EVENTS)
        first = max(self.journal.floor - 1, oldest)
        while first < self.journal.head:
            chunk = self.journal.read(first)
            for packed in chunk.events:
                event = codec.decode_event(packed)
                remembered.append(event)
                if event.seq > self.state.seq:
                    self.state.apply(event)
                    self._live.add(event, codec.encode_event(event))
            first = chunk.through
        self.core = BrokerCore(
            self.state,
            Cluster(self.journal.cluster_id, self.journal.secret),
            self.config,
            ids,
            events_port=events_port,
            floor=self.journal.floor,
        )
        self.core.restore_leases(remembered, now=now)

    def _load_checkpoint(self, checkpoint: Checkpoint) -> None:
        for entry in checkpoint.entries:
            event = codec.decode_live_event(entry, checkpoint.blobs)
            self.state.apply(event)
            self._live.add(event, codec.encode_event(event))
        self.state.epoch, self.state.seq = self.journal.epoch, checkpoint.seq
        self._checkpoint_seq = checkpoint.seq

    # --- one pass ---

    @property
    def is_watched(self) -> bool:
        """Whether anybody subscribes to anything."""
        return bool(self._subscribed)

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
        self._now = now
        due = self.core.leases.next_due()
        if drained and due is not None and due <= now:
            for events in self.core.expire(now=now, wall=wall):
                self._decided(events)
        if self._transactions:
            self._store()
        if self._answers:
            self._reply()

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

        Call it after the replies are sent: it does what can wait that long, a read and a step
        of a checkpoint among it, so that there may be `replies` again.
        """
        now = self._now
        if self._stored:
            self._publish(now)
        if (due := self._watches.next_due()) is not None and due <= now:
            for prefix, last in self._watches.due(now=now):
                self._send_note(prefix, last)
        if self._reads:
            self._serve_read(now)
        self._checkpoint_step()
        publications, self._publications = self._publications, []
        return publications

    def next_due(self, now: float) -> float | None:
        """Return when the next pass is needed even if nothing arrives."""
        if self._reads or self._replies or self._checkpoint is not None:
            return now
        lease, note = self.core.leases.next_due(), self._watches.next_due()
        if lease is None or note is None:
            return note if lease is None else lease
        return min(lease, note)

    def _decided(self, events: tuple[Event, ...]) -> None:
        encoded = [codec.encode_event(event) for event in events]
        self._transactions.append(_Transaction(events, encoded))

    def _store(self) -> None:
        """Append everything decided in this pass as one group commit."""
        self.journal.append(
            [
                Record(event.seq, topic_of(event.key), each.event)
                for events, encoded in self._transactions
                for event, each in zip(events, encoded, strict=True)
            ]
        )
        self._stored += self._transactions
        self._transactions.clear()

    def _publish(self, now: float) -> None:
        for events, encoded in self._stored:
            for event, each in zip(events, encoded, strict=True):
                self._live.add(event, each)
            links = self._watches.link(events, now=now)
            if not self._subscribed:
                continue
            for event, each, its_links in zip(events, encoded, links, strict=True):
                self._publications.append(
                    [topic_of(event.key), frames.links_frame(its_links), each.event]
                )
        self._stored.clear()

    # --- subscriptions and notes ---

    def take_subscription(self, message: bytes, *, now: float) -> None:
        r"""Take note of one subscription (``\x01`` + topic) or unsubscription (``\x00``)."""
        topic = message[1:]
        prefix = prefix_of_note(topic)
        if message[:1] == b"\x01":
            if len(self._subscribed) < 2 * self.config.limits.max_watched_prefixes:
                self._subscribed.add(topic)
            if prefix is not None:
                last = self._watches.add(prefix, head=self.state.seq, now=now)
                if last is not None:
                    self._send_note(prefix, last)
        elif message[:1] == b"\x00":
            self._subscribed.discard(topic)
            if prefix is not None:
                self._watches.remove(prefix)

    def _send_note(self, prefix: bytes, last: int) -> None:
        note = Note(self.journal.cluster_id, self.state.epoch, last, self.state.seq)
        self._publications.append([note_topic(prefix), frames.note_frame(note)])

    # --- reads ---

    def _queue_read(self, reading: _Reading) -> None:
        if len(self._reads) < self.config.limits.max_waiting_reads:
            self._reads.append(reading)
            return
        refusal = Refusal("limit", "too many reads wait already; ask again in a moment")
        self._answers.append((reading.peer, reading.request_id, refusal))

    def _serve_read(self, now: float) -> None:
        reading = self._reads.popleft()
        try:
            reply = self._read(reading.command, now)
        except CompactedError as error:
            reply = Refusal(error.code, str(error), error.floor)
        except EzGraphError as error:
            reply = Refusal(error.code, str(error))
        frame = frames.reply_frame(reading.request_id, reply)
        self._replies.append([reading.peer, frame])

    def _read(self, command: ReadCommand, now: float) -> Reply:
        match command:
            case ReadEvents():
                return self._read_events(command)
            case GetStatus():
                return self._status(now)
            case OpenSnapshot():
                state = self.state
                number = self._snapshots.open(
                    self._live, epoch=state.epoch, seq=state.seq, now=now
                )
                return self._chunk(number, command.rooms, 0, now)
            case ReadSnapshot():
                return self._chunk(command.snapshot, command.rooms, command.start, now)

    def _chunk(self, number: int, rooms: list[str], start: int, now: float) -> Reply:
        floor = self.journal.floor
        return self._snapshots.chunk(number, rooms, start, floor=floor, now=now)

    def _read_events(self, command: ReadEvents) -> EventRange:
        limits, journal = self.config.limits, self.journal
        if command.after < 0:
            raise InvalidCommandError(f"after_seq={command.after}: a seq is 0 or more")
        if command.after > journal.head:
            raise DivergedError(
                f"after_seq={command.after} lies beyond the head {journal.head} of epoch "
                f"{journal.epoch}; take a snapshot"
            )
        chunk = journal.read(
            command.after,
            through=command.through,
            prefix=topic_of(tuple(command.prefix)),
            max_rows=limits.chunk_events,
            max_bytes=limits.chunk_bytes,
        )
        return EventRange(list(chunk.events), chunk.through, journal.head)

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

    # --- checkpoints and the end ---

    def _checkpoint_step(self) -> None:
        """Write the next part of a checkpoint, a little per pass."""
        if self._checkpoint is not None:
            if self._checkpoint.step():
                self._checkpoint_seq = self._checkpoint.seq
                self._checkpoint = None
        elif self.state.seq - self._checkpoint_seq >= self.config.checkpoint_events:
            self._checkpoint = self._begin_checkpoint()

    def _begin_checkpoint(self) -> _CheckpointUnderWay:
        seq = self.state.seq
        return _CheckpointUnderWay(seq, self._live.freeze(), self.journal.begin_checkpoint(seq))

    def write_checkpoint(self) -> None:
        """Write a checkpoint at the head, so that the next start is quick."""
        if self._checkpoint_seq == self.state.seq:
            return
        under_way = self._begin_checkpoint()
        while not under_way.step():
            pass


class _CheckpointUnderWay:
    """A checkpoint being written in steps, while the loop goes on."""

    def __init__(
        self, seq: int, entries: tuple[tuple[Slot, LiveEntry], ...], writer: CheckpointWriter
    ) -> None:
        self.seq = seq
        self._entries = entries
        self._writer = writer
        self._next = 0
        self._blobs: dict[bytes, bytes] = {}

    def step(self) -> bool:
        """Write some entries; return whether the checkpoint is complete."""
        part = self._entries[self._next : self._next + _CHECKPOINT_STEP]
        self._next += len(part)
        for _, live in part:
            self._blobs.update(live.blobs)
        if part:
            self._writer.add([live.entry for _, live in part])
            return False
        self._writer.finish(self._blobs)
        return True
