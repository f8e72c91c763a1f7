"""Up to which moment everybody has been heard who had sent something by then. Pure.

Leases end by silence, and a silent client is told from one whose heartbeats wait unread. When the
socket is drained, all are heard. While somebody floods it never is; but it is read by turns, so
whenever one connection has had two turns, every other that had something waiting has had one in
between. From one such round to the next, leases may end.
"""

from __future__ import annotations


class Hearing:
    """The rounds of one socket. ``through``: all that had arrived by then was taken from it."""

    def __init__(self) -> None:
        self.through = float("-inf")
        self._since = float("-inf")
        self._heard: set[bytes] = set()

    def __repr__(self) -> str:
        return f"<Hearing through={self.through:.3f} heard={len(self._heard)}>"

    def take(self, peer: bytes, now: float) -> None:
        """Take note of a message of ``peer``."""
        if peer in self._heard:
            self._complete(self._since, now)
        self._heard.add(peer)

    def drained(self, now: float) -> None:
        """Take note that nothing waits any more."""
        self._complete(now, now)

    def _complete(self, through: float, now: float) -> None:
        self.through, self._since = through, now
        self._heard.clear()
