"""A client on the simulated network: the real engine, and a record of what it was told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ezgraph.client.core import LeaseState
from ezgraph.client.engine import ClientEngine, Feed, Result
from ezgraph.client.replica import Replica
from ezgraph.client.watch import Phase, Watch
from ezgraph.config import parse_address
from ezgraph.errors import DeadlineError, EzGraphError, from_code
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Goodbye, Heartbeat, Hello, Resume
from ezgraph.protocol.replies import Beat, Refusal, Welcome
from ezgraph.testing.broker import ADDRESS
from ezgraph.testing.network import CommandLink, EventLink
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.config import Address
    from ezgraph.names import Key
    from ezgraph.testing.network import Network

TICK_S = 0.001
RESUME_RETRY_S = 0.25


@dataclass(slots=True, eq=False)
class Call:
    """One command and what became of it. Times are seconds on the network's clock."""

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
    that renews the lease of a session or process on a connection of its own.
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
    ) -> None:
        self.network = network
        self.name = name
        self.kind = kind
        self.calls: list[Call] = []
        self.watches: list[WatchRecord] = []
        self.replicas: list[Replica] = []
        self.fingerprints: list[tuple[int, str]] = []
        self.lease_ids: set[str] = set()
        self.gone = False
        self.busy_until = 0.0
        self.commands = CommandLink(network, self._replies_arrive)
        self.keepalive: SimulatedKeepAlive | None = None
        self.events = EventLink(
            network, self._publication_arrives, high_water_mark=high_water_mark
        )
        self._inbox: list[Callable[[], None]] = []
        self._tick_at: float | None = None
        nonce = f"nonce of {name}"
        hello = Hello(PROTOCOL_VERSION, kind, nonce, name, "sim", 1, "tester", ttl_s=ttl_s)
        self.engine = ClientEngine(hello, addresses, self, network.clock, patience_s=patience_s)

    def __repr__(self) -> str:
        return f"<SimulatedClient {self.name} {self.kind} {self.engine.core.state.value}>"

    @property
    def lease_id(self) -> str:
        """The public id of the lease; empty before the welcome."""
        welcome = self.engine.core.welcome
        return welcome.client if welcome else ""

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
        now = self.network.now
        call = Call(command, now, now + timeout)
        self.calls.append(call)

        def take(result: Result) -> None:
            call.result, call.ended = result, self.network.now
            if on_result is not None:
                on_result(result)

        try:
            call.request_id = self.engine.submit(command, deadline=call.deadline, on_result=take)
        except EzGraphError as error:
            take(error)
        self.engine.flush()
        self._arm()
        return call

    def watch(self, prefix: Key = (), after: int | None = None) -> WatchRecord:
        """Watch a prefix; what it is given is recorded at once."""
        watch = Watch(prefix, after)
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
        """Keep a replica; its fingerprint is recorded after each stroke."""
        replica = Replica(self)
        self.replicas.append(replica)
        return replica

    def close(self) -> Call:
        """Say goodbye, and hang up when it is answered."""
        return self.call(Goodbye(), timeout=1.0, on_result=lambda _: self._hang_up())

    def crash(self) -> None:
        """End at once, without a word."""
        self._hang_up()

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
        number, shown = len(self.replicas), 0  # the replica that opens it registers after this

        def ready() -> None:
            nonlocal shown
            on_ready()
            if watch.error is None and len(self.replicas) > number:
                replica = self.replicas[number]
                if replica.seq != shown:
                    shown = replica.seq
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

    async def until(self, reached: Callable[[], bool], *, timeout: float, what: str) -> None:  # noqa: ASYNC109
        """Let time pass on the network until ``reached()``; this coroutine never suspends."""
        if not self.network.run_until(reached, timeout):
            raise DeadlineError(f"{what} did not happen within {timeout:g} s at {ADDRESS}")

    # --- the transport of its engine ---

    def dial(self, address: Address) -> None:
        """Send commands there."""
        self.commands.dial(address)

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
        self.engine.take_replies(message)
        welcome = self.engine.core.welcome
        if welcome is not None:
            self.lease_ids.add(welcome.client)
            if self.keepalive is None and self.kind != "guest":
                address = parse_address(self.engine.core.address)
                self.keepalive = SimulatedKeepAlive(self, address, welcome)

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
        when = max(due, self.network.now) + TICK_S
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
        core = self.engine.core
        if core.error is None:
            core.state, core.error = LeaseState.LOST, from_code(refusal.code, refusal.message)

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
            self.keepalive.link.close()


class SimulatedKeepAlive:
    """Does what `ezgraph.client.keepalive.KeepAlive` does in its thread."""

    def __init__(self, client: SimulatedClient, address: Address, welcome: Welcome) -> None:
        self.link = CommandLink(client.network, self._replies_arrive, self._connected)
        self._client = client
        self._welcome = welcome
        self._bound = False
        self._rounds = 0
        self.link.dial(address)
        self._renew()

    def _connected(self) -> None:
        self._bound = False
        self._renew()

    def _renew(self) -> None:
        """Send, and send again when it is due; an earlier round ends here."""
        client, welcome = self._client, self._welcome
        if client.gone or client.lost is not None:
            return
        if client.stalled:
            self._again(max(0.0, client.busy_until - client.network.now))
            return
        command: Command = Heartbeat(0.0)
        if not self._bound:
            shown = (welcome.client, welcome.token, welcome.cluster_id, welcome.epoch)
            command = Resume(PROTOCOL_VERSION, *shown, seq=0)
        self.link.send([frames.request_frame(0, 0, codec.encode(command))])
        self._again(welcome.ttl_s / 3 if self._bound else RESUME_RETRY_S)

    def _again(self, seconds: float) -> None:
        self._rounds += 1
        this = self._rounds
        self._client.network.after(seconds, lambda: self._renew() if this == self._rounds else None)

    def _replies_arrive(self, message: Sequence[bytes]) -> None:
        client, was_bound = self._client, self._bound
        if client.gone or client.stalled:
            return  # a stopped process asks again when it goes on
        for frame in message:
            _, reply = frames.read_reply(frame)
            if isinstance(reply, Welcome | Beat):
                self._bound = True
            elif isinstance(reply, Refusal):
                self._bound = False
                if reply.code in ("session_expired", "wrong_cluster", "diverged"):
                    client.lease_is_lost(reply)
        if self._bound is not was_bound:
            self._renew()
