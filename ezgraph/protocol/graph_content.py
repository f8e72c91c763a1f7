"""What a graph holds, part by part, and what each part comes to: for comparing it with a state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ezgraph.errors import InvalidKeyError
from ezgraph.protocol.config import parse_config_key
from ezgraph.protocol.fingerprint_tree import FingerprintTree, Slot
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graphs import DOMAIN, Graph, contents
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.snapshot import Edge

Key = tuple[str, ...]


@dataclass(slots=True)
class GraphContent:
    """The content of a graph, or of as much of it as was added.

    ``config`` is by ``(type, *key)``, and ``unreadable`` has the entries (type, key as text) whose
    key is none, and why. Of components there are only the addresses.
    """

    fingerprint: Fingerprint
    topology: set[Edge] = field(default_factory=set)
    components: set[str] = field(default_factory=set)
    settings: dict[str, SettingsSnapshotValue] = field(default_factory=dict)
    config: dict[Key, Any] = field(default_factory=dict)
    unreadable: dict[tuple[str, str], str] = field(default_factory=dict)
    _tree: FingerprintTree = field(
        default_factory=lambda: FingerprintTree(DOMAIN), repr=False, compare=False
    )
    _slots: dict[bytes, Slot] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, graph: Graph) -> GraphContent:
        """Return the content of a whole graph."""
        content = cls(graph.fingerprint)
        content.add(graph)
        return content

    def add(self, part: Graph) -> None:
        """Add a part of it, which is a graph in itself."""
        self.topology.update(part.topology)
        self.components.update(part.components)
        self.settings.update(part.settings)
        for kind, entries in part.config.items():
            for text, value in entries.items():
                self._add_entry(kind, text, value)
        for slot, content in contents(part):
            self._slots[self._tree.put(slot, content)] = slot

    def _add_entry(self, kind: str, text: str, value: object) -> None:
        try:
            key = parse_config_key(text)
        except InvalidKeyError as error:
            self.unreadable[kind, text] = str(error)
        else:
            self.config[kind, *key] = value

    def differing(self, other: FingerprintTree) -> set[Slot]:
        """Return the slots of this content in which the other tree has another one, or none."""
        slots = self._slots
        return {slots[name] for name in self._tree.differing(other) if name in slots}
