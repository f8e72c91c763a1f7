"""Identities in the order they were asked for."""

from __future__ import annotations

from itertools import count
from uuid import UUID


class SequentialIds:
    """An `ezgraph.ids.IdSource`: ``s1``, ``s2``, …, and process ids ending in 1, 2, …."""

    def __init__(self) -> None:
        self._sessions = count(1)
        self._processes = count(1)

    def session_id(self) -> str:
        """Return the next session id."""
        return f"s{next(self._sessions)}"

    def process_id(self) -> UUID:
        """Return the next process id."""
        return UUID(int=next(self._processes))
