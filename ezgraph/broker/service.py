"""The broker's loop: one thread, one poller, a ROUTER for commands and an XPUB for events.

Each pass drains what is waiting into the engine, lets it decide and store, and then sends what
it hands out: replies first, then publications. `ezgraph.broker.engine` keeps the order.

Whose connection has closed is learnt from the ROUTER's monitor, which speaks of file descriptors;
which connection a frame came in on, from the frame (``SRCFD``). Descriptors are given out again at
once, so each has a generation, raised whenever the monitor says ACCEPTED. A batch is read from the
ROUTER first, then the monitor is drained and obeyed, and then the batch is decided on: what the
monitor says by then includes the acceptance of every connection in the batch. If a descriptor
changed hands in between, a binding is at worst to a later generation: only the TTL ends it then.

With keys (`ezgraph.broker.gate`) every frame also tells the key its connection was made with, and
each read scope has an XPUB of its own, on the next ports. When the allow-list changes, whoever lost
something by it is cut off at once, on commands and events alike; who is still admitted comes back.

Readers of data nodes who cannot dial the hosts of these are served on another port, by another
thread, with sockets of another context: `ezgraph.broker.relaying.relay`.

Nobody makes the others wait: see `ezgraph.broker.inbox`. A connection that floods, or that sends up
an event socket what is no subscription, is told why where that is possible, and cut off.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import secrets
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING

import zmq

from ezgraph.backlog import resident_bytes, wire_bytes
from ezgraph.broker.admitted import COMMANDS, Socket, cut_off, lets_in, losers, streams_of
from ezgraph.broker.descriptors import Descriptors
from ezgraph.broker.engine import BrokerEngine
from ezgraph.broker.gate import Gate
from ezgraph.broker.hearing import Hearing
from ezgraph.broker.inbox import Arrived, Inbox
from ezgraph.broker.relaying.relay import StandbyRelay
from ezgraph.clock import Clock, SystemClock
from ezgraph.config import Address, BrokerConfig, resolve_loopback
from ezgraph.errors import (
    AddressInUseError,
    ConfigError,
    EzGraphError,
    FloodError,
    InsecureAddressError,
    JournalFailedError,
    KeyFileError,
    LimitError,
    MalformedMessageError,
)
from ezgraph.ids import IdSource, RandomIds
from ezgraph.names import MAX_TOPIC_BYTES
from ezgraph.protocol.events import AccessRefused
from ezgraph.protocol.replies import Refusal
from ezgraph.protocol.roles import FULL_SCOPE
from ezgraph.wire import frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ezgraph.backends.base import Journal
    from ezgraph.protocol.commands import ChangeConfig, SetConfigSchema
    from ezgraph.protocol.roles import Access

log = logging.getLogger(__name__)

_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_IDLE_MS = 250
_LOOK_AT_MEMORY_S = 0.1
_GROWN_BYTES = 64 << 20
_BIND_TRIES = 100
# Below what systems hand out to connecting sockets: a client that knocks while the broker is away
# could be given the broker's own port there, and connect to itself for good.
_FREE_PORTS = range(20_000, 32_000)
_DEAD_AFTER_S = 600
_FAREWELL_S = 1.5  # longer than a client waits before it repeats a request
_FLUSH_MS = 200
_RCVMORE = int(zmq.RCVMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_SRCFD = int(zmq.SRCFD)
_USER_ID = "User-Id"
_HANDSHAKE_MS = 5_000
_OPEN_AGAIN_S = 2.0
_HEARD_S = 0.2  # how long somebody who is cut off may take to read why
_LOGGED_S = 10.0
_READ_FRAMES = 500  # of a pass, so that it is short however much has arrived
_READ_BYTES = 4 << 20
_READ_SUBSCRIPTIONS = 250
_MAX_SUBSCRIPTION = 1 + MAX_TOPIC_BYTES + 2
"""A mark, a topic, and the two NULs around it in a note's topic."""


class _Stream:
    """The XPUB of one read scope, and its peers."""

    def __init__(self, number: int, sock: zmq.Socket[bytes], port: int) -> None:
        self.number = number
        self.socket = sock
        self.port = port
        self.peers = Descriptors(sock)

    def __repr__(self) -> str:
        return f"<stream {self.number} port={self.port} peers={len(self.peers)}>"


class BrokerService:
    """A broker on sockets of its own. Made, bound and run on one thread; `stop` from any."""

    def __init__(
        self,
        config: BrokerConfig,
        journal: Journal,
        *,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        self.config = config
        self.journal = journal
        self.address: Address | None = None
        self._clock = clock or SystemClock()
        self._ids = ids or RandomIds()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._stopping = threading.Event()
        self._gate: Gate | None = None
        self._streams: dict[int, _Stream] = {}
        self._inbox = Inbox(config.limits)
        self._doomed: dict[int, float] = {}
        self._unopened = ""
        self._open_again_at = 0.0
        self._hearing = Hearing()
        self._memory_at, self._resident = 0.0, resident_bytes()
        self._crowd_logged = float("-inf")
        self._draining = False
        self._closed = False
        self._sockets: list[zmq.Socket[bytes]] = []

    def __repr__(self) -> str:
        state = "closed" if self._closed else "stopping" if self._stopping.is_set() else "open"
        return f"<BrokerService {self.address} {state} journal={self.journal!r}>"

    # --- start ---

    def bind(self) -> Address:
        """Take the address, load the journal, and return where commands are taken.

        Raises:
            InsecureAddressError: outside loopback, and ``insecure`` is not set.
            AddressInUseError: somebody listens there.
            JournalError: the journal cannot be read.
        """
        host = self._host = self._checked_host()
        _seed_routing_ids()
        self._router = self._new_socket(zmq.ROUTER, scope=None)
        self._router.set(zmq.ROUTER_MANDATORY, 1)
        self._router.set(zmq.TCP_KEEPALIVE, 1)  # a host that is gone leaves connections behind
        self._router.set(zmq.TCP_KEEPALIVE_IDLE, _DEAD_AFTER_S // 2)
        self._router.set(zmq.TCP_KEEPALIVE_INTVL, _DEAD_AFTER_S // 10)
        self._router.set(zmq.TCP_KEEPALIVE_CNT, 5)
        self._peers = Descriptors(self._router)
        xpub = self._new_socket(zmq.XPUB, scope=FULL_SCOPE.number)
        self.address, events_port = self._bind_pair(host, xpub)
        access = self._gate.access if self._gate is not None else None
        self.engine = BrokerEngine(
            self.config,
            self.journal,
            self._ids,
            events_port=events_port,
            now=self._clock.monotonic(),
            access=access,
        )
        new_gate = None if self._gate is None else self._opened_gate
        self._relay = StandbyRelay(host, lambda: self.engine.state, new_gate=new_gate)
        self.engine.relay_port = self._relay.port
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._peers.monitor, zmq.POLLIN)
        self._poller.register(self._wake_reader, zmq.POLLIN)
        self._add_stream(_Stream(FULL_SCOPE.number, xpub, events_port))
        if self._gate is not None and access is not None:
            self._poller.register(self._gate.handler, zmq.POLLIN)
            self._open_streams(access)
        log.info(
            "broker listens address=%s events_port=%d epoch=%d seq=%d keys=%s",
            self.address,
            events_port,
            self.engine.state.epoch,
            self.engine.state.seq,
            "none" if access is None else len(access),
        )
        return self.address

    def _new_socket(self, kind: int, *, scope: int | None) -> zmq.Socket[bytes]:
        """Return a socket with every bound set; ``scope``: whose events it carries (None: none)."""
        limits = self.config.limits
        sock: zmq.Socket[bytes] = self._context.socket(kind)
        self._sockets.append(sock)
        if kind == zmq.XPUB:
            sock.set(zmq.XPUB_VERBOSER, 1)
        sock.set(zmq.LINGER, 0)
        sock.set(zmq.IPV6, int(":" in self._host))
        sock.set(zmq.MAXMSGSIZE, limits.max_frame_bytes if scope is None else _MAX_SUBSCRIPTION)
        sock.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        sock.set(zmq.BACKLOG, 1024)
        is_router = kind == zmq.ROUTER
        sock.set(zmq.SNDHWM, limits.max_unread_replies if is_router else limits.high_water_mark)
        sock.set(zmq.RCVHWM, limits.max_unread_messages)
        if self._gate is not None:
            self._gate.guard(sock, scope)
        return sock

    # --- read scopes ---

    def _add_stream(self, stream: _Stream) -> None:
        self._streams[stream.number] = stream
        self._poller.register(stream.socket, zmq.POLLIN)
        self._poller.register(stream.peers.monitor, zmq.POLLIN)

    def _open_streams(self, access: Access) -> None:
        """Have one XPUB for each read scope, and tell the engine where; the others are closed.

        One that cannot be opened is tried again; until then its readers are not welcomed.
        """
        wanted = streams_of(access)
        for number in self._streams.keys() - wanted:
            self._close_stream(self._streams.pop(number))
        self._unopened = ""
        for number in sorted(wanted - self._streams.keys()):
            self._open_stream(number)
        ports = {number: stream.port for number, stream in self._streams.items()}
        self.engine.set_access(access, ports)

    def _open_stream(self, number: int) -> None:
        xpub = None
        try:
            xpub = self._new_socket(zmq.XPUB, scope=number)
            self._add_stream(_Stream(number, xpub, self._bind_next(xpub, number)))
        except (zmq.ZMQError, EzGraphError) as error:
            if xpub is not None:
                self._sockets.remove(xpub)
                xpub.close(linger=0)
            if not self._unopened:
                log.error("no stream for read scope %d: %s", number, error)  # noqa: TRY400
            self._unopened = f"who may read only a part is not welcomed: {error}"

    def _bind_next(self, xpub: zmq.Socket[bytes], number: int) -> int:
        """Bind to the port that many after the first events port, or the next one that is free."""
        first = self._streams[FULL_SCOPE.number].port + number
        for port in range(first, min(first + _BIND_TRIES, 1 << 16)):
            try:
                return self._bind_one(xpub, self._host, port)
            except AddressInUseError:
                continue
        raise AddressInUseError(
            f"no free port for the events of a read scope between {first} and "
            f"{first + _BIND_TRIES - 1} on {self._host}"
        )

    def _close_stream(self, stream: _Stream) -> None:
        self._poller.unregister(stream.socket)
        self._poller.unregister(stream.peers.monitor)
        stream.peers.close()
        self._sockets.remove(stream.socket)
        stream.socket.close(linger=0)

    # --- who may listen where ---

    def _checked_host(self) -> str:
        """Return the address to listen on, and have the keys ready where there are to be any."""
        config = self.config
        host, is_loopback = resolve_loopback(config.address.host)
        if config.insecure and config.asks_for_keys:
            raise ConfigError(
                "insecure means without keys, and keys are asked for too (require_keys, key, "
                "trusted or roles); leave one of them out"
            )
        if config.asks_for_keys or not (is_loopback or config.insecure):
            self._gate = self._opened_gate(self._context)
        elif not is_loopback:
            log.warning(
                "insecure: whoever reaches this broker may command it address=%s", config.address
            )
        self._check_advertised(is_loopback=is_loopback)
        return host

    def _opened_gate(self, context: zmq.Context[zmq.Socket[bytes]]) -> Gate:
        from ezgraph.keys.broker_keys import open_broker_keys  # files are read only where needed

        try:
            pair, source = open_broker_keys(self.config)
        except KeyFileError as error:
            if self.config.asks_for_keys:
                raise
            raise InsecureAddressError(
                f"{self.config.address} is reachable from other hosts, and this broker has no "
                f"keys ({error}): anybody there could command it. Make a key for it with "
                f"`ezgraph keys new broker`, and admit others with `ezgraph keys trust`; or listen "
                f"on 127.0.0.1, or say --insecure if you trust everybody on that network"
            ) from error
        return Gate(context, pair.public, pair.secret, source)

    def _check_advertised(self, *, is_loopback: bool) -> None:
        """Refuse to send clients on other hosts to themselves."""
        advertised = self.config.advertise
        if advertised is None or is_loopback:
            return
        where, leads_to_itself = resolve_loopback(advertised)
        if leads_to_itself or ip_address(where.partition("%")[0]).is_unspecified:
            raise ConfigError(
                f"advertise {advertised!r} would send clients on other hosts to themselves for "
                f"events; name the address at which they reach this host, or leave it out: then "
                f"they use the one they dialled"
            )

    def _bind_pair(self, host: str, xpub: zmq.Socket[bytes]) -> tuple[Address, int]:
        """Bind both sockets; with a free command port, try until the next port is free too."""
        wanted, events_port = self.config.address.port, self.config.events_port
        for _ in range(_BIND_TRIES):
            port = wanted or _FREE_PORTS.start + secrets.randbelow(len(_FREE_PORTS))
            bound = False
            try:
                self._bind_one(self._router, host, port)
                bound = True
                found = port + 1 if events_port is None else events_port
                found = self._bind_one(xpub, host, found if found < 1 << 16 else 0)
            except AddressInUseError:
                if wanted or (bound and events_port is not None):
                    raise
                if bound:
                    self._router.unbind(_endpoint(self._router))
                continue
            return Address(self.config.address.host, port), found
        raise AddressInUseError(f"no two free neighbouring ports on {host}; name an address")

    def _bind_one(self, sock: zmq.Socket[bytes], host: str, port: int) -> int:
        address = Address(host, port)
        try:
            sock.bind(address.endpoint if port else f"{address.endpoint.removesuffix('0')}*")
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUseError(
                    f"somebody listens on {address} already; connect to that broker, stop it, "
                    f"or choose another port (0: a free one)"
                ) from error
            raise ConfigError(f"cannot listen on {address}: {error}") from error
        return int(_endpoint(sock).rpartition(":")[2])

    # --- the loop ---

    def seed(self, commands: Iterable[ChangeConfig | SetConfigSchema]) -> None:
        """Change the configuration on the broker's own account; stored when this returns.

        It is for between `bind` and `run`: before any client is answered.

        Raises:
            RefusedError: one breaks a rule. Nothing is stored; do not `run` it.
            JournalFailedError: the append failed.
        """
        now, wall = self._clock.monotonic(), self._clock.wall()
        self.engine.seed(commands, now=now, wall=wall)
        self.engine.finish_pass(now=now, wall=wall)

    def run(self) -> None:
        """Serve until `stop`; then drain, write a checkpoint and close.

        Raises:
            JournalFailedError: an append failed; nothing of that pass was answered.
        """
        try:
            while not self._stopping.is_set() and not self.engine.stopping:
                self.run_pass(wait=True)
            self.run_pass(wait=False)
            self._draining = True  # else a client that never pauses would keep us
            while self._inbox:
                self.run_pass(wait=False)
            self.engine.write_checkpoint()
        except JournalFailedError as error:
            log.error("journal failed, broker ends address=%s: %s", self.address, error)  # noqa: TRY400
            self._refuse_everybody(error)
            raise
        except Exception:
            log.exception("broker ends by an error of its own address=%s", self.address)
            raise
        finally:
            self.close()

    def stop(self) -> None:
        """Ask the loop to end; from any thread or signal handler."""
        self._stopping.set()
        try:
            os.write(self._wake_writer, b"x")
        except OSError:
            log.debug("stop: the loop has ended already")

    def run_pass(self, *, wait: bool) -> None:
        """Do one pass: drain, decide, store, reply, publish."""
        clock, engine = self._clock, self.engine
        ready = dict(self._poller.poll(self._patience_ms() if wait else 0))
        now = clock.monotonic()
        if self._gate is not None:
            self._mind_the_gate(self._gate, now, is_asked=self._gate.handler in ready)
        if self._router in ready and not self._draining:
            self._read_batch(now)
        elif not self._draining:
            self._hearing.drained(now)
        strangers = self._inbox.strangers()
        if self._peers.monitor in ready or strangers:
            self._obey_monitor(now)
        for stranger in strangers:
            self._place(stranger, now)
        for stream in self._streams.values():
            if stream.socket in ready or stream.peers.monitor in ready:
                self._take_subscriptions(stream, now)
        now, wall = clock.monotonic(), clock.wall()  # a beat's time is not before its request
        self._take_commands(now, wall)
        self._relay.mind(1 + max(each.port for each in self._streams.values()), now)
        engine.finish_pass(
            now=now,
            wall=wall,
            heard_through=self._hearing.through,
            is_waiting=self._inbox.waits,
        )
        if not engine.publishes_little:  # else the watchers, further away, get theirs first
            self._send_replies(now)
        xpub = self._streams[FULL_SCOPE.number].socket
        for publication in engine.publications():
            _send(xpub, publication)
        for number, publication in engine.partial_publications():
            _send(self._streams[number].socket, publication)
        self._send_replies(now)
        if self._doomed:
            self._hang_up(now)
        if now >= self._memory_at:
            self._look_at_memory(now)
        engine.tidy()

    def _send_replies(self, now: float) -> None:
        while self.engine.has_replies:
            # ZeroMQ says that a connection has closed before it gives its routing id to another.
            self._obey_monitor(now)
            reply = self.engine.next_reply()
            if reply is not None:
                self._send_reply(reply)

    def _patience_ms(self) -> int:
        if self._inbox:
            return 0
        now = self._clock.monotonic()
        due = min(self._doomed.values(), default=None)
        if (engine_due := self.engine.next_due(now)) is not None:
            due = engine_due if due is None else min(due, engine_due)
        if due is None:
            return _IDLE_MS
        return max(0, min(_IDLE_MS, int((due - now) * 1000) + (due > now)))

    # --- keys ---

    def _mind_the_gate(self, gate: Gate, now: float, *, is_asked: bool) -> None:
        """Admit or not who waits at the gate, and see whether the allow-list has changed."""
        before = gate.access
        access = gate.look(now)
        if access is not None:
            self._change_access(before, access, now)
        elif self._unopened and now >= self._open_again_at:
            self._open_streams(gate.access)
            self._open_again_at = now + _OPEN_AGAIN_S
        self.engine.access_warning = gate.warning or self._unopened or None
        for stranger in gate.answer() if is_asked else ():
            refused = AccessRefused(
                f"unknown key at {stranger.address}",
                "connect",
                "not_admitted",
                f"key {stranger.public[:16]}… is not in the allow-list",
            )
            self.engine.core.note_refusal(refused, now)

    def _change_access(self, before: Access, access: Access, now: float) -> None:
        """Cut off whoever may do or read something else than before; they may come again."""
        lost = losers(before, access)
        if lost:
            self._obey_monitor(now)
            for stream in self._streams.values():
                self._take_subscriptions(stream, now)
            peers: dict[Socket, Descriptors] = {COMMANDS: self._peers}
            peers |= {number: stream.peers for number, stream in self._streams.items()}
            known = {socket: each.keys() for socket, each in peers.items()}
            for socket, fd in cut_off(lost, known):
                peers[socket].cut_off(fd)
        for each in lost:
            gone = "admitted no longer" if access.identity(each.public) is None else "changed"
            log.warning("cut off key=%s: it is %s", each.name, gone)
        self._open_streams(access)

    # --- subscriptions ---

    def _take_subscriptions(self, stream: _Stream, now: float) -> None:
        """Read a batch, obey the monitor, and heed the batch: in the order that commands keep.

        An end of a subscription is heeded if its peer had that subscription, and ends a watch if
        it was the last: ZeroMQ passes on what a stranger says in the name of others, too.
        """
        xpub, peers = stream.socket, stream.peers
        batch: list[zmq.Frame] = []
        while len(batch) < _READ_SUBSCRIPTIONS and (is_more := _readable(xpub)):
            batch.append(xpub.recv(_NOBLOCK, copy=False))
        closed = set()
        for (closed_fd, _), was_accepted in peers.obey_monitor():
            self._refuse_crowd(peers)
            if not was_accepted:
                closed.add(closed_fd)
        for frame in batch:
            message, fd = frame.bytes, _metadata_fd(frame)
            if fd is not None:
                self._count_read(peers, fd, (len(message),))
            reason = self._no_subscription(frame, stream, message, fd, now)
            if fd is None:
                continue  # its connection has ended, as the monitor says, or speaks an old ZMTP
            if reason is not None:
                if fd in peers and fd not in closed:  # else its number may be another's by now
                    log.warning("cut off a subscriber scope=%d: %s", stream.number, reason)
                    peers.cut_off(fd)
            elif message[:1] == b"\x01":
                self.engine.take_subscription(message, now=now, scope=stream.number)
        if not is_more:
            peers.drained()
        for topic in peers.left():
            self.engine.take_subscription(b"\x00" + topic, now=now, scope=stream.number)

    def _no_subscription(
        self, frame: zmq.Frame, stream: _Stream, message: bytes, fd: int | None, now: float
    ) -> str | None:
        """Return why what came up an event socket is not to be heeded; None: it is."""
        if message[:1] not in (b"\0", b"\1") or len(message) > _MAX_SUBSCRIPTION:
            return f"{len(message)} bytes that are no subscription"
        if fd is None:
            return None  # its connection has ended, or speaks an old ZMTP
        if self._gate is not None:
            public = _user_id(frame)
            if public is None or not lets_in(self._gate.access, public, stream.number):
                return "its key may not read here any more"
            stream.peers.seen(fd, public)
        limits, peers = self.config.limits, stream.peers
        most = limits.max_subscriptions_per_connection
        if peers.subscribes(fd, message) > most:
            return f"it subscribes to more than {most} topics (max_subscriptions_per_connection)"
        most = limits.max_unsubscriptions
        if message[:1] == b"\0" and peers.resubscribes_too_much(fd, now, most=most):
            return f"it ended more than {most} subscriptions (max_unsubscriptions)"
        return None

    # --- commands ---

    def _read_batch(self, now: float) -> None:
        """Move what waits in the ROUTER to the inbox, up to a bound."""
        frames_left, bytes_left = _READ_FRAMES, _READ_BYTES
        for _ in range(self.config.limits.inbox_messages):
            if not _readable(self._router):
                self._hearing.drained(now)
                self._peers.drained()
                return
            if frames_left <= 0 or bytes_left <= 0:
                return
            arrived = self._read_message()
            self._hearing.take(arrived.peer, now)
            frames_left -= len(arrived.parts)
            bytes_left -= arrived.size_bytes
            if arrived.parts and not self._is_doomed(arrived, now):
                self._admit(arrived, now)

    def _admit(self, arrived: Arrived, now: float) -> None:
        """Let a message wait for its turn, unless so much of this peer waits that it floods."""
        limits = self.config.limits
        if len(arrived.parts) > limits.max_frames_per_message:
            self._doom(
                arrived,
                _flood(
                    f"sent a message of {len(arrived.parts)} frames (max_frames_per_message is "
                    f"{limits.max_frames_per_message})"
                ),
                now,
            )
        elif not self._inbox.put(arrived):
            self._doom(
                arrived,
                _flood(
                    f"sent more than {limits.max_waiting_commands} commands or "
                    f"{limits.max_waiting_bytes >> 20} MiB that were not yet looked at "
                    f"(max_waiting_commands, max_waiting_bytes)"
                ),
                now,
            )
        elif self._inbox.is_overfull:
            self._doom(
                self._inbox.fullest(),
                _flood(
                    f"has sent most of {limits.max_waiting_commands_of_all} commands or "
                    f"{limits.max_waiting_bytes_of_all >> 20} MiB of all clients that wait here "
                    f"(max_waiting_commands_of_all, max_waiting_bytes_of_all)"
                ),
                now,
            )

    def _doom(self, arrived: Arrived, error: FloodError | LimitError, now: float) -> None:
        """Tell a peer why it is cut off, and do so when it may have heard."""
        self._inbox.drop(arrived.peer)
        fd = arrived.fd
        if fd is None:
            fd = self.engine.fd_of(arrived.peer)
        if fd is None or fd in self._doomed:
            return
        self._doomed[fd] = now + _HEARD_S
        refusal = Refusal(error.code, str(error))
        self._send_reply([arrived.peer, frames.reply_frame(0, refusal)])
        who = self.engine.name_of(arrived.peer, arrived.public)
        log.warning("cut off %s: %s", who, error)
        if self._gate is not None:
            refused = AccessRefused(who, "send", error.code, str(error))
            self.engine.core.note_refusal(refused, now)

    def _is_doomed(self, arrived: Arrived, now: float) -> bool:
        if not self._doomed:
            return False
        fd = arrived.fd if arrived.fd is not None else self.engine.fd_of(arrived.peer)
        if fd in self._doomed:
            self._obey_monitor(now)  # it may have closed, and its number be another's by now
        return fd in self._doomed

    def _hang_up(self, now: float) -> None:
        self._obey_monitor(now)  # a number that is another's by now is doomed no longer
        for fd, due in list(self._doomed.items()):
            if due <= now:
                self._peers.cut_off(fd)
                self._doomed[fd] = now + _HEARD_S  # until the monitor says that it has closed

    def _read_message(self) -> Arrived:
        """Read one message, and what ZeroMQ knows of where it came from."""
        router = self._router
        peer = router.recv(_NOBLOCK)
        if not router.get(_RCVMORE):
            return Arrived(peer, None, [])
        first = router.recv(_NOBLOCK, copy=False)
        fd = _metadata_fd(first)
        public = _user_id(first) if self._gate is not None else None
        parts = [first.bytes]
        while router.get(_RCVMORE):
            parts.append(router.recv(_NOBLOCK))
        if fd is not None:
            self._count_read(self._peers, fd, map(len, parts))
        return Arrived(peer, fd, parts, public)

    def _count_read(self, peers: Descriptors, fd: int, sizes: Iterable[int]) -> None:
        peers.has_read(fd, wire_bytes(sizes, is_secured=self._gate is not None))

    def _place(self, stranger: Arrived, now: float) -> None:
        """Find out the generation of a descriptor, and whose it is."""
        stranger.place(self._peers.generations)
        if stranger.fd is None or stranger.public is None:
            return
        if self.engine.knows(stranger.peer, stranger.fd):
            return
        self._peers.seen(stranger.fd, stranger.public)
        limit = self.config.limits.max_connections_per_key
        if len(self._peers.of_key(stranger.public)) > limit:
            error = LimitError(
                f"this key has more than {limit} connections (max_connections_per_key); close some"
            )
            self._doom(stranger, error, now)

    def _take_commands(self, now: float, wall: float) -> None:
        """Decide on what the inbox holds, but not on more than a pass may take.

        A program with many commands in flight sends them together. Answering a part of them
        early keeps it busy while the rest is decided; doing all at once would have the two wait
        for each other by turns.
        """
        take = self.engine.take_command
        for arrived, parts in self._inbox.take(self.config.limits.commands_per_pass):
            for frame in parts:
                take(
                    arrived.peer,
                    frame,
                    now=now,
                    wall=wall,
                    descriptor=arrived.descriptor,
                    public=arrived.public,
                )

    def _obey_monitor(self, now: float) -> None:
        for descriptor, was_accepted in self._peers.obey_monitor():
            self._doomed.pop(descriptor[0], None)
            if was_accepted:
                self._refuse_crowd(self._peers)
            else:
                self.engine.connection_closed(descriptor, now=now)

    def _look_at_memory(self, now: float) -> None:
        """Cut off whoever sends a message without end, where this process has grown by much."""
        self._memory_at = now + _LOOK_AT_MEMORY_S
        resident = resident_bytes()
        if resident < self._resident + _GROWN_BYTES:
            self._resident = min(self._resident, resident)
            return
        self._resident = resident
        self._obey_monitor(now)
        most = self.config.limits.max_waiting_bytes
        for peers in (self._peers, *(stream.peers for stream in self._streams.values())):
            for fd, unread in peers.unread_bytes():
                if unread > most:
                    log.warning(
                        "cut off a connection: it sent %d MiB of messages that have not ended "
                        "(max_waiting_bytes)",
                        unread >> 20,
                    )
                    peers.cut_off(fd)

    def _refuse_crowd(self, peers: Descriptors) -> None:
        """Close a connection when there is one beyond the bound."""
        limit = self.config.limits.max_connections
        if len(peers) > limit:
            now = self._clock.monotonic()
            if now >= self._crowd_logged + _LOGGED_S:  # else whoever knocks fills the log
                self._crowd_logged = now
                log.warning("cut off connections: there are %d (max_connections)", limit)
            peers.cut_off(peers.least_known())

    def _send_reply(self, message: Sequence[bytes]) -> None:
        try:
            _send(self._router, message)
        except zmq.ZMQError as error:
            # The peer has gone, or does not read: it asks again if it lives.
            if error.errno == zmq.EAGAIN:
                self.engine.unsent(list(message))
            log.debug("reply dropped error=%s", error)

    def _refuse_everybody(self, error: JournalFailedError) -> None:
        """Tell whoever asks in the little time that is left."""
        refusal = Refusal(error.code, str(error))
        until = self._clock.monotonic() + _FAREWELL_S
        while (left := until - self._clock.monotonic()) > 0:
            if not self._router.poll(int(left * 1000) + 1):
                return
            message = self._router.recv_multipart()
            try:
                request_id, _ = frames.read_header(message[-1])
            except MalformedMessageError:
                continue
            self._send_reply([message[0], frames.reply_frame(request_id, refusal)])

    def close(self) -> None:
        """Close sockets and journal. Replies already sent are flushed for up to 200 ms."""
        if self._closed:
            return
        self._closed = True
        if hasattr(self, "_relay"):
            self._relay.stop()
        if hasattr(self, "_peers"):
            self._peers.close()
        for stream in self._streams.values():
            stream.peers.close()
        for each in self._sockets:
            each.close(linger=_FLUSH_MS)
        if self._gate is not None:
            self._gate.close()
        self._context.term()
        os.close(self._wake_reader)
        os.close(self._wake_writer)
        self.journal.close()


def _flood(what: str) -> FloodError:
    return FloodError(
        f"this client {what}, and was cut off; take replies as they come, and send the next "
        f"commands then"
    )


def _seed_routing_ids() -> None:
    """Have ZeroMQ number the peers of a ROUTER from where nobody can guess.

    It takes the first number from C's ``rand``, which it leaves unseeded: it would be the same in
    every process, and whoever claims the number of the next peer ends the broker by an assertion.
    """
    try:
        ctypes.CDLL(None).srand(secrets.randbits(32))
    except (OSError, AttributeError):
        log.warning("routing ids can be guessed here: C's srand was not found")


def _metadata_fd(frame: zmq.Frame) -> int | None:
    """Return the descriptor a message came in on; old versions of ZMTP do not say."""
    try:
        return int(frame.get(_SRCFD))
    except zmq.ZMQError:
        return None


def _user_id(frame: zmq.Frame) -> str | None:
    """Return the public key that the connection was admitted with."""
    try:
        return str(frame.get(_USER_ID))
    except zmq.ZMQError:
        return None


def _endpoint(sock: zmq.Socket[bytes]) -> str:
    """Return where a socket was bound last."""
    return bytes(sock.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()


def _send(sock: zmq.Socket[bytes], message: Sequence[bytes]) -> None:
    for part in message[:-1]:
        sock.send(part, _NOBLOCK_MORE)
    sock.send(message[-1], _NOBLOCK)


def _readable(sock: zmq.Socket[bytes]) -> bool:
    """Return whether a message waits; asking is cheaper than being refused by an exception."""
    return bool(int(sock.get(_EVENTS)) & _POLLIN)

