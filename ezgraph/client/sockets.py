"""The two sockets of a client, made the same way for every shell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.config import Address

# ZeroMQ's constants as plain integers: its enums cost more than the calls they are given to.
NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE)
_RCVMORE = int(zmq.RCVMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)

_contexts: dict[int, zmq.Context[zmq.Socket[bytes]]] = {}
_FLUSH_MS = 200
RECONNECT_MS = 20
RECONNECT_MAX_MS = 500


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

    def __init__(self) -> None:
        self.dealer = self._new_dealer()
        self.sub = shared_context().socket(zmq.SUB)
        _configure(self.sub)
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
            self.dealer.close(linger=0)
            self.dealer = self._new_dealer()
            self.dealer_changed = True
        self._dialled = address
        self.dealer.set(zmq.IPV6, int(":" in address.host))
        self.dealer.connect(address.endpoint)

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
        self.sub.set(zmq.IPV6, int(":" in address.host))
        self.sub.connect(address.endpoint)

    def subscribe(self, topic: bytes) -> None:
        """Receive what is published under ``topic``."""
        self.sub_touched = True
        self.sub.subscribe(topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Receive it no longer."""
        self.sub_touched = True
        self.sub.unsubscribe(topic)

    def close(self) -> None:
        """Close both; what was sent is flushed for up to 200 ms in the background."""
        self.dealer.close(linger=_FLUSH_MS)
        self.sub.close(linger=0)

    @staticmethod
    def _new_dealer() -> zmq.Socket[bytes]:
        dealer = shared_context().socket(zmq.DEALER)
        _configure(dealer)
        return dealer


def _configure(sock: zmq.Socket[bytes]) -> None:
    sock.set(zmq.LINGER, 0)
    sock.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    sock.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
