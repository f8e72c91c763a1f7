"""A client on the simulated network: the real engine, and a record of what it was told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ezgraph.client.core import OVER, Handshake
from ezgraph.client.engine import ClientEngine, Feed, Result
from ezgraph.client.replica import Replica
from ezgraph.client.resumption import ResumeToken
from ezgraph.client.watch import Phase, Watch
from ezgraph.config import parse_address
from ezgraph.errors import DeadlineError, EzGraphError, NoSessionError
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Goodbye, Heartbeat, Hello, Resume
from ezgraph.protocol.replies import Beat, Refusal, Welcome
from ezgraph.testing.broker import ADDRESS
from ezgraph.testing.clock import HostClock
from ezgraph.testing.network import Cable, CommandLink, EventLink
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.config import Address
    from ezgraph.names import Key
    from ezgraph.testing.network import Direction, Network

TICK_S = 0.001
RESUME_RETRY_S = 0.25
KNOCK_S = 0.75
LONGEST_WAIT_S = 1.0


@dataclass(slots=True, eq=False)
class Call:
    """One command and what became of it. Times are seconds on the network's clock.

    ``request_id`` is what the broker knows it by.
    """

    command: Command
    started: float
    deadline: float
    request_id: int = 0
    result: Result | None = None
    ended: float | None = None

    def __str__(self) -> str:
        result = f"{type(self.result).__name__}({self.result})"
        return f"call {self.request_id} {self.command} at {self.started:.3f} -> {result}"


@dataclass(slots=True, eq=False)
class WatchRecord:
    """Everything a watcher was given. ``batches``: what it had at hand at one moment."""

    client: str
    watch: Watch
    after: int | None
    items: list[Any] = field(default_factory=list)
    batches: list[list[Any]] = field(default_factory=list)
    feed: Feed | None = None
    reading: bool = True

    @property
    def prefix(self) -> Key:
        """What is watched."""
        return self.watch.prefix

    @property
    def start(self) -> int | None:
        """After which seq it begins: what was asked for, or what "now" was found to be."""
        return self.watch._after  # noqa: SLF001 - only the watcher knows what "now" was

    def __repr__(self) -> str:
        return f"<watcher of {'/'.join(self.prefix)!r} after {self.after} in {self.client}>"


class SimulatedClient:
    """One program with a lease: it calls, watches, keeps replicas, stalls, crashes.

    What arrives is handled at once, unless it is stalled (a stopped process); then it waits, and
    what is beyond the event link's high-water mark is lost. ``keepalive`` stands for the thread
    that renews the lease of a session or process on a connection of its own. ``clock`` is that
    of its host; by default it shows what the network's does. ``resume``: it takes the lease of
    that token over. A lost lease stays lost: a new client opens a new one. ``public`` is its key,
    ``pid`` the process id it claims: each program has one of its own, also those that hold a lease
    one after the other.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        *,
        kind: str = "session",
        addresses: Sequence[Address] = (ADDRESS,),
        ttl_s: float | None = None,
        patience_s: float = 60.0,
        high_water_mark: int = 1_000,
        clock: HostClock | None = None,
        resume: ResumeToken | None = None,
        public: str | None = None,
    ) -> None:
        self.network = network
        self.pid = network.number()
        self.public = public
        self.addresses = tuple(addresses)
        self.clock = clock or HostClock(network.clock)
        self.name = name
        self.kind = kind
        self.calls: list[Call] = []
        self.watches: list[WatchRecord] = []
        self.replicas: list[Replica] = []
        self.fingerprints: list[tuple[int, str]] = []
        self.fingerprint_every = 1
        self.lease_ids: set[str] = set()
        self.gone = False
        self.busy_until = 0.0
        self.cable = Cable()
        self.commands = CommandLink(
            network, self._replies_arrive, cable=self.cable, public=public
        )
        self.keepalive: SimulatedKeepAlive | None = None
        self.events = EventLink(
            network,
            self._publication_arrives,
            high_water_mark=high_water_mark,
            cable=self.cable,
            public=public,
        )
        self._inbox: list[Callable[[], None]] = []
        self._tick_at: float | None = None
        nonce = f"nonce of {name}"
        hello = Hello(PROTOCOL_VERSION, kind, nonce, name, "sim", self.pid, "tester", ttl_s=ttl_s)
        self.engine = ClientEngine(
            hello,
            self.addresses,
            self,
            self.clock,
            patience_s=patience_s,
            predecessor=resume,
            jitter=network.random.random,
            on_bound=self._bound_at,
        )

    def __repr__(self) -> str:
        return f"<SimulatedClient {self.name} {self.kind} {self.engine.core.state.value}>"

    @property
    def lease_id(self) -> str:
        """The public id of the lease; empty before the welcome."""
        welcome = self.engine.core.welcome
        return welcome.client if welcome else ""

    @property
    def resume_token(self) -> ResumeToken:
        """What another client shows to take this lease over.

        Raises:
            NoSessionError: there is none yet.
        """
        core = self.engine.core
        if (welcome := core.welcome) is None:
            raise NoSessionError(f"{self.name} has no lease yet, and so no token")
        seen = max(core.last_seq, welcome.head)
        shown = (welcome.client, welcome.token, welcome.cluster_id, welcome.epoch)
        return ResumeToken(self.kind, *shown, seen)

    @property
    def lost(self) -> EzGraphError | None:
        """Why the lease is lost, or None."""
        return self.engine.core.error

    @property
    def stalled(self) -> bool:
        """Whether it does nothing just now."""
        return self.network.now < self.busy_until

    # --- what a program does ---

    def start(self) -> SimulatedClient:
        """Say HELLO."""
        self.engine.start()
        self._arm()
        return self

    def call(
        self,
        command: Command,
        *,
        timeout: float = 10.0,
        on_result: Callable[[Result], None] | None = None,
    ) -> Call:
        """Ask a command; the record says what became of it, by the deadline."""
        deadline = self.deadline_in(timeout)
        call = Call(command, self.network.now, self.clock.base_time(deadline))
        self.calls.append(call)

        def take(result: Result) -> None:
            call.result, call.ended = result, self.network.now
            if on_result is not None:
                on_result(result)

        try:
            number = self.engine.submit(command, deadline=deadline, on_result=take)
            call.request_id = number + self.engine.core.id_offset
        except EzGraphError as error:
            take(error)
        self.engine.flush()
        self._arm()
        return call

    def deadline_in(self, seconds: float) -> float:
        """Return when so many seconds are over, as this client's own clock shows it."""
        return self.clock.monotonic() + seconds

    def watch(
        self, prefix: Key = (), after: int | None = None, *, with_state: bool = True
    ) -> WatchRecord:
        """Watch a prefix; what it is given is recorded at once."""
        watch = Watch(prefix, after, with_state=with_state)
        record = WatchRecord(self.name, watch, after)
        self.watches.append(record)
        record.feed = self.engine.open_feed(watch, lambda: self._collect(record))
        self._arm()
        return record

    def read(self, record: WatchRecord) -> None:
        """Take what a watcher has at hand, as a slow consumer does when it finds the time."""
        record.reading = True
        self._collect(record)
        if record.feed is not None:
            self.engine.serve(record.feed)
            self._arm()

    def follow(self) -> Replica:
        """Keep a replica; its fingerprint is recorded after every ``fingerprint_every`` strokes."""
        replica = Replica(self)
        self.replicas.append(replica)
        return replica

    def close(self) -> Call:
        """Say goodbye, and hang up when it is answered."""
        return self.call(Goodbye(), timeout=1.0, on_result=lambda _: self._hang_up())

    def crash(self) -> None:
        """End at once, without a word."""
        self._hang_up()

    def pull_cable(self, seconds: float, direction: Direction = "both") -> None:
        """Nothing passes between its host and the broker for a while, and nobody is told."""
        self.cable.pull(self.network.now + seconds, direction)

    def links(self) -> list[CommandLink | EventLink]:
        """Return its connections: commands, events, and the keep-alive's if there is one."""
        found: list[CommandLink | EventLink] = [self.commands, self.events]
        return found if self.keepalive is None else [*found, self.keepalive.link]

    def stall(self, seconds: float) -> None:
        """Do nothing for a while, heartbeats included."""
        self.busy_until = max(self.busy_until, self.network.now + seconds)
        self.network.at(self.busy_until, self._go_on)

    def caught_up(self, seq: int) -> bool:
        """Return whether all calls have ended, and all watchers and replicas are at ``seq``."""
        if self.gone or self.lost is not None:
            return True
        return (
            all(call.ended is not None for call in self.calls)
            and all(each.watch.phase is Phase.FAILED or each.watch.position >= seq
                    for each in self.watches)
            and all(replica.seq >= seq for replica in self.replicas)
        )

    # --- what a replica needs of its session ---

    def open_feed(self, watch: Watch, on_ready: Callable[[], None]) -> Feed:
        """Feed a replica's watcher, and note its fingerprints."""
        number = len(self.replicas)  # the replica that opens it registers after this
        shown = strokes = 0

        def ready() -> None:
            nonlocal shown, strokes
            on_ready()
            if watch.error is None and len(self.replicas) > number:
                replica = self.replicas[number]
                if replica.seq != shown:
                    shown, strokes = replica.seq, strokes + 1
                    if strokes % self.fingerprint_every == 0:
                        self.fingerprints.append((shown, replica.fingerprint()))

        feed = self.engine.open_feed(watch, ready)
        self._arm()
        return feed

    def serve_feed(self, feed: Feed) -> None:
        """Look at a watcher again."""
        self.engine.serve(feed)
        self._arm()

    def close_feed(self, feed: Feed) -> None:
        """Feed it no longer."""
        self.engine.close_feed(feed)

    def check_owner(self) -> None:
        """There is but one process here."""

    async def until(self, reached: Callable[[], bool], *, timeout: float, what: str) -> None:  # noqa: ASYNC109
        """Let time pass on the network until ``reached()``; this coroutine never suspends."""
        if not self.network.run_until(reached, timeout):
            raise DeadlineError(f"{what} did not happen within {timeout:g} s at {ADDRESS}")

    # --- the transport of its engine ---

    def dial(self, address: Address) -> None:
        """Send commands there."""
        self.commands.dial(address)

    def reconnect(self) -> None:
        """Make both connections anew."""
        self.commands.reconnect()
        self.events.reconnect()

    def redial(self) -> None:
        """Make the connection for commands anew."""
        self.commands.reconnect()

    def handshake_failure(self) -> Handshake | None:
        """Return None: there are no keys on this network."""
        return None

    def stop_watching(self) -> None:
        """There are no handshakes to watch."""

    def send(self, message: Sequence[bytes]) -> None:
        """Send requests."""
        self.commands.send(message)

    def listen(self, address: Address) -> None:
        """Receive events from there."""
        self.events.listen(address)

    def subscribe(self, topic: bytes) -> None:
        """Receive a topic."""
        self.events.subscribe(topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Receive it no longer."""
        self.events.unsubscribe(topic)

    # --- its loop ---

    def _replies_arrive(self, message: Sequence[bytes]) -> None:
        self._handle(lambda: self._take_replies(message))

    def _take_replies(self, message: Sequence[bytes]) -> None:
        core = self.engine.core
        is_first, early = core.welcome is None, list(self.calls)
        self.engine.take_replies(message)
        welcome = core.welcome
        if welcome is None:
            return
        self.lease_ids.add(welcome.client)
        if is_first:
            for call in early:
                call.request_id += core.id_offset
            if self.kind != "guest":
                self.keepalive = SimulatedKeepAlive(self, parse_address(core.address), welcome)

    def _bound_at(self, address: Address) -> None:
        if self.keepalive is not None:
            self.keepalive.follow(address)

    def _publication_arrives(self, message: Sequence[bytes]) -> None:
        self._handle(lambda: self._take_publication(message))

    def _take_publication(self, message: Sequence[bytes]) -> None:
        self.events.unread = max(0, self.events.unread - 1)
        self.engine.take_publication(message)

    def _handle(self, action: Callable[[], None]) -> None:
        if self.gone:
            return
        if self.stalled:
            self._inbox.append(action)
            return
        action()
        self._arm()

    def _go_on(self) -> None:
        """After a stall: first what waits on the sockets, then the timers."""
        if self.stalled or self.gone:
            return
        inbox, self._inbox = self._inbox, []
        for action in inbox:
            action()
        self._tick_at = None
        self.engine.tick()
        self._arm()

    def _arm(self) -> None:
        due = self.engine.next_due()
        if due is None or self.gone:
            return
        when = max(self.clock.base_time(due), self.network.now) + TICK_S
        if self._tick_at is None or when < self._tick_at:
            self._tick_at = when
            self.network.at(when, lambda: self._tick(when))

    def _tick(self, when: float) -> None:
        if self._tick_at != when or self.gone or self.stalled:
            return
        self._tick_at = None
        self.engine.tick()
        self._arm()

    def lease_is_lost(self, refusal: Refusal) -> None:
        """The keep-alive was told so: nothing can be asked any more."""
        self.engine.core.lose(refusal)
        self.engine.tick()

    def broker_found_at(self, address: Address) -> None:
        """The keep-alive has found it there, after a silence."""
        self.engine.reconnect(address, self.addresses)
        self._arm()

    def rebind(self) -> None:
        """The keep-alive was told that requests to units cannot reach it."""
        self.engine.rebind()
        self._arm()

    def _collect(self, record: WatchRecord) -> None:
        """Note what is at hand; take it only if the program reads."""
        at_hand = list(record.watch.ready)
        if at_hand:
            record.batches.append(at_hand)
        if record.reading:
            record.watch.ready.clear()
            record.items += at_hand

    def _hang_up(self) -> None:
        self.gone = True
        self.commands.close()
        self.events.close()
        if self.keepalive is not None:
            self.keepalive.close()


class SimulatedKeepAlive:
    """Does what `ezgraph.client.keepalive.KeepAlive` does in its thread."""

    def __init__(self, client: SimulatedClient, address: Address, welcome: Welcome) -> None:
        self._client = client
        self._welcome = welcome
        self._wanted = address
        self._line = _Line(self, client, address)
        self._knock: _Line | None = None
        self._turn_at: float | None = None
        self.turn()

    @property
    def link(self) -> CommandLink:
        """The connection that renews the lease."""
        return self._line.link

    def follow(self, address: Address) -> None:
        """Renew at ``address`` from now on, where the session has found the broker."""
        if address != self._wanted:
            self._wanted = address
            self.turn()

    def close(self) -> None:
        """Hang up."""
        for line in self._lines():
            line.link.close()

    def turn(self) -> None:
        """Do what is due now, and see when to look again."""
        client = self._client
        if client.gone or client.lost is not None:
            return
        if client.stalled:
            self._turn_again_at(client.busy_until)
            return
        now = client.clock.monotonic()
        if self._line.address != self._wanted:
            self.close()
            self._line, self._knock = _Line(self, client, self._wanted), None
        for line in self._lines():
            if now >= line.due:
                line.send(self._command(line), now)
                line.due = now + (self._welcome.ttl_s / 3 if line.bound else RESUME_RETRY_S)
        if self._line.is_silent(now, self._patience_s()):
            self._knock_elsewhere(now)
        self._turn_again_at(client.clock.base_time(self._due(now)))

    def _lines(self) -> list[_Line]:
        return [self._line] if self._knock is None else [self._line, self._knock]

    def _knock_elsewhere(self, now: float) -> None:
        if self._knock is None:
            self._knock = _Line(self, self._client, self._line.address)
        elif now - self._knock.opened >= KNOCK_S:
            self._knock.link.close()
            addresses = self._client.addresses
            at = addresses.index(self._knock.address)
            self._knock = _Line(self, self._client, addresses[(at + 1) % len(addresses)])

    def _patience_s(self) -> float:
        return min(LONGEST_WAIT_S, max(2 * RESUME_RETRY_S, self._welcome.ttl_s / 6))

    def _due(self, now: float) -> float:
        due = now + self._welcome.ttl_s / 3
        for line in self._lines():
            due = min(due, line.due)
            if line.asked_at is not None:
                due = min(due, max(now, line.asked_at) + RESUME_RETRY_S)
        return max(due, now + 1e-4)

    def _turn_again_at(self, when: float) -> None:
        network, at = self._client.network, self._turn_at
        if at is None or when < at or at < network.now:
            self._turn_at = when
            network.at(when, lambda: self._turn_due(when))

    def _turn_due(self, when: float) -> None:
        if self._turn_at == when:
            self._turn_at = None
            self.turn()

    def _command(self, line: _Line) -> Command:
        if line.bound:
            return Heartbeat(0.0)
        welcome = self._welcome
        shown = (welcome.client, welcome.token, welcome.cluster_id, welcome.epoch)
        return Resume(PROTOCOL_VERSION, *shown, seq=0, nonce=self._client.engine.core.hello.nonce)

    def take(self, line: _Line, message: Sequence[bytes]) -> None:
        """Take replies that came on one of the lines."""
        client = self._client
        if client.gone or client.stalled:
            return  # a stopped process asks again when it goes on
        for frame in message:
            _, reply = frames.read_reply(frame)
            if isinstance(reply, Refusal):
                self._refused(line, reply)
            elif isinstance(reply, Welcome | Beat) and line in self._lines():
                self._answered(line)
                if isinstance(reply, Welcome):
                    self._compare(line, reply)
                elif not reply.is_main_bound:
                    client.rebind()
        self.turn()

    def _compare(self, line: _Line, welcome: Welcome) -> None:
        """What this key may read has changed, or moved: the session is to listen there."""
        before = self._client.engine.core.welcome
        if before is not None and (before.events_port, before.reads) != (
            welcome.events_port,
            welcome.reads,
        ):
            self._client.broker_found_at(line.address)

    def _answered(self, line: _Line) -> None:
        if not line.bound:
            line.bound, line.due = True, line.opened
        line.asked_at = None
        knock, self._knock = self._knock, None
        if line is knock:
            self._line.link.close()
            self._line, self._wanted = line, line.address
            self._client.broker_found_at(line.address)
        elif knock is not None:
            knock.link.close()

    def _refused(self, line: _Line, refusal: Refusal) -> None:
        if line.bound:
            line.bound, line.due = False, line.opened
        elsewhere = refusal.code == "wrong_cluster" and len(self._client.addresses) > 1
        if refusal.code in OVER or (refusal.code == "wrong_cluster" and not elsewhere):
            self._client.lease_is_lost(refusal)


class _Line:
    """One connection of the keep-alive, as `ezgraph.client.keepalive` has them."""

    def __init__(
        self, keepalive: SimulatedKeepAlive, client: SimulatedClient, address: Address
    ) -> None:
        self.address = address
        self.opened = self.due = client.clock.monotonic()
        self.bound = False
        self.asked_at: float | None = None
        self._keepalive = keepalive
        self._clock = client.clock
        self.link = CommandLink(
            client.network,
            lambda message: keepalive.take(self, message),
            self._connected,
            is_immediate=True,
            cable=client.cable,
            public=client.public,
        )
        self.link.dial(address)

    def _connected(self) -> None:
        self.bound, self.due = False, self._clock.monotonic()
        self._keepalive.turn()

    def is_silent(self, now: float, patience_s: float) -> bool:
        return self.asked_at is not None and now - self.asked_at >= patience_s

    def send(self, command: Command, now: float) -> None:
        if self.asked_at is None:
            self.asked_at = now
        self.link.send([frames.request_frame(0, 0, codec.encode(command))])
