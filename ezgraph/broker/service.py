"""The broker's loop: one thread, one poller, a ROUTER for commands and an XPUB for events.

Each pass drains what is waiting into the engine, lets it decide and store, and then sends what
it hands out: replies first, then publications. `ezgraph.broker.engine` keeps the order.

Whose connection has closed is learnt from the ROUTER's monitor, which speaks of file descriptors;
which connection a frame came in on, from the frame (``SRCFD``). Descriptors are given out again at
once, so each has a generation, raised whenever the monitor says ACCEPTED. A batch is read from the
ROUTER first, then the monitor is drained and obeyed, and then the batch is decided on: what the
monitor says by then includes the acceptance of every connection in the batch. If a descriptor
changed hands in between, a binding is at worst to a later generation: only the TTL ends it then.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import struct
import threading
from collections import deque
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

import zmq

from ezgraph.broker.engine import BrokerEngine
from ezgraph.clock import Clock, SystemClock
from ezgraph.config import Address, BrokerConfig, resolve_loopback
from ezgraph.errors import (
    AddressInUseError,
    ConfigError,
    InsecureAddressError,
    JournalFailedError,
    MalformedMessageError,
)
from ezgraph.ids import IdSource, RandomIds
from ezgraph.protocol.replies import Refusal
from ezgraph.wire import frames

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ezgraph.backends.base import Journal
    from ezgraph.broker.connections import Descriptor

log = logging.getLogger(__name__)

_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_IDLE_MS = 1_000
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
_ACCEPTED = int(zmq.EVENT_ACCEPTED)
_WATCHED_EVENTS = _ACCEPTED | int(zmq.EVENT_DISCONNECTED)
_MONITOR_EVENT = struct.Struct("=Hi")


@dataclass(slots=True)
class _Message:
    """What one peer sent, and what it came in on, if the peer is not bound yet."""

    peer: bytes
    fd: int | None
    parts: list[bytes]
    descriptor: Descriptor | None = None

    @property
    def is_unplaced(self) -> bool:
        """Whether the generation of its descriptor is still to be found out."""
        return self.fd is not None and self.descriptor is None

    def place(self, generations: Mapping[int, int]) -> None:
        """Take the generation that its descriptor has now."""
        if self.fd is not None:
            self.descriptor = (self.fd, generations.get(self.fd, 0))


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
        self._inbox: deque[_Message] = deque()
        self._drained = True
        self._draining = False
        self._closed = False

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
        host = self._checked_host()
        limits = self.config.limits
        self._router = self._context.socket(zmq.ROUTER)
        self._router.set(zmq.ROUTER_MANDATORY, 1)
        self._xpub = self._context.socket(zmq.XPUB)
        self._xpub.set(zmq.XPUB_VERBOSE, 1)
        for each in (self._router, self._xpub):
            each.set(zmq.LINGER, 0)
            each.set(zmq.IPV6, int(":" in host))
            each.set(zmq.MAXMSGSIZE, limits.max_frame_bytes)
            each.set(zmq.BACKLOG, 1024)
            each.set(zmq.SNDHWM, limits.high_water_mark)
            each.set(zmq.RCVHWM, limits.high_water_mark)
        self._router.set(zmq.TCP_KEEPALIVE, 1)  # a host that is gone leaves connections behind
        self._router.set(zmq.TCP_KEEPALIVE_IDLE, _DEAD_AFTER_S // 2)
        self._router.set(zmq.TCP_KEEPALIVE_INTVL, _DEAD_AFTER_S // 10)
        self._router.set(zmq.TCP_KEEPALIVE_CNT, 5)
        self._monitor = self._router.get_monitor_socket(_WATCHED_EVENTS)
        self._generations: dict[int, int] = {}
        self.address, events_port = self._bind_pair(host)
        self.engine = BrokerEngine(
            self.config,
            self.journal,
            self._ids,
            events_port=events_port,
            now=self._clock.monotonic(),
        )
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._xpub, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._wake_reader, zmq.POLLIN)
        log.info(
            "broker listens address=%s events_port=%d epoch=%d seq=%d",
            self.address,
            events_port,
            self.engine.state.epoch,
            self.engine.state.seq,
        )
        return self.address

    def _checked_host(self) -> str:
        host, is_loopback = resolve_loopback(self.config.address.host)
        if not is_loopback and not self.config.insecure:
            raise InsecureAddressError(
                f"{self.config.address} is reachable from other hosts, and this broker has no "
                f"keys: anybody there could command it. Listen on 127.0.0.1, or say --insecure "
                f"if you trust everybody on that network"
            )
        self._check_advertised(is_loopback=is_loopback)
        return host

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

    def _bind_pair(self, host: str) -> tuple[Address, int]:
        """Bind both sockets; with a free command port, try until the next port is free too."""
        wanted, events_port = self.config.address.port, self.config.events_port
        for _ in range(_BIND_TRIES):
            port = wanted or _FREE_PORTS.start + secrets.randbelow(len(_FREE_PORTS))
            bound = False
            try:
                self._bind_one(self._router, host, port)
                bound = True
                found = port + 1 if events_port is None else events_port
                found = self._bind_one(self._xpub, host, found if found < 1 << 16 else 0)
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
        now, wall = clock.monotonic(), clock.wall()
        if self._xpub in ready:
            self._take_subscriptions(now)
        if self._router in ready and not self._draining:
            self._read_batch()
        strangers = [message for message in self._inbox if message.is_unplaced]
        if self._monitor in ready or strangers:
            self._obey_monitor(now)
        for stranger in strangers:
            stranger.place(self._generations)
        self._take_commands(now, wall)
        engine.finish_pass(now=now, wall=wall, drained=self._drained and not self._inbox)
        if not engine.publishes_little:  # else the watchers, further away, get theirs first
            self._send_replies()
        for publication in engine.publications():
            _send(self._xpub, publication)
        self._send_replies()
        engine.tidy()

    def _send_replies(self) -> None:
        for reply in self.engine.replies():
            self._send_reply(reply)

    def _patience_ms(self) -> int:
        if self._inbox:
            return 0
        now = self._clock.monotonic()
        due = self.engine.next_due(now)
        if due is None:
            return _IDLE_MS
        return max(0, min(_IDLE_MS, int((due - now) * 1000) + (due > now)))

    def _take_subscriptions(self, now: float) -> None:
        while _readable(self._xpub):
            self.engine.take_subscription(self._xpub.recv(_NOBLOCK), now=now)

    def _read_batch(self) -> None:
        """Move what waits in the ROUTER to the inbox, up to a bound."""
        inbox, router = self._inbox, self._router
        self._drained = True
        while _readable(router):
            if len(inbox) >= self.config.limits.inbox_messages:
                self._drained = False
                return
            inbox.append(self._read_message())

    def _read_message(self) -> _Message:
        """Read one message; of a peer that is not bound yet, the descriptor too."""
        router = self._router
        peer = router.recv(_NOBLOCK)
        if self.engine.knows(peer):
            parts = []
            while router.get(_RCVMORE):
                parts.append(router.recv(_NOBLOCK))
            return _Message(peer, None, parts)
        found = router.recv_multipart(_NOBLOCK, copy=False) if router.get(_RCVMORE) else []
        return _Message(peer, _descriptor(found), [frame.bytes for frame in found])

    def _take_commands(self, now: float, wall: float) -> None:
        """Decide on what the inbox holds, but not on more than a pass may take.

        A program with many commands in flight sends them together. Answering a part of them
        early keeps it busy while the rest is decided; doing all at once would have the two wait
        for each other by turns.
        """
        left, inbox = self.config.limits.commands_per_pass, self._inbox
        while inbox and left > 0:
            message = inbox[0]
            descriptor = message.descriptor
            now_taken = message.parts[:left]
            for frame in now_taken:
                self.engine.take_command(
                    message.peer, frame, now=now, wall=wall, descriptor=descriptor
                )
            del message.parts[:left]
            left -= len(now_taken)
            if not message.parts:
                inbox.popleft()

    def _obey_monitor(self, now: float) -> None:
        while _readable(self._monitor):
            packed, _ = self._monitor.recv_multipart(_NOBLOCK)
            event, fd = _MONITOR_EVENT.unpack(packed)
            generation = self._generations.get(fd, 0)
            if event == _ACCEPTED:
                self._generations[fd] = generation + 1
            else:
                self.engine.connection_closed((fd, generation), now=now)

    def _send_reply(self, message: Sequence[bytes]) -> None:
        try:
            _send(self._router, message)
        except zmq.ZMQError as error:
            # The peer has gone, or does not read: it asks again if it lives.
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
        if hasattr(self, "_monitor"):
            self._router.disable_monitor()
            self._monitor.close(linger=0)
        for each in (getattr(self, "_router", None), getattr(self, "_xpub", None)):
            if each is not None:
                each.close(linger=_FLUSH_MS)
        self._context.term()
        os.close(self._wake_reader)
        os.close(self._wake_writer)
        self.journal.close()


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


def _descriptor(frames_of_message: Sequence[zmq.Frame]) -> int | None:
    """Return what a message came in on; old versions of ZMTP do not say."""
    try:
        return int(frames_of_message[0].get(zmq.SRCFD)) if frames_of_message else None
    except zmq.ZMQError:
        return None
