"""The thread that renews a lease, so that a busy main loop does not cost a user the session.

It has a DEALER of its own, bound to the lease by its token, and sends a heartbeat every third of
the TTL. It watches its own connection: when that comes back after a cut it resumes at once, within
the grace that the broker gives a client whose connections have closed. Only a stopped process, or
C code that holds the GIL for a whole TTL, keeps it from renewing. Each heartbeat says how long ago
the program's main loop last moved.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import zmq

from ezgraph.client.sockets import (
    NOBLOCK,
    RECONNECT_MAX_MS,
    RECONNECT_MS,
    readable,
    receive,
    shared_context,
)
from ezgraph.clock import SystemClock
from ezgraph.errors import MalformedMessageError
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Heartbeat, Resume
from ezgraph.protocol.replies import Beat, Refusal, Welcome
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.config import Address

_RESUME_RETRY_S = 0.25


class KeepAlive(threading.Thread):
    """Renews one lease until `stop`."""

    def __init__(
        self, address: Address, welcome: Welcome, main_loop_age_s: Callable[[], float]
    ) -> None:
        super().__init__(name=f"ezgraph-keepalive-{welcome.client[:8]}", daemon=True)
        self.lost: Refusal | None = None
        self._address = address
        self._welcome = welcome
        self._clock = SystemClock()
        self._main_loop_age_s = main_loop_age_s
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        self._bound = False

    def __repr__(self) -> str:
        state = "lost" if self.lost else "bound" if self._bound else "resuming"
        return f"<KeepAlive {self._welcome.client} {state}>"

    def stop(self) -> None:
        """End the thread; returns when it has ended. May be called once."""
        self._stopping.set()
        os.write(self._wake_writer, b"x")
        self.join()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def run(self) -> None:
        """Resume the lease on an own connection, then renew it."""
        dealer = shared_context().socket(zmq.DEALER)
        monitor = dealer.get_monitor_socket(zmq.EVENT_CONNECTED)
        try:
            dealer.set(zmq.LINGER, 0)
            dealer.set(zmq.RECONNECT_IVL, RECONNECT_MS)
            dealer.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
            dealer.set(zmq.IPV6, int(":" in self._address.host))
            dealer.connect(self._address.endpoint)
            self._renew(dealer, monitor)
        finally:
            dealer.disable_monitor()
            monitor.close(linger=0)
            dealer.close()

    def _renew(self, dealer: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        for each in (dealer, monitor, self._wake_reader):
            poller.register(each, zmq.POLLIN)
        due = 0.0
        while not self._stopping.is_set() and self.lost is None:
            now = self._clock.monotonic()
            if now >= due:
                self._send(dealer)
                due = now + (self._welcome.ttl_s / 3 if self._bound else _RESUME_RETRY_S)
            poller.poll(max(0, int((due - now) * 1000) + 1))
            was_bound = self._bound
            if self._reconnected(monitor):
                self._bound = False
            self._take_replies(dealer)
            if self._bound is not was_bound:
                due = 0.0

    @staticmethod
    def _reconnected(monitor: zmq.Socket[bytes]) -> bool:
        seen = False
        while readable(monitor):
            receive(monitor, NOBLOCK)
            seen = True
        return seen

    def _send(self, dealer: zmq.Socket[bytes]) -> None:
        command: Command = Heartbeat(self._main_loop_age_s())
        if not self._bound:
            welcome = self._welcome
            command = Resume(
                PROTOCOL_VERSION,
                welcome.client,
                welcome.token,
                welcome.cluster_id,
                welcome.epoch,
                0,
            )
        try:
            dealer.send(frames.request_frame(0, 0, codec.encode(command)), NOBLOCK)
        except zmq.Again:
            return

    def _take_replies(self, dealer: zmq.Socket[bytes]) -> None:
        while readable(dealer):
            try:
                _, reply = frames.read_reply(dealer.recv(NOBLOCK))
            except MalformedMessageError:
                continue
            if isinstance(reply, Welcome | Beat):
                self._bound = True
            elif isinstance(reply, Refusal):
                self._bound = False
                if reply.code in ("session_expired", "wrong_cluster", "diverged"):
                    self.lost = reply
