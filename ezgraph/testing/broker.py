"""Brokers for tests: one on the simulated network, one on real sockets in a thread."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from ezgraph.broker.admitted import (
    COMMANDS,
    Socket,
    cut_off,
    lets_in,
    losers,
    streams_of,
)
from ezgraph.broker.engine import BrokerEngine
from ezgraph.broker.inbox import Arrived, Inbox
from ezgraph.config import Address, BrokerConfig
from ezgraph.errors import JournalFailedError, MalformedMessageError
from ezgraph.graph.server import GraphServer
from ezgraph.protocol.replies import Refusal
from ezgraph.protocol.roles import FULL_SCOPE
from ezgraph.testing.clock import HostClock
from ezgraph.testing.guarantees import BrokenPromiseError, History
from ezgraph.testing.ids import SequentialIds
from ezgraph.testing.journal import FlakyMemory
from ezgraph.testing.network import BrokerPort
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.backends.base import Journal
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.roles import Access
    from ezgraph.testing.journal import Disk
    from ezgraph.testing.network import Network

ADDRESS = Address("broker", 1)
PASS_S = (0.0, 0.002)
FAREWELL_S = 1.5
CrashPoint = Literal["decided", "stored", "answering", "answered"]


@contextmanager
def running_broker(config: BrokerConfig | None = None) -> Iterator[GraphServer]:
    """A real broker in a thread, on a free loopback port, for the length of a ``with``."""
    with GraphServer(config=config or BrokerConfig(address=Address("127.0.0.1", 0))) as server:
        yield server


class SimulatedBroker:
    """The engine of `ezgraph.broker.engine`, driven as the service drives it.

    Its process may crash between any two of these steps, or stall; its disk may fail or dawdle.
    What the journal had stays, and a new process goes on from there, at the same ``address`` or
    at another. ``new_clock`` gives each process the clock of its host; by default it shows what
    the network's does.
    """

    def __init__(
        self,
        network: Network,
        config: BrokerConfig | None = None,
        *,
        disk: Disk | None = None,
        new_clock: Callable[[], HostClock] | None = None,
        access: Access | None = None,
    ) -> None:
        self.network = network
        self.access = access
        self._scoped: dict[int, BrokerPort] = {}
        self.address = ADDRESS
        self.config = replace(config or BrokerConfig(), address=ADDRESS)
        self.disk = disk or FlakyMemory(network.random)
        self.engine: BrokerEngine | None = None
        self.crash_at: CrashPoint | None = None
        self.crashes = 0
        self.starts: list[int] = []
        self.lost_history: History | None = None
        self._new_clock = new_clock or (lambda: HostClock(network.clock))
        self._clock = self._new_clock()
        self._journal: Journal | None = None
        self._port: BrokerPort | None = None
        self._ids = SequentialIds()
        self._generations: dict[int, int] = {}
        self._inbox = Inbox(self.config.limits)
        self._archive: list[Event] = []
        self._archived = 0
        self._pass_at: float | None = None
        self._stalled_until = 0.0
        self._appending = False
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
        self._let_go()
        journal = self._opened()
        self.starts.append(journal.head)
        self._clock = self._new_clock()
        self.engine = BrokerEngine(
            self.config,
            journal,
            self._ids,
            events_port=self.address.port + 1,
            now=self._clock.monotonic(),
            access=self.access,
        )
        self._generations = {}
        self._inbox = Inbox(self.config.limits)
        self._port = BrokerPort(
            self.network,
            self._wake,
            partial(self._lets_in, COMMANDS),
            partial(self._lets_in, FULL_SCOPE.number),
        )
        commands = self.address
        self.network.bind(self._port, commands, Address(commands.host, commands.port + 1))
        self._open_scopes(self.engine)
        self._wake()

    def _open_scopes(self, engine: BrokerEngine) -> None:
        """Have a port for each read scope, as the service does."""
        if self.access is None:
            return
        numbers = streams_of(self.access) - {0}
        for number in self._scoped.keys() - numbers:
            self.network.unbind(self._scoped.pop(number))
        for number in numbers - self._scoped.keys():
            port = BrokerPort(self.network, self._wake, partial(self._lets_in, number))
            self._scoped[number] = port
            self.network.bind(port, self._events_address(number))
        first = self.address.port + 1
        engine.set_access(self.access, {number: first + number for number in (0, *numbers)})

    def _lets_in(self, socket: Socket, public: str | None) -> bool:
        return self.access is None or lets_in(self.access, public, socket)

    def _events_address(self, number: int) -> Address:
        return Address(self.address.host, self.address.port + 1 + number)

    def change_access(self, access: Access) -> None:
        """Go by another allow-list; who lost something by it is cut off, as by the service."""
        before, self.access = self.access, access
        if self.engine is None or self._port is None or before is None:
            return
        ports = {FULL_SCOPE.number: self._port, **self._scoped}
        known: dict[Socket, list[tuple[Any, str | None]]] = {
            number: port.subscribers() for number, port in ports.items()
        }
        known[COMMANDS] = self._port.dealers()
        for socket, connection in cut_off(losers(before, access), known):
            port = self._port if socket is COMMANDS else ports[socket]
            port.cut_off(connection)
        self._open_scopes(self.engine)

    def crash(self) -> None:
        """End at once. Only the journal remains."""
        if self.engine is None:
            return
        self.crashes += 1
        self._let_go()

    def _let_go(self) -> None:
        """No process, no sockets, no open journal."""
        self.engine = self.crash_at = None
        self._appending = False
        if self._port is not None:
            self.network.unbind(self._port)
            self._port = None
        for port in self._scoped.values():
            self.network.unbind(port)
        self._scoped.clear()
        self.disk.crash()
        self._journal = None

    def restart_after(self, seconds: float) -> None:
        """Have somebody start it again in a while."""
        self.network.after(seconds, self.start)

    def stall(self, seconds: float) -> None:
        """Do nothing for a while (a stopped process)."""
        self._stalled_until = max(self._stalled_until, self.network.now + seconds)

    def restore(self, disk: FlakyMemory, backup: object) -> None:
        """End it, and put a backup of its disk back; `lost_history` is what there was until now."""
        if self.engine is not None:
            self.crash()
        self._let_go()
        self.lost_history = self.history()  # with what a failed append had written after all
        self._let_go()
        disk.restore(backup, wall=self._clock.wall())
        with disk.open_journal() as journal:
            ended = journal.epoch_end(journal.epochs[-2].epoch) or 0
            self._archived = journal.head
        self._archive = [event for event in self._archive if event.seq <= ended]

    # --- what it has stored ---

    def history(self) -> History:
        """Return every event ever stored, those compacted away since among them."""
        self._archive_new()
        was_restored = self.lost_history is not None and bool(self._archive)
        return History(self._archive, floor=self._archive[0].seq if was_restored else 1)

    def compact(self, *, keep_from: int | None = None) -> None:
        """Write a checkpoint and drop the history it covers, or what lies before ``keep_from``.

        Not while it waits for its disk: then it does nothing else.
        """
        if self.engine is None or self._appending:
            return
        self.engine.write_checkpoint()
        journal = self._opened()
        if journal.checkpoint_seq is not None:
            floor = journal.checkpoint_seq + 1
            floor = floor if keep_from is None else min(floor, keep_from)
            self._archive_new()
            journal.drop_below(floor)

    def _archive_new(self) -> None:
        """Read what was stored since the last time, before anything may drop it."""
        journal = self._opened()
        while self._archived < journal.head:
            chunk = journal.read(self._archived)
            self._archive += [codec.decode_event(each) for each in chunk.events]
            self._archived = chunk.through

    def _opened(self) -> Journal:
        if self._journal is None or self._journal.closed:
            self._journal = self.disk.open_journal()
            self._archive_new()
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
        elif self._port is not None and self.engine is not None:
            self._run_pass(self.engine, self._port)
        elif self._port is not None:
            self._refuse_everybody(self._port)

    def _run_pass(self, engine: BrokerEngine, port: BrokerPort) -> None:
        """Do what `ezgraph.broker.service.BrokerService.run_pass` does."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        while port.subscriptions:
            engine.take_subscription(port.subscriptions.popleft(), now=now)
        for number, scoped in self._scoped.items():
            while scoped.subscriptions:
                engine.take_subscription(scoped.subscriptions.popleft(), now=now, scope=number)
        self._read_batch(port)
        self._obey_monitor(engine, port, now)
        for stranger in self._inbox.strangers():
            stranger.place(self._generations)
        self._take_commands(engine, now, wall)
        if self._crashes("decided"):
            return
        try:
            drained = not port.requests and not self._inbox
            heard_through = None if drained else -inf
            engine.finish_pass(now=now, wall=wall, heard_through=heard_through)
        except JournalFailedError:
            self._fail(engine, port)
            return
        self._archive_new()
        self._wait_for_disk(engine, port)

    def _wait_for_disk(self, engine: BrokerEngine, port: BrokerPort) -> None:
        """Go on when the append is through; until then the loop stands still."""
        took_s, self.disk.append_s = self.disk.append_s, 0.0
        if not took_s:
            self._stored(engine, port)
            return
        self._appending = True
        self.stall(took_s)
        self.network.after(took_s, lambda: self._stored(engine, port))

    def _stored(self, engine: BrokerEngine, port: BrokerPort) -> None:
        self._appending = False
        if self.engine is engine and not self._crashes("stored"):
            self._send(engine, port)

    def _read_batch(self, port: BrokerPort) -> None:
        """Read up to a bound."""
        for _ in range(self.config.limits.inbox_messages):
            if not port.requests:
                return
            peer, fd, message, public = port.requests.popleft()
            self._inbox.put(Arrived(peer, fd, list(message), public))

    def _take_commands(self, engine: BrokerEngine, now: float, wall: float) -> None:
        for arrived, taken in self._inbox.take(self.config.limits.commands_per_pass):
            for frame in taken:
                engine.take_command(
                    arrived.peer,
                    frame,
                    now=now,
                    wall=wall,
                    descriptor=arrived.descriptor,
                    public=arrived.public,
                )

    def _obey_monitor(self, engine: BrokerEngine, port: BrokerPort, now: float) -> None:
        while port.monitor:
            what, fd = port.monitor.popleft()
            generation = self._generations.get(fd, 0)
            if what == "accepted":
                self._generations[fd] = generation + 1
            else:
                engine.connection_closed((fd, generation), now=now)

    def _send(self, engine: BrokerEngine, port: BrokerPort) -> None:
        replies = engine.replies()
        if self.crash_at == "answering":
            replies = replies[: self.network.random.randint(0, len(replies))]
        for message in replies:
            port.send_reply(message)
        if self._crashes("answering") or self._crashes("answered"):
            return
        for publication in engine.publications():
            port.publish(publication)
        for number, publication in engine.partial_publications():
            self._scoped[number].publish(publication)
        for message in engine.replies():
            port.send_reply(message)
        engine.tidy()
        self._pass_when_due(engine, port)

    def _pass_when_due(self, engine: BrokerEngine, port: BrokerPort) -> None:
        if port.requests or self._inbox:
            self._pass_soon(self.network.now + 1e-6)
            return
        due = engine.next_due(self._clock.monotonic())
        if due is not None:
            self._pass_soon(max(self._clock.base_time(due), self.network.now + 1e-6))

    def _crashes(self, point: CrashPoint) -> bool:
        if self.crash_at == point:
            self.crash()
            return True
        return False

    # --- when the journal has failed ---

    def _fail(self, engine: BrokerEngine, port: BrokerPort) -> None:
        """Answer nothing of this pass; refuse what comes in the little time that is left."""
        if engine.replies():
            raise BrokenPromiseError("G4: answered although the append failed")
        self.crashes += 1
        self.engine = self.crash_at = None
        self._inbox = Inbox(self.config.limits)
        self._refuse_everybody(port)
        self.network.after(FAREWELL_S, lambda: self._end(port))

    def _refuse_everybody(self, port: BrokerPort) -> None:
        refusal = Refusal(JournalFailedError.code, "the disk is full; repair it, and start again")
        while port.requests:
            peer, _, message, _ = port.requests.popleft()
            try:
                request_id, _ = frames.read_header(message[-1])
            except MalformedMessageError:
                continue
            port.send_reply([peer, frames.reply_frame(request_id, refusal)])

    def _end(self, port: BrokerPort) -> None:
        if self._port is port:
            self._let_go()
