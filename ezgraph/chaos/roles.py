"""What the clients of a chaos run do: change the rig, follow it, mirror it, look at it.

A role is made of parts. Those that ask end when all are to be quiet; those that follow go on until
they have everything up to the goal. All share some topics and addresses, so that they meet each
other's loops, collisions and foreign edges, and have some of their own, so that much succeeds.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ezgraph.chaos.forms import settled
from ezgraph.client.watch import Compacted, Progress
from ezgraph.errors import CompactedError, DeadlineError
from ezgraph.protocol.events import Event
from ezgraph.protocol.metadata import DynamicSettingsMetadata, GraphMetadata, UnitMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ezgraph.chaos.worker import Worker
    from ezgraph.names import Key
    from ezgraph.state.graph import GraphState

    Part = Callable[[Worker], Coroutine[Any, Any, None]]

_TOPICS = [f"SHARED/{letter}" for letter in "ABCDEF"]
_ADDRESSES = [f"SHARED/UNIT_{number}" for number in range(4)]
_STRETCHES = (50, 200, 200, 5_000)
_SLOW_S = 0.02
_STUCK_S = 1.0
_STUCK_CHANCE = 0.01
_LAST_TIMEOUT_S = 10.0
_LAST_TRIES = 10


@dataclass(frozen=True)
class Role:
    """A kind of client: what it joins as, and the parts it plays at the same time."""

    asks: tuple[Part, ...]
    follows: tuple[Part, ...] = ()
    client: Literal["context", "process", "service"] = "context"
    blocks: bool = False
    mirrors: bool = False

    async def play(self, worker: Worker) -> None:
        """Play all parts, until the goal is reached.

        Raises:
            BaseExceptionGroup: a lease was lost, or nobody answered.
        """
        async with asyncio.TaskGroup() as tasks:
            for follow in self.follows:
                tasks.create_task(follow(worker))
            async with asyncio.TaskGroup() as asking:
                for ask in self.asks:
                    asking.create_task(ask(worker))
            await worker.quiet.wait()
            await worker.be_quiet()


# --- parts that ask ---


async def wire(worker: Worker) -> None:
    """Connect and disconnect edges, some of them where others do."""
    rng, own = worker.rng, [f"{worker.job.name}/{number}" for number in range(6)]
    while not worker.quiet.is_set():
        topics = _TOPICS if rng.random() < 0.3 else own
        start, end = rng.sample(topics, 2)
        if rng.random() < 0.8 and topics is own:
            start, end = sorted((start, end))  # so that fewer of them close a loop
        name = "connect" if rng.random() < 0.6 else "disconnect"
        await worker.ask(name, start, end)
        await worker.pause()


async def configure(worker: Worker) -> None:
    """Put and delete entries of the configuration, some that others change too, some ephemeral."""
    rng, count = worker.rng, 0
    while not worker.quiet.is_set():
        count += 1
        key = (worker.job.name if rng.random() < 0.5 else "shared", rng.choice("ABCD"))
        match rng.randrange(6):
            case 0 | 1:
                await worker.ask("config.delete", "chaos", key)
            case 2:
                await worker.ask("config.entries", "chaos", "shared")
            case 3:
                await worker.ask("config.put", "chaos", key, count, if_seq=0)
            case _:
                is_own = rng.random() < 0.5
                await worker.ask("config.put", "chaos", key, {"count": count}, ephemeral=is_own)
        await worker.pause()


async def register(worker: Worker) -> None:
    """Register metadata, with some addresses that others want too, and revert."""
    rng = worker.rng
    while not worker.quiet.is_set():
        if rng.random() < 0.25:
            await worker.ask("revert")
        else:
            own = [f"{worker.job.name}/UNIT_{number}" for number in range(rng.randrange(1, 4))]
            shared = rng.sample(_ADDRESSES, 1) if rng.random() < 0.3 else []
            await worker.ask("register_metadata", _metadata([*own, *shared], rng.random()))
        await worker.pause()


def _metadata(addresses: list[str], gain: float) -> GraphMetadata:
    components = [
        UnitMetadata(
            address=address,
            name=address.rpartition("/")[2],
            component_type="chaos.Unit",
            settings_type="chaos.Settings",
            initial_settings=(None, {"gain": gain}),
            dynamic_settings=DynamicSettingsMetadata(enabled=True),
        )
        for address in addresses
    ]
    return GraphMetadata(components={each.address: each for each in components})


async def run_units(worker: Worker) -> None:
    """Take units and let them go, and report their settings."""
    rng, own = worker.rng, [f"{worker.job.name}/UNIT_{number}" for number in range(3)]
    count = 0
    while not worker.quiet.is_set():
        unit = rng.choice(_ADDRESSES if rng.random() < 0.2 else own)
        match rng.randrange(6):
            case 0:
                await worker.ask("register", [unit])
            case 1:
                await worker.ask("update_ownership", removed=[unit])
            case _:
                count += 1
                await worker.ask("report_settings_update", unit, {"count": count})
        await worker.pause()


async def serve_all(worker: Worker) -> None:
    """Make persistent edges as a guest, pause the rig and let it go on, ask for the picture."""
    rng = worker.rng
    while not worker.quiet.is_set():
        start, end = sorted(rng.sample([*_TOPICS, f"{worker.job.name}/1"], 2))
        match rng.randrange(8):
            case 0:
                await worker.ask("pause")
            case 1:
                await worker.ask("resume")
            case 2:
                await worker.ask("snapshot")
            case 3 | 4:
                await worker.ask("disconnect", start, end)
            case _:
                await worker.ask("connect", start, end)
        await worker.pause()


async def look(worker: Worker) -> None:
    """Ask for everything that can be asked for."""
    questions = ("snapshot", "state", "dag", "clients", "status", "settings_state", "sync")
    while not worker.quiet.is_set():
        await worker.ask(worker.rng.choice(questions))
        await worker.pause()


async def read_back(worker: Worker) -> None:
    """Read stretches of history."""
    rng = worker.rng
    while not worker.quiet.is_set():
        head = await worker.ask("sync")
        if head is not None:
            after = max(0, head - rng.randrange(rng.choice(_STRETCHES)))
            prefix: Key = rng.choice([(), ("edge",), ("settings",)])
            try:
                events = await worker.ask("events", prefix, after, through_seq=head)
            except CompactedError:
                worker.counts["compacted answers"] += 1
            else:
                _check_rising(worker, prefix, [event.seq for event in events or ()])
        await worker.pause()


def _check_rising(worker: Worker, prefix: Key, numbers: list[int]) -> None:
    if numbers != sorted(set(numbers)):
        worker.broken(f"G1: {worker.job.name} read {prefix} out of order: {numbers[:50]}")


# --- parts that follow ---


class Stream:
    """A subscription that goes on where the one before it ended, until the goal."""

    def __init__(self, worker: Worker, prefix: Key, *, slow: bool = False) -> None:
        self._worker = worker
        self._prefix = prefix
        self._slow = slow
        self._last = self.position
        self._moved = asyncio.Event()
        self._subscription = worker.ctx.subscribe(prefix, self.position)

    def __repr__(self) -> str:
        return f"<Stream {'/'.join(self._prefix)!r} of {self._worker.job.name} at {self._last}>"

    @property
    def position(self) -> int:
        """Everything up to here has been taken, in whole transactions."""
        return self._worker.positions.get(self._prefix, 0)

    async def follow(self) -> None:
        """Follow until everything up to the goal is here.

        Raises:
            BaseExceptionGroup: the subscription ended with an error.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_all())
            tasks.create_task(self._end_at_goal())

    async def _take_all(self) -> None:
        async for item in self._subscription:
            self._take(item)
            self._moved.set()
            if self._slow and not self._worker.goal_known.is_set():
                await self._dawdle()

    async def _end_at_goal(self) -> None:
        try:
            goal = await self._worker.until_goal()
            while self.position < goal:
                self._moved.clear()
                await self._moved.wait()
        finally:
            await self._subscription.aclose()

    def _take(self, item: object) -> None:
        counts, positions = self._worker.counts, self._worker.positions
        match item:
            case Progress(seq=seq):
                counts["notes of progress"] += 1
                positions[self._prefix] = max(seq, self.position)
            case Compacted():
                counts["snapshots in place of history"] += 1
                positions[self._prefix] = self._last = item.snapshot.seq
            case Event():
                counts["events"] += 1
                self._check(item)
                self._last = item.seq
                if item.seq == item.txn_last:
                    positions[self._prefix] = item.seq
            case _:
                self._worker.broken(f"{self!r} was given {item!r}, which is no item")

    def _check(self, event: Event) -> None:
        """See to what only this client can see at once: the order, and, of everything, each."""
        if event.seq <= self._last:
            self._worker.broken(f"G1: {self!r} was given seq {event.seq}")
        elif not self._prefix and event.prev != self._last:
            self._worker.broken(f"G2: {self!r} was given seq {event.seq}, prev {event.prev}")

    async def _dawdle(self) -> None:
        """Take long over an item; at times let the event loop stand still."""
        if self._worker.rng.random() < _STUCK_CHANCE:
            threading.Event().wait(_STUCK_S)
        await asyncio.sleep(_SLOW_S)


async def follow_all(worker: Worker) -> None:
    """Follow every event."""
    await Stream(worker, ()).follow()


async def follow_rooms(worker: Worker) -> None:
    """Follow several prefixes, each on its own."""
    rooms: list[Key] = [("edge",), ("settings",), ("session",), ("process",)]
    async with asyncio.TaskGroup() as tasks:
        for prefix in [*rooms, ("edge", _TOPICS[0])]:
            tasks.create_task(Stream(worker, prefix).follow())


async def follow_slowly(worker: Worker) -> None:
    """Follow everything, slower than it comes."""
    await Stream(worker, (), slow=True).follow()


async def mirror(worker: Worker) -> None:
    """Compare the replica with the broker's own state, now and then and at the goal."""
    while not worker.quiet.is_set():
        await _compare(worker)
        await worker.pause()
    goal = await worker.until_goal()
    await settled(worker.ctx.replica.reach(goal, timeout=_LAST_TIMEOUT_S))
    for _ in range(_LAST_TRIES):
        if await _compare(worker):
            return
    worker.broken(f"G9: {worker.job.name} got no state from the broker at the end")


async def _compare(worker: Worker) -> bool:
    """G10: the broker's state, carried on to where the replica is, equals the replica."""
    state: GraphState | None = await worker.ask("state")
    if state is None:
        return False
    try:
        await settled(worker.ctx.replica.reach(state.seq, timeout=_LAST_TIMEOUT_S))
    except DeadlineError:
        worker.counts["timeouts"] += 1
        return False
    mirrored: GraphState = worker.ctx.replica.state
    seq, fingerprint = mirrored.seq, mirrored.fingerprint()
    try:
        events = await worker.ask("events", (), state.seq, through_seq=seq)
    except CompactedError:
        return False
    if events is None:
        return False
    for event in events:
        state.apply(event)
    worker.counts["fingerprints compared"] += 1
    if state.fingerprint() != fingerprint:
        worker.broken(f"G10: the replica of {worker.job.name} differs from the broker at seq {seq}")
    return True


ROLES: dict[str, Role] = {
    "wirer": Role((wire, configure)),
    "blocking-wirer": Role((wire,), blocks=True),
    "registrar": Role((register, wire)),
    "blocking-registrar": Role((register,), blocks=True),
    "process": Role((run_units,), client="process"),
    "blocking-process": Role((run_units,), client="process", blocks=True),
    "watcher": Role((), (follow_all,)),
    "prefix-watcher": Role((wire,), (follow_rooms,)),
    "slow-watcher": Role((), (follow_slowly,)),
    "replica": Role((wire, configure), (mirror,), mirrors=True),
    "blocking-replica": Role((register,), (mirror,), blocks=True, mirrors=True),
    "observer": Role((look, read_back)),
    "guest": Role((serve_all,), client="service"),
}
"""Every kind of client, by name; a run takes them in this order, over and over."""
