"""The client without its sockets: frames in, frames out, watchers fed.

It joins the pure parts (`core`, `watch`) to the bytes (`ezgraph.wire`), and gives each request
and each watcher its callback. A shell brings a `Transport`, hands in what arrives, and calls
`tick` when `next_due` says so. Callbacks run inside these calls and must not block.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ezgraph.client.core import FIRST_RETRY_S, JOIN_ID, ClientCore, Handshake, LeaseState
from ezgraph.client.watch import Compacted, Phase, Watch
from ezgraph.config import Address, parse_address
from ezgraph.errors import (
    BrokerUnreachableError,
    ContextClosedError,
    EzGraphError,
    InvalidKeyError,
    LimitError,
    MalformedMessageError,
    RefusedError,
)
from ezgraph.names import ancestors, note_topic, prefix_of_note, topic_of
from ezgraph.protocol.commands import Command, OpenSnapshot, OpenWatch, ReadSnapshot, Sync
from ezgraph.protocol.notes import Note
from ezgraph.protocol.replies import HANDED_ID, Done, EventRange, Handed, Reply, SnapshotChunk
from ezgraph.state.graph import GraphState
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.client.resumption import ResumeToken
    from ezgraph.clock import Clock
    from ezgraph.protocol.commands import Hello
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.routed import Routed

log = logging.getLogger(__name__)

Result = Reply | EzGraphError

_SNAPSHOT_TRIES = 5
_PROBE_S = 6.0  # longer than the longest pause between two notes
_DEAF_S = 3.0
_HANDSHAKE_S = 0.05
_FRAMES_PER_MESSAGE = 128
_TOPICS_PER_PREFIX = 2  # its events and its notes


class Transport(Protocol):
    """The sockets of one client."""

    def dial(self, address: Address) -> None:
        """Send commands to this broker from now on."""
        ...

    def reconnect(self) -> None:
        """Make both connections anew; the ones there are may be dead without a sign."""
        ...

    def redial(self) -> None:
        """Make the connection for commands anew, and watch how its handshake goes."""
        ...

    def handshake_failure(self) -> Handshake | None:
        """Return how the last watched handshake failed, once; None: it did not."""
        ...

    def stop_watching(self) -> None:
        """Watch handshakes no longer."""
        ...

    def send(self, message: Sequence[bytes]) -> None:
        """Send requests, a frame each, in one message; it may wait for a connection."""
        ...

    def listen(self, address: Address) -> None:
        """Receive events from this address from now on; subscriptions stay."""
        ...

    def subscribe(self, topic: bytes) -> None:
        """Receive what is published under ``topic``."""
        ...

    def unsubscribe(self, topic: bytes) -> None:
        """Receive it no longer."""
        ...


@dataclass(slots=True, eq=False)
class Feed:
    """A watcher and whom to tell when it has something, or has failed."""

    watch: Watch
    on_ready: Callable[[], None]
    subscribed_at: float
    pulling: bool = False


@dataclass(frozen=True, slots=True)
class LiveEvents:
    """The events that the state at ``seq`` is the fold of (or those of some rooms), in order.

    ``floor`` is the oldest seq that can still be replayed; ``filtered``: some may not be read.
    """

    events: list[Event]
    epoch: int
    seq: int
    floor: int
    filtered: bool

    def fold(self) -> GraphState:
        """Return the state."""
        return GraphState.fold(
            self.events, epoch=self.epoch, seq=self.seq, filtered=self.filtered
        )


@dataclass(slots=True, eq=False)
class _Pull:
    """A snapshot being fetched chunk by chunk."""

    rooms: list[str]
    deadline: float
    on_live: Callable[[LiveEvents | EzGraphError], None]
    at_least: int | None
    events: list[Event] = field(default_factory=list)
    at: tuple[int, int] | None = None
    tries: int = 0


class ClientEngine:
    """One client's requests and watchers. Not thread-safe: one shell owns it.

    ``patience_s`` is how long a watcher hears nothing before it gives the broker up. ``on_handed``
    gets what the units of this process are asked to do.
    """

    def __init__(
        self,
        hello: Hello,
        addresses: Sequence[Address],
        transport: Transport,
        clock: Clock,
        *,
        patience_s: float = 60.0,
        predecessor: ResumeToken | None = None,
        jitter: Callable[[], float] = lambda: 0.5,
        on_bound: Callable[[Address], None] = lambda _: None,
        key_name: str | None = None,
    ) -> None:
        """``on_bound`` is told at which address the lease is bound whenever it is.

        ``key_name``: what the key is called that the transport proves itself with.
        """
        self.core = ClientCore(
            hello,
            [str(each) for each in addresses],
            predecessor=predecessor,
            jitter=jitter,
            key_name=key_name,
        )
        self._on_bound = on_bound
        self.patience_s = patience_s
        self.malformed = 0
        self.on_handed: Callable[[Routed], None] = lambda _: None
        self._transport = transport
        self._clock = clock
        self._dialled: str | None = None
        self._events_from: Address | None = None
        self._on_result: dict[int, Callable[[Result], None]] = {}
        self._encoded: dict[int, bytes] = {}
        self._feeds: dict[bytes, list[Feed]] = {}
        self._probing = False
        self._redialled = 0
        self._is_refused = False
        self._listens_since = 0.0
        self._reads: list[str] | None = None

    def __repr__(self) -> str:
        watches = sum(len(feeds) for feeds in self._feeds.values())
        return f"<ClientEngine {self.core.address} {self.core.state.value} watches={watches}>"

    # --- requests ---

    def start(self) -> None:
        """Say HELLO."""
        self.core.start(self._clock.monotonic())
        self.flush()

    def submit(
        self, command: Command, *, deadline: float, on_result: Callable[[Result], None]
    ) -> int:
        """Ask ``command``; ``on_result`` gets the reply or the error, by the deadline.

        It leaves with the next `flush`, together with whatever else was submitted by then.

        Raises:
            EzGraphError: the lease is lost or closed.
            MalformedMessageError: the command cannot be encoded; says which field.
        """
        encoded = codec.encode(command)
        self._refuse_oversized(command, encoded)
        request_id = self.core.submit(command, now=self._clock.monotonic(), deadline=deadline)
        self._encoded[request_id] = encoded
        self._on_result[request_id] = on_result
        return request_id

    def _refuse_oversized(self, command: Command, encoded: bytes) -> None:
        """A frame beyond the broker's bound would cost the connection: refuse it here."""
        limit = self.core.welcome.max_frame_bytes if self.core.welcome else 0
        if limit and len(encoded) + frames.HEADER_BYTES > limit:
            raise LimitError(
                f"{type(command).__name__} takes {len(encoded)} bytes, this broker takes at most "
                f"{limit} in one command (max_frame_bytes); send less, or in several commands"
            )

    @property
    def in_flight(self) -> int:
        """How many requests wait for their results."""
        return len(self._on_result)

    def abandon(self, request_id: int) -> None:
        """Forget a request whose caller has gone."""
        self.core.abandon(request_id)
        self._forget(request_id)

    def _forget(self, request_id: int) -> Callable[[Result], None] | None:
        self._encoded.pop(request_id, None)
        return self._on_result.pop(request_id, None)

    def take_replies(self, message: Sequence[bytes]) -> None:
        """Take one message from the command socket, a reply in each frame.

        What this process is asked is begun after what its own requests were answered is known.
        """
        now = self._clock.monotonic()
        handed: list[Routed] = []
        for frame in message:
            try:
                request_id, reply = frames.read_reply(frame)
            except MalformedMessageError as error:
                self._count_malformed(error)
                continue
            if request_id == HANDED_ID:
                if isinstance(reply, Handed):
                    handed.append(reply.request)
                continue
            self.core.receive(request_id, reply, now=now)
            if request_id == JOIN_ID:
                self._listen()
        self.flush()
        for request in handed:
            self.on_handed(request)

    def reconnect(self, address: Address, addresses: Sequence[Address]) -> None:
        """Resume at ``address``, where the broker was just heard, on new connections."""
        if parse_address(self.core.address) == address:
            self._transport.reconnect()
        self.core.move_to(addresses.index(address), self._clock.monotonic())
        self.flush()

    def rebind(self) -> None:
        """Say RESUME: the broker does not know the connection that requests to units come on."""
        self.core.move_to(self.core.dial, self._clock.monotonic())
        self.flush()

    def tick(self) -> None:
        """Repeat what is overdue; give up what is past its deadline."""
        now = self._clock.monotonic()
        self._look_at_handshake()
        self.core.tick(now)
        for feeds in list(self._feeds.values()):
            for feed in list(feeds):
                self._tick_feed(feed, now)
        self.flush()

    def _look_at_handshake(self) -> None:
        """Where a join is not answered, find out whether the connection is refused.

        A refused one is given up for good by ZeroMQ: each later join needs a new one.
        """
        core = self.core
        if not core.is_joining:
            return
        failure = self._transport.handshake_failure()
        if failure is not None:
            self._is_refused = True
            core.handshake_failed(failure)
        if not core.joins_in_vain:
            return
        if self._redialled == 0 or (self._is_refused and self._redialled < core.joins):
            self._redialled = core.joins
            self._transport.redial()

    def next_due(self) -> float | None:
        """Return when `tick` has something to do, at the latest."""
        due = self.core.next_due()
        if due is not None and self.core.is_joining:
            due = min(due, self._clock.monotonic() + _HANDSHAKE_S)
        if not self._feeds:
            return due
        beat = self._clock.monotonic() + FIRST_RETRY_S / 2
        return beat if due is None else min(due, beat)

    def close(self) -> None:
        """Fail everything that waits."""
        self.core.close()
        self.flush()
        error = self.core.error or ContextClosedError("this subscription's context was closed")
        for feeds in list(self._feeds.values()):
            for feed in list(feeds):
                feed.watch.fail(error)
                feed.on_ready()
        self._feeds.clear()

    def flush(self) -> None:
        """Send what is to be sent and report what is complete, until nothing is left."""
        core = self.core
        while core.outbox or core.completions:
            if core.outbox:
                self._send_outbox()
            completions, core.completions = core.completions, []
            for each in completions:
                if (on_result := self._forget(each.request_id)) is not None:
                    on_result(each.result)

    def _send_outbox(self) -> None:
        core = self.core
        if self._dialled != core.address:
            self._dialled = core.address
            self._transport.dial(parse_address(core.address))
        outbox, core.outbox = core.outbox, []
        encoded = self._encoded
        message = [
            frames.request_frame(
                request.request_id,
                request.lowest_open,
                encoded.get(request.request_id - core.id_offset) or codec.encode(request.command),
            )
            for request in outbox
        ]
        most = min(_FRAMES_PER_MESSAGE, core.welcome.max_frames_per_message) if core.welcome else 0
        most = most or _FRAMES_PER_MESSAGE
        for start in range(0, len(message), most):
            self._transport.send(message[start : start + most])

    def _listen(self) -> None:
        welcome = self.core.welcome
        if welcome is None or self.core.state is not LeaseState.BOUND:
            return
        self._on_bound(parse_address(self.core.address))
        self._transport.stop_watching()
        host = welcome.advertise or parse_address(self.core.address).host
        address = Address(host, welcome.events_port)
        if address != self._events_from or self._is_refused:
            self._events_from = address
            self._listens_since = self._clock.monotonic()
            self._transport.listen(address)
        self._redialled, self._is_refused = 0, False
        if welcome.reads != self._reads:
            self._reads = welcome.reads
            for feeds in list(self._feeds.values()):
                for feed in list(feeds):
                    self._ask_leave(feed)
                    feed.watch.begin_anew()
                    self._serve(feed)

    def _count_malformed(self, error: MalformedMessageError) -> None:
        self.malformed += 1
        log.warning("malformed message from %s: %s", self.core.address, error)

    # --- watchers ---

    def open_feed(self, watch: Watch, on_ready: Callable[[], None]) -> Feed:
        """Feed ``watch`` from now on; ``on_ready`` is called when it has items or has failed."""
        now = self._clock.monotonic()
        feed = Feed(watch, on_ready, subscribed_at=now)
        watch.last_heard = now
        prefix = topic_of(watch.prefix)
        if prefix not in self._feeds and (error := self._crowded()) is not None:
            watch.fail(error)
            on_ready()
            return feed
        feeds = self._feeds.setdefault(prefix, [])
        feeds.append(feed)
        if watch.hold_start():
            self._begin_now(feed)
        else:
            self._ask_leave(feed)
        if len(feeds) == 1:
            self._subscribe(prefix)
        elif any(each.watch.phase is not Phase.JOINING for each in feeds):
            self._welcome_by_head(feed)
        return feed

    def _crowded(self) -> LimitError | None:
        """Return why no further prefix is watched: the broker would cut the connection off."""
        limit = self.core.welcome.max_subscriptions if self.core.welcome else 0
        if not limit or _TOPICS_PER_PREFIX * (len(self._feeds) + 1) <= limit:
            return None
        return LimitError(
            f"this client watches {len(self._feeds)} prefixes, and its broker takes {limit} "
            f"subscriptions of one connection, {_TOPICS_PER_PREFIX} for each "
            f"(max_subscriptions_per_connection); close some watches, or watch a shorter prefix"
        )

    def close_feed(self, feed: Feed) -> None:
        """Feed it no longer."""
        prefix = topic_of(feed.watch.prefix)
        feeds = self._feeds.get(prefix, [])
        if feed in feeds:
            feeds.remove(feed)
            if not feeds:
                del self._feeds[prefix]
                self._transport.unsubscribe(note_topic(prefix))
                self._transport.unsubscribe(prefix)

    def take_publication(self, message: Sequence[bytes]) -> None:
        """Take one multipart message from the event socket."""
        try:
            prefix = prefix_of_note(message[0])
            if prefix is not None and len(message) == 2:
                self._take_note(prefix, frames.read_note(message[1]))
            elif len(message) == 3:
                self._take_event(message[0], message[1], codec.decode_event(message[2]))
        except (MalformedMessageError, InvalidKeyError, IndexError) as error:
            self._count_malformed(MalformedMessageError(str(error)))

    def _take_note(self, prefix: bytes, note: Note) -> None:
        now = self._clock.monotonic()
        for feed in list(self._feeds.get(prefix, ())):
            feed.watch.heard_note(note, now=now)
            self._serve(feed)

    def _take_event(self, topic: bytes, links: bytes, event: Event) -> None:
        now = self._clock.monotonic()
        for depth, prefix in enumerate(ancestors(topic)):
            if feeds := self._feeds.get(prefix):
                link = frames.read_link(links, depth)
                for feed in list(feeds):
                    feed.watch.heard_event(event, link, now=now)
                    self._serve(feed)

    def serve(self, feed: Feed) -> None:
        """Look at a watcher again after its consumer has taken items."""
        if feed.watch.phase is Phase.READING:
            self._ask_range(feed)

    def _serve(self, feed: Feed) -> None:
        watch = feed.watch
        if watch.phase is Phase.SNAPSHOT and not feed.pulling:
            self._pull_for(feed)
        elif watch.phase is Phase.READING:
            self._ask_range(feed)
        if watch.ready or watch.phase is Phase.FAILED:
            feed.on_ready()

    def _ask_range(self, feed: Feed) -> None:
        wanted = feed.watch.wants()
        if wanted is None:
            return
        deadline = self._clock.monotonic() + self.patience_s
        try:
            self.submit(wanted, deadline=deadline, on_result=lambda r: self._take_range(feed, r))
            self.flush()
        except EzGraphError as error:
            feed.watch.fail(error)
            feed.on_ready()

    def _take_range(self, feed: Feed, result: Result) -> None:
        watch, now = feed.watch, self._clock.monotonic()
        if isinstance(result, EventRange):
            watch.range_arrives(result)
            self._ask_range(feed)  # one request ahead, while this one is decoded
            try:
                events = [codec.decode_event(each) for each in result.events]
            except MalformedMessageError as error:
                watch.fail(error)
            else:
                watch.range_events(events, result, now=now)
        else:
            watch.range_failed(_as_error(result), now=now)
        self._serve(feed)

    def _pull_for(self, feed: Feed) -> None:
        feed.pulling = True

        def take(state: GraphState | EzGraphError, floor: int) -> None:
            feed.pulling = False
            if isinstance(state, EzGraphError):
                feed.watch.fail(state)
            else:
                item = Compacted(floor, state, diverged=feed.watch.diverged)
                feed.watch.snapshot_taken(state.seq, item)
            self._serve(feed)

        at_least = max(feed.watch.position, feed.watch.floor - 1)
        self.pull_snapshot([], self._clock.monotonic() + self.patience_s, take, at_least=at_least)

    def _subscribe(self, prefix: bytes) -> None:
        """Subscribe to events first and to notes second: the welcome then covers both."""
        self._transport.subscribe(prefix)
        self._transport.subscribe(note_topic(prefix))

    def _begin_now(self, feed: Feed) -> None:
        """Ask for the head: whatever is asked after this on the same socket comes after it."""
        self._ask_head(feed, feed.watch.begin_after)

    def _welcome_by_head(self, feed: Feed) -> None:
        """Welcome a second watcher of a prefix: its subscription stands, only the head is new."""

        def welcome_at(head: int) -> None:
            if (welcome := self.core.welcome) is not None:
                note = Note(welcome.cluster_id, welcome.epoch, head, head)
                feed.watch.heard_note(note, now=self._clock.monotonic())

        self._ask_head(feed, welcome_at)

    def _ask_leave(self, feed: Feed) -> None:
        """Ask whether this may be watched; only a refusal matters, and ends the watcher."""

        def take(result: Result) -> None:
            if isinstance(result, RefusedError):
                feed.watch.fail(result)
                self._serve(feed)

        deadline = self._clock.monotonic() + self.patience_s
        prefix = list(feed.watch.prefix)
        self.submit(OpenWatch(prefix), deadline=deadline, on_result=take)
        self.flush()

    def _ask_head(self, feed: Feed, use: Callable[[int], None]) -> None:
        def take(result: Result) -> None:
            if isinstance(result, Done):
                use(result.seq)
            else:
                feed.watch.fail(_as_error(result))
            self._serve(feed)

        deadline = self._clock.monotonic() + self.patience_s
        self.submit(OpenWatch(list(feed.watch.prefix)), deadline=deadline, on_result=take)
        self.flush()

    def _tick_feed(self, feed: Feed, now: float) -> None:
        watch = feed.watch
        if self.core.error is not None:
            watch.fail(self.core.error)
        elif now - watch.last_heard > self.patience_s:
            watch.fail(
                BrokerUnreachableError(
                    f"nothing was heard from {self.core.address} for {self.patience_s:g} s; "
                    f"the broker is gone or cut off (see `ezgraph status`), or its events, from "
                    f"{self._events_from}, do not get through a firewall or a tunnel. "
                    f"Everything up to seq {watch.position} was delivered; go on with "
                    f"after_seq={watch.position}"
                )
            )
        elif now - watch.last_heard > _PROBE_S:
            self._look_after(feed, now)
        elif watch.needs_welcome(subscribed_at=feed.subscribed_at, now=now):
            self._subscribe_again(feed, now)
        self._serve(feed)

    def _look_after(self, feed: Feed, now: float) -> None:
        """Nothing is heard, though notes should be.

        Perhaps the subscription was lost: subscribe again, and a welcome will show what is missing.
        Perhaps the broker is elsewhere: ask something, so that it is looked for.
        """
        if now - feed.subscribed_at > _PROBE_S:
            self._subscribe_again(feed, now)
        if not self._probing:
            self._probing = True
            self.submit(Sync(), deadline=now + _PROBE_S, on_result=self._probed)

    def _probed(self, _: Result) -> None:
        self._probing = False

    def _subscribe_again(self, feed: Feed, now: float) -> None:
        feed.subscribed_at = now
        if self._events_from is not None and now - self._listens_since > _DEAF_S:
            self._listens_since = now  # the connection may have been refused, and given up
            self._transport.listen(self._events_from)
        prefix = topic_of(feed.watch.prefix)
        self._transport.unsubscribe(note_topic(prefix))
        self._transport.unsubscribe(prefix)
        self._subscribe(prefix)

    # --- snapshots ---

    def pull_snapshot(
        self,
        rooms: list[str],
        deadline: float,
        on_state: Callable[[GraphState | EzGraphError, int], None],
        *,
        at_least: int | None = None,
    ) -> None:
        """Fetch the state (or only some rooms of it); ``on_state`` gets it and the floor.

        ``at_least``: one at this seq or later will do; None: the newest.
        """

        def fold(live: LiveEvents | EzGraphError) -> None:
            if isinstance(live, EzGraphError):
                on_state(live, 0)
            else:
                on_state(live.fold(), live.floor)

        self.pull_live(rooms, deadline, fold, at_least=at_least)

    def pull_live(
        self,
        rooms: list[str],
        deadline: float,
        on_live: Callable[[LiveEvents | EzGraphError], None],
        *,
        at_least: int | None = None,
    ) -> None:
        """Fetch the events that make the state (or only some rooms of it), as `pull_snapshot`."""
        self._open_snapshot(_Pull(rooms, deadline, on_live, at_least))

    def _open_snapshot(self, pull: _Pull) -> None:
        pull.events.clear()
        pull.at = None
        pull.tries += 1
        self._pull_next(pull, OpenSnapshot(pull.rooms, pull.at_least))

    def _pull_next(self, pull: _Pull, command: Command) -> None:
        try:
            self.submit(
                command, deadline=pull.deadline, on_result=lambda r: self._take_chunk(pull, r)
            )
            self.flush()
        except EzGraphError as error:
            pull.on_live(error)

    def _take_chunk(self, pull: _Pull, result: Result) -> None:
        if not isinstance(result, SnapshotChunk):
            error = _as_error(result)
            if error.code == "invalid_command" and pull.tries < _SNAPSHOT_TRIES:
                self._open_snapshot(pull)  # it gave way to newer ones, or the broker restarted
            else:
                pull.on_live(error)
            return
        if pull.at not in (None, (result.epoch, result.seq)):
            self._open_snapshot(pull)  # the broker was restarted, and numbers snapshots anew
            return
        pull.at = (result.epoch, result.seq)
        if result.next_start is not None:  # one request ahead, while this one is decoded
            more = ReadSnapshot(result.snapshot, pull.rooms, result.next_start)
            self._pull_next(pull, more)
        try:
            pull.events += [codec.decode_live_event(each, result.blobs) for each in result.entries]
        except MalformedMessageError as error:
            pull.on_live(error)
            return
        if result.next_start is None:
            pull.on_live(
                LiveEvents(pull.events, result.epoch, result.seq, result.floor, result.filtered)
            )


def _as_error(result: Result) -> EzGraphError:
    if isinstance(result, EzGraphError):
        return result
    return MalformedMessageError(f"the broker answered with an unexpected {type(result).__name__}")


