"""A broker's core in a test's hands: a clock that stands still, and ids in sequence."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from ezgraph.broker.admission import Cluster
from ezgraph.broker.core import BrokerCore, Outcome
from ezgraph.config import BrokerConfig, Limits
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Hello, Request
from ezgraph.protocol.replies import Refusal, Reply, Welcome
from ezgraph.state.graph import GraphState
from ezgraph.testing import SequentialIds

if TYPE_CHECKING:
    from ezgraph.protocol.events import Body, Event

CLUSTER_ID, SECRET = "c" * 32, b"secret"


class Desk:
    """Asks a `BrokerCore` and keeps every event it made."""

    def __init__(self, config: BrokerConfig | None = None) -> None:
        self.now = 100.0
        self.state = GraphState()
        self.state.epoch = 1
        self.events: list[Event] = []
        self.last_id = 0
        self._ids = count(1)
        self._nonces = count(1)
        self.core = BrokerCore(
            self.state,
            Cluster(CLUSTER_ID, SECRET),
            config or BrokerConfig(limits=Limits(max_leases=5, max_open_requests=20)),
            SequentialIds(),
            events_port=1234,
            floor=1,
        )

    def outcome(
        self,
        peer: bytes,
        command: Command,
        *,
        request_id: int | None = None,
        lowest: int = 0,
        public: str | None = None,
    ) -> Outcome:
        """Ask; the request id is a new one unless given."""
        number = next(self._ids) if request_id is None else request_id
        self.last_id = number
        request = Request(number, lowest, command)
        outcome = self.core.receive(
            peer, request, now=self.now, wall=1e9 + self.now, public=public
        )
        self.events += outcome.events
        return outcome

    def ask(
        self, peer: bytes, command: Command, *, request_id: int | None = None, lowest: int = 0
    ) -> Reply | None:
        """Ask, and return what is answered."""
        return self.outcome(peer, command, request_id=request_id, lowest=lowest).reply

    def bodies(self, peer: bytes, command: Command) -> list[Body]:
        """Ask, and return what became true."""
        outcome = self.outcome(peer, command)
        assert not isinstance(outcome.reply, Refusal), outcome.reply
        return [event.body for event in outcome.events]

    def refusal(self, peer: bytes, command: Command, **ids: int) -> Refusal:
        """Ask for what must be refused; nothing may have changed."""
        before, events = self.state.fingerprint(), len(self.events)
        reply = self.ask(peer, command, **ids)
        assert isinstance(reply, Refusal), reply
        assert self.state.fingerprint() == before
        assert len(self.events) == events
        return reply

    def hello_of(self, kind: str = "session", nonce: str | None = None) -> Hello:
        """A HELLO nobody has said before."""
        name = nonce or f"nonce-{next(self._nonces)}"
        return Hello(PROTOCOL_VERSION, kind, name, "demo.py", "rig", 42, "ada")

    def join(self, peer: bytes, kind: str = "session") -> str:
        """Open a lease on ``peer``; return the client id."""
        welcome = self.ask(peer, self.hello_of(kind), request_id=0)
        assert isinstance(welcome, Welcome), welcome
        return welcome.client

    def pass_time(self, seconds: float) -> list[tuple[Event, ...]]:
        """Let time pass; return the transactions of leases that ran out."""
        self.now += seconds
        over = self.core.expire(now=self.now, wall=1e9 + self.now)
        self.events += [event for events in over for event in events]
        return over


@pytest.fixture
def desk() -> Desk:
    """A core with nothing in it."""
    return Desk()
