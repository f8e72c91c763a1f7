"""Brokers for tests: one on the simulated network, one on real sockets in a thread."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ezgraph.broker.engine import BrokerEngine
from ezgraph.config import Address, BrokerConfig
from ezgraph.errors import JournalFailedError
from ezgraph.graph.server import GraphServer
from ezgraph.testing.guarantees import BrokenPromiseError, History
from ezgraph.testing.ids import SequentialIds
from ezgraph.testing.journal import FlakyMemory
from ezgraph.testing.network import BrokerPort
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.backends.base import Journal
    from ezgraph.protocol.events import Event
    from ezgraph.testing.network import Network

ADDRESS = Address("broker", 1)
PASS_S = (0.0, 0.002)
CrashPoint = Literal["decided", "stored", "answering", "answered"]


@contextmanager
def running_broker(config: BrokerConfig | None = None) -> Iterator[GraphServer]:
    """A real broker in a thread, on a free loopback port, for the length of a ``with``."""
    with GraphServer(config=config or BrokerConfig(address=Address("127.0.0.1", 0))) as server:
        yield server


class SimulatedBroker:
    """The engine of `ezgraph.broker.engine`, driven as the service drives it.

    Its process may crash between any two of these steps, or stall; its disk may fail. What the
    journal had stays, and a new process goes on from there.
    """

    def __init__(
        self,
        network: Network,
        config: BrokerConfig | None = None,
        *,
        disk: FlakyMemory | None = None,
    ) -> None:
        self.network = network
        self.config = replace(config or BrokerConfig(), address=ADDRESS)
        self.disk = disk or FlakyMemory()
        self.engine: BrokerEngine | None = None
        self.crash_at: CrashPoint | None = None
        self.crashes = 0
        self._journal: Journal | None = None
        self._port: BrokerPort | None = None
        self._ids = SequentialIds()
        self._generations: dict[int, int] = {}
        self._inbox: deque[tuple[bytes, int | None, list[bytes]]] = deque()
        self._archive: list[Event] = []
        self._pass_at: float | None = None
        self._stalled_until = 0.0
        self.start()

    def __repr__(self) -> str:
        return f"<SimulatedBroker {self.engine or 'down'} crashes={self.crashes}>"

    @property
    def seq(self) -> int:
        """The head of the journal."""
        return self._opened().head

    # --- a process and its end ---

    def start(self) -> None:
        """Begin, or begin again, on the journal there is."""
        if self.engine is not None:
            return
        if self._journal is not None:
            self._journal.close()
        self._journal = self.disk.open_journal()
        self.engine = BrokerEngine(
            self.config,
            self._journal,
            self._ids,
            events_port=ADDRESS.port + 1,
            now=self.network.now,
        )
        self._generations = {}
        self._inbox.clear()
        self._port = BrokerPort(self.network, self._wake)
        self.network.bind(self._port, ADDRESS, Address(ADDRESS.host, ADDRESS.port + 1))
        self._wake()

    def crash(self) -> None:
        """End at once. Only the journal remains."""
        if self.engine is None or self._port is None or self._journal is None:
            return
        self.crashes += 1
        self.engine = self.crash_at = None
        self.network.unbind(self._port)
        self._journal.close()

    def restart_after(self, seconds: float) -> None:
        """Have somebody start it again in a while."""
        self.network.after(seconds, self.start)

    def stall(self, seconds: float) -> None:
        """Do nothing for a while (a stopped process, a slow disk)."""
        self._stalled_until = self.network.now + seconds

    # --- what it has stored ---

    def history(self) -> History:
        """Return every event ever stored, those compacted away since among them."""
        return History([*self._archive, *self._events(after=self._archived)])

    def compact(self, *, keep_from: int | None = None) -> None:
        """Write a checkpoint and drop the history it covers, or what lies before ``keep_from``."""
        if self.engine is None:
            return
        self.engine.write_checkpoint()
        journal = self._opened()
        if journal.checkpoint_seq is not None:
            floor = journal.checkpoint_seq + 1
            floor = floor if keep_from is None else min(floor, keep_from)
            self._archive += [e for e in self._events(after=self._archived) if e.seq < floor]
            journal.drop_below(floor)

    @property
    def _archived(self) -> int:
        return self._archive[-1].seq if self._archive else 0

    def _events(self, *, after: int) -> list[Event]:
        journal, events = self._opened(), []
        while after < journal.head:
            chunk = journal.read(after)
            events += [codec.decode_event(each) for each in chunk.events]
            after = chunk.through
        return events

    def _opened(self) -> Journal:
        if self._journal is None or self._journal.closed:
            self._journal = self.disk.open_journal()
        return self._journal

    # --- its loop ---

    def _wake(self) -> None:
        self._pass_soon(self.network.now + self.network.random.uniform(*PASS_S))

    def _pass_soon(self, when: float) -> None:
        when = max(when, self._stalled_until, self.network.now)
        if self._pass_at is not None and self._pass_at <= when:
            return
        self._pass_at = when
        self.network.at(when, lambda: self._pass_due(when))

    def _pass_due(self, when: float) -> None:
        if self._pass_at != when:
            return
        self._pass_at = None
        if self.network.now < self._stalled_until:
            self._pass_soon(self._stalled_until)
        elif self.engine is not None and self._port is not None:
            self._run_pass(self.engine, self._port)

    def _run_pass(self, engine: BrokerEngine, port: BrokerPort) -> None:
        """Do what `ezgraph.broker.service.BrokerService.run_pass` does."""
        now, wall = self.network.now, self.network.clock.wall()
        while port.subscriptions:
            engine.take_subscription(port.subscriptions.popleft(), now=now)
        self._read_batch(engine, port)
        self._obey_monitor(engine, port, now)
        self._take_commands(engine, now, wall)
        if self._crashes("decided"):
            return
        try:
            drained = not port.requests and not self._inbox
            engine.finish_pass(now=now, wall=wall, drained=drained)
        except JournalFailedError:
            if engine.replies():
                raise BrokenPromiseError("G4: answered although the append failed") from None
            self.crash()
            return
        if not self._crashes("stored"):
            self._send(engine, port, now)

    def _read_batch(self, engine: BrokerEngine, port: BrokerPort) -> None:
        while port.requests and len(self._inbox) < self.config.limits.inbox_messages:
            peer, fd, message = port.requests.popleft()
            self._inbox.append((peer, None if engine.knows(peer) else fd, list(message)))

    def _take_commands(self, engine: BrokerEngine, now: float, wall: float) -> None:
        left = self.config.limits.commands_per_pass
        while self._inbox and left > 0:
            peer, fd, message = self._inbox[0]
            descriptor = None if fd is None else (fd, self._generations.get(fd, 0))
            taken = min(left, len(message))
            for frame in message[:taken]:
                engine.take_command(peer, frame, now=now, wall=wall, descriptor=descriptor)
            left -= taken
            del message[:taken]
            if not message:
                self._inbox.popleft()

    def _obey_monitor(self, engine: BrokerEngine, port: BrokerPort, now: float) -> None:
        while port.monitor:
            what, fd = port.monitor.popleft()
            generation = self._generations.get(fd, 0)
            if what == "accepted":
                self._generations[fd] = generation + 1
            else:
                engine.connection_closed((fd, generation), now=now)

    def _send(self, engine: BrokerEngine, port: BrokerPort, now: float) -> None:
        replies = engine.replies()
        if self.crash_at == "answering":
            replies = replies[: self.network.random.randint(0, len(replies))]
        for message in replies:
            port.send_reply(message)
        if self._crashes("answering") or self._crashes("answered"):
            return
        for publication in engine.publications():
            port.publish(publication)
        for message in engine.replies():
            port.send_reply(message)
        due = now if port.requests or self._inbox else engine.next_due(now)
        if due is not None:
            self._pass_soon(max(due, now + 1e-6))

    def _crashes(self, point: CrashPoint) -> bool:
        if self.crash_at == point:
            self.crash()
            return True
        return False
