"""The rig of a chaos run: a broker on a journal, clients of every role, cables to half of them.

Leaving the rig ends every process it started, whatever state they are in.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from ezgraph.backends.sqlite import SQLiteBackend
from ezgraph.chaos.archive import Archive
from ezgraph.chaos.children import Child
from ezgraph.chaos.proxy import Cable
from ezgraph.chaos.roles import ROLES
from ezgraph.config import Address
from ezgraph.errors import DeadlineError, EzGraphError, JournalError
from ezgraph.graph.context import GraphContext
from ezgraph.keys.keyring import Keyring
from ezgraph.verify.recorder import Recorder
from ezgraph.verify.records import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

BROKER_HOST = "127.0.0.1"
TTL_S = 3.0
"""Long enough that the end of a lease by its TTL is told from the end by a crash (1 s)."""

START_S = 20.0
LOST = "publications lost on the way"
_END_S = 20.0
_QUIET_S = 30.0
_CHECKPOINT_EVENTS = 1_000
_KEPT_EVENTS = 1_500
_PINNED_EVENTS = 500
_ARCHIVE_S = 0.5
_FIRST_CABLE = 2
_CABLES_AT_MOST = 250
_CALLS_PER_S = 25.0
_STARTING = 4
_CLIENT_KEY = "client"


class Slot:
    """The place of one client: its process is replaced when it is killed."""

    def __init__(self, number: int, role: str, cable: Cable | None) -> None:
        self.number = number
        self.role = role
        self.cable = cable
        self.child: Child | None = None
        self.generation = 0
        self.phase = ""
        self.token: str | None = None
        self.busy = asyncio.Lock()

    @property
    def name(self) -> str:
        """The name under which it is listed."""
        return f"{self.role}-{self.number}"

    def __repr__(self) -> str:
        return f"<Slot {self.name} {self.child!r} {self.phase}>"


class Rig:
    """Broker, clients and cables. Use it with ``async with``.

    ``with_keys``: the broker admits only a key that all clients have, and all is encrypted.
    """

    def __init__(
        self, folder: Path, *, clients: int, seed: int, with_keys: bool = False
    ) -> None:
        self.folder = folder
        self.journal = folder / "journal.db"
        self.traces = folder / "traces"
        self.slots: list[Slot] = []
        self.broken: list[str] = []
        self.lost = 0
        self.broker: Child | None = None
        self.broker_state = "not started"
        self.broker_busy = asyncio.Lock()
        self._clients = clients
        self._seed = seed
        self._ports: list[int] = []
        self._children: list[Child] = []
        self._counts: dict[Child, Counter[str]] = {}
        self._changed = asyncio.Event()
        self._recorder: Recorder | None = None
        self.archive = folder / "archive.db"
        self._archive = Archive(self.journal, self.archive)
        self._archiving: asyncio.Task[None] | None = None
        self._with_keys = with_keys
        self._keyring: Keyring | None = None
        self._tasks = asyncio.TaskGroup()
        self._cables = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Rig broker={self.broker_state} clients={len(self.slots)} in {self.folder}>"

    @property
    def address(self) -> Address:
        """Where the broker itself takes commands."""
        return Address(BROKER_HOST, self._ports[0])

    @property
    def counts(self) -> Counter[str]:
        """What all clients have done, the dead ones too, and what was lost on the way to them."""
        total: Counter[str] = Counter({LOST: self.lost})
        for counts in self._counts.values():
            total += counts
        return total

    @property
    def cabled(self) -> list[int]:
        """The numbers of the clients behind a cable."""
        return [slot.number for slot in self.slots if slot.cable is not None]

    async def __aenter__(self) -> Self:
        """Start the broker and lay the cables."""
        for folder in (self.traces, self.folder / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        if self._with_keys:
            self._keyring = _new_keyring(self.folder / "keys")
        self._recorder = Recorder(self.traces / "observer.trace", program="chaos")
        await self._tasks.__aenter__()
        await self._cables.__aenter__()
        try:
            await self.start_broker()
            self._archiving = self._tasks.create_task(self._archive_all())
            await self._lay_cables()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all processes and cables."""
        if self._recorder is not None:
            self._recorder.close()
        await self._end_all()
        if self._archiving is not None:
            self._archiving.cancel()
        self._archive.close()
        await self._cables.aclose()
        # An error of the body stays itself, and is not wrapped in a group of one.
        if not isinstance(error, asyncio.CancelledError):
            kind = error = trace = None
        await self._tasks.__aexit__(kind, error, trace)

    async def _end_all(self) -> None:
        for child in self._children:
            child.may_end = True
            child.signal(signal.SIGKILL)
        for child in self._children:
            with suppress(DeadlineError):
                await child.ended(_END_S)

    async def _lay_cables(self) -> None:
        roles = list(ROLES)
        for number in range(self._clients):
            cable = None
            if sys.platform == "linux" and number % 2 == 0 and number < _CABLES_AT_MOST:
                host = f"127.0.0.{_FIRST_CABLE + number}"
                rng = random.Random(f"{self._seed}/cable/{number}")
                cable = Cable(host, BROKER_HOST, self._ports, rng=rng)
                await self._cables.enter_async_context(cable)
            self.slots.append(Slot(number, roles[number % len(roles)], cable))

    # --- the broker ---

    async def start_broker(self) -> None:
        """Start the broker on its journal; return when it takes commands.

        Raises:
            EzGraphError: it does not.
        """
        broker = Child(
            "broker",
            self.folder / "logs" / "broker.log",
            on_said=self._broker_said,
            on_end=self._broker_ended,
        )
        port, events_port = self._ports or (0, None)
        given = {
            "address": f"{BROKER_HOST}:{port}",
            "events_port": events_port,
            "backend": SQLiteBackend(self.journal.absolute()).url,
            "archive": str(self.archive),
            "ttl_s": TTL_S,
            "checkpoint_events": _CHECKPOINT_EVENTS,
            "kept_events": _KEPT_EVENTS,
            "pinned_events": _PINNED_EVENTS,
            **self._broker_keys(),
        }
        self.broker = broker
        self._children.append(broker)
        self._set_broker("starting")
        await broker.start("ezgraph.chaos.broker", given, self._tasks)
        await self.until(
            lambda: self.broker_state == "running" or not broker.alive, START_S, "a broker"
        )
        if self.broker_state != "running":
            raise EzGraphError(f"the broker did not start: {broker.last_words()}")
        self.note(Fault.BROKER_UP)

    def _broker_keys(self) -> dict[str, str]:
        if self._keyring is None:
            return {}
        key = str(self._keyring.secret_file("broker"))
        return {"key": key, "trusted": str(self._keyring.trusted)}

    async def kill_broker(self) -> None:
        """Kill it with SIGKILL."""
        self.note(Fault.BROKER_DOWN)
        if self.broker is not None:
            await self.broker.kill()
        self._set_broker("killed")

    async def end_broker(self) -> None:
        """End it with SIGTERM; it is a broken promise if it does not end well."""
        broker = self.broker
        if broker is None:
            return
        broker.may_end = True
        self.note(Fault.BROKER_DOWN)
        broker.signal(signal.SIGTERM)
        self._set_broker("ending")
        try:
            code = await broker.ended(_END_S)
        except DeadlineError as error:
            self.break_promise(f"G9: {error}")
            await broker.kill()
        else:
            if code:
                self.break_promise(f"the broker ended with code {code}: {broker.last_words()}")
        self._set_broker("ended")

    async def stop_broker(self, for_s: float) -> None:
        """Stop it for so long with SIGSTOP."""
        broker = self.broker
        if broker is None:
            return
        self.note(Fault.BROKER_DOWN)
        broker.signal(signal.SIGSTOP)
        self._set_broker("stopped")
        try:
            await asyncio.sleep(for_s)
        finally:
            broker.signal(signal.SIGCONT)
            self._set_broker("running")
            self.note(Fault.BROKER_UP)

    def _broker_said(self, _: Child, said: dict[str, Any]) -> None:
        self.lost += said.get("lost", 0)
        if "ports" in said:
            self._ports = self._ports or said["ports"]
            self._set_broker("running")

    def _broker_ended(self, broker: Child) -> None:
        if not broker.may_end:
            self.break_promise(
                f"the broker ended by itself with code {broker.code}: {broker.last_words()}"
            )
            self._set_broker(f"ended with code {broker.code}")
        self._notify()

    def _set_broker(self, state: str) -> None:
        self.broker_state = state
        self._notify()

    # --- the clients ---

    async def start_clients(self) -> None:
        """Start them all, a few at a time; a fault of one waits until it has begun."""
        few = asyncio.Semaphore(_STARTING)

        async def start(slot: Slot) -> None:
            async with slot.busy, few:
                await self.start_client(slot)
                await self.until(lambda: self.has_begun(slot), START_S, f"{slot.name} to begin")

        async with asyncio.TaskGroup() as tasks:
            for slot in self.slots:
                tasks.create_task(start(slot))

    def has_begun(self, slot: Slot) -> bool:
        """Return whether the process in this place has said anything, or has ended."""
        return slot.child is not None and (slot.child in self._counts or not slot.child.alive)

    async def start_client(self, slot: Slot, *, token: str | None = None) -> None:
        """Start a client in its place; with a token, as the heir of the one before."""
        slot.generation += 1
        slot.phase, slot.token = "", None
        child = Child(
            slot.name,
            self.folder / "logs" / f"{slot.name}.log",
            on_said=lambda child, said: self._client_said(slot, child, said),
            on_end=self._client_ended,
        )
        host = slot.cable.host if slot.cable is not None else BROKER_HOST
        given = {
            "name": slot.name,
            "role": slot.role,
            "address": str(Address(host, self._ports[0])),
            "trace": str(self.traces / f"{slot.name}.{slot.generation}.trace"),
            "seed": f"{self._seed}/{slot.number}/{slot.generation}",
            "ttl_s": TTL_S,
            "rate": _CALLS_PER_S,
            "token": token,
            "keys": () if self._keyring is None else self._keyring.words(_CLIENT_KEY),
        }
        slot.child = child
        self._children.append(child)
        await child.start("ezgraph.chaos.worker", given, self._tasks)

    def _client_said(self, slot: Slot, child: Child, said: dict[str, Any]) -> None:
        if child is slot.child:
            slot.phase = said.get("phase", slot.phase)
            slot.token = said.get("token", slot.token)
        if "counts" in said:
            self._counts[child] = Counter(said["counts"])
        if "broken" in said:
            self.break_promise(said["broken"])
        self._notify()

    def _client_ended(self, child: Child) -> None:
        if not child.may_end:
            self.break_promise(
                f"{child.name} ended by itself with code {child.code}: {child.last_words()}"
            )
        self._notify()

    async def kill_client(self, slot: Slot) -> None:
        """Kill it with SIGKILL."""
        if slot.child is not None:
            await slot.child.kill()
            self.note(Fault.KILLED, slot.child)

    async def stop_client(self, slot: Slot, for_s: float) -> None:
        """Stop it for so long with SIGSTOP."""
        child = slot.child
        if child is None:
            return
        self.note(Fault.STOPPED, child)
        child.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(for_s)
        finally:
            child.signal(signal.SIGCONT)
            self.note(Fault.CONTINUED, child)

    async def end_client(self, slot: Slot) -> None:
        """Let a client leave in order; it is a broken promise if it does not."""
        child = slot.child
        if child is None or not child.alive:
            return
        child.may_end = True
        child.order("leave")
        try:
            code = await child.ended(_END_S)
        except DeadlineError as error:
            self.break_promise(f"G9: {error}")
            await child.kill()
        else:
            if code:
                self.break_promise(
                    f"{child.name} ended with code {code} when told to leave: {child.last_words()}"
                )

    # --- the end ---

    async def settle(self) -> None:
        """Let all be quiet, catch up with the broker, and leave in order; then end the broker."""
        await self._all_reach("quiet", "quiet")
        keys = self._keyring.keys(_CLIENT_KEY, self.address) if self._keyring else None
        async with GraphContext(self.address, program="chaos", keys=keys) as ctx:
            head = (await ctx.status()).head
        await self._all_reach(f"reach {head}", "reached")
        async with asyncio.TaskGroup() as tasks:
            for slot in self.slots:
                tasks.create_task(self.end_client(slot))
        await self.end_broker()
        self._archive.catch_up()
        self.broken += self._archive.missing

    async def _all_reach(self, order: str, phase: str) -> None:
        for slot in self.slots:
            if slot.child is not None:
                slot.child.order(order)
        try:
            await self.until(lambda: not self._without(phase), _QUIET_S, f"all to say {phase!r}")
        except DeadlineError:
            names = [slot.name for slot in self._without(phase)]
            self.break_promise(
                f"G9: {', '.join(names)} did not say {phase!r} within {_QUIET_S:g} s of {order!r}"
            )

    def _without(self, phase: str) -> Sequence[Slot]:
        return [
            slot
            for slot in self.slots
            if slot.phase != phase and slot.child is not None and slot.child.alive
        ]

    async def _archive_all(self) -> None:
        """Copy each event before the broker compacts it."""
        while not self._archive.missing:
            with suppress(JournalError):  # the broker is starting or ending: again later
                self._archive.catch_up()
            await asyncio.sleep(_ARCHIVE_S)

    # --- looking and waiting ---

    def note(self, fault: Fault, child: Child | None = None) -> None:
        """Write down what is done to a client, or to the broker, for the checker."""
        if self._recorder is not None:
            self._recorder.note(fault, pid=child.pid if child is not None else None)

    def break_promise(self, promise: str) -> None:
        """Note a broken promise."""
        self.broken.append(promise)

    def _notify(self) -> None:
        self._changed.set()

    async def until(self, reached: Callable[[], bool], within_s: float, what: str) -> None:
        """Return when ``reached()`` is true, which is looked at whenever anything changed.

        Raises:
            DeadlineError: it was not in that time; ``what`` says what was waited for.
        """
        try:
            async with asyncio.timeout(within_s):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise DeadlineError(f"waited {within_s:g} s in vain for {what}; {self!r}") from None


def _new_keyring(folder: Path) -> Keyring:
    """Make a pair for the broker, and one for all clients, which it admits."""
    folder.mkdir(parents=True, exist_ok=True)
    keyring = Keyring(folder)
    keyring.admit(_CLIENT_KEY)
    return keyring
