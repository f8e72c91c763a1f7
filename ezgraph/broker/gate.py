"""Who may connect: CURVE on every socket, the allow-list asked at every handshake (ZAP).

ZeroMQ asks the handler at ``inproc://zeromq.zap.01`` of the same context for each connection whose
CURVE handshake has shown that the peer has the secret of its key. Without a handler every key would
do. The broker's loop is the handler: it answers a bounded number in each pass, from the reading of
the allow-list that it judges commands by. Every socket has a domain of its own, and a key is let in
to the commands and to the events of its own read scope, to nothing else.

An answer carries the public key as *User-Id*; ZeroMQ attaches it to every frame of the connection.

The files are looked at twice a second. A reading that fails leaves the one before in force, and the
status says so.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

import zmq

from ezgraph.broker.admitted import COMMANDS, Socket, lets_in
from ezgraph.errors import EzGraphError

if TYPE_CHECKING:
    from ezgraph.protocol.roles import Access

log = logging.getLogger(__name__)

_NOBLOCK = int(zmq.NOBLOCK)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_HANDLER = "inproc://zeromq.zap.01"
_REQUEST_FRAMES = 7
_LOOK_S = 0.5
_DOMAIN = "ezgraph"
HANDSHAKES_PER_PASS = 32


class AccessSource(Protocol):
    """Where the allow-list and the roles are read; see `ezgraph.keys`."""

    def load(self, before: Access | None) -> Access:
        """Return what they say now."""
        ...

    def changed(self) -> bool:
        """Return whether they are other files, or have changed, since `load`."""
        ...


class Stranger(NamedTuple):
    """Who was not let in: the key's first digits, and from which address."""

    public: str
    address: str


class Gate:
    """The broker's key, the allow-list in force, and the handler that admits by it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        public: bytes,
        secret: bytes,
        source: AccessSource,
    ) -> None:
        self._public, self._secret = public, secret
        self._source = source
        self._look_at = 0.0
        self._reads_again = False
        self.access = source.load(None)
        self.warning: str | None = None
        self.handler = context.socket(zmq.REP)
        self.handler.set(zmq.LINGER, 0)
        self.handler.bind(_HANDLER)

    def __repr__(self) -> str:
        return f"<Gate {self.access!r}{' ' + self.warning if self.warning else ''}>"

    def guard(self, sock: zmq.Socket[bytes], scope: Socket) -> None:
        """Have a socket, before it is bound, admit only keys; ``scope`` None: for commands."""
        sock.set(zmq.CURVE_SERVER, 1)
        sock.set(zmq.CURVE_PUBLICKEY, self._public)
        sock.set(zmq.CURVE_SECRETKEY, self._secret)
        sock.set(zmq.ZAP_DOMAIN, _domain(scope).encode())

    def answer(self) -> list[Stranger]:
        """Answer handshakes that wait, up to a bound; return who was not let in."""
        strangers = []
        for _ in range(HANDSHAKES_PER_PASS):
            if not int(self.handler.get(_EVENTS)) & _POLLIN:
                break
            asked = self.handler.recv_multipart(_NOBLOCK)
            stranger = self._answer(asked)
            if stranger is not None:
                strangers.append(stranger)
        return strangers

    def _answer(self, asked: list[bytes]) -> Stranger | None:
        if len(asked) != _REQUEST_FRAMES:
            number = asked[1] if len(asked) > 1 else b""
            self.handler.send_multipart([b"1.0", number, b"500", b"no CURVE", b"", b""])
            return None
        _, number, domain, address, _, _, key = asked
        public = key.hex()
        if lets_in(self.access, public, _socket_of(domain.decode())):
            self.handler.send_multipart([b"1.0", number, b"200", b"OK", public.encode(), b""])
            return None
        self.handler.send_multipart([b"1.0", number, b"400", b"not admitted", b"", b""])
        return Stranger(public, address.decode(errors="replace"))

    def look(self, now: float) -> Access | None:
        """Return another reading of the allow-list if it has changed; None: it has not."""
        if now < self._look_at:
            return None
        self._look_at = now + _LOOK_S
        if not self._source.changed() and not self._reads_again:
            return None
        try:
            self.access = self._source.load(self.access)
        except EzGraphError as error:
            self._reads_again = True  # it may have failed for the moment only
            warning = f"the allow-list before its last change is in force: {error}"
            if warning != self.warning:
                log.error("allow-list not read, the one before stays in force: %s", error)  # noqa: TRY400
            self.warning = warning
            return None
        self._reads_again = False
        self.warning = None
        log.info("allow-list read keys=%d scopes=%d", len(self.access), len(self.access.scopes))
        return self.access

    def close(self) -> None:
        """Let nobody in any more."""
        self.handler.close(linger=0)


def _domain(socket: Socket) -> str:
    return _DOMAIN if socket is COMMANDS else f"{_DOMAIN}.{socket}"


def _socket_of(domain: str) -> Socket:
    number = domain.partition(".")[2]
    return int(number) if number else COMMANDS
