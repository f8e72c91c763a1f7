"""Traces of a program without any network, as recorders would write them: to try a checker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ezgraph.protocol.commands import Command, Goodbye
from ezgraph.protocol.replies import Done, Refusal, Reply, Welcome
from ezgraph.testing.programs import KINDS, CoreProgram
from ezgraph.verify.calls import shown
from ezgraph.verify.checker import Checker
from ezgraph.verify.history import History
from ezgraph.verify.recorder import digest_of
from ezgraph.verify.records import (
    FORMAT,
    Answered,
    Asked,
    Began,
    Body,
    Bound,
    Ended,
    Ending,
    Fingerprinted,
    Given,
    Header,
    Joining,
    Progressed,
    Returned,
    TraceRecord,
    Watched,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ezgraph.names import Key
    from ezgraph.protocol.events import Event
    from ezgraph.verify.findings import Report
    from ezgraph.verify.one_trace import Tolerances

CLUSTER = "c1" * 16
BEGAN = 1e9
"""The wall time at which a `CoreProgram` begins."""
_ASKED_EARLIER_S, _ANSWERED_LATER_S = 0.004, 0.002


@dataclass(slots=True)
class _Watcher:
    client: int
    number: int
    prefix: Key
    position: int


@dataclass(slots=True)
class _Client:
    """One client's trace so far, and the number of its present session."""

    records: list[TraceRecord] = field(default_factory=list)
    session: int = 0


class TracedProgram:
    """Clients of a `CoreProgram`, each with its trace; client ``n`` has the process id ``n``."""

    def __init__(self) -> None:
        self.program = CoreProgram()
        self._clients: dict[int, _Client] = {}
        self._watchers: list[_Watcher] = []
        self._followers: set[int] = set()

    def __repr__(self) -> str:
        return f"<TracedProgram {len(self._clients)} clients, {self.program!r}>"

    # --- what the clients do ---

    def do(self, client: int, command: Command | None) -> Reply | None:
        """Let a client ask ``command`` (None: leave), and write down what it was answered."""
        self._join(client)
        reply = self.program.do(client, command)
        now, call = self.program.now, self.program.requests
        session, asked = self._clients[client].session, command or Goodbye()
        about = (type(asked).__name__, shown(asked), 10.0, True, asked)
        self._write(client, Asked(session, call, *about), now - _ASKED_EARLIER_S)
        self._write(client, _answered(session, call, reply), now + _ANSWERED_LATER_S)
        if client in self._followers and isinstance(reply, Done) and command is not None:
            returned = Returned(session, call, reply.seq, reply.seq)
            self._write(client, returned, now + _ANSWERED_LATER_S)
        return reply

    def run(self, steps: Iterable[tuple[int, Command | None]]) -> TracedProgram:
        """Do several steps and return this program."""
        for client, command in steps:
            self.do(client, command)
        return self

    def watch(self, client: int, *prefix: str) -> None:
        """Let a client watch a prefix from the beginning."""
        self._join(client)
        number, now = len(self._watchers) + 1, self.program.now
        self._watchers.append(_Watcher(client, number, prefix, 0))
        session = self._clients[client].session
        self._write(client, Watched(session, number, list(prefix), 0, is_replica=False), now)
        self._write(client, Began(number, 0), now)

    def follow(self, client: int) -> None:
        """Let a client keep a replica."""
        self._join(client)
        self._followers.add(client)

    def deliver(self) -> None:
        """Give all watchers what there is by now, and the word that it is all."""
        now, state = self.program.now + _ANSWERED_LATER_S, self.program.state
        for watcher in self._watchers:
            self._deliver(watcher, now)
        for client in self._followers:
            shown_state = (state.epoch, state.seq, state.fingerprint())
            session = self._clients[client].session
            self._write(client, Fingerprinted(session, "replica", *shown_state), now)

    def _deliver(self, watcher: _Watcher, now: float) -> None:
        depth, number = len(watcher.prefix), watcher.number
        found = [
            event
            for event in self.program.events
            if event.seq > watcher.position and event.key[:depth] == watcher.prefix
        ]
        for event in found:
            more = any(event.seq < each.seq <= event.txn_last for each in found)
            self._write(watcher.client, given(number, event, left=int(more)), now)
        watcher.position = self.program.state.seq
        self._write(watcher.client, Progressed(number, watcher.position, 0), now)

    # --- what comes of it ---

    def history(self) -> History:
        """Return all events, as a journal that keeps them."""
        return history_of(self.program.events)

    def traces(self) -> dict[int, list[TraceRecord]]:
        """Return the clients' traces so far, each with its end."""
        now = self.program.now + _ANSWERED_LATER_S
        return {
            number: renumbered([*client.records, TraceRecord(0, now, BEGAN + now, Ended())])
            for number, client in self._clients.items()
        }

    # --- inside ---

    def _join(self, number: int) -> None:
        welcome = self.program.join(number)
        if not isinstance(welcome, Welcome):
            return
        client = self._clients.setdefault(number, _Client())
        client.session += 1
        kind, now = KINDS[number % len(KINDS)], self.program.now
        self._write(number, Joining(client.session, kind, "p", []), now - _ASKED_EARLIER_S)
        about = (CLUSTER, welcome.epoch, welcome.head, welcome.floor, welcome.ttl_s)
        bound = Bound(client.session, welcome.client, *about, resumed=False)
        self._write(number, bound, now + _ANSWERED_LATER_S)

    def _write(self, client: int, body: Body, now: float) -> None:
        records = self._clients[client].records
        records.append(TraceRecord(len(records) + 1, now, BEGAN + now, body))


def _answered(session: int, call: int, reply: Reply | None) -> Answered:
    if isinstance(reply, Refusal):
        return Answered(session, call, code=reply.code, message=reply.message)
    return Answered(session, call, type(reply).__name__, getattr(reply, "seq", None))


def given(watch: int, event: Event, *, left: int = 0) -> Given:
    """Return the record of an event that a watcher's consumer took."""
    about = (event.epoch, event.seq, event.kind, "/".join(event.key), digest_of(event))
    return Given(watch, *about, left)


def history_of(events: Sequence[Event]) -> History:
    """Return a history that is all here."""
    digests = [digest_of(event) for event in events]
    return History(events, cluster_id=CLUSTER, digests=digests, digest_of=digest_of)


def renumbered(records: Sequence[TraceRecord]) -> list[TraceRecord]:
    """Return records with their numbers in order."""
    return [
        TraceRecord(number, each.mono, each.wall, each.body)
        for number, each in enumerate(records, 1)
    ]


def header(pid: int) -> Header:
    """Return the header of a client's trace."""
    return Header(FORMAT, f"{pid:08x}", "0", "p", pid, "sim", "ManualClock")


def check_traces(
    traces: Mapping[int, Sequence[TraceRecord]],
    history: History,
    tolerances: Tolerances | None = None,
) -> Report:
    """Return what the checker makes of traces that are no files; a record's number is its place."""
    checker = Checker(history, tolerances)
    for pid, records in traces.items():
        trace = checker.begin(f"client {pid}")
        trace.header = header(pid)
        for record in records:
            trace.take(record)
        closed = bool(records) and isinstance(records[-1].body, Ended)
        trace.finish(Ending.CLOSED if closed else Ending.AT_A_RECORD)
    return checker.finish()
