"""The file descriptors of one socket's peers: which generation each is in, and whose key it has.

ZeroMQ's monitor speaks of file descriptors, and a frame tells the one it came in on. The system
gives a number out again as soon as it is free, so each has a generation, raised at every ACCEPTED.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

import zmq

from ezgraph.broker.backlog import received_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.broker.connections import Descriptor

_NOBLOCK = int(zmq.NOBLOCK)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_ACCEPTED = int(zmq.EVENT_ACCEPTED)
_WATCHED_EVENTS = _ACCEPTED | int(zmq.EVENT_DISCONNECTED)
_MONITOR_EVENT = struct.Struct("=Hi")


class Descriptors:
    """The peers of one socket, as its monitor and their frames tell of them.

    ``generations``: of every number ever seen. ``topics``: how many each subscribed to.
    """

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        self.generations: dict[int, int] = {}
        self.topics: dict[int, set[bytes]] = {}
        self._watched = watched
        self.monitor = watched.get_monitor_socket(_WATCHED_EVENTS)
        self._open: dict[int, str | None] = {}
        self._of_key: dict[str, set[int]] = {}
        self._ends_left: dict[int, tuple[float, float]] = {}
        self._read_bytes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Descriptors open={len(self._open)} keys={len(self._of_key)}>"

    def obey_monitor(self) -> Iterator[tuple[Descriptor, bool]]:
        """Yield what was accepted (True) and what was closed (False) since the last time."""
        while int(self.monitor.get(_EVENTS)) & _POLLIN:
            packed, _ = self.monitor.recv_multipart(_NOBLOCK)
            event, fd = _MONITOR_EVENT.unpack(packed)
            if event == _ACCEPTED:
                self._forget(fd)
                self.generations[fd] = self.generations.get(fd, 0) + 1
                self._open[fd] = None
            else:
                self._forget(fd)
            yield (fd, self.generations.get(fd, 0)), event == _ACCEPTED

    def seen(self, fd: int, public: str) -> None:
        """Take note of whose key the peer at ``fd`` has."""
        if fd in self._open and self._open[fd] is None:
            self._open[fd] = public
            self._of_key.setdefault(public, set()).add(fd)

    def subscribes(self, fd: int, message: bytes) -> int:
        """Count a subscription or its end; return how many topics this peer subscribes to."""
        topics = self.topics.setdefault(fd, set())
        if message[:1] == b"\x01":
            topics.add(message[1:])
        else:
            topics.discard(message[1:])
        return len(topics)

    def resubscribes_too_much(self, fd: int, now: float, *, most: int) -> bool:
        """Count an end of a subscription; return whether there are too many of this peer.

        It may end ``most`` at once; a tenth of that is granted anew every second.
        """
        left, at = self._ends_left.get(fd, (float(most), now))
        left = min(float(most), left + (now - at) * most / 10) - 1.0
        self._ends_left[fd] = left, now
        return left < 0.0

    def has_read(self, fd: int, size_bytes: int) -> None:
        """Count what was read of this peer, as it came over the wire."""
        self._read_bytes[fd] = self._read_bytes.get(fd, 0) + size_bytes

    def unread_bytes(self) -> Iterator[tuple[int, int]]:
        """Yield each peer's descriptor, and how much it has sent that was not read yet."""
        for fd in list(self._open):
            yield fd, received_bytes(fd) - self._read_bytes.get(fd, 0)

    def of_key(self, public: str) -> frozenset[int]:
        """Return the descriptors of the peers that have this key, as far as it is known."""
        return frozenset(self._of_key.get(public, ()))

    def of_nobody(self) -> frozenset[int]:
        """Return the descriptors of the peers whose keys are not known yet."""
        return frozenset(fd for fd, public in self._open.items() if public is None)

    def newest(self) -> int:
        """Return the descriptor that was accepted last."""
        return next(reversed(self._open))

    def _forget(self, fd: int) -> None:
        public = self._open.pop(fd, None)
        self.topics.pop(fd, None)
        self._ends_left.pop(fd, None)
        self._read_bytes.pop(fd, None)
        if public is not None:
            others = self._of_key.get(public, set())
            others.discard(fd)
            if not others:
                self._of_key.pop(public, None)

    def close(self) -> None:
        """Watch no longer."""
        self._watched.disable_monitor()
        self.monitor.close(linger=0)


def cut_off(fd: int) -> None:
    """Shut the connection at ``fd`` down, both ways; its socket learns it as if the peer had gone.

    The descriptor belongs to ZeroMQ and stays its to close: a copy of it is used.
    """
    try:
        with socket.socket(fileno=os.dup(fd)) as copied:
            copied.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has gone by itself
