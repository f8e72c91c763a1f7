"""What whoever listens at an address greets with: the mechanism by which it wants to be spoken to.

Where one of two has keys and the other has not, both hang up when they see it, and whoever is late
sees only that the other has. ZeroMQ then says no more than that; so the greeting is looked at. It
comes to who has said which version it speaks, and that is all that is said here.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezgraph.config import Address

_MARK = b"\xff"
_OPENING = _MARK + bytes(7) + b"\x01\x7f\x03"  # signature and version of ZMTP (ZeroMQ's RFC 23)
_MECHANISM = slice(12, 32)


class Greeting:
    """A look at one greeting; it waits for nothing."""

    def __init__(self, address: Address) -> None:
        """Raises `OSError` where there is no such address."""
        family, kind, protocol, _, where = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.settimeout(0)
        self._to_send, self._heard = _OPENING, b""
        self._socket.connect_ex(where)

    def __repr__(self) -> str:
        return f"<Greeting {self._heard!r}>"

    def mechanism(self) -> str | None:
        """Return the mechanism if it is known by now; call it again later otherwise."""
        with suppress(OSError):  # not connected yet, nothing to read yet, or hung up
            if self._to_send:
                self._to_send = self._to_send[self._socket.send(self._to_send) :]
            self._heard += self._socket.recv(_MECHANISM.stop - len(self._heard))
        if len(self._heard) < _MECHANISM.stop or not self._heard.startswith(_MARK):
            return None
        return self._heard[_MECHANISM].rstrip(b"\0").decode("ascii", "replace")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
