"""The thread that renews a lease, so that a busy main loop does not cost a user the session.

It has a DEALER of its own, bound to the lease by its token, and sends a heartbeat every third of
the TTL. Only a stopped process, or C code that holds the GIL for a whole TTL, keeps it from
renewing. Each heartbeat says how long ago the program's main loop last moved.

It also finds out first when the broker cannot be heard:

* Its connection has broken, and is there again: ZeroMQ's monitor says so. It resumes at once,
  within the grace that the broker gives a client whose connections have closed.
* A beat is not answered, and nothing has broken: a cable was pulled, or the broker is elsewhere.
  It then knocks on new connections, at each address in turn, until one of them is welcomed or the
  old one answers after all. The old one is not closed before: its end, arriving late, would have
  the broker take the program for crashed. When a new one is welcomed, the session is told where
  (`found`), because its own connections are as dead as the old one was.

When its connection is there again, and what its key may read is not what it was, the session is
told so too (`found`): its events come from elsewhere now, and it would not hear that by itself.

The broker may not admit its key any more (`ezgraph.client.sockets`). When it was refused for a
whole TTL, the lease is over whatever comes then, and the session is told so.

A lease that the session lost as *diverged* (a backup was restored) is renewed all the same, so that
`redeclare()` can take over what the backup still knows of it.

`follow` says that the session has found the broker at another address by itself.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from typing import TYPE_CHECKING

import zmq

from ezgraph.client.core import OVER
from ezgraph.client.sockets import NOBLOCK, connect, new_dealer, readable, receive, secure
from ezgraph.clock import SystemClock
from ezgraph.errors import MalformedMessageError, NotAdmittedError
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Heartbeat, Resume
from ezgraph.protocol.replies import Beat, Refusal, Reply, Welcome
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ezgraph.clock import Clock
    from ezgraph.config import Address, ClientKeys
    from ezgraph.protocol.commands import Hello

log = logging.getLogger(__name__)

_RESUME_RETRY_S = 0.25
_KNOCK_S = 0.75  # more than a connection may take to be made
_LONGEST_WAIT_S = 1.0
_SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_REFUSED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
_MONITOR_EVENT = struct.Struct("=Hi")
_UNADMITTED = (
    "the broker does not admit this key any more, for so long that the lease is over, and what it "
    "owned is gone; ask whoever keeps the broker's allow-list"
)


class KeepAlive(threading.Thread):
    """Renews one lease until `stop`.

    ``lost`` is the refusal that ended the lease. ``found`` is the address at which the broker was
    found after a silence, or gave another welcome; who reads it sets it to None.
    ``is_main_unbound``: the session is to say RESUME on its own connection; who does so sets it
    back. ``on_news`` is called, in this thread, when one of them is set.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        address: Address,
        hello: Hello,
        welcome: Welcome,
        main_loop_age_s: Callable[[], float],
        on_news: Callable[[], None],
        *,
        keys: ClientKeys | None = None,
    ) -> None:
        super().__init__(name=f"ezgraph-keepalive-{welcome.client[:8]}", daemon=True)
        self.lost: Refusal | None = None
        self.found: Address | None = None
        self.is_main_unbound = False
        self._addresses = addresses
        self._wanted = address
        self._nonce = hello.nonce
        self._welcome = welcome
        self._clock: Clock = SystemClock()
        self._main_loop_age_s = main_loop_age_s
        self._on_news = on_news
        self._keys = keys
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        self._line: _Line | None = None
        self._knock: _Line | None = None
        self._unadmitted_since: float | None = None

    def __repr__(self) -> str:
        state = "lost" if self.lost else "knocking" if self._knock else "renewing"
        return f"<KeepAlive {self._welcome.client} at {self._wanted} {state}>"

    def stop(self) -> None:
        """End the thread; returns when it has ended. May be called once."""
        self._stopping.set()
        os.write(self._wake_writer, b"x")
        self.join()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def follow(self, address: Address) -> None:
        """Renew at ``address`` from now on, where the session has found the broker."""
        if address != self._wanted:
            self._wanted = address
            os.write(self._wake_writer, b"x")

    def run(self) -> None:
        """Resume the lease on an own connection, then renew it."""
        try:
            while not self._stopping.is_set() and self.lost is None:
                self._go_where_wanted()
                self._act(self._clock.monotonic())
                self._wait(self._clock.monotonic())
                for line in list(self._lines()):
                    for reply in line.replies():
                        self._take(line, reply)
        finally:
            for line in self._lines():
                line.close()

    def _lines(self) -> Iterator[_Line]:
        yield from [line for line in (self._line, self._knock) if line is not None]

    def _go_where_wanted(self) -> None:
        if self._line is None or self._line.address != self._wanted:
            self._hang_up()
            self._line = self._new_line(self._wanted, self._clock.monotonic())

    def _hang_up(self) -> None:
        for line in self._lines():
            line.close()
        self._line = self._knock = None

    def _act(self, now: float) -> None:
        """Send what is due, and knock elsewhere when the line is silent."""
        for line in self._lines():
            line.look()
            if line.reconnected:
                line.bound, line.due, line.reconnected = False, now, False
            if line.is_refused and self._unadmitted_since is None:
                self._unadmitted_since = now
            if now >= line.due:
                line.send(self._command(line), now)
                line.due = now + (self._welcome.ttl_s / 3 if line.bound else _RESUME_RETRY_S)
        since = self._unadmitted_since
        if since is not None and now - since > self._welcome.ttl_s:
            self._lose(Refusal(NotAdmittedError.code, _UNADMITTED))
            return
        renewed, knock = self._line, self._knock
        if renewed is None or not renewed.is_silent(now, self._patience_s()):
            return
        if knock is None:
            self._knock_at(renewed.address, now)
        elif now - knock.opened >= _KNOCK_S:
            knock.close()
            at = self._addresses.index(knock.address)
            self._knock_at(self._addresses[(at + 1) % len(self._addresses)], now)

    def _knock_at(self, address: Address, now: float) -> None:
        self._knock = self._new_line(address, now)

    def _new_line(self, address: Address, now: float) -> _Line | None:
        """Return a new connection; None: the system has no more to give just now."""
        try:
            return _Line(address, self._welcome.ttl_s, now, self._keys)
        except zmq.ZMQError as error:
            log.warning("the keep-alive cannot dial address=%s error=%s", address, error)
            return None

    def _patience_s(self) -> float:
        """Return how long an answer may take before the line is taken for dead."""
        return min(_LONGEST_WAIT_S, max(2 * _RESUME_RETRY_S, self._welcome.ttl_s / 6))

    def _wait(self, now: float) -> None:
        poller = zmq.Poller()
        poller.register(self._wake_reader, zmq.POLLIN)
        due = now + (self._welcome.ttl_s / 3 if self._line is not None else _RESUME_RETRY_S)
        for line in self._lines():
            due = min(due, line.due)
            if line.asked_at is not None:
                due = min(due, max(now, line.asked_at) + _RESUME_RETRY_S)
            poller.register(line.dealer, zmq.POLLIN)
            poller.register(line.monitor, zmq.POLLIN)
        ready = dict(poller.poll(max(0, int((due - now) * 1000)) + 1))
        if self._wake_reader in ready:
            os.read(self._wake_reader, 1)

    def _command(self, line: _Line) -> Command:
        if line.bound:
            return Heartbeat(self._main_loop_age_s())
        welcome = self._welcome
        return Resume(
            PROTOCOL_VERSION,
            welcome.client,
            welcome.token,
            welcome.cluster_id,
            welcome.epoch,
            0,
            self._nonce,
        )

    def _take(self, line: _Line, reply: Reply) -> None:
        if isinstance(reply, Refusal):
            self._refused(line, reply)
        elif isinstance(reply, Welcome | Beat) and line in self._lines():
            self._answered(line)
            if isinstance(reply, Welcome):
                self._compare(line, reply)
            elif not reply.is_main_bound:
                self.is_main_unbound = True
                self._on_news()

    def _compare(self, line: _Line, welcome: Welcome) -> None:
        """What this key may read has changed, or moved: the session is to listen there."""
        before, self._welcome = self._welcome, welcome
        if (before.events_port, before.reads) != (welcome.events_port, welcome.reads):
            self.found = line.address
            self._on_news()

    def _answered(self, line: _Line) -> None:
        self._unadmitted_since = None
        if not line.bound:
            line.bound, line.due = True, 0.0
        line.asked_at = None
        if line is self._knock and self._line is not None:
            self._line.close()
            self._line, self._knock = line, None
            self._wanted = self.found = line.address
            self._on_news()
        elif self._knock is not None:
            self._knock.close()
            self._knock = None

    def _refused(self, line: _Line, refusal: Refusal) -> None:
        """An end of the lease is final; another cluster only where there is one address."""
        if line.bound:
            line.bound, line.due = False, 0.0
        elsewhere = refusal.code == "wrong_cluster" and len(self._addresses) > 1
        if refusal.code in OVER or (refusal.code == "wrong_cluster" and not elsewhere):
            self._lose(refusal)

    def _lose(self, refusal: Refusal) -> None:
        self.lost = refusal
        self._on_news()


class _Line:
    """One connection of the keep-alive. ``asked_at``: since when an answer is awaited."""

    def __init__(
        self, address: Address, ttl_s: float, now: float, keys: ClientKeys | None
    ) -> None:
        self.address = address
        self.opened = now
        self.bound = False
        self.due = now
        self.asked_at: float | None = None
        self.reconnected = False
        self.is_refused = False
        self.dealer = new_dealer(ttl_s)
        try:
            self.dealer.set(zmq.IMMEDIATE, 1)  # what waits for a connection would come with it
            self.monitor = self.dealer.get_monitor_socket(_SUCCEEDED | _REFUSED)
            secure(self.dealer, keys, address)
            connect(self.dealer, address)
        except zmq.ZMQError:
            self.dealer.close(linger=0)
            raise

    def is_silent(self, now: float, patience_s: float) -> bool:
        """Return whether an answer is overdue."""
        return self.asked_at is not None and now - self.asked_at >= patience_s

    def look(self) -> None:
        """See whether the connection was made (again), or refused."""
        while readable(self.monitor):
            event, _ = _MONITOR_EVENT.unpack(receive(self.monitor, NOBLOCK)[0])
            if event == _SUCCEEDED:
                self.reconnected, self.is_refused = True, False
            else:
                self.is_refused = True

    def send(self, command: Command, now: float) -> None:
        """Send a command, or drop it where there is no connection."""
        if self.asked_at is None:
            self.asked_at = now
        try:
            self.dealer.send(frames.request_frame(0, 0, codec.encode(command)), NOBLOCK)
        except zmq.Again:
            return

    def replies(self) -> list[Reply]:
        """Return what has arrived; nothing once it was closed."""
        found: list[Reply] = []
        while not self.dealer.closed and readable(self.dealer):
            try:
                found.append(frames.read_reply(self.dealer.recv(NOBLOCK))[1])
            except MalformedMessageError:
                continue
        return found

    def close(self) -> None:
        """Close the connection."""
        self.dealer.disable_monitor()
        self.monitor.close(linger=0)
        self.dealer.close(linger=0)
