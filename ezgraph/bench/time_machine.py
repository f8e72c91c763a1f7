"""Section u: what it costs to keep a rig's past, and to go back to it.

A freeze is timed at the client: the command and its answer, on a broker with SQLite FULL whose
state has so many components, with schemas and settings. A broker digests what it has while it does
little else: "at once" is a freeze right after all components came, which digests all of them; the
others come some seconds later, the first of a rig, and those after one change each. Meanwhile
another client's commands are timed.

Partitions are written in batches of 1,000 by one client, one batch in flight, to an empty store
with SQLite FULL; then those of one artifact of 100 are read by their input fingerprints, beside few
others and many (the *bare* figure is that beside few).

The state at a seq is read from a journal's file, opened anew each time, as a broker leaves it: with
a checkpoint every 20,000 events, of which the older ones were thinned out. Then it is asked of a
broker that runs on that journal (``ctx.at``).
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ezgraph import sync
from ezgraph.backends import Backend, state_at
from ezgraph.bench.catchup import idle_wait, wait_row
from ezgraph.bench.history import write_past
from ezgraph.bench.probe import probe
from ezgraph.bench.rows import MS, Row, alone, at_least, at_most, at_most_of_bare, compared
from ezgraph.bench.snapshots import rig
from ezgraph.bench.workbench import Progress, backend_url, broker, folder
from ezgraph.client.backend import BrokerBackend
from ezgraph.client.blocking import run
from ezgraph.errors import EzGraphError
from ezgraph.protocol.artifacts import Artifact, Partition
from ezgraph.protocol.commands import ReportSettings, UpdateUnits
from ezgraph.protocol.events import ComponentRegistered, Event, SessionOpened, Source, key_of
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.replies import Frozen
from ezgraph.protocol.settings import settings_value
from ezgraph.protocol.stored_commands import Freeze
from ezgraph.state.graph import GraphState
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.backends import Connection
    from ezgraph.bench.scale import Scale
    from ezgraph.client.blocking import Session
    from ezgraph.config import Address
    from ezgraph.protocol.events import Body

_FREEZE = at_most(250.0, "ms")
_WRITE = at_least(20_000, "/s")
_AT = at_most(500.0, "ms")
_FREEZES = 4
_BATCH = 1_000
_READ = 100
_TIMEOUT_S = 60.0
_SOURCE = Source(client="bench")
_numbers = itertools.count()


def keep_the_past(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section u."""
    for count in scale.components:
        yield from _freezes(count, scale, progress)
    yield from _fingerprints(scale, progress)
    yield from _partitions(scale, progress)
    for count in scale.components:
        yield from _past(count, scale, progress)


# --- freezing ---


def _freezes(count: int, scale: Scale, progress: Progress) -> list[Row]:
    judged = count == scale.components[1]
    goal = _FREEZE if judged else None
    at_once, firsts, others, idle, waits = [], [], [], [], []
    for _ in range(scale.rounds):
        progress(f"u: freeze of {count:,} components")
        with ExitStack() as stack:
            url = backend_url("SQLite FULL", stack.enter_context(folder()))
            address = stack.enter_context(broker(url)).address
            owner = stack.enter_context(sync.GraphContext(address))
            owner.register_metadata(rig(count, schemas=True), timeout=_TIMEOUT_S)
            other = stack.enter_context(probe(address))
            session = stack.enter_context(_session(address, "process"))
            asyncio.run(asyncio.sleep(scale.holding_s))
            idle.append(idle_wait(other))
            begin_ns = time.monotonic_ns()
            firsts.append(_freeze_time(session, "first"))
            for number in range(_FREEZES):
                _change(session)
                others.append(_freeze_time(session, f"again-{number}"))
            waits.append(other.waits_since(begin_ns))
        at_once.append(_freeze_at_once(count))
    what = f"freeze of {count:,} components"
    return [
        alone("u", f"{what}, at once", "ms", at_once),
        alone("u", f"{what}, the first", "ms", firsts, goal=goal),
        alone("u", f"{what}, after a change", "ms", others, goal=goal),
        wait_row("u", f"a command during it, p99 ({count:,})", waits, idle, judged=judged),
    ]


def _freeze_at_once(count: int) -> float:
    """Return the ms that a freeze takes right after all components came."""
    with ExitStack() as stack:
        url = backend_url("SQLite FULL", stack.enter_context(folder()))
        address = stack.enter_context(broker(url)).address
        owner = stack.enter_context(sync.GraphContext(address))
        session = stack.enter_context(_session(address))
        owner.register_metadata(rig(count, schemas=True), timeout=_TIMEOUT_S)
        return _freeze_time(session, "first")


@contextmanager
def _session(address: Address, kind: str = "guest") -> Iterator[Session]:
    session = BrokerBackend(str(address)).session(kind)
    run(session.open())
    try:
        yield session
    finally:
        run(session.close())


def _change(session: Session) -> None:
    """Report other settings of one component."""
    unit = "RIG/UNIT_00000"
    run(session.call(UpdateUnits([unit], [])))
    value = settings_value({"cutoff": float(next(_numbers)), "order": 4})
    run(session.call(ReportSettings(unit, value)))


def _freeze_time(session: Session, tag: str) -> float:
    """Return the ms that a freeze takes.

    Raises:
        EzGraphError: it was not answered as one.
    """
    gc.collect()
    begin = time.perf_counter()
    reply = run(session.call(Freeze("bench", tag, reason="bench"), timeout=_TIMEOUT_S))
    took = time.perf_counter() - begin
    if not isinstance(reply, Frozen):
        raise EzGraphError(f"a freeze was answered with {reply!r:.80}")
    return took * MS


# --- fingerprints ---


def _fingerprints(scale: Scale, progress: Progress) -> list[Row]:
    """Measure the fingerprint of a state, whole and after one change; no broker is in it."""
    count = scale.components[1]
    progress(f"u: fingerprint of {count:,} components")
    wholes, changes = [], []
    for _ in range(scale.rounds):
        state = GraphState()
        seqs = itertools.count(1)
        for body in _registered(count):
            state.apply(_arrived(_event(next(seqs), body)))
        gc.collect()
        begin = time.perf_counter()
        state.content_fingerprint()
        wholes.append((time.perf_counter() - begin) * MS)
        component = next(iter(state.components.values())).metadata
        state.apply(_arrived(_event(next(seqs), ComponentRegistered("bench", component))))
        begin = time.perf_counter()
        state.content_fingerprint()
        changes.append((time.perf_counter() - begin) * MS)
    what = f"fingerprint of {count:,} components"
    return [
        alone("u", f"{what}, whole", "ms", wholes, goal=at_most(100.0, "ms")),
        alone("u", f"{what}, after a change", "ms", changes, goal=at_most(1.0, "ms")),
    ]


def _registered(count: int) -> Iterator[Body]:
    yield SessionOpened("bench", 60.0)
    for component in rig(count, schemas=True).components.values():
        yield ComponentRegistered("bench", component)


def _arrived(event: Event) -> Event:
    """Return an event as it is decoded: with one object for equal schemas."""
    return codec.decode_event(codec.encode_event(event).event)


def _event(seq: int, body: Body) -> Event:
    return Event(1, seq, seq - 1, seq, seq, 0.0, 0.0, key_of(body), _SOURCE, None, body)


# --- partitions ---


def _partitions(scale: Scale, progress: Progress) -> list[Row]:
    count = scale.partitions
    few = count // 10
    rates = []
    reads: dict[int, list[float]] = {few: [], count: []}
    for _ in range(scale.rounds):
        progress(f"u: {count:,} partitions")
        with ExitStack() as stack:
            url = backend_url("SQLite FULL", stack.enter_context(folder()))
            address = stack.enter_context(broker(url)).address
            conn = stack.enter_context(BrokerBackend(str(address)).connect())
            took = 0.0
            for some in (range(few), range(few, count)):
                took += _write(conn, some)
                reads[some.stop].append(_read_time(conn, some.stop))
            rates.append(count / took)
    name = f"read of {_READ} of them by input fingerprint"
    return [
        alone("u", f"{count:,} partitions in batches of {_BATCH:,}", "/s", rates, goal=_WRITE),
        compared(
            "u", f"{name}, beside {count:,} against {few:,}", "ms", reads[count], reads[few],
            goal=at_most_of_bare(2.0),
        ),
    ]


def _artifact(number: int) -> Artifact:
    return Artifact(f"raw-{number % _READ}", storage=f"file:///data/{number % _READ}/{{n}}.h5")


def _partition(number: int) -> Partition:
    inputs = Fingerprint(number.to_bytes(16, "big"))
    return Partition({"n": number, "day": "mon"}, inputs, inputs, f"/data/{number}.h5", number)


def _write(conn: Connection, numbers: range) -> float:
    """Return the seconds that it takes to write these partitions, spread over 100 artifacts."""
    batches = [
        (_artifact(some.start // _BATCH), [_partition(number) for number in some])
        for some in (numbers[first : first + _BATCH] for first in range(0, len(numbers), _BATCH))
    ]
    gc.collect()
    begin = time.perf_counter()
    for artifact, partitions in batches:
        conn.write_artifact_partitions(artifact, partitions)
    return time.perf_counter() - begin


def _read_time(conn: Connection, count: int) -> float:
    """Return the ms that it takes to read some partitions of the first artifact.

    Raises:
        EzGraphError: they are not all there.
    """
    wanted = {each.key: each.input_fingerprint for each in map(_partition, range(_READ))}
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        found = conn.read_artifact_partitions(_artifact(0), wanted)
        times.append(time.perf_counter() - begin)
        if len(found) != min(_READ, count):
            raise EzGraphError(f"{len(found)} partitions were found of {_READ}")
    return min(times) * MS


# --- the past ---


def _past(count: int, scale: Scale, progress: Progress) -> list[Row]:
    judged = count == scale.components[0]
    events = scale.journal_events
    progress(f"u: writing a past of {events:,} events, {count:,} components")
    chance = random.Random(7)
    times = []
    with folder() as where:
        url = backend_url("SQLite NORMAL", where)
        write_past(url, events, components=rig(count, schemas=True).components.values())
        progress(f"u: the state at a seq, {count:,} components")
        for _ in range(max(scale.rounds, 2) * 2):
            gc.collect()
            begin = time.perf_counter()
            with Backend.from_url(url).connect() as conn, conn.open_reader() as reader:
                state = state_at(reader, chance.randrange(events // 10, events))
            times.append((time.perf_counter() - begin) * MS)
            if len(state.components) != count:
                raise EzGraphError(f"{len(state.components)} components of {count}")
        progress(f"u: the same through a broker, {count:,} components")
        seqs = [chance.randrange(events // 10, events) for _ in times]
        asked = _times_at(url, seqs, count)
    what, goal = f"the state at one of {events:,} seqs", _AT if judged else None
    return [
        alone("u", f"{what}, {count:,} components", "ms", times, goal=goal),
        alone("u", f"{what}, through a broker ({count:,})", "ms", asked, goal=goal),
    ]


def _times_at(url: str, seqs: list[int], count: int) -> list[float]:
    """Return how long `ctx.at` takes for each of these seqs, in ms."""
    times = []
    with broker(url) as server, sync.GraphContext(server.address) as ctx:
        for seq in seqs:
            gc.collect()
            begin = time.perf_counter()
            state = ctx.at(seq, timeout=_TIMEOUT_S)
            times.append((time.perf_counter() - begin) * MS)
            if (len(state.components), state.seq) != (count, seq):
                raise EzGraphError(f"{state!r} was given for seq {seq} and {count} components")
    return times
