"""Data that grows: who appends tells, who follows misses nothing or is told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ezgraph.errors import CompactedError, DivergedError
from ezgraph.ids import RandomIds

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.protocol.nodes import GrowthReport


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


class Follower:
    """What one follower has had, and what is next. Pure.

    The rule is that of events: from any partition on it gets every later one, in order, each once,
    or an error that says which are gone. ``after`` None: those that come from now on.
    """

    def __init__(self, uid: str, after: int | None) -> None:
        self._uid = uid
        self.after = after
        self._incarnation: str | None = None
        self.is_finished = False

    def __repr__(self) -> str:
        return f"<Follower of {self._uid!r} after={self.after} finished={self.is_finished}>"

    def heard(self, report: GrowthReport) -> range:
        """Return the numbers of the partitions that are there to read now.

        Raises:
            DivergedError: the node was made anew.
            CompactedError: some that come next are gone; ``floor`` is the first that is not.
        """
        if self._incarnation not in (None, report.incarnation):
            raise DivergedError(
                f"node {self._uid!r} was made anew since partition {self.after}: its partitions "
                f"are others now; follow it from the beginning with after=-1"
            )
        self._incarnation = report.incarnation
        if self.after is None:
            self.after = report.partitions - 1
        if self.after >= report.partitions:
            raise DivergedError(
                f"node {self._uid!r} has had {report.partitions} partitions, so none is after "
                f"{self.after}; it was made anew, or never had that one"
            )
        self.check_floor(report)
        ready = range(self.after + 1, report.partitions)
        self.is_finished = not report.is_growing and not ready
        return ready

    def check_floor(self, report: GrowthReport) -> None:
        """Raise `CompactedError` if what comes next is gone."""
        if self.after is not None and self.after + 1 < report.first_partition:
            raise CompactedError(
                f"partitions {self.after + 1} to {report.first_partition - 1} of node "
                f"{self._uid!r} were dropped to make room; go on with "
                f"after={report.first_partition - 1}",
                floor=report.first_partition,
            )

    def took(self, number: int) -> None:
        """Note that a partition was delivered."""
        self.after = number
