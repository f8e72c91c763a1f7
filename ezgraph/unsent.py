"""What was given to ZeroMQ for one peer and has not left yet: it is memory of the sender."""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Tracker(Protocol):
    """Tells whether ZeroMQ still needs a buffer (`zmq.MessageTracker`)."""

    @property
    def done(self) -> bool:
        """Whether it needs it no longer."""
        ...


class Unsent:
    """The buffers on their way to one peer."""

    def __init__(self) -> None:
        self._buffers: deque[tuple[Tracker, int]] = deque()
        self.size_bytes = 0

    def __repr__(self) -> str:
        return f"<Unsent {len(self)} buffers {self.size_bytes} bytes>"

    def __len__(self) -> int:
        return len(self._buffers)

    def add(self, tracker: Tracker, size_bytes: int) -> None:
        """Count a buffer that ZeroMQ was given."""
        self._buffers.append((tracker, size_bytes))
        self.size_bytes += size_bytes

    def settle(self) -> None:
        """Forget what has left; buffers of a connection leave in order."""
        while self._buffers and self._buffers[0][0].done:
            self.size_bytes -= self._buffers.popleft()[1]
