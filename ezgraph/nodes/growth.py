"""Data that grows: who appends tells those who wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ezgraph.ids import RandomIds

if TYPE_CHECKING:
    from collections.abc import Callable


class Growth:
    """Whether a node's data may still grow, and those who wait for that.

    ``incarnation`` is of this object alone: who follows a node that was made anew, under the uid
    it had before, is not given its partitions as if they went on from the old ones.
    """

    def __init__(self) -> None:
        self.incarnation = RandomIds().session_id()
        self.is_open = False
        self._news = threading.Condition()
        self._listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Growth {'open' if self.is_open else 'closed'} {self.incarnation}>"

    def tell(self) -> None:
        """Wake all who wait: something was appended, or nothing will be any more."""
        with self._news:
            self._news.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def wait_for(self, has_news: Callable[[], bool], timeout: float) -> None:
        """Return once there are news, or after ``timeout`` seconds."""
        with self._news:
            self._news.wait_for(has_news, timeout)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` from now on, in the thread of whoever appends."""
        with self._news:
            if listener not in self._listeners:
                self._listeners.append(listener)

    def ignore(self, listener: Callable[[], None]) -> None:
        """Call it no longer."""
        with self._news:
            if listener in self._listeners:
                self._listeners.remove(listener)
