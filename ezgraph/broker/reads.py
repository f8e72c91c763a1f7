"""The reads of stored bytes that wait: a line for each client, served by turns. Pure.

A client that asks for much waits longer itself, and makes nobody else wait. A line has a bound
(`max_waiting_reads_per_client`), and so have all of them together (`max_waiting_reads`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import LimitError

if TYPE_CHECKING:
    from ezgraph.broker.core import ReadCommand
    from ezgraph.config import Limits


class Reading(NamedTuple):
    """A read that waits for its turn; ``client`` asked for it with the key ``public``."""

    peer: bytes
    request_id: int
    command: ReadCommand
    client: str
    public: str | None


class Reads:
    """All lines. A falsy one is empty."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: OrderedDict[str, deque[Reading]] = OrderedDict()
        self._asked: set[tuple[bytes, int]] = set()

    def __len__(self) -> int:
        return len(self._asked)

    def __repr__(self) -> str:
        return f"<Reads waiting={len(self)} clients={len(self._lines)}>"

    def put(self, reading: Reading) -> None:
        """Let a read wait; a repetition of one that waits is forgotten.

        Raises:
            LimitError: too many wait, of this client or of all.
        """
        asked = (reading.peer, reading.request_id)
        if asked in self._asked:
            return
        line = self._lines.get(reading.client, ())
        most = self._limits.max_waiting_reads_per_client
        if len(line) >= most:
            raise LimitError(
                f"{len(line)} reads of this client wait already, as many as may "
                f"(max_waiting_reads_per_client); ask again when some are answered"
            )
        if len(self._asked) >= self._limits.max_waiting_reads:
            raise LimitError(
                f"{len(self._asked)} reads wait already, the limit of this broker "
                f"(max_waiting_reads); ask again in a moment"
            )
        self._asked.add(asked)
        self._lines.setdefault(reading.client, deque()).append(reading)

    def take(self) -> Reading:
        """Return the next read; it waits no longer."""
        client, line = self._lines.popitem(last=False)
        reading = line.popleft()
        if line:
            self._lines[client] = line  # behind the others
        self._asked.discard((reading.peer, reading.request_id))
        return reading
