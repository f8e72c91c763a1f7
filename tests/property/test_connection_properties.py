"""Whose connection closed? Descriptors come again at once, and news of their ends comes late.

Random interleavings of connections made, used and broken, with the broker reading all of it in
passes of its own. A session that has had an open connection all the time is never taken for gone.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ezgraph.config import BrokerConfig, Limits
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Heartbeat, Hello, Resume
from ezgraph.protocol.replies import Welcome
from ezgraph.testing import Network, SimulatedBroker
from ezgraph.testing.network import CommandLink
from ezgraph.wire import codec, frames

CLIENTS = 5
LIVING = (0, 1, 2)
"""Their first connection stays; the others' last one may go."""

steps = st.one_of(
    st.tuples(st.just("open"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("open"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("send"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("drop"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("drop"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("stall"), st.sampled_from([5, 50])),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 5, 100, 800])),
)


class Rig:
    """Clients that are nothing but connections to a broker whose TTL nobody reaches."""

    def __init__(self, inbox_messages: int) -> None:
        limits = Limits(inbox_messages=inbox_messages, commands_per_pass=2)
        self.network = Network()
        self.broker = SimulatedBroker(self.network, BrokerConfig(ttl_s=3_000.0, limits=limits))
        port = self.broker._port
        assert port is not None
        self.port = port
        self.welcomes: list[Welcome] = []
        self.peers: list[list[bytes]] = [[] for _ in range(CLIENTS)]
        for client in range(CLIENTS):
            nonce = f"nonce {client}"
            hello = Hello(PROTOCOL_VERSION, "session", nonce, "program", "host", 1, "login")
            self.connect(client, hello)
            self.network.run(0.1)
        assert len(self.welcomes) == CLIENTS

    def connect(self, client: int, first: Command) -> None:
        link = CommandLink(self.network, lambda _: None)
        peer = self.port.accept_dealer(link)
        link.carry_reply = self.take  # type: ignore[method-assign, assignment]
        self.peers[client].append(peer)
        self.send(peer, first)

    def send(self, peer: bytes, command: Command) -> None:
        self.port.request_arrives(peer, [frames.request_frame(0, 0, codec.encode(command))])

    def take(self, _peer: bytes, message: list[bytes]) -> None:
        for frame in message:
            _, reply = frames.read_reply(frame)
            if isinstance(reply, Welcome) and len(self.welcomes) < CLIENTS:
                self.welcomes.append(reply)

    def do(self, what: str, which: int) -> None:
        match what:
            case "open":
                welcome = self.welcomes[which]
                shown = (welcome.client, welcome.token, welcome.cluster_id, welcome.epoch)
                self.connect(which, Resume(PROTOCOL_VERSION, *shown, 0, f"nonce {which}"))
            case "send":
                for each in self.peers[which]:
                    self.send(each, Heartbeat(0.0))
            case "drop":
                if self.peers[which][which in LIVING :]:
                    self.port.drop_dealer(self.peers[which].pop())
            case "stall":
                self.broker.stall(which / 1000)
            case _:
                self.network.run(which / 1000)

    def suspended(self) -> dict[str, bool]:
        assert self.broker.engine is not None
        core, now = self.broker.engine.core, self.network.now
        return {client.id: client.suspended for client in core.list_clients(now).clients}


@given(st.lists(steps, max_size=80), st.sampled_from([1, 3, 512]))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_session_with_an_open_connection_is_never_taken_for_gone(
    course: list[tuple[str, int]], inbox_messages: int
) -> None:
    rig = Rig(inbox_messages)

    for what, which in course:
        rig.do(what, which)
    rig.network.run(3.0)

    suspended = rig.suspended()
    for client in LIVING:
        assert suspended.get(rig.welcomes[client].client) is False


@given(st.lists(steps, max_size=40))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_session_whose_last_connection_has_closed_ends_unless_the_number_is_in_use_again(
    course: list[tuple[str, int]],
) -> None:
    """Taken for another's, a connection may be thought open; it is never thought closed."""
    rig = Rig(512)

    for what, which in course:
        rig.do(what, which)
    for client in set(range(CLIENTS)) - {*LIVING}:
        while rig.peers[client]:
            rig.network.run(0.1)
            rig.port.drop_dealer(rig.peers[client].pop())
    rig.network.run(3.0)

    there = rig.suspended()
    assert not any(there.values())
    for client in LIVING:
        assert rig.welcomes[client].client in there
