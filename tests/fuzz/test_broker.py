"""A broker under siege through real sockets, and one victim beside it that must notice nothing.

Mutated sessions come over DEALERs, garbage comes upstream on the event port, and raw connections
say what is no ZMTP, or is until somewhere. All the while a session with edges, a keep-alive and a
subscription goes on: it must live, be answered, and get every event. The broker is a process of
its own, so that its death is seen and its memory weighed.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections import Counter, deque
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import pytest
import zmq

from ezgraph import Event, GraphServer, Progress, sync
from ezgraph.errors import MalformedMessageError
from ezgraph.names import note_topic, topic_of
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Hello, Resume, Shutdown, Sync, TakeOver
from ezgraph.protocol.replies import Reply, Welcome
from ezgraph.wire import codec, frames
from tests.fuzz.campaign import SEED, allowed_mib, random_of, resident_mib, told
from tests.fuzz.mutation import Mutator, Sample
from tests.fuzz.recording import recorded
from tests.fuzz.zmtp import conversation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random
    from types import TracebackType

pytestmark = pytest.mark.integration

INPUTS, SOAK_INPUTS = 8_000, 150_000
RAW_INPUTS, RAW_SOAK_INPUTS = 600, 12_000
ANSWER_MS = 10_000
ROUNDS_PER_LOOK = 20
SESSIONS_PER_DEALER = 5
OPEN_STRANGERS = 40
RAW_HELLO = frames.request_frame(
    1, 0, codec.encode(Hello(PROTOCOL_VERSION, "guest", "raw", "stranger", "here", 1, "me"))
)
KINDS = ("session", "session", "process", "guest")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GraphServer]:
    """A broker in a process of its own, whose history takes no memory."""
    backend = f"sqlite:///{tmp_path}/rig.db?synchronous=NORMAL"
    with GraphServer(run_in="process", backend=backend) as running:
        yield running


class Victim:
    """A session that must notice nothing."""

    def __init__(self, server: GraphServer) -> None:
        self.ctx = sync.GraphContext(server.address).open()
        self.session_id = self.ctx.session_id
        self.edges = [("victim", "one"), ("victim", "two"), ("one", "two")]
        for edge in self.edges:
            self.ctx.connect(*edge)
        self.seen: list[int] = []
        self.slowest_s = 0.0
        self.stream = iter(self.ctx.subscribe(("edge",), 0))
        self.looks = 0

    def look(self) -> None:
        """Change something, and read on until that has come."""
        self.looks += 1
        change = self.ctx.connect if self.looks % 2 else self.ctx.disconnect
        began = time.monotonic()
        reached = change("victim", "tick", timeout=5.0)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        for item in self.stream:
            assert isinstance(item, Event | Progress)
            if isinstance(item, Event):
                self.seen.append(item.seq)
            if item.seq >= reached:
                break
        assert self.ctx.status().watched_prefixes >= 1

    def take_stock(self) -> None:
        """See that nothing of it is gone, and nothing of the history was missed."""
        self.look()
        assert self.ctx.session_id == self.session_id
        dag = self.ctx.dag()
        assert all(self.session_id in dag.owners(*edge) for edge in self.edges)
        stored = [event.seq for event in self.ctx.events(("edge",), through_seq=self.seen[-1])]
        assert self.seen == stored

    def close(self) -> None:
        self.ctx.close()


class Stranger:
    """A DEALER that says HELLO and then what is mutated; answers are read and must be replies."""

    def __init__(self, siege: Siege, random: Random) -> None:
        self.socket = siege.context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RCVTIMEO, ANSWER_MS)
        self.socket.set(zmq.SNDTIMEO, ANSWER_MS)
        if random.random() < 0.2:  # one that nobody has, else the ROUTER would ignore us
            self.socket.set(zmq.IDENTITY, b"stranger %.17f" % random.random())
        self.socket.connect(siege.server.address.endpoint)
        self.requests = random.choice((0, 2**31, 2**62))
        self.sessions = 0
        self.welcome: Welcome | None = None
        self._nonce = f"{siege.seed} {siege.number} {random.random()}"
        self._kind = random.choice(KINDS)

    def hello(self) -> Hello:
        return Hello(PROTOCOL_VERSION, self._kind, self._nonce, "stranger", "here", 1, "me")

    def ask(self, command: Command) -> Reply:
        """Return the answer to a command; what came before it must be answers too."""
        self.requests += 1
        self.socket.send(frames.request_frame(self.requests, self.requests, codec.encode(command)))
        while True:
            for frame in self.socket.recv_multipart():
                request_id, reply = frames.read_reply(frame)
                if request_id == self.requests:
                    return reply

    def bind(self) -> None:
        reply = self.ask(self.hello())
        if isinstance(reply, Welcome):
            self.welcome = reply

    def own_samples(self) -> list[Sample]:
        """Return commands that show this stranger's own token."""
        known = self.welcome
        if known is None:
            return []
        shown = (known.client, known.token, known.cluster_id)
        hello = replace(self.hello(), nonce=f"{self._nonce} heir")
        commands = (
            Resume(PROTOCOL_VERSION, *shown, known.epoch, known.head, self._nonce),
            TakeOver(hello, *shown),
        )
        head = frames.request_frame(self.requests, 0, b"")
        return [Sample("command", head, codec.encode(command)) for command in commands]

    def numbered(self, frame: bytes) -> bytes:
        """Give a frame the next request id."""
        self.requests += 1
        return frame[:4] + struct.pack("!QQ", self.requests, self.requests) + frame[20:]


class Siege:
    """Everybody who means no good to one broker."""

    def __init__(self, server: GraphServer, seed: int, *, only_raw: bool) -> None:
        self.server, self.seed, self.number = server, seed, 0
        self._only_raw = only_raw
        self.inputs: Counter[str] = Counter()
        self.recording = recorded()
        self.mutator = Mutator(random_of(seed, 0), self.recording.everything)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stranger: Stranger | None = None
        self._upstream: zmq.Socket[bytes] | None = None
        self._raw: deque[socket.socket] = deque()
        self._prefixes = [topic_of(key) for key in ((), ("edge",), ("settings", "SYS/A"))]
        self._topics = [*self._prefixes, *map(note_topic, self._prefixes)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in self._raw:
            each.close()
        self.context.destroy(linger=0)

    def round(self) -> None:
        """Let somebody do something."""
        self.number += 1
        self.mutator.random = random = random_of(self.seed, self.number)
        draw = random.random()
        with told(self.seed, self.number, b""):
            if self._only_raw:
                self._connect_raw(random)
            elif draw < 0.5:
                self._say_session(random)
            elif draw < 0.65:
                self._say_upstream(random)
            else:
                self._connect_raw(random)

    # --- commands ---

    def _say_session(self, random: Random) -> None:
        stranger = self._stranger
        if random.random() < 0.02:
            self._flood(random)
        if stranger is None or stranger.sessions >= SESSIONS_PER_DEALER:
            if stranger is not None:
                stranger.socket.close()
            stranger = self._stranger = Stranger(self, random)
        stranger.sessions += 1
        stranger.bind()
        for message in self._messages(random, stranger):
            self.inputs["request"] += len({*message})
            stranger.socket.send_multipart(message)
        stranger.ask(Sync())

    def _flood(self, random: Random) -> None:
        """Send thousands of frames as one message: who does that may be cut off, and hears why."""
        stranger = Stranger(self, random)
        stranger.bind()
        self.inputs["request"] += 1
        stranger.socket.send_multipart([random.choice((b"", b"eZ\1\0", bytes(60)))] * 3_000)
        stranger.socket.close(linger=100)

    def _messages(self, random: Random, stranger: Stranger) -> Iterator[list[bytes]]:
        """Yield a recorded session, mutated: frame by frame, or many and empty ones together."""
        commands = [*self.recording.samples["command"], *stranger.own_samples()]
        said = [self._mutated(random.choice(commands), random, stranger) for _ in range(25)]
        if random.random() < 0.05:
            yield [random.choice((b"", said[0][:100]))] * 1_000
        while said:
            count = random.choice((1, 1, 1, 2, 10))
            message, said = said[:count], said[count:]
            yield [b"", *message, b""] if random.random() < 0.1 else message

    def _mutated(self, sample: Sample, random: Random, stranger: Stranger) -> bytes:
        frame = self.mutator.mutated(sample)
        if random.random() < 0.9 and len(frame) >= frames.HEADER_BYTES:
            frame = stranger.numbered(frame)
        return b"" if _ends_the_broker(frame) else frame

    # --- events ---

    def _say_upstream(self, random: Random) -> None:
        """Say what is a subscription, or is none, where subscriptions are taken."""
        if self._upstream is None or random.random() < 0.1:
            if self._upstream is not None:
                self._upstream.close()
            self._upstream = self.context.socket(zmq.XSUB)
            self._upstream.set(zmq.SNDTIMEO, ANSWER_MS)
            self._upstream.set(zmq.RCVHWM, 10)
            host, port = self.server.address
            self._upstream.connect(f"tcp://{host}:{port + 1}")
        for _ in range(random.choice((5, 20, 300))):
            self.inputs["upstream"] += 1
            self._upstream.send_multipart(self._upstream_message(random))

    def _upstream_message(self, random: Random) -> list[bytes]:
        topic = random.choice(self._topics)
        match random.randrange(5):
            case 0:
                return [self.mutator.changed_bytes(b"\1" + topic)]
            case 1:
                return [random.choice((b"\0", b"\1")) + topic]
            case 2:
                return [random.choice((b"", b"\0", b"\1", b"\2")) + random.randbytes(9)]
            case 3:
                return [b"\1" + topic, b"", random.randbytes(20)]
            case _:
                return [self.mutator.mutated(random.choice(self.recording.everything))]

    # --- bytes ---

    def _connect_raw(self, random: Random) -> None:
        """Open connections at either port, say something, and leave them open for a while."""
        host, port = self.server.address
        for _ in range(5):
            self.inputs["connection"] += 1
            commands = random.choices(self.recording.samples["command"], k=2)
            mutated = [self.mutator.mutated(each) for each in commands]
            requests = [RAW_HELLO, *(each for each in mutated if not _ends_the_broker(each))]
            first, rest = conversation(random, self.mutator, requests, self._topics)
            stranger = socket.create_connection((host, port + random.randrange(2)), timeout=10.0)
            self._raw.append(stranger)
            with suppress(ConnectionError, TimeoutError):
                stranger.sendall(first)
                if rest:
                    _await_greeting(stranger)
                    stranger.sendall(rest)
            if random.random() < 0.3:
                with suppress(OSError):
                    stranger.shutdown(socket.SHUT_WR)
        while len(self._raw) > OPEN_STRANGERS:
            self._leave(self._raw.popleft())

    def _leave(self, stranger: socket.socket) -> None:
        """Hang up with a reset: thousands that wait for their end would take all the ports."""
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stranger.close()


def _await_greeting(stranger: socket.socket) -> None:
    """Wait for the broker's greeting and READY: ZeroMQ is confused by an answer before them."""
    stranger.settimeout(0.02)
    received = b""
    while b"READY" not in received and (more := stranger.recv(1_000)):
        received += more


def _ends_the_broker(frame: bytes) -> bool:
    """Whether this has become a fine command to end the broker, which it would rightly obey."""
    try:
        command = frames.read_command(frame)
    except MalformedMessageError:
        return False
    return isinstance(command, Shutdown) and command.force


def besiege(
    server: GraphServer, *, seed: int, inputs: int, only_raw: bool = False
) -> None:
    pid, weighed, began = server.pid or 0, 0.0, time.perf_counter()
    with closing(Victim(server)) as victim, Siege(server, seed, only_raw=only_raw) as siege:
        while (done := siege.inputs.total()) < inputs:
            for _ in range(ROUNDS_PER_LOOK):
                siege.round()
            with told(seed, siege.number, b"the victim's turn"):
                assert server.running
                victim.look()
            if not weighed and done > inputs // 3:
                weighed = resident_mib(pid)
        with told(seed, siege.number, b"the end"):
            victim.take_stock()
    growth, rate = resident_mib(pid) - weighed, done / (time.perf_counter() - began)
    sys.stdout.write(
        f"broker: seed {seed}, {done} inputs {dict(siege.inputs)}, {rate:.0f}/s, "
        f"{len(victim.seen)} events seen, slowest answer {victim.slowest_s * 1e3:.0f} ms, "
        f"{weighed:.0f} {growth:+.1f} MiB\n"
    )
    assert growth < allowed_mib(inputs), f"the broker has {growth:.1f} MiB more"
    assert server.running


def test_a_victim_beside_a_besieged_broker_notices_nothing(
    server: GraphServer, seed_option: int | None
) -> None:
    besiege(server, seed=seed_option or SEED, inputs=INPUTS)


def test_a_victim_who_subscribes_alone_beside_liars_misses_nothing(
    server: GraphServer, seed_option: int | None
) -> None:
    besiege(server, seed=seed_option or SEED, inputs=RAW_INPUTS, only_raw=True)


@pytest.mark.soak
def test_a_hundred_thousand_inputs_for_the_broker(
    server: GraphServer, seed_option: int | None
) -> None:
    besiege(server, seed=seed_option or SEED + 1, inputs=SOAK_INPUTS)


@pytest.mark.soak
def test_tens_of_thousands_of_raw_connections(
    server: GraphServer, seed_option: int | None
) -> None:
    besiege(server, seed=seed_option or SEED + 1, inputs=RAW_SOAK_INPUTS, only_raw=True)
