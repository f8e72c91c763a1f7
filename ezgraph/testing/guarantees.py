"""Was every promise kept? Checks of the guarantees of ``DESIGN.md`` against the journal.

`History` is the truth: every event ever stored. What watchers were given, what callers were told
and what replicas hold is compared with it. A check raises `BrokenPromiseError`, which begins with
the guarantee's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ezgraph.client.watch import Compacted, Progress
from ezgraph.errors import EzGraphError, RefusedError
from ezgraph.protocol.commands import (
    Command,
    Connect,
    Disconnect,
    Goodbye,
    RegisterMetadata,
    ReportSettings,
    Revert,
    SetPause,
    UpdateUnits,
)
from ezgraph.protocol.events import (
    ComponentRemoved,
    EdgeDisconnected,
    Event,
    ProcessClosed,
    SessionClosed,
    SettingsChanged,
    SettingsLayer,
    key_of,
)
from ezgraph.protocol.replies import Done
from ezgraph.protocol.settings import initial_value
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from uuid import UUID

    from ezgraph.names import Key
    from ezgraph.testing.client import Call, SimulatedClient, WatchRecord


class BrokenPromiseError(AssertionError):
    """A guarantee was not kept; the message begins with its name."""


def _demand(kept: object, promise: str, *what: object) -> None:
    if not kept:
        raise BrokenPromiseError(" ".join([promise, *map(str, what)]))


class History:
    """Every event of a journal, in order, and the states between its transactions."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = list(events)

    def __repr__(self) -> str:
        return f"<History of {len(self.events)} events>"

    @property
    def head(self) -> int:
        """The last seq."""
        return self.events[-1].seq if self.events else 0

    def matching(self, prefix: Key, after: int, through: int) -> list[Event]:
        """Return the events under a prefix in (after, through]."""
        depth = len(prefix)
        return [e for e in self.events[max(after, 0) : through] if e.key[:depth] == prefix]

    def transactions(self) -> Iterator[list[Event]]:
        """Yield the events of each transaction."""
        first = 0
        while first < len(self.events):
            size = self.events[first].txn_last - self.events[first].txn_first + 1
            yield self.events[first : first + size]
            first += size

    def states(self) -> Iterator[tuple[list[Event], GraphState]]:
        """Yield each transaction with the state after it (one object, moved on each time)."""
        state = GraphState()
        for events in self.transactions():
            for event in events:
                state.apply(event)
            yield events, state


def check_history(history: History) -> None:
    """G1, G3, G5, G7: dense, in whole transactions, each request once, nothing orphaned."""
    seen: dict[tuple[str, int], int] = {}
    closing = GraphState()
    for seq, event in enumerate(history.events, 1):
        _demand(event.seq == seq, "G1: seq is not dense:", event.seq, "in place of", seq)
        _demand(event.prev == seq - 1, "G1: prev is wrong at", seq)
        _demand(event.key == key_of(event.body), "the key does not fit the body at", seq)
    for events in history.transactions():
        first, last = events[0], events[-1]
        spans = {(event.txn_first, event.txn_last) for event in events}
        _demand(spans == {(first.seq, last.seq)}, "G3: a transaction is in parts at", first.seq)
        causes = {(event.source, event.request_id) for event in events}
        _demand(len(causes) == 1, "a transaction has several causes at", first.seq)
        if first.request_id is not None:
            request = (first.source.client or "", first.request_id)
            _demand(
                request not in seen, "G5: request", request, "executed at", seen.get(request),
                "and again at", first.seq,
            )
            seen[request] = first.seq
        _check_ending(closing, events)
        for event in events:
            closing.apply(event)
        check_state(closing)


def _check_ending(before: GraphState, events: Sequence[Event]) -> None:
    """G7: the end of a lease says of each thing it owned that it is gone."""
    last = events[-1].body
    bodies = [event.body for event in events]
    if isinstance(last, SessionClosed):
        owner = last.session_id
        let_go = {(b.from_topic, b.to_topic) for b in bodies if isinstance(b, EdgeDisconnected)}
        removed = {b.address for b in bodies if isinstance(b, ComponentRemoved)}
        _demand(let_go == set(before.dag.edges_of(owner)), "G7: edges without a removal:", owner)
        held = before.sessions[owner].components
        _demand(removed == held, "G7: components without a removal:", owner)
        initial = {a for a in held if before.settings[a].change.layer is SettingsLayer.INITIAL}
        settled = {b.address for b in bodies if isinstance(b, SettingsChanged)}
        _demand(initial <= settled, "G7: initial values without a removal:", owner)
    elif isinstance(last, ProcessClosed):
        live = before.processes[last.process_id].live
        settled = {b.address for b in bodies if isinstance(b, SettingsChanged)}
        _demand(live <= settled, "G7: live values without an event:", last.process_id)


def check_state(state: GraphState) -> None:
    """G7: everything has an owner that is there; the edges are free of loops."""
    owners = {owner for held in state.dag.edge_owners.values() for owner in held}
    _demand(owners - {None} <= state.sessions.keys(), "G7: edges of the dead:", owners)
    _check_no_loop(state.dag.graph)
    for address, component in state.components.items():
        session = state.sessions.get(component.session_id)
        _demand(session and address in session.components, "G7: a component of the dead:", address)
    for unit, process_id in state.unit_owner.items():
        process = state.processes.get(process_id)
        _demand(process and unit in process.units, "G7: a unit of the dead:", unit)
    for address in state.components.keys() | state.settings.keys():
        _check_setting(state, address)


def _check_setting(state: GraphState, address: str) -> None:
    """The effective value is what a process reported, else the initial one."""
    entry, component = state.settings.get(address), state.components.get(address)
    if entry is None:
        _demand(component is None, "a component without settings:", address)
    elif entry.change.layer is SettingsLayer.LIVE:
        _demand(
            state.unit_owner.get(address) == entry.change.process_id,
            "G7: a live value outlives its process:", address,
        )
    else:
        _demand(
            component is not None and entry.value == initial_value(component.metadata),
            "an initial value without its component:", address,
        )


def _check_no_loop(graph: dict[str, set[str]]) -> None:
    open_topics = dict.fromkeys(graph, 0)
    for ends in graph.values():
        for end in ends:
            open_topics[end] = open_topics.get(end, 0) + 1
    free = [topic for topic, inputs in open_topics.items() if not inputs]
    while free:
        topic = free.pop()
        del open_topics[topic]
        for end in graph.get(topic, ()):
            open_topics[end] -= 1
            if not open_topics[end]:
                free.append(end)
    _demand(not open_topics, "the edges have a loop through", *open_topics)


def check_watch(history: History, record: WatchRecord) -> None:
    """G1, G2, G3: in order, once, complete at every word of progress, whole transactions."""
    name = f"{record!r}:"
    position = record.start
    given: list[Event] = []

    def complete(through: int) -> None:
        if position is not None:
            expected = [e.seq for e in history.matching(record.prefix, position, through)]
            found = [e.seq for e in given]
            lost, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
            _demand(not lost, "G2:", name, "lost", lost, "in", (position, through))
            _demand(not extra, "G2:", name, "was given", extra, "in", (position, through))

    for item in record.items:
        if isinstance(item, Event):
            _demand(position is not None, "G2:", name, "events before any word of progress")
            latest = given[-1].seq if given else position or 0
            _demand(item.seq > latest, "G1:", name, item.seq, "came after", latest)
            _demand(item == history.events[item.seq - 1], "G2:", name, item.seq, "is not as stored")
            given.append(item)
        elif isinstance(item, Progress):
            if position is None:
                position = item.seq
            complete(item.seq)
            position, given = item.seq, []
        elif isinstance(item, Compacted):
            position, given = item.snapshot.seq, []
    if given:
        complete(given[-1].seq)
    for batch in record.batches:
        _check_batch(history, record, batch)


def _check_batch(history: History, record: WatchRecord, batch: Sequence[Any]) -> None:
    """G3: at no moment has a watcher a part of a transaction's matching events."""
    events = [item for item in batch if isinstance(item, Event)]
    last = events[-1] if events else None
    if last is not None:
        rest = history.matching(record.prefix, last.seq, last.txn_last)
        _demand(
            not rest, "G3:", f"{record!r} was given", last.seq, "but not yet",
            [event.seq for event in rest], "of the same transaction",
        )


def check_calls(history: History, client: SimulatedClient) -> None:
    """G4, G5, G8, G9: what a caller was told is so, a refusal changed nothing, each call ended."""
    executed: dict[int, list[Event]] = {}
    for events in history.transactions():
        if events[0].source.client in client.lease_ids and events[0].request_id is not None:
            executed.setdefault(events[0].request_id, []).append(events[-1])
    promised: dict[int, list[Call]] = {}
    for call in client.calls:
        transactions = executed.get(call.request_id, [])
        _demand(len(transactions) <= 1, "G5:", call, "was executed", len(transactions), "times")
        _check_ended(client, call)
        if isinstance(call.result, RefusedError):
            _demand(not transactions, "G8:", call, "was refused, and yet made", transactions)
        elif isinstance(call.result, Done) and not isinstance(call.command, Goodbye):
            _demand(call.result.seq <= history.head, "G4:", call, "is not in the journal")
            promised.setdefault(call.result.seq, []).append(call)
    for events, state in history.states():
        for call in promised.pop(events[-1].seq, ()):
            _demand(
                is_true(state, call.command, client.lease_id, client.kind),
                "G4:", call, "was acknowledged and is not so at that seq",
            )
    left = [call for calls in promised.values() for call in calls if call.result.seq]  # type: ignore[union-attr]
    _demand(not left, "G3: answered in the middle of a transaction:", left)


def _check_ended(client: SimulatedClient, call: Call) -> None:
    if client.gone:
        return
    allowed = max(call.deadline, client.busy_until) + 0.05
    _demand(call.ended is not None, "G9:", call, "has not ended")
    _demand((call.ended or 0.0) <= allowed, "G9:", call, "ended late, at", call.ended)
    if isinstance(call.result, EzGraphError):
        _demand(len(str(call.result)) > 20, "G8: a refusal that says nothing:", call)


def is_true(state: GraphState, command: Command, client: str, kind: str) -> bool:
    """Return whether what ``command`` asked for holds in ``state``."""
    owner = client if kind == "session" else None
    process_id: UUID | None = next((p for p in state.processes if str(p) == client), None)
    match command:
        case Connect():
            return owner in state.dag.owners(command.from_topic, command.to_topic)
        case Disconnect():
            return owner not in state.dag.owners(command.from_topic, command.to_topic)
        case SetPause():
            return state.paused is command.paused
        case RegisterMetadata():
            return state.metadata_of(client) == command.metadata
        case Revert() if kind == "session":
            return not state.edges_of(client) and not state.sessions[client].components
        case UpdateUnits():
            added, removed = set(command.added), set(command.removed)
            units = set(state.processes[process_id].units) if process_id else set()
            return added - removed <= units and not removed & units
        case ReportSettings():
            entry = state.settings.get(command.address)
            return entry is not None and entry.value == command.value
        case _:
            return True


def check_replica(history: History, taken: Iterable[tuple[int, str]]) -> None:
    """G10: a replica's fingerprints are those of the broker's history at the same seqs."""
    wanted: dict[int, set[str]] = {}
    for seq, fingerprint in taken:
        wanted.setdefault(seq, set()).add(fingerprint)
    for events, state in history.states():
        if (found := wanted.pop(events[-1].seq, None)) is not None:
            _demand(found == {state.fingerprint()}, "G10: a replica differs at seq", events[-1].seq)
    wanted.pop(0, None)
    _demand(not wanted, "G10: a replica stood within a transaction at", sorted(wanted))
