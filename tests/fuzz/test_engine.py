"""Mutated sessions at a broker's engine, without sockets: it answers, goes on, and can restart.

Faster than through sockets (`tests.fuzz.test_broker`), and what gets past the decoder is put into
commands of clients who are bound, so that the rules, the journal and the events see it too.
"""

from __future__ import annotations

import struct
import sys
import time
from typing import TYPE_CHECKING

import pytest

from ezgraph.broker.engine import BrokerEngine
from ezgraph.config import BrokerConfig, Limits, Retention
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Connect, Hello, Sync
from ezgraph.protocol.replies import Done, Refusal, Reply, Welcome
from ezgraph.testing import FlakyMemory, SequentialIds
from ezgraph.wire import codec, frames
from tests.fuzz.campaign import SEED, random_of, told
from tests.fuzz.mutation import Mutator
from tests.fuzz.recording import recorded

if TYPE_CHECKING:
    from random import Random

INPUTS, SOAK_INPUTS = 12_000, 200_000
INPUTS_PER_BROKER = 4_000
LOOK_EVERY = 200
VICTIM = b"\0victim"
KINDS = ("session", "session", "process", "guest")
CONFIG = BrokerConfig(
    checkpoint_events=300,
    retention=Retention(events=500),
    limits=Limits(max_leases=30, max_watched_prefixes=50, max_waiting_reads=20),
)


class Bench:
    """An engine, strangers of each kind, and somebody who means well.

    The strangers come first, so that some have the very ids and tokens that were recorded.
    """

    def __init__(self) -> None:
        self.journal = FlakyMemory().open_journal()
        self.ids = SequentialIds()
        self.now = 0.0
        self.requests = 2**32
        self.engine = self.started()
        for number in range(len(KINDS)):
            self.join(number)
        assert isinstance(self.ask(VICTIM, _hello("session", "victim")), Welcome)
        assert isinstance(self.ask(VICTIM, Connect("victim", "its edge")), Done)

    def started(self) -> BrokerEngine:
        return BrokerEngine(CONFIG, self.journal, self.ids, events_port=1, now=self.now)

    def ask(self, peer: bytes, command: Command) -> Reply:
        self.requests += 1
        frame = frames.request_frame(self.requests, 0, codec.encode(command))
        answers = self.take(peer, frame)
        assert answers[-1][:2] == (peer, self.requests)
        return answers[-1][2]

    def take(self, peer: bytes, *given: bytes) -> list[tuple[bytes, int, Reply]]:
        """Let the engine do one pass over what a peer sent; return all answers, decoded."""
        engine = self.engine
        self.now += 0.001
        for frame in given:
            engine.take_command(peer, frame, now=self.now, wall=self.now)
        engine.finish_pass(now=self.now, wall=self.now)
        messages = engine.replies()
        for message in engine.publications():
            assert len(message) in (2, 3)
        messages += engine.replies()
        engine.tidy()
        engine.stopping = False  # it may have become a fine Shutdown
        return [
            (message[0], *frames.read_reply(frame)) for message in messages for frame in message[1:]
        ]

    def hear(self, random: Random, said: bytes) -> bool:
        """Let a stranger say it; one who is not bound (any more) says HELLO before.

        Return whether it was understood.
        """
        number = random.randrange(len(KINDS))
        answers = self.take(self.join(number), self._numbered(random, said))
        codes = [reply.code for _, _, reply in answers if isinstance(reply, Refusal)]
        return bool(answers) and not {"malformed", "unsupported"} & {*codes}

    def join(self, number: int) -> bytes:
        peer = b"\0stranger %d" % number
        if not self.engine.knows(peer):
            self.ask(peer, _hello(KINDS[number], str(self.requests)))
        return peer

    def _numbered(self, random: Random, frame: bytes) -> bytes:
        """Mostly put the next request id into it: one used before is only answered again."""
        if random.random() < 0.1 or len(frame) < frames.HEADER_BYTES:
            return frame
        self.requests += 1
        ids = struct.pack("!QQ", self.requests, 0)
        return frame[:4] + ids + frame[frames.HEADER_BYTES :]

    def check(self) -> None:
        """The victim is answered, and has what it had; a restart finds the very same state."""
        assert isinstance(self.ask(VICTIM, Sync()), Done)
        assert self.engine.state.dag.owners("victim", "its edge")
        assert self.started().state.fingerprint() == self.engine.state.fingerprint()


def _hello(kind: str, nonce: str) -> Hello:
    ttl_s = 3_600.0
    return Hello(PROTOCOL_VERSION, kind, nonce, "program", "here", 1, "me", ttl_s=ttl_s)


def attack_engines(seed: int, inputs: int) -> None:
    """Send so many mutated requests and subscriptions to one engine after the other."""
    recording = recorded()
    corpus, commands = recording.everything, recording.samples["command"]
    mutator, bench, understood = Mutator(random_of(seed, 0), corpus), Bench(), 0
    began = time.perf_counter()
    for number in range(inputs):
        mutator.random = random = random_of(seed, number)
        watch = mutator.changed_bytes(random.choice(recording.subscriptions))
        said = mutator.mutated(random.choice(commands))
        with told(seed, number, said):
            if random.random() < 0.1:
                bench.engine.take_subscription(watch, now=bench.now)
            understood += bench.hear(random, said)
            if number % LOOK_EVERY == 0:
                bench.check()
        if number % INPUTS_PER_BROKER == INPUTS_PER_BROKER - 1:
            bench = Bench()
    rate = inputs / (time.perf_counter() - began)
    sys.stdout.write(
        f"engine: seed {seed}, {inputs} inputs, {understood} understood, {rate:.0f}/s\n"
    )
    assert understood > inputs // 20


def test_a_broker_decides_on_mutated_sessions_and_restarts_to_the_same_state(
    seed_option: int | None,
) -> None:
    attack_engines(seed_option or SEED, INPUTS)


@pytest.mark.soak
def test_hundreds_of_thousands_of_mutated_requests(seed_option: int | None) -> None:
    attack_engines(seed_option or SEED + 1, SOAK_INPUTS)
