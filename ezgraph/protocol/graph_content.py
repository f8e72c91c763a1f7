"""What a graph holds, part by part, and what each part comes to: for comparing it with a state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ezgraph.protocol.fingerprint_tree import Slot
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graphs import Graph, contents
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.snapshot import Edge


@dataclass(slots=True)
class GraphContent:
    """The content of a graph, or of as much of it as was added; ``digests`` by slot.

    Configuration is by type and key as text, as in `Graph`. Of components there are only digests.
    """

    fingerprint: Fingerprint
    topology: set[Edge] = field(default_factory=set)
    settings: dict[str, SettingsSnapshotValue] = field(default_factory=dict)
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[Slot, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> GraphContent:
        """Return the content of a whole graph."""
        content = cls(graph.fingerprint)
        content.add(graph)
        return content

    def add(self, part: Graph) -> None:
        """Add a part of it, which is a graph in itself."""
        self.topology.update(part.topology)
        self.settings.update(part.settings)
        for kind, entries in part.config.items():
            self.config.setdefault(kind, {}).update(entries)
        self.digests.update(contents(part))

    def in_room(self, room: str) -> dict[str, bytes]:
        """Return the digests of what has one name (an address) within a room."""
        return {slot[1]: digest for slot, digest in self.digests.items() if slot[0] == room}
