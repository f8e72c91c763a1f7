"""Notes and links: how a watcher knows that it has everything."""

from __future__ import annotations

from typing import NamedTuple


class Note(NamedTuple):
    """For one prefix: the last seq published under it, and the head at that moment.

    A watcher complete through ``last`` is complete through ``head``.
    """

    cluster_id: str
    epoch: int
    last: int
    head: int


UNWATCHED = -1


class Link(NamedTuple):
    """For one event and one prefix of its key.

    ``prev``: the last seq published under that prefix before; `UNWATCHED` when the broker does
    not (yet) keep it, so that nothing can be concluded from it.
    ``more``: a later event of the same transaction lies under that prefix too.
    """

    prev: int
    more: bool
