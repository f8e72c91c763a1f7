"""The file descriptors of one socket's peers: which generation each is in, and whose key it has.

ZeroMQ's monitor speaks of file descriptors, and a frame tells the one it came in on. The system
gives a number out again as soon as it is free, so each has a generation, raised at every ACCEPTED.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING

import zmq

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

    ``generations``: of every number ever seen. ``topics``: what each subscribes to.
    """

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        self.generations: dict[int, int] = {}
        self.topics: dict[int, set[bytes]] = {}
        self._watched = watched
        self.monitor = watched.get_monitor_socket(_WATCHED_EVENTS)
        self._open: dict[int, str | None] = {}
        self._of_key: dict[str, set[int]] = {}
        self._subscribers: Counter[bytes] = Counter()
        self._left: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, fd: object) -> bool:
        return fd in self._open

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
        """Count a subscription or its end; return how many topics this peer subscribes to.

        What it has not subscribed to it cannot end.
        """
        topics, topic = self.topics.setdefault(fd, set()), message[1:]
        if message[:1] == b"\x01":
            self._subscribers[topic] += topic not in topics
            topics.add(topic)
        elif topic in topics:
            topics.remove(topic)
            self._leave(topic)
        return len(topics)

    def left(self) -> list[bytes]:
        """Return the topics, once, that the last of their subscribers has left."""
        left = [topic for topic in self._left if topic not in self._subscribers]
        self._left.clear()
        return left

    def _leave(self, topic: bytes) -> None:
        self._subscribers[topic] -= 1
        if not self._subscribers[topic]:
            del self._subscribers[topic]
            self._left.add(topic)

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
        for topic in self.topics.pop(fd, ()):
            self._leave(topic)
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
