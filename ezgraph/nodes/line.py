"""One connection to a process that serves nodes, in a thread of its own.

The thread owns the socket: callers, in any thread, hand it requests and wait for answers on a
queue of their own, so that one who waits for news of a node holds up nobody who reads another.
Requests change nothing, so they are simply sent again when the connection was lost: to the same
address, or the next one if there are several. Where nobody listens the next one is tried at once,
where nobody answers after half of ``grace_s``. Whoever's request is not answered ``grace_s`` after
the last connection that was of use was lost (half of that longer for each further address) gets
`NodeHostGoneError`. A relay hangs up where it cannot reach the host: so a connection to one was of
use when something has come by it.
"""

from __future__ import annotations

import logging
import os
import secrets
import struct
import threading
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import zmq

from ezgraph.client.sockets import connect, readable
from ezgraph.clock import SystemClock
from ezgraph.errors import (
    ContextClosedError,
    EzGraphError,
    MalformedMessageError,
    NodeError,
    NodeHostGoneError,
)
from ezgraph.keys.curve import dial_with
from ezgraph.nodes.waker import Waker
from ezgraph.wire.nodes import Answer, read_answer, request_frame
from ezgraph.wire.relaying import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ezgraph.config import Address
    from ezgraph.nodes.endpoint import Endpoint

    Socket = zmq.Socket[bytes]
    Secure = Callable[[Socket, Address], None]

log = logging.getLogger(__name__)

RECONNECT_MS = 50
_KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 5, zmq.TCP_KEEPALIVE_INTVL: 2}
_MONITOR_EVENT = struct.Struct("=Hi")
_UP, _DOWN = int(zmq.EVENT_HANDSHAKE_SUCCEEDED), int(zmq.EVENT_DISCONNECTED)
_UNANSWERED = int(zmq.EVENT_CONNECT_RETRIED)
_REFUSED = (
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    | int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
    | int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
)
"""After these ZeroMQ may have given the connection up for good."""
_NOBLOCK = int(zmq.NOBLOCK)
_contexts: dict[int, zmq.Context[Socket]] = {}


def bulk_context() -> zmq.Context[Socket]:
    """Return this process's ZeroMQ context for bulk data; a forked child gets its own.

    It is another than that of commands, so that these have an I/O thread for themselves.
    """
    context = _contexts.get(os.getpid())
    if context is None or context.closed:
        context = _contexts[os.getpid()] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 4096)
    return context


class Outcome(NamedTuple):
    """What became of one of a caller's requests."""

    number: int
    answer: Answer | EzGraphError


Outcomes = SimpleQueue[Outcome]


class _Open:
    """A request that is not answered yet."""

    __slots__ = ("frame", "number", "outcomes", "since")

    def __init__(self, frame: bytes, number: int, outcomes: Outcomes, since: float) -> None:
        self.frame = frame
        self.number = number
        self.outcomes = outcomes
        self.since = since


class Line:
    """A connection, kept up. Thread-safe.

    Args:
        endpoints: where the nodes are served; the next one is tried when one is lost.
        grace_s: how long a lost connection may take to come back.
        secure: gives a socket its keys, before it connects to an endpoint without one.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], *, grace_s: float, secure: Secure | None = None
    ) -> None:
        self._endpoints = deque(endpoints)
        self._to_show: bytes | None = None
        self._grace_s = grace_s
        self._secure = secure
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._open: dict[int, _Open] = {}
        self._to_send: deque[int] = deque()
        self._next_id = secrets.randbits(32)
        self._error: EzGraphError | None = None
        self._is_stopping = False
        self._is_connected = False
        self._is_misled = False
        self._lost_at = self._dialled_at = self._clock.monotonic()
        self._has_heard = True
        self._waker = Waker()
        self._thread = threading.Thread(target=self._run, name="ezgraph-nodes-reader", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = "connected" if self._is_connected else "not connected"
        return f"<Line {self.address} {state} open={len(self._open)}>"

    @property
    def address(self) -> Address:
        """The address that is dialled now."""
        return self.endpoint.address

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that is dialled now, as it was last told."""
        return self._endpoints[0]

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._is_connected

    def ask(
        self, message: Mapping[str, Any], number: int, outcomes: Outcomes, *, takes_frames: bool
    ) -> int:
        """Send a request; its outcome comes into the queue, under ``number``. Return its id.

        Raises:
            EzGraphError: the line has ended; says why.
            MalformedMessageError: the request holds what cannot be encoded.
        """
        now = self._clock.monotonic()
        with self._lock:
            if self._error is not None:
                raise self._error
            self._next_id += 1
            request_id = self._next_id
            frame = request_frame(request_id, message, takes_frames=takes_frames)
            self._open[request_id] = _Open(frame, number, outcomes, now)
            self._to_send.append(request_id)
        self._waker.wake()
        return request_id

    def renew(self, endpoints: Sequence[Endpoint]) -> None:
        """Take these endpoints from now on; a connection to one of them is kept.

        If its ticket is a new one, it is shown there before anything else is asked.
        """
        with self._lock:
            now = self._endpoints[0]
            renewed = deque(endpoints)
            for _ in range(len(renewed)):
                if renewed[0].is_same_way(now):
                    break
                renewed.rotate(-1)
            if not renewed[0].is_same_way(now):
                self._is_misled = True
            elif renewed[0].ticket != now.ticket:
                self._to_show = renewed[0].ticket
            self._endpoints = renewed
        self._waker.wake()

    def show_again(self) -> None:
        """Show the ticket there is once more, before anything else is asked."""
        with self._lock:
            self._to_show = self._endpoints[0].ticket

    def forget(self, request_ids: Sequence[int]) -> None:
        """Take no interest in these requests any more."""
        with self._lock:
            for request_id in request_ids:
                self._open.pop(request_id, None)

    def stop(self) -> None:
        """End it; whoever waits gets an error. May be called twice."""
        self._is_stopping = True
        self._waker.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    # --- in its thread ---

    def _run(self) -> None:
        error: EzGraphError = ContextClosedError("this reader of nodes was closed")
        try:
            while not self._is_stopping:
                self._hold_connection()
        except EzGraphError as failed:  # no key for the address, say: asking again is of no use
            error = failed
        except Exception as failed:
            log.exception("the reader of nodes failed address=%s", self.address)
            error = NodeError(f"the connection to {self.address} failed: {failed!r}")
        finally:
            self._end_with(error)
            self._waker.close()

    def _hold_connection(self) -> None:
        """Serve one socket until its connection is lost, or nobody wants it any more."""
        self._pause()
        self._give_up_late_ones()
        with self._lock:
            endpoint, self._is_misled, self._is_connected = self.endpoint, False, False
        self._dialled_at, self._has_heard = self._clock.monotonic(), False
        dealer = self._new_dealer()
        monitor = dealer.get_monitor_socket(_UP | _DOWN | _UNANSWERED | _REFUSED)
        poller = zmq.Poller()
        for each in (dealer, monitor, self._waker.polled):
            poller.register(each, zmq.POLLIN)
        try:
            if endpoint.server_key is not None:
                dial_with(dealer, endpoint.server_key, endpoint.pair)
            elif self._secure is not None:
                self._secure(dealer, endpoint.address)
            connect(dealer, endpoint.address)
            for frame in endpoint.opening:
                dealer.send(frame)
            with self._lock:
                self._to_send = deque(self._open)
            while not self._is_stopping and self._serve(dealer, monitor, poller):
                pass
        finally:
            dealer.disable_monitor()
            monitor.close(linger=0)
            dealer.close(linger=0)

    def _pause(self) -> None:
        """Wait a moment after a connection by which nothing came: the next may be no better."""
        if not self._has_heard:
            poller = zmq.Poller()
            poller.register(self._waker.polled, zmq.POLLIN)
            poller.poll(RECONNECT_MS)

    def _new_dealer(self) -> Socket:
        dealer = bulk_context().socket(zmq.DEALER)
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.SNDHWM, 0)  # bounded by who asks: a window of requests each
        dealer.set(zmq.RCVHWM, 0)
        dealer.set(zmq.MAXMSGSIZE, MAX_ANSWER_BYTES)
        dealer.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        dealer.set(zmq.RECONNECT_IVL_MAX, 1_000)
        for option, value in _KEEPALIVE.items():  # beats of ZeroMQ would wait behind a large chunk
            dealer.set(option, value)
        return dealer

    def _serve(self, dealer: Socket, monitor: Socket, poller: zmq.Poller) -> bool:
        """Wait for something and do it; return whether the connection may still be used."""
        if self._is_misled or not self._send(dealer):
            return False
        ready = dict(poller.poll(self._patience_ms()))
        if self._waker.fileno in ready:
            self._waker.rest()
        if dealer in ready:
            self._receive(dealer)
        if monitor in ready and not self._heed(monitor):
            return False
        if self._is_connected:
            return True
        self._give_up_late_ones()
        return not self._turns_to_the_next()

    def _patience_ms(self) -> int:
        return 50 if self._open and not self._is_connected else 1_000

    def _send(self, dealer: Socket) -> bool:
        """Send what is to be sent; return whether there is anywhere to send it to."""
        with self._lock:
            ticket, self._to_show = self._to_show, None
        try:
            if ticket is not None:
                dealer.send(ticket, _NOBLOCK)
            while self._to_send:
                with self._lock:
                    asked = self._open.get(self._to_send.popleft())
                if asked is not None:
                    dealer.send(asked.frame, _NOBLOCK)
        except zmq.Again:  # given up by ZeroMQ; all is sent anew on the next one
            return False
        return True

    def _receive(self, dealer: Socket) -> None:
        for _ in range(64):
            try:
                head = dealer.recv(_NOBLOCK, copy=False)
            except zmq.Again:
                return
            buffer = dealer.recv(copy=False) if head.more else None
            last = head if buffer is None else buffer
            while last.more:
                last = dealer.recv(copy=False)
            with suppress(MalformedMessageError):  # not ours: it belongs to no request
                self._deliver(read_answer(head.buffer, None if buffer is None else buffer.buffer))

    def _deliver(self, answer: Answer) -> None:
        self._has_heard = True
        with self._lock:
            asked = self._open.pop(answer.request_id, None)
        if asked is not None:
            asked.outcomes.put(Outcome(asked.number, answer))

    def _heed(self, monitor: Socket) -> bool:
        """Take what happened to the connection; return whether it may still be used."""
        while readable(monitor):
            event, _ = _MONITOR_EVENT.unpack(monitor.recv_multipart(_NOBLOCK)[0])
            if event == _UP:
                self._is_connected = True
            elif event == _DOWN and self._is_connected:
                self._lose()
                return False
            elif event & _REFUSED or (event == _UNANSWERED and len(self._endpoints) > 1):
                self._endpoints.rotate(-1)
                return False
        return True

    def _lose(self) -> None:
        """Take note that there is no connection, and go on with the next endpoint."""
        now, self._is_connected = self._clock.monotonic(), False
        is_direct = self.endpoint.route is None
        if self._has_heard or (is_direct and now - self._dialled_at > self._grace_s / 2):
            self._lost_at = now
        self._endpoints.rotate(-1)

    @property
    def _patience_s(self) -> float:
        """How long all endpoints together may be of no use."""
        return self._grace_s * (len(self._endpoints) + 1) / 2

    def _give_up_late_ones(self) -> None:
        """Fail what waited too long for a connection that is of use."""
        now = self._clock.monotonic()
        with self._lock:
            late = [
                request_id
                for request_id, asked in self._open.items()
                if now - max(asked.since, self._lost_at) > self._patience_s
            ]
            given_up = [self._open.pop(request_id) for request_id in late]
        for asked in given_up:
            asked.outcomes.put(Outcome(asked.number, self._gone()))

    def _turns_to_the_next(self) -> bool:
        """Go on with the next endpoint, if there is one and this one had its time."""
        is_late = self._clock.monotonic() - self._dialled_at > self._grace_s / 2
        if is_late and len(self._endpoints) > 1:
            self._endpoints.rotate(-1)
            return True
        return False

    def _gone(self) -> NodeHostGoneError:
        where = ", ".join(str(each.address) for each in self._endpoints)
        return NodeHostGoneError(
            f"the process that serves nodes at {where} is gone, or was never there: no connection "
            f"for {self._patience_s:g} s; see whether it runs, and open the graph again"
        )

    def _end_with(self, error: EzGraphError) -> None:
        with self._lock:
            self._error = error
            left = list(self._open.values())
            self._open.clear()
        for asked in left:
            asked.outcomes.put(Outcome(asked.number, error))
