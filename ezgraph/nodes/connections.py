"""The connections of a host of nodes, by file descriptor, as ZeroMQ's monitor tells of them.

A message that has no end never reaches the thread that would refuse it, and ZeroMQ keeps what has
come of it: so the system is asked how much has come, and who is far beyond what may wait is hung
up on. The same care as a broker takes of its own sockets (`ezgraph.backlog`).
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import zmq

from ezgraph.backlog import received_bytes, wire_bytes
from ezgraph.client.sockets import readable

if TYPE_CHECKING:
    from collections.abc import Iterable

    Socket = zmq.Socket[bytes]

_NOBLOCK = int(zmq.NOBLOCK)
_ACCEPTED, _GONE = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
_MONITOR_EVENT = struct.Struct("=Hi")


class Connections:
    """Who is connected to a socket. `obey_monitor` before anything is concluded of a number."""

    def __init__(self, watched: Socket, *, is_secured: bool) -> None:
        self._watched = watched
        self._is_secured = is_secured
        self._monitor = _monitor_of(watched)
        self._read_bytes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._read_bytes)

    def __repr__(self) -> str:
        return f"<Connections {len(self)}>"

    def obey_monitor(self) -> set[int]:
        """Take note of who has come and gone; return the numbers of those who have gone."""
        gone: set[int] = set()
        while readable(self._monitor):
            event, fd = _MONITOR_EVENT.unpack(self._monitor.recv_multipart(_NOBLOCK)[0])
            if event == _ACCEPTED:
                self._read_bytes[fd] = 0
            else:
                self._read_bytes.pop(fd, None)
                gone.add(fd)
        return gone

    def has_read(self, fd: int, sizes: Iterable[int]) -> None:
        """Count a message that was read, by the sizes of its frames."""
        if fd in self._read_bytes:
            self._read_bytes[fd] += wire_bytes(sizes, is_secured=self._is_secured)

    def beyond(self, size_bytes: int) -> list[int]:
        """Return who has sent more than that which was not read yet."""
        return [
            fd for fd, read in self._read_bytes.items() if received_bytes(fd) - read > size_bytes
        ]

    def cut_off(self, fd: int) -> None:
        """Hang up. The descriptor is ZeroMQ's, and stays its to close."""
        if fd not in self._read_bytes:
            return
        with suppress(OSError):  # it has gone by itself
            borrowed = socket.socket(fileno=fd)
            try:
                borrowed.shutdown(socket.SHUT_RDWR)
            finally:
                borrowed.detach()

    def close(self) -> None:
        """Watch no longer."""
        self._watched.monitor(None, 0)
        self._monitor.close(linger=0)


def _monitor_of(watched: Socket) -> Socket:
    """Return a socket that tells who comes and goes; it never has ZeroMQ wait for us."""
    endpoint = "inproc://ezgraph.nodes.monitor"
    watched.monitor(endpoint, _ACCEPTED | _GONE)
    monitor: Socket = watched.context.socket(zmq.PAIR)
    monitor.set(zmq.LINGER, 0)
    monitor.set(zmq.RCVHWM, 0)
    monitor.connect(endpoint)
    return monitor
