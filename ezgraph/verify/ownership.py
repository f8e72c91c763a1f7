"""Has everything an owner, and does it end with it? G7, in the journal's own states. Pure.

States are looked at whole as often as their size allows: looking costs as much as the state is
big, so that a long history of a big rig is looked at every so many transactions. What a
transaction says itself is checked for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.protocol.events import (
    ComponentRemoved,
    ConfigValueDeleted,
    EdgeDisconnected,
    GraphWithdrawn,
    NodeWithdrawn,
    ProcessClosed,
    SessionClosed,
    SettingsChanged,
    SettingsLayer,
)
from ezgraph.protocol.settings import initial_value
from ezgraph.verify.effects import same
from ezgraph.verify.findings import IN_JOURNAL, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from ezgraph.protocol.events import Body, Event
    from ezgraph.state.graph import GraphState

_CREDIT_PER_TRANSACTION = 24
"""How many things of a state may be looked at for each transaction, on the average."""


class OwnershipCheck:
    """G7, transaction by transaction: what a lease owned ends with it, and nothing is orphaned."""

    def __init__(self) -> None:
        self._credit = 0
        self.endings = 0

    def before(self, state: GraphState, events: Sequence[Event]) -> Iterator[Finding]:
        """Look at a transaction and the state before it."""
        last = events[-1]
        if isinstance(last.body, SessionClosed | ProcessClosed):
            self.endings += 1
            for what in _ending_lacks(state, events):
                yield Finding("G7", IN_JOURNAL, what, seqs=(last.seq,))

    def after(self, state: GraphState) -> Iterator[Finding]:
        """Look at the state after a transaction, if that has not become too dear."""
        self._credit += _CREDIT_PER_TRANSACTION
        size = len(state.dag.edge_owners) + len(state.settings) + len(state.components)
        size += len(state.served)
        if self._credit >= size:
            self._credit = 0
            yield from self.whole(state)

    def whole(self, state: GraphState) -> Iterator[Finding]:
        """Look at a state whatever it costs."""
        for what in state_lacks(state):
            yield Finding("G7", IN_JOURNAL, what, seqs=(state.seq,))


def _ending_lacks(before: GraphState, events: Sequence[Event]) -> Iterator[str]:
    """The end of a lease says of each thing it owned that it is gone."""
    bodies = [event.body for event in events]
    settled = {b.address for b in bodies if isinstance(b, SettingsChanged)}
    yield from _serving_lacks(before, bodies, events[-1].key[1])
    match events[-1].body:
        case SessionClosed(session_id=owner) if owner in before.sessions:
            gone = {(b.from_topic, b.to_topic) for b in bodies if isinstance(b, EdgeDisconnected)}
            removed = {b.address for b in bodies if isinstance(b, ComponentRemoved)}
            held = before.sessions[owner].components
            initial = {a for a in held if _is_initial(before, a)}
            dropped = {(b.type, *b.key) for b in bodies if isinstance(b, ConfigValueDeleted)}
            own = set(before.config.of_session(owner))
            yield from _differ(f"configuration of session {owner}", own, dropped)
            yield from _differ(f"edges of session {owner}", set(before.dag.edges_of(owner)), gone)
            yield from _differ(f"components of session {owner}", held, removed)
            yield from _differ(f"initial values of session {owner}", initial - settled, set())
        case ProcessClosed(process_id=process_id) if process_id in before.processes:
            live = before.processes[process_id].live
            yield from _differ(f"live values of process {process_id}", live - settled, set())
        case SessionClosed() | ProcessClosed():
            yield f"a lease ended that was not there: {events[-1].key[1]}"
        case _:
            pass


def _serving_lacks(before: GraphState, bodies: Sequence[Body], owner: str) -> Iterator[str]:
    """What a lease served is withdrawn when it ends, and its nodes if nobody else serves it."""
    served = before.served
    own = set(served.of_owner(owner))
    ended = {(b.name, b.is_last) for b in bodies if isinstance(b, GraphWithdrawn)}
    is_last = {name: len(served.hosts_of(name)) == 1 for name in own}
    yield from _differ(f"graphs served by {owner}", set(is_last.items()), ended)
    gone = {(b.name, b.uid) for b in bodies if isinstance(b, NodeWithdrawn)}
    nodes = {(name, uid) for name in own if is_last[name] for uid in served.nodes_of(name)}
    yield from _differ(f"nodes served by {owner}", nodes, gone)


def _is_initial(state: GraphState, address: str) -> bool:
    entry = state.settings.get(address)
    return entry is not None and entry.change.layer is SettingsLayer.INITIAL


def _differ(what: str, owned: AbstractSet[object], removed: AbstractSet[object]) -> Iterator[str]:
    if owned != removed:
        yield f"{what} ended without an event each: {sorted(map(str, owned ^ removed))}"


def state_lacks(state: GraphState) -> Iterator[str]:
    """Everything has an owner that is there; the edges are free of loops."""
    owners = {owner for held in state.dag.edge_owners.values() for owner in held}
    if dead := owners - {None} - state.sessions.keys():
        yield f"edges outlive their sessions {sorted(map(str, dead))}"
    if dead_sessions := state.config.owners - state.sessions.keys():
        yield f"configuration outlives its sessions {sorted(dead_sessions)}"
    clients = state.sessions.keys() | set(map(str, state.processes))
    if dead_hosts := state.served.owners - clients:
        yield f"served graphs outlive who serves them {sorted(dead_hosts)}"
    if orphans := state.served.nodes.keys() - state.served.hosts.keys():
        yield f"announced nodes outlive their graphs {sorted(orphans)}"
    if loop := _topics_in_loops(state.dag.graph):
        yield f"the edges have a loop through {loop}"
    for address, component in state.components.items():
        session = state.sessions.get(component.session_id)
        if session is None or address not in session.components:
            yield f"component {address!r} outlives its session {component.session_id}"
    for unit, process_id in state.unit_owner.items():
        process = state.processes.get(process_id)
        if process is None or unit not in process.units:
            yield f"unit {unit!r} outlives its process {process_id}"
    for address in state.components.keys() | state.settings.keys():
        yield from _setting_lacks(state, address)


def _setting_lacks(state: GraphState, address: str) -> Iterator[str]:
    """The effective value is what a process reported, else the initial one."""
    entry, component = state.settings.get(address), state.components.get(address)
    if entry is None:
        yield f"component {address!r} has no settings"
    elif entry.change.layer is SettingsLayer.LIVE:
        if state.unit_owner.get(address) != entry.change.process_id:
            yield f"the live value of {address!r} outlives its process {entry.change.process_id}"
    elif component is None:
        yield f"the initial value of {address!r} outlives its component"
    elif not same(entry.value, initial_value(component.metadata)):
        yield f"the initial value of {address!r} is not its component's"


def _topics_in_loops(graph: dict[str, set[str]]) -> list[str]:
    inputs = dict.fromkeys(graph, 0)
    for ends in graph.values():
        for end in ends:
            inputs[end] = inputs.get(end, 0) + 1
    free = [topic for topic, count in inputs.items() if not count]
    while free:
        topic = free.pop()
        del inputs[topic]
        for end in graph.get(topic, ()):
            inputs[end] -= 1
            if not inputs[end]:
                free.append(end)
    return sorted(inputs)
