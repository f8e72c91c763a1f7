"""Following data that grows: every partition, in order, each once, or an error that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.clock import Deadline
from ezgraph.errors import CompactedError, DeadlineError, DivergedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.nodes.base import BaseNode
    from ezgraph.protocol.nodes import GrowthReport, Partition

WAIT_S = 5.0
"""How long one request for growth waits, at most."""


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

    @property
    def position(self) -> int:
        """The last partition that was delivered; -1: none."""
        return -1 if self.after is None else self.after

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


def followed(
    node: BaseNode, follower: Follower, ready: range, timeout: float | None
) -> Iterator[Partition]:
    """Return what is ready, then what comes, until the node is finished."""
    while not follower.is_finished:
        for partition in node.partitions(ready):
            follower.took(partition.number)
            yield partition
        ready = follower.heard(_next_report(node, follower.position, timeout))


def _next_report(node: BaseNode, after: int, timeout: float | None) -> GrowthReport:
    """Return the next report that has news."""
    deadline = None if timeout is None else Deadline(timeout)
    while True:
        wait_s = WAIT_S if deadline is None else min(WAIT_S, deadline.left())
        report = node.growth_report(after=after, wait_s=wait_s)
        if report.partitions - 1 != after or not report.is_growing:
            return report
        if wait_s < WAIT_S:
            raise DeadlineError(
                f"nothing was appended to node {node.uid!r} after partition {after} for "
                f"{timeout:g} s; whoever acquires has stopped, or is slower than that"
            )
