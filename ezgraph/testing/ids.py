"""Identities in the order they were asked for."""

from __future__ import annotations

from itertools import count
from uuid import UUID


class SequentialIds:
    """An `ezgraph.ids.IdSource`: ``s1``, …, ``n1``, …, and process ids ending in 1, 2, …."""

    def __init__(self) -> None:
        self._sessions = count(1)
        self._processes = count(1)
        self._nodes = count(1)

    def session_id(self) -> str:
        """Return the next session id."""
        return f"s{next(self._sessions)}"

    def process_id(self) -> UUID:
        """Return the next process id."""
        return UUID(int=next(self._processes))

    def node_uid(self) -> str:
        """Return the next uid of a node."""
        return f"n{next(self._nodes)}"
