"""A child that floods a broker as fast as it can, and counts what it is told for it.

``python -m ezgraph.bench.flood KIND ADDRESS [SECRET_FILE BROKER_KEY]``; the kinds are in `KINDS`.
It never waits for an answer and goes on after every cut: ZeroMQ connects again by itself, and with
keys, when it has given up, a new socket is made.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import zmq

from ezgraph.bench.bare import request_frame
from ezgraph.bench.children import Child, answer, be, say
from ezgraph.client.identity import hello
from ezgraph.client.sockets import secure
from ezgraph.config import Address, ClientKeys, parse_address
from ezgraph.errors import MalformedMessageError
from ezgraph.keys.keyring import shown_keys
from ezgraph.protocol.commands import Connect, Heartbeat, OpenSnapshot, ReadEvents
from ezgraph.protocol.replies import Refusal
from ezgraph.wire import frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.protocol.commands import Command

_FRAMES = 128
_SILENCE_S = 0.5
_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = _NOBLOCK | int(zmq.SNDMORE)


def _commands(command: Command) -> Iterator[list[bytes]]:
    for first in itertools.count(1, _FRAMES):
        yield [request_frame(first + each, command) for each in range(_FRAMES)]


def _hellos() -> Iterator[list[bytes]]:
    while True:
        yield [request_frame(0, hello("guest")) for _ in range(_FRAMES)]


def _repeated(message: list[bytes]) -> Iterator[list[bytes]]:
    while True:
        yield message


def _subscriptions() -> Iterator[list[bytes]]:
    for number in itertools.count():
        topic = b"\0flood/%d/\0" % number
        yield [b"\1" + topic]
        yield [b"\0" + topic]


class _Flooder:
    """One socket that is filled until it takes no more, and made anew when it is given up."""

    def __init__(self, kind: str, address: Address, keys: ClientKeys | None) -> None:
        self.sent, self.told = 0, Counter[str]()
        self._messages = KINDS[kind]()
        self._is_upstream = kind == "subscriptions"
        self._address, self._keys = address, keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._dial()
        self._moved = time.monotonic()

    def __repr__(self) -> str:
        return f"<Flooder sent={self.sent} told={dict(self.told)}>"

    def _dial(self) -> zmq.Socket[bytes]:
        sock = self._context.socket(zmq.XSUB if self._is_upstream else zmq.DEALER)
        sock.set(zmq.LINGER, 0)
        sock.set(zmq.SNDHWM, 1_000)
        secure(sock, self._keys, self._address)
        sock.connect(self._address.endpoint)
        if not self._is_upstream:
            sock.send(request_frame(0, hello("guest")))
        return sock

    def run(self) -> None:
        """Flood, for ever."""
        for message in self._messages:
            while not self._send(message):
                self._read()
                self._socket.poll(1, zmq.POLLOUT)
                if time.monotonic() - self._moved > _SILENCE_S:
                    self._socket.close()
                    self._socket, self._moved = self._dial(), time.monotonic()
            self._read()

    def _send(self, message: list[bytes]) -> bool:
        try:
            for frame in message[:-1]:
                self._socket.send(frame, _NOBLOCK_MORE)
            self._socket.send(message[-1], _NOBLOCK)
        except zmq.Again:
            return False
        self.sent += len(message)
        self._moved = time.monotonic()
        return True

    def _read(self) -> None:
        """Hear why it is cut off; what else it is answered is of no interest."""
        while self._socket.poll(0):
            for frame in self._socket.recv_multipart():
                try:
                    request_id, reply = frames.read_reply(frame)
                except MalformedMessageError:
                    continue
                if isinstance(reply, Refusal) and not request_id:
                    self.told[reply.code] += 1


KINDS = {
    "commands": lambda: _commands(Connect("flood/out", "flood/in")),
    "heartbeats": lambda: _commands(Heartbeat(0.0)),
    "reads": lambda: _commands(ReadEvents([], 0)),
    "snapshots": lambda: _commands(OpenSnapshot([])),
    "hellos": _hellos,
    "garbage": lambda: _repeated([b"\xc1" * 40] * _FRAMES),
    "frames": lambda: _repeated([b""] * 2_000),
    "megabytes": lambda: _repeated([bytes(1 << 20)] * 8),
    "subscriptions": _subscriptions,
}
"""What it can flood with, and the messages of each."""


@contextmanager
def flood(kind: str, address: Address, *words: str) -> Iterator[Child]:
    """A flooder at ``address`` for the length of a ``with``; asked, it says what it was told.

    ``words``: which key it shows, as a `Keyring` says it.
    """
    with Child("ezgraph.bench.flood", kind, str(address), *words) as child:
        yield child


async def _main(kind: str, address: Address, keys: ClientKeys | None) -> None:
    flooder = _Flooder(kind, address, keys)
    threading.Thread(target=flooder.run, daemon=True).start()

    async def hand_over(_request: dict[str, Any]) -> dict[str, Any]:
        return {"sent": flooder.sent, "told": dict(flooder.told)}

    say(ready=True)
    await answer(hand_over)


if __name__ == "__main__":
    be(_main(sys.argv[1], parse_address(sys.argv[2]), shown_keys(sys.argv[2], sys.argv[3:])))
