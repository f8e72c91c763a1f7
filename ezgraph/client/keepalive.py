"""The thread that renews a lease, so that a busy main loop does not cost a user the session.

It has a DEALER of its own, bound to the lease by its token, and sends a heartbeat every third of
the TTL. Only a stopped process, or C code that holds the GIL for a whole TTL, keeps it from that.
Each heartbeat says how long ago the program's main loop last moved.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import zmq

from ezgraph.client.sockets import NOBLOCK, readable, shared_context
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
        self._main_loop_age_s = main_loop_age_s
        self._stopping = threading.Event()
        self._bound = False

    def __repr__(self) -> str:
        state = "lost" if self.lost else "bound" if self._bound else "resuming"
        return f"<KeepAlive {self._welcome.client} {state}>"

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Resume the lease on an own connection, then renew it."""
        with shared_context().socket(zmq.DEALER) as dealer:
            dealer.set(zmq.LINGER, 0)
            dealer.set(zmq.IPV6, int(":" in self._address.host))
            dealer.connect(self._address.endpoint)
            while not self._stopping.is_set() and self.lost is None:
                self._send(dealer)
                interval = self._welcome.ttl_s / 3
                self._stopping.wait(interval if self._bound else min(_RESUME_RETRY_S, interval))
                self._take_replies(dealer)

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
