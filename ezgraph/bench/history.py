"""A journal with a long history, written in a second and not through a broker.

It is what a broker would have written: a process client that opens, takes units, reports their
settings in turn, and goes; the state at the end is empty. There is a checkpoint, at the last
record or a given number before it, so that a broker starts on it at once.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from uuid import UUID

from ezgraph.backends.base import Backend, Checkpoint, Record
from ezgraph.broker.live import LiveSet
from ezgraph.config import BrokerConfig
from ezgraph.names import topic_of
from ezgraph.protocol.events import (
    Body,
    ComponentRegistered,
    EndReason,
    Event,
    GraphRegistered,
    ProcessClosed,
    ProcessOpened,
    ProcessUnitsChanged,
    SessionOpened,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ezgraph.backends.base import Journal
    from ezgraph.protocol.metadata import ComponentMetadata

_UNITS = 16
_BATCH = 5_000
_AROUND = _UNITS + 4  # the events that open and close the process
_PROCESS = UUID("9a1f0c1e-6a58-4a0e-8b0f-5d0f3c9f2a11")
_SOURCE = Source(
    process_id=_PROCESS,
    client=str(_PROCESS),
    program="filter.py",
    host="rig-1",
    pid=4711,
    login="lab",
)
_WALL = 1_700_000_000.0


def write_history(url: str, count: int, *, tail: int = 0) -> None:
    """Put ``count`` events into a new journal, 21 at least, ``tail`` of them after a checkpoint."""
    live = LiveSet()
    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        events = history(count, epoch=journal.epoch)
        _append(journal, itertools.islice(events, count - tail), live)
        journal.write_checkpoint(_checkpoint(journal.head, live))
        _append(journal, events, live)


def _append(journal: Journal, events: Iterator[Event], live: LiveSet) -> None:
    while batch := list(itertools.islice(events, _BATCH)):
        encoded = [codec.encode_event(event) for event in batch]
        journal.append(
            [
                Record(event.seq, topic_of(event.key), each.event)
                for event, each in zip(batch, encoded, strict=True)
            ]
        )
        for event, each in zip(batch, encoded, strict=True):
            live.add(event, each)


def _checkpoint(seq: int, live: LiveSet) -> Checkpoint:
    """Return the checkpoint that a broker would write of what is live at ``seq``."""
    entries = [entry for _, entry in live.freeze()]
    blobs = {digest: blob for each in entries for digest, blob in each.blobs.items()}
    return Checkpoint(seq, tuple(each.entry for each in entries), blobs)


def write_past(url: str, count: int, *, components: Iterable[ComponentMetadata]) -> None:
    """Put ``count`` events into a new journal: components, then changes of their settings in turn.

    There are checkpoints where a broker writes them, thinned out as it thins them out.
    """
    live, every = LiveSet(), BrokerConfig().checkpoint_events
    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        events = _changes(count, journal.epoch, list(components))
        while journal.head < count:
            _append(journal, itertools.islice(events, every), live)
            journal.write_checkpoint(_checkpoint(journal.head, live))


def _changes(
    count: int, epoch: int, components: Sequence[ComponentMetadata]
) -> Iterator[Event]:
    """Yield a session, its components, a process that runs them, and its reports."""
    units = [each.address for each in components]
    bodies: Iterator[Body] = itertools.chain(
        (SessionOpened("bench", 6.0), GraphRegistered("bench", 1, "RIG")),
        (ComponentRegistered("bench", each) for each in components),
        (ProcessOpened(_PROCESS, 6.0), ProcessUnitsChanged(_PROCESS, units, units, [])),
        (
            _settings(unit, number, SettingsEventType.SETTINGS_UPDATED)
            for number, unit in enumerate(itertools.cycle(units))
        ),
    )
    for seq, body in enumerate(itertools.islice(bodies, count), start=1):
        yield Event(
            epoch=epoch,
            seq=seq,
            prev=seq - 1,
            txn_first=seq,
            txn_last=seq,
            wall_time=_WALL + seq / 100,
            mono_time=seq / 100,
            key=key_of(body),
            source=_SOURCE,
            request_id=seq,
            body=body,
        )


def history(count: int, *, epoch: int = 1) -> Iterator[Event]:
    """Yield ``count`` events, numbered from 1."""
    last_transaction = count - _UNITS - 1
    for seq, body in enumerate(_bodies(count), start=1):
        ends = seq >= last_transaction
        yield Event(
            epoch=epoch,
            seq=seq,
            prev=seq - 1,
            txn_first=last_transaction if ends else seq,
            txn_last=count if ends else seq,
            wall_time=_WALL + seq / 100,
            mono_time=seq / 100,
            key=key_of(body),
            source=_SOURCE,
            request_id=None if ends else seq,
            body=body,
        )


def _bodies(count: int) -> Iterator[Body]:
    if count <= _AROUND:
        raise ValueError(f"a history of {count} events: {_AROUND + 1} at least")
    units = [f"RIG/UNIT_{number:02d}" for number in range(_UNITS)]
    yield ProcessOpened(_PROCESS, 6.0)
    yield ProcessUnitsChanged(_PROCESS, units, units, [])
    for number in range(count - _AROUND):
        yield _settings(units[number % _UNITS], number, SettingsEventType.SETTINGS_UPDATED)
    for unit in units:
        yield _settings(unit, count, SettingsEventType.SETTINGS_REMOVED)
    yield ProcessUnitsChanged(_PROCESS, [], [], units)
    yield ProcessClosed(_PROCESS, EndReason.CLOSED)


def _settings(unit: str, number: int, event_type: SettingsEventType) -> SettingsChanged:
    values = {
        "cutoff": 40.0 + number % 100,
        "order": 4,
        "gain": number / 1000,
        "notch": number % 2 == 0,
        "mode": "bandpass",
    }
    value = SettingsSnapshotValue(None, values, values)
    return SettingsChanged(unit, event_type, SettingsLayer.LIVE, value, _PROCESS)
