"""The file descriptors of one socket's peers: which generation each is in, and whose key it has.

ZeroMQ's monitor speaks of file descriptors, and a frame tells the one it came in on. The system
gives a number out again as soon as it is free, so each has a generation, raised at every ACCEPTED.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING

import zmq

from ezgraph.backlog import received_bytes

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
        self.monitor = _unbounded_monitor(watched)
        self._open: dict[int, str | None] = {}
        self._of_key: dict[str, set[int]] = {}
        self._subscribers: Counter[bytes] = Counter()
        self._left: set[bytes] = set()
        self._ends_left: dict[int, tuple[float, float]] = {}
        self._reused: set[int] = set()
        self._unsure: set[int] = set()
        self._read_bytes: dict[int, int] = {}

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
                generation = self.generations[fd] = self.generations.get(fd, 0) + 1
                self._open[fd] = None
                if generation > 1:
                    self._reused.add(fd)
            else:
                self._forget(fd)
            yield (fd, self.generations.get(fd, 0)), event == _ACCEPTED

    def seen(self, fd: int, public: str) -> None:
        """Take note of whose key the peer at ``fd`` has, if the frame that shows it is surely its.

        A number that was given out again may still stand on frames of the peer before: until all
        that had arrived is read (`drained`), whose it is stays unknown.
        """
        if fd not in self._open or fd in self._reused or fd in self._unsure:
            return
        before = self._open[fd]
        if before != public:
            self._disown(fd, before)
            self._open[fd] = public
            self._of_key.setdefault(public, set()).add(fd)

    def drained(self) -> None:
        """All that had arrived at the socket is read, and what is accepted since is known."""
        self._unsure, self._reused = self._reused, set()

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

    def keys(self) -> list[tuple[int, str | None]]:
        """Return the descriptors of all peers, each with its key; None: it is not known yet."""
        return list(self._open.items())

    def least_known(self) -> int:
        """Return who is to go where there are too many: who has proved nothing, for longest.

        Where all have proved whose they are, or nobody has to, it is the one that came last.
        """
        newest = next(reversed(self._open))
        if not self._of_key:
            return newest
        return next((fd for fd, public in self._open.items() if public is None), newest)

    def _forget(self, fd: int) -> None:
        public = self._open.pop(fd, None)
        for topic in self.topics.pop(fd, ()):
            self._leave(topic)
        self._ends_left.pop(fd, None)
        self._reused.discard(fd)
        self._unsure.discard(fd)
        self._read_bytes.pop(fd, None)
        self._disown(fd, public)

    def _disown(self, fd: int, public: str | None) -> None:
        if public is None:
            return
        others = self._of_key.get(public, set())
        others.discard(fd)
        if not others:
            self._of_key.pop(public, None)

    def cut_off(self, fd: int) -> None:
        """Shut a connection down, both ways; its socket learns it as if the peer had gone.

        Only one that is open, as far as the monitor has told: other numbers are others' files. The
        descriptor is ZeroMQ's, and stays its to close.
        """
        if fd not in self._open:
            return
        try:
            borrowed = socket.socket(fileno=fd)
        except OSError:
            return  # it has gone by itself
        try:
            borrowed.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # likewise
        finally:
            borrowed.detach()

    def close(self) -> None:
        """Watch no longer."""
        for _ in self.obey_monitor():
            pass
        self._watched.monitor(None, 0)
        self.monitor.close(linger=0)


def _unbounded_monitor(watched: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """Return a socket with what ZeroMQ tells of a socket's connections.

    Its I/O thread waits for room for each event, with the socket locked: where the loop does not
    read for a while, or wants to end the monitor, both would wait for each other. So there is
    always room; an event takes a few bytes, and there are two for a connection.
    """
    endpoint = f"inproc://ezgraph.monitor.{watched.FD}"
    watched.monitor(endpoint, _WATCHED_EVENTS)
    monitor: zmq.Socket[bytes] = watched.context.socket(zmq.PAIR)
    monitor.set(zmq.LINGER, 0)
    monitor.set(zmq.RCVHWM, 0)
    monitor.connect(endpoint)
    return monitor
