"""What has arrived and is not decided on yet: a line for each connection, served by turns. Pure.

A connection that sends more than is decided on waits in its own line, and makes nobody else wait:
the keys take turns, and the connections of a key take turns among themselves. A line has bounds
(`max_waiting_commands`, `max_waiting_bytes`), wide enough for any program that waits for its
answers; whoever goes beyond them floods the broker (`put` says so).

Within a line the order stays; between lines there is none.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ezgraph.broker.connections import Descriptor
    from ezgraph.config import Limits

SHARE = 8
"""How many commands of one connection are taken before it is another's turn."""


@dataclass(slots=True, eq=False)
class Arrived:
    """A message of one peer: the frames, what it came in on, and with which key.

    ``fd`` is None where ZeroMQ does not tell it; ``descriptor`` is found when the generation of
    ``fd`` is known. ``public``: where there are keys.
    """

    peer: bytes
    fd: int | None
    parts: list[bytes]
    public: str | None = None
    descriptor: Descriptor | None = None

    @property
    def size_bytes(self) -> int:
        """How much it says."""
        return sum(map(len, self.parts))

    @property
    def is_unplaced(self) -> bool:
        """Whether the generation of its descriptor is still to be found out."""
        return self.fd is not None and self.descriptor is None

    def place(self, generations: Mapping[int, int]) -> None:
        """Take the generation that its descriptor has now."""
        if self.fd is not None:
            self.descriptor = (self.fd, generations.get(self.fd, 0))


@dataclass(slots=True, eq=False)
class _Line:
    """The messages of one connection that wait."""

    messages: deque[Arrived] = field(default_factory=deque)
    commands: int = 0
    size_bytes: int = 0


class Inbox:
    """All lines. A falsy one is empty."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: OrderedDict[bytes | str, OrderedDict[bytes, _Line]] = OrderedDict()
        self._waiting: set[bytes] = set()
        self._commands = 0
        self._size_bytes = 0
        self._strangers: list[Arrived] = []

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __repr__(self) -> str:
        lines = sum(len(of_key) for of_key in self._lines.values())
        return f"<Inbox connections={lines} keys={len(self._lines)}>"

    def put(self, arrived: Arrived) -> bool:
        """Let a message wait in its line; return whether the line is still as it should be."""
        if arrived.is_unplaced:
            self._strangers.append(arrived)
        of_key = self._lines.setdefault(arrived.public or arrived.peer, OrderedDict())
        line = of_key.get(arrived.peer)
        if line is None:
            line = of_key[arrived.peer] = _Line()
        line.messages.append(arrived)
        size_bytes = arrived.size_bytes
        line.commands += len(arrived.parts)
        line.size_bytes += size_bytes
        self._commands += len(arrived.parts)
        self._size_bytes += size_bytes
        self._waiting.add(arrived.peer)
        limits = self._limits
        return (
            line.commands <= limits.max_waiting_commands
            and line.size_bytes <= limits.max_waiting_bytes
        )

    @property
    def is_overfull(self) -> bool:
        """Whether more waits than may in all lines together."""
        limits = self._limits
        return (
            self._commands > limits.max_waiting_commands_of_all
            or self._size_bytes > limits.max_waiting_bytes_of_all
        )

    def fullest(self) -> Arrived:
        """Return the latest message of the connection that the largest part of it waits on."""
        limits = self._limits
        lines = (line for of_key in self._lines.values() for line in of_key.values())
        fullest = max(
            lines,
            key=lambda line: max(
                line.commands / limits.max_waiting_commands_of_all,
                line.size_bytes / limits.max_waiting_bytes_of_all,
            ),
        )
        return fullest.messages[-1]

    def waits(self, peer: bytes) -> bool:
        """Return whether something of this connection waits."""
        return peer in self._waiting

    def strangers(self) -> list[Arrived]:
        """Return, once, the messages whose descriptors are still to be placed."""
        strangers, self._strangers = self._strangers, []
        return strangers

    def take(self, budget: int) -> Iterator[tuple[Arrived, list[bytes]]]:
        """Yield up to ``budget`` commands, some of one message at a time; they wait no longer."""
        while self._lines and budget > 0:
            key, of_key = self._lines.popitem(last=False)
            peer, line = of_key.popitem(last=False)
            arrived = line.messages[0]
            parts = arrived.parts[: min(SHARE, budget)]
            if len(parts) == len(arrived.parts):
                line.messages.popleft()
            else:
                del arrived.parts[: len(parts)]
            size_bytes = sum(map(len, parts))
            line.commands -= len(parts)
            line.size_bytes -= size_bytes
            self._commands -= len(parts)
            self._size_bytes -= size_bytes
            budget -= max(1, len(parts))
            if line.messages:
                of_key[peer] = line  # behind the others of its key
            else:
                self._waiting.discard(peer)
            if of_key:
                self._lines[key] = of_key  # and behind the others' keys
            yield arrived, parts

    def drop(self, peer: bytes) -> None:
        """Forget what waits of one connection."""
        self._waiting.discard(peer)
        for key, of_key in list(self._lines.items()):
            line = of_key.pop(peer, None)
            if line is None:
                continue
            self._commands -= line.commands
            self._size_bytes -= line.size_bytes
            if not of_key:
                del self._lines[key]
