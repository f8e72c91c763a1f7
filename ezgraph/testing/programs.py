"""A broker's core and six clients, without any network: for properties of decisions and states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.broker.admission import Cluster
from ezgraph.broker.core import BrokerCore
from ezgraph.config import BrokerConfig
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Goodbye, Hello, Request
from ezgraph.state.graph import GraphState
from ezgraph.testing.ids import SequentialIds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.protocol.events import Event
    from ezgraph.protocol.replies import Reply

KINDS = ("session", "process", "guest")


class CoreProgram:
    """A `BrokerCore` that clients ``0, 1, 2, …`` command; kinds are `KINDS` in turn.

    ``events`` is everything decided; client ``n`` says that its pid is ``n``. A client that has
    left joins again with its next command.
    """

    def __init__(self) -> None:
        self.state = GraphState()
        self.state.epoch = 1
        self.core = BrokerCore(
            self.state,
            Cluster("c1" * 16, b"secret"),
            BrokerConfig(),
            SequentialIds(),
            events_port=1,
            floor=1,
        )
        self.events: list[Event] = []
        self._joined: set[int] = set()
        self._requests = 0
        self._now = 0.0

    def __repr__(self) -> str:
        return f"<CoreProgram {self.core!r}>"

    @property
    def now(self) -> float:
        """When the last command was decided, in seconds since the start."""
        return self._now

    @property
    def requests(self) -> int:
        """The id of the last request."""
        return self._requests

    def do(self, client: int, command: Command | None) -> Reply | None:
        """Let a client ask ``command`` (None: leave); return the answer."""
        self.join(client)
        if command is None:
            self._joined.discard(client)
        return self._ask(client, command or Goodbye())

    def run(self, steps: Iterable[tuple[int, Command | None]]) -> CoreProgram:
        """Do several steps and return this program."""
        for client, command in steps:
            self.do(client, command)
        return self

    def join(self, client: int) -> Reply | None:
        """Let a client say HELLO and return the answer; None: it is there already."""
        if client in self._joined:
            return None
        self._joined.add(client)
        kind = KINDS[client % len(KINDS)]
        nonce = f"{client}:{self._requests}"
        hello = Hello(PROTOCOL_VERSION, kind, nonce, f"program {client}", "sim", client, "me")
        return self._ask(client, hello)

    def _ask(self, client: int, command: Command) -> Reply | None:
        self._requests += 1
        self._now += 0.01
        request = Request(self._requests, self._requests, command)
        outcome = self.core.receive(b"%d" % client, request, now=self._now, wall=1e9 + self._now)
        self.events += outcome.events
        return outcome.reply
