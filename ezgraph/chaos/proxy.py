"""A cable between one client and the broker that can be cut, delayed, throttled and silenced.

A `Cable` listens on a loopback address of its own, on the broker's two port numbers (commands and
events), and forwards each connection to the same port of the broker's address. So a client that is
given the cable's address finds the events behind it too: it joins the port the broker names to the
host it dialled.

What is on its way when a connection is cut is lost, as in a real cut. Every other fault keeps each
byte and its order: it comes later, or when the fault is over.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from types import TracebackType

_ROOM_BYTES = 1 << 20
_SLICES_PER_S = 20
_RESET = struct.pack("ii", 1, 0)
_BIND_TRIES = 50
_BIND_PAUSE_S = 0.02


class Way(enum.Enum):
    """A direction along the cable."""

    UP = "to the broker"
    DOWN = "to the client"


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a cable now; the default is a good one.

    ``delay_s`` plus up to ``jitter_s`` is added to each way; ``bytes_per_s`` bounds each way of
    each connection. Nothing comes through a ``silent`` way: no byte, no end, no new connection,
    as if the plug were pulled. ``refuses``: nobody listens, new connections are refused.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    silent: frozenset[Way] = frozenset()
    refuses: bool = False


GOOD = Faults()
PULLED = Faults(silent=frozenset(Way))


class Cable:
    """Forwards ``host``'s ports to the same ports of ``target``; use it with ``async with``."""

    def __init__(
        self, host: str, target: str, ports: Sequence[int], *, rng: random.Random
    ) -> None:
        self.host = host
        self.faults = GOOD
        self.forwarded_bytes = 0
        self._target = target
        self._ports = tuple(ports)
        self._rng = rng
        self._servers: list[asyncio.Server] = []
        self._links: set[_Link] = set()
        self._tasks = asyncio.TaskGroup()

    def __repr__(self) -> str:
        return f"<Cable {self.host} -> {self._target} links={len(self._links)} {self.faults}>"

    @property
    def links(self) -> int:
        """How many connections lie in it."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            OSError: this host has no such address, or a port of it is taken.
        """
        await self._tasks.__aenter__()
        try:
            await self._listen()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Listen no longer and end every connection."""
        self._stop_listening()
        for link in list(self._links):
            link.abort()
        await self._tasks.__aexit__(None, None, None)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for port in self._ports:
            for tries_left in reversed(range(_BIND_TRIES)):
                try:
                    server = await loop.create_server(partial(self._new_end, port), self.host, port)
                except OSError:
                    if not tries_left:
                        raise
                    await asyncio.sleep(_BIND_PAUSE_S)
                    continue
                self._servers.append(server)
                break

    def _new_end(self, port: int) -> _End:
        return _End(_Link(self, port), Way.UP)

    def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    # --- faults ---

    async def suffer(self, faults: Faults) -> None:
        """Have these faults from now on, and no others."""
        before, self.faults = self.faults, faults
        if faults.refuses:
            self._stop_listening()
        elif before.refuses:
            await self._listen()
        for link in list(self._links):
            link.obey()

    async def heal(self) -> None:
        """Be a good cable again: what waited goes on its way, dangling ends are reset."""
        await self.suffer(GOOD)
        for link in list(self._links):
            link.release()

    def cut(self, *, with_reset: bool) -> int:
        """End every connection in it at both ends, by RST or FIN; return how many there were."""
        links = list(self._links)
        for link in links:
            link.abort(with_reset=with_reset)
        return len(links)

    def half_open(self, *, lost: Way) -> int:
        """End every connection at one end; the other hears nothing until the cable is healed.

        ``lost=Way.UP``: the broker's end goes, and the client believes itself connected.
        """
        links = list(self._links)
        for link in links:
            link.dangle(lost)
        return len(links)

    # --- for its links ---

    def delay_s(self) -> float:
        """Draw how long something sent now takes longer."""
        faults = self.faults
        return faults.delay_s + (self._rng.random() * faults.jitter_s if faults.jitter_s else 0.0)

    def join(self, link: _Link) -> None:
        """Count a connection in."""
        self._links.add(link)

    def leave(self, link: _Link) -> None:
        """Count a connection out."""
        self._links.discard(link)

    def dial(self, link: _Link, port: int) -> None:
        """Connect its other end; a refused connection is reset at this end too."""
        self._tasks.create_task(self._connect(link, port))

    async def _connect(self, link: _Link, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _End(link, Way.DOWN), self._target, port)
        except OSError:
            link.abort(with_reset=True)


class _Link:
    """One connection in a cable: its two ends, and a wire for each way."""

    def __init__(self, cable: Cable, port: int) -> None:
        self.cable = cable
        self._port = port
        self._ends: dict[Way, _End] = {}
        self._wires = {way: _Wire(self, way) for way in Way}
        self._dialled = False
        self._lost: set[Way] = set()
        self._dangling = False

    def attach(self, end: _End) -> None:
        """An end is connected: the client's (whose bytes go up), or the broker's."""
        self._ends[end.sends] = end
        if end.sends is Way.UP:
            self.cable.join(self)
        elif Way.UP not in self._ends:
            end.abort()  # cut while the broker was dialled
            return
        self.obey()

    def obey(self) -> None:
        """Look at the faults again."""
        if not self._dialled and not self.cable.faults.silent:
            self._dialled = True
            self.cable.dial(self, self._port)
        for way, wire in self._wires.items():
            if way in self._lost and not self.is_silent(way):
                self.abort()
                return
            wire.pump()

    def release(self) -> None:
        """The faults are over: let everything go."""
        if self._dangling:
            self.abort(with_reset=True)
        for wire in self._wires.values():
            wire.release()

    def is_silent(self, way: Way) -> bool:
        """Return whether nothing may go this way."""
        return self._dangling or way in self.cable.faults.silent

    def source(self, way: Way) -> _End | None:
        """Return the end whose bytes go this way, when it is there."""
        return self._ends.get(way)

    def sink(self, way: Way) -> _End | None:
        """Return the end that gets what goes this way, when it is there."""
        return self._ends.get(Way.DOWN if way is Way.UP else Way.UP)

    def wire(self, way: Way) -> _Wire:
        """Return the wire of a way."""
        return self._wires[way]

    def dangle(self, lost: Way) -> None:
        """Lose one end and keep the other in ignorance."""
        self._dangling = True
        for wire in self._wires.values():
            wire.pump()
        gone = self._ends.get(Way.DOWN if lost is Way.UP else Way.UP)
        if gone is not None:
            gone.abort()

    def lost(self, way: Way) -> None:
        """The end that sends this way is gone; the other one hears of it if the way is open."""
        if self.is_silent(way):
            self._lost.add(way)
            if len(self._lost) == len(Way) or Way.DOWN not in self._ends:
                self.abort()
        else:
            self.abort()

    def ended(self) -> None:
        """One way has been ended in order; when both are, this connection is over."""
        if all(wire.over for wire in self._wires.values()):
            self.cable.leave(self)
            for end in self._ends.values():
                end.close()

    def abort(self, *, with_reset: bool = False) -> None:
        """End it at both ends."""
        self.cable.leave(self)
        self._dialled = True
        ends, self._ends = list(self._ends.values()), {}
        for end in ends:
            end.abort(with_reset=with_reset)
        for wire in self._wires.values():
            wire.stop()


class _Wire:
    """One way of a connection: what came in goes out in order, when it is due."""

    def __init__(self, link: _Link, way: Way) -> None:
        self.over = False
        self._link = link
        self._way = way
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._last_due = 0.0
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def take(self, chunk: bytes) -> None:
        """Take what the source sent; nothing: it sends no more."""
        delay_s = self._link.cable.delay_s()
        self._last_due = max(self._last_due, self._loop.time() + delay_s)
        self._waiting.append((self._last_due, chunk))
        self._size += len(chunk)
        self.pump()

    def release(self) -> None:
        """What waits is due now."""
        self._waiting = deque((0.0, chunk) for _, chunk in self._waiting)
        self._last_due = self._free_at = 0.0
        self.pump()

    def stop(self) -> None:
        """Send nothing more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def pump(self) -> None:
        """Send what is due, and read on if there is room for more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        silent, sink = self._link.is_silent(self._way), self._link.sink(self._way)
        while self._waiting and not silent and sink is not None and sink.has_room:
            now, due = self._loop.time(), max(self._waiting[0][0], self._free_at)
            if due > now:
                self._timer = self._loop.call_at(due, self.pump)
                break
            self._send_one(sink, now)
        source = self._link.source(self._way)
        if source is not None:
            source.read(wanted=not silent and sink is not None and self._size < _ROOM_BYTES)

    def _send_one(self, sink: _End, now: float) -> None:
        due, chunk = self._waiting.popleft()
        if not chunk:
            self.over = True
            sink.finish()
            self._link.ended()
            return
        rate = self._link.cable.faults.bytes_per_s
        if rate is not None:
            most = max(1, int(rate / _SLICES_PER_S))
            if len(chunk) > most:
                self._waiting.appendleft((due, chunk[most:]))
                chunk = chunk[:most]
            self._free_at = max(now, self._free_at) + len(chunk) / rate
        self._size -= len(chunk)
        self._link.cable.forwarded_bytes += len(chunk)
        sink.send(chunk)


class _End(asyncio.Protocol):
    """One TCP connection of a link; ``sends`` is the way its bytes go."""

    def __init__(self, link: _Link, sends: Way) -> None:
        self.sends = sends
        self.has_room = True
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the link; read when the other end is there."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self.read(wanted=False)
            self._link.attach(self)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        self._link.wire(self.sends).take(data)

    def eof_received(self) -> bool:
        """Pass the end on, behind what came before; the other way stays open."""
        self._ended = True
        self._link.wire(self.sends).take(b"")
        return True

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's form
        """Tell the link."""
        self._transport = None
        self._link.lost(self.sends)

    def pause_writing(self) -> None:
        """The peer reads too slowly: take no more for it."""
        self.has_room = False

    def resume_writing(self) -> None:
        """There is room again."""
        self.has_room = True
        self._link.wire(Way.DOWN if self.sends is Way.UP else Way.UP).pump()

    def read(self, *, wanted: bool) -> None:
        """Read from now on, or read nothing and so let the sender's buffers fill."""
        transport = self._transport
        if transport is None or wanted is self._reading or self._ended or transport.is_closing():
            return  # (a transport told to read on after its end would report the end for ever)
        self._reading = wanted
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def send(self, chunk: bytes) -> None:
        """Write it."""
        if self._transport is not None:
            self._transport.write(chunk)

    def finish(self) -> None:
        """Say that nothing more comes."""
        if self._transport is not None and not self._transport.is_closing():
            with suppress(OSError):  # the peer has reset it meanwhile
                self._transport.write_eof()

    def close(self) -> None:
        """Close it when what was written has gone."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, *, with_reset: bool = False) -> None:
        """Close it at once."""
        transport = self._transport
        if transport is None:
            return
        raw = transport.get_extra_info("socket")
        if with_reset and raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
