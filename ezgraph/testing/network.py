r"""A network in one thread: one queue of things to come, a manual clock, and a seed.

It behaves as ZeroMQ does over TCP, as far as the engines can tell:

* **Commands** (DEALER to ROUTER): ordered and reliable while a connection lasts. Each connection
  has a routing id of its own. When it breaks, what was on the wire is lost; what had arrived at
  the broker stays there; what was sent meanwhile waits in the DEALER for the next connection.
  The two ends may notice a break at different times (*half-open*): what is sent until then is
  lost.
* **Events** (XPUB to SUB): ordered per connection, but messages beyond the high-water mark are
  dropped without a word, as is everything published while there is no connection. Subscriptions
  go upstream in order, and again after each reconnect. They take effect when they *arrive*; the
  broker *reads* them in a later pass. Every subscription is passed up (``XPUB_VERBOSE``), an
  unsubscription only when the topic's last subscriber has gone. A subscription is a prefix of
  bytes.
* **Cables** (`Cable`, one per host; `CommandLink.block` and `EventLink.block` for one link alone):
  while one is pulled, in one direction or in both, nothing passes and nobody notices. What is
  sent waits, as TCP repeats it, and arrives in order some time after the cable is back; no new
  connection is made meanwhile.

A `Network` made with the same seed and used in the same way does the same, to the last message.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Literal, NamedTuple

from ezgraph.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.config import Address

RECONNECT_S = (0.02, 0.3)
HIGH_WATER_MARK = 1_000
REPEAT_S = (0.0, 0.4)
STEPS_PER_SECOND = 400_000

Direction = Literal["up", "down", "both"]
"""From a client to the broker, from the broker to a client, or both ways."""


class Network:
    """The queue of everything that will happen.

    ``delay_s`` are the shortest and the longest time that a frame is on its way. ``now`` is in
    seconds since the start.
    """

    def __init__(self, seed: int = 0, *, delay_s: tuple[float, float] = (0.0002, 0.004)) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.clock = ManualClock()
        self.now = self.clock.monotonic()
        self._delay_s = delay_s
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count(1)
        self._second, self._steps = 0.0, 0
        self._ports: dict[Address, BrokerPort] = {}

    def __repr__(self) -> str:
        return f"<Network seed={self.seed} at {self.now:.6f} s, {len(self._queue)} to come>"

    def number(self) -> int:
        """Return a number nobody has had."""
        return next(self._numbers)

    def delay(self) -> float:
        """Return how long the next frame is on its way, in seconds."""
        return self.random.uniform(*self._delay_s)

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do ``action`` at ``when`` (now at the earliest), after what is to be done then."""
        now = self.now
        heapq.heappush(self._queue, (max(now, when), next(self._numbers), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do ``action`` in some seconds."""
        self.at(self.now + seconds, action)

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self._step()
        self._pass_time(end)

    def run_until(self, reached: Callable[[], bool], within_s: float) -> bool:
        """Let time pass until ``reached()``; return whether it was, within so many seconds."""
        end = self.now + within_s
        while not reached():
            if not self._queue or self._queue[0][0] > end:
                self._pass_time(end)
                return reached()
            self._step()
        return True

    def _step(self) -> None:
        when, _, action = heapq.heappop(self._queue)
        if when > self.now:
            self._pass_time(when)
        self._steps += 1
        if when >= self._second + 1.0:
            self._second, self._steps = when, 0
        if self._steps > STEPS_PER_SECOND:
            raise AssertionError(f"somebody runs in circles: {self!r}, {action!r}")
        action()

    def _pass_time(self, until: float) -> None:
        if until > self.now:
            self.clock.advance_to(until)
            self.now = until

    # --- who listens where ---

    def bind(self, port: BrokerPort, *addresses: Address) -> None:
        """Let ``port`` take what is sent to these addresses."""
        self._ports |= dict.fromkeys(addresses, port)

    def unbind(self, port: BrokerPort) -> None:
        """Nobody listens there any more; every connection breaks."""
        self._ports = {where: each for where, each in self._ports.items() if each is not port}
        port.break_all()

    def port(self, address: Address) -> BrokerPort | None:
        """Return who listens at an address."""
        return self._ports.get(address)


class Cable:
    """A way that may be interrupted, in one direction or in both; when each passes again."""

    def __init__(self, *, part_of: Cable | None = None) -> None:
        self._up_at = 0.0
        self._down_at = 0.0
        self._whole = part_of

    def pull(self, until: float, direction: Direction) -> None:
        """Let nothing pass until then."""
        if direction != "down":
            self._up_at = max(self._up_at, until)
        if direction != "up":
            self._down_at = max(self._down_at, until)

    @property
    def up_at(self) -> float:
        """From when on something passes from the client to the broker."""
        return self._up_at if self._whole is None else max(self._up_at, self._whole.up_at)

    @property
    def down_at(self) -> float:
        """From when on something passes from the broker to the client."""
        return self._down_at if self._whole is None else max(self._down_at, self._whole.down_at)

    def is_whole(self, now: float) -> bool:
        """Return whether a connection can be made."""
        return now >= self.up_at and now >= self.down_at


class _Way:
    """One direction of a connection: what is sent first arrives first."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._last = 0.0

    def send(self, deliver: Callable[[], None], *, passes_at: float) -> None:
        """Deliver after a delay; not before ``passes_at``, and then when TCP next repeats it."""
        network = self._network
        when = network.now + network.delay()
        if passes_at > network.now:
            when = passes_at + network.random.uniform(*REPEAT_S)
        self._last = max(self._last, when)
        network.at(self._last, deliver)


class Arrival(NamedTuple):
    """A message in the ROUTER's inbox, and the descriptor it came in on."""

    peer: bytes
    fd: int
    message: Sequence[bytes]
    public: str | None


class BrokerPort:
    """The broker's ROUTER and XPUB; or the XPUB of one more read scope, which nobody dials.

    ``requests``, ``subscriptions`` and what the ROUTER's ``monitor`` says wait to be read.
    Descriptors are given out again at once, as the system does. ``admits``: whose key is let in;
    ``admits_subscriber``: to the XPUB, where that is another question.
    """

    def __init__(
        self,
        network: Network,
        on_arrival: Callable[[], None],
        admits: Callable[[str | None], bool] = lambda _: True,
        admits_subscriber: Callable[[str | None], bool] | None = None,
    ) -> None:
        self.admits = admits
        self.admits_subscriber = admits_subscriber or admits
        self.requests: deque[Arrival] = deque()
        self.subscriptions: deque[bytes] = deque()
        self.monitor: deque[tuple[str, int]] = deque()
        self._network = network
        self._on_arrival = on_arrival
        self._dealers: dict[bytes, CommandLink] = {}
        self._descriptors: dict[bytes, int] = {}
        self._keys: dict[bytes, str | None] = {}
        self._pipes: list[_Pipe] = []
        self._open = True

    # --- ROUTER ---

    def accept_dealer(self, link: CommandLink) -> bytes:
        """Take a connection; return its routing id."""
        peer = b"\0" + self._network.number().to_bytes(4, "big")
        self._dealers[peer] = link
        self._keys[peer] = link.public
        taken = set(self._descriptors.values())
        fd = self._descriptors[peer] = next(each for each in count(10) if each not in taken)
        self._tell_monitor("accepted", fd)
        return peer

    def request_arrives(self, peer: bytes, message: Sequence[bytes]) -> None:
        """Put a message into the inbox, unless the broker has seen the connection break."""
        fd = self._descriptors.get(peer)
        if self._open and fd is not None:
            public = self._keys.get(peer)
            self.requests.append(Arrival(peer, fd, message, public))
            self._on_arrival()

    def send_reply(self, message: Sequence[bytes]) -> None:
        """Send reply frames to the connection in the first frame; dropped if it has gone."""
        link = self._dealers.get(message[0])
        if link is not None:
            link.carry_reply(message[0], list(message[1:]))

    def dealers(self) -> list[tuple[CommandLink, str | None]]:
        """Return the connections of clients to the ROUTER, and their keys."""
        return [(link, link.public) for link in self._dealers.values()]

    def subscribers(self) -> list[tuple[_Pipe, str | None]]:
        """Return the connections to the XPUB, and their keys, which a subscription shows first."""
        return [(pipe, pipe.link.public if pipe.topics else None) for pipe in self._pipes]

    def cut_off(self, connection: CommandLink | _Pipe) -> None:
        """Shut a connection down."""
        if isinstance(connection, CommandLink):
            connection.cut()
            return
        self._pipes.remove(connection)  # nothing leaves for it any more, at once
        connection.link.cut()
        for topic in sorted(connection.topics):
            self._pass_up_if_last(topic)

    def drop_dealer(self, peer: bytes) -> None:
        """The connection has gone; what had arrived on it stays in the inbox."""
        self._dealers.pop(peer, None)
        self._keys.pop(peer, None)
        fd = self._descriptors.pop(peer, None)
        if fd is not None:
            self._tell_monitor("disconnected", fd)

    def _tell_monitor(self, what: str, fd: int) -> None:
        if self._open:
            self.monitor.append((what, fd))
            self._on_arrival()

    # --- XPUB ---

    def accept_subscriber(self, link: EventLink) -> _Pipe:
        """Take a connection; it has no subscriptions yet."""
        pipe = _Pipe(link)
        self._pipes.append(pipe)
        return pipe

    def subscription_arrives(self, pipe: _Pipe, message: bytes) -> None:
        """A subscription counts at once, and waits to be read."""
        topic = message[1:]
        if message[:1] == b"\x01":
            pipe.topics.add(topic)
            self._pass_up(message)
        elif topic in pipe.topics:
            pipe.topics.remove(topic)
            self._pass_up_if_last(topic)

    def publish(self, message: Sequence[bytes]) -> None:
        """Send a message to whoever subscribed to a prefix of its first frame."""
        for pipe in self._pipes:
            if message[0].startswith(tuple(pipe.topics)):
                pipe.link.carry_publication(pipe, message)

    def drop_subscriber(self, pipe: _Pipe) -> None:
        """The connection has gone, and its subscriptions with it."""
        if pipe in self._pipes:
            self._pipes.remove(pipe)
            for topic in sorted(pipe.topics):
                self._pass_up_if_last(topic)

    def _pass_up_if_last(self, topic: bytes) -> None:
        if not any(topic in pipe.topics for pipe in self._pipes):
            self._pass_up(b"\0" + topic)

    def _pass_up(self, message: bytes) -> None:
        if self._open:
            self.subscriptions.append(message)
            self._on_arrival()

    def break_all(self) -> None:
        """The broker's process is gone. Frames it has sent may still arrive for a moment."""
        self._open = False
        self.requests.clear()
        self.subscriptions.clear()
        self.monitor.clear()
        for peer, command_link in list(self._dealers.items()):
            command_link.broker_is_gone(peer)
        for pipe in self._pipes:
            pipe.link.broker_is_gone(pipe)
        self._dealers.clear()


class CommandLink:
    """A client's DEALER; ``on_connected`` is told of every connection, as its monitor would.

    ``is_immediate``: what is sent without a connection is dropped (ZeroMQ's ``IMMEDIATE``).
    ``cable``: that of the client's host, which its other connections use too. ``public``: the key
    it proves itself with.
    """

    def __init__(
        self,
        network: Network,
        on_message: Callable[[Sequence[bytes]], None],
        on_connected: Callable[[], None] = lambda: None,
        *,
        is_immediate: bool = False,
        cable: Cable | None = None,
        public: str | None = None,
    ) -> None:
        self.public = public
        self.duplicated = 0
        self._is_immediate = is_immediate
        self._network = network
        self._on_message = on_message
        self._on_connected = on_connected
        self._address: Address | None = None
        self._waiting: deque[Sequence[bytes]] = deque()
        self._port: BrokerPort | None = None
        self._peer: bytes | None = None
        self._cable = Cable(part_of=cable)
        self._broken: bytes | None = None
        self._repeating_until = 0.0
        self._closed = False

    def dial(self, address: Address) -> None:
        """Connect to an address; another one than before means a new socket, nothing queued."""
        if self._address not in (None, address):
            self._hang_up()
            self._waiting.clear()
        self._address = address
        if self._peer is None:
            self._network.after(self._network.delay(), self._connect)

    def reconnect(self) -> None:
        """Begin anew on a new socket, nothing queued."""
        self._hang_up()
        self._waiting.clear()
        self._network.after(self._network.delay(), self._connect)

    def send(self, message: Sequence[bytes]) -> None:
        """Send, or wait for a connection."""
        if self._closed:
            return
        if self._port is None or self._peer is None:
            if not self._is_immediate:
                self._waiting.append(message)
            return
        self._carry_request(self._port, self._peer, message)
        if self._network.now < self._repeating_until:
            self.duplicated += 1
            port, peer = self._port, self._peer
            late = self._network.random.uniform(0.0, 1.0)
            self._network.after(late, lambda: self._carry_request(port, peer, message))

    def _carry_request(self, port: BrokerPort, peer: bytes, message: Sequence[bytes]) -> None:
        def arrive() -> None:
            if peer == self._peer != self._broken:
                port.request_arrives(peer, message)

        if peer == self._peer:
            self._upstream.send(arrive, passes_at=self._cable.up_at)

    # --- what goes wrong ---

    def cut(self, *, here_s: float = 0.0, there_s: float = 0.0) -> None:
        """Break the connection; it is made again a moment after the client has noticed.

        ``here_s`` later the client notices, and ``there_s`` later the broker; what is sent on it
        until then is lost. Neither notices while the cable is pulled.
        """
        if self._peer is None or self._port is None:
            return
        if here_s <= 0.0 and there_s <= 0.0:
            self._hang_up()
            self._reconnect_soon()
            return
        network, port, peer, cable = self._network, self._port, self._peer, self._cable
        self._broken = peer
        here = max(network.now + here_s, cable.down_at) + network.delay()
        there = max(network.now + there_s, cable.up_at) + network.delay()
        network.at(here, lambda: self._notice(peer))
        network.at(there, lambda: port.drop_dealer(peer))

    def block(self, seconds: float, direction: Direction = "both") -> None:
        """Let nothing pass on this link for a while, and tell nobody."""
        self._cable.pull(self._network.now + seconds, direction)

    def repeat_for(self, seconds: float) -> None:
        """Whatever is sent in the next so many seconds arrives twice, as hasty retries would."""
        self._repeating_until = self._network.now + seconds

    def close(self) -> None:
        """Break the connection for good."""
        self._closed = True
        self._hang_up()

    def broker_is_gone(self, peer: bytes) -> None:
        """Its process has ended; the client notices in a moment, or when its cable is back."""
        network = self._network
        when = max(network.now, self._cable.down_at) + network.delay()
        network.at(when, lambda: self._notice(peer))

    def _notice(self, peer: bytes) -> None:
        if self._peer == peer:
            self._hang_up()
            self._reconnect_soon()

    # --- inside ---

    def carry_reply(self, peer: bytes, message: Sequence[bytes]) -> None:
        """Bring a reply to the client, if the connection holds until then."""

        def arrive() -> None:
            if peer == self._peer != self._broken:
                self._on_message(message)

        if self._peer == peer:
            self._downstream.send(arrive, passes_at=self._cable.down_at)

    def _connect(self) -> None:
        if self._closed or self._peer is not None or self._address is None:
            return
        port = self._network.port(self._address)
        if port is None or not self._cable.is_whole(self._network.now):
            self._reconnect_soon()
            return
        if not port.admits(self.public):
            self._reconnect_soon()
            return
        self._port, self._peer = port, port.accept_dealer(self)
        self._upstream, self._downstream = _Way(self._network), _Way(self._network)
        waiting, self._waiting = self._waiting, deque()
        for message in waiting:
            self.send(message)
        self._on_connected()

    def _reconnect_soon(self) -> None:
        if not self._closed:
            self._network.after(self._network.random.uniform(*RECONNECT_S), self._connect)

    def _hang_up(self) -> None:
        """The broker notices a little later than the client, or when the cable is back."""
        port, peer, network = self._port, self._peer, self._network
        self._port = self._peer = None
        if port is not None and peer is not None and peer != self._broken:
            when = max(network.now, self._cable.up_at) + network.delay()
            network.at(when, lambda: port.drop_dealer(peer))


@dataclass(eq=False)
class _Pipe:
    """One connection of a SUB, as the XPUB sees it."""

    link: EventLink
    topics: set[bytes] = field(default_factory=set)


class EventLink:
    """A client's SUB. ``unread`` counts what was sent to it and not yet taken.

    ``cable``: that of the client's host, which its other connections use too.
    """

    def __init__(
        self,
        network: Network,
        on_message: Callable[[Sequence[bytes]], None],
        *,
        high_water_mark: int = HIGH_WATER_MARK,
        cable: Cable | None = None,
        public: str | None = None,
    ) -> None:
        self.public = public
        self.high_water_mark = high_water_mark
        self.dropped = 0
        self.unread = 0
        self._network = network
        self._on_message = on_message
        self._topics: dict[bytes, None] = {}
        self._address: Address | None = None
        self._port: BrokerPort | None = None
        self._pipe: _Pipe | None = None
        self._cable = Cable(part_of=cable)
        self._dropping_until = 0.0
        self._mute_until = 0.0
        self._closed = False

    def listen(self, address: Address) -> None:
        """Receive from this address from now on."""
        self._address = address
        self.reconnect()

    def reconnect(self) -> None:
        """Break the connection, if there is one, and make it anew."""
        self._hang_up()
        if self._address is not None:
            self._network.after(self._network.delay(), self._connect)

    def subscribe(self, topic: bytes) -> None:
        """Receive what begins with ``topic``."""
        self._topics[topic] = None
        self._tell(b"\x01" + topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Receive it no longer."""
        if topic in self._topics:
            del self._topics[topic]
            self._tell(b"\x00" + topic)

    # --- what goes wrong ---

    def drop_for(self, seconds: float) -> None:
        """Lose everything published in the next so many seconds, as at the high-water mark."""
        self._dropping_until = self._network.now + seconds

    def lose_subscriptions_for(self, seconds: float) -> None:
        """Lose what is subscribed in the next so many seconds, as a SUB at its own mark does."""
        self._mute_until = self._network.now + seconds

    def cut(self) -> None:
        """Break the connection; it is made again in a moment."""
        if self._pipe is not None:
            self._hang_up()
            self._reconnect_soon()

    def block(self, seconds: float, direction: Direction = "both") -> None:
        """Let nothing pass on this link for a while, and tell nobody."""
        self._cable.pull(self._network.now + seconds, direction)

    def close(self) -> None:
        """Break the connection for good."""
        self._closed = True
        self._hang_up()

    def broker_is_gone(self, pipe: _Pipe) -> None:
        """Its process has ended; the client notices in a moment, or when its cable is back."""
        network = self._network
        when = max(network.now, self._cable.down_at) + network.delay()
        network.at(when, lambda: self.cut() if self._pipe is pipe else None)

    # --- inside ---

    def carry_publication(self, pipe: _Pipe, message: Sequence[bytes]) -> None:
        """Bring a publication to the client, unless it does not read or the connection breaks."""
        if pipe is not self._pipe:
            return
        if self.unread >= self.high_water_mark or self._network.now < self._dropping_until:
            self.dropped += 1
            return
        self.unread += 1

        def arrive() -> None:
            if self._pipe is pipe:
                self._on_message(message)

        self._downstream.send(arrive, passes_at=self._cable.down_at)

    def _tell(self, message: bytes) -> None:
        port, pipe = self._port, self._pipe
        if port is None or pipe is None or self._network.now < self._mute_until:
            return

        def arrive() -> None:
            if self._pipe is pipe:
                port.subscription_arrives(pipe, message)

        self._upstream.send(arrive, passes_at=self._cable.up_at)

    def _connect(self) -> None:
        if self._closed or self._pipe is not None or self._address is None:
            return
        port = self._network.port(self._address)
        if port is None or not self._cable.is_whole(self._network.now):
            self._reconnect_soon()
            return
        if not port.admits_subscriber(self.public):
            self._reconnect_soon()
            return
        self._port, self._pipe, self.unread = port, port.accept_subscriber(self), 0
        self._upstream, self._downstream = _Way(self._network), _Way(self._network)
        for topic in self._topics:
            self._tell(b"\x01" + topic)

    def _reconnect_soon(self) -> None:
        if not self._closed:
            self._network.after(self._network.random.uniform(*RECONNECT_S), self._connect)

    def _hang_up(self) -> None:
        """The broker notices a little later than the client, perhaps after its next connection."""
        port, pipe, network = self._port, self._pipe, self._network
        self._port = self._pipe = None
        if port is not None and pipe is not None:
            late = network.random.choice((network.delay(), 0.5))
            when = max(network.now, self._cable.up_at) + late
            network.at(when, lambda: port.drop_subscriber(pipe))
