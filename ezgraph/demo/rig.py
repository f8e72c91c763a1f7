"""The rig of the demo: a broker and four roles, each a process, and what can be done to them.

`Rig` starts them, kills them, sends them orders, and follows the bus as any other client does:
`Rig.state` is what its events add up to. `Rig.until` waits for something to be so. Leaving the
rig ends every process it started.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from ezgraph.client import aio
from ezgraph.config import Address
from ezgraph.demo.roles import ROLES
from ezgraph.demo.verdict import journal_url
from ezgraph.errors import AddressInUseError, DeadlineError, EzGraphError
from ezgraph.graph.context import GraphContext
from ezgraph.graph.server import GraphServer
from ezgraph.protocol.events import Event
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

WAIT_S = 20.0
_STOP_S = 10.0
_ASK_AGAIN_S = 0.1
_LOADING_S = 0.1  # a lease never heard since counts from when the journal was loaded
_PORTS = (20_000, 32_000)
_PORT_TRIES = 50


_named = partial(aio.Session, program="demo")


class RoleProcess:
    """One role as a process that can be killed and started again. ``said``: its last words."""

    def __init__(self, name: str, folder: Path, changed: Callable[[], None]) -> None:
        self.name = name
        self.address = ROLES[name].address
        self.said: dict[str, Any] = {}
        self.state = "not started"
        self._folder = folder
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._may_end = False

    def __repr__(self) -> str:
        return f"<RoleProcess {self.name} {self.state} pid={self.pid}>"

    @property
    def pid(self) -> int | None:
        """Its process id, also after its end."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> Path:
        """Where its standard error goes."""
        return self._folder / f"{self.name}.log"

    async def start(self, address: Address, tasks: asyncio.TaskGroup) -> None:
        """Start it; ``tasks`` holds the one that listens to it."""
        command = ["-m", "ezgraph.demo.roles", self.name, "--address", str(address)]
        self.said = {}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                "--record",
                str(self._folder / "record.jsonl"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the rig's business alone
            )
        self._may_end = False
        self._set_state("starting")
        self._listening = tasks.create_task(self._listen(self._process))

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            return
        async for line in process.stdout:
            self.said.update(json.loads(line))
            self._set_state("running" if "joined" in self.said else "joining")
        code = await process.wait()
        if not self._may_end:
            self._set_state(f"failed with exit code {code}")

    def _set_state(self, state: str) -> None:
        self.state = state
        self._changed()

    async def order(self, **changes: object) -> None:
        """Tell it to change settings."""
        process = self._process
        if process is None or process.stdin is None:
            raise EzGraphError(f"the {self.name} does not run; start it first")
        try:
            process.stdin.write(json.dumps({"set": changes}).encode() + b"\n")
            await process.stdin.drain()
        except ConnectionError as error:
            raise EzGraphError(
                f"the {self.name} (pid {process.pid}) takes no orders any more; see {self.log}"
            ) from error

    async def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._may_end = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._end("killed")

    async def finish(self) -> None:
        """Tell it to stop, and wait until it has.

        Raises:
            DeadlineError: it has not.
            EzGraphError: it ended with an error.
        """
        process = self._process
        if process is None or process.stdin is None:
            return
        self._may_end = True
        process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._end("ended")
        except TimeoutError:
            raise DeadlineError(
                f"the {self.name} (pid {process.pid}) did not end within {_STOP_S:g} s; "
                f"see {self.log}"
            ) from None
        if process.returncode:
            raise EzGraphError(self.complaint() or f"the {self.name} ended badly; see {self.log}")

    async def _end(self, state: str) -> None:
        if self._process is None:
            return
        await self._process.wait()
        if self._listening is not None:
            await asyncio.wait([self._listening])
        if self._process.returncode and state == "ended":
            state = f"failed with exit code {self._process.returncode}"
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._set_state(state)

    def complaint(self) -> str | None:
        """Return what went wrong with it, or None."""
        if not self.state.startswith("failed"):
            return None
        lines = self.log.read_text(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"its log {self.log} is empty"
        return f"the {self.name} {self.state}: {why}"


class Rig:
    """A broker, the roles, and a client that follows everything. Use it with ``async with``.

    ``on_event`` is called with each event and the state before it; ``on_change`` when anything
    about a process changed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        on_event: Callable[[Event, GraphState], None],
        on_change: Callable[[], None],
    ) -> None:
        self.journal = folder / "journal.db"
        self.record = folder / "record.jsonl"
        self.events: list[Event] = []
        self.state = GraphState()
        self.broker_state = "not started"
        self.kills = 0
        self.server: GraphServer | None = None
        self.roles = {name: RoleProcess(name, folder, self._process_changed) for name in ROLES}
        self._on_event = on_event
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._ctx: GraphContext | None = None
        self._following: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Rig {self.server!r} seq={self.state.seq} {list(self.roles.values())}>"

    @property
    def ctx(self) -> GraphContext:
        """The rig's own session."""
        if self._ctx is None:
            raise EzGraphError("the broker has not been started")
        return self._ctx

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all processes, whatever state they are in."""
        try:
            for role in self.roles.values():
                if role.alive:
                    await role.kill()
            await self.leave()
        finally:
            if self.server is not None:
                self.server.stop()
            # An error of the body stays itself, and is not wrapped in a group of one.
            if not isinstance(error, asyncio.CancelledError):
                kind = error = trace = None
            await self._tasks.__aexit__(kind, error, trace)

    # --- the broker ---

    async def start_broker(self) -> None:
        """Start the broker on its journal; at the same address if it ran before."""
        address = self.server.config.address if self.server else None
        self.server = self._serve(address) if address else self._serve_somewhere()
        self.broker_state = "running"
        self._process_changed()
        if self._ctx is None:
            self._ctx = await GraphContext(self.server.address, session_factory=_named).open()
            self._following = self._tasks.create_task(self._follow(self._ctx))

    def _serve(self, address: Address) -> GraphServer:
        url = journal_url(self.journal)
        return GraphServer(address, backend=url, run_in="process").start()

    def _serve_somewhere(self) -> GraphServer:
        """Start it on a free port that the system does not hand out for outgoing connections.

        Else a client that knocks while the broker is away can be given the broker's own port as
        its source, connect to itself, and keep the broker from coming back.
        """
        for _ in range(_PORT_TRIES):
            try:
                return self._serve(Address("127.0.0.1", random.randrange(*_PORTS, 2)))
            except AddressInUseError:
                continue
        raise AddressInUseError(f"no free port found between {_PORTS[0]} and {_PORTS[1]}")

    def kill_broker(self) -> None:
        """Kill the broker with SIGKILL."""
        if self.server is not None:
            self.server.kill()
        self.broker_state = "killed"
        self.kills += 1
        self._process_changed()

    def stop_broker(self) -> None:
        """Stop the broker; its journal can be read by others then."""
        if self.server is not None:
            self.server.stop()
        self.broker_state = "ended"
        self._process_changed()

    # --- the roles ---

    async def start(self, name: str) -> RoleProcess:
        """Start a role, and return when it runs but is not on the bus yet."""
        role = self.roles[name]
        await role.start(self.ctx.address, self._tasks)
        return role

    async def kill(self, name: str) -> None:
        """Kill a role with SIGKILL."""
        await self.roles[name].kill()
        self.kills += 1

    async def until_resumed(self) -> None:
        """Return when every lease was heard by the broker since it started.

        Raises:
            DeadlineError: one was not.
        """
        async with asyncio.timeout(WAIT_S):
            while True:
                uptime_s = (await self.ctx.status()).uptime_s
                clients = await self.ctx.clients()
                if all(client.last_heard_s + _LOADING_S < uptime_s for client in clients):
                    return
                await asyncio.sleep(_ASK_AGAIN_S)

    # --- following ---

    async def _follow(self, ctx: GraphContext) -> None:
        async for item in ctx.subscribe((), 0):
            if isinstance(item, Event):
                self._on_event(item, self.state)
                self.events.append(item)
                self.state.apply(item)
                self._changed.set()

    def _process_changed(self) -> None:
        self._changed.set()
        self._on_change()

    async def until(self, reached: Callable[[], bool], what: str) -> None:
        """Return when ``reached()`` is true, which is looked at whenever anything changed.

        Raises:
            DeadlineError: it was not within 20 s; ``what`` says what was waited for.
            EzGraphError: a process failed meanwhile.
        """
        try:
            async with asyncio.timeout(WAIT_S):
                while not reached():
                    for role in self.roles.values():
                        if complaint := role.complaint():
                            raise EzGraphError(f"while waiting until {what}: {complaint}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise DeadlineError(
                f"waited {WAIT_S:g} s in vain until {what}; the rig is {self!r}"
            ) from None

    async def leave(self) -> None:
        """Close the rig's own session."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.wait([following])
        ctx, self._ctx = self._ctx, None
        if ctx is not None:
            await ctx.close()
