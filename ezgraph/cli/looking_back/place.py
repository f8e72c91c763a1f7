"""Where a rig's past is asked for: a journal's file, without any broker, or a broker."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, assert_never

from ezgraph.cli.guest import ask, guest
from ezgraph.cli.options import JournalFile, Target, bulk_s
from ezgraph.cli.paper import tell
from ezgraph.client.backend import BrokerBackend, BrokerConnection
from ezgraph.client.blocking import run
from ezgraph.errors import AmbiguousTimeWarning, CompactedError, JournalError, RefusedError
from ezgraph.protocol.commands import Heartbeat, ReadEvents
from ezgraph.protocol.replies import Beat, EventRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.backends.connection import Connection
    from ezgraph.backends.past import SeqAt
    from ezgraph.backends.reader import JournalReader
    from ezgraph.cli.when import When
    from ezgraph.client.blocking import Session
    from ezgraph.protocol.graphs import Snapshot
    from ezgraph.state.graph import GraphState


class Past(ABC):
    """What is stored of a rig, and what it was at any seq."""

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """The stored snapshots and tags."""

    @abstractmethod
    def at(self, when: When, name: str) -> Snapshot:
        """Return what there was at a seq or time, as a snapshot of a graph of this name."""

    @abstractmethod
    def now(self, name: str) -> Snapshot:
        """Return what there is now; in a journal that is its end."""


@contextmanager
def open_past(place: Target | JournalFile) -> Iterator[Past]:
    """Open the place, and close it at the end.

    Raises:
        RefusedError: a journal's file is missing, damaged, or in use by who may write it.
        BrokerUnreachableError: no broker answered in time.
    """
    match place:
        case JournalFile():
            with _open_journal(place) as past:
                yield past
        case Target():
            with guest(place) as session:
                yield BrokerPast(place, session)
        case _:
            assert_never(place)


@contextmanager
def _open_journal(file: JournalFile) -> Iterator[Past]:
    from ezgraph.backends.sqlite import SQLiteBackend
    from ezgraph.cli.journal import check_exists, journal_file

    try:
        path = journal_file(file.typed)
        check_exists(path)
        with SQLiteBackend(path).connect() as connection:
            yield JournalPast(connection)
    except JournalError as error:  # it is the user's file here, and no broker's misfortune
        raise RefusedError(str(error)) from error


class JournalPast(Past):
    """The past in a journal's file."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """See `Past.connection`."""
        return self._connection

    def at(self, when: When, name: str) -> Snapshot:
        """See `Past.at`."""
        from ezgraph.backends.past import seq_at

        with self.connection.open_reader() as reader:
            if when.seq is not None:
                return _snapshot_at(reader, when.seq, name)
            found = seq_at(reader, when.wall_time or 0.0)
            warn_of_steps(found)
            return _snapshot_at(reader, found.seq, name)

    def now(self, name: str) -> Snapshot:
        """See `Past.now`."""
        with self.connection.open_reader() as reader:
            return _snapshot_at(reader, reader.head, name)


def _snapshot_at(reader: JournalReader, seq: int, name: str) -> Snapshot:
    from ezgraph.backends.past import state_at

    return _snapshot(state_at(reader, seq), name, _time_of(reader, seq))


def _snapshot(state: GraphState, name: str, wall_time: float) -> Snapshot:
    from ezgraph.protocol.graphs import Snapshot
    from ezgraph.state.content import graph_of

    return Snapshot(graph_of(state, name), state.seq, state.epoch, wall_time)


def _time_of(reader: JournalReader, seq: int) -> float:
    """Return when an event was; 0: there was none yet, or it is not stored any more."""
    from ezgraph.wire import codec

    if seq < reader.floor:
        return 0.0
    try:
        (packed,) = reader.read(seq - 1, max_rows=1).events
    except CompactedError:
        return 0.0
    return codec.wall_time_of(packed)


class BrokerPast(Past):
    """The past that a broker is asked for."""

    def __init__(self, broker: Target, session: Session) -> None:
        self._session = session
        self._timeout_s = bulk_s(broker)
        backend = BrokerBackend(",".join(map(str, broker.addresses)))
        self._connection = BrokerConnection(backend, session=session, timeout=self._timeout_s)

    @property
    def connection(self) -> Connection:
        """See `Past.connection`."""
        return self._connection

    def at(self, when: When, name: str) -> Snapshot:
        """See `Past.at`."""
        from ezgraph.graph.time_machine import state_at

        asked: int | float = (when.wall_time or 0.0) if when.seq is None else when.seq
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AmbiguousTimeWarning)
            state = run(state_at(self._session, asked, self._timeout_s))
        for each in caught:
            tell(f"note: {each.message}")
        return _snapshot(state, name, self._time_of(state.seq))

    def now(self, name: str) -> Snapshot:
        """See `Past.now`."""
        state, _ = run(self._session.fetch_state(timeout=self._timeout_s))
        beat = ask(self._session, Heartbeat(0.0), Beat, timeout_s=self._timeout_s)
        return _snapshot(state, name, beat.wall_time)

    def _time_of(self, seq: int) -> float:
        """Return when an event was; 0: there was none yet, or it is not stored any more."""
        from ezgraph.wire import codec

        if seq == 0:
            return 0.0
        asked = ReadEvents([], seq - 1, seq)
        try:
            found = ask(self._session, asked, EventRange, timeout_s=self._timeout_s)
        except CompactedError:
            return 0.0
        (packed,) = found.events
        return codec.wall_time_of(packed)


def warn_of_steps(found: SeqAt) -> None:
    """Say on standard error that it was that time more than once."""
    from ezgraph.cli.words import moment

    for step in found.steps:
        tell(
            f"note: the broker's clock went back at seq {step.seq}, from {moment(step.before)} to "
            f"{moment(step.after)}, so it was that time more than once; seq {found.seq} is the last"
        )
