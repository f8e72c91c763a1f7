"""The reads of stored bytes that wait: a line for each key, served by turns. Pure.

Who asks for much waits longer, and makes nobody else wait: where there are keys, the clients of a
key share its turn, else each has its own. A client has a bound (`max_waiting_reads_per_client`),
and so have all of them together (`max_waiting_reads`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import LimitError

if TYPE_CHECKING:
    from ezgraph.backends.stored_reading import GraphReading
    from ezgraph.broker.connections import Descriptor
    from ezgraph.broker.core import ReadCommand
    from ezgraph.broker.reads_config import ConfigRead
    from ezgraph.config import Limits


class Reading(NamedTuple):
    """A read that waits; ``client`` asked for it on ``descriptor``, with the key ``public``.

    ``begun`` is how far one of the configuration has come at its turns before, and ``graph`` one of
    a stored graph.
    """

    peer: bytes
    request_id: int
    command: ReadCommand
    client: str
    public: str | None
    descriptor: Descriptor | None = None
    begun: ConfigRead | None = None
    graph: GraphReading | None = None


class Reads:
    """All lines. A falsy one is empty."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: OrderedDict[str, deque[Reading]] = OrderedDict()
        self._asked: set[tuple[bytes, int, Descriptor | None]] = set()
        self._of_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._asked)

    def __repr__(self) -> str:
        return f"<Reads waiting={len(self)} lines={len(self._lines)}>"

    def put(self, reading: Reading) -> None:
        """Let a read wait; a repetition of one that waits is forgotten.

        Raises:
            LimitError: too many wait, of this client or of all.
        """
        asked = (reading.peer, reading.request_id, reading.descriptor)
        if asked in self._asked:
            return
        own = self._of_client[reading.client]
        if own >= self._limits.max_waiting_reads_per_client:
            raise LimitError(
                f"{own} reads of this client wait already, as many as may "
                f"(max_waiting_reads_per_client); ask again when some are answered"
            )
        if len(self._asked) >= self._limits.max_waiting_reads:
            raise LimitError(
                f"{len(self._asked)} reads wait already, the limit of this broker "
                f"(max_waiting_reads); ask again in a moment"
            )
        self._asked.add(asked)
        self._of_client[reading.client] += 1
        self._lines.setdefault(reading.public or reading.client, deque()).append(reading)

    def take(self) -> Reading:
        """Return the next read; it waits no longer."""
        whose, line = self._lines.popitem(last=False)
        reading = line.popleft()
        if line:
            self._lines[whose] = line  # behind the others
        self._asked.discard((reading.peer, reading.request_id, reading.descriptor))
        self._of_client -= Counter([reading.client])
        return reading
