"""G7 with real sockets and processes: how soon a session ends, and that only a dead one does.

What was measured is printed: ``pytest -s tests/integration/test_session_ends.py``. Broker and
clients run on one machine, so their monotonic clocks are one and the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import pytest
import zmq

import ezgraph
from ezgraph import BrokerConfig, Event, GraphServer, sync
from ezgraph.backends.base import Backend
from ezgraph.broker.service import BrokerService
from ezgraph.client.identity import hello
from ezgraph.config import Address
from ezgraph.protocol.events import EndReason, SessionClosed
from ezgraph.protocol.replies import Refusal, Welcome
from ezgraph.testing import ManualClock
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
SLACK_S = 0.5
"""Added to the issue's bounds: a broker on two busy cores may wake up late by this much."""

TTL_S = 1.0
PROGRAM = """
import sys
from ezgraph import EzGraphError, sync
with sync.GraphContext(sys.argv[1], ttl_s=float(sys.argv[2])) as ctx:
    for number in range(50):
        ctx.connect(f"out{number}", "in")
    print(ctx.session_id, flush=True)
    for _ in sys.stdin:
        try:
            print("seq", ctx.connect("late", "in"), flush=True)
        except EzGraphError as error:
            print(error.code, flush=True)
"""


class Watcher:
    """Sees sessions end, and when."""

    def __init__(self, server: GraphServer) -> None:
        self.context = sync.GraphContext(server.address).open()
        self._stream = self.context.subscribe((), after_seq=0)
        self.seen: list[Event] = []

    def end_of(self, session: str, *, within: float = 10.0) -> tuple[Event, float]:
        """Return the event that ends a session, and when it came."""
        until = monotonic() + within
        while (left := until - monotonic()) > 0:
            item = cast("Any", self._stream)._stream.next_within(left)
            if isinstance(item, Event):
                self.seen.append(item)
                if isinstance(item.body, SessionClosed) and item.body.session_id == session:
                    return item, monotonic()
        raise AssertionError(f"session {session} did not end within {within} s")


@pytest.fixture
def watcher(server: GraphServer) -> Iterator[Watcher]:
    found = Watcher(server)
    yield found
    found.context.close()


@contextmanager
def program(server: GraphServer, *, ttl_s: float) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process with a session that owns fifty edges."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(server.address), str(ttl_s)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def told(what: str, made: float, came: float) -> None:
    figures = f"ended after {made * 1000:.0f} ms, seen after {came * 1000:.0f} ms"
    sys.stdout.write(f"{what}: {figures}\n")


def test_a_goodbye_ends_a_session_within_fifty_milliseconds(
    server: GraphServer, watcher: Watcher
) -> None:
    made, came = [], []
    for _ in range(15):
        leaving = sync.GraphContext(server.address).open()
        leaving.connect("a", "b")
        session = leaving.session_id
        begun = monotonic()
        leaving.close()
        event, at = watcher.end_of(session)
        made.append(event.mono_time - begun)
        came.append(at - begun)

    told("goodbye (median of 15)", median(made), median(came))
    assert median(made) < 0.05
    assert median(came) < 0.05 + SLACK_S


def test_a_killed_program_is_suspended_at_once_and_ended_within_a_second_in_one_transaction(
    server: GraphServer, watcher: Watcher
) -> None:
    with program(server, ttl_s=30.0) as (process, session):
        begun = monotonic()
        process.kill()
        process.wait()
        suspended = wait_until_suspended(watcher.context, session)
        event, came = watcher.end_of(session)

    told("kill -9", event.mono_time - begun, came - begun)
    assert suspended - begun < 0.7 + SLACK_S
    assert event.mono_time - begun < 1.0 + SLACK_S
    assert event.body == SessionClosed(session, EndReason.LOST)
    gone = [each for each in watcher.seen if each.kind == "EdgeDisconnected"]
    assert len(gone) == 50
    assert {each.txn_first for each in gone} == {event.txn_first}
    assert watcher.context.dag().edge_owners == {}


def wait_until_suspended(context: sync.GraphContext, session: str) -> float:
    """Return when a session was listed as suspended."""
    while True:
        listed = {client.id: client for client in context.clients()}
        assert session in listed, "it ended without ever being suspended"
        if listed[session].suspended:
            return monotonic()


def test_a_stopped_program_ends_with_its_ttl_and_learns_it_when_it_goes_on(
    server: GraphServer, watcher: Watcher
) -> None:
    with program(server, ttl_s=TTL_S) as (process, session):
        os.kill(process.pid, signal.SIGSTOP)
        begun = monotonic()
        try:
            event, came = watcher.end_of(session)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        said, _ = process.communicate("connect\n", timeout=10)

    told(f"SIGSTOP, TTL {TTL_S:g} s", event.mono_time - begun, came - begun)
    assert TTL_S * 2 / 3 - 0.1 < event.mono_time - begun < TTL_S + 0.5 + SLACK_S
    assert event.body == SessionClosed(session, EndReason.EXPIRED)
    assert said == "session_expired\n"


# --- descriptors that are given out again ---


@dataclass
class Peer:
    """One connection that says HELLO and nothing else."""

    context: zmq.Context[zmq.Socket[bytes]]
    address: Address
    client: str = ""

    def __post_init__(self) -> None:
        self.dealer = self.context.socket(zmq.DEALER)
        self.dealer.set(zmq.LINGER, 0)
        self._monitor = self.dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.dealer.connect(self.address.endpoint)
        self.dealer.send(frames.request_frame(0, 0, codec.encode(hello("session"))))

    def is_connected(self) -> bool:
        return bool(self._monitor.poll(5_000))

    def is_welcome(self, wait_ms: int = 0) -> bool:
        if not self.client and self.dealer.poll(wait_ms):
            _, reply = frames.read_reply(self.dealer.recv())
            assert not isinstance(reply, Refusal), reply.message
            assert isinstance(reply, Welcome)
            self.client = reply.client
        return bool(self.client)

    def close(self) -> None:
        self.dealer.disable_monitor()
        self._monitor.close(linger=0)
        self.dealer.close()


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as made:
        yield made


class SteppedBroker:
    """A broker on real sockets whose passes are run one by one, at times of our own."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        config = BrokerConfig(address=Address("127.0.0.1", 0))
        self._connection = Backend.from_url("memory://").connect()
        self.service = BrokerService(config, self._connection.open_journal(), clock=self.clock)
        self.address = self.service.bind()

    def welcome(self, peers: list[Peer]) -> None:
        """Run passes until all are bound."""
        until = monotonic() + 10
        while [peer for peer in peers if not peer.is_welcome()]:
            assert monotonic() < until, "a peer was not welcomed"
            self.service.run_pass(wait=False)

    @property
    def sessions(self) -> set[str]:
        return set(self.service.engine.state.sessions)

    def close(self) -> None:
        self.service.close()
        self._connection.close()


@pytest.fixture
def stepped() -> Iterator[SteppedBroker]:
    broker = SteppedBroker()
    yield broker
    broker.close()


def test_a_descriptor_given_out_again_before_the_monitor_is_read_ends_the_dead_session_only(
    stepped: SteppedBroker, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    dead = [Peer(context, stepped.address) for _ in range(30)]
    stepped.welcome(dead)
    both_ends = open_descriptors() - 2 * len(dead)
    for peer in dead:
        peer.close()
    wait_for_descriptors(both_ends)  # the broker's threads have closed theirs; it does not know
    live = [Peer(context, stepped.address) for _ in range(30)]
    connected = [peer.is_connected() for peer in live]

    stepped.welcome(live)
    stepped.clock.advance(1.0)
    stepped.service.run_pass(wait=False)
    for peer in live:
        peer.close()

    assert all(connected)
    assert stepped.sessions == {peer.client for peer in live}
    reused = [fd for fd, times in stepped.service._peers.generations.items() if times > 1]
    assert reused, "no descriptor was given out again: nothing was tested"


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def wait_for_descriptors(count: int) -> None:
    until = monotonic() + 5
    while open_descriptors() > count:
        assert monotonic() < until, f"{open_descriptors()} descriptors are open, not {count}"
        threading.Event().wait(0.005)


def test_connections_that_come_and_go_around_living_sessions_end_none_of_them(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    came: list[str] = []
    over = threading.Event()

    def come_and_go(address: Address) -> None:
        while not over.is_set():
            peer = Peer(context, address)
            if peer.is_welcome(2_000):
                came.append(peer.client)
            peer.close()

    with GraphServer(run_in="process") as server:
        crowd = [threading.Thread(target=come_and_go, args=(server.address,)) for _ in range(3)]
        for each in crowd:
            each.start()
        living = [sync.GraphContext(server.address).open() for _ in range(20)]
        lone = [Peer(context, server.address) for _ in range(20)]
        assert all(peer.is_welcome(2_000) for peer in lone)
        over.wait(1.0)
        over.set()
        for each in crowd:
            each.join()
        watcher = Watcher(server)
        watcher.end_of(came[-1])
        ended = {e.body.session_id for e in watcher.seen if isinstance(e.body, SessionClosed)}
        left = watcher.context.clients()
        for ctx in [*living, watcher.context]:
            ctx.close()
        for peer in lone:
            peer.close()

    alive = {client.id for client in left if not client.suspended}
    assert len(came) > 50
    assert {peer.client for peer in lone} <= alive
    assert len(alive) == len(living) + len(lone) + 1
    assert ended <= set(came)
