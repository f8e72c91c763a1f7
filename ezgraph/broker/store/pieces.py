"""Pieces of graphs that clients have stored, and that no graph refers to yet. Pure.

They are kept for as long as storing a graph may take, and bounded, for each client and for all of
them together; whoever never names the graph has stored them in vain, and they are removed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ezgraph.config import Limits

LIFE_S = 600.0
_AT_A_TIME = 200


class _Waiting(NamedTuple):
    client: str
    size_bytes: int
    since: float


class WaitingPieces:
    """Names of pieces that wait for their graph; ``now`` is in monotonic seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[bytes, _Waiting] = OrderedDict()
        self._bytes_of: Counter[str] = Counter()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<WaitingPieces {len(self)} bytes={self._bytes_of.total()}>"

    def add(self, client: str, pieces: Mapping[bytes, bytes], now: float) -> None:
        """Have pieces wait that were not stored before.

        Raises:
            LimitError: that would be too many; none of them waits.
        """
        size = sum(map(len, pieces.values()))
        own, of_all = self._bytes_of[client] + size, self._bytes_of.total() + size
        if own > self._limits.max_pieces_waiting_bytes:
            raise LimitError(
                f"{own} bytes of pieces that no graph refers to, and a client may store "
                f"{self._limits.max_pieces_waiting_bytes} here (max_pieces_waiting_bytes); store "
                f"the graph they belong to, then the next one"
            )
        if of_all > self._limits.max_pieces_waiting_bytes_of_all:
            raise LimitError(
                f"{of_all} bytes of pieces that no graph refers to, and all clients together may "
                f"store {self._limits.max_pieces_waiting_bytes_of_all} here "
                f"(max_pieces_waiting_bytes_of_all); try again in {LIFE_S / 60:g} minutes"
            )
        for name, piece in pieces.items():
            self._waiting[name] = _Waiting(client, len(piece), now)
        self._bytes_of[client] += size

    def used(self, names: Iterable[bytes]) -> None:
        """A graph refers to these now, which may have waited or not."""
        for name in names:
            self._forget(name)

    def expired(self, now: float) -> list[bytes]:
        """Return some that have waited for too long, and wait no more."""
        over: list[bytes] = []
        for name, waiting in self._waiting.items():
            if now - waiting.since <= LIFE_S or len(over) >= _AT_A_TIME:
                break
            over.append(name)
        self.used(over)
        return over

    def _forget(self, name: bytes) -> None:
        waiting = self._waiting.pop(name, None)
        if waiting is not None:
            self._bytes_of[waiting.client] -= waiting.size_bytes
            if self._bytes_of[waiting.client] <= 0:
                del self._bytes_of[waiting.client]
