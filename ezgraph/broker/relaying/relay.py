"""The relay: for readers of data nodes who reach the broker's host, and not the host of the nodes.

It has a port, a thread and a ZeroMQ context of its own, and never touches the sockets of commands
and events: however much flows here, the broker's loop and its I/O thread have nothing to do with
it. (They share a process, so the relay's Python, little for each chunk, takes its turns with the
loop's.)

A reader's first frame names a host (`ezgraph.wire.relaying`); from then on there is a
*pair*, this reader and a DEALER to that host, and frames pass between the two as they are: nothing
is decoded, no buffer is copied. The reader shows its ticket to the host through the pair, so the
host judges as if it had been dialled itself.

Who cannot be served is hung up on, as a host that goes away would: the reader's line takes that as
a lost connection, and tries its next address. So a host that dies ends its readers' connections
here, and a reader that dies ends its connection to the host.

Bounds: pairs, connections, bytes on their way to one reader and to all, bytes on their way to one
host, and messages that have no end. With keys, only admitted ones are let in, as to commands.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import zmq

from ezgraph.broker.relaying.passing import Passing, RelayLimits, ServedAt, keep_alive
from ezgraph.broker.relaying.resolving import Resolver
from ezgraph.errors import AddressInUseError, EzGraphError
from ezgraph.wire.relaying import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.broker.gate import Gate
    from ezgraph.state.graph import GraphState

    Socket = zmq.Socket[bytes]

__all__ = ["Relay", "RelayLimits", "ServedAt", "StandbyRelay"]

log = logging.getLogger(__name__)

_BIND_TRIES = 100
_HANDSHAKE_MS = 5_000
_TRIED_AGAIN_S = 10.0


class StandbyRelay:
    """The relay of a broker: there from when a graph is first served, until the broker ends.

    `mind` and `stop` are for the broker's thread.
    """

    def __init__(
        self,
        host: str,
        state: Callable[[], GraphState],
        *,
        new_gate: Callable[[zmq.Context[Socket]], Gate] | None,
    ) -> None:
        self._host = host
        self._state = state
        self._new_gate = new_gate
        self._relay: Relay | None = None
        self._tried_again_at = 0.0

    def __repr__(self) -> str:
        return f"<StandbyRelay {self._relay!r}>"

    def port(self) -> int | None:
        """Where it listens; None: it does not, as nothing is served, or no port is free."""
        return None if self._relay is None else self._relay.port

    def mind(self, first_port: int, now: float) -> None:
        """Start it if something is served; what goes wrong is logged, and tried again later."""
        if self._relay is not None and not self._relay.is_running:
            self._relay.stop()
            self._relay, self._tried_again_at = None, now + _TRIED_AGAIN_S
        if self._relay is not None or not self._state().served or now < self._tried_again_at:
            return
        relay = Relay(self._host, first_port, self._find, new_gate=self._new_gate)
        try:
            relay.start()
        except (zmq.ZMQError, EzGraphError) as error:
            self._tried_again_at = now + _TRIED_AGAIN_S
            log.error("no relay, readers have to reach the hosts of nodes: %s", error)  # noqa: TRY400
            return
        self._relay = relay

    def _find(self, name: str, owner: str) -> ServedAt | None:
        """Look a host up, in the relay's thread: two single looks into dicts, at what is frozen."""
        entry = self._state().served.host(name, owner)
        if entry is None:
            return None
        return ServedAt(entry.served.endpoints, entry.served.public_key)

    def stop(self) -> None:
        """End it."""
        if self._relay is not None:
            self._relay.stop()


class Relay:
    """Passes on what readers and hosts of nodes say to each other. `start` it, `stop` it.

    Args:
        host: where to listen, a numeric address.
        first_port: the first port to try; the next free one is taken.
        find: tells where a host is, by graph and owner; asked in the relay's thread.
        new_gate: makes what admits keys, for a context; None: everybody is let in.
        limits: bounds.
        resolver: says where hosts are of which only a name is known.
    """

    def __init__(
        self,
        host: str,
        first_port: int,
        find: Callable[[str, str], ServedAt | None],
        *,
        new_gate: Callable[[zmq.Context[Socket]], Gate] | None = None,
        limits: RelayLimits | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._host = host
        self._first_port = first_port
        self._find = find
        self._new_gate = new_gate
        self._limits = limits or RelayLimits()
        self._resolver = resolver or Resolver()
        self._passing: Passing | None = None
        self.port: int | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._passing is None else repr(self._passing)
        return f"<Relay port={self.port} {state}>"

    @property
    def is_running(self) -> bool:
        """Whether it passes on what is said: it was started, and has not failed."""
        return self._passing is not None and self._passing.is_running

    def start(self) -> int:
        """Listen, and return on which port.

        Raises:
            AddressInUseError: there is no free port.
            KeyFileError: the broker's keys cannot be read.
        """
        context: zmq.Context[Socket] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 64 + 4 * self._limits.pairs)
        try:
            gate = None if self._new_gate is None else self._new_gate(context)
            front = _front(context, gate, self._limits)
            self.port = self._bind(front)
        except BaseException:
            context.destroy(linger=0)
            raise
        self._passing = Passing(context, front, gate, self._find, self._limits, self._resolver)
        self._passing.start()
        log.info("relay listens host=%s port=%d", self._host, self.port)
        return self.port

    def _bind(self, front: Socket) -> int:
        is_v6 = ":" in self._host
        front.set(zmq.IPV6, int(is_v6))
        host = f"[{self._host}]" if is_v6 else self._host
        for port in range(self._first_port, min(self._first_port + _BIND_TRIES, 1 << 16)):
            try:
                front.bind(f"tcp://{host}:{port}")
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE:
                    raise
            else:
                return port
        raise AddressInUseError(
            f"no free port for the relay between {self._first_port} and "
            f"{self._first_port + _BIND_TRIES - 1} on {self._host}"
        )

    def stop(self) -> None:
        """Pass on nothing more; returns when the thread has ended. May be called twice."""
        passing, self._passing = self._passing, None
        if passing is not None:
            passing.stop()


def _front(context: zmq.Context[Socket], gate: Gate | None, limits: RelayLimits) -> Socket:
    front = context.socket(zmq.ROUTER)
    front.set(zmq.LINGER, 0)
    front.set(zmq.ROUTER_MANDATORY, 1)
    front.set(zmq.SNDHWM, 1_000)
    front.set(zmq.RCVHWM, 1_000)
    front.set(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
    front.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    keep_alive(front, limits.dead_after_s)
    if gate is not None:
        gate.guard(front, None)
    return front
