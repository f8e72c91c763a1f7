"""Hostile bytes at either end: no answer or a refusal, nothing changes, and the work goes on."""

from __future__ import annotations

import math
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ezgraph.broker.engine import BrokerEngine
from ezgraph.config import BrokerConfig
from ezgraph.names import topic_of
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Connect, Goodbye, Hello, Shutdown
from ezgraph.protocol.events import Event
from ezgraph.protocol.replies import Done, Welcome
from ezgraph.testing import FlakyMemory, Network, SequentialIds, SimulatedBroker, SimulatedClient
from ezgraph.testing import strategies as ours
from ezgraph.wire import codec, frames

slow = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
ME = b"\0me"

MOST_PASSES = 5
"""What is read of the store, and all it is compared with, takes more than one."""


class Bench:
    """An engine with one session on one connection."""

    def __init__(self) -> None:
        journal = FlakyMemory().open_journal()
        self.engine = BrokerEngine(BrokerConfig(), journal, SequentialIds(), events_port=1, now=0.0)
        self.requests = 0
        hello = Hello(PROTOCOL_VERSION, "session", "nonce", "test", "here", 1, "me")
        assert isinstance(self.ask(hello), Welcome)

    def ask(self, command: Any) -> Any:
        self.requests += 1
        return self.send(frames.request_frame(2**60 + self.requests, 0, codec.encode(command)))[-1]

    def send(self, frame: bytes) -> list[Any]:
        engine = self.engine
        engine.take_command(ME, frame, now=1.0, wall=1.0)
        messages: list[Any] = []
        for _ in range(MOST_PASSES):
            engine.finish_pass(now=1.0, wall=1.0)
            messages += engine.replies()
            engine.publications()
            messages += engine.replies()
            if messages:
                break
        return [frames.read_reply(frame)[1] for message in messages for frame in message[1:]]


def damaged(random: Random, frame: bytes) -> bytes:
    """Change, cut or stretch some bytes; most often behind the header."""
    changed = bytearray(frame)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(random.choice([0, 20, 20, 20]), len(changed) + 1)
        changed[at : at + random.randint(0, 2)] = random.randbytes(random.randint(0, 3))
    return bytes(changed)


@given(st.lists(ours.any_command, min_size=3, max_size=3), st.integers())
@slow
def test_damaged_requests_do_not_stop_a_broker(commands: list[Any], seed: int) -> None:
    random, bench = Random(seed), Bench()
    for command in commands:
        frame = frames.request_frame(7, 0, codec.encode(command))
        for _ in range(20):
            bench.send(damaged(random, frame))
            bench.engine.stopping = False  # it may have become a fine Shutdown

    still_there = bench.ask(Hello(PROTOCOL_VERSION, "guest", "other", "test", "here", 1, "me"))
    assert isinstance(still_there, Welcome)
    assert isinstance(bench.ask(Connect("a", "b")), Done)


@given(st.lists(ours.any_command, max_size=10))
@slow
def test_well_formed_nonsense_does_not_stop_a_broker(commands: list[Any]) -> None:
    bench = Bench()
    for command in commands:
        if not isinstance(command, Goodbye | Shutdown):
            replies = bench.send(frames.request_frame(bench.requests, 0, codec.encode(command)))
            assert len(replies) == 1
            bench.requests += 1

    hello = Hello(PROTOCOL_VERSION, "guest", "another one", "test", "here", 1, "me")
    assert isinstance(bench.ask(hello), Welcome)
    due = bench.engine.next_due(1.0)
    assert due is None or math.isfinite(due)


subscriptions = st.binary(max_size=30) | ours.keys.map(lambda key: b"\1" + topic_of(key))


@given(st.lists(subscriptions, max_size=20))
@slow
def test_any_subscription_is_taken(messages: list[bytes]) -> None:
    bench = Bench()

    for message in messages:
        bench.engine.take_subscription(message, now=1.0)

    assert isinstance(bench.ask(Connect("a", "b")), Done)


@given(st.lists(ours.any_reply | ours.events, min_size=3, max_size=3), st.integers())
@slow
def test_damaged_answers_and_events_do_not_stop_a_client(messages: list[Any], seed: int) -> None:
    network = Network(0)
    SimulatedBroker(network)
    client = SimulatedClient(network, "client").start()
    client.watch(())
    network.run(1.0)
    random = Random(seed)

    for message in messages:
        for _ in range(10):
            if isinstance(message, Event):
                packed = codec.encode_event(message).event
                client.engine.take_publication([b"edge/", bytes(8), damaged(random, packed)])
                client.engine.take_publication([b"\0\0", damaged(random, packed)])
                client.engine.take_publication([b"a/" * 40, bytes(8), packed])
            else:
                frame = frames.reply_frame(random.choice([0, 1, 7]), message)
                client.engine.take_replies([damaged(random, frame)])
    client.engine.take_publication([])
    client.engine.take_publication([b"a", b"b", b"c", b"d"])
    client.engine.tick()

    assert client.engine.malformed > 0
