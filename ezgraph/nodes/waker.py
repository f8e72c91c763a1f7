"""What wakes a thread that polls sockets, from any other thread."""

from __future__ import annotations

import socket
from contextlib import suppress


class Waker:
    """A pair of sockets: one end is polled, to the other a byte is sent."""

    def __init__(self) -> None:
        self._told, self.polled = socket.socketpair()
        for end in (self._told, self.polled):
            end.settimeout(0)

    def __repr__(self) -> str:
        return f"<Waker fd={self.fileno}>"

    @property
    def fileno(self) -> int:
        """What a poller calls the polled end."""
        return self.polled.fileno()

    def wake(self) -> None:
        """Wake the thread, or have it go round once more."""
        with suppress(BlockingIOError, OSError):  # full: it will wake anyway; closed: it has ended
            self._told.send(b"w")

    def rest(self) -> None:
        """Take note that the thread is awake."""
        with suppress(BlockingIOError):
            self.polled.recv(4096)

    def close(self) -> None:
        """Close both ends."""
        self._told.close()
        self.polled.close()
