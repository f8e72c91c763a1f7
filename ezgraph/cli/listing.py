"""What ``ls`` lists: read once, shown as columns or as records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ezgraph.cli import as_json
from ezgraph.cli.guest import ask, guest
from ezgraph.cli.words import age, count, setting, who
from ezgraph.client.blocking import run
from ezgraph.protocol.commands import Heartbeat, ListClients
from ezgraph.protocol.events import Source
from ezgraph.protocol.replies import Beat, ClientList
from ezgraph.protocol.snapshot import PERSISTENT
from ezgraph.protocol.wiring import visible
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.cli.options import Target
    from ezgraph.protocol.snapshot import ClientInfo
    from ezgraph.state.graph import SettingEntry

Columns = tuple[list[str], list[list[str]], list[int]]
"""Heads, rows, and which columns are aligned to the right."""

_ROOMS: dict[str, list[str]] = {
    "sessions": [],
    "processes": [],
    "edges": ["session", "edge"],
    "components": ["session", "component"],
    "settings": ["settings"],
}


@dataclass(frozen=True, slots=True)
class Listing:
    """The clients, the state, and the broker's wall clock when they were read."""

    clients: tuple[ClientInfo, ...] = ()
    state: GraphState = field(default_factory=GraphState)
    wall_time: float = 0.0

    def columns(self, what: str) -> Columns:
        """Return what is listed as columns for people."""
        match what:
            case "sessions" | "processes":
                return self._client_columns(what)
            case "edges":
                return self._edge_columns()
            case "components":
                return self._component_columns()
            case _:
                return self._setting_columns()

    def records(self, what: str) -> list[dict[str, Any]]:
        """Return what is listed with everything known about it."""
        match what:
            case "sessions" | "processes":
                return [as_json.plain(each) for each in self._clients(what)]
            case "edges":
                return [
                    {"from_topic": start, "to_topic": end, "owners": owners}
                    for start, end, owners in self._edges()
                ]
            case "components":
                return [
                    {
                        "session_id": entry.session_id,
                        "seq": entry.seq,
                        "kind": type(entry.metadata).__name__.removesuffix("Metadata").lower(),
                        **as_json.plain(entry.metadata),
                    }
                    for _, entry in sorted(self.state.components.items())
                ]
            case _:
                return [
                    _setting_record(address, entry)
                    for address, entry in sorted(self.state.settings.items())
                ]

    def _clients(self, what: str) -> list[ClientInfo]:
        kind = "session" if what == "sessions" else "process"
        return [each for each in self.clients if each.kind == kind]

    def _client_columns(self, what: str) -> Columns:
        is_session = what == "sessions"
        heads = ["id", "who", "age", "heard", "loop", "owns" if is_session else "units"]
        rows = [
            [
                visible(each.id),
                _name(each),
                age(each.age_s),
                _heard(each),
                "" if each.main_loop_age_s is None else age(each.main_loop_age_s),
                _owned(each) if is_session else visible(", ".join(each.units)),
            ]
            for each in self._clients(what)
        ]
        return heads, rows, [2, 3, 4]

    def _edges(self) -> list[tuple[str, str, list[str]]]:
        owners = self.state.dag.edge_owners
        return [
            (start, end, sorted(each or PERSISTENT for each in owners[start, end]))
            for start, end in sorted(owners)
        ]

    def _edge_columns(self) -> Columns:
        rows = [
            [visible(start), "->", visible(end), ", ".join(map(self._owner, owners))]
            for start, end, owners in self._edges()
        ]
        return ["from", "", "to", "held by"], rows, []

    def _owner(self, owner: str) -> str:
        session = self.state.sessions.get(owner)
        return visible(owner) if session is None else f"{visible(owner)} {who(session.source)}"

    def _component_columns(self) -> Columns:
        rows = []
        for address, entry in sorted(self.state.components.items()):
            metadata = entry.metadata
            rows.append(
                [
                    visible(address),
                    visible(metadata.component_type),
                    visible(metadata.settings_type),
                    self._owner(entry.session_id),
                ]
            )
        return ["address", "type", "settings type", "registered by"], rows, []

    def _setting_columns(self) -> Columns:
        rows = [
            [
                visible(address),
                setting(entry.value),
                entry.change.layer.value,
                age(self.wall_time - entry.wall_time),
                str(entry.seq),
                who(entry.change.asked_by or entry.source),
            ]
            for address, entry in sorted(self.state.settings.items())
        ]
        return ["component", "settings", "layer", "age", "seq", "set by"], rows, [3, 4]


def _name(client: ClientInfo) -> str:
    return who(
        Source(
            program=client.program,
            host=client.host,
            pid=client.pid,
            login=client.login,
            key_name=client.key_name,
        )
    )


def _heard(client: ClientInfo) -> str:
    shown = age(client.last_heard_s)
    return f"{shown} suspended" if client.suspended else shown


def _owned(client: ClientInfo) -> str:
    owned = [count(len(client.edges), "edge")] if client.edges else []
    if client.components:
        owned.append(count(len(client.components), "component"))
    if client.graphs:
        owned.append(count(len(client.graphs), "served graph"))
    return ", ".join(owned)


def _setting_record(address: str, entry: SettingEntry) -> dict[str, Any]:
    return {
        "address": address,
        "layer": entry.change.layer.value,
        "seq": entry.seq,
        "time": as_json.iso(entry.wall_time),
        "value": as_json.plain(entry.value),
        "reported_time": entry.change.reported_time,
        "source": as_json.plain(entry.source),
        "asked_by": as_json.plain(entry.change.asked_by),
    }


def read(broker: Target, what: Sequence[str]) -> Listing:
    """Return what is needed to list ``what``."""
    rooms = sorted({room for each in what for room in _ROOMS[each]})
    with guest(broker) as session:
        beat = ask(session, Heartbeat(0.0), Beat, timeout_s=broker.timeout_s)
        clients: tuple[ClientInfo, ...] = ()
        if {"sessions", "processes"} & set(what):
            listed = ask(session, ListClients(), ClientList, timeout_s=broker.timeout_s)
            clients = tuple(listed.clients)
        state = GraphState()
        if rooms:
            state, _ = run(session.fetch_state(rooms, timeout=broker.timeout_s))
        return Listing(clients, state, beat.wall_time)
