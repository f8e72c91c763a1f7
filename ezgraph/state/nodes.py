"""The served graphs of data nodes at one seq: who serves them, which nodes are announced. Pure.

A graph has a name, and one or more *hosts*: the leases that serve it, in the order in which they
said so. Its nodes belong to the graph, whoever announced them, and go with its last host.

A filtered state may have nodes without their graph, where only some nodes may be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.protocol.snapshot import SnapshotGraph
from ezgraph.state.ordered import OrderedKeys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ezgraph.protocol.events import (
        Event,
        GraphServed,
        GraphWithdrawn,
        NodeAnnounced,
        NodeWithdrawn,
        Source,
    )

_NOTHING: dict[str, NodeAnnounced] = {}


@dataclass(frozen=True, slots=True)
class HostEntry:
    """That a lease serves a graph, by the event that said so."""

    seq: int
    source: Source
    served: GraphServed


class NodesState:
    """The served graphs. Only `serve`, `withdraw`, `announce` and `remove` change it."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, HostEntry]] = {}
        self.nodes: dict[str, dict[str, NodeAnnounced]] = {}
        self._of_owner: dict[str, set[str]] = {}
        self._names = OrderedKeys()

    def __len__(self) -> int:
        return len(self.hosts)

    def __repr__(self) -> str:
        return f"<NodesState graphs={len(self)} nodes={sum(map(len, self.nodes.values()))}>"

    # --- what events do ---

    def serve(self, event: Event, served: GraphServed) -> None:
        """Make a lease serve a graph; what it said of it before is no longer so."""
        if served.name not in self.hosts:
            self._names.add((served.name,))
        hosts = self.hosts.setdefault(served.name, {})
        hosts.pop(served.owner, None)
        hosts[served.owner] = HostEntry(event.seq, event.source, served)
        self._of_owner.setdefault(served.owner, set()).add(served.name)

    def withdraw(self, withdrawn: GraphWithdrawn) -> None:
        """Make a lease serve a graph no longer."""
        hosts = self.hosts.get(withdrawn.name, {})
        hosts.pop(withdrawn.owner, None)
        if not hosts and self.hosts.pop(withdrawn.name, None) is not None:
            self._names.remove((withdrawn.name,))
        names = self._of_owner.get(withdrawn.owner, set())
        names.discard(withdrawn.name)
        if not names:
            self._of_owner.pop(withdrawn.owner, None)

    def announce(self, announced: NodeAnnounced) -> None:
        """Make a graph have a node."""
        self.nodes.setdefault(announced.name, {})[announced.uid] = announced

    def remove(self, withdrawn: NodeWithdrawn) -> None:
        """Make a graph have a node no longer."""
        nodes = self.nodes.get(withdrawn.name, {})
        nodes.pop(withdrawn.uid, None)
        if not nodes:
            self.nodes.pop(withdrawn.name, None)

    # --- what is there ---

    def hosts_of(self, name: str) -> list[HostEntry]:
        """Return who serves a graph, who has done so for longest first."""
        return list(self.hosts.get(name, {}).values())

    def names_after(self, name: str) -> Iterator[str]:
        """Yield the names of the graphs behind a name, in order."""
        return (each for (each,) in self._names.after((name,)))

    def host(self, name: str, owner: str) -> HostEntry | None:
        """Return what a lease said of a graph; None: it does not serve it."""
        return self.hosts.get(name, {}).get(owner)

    def nodes_of(self, name: str) -> Mapping[str, NodeAnnounced]:
        """Return the announced nodes of a graph by uid."""
        return self.nodes.get(name, _NOTHING)

    def of_owner(self, owner: str) -> list[str]:
        """Return the names of what a lease serves, sorted."""
        return sorted(self._of_owner.get(owner, ()))

    def count_of(self, owner: str) -> int:
        """Return how many nodes are announced of the graphs that a lease serves."""
        return sum(len(self.nodes_of(name)) for name in self._of_owner.get(owner, ()))

    @property
    def owners(self) -> set[str]:
        """The leases that serve anything."""
        return set(self._of_owner)

    def shown(self) -> dict[str, SnapshotGraph]:
        """Return the public form, sorted."""
        return {
            name: SnapshotGraph(next(iter(hosts.values())).served.root_uid, sorted(hosts))
            for name, hosts in sorted(self.hosts.items())
        }
