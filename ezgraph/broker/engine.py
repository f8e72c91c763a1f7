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
import math
import os
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ezgraph._version import __version__
from ezgraph.backends import stored_graphs, stored_tags
from ezgraph.backends.base import Record
from ezgraph.backends.stored_reading import GraphReading
from ezgraph.broker.access import scope_of, withheld
from ezgraph.broker.admission import Cluster
from ezgraph.broker.broadcast import Broadcast, Message
from ezgraph.broker.compaction import Compaction
from ezgraph.broker.core import BrokerCore, refusal_of
from ezgraph.broker.live import Pulled, Puller, Snapshots
from ezgraph.broker.past import PastReads
from ezgraph.broker.reads import Reading, Reads
from ezgraph.broker.reads_config import ConfigRead
from ezgraph.broker.reads_nodes import Vouching, find
from ezgraph.broker.restart import restart
from ezgraph.broker.routing import Addressed, take_all
from ezgraph.broker.rules_config import ValueChecks
from ezgraph.broker.store.storing import Storing
from ezgraph.errors import (
    DivergedError,
    EzGraphError,
    InvalidCommandError,
    LimitError,
    MalformedMessageError,
    UnsupportedError,
)
from ezgraph.names import topic_of
from ezgraph.protocol.commands import (
    FindGraph,
    GetStatus,
    ListClients,
    ListConfigTypes,
    OpenSnapshot,
    ReadConfig,
    ReadConfigSchema,
    ReadEvents,
    ReadSnapshot,
    Request,
)
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.replies import (
    HANDED_ID,
    EventRange,
    Handed,
    Refusal,
    Reply,
    StatusReport,
    without_numbers,
)
from ezgraph.protocol.roles import FULL_SCOPE
from ezgraph.protocol.stored_commands import (
    FindSeq,
    ReadCheckpoint,
    ReadStored,
    ReadStretch,
    Restore,
)
from ezgraph.wire import codec, frames, values
from ezgraph.wire.tickets import ticket_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ezgraph.backends.base import Journal
    from ezgraph.backends.store import Store
    from ezgraph.broker.connections import Descriptor
    from ezgraph.broker.reads_config import ConfigReadCommand
    from ezgraph.broker.store.asked import Decided, StoreAsked
    from ezgraph.config import BrokerConfig
    from ezgraph.ids import IdSource
    from ezgraph.names import Key
    from ezgraph.protocol.commands import ChangeConfig, SetConfigSchema
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.replies import Graphs
    from ezgraph.protocol.roles import Access, Identity, ReadScope
    from ezgraph.protocol.stored_commands import PastQuestion
    from ezgraph.wire.codec import EncodedEvent

log = logging.getLogger(__name__)

_LITTLE_EVENTS = 200
_ACKNOWLEDGED_S = 0.005
_FRAMES_PER_MESSAGE = 256
_SLOTS_A_STEP = 50
_QUIET_S = 0.25
_WARM_UP_EVERY_S = 0.01
_MOST_WARM_SLOTS = 50_000
"""What is made ready for a freeze, in steps of half a millisecond: one after the other when it has
been quiet, else so often. Each slot takes some 200 bytes."""
_ROWS_OF_A_STEP = 250
"""What a step of reading a graph counts as, in rows of history: there is one in a pass."""


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
        access: Access | None = None,
    ) -> None:
        """``access``: who is admitted and as what; None: everybody, and for everything.

        ``relay_port`` says, when asked, where what readers of nodes say is passed on, if anywhere.
        """
        self.config = config
        self.journal = journal
        self.stopping = False
        self.access_warning: str | None = None
        self._started = now
        self._now, self._wall = now, 0.0
        self.relay_port: Callable[[], int | None] = lambda: None
        self._snapshots = Snapshots(config.limits)
        self.broadcasts: dict[int, Broadcast] = {}
        self._reads = Reads(config.limits)
        self._transactions: list[_Transaction] = []
        self._stored: list[_Transaction] = []
        self._answers: list[Addressed] = []
        self._acknowledgements: dict[tuple[bytes, Descriptor | None], list[bytes]] = {}
        self._acknowledge_at = math.inf
        self._changed_at = self._warm_up_at = now
        self._replies: deque[tuple[Descriptor | None, Message]] = deque()
        self._load(ids, events_port, now, access)
        self.set_access(access, {})

    def __repr__(self) -> str:
        return f"<BrokerEngine epoch={self.state.epoch} seq={self.state.seq}>"

    @property
    def sessions(self) -> int:
        """How many sessions and process clients are open."""
        return len(self.state.sessions) + len(self.state.processes)

    @property
    def admitted(self) -> int | None:
        """How many keys it admits; None: it has no keys, and admits everybody."""
        return None if self.core.access is None else len(self.core.access)

    def set_access(self, access: Access | None, events_ports: Mapping[int, int]) -> None:
        """Go on with another reading of the allow-list.

        ``events_ports``: where what is published in each read scope is to be had, by its number
        (number 0 stays where it is). In a scope that has none nothing is published.
        """
        full = FULL_SCOPE.number
        self.core.access = access
        ports = {full: self.core.events_ports[full], **events_ports}
        self.core.events_ports = ports
        scopes = [FULL_SCOPE] if access is None else access.scopes.values()
        before = self.broadcasts
        self.broadcasts = {
            scope.number: before.get(scope.number)
            or Broadcast(
                scope, self.journal.cluster_id, self.config.limits.max_watched_prefixes
            )
            for scope in scopes
            if scope.number in ports
        }

    def _load(
        self, ids: IdSource, events_port: int, now: float, access: Access | None
    ) -> None:
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
            access=access,
            checks=ValueChecks(size_bytes=lambda value: len(values.pack(value))),
        )
        self._storing = Storing(journal, self.state, self.config.limits)
        self.core.refuse_full_watch = self._refuse_full_watch
        self.core.restore_leases(begun.history, begun.answered, now=now)
        self._compaction = Compaction(
            journal,
            self._live,
            self.core,
            self.config,
            checkpoint_seq=begun.checkpoint_seq,
            clock_steps=begun.clock_steps,
            now=now,
        )
        self._past = PastReads(journal, begun.clock_steps, self.config.limits)

    # --- one pass ---

    @property
    def publishes_little(self) -> bool:
        """Whether what is to be published takes no time, so that watchers may get theirs first."""
        count = sum(len(transaction.events) for transaction in self._stored)
        return count <= _LITTLE_EVENTS and any(
            broadcast.has_subscribers for broadcast in self.broadcasts.values()
        )

    def take_command(
        self,
        peer: bytes,
        frame: bytes,
        *,
        now: float,
        wall: float,
        descriptor: Descriptor | None = None,
        public: str | None = None,
    ) -> None:
        """Decide on one request frame. What is no request of this protocol gets no answer.

        ``descriptor`` is what the frame came in on, as `connection_closed` will name it, and
        ``public`` the key that the connection was made with, where there are keys.
        """
        if self.core.access is not None and self.core.access.identity(public) is None:
            return
        try:
            request_id, lowest_open = frames.read_header(frame)
        except MalformedMessageError:
            return
        try:
            command = frames.read_command(frame)
        except MalformedMessageError as error:
            code = UnsupportedError.code if error.unknown else error.code
            refusal = Refusal(code, str(error))
            self._answers.append(Addressed(peer, request_id, refusal, descriptor))
            return
        request = Request(request_id, lowest_open, command)
        outcome = self.core.receive(
            peer, request, now=now, wall=wall, descriptor=descriptor, public=public
        )
        if outcome.store is not None:
            self._take_store(outcome.store, now=now, wall=wall)
            return
        if outcome.events:
            self._decided(outcome.events)
        if outcome.read is not None:
            self._queue_read(
                Reading(peer, request_id, outcome.read, outcome.client, public, descriptor)
            )
        if outcome.reply is not None and outcome.can_wait:
            self._acknowledge_later(peer, request_id, outcome.reply, descriptor, now)
        elif outcome.reply is not None:
            self._answers.append(Addressed(peer, request_id, outcome.reply, descriptor))
        self.stopping = self.stopping or outcome.stop

    def _take_store(self, asked: StoreAsked, *, now: float, wall: float) -> None:
        """Have the store decide on a change, at once or in steps.

        Raises:
            JournalFailedError: it takes no more; this engine is used no more.
        """
        result = self._storing.take(asked, now=now, wall=wall)
        if result is not None:
            self._stored_as(asked, result, now=now, wall=wall)

    def _stored_as(
        self, asked: StoreAsked, result: Decided | EzGraphError, *, now: float, wall: float
    ) -> None:
        outcome = self.core.stored(asked, result, now=now, wall=wall)
        if outcome.events:
            self._decided(outcome.events)
        if outcome.reply is not None:
            to = Addressed(asked.peer, asked.request_id, outcome.reply, asked.descriptor)
            self._answers.append(to)

    def seed(
        self, commands: Iterable[ChangeConfig | SetConfigSchema], *, now: float, wall: float
    ) -> None:
        """Change the configuration on the broker's own account, before anybody asks anything.

        Raises:
            RefusedError: one breaks a rule; then this engine is used no more.
        """
        for command in commands:
            if events := self.core.seed(command, now=now, wall=wall):
                self._decided(events)

    def connection_closed(self, descriptor: Descriptor, *, now: float) -> None:
        """Take note that the peer at ``descriptor`` is gone."""
        self.core.connection_closed(descriptor, now=now)

    def knows(self, peer: bytes, fd: int | None = None) -> bool:
        """Return whether ``peer`` is bound, and open, and came in on the descriptor ``fd``.

        Then its key is known too. ``fd`` None: it is not known what its frames came in on.
        """
        connection = self.core.connection_of(peer)
        if connection is None:
            return False
        if fd is None or connection.descriptor is None:
            return True
        return not connection.closed and connection.descriptor[0] == fd

    def unsent(self, message: Message) -> None:
        """A message of `replies` could not be put into its peer's queue, which is full."""
        for frame in message[1:]:
            request_id, reply = frames.read_reply(frame)
            if request_id == HANDED_ID and isinstance(reply, Handed):
                self.core.routing.unsent(reply.request)

    def fd_of(self, peer: bytes) -> int | None:
        """Return the descriptor that a bound connection came in on, if that is known."""
        connection = self.core.connection_of(peer)
        if connection is None or connection.descriptor is None:
            return None
        return connection.descriptor[0]

    def name_of(self, peer: bytes, public: str | None) -> str:
        """Return who a peer is: its key's name, or its program, for the log."""
        identity = self.core.access.identity(public) if self.core.access is not None else None
        if identity is not None:
            return identity.name
        connection = self.core.connection_of(peer)
        if connection is None:
            return "somebody unbound"
        source = connection.lease.source
        return f"{source.program} on {source.host} (pid {source.pid})"

    def finish_pass(
        self,
        *,
        now: float,
        wall: float,
        heard_through: float | None = None,
        is_waiting: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """Store what was decided; then `replies` has the answers, and `publications` the rest.

        ``heard_through``: what had arrived by then was taken, or stands in line (``is_waiting``
        says of which connections); None: all of it. Leases end only by what was due then: after a
        stall, or while somebody floods, the heartbeats that renew them may still wait unread.

        Raises:
            JournalFailedError: the append failed; nothing of this pass may leave the process.
        """
        self._now, self._wall = now, wall
        heard_through = now if heard_through is None else min(now, heard_through)
        due = self.core.leases.next_due()
        if due is not None and due <= heard_through:
            for events in self.core.expire(
                now=now, wall=wall, due=heard_through, is_waiting=is_waiting
            ):
                self._decided(events)
        if self.core.audit:
            for events in self.core.audited(now=now, wall=wall):
                self._decided(events)
        routing = self.core.routing
        if routing.routes:
            routing.expire(heard_through)
        if self.core.restores.has_work:
            for events in self.core.restores.decide(now=now, wall=wall):
                self._decided(events)
        if routing.outgoing:
            self._add_routed(take_all(routing.outgoing))
        if routing.has_unreached:
            self._answers += self.core.called(now=now, wall=wall)
        if self._compaction.may_compact:
            self._compact(now, wall)
        if self._storing.is_under_way:
            for asked, result in self._storing.step(now=now, wall=wall):
                self._stored_as(asked, result, now=now, wall=wall)
        if self._transactions:
            self._changed_at = now
            self._warm_up_at = min(self._warm_up_at, now + _WARM_UP_EVERY_S)
        if self._transactions or self.journal.is_changed:
            self._store()
        if now >= self._acknowledge_at:
            self._acknowledge()
        if self._answers:
            self._reply()

    def _acknowledge_later(
        self,
        peer: bytes,
        request_id: int,
        reply: Reply,
        descriptor: Descriptor | None,
        now: float,
    ) -> None:
        """Have a reply that nobody waits for leave with the next to that connection, or soon.

        An owner that has made a change would be woken by it just when who asked is to be answered.
        """
        frame = frames.reply_frame(request_id, reply)
        self._acknowledgements.setdefault((peer, descriptor), []).append(frame)
        self._acknowledge_at = min(self._acknowledge_at, now + _ACKNOWLEDGED_S)

    def _acknowledge(self) -> None:
        for (peer, descriptor), waiting in self._acknowledgements.items():
            self._replies.append((descriptor, [peer, *waiting]))
        self._acknowledgements.clear()
        self._acknowledge_at = math.inf

    def _add_routed(self, routed: list[Addressed]) -> None:
        """Answer first who asked an owner, then who asked the broker; hand on what is asked last.

        Who asked has waited for two ways there and back; the owner waits for nothing. And what a
        connection is handed comes after the welcome on it.
        """
        told = [each for each in routed if each.request_id != HANDED_ID]
        handed = [each for each in routed if each.request_id == HANDED_ID]
        self._answers = [*told, *self._answers, *handed]

    def _compact(self, now: float, wall: float) -> None:
        """Say that history goes, if it does; `tidy` lets it go when that is stored."""
        floor = self._compaction.floor_due(now=now, wall=wall)
        if floor is not None:
            self._decided(self.core.compacted(floor, now=now, wall=wall))
            self._compaction.raise_floor_later(floor)

    def _reply(self) -> None:
        """Put the answers of this pass into one message per connection (or a few)."""
        open_messages: dict[tuple[bytes, Descriptor | None], Message] = {}
        for peer, request_id, reply, descriptor in self._answers:
            message = open_messages.get((peer, descriptor))
            if message is None or len(message) > _FRAMES_PER_MESSAGE:
                waiting = self._acknowledgements.pop((peer, descriptor), ())
                message = open_messages[peer, descriptor] = [peer, *waiting]
                self._replies.append((descriptor, message))
            message.append(frames.reply_frame(request_id, reply))
        self._answers.clear()

    def replies(self) -> list[Message]:
        """Return the messages for the ROUTER, once: a connection, then its reply frames."""
        return list(iter(self.next_reply, None))

    @property
    def has_replies(self) -> bool:
        """Whether there may be messages for the ROUTER."""
        return bool(self._replies)

    def next_reply(self) -> Message | None:
        """Return the next of the `replies`, once; None: there is none.

        What a connection asked that has closed is dropped: ZeroMQ sends to routing ids, and
        another may have chosen this one meanwhile.
        """
        while self._replies:
            descriptor, message = self._replies.popleft()
            if not self.core.is_gone(descriptor):
                return message
        return None

    def publications(self) -> list[Message]:
        """Return the multipart messages to publish to who may read everything, once, in order.

        Call it after the replies are sent: it does what can wait that long, reads among it, so
        that there may be `replies` again.
        """
        now = self._now
        if self._stored:
            self._publish(now)
        for broadcast in self.broadcasts.values():
            if (due := broadcast.watches.next_due()) is not None and due <= now:
                broadcast.send_notes(epoch=self.state.epoch, head=self.state.seq, now=now)
        left = self.config.limits.chunk_events
        while self._reads and left > 0:
            left -= self._serve_read(now)
        return self.broadcasts[0].take()

    def partial_publications(self) -> list[tuple[int, Message]]:
        """Return what is published in the other read scopes: the scope's number, the message."""
        if len(self.broadcasts) == 1:
            return []
        return [
            (number, message)
            for number, broadcast in self.broadcasts.items()
            if number
            for message in broadcast.take()
        ]

    def tidy(self) -> None:
        """Settle the live set, write a step of a checkpoint, drop some of what is compacted.

        It is the end of a pass. Everything of it is sent by now, so that a disk that fails here
        costs no answer.

        Raises:
            JournalFailedError: it did.
        """
        self._live.settle()
        self._compaction.step(self.state.seq, now=self._now, wall=self._wall)
        if self._now >= self._warm_up_at:
            self._warm_up()

    def _warm_up(self) -> None:
        """Digest some of what has changed, so that the next freeze finds little left to do."""
        if self.state.slots > _MOST_WARM_SLOTS:
            self._warm_up_at = math.inf  # it is not worth the memory until somebody freezes
            return
        try:
            self.state.content.digest_some(_SLOTS_A_STEP)
        except EzGraphError as error:  # who freezes is told; nobody else is to notice
            log.warning("content not digested error=%s", error)
            self._warm_up_at = math.inf
            return
        if self.state.content.is_current:
            self._warm_up_at = math.inf
        elif self._now < self._changed_at + _QUIET_S:
            self._warm_up_at = self._now + _WARM_UP_EVERY_S

    def next_due(self, now: float) -> float | None:
        """Return when the next pass is needed even if nothing arrives."""
        if self._reads or self._replies or self._compaction.is_under_way:
            return now
        if self._storing.is_under_way:
            return now
        if self.core.routing.outgoing or self.core.restores.has_work:
            return now
        dues = (
            self._acknowledge_at if self._acknowledgements else None,
            self._warm_up_at if self._warm_up_at < math.inf else None,
            self.core.leases.next_due(),
            *(broadcast.watches.next_due() for broadcast in self.broadcasts.values()),
            self._compaction.next_due(self.state.seq),
            self.core.audit.next_due(),
            self.core.routing.routes.next_due(),
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
        for transaction in self._transactions:
            first = transaction.events[0]
            self._compaction.clock_steps.take(first.seq, first.wall_time)
        self._stored += self._transactions
        self._transactions.clear()

    def _publish(self, now: float) -> None:
        for events, topics, encoded in self._stored:
            for event, each in zip(events, encoded, strict=True):
                self._live.add(event, each)
            for broadcast in self.broadcasts.values():
                broadcast.publish(events, topics, encoded, now=now)
        self._stored.clear()

    def take_subscription(self, message: bytes, *, now: float, scope: int = 0) -> None:
        r"""Take a message from a scope's subscribers: ``\x01`` + topic, or ``\x00`` to end it."""
        if (broadcast := self.broadcasts.get(scope)) is not None:
            state = self.state
            broadcast.take_subscription(message, epoch=state.epoch, head=state.seq, now=now)

    # --- reads ---

    def _queue_read(self, reading: Reading) -> None:
        try:
            self._reads.put(reading)
        except LimitError as error:
            self.core.restores.drop(reading.client, reading.request_id)
            refusal, asked_on = refusal_of(error), reading.descriptor
            self._answers.append(Addressed(reading.peer, reading.request_id, refusal, asked_on))

    def _serve_read(self, now: float) -> int:
        """Answer the next read; return how many rows that took, roughly."""
        reading = self._reads.take()
        rows = self.config.limits.chunk_events
        access = self.core.access
        identity = access.identity(reading.public) if access is not None else None
        if access is not None and identity is None:
            self.core.restores.drop(reading.client, reading.request_id)
            return 1  # revoked while it waited
        scope = scope_of(access, identity)
        try:
            match reading.command:
                case Restore():
                    return self._read_to_restore(reading, reading.command, now)
                case ReadEvents():
                    reply, rows = self._read_events(reading.command, scope)
                case ReadConfig() | ListConfigTypes() | ReadConfigSchema() as command:
                    found, rows = self._read_config(reading, command, scope)
                    if found is None:
                        return rows  # it goes on at its next turn
                    reply = found
                case ReadStored():
                    reply, rows = self._storing.read(reading.command.question, scope)
                case ReadCheckpoint() | ReadStretch() | FindSeq() as command:
                    told, rows = self._read_past(command)
                    if told is None:
                        self._reads.put(reading)
                        return rows  # as above
                    reply = told
                case FindGraph() as command:
                    reply = self._find_graphs(command, scope, identity)
                    rows = len(reply.graphs) + 1
                case command:
                    whose = reading.public or reading.client
                    reply = self._read(command, Puller(reading.client, whose, scope), now)
        except EzGraphError as error:
            reply = refusal_of(withheld(error, scope))
        frame = frames.reply_frame(reading.request_id, reply)
        self._replies.append((reading.descriptor, [reading.peer, frame]))
        return rows

    def _read(
        self,
        command: OpenSnapshot | ReadSnapshot | GetStatus | ListClients,
        puller: Puller,
        now: float,
    ) -> Reply:
        scope = puller.scope
        match command:
            case GetStatus():
                report = self._status(now, scope)
                return report if scope.is_full else without_numbers(report)
            case ListClients():
                return self.core.list_clients(now, scope)
            case OpenSnapshot():
                state = self.state
                number = self._snapshots.open(
                    self._live,
                    puller,
                    epoch=state.epoch,
                    seq=state.seq,
                    now=now,
                    at_least=command.at_least,
                )
                return self._chunk(Pulled(number, frozenset(command.rooms), puller), 0, now)
            case ReadSnapshot():
                pulled = Pulled(command.snapshot, frozenset(command.rooms), puller)
                return self._chunk(pulled, command.start, now)

    def _chunk(self, pulled: Pulled, start: int, now: float) -> Reply:
        return self._snapshots.chunk(pulled, start, floor=self.journal.floor, now=now)

    def _refuse_full_watch(self, scope: ReadScope, prefix: Key) -> None:
        if (broadcast := self.broadcasts.get(scope.number)) is not None:
            broadcast.refuse_full(topic_of(prefix))

    def _read_events(self, command: ReadEvents, scope: ReadScope) -> tuple[Reply, int]:
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
        broadcast = self.broadcasts.get(scope.number)
        last = None if broadcast is None else broadcast.watches.last_under(prefix)
        if last is not None and last <= after and journal.floor <= after + 1:
            return EventRange([], journal.head, journal.head, journal.floor), 1
        chunk = journal.read(
            after,
            through=command.through,
            prefix=prefix,
            max_rows=limits.chunk_events,
            max_bytes=limits.chunk_bytes,
        )
        events = list(chunk.events)
        if not scope.is_full:
            events = [each for each in events if scope.has(codec.decode_event(each).key)]
        found = EventRange(events, chunk.through, journal.head, journal.floor)
        return found, max(1, min(chunk.through - after, limits.chunk_events))

    def _read_config(
        self, reading: Reading, command: ConfigReadCommand, scope: ReadScope
    ) -> tuple[Reply | None, int]:
        """Return what was found, or None if the read was put back in line; and the rows it took."""
        state, limits = self.state, self.config.limits
        begun = reading.begun
        if begun is None or begun.scope != scope:
            begun = ConfigRead(command, scope, state.seq)
        reply, examined = begun.look(state.config, seq=state.seq, limits=limits)
        if reply is None:
            self._reads.put(reading._replace(begun=begun))
        return reply, examined

    def _read_to_restore(self, reading: Reading, command: Restore, now: float) -> int:
        """Read the snapshot of a restore a bit further; return how many rows that took."""
        client, request_id = reading.client, reading.request_id
        if not self.core.restores.is_under_way(client, request_id):
            return 1  # who asked is gone
        try:
            begun = reading.graph or self.journal.ask(lambda store: _begin_reading(store, command))
            if not begun.is_done:
                self.journal.ask(begun.step)
            elif not self.state.content.is_current:
                self.state.content.digest_some(_SLOTS_A_STEP)
            if begun.is_done and self.state.content.is_current:
                self.core.restores.read(client, request_id, begun.content)
            else:
                self._reads.put(reading._replace(graph=begun))
        except EzGraphError as error:
            self.core.restores.unread(client, request_id, error, now)
        return _ROWS_OF_A_STEP

    def _read_past(self, command: PastQuestion) -> tuple[Reply | None, int]:
        """Return the answer, or None if it takes another look; and how many rows that took."""
        match command:
            case ReadCheckpoint():
                return self._past.checkpoint(command)
            case ReadStretch():
                return self._past.stretch(command)
            case FindSeq():
                return self._past.seq_at(command)

    def _find_graphs(
        self, command: FindGraph, scope: ReadScope, identity: Identity | None
    ) -> Graphs:
        life_s = self.config.limits.ticket_life_s
        who = identity.name if identity is not None else None
        reads = [str(pattern) for pattern in scope.patterns]

        def ticket_for(name: str, owner: str, incarnation: str) -> bytes:
            secret = self.core.admission.ticket_secret(name, owner, incarnation)
            return ticket_bytes(secret, who, reads, self._wall + life_s)

        vouching = Vouching(scope, ticket_for, life_s, self.relay_port())
        return find(self.state.served, command, self.state.seq, vouching)

    def _status(self, now: float, scope: ReadScope) -> StatusReport:
        state, size = self.state, self.journal.size_bytes()
        ports = self.core.events_ports
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
            watched_prefixes=sum(len(each.watches) for each in self.broadcasts.values()),
            paused=state.paused,
            uptime_s=now - self._started,
            backend=self.config.backend,
            journal_bytes=size,
            journal_warning=warning,
            free_disk_bytes=self.journal.free_bytes(),
            pid=os.getpid(),
            insecure=self.config.insecure,
            events_port=ports.get(scope.number, 0),
            scope_ports=sorted(ports[number] for number in self.broadcasts),
            keys=self.admitted,
            access_warning=self.access_warning,
            config_entries=len(state.config),
            served_graphs=len(state.served),
            relay_port=self.relay_port(),
        )

    # --- the end ---

    def write_checkpoint(self) -> None:
        """Write a checkpoint at the head, so that the next start is quick."""
        self._compaction.write_checkpoint(self.state.seq)


def _begin_reading(store: Store, command: Restore) -> GraphReading:
    """Return the snapshot that a restore names, to be read step by step."""
    name, fingerprint = command.name, command.fingerprint
    if command.tag is not None:
        key, _ = stored_tags.tag_row(store, name, command.tag)
    else:
        key = stored_graphs.newest(store, name, fingerprint or Fingerprint.empty())
    at = stored_graphs.snapshot_row(store, key).fingerprint
    return GraphReading(store, name, at)
