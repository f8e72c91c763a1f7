"""The yardstick: sockets and the codec alone.

**Bare echo.** A ROUTER that receives and sends without a poller, in a process of its own. It
decodes each command and encodes a reply with `ezgraph.wire`, as a broker must, and does nothing
else: no state, no journal. Its client encodes and decodes likewise, on a plain blocking DEALER.

**Bare relay.** The same with a PUB, on which it publishes every request frame it gets, after the
reply. For the rows "asyncio on both sides" its reporter and its subscribers are asyncio too, by
the leanest way there is: the socket's descriptor with `loop.add_reader`, and a future. (They
could block instead, and would be some 0.1 to 0.3 ms quicker; but then the ratio would tell what
an event loop costs and not what the bus does.) A subscriber decodes what it gets with
`ezgraph.wire` and hands it to a coroutine, as ours do.

**Bare chunks.** A ROUTER that sends chunks of an array as they lie in memory (``copy=False``), and
a DEALER that takes them, four on their way at a time, and does nothing with them, or (for the row
"into one array") puts them into a new array, as ours must.

**Bare switch.** A ROUTER that hands each request on to one peer, the mirror, and what the mirror
answers back to who asked: the four messages that a routed request takes, and nothing besides. The
mirror is an asyncio program in a process of its own.

``python -m ezgraph.bench.bare echo`` is the echo, ``… relay`` the relay, ``… switch`` the switch,
``… mirror PORT`` its mirror, ``… chunks COUNT BYTES`` the sender of chunks.

**Bare sessions** (`BareSession`) hold a lease each and do nothing but renew it: of these a process
can have a thousand without being the bottleneck.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

import zmq

from ezgraph.bench.children import end_with_parent, say
from ezgraph.client.identity import hello
from ezgraph.client.sockets import secure
from ezgraph.config import Address
from ezgraph.protocol.commands import Goodbye, Heartbeat
from ezgraph.protocol.replies import Beat, Done, Refusal, Welcome
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.config import ClientKeys
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.replies import Reply

_HOST = "tcp://127.0.0.1"
TOPIC = b"settings/"


def zeromq_versions() -> tuple[str, str]:
    """Return the versions of pyzmq and of libzmq."""
    return zmq.pyzmq_version(), zmq.zmq_version()


def echo() -> None:
    """Answer every request, for ever."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    end_with_parent()
    say(port=router.bind_to_random_port(_HOST))
    count = 0
    while True:
        peer, frame = router.recv_multipart()
        header = frames.read_header(frame)
        frames.read_command(frame)
        count += 1
        router.send_multipart([peer, frames.reply_frame(header.request_id, Done(count))])


def relay() -> None:
    """Answer every request and publish it, for ever."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router, pub = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
    end_with_parent()
    say(port=router.bind_to_random_port(_HOST), events_port=pub.bind_to_random_port(_HOST))
    count = 0
    while True:
        peer, frame = router.recv_multipart()
        header = frames.read_header(frame)
        frames.read_command(frame)
        count += 1
        router.send_multipart([peer, frames.reply_frame(header.request_id, Done(count))])
        pub.send_multipart([TOPIC, frame])


def switch() -> None:
    """Hand on every request to who spoke first, and the answer back, for ever."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    end_with_parent()
    say(port=router.bind_to_random_port(_HOST))
    mirror, _ = router.recv_multipart()
    while True:
        asker, frame = router.recv_multipart()
        frames.read_command(frame)
        router.send_multipart([mirror, frame])
        _, frame = router.recv_multipart()
        header = frames.read_header(frame)
        frames.read_command(frame)
        router.send_multipart([asker, frames.reply_frame(header.request_id, Done(0))])


async def mirror(port: int) -> None:
    """Send everything back to the switch, for ever."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(f"{_HOST}:{port}")

    def reflect(message: list[bytes]) -> None:
        header = frames.read_header(message[0])
        command = codec.encode(frames.read_command(message[0]))
        dealer.send(frames.request_frame(*header, command))
        asyncio.get_running_loop().call_soon(reader.drain)

    dealer.send(b"")
    end_with_parent()
    reader = _Reader(dealer, reflect)
    say(ready=True)
    await asyncio.Event().wait()


def request_frame(number: int, command: Command) -> bytes:
    """Return a request whose id is the lowest that is open."""
    return frames.request_frame(number, number, codec.encode(command))


class Dealer:
    """A plain blocking client of the echo."""

    def __init__(self, port: int) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.connect(f"{_HOST}:{port}")
        self._sent = 0

    def __repr__(self) -> str:
        return f"<Dealer sent={self._sent}>"

    def send(self, command: Command) -> None:
        """Send a request."""
        self._sent += 1
        self._socket.send(request_frame(self._sent, command))

    def receive(self) -> Reply:
        """Return the next reply; wait for it."""
        return frames.read_reply(self._socket.recv())[1]

    def call(self, command: Command) -> Reply:
        """Send a request and return its reply."""
        self.send(command)
        return self.receive()

    def rate(self, commands: Iterator[Command], *, in_flight: int, seconds: float) -> float:
        """Return requests per second with ``in_flight`` of them on their way at any time."""
        begin = time.perf_counter()
        end, count = begin + seconds, in_flight
        for _ in range(in_flight):
            self.send(next(commands))
        while time.perf_counter() < end:
            self.receive()
            self.send(next(commands))
            count += 1
        for _ in range(in_flight):
            self.receive()
        return count / (time.perf_counter() - begin)

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)


class _Reader:
    """Drains a socket whose edge-triggered descriptor the event loop watches."""

    def __init__(self, sock: zmq.Socket[bytes], take: Callable[[list[bytes]], None]) -> None:
        self._socket = sock
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(int(sock.FD), self.drain)
        self._loop.call_soon(self.drain)

    def drain(self) -> None:
        while not self._socket.closed and int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            self._take(self._socket.recv_multipart(zmq.NOBLOCK))

    def stop(self) -> None:
        self._loop.remove_reader(int(self._socket.FD))


class AsyncDealer:
    """An asyncio client of the relay, with one request in flight."""

    def __init__(self, port: int) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(f"{_HOST}:{port}")
        self._reader = _Reader(self._socket, self._resolve)
        self._waiting: asyncio.Future[Reply] | None = None
        self._sent = 0

    def __repr__(self) -> str:
        return f"<AsyncDealer sent={self._sent}>"

    async def call(self, command: Command) -> Reply:
        """Send a request and return its reply."""
        self._sent += 1
        self._waiting = asyncio.get_running_loop().create_future()
        self._socket.send(request_frame(self._sent, command))
        self._reader.drain()
        return await self._waiting

    def _resolve(self, message: list[bytes]) -> None:
        if self._waiting is not None:
            self._waiting.set_result(frames.read_reply(message[0])[1])

    def close(self) -> None:
        """Close the socket."""
        self._reader.stop()
        self._context.destroy(linger=0)


class AsyncSubscriber:
    """An asyncio subscriber of a relay: an async iterator of decoded commands."""

    def __init__(self, events_port: int, topic: bytes = TOPIC) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set(zmq.RCVHWM, 0)
        self._socket.connect(f"{_HOST}:{events_port}")
        self._socket.subscribe(topic)
        self._ready: deque[Command] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._reader = _Reader(self._socket, self._take)

    def __repr__(self) -> str:
        return f"<AsyncSubscriber ready={len(self._ready)}>"

    def __aiter__(self) -> AsyncSubscriber:
        return self

    async def __anext__(self) -> Command:
        """Return the next command; wait for it."""
        while not self._ready:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._ready.popleft()

    def _take(self, message: list[bytes]) -> None:
        self._ready.append(frames.read_command(message[1]))
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """Close the socket."""
        self._reader.stop()
        self._socket.close(linger=0)


class BareSession:
    """A lease on a broker, on one DEALER; its owner says when to renew it."""

    _context: zmq.Context[zmq.Socket[bytes]] | None = None

    def __init__(
        self, host: str, port: int, ttl_s: float, keys: ClientKeys | None = None
    ) -> None:
        if BareSession._context is None:
            BareSession._context = zmq.Context()
            BareSession._context.set(zmq.MAX_SOCKETS, 20_000)
        self._socket = BareSession._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        secure(self._socket, keys, Address(host, port))
        self._socket.connect(f"tcp://{host}:{port}")
        self._send(hello("session", ttl_s=ttl_s))
        self._open = 1

    def __repr__(self) -> str:
        return f"<BareSession open={self._open}>"

    def renew(self) -> bool:
        """Send a heartbeat; return whether everything sent before has been answered well."""
        well = self.is_answered()
        self._send(Heartbeat(0.0))
        self._open += 1
        return well

    def is_answered(self) -> bool:
        """Return whether everything that was sent has been answered well."""
        while self._open and self._socket.poll(0):
            _, reply = frames.read_reply(self._socket.recv())
            if isinstance(reply, Refusal):
                return False
            self._open -= isinstance(reply, Beat | Welcome)
        return self._open == 0

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def leave(self) -> None:
        """Say goodbye."""
        self._send(Goodbye())

    def _send(self, command: Command) -> None:
        self._socket.send(request_frame(0, command))


# --- chunks ---


def serve_chunks(count: int, size_bytes: int) -> None:
    """Send chunks of float64, for ever: to a request with its number the chunk, not copied."""
    import numpy as np

    chunks = [np.full(size_bytes // 8, number, np.float64) for number in range(count)]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    end_with_parent()
    say(port=router.bind_to_random_port(_HOST))
    while True:
        peer, number = router.recv_multipart()
        router.send(peer, zmq.SNDMORE)
        router.send(number, zmq.SNDMORE)
        router.send(chunks[int(number)].data, copy=False)


class ChunkDealer:
    """A plain client that takes chunks, several on their way at a time, and looks at none."""

    def __init__(self, port: int) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(f"{_HOST}:{port}")

    def __repr__(self) -> str:
        return f"<ChunkDealer {self._socket!r}>"

    def take(self, count: int, *, in_flight: int) -> float:
        """Return how many seconds it took until ``count`` chunks were there."""
        begin = time.perf_counter()
        for _ in self._chunks(count, in_flight):
            pass
        return time.perf_counter() - begin

    def gather(self, count: int, *, in_flight: int, size_bytes: int) -> float:
        """Return how many seconds it took until they lay in one new array."""
        import numpy as np

        begin = time.perf_counter()
        whole = np.empty(count * size_bytes, np.uint8)
        for number, frame in enumerate(self._chunks(count, in_flight)):
            place = slice(number * size_bytes, (number + 1) * size_bytes)
            whole[place] = np.frombuffer(frame.buffer, np.uint8)
        return time.perf_counter() - begin

    def _chunks(self, count: int, in_flight: int) -> Iterator[zmq.Frame]:
        for number in range(min(in_flight, count)):
            self._socket.send(b"%d" % number)
        for number in range(count):
            self._socket.recv(copy=False)
            yield self._socket.recv(copy=False)
            if number + in_flight < count:
                self._socket.send(b"%d" % (number + in_flight))

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["relay"]:
            relay()
        case ["chunks", count, size_bytes]:
            serve_chunks(int(count), int(size_bytes))
        case ["switch"]:
            switch()
        case ["mirror", port]:
            asyncio.run(mirror(int(port)))
        case _:
            echo()
