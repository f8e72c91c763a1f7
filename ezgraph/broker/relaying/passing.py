"""The relay's thread: pairs of a reader and a host, and what passes between them."""

from __future__ import annotations

import logging
import os
import struct
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq

from ezgraph.backlog import received_bytes, resident_bytes, wire_bytes
from ezgraph.broker.descriptors import Descriptors
from ezgraph.clock import SystemClock
from ezgraph.config import Address, parse_address
from ezgraph.errors import MalformedMessageError
from ezgraph.keys.curve import dial_with
from ezgraph.unsent import Unsent
from ezgraph.wire.relaying import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, read_relay_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.broker.connections import Descriptor
    from ezgraph.broker.gate import Gate
    from ezgraph.broker.relaying.resolving import Resolver

    Socket = zmq.Socket[bytes]

log = logging.getLogger(__name__)

_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_SRCFD = int(zmq.SRCFD)
_CONNECTED = int(zmq.EVENT_CONNECTED)
_UP = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_DOWN = (
    int(zmq.EVENT_DISCONNECTED)
    | int(zmq.EVENT_CLOSED)
    | int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    | int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
    | int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
)
_MONITOR_EVENT = struct.Struct("=Hi")
_BATCH = 64
_IDLE_MS = 250
_BLOCKED_MS = 1
_STUCK_S, _STUCK_MS = 0.2, 20
_SMALL_BYTES = 16 << 10
"""Below that pyzmq copies, and copying is the quicker way."""
_AHEAD = 2
"""How many answers ZeroMQ takes from a host before they are wanted."""
_MEMORY_S = 0.1


class ServedAt(NamedTuple):
    """Where a host is: its endpoints, tried in turn, and its key if it has one."""

    endpoints: Sequence[str]
    public_key: bytes | None


class RelayLimits(NamedTuple):
    """Bounds of a relay. Sizes in bytes, times in seconds.

    Attributes:
        pairs: readers that are served at a time; one more takes the place of one that has been
            idle for ``idle_s``, if there is such a one.
        pairs_per_key: of those, readers who show the same key.
        connections: of any kind, at a time.
        unsent_bytes: on their way to one reader; ``all_unsent_bytes`` is shared by all. A message
            is always let through to a reader that has none on its way.
        asked_bytes: on their way to one host from one reader.
        connect_s: how long a host may take to be reached, and then to shake hands.
        dead_after_s: how long a reader may take nothing of what is on its way to it, and a host
            nothing of what it is asked.
        grown_bytes: by how much this process has grown when it is looked for messages without end.
    """

    pairs: int = 256
    pairs_per_key: int = 64
    connections: int = 1_024
    unsent_bytes: int = 128 << 20
    all_unsent_bytes: int = 1 << 30
    asked_bytes: int = 8 << 20
    connect_s: float = 2.0
    idle_s: float = 60.0
    dead_after_s: float = 60.0
    grown_bytes: int = 64 << 20


def keep_alive(sock: Socket, dead_after_s: float) -> None:
    """Have the system find out where the other host has gone without a word, or reads no more."""
    sock.set(zmq.TCP_MAXRT, int(dead_after_s * 1000))
    sock.set(zmq.TCP_KEEPALIVE, 1)
    sock.set(zmq.TCP_KEEPALIVE_IDLE, 10)
    sock.set(zmq.TCP_KEEPALIVE_INTVL, 5)
    sock.set(zmq.TCP_KEEPALIVE_CNT, 3)


class _Pair:
    """A reader and its connection to a host. Frames pass as they are."""

    def __init__(
        self,
        reader: bytes,
        descriptor: Descriptor,
        whom: tuple[str, str],
        dealer: Socket,
        now: float,
        *,
        key: str | None,
        is_secured: bool,
    ) -> None:
        self.reader = reader
        self.descriptor = descriptor
        self.whom = whom
        self.dealer = dealer
        try:
            self.monitor = dealer.get_monitor_socket(_UP | _CONNECTED | _DOWN)
        except zmq.ZMQError:
            dealer.close(linger=0)
            raise
        self.to_reader, self.to_host = Unsent(), Unsent()
        self.held: list[zmq.Frame] | None = None
        """An answer that ZeroMQ did not take: the reader has so many unread."""
        self.key = key
        self.is_secured = is_secured
        self.is_polled = False
        self.is_up = False
        self.used_at = now
        self.fd: int | None = None
        self.read_bytes = 0

    def __repr__(self) -> str:
        state = "up" if self.is_up else "connecting"
        return f"<pair to {self.whom!r} {state} unsent={self.to_reader.size_bytes}>"

    def is_lost(self) -> bool:
        """Take what happened to the connection; return whether it has ended."""
        lost = False
        while int(self.monitor.get(_EVENTS)) & _POLLIN:
            event, value = _MONITOR_EVENT.unpack(self.monitor.recv_multipart(_NOBLOCK)[0])
            if event == _CONNECTED:
                self.fd, self.read_bytes = value, 0
            elif event == _UP:
                self.is_up = True
            else:
                lost = True
        return lost

    def close(self) -> None:
        """End the connection to the host."""
        self.dealer.disable_monitor()
        self.monitor.close(linger=0)
        self.dealer.close(linger=0)


class Passing:
    """The thread. Everything but `stop` happens in it."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        front: Socket,
        gate: Gate | None,
        find: Callable[[str, str], ServedAt | None],
        limits: RelayLimits,
        resolver: Resolver,
    ) -> None:
        self._resolver = resolver
        self._context = context
        self._front = front
        self._gate = gate
        self._find = find
        self._limits = limits
        self._clock = SystemClock()
        self._peers = Descriptors(front)
        self._pairs: dict[bytes, _Pair] = {}
        self._polled: dict[Socket, _Pair] = {}
        self._tries: dict[tuple[str, str], int] = {}
        self._memory_at, self._resident = 0.0, resident_bytes()
        self._wake_reader, self._wake_writer = os.pipe()
        self._is_stopping = False
        self._poller = zmq.Poller()
        for each in (front, self._peers.monitor, self._wake_reader):
            self._poller.register(each, zmq.POLLIN)
        if gate is not None:
            self._poller.register(gate.handler, zmq.POLLIN)
        self._thread = threading.Thread(target=self._run, name="ezgraph-relay", daemon=True)

    def __repr__(self) -> str:
        return f"pairs={len(self._pairs)} connections={len(self._peers)}"

    @property
    def is_running(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._is_stopping = True
        os.write(self._wake_writer, b"x")
        self._thread.join()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._run_pass()
        except Exception:
            log.exception("the relay fails by an error of its own")
        finally:
            self._close()

    def _close(self) -> None:
        for pair in list(self._pairs.values()):
            self._end(pair)
        self._peers.close()
        if self._gate is not None:
            self._gate.close()
        self._context.destroy(linger=0)

    def _run_pass(self) -> None:
        ready = dict(self._poller.poll(self._patience_ms()))
        now = self._clock.monotonic()
        if self._gate is not None:
            self._mind_the_gate(self._gate, now, is_asked=self._gate.handler in ready)
        if self._front in ready or self._peers.monitor in ready:
            self._take_batch(now)
        for sock in ready:
            if (pair := self._polled.get(sock)) is not None:
                self._serve(pair, now)
        self._go_on()
        if now >= self._memory_at:
            self._look_at_memory(now)

    def _patience_ms(self) -> int:
        """Return how long to wait; who does not take anything for long is looked at less often."""
        stuck = [pair.used_at for pair in self._pairs.values() if not pair.is_polled]
        if not stuck:
            return _IDLE_MS
        is_new = self._clock.monotonic() - max(stuck) < _STUCK_S
        return _BLOCKED_MS if is_new else _STUCK_MS

    # --- who may ---

    def _mind_the_gate(self, gate: Gate, now: float, *, is_asked: bool) -> None:
        """Admit or not who waits, and hang up on those who are admitted no longer."""
        if gate.look(now) is not None:
            known = self._peers.keys()
            for fd in [fd for fd, key in known if key and gate.access.identity(key) is None]:
                self._peers.cut_off(fd)
        if is_asked:
            gate.answer()

    # --- readers ---

    def _take_batch(self, now: float) -> None:
        """Read what readers say, obey the monitor, and heed what was read.

        So what the monitor has said by then includes the acceptance of every connection in the
        batch (as in `ezgraph.broker.service`).
        """
        batch: list[tuple[bytes, zmq.Frame, bool]] = []
        while len(batch) < _BATCH and int(self._front.get(_EVENTS)) & _POLLIN:
            reader = self._front.recv(_NOBLOCK)
            frame = self._front.recv(_NOBLOCK, copy=False)
            sizes, last = [len(frame)], frame
            while last.more:
                last = self._front.recv(_NOBLOCK, copy=False)
                sizes.append(len(last))
            batch.append((reader, frame, last is frame))
            if (fd := _descriptor_of(frame)) is not None:
                is_secured = self._gate is not None
                self._peers.has_read(fd, wire_bytes(sizes, is_secured=is_secured))
        if len(batch) < _BATCH:
            self._peers.drained()
        self._obey_monitor()
        for reader, frame, is_single in batch:
            self._take(reader, frame, now, is_single=is_single)

    def _obey_monitor(self) -> None:
        for descriptor, was_accepted in self._peers.obey_monitor():
            if was_accepted:
                if len(self._peers) > self._limits.connections:
                    self._peers.cut_off(self._peers.least_known())
                continue
            for pair in [each for each in self._pairs.values() if each.descriptor == descriptor]:
                self._end(pair)

    def _take(self, reader: bytes, frame: zmq.Frame, now: float, *, is_single: bool) -> None:
        fd = _descriptor_of(frame)
        if fd is None or fd not in self._peers:
            return  # it has gone
        pair = self._pairs.get(reader)
        try:
            key = None if self._gate is None else self._admitted_key(self._gate, frame, fd)
            _refuse_unless(is_single, "a message of several frames")
            if pair is None:
                self._pair_up(reader, fd, frame.bytes, now, key=key)
            else:
                self._ask(pair, frame, now)
        except _Refused as refused:
            log.info("relay hangs up on a reader: %s", refused)
            self._hang_up(pair, fd)

    def _admitted_key(self, gate: Gate, frame: zmq.Frame, fd: int) -> str:
        key = str(frame.get("User-Id"))
        self._peers.seen(fd, key)
        is_admitted = gate.access.identity(key) is not None
        _refuse_unless(is_admitted, "a key that is admitted no longer")
        return key

    def _pair_up(
        self, reader: bytes, fd: int, said: bytes, now: float, *, key: str | None
    ) -> None:
        whom = _whom(said)
        found = self._find(*whom)
        if found is None or not found.endpoints:
            raise _Refused(f"nobody serves {whom[0]!r} as {whom[1]!r}")
        address = self._address_of(whom, found.endpoints, now)
        self._refuse_crowd(key, now)
        descriptor = (fd, self._peers.generations.get(fd, 0))
        is_secured = found.public_key is not None
        try:
            dealer = self._new_dealer(found.public_key)
            pair = _Pair(reader, descriptor, whom, dealer, now, key=key, is_secured=is_secured)
        except zmq.ZMQError as error:
            raise _Refused(f"there is no socket for it: {error}") from error
        self._pairs[reader] = pair
        self._poll(pair)
        self._polled[pair.monitor] = pair
        self._poller.register(pair.monitor, zmq.POLLIN)
        self._dial(pair, address)

    def _refuse_crowd(self, key: str | None, now: float) -> None:
        of_key = 0 if key is None else sum(each.key == key for each in self._pairs.values())
        _refuse_unless(of_key < self._limits.pairs_per_key, f"{of_key} readers with one key")
        has_room = len(self._pairs) < self._limits.pairs or self._make_room(now)
        _refuse_unless(has_room, f"{len(self._pairs)} readers, as many as there may be")

    def _address_of(
        self, whom: tuple[str, str], endpoints: Sequence[str], now: float
    ) -> Address:
        """Return where to dial a host, in digits; after a failure its next endpoint is tried."""
        host, port = parse_address(endpoints[self._tries.get(whom, 0) % len(endpoints)])
        numeric = self._resolver.address_of(host, now)
        if numeric is None:
            raise _Refused(f"the name {host!r} is unknown here, or not known yet")
        return Address(numeric, port)

    def _dial(self, pair: _Pair, address: Address) -> None:
        """Connect to a host; one that cannot be reached says so at once, to the monitor."""
        try:
            pair.dealer.set(zmq.IPV6, int(":" in address.host))
            pair.dealer.connect(address.endpoint)
        except zmq.ZMQError as error:
            self._lose(pair, f"its host cannot be dialled: {error}")

    def _make_room(self, now: float) -> bool:
        """Hang up on the reader that has been idle for longest; return whether there was one."""
        idlest = min(self._pairs.values(), key=lambda pair: pair.used_at)
        if now - idlest.used_at < self._limits.idle_s:
            return False
        self._hang_up(idlest, idlest.descriptor[0])
        return True

    def _new_dealer(self, host_key: bytes | None) -> Socket:
        """Return a socket for the connection to a host, which is made once."""
        dealer = self._context.socket(zmq.DEALER)
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.SNDHWM, 1_000)
        dealer.set(zmq.RCVHWM, _AHEAD)
        dealer.set(zmq.MAXMSGSIZE, MAX_ANSWER_BYTES)
        dealer.set(zmq.RECONNECT_IVL, -1)
        dealer.set(zmq.CONNECT_TIMEOUT, int(self._limits.connect_s * 1000))
        dealer.set(zmq.HANDSHAKE_IVL, int(self._limits.connect_s * 1000))
        keep_alive(dealer, self._limits.dead_after_s)
        if host_key is not None:
            dial_with(dealer, host_key)
        return dealer

    def _ask(self, pair: _Pair, frame: zmq.Frame, now: float) -> None:
        pair.used_at = now
        pair.to_host.settle()
        waiting = pair.to_host.size_bytes
        _refuse_unless(waiting <= self._limits.asked_bytes, f"{waiting} bytes that wait")
        try:
            _pass_on(pair.dealer, frame, pair.to_host, more=False)
        except zmq.Again:
            raise _Refused("more requests than the host takes") from None

    # --- hosts ---

    def _serve(self, pair: _Pair, now: float) -> None:
        """Pass on what a host says, as far as its reader takes it."""
        if pair.reader not in self._pairs:
            return
        self._bring(pair, now)
        if pair.reader in self._pairs and pair.is_lost():
            self._lose(pair, "its host is gone, or cannot be reached")

    def _bring(self, pair: _Pair, now: float) -> None:
        for _ in range(_BATCH):
            if not self._takes_more(pair):
                self._poll_not(pair)
                return
            if not int(pair.dealer.get(_EVENTS)) & _POLLIN:
                return
            frames = [pair.dealer.recv(_NOBLOCK, copy=False)]
            while frames[-1].more:
                frames.append(pair.dealer.recv(_NOBLOCK, copy=False))
            sizes = map(len, frames)
            pair.read_bytes += wire_bytes(sizes, is_secured=pair.is_secured)
            pair.used_at = now
            self._send(pair, frames)

    def _takes_more(self, pair: _Pair) -> bool:
        """Whether a reader takes what was sent to it before, and so gets more."""
        pair.to_reader.settle()
        if (held := pair.held) is not None:
            pair.held = None
            self._send(pair, held)
        if pair.held is not None or pair.reader not in self._pairs:
            return False
        limits = self._limits
        share = min(limits.unsent_bytes, limits.all_unsent_bytes // len(self._pairs))
        return pair.to_reader.size_bytes < share

    def _send(self, pair: _Pair, frames: list[zmq.Frame]) -> None:
        *heads, last = frames
        try:
            self._front.send(pair.reader, _NOBLOCK | _SNDMORE)
            for head in heads:
                _pass_on(self._front, head, pair.to_reader, more=True)
            _pass_on(self._front, last, pair.to_reader, more=False)
        except zmq.Again:
            pair.held = frames
        except zmq.ZMQError as error:  # the reader is gone
            log.debug("not passed on why=%s", error)
            self._end(pair)

    def _go_on(self) -> None:
        """Go on with pairs whose reader takes more by now."""
        for pair in list(self._pairs.values()):
            if not pair.is_polled and self._takes_more(pair):
                self._poll(pair)

    def _poll(self, pair: _Pair) -> None:
        pair.is_polled = True
        self._polled[pair.dealer] = pair
        self._poller.register(pair.dealer, zmq.POLLIN)

    def _poll_not(self, pair: _Pair) -> None:
        if pair.is_polled:
            pair.is_polled = False
            self._polled.pop(pair.dealer, None)
            self._poller.unregister(pair.dealer)

    # --- ends ---

    def _lose(self, pair: _Pair, why: str) -> None:
        """A host is gone: its reader learns it as if it had been connected to it."""
        log.info("relay hangs up on a reader graph=%r: %s", pair.whom[0], why)
        self._tries[pair.whom] = self._tries.get(pair.whom, 0) + 1
        if len(self._tries) > self._limits.connections:
            self._tries.clear()
        self._hang_up(pair, pair.descriptor[0])

    def _hang_up(self, pair: _Pair | None, fd: int) -> None:
        if pair is not None:
            self._end(pair)
            self._obey_monitor()
            if pair.descriptor != (fd, self._peers.generations.get(fd, 0)):
                return  # that reader has gone, and the number is another's
        self._peers.cut_off(fd)

    def _end(self, pair: _Pair) -> None:
        """Forget a pair; the host sees its reader go."""
        if self._pairs.pop(pair.reader, None) is None:
            return
        self._poll_not(pair)
        self._polled.pop(pair.monitor, None)
        self._poller.unregister(pair.monitor)
        pair.close()

    def _look_at_memory(self, now: float) -> None:
        """Hang up on whoever sends a message without end, where this process has grown by much."""
        self._memory_at = now + _MEMORY_S
        resident = resident_bytes()
        if resident < self._resident + self._limits.grown_bytes:
            self._resident = min(self._resident, resident)
            return
        self._resident = resident
        self._obey_monitor()
        for fd, unread in self._peers.unread_bytes():
            if unread > self._limits.asked_bytes + MAX_REQUEST_BYTES:
                log.warning("relay hangs up on a reader: a message that has not ended")
                self._peers.cut_off(fd)
        for pair in list(self._pairs.values()):
            unread = 0 if pair.fd is None else received_bytes(pair.fd) - pair.read_bytes
            if unread > (_AHEAD + 2) * MAX_ANSWER_BYTES:
                self._lose(pair, "its host sends a message that has not ended")


class _Refused(Exception):  # noqa: N818 - not one that leaves this module
    """Why a reader is hung up on."""


def _whom(said: bytes) -> tuple[str, str]:
    try:
        return read_relay_frame(said)
    except MalformedMessageError as error:
        raise _Refused(str(error)) from error


def _refuse_unless(is_fine: bool, why: str) -> None:  # noqa: FBT001 - a condition
    if not is_fine:
        raise _Refused(why)


def _pass_on(sock: Socket, frame: zmq.Frame, unsent: Unsent, *, more: bool) -> None:
    """Send a frame as it is; a large one is counted until it has left."""
    flags = _NOBLOCK | (_SNDMORE if more else 0)
    size = len(frame)
    if size < _SMALL_BYTES:
        sock.send(frame.bytes, flags)
        return
    tracker: Any = sock.send(frame.buffer, flags, copy=False, track=True)
    unsent.add(tracker, size)


def _descriptor_of(frame: zmq.Frame) -> int | None:
    try:
        return int(frame.get(_SRCFD))
    except zmq.ZMQError:
        return None
