"""Serving a graph of data nodes for a session: its host, and what the bus is told of it.

The host answers readers in a thread of its own (`ezgraph.nodes.host`). The bus is told where it is,
and which nodes there are: those that come or go are announced together, a moment after. That goes
by the session's own connection, so it ends with the session; a *keeper* sees to it, a task in a
program with an event loop, a thread in one without.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

from ezgraph.client.blocking import run
from ezgraph.clock import Deadline, SystemClock
from ezgraph.config import DEFAULT_TIMEOUT_S, Address, Limits, is_loopback
from ezgraph.errors import EzGraphError, InvalidCommandError, LimitError, SessionError
from ezgraph.graph.data_nodes import no_reply_of
from ezgraph.ids import RandomIds
from ezgraph.keys.curve import new_pair, serve_with
from ezgraph.nodes.announcing import Announcements, cards_of
from ezgraph.nodes.base import BaseNode
from ezgraph.nodes.gate import Gate
from ezgraph.nodes.host import NodeHost
from ezgraph.nodes.server import NodeServer, blaming
from ezgraph.protocol.commands import Heartbeat, ServeGraph, WithdrawGraph
from ezgraph.protocol.nodes import NodeVerb
from ezgraph.protocol.replies import Beat, Done, Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from ezgraph.graph.data_nodes import Beside, Call
    from ezgraph.nodes.server import MaySee
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.served import NodeCard

T = TypeVar("T")
log = logging.getLogger(__name__)

GATHER_S = 0.1
"""How long nodes that come and go are gathered before they are announced together."""
CLOCK_S = 10.0
"""How often the broker is asked for the time, by which tickets run out, and is there at all."""
_WALKS_SHARE = 5.0
_LIMITS = Limits()
"""What a broker keeps of a node; one that is told to keep less refuses more."""
_KEEPER_S = 3.0
"""How long a keeper waits for the broker at once: so long may it take to stop one."""
_RETRY_S = 0.25
_MOST_RETRY_S = 30.0
_WILDCARDS = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104 - what is refused, or advertised


async def asked(call: Call, command: Command, kind: type[T], timeout: float) -> T:  # noqa: ASYNC109
    """Return the reply to a command, which must be of this kind.

    Raises:
        MalformedMessageError: it is not.
    """
    reply = await call(command, timeout)
    if not isinstance(reply, kind):
        raise no_reply_of(kind, command, reply)
    return reply


async def here(work: Callable[[], T]) -> T:
    """Do it in this thread, at once."""
    return work()


class Listening(NamedTuple):
    """Where a host listens, where it says it does, and whether others can listen in."""

    host: str
    advertised: str
    is_secure: bool


def listening(host: str | None, advertise: str | None, broker: Address) -> Listening:
    """Return where to listen for readers, for who has reached the broker at an address.

    None: where the broker was reached on loopback, there; else at this computer's address on the
    way to the broker.
    """
    if host is None:
        host = "127.0.0.1" if is_loopback(broker.host) else local_address(broker)
    advertised = advertise or (local_address(broker) if host in _WILDCARDS else host)
    return Listening(host, advertised, not is_loopback(host))


def local_address(target: Address) -> str:
    """Return which address of this computer reaches another one; nothing is sent."""
    family, kind, _, _, where = socket.getaddrinfo(
        target.host, target.port, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind) as probe:
        probe.connect(where)
        return str(probe.getsockname()[0]).partition("%")[0]


class BrokerWall:
    """The broker's wall clock, by its last beat and this host's monotonic clock."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._ahead_s = self._clock.wall() - self._clock.monotonic()

    def __repr__(self) -> str:
        return f"<BrokerWall {self():.3f}>"

    def __call__(self) -> float:
        """Return what it shows now, in seconds since 1970."""
        return self._clock.monotonic() + self._ahead_s

    async def hear(self, call: Call, timeout: float) -> None:  # noqa: ASYNC109
        """Ask the broker for the time."""
        sent = self._clock.monotonic()
        beat = await asked(call, Heartbeat(0.0), Beat, timeout)
        self._ahead_s = beat.wall_time - (sent + self._clock.monotonic()) / 2


class Hosting:
    """A graph that a session serves. Its coroutines never suspend in a blocking session."""

    def __init__(
        self,
        root: BaseNode | NodeServer,
        name: str,
        call: Call,
        where: Listening,
        *,
        port: int = 0,
        announce: bool = True,
        may_see: MaySee | None = None,
        beside: Beside = here,
    ) -> None:
        """``announce``: make each node known on the bus.

        ``beside`` does what may take a while, such as a walk over the whole graph.
        """
        self.name = name
        self.server = _server_of(root, name, may_see)
        self._is_server_ours = self.server is not root
        self.wall = BrokerWall()
        self.is_declared = False
        self._call = call
        self._where = where
        self._beside = beside
        self._clock = SystemClock()
        self._walk_s = 0.0
        self._incarnation = RandomIds().session_id()
        self._announcements = Announcements(name) if announce else None
        self._root_uid = ""
        self._gate = Gate(name, self.wall)
        self.public_key: bytes | None = None
        secret = b""
        if where.is_secure:
            self.public_key, secret = new_pair()
        self._host = NodeHost(
            self.server,
            host=where.host,
            port=port,
            secure=(lambda router: serve_with(router, secret)) if where.is_secure else None,
            gate=self._gate,
        )

    def __repr__(self) -> str:
        return f"{self.name!r} at {self.address} {self.server!r}"

    @property
    def address(self) -> Address:
        """Where readers are told to dial."""
        return Address(self._where.advertised, self._host.address.port)

    def start(self) -> None:
        """Listen from now on; nobody is admitted before `declare`.

        Raises:
            AddressInUseError: somebody listens there.
        """
        self._host.start()

    def stop(self) -> None:
        """Answer nobody any more. May be called twice."""
        self._host.stop()
        if self._is_server_ours:
            self.server.release()

    async def declare(self, *, timeout: float) -> int:  # noqa: ASYNC109
        """Tell the bus, or tell it again, that the graph is served; return the seq reached.

        Raises:
            AddressCollisionError: others serve another graph under that name.
            ForbiddenError: the key's role may not serve it.
        """
        deadline = Deadline(timeout)
        await self.wall.hear(self._call, deadline.left())
        self._root_uid = self.server.root.uid
        serving = await asked(self._call, self._command(), Serving, deadline.left())
        self.is_declared = True
        self._gate.open_with(serving.ticket_secret)
        seq = serving.seq
        if self._announcements is not None:
            self._announcements.doubt()
            seq = max(seq, await self._tell(self._announcements, deadline))
        return seq

    def _command(self) -> ServeGraph:
        return ServeGraph(
            self.name,
            self._root_uid,
            self._incarnation,
            [str(self.address)],
            self.public_key,
            self._announcements is not None,
        )

    async def tell_changes(self, *, timeout: float) -> None:  # noqa: ASYNC109
        """Announce what has come and gone since the last time."""
        if self.server.root.uid != self._root_uid:
            await self.declare(timeout=timeout)
        elif self._announcements is not None:
            await self._tell(self._announcements, Deadline(timeout))

    @property
    def gather_s(self) -> float:
        """How long changes are gathered: so long that walks leave most of the time to readers."""
        return max(GATHER_S, _WALKS_SHARE * self._walk_s)

    def _cards(self) -> dict[str, NodeCard]:
        began = self._clock.monotonic()
        with blaming("a node that is to be announced", NodeVerb.TREE):
            cards = cards_of(self.server.root, _LIMITS)
        self._walk_s = self._clock.monotonic() - began
        return cards

    async def _tell(self, announcements: Announcements, deadline: Deadline) -> int:
        seq, most = 0, _LIMITS.max_announced_nodes_per_command
        for command in list(announcements.owed(await self._beside(self._cards), most)):
            try:
                seq = (await asked(self._call, command, Done, deadline.left())).seq
            except LimitError as error:
                log.warning("nodes are announced no longer graph=%s why=%s", self.name, error)
                self._announcements = None
                return (await asked(self._call, self._command(), Serving, deadline.left())).seq
            announcements.told(command)
        return seq

    async def hear_clock(self, *, timeout: float) -> None:  # noqa: ASYNC109
        """Ask the broker for the time, by which tickets run out."""
        await self.wall.hear(self._call, timeout)

    async def withdraw(self, *, timeout: float) -> int:  # noqa: ASYNC109
        """Tell the bus that the graph is served no longer; return the seq reached."""
        return (await asked(self._call, WithdrawGraph(self.name), Done, timeout)).seq


def _server_of(root: BaseNode | NodeServer, name: str, may_see: MaySee | None) -> NodeServer:
    if isinstance(root, NodeServer):
        return root
    if not isinstance(root, BaseNode):
        raise InvalidCommandError(
            f"{type(root).__name__} is no node; serve a RootNode, or any other node of "
            f"ezgraph.nodes"
        )
    if may_see is None:
        return NodeServer(root, name=name)
    return NodeServer(root, name=name, may_see=may_see)


# --- keepers ---


class Keeper(Protocol):
    """Tells the bus what changes in a graph that is served, until it is stopped."""

    def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End; nothing is told any more when this returns."""
        ...


class _Pace:
    """When to try again what has failed: later each time."""

    def __init__(self) -> None:
        self._failures = 0

    def failed(self, hosting: Hosting, error: EzGraphError) -> float:
        """Return how many seconds to wait."""
        level = logging.DEBUG if self._failures else logging.WARNING
        log.log(level, "nodes could not be announced graph=%s why=%s", hosting.name, error)
        self._failures += 1
        return float(min(_MOST_RETRY_S, _RETRY_S * 2 ** min(self._failures, 10)))

    def went_well(self) -> None:
        """Begin with short pauses again."""
        self._failures = 0


async def _keep_once(hosting: Hosting, *, is_changed: bool) -> None:
    if is_changed:
        await hosting.tell_changes(timeout=_KEEPER_S)
    else:
        await hosting.hear_clock(timeout=_KEEPER_S)


class TaskKeeper:
    """A keeper for programs with an event loop: a task of it."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<TaskKeeper of {self._hosting!r}>"

    def start(self) -> None:
        """Begin."""
        self._hosting.server.listen(self._heard)
        self._task = self._loop.create_task(self._keep(), name="ezgraph-nodes-keeper")

    async def stop(self) -> None:
        """End it."""
        self._hosting.server.ignore(self._heard)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _heard(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._changed.set)

    async def _keep(self) -> None:
        pace = _Pace()
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), CLOCK_S)
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(self._hosting.gather_s)
            is_changed = self._changed.is_set()
            self._changed.clear()
            try:
                await _keep_once(self._hosting, is_changed=is_changed)
                pace.went_well()
            except EzGraphError as error:
                await asyncio.sleep(pace.failed(self._hosting, error))
                self._changed.set()


class ThreadKeeper:
    """A keeper for programs without an event loop: a thread.

    ``recover`` opens another session where the one that serves is lost; None: the program does.
    """

    def __init__(
        self, hosting: Hosting, recover: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        self._hosting = hosting
        self._recover = recover
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._keep, name="ezgraph-nodes-keeper", daemon=True
        )

    def __repr__(self) -> str:
        return f"<ThreadKeeper of {self._hosting!r}>"

    def start(self) -> None:
        """Begin."""
        self._hosting.server.listen(self._changed.set)
        self._thread.start()

    async def stop(self) -> None:
        """End it; returns when the thread has ended."""
        self._hosting.server.ignore(self._changed.set)
        self._stopping.set()
        self._changed.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _keep(self) -> None:
        pace = _Pace()
        while not self._stopping.is_set():
            is_changed = self._changed.wait(CLOCK_S)
            if self._stopping.wait(self._hosting.gather_s if is_changed else 0.0):
                return
            self._changed.clear()
            try:
                run(_keep_once(self._hosting, is_changed=is_changed))
                pace.went_well()
            except SessionError as error:
                self._find_back()
                self._stopping.wait(pace.failed(self._hosting, error))
                self._changed.set()
            except EzGraphError as error:
                self._stopping.wait(pace.failed(self._hosting, error))
                self._changed.set()

    def _find_back(self) -> None:
        if self._recover is None or self._stopping.is_set():
            return
        try:
            run(self._recover())
        except EzGraphError as error:
            log.debug("no other session so far graph=%s why=%s", self._hosting.name, error)


# --- what a program holds ---


class ServedGraph:
    """A graph that this session serves; ``stop()`` it, or use it with ``async with``.

    It ends with the session at the latest. Nodes that are added to the graph, or taken out, are
    seen by readers at once and announced a moment later.
    """

    def __init__(
        self, hosting: Hosting, keeper: Keeper, forget: Callable[[ServedGraph], None]
    ) -> None:
        self._hosting = hosting
        self._keeper = keeper
        self._forget = forget
        self._is_over = False

    def __repr__(self) -> str:
        return f"<ServedGraph {self._hosting!r}{' stopped' * self._is_over}>"

    @property
    def name(self) -> str:
        """What it is called on the bus."""
        return self._hosting.name

    @property
    def address(self) -> Address:
        """Where this process answers readers."""
        return self._hosting.address

    @property
    def server(self) -> NodeServer:
        """What answers them."""
        return self._hosting.server

    async def begin(self, *, timeout: float) -> int:  # noqa: ASYNC109
        """Serve it; return the seq reached. `GraphContext.serve` has done it."""
        try:
            self._hosting.start()
            seq = await self._hosting.declare(timeout=timeout)
        except BaseException:
            self._hosting.stop()
            if self._hosting.is_declared:  # the bus knows it, though not all of it
                with suppress(EzGraphError):
                    await self._hosting.withdraw(timeout=_KEEPER_S)
            raise
        self._keeper.start()
        return seq

    async def declare(self, *, timeout: float) -> int:  # noqa: ASYNC109
        """Say again that it is served, with what has changed; return the seq reached."""
        return await self._hosting.declare(timeout=timeout)

    async def stop(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:  # noqa: ASYNC109
        """Serve it no longer. May be called twice."""
        if self._is_over:
            return
        await self.let_go()
        try:
            with suppress(SessionError):  # then it is served no longer already
                await self._hosting.withdraw(timeout=timeout)
        finally:
            self.end()

    async def let_go(self) -> None:
        """Tell the bus nothing any more; closing the context does it."""
        self._is_over = True
        self._forget(self)
        await self._keeper.stop()

    def end(self) -> None:
        """Answer no readers any more; closing the context does it."""
        self._hosting.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
