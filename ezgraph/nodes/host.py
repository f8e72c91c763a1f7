"""Serving a graph of nodes to other processes: a socket and a thread of their own.

Bulk data never passes the sockets of commands: this ROUTER has a context, an I/O thread and a
thread to itself. Buffers are given to ZeroMQ as they are; what it has not sent yet is counted for
each peer, and a peer that does not take what it asked for gets no more until it does. Who asks for
news of a node waits in a list, not in a thread.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import zmq

from ezgraph.client.sockets import readable
from ezgraph.clock import SystemClock
from ezgraph.config import Address, resolve_loopback
from ezgraph.errors import (
    AddressInUseError,
    EzGraphError,
    InsecureAddressError,
    LimitError,
    MalformedMessageError,
    NodeSourceError,
)
from ezgraph.nodes.connections import Connections
from ezgraph.nodes.server import blaming
from ezgraph.nodes.waker import Waker
from ezgraph.protocol.nodes import NodeVerb, parse_request
from ezgraph.unsent import Unsent
from ezgraph.wire.nodes import answer_frames, error_frame, read_request, read_request_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.gate import Gate
    from ezgraph.nodes.growth import Growth
    from ezgraph.nodes.server import Asker, NodeServer
    from ezgraph.protocol.nodes import NodeRequest
    from ezgraph.wire.nodes import Incoming

    Socket = zmq.Socket[bytes]

log = logging.getLogger(__name__)

_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE)
_BATCH = 64
_BLOCKED_MS = 1
_IDLE_MS = 250
_STOP_S = 5.0
_LOOK_S = 0.2
"""How often it is looked who has sent what never ends."""
_UNREAD_ANSWERS = 1_000
_SMALL_BYTES = 64 << 10
"""Below that pyzmq copies, and copying is the quicker way."""


@dataclass
class _Peer:
    """A reader: what it asked and was not answered yet, and what is on its way to it."""

    descriptor: int
    asker: str | None
    asked: deque[bytes] = field(default_factory=deque)
    unsent: Unsent = field(default_factory=Unsent)
    held: list[Any] | None = None
    """An answer that ZeroMQ did not take: this reader has so many unread that it gets no more."""

    @property
    def takes_answers(self) -> bool:
        """Whether ZeroMQ took the last answer."""
        return self.held is None

    @property
    def is_idle(self) -> bool:
        """Whether nothing need be known of it."""
        return not self.asked and not self.unsent and self.held is None


@dataclass(eq=False)
class _Waiter:
    """A request for growth that has nothing new to be told yet."""

    peer: bytes
    descriptor: int
    request_id: int
    node: BaseNode
    after: int
    until: float


class NodeHost:
    """Serves what a `NodeServer` answers, on a port of this process. Use it as a context manager.

    Args:
        server: the graph.
        host: where to listen; outside loopback only with keys (``secure``), or ``insecure``.
        port: 0: a free one.
        secure: gives the socket its keys, before it is bound.
        insecure: serve anybody who reaches the port.
        gate: admit only who shows it a ticket.

    Raises:
        InsecureAddressError: outside loopback without keys.
    """

    def __init__(
        self,
        server: NodeServer,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        secure: Callable[[Socket], None] | None = None,
        insecure: bool = False,
        gate: Gate | None = None,
    ) -> None:
        numeric, is_loopback = resolve_loopback(host)
        if not (is_loopback or secure is not None or insecure):
            raise InsecureAddressError(
                f"nodes would be served to anybody who reaches {host}:{port}; give the host keys, "
                f"listen on 127.0.0.1, or say insecure=True"
            )
        self.server = server
        self._where = Address(numeric, port)
        self._secure = secure
        self._gate = gate
        self._service: _Service | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._service is None else repr(self._service)
        return f"<NodeHost tcp://{self._where} {state} {self.server!r}>"

    @property
    def address(self) -> Address:
        """Where it listens, once it was started."""
        return self._where

    def start(self) -> Self:
        """Serve from now on.

        Raises:
            AddressInUseError: somebody listens there.
        """
        if self._service is not None:
            return self
        context: zmq.Context[Socket] = zmq.Context()
        router = context.socket(zmq.ROUTER)
        try:
            self._bind(router)
        except BaseException:
            context.destroy(linger=0)
            raise
        self._service = _Service(
            self.server, context, router, self._gate, is_secured=self._secure is not None
        )
        self._service.start()
        log.info("serving nodes address=%s", self._where)
        return self

    def _bind(self, router: Socket) -> None:
        limits = self.server.limits
        router.set(zmq.LINGER, 0)
        router.set(zmq.ROUTER_MANDATORY, 1)
        router.set(zmq.IPV6, int(":" in self._where.host))
        router.set(zmq.SNDHWM, _UNREAD_ANSWERS)
        router.set(zmq.RCVHWM, limits.max_waiting_requests)
        router.set(zmq.MAXMSGSIZE, limits.max_request_bytes)
        router.set(zmq.TCP_KEEPALIVE, 1)
        if self._secure is not None:
            self._secure(router)
        try:
            router.bind(self._where.endpoint)
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise
            raise AddressInUseError(
                f"somebody listens on {self._where} already; choose another port, or 0 for any"
            ) from error
        bound = str(router.getsockopt_string(zmq.LAST_ENDPOINT))
        self._where = Address(self._where.host, int(bound.rpartition(":")[2]))

    def stop(self) -> None:
        """Serve no longer; returns when the thread has ended. May be called twice.

        A source that does not return holds that up for 5 s, no longer: the port is free when it
        does return.
        """
        service, self._service = self._service, None
        if service is not None:
            service.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Service:
    """The thread, and what it knows of its readers. Everything but `stop` happens in it."""

    def __init__(
        self,
        server: NodeServer,
        context: zmq.Context[Socket],
        router: Socket,
        gate: Gate | None,
        *,
        is_secured: bool,
    ) -> None:
        self._server = server
        self._gate = gate
        self._connections = Connections(router, is_secured=is_secured)
        self._context = context
        self._router = router
        self._limits = server.limits
        self._clock = SystemClock()
        self._peers: dict[bytes, _Peer] = {}
        self._waiters: list[_Waiter] = []
        self._heard: set[Growth] = set()
        self._waker = Waker()
        self._is_stopping = False
        self._looked_at = 0.0
        self._thread = threading.Thread(target=self._run, name="ezgraph-nodes-host", daemon=True)

    def __repr__(self) -> str:
        return f"serving peers={len(self._peers)} waiters={len(self._waiters)}"

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, which closes what it used; one that is held up by a source is left."""
        self._is_stopping = True
        self._waker.wake()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            log.warning("a source holds up the end of a host of nodes server=%r", self._server)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._waker.polled, zmq.POLLIN)
        try:
            while not self._is_stopping:
                self._run_pass(poller)
        except Exception:
            log.exception("a host of nodes fails by an error of its own server=%r", self._server)
        finally:
            self._close()

    def _run_pass(self, poller: zmq.Poller) -> None:
        ready = dict(poller.poll(self._patience_ms()))
        if self._waker.fileno in ready:
            self._waker.rest()
        if self._router in ready:
            self._take_all(self._receive())
        self._hang_up_on_endless_ones()
        self._tell_waiters()
        self._answer_peers()

    def _close(self) -> None:
        for growth in self._heard:
            growth.ignore(self._waker.wake)
        self._connections.close()
        self._context.destroy(linger=0)
        self._waker.close()

    def _patience_ms(self) -> int:
        if any(peer.asked or peer.held for peer in self._peers.values()):
            return _BLOCKED_MS
        if self._waiters:
            soonest = min(waiter.until for waiter in self._waiters) - self._clock.monotonic()
            return max(0, min(_IDLE_MS, int(soonest * 1000) + 1))
        return _IDLE_MS

    def _receive(self) -> list[tuple[bytes, zmq.Frame]]:
        """Return what has come, as much as is taken at once."""
        came: list[tuple[bytes, zmq.Frame]] = []
        for _ in range(_BATCH):
            try:
                sender = self._router.recv(_NOBLOCK)
            except zmq.Again:
                break
            frame = self._router.recv(copy=False)
            sizes, last = [len(frame)], frame
            while last.more:
                last = self._router.recv(copy=False)  # not ours, and not kept
                sizes.append(len(last))
            self._connections.has_read(_descriptor_of(frame), sizes)
            if last is frame:
                came.append((sender, frame))
        return came

    def _take_all(self, came: list[tuple[bytes, zmq.Frame]]) -> None:
        gate = self._gate
        self._let_go(is_all_read=len(came) < _BATCH)
        for sender, frame in came:
            asked = frame.bytes
            if gate is not None and gate.is_ticket(asked):
                gate.show(sender, _descriptor_of(frame), asked)
            else:
                self._take(sender, frame, asked)

    def _let_go(self, *, is_all_read: bool) -> None:
        """Forget those whose connections have closed."""
        gone = self._connections.obey_monitor()
        if self._gate is None:
            return
        self._gate.left(gone, is_all_read=is_all_read)
        if gone:
            self._peers = {
                sender: peer for sender, peer in self._peers.items() if peer.descriptor not in gone
            }
            self._waiters = [each for each in self._waiters if each.descriptor not in gone]

    def _hang_up_on_endless_ones(self) -> None:
        """Hang up on who has sent far more than may wait, which is a message that has no end."""
        now = self._clock.monotonic()
        if now < self._looked_at + _LOOK_S:
            return
        self._looked_at = now
        self._let_go(is_all_read=False)
        may_wait = self._limits.max_waiting_requests * self._limits.max_request_bytes
        for fd in self._connections.beyond(2 * may_wait):
            log.warning("hanging up on a reader: a message that has not ended")
            self._connections.cut_off(fd)

    def _take(self, sender: bytes, frame: zmq.Frame, asked: bytes) -> None:
        descriptor = 0 if self._gate is None else _descriptor_of(frame)
        try:
            self._refuse_uninvited(sender, descriptor)
        except EzGraphError as error:
            self._refuse_asked(sender, asked, error)
            return
        known = self._peers.get(sender)
        if known is None and len(self._peers) >= self._limits.max_peers:
            self._refuse_for(sender, asked, f"{len(self._peers)} readers are served already")
            return
        if known is None or known.descriptor != descriptor:
            known = self._peers[sender] = _Peer(descriptor, _asker_of(frame))
        peer = known
        if len(peer.asked) >= self._limits.max_waiting_requests:
            self._refuse_for(sender, asked, f"{len(peer.asked)} of your requests wait already")
            return
        peer.asked.append(asked)

    def _refuse_uninvited(self, sender: bytes, descriptor: int) -> None:
        """Refuse who shows no ticket before anything is kept of it; it may be anybody."""
        if self._gate is not None:
            self._gate.admitted(sender, descriptor)

    def _refuse_for(self, sender: bytes, asked: bytes, why: str) -> None:
        self._refuse_asked(sender, asked, LimitError(f"{why}; try again later"))

    def _refuse_asked(self, sender: bytes, asked: bytes, error: EzGraphError) -> None:
        with suppress(MalformedMessageError):
            self._refuse(sender, read_request_id(asked), error)

    def _answer_peers(self) -> None:
        """Answer one request of each peer in turn, as long as there are some that may be."""
        may_go_on = True
        while may_go_on and not self._is_stopping:
            may_go_on = False
            for sender, peer in list(self._peers.items()):
                if self._may_be_answered(sender, peer):
                    self._answer(sender, peer, peer.asked.popleft())
                    may_go_on = True
                elif peer.is_idle:
                    self._peers.pop(sender, None)
            if may_go_on and readable(self._router):
                return  # others may ask for little, and need not wait for one who asks for much

    def _may_be_answered(self, sender: bytes, peer: _Peer) -> bool:
        """Whether a reader asks for something, and takes what it asked for before."""
        peer.unsent.settle()
        if (held := peer.held) is not None:
            peer.held = None
            self._send(sender, peer, held)
        if not peer.asked or not peer.takes_answers:
            return False
        return peer.unsent.size_bytes < self._limits.max_unsent_bytes

    def _answer(self, sender: bytes, peer: _Peer, asked: bytes) -> None:
        try:
            request_id = read_request_id(asked)
        except MalformedMessageError as error:
            log.debug("no request bytes=%d why=%s", len(asked), error)
            return
        try:
            incoming = read_request(asked)
            request = parse_request(incoming.message)
            asker = self._asker(sender, peer)
            is_growth = request.verb is NodeVerb.GROWTH
            with blaming(f"node {request.uid!r}", request.verb):
                if is_growth and self._waits(sender, peer, asker, incoming, request):
                    return
                answer = self._server.answer(request, asker)
            frames = _frames(request, incoming, answer)
        except EzGraphError as error:
            self._refuse(sender, request_id, error)
            return
        self._send(sender, peer, frames)

    def _asker(self, sender: bytes, peer: _Peer) -> Asker:
        return peer.asker if self._gate is None else self._gate.admitted(sender, peer.descriptor)

    def _refuse(self, sender: bytes, request_id: int, error: EzGraphError) -> None:
        self._send(sender, self._peers.get(sender), [error_frame(request_id, error)])

    def _send(self, sender: bytes, peer: _Peer | None, frames: list[Any]) -> None:
        try:
            tracker = self._send_frames(sender, frames)
        except zmq.Again:
            if peer is not None and peer.held is None:
                peer.held = frames
            return
        except zmq.ZMQError as error:  # it is gone
            log.debug("not sent why=%s", error)
            self._peers.pop(sender, None)
            return
        if tracker is not None and peer is not None:
            peer.unsent.add(tracker, _size(frames[-1]))

    def _send_frames(self, sender: bytes, frames: list[Any]) -> zmq.MessageTracker | None:
        """Send an answer; return what tells when its last frame has left, if that is large."""
        *heads, last = frames
        for frame in (sender, *heads):
            self._router.send(frame, _NOBLOCK | _SNDMORE)
        if _size(last) < _SMALL_BYTES:
            self._router.send(last, _NOBLOCK)
            return None
        tracker: zmq.MessageTracker = self._router.send(last, _NOBLOCK, copy=False, track=True)
        return tracker

    # --- who waits for news ---

    def _waits(
        self,
        sender: bytes,
        peer: _Peer,
        asker: Asker,
        incoming: Incoming,
        request: NodeRequest,
    ) -> bool:
        """Put a request for growth on the list, if there are no news; return whether it is."""
        node, after, wait_s = self._server.growth(request, asker)
        request.kwargs.pop("wait_s", None)  # the thread of this host waits for nobody
        if after is None or wait_s == 0:
            return False
        if len(self._waiters) >= self._limits.max_peers:
            self._make_room_to_wait(sender)
        node.growth.listen(self._waker.wake)
        self._heard.add(node.growth)
        if node.has_grown(after):
            return False
        until = self._clock.monotonic() + wait_s
        self._waiters.append(
            _Waiter(sender, peer.descriptor, incoming.request_id, node, after, until)
        )
        return True

    def _make_room_to_wait(self, sender: bytes) -> None:
        """Tell whoever waits for most nodes that one of them has no news, before its time.

        Raises:
            LimitError: that is who wants to wait for one more.
        """
        waiting = Counter(each.peer for each in self._waiters)
        greediest, count = waiting.most_common(1)[0]
        if waiting[sender] + 1 >= count:
            raise LimitError(
                f"{len(self._waiters)} requests wait for nodes to grow already, {waiting[sender]} "
                f"of them yours; follow fewer nodes at a time"
            )
        early = next(each for each in self._waiters if each.peer == greediest)
        self._waiters.remove(early)
        early.until = self._clock.monotonic()
        self._told(early, early.until)

    def _tell_waiters(self) -> None:
        now = self._clock.monotonic()
        self._waiters = [waiter for waiter in self._waiters if not self._told(waiter, now)]

    def _told(self, waiter: _Waiter, now: float) -> bool:
        """Tell a waiter its news, or at last that there are none; return whether it was told."""
        try:
            with blaming(f"node {waiter.node.uid!r}", NodeVerb.GROWTH):
                if now < waiter.until and not waiter.node.has_grown(waiter.after):
                    return False
                report = waiter.node.growth_report()
            frames = answer_frames(waiter.request_id, report, takes_frames=False)
        except EzGraphError as error:
            self._refuse(waiter.peer, waiter.request_id, error)
            return True
        self._send(waiter.peer, self._peers.get(waiter.peer), frames)
        return True


def _size(frame: Any) -> int:  # noqa: ANN401 - bytes, or an array of them
    return frame.nbytes if hasattr(frame, "nbytes") else len(frame)


def _frames(request: NodeRequest, incoming: Incoming, answer: object) -> list[Any]:
    try:
        return answer_frames(incoming.request_id, answer, takes_frames=incoming.takes_frames)
    except LimitError:
        raise
    except Exception as error:
        raise NodeSourceError(
            f"node {request.uid!r} answered {request.verb.value!r} with what cannot be sent: "
            f"{error}"
        ) from error


def _descriptor_of(frame: zmq.Frame) -> int:
    return int(frame.get(zmq.SRCFD))


def _asker_of(frame: zmq.Frame) -> str | None:
    """Return whose key the sender proved, if the socket has keys."""
    try:
        found = frame.get("User-Id")
    except zmq.ZMQError:
        return None
    return found if isinstance(found, str) and found else None
