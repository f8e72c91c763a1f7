"""The two sockets of a client, made the same way for every shell.

With keys both prove whose they are, and talk to nobody but the broker whose key is pinned for the
address that is dialled. ZeroMQ gives a connection up for good when its handshake is refused, and
says why only to a monitor. So a client with keys has one until it is welcomed; one that is not
welcomed soon dials again, on a socket with a monitor (`redial`), and again after each refusal:
whoever is admitted late gets in.
"""

from __future__ import annotations

import os
import secrets
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import zmq

from ezgraph.client.core import Handshake
from ezgraph.client.greeting import Greeting
from ezgraph.errors import KeyFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.config import Address, ClientKeys

# ZeroMQ's constants as plain integers: its enums cost more than the calls they are given to.
NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE)
_RCVMORE = int(zmq.RCVMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)

_contexts: dict[int, zmq.Context[zmq.Socket[bytes]]] = {}
_FLUSH_MS = 200
_RECONNECT_MS = 50
_RECONNECT_MAX_MS = 5_000
_CONNECT_TIMEOUT_MS = 500
_HANDSHAKE_MS = 2_000
_LARGEST_BYTES = 256 << 20  # some times what a broker takes in one command: a range has many
_BEAT_MS = 2_000
_BEAT_TIMEOUT_MS = 10_000
_FAILURES = {
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): Handshake.REFUSED,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): Handshake.MISMATCHED,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): Handshake.BROKEN_OFF,
}
_MONITOR_EVENT = struct.Struct("=Hi")


def shared_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return this process's ZeroMQ context for clients; a forked child gets its own."""
    context = _contexts.get(os.getpid())
    if context is None or context.closed:
        context = _contexts[os.getpid()] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 8192)
    return context


def readable(sock: zmq.Socket[bytes]) -> bool:
    """Return whether a message waits. Looking also takes the edge off the file descriptor."""
    return bool(int(sock.get(_EVENTS)) & _POLLIN)


def receive(sock: zmq.Socket[bytes], flags: int = 0) -> list[bytes]:
    """Return the frames of the next message.

    Raises:
        zmq.Again: there is none (now, or by the socket's RCVTIMEO).
    """
    parts = [sock.recv(flags)]
    while sock.get(_RCVMORE):
        parts.append(sock.recv(flags))
    return parts


class ClientSockets:
    """A DEALER for commands and a SUB for events; the `Transport` of an engine.

    ``dealer_touched`` and ``sub_touched`` say that the socket was used in a way that may have
    taken the edge off its descriptor: who watches the descriptors looks again, and resets them.
    """

    def __init__(
        self, ttl_s: float, *, has_keepalive: bool, keys: ClientKeys | None = None
    ) -> None:
        """``has_keepalive``: somebody else finds out when the DEALER's connection is dead."""
        self._ttl_s = ttl_s
        self._keys = keys
        self._monitor: zmq.Socket[bytes] | None = None
        self._greeting: Greeting | None = None
        self._has_keepalive = has_keepalive
        self.dealer = self._new_dealer()
        self.sub = shared_context().socket(zmq.SUB)
        _configure(self.sub, ttl_s)
        _beat(self.sub)
        self.sub.set(zmq.HEARTBEAT_TTL, _BEAT_TIMEOUT_MS)
        self.sub.set(zmq.SNDHWM, 0)  # else subscriptions beyond 1,000 are dropped silently
        self.sub.set(zmq.RCVHWM, 100_000)
        self.dealer_changed = False
        self.dealer_touched = False
        self.sub_touched = False
        self._dialled: Address | None = None
        self._events_from: Address | None = None

    def dial(self, address: Address) -> None:
        """Send commands to ``address``, on a new socket if another was dialled before."""
        if self._dialled is not None and self._dialled != address:
            self._replace_dealer()
        self._dialled = address
        if self._keys is not None:
            self._watch_handshake()
            secure(self.dealer, self._keys, address)
        connect(self.dealer, address)

    def _watch_handshake(self) -> None:
        if self._monitor is None:
            self._monitor = self.dealer.get_monitor_socket(sum(_FAILURES))

    def _replace_dealer(self) -> None:
        self._close_monitor()
        self.dealer.close(linger=0)
        self.dealer = self._new_dealer()
        self.dealer_changed = True

    def redial(self) -> None:
        """Make the connection for commands anew, and watch how its handshake goes."""
        if self._dialled is not None:
            address, self._dialled = self._dialled, None
            self._replace_dealer()
            self._watch_handshake()
            self.dial(address)

    def handshake_failure(self) -> Handshake | None:
        """Return how the last handshake failed since this was asked, if it was watched."""
        found = None
        while self._monitor is not None and readable(self._monitor):
            event, _ = _MONITOR_EVENT.unpack(receive(self._monitor, NOBLOCK)[0])
            found = _FAILURES.get(event, found)
        if found is Handshake.BROKEN_OFF and self._greeting is None and self._dialled is not None:
            with suppress(OSError):
                self._greeting = Greeting(self._dialled)
        return Handshake.MISMATCHED if self._is_mismatched() else found

    def _is_mismatched(self) -> bool:
        """Return whether a greeting that was looked at is for others than this client."""
        spoken = self._greeting.mechanism() if self._greeting is not None else None
        if spoken is None:
            return False
        self._stop_looking()
        return spoken != ("NULL" if self._keys is None else "CURVE")

    def _stop_looking(self) -> None:
        if self._greeting is not None:
            self._greeting.close()
            self._greeting = None

    def stop_watching(self) -> None:
        """Watch handshakes no longer: this client is in, or about to leave."""
        self._stop_looking()
        self._close_monitor()

    def _close_monitor(self) -> None:
        if self._monitor is not None:
            self.dealer.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None

    def reconnect(self) -> None:
        """Make both connections anew: what they were given last may never have left."""
        if self._dialled is not None:
            address, self._dialled = self._dialled, None
            self._replace_dealer()
            self.dial(address)
        if self._events_from is not None:
            self.listen(self._events_from)

    def _new_dealer(self) -> zmq.Socket[bytes]:
        dealer = new_dealer(self._ttl_s)
        if not self._has_keepalive:
            _beat(dealer)
        return dealer

    def send(self, message: Sequence[bytes]) -> None:
        """Send requests without waiting; a full queue drops them, and they are repeated."""
        self.dealer_touched = True
        try:
            for frame in message[:-1]:
                self.dealer.send(frame, NOBLOCK | _SNDMORE)
            self.dealer.send(message[-1], NOBLOCK)
        except zmq.Again:
            return

    def listen(self, address: Address) -> None:
        """Receive events from ``address``."""
        if self._events_from is not None:
            self.sub.disconnect(self._events_from.endpoint)
        self._events_from = address
        self.sub_touched = True
        secure(self.sub, self._keys, self._dialled or address)
        connect(self.sub, address)

    def subscribe(self, topic: bytes) -> None:
        """Receive what is published under ``topic``."""
        self.sub_touched = True
        self.sub.subscribe(topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Receive it no longer."""
        self.sub_touched = True
        self.sub.unsubscribe(topic)

    def close(self, *, flush: bool) -> None:
        """Close both; ``flush``: what was sent still leaves, for up to 200 ms, in the background.

        A HELLO that nobody answered must not: a broker that starts just then would take us in.
        """
        self.stop_watching()
        self.dealer.close(linger=_FLUSH_MS if flush else 0)
        self.sub.close(linger=0)


def new_dealer(ttl_s: float) -> zmq.Socket[bytes]:
    """Return a socket for commands; who has a TTL of ``ttl_s`` must not come back later."""
    dealer = shared_context().socket(zmq.DEALER)
    _configure(dealer, ttl_s)
    return dealer


def secure(sock: zmq.Socket[bytes], keys: ClientKeys | None, broker: Address) -> None:
    """Have the next connection prove whose it is, and that the broker has the key pinned for it.

    Raises:
        KeyFileError: no key is pinned for the broker's address.
    """
    if keys is None:
        return
    pinned = keys.brokers.get(broker)
    if pinned is None:
        raise KeyFileError(
            f"key {keys.name!r} is to be shown at {broker}, and no broker's key is pinned for that "
            f"address; get it there with `ezgraph keys export`, and pin it here with "
            f"`ezgraph keys pin {broker} LINE`"
        )
    sock.set(zmq.CURVE_PUBLICKEY, keys.public)
    sock.set(zmq.CURVE_SECRETKEY, keys.secret)
    sock.set(zmq.CURVE_SERVERKEY, pinned)


def connect(sock: zmq.Socket[bytes], address: Address) -> None:
    """Connect to an address of either kind."""
    sock.set(zmq.IPV6, int(":" in address.host))
    sock.connect(address.endpoint)


def _configure(sock: zmq.Socket[bytes], ttl_s: float) -> None:
    """Make a broken connection again, soon enough for a lease of ``ttl_s``.

    ZeroMQ waits with a doubled pause after each try, without jitter: so every socket has pauses
    of its own.
    """
    longest_ms = min(_RECONNECT_MAX_MS, max(2 * _RECONNECT_MS, int(ttl_s * 1000 / 6)))
    first_ms = secrets.randbelow(_RECONNECT_MS) + _RECONNECT_MS
    sock.set(zmq.LINGER, 0)
    sock.set(zmq.RECONNECT_IVL, min(first_ms, longest_ms))
    sock.set(zmq.RECONNECT_IVL_MAX, longest_ms - secrets.randbelow(max(1, longest_ms // 4)))
    sock.set(zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS)
    sock.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    sock.set(zmq.MAXMSGSIZE, _LARGEST_BYTES)


def _beat(sock: zmq.Socket[bytes]) -> None:
    """Give up a connection that is dead without a sign, as when a cable is pulled.

    The broker gives up the subscriber's side too (`HEARTBEAT_TTL`): what waits for it there takes
    room, and it loses nothing by it. The DEALER of a lease has no such beats: the keep-alive
    watches over it, and a command of many megabytes on a slow line would be taken for silence.
    """
    sock.set(zmq.HEARTBEAT_IVL, _BEAT_MS)
    sock.set(zmq.HEARTBEAT_TIMEOUT, _BEAT_TIMEOUT_MS)
