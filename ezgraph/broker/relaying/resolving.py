"""Names of hosts, looked up without holding up who asks.

ZeroMQ looks a name up in its I/O thread, and all connections of that thread wait for it: for many
seconds, where a name server does not answer. So names are looked up in a thread of their own, and
who asks comes again.
"""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_KNOWN_S = 30.0
_MOST_NAMES = 1_000
_MOST_AT_A_TIME = 8


class _Known(NamedTuple):
    """What a name was found to be (None: nothing), and when to forget that."""

    address: str | None
    until: float


class Resolver:
    """Says what names of hosts mean, once that is known.

    ``look_up`` returns an address in digits or raises OSError; it may take any time.
    """

    def __init__(self, look_up: Callable[[str], str] | None = None) -> None:
        self._look_up = look_up or _looked_up
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._asking: set[str] = set()

    def __repr__(self) -> str:
        return f"<Resolver names={len(self._known)} asking={len(self._asking)}>"

    def address_of(self, host: str, now: float) -> str | None:
        """Return the address of a host, in digits; None: it has none, or is being looked up."""
        if _is_numeric(host):
            return host
        with self._lock:
            known = self._known.get(host)
            if known is not None and now < known.until:
                return known.address
            if host in self._asking or len(self._asking) >= _MOST_AT_A_TIME:
                return None
            self._asking.add(host)
        threading.Thread(
            target=self._ask, args=(host, now + _KNOWN_S), name="ezgraph-resolver", daemon=True
        ).start()
        return None

    def _ask(self, host: str, until: float) -> None:
        try:
            address: str | None = self._look_up(host)
        except (OSError, UnicodeError):
            address = None
        with self._lock:
            self._asking.discard(host)
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()
            self._known[host] = _Known(address, until)


def _is_numeric(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _looked_up(host: str) -> str:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return str(found[0][4][0])
