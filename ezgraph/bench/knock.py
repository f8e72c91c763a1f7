"""A child that knocks at a broker's port again and again, and never gets in.

``python -m ezgraph.bench.knock KIND ADDRESS BROKER_KEY [SECRET_FILE]``: with ``keys`` each attempt
is a CURVE handshake with a key that the broker does not know; with ``tcp`` a connection on which
nothing is ever said; with ``admitted`` the key in the file, which says HELLO and goes.
"""

from __future__ import annotations

import itertools
import socket
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from ezgraph.bench.bare import request_frame
from ezgraph.bench.children import Child, answer, be, say
from ezgraph.bench.crowd import allow_descriptors
from ezgraph.client.identity import hello
from ezgraph.config import Address, parse_address
from ezgraph.keys.curve import new_pair
from ezgraph.keys.pair import read_pair_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PER_S = 1_000
_AT_ONCE = 20
_STAYS_S = 0.5
_KEYS = 100


def _shaking(
    address: Address, broker: bytes, pairs: list[tuple[bytes, bytes]], first: bytes | None
) -> Callable[[], Callable[[], None]]:
    """Return what makes one attempt, and returns what ends it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 20_000)
    keys = itertools.cycle(pairs)

    def attempt() -> Callable[[], None]:
        sock = context.socket(zmq.DEALER)
        sock.set(zmq.LINGER, 0)
        sock.set(zmq.RECONNECT_IVL, -1)
        public, secret = next(keys)
        sock.set(zmq.CURVE_PUBLICKEY, public)
        sock.set(zmq.CURVE_SECRETKEY, secret)
        sock.set(zmq.CURVE_SERVERKEY, broker)
        sock.connect(address.endpoint)
        if first is not None:
            sock.send(first)
        return sock.close

    return attempt


def _silent(address: Address) -> Callable[[], Callable[[], None]]:
    def attempt() -> Callable[[], None]:
        sock = socket.socket()
        sock.settimeout(0.0)
        sock.connect_ex(address)
        return sock.close

    return attempt


class _Knocker:
    """Makes `PER_S` attempts a second, if it can, and ends each after a while."""

    def __init__(self, attempt: Callable[[], Callable[[], None]]) -> None:
        self.attempts = 0
        self._attempt = attempt
        self._open: deque[tuple[float, Callable[[], None]]] = deque()

    def __repr__(self) -> str:
        return f"<Knocker attempts={self.attempts}>"

    def run(self) -> None:
        """Knock, for ever."""
        pause, due = threading.Event(), time.monotonic()
        while True:
            now = time.monotonic()
            for _ in range(_AT_ONCE):
                self._open.append((now + _STAYS_S, self._attempt()))
            self.attempts += _AT_ONCE
            while self._open[0][0] < now:
                self._open.popleft()[1]()
            due = max(due + _AT_ONCE / PER_S, now)  # what was missed is not caught up with
            pause.wait(due - now)


@contextmanager
def knocking(
    kind: str, address: Address, broker: bytes, secret: Path | None = None
) -> Iterator[Child]:
    """A knocker for the length of a ``with``; asked, it says how many attempts it has made."""
    shown = () if secret is None else (str(secret),)
    with Child("ezgraph.bench.knock", kind, str(address), broker.hex(), *shown) as child:
        yield child


def _attempts(kind: str, address: Address, broker: bytes, secret: str | None) -> _Knocker:
    if kind == "tcp":
        return _Knocker(_silent(address))
    if secret is not None:
        pair = read_pair_file(Path(secret))
        first = request_frame(0, hello("guest"))
        return _Knocker(_shaking(address, broker, [(pair.public, pair.secret)], first))
    return _Knocker(_shaking(address, broker, [new_pair() for _ in range(_KEYS)], None))


async def _main(kind: str, address: Address, broker: bytes, secret: str | None) -> None:
    allow_descriptors()
    knocker = _attempts(kind, address, broker, secret)
    threading.Thread(target=knocker.run, daemon=True).start()

    async def hand_over(_request: dict[str, Any]) -> dict[str, Any]:
        return {"attempts": knocker.attempts}

    say(ready=True)
    await answer(hand_over)


if __name__ == "__main__":
    be(
        _main(
            sys.argv[1],
            parse_address(sys.argv[2]),
            bytes.fromhex(sys.argv[3]),
            sys.argv[4] if sys.argv[4:] else None,
        )
    )
